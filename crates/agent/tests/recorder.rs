//! Numbers, batches, and the account of what is lost on the way to the server.

#![allow(clippy::unwrap_used, reason = "a failed expectation is the report")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use agent::clock::WallClock;
use agent::drop_account::{DropAccount, Lost, Untold};
use agent::note::Note;
use agent::process_table::ProcessTable;
use agent::recorder::{Recorder, Resume, Spooling};
use agent::server_mark::{ServerMark, TakenNumbers};
use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
use aws_lc_rs::rsa::{KeySize, PrivateDecryptingKey};
use event_model::{
    Activity, AgentStop, BootId, Detection, DetectionId, EventBody, EventRecord, EventType, Field, Gap,
    GapReason, HostId, KindFigures, RecordBody, RecordKind, ResponseMode, RuleId, RuleReference, Severity,
    Timestamp, Value,
};
use protocol::envelope::{Opener, Purpose, Sealer, public_sealing_key};
use protocol::wire::{Batch, Ledger, decode_batch};
use sensor_api::SensorPosition;
use spool::{Amount, LossReason, Spool, SpoolOptions};
use test_support::SmallDisk;
use uuid::Uuid;

const HOST: HostId = HostId::from_uuid(Uuid::from_u128(1));
const BOOT: BootId = BootId::from_uuid(Uuid::from_u128(2));

struct Server {
    opener: Opener,
    public: Vec<u8>,
}

impl Server {
    fn new() -> Self {
        let key = PrivateDecryptingKey::generate(KeySize::Rsa2048).unwrap();
        let der: Pkcs8V1Der<'_> = key.as_der().unwrap();
        let public = public_sealing_key(der.as_ref()).unwrap();
        Self { opener: Opener::new(der.as_ref()).unwrap(), public }
    }

    /// What waits in the spool, opened and decoded as a server does.
    fn batches(&self, spool: &Arc<Spool>) -> Vec<Batch> {
        let mut reader = spool.reader();
        let sealed = std::iter::from_fn(|| reader.next_batch().unwrap());
        let opened = sealed.map(|batch| {
            let opened = self.opener.open(&batch.payload, Purpose::Batch, Some(HOST)).unwrap();
            let decoded = decode_batch(HOST, &opened.plain).unwrap();
            assert_eq!(
                decoded.first_sequence, batch.header.first_sequence,
                "the clear header tells the truth"
            );
            assert_eq!(decoded.last_sequence, batch.header.last_sequence());
            decoded
        });
        opened.collect()
    }
}

fn open(dir: &Path, max_bytes: u64) -> Arc<Spool> {
    Arc::new(Spool::open(dir, SpoolOptions { max_bytes, ..SpoolOptions::default() }).unwrap().0)
}

fn recorder(server: &Server, spool: &Arc<Spool>, resume: Resume) -> Recorder {
    recorder_in(tempfile::tempdir().unwrap().path(), server, spool, resume)
}

fn recorder_in(state_dir: &Path, server: &Server, spool: &Arc<Spool>, resume: Resume) -> Recorder {
    recorder_told_by(Arc::default(), state_dir, server, spool, resume)
}

fn recorder_told_by(
    server_mark: Arc<ServerMark>,
    state_dir: &Path,
    server: &Server,
    spool: &Arc<Spool>,
    resume: Resume,
) -> Recorder {
    let spooling = Spooling {
        spool: Arc::clone(spool),
        sealer: Sealer::new(&server.public, HOST, Purpose::Batch).unwrap(),
        wake: Arc::default(),
        account: DropAccount::open(&state_dir.join("dropped"), HOST).unwrap(),
        server_mark,
    };
    Recorder::new(HOST, BOOT, Arc::new(WallClock::new()), resume, Some(spooling), None)
}

/// As the next agent goes on after a crash.
fn resume_after(last: &spool::LastBatch) -> Resume {
    let note = Note::decode(&last.note);
    let next_sequence = last.header.last_sequence() + 1;
    Resume { next_sequence, counters: note.counters, account: note.account, position: None }
}

fn tell(recorder: &mut Recorder, count: usize) {
    for _ in 0..count {
        let stop = AgentStop { version: "1".into(), reason: "signal", signal: None, by: None };
        recorder.tell(1, &EventBody::AgentStop(stop));
    }
}

/// Records that arrived, and records that the gaps among them account for.
fn account(batches: &[Batch]) -> (u64, u64) {
    let records = batches.iter().flat_map(|batch| &batch.records);
    let (mut stored, mut lost) = (0, 0);
    for record in records {
        stored += 1;
        if let RecordBody::Event(event) = &record.body {
            lost += event.integer(Field::GapRecords).map_or(0, i64::unsigned_abs);
        }
    }
    (stored, lost)
}

/// For each kind, as a server keeps the account: what the agent says that it produced
/// and lost, and what arrived. `untold` is what still waits to be told.
fn assert_balanced(batches: &[Batch], untold: &[spool::Loss]) {
    let mut stored: BTreeMap<RecordKind, u64> = BTreeMap::new();
    for record in batches.iter().flat_map(|batch| &batch.records) {
        *stored.entry(RecordKind::of(&record.body)).or_default() += record.body.acts();
    }
    for (kind, amount) in untold.iter().flat_map(|loss| loss.counts.as_ref().unwrap().iter()) {
        *stored.entry(RecordKind::from_number(kind)).or_default() += amount.acts;
    }
    let ledger = &batches.last().unwrap().ledger;
    for figures in &ledger.kinds {
        let dropped: u64 = figures.dropped.iter().map(|(_, count)| count).sum();
        let arrived = stored.remove(&figures.kind).unwrap_or_default();
        assert_eq!(figures.produced, arrived + dropped, "{figures:?}");
    }
    assert!(stored.is_empty(), "the account has no row for {stored:?}");
}

/// Starts that stand for several acts, and losses that never had a number.
fn tell_mixed(recorder: &mut Recorder, round: u64) {
    let lost = Gap::of_observations("ebpf", GapReason::KernelRingFull, "process_start", Some(round % 3));
    recorder.tell_gap(lost);
    let activity = Activity {
        event_type: EventType::FileModify,
        who: None,
        target: None,
        fields: vec![(Field::EventCount, Value::Integer(1 + (round % 5).cast_signed()))],
    };
    recorder.tell(1, &EventBody::Activity(Box::new(activity)));
    tell(recorder, 3);
}

#[test]
fn a_batch_closes_by_count_and_numbers_go_on_after_a_crash() {
    let (server, dir) = (Server::new(), tempfile::tempdir().unwrap());
    let spool = open(dir.path(), 64 << 20);
    let mut first = recorder(&server, &spool, Resume::default());
    tell(&mut first, 999);
    tell(&mut first, 1);
    assert!(first.is_due(), "a thousand records are a batch");
    first.reached(SensorPosition { stream: 3, offset: 40 });
    first.count_kernel_loss(5);
    first.flush(&ProcessTable::default());
    assert_eq!(first.stored_position(), Some(SensorPosition { stream: 3, offset: 40 }));
    // These are numbered and never spooled: the crash takes them, and their numbers come again.
    tell(&mut first, 10);
    drop(first);
    drop(spool);

    let spool = open(dir.path(), 64 << 20);
    let last = spool.last().unwrap();
    assert_eq!((last.header.last_sequence(), last.header.position.unwrap().offset), (1_000, 40));
    let resume = resume_after(&last);
    assert_eq!(resume.counters.kernel_lost, 5);
    let mut second = recorder(&server, &spool, resume);
    tell(&mut second, 1);
    second.flush(&ProcessTable::default());
    let batches = server.batches(&spool);
    assert_eq!(batches.iter().map(|batch| batch.first_sequence).collect::<Vec<_>>(), [1, 1_001]);
    assert_eq!(batches[1].ledger.kernel_lost, 5, "the counters of the boot go on");
}

#[test]
fn what_is_not_yet_stored_of_the_stream_is_measured_in_its_own_positions() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::new();
    let spool = open(dir.path(), 1 << 30);
    let earlier = Resume { position: Some(SensorPosition { stream: 1, offset: 9_000 }), ..Resume::default() };
    let mut recorder = recorder(&server, &spool, earlier);
    tell(&mut recorder, 1);
    recorder.flush(&ProcessTable::default());
    assert_eq!(recorder.unstored(), 0);
    // Another ring than the one of the agent before.
    for (offset, unstored) in [(100, 0), (300, 200), (5_000_000, 4_999_900)] {
        recorder.reached(SensorPosition { stream: 2, offset });
        assert_eq!(recorder.unstored(), unstored);
    }
    tell(&mut recorder, 1);
    recorder.flush(&ProcessTable::default());
    assert_eq!(recorder.unstored(), 0);
    recorder.reached(SensorPosition { stream: 2, offset: 5_000_064 });
    assert_eq!(recorder.unstored(), 64);
}

#[test]
fn what_a_full_spool_gives_up_stands_in_gaps_exactly() {
    let (server, dir) = (Server::new(), tempfile::tempdir().unwrap());
    let spool = open(dir.path(), 8_000);
    let mut recorder = recorder(&server, &spool, Resume::default());
    for round in 0..60 {
        tell_mixed(&mut recorder, round);
        recorder.flush(&ProcessTable::default());
    }
    // Two more, so that the last loss is told and nothing new is given up untold.
    let batches = server.batches(&spool);
    let (stored, _) = account(&batches);
    let ledger = batches.last().unwrap().ledger.clone();
    let untold: u64 = spool.losses().iter().map(|loss| loss.records.unwrap()).sum();
    assert_eq!(ledger.produced, stored + ledger.dropped + untold, "produced = stored + dropped");
    assert!(ledger.dropped > 200, "{}", ledger.dropped);
    assert_balanced(&batches, &spool.losses());
    assert!(spool.losses().is_empty() || recorder.owes_a_gap());
}

#[test]
fn a_disk_that_refuses_costs_counted_records_and_the_spool_recovers() {
    let Some(disk) = SmallDisk::mount(64) else { return };
    let (server, mount) = (Server::new(), disk.path());
    let spool = open(&mount.join("spool"), 64 << 20);
    let mut recorder = recorder(&server, &spool, Resume::default());
    // Something else fills the disk.
    tell(&mut recorder, 1);
    recorder.flush(&ProcessTable::default());
    let filler = mount.join("filler");
    let _ = std::fs::write(&filler, vec![0; 64 << 10]);
    let mut refused = 0;
    while refused < 3 {
        let before = recorder.counters().dropped;
        tell_mixed(&mut recorder, 2);
        tell(&mut recorder, 45);
        recorder.flush(&ProcessTable::default());
        refused += u64::from(recorder.counters().dropped > before);
    }
    std::fs::remove_file(&filler).unwrap();
    tell(&mut recorder, 1);
    recorder.flush(&ProcessTable::default());
    let batches = server.batches(&spool);
    let (stored, lost) = account(&batches);
    assert_eq!(lost, recorder.counters().dropped);
    assert_eq!(stored + lost, recorder.produced(), "every number is stored or in a gap");
    assert_balanced(&batches, &[]);
}

#[test]
fn what_a_full_disk_dropped_is_told_after_a_crash() {
    let Some(disk) = SmallDisk::mount(256) else { return };
    let (server, state_dir) = (Server::new(), disk.path());
    let spool = open(&state_dir.join("spool"), 64 << 20);
    let mut first = recorder_in(state_dir, &server, &spool, Resume::default());
    // Until nothing more fits, and then some.
    for _ in 0..1_500 {
        tell_mixed(&mut first, 2);
        tell(&mut first, 15);
        first.flush(&ProcessTable::default());
    }
    let produced = first.produced();
    drop(first);
    drop(spool);

    disk.resize(16 << 10);
    let spool = open(&state_dir.join("spool"), 64 << 20);
    let last = spool.last().unwrap();
    assert!(last.header.last_sequence() < produced, "the disk was never full");
    let resume = resume_after(&last);
    let mut second = recorder_in(state_dir, &server, &spool, resume);
    tell(&mut second, 1);
    second.flush(&ProcessTable::default());
    let batches = server.batches(&spool);
    let (stored, lost) = account(&batches);
    assert_eq!(lost, produced - last.header.last_sequence(), "each dropped record is counted once");
    assert_eq!(second.produced(), stored + lost, "no number is given twice");
    assert_eq!(batches.last().unwrap().ledger.dropped, lost);
    assert_balanced(&batches, &[]);
    drop(second);
    let third = recorder_in(state_dir, &server, &spool, resume_after(&spool.last().unwrap()));
    assert!(!third.owes_a_gap(), "told once");
}

/// What a server says that stored these records of a boot, of agents whose spool is gone.
fn taken(last_sequence: u64, dropped: u64) -> TakenNumbers {
    let kind = RecordKind::Event(EventType::AgentStop);
    let kinds =
        vec![KindFigures { kind, produced: last_sequence, dropped: vec![(GapReason::SpoolFull, dropped)] }];
    let ledger = Ledger { produced: last_sequence, dropped, kernel_lost: 1, kinds };
    TakenNumbers { last_sequence, ledger, last_event_at: None, contradicted: false }
}

fn gaps(batches: &[Batch]) -> Vec<(String, Option<i64>)> {
    let records = batches.iter().flat_map(|batch| &batch.records);
    let gaps = records.filter_map(|record| match &record.body {
        RecordBody::Event(event) if event.event_type == EventType::Gap => {
            Some((event.text(Field::GapReason)?.to_owned(), event.integer(Field::GapCount)))
        }
        _ => None,
    });
    gaps.collect()
}

#[test]
fn an_agent_that_is_told_at_its_start_gives_no_number_that_the_server_has() {
    let (server, dir) = (Server::new(), tempfile::tempdir().unwrap());
    let spool = open(dir.path(), 64 << 20);
    let mark = Arc::new(ServerMark::default());
    mark.tell(taken(500, 3));
    let mut recorder = recorder_told_by(mark, dir.path(), &server, &spool, Resume::default());
    tell(&mut recorder, 2);
    recorder.flush(&ProcessTable::default());
    tell(&mut recorder, 1);
    recorder.flush(&ProcessTable::default());
    let batches = server.batches(&spool);
    let spans: Vec<_> = batches.iter().map(|batch| (batch.first_sequence, batch.last_sequence)).collect();
    assert_eq!(spans, [(501, 503), (504, 504)]);
    assert_eq!(gaps(&batches), [("spool_corrupt".to_owned(), None)], "told once");
    let ledger = &batches[1].ledger;
    assert_eq!((ledger.produced, ledger.dropped, ledger.kernel_lost), (504, 3, 1));
    // 497 are stored of the 500, and three of these.
    let stops = ledger.kinds.iter().find(|one| one.kind == RecordKind::Event(EventType::AgentStop)).unwrap();
    assert_eq!((stops.produced, &stops.dropped[..]), (503, &[(GapReason::SpoolFull, 3)][..]));
}

#[test]
fn numbers_that_were_given_before_the_server_could_be_asked_are_counted_as_lost() {
    let (server, dir) = (Server::new(), tempfile::tempdir().unwrap());
    let spool = open(dir.path(), 64 << 20);
    let mark = Arc::new(ServerMark::default());
    let mut recorder = recorder_told_by(Arc::clone(&mark), dir.path(), &server, &spool, Resume::default());
    tell(&mut recorder, 10);
    recorder.flush(&ProcessTable::default());
    tell(&mut recorder, 5);
    // The link is there while a batch is open: its numbers are given already.
    mark.tell(taken(500, 0));
    mark.contradict();
    assert!(recorder.owes_a_gap());
    recorder.flush(&ProcessTable::default());
    for batch in [1, 11] {
        let mut reader = spool.reader();
        let oldest = reader.next_batch().unwrap().unwrap().header;
        assert_eq!(oldest.first_sequence, batch);
        spool.refuse_taken(&oldest, 500).unwrap();
    }
    recorder.flush(&ProcessTable::default());
    assert!(!recorder.owes_a_gap());
    let batches = server.batches(&spool);
    assert_eq!(batches[0].first_sequence, 501);
    let expected = [("spool_corrupt".to_owned(), None), ("server_refused".to_owned(), Some(15))];
    assert_eq!(gaps(&batches), expected);
    assert_eq!(account(&batches), (2, 0), "no number is missing, so that none is explained away");
    let ledger = &batches[0].ledger;
    // The fifteen took no number of their own; by kind they were produced and lost.
    assert_eq!((ledger.produced, ledger.dropped), (502, 0));
    let stops = ledger.kinds.iter().find(|one| one.kind == RecordKind::Event(EventType::AgentStop)).unwrap();
    assert_eq!(
        (stops.produced, &stops.dropped[..]),
        (515, &[(GapReason::SpoolFull, 0), (GapReason::ServerRefused, 15)][..])
    );
}

#[test]
fn what_is_given_up_above_the_servers_mark_is_missing_whatever_batch_tells_of_it() {
    for after_a_restart in [false, true] {
        let (server, dir) = (Server::new(), tempfile::tempdir().unwrap());
        let spool = open(&dir.path().join("spool"), 64 << 20);
        let mut recorder = recorder_in(dir.path(), &server, &spool, Resume::default());
        tell(&mut recorder, 10);
        recorder.flush(&ProcessTable::default());
        let oldest = spool.reader().next_batch().unwrap().unwrap().header;
        spool.refuse_taken(&oldest, 5).unwrap();
        if after_a_restart {
            let resume = resume_after(&spool.last().unwrap());
            recorder = recorder_in(dir.path(), &server, &spool, resume);
        }
        // The batch that tells of it was begun before anybody went on above the server.
        tell(&mut recorder, 5);
        recorder.flush(&ProcessTable::default());
        let batches = server.batches(&spool);
        assert_eq!(batches.len(), 1);
        assert_eq!((batches[0].first_sequence, batches[0].last_sequence), (11, 16));
        assert_eq!(gaps(&batches), [("server_refused".to_owned(), Some(10))]);
        // Of the ten, the server has others by the first five numbers.
        assert_eq!(account(&batches), (6, 5));
        assert_eq!((batches[0].ledger.produced, batches[0].ledger.dropped), (16, 5));
        assert_balanced(&batches, &[]);
    }
}

#[test]
fn what_was_dropped_as_another_host_is_told_and_takes_no_number_of_this_one() {
    let (server, dir) = (Server::new(), tempfile::tempdir().unwrap());
    let mut untold = Untold {
        host_id: HostId::from_uuid(Uuid::from_u128(9)),
        boot_id: BOOT,
        next_sequence: 1_000,
        from: Timestamp::from_nanos(1),
        until: Timestamp::from_nanos(2),
        lost: BTreeMap::new(),
    };
    let kind = RecordKind::Event(EventType::AgentStop);
    let lost = Lost { kind, reason: GapReason::SpoolWriteFailed, counted: true };
    untold.add(lost, Amount { records: 7, acts: 7 });
    let account = DropAccount::open(&dir.path().join("dropped"), HOST).unwrap();
    account.write(Some(&untold)).unwrap();

    let spool = open(&dir.path().join("spool"), 64 << 20);
    let mut recorder = recorder_in(dir.path(), &server, &spool, Resume::default());
    assert!(recorder.owes_a_gap());
    tell(&mut recorder, 1);
    recorder.flush(&ProcessTable::default());
    let batches = server.batches(&spool);
    assert_eq!((batches[0].first_sequence, batches[0].ledger.dropped), (1, 0));
    assert_eq!(gaps(&batches), [("server_refused".to_owned(), Some(7))]);
    let RecordBody::Event(gap) = &batches[0].records[1].body else { panic!("{:?}", batches[0].records) };
    assert_eq!(gap.text(Field::GapBoot), Some(BOOT.to_string().as_str()));
    assert_balanced(&batches, &[]);
    let next = recorder_in(dir.path(), &server, &spool, resume_after(&spool.last().unwrap()));
    assert!(!next.owes_a_gap(), "told once");
}

#[test]
fn what_was_sealed_as_another_host_is_told_and_stands_in_no_account_of_this_one() {
    let (server, dir) = (Server::new(), tempfile::tempdir().unwrap());
    let spool = open(dir.path(), 64 << 20);
    let mut before = recorder(&server, &spool, Resume::default());
    tell(&mut before, 7);
    before.flush(&ProcessTable::default());
    let oldest = spool.reader().next_batch().unwrap().unwrap().header;
    assert_eq!(Note::decode(&spool.last().unwrap().note).host_id, Some(HOST));
    spool.refuse(&oldest, LossReason::OtherHost).unwrap();

    let mut anew = recorder(&server, &spool, Resume::default());
    tell(&mut anew, 1);
    anew.flush(&ProcessTable::default());
    let batches = server.batches(&spool);
    assert_eq!(batches.len(), 1);
    assert_eq!(gaps(&batches), [("server_refused".to_owned(), Some(7))]);
    assert_eq!((batches[0].first_sequence, batches[0].ledger.dropped), (1, 0));
    let RecordBody::Event(gap) = &batches[0].records[1].body else { panic!("{:?}", batches[0].records) };
    assert_eq!(
        gap.text(Field::GapBoot),
        Some(BOOT.to_string().as_str()),
        "it explains no number of this host"
    );
    assert_balanced(&batches, &[]);
}

/// What somebody waits for does not wait for the batch to fill, however much is being saved.
#[test]
fn a_detection_closes_its_batch_at_once_also_while_work_is_saved() {
    let (server, dir) = (Server::new(), tempfile::tempdir().unwrap());
    let spool = open(dir.path(), 64 << 20);
    let mut recorder = recorder(&server, &spool, Resume::default());
    recorder.close_after(Duration::from_secs(3_600));
    let rule = RuleReference {
        id: RuleId::new("1"),
        name: "r".to_owned(),
        description: String::new(),
        severity: Severity::High,
        attack: Vec::new(),
        mode: ResponseMode::Detect,
    };
    for round in 0..3 {
        tell(&mut recorder, 1);
        assert!(!recorder.is_due(), "an event alone waits for others");
        let header = recorder.number(1);
        let event = AgentStop { version: "1".into(), reason: "signal", signal: None, by: None };
        let detection = Detection {
            id: DetectionId::of_match(header.event_id(), &rule.id),
            rule: rule.clone(),
            event: EventRecord::from_body(header.clone(), &EventBody::AgentStop(event)),
            ancestry: Vec::new(),
            matched: Vec::new(),
            actions: Vec::new(),
        };
        recorder.push(header, RecordBody::Detection(Box::new(detection)));
        // The first at once, the others as soon as one may follow.
        assert!(round > 0 || recorder.is_due());
        while !recorder.is_due() {
            std::thread::yield_now();
        }
        recorder.flush(&ProcessTable::default());
    }
    assert_eq!(server.batches(&spool).len(), 3);
}
