//! `edr yara scan` over files and over the memory of a process that this test started.

#![allow(clippy::unwrap_used, reason = "a failed expectation is the report")]

use std::fs;
use std::io::{Read as _, Write as _};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

fn edr(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_edr")).args(["yara", "scan"]).args(arguments).output().unwrap()
}

fn lines(output: &Output) -> Vec<Value> {
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn files_in_folders_are_scanned_and_matches_tell_their_place() {
    let dir = tempfile::tempdir().unwrap();
    let rules = dir.path().join("rules.yar");
    fs::write(
        &rules,
        "rule marked { strings: $m = \"edr-yara-mark\" condition: $m }\nrule bad { condition: $x }\n",
    )
    .unwrap();
    let folder = dir.path().join("files/inner");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("marked.bin"), "0123edr-yara-mark").unwrap();
    fs::write(folder.join("clean.bin"), "nothing").unwrap();
    let (rules, files) = (rules.to_str().unwrap(), dir.path().join("files"));
    let output = edr(&["--rules", rules, files.to_str().unwrap()]);
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{errors}");
    let found = lines(&output);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0]["file"].as_str().unwrap().ends_with("inner/marked.bin"));
    assert_eq!((&found[0]["rule"], &found[0]["namespace"]), (&"marked".into(), &"rules".into()));
    let string = &found[0]["strings"][0];
    assert_eq!((&string["identifier"], &string["offset"]), (&"$m".into(), &4.into()));
    assert!(errors.contains("rules.yar:2:"), "the bad rule's place: {errors}");
    assert!(errors.contains("2 scanned with 1 rules: 1 matches"), "{errors}");
}

#[test]
fn the_memory_of_a_process_is_scanned() {
    let dir = tempfile::tempdir().unwrap();
    let rules = dir.path().join("rules.yar");
    // In capitals only in the memory of the process, not on its command line.
    fs::write(&rules, "rule in_memory { strings: $m = \"EDR-YARA-IN-MEMORY\" condition: $m }\n").unwrap();
    let script = "read line; word=$(printf %s \"$line\" | tr a-z A-Z); echo ready; read end";
    let mut child = Command::new("/bin/sh")
        .args(["-c", script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.as_mut().unwrap().write_all(b"edr-yara-in-memory\n").unwrap();
    let mut ready = [0; 6];
    child.stdout.as_mut().unwrap().read_exact(&mut ready).unwrap();
    let output = edr(&["--rules", rules.to_str().unwrap(), "--pid", &child.id().to_string()]);
    child.kill().unwrap();
    child.wait().unwrap();
    let found = lines(&output);
    assert_eq!(found.len(), 1, "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!((&found[0]["pid"], &found[0]["rule"]), (&child.id().into(), &"in_memory".into()));
    assert!(found[0]["strings"][0]["offset"].as_u64().unwrap() > 4_096, "an address: {found:?}");
}

#[test]
fn what_cannot_be_scanned_is_told_and_wrong_arguments_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let rules = dir.path().join("rules.yara");
    fs::write(&rules, "rule any { condition: filesize > 0 }\n").unwrap();
    let rules = rules.to_str().unwrap();
    let large = dir.path().join("large");
    fs::File::create(&large).unwrap().set_len(3 << 20).unwrap();
    let output = edr(&["--rules", rules, "--max-mib", "2", large.to_str().unwrap()]);
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0));
    assert!(errors.contains("too_large") && errors.contains("1 not read"), "{errors}");
    for (arguments, part) in [
        (&["--rules", rules][..], "nothing to scan"),
        (&["/bin/true"], "no rules given"),
        (&["--rules", rules, "--pid", "zero"], "from 1 to"),
        (&["--rules", rules, "--piid", "1"], "pid"),
        (&["--rules", rules, "/does/not/exist"], "check the path"),
        (&["--rules", "/dev/null", "/bin/true"], "no YARA rules"),
    ] {
        let output = edr(arguments);
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {errors}");
        assert!(errors.contains(part), "{arguments:?}: {errors}");
    }
}
