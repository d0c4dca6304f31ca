//! EVTX: whole files as they are (take recorded logs as corpus), anything else as a chunk.

#![no_main]

use libfuzzer_sys::fuzz_target;
use log_reader::LogFormat;

fuzz_target!(|data: &[u8]| {
    let start: &[u8] = if data.starts_with(b"ElfFile\0") { b"" } else { b"ElfChnk\0" };
    fuzz::read(start, data, LogFormat::Evtx);
});
