//! What YARA costs: compile time, memory, and MB/s on one core.
//!
//! `cargo run --release -p file-scan --example yara_speed -- [--rules PATH]… [FOLDER]…`
//!
//! Scans regular files of the folders (by default `/usr/bin`), at most 150 MB. Without
//! `--rules`, 5,900 generated rules with eight strings each stand in for a public set;
//! they say something of speed, nothing of what real rules find.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use file_scan::{LastSymlink, RegularFile, ScanLimits, ScanSubject, YaraRules, YaraSource, YaraSources};

const MAX_TOTAL: u64 = 150 << 20;

fn main() -> std::io::Result<()> {
    let (mut rules, mut folders) = (Vec::new(), Vec::new());
    let mut arguments = std::env::args_os().skip(1);
    while let Some(argument) = arguments.next() {
        if argument == "--rules" {
            rules.extend(arguments.next().map(PathBuf::from));
        } else {
            folders.push(PathBuf::from(argument));
        }
    }
    if folders.is_empty() {
        folders.push("/usr/bin".into());
    }
    let texts = if rules.is_empty() { generated() } else { YaraSources::read(&rules).texts };
    let before = resident_kb();
    let begun = Instant::now();
    let compiled = YaraRules::compile(&texts);
    let took = begun.elapsed();
    let errors = compiled.diagnostics.iter().filter(|diagnostic| diagnostic.is_error()).count();
    println!(
        "{} rules of {} texts compiled in {took:.2?}, {errors} errors, {} warnings; resident {} MB before, {} MB after",
        compiled.rules.len(),
        texts.len(),
        compiled.diagnostics.len() - errors,
        before / 1_000,
        resident_kb() / 1_000,
    );
    drop(texts);

    let limits = ScanLimits { max_bytes: 16 << 20, ..ScanLimits::default() };
    let (mut bytes, mut files, mut matches, mut incomplete) = (0, 0_u32, 0, 0_u32);
    let mut spent = Duration::ZERO;
    for folder in folders {
        for entry in std::fs::read_dir(folder)?.flatten() {
            let Ok(file) = RegularFile::open(&entry.path(), LastSymlink::Refuse) else { continue };
            let size = file.identity().size;
            if bytes + size > MAX_TOTAL {
                break;
            }
            let path = entry.path();
            let subject = ScanSubject { path: Some(&path), ..ScanSubject::default() };
            let begun = Instant::now();
            let Ok(scan) = compiled.rules.scan_file(&file, subject, &limits) else { continue };
            spent += begun.elapsed();
            bytes += size;
            files += 1;
            matches += scan.matches.len();
            incomplete += u32::from(scan.incomplete.is_some());
        }
    }
    let speed = bytes as f64 / 1e6 / spent.as_secs_f64();
    println!(
        "{files} files, {} MB: {speed:.1} MB/s on one core, {matches} matches, {incomplete} incomplete; resident {} MB, at most {} MB",
        bytes / 1_000_000,
        resident_kb() / 1_000,
        status_kb("VmHWM:") / 1_000,
    );
    Ok(())
}

/// Rules like those of the public sets in size: words, hex with gaps, some regexes.
fn generated() -> Vec<YaraSource> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut texts = Vec::new();
    for file in 0..590 {
        let mut text = String::new();
        for rule in 0..10 {
            text += &format!("rule r{file}_{rule} {{ meta: score = 70 strings:\n");
            for string in 0..8 {
                let (a, b) = (random(), random());
                text += &match string {
                    0 => format!(
                        " $s{string} = {{ {:02X} {:02X} 8B ?? {:02X} {:02X} [2-6] {:02X} 00 }}\n",
                        a & 255,
                        a >> 8 & 255,
                        a >> 16 & 255,
                        a >> 24 & 255,
                        b & 255
                    ),
                    1 => format!(" $s{string} = /cmd{:x}[0-9a-f]{{4,12}}\\.exe/ nocase\n", a & 0xffff),
                    2 => format!(" $s{string} = \"\\\\Temp\\\\{:x}\" wide ascii nocase\n", a & 0xff_ffff),
                    _ => format!(" $s{string} = \"{:x}_{:x}\" fullword ascii\n", a & 0xffff_ffff, b & 0xffff),
                };
            }
            text +=
                " condition: uint16(0) == 0x5a4d and filesize < 5MB and 3 of them or all of ($s3, $s4) }\n";
        }
        texts.push(YaraSource::new(format!("generated/{file}.yar"), text));
    }
    texts
}

fn resident_kb() -> u64 {
    status_kb("VmRSS:")
}

fn status_kb(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|line| line.split_ascii_whitespace().next()?.parse().ok()).unwrap_or(0)
}
