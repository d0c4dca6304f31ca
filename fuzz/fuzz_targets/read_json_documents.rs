//! An array of objects, then anything.

#![no_main]

use libfuzzer_sys::fuzz_target;
use log_reader::LogFormat;

fuzz_target!(|data: &[u8]| fuzz::read(b"[{\"a\":1},\n", data, LogFormat::JsonDocuments));
