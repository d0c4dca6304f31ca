//! Logs as flat NDJSON, as the benchmark of the rule engine wants them: `flatten FOLDER_OR_FILE… > FILE`.
//! One object for each event, with the names under which rules ask for its fields; a list where a
//! field has several values; `__file` is the log's name. Files that can't be read are passed over.

use std::io::{self, BufWriter, Write as _};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use log_reader::{EventHead, FieldLayout, LogConsumer, LogDecoder, Problem};
use serde_json::{Map, Value, json};

#[derive(Default)]
struct Flat {
    names: Vec<String>,
    event: Map<String, Value>,
    file: String,
    lines: Vec<u8>,
}

impl Flat {
    fn add(&mut self, field: usize, value: Value) {
        match self.event.entry(self.names[field].clone()) {
            serde_json::map::Entry::Vacant(place) => {
                place.insert(value);
            }
            serde_json::map::Entry::Occupied(mut place) => match place.get_mut() {
                Value::Array(items) => items.push(value),
                one => *one = json!([one.take(), value]),
            },
        }
    }
}

impl LogConsumer for Flat {
    type Field = usize;

    fn field(&mut self, name: &str) -> Option<usize> {
        let known = self.names.iter().position(|known| known == name);
        Some(known.unwrap_or_else(|| {
            self.names.push(name.to_owned());
            self.names.len() - 1
        }))
    }

    fn unnamed(&mut self) -> Option<usize> {
        None
    }

    fn begin(&mut self) {
        self.event.clear();
    }

    fn text(&mut self, field: usize, value: &str) {
        self.add(field, json!(value));
    }

    fn integer(&mut self, field: usize, value: i64) {
        self.add(field, json!(value));
    }

    fn float(&mut self, field: usize, value: f64) {
        self.add(field, json!(value));
    }

    fn boolean(&mut self, field: usize, value: bool) {
        self.add(field, json!(value));
    }

    fn null(&mut self, field: usize) {
        self.add(field, Value::Null);
    }

    fn event(&mut self, _: &EventHead<'_>) -> ControlFlow<()> {
        self.event.insert("__file".to_owned(), json!(self.file));
        // Writing to memory can't fail.
        let _ = serde_json::to_writer(&mut self.lines, &self.event);
        self.lines.push(b'\n');
        ControlFlow::Continue(())
    }

    fn problem(&mut self, _: Problem) {}
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut files: Vec<PathBuf> = Vec::new();
    for path in std::env::args_os().skip(1).map(PathBuf::from) {
        add_files(&path, &mut files)?;
    }
    if files.is_empty() {
        return Err("usage: flatten FOLDER_OR_FILE… > FILE".into());
    }
    files.sort();
    let mut decoder = LogDecoder::new(Arc::new(FieldLayout::built_in()?), Flat::default());
    let mut output = BufWriter::new(io::stdout().lock());
    for path in files {
        decoder.consumer().file =
            path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        decoder.read_log(&mut std::fs::File::open(&path)?)?;
        output.write_all(&decoder.consumer().lines)?;
        decoder.consumer().lines.clear();
    }
    Ok(output.flush()?)
}

fn add_files(path: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    if !path.is_dir() {
        files.push(path.to_owned());
        return Ok(());
    }
    for entry in std::fs::read_dir(path)? {
        let path = entry?.path();
        if path.is_dir() {
            add_files(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "evtx") {
            files.push(path);
        }
    }
    Ok(())
}
