use std::io::Write;

use super::*;

struct Log {
    dir: tempfile::TempDir,
}

impl Log {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("auth.log")
    }

    fn append(&self, text: impl AsRef<[u8]>) {
        let mut file = OpenOptions::new().append(true).create(true).open(self.path()).unwrap();
        file.write_all(text.as_ref()).unwrap();
    }

    fn rotate(&self, to: &str) {
        fs::rename(self.path(), self.dir.path().join(to)).unwrap();
    }

    fn tail(&self, place: Option<Place>) -> Tail {
        Tail::new(self.path(), Framing::Lines, place)
    }
}

/// Everything that can be read now.
fn lines(tail: &mut Tail) -> Vec<String> {
    let mut lines = Vec::new();
    let mut looks = 0;
    while tail
        .read(&mut |line, cut| {
            lines.push(format!("{}{}", String::from_utf8_lossy(line), if cut { "…" } else { "" }));
        })
        .unwrap()
        .more
    {
        looks += 1;
        assert!(looks < 1_000, "reading ends");
    }
    lines
}

#[test]
fn only_what_is_new_and_complete_is_handed_out() {
    let log = Log::new();
    log.append("old\nhalf");
    let mut tail = log.tail(None);
    assert!(lines(&mut tail).is_empty());
    log.append(" a line\nnext");
    assert_eq!(lines(&mut tail), ["half a line"]);
    log.append("\n");
    assert_eq!(lines(&mut tail), ["next"]);
}

#[test]
fn rotation_truncation_and_a_new_file_lose_and_double_nothing() {
    let log = Log::new();
    let mut tail = log.tail(None);
    assert!(lines(&mut tail).is_empty(), "there is no file yet");
    log.append("one\n");
    assert_eq!(lines(&mut tail), ["one"]);
    log.append("two\n");
    log.rotate("auth.log.1");
    assert_eq!(lines(&mut tail), ["two"], "the old file goes on until there is a new one");
    log.append("three\n");
    assert_eq!(lines(&mut tail), ["three"]);
    log.append("four\n");
    fs::write(log.path(), "").unwrap();
    log.append("5\n");
    assert_eq!(lines(&mut tail), ["5"], "truncated, then written again");
}

#[test]
fn a_restart_goes_on_where_the_last_run_stopped() {
    let log = Log::new();
    log.append("zero\n");
    let mut tail = log.tail(None);
    lines(&mut tail);
    log.append("one\n");
    lines(&mut tail);
    let place = tail.place();
    drop(tail);
    log.append("two\n");
    assert_eq!(lines(&mut log.tail(place.clone())), ["two"]);

    log.rotate("auth.log.1");
    log.append("three\n");
    assert_eq!(lines(&mut log.tail(place.clone())), ["two", "three"], "rotated while nobody read");

    // copytruncate: the same inode with other content, as long as before.
    fs::copy(log.dir.path().join("auth.log.1"), log.dir.path().join("auth.log.2")).unwrap();
    fs::remove_file(log.path()).unwrap();
    fs::rename(log.dir.path().join("auth.log.1"), log.path()).unwrap();
    fs::write(log.path(), "alpha\nbeta\ngamma\n").unwrap();
    let mut tail = log.tail(place);
    let mut all = Vec::new();
    let found = tail.read(&mut |line, _| all.push(String::from_utf8_lossy(line).into_owned())).unwrap();
    assert_eq!(all, ["alpha", "beta", "gamma"]);
    assert!(found.lost, "what stood in the old content can't be found by its inode: said");
}

#[test]
fn a_line_of_a_megabyte_is_cut_and_garbage_is_passed_on() {
    let log = Log::new();
    let mut tail = log.tail(None);
    lines(&mut tail);
    log.append(vec![b'x'; 1 << 20]);
    let cut = lines(&mut tail);
    assert_eq!(cut.len(), 1);
    assert_eq!(cut[0].chars().count(), MAX_LINE + 1);
    let place = tail.place();
    log.append(b"still the same\nnext\n\0\xff\n");
    assert_eq!(
        lines(&mut log.tail(place)),
        ["next", "\0\u{fffd}"],
        "the rest of a cut line is skipped after a restart, too"
    );
}

#[test]
fn a_fifo_in_the_place_of_the_log_does_not_block() {
    let log = Log::new();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        log.path(),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    let mut tail = log.tail(None);
    assert!(tail.read(&mut |_, _| panic!("nothing can come")).is_err());
}
