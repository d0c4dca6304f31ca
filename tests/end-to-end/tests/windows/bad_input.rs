//! What comes from outside as nobody expects it.

use serde_json::json;
use test_support::tell;

use crate::OWN_KEY;
use crate::installation::{Installation, text};

/// Values of every type and size, and a key that goes while it is watched: told, or said that they are cut.
#[test]
#[ignore = "takes Wine and a cross build: `make test-windows`"]
fn values_of_every_kind_are_told() {
    let Some(mut on) = Installation::start() else { return };
    let below = OWN_KEY.strip_prefix(r"HKLM\").expect("of that hive");
    on.wine.run(r"C:\bin\registry.exe", &[below]);
    let value = |name: &str| {
        on.event("registry_change", |event| {
            text(event, &["registry", "value"]) == name
                && !text(event, &["rampart", "change", "new"]).is_empty()
                || (text(event, &["registry", "value"]) == name && name == "none")
        })
    };
    let large = value("large");
    assert!(text(&large, &["rampart", "change", "new"]).starts_with("000102"), "{large}");
    assert!(large.to_string().contains("new: cut"), "what is cut is said: {large}");
    for (name, new, note) in [
        ("broken", r"a\ud800b\0c", "not UTF-16"),
        ("odd", "\u{6261}\\x63", "not UTF-16"),
        (r"half\udc00", r"a\ud800", "not UTF-16"),
        ("short", "6162", "2 bytes are no REG_DWORD"),
        ("unknown", "6162", ""),
        ("many", "x; y", ""),
    ] {
        let told = value(name);
        assert_eq!(text(&told, &["rampart", "change", "new"]), new, "{told}");
        assert!(told["rampart"]["event"]["incomplete"].to_string().contains(note), "{told}");
    }
    value("none");
    on.wine.run("reg", &["delete", OWN_KEY, "/f"]);
    on.event("registry_change", |event| {
        text(event, &["registry", "value"]) == "large"
            && text(event, &["rampart", "registry", "operation"]) == "delete"
    });
    tell(
        "bad input: values of 1 MiB, of broken UTF-16, of no known type, and their key gone under the watch",
    );
    on.still_runs();
}

/// Targets that are not what they seem.
#[test]
#[ignore = "takes Wine and a cross build: `make test-windows`"]
fn targets_that_are_not_what_they_seem_are_refused() {
    let Some(mut on) = Installation::start() else { return };
    // A PID that is another process by now: the same PID with another start.
    let mut guest = on.wine.start(r"C:\bin\waits.exe", &["743"]);
    let start = on.event("process_start", |event| {
        text(event, &["process", "command_line"]).ends_with(" 743")
            && text(event, &["process", "name"]) == "waits.exe"
    });
    let entity = text(&start, &["process", "entity_id"]);
    let (life, start_ns) = entity.rsplit_once('-').expect("boot, PID and start");
    let earlier = start_ns.parse::<u64>().expect("a number") - 1_000_000_000;
    for action in ["terminate_process", "kill_tree", "suspend_process"] {
        let refused = on.ordered(action, &json!({ "entity_id": format!("{life}-{earlier}") }), false);
        assert_eq!(refused["state"], "refused", "{refused}");
        assert!(text(&refused, &["reason"]).contains("is another process by now"), "{refused}");
    }
    assert!(!guest.ended(), "the process that has the PID now is left alone");
    drop(guest);

    // A folder, what is not there, and what the system needs. (Junctions are a matter of the checklist: Wine 8 makes none.)
    for (path, because) in [
        (r"C:\watched", ""),
        (r"C:\watched\nothing.bin", "no such file"),
        (r"C:\windows\system32\ntdll.dll", ""),
    ] {
        let refused = on.ordered("quarantine_file", &json!({ "path": path }), false);
        assert_eq!(refused["state"], "refused", "{refused}");
        assert!(text(&refused, &["reason"]).contains(because), "{refused}");
    }
    tell("bad input: a PID that was given again, a folder, a file of the system: refused");
    on.still_runs();
}
