//! A writer of tar archives (POSIX ustar, with pax headers for what does not fit).

use std::io::{self, Write};

const BLOCK: usize = 512;

/// Writes entries one after the other.
pub(super) struct Archive<W> {
    to: W,
}

impl<W: Write> Archive<W> {
    pub(super) fn new(to: W) -> Self {
        Self { to }
    }

    /// A regular file of that content.
    pub(super) fn add(&mut self, name: &str, content: &[u8]) -> io::Result<()> {
        if name.len() > 100 {
            let record = pax_record("path", name);
            self.entry("pax", b'x', record.as_bytes())?;
        }
        let short: String = name.chars().rev().take(60).collect::<Vec<_>>().into_iter().rev().collect();
        let fits = if name.len() > 100 { short.trim_start_matches('/') } else { name };
        self.entry(fits, b'0', content)
    }

    /// Ends the archive.
    pub(super) fn finish(mut self) -> io::Result<W> {
        self.to.write_all(&[0; 2 * BLOCK])?;
        Ok(self.to)
    }

    fn entry(&mut self, name: &str, kind: u8, content: &[u8]) -> io::Result<()> {
        let mut header = [0_u8; BLOCK];
        let cut = &name.as_bytes()[..name.len().min(100)];
        header[..cut.len()].copy_from_slice(cut);
        header[100..107].copy_from_slice(b"0000600");
        header[108..115].copy_from_slice(b"0000000");
        header[116..123].copy_from_slice(b"0000000");
        header[124..135].copy_from_slice(format!("{:011o}", content.len()).as_bytes());
        header[136..147].copy_from_slice(b"00000000000");
        header[148..156].copy_from_slice(b"        ");
        header[156] = kind;
        header[257..265].copy_from_slice(b"ustar\x0000");
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        self.to.write_all(&header)?;
        self.to.write_all(content)?;
        let over = content.len() % BLOCK;
        if over > 0 {
            self.to.write_all(&[0; BLOCK][over..])?;
        }
        Ok(())
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
