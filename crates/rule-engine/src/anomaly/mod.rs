//! What is unusual for one host: a program that its parent never started before, a program or a destination that
//! was never seen, far more of something than ever in a minute.
//!
//! All of it is learnt from the host's own events. While the learning period lasts, which is counted in minutes in
//! which something was seen, nothing is told; afterwards it goes on learning. Only counts under keyed hashes are kept,
//! in tables of fixed size; [`AnomalyDetector::to_bytes`] is how they outlive a restart.

mod codec;
mod memory;

use std::time::Duration;

use event_model::{
    EventType, Field, FieldSource, ResponseMode, RuleId, RuleReference, Severity, Timestamp, ValueRef,
};

pub use codec::AnomalyStateError;
use memory::{Key, Memory, minute_of};

/// A parent that started fewer processes than this has no habits yet.
const PARENT_STARTS: u32 = 20;
/// A pair is rare where it is less than one in so many of its parent's starts.
const RARE_ONE_IN: u32 = 1_000;
/// A program that connected to more destinations than this talks to everybody: a new one says nothing.
const FEW_DESTINATIONS: u32 = 32;
/// So many times what was ever seen in a minute is a burst.
const BURST_FACTOR: u32 = 4;
/// Findings of one kind in an hour; the others are counted and told with the next.
const TOLD_PER_HOUR: u32 = 10;

/// How to learn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AnomalyOptions {
    /// How long to learn before anything is told, in time in which events came. Counted in whole minutes.
    pub learning: Duration,
    /// For the hashes that are kept: one of its own for each host, so that nobody outside can make two things look the
    /// same. A restored state brings its own.
    pub seed: u64,
}

/// Something unusual.
#[derive(Debug, Clone)]
pub struct AnomalyFinding {
    /// As a detection carries it: `rampart.anomaly.KIND`.
    pub rule: RuleReference,
    /// Why it is unusual, for people.
    pub matched: Vec<String>,
}

/// What a detector knows and had to give up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AnomalyCounters {
    /// Things that are remembered.
    pub entries: u64,
    /// Things that were forgotten because there were too many; they are new when they come again.
    pub evicted: u64,
    /// Findings.
    pub findings: u64,
    /// Findings that were not told because there were too many of their kind in the hour.
    pub withheld: u64,
    /// Minutes of learning that are left.
    pub learning_minutes_left: u64,
}

/// The kinds of what is unusual.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    RarePair,
    NewBinary,
    ChangedBinary,
    NewDestination,
    Burst,
}

const KINDS: usize = 5;

impl Kind {
    /// Id, name, what to do, severity, ATT&CK.
    fn told_as(self) -> (&'static str, &'static str, &'static str, Severity, &'static [&'static str]) {
        match self {
            Self::RarePair => (
                "rampart.anomaly.rare_parent_child",
                "Unusual child process",
                "A program started another that it has never or hardly ever started on this host. Look at the command line and at what came before.",
                Severity::Low,
                &["T1059"],
            ),
            Self::NewBinary => (
                "rampart.anomaly.new_binary",
                "Program never seen on this host",
                "Neither this program's content nor its path was ever run here. Look at who put it there.",
                Severity::Low,
                &["T1204.002"],
            ),
            Self::ChangedBinary => (
                "rampart.anomaly.changed_binary",
                "Known program with new content",
                "A program that is known by its path has another content than ever before, as after an update.",
                Severity::Informational,
                &["T1554"],
            ),
            Self::NewDestination => (
                "rampart.anomaly.new_destination",
                "Connection to a destination never seen",
                "A program that connects to few destinations opened a connection to one that this host never connected to.",
                Severity::Low,
                &["T1071"],
            ),
            Self::Burst => (
                "rampart.anomaly.burst",
                "Far more than ever in a minute",
                "A program did far more of something in a minute than it ever did on this host.",
                Severity::Low,
                &["T1486", "T1046"],
            ),
        }
    }
}

/// What is counted by the minute.
#[derive(Debug, Clone, Copy)]
enum Rate {
    Starts,
    Connections,
    FileChanges,
}

impl Rate {
    /// Fewer than this in a minute are no burst, whatever was usual.
    fn least(self) -> u32 {
        match self {
            Self::Starts | Self::Connections => 120,
            Self::FileChanges => 600,
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::Starts => "started processes",
            Self::Connections => "connections",
            Self::FileChanges => "files changed, renamed or deleted",
        }
    }
}

/// Learns what is usual on a host and tells what is not. Events must be in their final form: with the hash of the
/// image, where there is one.
#[derive(Debug)]
pub struct AnomalyDetector {
    learning_minutes: u64,
    memory: Memory,
    findings: u64,
    withheld: u64,
    /// For each kind the hour, what was told in it, and what was withheld since the last that was told.
    budgets: [(u32, u32, u64); KINDS],
}

impl AnomalyDetector {
    /// A detector that knows nothing yet.
    pub fn new(options: AnomalyOptions) -> Self {
        Self::with_memory(options, Memory::new(options.seed))
    }

    /// A detector that goes on from what another one learnt.
    ///
    /// # Errors
    /// [`AnomalyStateError`] where the bytes are not what [`Self::to_bytes`] made; begin anew then.
    pub fn restore(options: AnomalyOptions, bytes: &[u8]) -> Result<Self, AnomalyStateError> {
        Ok(Self::with_memory(options, codec::decode(bytes)?))
    }

    fn with_memory(options: AnomalyOptions, memory: Memory) -> Self {
        let learning_minutes = options.learning.as_secs() / 60;
        Self { learning_minutes, memory, findings: 0, withheld: 0, budgets: [(0, 0, 0); KINDS] }
    }

    /// What was learnt; less than a mebibyte.
    pub fn to_bytes(&self) -> Vec<u8> {
        codec::encode(&self.memory)
    }

    /// Whether nothing is told yet.
    pub fn is_learning(&self) -> bool {
        u64::from(self.memory.minutes) <= self.learning_minutes
    }

    /// What is known and was given up.
    pub fn counters(&self) -> AnomalyCounters {
        AnomalyCounters {
            entries: self.memory.entries() as u64,
            evicted: self.memory.evicted(),
            findings: self.findings,
            withheld: self.withheld,
            learning_minutes_left: (self.learning_minutes + 1).saturating_sub(self.memory.minutes.into()),
        }
    }

    /// Learns from an event, and tells what is unusual about it.
    pub fn observe(&mut self, event: &dyn FieldSource) -> Vec<AnomalyFinding> {
        let mut found = Vec::new();
        let at = event.observed_at();
        match event.event_type() {
            EventType::ProcessStart => {
                self.memory.pass(at);
                // A fork runs its parent's program: nothing new.
                if text(event, Field::EventAction).is_none_or(|action| action != "fork") {
                    self.pair(event, at, &mut found);
                    self.binary(event, at, &mut found);
                }
                self.rate(event, Field::ParentExecutable, Rate::Starts, at, &mut found);
            }
            EventType::NetworkConnect => {
                self.memory.pass(at);
                self.destination(event, at, &mut found);
                self.rate(event, Field::ProcessExecutable, Rate::Connections, at, &mut found);
            }
            EventType::FileModify | EventType::FileRename | EventType::FileDelete => {
                self.memory.pass(at);
                self.rate(event, Field::ProcessExecutable, Rate::FileChanges, at, &mut found);
            }
            _ => {}
        }
        found
    }

    fn pair(&mut self, event: &dyn FieldSource, at: Timestamp, found: &mut Vec<AnomalyFinding>) {
        let (Some(parent), Some(child)) =
            (text(event, Field::ParentExecutable), text(event, Field::ProcessExecutable))
        else {
            return;
        };
        let starts = self.memory.parents.count(self.memory.key(Key::Parent, &[&parent]), at);
        let key = self.memory.key(Key::Pair, &[&parent, &child]);
        let before = self.memory.pairs.count(key, at);
        let is_rare = starts >= PARENT_STARTS && before <= starts / RARE_ONE_IN;
        if is_rare && !self.is_learning() && self.memory.pairs.tell_once(key) {
            let times = if before == 0 { "never".to_owned() } else { format!("{before} times") };
            let why =
                format!("{parent} started {child}, before that {times} in {starts} starts on this host");
            self.tell(Kind::RarePair, why, at, found);
        }
    }

    fn binary(&mut self, event: &dyn FieldSource, at: Timestamp, found: &mut Vec<AnomalyFinding>) {
        let Some(path) = text(event, Field::ProcessExecutable) else { return };
        let paths = self.memory.binaries.count(self.memory.key(Key::Path, &[&path]), at);
        let hash = text(event, Field::ProcessSha256);
        let hashes =
            hash.as_ref().map(|hash| self.memory.binaries.count(self.memory.key(Key::Hash, &[hash]), at));
        if self.is_learning() {
            return;
        }
        match (hash, hashes) {
            (Some(hash), Some(0)) if paths == 0 => {
                self.tell(
                    Kind::NewBinary,
                    format!("{path} with SHA-256 {hash} was never run here"),
                    at,
                    found,
                );
            }
            (Some(hash), Some(0)) => {
                let why = format!("{path} now has SHA-256 {hash}; it was run {paths} times before");
                self.tell(Kind::ChangedBinary, why, at, found);
            }
            (None, _) if paths == 0 => {
                self.tell(
                    Kind::NewBinary,
                    format!("{path} was never run here (no hash is known)"),
                    at,
                    found,
                );
            }
            _ => {}
        }
    }

    fn destination(&mut self, event: &dyn FieldSource, at: Timestamp, found: &mut Vec<AnomalyFinding>) {
        if text(event, Field::NetworkDirection).is_some_and(|direction| direction == "ingress") {
            return;
        }
        let (Some(address), Some(program)) =
            (text(event, Field::DestinationAddress), text(event, Field::ProcessExecutable))
        else {
            return;
        };
        if address.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback()) {
            return;
        }
        let port = match event.value(Field::DestinationPort) {
            Some(ValueRef::Integer(port)) => port.to_string(),
            _ => String::new(),
        };
        let before =
            self.memory.destinations.count(self.memory.key(Key::Destination, &[&address, &port]), at);
        let own_key = self.memory.key(Key::OwnDestination, &[&program, &address, &port]);
        let is_new_to_it = self.memory.destinations.count(own_key, at) == 0;
        let talker = self.memory.key(Key::Talker, &[&program]);
        let known = if is_new_to_it {
            self.memory.talkers.count(talker, at)
        } else {
            self.memory.talkers.get(talker)
        };
        if before == 0 && !self.is_learning() && (1..=FEW_DESTINATIONS).contains(&known) {
            let why = format!("{program} connected to {address} port {port}; before that to {known} others");
            self.tell(Kind::NewDestination, why, at, found);
        }
    }

    fn rate(
        &mut self,
        event: &dyn FieldSource,
        program: Field,
        rate: Rate,
        at: Timestamp,
        found: &mut Vec<AnomalyFinding>,
    ) {
        let Some(program) = text(event, program) else { return };
        let times = match event.value(Field::EventCount) {
            Some(ValueRef::Integer(count)) => u32::try_from(count.max(1)).unwrap_or(u32::MAX),
            _ => 1,
        };
        let key = self.memory.key(Key::Rate(rate as u8), &[&program]);
        let is_learning = self.is_learning();
        let bound = |peak: u32| rate.least().max(peak.saturating_mul(BURST_FACTOR));
        if let Some((count, peak)) = self.memory.rates.add(key, times, at, bound)
            && !is_learning
        {
            let why =
                format!("{program}: {count} {} within a minute, never more than {peak} before", rate.words());
            self.tell(Kind::Burst, why, at, found);
        }
    }

    fn tell(&mut self, kind: Kind, why: String, at: Timestamp, found: &mut Vec<AnomalyFinding>) {
        let hour = minute_of(at) / 60;
        let (own_hour, told, withheld) = &mut self.budgets[kind as usize];
        if *own_hour != hour {
            (*own_hour, *told) = (hour, 0);
        }
        if *told >= TOLD_PER_HOUR {
            *withheld += 1;
            self.withheld += 1;
            return;
        }
        *told += 1;
        self.findings += 1;
        let mut matched = vec![why];
        let left_out = std::mem::take(withheld);
        if left_out > 0 {
            matched.push(format!("{left_out} more of this kind were not told since the last one"));
        }
        let (id, name, description, severity, attack) = kind.told_as();
        let rule = RuleReference {
            id: RuleId::new(id),
            name: name.to_owned(),
            description: description.to_owned(),
            severity,
            attack: attack.iter().map(|&technique| technique.to_owned()).collect(),
            mode: ResponseMode::Detect,
        };
        found.push(AnomalyFinding { rule, matched });
    }
}

fn text(event: &dyn FieldSource, field: Field) -> Option<String> {
    match event.value(field)? {
        ValueRef::Text(text) if !text.is_empty() => Some(text.into_owned()),
        _ => None,
    }
}
