//! How the pipeline saves: what the governor has it leave out or merge, with an
//! exact account of both.
//!
//! Whatever was left out or merged is written into the batch whose position covers
//! it, so a crash neither loses nor doubles any of it.

use std::time::{Duration, Instant};

use event_model::{Activity, EventBody, EventClass, EventHeader, EventType, Field, Gap, GapReason, Value};
use sensor_api::{ObservedActivity, Sensor};

use super::Work;
use super::merger::Merger;
use crate::governor::{Ask, Governor, KEEP_ONE_OF, Keep, MEASURE_EVERY};
use crate::recorder::{MAX_AGE, MAX_BYTES, MAX_RECORDS};
use crate::system::usage::{cpu_time, resident_bytes};

/// A batch may be as old while work is saved; like acts are merged within it.
const SAVING_AGE: Duration = Duration::from_secs(1);
/// So many acts left out or merged close a batch: the kernel's ring has room again
/// only once what was read is accounted for.
const MOST_UNTOLD: u64 = 16_384;
/// A rest between two rounds while work is saved, so that more is handled at once.
const SHORT_REST: Duration = Duration::from_millis(10);
/// No rest is longer where a rule acts on starts.
const REST_BEFORE_ACTING: Duration = Duration::from_millis(5);
/// With as many observations as this in a round, there is no rest, and like acts are merged for a while. The eBPF
/// sensor hands out as many at a time, so that its rounds are busy where more waits in the ring.
const BUSY_ROUND: u64 = 1_024;
/// Merging makes rounds short, which must not end it.
const MERGED_AFTER_BUSY: Duration = Duration::from_secs(1);
/// From so many observations in a round on, and while no rule acts, the agent looks less often: each look takes the
/// processor from those who are at work. With [`POLL`](super::POLL) this makes 20 ms.
const LIVELY_ROUND: u64 = 8;
const LIVELY_REST: Duration = Duration::from_millis(15);

/// Acts of one type that were left out.
#[derive(Debug)]
struct LeftOut {
    event_type: EventType,
    count: u64,
    from_ns: u64,
    until_ns: u64,
}

/// What the pipeline keeps for saving.
#[derive(Debug)]
pub(super) struct Economy {
    governor: Governor,
    begun: Instant,
    measured: Instant,
    resident: (Instant, u64),
    left_out: Vec<LeftOut>,
    /// Acts of a class since one of it was kept.
    passed_by: [u32; EventClass::ALL.len()],
    merger: Merger,
    untold: u64,
    untold_since: Option<Instant>,
    seen_in_round: u64,
    /// Nothing was observed in the last round.
    is_quiet: bool,
    /// So much was that more waits.
    is_full: bool,
    /// The last busy round.
    busy_at: Option<Instant>,
    /// That is not long ago: more may be there than can be told one by one before the kernel's ring is full.
    is_behind: bool,
    shed: Vec<EventClass>,
    /// Whether a rule may act on starts.
    acts_on_start: bool,
    /// Whether something may be acted on, or is gone if it is not looked at soon.
    may_not_wait: bool,
}

impl Economy {
    pub(super) fn new(governor: Governor) -> Self {
        let now = Instant::now();
        Self {
            governor,
            begun: now,
            measured: now,
            resident: (now, resident_bytes()),
            left_out: Vec::new(),
            // So that the first act of a sampled class is kept.
            passed_by: [KEEP_ONE_OF; EventClass::ALL.len()],
            merger: Merger::default(),
            untold: 0,
            untold_since: None,
            seen_in_round: 0,
            is_quiet: false,
            is_full: false,
            busy_at: None,
            is_behind: false,
            shed: Vec::new(),
            acts_on_start: false,
            may_not_wait: true,
        }
    }

    /// Says what of the observations must not wait.
    pub(super) fn hurry(&mut self, acts_on_start: bool, may_not_wait: bool) {
        (self.acts_on_start, self.may_not_wait) = (acts_on_start, may_not_wait);
    }

    /// Whether a rule may act on starts.
    pub(super) fn acts_on_start(&self) -> bool {
        self.acts_on_start
    }

    pub(super) fn governor(&self) -> &Governor {
        &self.governor
    }

    pub(super) fn saves_work(&self) -> bool {
        self.governor.rung().saves_work()
    }

    /// Whether acts like this one become one record. Those that are never left out are merged for want of CPU only:
    /// whoever makes noise must not choose that rules see the first of them alone.
    pub(super) fn merges_acts(&self, activity: &ObservedActivity) -> bool {
        self.saves_work() || (self.is_behind && activity.class() != EventClass::Protected)
    }

    /// Whether nothing was observed in the last round, and nothing needs to be seen at once.
    pub(super) fn is_quiet(&self) -> bool {
        self.is_quiet && !self.may_not_wait
    }

    /// Whether so much was observed in the last round that more waits.
    pub(super) fn is_full(&self) -> bool {
        self.is_full
    }

    /// Something was observed.
    pub(super) fn saw(&mut self) {
        self.seen_in_round += 1;
    }

    /// Counts the act as left out, if it is to be.
    pub(super) fn leaves_out(&mut self, at_ns: u64, activity: &ObservedActivity) -> bool {
        // What an act was done to is looked at only where that matters.
        if self.governor.rung().keeps_all() {
            return false;
        }
        let class = activity.class();
        match self.governor.keep(class) {
            Keep::All => return false,
            Keep::Some => {
                let passed_by = &mut self.passed_by[class as usize];
                *passed_by += 1;
                if *passed_by >= KEEP_ONE_OF {
                    *passed_by = 0;
                    return false;
                }
            }
            Keep::None => {}
        }
        let (event_type, count) = (activity.event_type, activity.acts());
        match self.left_out.iter_mut().find(|one| one.event_type == event_type) {
            Some(one) => {
                one.count = one.count.saturating_add(count);
                one.from_ns = one.from_ns.min(at_ns);
                one.until_ns = one.until_ns.max(at_ns);
            }
            None => self.left_out.push(LeftOut { event_type, count, from_ns: at_ns, until_ns: at_ns }),
        }
        self.owe();
        true
    }

    /// Counts the act to a like one that is held; false if none is.
    pub(super) fn absorbs(&mut self, at_ns: u64, activity: &ObservedActivity) -> bool {
        let absorbed = self.merger.absorb(at_ns, activity);
        if absorbed {
            self.owe();
        }
        absorbed
    }

    /// Holds an act for like ones that may follow. Gives it back where none are awaited.
    pub(super) fn hold(
        &mut self,
        header: EventHeader,
        body: Box<Activity>,
        observed: Option<ObservedActivity>,
    ) -> Option<(EventHeader, Box<Activity>)> {
        let Some(observed) = observed else { return Some((header, body)) };
        self.merger.hold(header, body, observed);
        self.owe();
        None
    }

    fn owe(&mut self) {
        self.untold += 1;
        if self.untold_since.is_none() {
            self.untold_since = Some(Instant::now());
        }
    }

    /// Whether what was left out or merged must be told now.
    pub(super) fn is_due(&self) -> bool {
        self.untold >= MOST_UNTOLD
            || self.merger.len() >= MAX_RECORDS
            || self.merger.bytes() >= MAX_BYTES
            || self.untold_since.is_some_and(|since| since.elapsed() >= SAVING_AGE)
    }

    /// Whether something was left out or is held, so that the next batch is not empty.
    pub(super) fn owes_records(&self) -> bool {
        self.untold > 0
    }

    /// Whether it should have been told long ago: what is held takes memory, and all of it room in the kernel's ring.
    pub(super) fn is_overdue(&self) -> bool {
        self.untold >= 2 * MOST_UNTOLD
            || self.merger.len() >= 4 * MAX_RECORDS
            || self.merger.bytes() >= 4 * MAX_BYTES
            || self.untold_since.is_some_and(|since| since.elapsed() >= 4 * SAVING_AGE)
    }
}

impl Work {
    /// Measures, if it is time to, and does what that asks for. True: restart for memory.
    pub(super) fn govern(&mut self, sensor: &mut dyn Sensor) -> bool {
        let economy = &mut self.economy;
        if economy.measured.elapsed() < MEASURE_EVERY {
            return false;
        }
        economy.measured = Instant::now();
        if economy.resident.0.elapsed() >= Duration::from_secs(1) {
            economy.resident = (Instant::now(), resident_bytes());
        }
        let ask = economy.governor.measure(economy.begun.elapsed(), cpu_time(), economy.resident.1);
        match ask {
            Ask::GoOn => return false,
            Ask::Restart => {
                tracing::error!(
                    resident = economy.resident.1,
                    "memory stays far beyond its limit, the agent restarts"
                );
                return true;
            }
            Ask::Changed => {}
            Ask::DropCaches => {
                tracing::warn!(resident = economy.resident.1, "memory is at its limit, caches are dropped");
                self.known_images = Default::default();
                self.images = Default::default();
            }
        }
        let rung = economy.governor.rung();
        let shed = rung.shed();
        if shed != economy.shed {
            sensor.shed(&shed);
            self.queue.shed(&shed);
            economy.shed = shed;
        }
        self.recorder.close_after(if rung.saves_work() { SAVING_AGE } else { MAX_AGE });
        tracing::debug!(
            rung = rung.number, step = %rung.step, cpu_permille = economy.governor.cpu_permille(),
            "the budget changes what is done"
        );
        self.health_is_news = true;
        false
    }

    /// Ends a round: how long there is to be none now, because the governor wants it or much is observed, and nothing
    /// piles up.
    pub(super) fn rest(&mut self) -> Duration {
        let economy = &mut self.economy;
        let seen = std::mem::take(&mut economy.seen_in_round);
        economy.is_quiet = seen == 0;
        economy.is_full = seen >= BUSY_ROUND;
        if economy.is_full {
            economy.busy_at = Some(Instant::now());
        }
        economy.is_behind = economy.busy_at.is_some_and(|at| at.elapsed() < MERGED_AFTER_BUSY);
        let rung = economy.governor.rung();
        match rung.rest {
            _ if economy.is_full => Duration::ZERO,
            // A rule that acts on starts is worth more than a few wake-ups.
            rest if economy.acts_on_start => rest.min(REST_BEFORE_ACTING),
            Duration::ZERO if rung.saves_work() => SHORT_REST,
            Duration::ZERO if seen >= LIVELY_ROUND && !economy.may_not_wait => LIVELY_REST,
            rest => rest,
        }
    }

    /// Closes the batch: with what was merged and left out since the last one.
    pub(super) fn flush(&mut self) {
        self.owes_a_gap = false;
        let economy = &mut self.economy;
        economy.untold = 0;
        economy.untold_since = None;
        for held in economy.merger.take() {
            let mut body = held.body;
            if held.merged {
                let acts = i64::try_from(held.acts).unwrap_or(i64::MAX);
                body.fields.retain(|(field, _)| !matches!(field, Field::EventCount | Field::EventUntil));
                body.fields.push((Field::EventCount, Value::Integer(acts)));
                body.fields.push((Field::EventUntil, Value::Time(self.clock.at(held.until_ns))));
            }
            self.recorder.push_event(&held.header, &EventBody::Activity(body));
        }
        for one in std::mem::take(&mut economy.left_out) {
            self.recorder.tell_gap(Gap {
                from: self.clock.at(one.from_ns),
                until: self.clock.at(one.until_ns),
                ..Gap::of_observations("agent", GapReason::Budget, one.event_type.as_str(), Some(one.count))
            });
        }
        self.recorder.flush(&self.table);
    }

    /// Tells the agent's figures when what it leaves out has changed, not too often.
    pub(super) fn tell_news_of_health(&mut self, last: &mut Instant) {
        const NOT_MORE_OFTEN: Duration = Duration::from_secs(10);
        if self.health_is_news && last.elapsed() >= NOT_MORE_OFTEN {
            *last = Instant::now();
            self.tell_health();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use event_model::{BootId, HostId, Image, Process, ProcessEntityId, Timestamp, Who};
    use uuid::Uuid;

    use super::*;
    use crate::governor::Budget;

    /// Holds acts of a process with such a command line.
    fn held(acts: usize, command_line: usize) -> Economy {
        let mut economy = Economy::new(Governor::new(Budget::default()));
        let boot_id = BootId::from_uuid(Uuid::from_u128(1));
        let image = Arc::new(Image { command_line: "x".repeat(command_line), ..Image::default() });
        let process = Process {
            entity_id: ProcessEntityId::new(boot_id, 7, 7),
            start: Timestamp::default(),
            image: Arc::clone(&image),
        };
        for number in 0..acts {
            let who = Who { process: process.clone(), parent: Some(process.clone()) };
            let fields = vec![(Field::FilePath, Value::Text(format!("/tmp/{number}")))];
            let event_type = EventType::FileCreate;
            let observed = ObservedActivity { event_type, actor: None, target: None, fields: fields.clone() };
            let header = EventHeader {
                host_id: HostId::from_uuid(Uuid::from_u128(2)),
                boot_id,
                sequence: number as u64 + 1,
                observed_at: Timestamp::default(),
                monotonic_ns: 0,
            };
            let body = Box::new(Activity { event_type, who: Some(who), target: None, fields });
            assert!(economy.hold(header, body, Some(observed)).is_none());
        }
        economy
    }

    #[test]
    fn what_is_held_is_bounded_in_bytes_too() {
        // Told, each would make 128 KiB: a batch of a thousand would be more than a server takes.
        assert!(held(8, 64 << 10).is_due());
        assert!(held(32, 64 << 10).is_overdue());
        // Not by their bytes, that is: time makes all of them due.
        assert!(held(4, 64 << 10).merger.bytes() < MAX_BYTES);
        assert!(held(900, 100).merger.bytes() < MAX_BYTES);
    }
}
