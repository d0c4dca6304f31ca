//! Tables: what goes in comes out, damage is told, memory and files stay within bounds.

#![allow(clippy::unwrap_used, reason = "a failed expectation is the report")]

use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use event_model::Severity;
use indicators::{
    Indicator, IndicatorDefaults, IndicatorMatch, IndicatorTable, IndicatorValue, Observable, TableBuilder,
    TableError,
};
use jiff::Timestamp;
use proptest::prelude::*;

fn now() -> Timestamp {
    "2026-11-26T00:00:00Z".parse().unwrap()
}

fn indicator(text: &str) -> Indicator {
    let IndicatorDefaults { source, confidence, severity, expires } =
        IndicatorDefaults::of_source("test list");
    let value = IndicatorValue::detect(text).unwrap();
    Indicator { value, source, confidence, severity, description: format!("about {text}"), expires }
}

fn table(dir: &Path, indicators: &[Indicator]) -> (IndicatorTable, PathBuf) {
    let path = dir.join("indicators.table");
    let mut builder = TableBuilder::new(42);
    indicators.iter().for_each(|indicator| builder.add(indicator).unwrap());
    builder.write(&path).unwrap();
    (IndicatorTable::open(&path).unwrap(), path)
}

fn found(table: &IndicatorTable, seen: Observable<'_>) -> Option<String> {
    let alone = table.lookup(seen, now()).unwrap().map(|found: IndicatorMatch| found.value.to_string());
    // Among others, at several places, so that keys wait and don't.
    let mut many = vec![Observable::Path("/no/such/path"); 40];
    (many[3], many[39]) = (seen, seen);
    let mut among = Vec::new();
    table.lookup_many(&many, now(), |place, found| among.push((place, found.value.to_string()))).unwrap();
    let expected = alone.iter().flat_map(|value| [(3, value.clone()), (39, value.clone())]);
    assert_eq!(among, expected.collect::<Vec<_>>());
    alone
}

#[test]
fn every_kind_is_found_and_its_neighbours_are_not() {
    let dir = tempfile::tempdir().unwrap();
    let lines = [
        "d41d8cd98f00b204e9800998ecf8427e",
        "da39a3ee5e6b4b0d3255bfef95601890afd80709",
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "198.51.100.7",
        "203.0.113.0/24",
        "203.0.113.64/26",
        "2001:db8:1::/48",
        "evil.example",
        "bad.sub.good.example",
        "http://shop.example/a?b=1",
        "/tmp/.x/run",
        "C:\\Windows\\Temp\\evil.exe",
    ];
    let (table, path) = table(dir.path(), &lines.map(indicator));
    assert_eq!(table.len(), 12);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);

    let hex = |text: &str| match IndicatorValue::hash(text).unwrap() {
        IndicatorValue::Md5(hash) => hash.to_vec(),
        IndicatorValue::Sha1(hash) => hash.to_vec(),
        IndicatorValue::Sha256(hash) => hash.to_vec(),
        other => panic!("{other:?}"),
    };
    let (md5, sha1, sha256) = (hex(lines[0]), hex(lines[1]), hex(lines[2]));
    let md5: &[u8; 16] = md5.as_slice().try_into().unwrap();
    assert_eq!(found(&table, Observable::Md5(md5)).as_deref(), Some(lines[0]));
    assert_eq!(
        found(&table, Observable::Sha1(sha1.as_slice().try_into().unwrap())).as_deref(),
        Some(lines[1])
    );
    assert_eq!(
        found(&table, Observable::Sha256(sha256.as_slice().try_into().unwrap())).as_deref(),
        Some(lines[2])
    );
    assert_eq!(found(&table, Observable::Md5(&[0; 16])), None);

    let ip = |address: &str| found(&table, Observable::Ip(address.parse::<IpAddr>().unwrap()));
    assert_eq!(ip("198.51.100.7").as_deref(), Some("198.51.100.7"));
    assert_eq!(ip("::ffff:198.51.100.7").as_deref(), Some("198.51.100.7"));
    assert_eq!(ip("203.0.113.65").as_deref(), Some("203.0.113.64/26"), "the narrowest");
    assert_eq!(ip("203.0.113.1").as_deref(), Some("203.0.113.0/24"));
    assert_eq!(ip("2001:db8:1:ffff::9").as_deref(), Some("2001:db8:1::/48"));
    assert_eq!((ip("198.51.100.8"), ip("203.0.114.1"), ip("2001:db8:2::")), (None, None, None));

    let domain = |name: &str| found(&table, Observable::Domain(name));
    assert_eq!(domain("evil.example").as_deref(), Some("evil.example"));
    assert_eq!(domain("A.b.EVIL.example.").as_deref(), Some("evil.example"));
    assert_eq!((domain("notevil.example"), domain("example"), domain("")), (None, None, None));
    assert_eq!(domain("sub.good.example"), None);
    assert_eq!(domain(&"a.".repeat(5_000)), None);

    let url = |url: &str| found(&table, Observable::Url(url));
    assert_eq!(url("HTTPS://Shop.Example:443/a?b=1#x").as_deref(), Some("shop.example/a?b=1"));
    assert_eq!((url("http://shop.example/A?b=1"), url("http://shop.example/")), (None, None));
    let path = |path: &str| found(&table, Observable::Path(path));
    assert_eq!(path("/tmp/.x/run").as_deref(), Some("/tmp/.x/run"));
    assert_eq!(path("/tmp/.X/run"), None);
    assert_eq!(path("c:\\WINDOWS\\temp\\Evil.exe").as_deref(), Some("c:\\windows\\temp\\evil.exe"));
    assert_eq!(path(&"/x".repeat(5_000)), None);
}

#[test]
fn a_match_tells_what_is_known_and_ends_when_it_expires() {
    let dir = tempfile::tempdir().unwrap();
    let mut one = indicator("evil.example");
    one.expires = Some("2026-12-01T00:00:00Z".parse().unwrap());
    one.description = "长".repeat(2_000);
    let mut worse = indicator("evil.example");
    (worse.severity, worse.source) = (Severity::Critical, "worse".to_owned());
    let (both, _) = table(dir.path(), &[one.clone(), worse, one.clone()]);
    assert_eq!(
        (both.len(), both.lookup(Observable::Domain("evil.example"), now()).unwrap().unwrap().source),
        (1, "worse".into())
    );

    let (table, _) = table(dir.path(), &[one.clone()]);
    let seen = Observable::Domain("x.evil.example");
    let found = table.lookup(seen, now()).unwrap().unwrap();
    assert_eq!(
        (found.source.as_str(), found.confidence, found.severity),
        ("test list", 50, Severity::Medium)
    );
    assert_eq!((found.description.chars().count(), found.expires), (500, one.expires));
    assert_eq!(table.lookup(seen, one.expires.unwrap()).unwrap(), None);
}

#[test]
fn an_indicator_that_has_ended_hides_none_that_has_not() {
    let dir = tempfile::tempdir().unwrap();
    let one = |severity, expires: Option<&str>| Indicator {
        severity,
        expires: expires.map(|end| end.parse().unwrap()),
        ..indicator("evil.example")
    };
    let (ended, later) = (Some("2026-11-01T00:00:00Z"), Some("2026-12-01T00:00:00Z"));
    let all = [
        one(Severity::Low, None),
        one(Severity::Critical, ended),
        one(Severity::High, later),
        one(Severity::Informational, ended),
        one(Severity::Medium, later),
    ];
    let path = dir.path().join("indicators.table");
    let mut builder = TableBuilder::new(42);
    all.iter().for_each(|indicator| builder.add(indicator).unwrap());
    let built = builder.write(&path).unwrap();
    assert_eq!((built.indicators, built.repeated), (3, 4));
    let table = IndicatorTable::open(&path).unwrap();
    let severity_at = |time: &str| {
        let found = table.lookup(Observable::Domain("evil.example"), time.parse().unwrap()).unwrap();
        found.map(|found| found.severity)
    };
    assert_eq!(severity_at("2026-10-01T00:00:00Z"), Some(Severity::Critical));
    assert_eq!(severity_at("2026-11-26T00:00:00Z"), Some(Severity::High));
    assert_eq!(severity_at("2027-11-26T00:00:00Z"), Some(Severity::Low));

    // However many there are, few are kept, and the one that counts for longest is among them.
    let confidences = (0..100_u8).map(|nth| Indicator {
        confidence: 100 - nth,
        expires: Some(now() + jiff::SignedDuration::from_secs(i64::from(nth))),
        ..indicator("evil.example")
    });
    let (table, _) = self::table(dir.path(), &confidences.collect::<Vec<_>>());
    assert!(table.len() < 10);
    let almost = now() + jiff::SignedDuration::from_secs(98);
    let found = table.lookup(Observable::Domain("evil.example"), almost).unwrap();
    assert_eq!(found.map(|found| found.confidence), Some(1));
}

#[test]
fn a_table_that_is_open_goes_on_when_another_takes_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let (old, path) = table(dir.path(), &[indicator("old.example")]);
    let (new, same) = table(dir.path(), &[indicator("new.example")]);
    assert_eq!(path, same);
    assert!(found(&old, Observable::Domain("old.example")).is_some());
    assert!(found(&old, Observable::Domain("new.example")).is_none());
    assert!(found(&new, Observable::Domain("new.example")).is_some());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing else is left");
}

#[test]
fn tables_of_every_small_size_work() {
    let dir = tempfile::tempdir().unwrap();
    for size in (0..70).chain([127, 128, 129, 1_000]) {
        let all: Vec<Indicator> = (0..size).map(|nth| indicator(&format!("host{nth}.example"))).collect();
        let (table, _) = table(dir.path(), &all);
        assert_eq!(table.len(), size);
        for nth in 0..size {
            assert!(
                found(&table, Observable::Domain(&format!("host{nth}.example"))).is_some(),
                "{nth} of {size}"
            );
            assert!(
                found(&table, Observable::Domain(&format!("other{nth}.example"))).is_none(),
                "{nth} of {size}"
            );
        }
    }
}

#[test]
fn a_million_indicators_stay_within_their_memory() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("table");
    let mut builder = TableBuilder::new(7);
    let mut one = indicator("evil.example");
    for nth in 0..1_000_000_u32 {
        one.value = IndicatorValue::Domain(format!("h{nth}.example"));
        builder.add(&one).unwrap();
    }
    assert_eq!(builder.write(&path).unwrap().indicators, 1_000_000);
    let table = IndicatorTable::open(&path).unwrap();
    // A fifth of what five kinds may take.
    assert!(table.memory_bytes() < 12_000_000 / 5, "{}", table.memory_bytes());
    assert!(
        (0..1_000_000)
            .step_by(997)
            .all(|nth| found(&table, Observable::Domain(&format!("h{nth}.example"))).is_some())
    );
    let false_ones =
        (0..1_000_000).filter(|nth| found(&table, Observable::Domain(&format!("g{nth}.example"))).is_some());
    assert_eq!(false_ones.count(), 0);
}

#[test]
fn damage_is_an_error_wherever_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let all: Vec<Indicator> = (0..60).map(|nth| indicator(&format!("h{nth}.example"))).collect();
    let (_, path) = table(dir.path(), &all);
    let whole = fs::read(&path).unwrap();
    let damaged = dir.path().join("damaged");
    // Every byte, and every length, of what is read for these names.
    let judge = |bytes: &[u8]| -> Result<usize, TableError> {
        fs::write(&damaged, bytes).unwrap();
        let table = IndicatorTable::open(&damaged)?;
        let mut hits = 0;
        for nth in 0..60 {
            let found = table.lookup(Observable::Domain(&format!("h{nth}.example")), now())?;
            hits += usize::from(found.is_some());
        }
        Ok(hits)
    };
    assert_eq!(judge(&whole).unwrap(), 60);
    for at in (0..whole.len()).step_by(7).chain(0..256) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x41;
        match judge(&bytes) {
            Err(TableError::Damaged { path, .. }) => assert!(path.ends_with("damaged")),
            // Padding between records is not read.
            Ok(60) => assert_eq!(whole[at], 0),
            other => panic!("byte {at}: {other:?}"),
        }
    }
    for length in (0..whole.len()).step_by(37) {
        assert!(matches!(judge(&whole[..length]), Err(TableError::Damaged { .. })), "cut to {length}");
    }
    assert!(matches!(IndicatorTable::open(&dir.path().join("missing")), Err(TableError::Io { .. })));
}

proptest! {
    #[test]
    fn no_bytes_and_no_header_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..400),
        patch in proptest::collection::vec((0_usize..252, any::<u8>()), 1..6),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rubbish");
        fs::write(&path, &bytes).unwrap();
        prop_assert!(IndicatorTable::open(&path).is_err());

        // A header whose own checksum is right, as an attacker would write it.
        let (_, good) = table(dir.path(), &[indicator("a.example"), indicator("b.example")]);
        let mut forged = fs::read(&good).unwrap();
        for (at, byte) in patch {
            forged[at] = byte;
        }
        let crc = crc32fast::hash(&forged[..252]);
        forged[252..256].copy_from_slice(&crc.to_le_bytes());
        fs::write(&path, &forged).unwrap();
        if let Ok(table) = IndicatorTable::open(&path) {
            for name in ["a.example", "b.example", "c.example"] {
                let _ = table.lookup(Observable::Domain(name), now());
            }
            let _ = table.lookup(Observable::Ip("198.51.100.7".parse().unwrap()), now());
            let _ = table.lookup(Observable::Ip("2001:db8::7".parse().unwrap()), now());
        }
    }
}
