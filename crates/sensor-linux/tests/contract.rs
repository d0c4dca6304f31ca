//! The contract of process sensors, run by both Linux sensors on this machine.

mod rights;

use sensor_api::{Sensor, contract};
use sensor_linux::{LinuxSensorOptions, open_ebpf, open_proc_connector};

use rights::{PinDir, ebpf, proc_connector};

#[test]
fn ebpf_sees_a_process_from_fork_to_exit() {
    let Some(mut sensor) = ebpf(LinuxSensorOptions::default()) else { return };
    contract::a_process_is_seen_from_fork_to_exit(&mut sensor);
}

#[test]
fn proc_connector_sees_a_process_from_fork_to_exit() {
    let Some(mut sensor) = proc_connector() else { return };
    contract::a_process_is_seen_from_fork_to_exit(&mut sensor);
}

#[test]
fn ebpf_marks_arguments_that_it_cuts() {
    let Some(mut sensor) = ebpf(LinuxSensorOptions::default()) else { return };
    contract::long_arguments_are_whole_or_marked(&mut sensor);
}

#[test]
fn proc_connector_marks_arguments_that_it_cuts() {
    let Some(mut sensor) = proc_connector() else { return };
    contract::long_arguments_are_whole_or_marked(&mut sensor);
}

#[test]
fn ebpf_lists_what_was_there() {
    let Some(_) = ebpf(LinuxSensorOptions::default()) else { return };
    contract::what_was_there_is_listed(&mut || {
        Box::new(open_ebpf(LinuxSensorOptions::default()).expect("it opened a moment ago"))
    });
}

#[test]
fn proc_connector_lists_what_was_there() {
    let Some(_) = proc_connector() else { return };
    contract::what_was_there_is_listed(&mut || {
        Box::new(open_proc_connector().expect("it opened a moment ago"))
    });
}

#[test]
fn ebpf_goes_on_after_a_restart_without_loss_or_repetition() {
    let Some(_) = ebpf(LinuxSensorOptions::default()) else { return };
    let pins = PinDir::new("restart");
    let mut first = true;
    contract::a_restart_loses_and_repeats_nothing(&mut |resume_after| {
        let options = LinuxSensorOptions { resume_after, ..pins.options() };
        let mut sensor = open_ebpf(options).expect("it opened a moment ago");
        assert_eq!(sensor.take_notes(), Vec::<String>::new());
        assert_eq!(sensor.resumed, !std::mem::take(&mut first));
        Box::new(sensor)
    });
    assert!(!pins.path().exists(), "a clean end leaves no pins");
}

#[test]
fn ebpf_counts_what_a_full_ring_loses() {
    let small = LinuxSensorOptions { ring_bytes: 1 << 20, ..LinuxSensorOptions::default() };
    let (Some(mut stalled), Some(mut witness)) = (ebpf(small), ebpf(LinuxSensorOptions::default())) else {
        return;
    };
    let (handed_over, lost) = contract::losses_are_counted_exactly(&mut stalled, &mut witness, 5_000);
    println!(
        "of 5,000 process starts and those of others, {handed_over} were handed over and {lost} counted as lost"
    );
    Box::new(stalled).shut_down().expect("it has nothing pinned");
}
