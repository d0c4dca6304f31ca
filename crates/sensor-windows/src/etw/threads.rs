//! Threads that one process begins in another.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use event_model::{EventType, Field, Value};
use sensor_api::{Actor, ObservedActivity};

use super::meaning::{Event, KERNEL_PROCESS};

/// The id of `Microsoft-Windows-Kernel-Process` for the start of a thread. It is written in the process that begins it.
pub(super) const THREAD_START: u16 = 3;

/// The first thread of a process is begun by whoever makes the process. It comes with the start, or in this time.
const FIRST_WITHIN_NS: u64 = 5_000_000_000;
/// The start of a process and of its first thread are written at the same moment, so that the one may be handed over
/// before the other: a thread waits so long for the start of its process, and both lie no farther apart than that.
const PATIENCE: Duration = Duration::from_millis(200);
const SAME_MOMENT_NS: u64 = 1_000_000_000;
/// The kernel, which makes threads of processes for them (those of thread pools). Up to it are no programs.
const SYSTEM_PID: u32 = 4;
/// New processes, and threads that wait, which are remembered.
const MOST: usize = 16_384;

struct Waiting {
    pid: u32,
    at_ns: u64,
    came: Instant,
    told: ObservedActivity,
}

/// The threads that were begun.
#[derive(Default)]
pub(super) struct RemoteThreads {
    /// Processes whose first thread is still to come, with their starts in nanoseconds since boot.
    new: HashMap<u32, u64>,
    waiting: VecDeque<Waiting>,
}

impl RemoteThreads {
    /// A process started at `at_ns` since boot.
    pub(super) fn process_started(&mut self, pid: u32, at_ns: u64) {
        let is_its_first = |one: &Waiting| one.pid == pid && one.at_ns.abs_diff(at_ns) <= SAME_MOMENT_NS;
        if let Some(first) = self.waiting.iter().position(is_its_first) {
            self.waiting.remove(first);
            return;
        }
        if self.new.len() >= MOST {
            self.new.retain(|_, started| at_ns.saturating_sub(*started) <= FIRST_WITHIN_NS);
        }
        if self.new.len() < MOST {
            self.new.insert(pid, at_ns);
        }
    }

    /// A thread started. False where the event does not say in which process.
    pub(super) fn thread_started(&mut self, event: &Event, at_ns: u64, now: Instant) -> bool {
        debug_assert!((event.provider, event.id) == (KERNEL_PROCESS, THREAD_START));
        let Some(pid) = event.values.small("ProcessID") else { return false };
        let started = self.new.remove(&pid);
        let is_first = started.is_some_and(|started| at_ns.saturating_sub(started) <= FIRST_WITHIN_NS);
        if !is_first && event.pid != pid && event.pid > SYSTEM_PID && pid > SYSTEM_PID {
            self.waiting.push_back(Waiting { pid, at_ns, came: now, told: told(event, pid) });
        }
        true
    }

    /// Tells all that waits: the start of a process that it waits for does not come any more.
    pub(super) fn flush(&mut self, tell: &mut dyn FnMut(u64, ObservedActivity)) {
        self.waiting.drain(..).for_each(|one| tell(one.at_ns, one.told));
    }

    /// What need not wait any more, with its time.
    pub(super) fn next(&mut self, now: Instant) -> Option<(u64, ObservedActivity)> {
        let first = self.waiting.front()?;
        let has_time = now.saturating_duration_since(first.came) < PATIENCE;
        if has_time && self.waiting.len() <= MOST {
            return None;
        }
        self.waiting.pop_front().map(|one| (one.at_ns, one.told))
    }
}

fn told(event: &Event, pid: u32) -> ObservedActivity {
    let text = |text: &str| Value::Text(text.to_owned());
    let mut fields = vec![(Field::AccessMethod, text("CreateRemoteThread"))];
    // What the program asked to be run; the other is the system's own beginning of every thread.
    let address = ["Win32StartAddr", "StartAddr"].into_iter().find_map(|name| event.values.number(name));
    if let Some(address) = address.filter(|address| *address != 0) {
        fields.push((Field::AccessAddress, Value::Text(format!("{address:#x}"))));
    }
    fields.push((Field::EventProvider, text("etw")));
    ObservedActivity {
        event_type: EventType::ProcessTamper,
        actor: Some(Actor::Pid(event.pid)),
        target: Some(Actor::Pid(pid)),
        fields,
    }
}

#[cfg(test)]
mod tests {
    use super::super::made::{Made, cut};
    use super::*;

    /// A thread of `owner` that `creator` began, as the kernel lays it out.
    fn thread(creator: u32, owner: u32, most: usize) -> Event {
        let values = [
            ("ProcessID", Made::U32(owner)),
            ("ThreadID", Made::U32(900)),
            ("StackBase", Made::Pointer(0xffff_8000_0000_1000)),
            ("StackLimit", Made::Pointer(0xffff_8000_0000_0000)),
            ("UserStackBase", Made::Pointer(0x10_0000)),
            ("UserStackLimit", Made::Pointer(0)),
            ("StartAddr", Made::Pointer(0x7ff8_0000_2680)),
            ("Win32StartAddr", Made::Pointer(0x1f0_0000)),
            ("TebBase", Made::Pointer(0x30_0000)),
            ("SubProcessTag", Made::U32(0)),
        ];
        cut(KERNEL_PROCESS, THREAD_START, creator, &values, most)
    }

    fn all(threads: &mut RemoteThreads, now: Instant) -> Vec<(u64, ObservedActivity)> {
        std::iter::from_fn(|| threads.next(now)).collect()
    }

    #[test]
    fn a_thread_that_another_process_began_is_told_with_both_and_its_address() {
        let now = Instant::now();
        let mut threads = RemoteThreads::default();
        assert!(threads.thread_started(&thread(70, 80, usize::MAX), 5, now));
        assert_eq!(all(&mut threads, now), [], "its process may be a new one");
        let fields = vec![
            (Field::AccessMethod, Value::Text("CreateRemoteThread".to_owned())),
            (Field::AccessAddress, Value::Text("0x1f00000".to_owned())),
            (Field::EventProvider, Value::Text("etw".to_owned())),
        ];
        let (actor, target) = (Some(Actor::Pid(70)), Some(Actor::Pid(80)));
        let expected = ObservedActivity { event_type: EventType::ProcessTamper, actor, target, fields };
        assert_eq!(all(&mut threads, now + PATIENCE), [(5, expected)]);
        assert_eq!(all(&mut threads, now + PATIENCE), [], "once");
    }

    #[test]
    fn the_first_thread_of_a_new_process_is_nobodys_attack_and_the_second_is() {
        let now = Instant::now();
        for is_start_first in [true, false] {
            let mut threads = RemoteThreads::default();
            if is_start_first {
                threads.process_started(80, 100);
            }
            assert!(threads.thread_started(&thread(70, 80, usize::MAX), 101, now));
            if !is_start_first {
                threads.process_started(80, 100);
            }
            assert_eq!(all(&mut threads, now + PATIENCE), [], "{is_start_first}");
            assert!(threads.thread_started(&thread(70, 80, usize::MAX), 102, now));
            assert_eq!(all(&mut threads, now + PATIENCE).len(), 1, "{is_start_first}");
        }
        // Whose first thread was lost is not open to others for ever.
        let mut threads = RemoteThreads::default();
        threads.process_started(80, 100);
        assert!(threads.thread_started(&thread(70, 80, usize::MAX), 101 + FIRST_WITHIN_NS, now));
        assert_eq!(all(&mut threads, now + PATIENCE).len(), 1);
    }

    #[test]
    fn own_threads_and_those_of_the_kernel_are_not_told() {
        let now = Instant::now();
        let mut threads = RemoteThreads::default();
        for (creator, owner) in [(70, 70), (4, 70), (0, 70), (70, 4), (70, 0)] {
            assert!(threads.thread_started(&thread(creator, owner, usize::MAX), 5, now));
        }
        assert_eq!(all(&mut threads, now + PATIENCE), []);
    }

    #[test]
    fn an_event_that_ends_early_is_told_as_unread_or_with_what_it_has() {
        let now = Instant::now();
        let mut threads = RemoteThreads::default();
        for end in 0..4 {
            assert!(!threads.thread_started(&thread(70, 80, end), 5, now), "{end}");
        }
        assert!(threads.thread_started(&thread(70, 80, 4), 5, now));
        let told = all(&mut threads, now + PATIENCE);
        assert!(!told[0].1.fields.iter().any(|(field, _)| *field == Field::AccessAddress));
    }

    #[test]
    fn what_waits_is_bounded() {
        let now = Instant::now();
        let mut threads = RemoteThreads::default();
        for _ in 0..=MOST {
            threads.thread_started(&thread(70, 80, usize::MAX), 5, now);
        }
        assert_eq!(all(&mut threads, now).len(), 1);
        all(&mut threads, now + PATIENCE);
        (0..=MOST as u32).for_each(|pid| threads.process_started(1_000 + pid, 5));
        assert_eq!(threads.new.len(), MOST);
    }
}
