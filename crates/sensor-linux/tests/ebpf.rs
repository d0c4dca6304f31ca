//! What the eBPF sensor promises beyond the contract of all sensors.

#![allow(clippy::unwrap_used, reason = "in tests a failed expectation is the report")]

mod rights;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use libbpf_rs::{MapCore as _, MapFlags, MapHandle};
use sensor_api::contract::{MarkedProcess, read_until, unique};
use sensor_api::{Observation, Observed, ObservedExit, ObservedImage, ProcessKey, Sensor};
use sensor_linux::{LinuxSensorOptions, open_ebpf};

use rights::{PinDir, ebpf};

fn images(seen: &[Observed]) -> impl Iterator<Item = &ObservedImage> {
    seen.iter().filter_map(|observed| match &observed.what {
        Observation::ProcessExecuted(image) => Some(image.as_ref()),
        _ => None,
    })
}

fn image_of(pid: u32, executable: &str, seen: &[Observed]) -> Option<ObservedImage> {
    images(seen).find(|image| image.pid == pid && image.executable == executable).cloned()
}

fn exits(pid: u32, seen: &[Observed]) -> Vec<ObservedExit> {
    let exit = |observed: &Observed| match observed.what {
        Observation::ProcessExited(exit) if exit.process.pid == pid => Some(exit),
        _ => None,
    };
    seen.iter().filter_map(exit).collect()
}

/// A copy of a shell or another program under a path of its own.
fn copy(of: &str, to: &Path) {
    fs::create_dir_all(to.parent().unwrap()).unwrap();
    fs::copy(of, to).unwrap();
    fs::set_permissions(to, fs::Permissions::from_mode(0o755)).unwrap();
}

/// A shell that waits until its input is closed.
fn waiting(program: &Path, args: &[&str]) -> Child {
    Command::new(program).args(args).args(["-c", "read line"]).stdin(Stdio::piped()).spawn().unwrap()
}

/// What the kernel side says of a process, and what /proc says to a sensor that is
/// opened while the process lives.
fn both_views(sensor: &mut dyn Sensor, child: &Child, executable: &str) -> (ObservedImage, ObservedImage) {
    let deadline = Instant::now() + Duration::from_secs(20);
    let (mut last, mut found) = (None, None);
    let by_kernel = loop {
        assert!(Instant::now() < deadline, "no exec of {executable}; {:?}", sensor.provisions());
        let mut sink = |observed: Observed| {
            last = observed.position.or(last);
            found = found.take().or_else(|| image_of(child.id(), executable, &[observed]));
        };
        sensor.poll(Duration::from_millis(5), &mut sink).unwrap();
        // Room for what others do all the time.
        if let Some(position) = last {
            sensor.commit(position);
        }
        if let Some(image) = found.take() {
            break image;
        }
    };
    let mut other = ebpf(LinuxSensorOptions::default()).unwrap();
    let mut listed = Vec::new();
    other.poll(Duration::ZERO, &mut |observed| listed.push(observed)).unwrap();
    let by_proc = listed.into_iter().find_map(|observed| match observed.what {
        Observation::ProcessExisting(image) if image.pid == child.id() => Some(*image),
        _ => None,
    });
    (by_kernel, by_proc.expect("a live process is listed"))
}

#[test]
fn the_kernel_side_and_proc_agree_on_a_process() {
    let Some(mut sensor) = ebpf(LinuxSensorOptions::default()) else { return };
    let here = tempfile::tempdir().unwrap();
    let here = here.path().canonicalize().unwrap();
    let deep = here.join("d/".repeat(40)).join("name with spaces and ünïcode");
    // Another mount, as the path has to be walked across it.
    let memory = tempfile::Builder::new().tempdir_in("/dev/shm");
    let mut places = vec![here.join("sh"), deep];
    places.extend(memory.iter().map(|dir| dir.path().join("sh")));
    for path in places {
        copy("/bin/sh", &path);
        let mut child = waiting(&path, &[]);
        let (by_kernel, by_proc) = both_views(&mut sensor, &child, path.to_str().unwrap());
        assert_eq!(by_kernel, by_proc);
        let file = fs::metadata(&path).unwrap();
        let image = by_kernel.image.unwrap();
        assert_eq!((image.device, image.inode, image.size), (file.dev(), file.ino(), file.size()));
        assert_eq!(image.modified_ns, file.mtime() * 1_000_000_000 + file.mtime_nsec());
        assert_eq!(image.changed_ns, file.ctime() * 1_000_000_000 + file.ctime_nsec());
        drop(child.stdin.take());
        child.wait().unwrap();
    }
}

#[test]
fn a_path_too_deep_to_walk_is_found_another_way() {
    let Some(mut sensor) = ebpf(LinuxSensorOptions::default()) else { return };
    let here = tempfile::tempdir().unwrap();
    let path = here.path().canonicalize().unwrap().join("d/".repeat(150)).join("sh");
    copy("/bin/sh", &path);
    let mut child = waiting(&path, &[]);
    let (by_kernel, _) = both_views(&mut sensor, &child, path.to_str().unwrap());
    assert_eq!(by_kernel.executable, path.to_str().unwrap());
    drop(child.stdin.take());
    child.wait().unwrap();
}

#[test]
fn an_image_without_a_name_is_marked() {
    let Some(mut sensor) = ebpf(LinuxSensorOptions::default()) else { return };
    let here = tempfile::tempdir().unwrap();
    let path = here.path().canonicalize().unwrap().join("sh");
    copy("/bin/sh", &path);
    // Held open, so that it can be run after it lost its name.
    let file = fs::File::open(&path).unwrap();
    fs::remove_file(&path).unwrap();
    let held =
        PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), std::os::fd::AsRawFd::as_raw_fd(&file)));
    let mut child = waiting(&held, &[]);
    let (by_kernel, by_proc) = both_views(&mut sensor, &child, path.to_str().unwrap());
    assert!(by_kernel.image_deleted);
    assert_eq!(by_kernel, by_proc);
    drop(child.stdin.take());
    child.wait().unwrap();
}

#[test]
fn a_script_runs_its_interpreter() {
    let Some(mut sensor) = ebpf(LinuxSensorOptions::default()) else { return };
    let here = tempfile::tempdir().unwrap();
    let script = here.path().join("script");
    fs::write(&script, "#!/bin/sh\nexit 0\n").unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    // On a busy machine a fork elsewhere may still hold the script open for writing.
    let deadline = Instant::now() + Duration::from_secs(5);
    let mut child = loop {
        match Command::new(&script).arg("x").spawn() {
            Err(error)
                if error.kind() == std::io::ErrorKind::ExecutableFileBusy && Instant::now() < deadline => {}
            other => break other.unwrap(),
        }
    };
    child.wait().unwrap();
    let mut seen = Vec::new();
    let shell = fs::canonicalize("/bin/sh").unwrap();
    let shell = shell.to_str().unwrap();
    read_until(&mut sensor, &mut seen, "exec", |seen| image_of(child.id(), shell, seen).is_some());
    let image = image_of(child.id(), shell, &seen).unwrap();
    assert_eq!(image.args, ["/bin/sh", script.to_str().unwrap(), "x"]);
}

#[test]
fn a_signal_is_the_end_that_is_told() {
    let Some(mut sensor) = ebpf(LinuxSensorOptions::default()) else { return };
    let mut process = MarkedProcess::start("killed", &[]);
    process.child.kill().unwrap();
    process.child.wait().unwrap();
    let mut seen = Vec::new();
    let pid = process.child.id();
    read_until(&mut sensor, &mut seen, "exit", |seen| !exits(pid, seen).is_empty());
    assert_eq!(exits(pid, &seen)[0].wait_status, Some(9));
}

#[test]
fn a_fork_without_exec_is_told() {
    let Some(mut sensor) = ebpf(LinuxSensorOptions::default()) else { return };
    let mut child = Command::new("/bin/sh").args(["-c", "(exit 5); exit 6"]).spawn().unwrap();
    child.wait().unwrap();
    let mut seen = Vec::new();
    read_until(&mut sensor, &mut seen, "exit", |seen| !exits(child.id(), seen).is_empty());
    let fork = seen.iter().find_map(|observed| match observed.what {
        Observation::ProcessForked(fork) if fork.parent.pid == child.id() => Some(fork),
        _ => None,
    });
    let subshell = fork.expect("the subshell is forked").child;
    assert_eq!(exits(subshell.pid, &seen), [ObservedExit { process: subshell, wait_status: Some(5 << 8) }]);
    assert!(images(&seen).all(|image| image.key() != subshell));
}

/// Not a test by itself: the process that the next test starts. All its threads end
/// at once.
#[test]
fn threads_that_race_to_the_end() {
    if std::env::var_os("RAMPART_TEST_RACE").is_none() {
        return;
    }
    let barrier = std::sync::Arc::new(std::sync::Barrier::new(16));
    for _ in 0..15 {
        let barrier = std::sync::Arc::clone(&barrier);
        std::thread::spawn(move || {
            barrier.wait();
        });
    }
    barrier.wait();
}

#[test]
fn a_process_of_many_threads_ends_once() {
    let Some(mut sensor) = ebpf(LinuxSensorOptions::default()) else { return };
    let mut seen = Vec::new();
    let mut pids = Vec::new();
    for _ in 0..50 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "threads_that_race_to_the_end", "--quiet"])
            .env("RAMPART_TEST_RACE", "1")
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        assert!(child.wait().unwrap().success());
        pids.push(child.id());
    }
    read_until(&mut sensor, &mut seen, "exits", |seen| pids.iter().all(|pid| !exits(*pid, seen).is_empty()));
    for pid in pids {
        let ends = exits(pid, &seen);
        assert_eq!(ends.len(), 1, "{ends:?}");
        assert_eq!(ends[0].wait_status, Some(0));
        let forked: Vec<ProcessKey> = seen
            .iter()
            .filter_map(|observed| match observed.what {
                Observation::ProcessForked(fork) if fork.child.pid == pid => Some(fork.child),
                _ => None,
            })
            .collect();
        assert_eq!(forked, [ends[0].process], "one fork, as threads are no processes");
    }
}

#[test]
fn a_process_start_wakes_the_reader_if_asked() {
    let Some(mut sensor) = ebpf(LinuxSensorOptions::default()) else { return };
    sensor.wake_on_process_start(true);
    let mut seen = Vec::new();
    let mut process = MarkedProcess::start("wake", &[]);
    read_until(&mut sensor, &mut seen, "exec", |seen| images(seen).any(|image| process.is(image)));
    process.finish();
}

/// Whoever waits long looks at nothing meanwhile: without the wake-up it would find the record only when the time is over.
#[test]
fn after_a_quiet_moment_the_first_record_wakes_a_reader_that_waits() {
    const PATIENCE: Duration = Duration::from_secs(120);
    let Some(mut sensor) = ebpf(LinuxSensorOptions::default()) else { return };
    let reader = format!("/proc/self/task/{}/stat", rustix::thread::gettid().as_raw_nonzero());
    for round in 0..3 {
        let name = format!("while all is quiet {round}");
        let begun = Instant::now();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !fs::read_to_string(&reader).unwrap().contains(") S ") {
                    assert!(begun.elapsed() < PATIENCE, "the reader does not wait");
                    std::thread::yield_now();
                }
                // What the sensor's own process does is not told.
                assert!(Command::new("/bin/true").arg(&name).status().unwrap().success());
            });
            let (mut is_seen, mut last) = (false, None);
            while !is_seen && begun.elapsed() < PATIENCE {
                let mut sink = |observed: Observed| {
                    last = observed.position.or(last);
                    is_seen |= format!("{:?}", observed.what).contains(&name);
                };
                sensor.poll(PATIENCE, &mut sink).unwrap();
                if let Some(position) = last {
                    sensor.commit(position);
                }
            }
        });
        assert!(begun.elapsed() < PATIENCE, "nobody woke the reader");
    }
}

#[test]
fn what_another_version_pinned_is_replaced_and_its_losses_are_told() {
    let Some(_) = ebpf(LinuxSensorOptions::default()) else { return };
    let pins = PinDir::new("version");
    // Another size of the ring stands for another version.
    let small = LinuxSensorOptions { ring_bytes: 4 << 10, ..pins.options() };
    let old = open_ebpf(small).unwrap();
    let old_stream = old.stream();
    assert!(old.is_pinned());
    let deadline = Instant::now() + Duration::from_secs(20);
    while old.kernel_counts().unwrap()[1].lost == 0 {
        assert!(Instant::now() < deadline, "one page is soon full");
        Command::new("/bin/true").status().unwrap();
    }
    drop(old);
    let mut new = open_ebpf(pins.options()).unwrap();
    assert!(!new.resumed && new.is_pinned() && new.stream() != old_stream);
    assert_eq!(new.take_notes().len(), 1);
    let mut seen = Vec::new();
    new.poll(Duration::ZERO, &mut |observed| seen.push(observed)).unwrap();
    let lost = |what: &str| {
        seen.iter().find_map(|observed| match observed.what {
            Observation::Lost(loss) if loss.what == what => Some(loss.count),
            _ => None,
        })
    };
    assert!(lost("process_start").flatten().is_some_and(|count| count > 0));
    assert_eq!(lost("observations"), Some(None), "nobody knows what was in the ring");
    Box::new(new).shut_down().unwrap();
    assert!(!pins.path().exists());
}

/// Older agents did not pin the map by which the reader asks to be woken.
#[test]
fn what_an_older_agent_pinned_goes_on() {
    let Some(_) = ebpf(LinuxSensorOptions::default()) else { return };
    let pins = PinDir::new("older");
    let old = open_ebpf(pins.options()).unwrap();
    let stream = old.stream();
    drop(old);
    fs::remove_file(pins.path().join("woken")).unwrap();
    let mut new = open_ebpf(pins.options()).unwrap();
    assert!(new.resumed && new.stream() == stream);
    assert_eq!(new.check(), [] as [&str; 0]);
    let mut seen = Vec::new();
    let mut process = MarkedProcess::start("older", &[]);
    read_until(&mut new, &mut seen, "exec", |seen| images(seen).any(|image| process.is(image)));
    process.finish();
    Box::new(new).shut_down().unwrap();
}

#[test]
fn losses_are_told_once_over_restarts() {
    let Some(_) = ebpf(LinuxSensorOptions::default()) else { return };
    let pins = PinDir::new("ledger");
    let options = || LinuxSensorOptions { ring_bytes: 4 << 10, ..pins.options() };
    let mut sensor = open_ebpf(options()).unwrap();
    let mut told = 0;
    let mut stored_to = None;
    // Agent 0 commits its report; 1 has stored it, but dies before it can commit; 2
    // dies before it has stored anything; 3 gets the rest.
    for agent in 0..4 {
        let before = sensor.kernel_counts().unwrap()[1].lost;
        let deadline = Instant::now() + Duration::from_secs(20);
        while sensor.kernel_counts().unwrap()[1].lost < before + 10 {
            assert!(Instant::now() < deadline, "one page is soon full");
            Command::new("/bin/true").status().unwrap();
        }
        let mut seen = Vec::new();
        let is_told = |seen: &[Observed]| starts_lost(seen) > 0;
        read_until(&mut sensor, &mut seen, "report", is_told);
        let last = seen.iter().rev().find_map(|observed| observed.position).unwrap();
        if agent != 2 {
            told += starts_lost(&seen);
            stored_to = Some(last);
        }
        if agent == 0 || agent == 3 {
            sensor.commit(last);
        }
        if agent != 3 {
            drop(sensor);
            sensor = open_ebpf(LinuxSensorOptions { resume_after: stored_to, ..options() }).unwrap();
            assert!(sensor.resumed);
        }
    }
    // Whatever was lost since the last report comes with the next record.
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut unique_mark = Vec::new();
    while told != sensor.kernel_counts().unwrap()[1].lost {
        assert!(Instant::now() < deadline, "told {told} of {:?}", sensor.kernel_counts());
        Command::new("/bin/true").arg(unique("more")).status().unwrap();
        unique_mark.clear();
        sensor.poll(Duration::from_millis(5), &mut |observed| unique_mark.push(observed)).unwrap();
        told += starts_lost(&unique_mark);
        if let Some(position) = unique_mark.iter().rev().find_map(|observed| observed.position) {
            sensor.commit(position);
        }
    }
    Box::new(sensor).shut_down().unwrap();
}

/// What the kernel side takes for the agent is not told of.
#[test]
fn whoever_puts_himself_in_the_agents_place_is_told_of_and_put_out_of_it() {
    let Some(_) = ebpf(LinuxSensorOptions::default()) else { return };
    let pins = PinDir::new("control");
    let mut sensor = open_ebpf(pins.options()).unwrap();
    assert_eq!(sensor.check(), [] as [String; 0]);
    let map = MapHandle::from_pinned_path(pins.path().join("control")).unwrap();
    let entry = || map.lookup(&[0; 4], MapFlags::ANY).unwrap().unwrap();
    let own = entry();
    // As `struct control` of `bpf/record.h`.
    let own_pid_at = 48;
    assert_eq!(own[own_pid_at..own_pid_at + 4], std::process::id().to_ne_bytes());
    let mut others = own.clone();
    others[own_pid_at..own_pid_at + 4].copy_from_slice(&4_000_000_u32.to_ne_bytes());
    map.update(&[0; 4], &others, MapFlags::ANY).unwrap();
    let told = sensor.check();
    assert!(told.len() == 1 && told[0].contains("process 4000000"), "{told:?}");
    assert_eq!(entry(), own);
    assert_eq!(sensor.check(), [] as [String; 0]);
    // What the sensor itself writes in between hides nothing.
    map.update(&[0; 4], &others, MapFlags::ANY).unwrap();
    sensor.shed(&[event_model::EventClass::Bulk]);
    let told = sensor.check();
    assert!(told.len() == 1 && told[0].contains("process 4000000"), "{told:?}");
    assert_eq!(sensor.check(), [] as [String; 0]);
    Box::new(sensor).shut_down().unwrap();
}

#[test]
fn a_link_that_somebody_removes_is_missed_and_loaded_anew() {
    let Some(_) = ebpf(LinuxSensorOptions::default()) else { return };
    let pins = PinDir::new("removed");
    let mut sensor = open_ebpf(pins.options()).unwrap();
    assert_eq!(sensor.check(), [] as [String; 0]);
    let names = ["exit_accept4", "exit_connect"];
    let [first, second] = names.map(|name| pins.path().join(name));
    fs::remove_file(&first).unwrap();
    let missing = sensor.check();
    assert_eq!(missing, [format!("{} was removed", first.display())]);
    // One that goes on without a change resumes; this one must not.
    let stream = sensor.stream();
    drop(sensor);
    fs::remove_file(&second).unwrap();
    let mut sensor = open_ebpf(pins.options()).unwrap();
    assert!(!sensor.resumed && sensor.stream() != stream);
    assert!(first.exists() && second.exists());
    let missing = sensor.check();
    assert_eq!(missing.len(), 2, "{missing:?}");
    assert!(missing.iter().any(|what| what.contains("exit_connect")), "{missing:?}");
    assert_eq!(sensor.check(), [] as [String; 0], "whole again");
    let notes = sensor.take_notes();
    assert!(notes.iter().any(|note| note.contains("exit_accept4")), "{notes:?}");
    let mut seen = Vec::new();
    sensor.poll(Duration::ZERO, &mut |observed| seen.push(observed)).unwrap();
    let gap =
        |observed: &Observed| matches!(observed.what, Observation::Lost(loss) if loss.what == "observations");
    assert!(seen.iter().any(gap));
    drop(sensor);
    let sensor = open_ebpf(pins.options()).unwrap();
    assert!(sensor.resumed);
    Box::new(sensor).shut_down().unwrap();
}

fn starts_lost(seen: &[Observed]) -> u64 {
    let lost = |observed: &Observed| match observed.what {
        Observation::Lost(loss) if loss.what == "process_start" => loss.count.unwrap(),
        _ => 0,
    };
    seen.iter().map(lost).sum()
}

/// Rights, namespaces and environment as the kernel side and /proc have them; `None`
/// where the command can't run here.
fn standing(sensor: &mut dyn Sensor, command: &mut Command, executable: &str) -> Option<ObservedImage> {
    let mut child = match command.stdin(Stdio::piped()).spawn() {
        Ok(child) => child,
        Err(error) => {
            println!("skipped: {error}");
            return None;
        }
    };
    let (by_kernel, by_proc) = both_views(sensor, &child, executable);
    assert_eq!(by_kernel, by_proc);
    drop(child.stdin.take());
    child.wait().unwrap();
    Some(by_kernel)
}

#[test]
fn variables_that_change_what_is_run_are_told_and_no_others() {
    let Some(mut sensor) = ebpf(LinuxSensorOptions::default()) else { return };
    let here = tempfile::tempdir().unwrap();
    let shell = here.path().canonicalize().unwrap().join("sh");
    copy("/bin/sh", &shell);
    let path = shell.to_str().unwrap();
    let mut command = Command::new(&shell);
    command.args(["-c", "read line"]);
    let plain = standing(&mut sensor, &mut command, path).unwrap();
    let inherited = plain.environment;
    for padding in [0, 5_000, 40_000] {
        let mut command = Command::new(&shell);
        command.args(["-c", "read line"]).env_clear();
        if padding > 0 {
            command.env("A_PADDING", "p".repeat(padding));
        }
        command.env("ENV", "/dev/null").env("LD_LIBRARY_PATH", "/nowhere").env("SECRET", "LD_PRELOAD=x");
        command.env("PYTHONPATHS", "no").env("PYTHONPATH", "/p");
        let image = standing(&mut sensor, &mut command, path).unwrap();
        assert_eq!(
            image.environment,
            ["ENV=/dev/null", "LD_LIBRARY_PATH=/nowhere", "PYTHONPATH=/p"],
            "behind {padding} bytes"
        );
    }
    assert!(!inherited.iter().any(|variable| variable.starts_with("PATH=")), "{inherited:?}");
}

#[test]
fn capabilities_and_namespaces_are_told() {
    let Some(mut sensor) = ebpf(LinuxSensorOptions::default()) else { return };
    // This test may itself run in namespaces of its own; the thread of the kernel is in the host's.
    let link = |pid: &str, kind: &str| fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap();
    let mut own = vec!["mnt", "pid", "net", "uts", "ipc", "user", "cgroup"];
    own.retain(|kind| link("self", kind) != link("2", kind));
    let here = tempfile::tempdir().unwrap();
    fs::set_permissions(here.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let shell = here.path().canonicalize().unwrap().join("sh");
    copy("/bin/sh", &shell);
    let path = shell.to_str().unwrap();
    let wait = ["-c", "read line"];
    let mut unprivileged = Command::new("setpriv");
    unprivileged.args(["--reuid=65534", "--clear-groups", path]).args(wait);
    if let Some(image) = standing(&mut sensor, &mut unprivileged, path) {
        assert_eq!((image.euid, &*image.capabilities), (65_534, [].as_slice()));
    }
    let mut root = Command::new(path);
    if let Some(image) = standing(&mut sensor, root.args(wait), path) {
        assert!(!image.capabilities.is_empty(), "{image:?}");
        assert_eq!(namespace_kinds(&image), own, "{image:?}");
    }
    let mut elsewhere = Command::new("unshare");
    elsewhere.args(["--uts", "--ipc", "--net", path]).args(wait);
    if let Some(image) = standing(&mut sensor, &mut elsewhere, path) {
        let mut kinds = namespace_kinds(&image);
        kinds.retain(|kind| ["net", "uts", "ipc"].contains(kind) || !own.contains(kind));
        assert_eq!(kinds, ["net", "uts", "ipc"], "{image:?}");
    }
}

fn namespace_kinds(image: &ObservedImage) -> Vec<&str> {
    image.namespaces.iter().filter_map(|one| Some(one.split_once(':')?.0)).collect()
}

#[test]
fn a_program_in_memory_is_known_as_one() {
    let Some(mut sensor) = ebpf(LinuxSensorOptions::default()) else { return };
    let memory = rustix::fs::memfd_create("payload", rustix::fs::MemfdFlags::empty()).unwrap();
    let mut file = fs::File::from(memory);
    std::io::copy(&mut fs::File::open("/bin/sh").unwrap(), &mut file).unwrap();
    let path = format!("/proc/{}/fd/{}", std::process::id(), std::os::fd::AsRawFd::as_raw_fd(&file));
    let mut command = Command::new(path);
    let image = standing(&mut sensor, command.args(["-c", "read line"]), "/memfd:payload").unwrap();
    assert!(image.memfd && image.image_deleted, "{image:?}");
}
