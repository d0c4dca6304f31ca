//! What a program says of the other files that the kernel opens for it: the interpreter of a script, the loader of an
//! ELF file.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

/// As far as the kernel reads a script's first line (`BINPRM_BUF_SIZE`).
const FIRST_LINE: usize = 256;
/// More parts than programs have; the kernel takes up to a page of them.
const PARTS_MAX: usize = 4_096;
const PATH_MAX: u64 = 4_096;

/// The interpreter that a script's first line names, with its one argument.
pub(super) type Interpreter = (Vec<u8>, Option<Vec<u8>>);

/// `None` for what is no script, or can't be read.
pub(super) fn interpreter_of(file: &File) -> Option<Interpreter> {
    let mut line = [0; FIRST_LINE];
    let length = file.read_at(&mut line, 0).ok()?;
    parse_first_line(&line[..length])
}

fn parse_first_line(bytes: &[u8]) -> Option<Interpreter> {
    let line = bytes.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?.trim_ascii();
    let end = line.iter().position(|byte| matches!(byte, b' ' | b'\t')).unwrap_or(line.len());
    let (interpreter, argument) = line.split_at(end);
    let argument = Some(argument.trim_ascii()).filter(|argument| !argument.is_empty());
    (!interpreter.is_empty()).then(|| (interpreter.to_vec(), argument.map(<[u8]>::to_vec)))
}

/// The loader that an ELF file asks for (`PT_INTERP`); `None` for what has none, or can't be read.
pub(super) fn loader_of(file: &File) -> Option<Vec<u8>> {
    loader_in(&|bytes: &mut [u8], at: u64| file.read_exact_at(bytes, at).ok())
}

/// With elf(5)'s layouts. `read` fills all of the bytes, or fails.
fn loader_in(read: &dyn Fn(&mut [u8], u64) -> Option<()>) -> Option<Vec<u8>> {
    const INTERP: u64 = 3;
    let mut head = [0; 64];
    // Of the smaller kind 52 are enough.
    read(&mut head[..52], 0)?;
    if !head.starts_with(b"\x7fELF") {
        return None;
    }
    let (wide, small_end) = (head[4] == 2, head[5] == 1);
    if wide {
        read(&mut head, 0)?;
    }
    let number = |bytes: &[u8], at: usize, size: usize| {
        let bytes = bytes.get(at..at + size)?;
        let add = |sum: u64, byte: &u8| sum << 8 | u64::from(*byte);
        Some(if small_end { bytes.iter().rev().fold(0, add) } else { bytes.iter().fold(0, add) })
    };
    let word = if wide { 8 } else { 4 };
    let parts = number(&head, if wide { 32 } else { 28 }, word)?;
    let size = number(&head, if wide { 54 } else { 42 }, 2)?;
    let count = number(&head, if wide { 56 } else { 44 }, 2)?;
    if size != (if wide { 56 } else { 32 }) {
        return None;
    }
    for index in 0..count.min(PARTS_MAX as u64) {
        let mut part = [0; 56];
        let part = part.get_mut(..usize::try_from(size).ok()?)?;
        read(part, parts.checked_add(index * size)?)?;
        if number(part, 0, 4)? == INTERP {
            let at = number(part, if wide { 8 } else { 4 }, word)?;
            let length = number(part, if wide { 32 } else { 16 }, word)?;
            // With its zero byte, as the kernel wants it.
            let mut path =
                vec![0; usize::try_from(length).ok().filter(|_| (2..=PATH_MAX).contains(&length))?];
            read(&mut path, at)?;
            path.truncate(path.iter().position(|byte| *byte == 0)?);
            return Some(path);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

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

    fn elf(wide: bool, path: &[u8]) -> Vec<u8> {
        let word = |number: u64| number.to_le_bytes()[..if wide { 8 } else { 4 }].to_vec();
        let (head, size) = if wide { (64_u64, 56_u16) } else { (52, 32) };
        let mut bytes = b"\x7fELF".to_vec();
        bytes.extend([if wide { 2 } else { 1 }, 1]);
        bytes.resize(if wide { 32 } else { 28 }, 0);
        bytes.extend(word(head));
        bytes.resize(if wide { 54 } else { 42 }, 0);
        bytes.extend(size.to_le_bytes());
        bytes.extend(2_u16.to_le_bytes());
        bytes.resize(head as usize, 0);
        // Another part first.
        bytes.extend(6_u32.to_le_bytes());
        bytes.resize((head + u64::from(size)) as usize, 0);
        let begin = bytes.len();
        let at = head + 2 * u64::from(size);
        bytes.extend(3_u32.to_le_bytes());
        bytes.resize(begin + if wide { 8 } else { 4 }, 0);
        bytes.extend(word(at));
        bytes.resize(begin + if wide { 32 } else { 16 }, 0);
        bytes.extend(word(path.len() as u64));
        bytes.resize(at as usize, 0);
        bytes.extend(path);
        bytes
    }

    #[test]
    fn the_loader_of_a_program_is_found() {
        let read = |content: Vec<u8>| {
            loader_in(&move |bytes: &mut [u8], at: u64| {
                let at = usize::try_from(at).ok()?;
                bytes.copy_from_slice(content.get(at..at.checked_add(bytes.len())?)?);
                Some(())
            })
        };
        for wide in [true, false] {
            assert_eq!(read(elf(wide, b"/lib/ld.so\0")).as_deref(), Some(&b"/lib/ld.so"[..]), "{wide}");
            assert_eq!(read(elf(wide, b"no end")), None);
            assert_eq!(read(elf(wide, b"\0")), None);
            let mut short = elf(wide, b"/lib/ld.so\0");
            short.truncate(short.len() - 1);
            assert_eq!(read(short), None);
        }
        assert_eq!(read(b"#!/bin/sh\n".repeat(9)), None);
        assert_eq!(read(Vec::new()), None);
    }
}
