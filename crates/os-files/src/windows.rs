use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::windows::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

/// `FILE_FLAG_OPEN_REPARSE_POINT` of CreateFileW.
const OPEN_REPARSE_POINT: u32 = 0x0020_0000;

/// Modes of folders.
pub trait DirBuilderExt {
    /// Without effect: the folder inherits who may use it.
    fn mode(&mut self, mode: u32) -> &mut Self;
}

impl DirBuilderExt for DirBuilder {
    fn mode(&mut self, _: u32) -> &mut Self {
        self
    }
}

/// Modes of files.
pub trait OpenOptionsExt {
    /// Without effect: the file inherits who may use it.
    fn mode(&mut self, mode: u32) -> &mut Self;
}

impl OpenOptionsExt for OpenOptions {
    fn mode(&mut self, _: u32) -> &mut Self {
        self
    }
}

/// Opening what somebody else may have put there.
pub trait OpenCautiously {
    /// A link or junction is not followed: it is opened itself.
    fn cautiously(&mut self) -> &mut Self;
}

impl OpenCautiously for OpenOptions {
    fn cautiously(&mut self) -> &mut Self {
        self.custom_flags(OPEN_REPARSE_POINT)
    }
}

/// Reading and writing at a place. The file's position moves, which nobody relies on who uses these.
pub trait FileExt {
    /// Reads at an offset; 0 at the end.
    ///
    /// # Errors
    /// As ReadFile.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes at an offset.
    ///
    /// # Errors
    /// As WriteFile.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize>;

    /// Reads as many bytes as there is room for.
    ///
    /// # Errors
    /// There are not so many.
    fn read_exact_at(&self, mut buffer: &mut [u8], mut offset: u64) -> io::Result<()> {
        while !buffer.is_empty() {
            match self.read_at(buffer, offset) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => {
                    buffer = &mut buffer[read..];
                    offset += read as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Writes all bytes.
    ///
    /// # Errors
    /// Not all could be written.
    fn write_all_at(&self, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.write_at(bytes, offset) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    bytes = &bytes[written..];
                    offset += written as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl FileExt for File {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.seek_read(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.seek_write(bytes, offset)
    }
}

/// A folder whose names are to be on disk.
#[derive(Debug)]
pub struct Folder(());

impl Folder {
    /// Looks whether it is there.
    ///
    /// # Errors
    /// There is no such folder.
    pub fn open(path: &Path) -> io::Result<Self> {
        match std::fs::metadata(path)?.is_dir() {
            true => Ok(Self(())),
            false => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    /// NTFS journals names by itself; there is nothing to do.
    ///
    /// # Errors
    /// None.
    pub fn sync_all(&self) -> io::Result<()> {
        Ok(())
    }
}
