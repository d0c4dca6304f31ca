//! Handles that processes open on each other, by `Microsoft-Windows-Kernel-Audit-API-Calls`.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use event_model::{EventType, Field, Timestamp, Value};
use sensor_api::{Actor, ObservedActivity};

use super::meaning::Event;

/// `Microsoft-Windows-Kernel-Audit-API-Calls`.
pub const AUDIT_API_CALLS: u128 = 0xe02a_841c_75a3_4fa7_afc8_ae09_cf9b_7f23;
/// Its id for a call of `OpenProcess`. It is written in the process that calls.
pub const OPEN_PROCESS: u16 = 5;

/// Rights on a process that lead into it (winnt.h): PROCESS_CREATE_THREAD, PROCESS_VM_READ, PROCESS_VM_WRITE and
/// PROCESS_DUP_HANDLE, all of which PROCESS_ALL_ACCESS has; and what stands for some of them or all:
/// MAXIMUM_ALLOWED, GENERIC_ALL, GENERIC_WRITE, GENERIC_READ.
const THAT_MATTER: u32 = 0x2 | 0x10 | 0x20 | 0x40 | 0x0200_0000 | 0x1000_0000 | 0x4000_0000 | 0x8000_0000;

/// Like ones are counted for so long, and told as one event then.
const FOLDED_FOR: Duration = Duration::from_secs(60);
/// Who opened whom: so many are remembered. Beyond them each is told.
const MOST: usize = 65_536;
/// 1970 in units of 100 ns since 1601.
const UNIX_EPOCH: u64 = 116_444_736_000_000_000;

/// What like accesses have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Access {
    who: u32,
    whom: u32,
    rights: u32,
    status: u32,
}

/// Those that came after the first, which was told.
struct Folded {
    since: Instant,
    count: u64,
    /// When the first of them was, in nanoseconds since boot.
    from_ns: u64,
    /// When the last of them was, in units of 100 ns since 1601.
    until: u64,
}

/// The accesses that were seen.
pub(super) struct Accesses {
    own_pid: u32,
    folded: HashMap<Access, Folded>,
}

impl Accesses {
    /// Of all but the process `own_pid`, which looks at others by its office.
    pub(super) fn of_others_than(own_pid: u32) -> Self {
        Self { own_pid, folded: HashMap::new() }
    }

    /// A process opened another at `at_ns` since boot. False where the event does not say whom and for what.
    pub(super) fn opened(
        &mut self,
        event: &Event,
        at_ns: u64,
        now: Instant,
        tell: &mut dyn FnMut(u64, ObservedActivity),
    ) -> bool {
        let number = |name| event.values.small(name);
        let (Some(whom), Some(rights)) = (number("TargetProcessId"), number("DesiredAccess")) else {
            return false;
        };
        let status = number("ReturnCode").unwrap_or(0);
        let access = Access { who: event.pid, whom, rights, status };
        let is_of_system = access.who == 0 || whom == 0;
        if rights & THAT_MATTER == 0 || access.who == whom || access.who == self.own_pid || is_of_system {
            return true;
        }
        if let Some(folded) = self.folded.get_mut(&access) {
            if folded.count == 0 {
                folded.from_ns = at_ns;
            }
            folded.count += 1;
            folded.until = folded.until.max(event.time);
            return true;
        }
        if self.folded.len() < MOST {
            self.folded.insert(access, Folded { since: now, count: 0, from_ns: at_ns, until: event.time });
        }
        tell(at_ns, told(&access, None));
        true
    }

    /// A process has this PID now: what was folded of another one is told.
    pub(super) fn process_started(&mut self, pid: u32, tell: &mut dyn FnMut(u64, ObservedActivity)) {
        self.folded.retain(|access, folded| {
            let is_over = access.who == pid || access.whom == pid;
            if is_over && folded.count > 0 {
                tell(folded.from_ns, told(access, Some(folded)));
            }
            !is_over
        });
    }

    /// Tells all that was counted: nothing comes any more. Who has which PID when something does is not known.
    pub(super) fn flush(&mut self, tell: &mut dyn FnMut(u64, ObservedActivity)) {
        for (access, folded) in self.folded.drain().filter(|(_, folded)| folded.count > 0) {
            tell(folded.from_ns, told(&access, Some(&folded)));
        }
    }

    /// Tells what was counted long enough.
    pub(super) fn idle(&mut self, now: Instant, tell: &mut dyn FnMut(u64, ObservedActivity)) {
        self.folded.retain(|access, folded| {
            if now.saturating_duration_since(folded.since) < FOLDED_FOR {
                return true;
            }
            if folded.count == 0 {
                return false;
            }
            tell(folded.from_ns, told(access, Some(folded)));
            (folded.since, folded.count) = (now, 0);
            true
        });
    }
}

fn told(access: &Access, folded: Option<&Folded>) -> ObservedActivity {
    let text = |text: &str| Value::Text(text.to_owned());
    // An NTSTATUS is a success where its highest bit is not set.
    let has_failed = access.status >> 31 != 0;
    let mut fields = vec![
        (Field::AccessMethod, text("OpenProcess")),
        (Field::AccessMode, Value::Text(format!("{:#x}", access.rights))),
        (Field::EventOutcome, text(if has_failed { "failure" } else { "success" })),
    ];
    if has_failed {
        fields.push((Field::EventReason, Value::Text(format!("{:#x}", access.status))));
    }
    if let Some(folded) = folded {
        let units = i64::try_from(folded.until.saturating_sub(UNIX_EPOCH)).unwrap_or(i64::MAX);
        let until = Timestamp::from_nanos(units.saturating_mul(100));
        fields.push((Field::EventCount, Value::Integer(i64::try_from(folded.count).unwrap_or(i64::MAX))));
        fields.push((Field::EventUntil, Value::Time(until)));
    }
    fields.push((Field::EventProvider, text("etw")));
    ObservedActivity {
        event_type: EventType::ProcessAccess,
        actor: Some(Actor::Pid(access.who)),
        target: Some(Actor::Pid(access.whom)),
        fields,
    }
}

#[cfg(test)]
mod tests {
    use super::super::made::{Made, cut, made};
    use super::*;

    /// An event as the kernel lays it out.
    fn opened(who: u32, whom: u32, rights: u32, status: u32) -> Event {
        made(AUDIT_API_CALLS, OPEN_PROCESS, who, &values(whom, rights, status))
    }

    fn values(whom: u32, rights: u32, status: u32) -> [(&'static str, Made<'static>); 3] {
        [
            ("TargetProcessId", Made::U32(whom)),
            ("DesiredAccess", Made::U32(rights)),
            ("ReturnCode", Made::U32(status)),
        ]
    }

    /// What is told of these, each at the same moment.
    fn heard(accesses: &mut Accesses, events: &[Event], now: Instant) -> Vec<(u64, ObservedActivity)> {
        let mut told = Vec::new();
        for (at_ns, event) in (1..).zip(events) {
            assert!(accesses.opened(event, at_ns, now, &mut |at_ns, one| told.push((at_ns, one))));
        }
        told
    }

    #[test]
    fn an_access_that_matters_is_told_with_both_its_rights_and_its_outcome() {
        let mut accesses = Accesses::of_others_than(1);
        let denied = [opened(70, 80, 0x1410, 0), opened(70, 90, 0x1f_ffff, 0xc000_0022)];
        let told = heard(&mut accesses, &denied, Instant::now());
        let text = |text: &str| Value::Text(text.to_owned());
        let expected = ObservedActivity {
            event_type: EventType::ProcessAccess,
            actor: Some(Actor::Pid(70)),
            target: Some(Actor::Pid(80)),
            fields: vec![
                (Field::AccessMethod, text("OpenProcess")),
                (Field::AccessMode, text("0x1410")),
                (Field::EventOutcome, text("success")),
                (Field::EventProvider, text("etw")),
            ],
        };
        assert_eq!(told.len(), 2);
        assert_eq!(told[0], (1, expected));
        for expected in [
            (Field::AccessMode, text("0x1fffff")),
            (Field::EventOutcome, text("failure")),
            (Field::EventReason, text("0xc0000022")),
        ] {
            assert!(told[1].1.fields.contains(&expected), "{expected:?}");
        }
    }

    #[test]
    fn what_does_not_lead_into_a_process_is_left_out_at_once() {
        let mut accesses = Accesses::of_others_than(1);
        // Query, terminate, suspend, wait; itself; the agent; nobody.
        let events = [
            opened(70, 80, 0x1000, 0),
            opened(70, 80, 0x1, 0),
            opened(70, 80, 0x800, 0),
            opened(70, 80, 0x10_0400, 0),
            opened(70, 70, 0x1f_ffff, 0),
            opened(1, 80, 0x10, 0),
            opened(0, 80, 0x10, 0),
            opened(70, 0, 0x10, 0),
        ];
        assert_eq!(heard(&mut accesses, &events, Instant::now()), []);
        assert!(accesses.folded.is_empty());
        for (whom, rights) in (80..).zip([0x2, 0x10, 0x20, 0x40, 0x0200_0000, 0x1000_0000, 0x8000_0000]) {
            let told = heard(&mut accesses, &[opened(70, whom, rights, 0)], Instant::now());
            assert_eq!(told.len(), 1, "{rights:#x}");
        }
    }

    #[test]
    fn like_accesses_are_counted_and_told_as_one() {
        let now = Instant::now();
        let mut accesses = Accesses::of_others_than(1);
        let at = |seconds: u64| Event { time: UNIX_EPOCH + seconds * 10_000_000, ..opened(70, 80, 0x10, 0) };
        let told = heard(&mut accesses, &[at(1), at(2), at(4), at(3)], now);
        assert_eq!(told.len(), 1, "the first");
        let other = heard(&mut accesses, &[opened(71, 80, 0x10, 0), opened(70, 80, 0x30, 0)], now);
        assert_eq!(other.len(), 2, "of another, and for more");
        let mut told = Vec::new();
        accesses.idle(now, &mut |at_ns, one| told.push((at_ns, one)));
        assert_eq!(told, []);
        accesses.idle(now + FOLDED_FOR, &mut |at_ns, one| told.push((at_ns, one)));
        let [(at_ns, one)] = told.as_slice() else { panic!("{told:?}") };
        assert_eq!((*at_ns, one.acts()), (2, 3));
        let until = Value::Time(Timestamp::from_nanos(4_000_000_000));
        assert!(one.fields.contains(&(Field::EventUntil, until)), "{one:?}");
        assert_eq!(accesses.folded.len(), 1, "those of which there was one are forgotten");
        accesses.idle(now + FOLDED_FOR * 2, &mut |_, _| panic!("nothing came"));
        assert!(accesses.folded.is_empty());
    }

    #[test]
    fn what_was_counted_is_told_when_nothing_comes_any_more() {
        let now = Instant::now();
        let mut accesses = Accesses::of_others_than(1);
        let one = |whom| opened(70, whom, 0x10, 0);
        assert_eq!(heard(&mut accesses, &[one(80), one(80), one(80), one(90)], now).len(), 2);
        let mut told = Vec::new();
        accesses.flush(&mut |at_ns, one| told.push((at_ns, one.target, one.acts())));
        assert_eq!(told, [(2, Some(Actor::Pid(80)), 2)]);
        accesses.flush(&mut |_, _| panic!("it was told"));
        assert_eq!(heard(&mut accesses, &[one(80)], now).len(), 1, "it may be another process");
    }

    #[test]
    fn another_process_with_the_same_pid_has_its_own() {
        let now = Instant::now();
        for pid in [70, 80] {
            let mut accesses = Accesses::of_others_than(1);
            assert_eq!(
                heard(&mut accesses, &[opened(70, 80, 0x10, 0), opened(70, 80, 0x10, 0)], now).len(),
                1
            );
            let mut told = Vec::new();
            accesses.process_started(pid, &mut |_, one| told.push(one.acts()));
            assert_eq!(told, [1]);
            assert_eq!(heard(&mut accesses, &[opened(70, 80, 0x10, 0)], now).len(), 1);
        }
    }

    #[test]
    fn an_event_that_ends_early_is_told_as_unread() {
        let mut accesses = Accesses::of_others_than(1);
        for end in 0..8 {
            let event = cut(AUDIT_API_CALLS, OPEN_PROCESS, 70, &values(80, 0x10, 0), end);
            assert!(!accesses.opened(&event, 0, Instant::now(), &mut |_, _| panic!("{end}")), "{end}");
        }
    }
}
