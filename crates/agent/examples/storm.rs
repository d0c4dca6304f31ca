//! A bounded storm of what an agent watches: forks, files, connections on the loopback.
//!
//! `cargo run --release -p agent --example storm -- SECONDS [RATE]` makes RATE rounds a
//! second (default 200, at most 20,000) for SECONDS (at most 7,200) and prints what it
//! did. A round is one process, four files that are made, written, renamed and removed,
//! and one connection. Everything happens in a folder of its own, which is removed.
//! Bounded in time and number, it ends by itself; nothing leaves the machine.

use std::fs;
use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

const MOST_SECONDS: u64 = 7_200;
const MOST_RATE: u64 = 20_000;
const FILES_A_ROUND: u64 = 4;

#[derive(Default)]
struct Done {
    processes: u64,
    files: u64,
    connections: u64,
}

fn main() -> ExitCode {
    let numbers: Vec<Option<u64>> = std::env::args().skip(1).map(|text| text.parse().ok()).collect();
    let (seconds, rate) = match numbers.as_slice() {
        [Some(seconds)] => (*seconds, 200),
        [Some(seconds), Some(rate)] => (*seconds, *rate),
        _ => {
            eprintln!("usage: storm SECONDS [ROUNDS A SECOND]");
            return ExitCode::from(2);
        }
    };
    match storm(seconds.min(MOST_SECONDS), rate.clamp(1, MOST_RATE)) {
        Ok(Done { processes, files, connections }) => {
            println!("processes {processes} files {files} connections {connections}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("storm: {error}");
            ExitCode::FAILURE
        }
    }
}

fn storm(seconds: u64, rate: u64) -> std::io::Result<Done> {
    let folder = std::env::temp_dir().join(format!("storm-{}", std::process::id()));
    fs::create_dir(&folder)?;
    let done = rounds(&folder, seconds, rate);
    fs::remove_dir_all(&folder)?;
    done
}

fn rounds(folder: &Path, seconds: u64, rate: u64) -> std::io::Result<Done> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let begun = Instant::now();
    let mut done = Done::default();
    for round in 0..seconds * rate {
        // On a machine that can't keep the rate, it is time that ends the storm.
        if begun.elapsed() >= Duration::from_secs(seconds) {
            break;
        }
        let status = Command::new("/bin/true").stdin(Stdio::null()).status()?;
        done.processes += u64::from(status.success());
        for number in 0..FILES_A_ROUND {
            let (path, renamed) = (folder.join(format!("{number}.new")), folder.join(format!("{number}")));
            fs::File::create(&path)?.write_all(b"storm")?;
            fs::rename(&path, &renamed)?;
            fs::remove_file(&renamed)?;
            done.files += 1;
        }
        let client = TcpStream::connect(address)?;
        drop((client, listener.accept()?));
        done.connections += 1;
        let due = Duration::from_micros((round + 1) * 1_000_000 / rate);
        if let Some(wait) = due.checked_sub(begun.elapsed()) {
            test_support::pause(wait);
        }
    }
    Ok(done)
}
