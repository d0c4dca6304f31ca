//! One pass over an open file, step by step.

use std::fmt;
use std::io;
use std::ops::ControlFlow;

use crate::content_facts::{ContentFacts, FactsBuilder};
use crate::regular_file::RegularFile;

/// Bytes read in one step: a third of a millisecond for all algorithms together.
const STEP: usize = 32 << 10;

/// Why there are no facts of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContentUnread {
    /// Larger than the caller allows.
    TooLarge,
    /// A directory, link, pipe, socket or device.
    NotRegular,
    /// It changed while it was read, or it is another file than expected: any hash
    /// would be of something that never was.
    Changed,
    /// Its content is in a cloud, and reading would fetch it.
    NotLocal,
    /// It can't be opened or read.
    Unreadable(io::ErrorKind),
}

impl ContentUnread {
    /// The word that events carry.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TooLarge => "too_large",
            Self::NotRegular => "not_regular",
            Self::Changed => "changed",
            Self::NotLocal => "not_local",
            Self::Unreadable(_) => "unreadable",
        }
    }
}

impl fmt::Display for ContentUnread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())?;
        match self {
            Self::Unreadable(kind) => write!(f, " ({kind})"),
            _ => Ok(()),
        }
    }
}

impl std::error::Error for ContentUnread {}

impl From<io::Error> for ContentUnread {
    fn from(error: io::Error) -> Self {
        Self::Unreadable(error.kind())
    }
}

/// A file whose facts are being gathered. Whoever gathers can look after more urgent
/// things between two steps.
pub struct ContentReading {
    file: RegularFile,
    builder: Box<FactsBuilder>,
    buffer: Vec<u8>,
    offset: u64,
}

impl ContentReading {
    /// Begins with a file of at most `max_bytes`. Reads nothing yet.
    ///
    /// # Errors
    /// [`ContentUnread::TooLarge`].
    pub fn begin(file: RegularFile, max_bytes: u64) -> Result<Self, ContentUnread> {
        if file.identity().size > max_bytes {
            return Err(ContentUnread::TooLarge);
        }
        Ok(Self { file, builder: Box::default(), buffer: vec![0; STEP], offset: 0 })
    }

    /// Reads on for a fraction of a millisecond (on a slow disk or network, as long as
    /// one read takes). Breaks with the facts, or with the reason why there are none.
    pub fn step(mut self) -> ControlFlow<Result<ContentFacts, ContentUnread>, Self> {
        let read = match self.file.read_at(&mut self.buffer, self.offset) {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return ControlFlow::Continue(self),
            Err(error) => return ControlFlow::Break(Err(error.into())),
        };
        self.offset += read as u64;
        // A growing file must not be followed for ever. This also finds the files of
        // /proc and /sys, which have content but no size.
        if self.offset > self.file.identity().size {
            return ControlFlow::Break(Err(ContentUnread::Changed));
        }
        if read > 0 {
            self.builder.update(&self.buffer[..read]);
            return ControlFlow::Continue(self);
        }
        let complete = self.offset == self.file.identity().size && self.file.is_unchanged();
        ControlFlow::Break(if complete { Ok(self.builder.finish()) } else { Err(ContentUnread::Changed) })
    }
}

/// The facts of a file, all steps at once.
///
/// # Errors
/// The reason why there are none.
pub fn read_content(file: RegularFile, max_bytes: u64) -> Result<ContentFacts, ContentUnread> {
    let mut reading = ContentReading::begin(file, max_bytes)?;
    loop {
        match reading.step() {
            ControlFlow::Continue(next) => reading = next,
            ControlFlow::Break(result) => return result,
        }
    }
}
