//! How many process starts a second one core judges.
//!
//! `cargo run --release -p rule-engine --example throughput [RULES [SIGMA_FOLDER]]` prints it for
//! 200 rules (or RULES): the starter pack's, and variants of them with other
//! words, against 64 ordinary command lines of which one in 64 matches. With a folder, all Sigma rules
//! in it that are for Linux are judged besides.

use std::error::Error;
use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};
use std::{env, fs};

use event_model::{BootId, EventHeader, EventRecord, EventType, Field, HostId, Timestamp, Value};
use rule_engine::{CompileOptions, ParsedRule, Phase, RuleSet, is_sigma_file, parse_rules};
use uuid::Uuid;

fn main() -> Result<(), Box<dyn Error>> {
    let wanted: usize = env::args().nth(1).map_or(Ok(200), |number| number.parse())?;
    let texts = starter_rules()?;
    let load = Instant::now();
    let mut rules: Vec<ParsedRule> = Vec::new();
    for round in 0.. {
        for text in &texts {
            if rules.len() < wanted {
                rules.extend(parse_rules("starter", &varied(text, round)).rules);
            }
        }
        if rules.len() >= wanted {
            break;
        }
    }
    if let Some(folder) = env::args().nth(2) {
        sigma_rules(Path::new(&folder), &mut rules)?;
    }
    let options = CompileOptions { live_product: Some("linux".to_owned()), ..CompileOptions::default() };
    let set = RuleSet::compile_with(rules, options).rules;
    println!("{} rules loaded in {:.1} ms", set.len(), load.elapsed().as_secs_f64() * 1e3);

    let events: Vec<EventRecord> = (0..64).map(event).collect();
    let (mut judged, mut matches, mut best) = (0_u64, 0_usize, f64::MAX);
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(3) {
        let pass = Instant::now();
        for event in &events {
            matches += black_box(set.evaluate(black_box(event), Phase::All)).len();
            judged += 1;
        }
        best = best.min(pass.elapsed().as_secs_f64() / events.len() as f64);
    }
    let mean = start.elapsed().as_secs_f64() / judged as f64;
    println!("{judged} events judged, {matches} matches");
    println!(
        "one core: {:.0} events/s ({:.2} µs each), best pass {:.2} µs",
        1.0 / mean,
        mean * 1e6,
        best * 1e6
    );
    Ok(())
}

fn starter_rules() -> Result<Vec<String>, Box<dyn Error>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../rules/linux-starter");
    let mut texts = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.to_string_lossy();
        if name.ends_with(".json") && !name.ends_with(".test.json") {
            texts.push(fs::read_to_string(&path)?);
        }
    }
    texts.sort();
    Ok(texts)
}

fn sigma_rules(folder: &Path, rules: &mut Vec<ParsedRule>) -> Result<(), Box<dyn Error>> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.to_string_lossy().into_owned();
        if path.is_dir() {
            sigma_rules(&path, rules)?;
        } else if is_sigma_file(&name) {
            let read = parse_rules(&name, &fs::read_to_string(&path)?).rules.into_iter();
            rules.extend(read.filter(|rule| {
                rule.log_source().is_some_and(|source| source.product.as_deref() == Some("linux"))
            }));
        }
    }
    Ok(())
}

/// The rule with another id and, after the first round, other words to look for.
fn varied(text: &str, round: usize) -> String {
    let renamed = text.replacen("\"id\": ", &format!("\"id\": {}", round + 1), 1);
    if round == 0 {
        return renamed;
    }
    ["xmrig", "trojan", "backdoor", "nginx", "base64", "history", "curl", "insmod", "systemctl"]
        .iter()
        .fold(renamed, |text, word| text.replace(word, &format!("{word}{round}")))
}

fn event(number: usize) -> EventRecord {
    let commands = [
        (
            "/usr/bin/gcc",
            "gcc -O2 -Wall -Iinclude -c src/module_file.c -o build/module_file.o",
            "/usr/bin/make",
        ),
        (
            "/usr/bin/dash",
            "sh -c test -x /usr/sbin/anacron || run-parts --report /etc/cron.daily",
            "/usr/sbin/cron",
        ),
        ("/usr/bin/git", "git --no-pager log --oneline -n 20 --format=%H origin/main", "/usr/bin/bash"),
        (
            "/usr/lib/git-core/git-remote-https",
            "git-remote-https origin https://git.example.org/team/project.git",
            "/usr/bin/git",
        ),
        ("/usr/bin/python3.11", "python3 -m pytest -q tests/unit --maxfail=1", "/usr/bin/bash"),
        ("/usr/bin/ls", "ls --color=auto -la /var/log", "/usr/bin/bash"),
        (
            "/usr/sbin/runc",
            "runc --root /run/docker/runtime-runc/moby exec --process /tmp/runc-process1 abc",
            "/usr/bin/containerd-shim-runc-v2",
        ),
        ("/usr/bin/systemctl", "systemctl is-active --quiet nginx.service", "/usr/bin/bash"),
    ];
    let (executable, command_line, parent) = if number == 63 {
        ("/tmp/xmrig", "/tmp/xmrig 300", "/usr/bin/bash")
    } else {
        commands[number % commands.len()]
    };
    let name = |path: &str| Value::Text(path.rsplit('/').next().unwrap_or(path).to_owned());
    let text = |text: &str| Value::Text(text.to_owned());
    let header = EventHeader {
        host_id: HostId::from_uuid(Uuid::from_u128(1)),
        boot_id: BootId::from_uuid(Uuid::from_u128(2)),
        sequence: 1,
        observed_at: Timestamp::from_nanos(1_795_000_000_000_000_000),
        monotonic_ns: 1,
    };
    let fields = vec![
        (Field::ProcessPid, Value::Integer(4_711)),
        (Field::ProcessName, name(executable)),
        (Field::ProcessExecutable, text(executable)),
        (Field::ProcessCommandLine, text(command_line)),
        (Field::ProcessArgs, Value::TextList(command_line.split(' ').map(str::to_owned).collect())),
        (Field::ProcessWorkingDirectory, text("/home/user/Project")),
        (Field::ProcessImageDeleted, Value::Boolean(false)),
        (Field::EventAction, text("exec")),
        (Field::ParentName, name(parent)),
        (Field::ParentExecutable, text(parent)),
        (Field::UserName, text("user")),
        (Field::UserId, text("1000")),
    ];
    EventRecord::from_fields(header, EventType::ProcessStart, fields)
}
