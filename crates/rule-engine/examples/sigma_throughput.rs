//! How many records of logs a second one core judges with Sigma rules.
//!
//! `cargo run --release -p rule-engine --example sigma_throughput RULES_FOLDER EVENTS.ndjson [MATCHES]`
//!
//! Events are flat JSON objects, one on each line; a list is several values of its field. All rules for
//! Windows (and those for antivirus products) are loaded, each event is put into its buffer beforehand,
//! and the best and the median of the passes over all events is printed in events for each second of this
//! thread's CPU time. With MATCHES, a line `file<TAB>rule id` for each match is written there; an event's file is its
//! `__file`.

use std::collections::BTreeSet;
use std::error::Error;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{env, fs};

use rule_engine::{EventBuffer, FieldId, ParsedRule, RuleSet, SourceId, is_sigma_file, parse_rules_bytes};
use serde_json::Value;

/// Passes over all events that each thread makes, so that starting it does not count.
const PASSES_BY_THREAD: usize = 20;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    let (Some(folder), Some(events)) = (arguments.next(), arguments.next()) else {
        return Err("usage: sigma_throughput RULES_FOLDER EVENTS.ndjson [MATCHES]".into());
    };
    let matches_file = arguments.next();
    let mut files = Vec::new();
    sigma_files(Path::new(&folder), &mut files)?;
    let texts: Vec<(PathBuf, Vec<u8>)> = files
        .into_iter()
        .map(|path| Ok((path.clone(), fs::read(path)?)))
        .collect::<Result<_, std::io::Error>>()?;

    let start = thread_cpu();
    let mut rules: Vec<ParsedRule> = Vec::new();
    for (path, text) in &texts {
        rules.extend(parse_rules_bytes(&path.to_string_lossy(), text).rules);
    }
    rules.retain(|rule| {
        let source = rule.log_source();
        source.is_some_and(|source| {
            source.product.as_deref() == Some("windows") || source.category.as_deref() == Some("antivirus")
        })
    });
    let parsed = thread_cpu();
    let set = RuleSet::compile(rules).rules;
    drop(texts);
    let compiled = thread_cpu();
    println!("{} rules: read in {:.0} ms", set.len(), millis(parsed - start));
    let with_rules = resident_kib("VmRSS:");

    let text = fs::read_to_string(events)?;
    let before_events = resident_kib("VmRSS:");
    let mut buffers = Vec::new();
    let mut unrouted = 0;
    for line in text.lines() {
        let record: Value = serde_json::from_str(line)?;
        let mut event = EventBuffer::new();
        let file = record["__file"].as_str().unwrap_or_default().to_owned();
        for (name, value) in record.as_object().into_iter().flatten() {
            fill(&mut event, set.field(name).unwrap_or(FieldId::UNNAMED), value);
        }
        match set.route(&event) {
            Some(source) => buffers.push((event, source, file)),
            None => unrouted += 1,
        }
    }
    drop(text);
    let with_events = resident_kib("VmRSS:");

    // The first event of each log source has its rules compiled.
    let mut desk = set.desk();
    let mut seen: Vec<SourceId> = Vec::new();
    let indexing = thread_cpu();
    for (event, source, _) in &buffers {
        if !seen.contains(source) {
            seen.push(*source);
            black_box(set.judge(event, *source, &mut desk));
        }
    }
    let indexed = thread_cpu();
    let index_memory = resident_kib("VmRSS:") - with_events;
    let load = (compiled - start) + (indexed - indexing);
    println!(
        "compiled in {:.0} ms, {} log sources indexed in {:.0} ms: load {:.0} ms of CPU",
        millis(compiled - parsed),
        seen.len(),
        millis(indexed - indexing),
        millis(load)
    );

    let mut pairs = BTreeSet::new();
    let mut rates = Vec::new();
    let begin = Instant::now();
    let mut matches = 0;
    while begin.elapsed() < Duration::from_secs(10) {
        let start = thread_cpu();
        matches = 0;
        for (event, source, file) in &buffers {
            let found = black_box(set.judge(black_box(event), *source, &mut desk));
            matches += found.len();
            if rates.is_empty() && !found.is_empty() {
                pairs.extend(found.iter().map(|it| format!("{file}\t{}", it.rule.id.as_str())));
            }
        }
        rates.push(buffers.len() as f64 / (thread_cpu() - start).as_secs_f64());
    }
    if rates.len() > 1 {
        rates.remove(0);
    }
    rates.sort_by(f64::total_cmp);
    println!(
        "{} events ({unrouted} of no known log source), {matches} matches, {} pairs",
        buffers.len(),
        pairs.len()
    );
    println!(
        "one core: best {:.0}, median {:.0} events/s in {} passes",
        rates.last().copied().unwrap_or_default(),
        rates[rates.len() / 2],
        rates.len()
    );
    let ((alone, alone_cpu), (together, together_cpu)) =
        (rate_of_threads(&set, &buffers, 1), rate_of_threads(&set, &buffers, 2));
    println!(
        "two threads: {together:.0} events/s by the clock, one: {alone:.0}; {:.2} times; {:.2} times by CPU time",
        together / alone,
        together_cpu / alone_cpu
    );
    println!("memory: {} KiB with rules and their index", with_rules + index_memory);
    println!(
        "memory: {} KiB in all, {} KiB at most, of it {} KiB events",
        resident_kib("VmRSS:"),
        resident_kib("VmHWM:"),
        with_events - before_events
    );
    let mut costs: Vec<_> = set.counters().collect();
    costs.sort_by_key(|it| std::cmp::Reverse(it.candidates));
    for it in costs.iter().take(25) {
        println!(
            "  {:>7.1} ms {:>9} of {:>9} judged, {:>7} matches: {}",
            it.cost.as_secs_f64() * 1e3,
            it.candidates,
            it.evaluations,
            it.matches,
            it.rule.name
        );
    }
    let candidates: u64 = costs.iter().map(|it| it.candidates).sum();
    println!(
        "{:.2} candidates for each event",
        candidates as f64 / (buffers.len() * (rates.len() + 1)) as f64
    );
    if let Some(path) = matches_file {
        fs::write(path, pairs.into_iter().map(|pair| pair + "\n").collect::<String>())?;
    }
    Ok(())
}

/// What so many threads judge in a second of the clock, and in a second of CPU time of each of them, all together;
/// the best of three passes. The clock tells nothing where others use the cores; the other does, as it only
/// grows less than the threads if these wait for each other's memory.
fn rate_of_threads(set: &RuleSet, buffers: &[(EventBuffer, SourceId, String)], threads: usize) -> (f64, f64) {
    let events = (PASSES_BY_THREAD * buffers.len()) as f64;
    let work = || {
        let mut desk = set.desk();
        let before = thread_cpu();
        for _ in 0..PASSES_BY_THREAD {
            for (event, source, _) in buffers {
                black_box(set.judge(black_box(event), *source, &mut desk));
            }
        }
        events / (thread_cpu() - before).as_secs_f64()
    };
    let pass = || {
        let start = Instant::now();
        let by_cpu: f64 = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
            workers.into_iter().map(|worker| worker.join().unwrap_or_default()).sum()
        });
        (threads as f64 * events / start.elapsed().as_secs_f64(), by_cpu)
    };
    (0..3).map(|_| pass()).fold((0.0, 0.0), |best, own| (best.0.max(own.0), best.1.max(own.1)))
}

fn sigma_files(folder: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            // The collection's rules proper; placeholders and compliance are for other uses.
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            if name != "rules-placeholder" && name != "rules-compliance" {
                sigma_files(&path, files)?;
            }
        } else if is_sigma_file(&path.to_string_lossy()) {
            files.push(path);
        }
    }
    files.sort();
    Ok(())
}

fn fill(event: &mut EventBuffer, field: FieldId, value: &Value) {
    match value {
        Value::Null => event.push_null(field),
        Value::Bool(truth) => event.push_boolean(field, *truth),
        Value::Number(number) => match number.as_i64() {
            Some(number) => event.push_integer(field, number),
            None => event.push_float(field, number.as_f64().unwrap_or_default()),
        },
        Value::String(text) => event.push_text(field, text),
        Value::Array(items) => items.iter().for_each(|item| fill(event, field, item)),
        Value::Object(_) => {}
    }
}

/// CPU time of this thread, by the kernel's accounting (Linux).
fn thread_cpu() -> Duration {
    let schedstat = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanos = schedstat.split_whitespace().next().and_then(|number| number.parse().ok());
    Duration::from_nanos(nanos.unwrap_or_default())
}

fn resident_kib(key: &str) -> i64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with(key)).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).unwrap_or_default()
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
