//! What every bus does, over all three, with real brokers; and what is left after a broker's crash.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use alert_bus::{AlertBus, BusError, Delivery, Message, Options, Subscription, connect};
use test_support::{Broker, BrokerKind, wait_for};

const REDELIVER: Duration = Duration::from_secs(3);
const LIMIT: Duration = Duration::from_secs(30);

fn bus(url: &str) -> Arc<dyn AlertBus> {
    connect(url, Options { redeliver_after: REDELIVER }).expect("a good URL")
}

fn message(number: usize) -> Message {
    Message { id: format!("id-{number}"), payload: format!("{{\"number\":{number}}}") }
}

fn messages(numbers: std::ops::Range<usize>) -> Vec<Message> {
    numbers.map(message).collect()
}

/// Receives until there are so many, and acknowledges them.
fn take(subscription: &mut dyn Subscription, count: usize) -> Vec<String> {
    let mut ids = Vec::new();
    wait_for("messages", LIMIT, || {
        for delivery in subscription.receive(100, Duration::from_millis(200)).expect("the bus gives") {
            subscription.acknowledge(&delivery).expect("the bus notes it");
            ids.push(delivery.message.id);
        }
        (ids.len() >= count).then_some(())
    });
    ids
}

fn receive_some(subscription: &mut dyn Subscription) -> Vec<Delivery> {
    wait_for("a message", LIMIT, || {
        let got = subscription.receive(100, Duration::from_millis(200)).expect("the bus gives");
        (!got.is_empty()).then_some(got)
    })
}

/// The suite.
fn holds_the_contract(bus: &dyn AlertBus) {
    // Before anyone is there, in order, with their payloads.
    bus.publish(&messages(0..5)).expect("published");
    let mut first = bus.subscribe("first", "a").expect("subscribed");
    let got = receive_some(&mut *first);
    assert_eq!(got[0].message, message(0));
    for delivery in &got {
        first.acknowledge(delivery).expect("acknowledged");
    }
    if got.len() < 5 {
        take(&mut *first, 5 - got.len());
    }

    // The same id again is nothing new, also among others.
    bus.publish(&messages(3..7)).expect("published");
    assert_eq!(take(&mut *first, 2), ["id-5", "id-6"]);
    assert!(first.receive(10, Duration::from_millis(300)).expect("the bus answers").is_empty());

    // Each group has its own copy, each member a part of it.
    let (mut a, mut b) = (bus.subscribe("second", "a").expect("a"), bus.subscribe("second", "b").expect("b"));
    let from_a = a.receive(3, Duration::from_secs(5)).expect("given");
    assert!(!from_a.is_empty() && from_a.len() <= 3, "{from_a:?}");
    let mut from_b = Vec::new();
    let ids = |deliveries: &[Delivery]| -> BTreeSet<String> {
        deliveries.iter().map(|delivery| delivery.message.id.clone()).collect()
    };
    wait_for("the rest", LIMIT, || {
        from_b.extend(b.receive(100, Duration::from_millis(200)).expect("given"));
        (ids(&from_a).union(&ids(&from_b)).count() == 7).then_some(())
    });

    // What `a` took and did not acknowledge comes to `b` in time, what `b` did acknowledge to nobody.
    for delivery in &from_b {
        b.acknowledge(delivery).expect("acknowledged");
    }
    // On a busy machine some of it may have come already.
    let wanted: BTreeSet<String> = ids(&from_a).difference(&ids(&from_b)).cloned().collect();
    let again: BTreeSet<String> = take(&mut *b, wanted.len()).into_iter().collect();
    assert_eq!(again, wanted);
    assert!(b.receive(10, REDELIVER * 2).expect("the bus answers").is_empty());

    // Of two who claim, one has it, for good.
    assert_eq!(bus.claim("alert 1/step.a", "one").expect("claimed"), "one");
    assert_eq!(bus.claim("alert 1/step.a", "two").expect("asked"), "one");
    assert_eq!(bus.claim("alert 1/step.a", "one").expect("asked"), "one");
    assert_eq!(bus.claim("alert 1/step.b", "two").expect("claimed"), "two");

    // What no bus takes is refused before any of it is taken.
    let large = Message { id: "large".to_owned(), payload: "x".repeat(1_000_001) };
    assert!(matches!(bus.publish(&[message(99), large]), Err(BusError::TooLarge { size: 1_000_001, .. })));
    assert!(first.receive(10, Duration::from_millis(300)).expect("the bus answers").is_empty());
}

/// Eight claim the same thing at once: one has it.
fn one_of_many_claims(url: &str, bus: &Arc<dyn AlertBus>) {
    let owners: Vec<String> = std::thread::scope(|scope| {
        let claims: Vec<_> = (0..8)
            .map(|number| {
                let own = if url == "memory:" { Arc::clone(bus) } else { self::bus(url) };
                scope.spawn(move || own.claim("contested", &format!("owner-{number}")).expect("answered"))
            })
            .collect();
        claims.into_iter().map(|claim| claim.join().expect("no panic")).collect()
    });
    assert!(owners.iter().all(|owner| *owner == owners[0]), "{owners:?}");
}

/// The broker is killed with messages published, taken and acknowledged.
fn survives_a_crash(kind: BrokerKind) {
    let folder = tempfile::tempdir().expect("a folder");
    let Some(broker) = Broker::start(kind, folder.path()) else { return };
    let bus = bus(&broker.url());
    let mut subscription = bus.subscribe("group", "a").expect("subscribed");
    bus.publish(&messages(0..20)).expect("published");
    let mut done = take(&mut *subscription, 1);
    let claimed = bus.claim("before", "me").expect("claimed");

    let stopped = broker.kill();
    assert!(bus.publish(&messages(20..21)).is_err(), "nobody has taken it");
    let _broker = stopped.start();
    wait_for("publishing works again", LIMIT, || bus.publish(&messages(20..25)).ok());
    assert_eq!(wait_for("claims are there", LIMIT, || bus.claim("before", "other").ok()), claimed);
    wait_for("all messages", LIMIT, || {
        match subscription.receive(100, Duration::from_millis(200)) {
            Ok(deliveries) => {
                for delivery in deliveries {
                    if subscription.acknowledge(&delivery).is_ok() {
                        done.push(delivery.message.id);
                    }
                }
            }
            // It connects again at the next call.
            Err(_) => subscription = bus.subscribe("group", "a").ok()?,
        }
        (done.len() >= 25).then_some(())
    });
    done.sort();
    done.dedup();
    assert_eq!(done.len(), 25, "nothing lost, nothing acknowledged twice: {done:?}");
}

#[test]
fn memory() {
    let bus = bus("memory:");
    holds_the_contract(&*bus);
    one_of_many_claims("memory:", &bus);
}

#[test]
fn redis() {
    let folder = tempfile::tempdir().expect("a folder");
    let Some(broker) = Broker::start(BrokerKind::Redis, folder.path()) else { return };
    let bus = bus(&broker.url());
    holds_the_contract(&*bus);
    one_of_many_claims(&broker.url(), &bus);
}

#[test]
fn nats() {
    let folder = tempfile::tempdir().expect("a folder");
    let Some(broker) = Broker::start(BrokerKind::Nats, folder.path()) else { return };
    let bus = bus(&broker.url());
    holds_the_contract(&*bus);
    one_of_many_claims(&broker.url(), &bus);
}

#[test]
fn redis_survives_a_crash() {
    survives_a_crash(BrokerKind::Redis);
}

#[test]
fn nats_survives_a_crash() {
    survives_a_crash(BrokerKind::Nats);
}

#[test]
fn a_broker_that_is_not_there_is_an_error_and_not_a_wait() {
    for url in ["redis://127.0.0.1:1", "nats://127.0.0.1:1"] {
        let error = bus(url).publish(&messages(0..1)).expect_err("nobody listens").to_string();
        assert!(error.contains(url) && error.contains("publish"), "{error}");
    }
}

#[test]
fn a_redis_that_would_forget_is_told_of() {
    let folder = tempfile::tempdir().expect("a folder");
    let Some(broker) = Broker::start(BrokerKind::Redis, folder.path()) else { return };
    let bus = connect(&broker.url(), Options::default()).expect("a bus");
    assert_eq!(bus.durability().expect("an answer"), None, "the broker of the tests keeps all");
    let client = redis::Client::open(broker.url()).expect("a URL");
    let mut connection = client.get_connection().expect("it is there");
    let mut set = |key: &str, value: &str| {
        redis::cmd("CONFIG").arg("SET").arg(key).arg(value).query::<()>(&mut connection).expect("it may")
    };
    for (save, part) in [("900 1", "now and then"), ("", "keeps nothing")] {
        set("appendonly", "no");
        set("save", save);
        let told = bus.durability().expect("an answer").unwrap_or_default();
        assert!(told.contains(part) && told.contains("appendonly yes"), "{told}");
    }
}
