//! What a thread that waits in execve(2) asked for: which program, with which arguments.
//!
//! The first question of a call is about its program, whatever name it was called by: names are the caller's, and may
//! lead elsewhere a moment later. What the kernel opens besides (a script's interpreter, the loader) is known by the
//! program that was judged before.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File, Metadata};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt as _;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use event_model::ImageFile;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags, StatxFlags};

use super::Question;
use super::call::{Call, List, Memory, TEXTS_MAX};
use super::program::{interpreter_of, loader_of};
use crate::content::place::{self, Reader};
use crate::watch::mounts::RemoteMounts;
use crate::{escape, procfs, standing};

/// Arguments are read as far as the kernel side reads those of a start.
const ARGS_MAX: usize = 16 << 10;
/// Of the environment, far more than any shell has.
const ENVIRONMENT_MAX: usize = 256 << 10;
/// As many interpreters of interpreters as the kernel follows.
const INTERPRETERS_MAX: usize = 5;
/// From the question about a program to the last one about what is opened besides: each may wait for its deadline.
const BESIDES_WITHIN: Duration = Duration::from_secs(2);
/// The kernel asks before who called sleeps, and until then says of it no more than that it runs; so it does each time
/// that others are answered. Well within the deadline.
const ASLEEP_WITHIN: Duration = Duration::from_millis(100);
const LOOK_AGAIN: Duration = Duration::from_millis(1);
/// Calls that are known at once; more are those of a host that starts thousands of programs in a second.
const CALLS_MAX: usize = 4_096;
/// File systems that are known to be asked about.
const DEVICES_MAX: usize = 4_096;

/// What a question is about.
#[derive(Debug)]
pub(super) enum Asked {
    /// The program of a call.
    Program(Box<Question>),
    /// What the kernel opens besides a program that was judged, or that lies where nobody is asked.
    Besides,
    /// Something that runs and can't be judged before; why.
    Unread(&'static str),
    /// Nothing any more: whoever asked is gone.
    Gone,
}

/// Device and inode.
type FileId = (u64, u64);

/// The threads that asked.
#[derive(Debug, Default)]
pub(super) struct Callers {
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    /// What the kernel will open besides the program of each call.
    besides: HashMap<u32, Besides>,
    /// File systems whose programs are asked about.
    devices: HashSet<u64>,
}

#[derive(Debug)]
struct Besides {
    call: Call,
    until: Instant,
    /// The file of the call, for which the kernel opens them.
    program: FileId,
    files: Vec<FileId>,
}

impl Seen {
    /// The program for which this thread's call was to open this file next.
    fn take(&mut self, thread: u32, call: &Call, file: FileId, now: Instant) -> Option<FileId> {
        let known = self.besides.get_mut(&thread).filter(|one| one.call == *call && one.until > now)?;
        let at = known.files.iter().position(|one| *one == file)?;
        known.files.drain(..=at);
        Some(known.program)
    }

    fn keep(&mut self, thread: u32, call: Call, program: FileId, files: Vec<FileId>, now: Instant) {
        if self.besides.len() >= CALLS_MAX {
            self.besides.retain(|_, one| one.until > now);
        }
        if files.is_empty() || self.besides.len() >= CALLS_MAX {
            self.besides.remove(&thread);
        } else {
            let until = now + BESIDES_WITHIN;
            self.besides.insert(thread, Besides { call, until, program, files });
        }
    }
}

/// What a question is about whose file was announced by a program (`follows`), or may come with one.
#[derive(Debug, PartialEq, Eq)]
enum Part {
    Program,
    Besides,
    Unknown,
}

impl Part {
    /// By the file that the call names now, if that can be said.
    fn of(
        asked: FileId,
        named: Option<FileId>,
        follows: Option<FileId>,
        is_watched: impl Fn(u64) -> bool,
    ) -> Self {
        match (named, follows) {
            // Called by its own name.
            (Some(named), _) if named == asked => Self::Program,
            (Some(named), Some(program)) if named == program => Self::Besides,
            // Another call, with another name where that of the first one stood.
            (_, Some(_)) => Self::Program,
            (Some((device, _)), None) if !is_watched(device) => Self::Besides,
            (_, None) => Self::Unknown,
        }
    }
}

impl Callers {
    /// What a thread's execution of `file` asks. May wait for whoever has the caller's memory.
    pub(super) fn ask(&self, thread: u32, file: File) -> Asked {
        let gone_or = |reason| if is_there(thread) { Asked::Unread(reason) } else { Asked::Gone };
        let Ok(asked) = file.metadata() else { return Asked::Unread("file") };
        let Ok(text) = call_of(thread) else { return gone_or("call") };
        // The kernel's own helpers, and calls of yet another numbering.
        let Some(call) = Call::parse(&text) else { return Asked::Unread("call") };
        let Ok(memory) = Memory::of(thread) else { return gone_or("memory") };
        let follows = self.seen().take(thread, &call, id(&asked), Instant::now());
        if follows.is_some() || looks_like_a_loader(&file, &asked) {
            let named = named(thread, &call, &memory);
            let is_watched = |device| self.seen().devices.contains(&device);
            match Part::of(id(&asked), named, follows, is_watched) {
                Part::Program => {}
                Part::Besides => return Asked::Besides,
                Part::Unknown => return Asked::Unread("loader"),
            }
        }
        self.program(thread, file, &asked, call, &memory).unwrap_or_else(gone_or)
    }

    /// The program of this thread's call was refused: nothing comes with it. To be called before the answer is given.
    pub(super) fn refused(&self, thread: u32) {
        self.seen().besides.remove(&thread);
    }

    fn program(
        &self,
        thread: u32,
        file: File,
        asked: &Metadata,
        call: Call,
        memory: &Memory,
    ) -> Result<Asked, &'static str> {
        let name = memory.name(&call).bytes;
        let arguments = memory.arguments(&call, ARGS_MAX);
        // Of the program, not of the process that starts it.
        let variables = memory.environment(&call, ENVIRONMENT_MAX).texts;
        let program = Program::of(thread, file, name, arguments)?;
        {
            let mut seen = self.seen();
            if seen.devices.len() < DEVICES_MAX {
                seen.devices.insert(asked.dev());
            }
            seen.keep(thread, call, id(asked), program.besides, Instant::now());
        }
        let (file, List { texts, bytes, cut }) = (program.file, program.arguments);
        let metadata = file.metadata().map_err(|_| "file")?;
        let path = path_of(&file).ok_or("file")?;
        let now = process_of(thread).and_then(procfs::image).ok_or("process")?;
        let parent = procfs::image(now.parent_pid);
        let image = sensor_api::ObservedImage {
            executable: procfs::executable_text(path, metadata.nlink() == 0),
            args: texts.iter().map(|argument| escape::text(argument)).collect(),
            args_bytes: bytes,
            args_truncated: cut,
            command_line: None,
            environment: standing::interesting_variables(&variables.join(&0)),
            image: Some(procfs::image_file(&metadata)),
            image_deleted: metadata.nlink() == 0,
            kernel_thread: false,
            blocked: None,
            ..now
        };
        Ok(Asked::Program(Box::new(Question { image, parent, file })))
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What will run.
struct Program {
    /// Of a script, its interpreter's.
    file: File,
    arguments: List,
    /// What the kernel will open besides the file that was asked about.
    besides: Vec<FileId>,
}

impl Program {
    /// What will run where this file is executed by this name.
    fn of(thread: u32, file: File, name: Vec<u8>, arguments: List) -> Result<Self, &'static str> {
        let (mut file, mut script, mut arguments) = (file, name, arguments);
        let mut besides = Vec::new();
        for _ in 0..INTERPRETERS_MAX {
            let Some((interpreter, argument)) = interpreter_of(&file) else { break };
            let held = find(thread, None, &interpreter)?;
            let metadata = held.metadata().map_err(|_| "interpreter")?;
            besides.push(id(&metadata));
            file = readable(held)?;
            // As the kernel puts them together: interpreter, its argument, the script, the rest.
            arguments.bytes += (interpreter.len() + argument.as_ref().map_or(0, Vec::len) + 1) as u64;
            let rest = arguments.texts.drain(..).skip(1).collect::<Vec<_>>();
            let first = [Some(interpreter.clone()), argument, Some(script)];
            arguments.texts = first.into_iter().flatten().chain(rest).collect();
            script = interpreter;
        }
        arguments.cut |= arguments.texts.len() > TEXTS_MAX;
        // Where it is not found the call fails, or the kernel asks again.
        let loader = loader_of(&file).and_then(|path| find(thread, None, &path).ok()?.metadata().ok());
        besides.extend(loader.as_ref().map(id));
        Ok(Self { file, arguments, besides })
    }
}

/// Whether a process runs another file than this one; `None` where it is gone. May wait for a file system that does
/// not answer: what is known of the file is asked of nobody, but NFS looks at whatever a link of `/proc` leads to.
pub(super) fn runs_another(pid: u32, file: &ImageFile) -> Option<bool> {
    let flags = AtFlags::STATX_DONT_SYNC;
    let runs = rustix::fs::statx(CWD, format!("/proc/{pid}/exe"), flags, StatxFlags::INO).ok()?;
    let device = rustix::fs::makedev(runs.stx_dev_major, runs.stx_dev_minor);
    Some((device, runs.stx_ino) != (file.device, file.inode))
}

/// What `/proc/TID/syscall` says once the thread sleeps.
#[allow(
    clippy::disallowed_methods,
    reason = "nothing tells when a thread sleeps; the looks end with a deadline"
)]
fn call_of(thread: u32) -> std::io::Result<String> {
    let begun = Instant::now();
    loop {
        let text = fs::read_to_string(format!("/proc/{thread}/syscall"))?;
        if text.trim_end() != "running" || begun.elapsed() >= ASLEEP_WITHIN {
            return Ok(text);
        }
        std::thread::sleep(LOOK_AGAIN);
    }
}

fn id(metadata: &Metadata) -> FileId {
    (metadata.dev(), metadata.ino())
}

fn is_there(thread: u32) -> bool {
    fs::metadata(format!("/proc/{thread}")).is_ok()
}

fn process_of(thread: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{thread}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("Tgid:")?.trim().parse().ok())
}

fn path_of(file: &File) -> Option<std::path::PathBuf> {
    fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).ok()
}

/// A loader of the system: root's, and called as loaders are. Where it is not the program, it may come with one that
/// lies where nobody is asked.
fn looks_like_a_loader(file: &File, metadata: &Metadata) -> bool {
    const NAMES: [&[u8]; 4] = [b"ld-", b"ld.so", b"ld64.so", b"libc.so"];
    let path = if metadata.uid() == 0 && metadata.mode() & 0o022 == 0 { path_of(file) } else { None };
    let name = path.as_ref().and_then(|path| path.file_name()).map(OsStrExt::as_bytes);
    name.is_some_and(|name| NAMES.iter().any(|known| name.starts_with(known)))
}

/// The file that the call names, as the thread that called sees it; `None` where it can't be said.
fn named(thread: u32, call: &Call, memory: &Memory) -> Option<FileId> {
    let text = memory.name(call);
    let name = Some(text.bytes.as_slice()).filter(|_| text.whole)?;
    let own = name.strip_prefix(b"/proc/self/").or_else(|| name.strip_prefix(b"/proc/thread-self/"));
    if let Some(own) = own {
        // Whoever has a root of their own may have anything there.
        if !["self", "1"].into_iter().any(|other| shares_root(thread, other)) {
            return None;
        }
        // Links that lead where no path does.
        let mut parts = own.splitn(2, |byte| *byte == b'/');
        return match (parts.next()?, parts.next()) {
            (b"exe", None) => held(thread, "exe"),
            (b"fd", Some(number)) => {
                let number: u32 = std::str::from_utf8(number).ok()?.parse().ok()?;
                held(thread, &format!("fd/{number}"))
            }
            (b"cwd", Some(rest)) => find_id(thread, None, &[b"./", rest].concat()),
            (b"root", Some(rest)) => find_id(thread, None, &[b"/", rest].concat()),
            _ => None,
        };
    }
    match (name, call.dir) {
        ([], Some(number)) => held(thread, &format!("fd/{number}")),
        _ => find_id(thread, call.dir, name),
    }
}

fn find_id(thread: u32, dir: Option<i32>, name: &[u8]) -> Option<FileId> {
    find(thread, dir, name).ok()?.metadata().ok().as_ref().map(id)
}

/// Whether a thread sees the same files by the same names as another process.
fn shares_root(thread: u32, other: &str) -> bool {
    let mounts = |of: &str| fs::read_link(format!("/proc/{of}/ns/mnt")).ok();
    let root = |of: &str| fs::metadata(format!("/proc/{of}/root")).ok().as_ref().map(id);
    let own = thread.to_string();
    let same = mounts(&own).is_some_and(|own| Some(own) == mounts(other));
    same && root(&own).is_some_and(|own| Some(own) == root(other))
}

/// What a link of `/proc/TID` leads to.
fn held(thread: u32, link: &str) -> Option<FileId> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let held = rustix::fs::open(format!("/proc/{thread}/{link}"), flags, Mode::empty()).ok()?;
    File::from(held).metadata().ok().as_ref().map(id)
}

/// Finds a file by a name as a thread sees it, without opening it, and touches no file system that may not answer.
fn find(thread: u32, dir: Option<i32>, name: &[u8]) -> Result<File, &'static str> {
    let path = from_root(thread, dir, name).ok_or("unreadable")?;
    let root = || place::root(&format!("/proc/{thread}/root")).map_err(|_| "unreadable");
    // All within one mount: so it is nearly always, and nobody else has to answer.
    let within = ResolveFlags::IN_ROOT | ResolveFlags::NO_XDEV;
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    if let Ok(found) = rustix::fs::openat2(root()?.as_fd(), path.as_slice(), flags, Mode::empty(), within) {
        return Ok(File::from(found));
    }
    place::held_below(root()?, &path, &RemoteMounts::of_process(thread), &Reader::ROOT)
}

/// A name as a path from the root that the thread has.
fn from_root(thread: u32, dir: Option<i32>, name: &[u8]) -> Option<Vec<u8>> {
    if name.starts_with(b"/") {
        return Some(name.to_vec());
    }
    let base = match dir {
        None | Some(libc::AT_FDCWD) => "cwd".to_owned(),
        Some(number) => format!("fd/{number}"),
    };
    let link = |link: &str| fs::read_link(format!("/proc/{thread}/{link}")).ok();
    let (path, root) = (link(&base)?, link("root")?);
    let below = [b"/", path.strip_prefix(root).ok()?.as_os_str().as_bytes()].concat();
    // Another directory may be mounted there.
    if find_id(thread, None, &below)? != held(thread, &base)? {
        return None;
    }
    Some([&below, b"/".as_slice(), name].concat())
}

/// Opens what is held for reading, if that is safe: a script names what it wants, and to open a device can act. Where
/// somebody has a lease on it, it stays unread.
fn readable(held: File) -> Result<File, &'static str> {
    match place::open(&held, &Reader::ROOT) {
        Ok(file) => Ok(file),
        Err("unreadable") => Ok(held),
        Err(reason) => Err(reason),
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::CString;
    use std::path::Path;

    use rustix::fs::inotify::{self, CreateFlags, WatchFlags};

    use super::*;

    fn own() -> u32 {
        std::process::id()
    }

    fn of_path(path: impl AsRef<Path>) -> Option<FileId> {
        fs::metadata(path).ok().as_ref().map(id)
    }

    #[test]
    fn what_a_script_names_is_opened_only_where_it_is_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let (fifo, script) = (dir.path().join("fifo"), dir.path().join("script"));
        rustix::fs::mknodat(CWD, &fifo, rustix::fs::FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
        let watch = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).unwrap();
        inotify::add_watch(&watch, &fifo, WatchFlags::OPEN).unwrap();
        let arguments = List { texts: [b"own".to_vec(), b"rest".to_vec()].to_vec(), bytes: 9, cut: false };
        let program = |line: &str| {
            fs::write(&script, format!("#!{line}\n")).unwrap();
            Program::of(own(), File::open(&script).unwrap(), b"name".to_vec(), arguments.clone())
        };
        assert_eq!(program(fifo.to_str().unwrap()).err(), Some("not_regular"));
        assert_eq!(rustix::io::read(&watch, &mut [0; 256]), Err(rustix::io::Errno::AGAIN), "not opened");
        assert_eq!(program("/proc/self/status").err(), Some("kernel_file_system"));
        assert_eq!(program("/is/not/there").err(), Some("unreadable"));

        let by_shell = program("/bin/sh -e").ok().unwrap();
        assert_eq!(by_shell.file.metadata().ok().as_ref().map(id), of_path("/bin/sh"));
        let texts: Vec<_> =
            by_shell.arguments.texts.iter().map(|text| String::from_utf8_lossy(text)).collect();
        assert_eq!(texts, ["/bin/sh", "-e", "name", "rest"]);
        assert_eq!(by_shell.besides.first().copied(), of_path("/bin/sh"), "the kernel opens it next");
    }

    #[test]
    fn names_lead_where_they_lead_the_caller() {
        let memory = Memory::of(own()).unwrap();
        let of = |name: &str| {
            let name = CString::new(name).unwrap();
            named(own(), &Call::with_name(name.as_ptr() as u64), &memory)
        };
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, "").unwrap();
        let file = File::open(&path).unwrap();
        let linked = dir.path().join("link");
        std::os::unix::fs::symlink("file", &linked).unwrap();
        let known = of_path(&path);
        assert!(known.is_some());
        assert_eq!(of(path.to_str().unwrap()), known);
        assert_eq!(of(linked.to_str().unwrap()), known);
        assert_eq!(of(&format!("/proc/self/fd/{}", file.as_raw_fd())), known);
        assert_eq!(of(&format!("/proc/thread-self/root{}", path.display())), known);
        assert_eq!(of("/proc/self/exe"), of_path(std::env::current_exe().unwrap()));
        for name in ["Cargo.toml", "src/lib.rs", "/proc/self/cwd/Cargo.toml"] {
            assert_eq!(of(name), of_path(name), "from {:?}", std::env::current_dir());
        }
        assert_eq!(of("/is/not/there"), None);
    }

    #[test]
    fn what_is_opened_besides_is_known_once_and_for_its_call() {
        let mut seen = Seen::default();
        let (now, call) = (Instant::now(), Call::with_name(1));
        let (script, shell, loader, other) = ((1, 1), (1, 2), (1, 3), (1, 4));
        assert_eq!(seen.take(7, &call, shell, now), None, "the first question is about the program");
        seen.keep(7, call, script, vec![shell, loader], now);
        assert_eq!(seen.take(7, &call, other, now), None);
        assert_eq!(seen.take(8, &call, shell, now), None, "another thread");
        assert_eq!(seen.take(7, &Call::with_name(2), shell, now), None, "another call");
        assert_eq!(seen.take(7, &call, shell, now + BESIDES_WITHIN), None, "much later");
        assert_eq!(seen.take(7, &call, shell, now), Some(script));
        assert_eq!(seen.take(7, &call, shell, now), None, "once");
        assert_eq!(seen.take(7, &call, loader, now), Some(script));
        seen.keep(7, call, script, vec![shell], now);
        seen.keep(7, call, script, Vec::new(), now);
        assert_eq!(seen.take(7, &call, shell, now), None, "of the program before");
        for thread in 0..2 * u32::try_from(CALLS_MAX).unwrap() {
            seen.keep(thread, call, script, vec![shell], now);
        }
        assert_eq!(seen.besides.len(), CALLS_MAX);
        seen.keep(1_000_000, call, script, vec![shell], now + BESIDES_WITHIN);
        assert_eq!(seen.besides.len(), 1);
    }
    #[test]
    fn nothing_comes_with_what_was_refused() {
        let callers = Callers::default();
        let (now, call) = (Instant::now(), Call::with_name(1));
        callers.seen().keep(7, call, (1, 1), vec![(1, 2)], now);
        callers.refused(7);
        assert_eq!(callers.seen().take(7, &call, (1, 2), now), None);
    }

    #[test]
    fn what_is_let_through_comes_with_the_program_that_the_call_still_names() {
        let (script, shell, other) = ((1, 1), (1, 2), (2, 3));
        let part = |named, follows| Part::of(shell, named, follows, |device| device == 1);
        assert_eq!(part(Some(script), Some(script)), Part::Besides);
        assert_eq!(part(Some(shell), Some(script)), Part::Program);
        assert_eq!(part(None, Some(script)), Part::Program, "a name that can't be followed");
        assert_eq!(part(Some(other), Some(script)), Part::Program, "a name of another call");
        assert_eq!(part(Some(shell), None), Part::Program);
        assert_eq!(part(Some(other), None), Part::Besides, "a loader, of what nobody was asked about");
        assert_eq!(part(Some(script), None), Part::Unknown);
        assert_eq!(part(None, None), Part::Unknown);
    }

    #[test]
    fn who_runs_what_is_told_by_the_file() {
        let runs = procfs::image_file(&fs::metadata("/proc/self/exe").unwrap());
        assert_eq!(runs_another(own(), &runs), Some(false));
        assert_eq!(runs_another(own(), &ImageFile { inode: runs.inode + 1, ..runs }), Some(true));
        assert_eq!(runs_another(u32::MAX, &runs), None);
    }
}
