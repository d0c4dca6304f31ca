//! How many events a second other engines judge: `engine-peers PEER RULES_FOLDER EVENTS.ndjson SECONDS`.
//!
//! Prints the same figures as the engine's own example `sigma_throughput`, on the same rules and
//! events. The peers leave it to their user which log source an event is of. So that they aren't measured on
//! work that no user would give them, the rules of each log source are listed beforehand and an event is
//! judged only with those of its own. Each peer is a process of its own, so that memory is its own too.

mod rsigma;
mod sigma_rust;

use std::collections::HashMap;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{env, fs};

use rule_engine::{EventBuffer, FieldId, RuleSet, is_sigma_file, parse_rules};
use serde_json::Value;

const USAGE: &str = "usage: engine-peers sigma-rust|rsigma RULES_FOLDER EVENTS.ndjson SECONDS";

/// Product, category and service of a rule.
type LogSource = [Option<String>; 3];

/// An engine that is measured.
trait Peer: Sized {
    /// An event as the engine takes it.
    type Event;
    /// Reads and compiles the rules that are for Windows, and how many were refused.
    fn load(texts: &[String]) -> (Self, usize);
    /// The log source of each rule.
    fn log_sources(&self) -> Vec<LogSource>;
    /// Makes ready for events whose rules are these; what is returned goes into [`Self::judge`].
    fn prepare(&mut self, rules: &[usize]) -> usize;
    fn event(&self, record: Value) -> Result<Self::Event, Box<dyn Error>>;
    /// How many rules match.
    fn judge(&self, event: &Self::Event, prepared: usize) -> usize;
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [peer, folder, events, seconds] = arguments.as_slice() else { return Err(USAGE.into()) };
    let seconds = Duration::from_secs(seconds.parse()?);
    match peer.as_str() {
        "sigma-rust" => measure::<sigma_rust::SigmaRust>(folder, events, seconds),
        "rsigma" => measure::<rsigma::Rsigma>(folder, events, seconds),
        _ => Err(USAGE.into()),
    }
}

fn measure<P: Peer>(folder: &str, events: &str, seconds: Duration) -> Result<(), Box<dyn Error>> {
    let mut files = Vec::new();
    sigma_files(Path::new(folder), &mut files)?;
    let texts = files.iter().map(fs::read_to_string).collect::<Result<Vec<_>, _>>()?;

    let before_rules = resident_kib();
    let before = thread_cpu();
    let (mut peer, refused) = P::load(&texts);
    let load = thread_cpu() - before;
    let with_rules = resident_kib();
    drop(texts);
    let sources = peer.log_sources();
    println!("{} rules, {refused} refused: load {:.0} ms of CPU", sources.len(), load.as_secs_f64() * 1e3);

    let router = LogSourceRouter::new(&sources);
    let mut prepared: HashMap<Vec<usize>, usize> = HashMap::new();
    let mut buffers = Vec::new();
    for line in fs::read_to_string(events)?.lines() {
        let record: Value = serde_json::from_str(line)?;
        let rules = router.rules_of(&record);
        let place = match prepared.get(&rules) {
            Some(place) => *place,
            None => {
                let place = peer.prepare(&rules);
                prepared.insert(rules, place);
                place
            }
        };
        buffers.push((peer.event(record)?, place));
    }

    let begin = Instant::now();
    let (mut best, mut matches) = (0.0_f64, 0);
    while begin.elapsed() < seconds {
        let before = thread_cpu();
        matches = buffers.iter().map(|(event, place)| peer.judge(event, *place)).sum();
        best = best.max(buffers.len() as f64 / (thread_cpu() - before).as_secs_f64());
    }
    println!("{} events, {matches} matches", buffers.len());
    println!("one core: best {best:.0} events/s");
    println!(
        "memory: {with_rules} KiB with rules, of it {} KiB they",
        with_rules.saturating_sub(before_rules)
    );
    Ok(())
}

fn is_for_windows(product: Option<&str>, category: Option<&str>) -> bool {
    product == Some("windows") || category == Some("antivirus")
}

/// Which rules an event is judged with. For each log source that rules name stands one rule of our own engine
/// that every event of it matches.
struct LogSourceRouter {
    set: RuleSet,
    /// By the id of the log source's rule.
    rules: HashMap<String, Vec<usize>>,
}

impl LogSourceRouter {
    fn new(sources: &[LogSource]) -> Self {
        let mut by_source: HashMap<LogSource, Vec<usize>> = HashMap::new();
        for (place, source) in sources.iter().enumerate() {
            by_source.entry(source.clone()).or_default().push(place);
        }
        let (mut parsed, mut own) = (Vec::new(), HashMap::new());
        for (number, (parts, places)) in by_source.into_iter().enumerate() {
            let id = format!("00000000-0000-4000-8000-{number:012}");
            let mut text = format!("title: s\nid: {id}\nlevel: low\nlogsource:\n");
            for (key, part) in ["product", "category", "service"].into_iter().zip(parts) {
                if let Some(part) = part {
                    text += &format!("    {key}: {part}\n");
                }
            }
            text += "detection:\n    all:\n        Channel|exists: true\n    condition: all\n";
            parsed.extend(parse_rules("source.yml", &text).rules);
            own.insert(id, places);
        }
        Self { set: RuleSet::compile(parsed).rules, rules: own }
    }

    fn rules_of(&self, record: &Value) -> Vec<usize> {
        let mut event = EventBuffer::new();
        for (name, value) in record.as_object().into_iter().flatten() {
            let field = self.set.field(name).unwrap_or(FieldId::UNNAMED);
            match value {
                Value::String(text) => event.push_text(field, text),
                Value::Number(number) => event.push_integer(field, number.as_i64().unwrap_or_default()),
                _ => {}
            }
        }
        let Some(source) = self.set.route(&event) else { return Vec::new() };
        let matches = self.set.judge(&event, source, &mut self.set.desk());
        let lists = matches.iter().filter_map(|found| self.rules.get(found.rule.id.as_str()));
        let mut rules: Vec<usize> = lists.flatten().copied().collect();
        rules.sort_unstable();
        rules
    }
}

fn sigma_files(folder: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            // As in `sigma_throughput`.
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

/// CPU time of this thread, by the kernel's accounting (Linux).
fn thread_cpu() -> Duration {
    let schedstat = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanos = schedstat.split_whitespace().next().and_then(|number| number.parse().ok());
    Duration::from_nanos(nanos.unwrap_or_default())
}

fn resident_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).unwrap_or_default()
}
