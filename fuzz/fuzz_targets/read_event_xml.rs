//! Event XML: an event, then anything.

#![no_main]

use libfuzzer_sys::fuzz_target;
use log_reader::LogFormat;

fuzz_target!(|data: &[u8]| fuzz::read(
    b"<Event><System><EventID>1</EventID></System></Event>\n",
    data,
    LogFormat::EventXml
));
