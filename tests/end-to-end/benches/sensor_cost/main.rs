//! What watching costs: the same work bare and watched, in turn, by our agent and by
//! others that can be had here. `make bench-sensor` runs it; the machine should be
//! idle otherwise.
//!
//! `RAMPART_BENCH_WORKS` and `RAMPART_BENCH_SENSORS` choose by name, as in `execs,files` and `rampart`.
//!
//! For each round: wall time as a ratio to the mean of a bare run before and one after (median, least,
//! most), the sensor's CPU and largest resident memory, and how many of the acts it told and lost. Figures are
//! printed and never judged.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a failed expectation is the report")]

mod sensors;
mod work;

use std::time::Duration;

use sensors::{Audit, Bpftrace, Rampart, Sensor};
use work::Work;

/// Rounds of each workload and sensor; `RAMPART_BENCH_ROUNDS` sets another number.
const ROUNDS: usize = 3;

fn main() {
    let mut arguments = std::env::args().skip(1);
    match arguments.next().as_deref() {
        // `cargo test --benches` asks for a run without measuring.
        Some("--test") => return,
        Some("--role") => return work::play(&arguments.collect::<Vec<_>>()),
        _ => {}
    }
    if !test_support::can_load_bpf() {
        return println!("skipped: needs root and /sys/kernel/btf/vmlinux");
    }
    let rounds =
        std::env::var("RAMPART_BENCH_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(ROUNDS);
    println!("{rounds} rounds each; load average at the start {}", load_average());
    let mut sensors: Vec<Box<dyn Sensor>> = Vec::new();
    sensors.push(Box::new(Rampart));
    for other in [
        Audit::new().map(|one| Box::new(one) as Box<dyn Sensor>),
        Bpftrace::of_execs().map(|one| Box::new(one) as _),
        Bpftrace::of_nothing().map(|one| Box::new(one) as _),
    ] {
        match other {
            Ok(sensor) => sensors.push(sensor),
            Err(reason) => println!("left out: {reason}"),
        }
    }
    let wanted = |variable: &str, name: &str| {
        std::env::var(variable).map_or(true, |names| names.split(',').any(|wanted| wanted == name))
    };
    sensors.retain(|sensor| wanted("RAMPART_BENCH_SENSORS", sensor.name()));
    for work in Work::ALL.iter().filter(|work| wanted("RAMPART_BENCH_WORKS", work.word())) {
        println!();
        println!("{}", work.describe());
        println!(
            "  sensor      wall ratio (least-most)   bare s   sensor CPU s   us/act   peak MB   told      lost"
        );
        let control = (0..rounds).map(|_| Bracket::around(*work, || work.run(0).wall).ratio()).collect();
        println!("  {:<11} {}", "none", spread(control));
        for sensor in &mut sensors {
            if sensor.watches(*work) {
                compare(*work, sensor.as_mut(), rounds);
            }
        }
    }
}

fn compare(work: Work, sensor: &mut dyn Sensor, rounds: usize) {
    let (mut ratios, mut bare, mut cpu, mut peak, mut told) =
        (Vec::new(), Vec::new(), Vec::new(), 0.0_f64, None);
    for round in 0..rounds {
        let last = round + 1 == rounds;
        let bracket = Bracket::around(work, || {
            let running = sensor.start(work);
            // What a start costs once, such as reading the programs that run already, is no part of an act.
            // Nor is the first look at the program that does the work.
            let mark = if last { std::process::id() } else { 0 };
            work.rehearse(mark);
            running.settle(Duration::from_secs(60));
            let before = running.cpu();
            let watched = work.run(mark);
            running.settle(Duration::from_secs(60));
            cpu.push(running.cpu() - before);
            peak = peak.max(running.peak_megabytes());
            told = running.stop(work, last.then_some(std::process::id()));
            watched.wall
        });
        ratios.push(bracket.ratio());
        bare.push(bracket.bare());
    }
    let cpu = median(cpu);
    let (told, lost) = told.map_or(("-".into(), "-".into()), |(told, lost)| {
        // Of a compile's acts, those of the compiler's own processes, none can be told from others'.
        let told =
            if work.event_types().is_empty() { "-".into() } else { format!("{told}/{}", work.events()) };
        (told, lost.to_string())
    });
    println!(
        "  {:<11} {}   {:>6.2}   {cpu:>12.2}   {:>6.1}   {peak:>7.1}   {told:<9} {lost}",
        sensor.name(),
        spread(ratios),
        median(bare),
        cpu * 1e6 / f64::from(work.acts()),
    );
}

/// Seconds of a run between two bare ones: what drifts on a machine, such as the state of its file
/// system, is in the mean of these as it is in the one between.
struct Bracket {
    before: f64,
    between: f64,
    after: f64,
}

impl Bracket {
    fn around(work: Work, between: impl FnOnce() -> f64) -> Self {
        // What was written so far is not to be written during the run.
        let bare = || {
            assert!(std::process::Command::new("sync").status().expect("coreutils").success());
            work.run(0).wall
        };
        Self { before: bare(), between: between(), after: bare() }
    }

    fn bare(&self) -> f64 {
        f64::midpoint(self.before, self.after)
    }

    fn ratio(&self) -> f64 {
        self.between / self.bare()
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn spread(values: Vec<f64>) -> String {
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let most = values.iter().copied().fold(0.0, f64::max);
    format!("{:>6.3} ({least:.3}-{most:.3})      ", median(values))
}

fn load_average() -> String {
    std::fs::read_to_string("/proc/loadavg")
        .unwrap_or_default()
        .split(' ')
        .next()
        .unwrap_or_default()
        .to_owned()
}
