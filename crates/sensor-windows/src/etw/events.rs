//! What the session `Rampart events` hears, and what is told of it.

use std::time::Instant;

use sensor_api::ObservedActivity;

use super::access::{AUDIT_API_CALLS, Accesses, OPEN_PROCESS};
use super::meaning::{Event, KERNEL_PROCESS, PROCESS_START, meaning};
use super::threads::{RemoteThreads, THREAD_START};

/// What is remembered between events.
pub struct Events {
    threads: RemoteThreads,
    accesses: Accesses,
}

impl Events {
    /// Nothing was heard yet. What the process `own_pid` opens is not told.
    pub fn new(own_pid: u32) -> Self {
        Self { threads: RemoteThreads::default(), accesses: Accesses::of_others_than(own_pid) }
    }

    /// An event that was written at `at_ns` since boot; `path_of` makes a path with a drive's letter of the kernel's
    /// name. False where it lacks what is needed.
    pub fn hear(
        &mut self,
        event: &Event,
        at_ns: u64,
        now: Instant,
        path_of: impl Fn(&str) -> String,
        tell: &mut dyn FnMut(u64, ObservedActivity),
    ) -> bool {
        let is_read = match (event.provider, event.id) {
            (KERNEL_PROCESS, PROCESS_START) => match event.values.small("ProcessID") {
                Some(pid) => {
                    self.accesses.process_started(pid, tell);
                    self.threads.process_started(pid, at_ns);
                    true
                }
                None => false,
            },
            (KERNEL_PROCESS, THREAD_START) => self.threads.thread_started(event, at_ns, now),
            (AUDIT_API_CALLS, OPEN_PROCESS) => self.accesses.opened(event, at_ns, now, tell),
            _ => match meaning(event, path_of) {
                Some(activity) => {
                    tell(at_ns, activity);
                    true
                }
                None => false,
            },
        };
        self.tell_due(now, tell);
        is_read
    }

    /// Some time has passed.
    pub fn idle(&mut self, now: Instant, tell: &mut dyn FnMut(u64, ObservedActivity)) {
        self.accesses.idle(now, tell);
        self.tell_due(now, tell);
    }

    /// No event comes any more, or none for some time: tells all that waits for others.
    pub fn flush(&mut self, tell: &mut dyn FnMut(u64, ObservedActivity)) {
        self.accesses.flush(tell);
        self.threads.flush(tell);
    }

    fn tell_due(&mut self, now: Instant, tell: &mut dyn FnMut(u64, ObservedActivity)) {
        while let Some((at_ns, activity)) = self.threads.next(now) {
            tell(at_ns, activity);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use event_model::EventType;
    use sensor_api::Actor;

    use super::super::made::{Made, made};
    use super::*;

    #[test]
    fn each_event_goes_its_way_and_what_waits_is_told_when_time_has_passed() {
        let now = Instant::now();
        let mut events = Events::new(1);
        let start = |pid| made(KERNEL_PROCESS, PROCESS_START, 70, &[("ProcessID", Made::U32(pid))]);
        let thread = |pid| made(KERNEL_PROCESS, THREAD_START, 70, &[("ProcessID", Made::U32(pid))]);
        let image =
            [("ImageBase", Made::Pointer(1)), ("ProcessID", Made::U32(80)), ("ImageName", Made::Text("x"))];
        let access = [("TargetProcessId", Made::U32(80)), ("DesiredAccess", Made::U32(0x10))];
        let all = [
            start(80),
            thread(80),
            thread(80),
            made(AUDIT_API_CALLS, OPEN_PROCESS, 70, &access),
            made(KERNEL_PROCESS, 5, 80, &image),
        ];
        let mut told = Vec::new();
        for event in &all {
            let mut tell = |_: u64, one: ObservedActivity| told.push(one);
            assert!(events.hear(event, 9, now, str::to_owned, &mut tell));
        }
        let words = |told: &[ObservedActivity]| -> Vec<(EventType, Option<Actor>)> {
            told.iter().map(|one| (one.event_type, one.target)).collect()
        };
        let target = Some(Actor::Pid(80));
        assert_eq!(words(&told), [(EventType::ProcessAccess, target), (EventType::ImageLoad, None)]);
        told.clear();
        events.idle(now + Duration::from_secs(1), &mut |_, one| told.push(one));
        assert_eq!(words(&told), [(EventType::ProcessTamper, target)], "the second thread");
        told.clear();
        for event in all.iter().skip(2).take(2) {
            assert!(events.hear(event, 9, now, str::to_owned, &mut |_, _| panic!("both wait")));
        }
        events.flush(&mut |_, one| told.push(one));
        let expected = [(EventType::ProcessAccess, target), (EventType::ProcessTamper, target)];
        assert_eq!(words(&told), expected, "the end does not wait");
        events.flush(&mut |_, _| panic!("it was told"));
        let empty = made(KERNEL_PROCESS, PROCESS_START, 70, &[]);
        assert!(!events.hear(&empty, 9, now, str::to_owned, &mut |_, _| ()));
    }
}
