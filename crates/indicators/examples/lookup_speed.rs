//! Memory and look-ups for each second of a table with a million indicators of each kind.
//!
//! `cargo run --release -p indicators --example lookup_speed [INDICATORS-OF-EACH-KIND]`
//!
//! Values are looked up eight at a time, as the agent does with those of an event. One in a hundred is of something
//! that the table has. CPU time is what
//! counts, so that other load on the machine does not.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Instant;

use indicators::{
    Indicator, IndicatorDefaults, IndicatorTable, IndicatorValue, Observable, TableBuilder, TableError,
};
use jiff::Timestamp;

/// Look-ups of each kind.
const LOOKUPS: u64 = 2_000_000;

/// Values that are looked up at once.
const AT_ONCE: usize = 8;

/// Look-ups that are measured together.
const PIECE: u64 = 2_000;

/// Well mixed bits of a number (the finaliser of SplitMix64).
fn mixed(number: u64) -> u64 {
    let mut x = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ x >> 31
}

fn sha256(number: u64) -> [u8; 32] {
    let mut hash = [0; 32];
    for (at, part) in hash.as_chunks_mut::<8>().0.iter_mut().enumerate() {
        *part = mixed(number * 4 + at as u64).to_le_bytes();
    }
    hash
}

fn ip(number: u64) -> IpAddr {
    // One in 64 is a network of 256 addresses.
    Ipv4Addr::from_bits(u32::try_from(mixed(number) >> 32).unwrap_or(0)).into()
}

fn domain(number: u64) -> String {
    format!("host-{:x}.zone-{:x}.example", mixed(number) >> 40, number)
}

fn url(number: u64) -> String {
    format!("http://{}/path/{:x}?q=1", domain(number), mixed(number) >> 48)
}

fn path(number: u64) -> String {
    format!("/var/tmp/{:x}/{number}", mixed(number))
}

/// CPU time of this thread.
fn cpu_seconds() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let each = std::env::args().nth(1).map_or(Ok(1_000_000), |count| count.parse::<u64>())?;
    let folder = std::env::temp_dir().join(format!("indicators-{}", std::process::id()));
    std::fs::create_dir(&folder)?;
    let file = folder.join("table");
    let result = build(each, &file).and_then(|()| measure(each, &file));
    std::fs::remove_dir_all(&folder)?;
    Ok(result?)
}

fn build(each: u64, file: &std::path::Path) -> Result<(), TableError> {
    let begun = Instant::now();
    let mut builder = TableBuilder::new(mixed(each));
    let IndicatorDefaults { source, confidence, severity, expires } = IndicatorDefaults::of_source("bench");
    let description = String::from("generated");
    let value = IndicatorValue::Sha256([0; 32]);
    let mut one = Indicator { value, source, confidence, severity, description, expires };
    for number in 0..each {
        let network = match IndicatorValue::network(&format!(
            "{}/{}",
            ip(number),
            if number.is_multiple_of(64) { 24 } else { 32 }
        )) {
            Ok(network) => network,
            Err(_) => continue,
        };
        for value in [
            IndicatorValue::Sha256(sha256(number)),
            network,
            IndicatorValue::Domain(domain(number)),
            IndicatorValue::Url(url(number)["http://".len()..].to_owned()),
            IndicatorValue::Path(path(number)),
        ] {
            one.value = value;
            builder.add(&one)?;
        }
    }
    let built = builder.write(file)?;
    let size = std::fs::metadata(file).map_or(0, |file| file.len());
    println!(
        "{} indicators built in {:.1?}, {} MB on disk",
        built.indicators,
        begun.elapsed(),
        size / 1_000_000
    );
    Ok(())
}

fn measure(each: u64, file: &std::path::Path) -> Result<(), TableError> {
    let begun = Instant::now();
    let table = IndicatorTable::open(file)?;
    println!("opened in {:.1?}; {:.2} MB of memory", begun.elapsed(), table.memory_bytes() as f64 / 1e6);
    // Of a hundred numbers one is known.
    let number = |nth: u64| if nth.is_multiple_of(100) { mixed(nth) % each } else { each + nth };
    let now = Timestamp::now();

    // What is looked for is made just before, as events are.
    let mut all = 0.0;
    let mut report = |name: &str, seconds: f64, found: u64| {
        println!("{name:<8} {:>6.1} M look-ups/s, {found} found", LOOKUPS as f64 / 1e6 / seconds);
        all += seconds;
    };
    macro_rules! kind {
        ($name:literal, $make:expr, $seen:expr) => {{
            let (mut seconds, mut found) = (0.0, 0);
            for piece in 0..LOOKUPS / PIECE {
                let values: Vec<_> = (0..PIECE).map(|nth| $make(number(piece * PIECE + nth))).collect();
                let begun = cpu_seconds();
                for together in values.as_chunks::<AT_ONCE>().0 {
                    let seen = together.each_ref().map($seen);
                    table.lookup_many(black_box(&seen), now, |_, _| found += 1)?;
                }
                seconds += cpu_seconds() - begun;
            }
            report($name, seconds, found);
        }};
    }
    kind!("sha256", sha256, Observable::Sha256);
    kind!("ip", ip, |address: &IpAddr| Observable::Ip(*address));
    kind!("domain", domain, |name| Observable::Domain(name));
    kind!("url", url, |url| Observable::Url(url));
    kind!("path", path, |path| Observable::Path(path));
    println!("all      {:>6.1} M look-ups for each second of CPU", 5.0 * LOOKUPS as f64 / 1e6 / all);
    Ok(())
}
