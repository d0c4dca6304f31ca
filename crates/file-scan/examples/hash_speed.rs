//! MB/s on one core of each algorithm alone and of all in one pass.
//!
//! `cargo run --release -p file-scan --example hash_speed [FILE]…`

use std::hint::black_box;
use std::time::{Duration, Instant};

use aws_lc_rs::digest;
use file_scan::{ByteCounts, ContentFacts};
use md5::Digest as _;
use tlsh::GeneratorType as _;

/// Content to measure with: machine code, as most of what the agent hashes is.
const BYTES: usize = 16 << 20;

/// The best of several rounds: other load on the machine only ever adds time.
const ROUNDS: usize = 7;

fn main() -> std::io::Result<()> {
    let mut files: Vec<_> = std::env::args_os().skip(1).collect();
    if files.is_empty() {
        files.push("/proc/self/exe".into());
    }
    let mut bytes = Vec::new();
    for file in files {
        bytes.extend(std::fs::read(file)?);
    }
    if bytes.is_empty() {
        return Err(std::io::Error::other("the files are empty: give one with content"));
    }
    let bytes: Vec<u8> = bytes.iter().copied().cycle().take(BYTES).collect();
    let pieces = || bytes.chunks(16 << 10);

    println!("{} MB, best of {ROUNDS} rounds, one thread", BYTES / 1_000_000);
    measure("MD5", || {
        let mut md5 = md5::Md5::new();
        pieces().for_each(|piece| md5.update(piece));
        black_box(md5.finalize());
    });
    for (name, algorithm) in [("SHA-1", &digest::SHA1_FOR_LEGACY_USE_ONLY), ("SHA-256", &digest::SHA256)] {
        measure(name, || {
            let mut context = digest::Context::new(algorithm);
            pieces().for_each(|piece| context.update(piece));
            black_box(context.finish());
        });
    }
    measure("TLSH", || {
        let mut tlsh = tlsh::TlshGenerator::new();
        pieces().for_each(|piece| tlsh.update(piece));
        black_box(tlsh.finalize().ok());
    });
    measure("entropy", || {
        let mut counts = ByteCounts::default();
        pieces().for_each(|piece| counts.update(piece));
        black_box(counts.entropy());
    });
    measure("all in one pass", || {
        black_box(ContentFacts::of(&bytes));
    });
    Ok(())
}

fn measure(name: &str, mut work: impl FnMut()) {
    let mut best = Duration::MAX;
    for _ in 0..ROUNDS {
        let begun = Instant::now();
        work();
        best = best.min(begun.elapsed());
    }
    println!("{name:<16} {:>7.0} MB/s", BYTES as f64 / 1e6 / best.as_secs_f64());
}
