//! 20,000 short processes at full speed: each start is stored once, or counted as lost.

use std::time::Duration;

use end_to_end::{Installation, Load};

#[test]
fn twenty_thousand_short_processes_are_all_accounted_for() {
    let Some(installation) = Installation::start() else { return };
    let load = Load::start(installation.folder(), 2, Duration::ZERO, 20_000).run_out();
    assert_eq!(load.started, 20_000);
    load.assert_every_start_is_stored_or_counted(&installation.api, Duration::from_secs(120));
}
