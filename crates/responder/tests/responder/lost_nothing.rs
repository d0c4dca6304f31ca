//! Between the database and the bus nothing is lost, and nothing comes twice.

use std::time::Duration;

use alert_bus::{Options, connect};
use test_support::{Broker, BrokerKind, ServerProcess, wait_for};

use crate::place::{LIMIT, record_alert, server_options};

#[test]
fn alerts_of_a_server_that_is_killed_while_the_bus_is_down_arrive_once() {
    for kind in [BrokerKind::Redis, BrokerKind::Nats] {
        let folder = tempfile::tempdir().expect("as the test needs it");
        let Some(broker) = Broker::start(kind, &folder.path().join("broker")) else { return };
        let url = broker.url();
        let server = ServerProcess::start_with(server_options(folder.path(), &url));
        let database = server.database();
        let mut wanted: Vec<String> =
            (1..=5).map(|number| record_alert(&database, number, 4_000).to_string()).collect();

        let stopped = broker.kill();
        wanted.extend((6..=10).map(|number| record_alert(&database, number, 4_000).to_string()));
        wait_for("the server notices that the bus is gone", LIMIT, || {
            server.output().contains("they wait in the outbox").then_some(())
        });
        let options = server.kill();
        wanted.extend((11..=15).map(|number| record_alert(&database, number, 4_000).to_string()));
        let _broker = stopped.start();
        let server = ServerProcess::start_with(options);
        // Killed again with the bus there: whatever it was doing then.
        wanted.extend((16..=40).map(|number| record_alert(&database, number, 4_000).to_string()));
        let _server = ServerProcess::start_with(server.kill());

        let bus = connect(&url, Options::default()).expect("as the test needs it");
        let mut subscription = bus.subscribe("test", "a").expect("as the test needs it");
        let mut got = Vec::new();
        wait_for("all alerts", LIMIT, || {
            for delivery in
                subscription.receive(100, Duration::from_millis(200)).expect("as the test needs it")
            {
                subscription.acknowledge(&delivery).expect("as the test needs it");
                assert!(delivery.message.payload.contains("\"event\":{"), "{}", delivery.message.payload);
                got.push(delivery.message.id);
            }
            (got.len() >= wanted.len()).then_some(())
        });
        assert!(
            subscription.receive(100, Duration::from_millis(500)).expect("as the test needs it").is_empty(),
            "none twice"
        );
        got.sort();
        wanted.sort();
        assert_eq!(got, wanted, "{kind:?}");
    }
}
