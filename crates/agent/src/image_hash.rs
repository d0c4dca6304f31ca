//! SHA-256 of images, each file hashed once as long as it does not change.
//!
//! A path may name another file by now than the one the kernel ran. So the file
//! is opened through /proc/PID/exe where that still works, and its device, inode,
//! times and size must be what the kernel reported; else there is no hash rather
//! than a wrong one.
//!
//! The owner of a file can put back its size and modification time after a change,
//! but not its change time. Two changes within one tick of the kernel's clock look
//! alike, so a hash is remembered only once the last change lies clearly back.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest::{Context, SHA256};
use protocol::enrollment::to_hex;
use sensor_api::ImageFile;

/// Larger images are not hashed: it would hold up everything behind them.
pub const MAX_IMAGE_BYTES: u64 = 32 << 20;

/// Bytes read in one step.
const STEP: usize = 256 << 10;

/// Files in one generation of the cache; there are two.
const GENERATION: usize = 4_096;

/// A later change has another change time for sure: ticks last 10 ms at most.
const SETTLED: Duration = Duration::from_millis(100);

/// The same where a file system keeps times in seconds or two.
const SETTLED_COARSE: Duration = Duration::from_secs(3);

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
    /// The hash of an image that was hashed before.
    pub fn known(&mut self, image: &ImageFile) -> Option<ImageHash> {
        if let Some(known) = self.young.get(image) {
            return Some(known.clone());
        }
        let known = self.old.remove(image)?;
        self.keep(image, &known);
        Some(known)
    }

    /// Remembers the hash of an image.
    pub fn keep(&mut self, image: &ImageFile, hash: &ImageHash) {
        // A later process may find the file readable again.
        if matches!(hash, Err("unreadable" | "changed")) || !is_settled(image, SystemTime::now()) {
            return;
        }
        if self.young.len() >= GENERATION {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(*image, hash.clone());
    }
}

/// An image that is being hashed, step by step, so that whoever hashes can look
/// after more urgent things in between.
pub struct Hashing {
    file: File,
    image: ImageFile,
    context: Context,
    buffer: Vec<u8>,
    /// A growing file must not be followed for ever; it fails the last check.
    left: u64,
}

impl Hashing {
    /// Begins to hash the image that `pid` runs.
    ///
    /// # Errors
    /// The reason why there will be no hash.
    pub fn begin(pid: u32, path: &str, image: &ImageFile) -> Result<Self, &'static str> {
        if image.size > MAX_IMAGE_BYTES {
            return Err("too_large");
        }
        let mut reason = "unreadable";
        for path in [format!("/proc/{pid}/exe").as_str(), path] {
            let Ok(file) = File::open(path) else { continue };
            match identity(&file) {
                Ok(found) if found == *image => {
                    let (context, buffer) = (Context::new(&SHA256), vec![0; STEP]);
                    return Ok(Self { file, image: *image, context, buffer, left: image.size });
                }
                Ok(_) => reason = "changed",
                Err(_) => {}
            }
        }
        Err(reason)
    }

    /// Reads on for a fraction of a millisecond; gives the hash at the end.
    pub fn step(&mut self) -> Option<ImageHash> {
        let read = match self.file.read(&mut self.buffer) {
            Ok(read) => read,
            Err(_) => return Some(Err("unreadable")),
        };
        self.context.update(&self.buffer[..read]);
        self.left = self.left.saturating_sub(read as u64);
        if read > 0 && self.left > 0 {
            return None;
        }
        let unchanged = identity(&self.file).is_ok_and(|now| now == self.image);
        Some(if unchanged { Ok(to_hex(self.context.clone().finish().as_ref())) } else { Err("changed") })
    }
}

fn identity(file: &File) -> std::io::Result<ImageFile> {
    let file = file.metadata()?;
    Ok(ImageFile {
        device: file.dev(),
        inode: file.ino(),
        modified_ns: file.mtime().saturating_mul(1_000_000_000).saturating_add(file.mtime_nsec()),
        changed_ns: file.ctime().saturating_mul(1_000_000_000).saturating_add(file.ctime_nsec()),
        size: file.size(),
    })
}

/// Whether a change of the file from now on would show in its change time.
pub fn is_settled(image: &ImageFile, now: SystemTime) -> bool {
    let Ok(changed_ns) = u64::try_from(image.changed_ns) else { return false };
    let wait = if changed_ns.is_multiple_of(1_000_000_000) { SETTLED_COARSE } else { SETTLED };
    // Behind now after the clock was set back: nothing can be said.
    now.duration_since(UNIX_EPOCH).is_ok_and(|now| now >= Duration::from_nanos(changed_ns) + wait)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn no_such_pid() -> u32 {
        4_194_304
    }

    fn hash(hashes: &mut ImageHashes, path: &str, image: &ImageFile) -> ImageHash {
        if let Some(known) = hashes.known(image) {
            return known;
        }
        let hash = Hashing::begin(no_such_pid(), path, image)
            .and_then(|mut hashing| std::iter::repeat_with(|| hashing.step()).find_map(|step| step).unwrap());
        hashes.keep(image, &hash);
        hash
    }

    /// The file's identity, once its change lies back far enough to be remembered.
    fn settled(path: &std::path::Path) -> ImageFile {
        let image = identity(&File::open(path).unwrap()).unwrap();
        while !is_settled(&image, SystemTime::now()) {
            std::thread::yield_now();
        }
        image
    }

    #[test]
    fn a_changed_file_with_size_and_time_put_back_has_another_hash() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("image");
        let text = path.to_str().unwrap();
        std::fs::write(&path, "good").unwrap();
        let good = settled(&path);
        let mut hashes = ImageHashes::default();
        let good_hash = hash(&mut hashes, text, &good).unwrap();

        let file = File::options().write(true).open(&path).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, b"evil", 0).unwrap();
        let nanos = u64::try_from(good.modified_ns).unwrap();
        file.set_modified(UNIX_EPOCH + Duration::from_nanos(nanos)).unwrap();
        drop(file);
        let evil = identity(&File::open(&path).unwrap()).unwrap();
        let owned = |image: &ImageFile| (image.device, image.inode, image.modified_ns, image.size);
        assert_eq!(owned(&good), owned(&evil), "all that an owner can put back is put back");
        assert_ne!(hash(&mut hashes, text, &evil).unwrap(), good_hash);
        // As the kernel ran it before: what stands there now is not its content.
        assert_eq!(hash(&mut ImageHashes::default(), text, &good), Err("changed"));
    }

    #[test]
    fn what_changed_this_moment_is_not_remembered() {
        let image = |changed_ns| ImageFile { changed_ns, ..ImageFile::default() };
        let at = |nanos| UNIX_EPOCH + Duration::from_nanos(nanos);
        assert!(!is_settled(&image(5_000_000_001), at(5_010_000_000)));
        assert!(is_settled(&image(5_000_000_001), at(5_100_000_001)));
        assert!(!is_settled(&image(5_000_000_000), at(6_000_000_000)), "kept in seconds");
        assert!(!is_settled(&image(5_000_000_001), at(4_000_000_000)), "the clock was set back");
        assert!(!is_settled(&image(-1), at(0)));
    }

    #[test]
    fn only_the_file_that_the_kernel_ran_is_hashed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("image");
        std::fs::write(&path, "abc").unwrap();
        let text = path.to_str().unwrap();
        let image = settled(&path);
        let mut hashes = ImageHashes::default();
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(hash(&mut hashes, text, &image).as_deref(), Ok(abc));

        let other = ImageFile { inode: image.inode + 1, ..image };
        assert_eq!(hash(&mut hashes, text, &other), Err("changed"));
        assert_eq!(hash(&mut hashes, "/missing", &other), Err("unreadable"));
        let large = ImageFile { size: MAX_IMAGE_BYTES + 1, ..image };
        assert_eq!(hash(&mut hashes, text, &large), Err("too_large"));

        std::fs::remove_file(&path).unwrap();
        assert_eq!(hash(&mut hashes, text, &image).as_deref(), Ok(abc), "known by identity");
    }

    #[test]
    fn the_cache_stays_bounded() {
        let mut hashes = ImageHashes::default();
        for inode in 0..20_000 {
            let image = ImageFile { inode, size: MAX_IMAGE_BYTES + 1, ..ImageFile::default() };
            let _ = hash(&mut hashes, "/x", &image);
        }
        assert!(hashes.young.len() + hashes.old.len() <= 2 * GENERATION);
    }
}
