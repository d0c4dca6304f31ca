//! The workloads, each run by a process of its own.

use std::io::Write as _;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Acts of the flood: ten seconds of it.
const FLOOD: u32 = 4_000_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    Execs,
    Files,
    Connects,
    Compile,
    Flood,
}

/// One run.
pub(crate) struct Run {
    /// Seconds.
    pub(crate) wall: f64,
}

impl Work {
    pub(crate) const ALL: &[Self] = &[Self::Execs, Self::Files, Self::Connects, Self::Compile, Self::Flood];

    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Execs => "execs",
            Self::Files => "files",
            Self::Connects => "connects",
            Self::Compile => "compile",
            Self::Flood => "flood",
        }
    }

    pub(crate) fn describe(self) -> &'static str {
        match self {
            Self::Execs => "exec storm: 20,000 processes by posix_spawn, two at a time",
            Self::Files => {
                "file storm: 100,000 files created, written (512 bytes), renamed and removed, one at a time"
            }
            Self::Connects => "connect storm: 20,000 connections over loopback",
            Self::Compile => "compile: 200 small C files, two at a time",
            Self::Flood => "flood: modes changed 4,000,000 times in 10 seconds, of two files by two threads",
        }
    }

    /// What the cost is divided by.
    pub(crate) fn acts(self) -> u32 {
        match self {
            Self::Execs | Self::Connects => 20_000,
            Self::Files => 100_000,
            Self::Compile => 200,
            Self::Flood => FLOOD,
        }
    }

    /// Events of [`event_types`](Self::event_types) that the work makes by itself.
    pub(crate) fn events(self) -> u64 {
        match self {
            Self::Execs | Self::Connects => 20_000,
            Self::Files => 400_000,
            Self::Compile => 600,
            Self::Flood => u64::from(FLOOD),
        }
    }

    /// The types that are counted.
    pub(crate) fn event_types(self) -> &'static [&'static str] {
        match self {
            Self::Execs => &["process_start"],
            Self::Files => &["file_create", "file_modify", "file_rename", "file_delete"],
            Self::Connects => &["network_connect"],
            Self::Compile => &[],
            Self::Flood => &["file_attribute"],
        }
    }

    /// The program that does it; a mark makes it one of its own, so that its events can be told.
    pub(crate) fn program(self, mark: u32) -> PathBuf {
        let own = std::env::current_exe().unwrap();
        if mark == 0 {
            return own;
        }
        let program = std::env::temp_dir().join(format!("rampart-bench-{}-{mark}", self.word()));
        if !program.exists() {
            let of = if self == Self::Execs { Path::new("/bin/true") } else { &own };
            std::fs::copy(of, &program).unwrap();
            // What changed this moment is read each time it is run, as it may change again.
            test_support::pause(Duration::from_millis(200));
        }
        program
    }

    /// Who does the work, and the image that it runs.
    fn cast(self, mark: u32) -> (PathBuf, PathBuf) {
        let program = self.program(mark);
        match (self, mark) {
            (Self::Execs, 0) => (std::env::current_exe().unwrap(), PathBuf::from("/bin/true")),
            (Self::Execs, _) => (std::env::current_exe().unwrap(), program),
            _ => (program, PathBuf::new()),
        }
    }

    /// Starts the runner once without work. It is 12 MB that a sensor may read when it first sees it, once.
    pub(crate) fn rehearse(self, mark: u32) {
        let (runner, _) = self.cast(mark);
        assert!(Command::new(runner).args(["--role", "nothing", "-"]).status().unwrap().success());
    }

    /// Does the work in a process of its own.
    pub(crate) fn run(self, mark: u32) -> Run {
        let folder = tempfile::Builder::new().prefix("rampart-bench-").tempdir().unwrap();
        let (runner, image) = self.cast(mark);
        if self == Self::Compile {
            write_sources(folder.path());
        }
        let begun = Instant::now();
        let status = Command::new(runner)
            // `cargo bench` sets it, with four folders that each start would look for its libraries in first: it takes
            // a fifth longer than on a host that nobody builds on.
            .env_remove("LD_LIBRARY_PATH")
            .args(["--role", self.word()])
            .arg(folder.path())
            .arg(image)
            .stdin(Stdio::null())
            .status()
            .unwrap();
        assert!(status.success());
        Run { wall: begun.elapsed().as_secs_f64() }
    }
}

fn write_sources(folder: &Path) {
    for number in 0..200 {
        let text = format!(
            "#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n\
             int part_{number}(int n) {{ char b[64]; snprintf(b, sizeof b, \"%d\", n); return (int)strlen(b) + atoi(b); }}\n"
        );
        std::fs::write(folder.join(format!("part_{number}.c")), text).unwrap();
    }
}

/// In the process that does the work.
pub(crate) fn play(arguments: &[String]) {
    let folder = PathBuf::from(&arguments[1]);
    match arguments[0].as_str() {
        "nothing" => {}
        "execs" => in_two(10_000, |_| {
            assert!(Command::new(&arguments[2]).stdin(Stdio::null()).status().unwrap().success());
        }),
        // One at a time, so that what is measured is what the calls themselves cost more:
        // a second core is free for whoever watches, as on a host that does not only write.
        "files" => (0..100_000).for_each(|number| {
            let (first, second) = (folder.join(format!("a{number}")), folder.join(format!("b{number}")));
            std::fs::File::create(&first).unwrap().write_all(&[7; 512]).unwrap();
            std::fs::rename(&first, &second).unwrap();
            std::fs::remove_file(&second).unwrap();
        }),
        "connects" => {
            let listener = TcpListener::bind("0.0.0.0:0").unwrap();
            let port = listener.local_addr().unwrap().port();
            // Ended connections keep their ports for a minute: every hundred go to another address.
            for number in 0..20_000_u32 {
                let address = Ipv4Addr::from(u32::from(Ipv4Addr::LOCALHOST) + number / 100);
                TcpStream::connect((address, port)).unwrap();
                // Here and not in a thread of its own: were it ever behind by the 128 that may wait,
                // the kernel would drop a SYN and the connection take a second.
                listener.accept().unwrap();
            }
        }
        "compile" => in_two(100, |number| {
            let status = Command::new("cc")
                .args(["-O1", "-c", "-o", "/dev/null"])
                .arg(folder.join(format!("part_{number}.c")))
                .status();
            assert!(status.unwrap().success());
        }),
        "flood" => flood(),
        other => panic!("no role {other}"),
    }
}

/// Changes modes [`FLOOD`] times, in steps of a hundredth of a second that take longer where they must.
fn flood() {
    const STEP: u32 = 2_000;
    // In memory: a file system on a disk takes longer for each than there is time for.
    let folder = tempfile::Builder::new().prefix("rampart-bench-").tempdir_in("/dev/shm").unwrap();
    let modes = [0o600, 0o644].map(std::fs::Permissions::from_mode);
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for name in ["a", "b"] {
            let file = std::fs::File::create(folder.path().join(name)).unwrap();
            let modes = &modes;
            scope.spawn(move || {
                for step in 0..FLOOD / 2 / STEP {
                    for number in 0..STEP as usize {
                        file.set_permissions(modes[number % 2].clone()).unwrap();
                    }
                    let due = Duration::from_millis(10) * (step + 1);
                    if let Some(early) = due.checked_sub(begun.elapsed()) {
                        test_support::pause(early);
                    }
                }
            });
        }
    });
    println!("  flood: {:.0} a second", f64::from(FLOOD) / begun.elapsed().as_secs_f64());
}

/// Twice `times`, from two threads.
fn in_two(times: usize, act: impl Fn(usize) + Sync) {
    std::thread::scope(|scope| {
        for half in 0..2 {
            let act = &act;
            scope.spawn(move || (0..times).for_each(|number| act(half * times + number)));
        }
    });
}
