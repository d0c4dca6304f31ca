//! Process starts call for whoever waits at the CPU where they happen.

#![allow(clippy::unwrap_used, reason = "in tests a failed expectation is the report")]

mod rights;

use std::process::Command;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::Scope;
use std::time::{Duration, Instant};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use sensor_api::{DoorbellPlace, Observation, Observed, Sensor, StopSignal, stop_signal};
use sensor_linux::{EbpfSensor, LinuxSensorOptions};

use rights::ebpf;

const PATIENCE: Duration = Duration::from_secs(120);

/// Starts a program on this CPU, known by the argument.
fn start_on(cpu: u32, name: &str) {
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut here = CpuSet::new();
            here.set(cpu as usize);
            sched_setaffinity(None, &here).unwrap();
            assert!(Command::new("/bin/true").arg(name).status().unwrap().success());
        });
    });
}

/// Waits at each doorbell, and says where it rang and on which CPU whoever waits was then.
fn wait_at<'scope>(
    threads: &'scope Scope<'scope, '_>,
    places: Vec<DoorbellPlace>,
    stop: &StopSignal,
) -> Receiver<(u32, CpuSet)> {
    let (rings, rung) = channel();
    for DoorbellPlace { cpu, hang } in places {
        let (rings, stop): (Sender<_>, _) = (rings.clone(), stop.clone());
        threads.spawn(move || {
            let mut doorbell = hang().unwrap();
            while !stop.asked_within(Duration::ZERO) {
                doorbell.wait().unwrap();
                // Nobody listens any more once the test is over.
                let _ = rings.send((cpu, sched_getaffinity(None).unwrap()));
            }
        });
    }
    rung
}

/// Whether that start is among what is there now.
fn is_there(sensor: &mut EbpfSensor, name: &str) -> bool {
    let (mut found, mut last, mut count) = (false, None, 1);
    while count != 0 {
        count = 0;
        let mut sink = |observed: Observed| {
            count += 1;
            last = observed.position.or(last);
            found |= matches!(&observed.what, Observation::ProcessExecuted(image)
                if image.args.iter().any(|argument| argument == name));
        };
        sensor.poll(Duration::ZERO, &mut sink).unwrap();
        if let Some(position) = last {
            sensor.commit(position);
        }
    }
    found
}

#[test]
fn a_process_start_rings_at_its_cpu_and_is_there_when_it_does() {
    let Some(mut sensor) = ebpf(LinuxSensorOptions::default()) else { return };
    let (asks, stop) = stop_signal().unwrap();
    sensor.wake_on_process_start(true);
    let places = sensor.take_doorbells(&stop).unwrap().unwrap().of_cpus;
    let cpus: Vec<u32> = places.iter().map(|place| place.cpu).collect();
    assert_eq!(cpus.len(), std::thread::available_parallelism().unwrap().get(), "{cpus:?}");
    std::thread::scope(|threads| {
        let rung = wait_at(threads, places, &stop);
        for cpu in cpus {
            let begun = Instant::now();
            let mut round = 0;
            // Until it is hung, a start there rings elsewhere.
            let is_seen = loop {
                assert!(begun.elapsed() < PATIENCE, "nothing rang at CPU {cpu}");
                round += 1;
                let name = format!("at CPU {cpu}, round {round}");
                is_there(&mut sensor, &name);
                while rung.try_recv().is_ok() {}
                start_on(cpu, &name);
                // The program has ended, so that whatever it was to ring has rung, and its thread is about to tell.
                let Ok((at, runs_on)) = rung.recv_timeout(Duration::from_secs(1)) else { continue };
                assert!(runs_on.is_set(at as usize) && runs_on.count() == 1, "whoever waits stays there");
                if at == cpu {
                    break is_there(&mut sensor, &name);
                }
            };
            assert!(is_seen, "CPU {cpu}: it rang before there was anything to see");
        }
        drop(asks);
    });
}

#[test]
fn where_no_doorbell_hangs_a_process_start_wakes_whoever_waits_for_the_stream() {
    let Some(mut sensor) = ebpf(LinuxSensorOptions::default()) else { return };
    let (_asks, stop) = stop_signal().unwrap();
    sensor.wake_on_process_start(true);
    let mut stream = sensor.take_doorbells(&stop).unwrap().unwrap().of_stream;
    is_there(&mut sensor, "");
    let begun = Instant::now();
    std::thread::scope(|threads| {
        threads.spawn(|| assert!(Command::new("/bin/true").status().unwrap().success()));
        stream.wait(PATIENCE).unwrap();
    });
    assert!(begun.elapsed() < PATIENCE, "nobody was woken");
}

#[test]
fn a_doorbell_that_is_taken_off_leaves_its_starts_to_the_stream() {
    let Some(mut sensor) = ebpf(LinuxSensorOptions::default()) else { return };
    let (_asks, stop) = stop_signal().unwrap();
    sensor.wake_on_process_start(true);
    let mut doorbells = sensor.take_doorbells(&stop).unwrap().unwrap();
    let DoorbellPlace { cpu, hang } = doorbells.of_cpus.remove(0);
    std::thread::scope(|threads| {
        threads.spawn(move || drop(hang().unwrap()));
    });
    let begun = Instant::now();
    std::thread::scope(|threads| {
        threads.spawn(|| start_on(cpu, "after it was taken off"));
        doorbells.of_stream.wait(PATIENCE).unwrap();
    });
    assert!(begun.elapsed() < PATIENCE, "nobody was woken");
}
