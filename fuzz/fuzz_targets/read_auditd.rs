//! The audit log: a good line, then anything.

#![no_main]

use libfuzzer_sys::fuzz_target;
use log_reader::LogFormat;

fuzz_target!(|data: &[u8]| fuzz::read(
    b"type=CWD msg=audit(1700000000.100:7): cwd=\"/\"\n",
    data,
    LogFormat::Auditd
));
