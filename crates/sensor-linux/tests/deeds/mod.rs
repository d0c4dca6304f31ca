//! Acts on files that a process of its own performs, as the sensor does not tell
//! what its own process does.

use std::ffi::{CString, OsStr};
use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::fd::{AsRawFd as _, RawFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{
    DirBuilderExt as _, FileExt as _, FileTypeExt as _, OpenOptionsExt as _, PermissionsExt as _, symlink,
};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant, UNIX_EPOCH};

use event_model::{Field, Value};
use sensor_api::{Observation, Observed, ObservedActivity, Sensor};

const DEED: &str = "RAMPART_TEST_DEED";
const PLACE: &str = "RAMPART_TEST_PLACE";
/// Made last, so that all before it has been told when it is.
const CURTAIN: &str = "curtain";

/// A deed and the folder in which it happens.
pub(crate) struct Scene {
    deed: String,
    dir: tempfile::TempDir,
    place: PathBuf,
}

impl Scene {
    pub(crate) fn new(deed: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().canonicalize().unwrap();
        prepare(deed, &place);
        Self { deed: deed.to_owned(), dir, place }
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.place
    }

    /// The path of a name in the folder, as events have it.
    pub(crate) fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.place.display())
    }

    /// Has the deed done; what the sensor tells of the folder.
    pub(crate) fn perform(&self, sensor: &mut dyn Sensor) -> Vec<ObservedActivity> {
        self.perform_at(sensor, &[self.path("")])
    }

    /// The same for all paths that begin with one of these.
    pub(crate) fn perform_at(&self, sensor: &mut dyn Sensor, at: &[String]) -> Vec<ObservedActivity> {
        assert!(self.dir.path().exists());
        let mut seen = Vec::new();
        // Pass over what was there before.
        let begin = Instant::now() + Duration::from_millis(20);
        while Instant::now() < begin {
            read(sensor, at, &mut seen);
        }
        seen.clear();
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "deed", "--nocapture"])
            .env(DEED, &self.deed)
            .env(PLACE, &self.place)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let deadline = Instant::now() + Duration::from_secs(20);
        let curtain = self.path(CURTAIN);
        let is_curtain = |one: &ObservedActivity| path_of(one).is_some_and(|path| path == curtain);
        while !seen.iter().any(is_curtain) {
            assert!(
                Instant::now() < deadline,
                "the last act was not told; {:#?}; told: {seen:#?}",
                sensor.provisions()
            );
            read(sensor, at, &mut seen);
        }
        seen.retain(|one| !is_curtain(one));
        seen
    }
}

fn path_of(one: &ObservedActivity) -> Option<&str> {
    let is_path = |field: Field| matches!(field, Field::FilePath | Field::PipeName);
    one.fields.iter().find_map(|(field, value)| match value {
        Value::Text(text) if is_path(*field) => Some(text.as_str()),
        _ => None,
    })
}

fn read(sensor: &mut dyn Sensor, at: &[String], seen: &mut Vec<ObservedActivity>) {
    let mut last = None;
    let mut sink = |observed: Observed| {
        last = observed.position.or(last);
        if let Observation::Activity(one) = observed.what {
            // A path that was cut has lost its beginning.
            let is_here =
                |path: &str| at.iter().any(|start| path.starts_with(start)) || path.starts_with("...");
            if path_of(&one).is_some_and(is_here) {
                seen.push(*one);
            }
        }
    };
    sensor.poll(Duration::from_millis(5), &mut sink).unwrap();
    // Others write files all the time: room must be made for ours.
    if let Some(position) = last {
        sensor.commit(position);
    }
}

pub(crate) fn perform_if_asked() {
    let (Some(deed), Some(place)) = (std::env::var_os(DEED), std::env::var_os(PLACE)) else { return };
    std::env::set_current_dir(&place).unwrap();
    match deed.to_str().unwrap() {
        "a_life" => a_life(),
        "writing" => writing(),
        "closed_in_vain" => closed_in_vain(),
        "at_once" => at_once(),
        "odd_names" => odd_names(),
        "places" => places(Path::new(&place)),
        "refused" => refused(),
        "attributes" => attributes(),
        "links" => links(),
        "histories" => histories(),
        "raw" => raw(),
        "leave_by_exit" => leave_by_exit(),
        other => panic!("there is no deed {other}"),
    }
    File::create(Path::new(&place).join(CURTAIN)).unwrap();
}

/// What must be there before the sensor looks.
fn prepare(deed: &str, place: &Path) {
    let file = |name: &str, content: &str| fs::write(place.join(name), content).unwrap();
    let dir = |name: &str| fs::create_dir(place.join(name)).unwrap();
    match deed {
        "a_life" => dir("sub"),
        "writing" => {
            for name in [
                "appended",
                "only_opened",
                "only_read",
                "same_size",
                "emptied",
                "by_dup2",
                "by_close_range",
                "by_exit",
                "by_exec",
                "by_memory",
                "by_child",
            ] {
                old_file(&place.join(name));
            }
        }
        "closed_in_vain" => {
            for name in
                ["by_dup2", "by_dup3", "by_close_range", "by_child", "by_thread", "by_leaving", "early"]
            {
                old_file(&place.join(name));
            }
        }
        "at_once" => {
            for round in 0..ROUNDS {
                old_file(&place.join(format!("{round}")));
            }
        }
        "places" => {
            for name in ["sub", "other", "jail", "gone_dir"] {
                dir(name);
            }
            for name in ["by_cwd", "sub/by_dir", "sub/by_dots", "gone", "a", "sub/c", "sub/e", "g"] {
                file(name, "");
            }
        }
        "refused" => {
            dir("closed");
            file("closed/file", "");
            fs::set_permissions(place, fs::Permissions::from_mode(0o777)).unwrap();
            fs::set_permissions(place.join("closed"), fs::Permissions::from_mode(0o755)).unwrap();
        }
        "attributes" => {
            for name in [
                "mode_path",
                "mode_fd",
                "owner_path",
                "owner_fd",
                "times_path",
                "times_fd",
                "cut_fd",
                "cut_path",
                "named",
            ] {
                file(name, "fiver");
                fs::set_permissions(place.join(name), fs::Permissions::from_mode(0o644)).unwrap();
            }
            let old = File::options().write(true).open(place.join("times_fd")).unwrap();
            old.set_modified(UNIX_EPOCH + Duration::from_secs(1_500_000)).unwrap();
        }
        "links" => file("file", ""),
        "histories" => file(".bash_history", "secret\n"),
        _ => {}
    }
}

/// A file of four bytes, so old that the kernel's tick can't hide a change.
fn old_file(path: &Path) {
    fs::write(path, "four").unwrap();
    let file = File::options().write(true).open(path).unwrap();
    file.set_modified(UNIX_EPOCH + Duration::from_secs(1_000)).unwrap();
}

fn a_life() {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o640).open("one.txt").unwrap();
    file.write_all(b"some ").unwrap();
    file.write_all(b"bytes").unwrap();
    drop(file);
    fs::rename("one.txt", "sub/two.txt").unwrap();
    fs::remove_file("sub/two.txt").unwrap();
}

fn for_writing(name: &str) -> File {
    OpenOptions::new().write(true).open(name).unwrap()
}

fn writing() {
    let mut appended = OpenOptions::new().append(true).open("appended").unwrap();
    for _ in 0..100 {
        appended.write_all(b"0123456789").unwrap();
    }
    drop(appended);
    drop(for_writing("only_opened"));
    drop(OpenOptions::new().read(true).write(true).open("only_opened").unwrap());
    let mut text = String::new();
    File::open("only_read").unwrap().read_to_string(&mut text).unwrap();
    let same = OpenOptions::new().read(true).write(true).open("same_size").unwrap();
    same.write_all_at(b"FOUR", 0).unwrap();
    drop(same);
    drop(OpenOptions::new().write(true).truncate(true).open("emptied").unwrap());

    let mut file = for_writing("by_dup2");
    file.write_all(b"x").unwrap();
    let null = File::open("/dev/null").unwrap();
    // SAFETY: both are descriptors of this process; the file's stays one until it is dropped.
    assert_ne!(unsafe { libc::dup2(null.as_raw_fd(), file.as_raw_fd()) }, -1);
    drop(file);

    let mut file = for_writing("by_close_range");
    file.write_all(b"x").unwrap();
    let fd = u32::try_from(std::os::fd::IntoRawFd::into_raw_fd(file)).unwrap();
    // SAFETY: the descriptor was given up above.
    assert_eq!(unsafe { libc::syscall(libc::SYS_close_range, fd, fd, 0) }, 0);

    let file = OpenOptions::new().read(true).write(true).open("by_memory").unwrap();
    write_through_memory(file.as_raw_fd());
    drop(file);

    run_deed("leave_by_exit");
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", "exec 5<>by_exec; printf x >&5; exec /bin/true"]);
    // The shell leaves descriptor 5 open over exec, so /bin/true's end closes it; the
    // parent below has one that exec closes.
    assert!(shell.status().unwrap().success());

    // Held by this process and a child: the last of the two tells.
    let mut file = for_writing("by_child");
    file.write_all(b"x").unwrap();
    let mut child = Command::new("/bin/sleep").arg("0.05").stdout(Stdio::from(file)).spawn().unwrap();
    assert!(child.wait().unwrap().success());
    File::create("touched").unwrap();
}

fn write_through_memory(fd: RawFd) {
    // SAFETY: a new mapping, of a file that has four bytes.
    let place = unsafe {
        libc::mmap(std::ptr::null_mut(), 4, libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED, fd, 0)
    };
    assert_ne!(place, libc::MAP_FAILED);
    // SAFETY: the mapping is that long and writable. It stays until the process ends.
    unsafe { place.cast::<u8>().write_volatile(b'F') };
}

/// Another process of this program that does so.
fn run_deed(deed: &str) {
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "deed", "--nocapture"])
        .env(DEED, deed)
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
}

fn leave_by_exit() {
    let mut file = for_writing("by_exit");
    file.write_all(b"x").unwrap();
    std::mem::forget(file);
    // SAFETY: the process ends here and now, with the file open; nothing else is to be done.
    unsafe { libc::_exit(0) }
}

fn for_both(name: &str) -> File {
    OpenOptions::new().read(true).write(true).open(name).unwrap()
}

/// Calls that look like the end of a file and are not; each file is written after that.
fn closed_in_vain() {
    let null = File::open("/dev/null").unwrap();
    // SAFETY: calls that fail, or that concern descriptors of nobody else; the child only ends.
    unsafe {
        let file = for_both("by_dup2");
        assert_eq!(libc::dup2(-1, file.as_raw_fd()), -1);
        file.write_all_at(b"FOUR", 0).unwrap();
        drop(file);

        let file = for_both("by_dup3");
        assert_eq!(libc::dup3(null.as_raw_fd(), file.as_raw_fd(), libc::O_APPEND), -1);
        file.write_all_at(b"FOUR", 0).unwrap();
        drop(file);

        let file = for_both("by_close_range");
        let fd = file.as_raw_fd().cast_unsigned();
        assert_eq!(libc::syscall(libc::SYS_close_range, fd, fd, 0x80), -1);
        file.write_all_at(b"FOUR", 0).unwrap();
        drop(file);

        // Written before as well as after a call that fails where we can't know it.
        let file = for_both("early");
        file.write_all_at(b"FOUR and", 0).unwrap();
        let (before, none) = (limit_of_descriptors(), libc::rlimit { rlim_cur: 0, rlim_max: 0 });
        let no_more = libc::rlimit { rlim_max: before.rlim_max, ..none };
        assert_eq!(libc::setrlimit(libc::RLIMIT_NOFILE, &raw const no_more), 0);
        assert_eq!(libc::dup2(null.as_raw_fd(), file.as_raw_fd()), -1);
        assert_eq!(libc::setrlimit(libc::RLIMIT_NOFILE, &raw const before), 0);
        file.write_all_at(b" more", 8).unwrap();
        drop(file);

        // A process that has the same table of descriptors.
        let file = for_both("by_child");
        let child = libc::syscall(libc::SYS_clone, libc::CLONE_FILES | libc::SIGCHLD, 0, 0, 0, 0);
        if child == 0 {
            libc::_exit(0);
        }
        let mut status = 1;
        assert_eq!(i64::from(libc::waitpid(child as i32, &raw mut status, 0)), child);
        file.write_all_at(b"FOUR", 0).unwrap();
        drop(file);

        // A thread that leaves the table and closes in its own.
        let file = for_both("by_leaving");
        let fd = file.as_raw_fd().cast_unsigned();
        let left = std::thread::spawn(move || libc::syscall(libc::SYS_close_range, fd, fd, 2));
        assert_eq!(left.join().unwrap(), 0);
        file.write_all_at(b"FOUR", 0).unwrap();
        drop(file);
    }
    // The end of a thread with a table of its own is one of its files, too.
    let thread = std::thread::spawn(|| {
        // SAFETY: it concerns this thread alone.
        assert_eq!(unsafe { libc::unshare(libc::CLONE_FILES) }, 0);
        let file = for_both("by_thread");
        file.write_all_at(b"FOUR", 0).unwrap();
        std::mem::forget(file);
    });
    thread.join().unwrap();
}

fn limit_of_descriptors() -> libc::rlimit {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the limit lives through the call.
    assert_eq!(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) }, 0);
    limit
}

/// Files in the deed below that were there before, and as many that it makes.
pub(crate) const ROUNDS: u32 = 40;

/// Two processes that let go the same file at the same moment.
fn at_once() {
    // SAFETY: a new mapping at a place that the kernel chooses; it stays until the process ends.
    let gate = unsafe {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let shared = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
        let place = libc::mmap(std::ptr::null_mut(), 4, access, shared, -1, 0);
        assert_ne!(place, libc::MAP_FAILED);
        AtomicU32::from_ptr(place.cast())
    };
    let pass = |both: u32| {
        gate.fetch_add(1, Ordering::AcqRel);
        while gate.load(Ordering::Acquire) < both {
            std::hint::spin_loop();
        }
    };
    for round in 0..2 * ROUNDS {
        let file = if round < ROUNDS {
            for_both(&round.to_string())
        } else {
            File::create_new(round.to_string()).unwrap()
        };
        file.write_all_at(b"FOUR", 0).unwrap();
        let fd = std::os::fd::IntoRawFd::into_raw_fd(file);
        let both = 2 * (round + 1);
        // SAFETY: the child touches the gate and makes system calls, and ends. The descriptor was given up.
        unsafe {
            let child = libc::fork();
            assert!(child >= 0);
            pass(both);
            libc::close(fd);
            if child == 0 {
                libc::_exit(0);
            }
            let mut status = 1;
            assert_eq!(libc::waitpid(child, &raw mut status, 0), child);
        }
    }
}

fn odd_names() {
    let names: [&[u8]; 6] =
        [b"not\xffutf8\xfe", b"new\nline", b"esc\x1b[31m", "ünïcode".as_bytes(), b" ", b"..."];
    for name in names {
        File::create(OsStr::from_bytes(name)).unwrap();
        fs::remove_file(OsStr::from_bytes(name)).unwrap();
    }
    for name in ["n".repeat(200), "d".to_owned()] {
        let path = long_path(&name);
        File::create(&path).unwrap();
        fs::remove_file(&path).unwrap();
    }
}

/// A path of as many bytes as the kernel takes, through folders of this name.
fn long_path(name: &str) -> PathBuf {
    const LONGEST: usize = 4_095;
    let mut path = std::env::current_dir().unwrap();
    while path.as_os_str().len() + 1 + name.len() + "/x/end".len() <= LONGEST {
        path.push(name);
    }
    path.push("r".repeat(LONGEST - path.as_os_str().len() - "//end".len()));
    fs::create_dir_all(&path).unwrap();
    path.push("end");
    assert_eq!(path.as_os_str().len(), LONGEST);
    path
}

fn c(text: &str) -> CString {
    CString::new(text).unwrap()
}

fn places(place: &Path) {
    fs::remove_file("by_cwd").unwrap();
    let sub = File::open("sub").unwrap();
    let other = File::open("other").unwrap();
    // SAFETY: descriptors and texts live through the calls.
    unsafe {
        assert_eq!(libc::unlinkat(sub.as_raw_fd(), c("by_dir").as_ptr(), 0), 0);
    }
    std::env::set_current_dir("other").unwrap();
    fs::remove_file("./../sub//by_dots").unwrap();
    std::env::set_current_dir("../gone_dir").unwrap();
    fs::remove_dir(place.join("gone_dir")).unwrap();
    // The working directory has no name any more.
    assert!(fs::remove_file("nothing").is_err());
    fs::remove_file(place.join("gone")).unwrap();
    std::env::set_current_dir(place).unwrap();
    fs::rename("a", "b").unwrap();
    // SAFETY: as above.
    unsafe {
        let at = |dir: &File| dir.as_raw_fd();
        assert_eq!(libc::renameat(at(&sub), c("c").as_ptr(), at(&other), c("d").as_ptr()), 0);
        assert_eq!(libc::renameat(at(&sub), c("e").as_ptr(), at(&sub), c("f").as_ptr()), 0);
    }
    fs::rename("g", place.join("h")).unwrap();

    // SAFETY: the child only makes system calls before it ends.
    unsafe {
        let (jail, name) = (c("jail"), c("/in_chroot"));
        let child = libc::fork();
        if child == 0 {
            let jailed = libc::chroot(jail.as_ptr()) == 0 && libc::chdir(c"/".as_ptr()) == 0;
            let fd = libc::open(name.as_ptr(), libc::O_CREAT | libc::O_WRONLY, 0o600);
            let removed = libc::unlink(name.as_ptr()) == 0;
            libc::_exit(i32::from(!(jailed && fd >= 0 && removed)));
        }
        let mut status = 0;
        assert_eq!(libc::waitpid(child, &raw mut status, 0), child);
        assert_eq!(status, 0);
    }
}

fn refused() {
    // SAFETY: the child only makes system calls before it ends.
    unsafe {
        let (file, new, nothing) = (c("closed/file"), c("closed/new"), c("nothing"));
        let child = libc::fork();
        if child == 0 {
            if libc::setresuid(65_534, 65_534, 65_534) != 0 {
                libc::_exit(2);
            }
            let deleted = libc::unlink(file.as_ptr());
            let moved = libc::rename(file.as_ptr(), new.as_ptr());
            let missing = libc::unlink(nothing.as_ptr());
            libc::_exit(i32::from(!(deleted == -1 && moved == -1 && missing == -1)));
        }
        let mut status = 0;
        assert_eq!(libc::waitpid(child, &raw mut status, 0), child);
        assert_eq!(status, 0);
    }
}

fn attributes() {
    fs::set_permissions("mode_path", fs::Permissions::from_mode(0o4755)).unwrap();
    File::open("mode_fd").unwrap().set_permissions(fs::Permissions::from_mode(0o700)).unwrap();
    std::os::unix::fs::chown("owner_path", Some(1234), None).unwrap();
    std::os::unix::fs::fchown(File::open("owner_fd").unwrap(), None, Some(77)).unwrap();
    let times = [libc::timespec { tv_sec: 5, tv_nsec: 0 }, libc::timespec { tv_sec: 1_000_000, tv_nsec: 0 }];
    // SAFETY: the texts and times live through the calls.
    unsafe {
        assert_eq!(libc::utimensat(libc::AT_FDCWD, c("times_path").as_ptr(), times.as_ptr(), 0), 0);
    }
    for_writing("times_fd").set_modified(UNIX_EPOCH + Duration::from_secs(2_000_000)).unwrap();
    for_writing("cut_fd").set_len(2).unwrap();
    // SAFETY: as above.
    unsafe {
        assert_eq!(libc::truncate(c("cut_path").as_ptr(), 1), 0);
        let (path, value) = (c("named"), c"value");
        let set = libc::setxattr(path.as_ptr(), c"user.one".as_ptr(), value.as_ptr().cast(), 5, 0);
        assert_eq!(set, 0);
        let file = File::open("named").unwrap();
        let set = libc::fsetxattr(file.as_raw_fd(), c"user.two".as_ptr(), value.as_ptr().cast(), 5, 0);
        assert_eq!(set, 0);
        assert_eq!(libc::removexattr(path.as_ptr(), c"user.one".as_ptr()), 0);
    }
}

fn links() {
    fs::hard_link("file", "hard").unwrap();
    symlink("../anywhere", "soft").unwrap();
    // SAFETY: the text lives through the call.
    unsafe {
        assert_eq!(libc::mkfifo(c("pipe").as_ptr(), 0o600), 0);
    }
    fs::DirBuilder::new().mode(0o700).create("dir").unwrap();
    fs::remove_dir("dir").unwrap();
}

fn histories() {
    drop(OpenOptions::new().write(true).truncate(true).open(".bash_history").unwrap());
    for_writing(".bash_history").set_len(0).unwrap();
    fs::remove_file(".bash_history").unwrap();
}

/// Opens all devices that lead past the file system, and writes down which it could.
fn raw() {
    let mut opened = String::new();
    let is_block = |path: &Path| fs::metadata(path).is_ok_and(|file| file.file_type().is_block_device());
    let devices = fs::read_dir("/dev").unwrap().map(|entry| entry.unwrap().path());
    let mut paths: Vec<PathBuf> = devices.filter(|path| is_block(path)).collect();
    paths.extend(["/proc/kcore", "/dev/mem"].map(PathBuf::from));
    for path in paths {
        if File::open(&path).is_ok() {
            opened.push_str(&format!("{}\n", path.canonicalize().unwrap().display()));
        }
    }
    File::open("/dev/null").unwrap();
    fs::write("opened", opened).unwrap();
}
