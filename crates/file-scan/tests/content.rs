//! Facts of real files, also of those that are laid out to hurt.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::ops::ControlFlow;
use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::path::Path;

use file_scan::{
    ContentFacts, ContentReading, ContentUnread, FileKind, LastSymlink, RegularFile, read_content,
};
use rustix::fs::{CWD, FileType, Mode, mknodat};

const ENOUGH: u64 = 64 << 20;

fn open(path: &Path) -> Result<RegularFile, ContentUnread> {
    RegularFile::open(path, LastSymlink::Refuse)
}

#[test]
fn a_file_has_the_facts_of_its_bytes_and_keeps_its_position_and_access_time() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("program");
    // Not a multiple of any step.
    let bytes: Vec<u8> = (0..1_000_003_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    fs::write(&path, [b"\x7fELF".as_slice(), &bytes].concat()).unwrap();
    let accessed = |path: &Path| fs::metadata(path).map(|file| (file.atime(), file.atime_nsec())).unwrap();
    let before = accessed(&path);
    let facts = read_content(open(&path).unwrap(), ENOUGH).unwrap();
    assert_eq!(accessed(&path), before, "access times are evidence");
    assert_eq!(facts, ContentFacts::of(&fs::read(&path).unwrap()));
    assert_eq!((facts.size, facts.file_type.kind), (1_000_007, FileKind::Elf));
    assert!(facts.tlsh.is_some_and(|tlsh| tlsh.len() == 72));

    let mut shared = File::open(&path).unwrap();
    read_content(RegularFile::from_file(shared.try_clone().unwrap()).unwrap(), ENOUGH).unwrap();
    let mut first = [0; 4];
    shared.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"\x7fELF", "the position of a shared descriptor did not move");
}

#[test]
fn what_is_no_regular_file_is_never_opened() {
    let dir = tempfile::tempdir().unwrap();
    let pipe = dir.path().join("pipe");
    mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    // An open for reading would wait for a writer here.
    assert_eq!(open(&pipe).unwrap_err(), ContentUnread::NotRegular);
    assert_eq!(open(dir.path()).unwrap_err(), ContentUnread::NotRegular);
    assert_eq!(open(Path::new("/dev/zero")).unwrap_err(), ContentUnread::NotRegular);
    assert_eq!(
        RegularFile::from_file(File::open("/dev/zero").unwrap()).unwrap_err(),
        ContentUnread::NotRegular
    );

    let link = dir.path().join("link");
    symlink("/etc/passwd", &link).unwrap();
    assert_eq!(open(&link).unwrap_err(), ContentUnread::NotRegular);
    assert!(RegularFile::open(&link, LastSymlink::Follow).is_ok());
    symlink(&pipe, dir.path().join("to-pipe")).unwrap();
    let to_pipe = RegularFile::open(&dir.path().join("to-pipe"), LastSymlink::Follow);
    assert_eq!(to_pipe.unwrap_err(), ContentUnread::NotRegular);
    let missing = open(&dir.path().join("missing")).unwrap_err();
    assert_eq!(missing, ContentUnread::Unreadable(std::io::ErrorKind::NotFound));
    assert_eq!(missing.to_string(), "unreadable (entity not found)");
}

#[test]
fn the_image_of_a_process_is_read_through_its_link() {
    let own = RegularFile::open(Path::new("/proc/self/exe"), LastSymlink::Follow).unwrap();
    assert_eq!(read_content(own, 1 << 30).unwrap().file_type.kind, FileKind::Elf);
}

#[test]
fn a_change_while_reading_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    let change = |change: &dyn Fn(&File)| {
        fs::write(&path, vec![1; 200_000]).unwrap();
        let opened = open(&path).unwrap();
        // The clock of change times must have ticked since the write.
        while fs::metadata(&path).unwrap().ctime_nsec() == {
            let probe = tempfile::tempfile_in(dir.path()).unwrap();
            probe.metadata().unwrap().ctime_nsec()
        } {
            std::thread::yield_now();
        }
        let mut reading = match ContentReading::begin(opened, ENOUGH).unwrap().step() {
            ControlFlow::Continue(reading) => reading,
            ControlFlow::Break(result) => panic!("one step read 200,000 bytes: {result:?}"),
        };
        change(&File::options().write(true).open(&path).unwrap());
        loop {
            match reading.step() {
                ControlFlow::Continue(next) => reading = next,
                ControlFlow::Break(result) => return result,
            }
        }
    };
    assert!(change(&|_| {}).is_ok());
    assert_eq!(change(&|file| file.set_len(100).unwrap()), Err(ContentUnread::Changed));
    assert_eq!(change(&|file| file.set_len(300_000).unwrap()), Err(ContentUnread::Changed));
    assert_eq!(change(&|file| file.write_all_at(b"x", 0).unwrap()), Err(ContentUnread::Changed));
    let put_back = change(&|file| {
        let modified = file.metadata().unwrap().modified().unwrap();
        file.write_all_at(b"x", 0).unwrap();
        file.set_modified(modified).unwrap();
    });
    assert_eq!(put_back, Err(ContentUnread::Changed));
}

#[test]
fn limits_and_files_without_a_size() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    File::create(&path).unwrap().write_all(&[0; 1_001]).unwrap();
    let begun = ContentReading::begin(open(&path).unwrap(), 1_000);
    assert_eq!(begun.err(), Some(ContentUnread::TooLarge));
    assert!(read_content(open(&path).unwrap(), 1_001).is_ok());
    fs::write(&path, "").unwrap();
    assert_eq!(read_content(open(&path).unwrap(), 0).unwrap().file_type.kind, FileKind::Empty);
    // Size 0 and yet content: never the hash of nothing.
    assert_eq!(
        read_content(open(Path::new("/proc/self/status")).unwrap(), ENOUGH),
        Err(ContentUnread::Changed)
    );
}
