//! Bytes that nobody meant: whatever a file holds, reading it ends, does not panic, and
//! does not hand out more than it was given.

mod support;

use std::fs;
use std::path::PathBuf;

use log_reader::RECORD_LIMIT;
use proptest::prelude::*;
use support::read;

/// Files that are in order, to be broken.
fn seeds() -> Vec<Vec<u8>> {
    let mut seeds: Vec<Vec<u8>> = [
        r#"{"EventID":1,"Channel":"Security","Image":"C:\\a.exe","Data":["x",{"y":null}],"n":-1.5e3}
{"winlog":{"channel":"System","event_data":{"a b":"c "}},"@timestamp":"2020-01-02T03:04:05Z"}
"#,
        "[\n{\"a\": {\"b\": [1, true, \"\\u0041\"]}},\n{\"c\": 2}\n]",
        "type=SYSCALL msg=audit(1700000000.100:7): arch=c000003e syscall=59 pid=1 exe=\"/bin/sh\" key=(null)
type=EXECVE msg=audit(1700000000.100:7): argc=2 a0=\"sh\" a1[0]=2D63 a1[1]=\"x\"
node=h type=USER_CMD msg=audit(1700000000.101:8): pid=1 msg='cmd=6964 exe=\"/bin/su\" res=1'\u{1d}UID=\"root\"
type=SOCKADDR msg=audit(1700000000.102:9): saddr=0A00005000000000000000000000000000000000000000010000
",
        "<Events><Event xmlns='http://x'><System><Provider Name='P'/><EventID>1</EventID><Channel>Security</Channel></System>\
         <EventData><Data Name='Image'>a&amp;b&#65;</Data><Data><![CDATA[x]]></Data></EventData></Event></Events>",
    ]
    .iter()
    .map(|text| text.as_bytes().to_vec())
    .collect();
    // Of the recorded logs, where they are, the smallest.
    let root = std::env::var_os("RAMPART_CORPORA").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/corpora")),
        PathBuf::from,
    );
    match fs::read_dir(root.join("regression")) {
        Err(_) => println!("skipped: EVTX files, as there are none in {}", root.display()),
        Ok(entries) => {
            let mut files: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
            files.retain(|path| path.extension().is_some_and(|extension| extension == "evtx"));
            files.sort_by_key(|path| {
                (fs::metadata(path).map_or(u64::MAX, |metadata| metadata.len()), path.clone())
            });
            seeds.extend(files.iter().take(4).filter_map(|path| fs::read(path).ok()));
        }
    }
    seeds
}

fn read_bounded(bytes: &[u8]) {
    let (seen, _) = read(bytes);
    let handed_out: usize =
        seen.events.iter().flat_map(|event| &event.fields).map(|(_, value)| value.len()).sum();
    // A value can have several names, hexadecimal halves and U+FFFD triples what it stands for;
    // in EVTX one template serves many records.
    assert!(handed_out <= bytes.len() * 64 + RECORD_LIMIT, "{handed_out} of {}", bytes.len());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn broken_logs_of_every_format(
        seed in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0_u8..4, 1_usize..64), 1..40),
    ) {
        let seeds = seeds();
        let mut bytes = seed.get(&seeds).clone();
        for (place, value, how, count) in changes {
            if bytes.is_empty() {
                break;
            }
            let place = place.index(bytes.len());
            let end = (place + count).min(bytes.len());
            match how {
                0 => bytes[place] = value,
                1 => bytes[place..end].fill(value),
                2 => drop(bytes.drain(place..end)),
                _ => {
                    let piece = bytes[place..end].to_vec();
                    bytes.splice(place..place, piece);
                }
            }
        }
        read_bounded(&bytes);
    }

    #[test]
    fn bytes_that_only_begin_like_a_log(
        start in prop::sample::select(vec![
            &b"{\"a\":"[..], b"[{", b"ElfFile\0", b"ElfChnk\0", b"type=EXECVE msg=audit(1.1:1): ", b"<Event>", b"",
        ]),
        rest in prop::collection::vec(any::<u8>(), 0..9_000),
    ) {
        read_bounded(&[start, &rest].concat());
    }
}
