//! Whose a run is, wherever a responder ends on the way to knowing it.

use alert_bus::{MemoryBus, Message, Options};
use server_api::ServerApi;
use tempfile::TempDir;

use super::*;
use crate::Busy;
use crate::act::Outside;
use crate::journal::Journals;
use crate::library::Library;
use crate::report::Reports;

const PLAYBOOK: &str = "id: p
name: P
mode: shadow
trigger: {severity: high}
steps:
  - {id: kill, do: kill_tree}
";

/// Nobody asks the server that it would be of.
const CA: &[u8] = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";

/// A bus whose answers to claims can be lost, after it has noted them.
#[derive(Debug)]
struct Bus {
    inner: MemoryBus,
    is_mute: AtomicBool,
}

impl AlertBus for Bus {
    fn publish(&self, messages: &[Message]) -> Result<(), BusError> {
        self.inner.publish(messages)
    }

    fn subscribe(&self, group: &str, member: &str) -> Result<Box<dyn Subscription>, BusError> {
        self.inner.subscribe(group, member)
    }

    fn claim(&self, key: &str, owner: &str) -> Result<String, BusError> {
        let owner = self.inner.claim(key, owner)?;
        if self.is_mute.load(Ordering::Relaxed) {
            let reason = "the answer is lost".to_owned();
            return Err(BusError::Broker { bus: "test".to_owned(), doing: "claim", reason });
        }
        Ok(owner)
    }
}

struct Place {
    folder: TempDir,
    bus: Arc<Bus>,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("p.yml"), PLAYBOOK).expect("written");
        let inner = MemoryBus::new(Options::default());
        Self { folder, bus: Arc::new(Bus { inner, is_mute: AtomicBool::new(false) }) }
    }

    /// A responder with that folder of journals; dropping it is its crash.
    fn responder(&self, name: &str) -> Consumer {
        let server = ServerApi::new("https://127.0.0.1:1".to_owned(), CA, String::new());
        let server = Arc::new(server.expect("a client"));
        let context = Context {
            library: Library::load(self.folder.path()).expect("a playbook"),
            reports: Reports::start(Arc::clone(&server)).expect("a thread"),
            server,
            outside: Outside::new(None, None, None).expect("nothing outside"),
            journals: Arc::new(Journals::open(&self.folder.path().join(name)).expect("a folder")),
            busy: Busy::default(),
        };
        let bus = Arc::clone(&self.bus) as Arc<dyn AlertBus>;
        Consumer::new(Arc::new(context), bus, "g".to_owned(), Duration::from_secs(3_600))
    }
}

fn header_for(consumer: &Consumer) -> Header {
    let text = format!(
        r#"{{"id": "a1", "time": "{}", "host_id": "h", "host_name": "web-1",
            "rule": {{"id": "1", "name": "r", "severity": "high"}}}}"#,
        now()
    );
    let alert = Alert::from_json(text.as_bytes()).expect("an alert");
    header(alert, consumer.context.library.find("p").expect("there"), "")
}

fn begin(consumer: &Consumer) -> Result<Option<(Journal, BusyRun)>, TakeError> {
    consumer.begin(header_for(consumer))
}

impl Place {
    /// What the run's journal has in it, if it is there.
    fn journal(&self, name: &str) -> Option<String> {
        std::fs::read_to_string(self.folder.path().join(name).join("a1--p.run")).ok()
    }
}

#[test]
fn a_run_that_could_not_be_written_down_is_left_to_the_others() {
    let place = Place::new();
    let (full, other) = (place.responder("full"), place.responder("other"));
    // A folder stands where the journal would be written.
    std::fs::create_dir(place.folder.path().join("full/a1--p.new")).expect("made");
    assert!(matches!(begin(&full), Err(TakeError::Journal(_))));
    assert!(begin(&other).expect("it can").is_some(), "nobody had claimed it");
}

#[test]
fn the_first_of_two_has_the_run_and_the_second_keeps_nothing() {
    let place = Place::new();
    let (first, second) = (place.responder("first"), place.responder("second"));
    let (journal, busy) = begin(&first).expect("it can").expect("it is the first");
    assert!(begin(&first).expect("it can").is_none(), "a thread is at it");
    assert!(begin(&second).expect("it can").is_none());
    assert!(place.journal("second").is_none());
    drop((journal, busy));
    assert!(place.journal("first").is_some());
}

#[test]
fn what_a_crash_leaves_before_the_claim_is_done_by_one_responder() {
    for other_was_faster in [false, true] {
        let place = Place::new();
        let first = place.responder("first");
        // It is killed with the journal on disk and nothing asked of the bus.
        drop(first.context.journals.begin(header_for(&first)).expect("it can").expect("it is new"));
        drop(first);
        let other = place.responder("other");
        if other_was_faster {
            assert!(begin(&other).expect("it can").is_some());
        }
        let first = place.responder("first");
        // Nothing is taken from the bus: only what is left is gone on with.
        first.run(&AtomicBool::new(true)).expect("it starts");
        first.settle().expect("the bus answers");
        assert_eq!(place.journal("first").is_some(), !other_was_faster);
        if !other_was_faster {
            assert!(begin(&other).expect("it can").is_none(), "and the other leaves it alone");
        }
    }
}

#[test]
fn a_claim_whose_answer_is_lost_is_asked_for_again() {
    let place = Place::new();
    let first = place.responder("first");
    place.bus.is_mute.store(true, Ordering::Relaxed);
    assert!(matches!(begin(&first), Err(TakeError::Bus(_))));
    place.bus.is_mute.store(false, Ordering::Relaxed);
    // The message comes to another one, which sees the claim and leaves the run alone.
    assert!(begin(&place.responder("other")).expect("it can").is_none());
    first.settle().expect("the bus answers");
    let is_done = || place.journal("first").is_some_and(|text| text.contains("run_finished"));
    let until = Instant::now() + Duration::from_secs(30);
    while !is_done() {
        assert!(Instant::now() < until, "the run stands still");
        std::thread::yield_now();
    }
}
