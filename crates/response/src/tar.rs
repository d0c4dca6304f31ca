//! A writer of tar archives (POSIX ustar, with pax headers for what does not fit).

use std::io::{self, Read, Write};

const BLOCK: usize = 512;
const PIECE: usize = 64 << 10;

/// Writes entries one after the other.
pub(crate) struct Archive<W> {
    to: W,
}

impl<W: Write> Archive<W> {
    pub(crate) fn new(to: W) -> Self {
        Self { to }
    }

    /// A regular file of that content.
    pub(crate) fn add(&mut self, name: &str, content: &[u8]) -> io::Result<()> {
        self.head(name, content.len() as u64)?;
        self.to.write_all(content)?;
        self.pad(content.len() as u64)
    }

    fn head(&mut self, name: &str, size: u64) -> io::Result<()> {
        if name.len() <= 100 {
            return self.header(name, b'0', size);
        }
        let record = pax_record("path", name);
        self.header("pax", b'x', record.len() as u64)?;
        self.to.write_all(record.as_bytes())?;
        self.pad(record.len() as u64)?;
        let short: String = name.chars().rev().take(60).collect::<Vec<_>>().into_iter().rev().collect();
        self.header(short.trim_start_matches('/'), b'0', size)
    }

    /// A regular file of that size, read piece by piece. What the reader has less is filled with zeros, what
    /// it has more is left. Gives what `seen` made of the bytes that were written.
    pub(crate) fn copy(
        &mut self,
        name: &str,
        size: u64,
        from: impl Read,
        mut seen: impl FnMut(&[u8]),
    ) -> io::Result<()> {
        self.head(name, size)?;
        let mut from = from.take(size).chain(io::repeat(0)).take(size);
        let mut piece = vec![0; PIECE];
        loop {
            match from.read(&mut piece)? {
                0 => break,
                count => {
                    seen(&piece[..count]);
                    self.to.write_all(&piece[..count])?;
                }
            }
        }
        self.pad(size)
    }

    /// Ends the archive.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        self.to.write_all(&[0; 2 * BLOCK])?;
        Ok(self.to)
    }

    fn header(&mut self, name: &str, kind: u8, size: u64) -> io::Result<()> {
        let mut header = [0_u8; BLOCK];
        let cut = &name.as_bytes()[..name.len().min(100)];
        header[..cut.len()].copy_from_slice(cut);
        header[100..107].copy_from_slice(b"0000600");
        header[108..115].copy_from_slice(b"0000000");
        header[116..123].copy_from_slice(b"0000000");
        header[124..135].copy_from_slice(format!("{size:011o}").as_bytes());
        header[136..147].copy_from_slice(b"00000000000");
        header[148..156].copy_from_slice(b"        ");
        header[156] = kind;
        header[257..265].copy_from_slice(b"ustar\x0000");
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        self.to.write_all(&header)
    }

    fn pad(&mut self, size: u64) -> io::Result<()> {
        let over = usize::try_from(size % BLOCK as u64).unwrap_or(0);
        if over > 0 { self.to.write_all(&[0; BLOCK][over..]) } else { Ok(()) }
    }
}

/// `LENGTH KEY=VALUE\n`, where the length counts itself.
fn pax_record(key: &str, value: &str) -> String {
    let rest = format!(" {key}={value}\n");
    let mut length = rest.len();
    while length != rest.len() + length.to_string().len() {
        length = rest.len() + length.to_string().len();
    }
    format!("{length}{rest}")
}
