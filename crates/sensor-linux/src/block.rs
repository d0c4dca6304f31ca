//! What may not run, as entries of the kernel side's maps.
//!
//! The layout is that of `struct blocked_text` and `struct blocked_image` of
//! `bpf/record.h`.

use std::io;

use event_model::ImageFile;
use libbpf_rs::{MapCore, MapFlags, MapHandle};
use sensor_api::Block;

use crate::pins::Maps;
use crate::record::kernel_device;

const BLOCK_NAME: u32 = 1;
const BLOCK_PATH: u32 = 2;
/// Bytes of a name or path, with a zero byte behind each part.
const TEXT_MAX: usize = 252;

/// Enters all that can be entered.
///
/// # Errors
/// The first that can't, and why.
pub(crate) fn enter(maps: &Maps, what: &[Block]) -> io::Result<()> {
    let mut result = Ok(());
    for one in what {
        let entered = match one {
            Block::Name(name) => {
                text_key(BLOCK_NAME, &[name.as_str()]).and_then(|key| put(&maps.blocked_texts, &key))
            }
            Block::Path(path) => path_key(path).and_then(|key| put(&maps.blocked_texts, &key)),
            Block::Image(image) => put(&maps.blocked_images, &image_key(image)),
        };
        let entered = entered
            .map_err(|error| io::Error::new(error.kind(), format!("{one:?} can't be blocked: {error}")));
        result = result.and(entered);
    }
    result
}

/// Forgets all.
pub(crate) fn clear(maps: &Maps) -> Result<(), libbpf_rs::Error> {
    for map in [&maps.blocked_texts, &maps.blocked_images] {
        let keys: Vec<Vec<u8>> = map.keys().collect();
        for key in keys {
            map.delete(&key)?;
        }
    }
    Ok(())
}

fn put(map: &MapHandle, key: &[u8]) -> io::Result<()> {
    map.update(key, &1_u32.to_ne_bytes(), MapFlags::ANY).map_err(io::Error::other)
}

fn path_key(path: &str) -> io::Result<Vec<u8>> {
    let Some(parts) = path.strip_prefix('/') else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a path begins with `/`"));
    };
    let parts: Vec<&str> = parts.rsplit('/').collect();
    text_key(BLOCK_PATH, &parts)
}

/// The parts, each with a zero byte behind it, filled up with zeros.
fn text_key(kind: u32, parts: &[&str]) -> io::Result<Vec<u8>> {
    let invalid = |reason: String| Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
    if parts.iter().any(|part| part.is_empty() || part.contains(['/', '\0']) || matches!(*part, "." | "..")) {
        return invalid("it has an empty part, `.`, `..`, or a zero byte".to_owned());
    }
    let length: usize = parts.iter().map(|part| part.len() + 1).sum();
    if length > TEXT_MAX {
        return invalid(format!("{} bytes are the limit", TEXT_MAX - 1));
    }
    let mut key = Vec::with_capacity(4 + TEXT_MAX);
    key.extend(kind.to_ne_bytes());
    for part in parts {
        key.extend(part.as_bytes());
        key.push(0);
    }
    key.resize(4 + TEXT_MAX, 0);
    Ok(key)
}

fn image_key(image: &ImageFile) -> Vec<u8> {
    let mut key = Vec::with_capacity(24);
    key.extend(image.inode.to_ne_bytes());
    key.extend(image.changed_ns.div_euclid(1_000_000_000).to_ne_bytes());
    key.extend((image.changed_ns.rem_euclid(1_000_000_000) as u32).to_ne_bytes());
    key.extend(kernel_device(image.device).to_ne_bytes());
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_as_the_kernel_side_puts_them_together() {
        let key = path_key("/usr/bin/true").unwrap();
        assert_eq!(key.len(), 256);
        assert_eq!(key[..4], BLOCK_PATH.to_ne_bytes());
        assert!(key[4..].starts_with(b"true\0bin\0usr\0\0"));
        let key = image_key(&ImageFile { inode: 7, changed_ns: -1, device: 0x801, ..ImageFile::default() });
        assert_eq!(key.len(), 24);
        assert_eq!(key[8..16], (-1_i64).to_ne_bytes());
        assert_eq!(key[16..20], 999_999_999_u32.to_ne_bytes());
        assert_eq!(key[20..], ((8_u32 << 20) | 1).to_ne_bytes());
    }

    #[test]
    fn what_can_never_match_is_refused() {
        for path in ["", "usr/bin", "/usr//bin", "/usr/../bin", "/bin/", "/a\0b"] {
            assert!(path_key(path).is_err(), "{path:?}");
        }
        assert!(text_key(BLOCK_NAME, &["n".repeat(251).as_str()]).is_ok());
        assert!(text_key(BLOCK_NAME, &["n".repeat(252).as_str()]).is_err());
        assert!(text_key(BLOCK_NAME, &["a/b"]).is_err());
    }
}
