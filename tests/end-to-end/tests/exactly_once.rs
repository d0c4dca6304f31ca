//! 20,000 short processes at full speed: each start is stored once, or counted as lost; and
//! numbers go on where the server's end, also when the spool that knew them is gone.

use std::path::{Path, PathBuf};
use std::time::Duration;

use end_to_end::{Finished, Installation, Load, assert_every_kind_balances, lost_starts};
use serde_json::Value;
use test_support::{AgentOptions, Api, wait_for};

const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn twenty_thousand_short_processes_are_all_accounted_for() {
    let Some(installation) = Installation::start() else { return };
    let load = Load::start(installation.folder(), 2, Duration::ZERO, 20_000).run_out();
    assert_eq!(load.started, 20_000);
    load.assert_every_start_is_stored_or_counted(&installation.api, Duration::from_secs(120));
}

#[test]
fn without_its_spool_the_agent_goes_on_above_the_servers_numbers() {
    let Some(mut installation) = Installation::start() else { return };
    all_stored(&run(&installation, "before", 500), &installation.api);
    let mark = ledger(&installation.api)["stored"].as_u64().expect("a number");

    let options = installation.kill_agent();
    remove_spool(&options);
    installation.start_agent(options);
    all_stored(&run(&installation, "after", 40), &installation.api);
    wait_for("a gap of unknown size tells what may be lost", LIMIT, || {
        of_unknown_size(&installation.api).pop()
    });
    let ledger = wait_for("produced = stored + dropped", LIMIT, || {
        let ledger = ledger(&installation.api);
        let figure = |name: &str| ledger[name].as_u64();
        (figure("produced")? == figure("stored")? + figure("dropped")?).then_some(ledger)
    });
    assert!(ledger["stored"].as_u64().expect("a number") > mark + 40, "{ledger}");
    assert_eq!(ledger["dropped"], 0, "{ledger}");
    assert_every_kind_balances(&installation.api, LIMIT);
}

#[test]
fn what_was_numbered_without_spool_and_server_is_counted_and_what_follows_is_stored() {
    let Some(mut installation) = Installation::start() else { return };
    // So many that the agent does not number beyond them while the server is away.
    all_stored(&run(&installation, "before", 3_000), &installation.api);

    let server = installation.stop_server();
    let options = installation.kill_agent();
    remove_spool(&options);
    installation.start_agent(options);
    let meanwhile = run(&installation, "meanwhile", 40);
    installation.start_server(server);
    installation.host();
    wait_for("each start without the server is stored or counted as lost", LIMIT, || {
        let known = meanwhile.stored(&installation.api) + lost_starts(&installation.api);
        (known >= meanwhile.started).then_some(())
    });
    wait_for("a gap of unknown size tells of what the removed spool held", LIMIT, || {
        of_unknown_size(&installation.api).pop()
    });
    all_stored(&run(&installation, "after", 40), &installation.api);
}

/// Starts so many processes of an image of its own, one after the other.
fn run(installation: &Installation, name: &str, processes: u64) -> Finished {
    let folder: PathBuf = installation.folder().join(name);
    std::fs::create_dir(&folder).expect("a folder can be made");
    Load::start(&folder, 1, Duration::ZERO, processes).run_out()
}

fn all_stored(load: &Finished, api: &Api) {
    wait_for("every start is stored", LIMIT, || (load.stored(api) == load.started).then_some(()));
}

fn remove_spool(options: &AgentOptions) {
    let spool: &Path = &options.state.join("spool");
    std::fs::remove_dir_all(spool).expect("the spool is there");
}

fn ledger(api: &Api) -> Value {
    api.get("/hosts").expect("hosts")["items"][0]["ledger"].clone()
}

fn of_unknown_size(api: &Api) -> Vec<Value> {
    let gaps = api.all("/events?type=gap&limit=500").into_iter().map(|event| event["rampart"]["gap"].clone());
    gaps.filter(|gap| gap["reason"] == "spool_corrupt" && gap["count"].is_null()).collect()
}
