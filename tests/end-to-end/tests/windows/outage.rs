//! The server is away for a while.

use std::fs;

use test_support::{ServerOptions, ServerProcess, tell};

use crate::RUN;
use crate::installation::{Installation, text};

/// The server goes and comes back; what happened meanwhile is stored, each once.
#[test]
#[ignore = "takes Wine and a cross build: `make test-windows`"]
fn nothing_is_lost_while_the_server_is_away() {
    let Some(mut on) = Installation::start() else { return };
    let options: ServerOptions = on.server.take().expect("it runs").stop();
    for number in 0..20 {
        fs::write(on.wine.drive(&format!("watched/away-{number}.txt")), "x").expect("written");
    }
    for number in 0..3 {
        on.wine.run("reg", &["add", RUN, "/v", &format!("away-{number}"), "/d", "x", "/f"]);
    }
    on.server = Some(ServerProcess::start_with(options));
    on.wait("all is stored", || {
        let files = on.events("file_create");
        let stored = |number: usize| {
            let path = format!(r"C:\watched\away-{number}.txt");
            files.iter().filter(|event| text(event, &["file", "path"]).eq_ignore_ascii_case(&path)).count()
        };
        let values = on.events("registry_change");
        let set = |number: usize| {
            let name = format!("away-{number}");
            values.iter().filter(|event| text(event, &["registry", "value"]) == name).count()
        };
        let counts: Vec<usize> = (0..20).map(stored).chain((0..3).map(set)).collect();
        assert!(counts.iter().all(|count| *count <= 1), "doubled: {counts:?}");
        counts.iter().all(|count| *count == 1).then_some(())
    });
    let gaps = on.api.all("/events?type=gap&limit=500");
    assert!(gaps.is_empty(), "something was lost: {gaps:#?}");
    tell("outage: what happened while the server was away is stored, each once");
    on.still_runs();
}
