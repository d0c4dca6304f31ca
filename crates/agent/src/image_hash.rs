//! SHA-256 of images, each file hashed once as long as it does not change.
//!
//! A path may name another file by now than the one the kernel ran. So the file
//! is opened through /proc/PID/exe where that still works, and its device, inode,
//! time and size must be what the kernel reported; else there is no hash rather
//! than a wrong one.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;

use aws_lc_rs::digest::{Context, SHA256};
use protocol::enrollment::to_hex;
use sensor_api::ImageFile;

/// Larger images are not hashed: it would hold up everything behind them.
pub const MAX_IMAGE_BYTES: u64 = 32 << 20;

/// Files in one generation of the cache; there are two.
const GENERATION: usize = 4_096;

/// A hash in hex, or the reason why there is none.
pub type ImageHash = Result<String, &'static str>;

/// Hashes of images by what identifies a file and its state. Bounded: what was not
/// used for a whole generation is forgotten.
#[derive(Debug, Default)]
pub struct ImageHashes {
    young: HashMap<ImageFile, ImageHash>,
    old: HashMap<ImageFile, ImageHash>,
}

impl ImageHashes {
    /// The hash of the image that `pid` runs.
    pub fn hash(&mut self, pid: u32, path: &str, image: &ImageFile) -> ImageHash {
        if let Some(known) = self.young.get(image) {
            return known.clone();
        }
        if let Some(known) = self.old.remove(image) {
            return self.keep(image, known);
        }
        match hash_image(pid, path, image) {
            // A later process may find the file readable again.
            Err(reason @ ("unreadable" | "changed")) => Err(reason),
            result => self.keep(image, result),
        }
    }

    fn keep(&mut self, image: &ImageFile, hash: ImageHash) -> ImageHash {
        if self.young.len() >= GENERATION {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(*image, hash.clone());
        hash
    }
}

fn hash_image(pid: u32, path: &str, image: &ImageFile) -> ImageHash {
    if image.size > MAX_IMAGE_BYTES {
        return Err("too_large");
    }
    let mut seen_other = false;
    for path in [format!("/proc/{pid}/exe").as_str(), path] {
        let Ok(file) = File::open(path) else { continue };
        match hash_file(&file, image) {
            Ok(Some(hash)) => return Ok(hash),
            Ok(None) => seen_other = true,
            Err(_) => {}
        }
    }
    Err(if seen_other { "changed" } else { "unreadable" })
}

/// `None` if this is not the file that the kernel ran, or it changed while it was read.
fn hash_file(mut file: &File, image: &ImageFile) -> std::io::Result<Option<String>> {
    if identity(file)? != *image {
        return Ok(None);
    }
    let mut context = Context::new(&SHA256);
    let mut buffer = vec![0; 128 << 10];
    // A growing file must not be followed forever; it fails the check below.
    let mut left = image.size;
    while left > 0 {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        context.update(&buffer[..read]);
        left = left.saturating_sub(read as u64);
    }
    let unchanged = identity(file)? == *image;
    Ok(unchanged.then(|| to_hex(context.finish().as_ref())))
}

fn identity(file: &File) -> std::io::Result<ImageFile> {
    let file = file.metadata()?;
    Ok(ImageFile {
        device: file.dev(),
        inode: file.ino(),
        modified_ns: file.mtime().saturating_mul(1_000_000_000).saturating_add(file.mtime_nsec()),
        size: file.size(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn no_such_pid() -> u32 {
        4_194_304
    }

    #[test]
    fn only_the_file_that_the_kernel_ran_is_hashed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("image");
        std::fs::write(&path, "abc").unwrap();
        let text = path.to_str().unwrap();
        let image = identity(&File::open(&path).unwrap()).unwrap();
        let mut hashes = ImageHashes::default();
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(hashes.hash(no_such_pid(), text, &image).as_deref(), Ok(abc));

        let other = ImageFile { inode: image.inode + 1, ..image };
        assert_eq!(hashes.hash(no_such_pid(), text, &other), Err("changed"));
        assert_eq!(hashes.hash(no_such_pid(), "/missing", &other), Err("unreadable"));
        let large = ImageFile { size: MAX_IMAGE_BYTES + 1, ..image };
        assert_eq!(hashes.hash(no_such_pid(), text, &large), Err("too_large"));

        std::fs::remove_file(&path).unwrap();
        assert_eq!(hashes.hash(no_such_pid(), text, &image).as_deref(), Ok(abc), "known by identity");
    }

    #[test]
    fn the_cache_stays_bounded() {
        let mut hashes = ImageHashes::default();
        for inode in 0..20_000 {
            let image = ImageFile { inode, size: MAX_IMAGE_BYTES + 1, ..ImageFile::default() };
            let _ = hashes.hash(no_such_pid(), "/x", &image);
        }
        assert!(hashes.young.len() + hashes.old.len() <= 2 * GENERATION);
    }
}
