//! What a thread that waits in execve(2) gave to it: its registers by `/proc/TID/syscall`, what they point to by
//! `/proc/TID/mem`.
//!
//! Another thread of the same process may change that after it was read; what then runs is judged again as every start
//! is. The memory may be a file of a program's that never answers, so a reader must be one that nobody waits for.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

/// Texts of a list that are read.
pub(super) const TEXTS_MAX: usize = 4_096;

#[cfg(target_arch = "x86_64")]
mod numbers {
    pub(super) const EXECVE: u64 = 59;
    pub(super) const EXECVEAT: u64 = 322;
    /// Of 32-bit programs, and of `int 0x80`. By the other numbering these are munmap(2) and nothing, which execute no
    /// file.
    pub(super) const EXECVE_32: u64 = 11;
    pub(super) const EXECVEAT_32: u64 = 358;
}

#[cfg(target_arch = "aarch64")]
mod numbers {
    pub(super) const EXECVE: u64 = 221;
    pub(super) const EXECVEAT: u64 = 281;
    pub(super) const EXECVE_32: u64 = 11;
    pub(super) const EXECVEAT_32: u64 = 387;
}

use numbers::{EXECVE, EXECVE_32, EXECVEAT, EXECVEAT_32};

/// What a call of execve(2) or execveat(2) was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Call {
    /// Of execveat: where relative names begin.
    pub(super) dir: Option<i32>,
    name: u64,
    arguments: u64,
    environment: u64,
    /// Bytes of a pointer.
    pointer: usize,
}

impl Call {
    /// From `/proc/TID/syscall`; `None` where the thread is in no such call.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut words = text.split_ascii_whitespace();
        let number: u64 = words.next()?.parse().ok()?;
        let mut next = || u64::from_str_radix(words.next()?.strip_prefix("0x")?, 16).ok();
        let (first, second, third, fourth) = (next()?, next()?, next()?, next()?);
        let pointer = if matches!(number, EXECVE | EXECVEAT) { 8 } else { 4 };
        match number {
            EXECVE | EXECVE_32 => {
                Some(Self { dir: None, name: first, arguments: second, environment: third, pointer })
            }
            #[expect(clippy::cast_possible_truncation, reason = "the kernel takes the lower half as an int")]
            EXECVEAT | EXECVEAT_32 => Some(Self {
                dir: Some(first as i32),
                name: second,
                arguments: third,
                environment: fourth,
                pointer,
            }),
            _ => None,
        }
    }

    /// Of execve(2), with a name that stands there.
    #[cfg(test)]
    pub(super) fn with_name(name: u64) -> Self {
        Self { dir: None, name, arguments: 0, environment: 0, pointer: 8 }
    }
}

/// Texts of a list like the arguments.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct List {
    pub(super) texts: Vec<Vec<u8>>,
    /// With the zero bytes at their ends, as far as they were read.
    pub(super) bytes: u64,
    /// There is more: too much, or it can't be read.
    pub(super) cut: bool,
}

/// A text, or its beginning.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Text {
    pub(super) bytes: Vec<u8>,
    pub(super) whole: bool,
}

/// The memory of a thread that waits in a call.
#[derive(Debug)]
pub(super) struct Memory(File);

impl Memory {
    /// # Errors
    /// As open(2) of `/proc/TID/mem`.
    pub(super) fn of(thread: u32) -> io::Result<Self> {
        File::open(format!("/proc/{thread}/mem")).map(Self)
    }

    /// The name that the call was given.
    pub(super) fn name(&self, call: &Call) -> Text {
        const PATH_MAX: usize = 4_096;
        self.text_at(call.name, PATH_MAX)
    }

    /// The arguments, as far as `most` bytes.
    pub(super) fn arguments(&self, call: &Call, most: usize) -> List {
        self.list_at(call.arguments, call.pointer, most)
    }

    /// The variables, as far as `most` bytes.
    pub(super) fn environment(&self, call: &Call, most: usize) -> List {
        self.list_at(call.environment, call.pointer, most)
    }

    fn list_at(&self, at: u64, pointer: usize, most: usize) -> List {
        let mut list = List::default();
        // The kernel takes no list for an empty one.
        if at == 0 {
            return list;
        }
        let mut read = 0;
        for index in 0..TEXTS_MAX as u64 {
            let place = at.checked_add(index * pointer as u64);
            let Some(to) = place.and_then(|place| self.pointer_at(place, pointer)) else { break };
            if to == 0 {
                return list;
            }
            // Of what is too long, its beginning: a rule finds there what stands there.
            let text = self.text_at(to, most - read);
            read += text.bytes.len() + usize::from(text.whole);
            list.bytes = read as u64;
            if text.whole || !text.bytes.is_empty() {
                list.texts.push(text.bytes);
            }
            if !text.whole || read >= most {
                break;
            }
        }
        list.cut = true;
        list
    }

    fn pointer_at(&self, at: u64, size: usize) -> Option<u64> {
        let mut bytes = [0; 8];
        self.0.read_exact_at(bytes.get_mut(..size)?, at).ok()?;
        // All of these architectures have the low bytes first.
        Some(u64::from_le_bytes(bytes))
    }

    /// The bytes up to a zero byte, at most `most` of them.
    fn text_at(&self, at: u64, most: usize) -> Text {
        const PAGE: u64 = 4_096;
        let mut bytes = Vec::new();
        while bytes.len() < most {
            // Never past the end of a page that may be the last one.
            let Some(here) = at.checked_add(bytes.len() as u64) else { break };
            let room = usize::try_from(PAGE - here % PAGE).unwrap_or(1).min(most - bytes.len());
            let begin = bytes.len();
            bytes.resize(begin + room, 0);
            let read = self.0.read_at(&mut bytes[begin..], here).unwrap_or(0);
            bytes.truncate(begin + read);
            if let Some(end) = bytes[begin..].iter().position(|byte| *byte == 0) {
                bytes.truncate(begin + end);
                return Text { bytes, whole: true };
            }
            if read == 0 {
                break;
            }
        }
        Text { bytes, whole: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_read_from_what_proc_says() {
        let call = |dir, name, pointer| Call { dir, name, arguments: 2, environment: 3, pointer };
        let text = format!("{EXECVE} 0x7ffd1 0x2 0x3 0x4 0x5 0x6 0x7ffe 0x7fff\n");
        assert_eq!(Call::parse(&text), Some(call(None, 0x7ffd1, 8)));
        let text = format!("{EXECVEAT} 0xffffffffffffff9c 0x9 0x2 0x3 0x1000 0x6 0x7ffe 0x7fff\n");
        assert_eq!(Call::parse(&text), Some(call(Some(libc::AT_FDCWD), 9, 8)));
        let text = format!("{EXECVE_32} 0x7ffd1 0x2 0x3 0x4 0x5 0x6 0x7ffe 0x7fff\n");
        assert_eq!(Call::parse(&text), Some(call(None, 0x7ffd1, 4)), "of a 32-bit program");
        for other in ["running", "-1 0x0 0x0", "0 0x1 0x2 0x3", "", "59 1 2 3"] {
            assert_eq!(Call::parse(other), None, "{other}");
        }
    }

    #[test]
    fn memory_is_read_to_the_end_of_the_text_and_not_beyond() {
        let memory = Memory::of(std::process::id()).unwrap();
        let whole = |bytes: &[u8]| Text { bytes: bytes.to_vec(), whole: true };
        let cut = |bytes: &[u8]| Text { bytes: bytes.to_vec(), whole: false };
        let text = c"one two".to_owned();
        let at = text.as_ptr() as u64;
        assert_eq!(memory.text_at(at, 100), whole(b"one two"));
        assert_eq!(memory.text_at(at, 3), cut(b"one"));
        assert_eq!(memory.text_at(1, 100), cut(b""));
        let list = |texts: &[&[u8]], bytes, cut| List {
            texts: texts.iter().map(|text| text.to_vec()).collect(),
            bytes,
            cut,
        };
        let pointers = [at, at, 0];
        let begin = pointers.as_ptr() as u64;
        assert_eq!(memory.list_at(begin, 8, 100), list(&[b"one two", b"one two"], 16, false));
        assert_eq!(memory.list_at(begin, 8, 11), list(&[b"one two", b"one"], 11, true), "too long");
        assert_eq!(memory.list_at(0, 8, 100), list(&[], 0, false));
        let pointers = [at, 1, at, 0];
        let begin = pointers.as_ptr() as u64;
        assert_eq!(memory.list_at(begin, 8, 100), list(&[b"one two"], 8, true), "unreadable");
        let small = [u32::from_ne_bytes(*b"ab\0\0"), 0];
        assert_eq!(memory.pointer_at(small.as_ptr() as u64, 4), Some(u64::from(small[0])));
    }
}
