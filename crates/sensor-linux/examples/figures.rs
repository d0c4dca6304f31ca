//! Prints what the eBPF sensor costs on this machine: time to open, time in the
//! programs, bytes in the ring, CPU of the reader, time from exec to the observation.
//!
//! `cargo run --release -p sensor-linux --example figures [PROCESSES]`, as root.

use std::collections::HashMap;
use std::error::Error;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use libbpf_rs::query::ProgInfoIter;
use sensor_api::{Observation, Observed, Sensor, stop_signal};
use sensor_linux::{EbpfSensor, LinuxSensorOptions, open_ebpf};

/// How long the agent waits for observations.
const POLL: Duration = Duration::from_millis(5);
const STATS: &str = "/proc/sys/kernel/bpf_stats_enabled";

fn main() -> Result<(), Box<dyn Error>> {
    let processes: usize = std::env::args().nth(1).map_or(Ok(2_000), |text| text.parse())?;
    let others: Vec<u32> = ProgInfoIter::default().map(|program| program.id).collect();
    let begin = Instant::now();
    let mut sensor = open_ebpf(LinuxSensorOptions::default())?;
    println!("open, load, attach, list processes: {:.1} ms", begin.elapsed().as_secs_f64() * 1e3);

    let stats_before = std::fs::read_to_string(STATS)?;
    std::fs::write(STATS, "1")?;
    let result = measure(&mut sensor, processes, &others);
    std::fs::write(STATS, stats_before)?;
    result?;
    Box::new(sensor).shut_down()?;
    Ok(())
}

fn measure(sensor: &mut EbpfSensor, processes: usize, others: &[u32]) -> Result<(), Box<dyn Error>> {
    drain(sensor, Duration::from_millis(50), &mut |_| {})?;
    let wall = Instant::now();
    let cpu = thread_cpu();
    let mut sizes = Sizes::default();
    storm(sensor, processes, &mut |observed| sizes.add(&observed))?;
    let (wall, cpu) = (wall.elapsed(), thread_cpu() - cpu);
    println!(
        "{processes} processes started by another thread in {:.2} s; reader's CPU: {:.2} us for each (poll every 5 ms)",
        wall.as_secs_f64(),
        cpu.as_secs_f64() * 1e6 / processes as f64
    );
    for program in
        ProgInfoIter::default().filter(|program| !others.contains(&program.id) && program.run_cnt > 0)
    {
        println!(
            "{}: {} ns for each of {} runs",
            program.name.to_string_lossy(),
            program.run_time_ns / program.run_cnt,
            program.run_cnt
        );
    }
    sizes.print();
    for at_once in [false, true] {
        sensor.wake_on_process_start(at_once);
        let mut delays = if at_once { latencies_at_doorbells(sensor)? } else { latencies(sensor)? };
        delays.sort_unstable();
        let at = |part: usize| {
            delays.get((delays.len() * part / 1000).min(delays.len() - 1)).copied().unwrap_or(0)
        };
        println!(
            "exec to observation, {}: p50 {} us, p99 {} us, of {}",
            if at_once { "at a doorbell for each CPU" } else { "batched" },
            at(500) / 1000,
            at(990) / 1000,
            delays.len()
        );
    }
    println!("kernel's figures: {:?}", sensor.kernel_counts()?);
    Ok(())
}

/// Mean bytes in the ring by kind, from the positions.
#[derive(Default)]
struct Sizes {
    last: u64,
    kinds: HashMap<&'static str, (u64, u64)>,
}

impl Sizes {
    fn add(&mut self, observed: &Observed) {
        let kind = match observed.what {
            Observation::ProcessForked(_) => "fork",
            Observation::ProcessExecuted(_) => "exec",
            Observation::ProcessExited(_) => "exit",
            _ => return,
        };
        let Some(position) = observed.position else { return };
        let bytes = position.offset - self.last;
        let first = std::mem::replace(&mut self.last, position.offset) == 0;
        if !first {
            let sum = self.kinds.entry(kind).or_default();
            *sum = (sum.0 + bytes, sum.1 + 1);
        }
    }

    fn print(&self) {
        for (kind, (bytes, count)) in &self.kinds {
            println!("{kind}: {} bytes in the ring on average", bytes / count.max(&1));
        }
    }
}

fn drain(
    sensor: &mut EbpfSensor,
    time: Duration,
    sink: &mut dyn FnMut(Observed),
) -> Result<(), Box<dyn Error>> {
    let end = Instant::now() + time;
    while Instant::now() < end {
        poll_and_commit(sensor, POLL, sink)?;
    }
    Ok(())
}

fn poll_and_commit(
    sensor: &mut EbpfSensor,
    patience: Duration,
    sink: &mut dyn FnMut(Observed),
) -> Result<(), Box<dyn Error>> {
    let mut last = None;
    sensor.poll(patience, &mut |observed| {
        last = observed.position.or(last);
        sink(observed);
    })?;
    if let Some(position) = last {
        sensor.commit(position);
    }
    Ok(())
}

fn storm(
    sensor: &mut EbpfSensor,
    processes: usize,
    sink: &mut dyn FnMut(Observed),
) -> Result<(), Box<dyn Error>> {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..processes {
                if let Err(error) = Command::new("/bin/true").arg("storm").status() {
                    eprintln!("{error}");
                }
            }
            done.store(true, Ordering::Release);
        });
        while !done.load(Ordering::Acquire) {
            poll_and_commit(sensor, POLL, sink)?;
        }
        drain(sensor, Duration::from_millis(20), sink)
    })
}

fn latencies(sensor: &mut EbpfSensor) -> Result<Vec<u64>, Box<dyn Error>> {
    let mut delays = Vec::new();
    storm(sensor, 500, &mut |observed| delays.extend(delay_of_start(&observed)))?;
    Ok(delays)
}

/// The same read as the agent does where rules may act on starts.
fn latencies_at_doorbells(sensor: &mut EbpfSensor) -> Result<Vec<u64>, Box<dyn Error>> {
    let (asks, stop) = stop_signal()?;
    let doorbells = sensor.take_doorbells(&stop)?.ok_or("this sensor has no doorbells")?;
    let read = Mutex::new((sensor, Vec::new()));
    let take = || -> Result<(), String> {
        let mut read = read.lock().map_err(|_| "a reader panicked")?;
        let (sensor, delays) = &mut *read;
        poll_and_commit(sensor, Duration::ZERO, &mut |observed| delays.extend(delay_of_start(&observed)))
            .map_err(|error| error.to_string())
    };
    std::thread::scope(|scope| {
        let answering = doorbells.of_cpus.into_iter().map(|place| {
            let (stop, take) = (&stop, &take);
            scope.spawn(move || -> Result<(), String> {
                let mut doorbell = (place.hang)().map_err(|error| error.to_string())?;
                while !stop.asked_within(Duration::ZERO) {
                    doorbell.wait().map_err(|error| error.to_string())?;
                    take()?;
                }
                Ok(())
            })
        });
        let answering: Vec<_> = answering.collect();
        for _ in 0..500 {
            Command::new("/bin/true").arg("storm").status()?;
        }
        take()?;
        drop(asks);
        for thread in answering {
            thread.join().map_err(|_| "a reader panicked")??;
        }
        Ok::<(), Box<dyn Error>>(())
    })?;
    Ok(read.into_inner().map_err(|_| "a reader panicked")?.1)
}

/// Nanoseconds since the exec, if it is one of the storm's.
fn delay_of_start(observed: &Observed) -> Option<u64> {
    match &observed.what {
        Observation::ProcessExecuted(image) if image.args.get(1).is_some_and(|arg| arg == "storm") => {
            Some(boottime().saturating_sub(observed.at_ns))
        }
        _ => None,
    }
}

fn boottime() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    now.tv_sec.cast_unsigned() * 1_000_000_000 + now.tv_nsec.cast_unsigned()
}

fn thread_cpu() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec.cast_unsigned(), u32::try_from(now.tv_nsec).unwrap_or(0))
}
