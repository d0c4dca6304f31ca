//! What is known of the watched directories: the baseline.
//!
//! Names stand in their directory, so that a directory that gets another name takes
//! all below it with it, and no path is kept twice.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;

use aws_lc_rs::digest::{SHA256, digest};
use rustix::fs::{CWD, Mode, OFlags, openat};

/// Names that are known at most; what is beyond is not watched, and said so.
pub(super) const MOST_NAMES: usize = 200_000;

const MAGIC: &[u8; 8] = b"RPFIM\0\0\x01";
const CHECKSUM: usize = 32;

/// A larger baseline can't be one that was written here.
pub(super) const MOST_BYTES: u64 = 128 << 20;

pub(super) type DirId = usize;

/// What a file holds, or why that is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    /// SHA-256; of a symbolic link that of its target's path.
    Sha256([u8; 32]),
    TooLarge,
    Unreadable,
    /// Somebody wrote while it was read.
    Changed,
    /// A directory, FIFO, socket or device.
    NotRegular,
}

impl Content {
    const SKIPPED: [(Self, u8, &'static str); 4] = [
        (Self::TooLarge, 1, "too_large"),
        (Self::Unreadable, 2, "unreadable"),
        (Self::Changed, 3, "changed"),
        (Self::NotRegular, 4, "not_regular"),
    ];

    pub(super) fn skipped(self) -> Option<&'static str> {
        Self::SKIPPED.iter().find(|(content, ..)| *content == self).map(|(.., word)| *word)
    }
}

/// A name's inode, as far as it is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct State {
    /// Type and permissions.
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) links: u32,
    pub(super) size: u64,
    /// Nanoseconds since the Unix epoch.
    pub(super) modified_ns: i64,
    /// The same; only the kernel sets it.
    pub(super) changed_ns: i64,
    pub(super) inode: u64,
    pub(super) device: u64,
    pub(super) content: Content,
}

impl State {
    pub(super) fn kind(&self) -> u32 {
        self.mode & libc::S_IFMT
    }

    pub(super) fn is_dir(&self) -> bool {
        self.kind() == libc::S_IFDIR
    }
}

#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) state: State,
    /// Set for directories that are watched.
    pub(super) dir: Option<DirId>,
}

#[derive(Debug, Clone)]
struct Dir {
    parent: Option<DirId>,
    /// A root has its whole path here.
    name: Box<[u8]>,
    nodes: BTreeMap<Box<[u8]>, Node>,
}

/// All watched directories.
#[derive(Debug, Default)]
pub(super) struct Tree {
    dirs: Vec<Option<Dir>>,
    names: usize,
}

impl Tree {
    pub(super) fn add_root(&mut self, path: &[u8]) -> DirId {
        self.insert(Dir { parent: None, name: path.into(), nodes: BTreeMap::new() })
    }

    fn insert(&mut self, dir: Dir) -> DirId {
        match self.dirs.iter().position(Option::is_none) {
            // Free places are rare, and dirs few: looking is cheap enough.
            Some(free) => {
                self.dirs[free] = Some(dir);
                free
            }
            None => {
                self.dirs.push(Some(dir));
                self.dirs.len() - 1
            }
        }
    }

    fn dir(&self, id: DirId) -> Option<&Dir> {
        self.dirs.get(id)?.as_ref()
    }

    pub(super) fn is_full(&self) -> bool {
        self.names >= MOST_NAMES
    }

    pub(super) fn len(&self) -> usize {
        self.names
    }

    pub(super) fn has(&self, id: DirId) -> bool {
        self.dir(id).is_some()
    }

    pub(super) fn roots(&self) -> impl Iterator<Item = (DirId, &[u8])> {
        let dirs = self.dirs.iter().enumerate();
        dirs.filter_map(|(id, dir)| {
            dir.as_ref().filter(|dir| dir.parent.is_none()).map(|dir| (id, &*dir.name))
        })
    }

    pub(super) fn root_of(&self, mut id: DirId) -> DirId {
        while let Some(parent) = self.dir(id).and_then(|dir| dir.parent) {
            id = parent;
        }
        id
    }

    pub(super) fn get(&self, id: DirId, name: &[u8]) -> Option<&Node> {
        self.dir(id)?.nodes.get(name)
    }

    pub(super) fn names(&self, id: DirId) -> impl Iterator<Item = &[u8]> {
        self.dir(id).into_iter().flat_map(|dir| dir.nodes.keys().map(|name| &**name))
    }

    /// Takes note of a name; for a directory also of the directory, whose id is given back.
    pub(super) fn put(&mut self, id: DirId, name: &[u8], state: State) -> Option<DirId> {
        let known = self.get(id, name).map(|node| node.dir);
        if !self.has(id) || (known.is_none() && self.is_full()) {
            return None;
        }
        let dir = match known.flatten() {
            Some(dir) => Some(dir),
            None if state.is_dir() => {
                Some(self.insert(Dir { parent: Some(id), name: name.into(), nodes: BTreeMap::new() }))
            }
            None => None,
        };
        if let Some(parent) = self.dirs.get_mut(id).and_then(Option::as_mut) {
            parent.nodes.insert(name.into(), Node { state, dir });
            self.names += usize::from(known.is_none());
        }
        dir
    }

    /// Forgets a name and all below it, and hands all of that out, the deepest first.
    pub(super) fn remove(&mut self, id: DirId, name: &[u8]) -> Vec<(Vec<u8>, Node)> {
        let mut removed = Vec::new();
        let Some(node) =
            self.dirs.get_mut(id).and_then(Option::as_mut).and_then(|dir| dir.nodes.remove(name))
        else {
            return removed;
        };
        self.names -= 1;
        let mut path = self.path(id);
        push_name(&mut path, name);
        let mut below = node.dir.map(|dir| (dir, path.clone())).into_iter().collect::<Vec<_>>();
        removed.push((path, node));
        while let Some((dir, path)) = below.pop() {
            let Some(dir) = self.dirs.get_mut(dir).and_then(Option::take) else { continue };
            self.names -= dir.nodes.len();
            for (name, node) in dir.nodes {
                let mut path = path.clone();
                push_name(&mut path, &name);
                if let Some(dir) = node.dir {
                    below.push((dir, path.clone()));
                }
                removed.push((path, node));
            }
        }
        removed.reverse();
        removed
    }

    /// Gives a name another place; what stood there must have been removed. False if
    /// there is no such name.
    pub(super) fn rename(&mut self, from: (DirId, &[u8]), to: (DirId, &[u8])) -> bool {
        if !self.has(to.0) {
            return false;
        }
        let taken =
            self.dirs.get_mut(from.0).and_then(Option::as_mut).and_then(|dir| dir.nodes.remove(from.1));
        let Some(node) = taken else { return false };
        if let Some(dir) = node.dir.and_then(|dir| self.dirs.get_mut(dir)).and_then(Option::as_mut) {
            dir.parent = Some(to.0);
            dir.name = to.1.into();
        }
        if let Some(dir) = self.dirs.get_mut(to.0).and_then(Option::as_mut) {
            dir.nodes.insert(to.1.into(), node);
        }
        true
    }

    pub(super) fn path(&self, id: DirId) -> Vec<u8> {
        let mut names = Vec::new();
        let mut next = self.dir(id);
        while let Some(dir) = next {
            names.push(&*dir.name);
            next = dir.parent.and_then(|parent| self.dir(parent));
        }
        let mut path = Vec::new();
        names.into_iter().rev().for_each(|name| push_name(&mut path, name));
        path
    }

    /// Opens it name by name: a path may be longer than the kernel takes at once, and
    /// no symbolic link that somebody puts in between leads out.
    pub(super) fn open(&self, id: DirId) -> io::Result<OwnedFd> {
        let mut names = Vec::new();
        let mut next = self.dir(id);
        while let Some(dir) = next {
            names.push(&*dir.name);
            next = dir.parent.and_then(|parent| self.dir(parent));
        }
        let flags =
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let mut names = names.into_iter().rev();
        let root = names.next().ok_or(io::ErrorKind::NotFound)?;
        let mut dir = openat(CWD, root, flags, Mode::empty())?;
        for name in names {
            dir = openat(&dir, name, flags, Mode::empty())?;
        }
        Ok(dir)
    }

    /// As bytes, with a checksum at the end. Only these roots.
    pub(super) fn encode(&self, is_complete: impl Fn(DirId) -> bool) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        // A directory stands behind its parent, which is named by its place in the list.
        let mut order: Vec<(DirId, u32)> = Vec::new();
        order.extend(self.roots().filter(|(id, _)| is_complete(*id)).map(|(id, _)| (id, u32::MAX)));
        let mut next = 0;
        while let Some(&(id, parent)) = order.get(next) {
            let place = u32::try_from(next).unwrap_or(u32::MAX);
            next += 1;
            let Some(dir) = self.dir(id) else { continue };
            order.extend(dir.nodes.values().filter_map(|node| Some((node.dir?, place))));
            bytes.extend(parent.to_le_bytes());
            put_bytes(&mut bytes, &dir.name);
            bytes.extend(u32::try_from(dir.nodes.len()).unwrap_or(u32::MAX).to_le_bytes());
            for (name, node) in &dir.nodes {
                put_bytes(&mut bytes, name);
                put_state(&mut bytes, &node.state);
            }
        }
        let checksum = digest(&SHA256, &bytes);
        bytes.extend(checksum.as_ref());
        bytes
    }

    /// From bytes; `None` if they are damaged or of another version.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (content, checksum) = bytes.split_at_checked(bytes.len().checked_sub(CHECKSUM)?)?;
        if digest(&SHA256, content).as_ref() != checksum {
            return None;
        }
        let mut rest = content.strip_prefix(MAGIC)?;
        let mut tree = Self::default();
        let mut ids: Vec<DirId> = Vec::new();
        while !rest.is_empty() {
            let parent = take_u32(&mut rest)?;
            let name = take_bytes(&mut rest)?;
            let id = if parent == u32::MAX {
                tree.add_root(name)
            } else {
                let parent = *ids.get(usize::try_from(parent).ok()?)?;
                tree.get(parent, name)?.dir?
            };
            ids.push(id);
            for _ in 0..take_u32(&mut rest)? {
                let name = take_bytes(&mut rest)?;
                let state = take_state(&mut rest)?;
                if name.is_empty() || name.contains(&b'/') {
                    return None;
                }
                tree.put(id, name, state);
            }
        }
        Some(tree)
    }

    /// Forgets a root and all below it.
    pub(super) fn remove_root(&mut self, id: DirId) {
        let names: Vec<Vec<u8>> = self.names(id).map(<[u8]>::to_vec).collect();
        for name in names {
            self.remove(id, &name);
        }
        if let Some(dir) = self.dirs.get_mut(id) {
            *dir = None;
        }
    }
}

pub(super) fn push_name(path: &mut Vec<u8>, name: &[u8]) {
    if !path.is_empty() && !path.ends_with(b"/") {
        path.push(b'/');
    }
    path.extend(name);
}

fn put_bytes(bytes: &mut Vec<u8>, value: &[u8]) {
    bytes.extend(u32::try_from(value.len()).unwrap_or(0).to_le_bytes());
    bytes.extend(value);
}

fn put_state(bytes: &mut Vec<u8>, state: &State) {
    for number in [state.mode, state.uid, state.gid, state.links] {
        bytes.extend(number.to_le_bytes());
    }
    for number in [state.size, state.inode, state.device] {
        bytes.extend(number.to_le_bytes());
    }
    for number in [state.modified_ns, state.changed_ns] {
        bytes.extend(number.to_le_bytes());
    }
    match state.content {
        Content::Sha256(hash) => {
            bytes.push(0);
            bytes.extend(hash);
        }
        skipped => bytes
            .push(Content::SKIPPED.iter().find(|(content, ..)| *content == skipped).map_or(2, |row| row.1)),
    }
}

fn take<'a>(rest: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(count)?;
    *rest = left;
    Some(taken)
}

fn take_u32(rest: &mut &[u8]) -> Option<u32> {
    take(rest, 4)?.try_into().ok().map(u32::from_le_bytes)
}

fn take_u64(rest: &mut &[u8]) -> Option<u64> {
    take(rest, 8)?.try_into().ok().map(u64::from_le_bytes)
}

fn take_bytes<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = take_u32(rest)?;
    take(rest, usize::try_from(length).ok()?)
}

fn take_state(rest: &mut &[u8]) -> Option<State> {
    let [mode, uid, gid, links] = [take_u32(rest)?, take_u32(rest)?, take_u32(rest)?, take_u32(rest)?];
    let [size, inode, device] = [take_u64(rest)?, take_u64(rest)?, take_u64(rest)?];
    let [modified_ns, changed_ns] = [take_u64(rest)?.cast_signed(), take_u64(rest)?.cast_signed()];
    let content = match take(rest, 1)?[0] {
        0 => Content::Sha256(take(rest, 32)?.try_into().ok()?),
        word => Content::SKIPPED.iter().find(|row| row.1 == word)?.0,
    };
    Some(State { mode, uid, gid, links, size, modified_ns, changed_ns, inode, device, content })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(mode: u32, size: u64) -> State {
        State {
            mode,
            uid: 1,
            gid: 2,
            links: 1,
            size,
            modified_ns: -5,
            changed_ns: 7,
            inode: 9,
            device: 3,
            content: if mode & libc::S_IFMT == libc::S_IFREG {
                Content::Sha256([7; 32])
            } else {
                Content::NotRegular
            },
        }
    }

    fn example() -> Tree {
        let mut tree = Tree::default();
        let etc = tree.add_root(b"/etc");
        let ssh = tree.put(etc, b"ssh", state(libc::S_IFDIR | 0o755, 0)).unwrap();
        tree.put(etc, b"passwd", state(libc::S_IFREG | 0o644, 10));
        let deep = tree.put(ssh, b"conf.d", state(libc::S_IFDIR | 0o755, 0)).unwrap();
        tree.put(deep, b"\xff\n", state(libc::S_IFREG | 0o600, 3));
        tree.add_root(b"/bin");
        tree
    }

    #[test]
    fn comes_back_from_bytes_and_damage_is_noticed() {
        let tree = example();
        let bytes = tree.encode(|_| true);
        let back = Tree::decode(&bytes).unwrap();
        assert_eq!(back.encode(|_| true), bytes);
        assert_eq!(back.len(), 4);
        assert_eq!(
            back.roots().map(|(_, path)| path.to_vec()).collect::<Vec<_>>(),
            [b"/etc".to_vec(), b"/bin".to_vec()]
        );
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert!(Tree::decode(&damaged).is_none(), "byte {at}");
            assert!(Tree::decode(&bytes[..at]).is_none(), "length {at}");
        }
    }

    #[test]
    fn wrong_content_with_a_right_checksum_does_no_harm() {
        let bytes = example().encode(|_| true);
        let content = &bytes[..bytes.len() - CHECKSUM];
        for at in MAGIC.len()..content.len() {
            for value in [0, 1, 0x7f, 0xff] {
                let mut forged = content.to_vec();
                forged[at] = value;
                let checksum = digest(&SHA256, &forged);
                forged.extend(checksum.as_ref());
                let _ = Tree::decode(&forged);
            }
        }
    }

    #[test]
    fn a_renamed_directory_takes_all_along_and_a_removed_one_hands_all_out() {
        let mut tree = example();
        let (etc, _) = tree.roots().next().unwrap();
        let ssh = tree.get(etc, b"ssh").unwrap().dir.unwrap();
        let deep = tree.get(ssh, b"conf.d").unwrap().dir.unwrap();
        assert!(tree.rename((etc, b"ssh"), (etc, b"ssh2")));
        assert_eq!(tree.path(deep), b"/etc/ssh2/conf.d");
        assert!(!tree.rename((etc, b"ssh"), (etc, b"x")));
        let removed = tree.remove(etc, b"ssh2");
        let paths: Vec<Vec<u8>> = removed.into_iter().map(|(path, _)| path).collect();
        assert_eq!(
            paths,
            [b"/etc/ssh2/conf.d/\xff\n".to_vec(), b"/etc/ssh2/conf.d".to_vec(), b"/etc/ssh2".to_vec()]
        );
        assert_eq!(tree.len(), 1);
        assert!(!tree.has(ssh) && !tree.has(deep));
    }
}
