//! Judging an event that no rule matches allocates nothing.

#![allow(unsafe_code, reason = "a counting allocator implements an unsafe trait")]

mod events;
mod logs;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use event_model::{BootId, EventType, Field, FieldSource, ProcessEntityId, Timestamp, ValueRef};
use logs::{auditd, fill, rule_text, set};
use rule_engine::{BehaviourEngine, BehaviourSet, CompileOptions, EventBuffer, Phase};
use serde_json::json;

struct Counting;

thread_local! {
    /// Allocations of this thread; tests run beside each other.
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

fn count_one() {
    // While a thread ends its locals are gone, and nobody counts then.
    let _ = COUNT.try_with(|count| count.set(count.get() + 1));
}

// SAFETY: every call is passed on to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count_one();
        // SAFETY: the caller's promise is that of `System`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is that of `System`.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count_one();
        // SAFETY: the caller's promise is that of `System`.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations(act: impl FnOnce()) -> u64 {
    let before = COUNT.get();
    act();
    COUNT.get() - before
}

#[test]
fn the_counter_counts() {
    assert!(allocations(|| drop(std::hint::black_box(vec![1, 2, 3]))) > 0);
}

/// Rules of every kind, most of which have to be judged for the record below.
fn text() -> String {
    let detections = [
        "  s: {A|contains: 'powershell', B|endswith: '.exe'}\n  condition: s",
        "  s: {A|re: 'p[o]wer.*never$'}\n  condition: s",
        "  s: {A: 'p*er?hell*never'}\n  condition: s",
        "  s: {N|gt: 100}\n  condition: s",
        "  s: {I|cidr: 10.0.0.0/8}\n  condition: s",
        "  s: {A|fieldref: B}\n  condition: s",
        "  s: {T|hour: 3}\n  condition: s",
        "  s: ['nothing of this', 'powershell*nothing']\n  condition: s",
        "  s: {A|exists: true}\n  f: {A|contains: power}\n  condition: s and not f",
        "  s: {Z: null}\n  f: {N: 5}\n  condition: s and not f",
        "  s: {B: [a, b, c], A|contains|all: [power, shell]}\n  condition: s",
    ];
    let rules = detections.iter().enumerate();
    rules
        .map(|(number, detection)| {
            rule_text(detection).replace("id: one", &format!("id: r{number}")) + "---\n"
        })
        .collect()
}

#[test]
fn a_record_of_a_log_that_matches_nothing_allocates_nothing() {
    let rules = set(&text());
    let source = rules.source(&auditd()).expect("a log source of ours");
    let (mut event, mut desk) = (EventBuffer::new(), rules.desk());
    let record = json!({
        "A": "PowerShell İ® started", "B": r"C:\x.exe.txt", "N": 5, "I": "192.168.1.1", "T": "2026-11-21T20:15:03Z",
        "L": ["one", "two", null],
    });
    fill(&mut event, &rules, &record);
    // The first time memory grows and regular expressions get their caches.
    for _ in 0..3 {
        assert!(rules.judge(&event, source, &mut desk).is_empty());
    }
    let field = rules.field("A").expect("a rule names it");
    let counted = allocations(|| {
        for number in 0..1_000 {
            event.clear();
            event.set_time(Timestamp::from_nanos(number));
            event.push_text(field, "PowerShell İ® started");
            event.push_integer(rules.field("N").expect("a rule names it"), 5);
            event.push_text(rules.field("B").expect("a rule names it"), r"C:\x.exe.txt");
            assert!(rules.route(&event).is_none());
            assert!(rules.judge(&event, source, &mut desk).is_empty());
        }
    });
    assert_eq!(counted, 0);
}

/// A live event whose fields are borrowed.
struct Start;

impl FieldSource for Start {
    fn event_type(&self) -> EventType {
        EventType::ProcessStart
    }

    fn observed_at(&self) -> Timestamp {
        Timestamp::from_nanos(1)
    }

    fn value(&self, field: Field) -> Option<ValueRef<'_>> {
        match field {
            Field::ProcessExecutable => Some(ValueRef::Text("/usr/bin/Python3".into())),
            Field::ProcessCommandLine => Some(ValueRef::Text("python3 -c 'print(1)'".into())),
            Field::ProcessPid => Some(ValueRef::Integer(77)),
            Field::ParentExecutable => Some(ValueRef::Text("/usr/bin/bash".into())),
            Field::UserName => Some(ValueRef::Text("root".into())),
            _ => None,
        }
    }

    fn entity(&self, field: Field) -> Option<ProcessEntityId> {
        let pid = match field {
            Field::ProcessEntityId => 77,
            Field::ParentEntityId => 7,
            _ => return None,
        };
        Some(ProcessEntityId::new(BootId::from_uuid(uuid::Uuid::from_u128(1)), pid, 5))
    }
}

#[test]
fn a_live_event_that_matches_nothing_allocates_nothing() {
    let native = events::rule_text(
        "process",
        "path endswith 'python3' and cmdline matches 'never$' or pid in (1, 2)",
        &json!({}),
    );
    let sigma = "title: s\nlogsource: {category: process_creation}\ndetection: {s: {Image|endswith: /python3, CommandLine|contains: never}, condition: s}\n";
    let mut rules = rule_engine::parse_rules("a.json", &native).rules;
    rules.extend(logs::rules(sigma));
    let options = CompileOptions { behaviours: BehaviourSet::built_in(), ..CompileOptions::default() };
    let rules = rule_engine::RuleSet::compile_with(rules, options).rules;
    assert!(rules.len() == 2 && rules.behaviours().len() > 50);
    // What the tree of the process did is asked too; the process is known after the first time.
    let mut trees = BehaviourEngine::new(rules.behaviours().clone());
    let mut judge = || {
        let verdicts = rules.verdicts(&Start, Phase::All);
        assert!(verdicts.is_empty() && trees.observe(&Start, Phase::All, &verdicts).is_empty());
    };
    for _ in 0..3 {
        judge();
    }
    let counted = allocations(|| (0..1_000).for_each(|_| judge()));
    assert_eq!(counted, 0);
    let candidates: Vec<u64> = rules.counters().map(|it| it.candidates).collect();
    assert!(candidates.iter().all(|count| *count > 0), "both were judged: {candidates:?}");
}
