//! What an appended event costs: CPU time, bytes kept and bytes written, and how
//! long searches take afterwards.
//!
//! `cargo run --release -p event-store --example append_cost [EVENTS] [HOSTS]`

use std::error::Error;
use std::fs;
use std::time::Instant;

use event_model::{EventHeader, EventRecord, EventType, Field, Timestamp, Value};
use event_store::contract::{NOON, batch_of, boot, host};
use event_store::{EventQuery, EventStore, Predicate, SqliteEventStore};

/// Records of one batch, as an agent under load sends them.
const BATCH: u64 = 1_000;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let events: u64 = arguments.next().map_or(Ok(300_000), |text| text.parse())?;
    let hosts: u64 = arguments.next().map_or(Ok(10), |text| text.parse())?;
    let folder = tempfile::TempDir::new_in(".")?;
    let store = SqliteEventStore::open(folder.path())?;

    let (mut cpu, mut wall, mut last) = (0.0, 0.0, 0);
    let written_before = written_bytes()?;
    while last < events / hosts {
        for number in 1..=hosts {
            let batch = batch_of((last + 1..=last + BATCH).map(|sequence| event(number, sequence)).collect());
            let (cpu_before, before) = (cpu_seconds()?, Instant::now());
            store.append(&batch)?;
            cpu += cpu_seconds()? - cpu_before;
            wall += before.elapsed().as_secs_f64();
        }
        last += BATCH;
    }
    let stored = (last * hosts) as f64;
    println!("{stored} process events of {hosts} hosts, {BATCH} a batch, each batch durable");
    println!(
        "append: {:.1} µs of CPU each, {:.0} per CPU second, {:.0} per second",
        cpu / stored * 1e6,
        stored / cpu,
        stored / wall
    );
    let size: u64 = fs::read_dir(folder.path())?
        .map(|entry| Ok(entry?.metadata()?.len()))
        .sum::<std::io::Result<u64>>()?;
    println!(
        "size: {:.0} bytes each; written: {:.0} bytes each",
        size as f64 / stored,
        (written_bytes()? - written_before) as f64 / stored
    );

    let newest = EventQuery::newest(100);
    let nothing = Predicate::text_anywhere("no such words");
    for (what, query) in [
        ("newest 100 of all hosts", newest.clone()),
        ("newest 100 of one host", EventQuery { host: Some(host(1)), ..newest.clone() }),
        ("substring that is nowhere, one call", EventQuery { filter: nothing, ..newest.clone() }),
    ] {
        let before = Instant::now();
        let page = store.search(&query)?;
        println!("{what}: {:.1} ms, {} events looked at", before.elapsed().as_secs_f64() * 1e3, page.scanned);
    }
    let id = event(1, last / 2).header.event_id();
    let before = Instant::now();
    let found = store.by_id(id)?.is_some();
    println!("one event by its id (found: {found}): {:.2} ms", before.elapsed().as_secs_f64() * 1e3);
    drop(store);
    let before = Instant::now();
    drop(SqliteEventStore::open(folder.path())?);
    println!("opening it again: {:.1} ms", before.elapsed().as_secs_f64() * 1e3);
    Ok(())
}

/// A process start such as a build on a developer's machine makes.
fn event(number: u64, sequence: u64) -> EventRecord {
    let nanos = NOON.as_nanos() + (sequence * 1_000_000 + number) as i64;
    let pid = 1_000 + sequence % 32_000;
    let text = |text: String| Value::Text(text);
    let program = ["cc1", "as", "ld", "sh", "make", "collect2"][sequence as usize % 6];
    let object = sequence.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
    let args = vec![
        program.to_owned(),
        "-O2".into(),
        "-o".into(),
        format!("build/objects/module_{object:06x}.o"),
        format!("src/module_{object:06x}.c"),
    ];
    let sha = format!("{:016x}", (sequence % 6).wrapping_mul(0xd6e8_feb8_6659_fd93)).repeat(4);
    let fields = vec![
        (Field::ProcessEntityId, text(format!("5c3a91d2-{pid}-{}", nanos % 1_000_000_000_000))),
        (Field::ProcessPid, Value::Integer(pid as i64)),
        (Field::ProcessName, text(program.to_owned())),
        (Field::ProcessExecutable, text(format!("/usr/libexec/gcc/x86_64-linux-gnu/12/{program}"))),
        (Field::ProcessCommandLine, text(args.join(" "))),
        (Field::ProcessArgs, Value::TextList(args)),
        (Field::ProcessArgsTruncated, Value::Boolean(false)),
        (Field::ProcessArgsBytes, Value::Integer(96)),
        (Field::ProcessWorkingDirectory, text("/home/dev/project".to_owned())),
        (Field::ProcessStart, Value::Time(Timestamp::from_nanos(nanos))),
        (Field::ProcessSha256, text(sha)),
        (Field::ProcessInode, Value::Integer(1_310_720 + (sequence % 6) as i64)),
        (Field::ProcessDevice, Value::Integer(65_025)),
        (Field::ProcessImageDeleted, Value::Boolean(false)),
        (Field::ProcessTty, text("pts0".to_owned())),
        (Field::ProcessSessionId, Value::Integer(977)),
        (Field::EventAction, text("exec".to_owned())),
        (
            Field::ParentEntityId,
            text(format!("5c3a91d2-{}-{}", pid - 1, nanos % 1_000_000_000_000 - 3_000_000)),
        ),
        (Field::ParentPid, Value::Integer(pid as i64 - 1)),
        (Field::ParentName, text("gcc".to_owned())),
        (Field::ParentExecutable, text("/usr/bin/x86_64-linux-gnu-gcc-12".to_owned())),
        (
            Field::ParentCommandLine,
            text(format!("gcc -O2 -c src/module_{object:06x}.c -o build/objects/module_{object:06x}.o")),
        ),
        (Field::UserName, text("dev".to_owned())),
        (Field::UserId, text("1000".to_owned())),
        (Field::UserEffectiveId, text("1000".to_owned())),
        (Field::UserGroupId, text("1000".to_owned())),
        (Field::UserLoginId, text("1000".to_owned())),
        (Field::UserLoginName, text("dev".to_owned())),
        (Field::CgroupPath, text("/user.slice/user-1000.slice/session-3.scope".to_owned())),
    ];
    let header = EventHeader {
        host_id: host(number.into()),
        boot_id: boot(1),
        sequence,
        observed_at: Timestamp::from_nanos(nanos),
        monotonic_ns: sequence * 1_000_000,
    };
    EventRecord::from_fields(header, EventType::ProcessStart, fields)
}

/// CPU time of this process, user and system, from the kernel's own account.
fn cpu_seconds() -> Result<f64, Box<dyn Error>> {
    // Nanoseconds on a CPU; the process has one thread.
    let schedstat = fs::read_to_string("/proc/self/schedstat")?;
    let nanos: u64 = schedstat.split_whitespace().next().ok_or("schedstat is empty")?.parse()?;
    Ok(nanos as f64 / 1e9)
}

/// Bytes that this process caused to be written to disk.
fn written_bytes() -> Result<u64, Box<dyn Error>> {
    let io = fs::read_to_string("/proc/self/io")?;
    let line = io
        .lines()
        .find_map(|line| line.strip_prefix("write_bytes: "))
        .ok_or("no write_bytes in /proc/self/io")?;
    Ok(line.parse()?)
}
