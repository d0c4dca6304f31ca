//! Prints what the file events cost on this machine: a storm of files made, written,
//! renamed and removed by another process, with and without the sensor in turns, and
//! the time in each program.
//!
//! `cargo run --release -p sensor-linux --example file_figures [FILES] [ROUNDS]`, as
//! root. Storm and reader run in real time (`chrt`), so that others on a busy machine
//! don't count.

use std::error::Error;
use std::ffi::OsString;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use libbpf_rs::query::ProgInfoIter;
use sensor_api::{Observation, Observed, Sensor as _};
use sensor_linux::{EbpfSensor, LinuxSensorOptions, open_ebpf};

const STATS: &str = "/proc/sys/kernel/bpf_stats_enabled";

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let first = args.next();
    if first.as_deref() == Some("storm") {
        return storm(args.next().unwrap_or_default().parse()?);
    }
    let files: u32 = first.map_or(Ok(100_000), |text| text.parse())?;
    let rounds: usize = args.next().map_or(Ok(5), |text| text.parse())?;
    let mut ratios = Vec::new();
    for _ in 0..rounds {
        let without = run(files, &mut || Ok(()))?;
        let mut sensor =
            open_ebpf(LinuxSensorOptions { ring_bytes: 16 << 20, ..LinuxSensorOptions::default() })?;
        let mut seen = Seen::default();
        drain(&mut sensor, &mut Seen::default())?;
        let cpu = thread_cpu();
        let with = run(files, &mut || poll(&mut sensor, &mut seen))?;
        let cpu = thread_cpu() - cpu;
        drain(&mut sensor, &mut seen)?;
        ratios.push(with.as_secs_f64() / without.as_secs_f64());
        println!(
            "{files} files: {:.2} s without, {:.2} s with the sensor: {:.3}; events of files {}, lost {}, reader's CPU {:.2} us for each",
            without.as_secs_f64(),
            with.as_secs_f64(),
            ratios.last().copied().unwrap_or_default(),
            seen.files,
            sensor.kernel_counts()?.iter().map(|count| count.lost).sum::<u64>(),
            cpu.as_secs_f64() * 1e6 / f64::from(seen.files.max(1)),
        );
        Box::new(sensor).shut_down()?;
    }
    ratios.sort_by(f64::total_cmp);
    println!("median of the ratios: {:.3}", ratios.get(ratios.len() / 2).copied().unwrap_or_default());

    let others: Vec<u32> = ProgInfoIter::default().map(|program| program.id).collect();
    let mut sensor = open_ebpf(LinuxSensorOptions::default())?;
    let stats_before = std::fs::read_to_string(STATS)?;
    std::fs::write(STATS, "1")?;
    let mut seen = Seen::default();
    let result = run(files.min(20_000), &mut || poll(&mut sensor, &mut seen));
    std::fs::write(STATS, stats_before)?;
    result?;
    for program in
        ProgInfoIter::default().filter(|program| !others.contains(&program.id) && program.run_cnt > 0)
    {
        let name = program.name.to_string_lossy();
        println!("{name}: {} ns for each of {} runs", program.run_time_ns / program.run_cnt, program.run_cnt);
    }
    Box::new(sensor).shut_down()?;
    Ok(())
}

#[derive(Default)]
struct Seen {
    files: u32,
}

/// Runs a storm; how long it took by its own measure.
fn run(files: u32, each: &mut dyn FnMut() -> Result<(), Box<dyn Error>>) -> Result<Duration, Box<dyn Error>> {
    let dir = Path::new("/var/tmp").join(format!("rampart-figures-{}", std::process::id()));
    std::fs::create_dir_all(&dir)?;
    let program: OsString = std::env::current_exe()?.into();
    let mut child = Command::new("chrt")
        .args(["-r", "10"])
        .arg(program)
        .args(["storm", &files.to_string()])
        .current_dir(&dir)
        .stdout(std::process::Stdio::piped())
        .spawn()?;
    while child.try_wait()?.is_none() {
        each()?;
        std::thread::sleep(Duration::from_millis(5));
    }
    let output = child.wait_with_output()?;
    std::fs::remove_dir_all(&dir)?;
    Ok(Duration::from_micros(String::from_utf8(output.stdout)?.trim().parse()?))
}

fn storm(files: u32) -> Result<(), Box<dyn Error>> {
    let content = [b'x'; 512];
    let begin = Instant::now();
    for number in 0..files {
        let (name, renamed) = (format!("f{}", number % 64), format!("g{}", number % 64));
        std::fs::File::create(&name)?.write_all(&content)?;
        std::fs::rename(&name, &renamed)?;
        std::fs::remove_file(&renamed)?;
    }
    println!("{}", begin.elapsed().as_micros());
    Ok(())
}

fn poll(sensor: &mut EbpfSensor, seen: &mut Seen) -> Result<(), Box<dyn Error>> {
    let mut last = None;
    sensor.poll(Duration::ZERO, &mut |observed: Observed| {
        last = observed.position.or(last);
        if let Observation::Activity(activity) = &observed.what
            && activity.event_type.as_str().starts_with("file_")
        {
            seen.files += 1;
        }
    })?;
    if let Some(position) = last {
        sensor.commit(position);
    }
    Ok(())
}

fn drain(sensor: &mut EbpfSensor, seen: &mut Seen) -> Result<(), Box<dyn Error>> {
    let end = Instant::now() + Duration::from_millis(100);
    while Instant::now() < end {
        poll(sensor, seen)?;
    }
    Ok(())
}

fn thread_cpu() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec.cast_unsigned(), u32::try_from(now.tv_nsec).unwrap_or(0))
}
