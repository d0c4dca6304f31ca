//! The agent as a service of Windows.

use std::fs;
use std::os::unix::fs::chown;

use test_support::{ServerProcess, tell};

use crate::guest::Wine;
use crate::installation::LONG;

#[test]
#[ignore = "takes Wine and a cross build: `make test-windows`"]
fn the_agent_is_installed_runs_and_is_removed_as_a_service() {
    let Some(wine) = Wine::new() else { return };
    // Wine's service manager ends with the last program.
    let _running = wine.start(r"C:\bin\waits.exe", &["3600"]);
    let server = ServerProcess::start(wine.folder.path());
    let api = server.api("administrator");
    // What real Windows has, and Wine lacks.
    let folder = wine.drive("Program Files/Rampart");
    fs::create_dir_all(&folder).expect("made");
    fs::copy(wine.drive("bin/bcryptprimitives.dll"), folder.join("bcryptprimitives.dll")).expect("copied");

    let agent = |arguments: &[&str]| {
        let (content, said) = wine.said(r"C:\bin\edr-agent.exe", arguments);
        assert!(content, "{arguments:?}: {said}");
        said
    };
    let (server_flag, token) =
        (format!("-server={}", server.url()), format!("-token={}", server.enrollment_token()));
    let ca = format!("-cert=Z:{}", server.ca_file().display().to_string().replace('/', "\\"));
    // Anybody may make this folder first, on Windows. (A test that is not root can't give it away.)
    let data = wine.drive("ProgramData/Rampart");
    fs::create_dir_all(data.join("agent")).expect("made");
    let nobody = Some(65_534);
    if chown(data.join("agent"), nobody, nobody).is_ok() {
        let (content, said) =
            wine.said(r"C:\bin\edr-agent.exe", &["-service=install", &server_flag, &token, &ca]);
        assert!(!content && said.contains(r"C:\ProgramData\Rampart\agent: belongs to"), "{said}");
        fs::remove_dir_all(&data).expect("removed");
    }

    let said = agent(&["-service=install", &server_flag, &token, &ca, "-cpulimit=0"]);
    assert!(said.contains("is installed"), "{said}");
    let settings = fs::read_to_string(wine.drive("ProgramData/Rampart/agent.json")).expect("they are there");
    assert!(settings.contains(r"C:\\ProgramData\\Rampart\\server.pem"), "{settings}");

    let log = || fs::read_to_string(wine.drive("ProgramData/Rampart/agent.log")).unwrap_or_default();
    let online = |wanted: bool| {
        test_support::wait_for(
            if wanted { "the host is online" } else { "the host is offline" },
            LONG,
            || {
                let hosts = api.get("/hosts").ok()?;
                let is = hosts["items"].as_array()?.iter().any(|host| host["online"] == true);
                (is == wanted).then_some(())
            },
        );
    };
    // A service manager of Wine's that is just beginning knows its services some moments later.
    test_support::wait_for("the service starts", LONG, || {
        wine.said(r"C:\bin\edr-agent.exe", &["-service=start"]).0.then_some(())
    });
    online(true);
    let (content, said) = wine.said(r"C:\bin\edr-agent.exe", &["-service=install", &server_flag, &token]);
    assert!(!content && said.contains("installed already"), "{said}");
    agent(&["-service=stop"]);
    online(false);
    let stops = api.all("/events?type=agent_stop&limit=10");
    assert_eq!(stops.len(), 1, "it stopped as it was asked to: {}", log());

    // Settings that can't be read: it says so where its log is, and does not hang.
    let settings_file = wine.drive("ProgramData/Rampart/agent.json");
    fs::write(&settings_file, "{ \"server_addr\": ").expect("written");
    let _ = wine.said(r"C:\bin\edr-agent.exe", &["-service=start"]);
    test_support::wait_for("the log says that the settings are damaged", LONG, || {
        let log = log();
        let line = log.lines().find(|line| line.contains("the agent can't run"))?;
        line.contains("agent.json").then_some(())
    });
    fs::write(&settings_file, settings).expect("written");

    test_support::wait_for("the service starts again", LONG, || {
        wine.said(r"C:\bin\edr-agent.exe", &["-service=start"]).0.then_some(())
    });
    online(true);
    agent(&["-service=uninstall"]);
    online(false);
    let (content, said) = wine.said(r"C:\bin\edr-agent.exe", &["-service=start"]);
    assert!(!content && said.contains("RampartAgent"), "{said}");
    tell("service: installed with its settings, started, enrolled, stopped cleanly, started again, removed");
}
