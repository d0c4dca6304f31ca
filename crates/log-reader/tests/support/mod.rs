//! A consumer that writes down what it is given.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::io::Cursor;
use std::ops::ControlFlow;
use std::sync::Arc;

use log_reader::{EventHead, FieldLayout, LogConsumer, LogDecoder, LogFormat, Origin, Problem, ProblemKind};

/// One event, written down.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Seen {
    pub(crate) record: u64,
    pub(crate) time: Option<String>,
    pub(crate) origin: String,
    pub(crate) fields: Vec<(String, String)>,
}

impl Seen {
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        self.fields.iter().filter(|(field, _)| field == name).map(|(_, value)| value.as_str()).collect()
    }

    pub(crate) fn one(&self, name: &str) -> Option<&str> {
        self.all(name).first().copied()
    }
}

#[derive(Debug, Default)]
pub(crate) struct Recorder {
    names: Vec<String>,
    open: Seen,
    pub(crate) events: Vec<Seen>,
    pub(crate) problems: Vec<Problem>,
}

impl Recorder {
    fn push(&mut self, field: usize, value: String) {
        self.open.fields.push((self.names[field].clone(), value));
    }

    pub(crate) fn problem_kinds(&self) -> Vec<ProblemKind> {
        self.problems.iter().map(|problem| problem.kind).collect()
    }
}

impl LogConsumer for Recorder {
    type Field = usize;

    fn field(&mut self, name: &str) -> Option<usize> {
        self.names.push(name.to_owned());
        Some(self.names.len() - 1)
    }

    fn unnamed(&mut self) -> Option<usize> {
        None
    }

    fn begin(&mut self) {
        self.open = Seen::default();
    }

    fn text(&mut self, field: usize, value: &str) {
        self.push(field, value.to_owned());
    }

    fn integer(&mut self, field: usize, value: i64) {
        self.push(field, value.to_string());
    }

    fn float(&mut self, field: usize, value: f64) {
        self.push(field, value.to_string());
    }

    fn boolean(&mut self, field: usize, value: bool) {
        self.push(field, value.to_string());
    }

    fn null(&mut self, field: usize) {
        self.push(field, "<null>".to_owned());
    }

    fn event(&mut self, head: &EventHead<'_>) -> ControlFlow<()> {
        self.open.record = head.record;
        self.open.time = head.time.map(|time| time.to_string());
        self.open.origin = match head.origin {
            Origin::Fields => "fields".to_owned(),
            other => format!("{other:?}"),
        };
        self.events.push(std::mem::take(&mut self.open));
        ControlFlow::Continue(())
    }

    fn problem(&mut self, problem: Problem) {
        self.problems.push(problem);
    }
}

pub(crate) fn decoder() -> LogDecoder<Recorder> {
    let layout = FieldLayout::built_in().expect("the built-in names load");
    LogDecoder::new(Arc::new(layout), Recorder::default())
}

pub(crate) fn read(bytes: &[u8]) -> (Recorder, Option<LogFormat>) {
    let mut decoder = decoder();
    let format = decoder.read_log(&mut Cursor::new(bytes)).expect("memory can be read");
    (decoder.into_consumer(), format)
}
