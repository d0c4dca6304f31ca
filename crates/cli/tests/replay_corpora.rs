//! Recorded attacks against the public Sigma rules. Neither is in this repository: see
//! CONTRIBUTING.md on `RAMPART_CORPORA`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value as Json;

type Pairs = BTreeSet<(String, String)>;

fn corpora() -> Option<PathBuf> {
    let root = std::env::var_os("RAMPART_CORPORA").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/corpora")),
        PathBuf::from,
    );
    let is_there = root.join("sigma/rules").is_dir();
    if !is_there {
        println!("skipped: no recorded attacks in {}", root.display());
    }
    is_there.then_some(root)
}

/// The file's name and the rule's id of every detection in a folder.
fn pairs(root: &Path, folder: &str) -> Pairs {
    let mut edr = Command::new(env!("CARGO_BIN_EXE_edr"));
    edr.arg("replay");
    for rules in ["rules", "rules-emerging-threats", "rules-threat-hunting"] {
        edr.arg("--rules").arg(root.join("sigma").join(rules));
    }
    let output = edr.arg(root.join(folder)).output().expect("edr runs");
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let pair = |line: &str| {
        let line: Json = serde_json::from_str(line).expect("each line is JSON");
        let file = Path::new(line["file"].as_str().expect("a file")).file_name().expect("a name");
        (file.to_string_lossy().into_owned(), line["rule_id"].as_str().expect("an id").to_owned())
    };
    text.lines().map(pair).collect()
}

#[test]
fn every_regression_case_fires() {
    let Some(root) = corpora() else { return };
    let found = pairs(&root, "regression");
    let cases = fs::read_to_string(root.join("regression/cases.tsv")).expect("the list of cases");
    let wanted: Pairs = cases
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| {
            let mut cells = line.split('\t');
            Some((cells.next()?.to_owned(), cells.next()?.to_owned()))
        })
        .collect();
    assert!(wanted.len() > 50, "{}", wanted.len());
    let missing: Vec<_> = wanted.difference(&found).collect();
    assert!(missing.is_empty(), "{} of {} don't fire: {missing:#?}", missing.len(), wanted.len());
}

#[test]
fn what_other_engines_agree_on_is_found() {
    let Some(root) = corpora() else { return };
    let found = pairs(&root, "evtx");
    let consensus = fs::read_to_string(root.join("evtx/consensus.csv")).expect("the consensus");
    // File and id stand before the first cell that may hold a comma.
    let wanted: Pairs = consensus
        .lines()
        .skip(1)
        .filter_map(|line| {
            let mut cells = line.split(',');
            Some((cells.next()?.to_owned(), cells.next()?.to_owned()))
        })
        .collect();
    assert!(wanted.len() > 100, "{}", wanted.len());
    let missing: Vec<_> =
        wanted.difference(&found).filter(|(_, rule)| !is_explained("## Missing pairs", rule)).collect();
    let surplus: Vec<_> =
        found.difference(&wanted).filter(|(_, rule)| !is_explained("## Surplus pairs", rule)).collect();
    println!("{} pairs found, {} wanted", found.len(), wanted.len());
    assert!(
        missing.is_empty(),
        "missing and not explained in docs/reference/replay-differences.md: {missing:#?}"
    );
    // A surplus pair is a find or a defect: somebody must have looked at it and said which.
    assert!(
        surplus.is_empty(),
        "surplus and not explained in docs/reference/replay-differences.md: {surplus:#?}"
    );
}

/// Whether the section of docs/reference/replay-differences.md speaks of the rule.
fn is_explained(section: &str, rule: &str) -> bool {
    let text = include_str!("../../../docs/reference/replay-differences.md");
    let section = text.split_once(section).expect("the section is there").1;
    section.split("\n## ").next().is_some_and(|section| section.contains(rule))
}
