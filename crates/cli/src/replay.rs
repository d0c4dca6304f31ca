//! `edr replay`: what rules find in recorded logs.
//!
//! Files are shared out to threads; each thread has a decoder whose consumer
//! ([`judge::Judge`]) puts an event into the engine's buffer, has it judged and writes what
//! matched. [`output::OrderedOutput`] puts the files' outputs into the order of the files.

mod cpu_time;
mod inputs;
mod judge;
mod output;
mod progress;
mod rule_files;
mod sensor_event;

use std::ffi::OsString;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use log_reader::{FieldLayout, LogDecoder, Problem, ProblemKind};
use rule_engine::{LogSources, RuleSet};
use serde_json::json;

use crate::Outcome;
use crate::arguments::{Usage, parser};
use cpu_time::cpu_time;
use inputs::{Input, collect_inputs};
use judge::{Counts, Judge};
use output::OrderedOutput;
use progress::Progress;
pub(crate) use sensor_event::SensorEvent;

/// More threads than any machine has use of here.
const THREADS_LIMIT: usize = 256;
const FLAGS: &[&str] = &["rules", "mapping", "placeholders", "stats", "json-errors", "threads", "help"];

#[derive(Default)]
struct ReplayOptions {
    rules: Vec<PathBuf>,
    mappings: Vec<PathBuf>,
    /// Files of values for Sigma's placeholders.
    placeholders: Vec<PathBuf>,
    stats: bool,
    json_errors: bool,
    threads: Option<usize>,
    inputs: Vec<PathBuf>,
}

/// Judges recorded events with rules. Detections go to stdout, everything else to stderr.
pub(crate) fn run(arguments: Vec<OsString>) -> anyhow::Result<Outcome> {
    let options = options(arguments)?;
    let mapping = Mapping::load(&options.mappings)?;
    let inputs = collect_inputs(&options.inputs)?;
    let loading = Instant::now();
    let rules =
        rule_files::load(&options.rules, &options.placeholders, mapping.log_sources, options.json_errors)?;
    let load_seconds = loading.elapsed().as_secs_f64();
    let load_cpu = cpu_time();
    let threads =
        options.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, Into::into));
    let reading = Instant::now();
    let output = OrderedOutput::new();
    let counts =
        replay(&rules.set, &Arc::new(mapping.layout), &inputs, threads, options.json_errors, output)?;
    let seconds = reading.elapsed().as_secs_f64();
    let cpu_seconds = cpu_time().zip(load_cpu).map(|(now, before)| now.saturating_sub(before).as_secs_f64());
    if options.stats {
        report(&options, &rules, &counts, &Took { load_seconds, seconds, cpu_seconds });
    }
    Ok(if counts.loses_records { Outcome::Findings } else { Outcome::Success })
}

fn options(arguments: Vec<OsString>) -> anyhow::Result<ReplayOptions> {
    let mut options = ReplayOptions::default();
    let mut parser = parser(arguments);
    let wrong = |error: lexopt::Error| Usage::new(error.to_string(), "`edr replay --help` shows the flags");
    while let Some(argument) = parser.next().map_err(wrong)? {
        match argument {
            lexopt::Arg::Value(path) => options.inputs.push(path.into()),
            lexopt::Arg::Long("rules") => options.rules.push(parser.value().map_err(wrong)?.into()),
            lexopt::Arg::Long("mapping") => options.mappings.push(parser.value().map_err(wrong)?.into()),
            lexopt::Arg::Long("placeholders") => {
                options.placeholders.push(parser.value().map_err(wrong)?.into());
            }
            lexopt::Arg::Long("stats") => options.stats = true,
            lexopt::Arg::Long("json-errors") => options.json_errors = true,
            lexopt::Arg::Long("threads") => {
                let value = parser.value().map_err(wrong)?;
                let threads = value.to_str().and_then(|text| text.parse().ok());
                let threads = threads.filter(|threads| (1..=THREADS_LIMIT).contains(threads));
                options.threads = Some(threads.ok_or_else(|| {
                    let reason = format!("`--threads {}` is no number of threads", value.to_string_lossy());
                    Usage::new(
                        reason,
                        format!("write 1 to {THREADS_LIMIT}, or leave it out to use every core"),
                    )
                })?);
            }
            lexopt::Arg::Long(other) => return Err(Usage::unknown_flag(other, FLAGS).into()),
            lexopt::Arg::Short(other) => return Err(Usage::unknown_flag(&other.to_string(), FLAGS).into()),
        }
    }
    if options.rules.is_empty() {
        return Err(Usage::new("no rules given", "write `edr replay --rules FILE_OR_FOLDER INPUT…`").into());
    }
    if options.inputs.is_empty() {
        return Err(Usage::new("no logs given", "write `edr replay --rules FILE_OR_FOLDER INPUT…`").into());
    }
    Ok(options)
}

/// The two mappings: names of fields for the reader, log sources for the engine.
struct Mapping {
    layout: FieldLayout,
    log_sources: LogSources,
}

impl Mapping {
    /// The built-in ones and the files of users, which win; of two, the one named last does.
    fn load(files: &[PathBuf]) -> anyhow::Result<Self> {
        let mut mapping = Self { layout: FieldLayout::built_in()?, log_sources: LogSources::builtin() };
        for path in files {
            let name = path.display().to_string();
            let text = std::fs::read_to_string(path)
                .map_err(|error| Usage::new(format!("`{name}` can't be read: {error}"), "check the path"))?;
            let extension = path.extension().map(|extension| extension.to_ascii_lowercase());
            match extension.as_deref().and_then(|extension| extension.to_str()) {
                Some("toml") => mapping.layout.extend(&name, &text)?,
                Some("yml" | "yaml") => {
                    let sources = mapping.log_sources.with_file_first(&name, &text);
                    mapping.log_sources = sources.map_err(|diagnostics| {
                        let all: String =
                            diagnostics.iter().map(|diagnostic| diagnostic.render(&text)).collect();
                        anyhow::anyhow!("mapping `{name}` is wrong\n{all}")
                    })?;
                }
                _ => {
                    let hint = "`.yml` says which events are which log source, `.toml` how fields are called";
                    return Err(Usage::new(format!("`{name}` is no mapping"), hint).into());
                }
            }
        }
        Ok(mapping)
    }
}

fn replay(
    rules: &RuleSet,
    layout: &Arc<FieldLayout>,
    inputs: &[Input],
    threads: usize,
    json_errors: bool,
    output: OrderedOutput,
) -> anyhow::Result<Counts> {
    // What correlations remember goes from one event to the next, so that their order counts.
    let threads = if rules.has_correlations() { 1 } else { threads.min(inputs.len()).max(1) };
    let progress = Progress::new(inputs);
    let next = AtomicUsize::new(0);
    let work = || {
        let judge = Judge::new(rules, &output, &progress, json_errors);
        let mut decoder = LogDecoder::new(Arc::clone(layout), judge);
        while let Some((index, input)) = {
            let index = next.fetch_add(1, Ordering::Relaxed);
            inputs.get(index).map(|input| (index, input))
        } {
            decoder.consumer().begin_file(index, input);
            read_file(&input.path, &mut decoder);
            decoder.consumer().end_file();
        }
        decoder.into_consumer().into_counts()
    };
    let mut counts = Counts::default();
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            match worker.join() {
                Ok(own) => counts.add(&own),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
    });
    progress.end();
    output.result()?;
    Ok(counts)
}

fn read_file(path: &Path, decoder: &mut LogDecoder<Judge<'_>>) {
    let read = File::open(path).and_then(|mut file| decoder.read_log(&mut file));
    if let Err(error) = read {
        let reason = format!("the file can't be read: {error}");
        let hint = "check that it exists and that you may read it";
        decoder.consumer().report(&Problem {
            kind: ProblemKind::Unreadable,
            record: None,
            byte: 0,
            reason,
            hint,
        });
    }
}

/// What rules did with logs whose detections nobody wants to read.
pub(crate) struct Replayed {
    pub(crate) events: u64,
    pub(crate) without_log_source: u64,
    pub(crate) detections: u64,
    /// By the clock, one thread.
    pub(crate) seconds: f64,
}

/// Judges logs for what the rules count. Problems of the logs go to stderr.
pub(crate) fn replay_silently(
    rules: &RuleSet,
    inputs: &[PathBuf],
    mappings: &[PathBuf],
) -> anyhow::Result<Replayed> {
    let layouts: Vec<PathBuf> =
        mappings.iter().filter(|path| path.extension().is_some_and(|it| it == "toml")).cloned().collect();
    let layout = Arc::new(Mapping::load(&layouts)?.layout);
    let inputs = collect_inputs(inputs)?;
    let begin = Instant::now();
    let output = OrderedOutput::without_detections();
    let counts = replay(rules, &layout, &inputs, 1, false, output)?;
    Ok(Replayed {
        events: counts.events,
        without_log_source: counts.without_source,
        detections: counts.detections,
        seconds: begin.elapsed().as_secs_f64(),
    })
}

/// How long it took.
struct Took {
    load_seconds: f64,
    seconds: f64,
    /// CPU time of reading and judging, all threads together, where the system tells it.
    cpu_seconds: Option<f64>,
}

fn report(options: &ReplayOptions, rules: &rule_files::LoadedRules, counts: &Counts, took: &Took) {
    let Took { load_seconds, seconds, cpu_seconds } = *took;
    let rate = |seconds: f64| (counts.events as f64 / seconds.max(0.001)).round();
    let text = if options.json_errors {
        let stats = json!({
            "events": counts.events,
            "seconds": seconds,
            "events_per_second": rate(seconds),
            "cpu_seconds": cpu_seconds,
            "events_per_cpu_second": cpu_seconds.map(rate),
            "rules_loaded": rules.set.len(),
            "rules_refused": rules.refused,
            "load_seconds": load_seconds,
            "detections": counts.detections,
            "files": counts.files,
            "files_skipped": counts.files_skipped,
            "events_without_log_source": counts.without_source,
            "problems": counts.problems,
        });
        format!("{}\n", json!({ "stats": stats }))
    } else {
        let cpu = cpu_seconds.map_or(String::new(), |seconds| {
            format!("CPU seconds: {seconds:.2}\nevents/CPU second: {:.0}\n", rate(seconds))
        });
        format!(
            "events: {}\nseconds: {seconds:.3}\nevents/s: {:.0}\n{cpu}rules loaded: {} ({} refused, {load_seconds:.3} s)\n\
             detections: {}\nfiles: {} ({} others are no logs)\nevents without log source: {}\nproblems: {}\n",
            counts.events,
            rate(seconds),
            rules.set.len(),
            rules.refused,
            counts.detections,
            counts.files,
            counts.files_skipped,
            counts.without_source,
            counts.problems,
        )
    };
    // A closed stderr leaves nobody to tell.
    let _ = std::io::stderr().write_all(text.as_bytes());
}
