//! Files into the vault and back, and the races against it.

use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use response::{Action, EvidenceRequest, FileTarget, Item, OrderState, ServiceTarget};

use crate::bench::{bench, command, rounds};
use crate::made_up::{HOST, behind};

pub(crate) fn file(path: &Path) -> FileTarget {
    FileTarget { path: path.display().to_string(), sha256: None, file: None }
}

#[test]
fn a_file_goes_into_the_vault_and_comes_back_as_it_was() {
    let mut bench = bench();
    let path = bench.path("evil");
    let content = b"rampart test file, harmless".repeat(100_000);
    fs::write(&path, &content).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o4751)).unwrap();
    std::os::unix::fs::chown(&path, Some(1234), Some(4321)).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o4751)).unwrap();
    rustix::fs::setxattr(&path, "user.rampart", b"kept", rustix::fs::XattrFlags::empty()).unwrap();
    let long_ago = std::time::SystemTime::UNIX_EPOCH + Duration::new(1_000_000_000, 123_456_789);
    fs::File::open(&path).unwrap().set_modified(long_ago).unwrap();

    let receipt = bench.run(Action::QuarantineFile(file(&path)));
    assert_eq!(receipt.state, OrderState::Verified, "{}", receipt.reason);
    assert!(!path.exists());
    // Nothing of it can be read in the responder's folder.
    for sealed in fs::read_dir(bench.path("responses/vault")).unwrap().flatten() {
        let bytes = fs::read(sealed.path()).unwrap();
        assert!(!bytes.windows(12).any(|window| window == b"rampart test"), "{}", sealed.path().display());
        assert_eq!(sealed.metadata().unwrap().mode() & 0o077, 0);
    }
    assert_eq!(fs::read_dir(bench.dir.path()).unwrap().count(), 1, "nothing is left beside it");

    let undo = receipt.undo.unwrap();
    // In its place is another file: it is not written over.
    fs::write(&path, "mine").unwrap();
    let refused = bench.run(undo.clone());
    assert_eq!(refused.state, OrderState::Refused, "{}", refused.reason);
    assert!(refused.reason.contains("another file by now"), "{}", refused.reason);
    assert_eq!(fs::read(&path).unwrap(), b"mine");
    fs::remove_file(&path).unwrap();

    let restored = bench.run(undo.clone());
    assert_eq!(restored.state, OrderState::Verified, "{}", restored.reason);
    assert_eq!(fs::read(&path).unwrap(), content);
    let back = fs::metadata(&path).unwrap();
    assert_eq!((back.mode() & 0o7777, back.uid(), back.gid()), (0o4751, 1234, 4321));
    assert_eq!(back.modified().unwrap(), long_ago);
    let mut value = [0; 16];
    let length = rustix::fs::getxattr(&path, "user.rampart", &mut value).unwrap();
    assert_eq!(&value[..length], b"kept");
    let again = bench.run(undo);
    assert_eq!(again.state, OrderState::Refused);
    assert!(again.reason.contains("restored before"), "{}", again.reason);
}

#[test]
fn what_is_no_plain_file_is_refused_and_left_alone() {
    let mut bench = bench();
    let at = |name: &str| bench.path(name);
    let (real, link, hard, fifo, dir) = (at("real"), at("link"), at("hard"), at("fifo"), at("dir"));
    fs::write(&real, "x").unwrap();
    symlink(&real, &link).unwrap();
    fs::create_dir(&dir).unwrap();
    symlink(&dir, at("dirlink")).unwrap();
    fs::write(dir.join("inner"), "x").unwrap();
    fs::write(at("one"), "x").unwrap();
    fs::hard_link(at("one"), &hard).unwrap();
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let (inner, missing) = (at("dirlink/inner"), at("missing"));
    let changed = FileTarget { sha256: Some("0".repeat(64)), ..file(&real) };
    let swapped = FileTarget { file: Some((1, 1)), ..file(&real) };
    for (target, because) in [
        (file(&link), "is a symbolic link"),
        (file(&dir), "is a folder"),
        (file(&hard), "hard links"),
        (file(&fifo), "is a FIFO"),
        (file(&inner), "a part of its path is a symbolic link"),
        (file(&missing), "not there"),
        (file(Path::new("/dev/null")), "is a device"),
        (changed, "its content is another by now"),
        (swapped, "another file has that name now"),
    ] {
        let receipt = bench.run(Action::QuarantineFile(target.clone()));
        assert_eq!(receipt.state, OrderState::Refused, "{target:?}: {}", receipt.reason);
        assert!(receipt.reason.contains(because), "{} does not say `{because}`", receipt.reason);
    }
    assert!(real.exists() && link.exists() && dir.join("inner").exists() && hard.exists());
    let nothing = bench.run(Action::RestoreFile(Item { item: uuid::Uuid::new_v4() }));
    assert!(nothing.reason.contains("no such item"), "{}", nothing.reason);
}

#[test]
fn what_is_immutable_is_refused() {
    let mut bench = bench();
    // The file system of temporary files often can't have such files: where the build lies it mostly can.
    let own = std::env::current_exe().unwrap();
    let folders = [std::env::temp_dir(), own.parent().unwrap().to_owned(), PathBuf::from("/var/tmp")];
    let made = folders.into_iter().find_map(|folder| {
        let dir = tempfile::tempdir_in(folder).ok()?;
        let path = dir.path().canonicalize().ok()?.join("fixed");
        fs::write(&path, "x").ok()?;
        let set = Command::new("chattr").arg("+i").arg(&path).output().is_ok_and(|set| set.status.success());
        set.then_some((dir, path))
    });
    let Some((_dir, path)) = made else {
        // No package brings a file system that can.
        return println!("skipped: chattr can make no file immutable here");
    };
    let receipt = bench.run(Action::QuarantineFile(file(&path)));
    assert!(Command::new("chattr").arg("-i").arg(&path).status().unwrap().success());
    assert_eq!(receipt.state, OrderState::Refused, "{}", receipt.reason);
    assert!(receipt.reason.contains("chattr"), "{}", receipt.reason);
}

/// What a name means on a file system of another machine or program, that one decides, and may never say.
#[test]
fn files_of_another_machine_or_program_are_left_alone() {
    if !Path::new("/dev/fuse").exists() {
        // Some kernels have none, whatever is installed.
        return println!("skipped: there is no /dev/fuse");
    }
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().canonicalize().unwrap();
    fs::create_dir(root.join("remote")).unwrap();
    fs::write(root.join("fuse.py"), include_str!("fuse.py")).unwrap();
    let prepare = "python3 \"$RAMPART_TEST_HOST/fuse.py\" \"$RAMPART_TEST_HOST/remote\" </dev/null >/dev/null 2>&1 & \
                   for try in $(seq 400); do \
                   if grep -q \"$RAMPART_TEST_HOST/remote fuse \" /proc/self/mounts; then break; fi; sleep 0.05; \
                   done; grep -q \"$RAMPART_TEST_HOST/remote fuse \" /proc/self/mounts";
    let said = behind(prepare, &root, "files::within_a_host_with_a_remote_file_system");
    assert!(said.contains("all as it should be"), "{said}");
}

/// Not a test by itself: the one above runs it.
#[test]
fn within_a_host_with_a_remote_file_system() {
    let Some(host) = std::env::var_os(HOST) else { return };
    let mut bench = bench();
    let path = Path::new(&host).join("remote/file");
    let receipt = bench.run(Action::QuarantineFile(file(&path)));
    assert_eq!(receipt.state, OrderState::Refused, "{}", receipt.reason);
    assert!(receipt.reason.contains("another machine or program (FUSE)"), "{}", receipt.reason);
    let request = EvidenceRequest { files: vec![path.display().to_string()], ..EvidenceRequest::default() };
    let receipt = bench.run(Action::CollectEvidence(request));
    assert_eq!(receipt.state, OrderState::Verified, "{}", receipt.reason);
    let left_out = receipt.result["left_out"].to_string();
    assert!(left_out.contains("(FUSE)"), "{left_out}");
    println!("all as it should be");
}

/// Whoever can set the size of the file that is ordered must not keep all other orders waiting: the size is looked at
/// before the content.
#[test]
fn what_is_too_large_is_refused_unread() {
    let mut bench = bench();
    let path = bench.path("huge");
    // A hole: it takes no disk, but would be read.
    fs::File::create(&path).unwrap().set_len(2 << 30).unwrap();
    let wanted = FileTarget { sha256: Some("0".repeat(64)), ..file(&path) };
    let receipt = bench.run(Action::QuarantineFile(wanted));
    assert_eq!(receipt.state, OrderState::Refused, "{}", receipt.reason);
    assert!(receipt.reason.contains("more than the 1073741824"), "{}", receipt.reason);
}

/// While files are taken away, somebody swaps a folder of the path for a link to another folder
/// and back, and the file itself for another. The other folder's files must never move.
#[test]
fn races_for_the_path_never_move_another_file() {
    let mut bench = bench();
    let work = bench.path("work");
    let innocent = bench.path("innocent");
    fs::create_dir(&work).unwrap();
    fs::create_dir(&innocent).unwrap();
    fs::write(innocent.join("file"), "innocent").unwrap();
    // The test itself goes by a descriptor: it must not write through the link that it races with.
    let held = fs::File::open(&work).unwrap();
    let real = PathBuf::from(format!("/proc/self/fd/{}", held.as_raw_fd()));
    let kept = fs::metadata(innocent.join("file")).unwrap().ino();
    let stop = Arc::new(AtomicBool::new(false));
    let swapper = std::thread::spawn({
        let (work, real) = (work.clone(), real.clone());
        let (innocent, stop) = (innocent.clone(), Arc::clone(&stop));
        move || {
            let aside = work.with_extension("aside");
            let mut swaps = 0_u64;
            while !stop.load(Ordering::Relaxed) {
                if fs::rename(&work, &aside).is_ok() {
                    let _ = symlink(&innocent, &work);
                    std::thread::yield_now();
                    let _ = fs::remove_file(&work);
                    let _ = fs::rename(&aside, &work);
                }
                // The name itself, too: another file takes it by a rename.
                if swaps.is_multiple_of(8) {
                    fs::write(real.join("decoy"), "decoy").unwrap();
                    fs::rename(real.join("decoy"), real.join("file")).unwrap();
                }
                swaps += 1;
                // Not at the same step of each order.
                std::thread::sleep(Duration::from_micros(swaps % 41 * 100));
            }
            swaps
        }
    });
    let (mut moved, mut refused) = (0, 0);
    for _ in 0..rounds(300, 10_000) {
        let target = work.join("file");
        fs::write(real.join("fresh"), "malware").unwrap();
        fs::rename(real.join("fresh"), real.join("file")).unwrap();
        // The decoy and the innocent file are not meant.
        let wanted = FileTarget { sha256: Some(sha256_of_malware()), ..file(&target) };
        let receipt = bench.responder.run(command(Action::QuarantineFile(wanted)));
        match receipt.state {
            OrderState::Verified => {
                moved += 1;
                assert_eq!(receipt.result["sha256"], sha256_of_malware());
            }
            _ => refused += 1,
        }
        let inode = fs::metadata(innocent.join("file")).unwrap().ino();
        assert_eq!(inode, kept, "the innocent file was moved");
    }
    stop.store(true, Ordering::Relaxed);
    let swaps = swapper.join().unwrap();
    assert_eq!(fs::read_to_string(innocent.join("file")).unwrap(), "innocent");
    println!("{moved} moved, {refused} refused, {swaps} swaps, 0 wrong");
    // Left alone, the same order is carried out: what was refused was refused because of the race.
    fs::write(work.join("file"), "malware").unwrap();
    let wanted = FileTarget { sha256: Some(sha256_of_malware()), ..file(&work.join("file")) };
    let receipt = bench.responder.run(command(Action::QuarantineFile(wanted)));
    assert_eq!(receipt.state, OrderState::Verified, "{}", receipt.reason);
}

/// Whoever may write the folder swaps the name under which the file waits for its removal: the file
/// lives on, and no receipt may say that it is gone.
#[test]
fn a_file_that_flees_from_its_removal_is_not_called_gone() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().canonicalize().unwrap();
    let path = root.join("evil");
    fs::write(&path, "malware").unwrap();
    let folder = root.clone();
    let (mut responder, _) = crate::bench::open(
        &root,
        Some(Box::new(move |step: &str| {
            if step == "removed it" {
                let entries = fs::read_dir(&folder).unwrap().flatten();
                let mut names = entries.map(|entry| entry.path());
                let aside =
                    |path: &PathBuf| path.file_name().unwrap().to_string_lossy().starts_with(".rampart-");
                let waiting = names.find(aside).unwrap();
                fs::rename(&waiting, folder.join("fled")).unwrap();
                fs::write(&waiting, "decoy").unwrap();
            }
            Ok(())
        })),
    );
    let receipt = responder.run(command(Action::QuarantineFile(file(&path))));
    assert_eq!(fs::read_to_string(root.join("fled")).unwrap(), "malware");
    assert_eq!(receipt.state, OrderState::Failed, "{}", receipt.reason);
    assert!(receipt.reason.contains("another name"), "{}", receipt.reason);
}

fn sha256_of_malware() -> String {
    use std::io::Write as _;
    use std::sync::OnceLock;
    static HASH: OnceLock<String> = OnceLock::new();
    HASH.get_or_init(|| {
        let mut child = Command::new("sha256sum")
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(b"malware").unwrap();
        let output = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
        output.split_whitespace().next().unwrap().to_owned()
    })
    .clone()
}

#[test]
fn a_task_is_taken_from_cron_and_nothing_else_is_a_task() {
    let mut bench = bench();
    let elsewhere = bench.path("task");
    fs::write(&elsewhere, "x").unwrap();
    let receipt = bench.run(Action::DeleteScheduledTask(file(&elsewhere)));
    assert_eq!(receipt.state, OrderState::Refused);
    assert!(receipt.reason.contains("no scheduled task"), "{}", receipt.reason);
    if !Path::new("/etc/cron.d").is_dir() {
        eprintln!("skipped: there is no /etc/cron.d");
        return;
    }
    // A comment only: it does nothing as long as it is there.
    let task = format!("/etc/cron.d/rampart-test-{}", uuid::Uuid::new_v4());
    let task = Path::new(&task);
    fs::write(task, "# a test of rampart\n").unwrap();
    let receipt = bench.run(Action::DeleteScheduledTask(file(task)));
    let gone = !task.exists();
    let restored = receipt.undo.clone().map(|undo| bench.run(undo));
    let back = fs::read_to_string(task);
    let _ = fs::remove_file(task);
    assert_eq!(receipt.state, OrderState::Verified, "{}", receipt.reason);
    assert!(gone);
    assert_eq!(restored.unwrap().state, OrderState::Verified);
    assert_eq!(back.unwrap(), "# a test of rampart\n");
}

#[test]
fn a_service_is_taken_away_with_its_unit_and_put_back() {
    let mut bench = bench();
    let of_package = ServiceTarget { unit: "systemd-journald.service".to_owned() };
    let receipt = bench.run(Action::DeleteService(of_package));
    assert_eq!(receipt.state, OrderState::Refused, "{}", receipt.reason);
    if !Path::new("/etc/systemd/system").is_dir() {
        eprintln!("skipped: there is no /etc/systemd/system");
        return;
    }
    let unit = format!("rampart-test-{}.service", uuid::Uuid::new_v4());
    let path = Path::new("/etc/systemd/system").join(&unit);
    fs::write(&path, "[Service]\nExecStart=/bin/true\n").unwrap();
    let receipt = bench.run(Action::DeleteService(ServiceTarget { unit }));
    let gone = !path.exists();
    let restored = receipt.undo.clone().map(|undo| bench.run(undo));
    let back = path.exists();
    let _ = fs::remove_file(&path);
    assert_eq!(receipt.state, OrderState::Verified, "{}", receipt.reason);
    assert!(gone && back);
    let restored = restored.unwrap();
    assert_eq!(restored.state, OrderState::Verified, "{}", restored.reason);
}
