//! Users' files of field names.

#![no_main]

use libfuzzer_sys::fuzz_target;
use log_reader::FieldLayout;

fuzz_target!(|text: &str| {
    let mut layout = FieldLayout::built_in().expect("the built-in names load");
    if let Err(error) = layout.extend("fuzz.toml", text) {
        assert!(error.line >= 1 && error.column >= 1);
    }
});
