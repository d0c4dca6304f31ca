//! The server and the operator's tool, built for Windows like the agent.

use std::fs::{self, File};

use test_support::{Api, tell, wait_for};

use crate::guest::{Guest, Wine};
use crate::installation::LONG;
use crate::write_rules;

#[test]
#[ignore = "takes Wine and a cross build: `make test-windows`"]
fn server_tool_and_agent_work_together_on_windows() {
    const DATABASE: &str = r"C:\server\rampart.db";
    let Some(wine) = Wine::new() else { return };
    for program in ["edr.exe", "edr-server.exe"] {
        wine.bring(program);
    }
    fs::create_dir_all(wine.drive("server")).expect("made");
    let printed = wine.folder.path().join("server.out");
    let output = File::create(&printed).expect("made");
    let mut command =
        wine.command(r"C:\bin\edr-server.exe", &["-addr=127.0.0.1:0", &format!("-db={DATABASE}")]);
    command.stderr(output.try_clone().expect("a file")).stdout(output);
    let mut server = Guest(command.spawn().expect("wine starts"));
    let url = wait_for("the server listens", LONG, || {
        let printed = fs::read_to_string(&printed).ok()?;
        assert!(!server.ended(), "the server ended: {printed}");
        printed.lines().find_map(|line| line.strip_prefix("listening on ").map(str::to_owned))
    });

    let edr = |words: &[&str]| {
        let (content, said) = wine.said(r"C:\bin\edr.exe", words);
        assert!(content, "edr {words:?}: {said}");
        said
    };
    let first_line = |said: String| said.lines().next().unwrap_or_default().trim().to_owned();
    let made = ["api-token", "create", "--name", "test", "--role", "administrator", "--db", DATABASE];
    let api_token = first_line(edr(&made));
    let token = first_line(edr(&["token", "create", "--db", DATABASE]));
    write_rules(&wine.drive("rules"));
    edr(&["rules", "check", r"C:\rules"]);

    let ca = fs::read(wine.drive("server/ca.pem")).expect("the server made its CA");
    let api = Api::new(url.clone(), &ca, api_token);
    let (server_flag, token_flag) = (format!("-server={url}"), format!("-token={token}"));
    let arguments = [&server_flag, &token_flag, r"-cert=C:\server\ca.pem", r"-state=C:\state", "-cpulimit=0"];
    let mut agent = Guest(wine.command(r"C:\bin\edr-agent.exe", &arguments).spawn().expect("wine starts"));
    wait_for("the agent's start is stored", LONG, || {
        assert!(!agent.ended(), "the agent ended");
        (!api.all("/events?type=agent_start&limit=10").is_empty()).then_some(())
    });
    tell("programs: the server, the operator's tool and the agent work together on Windows");
}
