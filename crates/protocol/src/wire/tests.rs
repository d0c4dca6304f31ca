use event_model::{Activity, EventBody, FieldSource as _};
use proptest::prelude::*;

use super::*;

fn host() -> HostId {
    HostId::from_uuid(Uuid::from_u128(1))
}

fn boot() -> BootId {
    BootId::from_uuid(Uuid::from_u128(2))
}

fn header(sequence: u64) -> EventHeader {
    EventHeader {
        host_id: host(),
        boot_id: boot(),
        sequence,
        observed_at: Timestamp::from_nanos(1_795_000_000_000_000_000),
        monotonic_ns: 77,
    }
}

fn event(sequence: u64) -> EventRecord {
    let fields = vec![
        (Field::ProcessPid, Value::Integer(4711)),
        (Field::ProcessArgs, Value::TextList(vec!["sh".into(), "-c".into()])),
        (Field::ProcessCommandLine, Value::Text("sh -c \u{202e}x\n".into())),
        (Field::ProcessArgsTruncated, Value::Boolean(false)),
        (Field::ProcessStart, Value::Time(Timestamp::from_nanos(-5))),
    ];
    EventRecord::from_fields(header(sequence), EventType::ProcessStart, fields)
}

fn records() -> Vec<Record> {
    let entity = event_model::ProcessEntityId::new(boot(), 4711, 99);
    let event = event(5);
    let detection = Detection {
        id: DetectionId::of_match(event.header.event_id(), &RuleId::new("1")),
        rule: RuleReference {
            id: RuleId::new("1"),
            name: "可疑进程名称".into(),
            description: String::new(),
            severity: Severity::High,
            attack: vec!["T1059.004".into()],
            mode: ResponseMode::Auto,
        },
        event: event.clone(),
        ancestry: vec![ProcessSummary {
            entity_id: entity,
            pid: 4711,
            executable: "/bin/sh".into(),
            command_line: "sh -c x".into(),
            user: "root".into(),
            start: Timestamp::from_nanos(3),
        }],
        matched: vec!["name contains 'trojan'".into()],
        actions: vec![ActionKind::Alert, ActionKind::TerminateProcess],
    };
    let receipt = ResponseReceipt {
        asks: None,
        id: Uuid::from_u128(9),
        detection_id: detection.id,
        action: ActionKind::TerminateProcess,
        target: ResponseTarget { entity_id: entity, executable: "/bin/sh".into() },
        state: ReceiptState::Verified,
        reason: "the process is gone".into(),
        steps: vec![ReceiptStep { at: Timestamp::from_nanos(4), what: "sent SIGTERM".into() }],
    };
    vec![
        Record { header: header(5), body: RecordBody::Event(event) },
        Record { header: header(6), body: RecordBody::Detection(Box::new(detection)) },
        Record { header: header(9), body: RecordBody::Receipt(Box::new(receipt)) },
    ]
}

/// The record as the derived code reads it.
fn message_of(record: &Record) -> link::Record {
    let mut bytes = Vec::new();
    RecordEncoder::default().record(record, &mut bytes);
    link::Record::decode(bytes.as_slice()).expect("it is a message")
}

#[test]
fn what_is_written_by_hand_is_what_the_schema_says() {
    for record in records() {
        let mut bytes = Vec::new();
        RecordEncoder::default().record(&record, &mut bytes);
        let message = link::Record::decode(bytes.as_slice()).expect("it is a message");
        // Every byte meant something, and nothing was left out.
        assert_eq!(message.encoded_len(), bytes.len(), "{message:?}");
        assert_eq!(link::Record::decode(message.encode_to_vec().as_slice()), Ok(message));
    }
}

#[test]
fn a_record_by_itself_is_read_as_it_was_written() {
    for record in records() {
        let mut bytes = Vec::new();
        RecordEncoder::default().record(&record, &mut bytes);
        assert_eq!(decode_record(host(), boot(), &bytes), Ok(Some(record)));
        bytes.truncate(bytes.len() - 1);
        assert_eq!(decode_record(host(), boot(), &bytes), Err(WireError::Undecodable));
    }
    let of_a_newer_agent = link::Record { sequence: 1, observed_at_ns: 2, monotonic_ns: 3, body: None };
    assert_eq!(decode_record(host(), boot(), &of_a_newer_agent.encode_to_vec()), Ok(None));
}

#[test]
fn a_typed_event_is_written_as_its_record_is() {
    let mut header = header(5);
    for (sequence, number) in [0, 1, -1, 63, -64, 64, i64::MAX, i64::MIN].into_iter().enumerate() {
        header.sequence = sequence as u64 + 1;
        let fields = vec![
            (Field::FileSize, Value::Integer(number)),
            (Field::FilePath, Value::Text("x".repeat(200))),
            (Field::EventUntil, Value::Time(Timestamp::from_nanos(number))),
            (Field::AgentShed, Value::TextList(vec![String::new(), "é".repeat(100)])),
        ];
        let activity = Activity { event_type: EventType::FileCreate, who: None, target: None, fields };
        let body = EventBody::Activity(Box::new(activity));
        let mut bytes = Vec::new();
        RecordEncoder::default().event(&header, &body, &mut bytes);
        let batch = encode_batch_of(
            boot(),
            header.sequence,
            header.sequence,
            std::iter::once(bytes.as_slice()),
            &Ledger::default(),
        );
        let batch = decode_batch(host(), &batch).expect("a batch");
        let event = EventRecord::from_body(header.clone(), &body);
        assert_eq!(batch.records, [Record { header: header.clone(), body: RecordBody::Event(event) }]);
    }
}

#[test]
fn records_survive_the_wire_whole() {
    let figures = |kind, produced, dropped| KindFigures { kind, produced, dropped };
    let ledger = Ledger {
        produced: 9,
        dropped: 2,
        kernel_lost: 3,
        kinds: vec![
            figures(
                RecordKind::Event(EventType::FileModify),
                70,
                vec![(GapReason::Budget, 9), (GapReason::SpoolFull, 1)],
            ),
            figures(RecordKind::Detection, 1, Vec::new()),
        ],
    };
    let bytes = encode_batch(boot(), 5, 9, &records(), &ledger);
    let batch = decode_batch(host(), &bytes).expect("our own batch");
    let expected = Batch {
        boot_id: boot(),
        first_sequence: 5,
        last_sequence: 9,
        records: records(),
        refused: Vec::new(),
        ledger,
        unknown: 0,
    };
    assert_eq!(batch, expected);
}

#[test]
fn numbers_out_of_order_or_outside_the_span_are_refused() {
    let mut backwards = records();
    backwards.swap(0, 1);
    let bytes = encode_batch(boot(), 5, 9, &backwards, &Ledger::default());
    assert!(matches!(
        decode_batch(host(), &bytes),
        Err(WireError::Malformed { what: "sequence number", .. })
    ));
    let bytes = encode_batch(boot(), 5, 8, &records(), &Ledger::default());
    assert!(matches!(decode_batch(host(), &bytes), Err(WireError::Malformed { sequence: 9, .. })));
    let bytes = encode_batch(boot(), 5, 4, &[], &Ledger::default());
    assert!(decode_batch(host(), &bytes).is_err());
}

#[test]
fn what_a_newer_agent_adds_is_left_out_and_counted() {
    let mut message = link::Batch {
        boot_id: boot().as_bytes().to_vec(),
        first_sequence: 5,
        last_sequence: 6,
        records: vec![message_of(&records()[0]), message_of(&records()[0])],
        ledger: None,
    };
    let Some(link::record::Body::Event(known)) = &mut message.records[0].body else { panic!("an event") };
    known.fields.push(link::FieldValue { field: 65_000, value: Some(field_value::Value::Integer(1)) });
    message.records[1].sequence = 6;
    let Some(link::record::Body::Event(unknown)) = &mut message.records[1].body else { panic!("an event") };
    unknown.event_type = 65_000;
    let batch = decode_batch(host(), &message.encode_to_vec()).expect("still a batch");
    assert_eq!((batch.records.len(), batch.unknown), (1, 2));
    assert_eq!(batch.records[0], records()[0]);
}

#[test]
fn a_record_that_cant_be_taken_costs_no_other() {
    let mut messages: Vec<_> = records().iter().map(message_of).collect();
    messages.extend([message_of(&records()[0]), message_of(&records()[0])]);
    (messages[3].sequence, messages[4].sequence) = (10, 11);
    // A detection past a limit, a receipt with an id that is none, an event with a field of the wrong kind.
    let Some(link::record::Body::Detection(detection)) = &mut messages[1].body else { panic!("a detection") };
    detection.matched = vec!["uid!=1".to_owned(); MAX_LIST_ITEMS + 1];
    let Some(link::record::Body::Receipt(receipt)) = &mut messages[2].body else { panic!("a receipt") };
    receipt.id.pop();
    let Some(link::record::Body::Event(event)) = &mut messages[3].body else { panic!("an event") };
    event.fields[0].value = Some(field_value::Value::Text("4711".into()));
    let count = field_value::Value::Integer(40);
    event.fields.push(link::FieldValue { field: Field::EventCount.spec().number, value: Some(count) });
    let message = link::Batch {
        boot_id: boot().as_bytes().to_vec(),
        first_sequence: 5,
        last_sequence: 11,
        records: messages,
        ledger: None,
    };
    let batch = decode_batch(host(), &message.encode_to_vec()).expect("a batch without three of its records");
    let taken: Vec<_> = batch.records.iter().map(|record| record.header.sequence).collect();
    assert_eq!(taken, [5, 11]);
    let malformed = |sequence, what| WireError::Malformed { sequence, what };
    let too_many = WireError::TooMany {
        sequence: 6,
        what: "matched conditions",
        count: MAX_LIST_ITEMS + 1,
        maximum: MAX_LIST_ITEMS,
    };
    let refused = |sequence, kind, acts, error| RefusedRecord { header: header(sequence), kind, acts, error };
    let expected = [
        refused(6, RecordKind::Detection, 1, too_many),
        refused(9, RecordKind::Response, 1, malformed(9, "receipt id")),
        refused(10, RecordKind::Event(EventType::ProcessStart), 40, malformed(10, "process.pid")),
    ];
    assert_eq!(batch.refused, expected);
}

#[test]
fn texts_longer_than_the_limit_are_cut_at_a_character() {
    let long = "é".repeat(MAX_TEXT_BYTES);
    let fields = vec![(Field::ProcessCommandLine, Value::Text(long))];
    let event = EventRecord::from_fields(header(1), EventType::ProcessStart, fields);
    let record = Record { header: header(1), body: RecordBody::Event(event) };
    let bytes = encode_batch(boot(), 1, 1, &[record], &Ledger::default());
    let batch = decode_batch(host(), &bytes).expect("cut, not refused");
    let RecordBody::Event(event) = &batch.records[0].body else { panic!("an event") };
    let text = event.text(Field::ProcessCommandLine).expect("it is there");
    // Whole characters of two bytes, and the mark of three.
    assert_eq!(text.len(), MAX_TEXT_BYTES - 1);
    assert!(text.ends_with("é…"));
}

/// Sizes around each limit and far past them: how many items, and how long each.
const SIZES: [(usize, usize); 9] = [
    (0, 0),
    (1, 4 * MAX_TEXT_BYTES),
    (MAX_LIST_ITEMS - 1, 1),
    (MAX_LIST_ITEMS, 1),
    (MAX_LIST_ITEMS + 1, 1),
    (10_000, 0),
    (10_000, 8),
    (9, MAX_TEXT_BYTES),
    (40, MAX_TEXT_BYTES + 1),
];

fn texts(count: usize, length: usize) -> Vec<String> {
    vec!["x".repeat(length); count]
}

/// As it was, or cut with a mark; never past a limit.
fn assert_cut(written: &[String], items: &[String]) {
    assert!(written.len() <= MAX_LIST_ITEMS);
    assert!(written.iter().all(|text| text.len() <= MAX_TEXT_BYTES));
    assert!(written.iter().map(String::len).sum::<usize>() <= MAX_LIST_BYTES + MAX_TEXT_BYTES);
    for (written, item) in written.iter().zip(items) {
        assert!(written == item || written.ends_with('…') || written.ends_with(" more"), "{written:.80}");
    }
    if written.len() < items.len() {
        let rest = items.len() - (written.len() - 1);
        assert_eq!(written.last().map(String::as_str), Some(format!("… and {rest} more").as_str()));
    }
}

#[test]
fn whatever_the_encoder_writes_the_decoder_takes() {
    for (count, length) in SIZES {
        let items = texts(count, length);
        let text = "x".repeat(length);
        let [_, detection, receipt] = records().try_into().expect("three records");
        let RecordBody::Detection(mut detection) = detection.body else { panic!("a detection") };
        let RecordBody::Receipt(mut receipt) = receipt.body else { panic!("a receipt") };
        let fields = vec![
            (Field::ProcessArgs, Value::TextList(items.clone())),
            (Field::ProcessCommandLine, Value::Text(text.clone())),
        ];
        let ancestor = &mut detection.ancestry[0];
        (ancestor.executable, ancestor.command_line, ancestor.user) =
            (text.clone(), text.clone(), text.clone());
        detection.event = EventRecord::from_fields(header(5), EventType::ProcessStart, fields);
        detection.ancestry = vec![ancestor.clone(); count.min(100)];
        detection.matched.clone_from(&items);
        detection.actions = vec![ActionKind::Alert; count];
        detection.rule.attack.clone_from(&items);
        detection.rule.id = RuleId::new(text.clone());
        detection.rule.name.clone_from(&text);
        detection.rule.description.clone_from(&text);
        receipt.target.executable.clone_from(&text);
        receipt.reason.clone_from(&text);
        receipt.asks = Some(text.clone()).filter(|asks| !asks.is_empty());
        receipt.steps = items
            .iter()
            .map(|what| ReceiptStep { at: Timestamp::from_nanos(4), what: what.clone() })
            .collect();
        let event = Record { header: header(5), body: RecordBody::Event(detection.event.clone()) };
        let records = [
            event,
            Record { header: header(6), body: RecordBody::Detection(detection) },
            Record { header: header(7), body: RecordBody::Receipt(receipt) },
        ];
        let bytes = encode_batch(boot(), 5, 7, &records, &Ledger::default());
        assert!(bytes.len() < crate::MAX_SEALED_BATCH_BYTES / 2, "{} bytes", bytes.len());
        let batch = decode_batch(host(), &bytes).expect("a batch");
        assert_eq!((batch.refused, batch.unknown), (Vec::new(), 0), "{count} items of {length} bytes");
        let [event, detection, receipt] = batch.records.try_into().expect("all three");
        let RecordBody::Event(event) = event.body else { panic!("an event") };
        let Some(Value::TextList(args)) = event.value(Field::ProcessArgs).map(|value| value.to_owned())
        else {
            panic!("a list")
        };
        assert_cut(&args, &items);
        let RecordBody::Detection(detection) = detection.body else { panic!("a detection") };
        assert_cut(&detection.matched, &items);
        assert_cut(&detection.rule.attack, &items);
        assert_cut(&[detection.rule.name, detection.rule.description], &[text.clone(), text.clone()]);
        assert!(detection.ancestry.len() <= MAX_ANCESTRY);
        let RecordBody::Receipt(receipt) = receipt.body else { panic!("a receipt") };
        let steps: Vec<_> = receipt.steps.into_iter().map(|step| step.what).collect();
        assert_cut(&steps, &items);
        // An order is whole or not there at all.
        if text.len() > MAX_TEXT_BYTES {
            assert_eq!(receipt.asks, None);
            assert!(receipt.reason.starts_with("nobody can approve it"), "{:.80}", receipt.reason);
        } else {
            assert_eq!(receipt.asks.unwrap_or_default(), text);
        }
    }
}

proptest! {
    #[test]
    fn rubbish_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = decode_batch(host(), &bytes);
    }

    #[test]
    fn a_damaged_batch_never_panics(place in 0usize..400, value in any::<u8>()) {
        let mut bytes = encode_batch(boot(), 5, 9, &records(), &Ledger::default());
        let place = place % bytes.len();
        bytes[place] = value;
        let _ = decode_batch(host(), &bytes);
    }
}

#[test]
fn kinds_and_reasons_of_a_newer_agent_do_no_harm() {
    let row = |kind, reason: &str| link::KindFigures {
        kind,
        produced: u64::MAX,
        dropped: vec![link::Dropped { reason: reason.into(), count: 3 }],
    };
    let message = |kinds| link::Batch {
        boot_id: boot().as_bytes().to_vec(),
        first_sequence: 1,
        last_sequence: 1,
        records: Vec::new(),
        ledger: Some(link::Ledger { kinds, ..link::Ledger::default() }),
    };
    let kinds = vec![row(70_000, "budget"), row(65_000, "budget"), row(1, "sunspots")];
    let batch = decode_batch(host(), &message(kinds).encode_to_vec()).unwrap();
    assert_eq!(batch.unknown, 1, "the reason");
    assert_eq!(batch.ledger.kinds.len(), 2);
    assert_eq!(batch.ledger.kinds[0].kind, RecordKind::Unknown);
    assert_eq!(batch.ledger.kinds[0].dropped, [(GapReason::Budget, 6)]);
    let many = vec![row(1, "budget"); MAX_KINDS + 1];
    let error = decode_batch(host(), &message(many).encode_to_vec()).unwrap_err();
    assert!(matches!(error, WireError::TooMany { what: "kinds", .. }), "{error}");
}
