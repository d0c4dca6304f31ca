//! The type of a file by its first bytes.

use event_model::words;

/// First bytes that are looked at.
pub(crate) const HEAD_BYTES: usize = 4_096;

/// Longest `#!` line that counts, as in the kernel (`BINPRM_BUF_SIZE`).
const MAX_SHEBANG: usize = 256;

words! {
    /// What kind of file it is.
    FileKind {
        /// No bytes at all.
        Empty = "empty",
        /// Program, library or module of Linux and others.
        Elf = "elf",
        /// Program, library or driver of Windows.
        Pe = "pe",
        /// Program of DOS (`MZ` without a PE header).
        Mz = "mz",
        /// Program or library of macOS, one architecture or several.
        MachO = "mach_o",
        /// Compiled Java class.
        JavaClass = "java_class",
        /// WebAssembly module.
        Wasm = "wasm",
        /// Text that names its interpreter in the first line (`#!`).
        Script = "script",
        /// ZIP, which is also JAR, APK, OOXML and OpenDocument.
        Zip = "zip",
        /// gzip.
        Gzip = "gzip",
        /// bzip2.
        Bzip2 = "bzip2",
        /// xz.
        Xz = "xz",
        /// Zstandard.
        Zstd = "zstd",
        /// LZ4 frame.
        Lz4 = "lz4",
        /// 7-Zip.
        SevenZip = "7z",
        /// RAR.
        Rar = "rar",
        /// Microsoft cabinet.
        Cabinet = "cabinet",
        /// tar.
        Tar = "tar",
        /// cpio.
        Cpio = "cpio",
        /// ar, which is also a Debian package.
        Ar = "ar",
        /// RPM package.
        Rpm = "rpm",
        /// PDF.
        Pdf = "pdf",
        /// OLE compound file: older Office documents, MSI.
        OleCompound = "ole_compound",
        /// Rich text.
        Rtf = "rtf",
        /// Windows shortcut.
        WindowsShortcut = "lnk",
        /// SQLite database.
        Sqlite = "sqlite",
        /// PNG image.
        Png = "png",
        /// JPEG image.
        Jpeg = "jpeg",
        /// GIF image.
        Gif = "gif",
        /// WebP image.
        Webp = "webp",
        /// TIFF image.
        Tiff = "tiff",
        /// Text: UTF-8 without control characters, or UTF-16 with its mark.
        Text = "text",
        /// Anything else.
        Data = "data",
    }
}

/// Kinds that bytes at a fixed offset tell.
const MAGIC: &[(FileKind, usize, &[u8])] = &[
    (FileKind::Elf, 0, b"\x7fELF"),
    (FileKind::MachO, 0, b"\xfe\xed\xfa\xce"),
    (FileKind::MachO, 0, b"\xfe\xed\xfa\xcf"),
    (FileKind::MachO, 0, b"\xce\xfa\xed\xfe"),
    (FileKind::MachO, 0, b"\xcf\xfa\xed\xfe"),
    (FileKind::Wasm, 0, b"\0asm"),
    (FileKind::Zip, 0, b"PK\x03\x04"),
    (FileKind::Zip, 0, b"PK\x05\x06"),
    (FileKind::Zip, 0, b"PK\x07\x08"),
    (FileKind::Gzip, 0, b"\x1f\x8b"),
    (FileKind::Bzip2, 0, b"BZh"),
    (FileKind::Xz, 0, b"\xfd7zXZ\0"),
    (FileKind::Zstd, 0, b"\x28\xb5\x2f\xfd"),
    (FileKind::Lz4, 0, b"\x04\x22\x4d\x18"),
    (FileKind::SevenZip, 0, b"7z\xbc\xaf\x27\x1c"),
    (FileKind::Rar, 0, b"Rar!\x1a\x07"),
    (FileKind::Cabinet, 0, b"MSCF"),
    (FileKind::Tar, 257, b"ustar"),
    (FileKind::Cpio, 0, b"070701"),
    (FileKind::Cpio, 0, b"070702"),
    (FileKind::Cpio, 0, b"070707"),
    (FileKind::Ar, 0, b"!<arch>\n"),
    (FileKind::Rpm, 0, b"\xed\xab\xee\xdb"),
    (FileKind::Pdf, 0, b"%PDF-"),
    (FileKind::OleCompound, 0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"),
    (FileKind::Rtf, 0, b"{\\rtf"),
    (FileKind::WindowsShortcut, 0, b"\x4c\0\0\0\x01\x14\x02\0"),
    (FileKind::Sqlite, 0, b"SQLite format 3\0"),
    (FileKind::Png, 0, b"\x89PNG\r\n\x1a\n"),
    (FileKind::Jpeg, 0, b"\xff\xd8\xff"),
    (FileKind::Gif, 0, b"GIF87a"),
    (FileKind::Gif, 0, b"GIF89a"),
    (FileKind::Webp, 8, b"WEBP"),
    (FileKind::Tiff, 0, b"II*\0"),
    (FileKind::Tiff, 0, b"MM\0*"),
];

/// The kind, and for a script what runs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileType {
    /// The kind.
    pub kind: FileKind,
    /// For a script, the interpreter as its first line names it (`/bin/sh`); behind
    /// `env`, the program that env is to find (`python3`). Control characters and
    /// what is not UTF-8 are replaced.
    pub interpreter: Option<String>,
}

impl FileType {
    /// The type by the first bytes. A few hundred are enough for all but the
    /// difference of text and data, for which 4,096 are looked at.
    pub fn of(head: &[u8]) -> Self {
        let head = &head[..head.len().min(HEAD_BYTES)];
        let interpreter = head.strip_prefix(b"#!").and_then(interpreter);
        let kind = if interpreter.is_some() { FileKind::Script } else { kind(head) };
        Self { kind, interpreter }
    }
}

fn kind(head: &[u8]) -> FileKind {
    if head.is_empty() {
        return FileKind::Empty;
    }
    if head.starts_with(b"MZ") {
        return if is_pe(head) { FileKind::Pe } else { FileKind::Mz };
    }
    if let Some(rest) = head.strip_prefix(b"\xca\xfe\xba\xbe") {
        // Java keeps minor and major version here, and major ones begin at 45; macOS
        // keeps the number of architectures.
        return match rest.first_chunk().map(|bytes| u32::from_be_bytes(*bytes)) {
            Some(0..45) => FileKind::MachO,
            _ => FileKind::JavaClass,
        };
    }
    let magic =
        MAGIC.iter().find(|(_, offset, magic)| head.get(*offset..).is_some_and(|at| at.starts_with(magic)));
    match magic {
        Some((kind, ..)) => *kind,
        None if is_text(head) => FileKind::Text,
        None => FileKind::Data,
    }
}

/// The offset of the PE header stands at 60 (PE/COFF specification, 3.1).
fn is_pe(head: &[u8]) -> bool {
    let offset =
        head.get(60..64).and_then(|bytes| bytes.first_chunk()).map(|bytes| u32::from_le_bytes(*bytes));
    let header = offset.and_then(|offset| head.get(usize::try_from(offset).ok()?..));
    header.is_some_and(|header| header.starts_with(b"PE\0\0"))
}

/// What a `#!` line (without the mark) has run.
fn interpreter(rest: &[u8]) -> Option<String> {
    let line = rest[..rest.len().min(MAX_SHEBANG)].split(|byte| *byte == b'\n').next()?;
    let mut words =
        line.split(|byte| byte.is_ascii_whitespace() || *byte == 0).filter(|word| !word.is_empty());
    let first = words.next()?;
    let program = if first.rsplit(|byte| *byte == b'/').next() == Some(b"env") {
        // Options and assignments come before the program.
        words.find(|word| !word.starts_with(b"-") && !word.contains(&b'=')).unwrap_or(first)
    } else {
        first
    };
    let text = String::from_utf8_lossy(program);
    Some(text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect())
}

fn is_text(head: &[u8]) -> bool {
    if head.starts_with(b"\xff\xfe") || head.starts_with(b"\xfe\xff") {
        return true;
    }
    let text = match std::str::from_utf8(head) {
        Ok(text) => text,
        // The last character may be cut where the head ends, but not elsewhere.
        Err(error) if error.error_len().is_none() && head.len() == HEAD_BYTES => {
            std::str::from_utf8(&head[..error.valid_up_to()]).unwrap_or_default()
        }
        Err(_) => return false,
    };
    // Escape sequences and form feeds stand in logs and listings.
    text.chars().all(|c| !c.is_control() || matches!(c, '\t' | '\n' | '\r' | '\x0c' | '\x1b'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(head: &[u8]) -> &'static str {
        FileType::of(head).kind.as_str()
    }

    #[test]
    fn kinds_by_their_first_bytes() {
        let mut pe = b"MZ".to_vec();
        pe.resize(60, 0);
        pe.extend(0x80_u32.to_le_bytes());
        pe.resize(0x80, 0);
        assert_eq!(word(&pe), "mz", "the header is not there yet");
        pe.extend(b"PE\0\0");
        assert_eq!(word(&pe), "pe");
        let mut tar = b"name".to_vec();
        tar.resize(257, 0);
        tar.extend(b"ustar\0");
        assert_eq!(word(&tar), "tar");
        for (head, kind) in [
            (&b""[..], "empty"),
            (b"\x7fELF\x02", "elf"),
            (b"MZ", "mz"),
            (b"\xca\xfe\xba\xbe\0\0\0\x34", "java_class"),
            (b"\xca\xfe\xba\xbe\0\0\0\x02", "mach_o"),
            (b"\xcf\xfa\xed\xfe\x07", "mach_o"),
            (b"PK\x03\x04rest", "zip"),
            (b"%PDF-1.7", "pdf"),
            (b"\x1f\x8b\x08", "gzip"),
            (b"\x89PNG\r\n\x1a\n", "png"),
            (b"RIFF\x10\0\0\0WEBP", "webp"),
            (b"hello\nworld\t\xe4\xb8\xad", "text"),
            (b"\xff\xfeh\0i\0", "text"),
            (b"hello\0", "data"),
            (b"\x01\x02\x03", "data"),
            (b"caf\xe9", "data"),
            (b"#!", "text"),
        ] {
            assert_eq!(word(head), kind, "{head:?}");
        }
    }

    #[test]
    fn a_script_names_its_interpreter() {
        let interpreter = |head: &[u8]| {
            let found = FileType::of(head);
            assert_eq!(found.kind, FileKind::Script);
            found.interpreter.unwrap()
        };
        assert_eq!(interpreter(b"#!/bin/sh\necho"), "/bin/sh");
        assert_eq!(interpreter(b"#! /usr/bin/perl -w\r\n"), "/usr/bin/perl");
        assert_eq!(interpreter(b"#!/usr/bin/env python3\n"), "python3");
        assert_eq!(interpreter(b"#!/usr/bin/env -S A=1 node --x\n"), "node");
        assert_eq!(interpreter(b"#!/usr/bin/env\n"), "/usr/bin/env");
        assert_eq!(interpreter(b"#!/tmp/\x1b[2J\xff\n"), "/tmp/\u{fffd}[2J\u{fffd}");
        assert!(interpreter(&[b"#!/".as_slice(), &[b'a'; 9_000]].concat()).len() <= MAX_SHEBANG);
    }

    #[test]
    fn a_character_cut_at_the_end_of_the_head_is_still_text() {
        let text = "中".repeat(HEAD_BYTES);
        assert_ne!(HEAD_BYTES % 3, 0, "the head cuts a character");
        assert_eq!(word(text.as_bytes()), "text");
        assert_eq!(word(&text.as_bytes()[..4]), "data", "cut in the file itself");
    }

    #[test]
    fn every_word_is_its_own() {
        let mut words: Vec<_> = FileKind::ALL.iter().map(|kind| kind.as_str()).collect();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), FileKind::ALL.len());
    }
}
