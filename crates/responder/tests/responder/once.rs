//! Two responders at once, one of them killed: no step of any alert acts twice.

use std::collections::BTreeMap;

use test_support::{ResponderProcess, tell, wait_for};

use crate::place::{LIMIT, Place};

const PLAYBOOK: &str = "id: write
name: Write
mode: auto
trigger: {severity: high}
steps:
  - {id: one, do: run_script, with: {name: write.sh, arguments: [one]}, on_failure: continue}
  - {id: two, do: run_script, with: {name: write.sh, arguments: [two]}, on_failure: continue}
";

const ALERTS: u64 = 30;

#[test]
fn two_responders_and_a_crash_never_act_twice() {
    let Some(place) = Place::new() else { return };
    place.write_playbook("write", PLAYBOOK);
    let file = place.folder.path().join("written");
    // One write of a line is whole, whoever else writes.
    place.write_script(
        "write.sh",
        &format!(
            "id=$(tr ',' '\\n' | grep -m1 '\"id\"' | tr -dc '0-9a-f-')\necho \"$1 $id\" >> {}",
            file.display()
        ),
    );
    let first = place.start_responder("first");
    let second = place.start_responder("second");
    for number in 1..=ALERTS {
        place.alert(number, 4_000);
        if number == ALERTS / 2 {
            wait_for("some work", LIMIT, || file.exists().then_some(()));
        }
    }
    let options = first.kill();
    let first = ResponderProcess::start(options);
    let runs = || [place.journals("first"), place.journals("second")].concat();
    wait_for("every run has ended", LIMIT, || {
        let ended = runs().iter().filter(|run| run.contains("run_finished")).count();
        (ended as u64 == ALERTS).then_some(())
    });
    first.stop();
    second.stop();

    let text = std::fs::read_to_string(&file).expect("as the test needs it");
    // A script whose responder was killed before it was told of the alert knows no id.
    let (whole, cut_off): (Vec<&str>, Vec<&str>) = text.lines().partition(|line| line.len() > 30);
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for line in whole {
        *counts.entry(line).or_default() += 1;
    }
    assert!(counts.values().all(|count| *count == 1), "{counts:?}");
    let lost: usize = runs().iter().map(|run| run.matches("\"outcome\":\"lost\"").count()).sum();
    assert!(cut_off.len() <= lost, "each of these is reported as lost ({lost}): {cut_off:?}");
    tell(&format!("{} acts of {}, {lost} reported as lost", counts.len(), 2 * ALERTS));
    // A step that was cut off may have acted before; one that neither acted nor is reported would be lost.
    assert!(counts.len() + lost >= 2 * ALERTS as usize, "{counts:?}");
    assert!(!place.journals("first").is_empty() && !place.journals("second").is_empty(), "both had work");
}
