//! The server is away for a minute while processes go on: nothing lost, nothing doubled.

use std::time::Duration;

use end_to_end::{Installation, Load};
use test_support::{pause, wait_for};

/// What an administrator's restart or a short network failure takes.
const OUTAGE: Duration = Duration::from_secs(60);

#[test]
fn a_minute_without_the_server_loses_and_doubles_nothing() {
    let Some(mut installation) = Installation::start() else { return };
    let load = Load::start(installation.folder(), 2, Duration::from_millis(10), 1_000_000);
    wait_for("the load runs", Duration::from_secs(30), || (load.so_far() > 200).then_some(()));

    let options = installation.server.take().expect("the server runs").stop();
    let before = load.so_far();
    pause(OUTAGE);
    let during = load.so_far() - before;
    assert!(during > 500, "only {during} processes were started during the outage");
    installation.start_server(options);

    let after = load.so_far() + 200;
    wait_for("the load goes on", Duration::from_secs(30), || (load.so_far() > after).then_some(()));
    load.finish().assert_every_start_is_stored_or_counted(&installation.api, Duration::from_secs(120));
}
