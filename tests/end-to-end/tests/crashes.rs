//! kill -9 of agent and server at random moments: nothing lost, nothing doubled.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use end_to_end::{Installation, Load};
use test_support::{pause, tell, wait_for};

/// `make test-long` goes on for longer.
fn rounds() -> u32 {
    if std::env::var_os("RAMPART_LONG_TESTS").is_some() { 200 } else { 20 }
}

#[test]
fn crashes_at_random_moments_lose_and_double_nothing() {
    let Some(mut installation) = Installation::start() else { return };
    let mut random = Random::new();
    let load = Load::start(installation.folder(), 2, Duration::from_millis(5), 10_000_000);
    wait_for("the load runs", Duration::from_secs(30), || (load.so_far() > 100).then_some(()));

    for round in 0..rounds() {
        pause(Duration::from_millis(random.below(1_500)));
        let who = random.below(3);
        tell(&format!(
            "round {round}: {}",
            ["server", "agent", "both"][usize::try_from(who).expect("small")]
        ));
        let server = (who != 1).then(|| installation.kill_server());
        let agent = (who != 0).then(|| installation.kill_agent());
        pause(Duration::from_millis(random.below(500)));
        if let Some(options) = agent {
            installation.start_agent(options);
        }
        if let Some(options) = server {
            installation.start_server(options);
        }
    }

    let after = load.so_far() + 100;
    wait_for("the load goes on", Duration::from_secs(30), || (load.so_far() > after).then_some(()));
    load.finish().assert_every_start_is_stored_or_counted(&installation.api, Duration::from_secs(120));
}

/// Steele and Vigna's SplitMix64; its seed is printed, so that a failure can be run again.
struct Random(u64);

impl Random {
    fn new() -> Self {
        let given = std::env::var("RAMPART_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = given.unwrap_or_else(|| {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
            u64::from(now.subsec_nanos())
        });
        tell(&format!("RAMPART_TEST_SEED={seed}"));
        Self(seed)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }
}
