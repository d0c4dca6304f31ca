//! How fast logs are read, without rules: `read_speed SECONDS FILE…`. Files are taken into
//! memory first and read again and again on one thread. Events are counted by CPU second of that
//! thread (Linux), so that a busy machine changes little.

use std::io::Cursor;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use log_reader::{EventHead, FieldLayout, LogConsumer, LogDecoder, Problem};

#[derive(Default)]
struct Counter {
    events: u64,
    bytes: u64,
    problems: u64,
}

impl LogConsumer for Counter {
    type Field = ();
    fn field(&mut self, _: &str) -> Option<()> {
        Some(())
    }
    fn unnamed(&mut self) -> Option<()> {
        None
    }
    fn begin(&mut self) {}
    fn text(&mut self, (): (), value: &str) {
        self.bytes += value.len() as u64;
    }
    fn integer(&mut self, (): (), _: i64) {}
    fn float(&mut self, (): (), _: f64) {}
    fn boolean(&mut self, (): (), _: bool) {}
    fn null(&mut self, (): ()) {}
    fn event(&mut self, _: &EventHead<'_>) -> ControlFlow<()> {
        self.events += 1;
        ControlFlow::Continue(())
    }
    fn problem(&mut self, _: Problem) {
        self.problems += 1;
    }
}

/// CPU time of this thread, from the first number of schedstat: nanoseconds.
fn cpu_time() -> Result<Duration, Box<dyn std::error::Error>> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanos = text.split(' ').next().unwrap_or_default().parse()?;
    Ok(Duration::from_nanos(nanos))
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let seconds = arguments.next().ok_or("read_speed SECONDS FILE…")?.parse()?;
    let files = arguments.map(std::fs::read).collect::<Result<Vec<_>, _>>()?;
    let bytes: usize = files.iter().map(Vec::len).sum();
    let mut decoder = LogDecoder::new(Arc::new(FieldLayout::built_in()?), Counter::default());
    let start = Instant::now();
    let mut best = 0.0_f64;
    while start.elapsed() < Duration::from_secs(seconds) {
        let (pass, before) = (cpu_time()?, decoder.consumer().events);
        for file in &files {
            decoder.read_log(&mut Cursor::new(file))?;
        }
        let events = decoder.consumer().events - before;
        best = best.max(events as f64 / (cpu_time()? - pass).as_secs_f64());
    }
    let counter = decoder.into_consumer();
    println!("{bytes} bytes, {} problems, best pass {best:.0} events/CPU-s", counter.problems);
    Ok(())
}
