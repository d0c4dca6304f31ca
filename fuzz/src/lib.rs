//! What the targets that read logs share: a consumer that takes every value and keeps none.

pub mod rules;

use std::cell::RefCell;
use std::io::Cursor;
use std::ops::ControlFlow;
use std::sync::Arc;

use log_reader::{EventHead, FieldLayout, LogConsumer, LogDecoder, LogFormat, Problem};

struct Sink {
    values: usize,
}

impl LogConsumer for Sink {
    type Field = ();
    fn field(&mut self, _: &str) -> Option<()> {
        Some(())
    }
    fn unnamed(&mut self) -> Option<()> {
        None
    }
    fn begin(&mut self) {
        self.values = 0;
    }
    fn text(&mut self, (): (), _: &str) {
        self.values += 1;
    }
    fn integer(&mut self, (): (), _: i64) {
        self.values += 1;
    }
    fn float(&mut self, (): (), _: f64) {
        self.values += 1;
    }
    fn boolean(&mut self, (): (), _: bool) {
        self.values += 1;
    }
    fn null(&mut self, (): ()) {
        self.values += 1;
    }
    fn event(&mut self, _: &EventHead<'_>) -> ControlFlow<()> {
        // A place can have several names, and some fields are derived.
        assert!(self.values <= 4 * log_reader::VALUES_LIMIT as usize + 64);
        ControlFlow::Continue(())
    }
    fn problem(&mut self, problem: Problem) {
        assert!(!problem.to_string().is_empty());
    }
}

thread_local! {
    /// One decoder for all inputs, as one reads many files.
    static DECODER: RefCell<LogDecoder<Sink>> = RefCell::new(LogDecoder::new(
        Arc::new(FieldLayout::built_in().expect("the built-in names load")),
        Sink { values: 0 },
    ));
}

/// Reads `start` and `rest` as one file, which must be taken for the format.
pub fn read(start: &[u8], rest: &[u8], format: LogFormat) {
    let file = [start, rest].concat();
    let read = DECODER.with_borrow_mut(|decoder| decoder.read_log(&mut Cursor::new(&file)));
    assert_eq!(read.expect("memory can be read"), Some(format));
}
