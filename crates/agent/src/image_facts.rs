//! What the content of images is, each file read once as long as it does not change.
//!
//! A path may name another file by now than the one the kernel ran. So the file
//! is opened through /proc/PID/exe where that still works, and its device, inode,
//! times and size must be what the kernel reported; else there are no facts rather
//! than wrong ones.
//!
//! The owner of a file can put back its size and modification time after a change,
//! but not its change time. Two changes within one tick of the kernel's clock look
//! alike, so facts are remembered only once the last change lies clearly back.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use event_model::{FileFacts, ImageFile};
use file_scan::{ContentFacts, ContentReading, ContentUnread, FileIdentity, LastSymlink, RegularFile};

use crate::system::observing::RemoteMounts;
use crate::system::paths::image_of;

/// Larger images are not read: it would hold up everything behind them.
pub const MAX_IMAGE_BYTES: u64 = 32 << 20;

/// Files in one generation of the cache; there are two.
const GENERATION: usize = 4_096;

/// A later change has another change time for sure: ticks last 10 ms at most.
const SETTLED: Duration = Duration::from_millis(100);

/// The same where a file system keeps times in seconds or two.
const SETTLED_COARSE: Duration = Duration::from_secs(3);

/// What an image's content is, or the reason why it is not known.
pub type ImageFacts = Result<Arc<FileFacts>, &'static str>;

/// Facts of images by what identifies a file and its state. Bounded: what was not
/// used for a whole generation is forgotten.
#[derive(Debug, Default)]
pub struct KnownImages {
    young: HashMap<ImageFile, ImageFacts>,
    old: HashMap<ImageFile, ImageFacts>,
}

impl KnownImages {
    /// The facts of an image that was read before.
    pub fn get(&mut self, image: &ImageFile) -> Option<ImageFacts> {
        if let Some(known) = self.young.get(image) {
            return Some(known.clone());
        }
        let known = self.old.remove(image)?;
        self.keep(image, &known);
        Some(known)
    }

    /// Remembers the facts of an image.
    pub fn keep(&mut self, image: &ImageFile, facts: &ImageFacts) {
        // A later process may find the file readable again.
        if matches!(facts, Err("unreadable" | "changed")) || !is_settled(image, SystemTime::now()) {
            return;
        }
        if self.young.len() >= GENERATION {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(*image, facts.clone());
    }
}

/// Why an image is not read that lies where nobody may ever answer.
pub(crate) const REMOTE: &str = "remote";

/// Whether an image lies on a network or on a file system of a program: what runs there was read by the kernel, but who
/// reads it again may wait for ever, and with him all that waits for him. By its device too, as `/proc/PID/exe` leads
/// to it whatever was mounted over its path meanwhile.
pub(crate) fn may_not_answer(pid: u32, path: &str, image: &ImageFile) -> bool {
    let seen = RemoteMounts::of_process(pid);
    seen.hold(path.as_bytes())
        || seen.hold_device(image.device)
        || RemoteMounts::read().hold_device(image.device)
}

/// An image that is being read, step by step, so that whoever reads can look after
/// more urgent things in between.
pub struct ImageReading(ContentReading);

impl ImageReading {
    /// Begins to read the image that `pid` runs.
    ///
    /// # Errors
    /// The reason why there will be no facts.
    pub fn begin(pid: u32, path: &str, image: &ImageFile) -> Result<Self, &'static str> {
        if image.size > MAX_IMAGE_BYTES {
            return Err(ContentUnread::TooLarge.as_str());
        }
        if may_not_answer(pid, path, image) {
            return Err(REMOTE);
        }
        let mut reason = ContentUnread::Unreadable(std::io::ErrorKind::NotFound);
        let link = image_of(pid);
        for (path, last) in [(link.as_str(), LastSymlink::Follow), (path, LastSymlink::Refuse)] {
            match RegularFile::open(Path::new(path), last) {
                Ok(file) if file.identity() == identity(image) => {
                    let reading = ContentReading::begin(file, MAX_IMAGE_BYTES);
                    return reading.map(Self).map_err(ContentUnread::as_str);
                }
                Ok(_) => reason = ContentUnread::Changed,
                Err(_) => {}
            }
        }
        Err(reason.as_str())
    }

    /// Reads on for a fraction of a millisecond; breaks with the facts at the end.
    pub fn step(self) -> ControlFlow<ImageFacts, Self> {
        match self.0.step() {
            ControlFlow::Continue(reading) => ControlFlow::Continue(Self(reading)),
            ControlFlow::Break(Ok(facts)) => ControlFlow::Break(Ok(Arc::new(as_event_carries(facts)))),
            ControlFlow::Break(Err(reason)) => ControlFlow::Break(Err(reason.as_str())),
        }
    }
}

/// As events carry them.
pub(crate) fn as_event_carries(facts: ContentFacts) -> FileFacts {
    FileFacts {
        md5: facts.md5_hex(),
        sha1: facts.sha1_hex(),
        sha256: facts.sha256_hex(),
        header: facts.header_hex(),
        entropy_milli: facts.entropy_milli(),
        tlsh: facts.tlsh,
        size: facts.size,
        content_type: facts.file_type.kind.as_str(),
    }
}

/// As the scan of files names it.
pub(crate) fn identity(image: &ImageFile) -> FileIdentity {
    let ImageFile { device, inode, modified_ns, changed_ns, size } = *image;
    FileIdentity { device, inode, modified_ns, changed_ns, size }
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

    fn hash(known: &mut KnownImages, path: &str, image: &ImageFile) -> Result<String, &'static str> {
        let facts = known.get(image).unwrap_or_else(|| {
            let mut reading = ImageReading::begin(no_such_pid(), path, image)?;
            loop {
                match reading.step() {
                    ControlFlow::Continue(next) => reading = next,
                    ControlFlow::Break(facts) => return facts,
                }
            }
        });
        known.keep(image, &facts);
        facts.map(|facts| facts.sha256.clone())
    }

    fn image(path: &Path) -> ImageFile {
        let FileIdentity { device, inode, modified_ns, changed_ns, size } =
            RegularFile::open(path, LastSymlink::Refuse).unwrap().identity();
        ImageFile { device, inode, modified_ns, changed_ns, size }
    }

    /// The file's identity, once its change lies back far enough to be remembered.
    fn settled(path: &Path) -> ImageFile {
        let image = image(path);
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
        let mut known = KnownImages::default();
        let good_hash = hash(&mut known, text, &good).unwrap();

        let file = std::fs::File::options().write(true).open(&path).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, b"evil", 0).unwrap();
        let nanos = u64::try_from(good.modified_ns).unwrap();
        file.set_modified(UNIX_EPOCH + Duration::from_nanos(nanos)).unwrap();
        drop(file);
        let evil = image(&path);
        let owned = |image: &ImageFile| (image.device, image.inode, image.modified_ns, image.size);
        assert_eq!(owned(&good), owned(&evil), "all that an owner can put back is put back");
        assert_ne!(hash(&mut known, text, &evil).unwrap(), good_hash);
        // As the kernel ran it before: what stands there now is not its content.
        assert_eq!(hash(&mut KnownImages::default(), text, &good), Err("changed"));
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
        let mut known = KnownImages::default();
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(hash(&mut known, text, &image).as_deref(), Ok(abc));

        let other = ImageFile { inode: image.inode + 1, ..image };
        assert_eq!(hash(&mut known, text, &other), Err("changed"));
        assert_eq!(hash(&mut known, "/missing", &other), Err("unreadable"));
        let large = ImageFile { size: MAX_IMAGE_BYTES + 1, ..image };
        assert_eq!(hash(&mut known, text, &large), Err("too_large"));

        std::fs::remove_file(&path).unwrap();
        assert_eq!(hash(&mut known, text, &image).as_deref(), Ok(abc), "known by identity");
    }

    #[test]
    fn the_cache_stays_bounded() {
        let mut known = KnownImages::default();
        for inode in 0..20_000 {
            let image = ImageFile { inode, size: MAX_IMAGE_BYTES + 1, ..ImageFile::default() };
            let _ = hash(&mut known, "/x", &image);
        }
        assert!(known.young.len() + known.old.len() <= 2 * GENERATION);
    }
}
