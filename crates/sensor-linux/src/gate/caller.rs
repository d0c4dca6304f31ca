//! What a thread that waits in execve(2) asked for: which program, with which arguments. Read from outside: its
//! registers by `/proc/TID/syscall`, its memory by `/proc/TID/mem`.
//!
//! Another thread of the same process may change the arguments after they were read; what then runs is judged again as
//! every start is.

use std::fs::{self, File};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};

use event_model::ImageFile;
use rustix::fs::{Mode, OFlags, ResolveFlags};

use super::Question;
use crate::{escape, procfs, standing};

/// Arguments are read as far as the kernel side reads those of a start.
const ARGS_MAX: usize = 16 << 10;
const ARGS_COUNT_MAX: usize = 4_096;
/// Of the environment, far more than any shell has.
const ENVIRONMENT_MAX: usize = 256 << 10;
const PATH_MAX: usize = 4_096;
/// As far as the kernel reads a script's first line (`BINPRM_BUF_SIZE`).
const FIRST_LINE: usize = 256;
/// As many interpreters of interpreters as the kernel follows.
const INTERPRETERS_MAX: usize = 5;

#[cfg(target_arch = "x86_64")]
const EXECVE: u64 = 59;
#[cfg(target_arch = "x86_64")]
const EXECVEAT: u64 = 322;
#[cfg(target_arch = "aarch64")]
const EXECVE: u64 = 221;
#[cfg(target_arch = "aarch64")]
const EXECVEAT: u64 = 281;

/// What a call of execve(2) or execveat(2) was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Call {
    /// Of execveat: where relative names begin.
    dir: Option<i32>,
    name: u64,
    arguments: u64,
    environment: u64,
}

impl Call {
    /// From `/proc/TID/syscall`; `None` where the thread is in no such call, or in one of another architecture.
    fn parse(text: &str) -> Option<Self> {
        let mut words = text.split_ascii_whitespace();
        let number: u64 = words.next()?.parse().ok()?;
        let mut next = || u64::from_str_radix(words.next()?.strip_prefix("0x")?, 16).ok();
        let (first, second, third, fourth) = (next()?, next()?, next()?, next()?);
        match number {
            EXECVE => Some(Self { dir: None, name: first, arguments: second, environment: third }),
            #[expect(clippy::cast_possible_truncation, reason = "the kernel takes the lower half as an int")]
            EXECVEAT => {
                Some(Self { dir: Some(first as i32), name: second, arguments: third, environment: fourth })
            }
            _ => None,
        }
    }
}

/// The question that a thread's execution of `file` is. `None` where it is none: a file that the kernel opens
/// besides the program (its interpreter, the loader), a call that can't be read, a thread that is gone.
pub(super) fn question(thread: u32, file: File) -> Option<Question> {
    let call = Call::parse(&fs::read_to_string(format!("/proc/{thread}/syscall")).ok()?)?;
    let memory = File::open(format!("/proc/{thread}/mem")).ok()?;
    let name = text_at(&memory, call.name, PATH_MAX)?;
    let named = named_file(thread, call.dir, &name)?.metadata().ok()?;
    let asked = file.metadata().ok()?;
    if (named.dev(), named.ino()) != (asked.dev(), asked.ino()) {
        return None;
    }
    let (mut args, mut args_bytes, mut args_truncated) = list_at(&memory, call.arguments, ARGS_MAX)?;
    // Of the program, not of the process that starts it.
    let (variables, _, _) = list_at(&memory, call.environment, ENVIRONMENT_MAX)?;
    let mut file = file;
    let mut script = name;
    for _ in 0..INTERPRETERS_MAX {
        let Some((interpreter, argument)) = interpreter_of(&file)? else { break };
        // As the kernel puts them together: interpreter, its argument, the script, the rest.
        let rest = args.drain(..).skip(1).collect::<Vec<_>>();
        args_bytes += (interpreter.len() + argument.as_ref().map_or(0, Vec::len) + 1) as u64;
        args =
            [Some(interpreter.clone()), argument, Some(script)].into_iter().flatten().chain(rest).collect();
        file = File::from(within_root(thread, &interpreter, OFlags::RDONLY | OFlags::NONBLOCK)?);
        script = interpreter;
    }
    args_truncated |= args.len() > ARGS_COUNT_MAX;
    let metadata = file.metadata().ok().filter(fs::Metadata::is_file)?;
    let path = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).ok()?;
    let pid = process_of(thread)?;
    let now = procfs::image(pid)?;
    let parent = procfs::image(now.parent_pid);
    let image = sensor_api::ObservedImage {
        executable: procfs::executable_text(path, metadata.nlink() == 0),
        args: args.iter().map(|argument| escape::text(argument)).collect(),
        args_bytes,
        args_truncated,
        command_line: None,
        environment: standing::interesting_variables(&variables.join(&0)),
        image: Some(procfs::image_file(&metadata)),
        image_deleted: metadata.nlink() == 0,
        kernel_thread: false,
        blocked: None,
        ..now
    };
    Some(Question { image, parent, file })
}

/// Whether a process runs another file than this one; `None` where it is gone.
pub(super) fn runs_another(pid: u32, file: &ImageFile) -> Option<bool> {
    let runs = fs::metadata(format!("/proc/{pid}/exe")).ok()?;
    Some((runs.dev(), runs.ino()) != (file.device, file.inode))
}

fn process_of(thread: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{thread}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("Tgid:")?.trim().parse().ok())
}

/// The file that the call names, as the thread that called sees it.
fn named_file(thread: u32, dir: Option<i32>, name: &[u8]) -> Option<File> {
    if name.first() == Some(&b'/') {
        return within_root(thread, name, OFlags::PATH).map(File::from);
    }
    let base = match dir {
        None | Some(libc::AT_FDCWD) => format!("/proc/{thread}/cwd"),
        Some(number) => format!("/proc/{thread}/fd/{number}"),
    };
    let mut path = base.into_bytes();
    if !name.is_empty() {
        path.push(b'/');
        path.extend_from_slice(name);
    }
    rustix::fs::open(path.as_slice(), OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).ok().map(File::from)
}

/// A path from the root that the thread has.
fn within_root(thread: u32, path: &[u8], flags: OFlags) -> Option<OwnedFd> {
    let root = rustix::fs::open(
        format!("/proc/{thread}/root"),
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    );
    rustix::fs::openat2(
        root.ok()?.as_fd(),
        path,
        flags | OFlags::CLOEXEC,
        Mode::empty(),
        ResolveFlags::IN_ROOT,
    )
    .ok()
}

/// The interpreter that a script's first line names, with its one argument.
type Interpreter = (Vec<u8>, Option<Vec<u8>>);

/// `Some(None)` for what is no script; `None` where that can't be read.
fn interpreter_of(file: &File) -> Option<Option<Interpreter>> {
    let mut line = [0; FIRST_LINE];
    let length = file.read_at(&mut line, 0).ok()?;
    Some(parse_first_line(&line[..length]))
}

fn parse_first_line(bytes: &[u8]) -> Option<Interpreter> {
    let line = bytes.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?.trim_ascii();
    let end = line.iter().position(|byte| matches!(byte, b' ' | b'\t')).unwrap_or(line.len());
    let (interpreter, argument) = line.split_at(end);
    let argument = Some(argument.trim_ascii()).filter(|argument| !argument.is_empty());
    (!interpreter.is_empty()).then(|| (interpreter.to_vec(), argument.map(<[u8]>::to_vec)))
}

/// A list of texts like the arguments, its full length as far as it was read, and whether there is more.
fn list_at(memory: &File, at: u64, most: usize) -> Option<(Vec<Vec<u8>>, u64, bool)> {
    if at == 0 {
        return Some((Vec::new(), 0, false));
    }
    let (mut arguments, mut bytes) = (Vec::new(), 0);
    for index in 0..ARGS_COUNT_MAX as u64 {
        let mut pointer = [0; 8];
        memory.read_exact_at(&mut pointer, at.checked_add(index * 8)?).ok()?;
        let pointer = u64::from_ne_bytes(pointer);
        if pointer == 0 {
            return Some((arguments, bytes as u64, false));
        }
        let Some(argument) = text_at(memory, pointer, most - bytes) else { break };
        bytes += argument.len() + 1;
        arguments.push(argument);
        if bytes >= most {
            break;
        }
    }
    Some((arguments, bytes as u64, true))
}

/// The bytes up to a zero byte; `None` if there is none within `most`.
fn text_at(memory: &File, at: u64, most: usize) -> Option<Vec<u8>> {
    let mut text = Vec::new();
    while text.len() < most {
        // Never past the end of a page that may be the last one.
        let here = at.checked_add(text.len() as u64)?;
        let room = usize::try_from(4_096 - here % 4_096).ok()?.min(most - text.len());
        let begin = text.len();
        text.resize(begin + room, 0);
        let read = memory.read_at(&mut text[begin..], here).ok().filter(|read| *read > 0)?;
        text.truncate(begin + read);
        if let Some(end) = text[begin..].iter().position(|byte| *byte == 0) {
            text.truncate(begin + end);
            return Some(text);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_read_from_what_proc_says() {
        let text = format!("{EXECVE} 0x7ffd1 0x2 0x3 0x4 0x5 0x6 0x7ffe 0x7fff\n");
        assert_eq!(Call::parse(&text), Some(Call { dir: None, name: 0x7ffd1, arguments: 2, environment: 3 }));
        let text = format!("{EXECVEAT} 0xffffffffffffff9c 0x2 0x3 0x4 0x1000 0x6 0x7ffe 0x7fff\n");
        assert_eq!(
            Call::parse(&text),
            Some(Call { dir: Some(libc::AT_FDCWD), name: 2, arguments: 3, environment: 4 })
        );
        for other in ["running", "-1 0x0 0x0", "0 0x1 0x2 0x3", "", "59 1 2 3"] {
            assert_eq!(Call::parse(other), None, "{other}");
        }
    }

    #[test]
    fn first_lines_are_read_as_the_kernel_does() {
        let own = |text: &str| text.as_bytes().to_vec();
        let read = |line: &str| parse_first_line(line.as_bytes());
        assert_eq!(read("#!/bin/sh\nx"), Some((own("/bin/sh"), None)));
        assert_eq!(
            read("#! /usr/bin/env  python3 -u \nx"),
            Some((own("/usr/bin/env"), Some(own("python3 -u"))))
        );
        assert_eq!(read("#!\t/bin/x\ty"), Some((own("/bin/x"), Some(own("y")))));
        for none in ["", "#", "#!", "#!  \n/bin/sh", "\x7fELF", "x#!/bin/sh"] {
            assert_eq!(read(none), None, "{none}");
        }
    }

    #[test]
    fn memory_is_read_to_the_end_of_the_text_and_not_beyond() {
        let memory = File::open("/proc/self/mem").unwrap();
        let text = c"one two".to_owned();
        assert_eq!(text_at(&memory, text.as_ptr() as u64, 100).as_deref(), Some(&b"one two"[..]));
        assert_eq!(text_at(&memory, text.as_ptr() as u64, 3), None, "no end within that");
        assert_eq!(text_at(&memory, 1, 100), None);
        let pointers = [text.as_ptr(), text.as_ptr(), std::ptr::null()];
        let read = list_at(&memory, pointers.as_ptr() as u64, ARGS_MAX).unwrap();
        assert_eq!(read, (vec![b"one two".to_vec(); 2], 16, false));
        assert_eq!(list_at(&memory, 0, ARGS_MAX), Some((Vec::new(), 0, false)));
    }
}
