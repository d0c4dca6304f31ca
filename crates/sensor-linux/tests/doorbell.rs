//! Process starts call for whoever waits at the CPU where they happen.

#![allow(clippy::unwrap_used, reason = "in tests a failed expectation is the report")]

mod rights;

use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::Scope;
use std::time::{Duration, Instant};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use sensor_api::{DoorbellPlace, Observation, Observed, Sensor, StopSignal, StreamDoorbell, stop_signal};
use sensor_linux::{EbpfSensor, LinuxSensorOptions, open_ebpf};

use rights::{PinDir, ebpf};

const PATIENCE: Duration = Duration::from_secs(120);

/// Starts a program on this CPU, known by the argument, and waits for its end.
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

/// Starts a program on this CPU until the stream's doorbell rings for one of them.
fn wait_for_the_stream(sensor: &mut EbpfSensor, stream: &mut dyn StreamDoorbell, cpu: u32) {
    let begun = Instant::now();
    for round in 0.. {
        // What was there before is no reason to ring.
        is_there(sensor, "");
        let name = format!("for the stream, round {round}");
        std::thread::scope(|threads| {
            threads.spawn(|| start_on(cpu, &name));
            stream.wait(PATIENCE).unwrap();
        });
        assert!(begun.elapsed() < PATIENCE, "nobody was woken");
        // Another's start may have rung.
        if is_there(sensor, &name) {
            return;
        }
    }
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
    assert_eq!(cpus.len(), sched_getaffinity(None).unwrap().count() as usize, "{cpus:?}");
    std::thread::scope(|threads| {
        let rung = wait_at(threads, places, &stop);
        for cpu in cpus {
            let begun = Instant::now();
            let mut round = 0;
            // Until it is hung, a start there rings elsewhere.
            loop {
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
                    assert!(is_there(&mut sensor, &name), "CPU {cpu}: what rang is not in the stream");
                    break;
                }
            }
        }
        drop(asks);
    });
}

#[test]
fn where_no_doorbell_hangs_a_process_start_wakes_whoever_waits_for_the_stream() {
    let Some(mut sensor) = ebpf(LinuxSensorOptions::default()) else { return };
    let (_asks, stop) = stop_signal().unwrap();
    sensor.wake_on_process_start(true);
    let mut doorbells = sensor.take_doorbells(&stop).unwrap().unwrap();
    let cpu = doorbells.of_cpus[0].cpu;
    wait_for_the_stream(&mut sensor, doorbells.of_stream.as_mut(), cpu);
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
    wait_for_the_stream(&mut sensor, doorbells.of_stream.as_mut(), cpu);
}

#[test]
fn what_an_agent_left_hanging_that_was_ended_by_force_is_taken_off_by_the_next() {
    let Some(_) = ebpf(LinuxSensorOptions::default()) else { return };
    let pins = PinDir::new("doorbells");
    let mut first = open_ebpf(pins.options()).unwrap();
    assert!(first.is_pinned());
    first.wake_on_process_start(true);
    let (_asks, stop) = stop_signal().unwrap();
    let DoorbellPlace { cpu, hang } = first.take_doorbells(&stop).unwrap().unwrap().of_cpus.remove(0);
    let has_rung = AtomicBool::new(false);
    std::thread::scope(|threads| {
        threads.spawn(|| {
            let mut doorbell = hang().unwrap();
            doorbell.wait().unwrap();
            has_rung.store(true, Ordering::Release);
            // Nobody takes it off, as when the agent is ended by SIGKILL.
            std::mem::forget(doorbell);
        });
        while !has_rung.load(Ordering::Acquire) {
            start_on(cpu, "until it hangs");
        }
    });
    drop(first);
    let mut second = open_ebpf(pins.options()).unwrap();
    assert!(second.resumed);
    second.wake_on_process_start(true);
    let mut stream = second.take_doorbells(&stop).unwrap().unwrap().of_stream;
    wait_for_the_stream(&mut second, stream.as_mut(), cpu);
}
