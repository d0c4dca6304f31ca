//! What waits of the kernel's notices, so that a start finds the launch that has its command line.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use super::launch::Launch;
use super::meaning::ProcessNotice;

/// So long a start that could not be asked itself waits for its launch. Both are written at the same moment; they
/// come apart only where one buffer was handed over in between.
const PATIENCE: Duration = Duration::from_millis(100);
/// The same start, in units of 100 ns.
const SAME_MOMENT: u64 = 10_000_000;
/// Launches that nobody asked for are forgotten after this.
const FORGOTTEN: Duration = Duration::from_secs(5);
/// Launches that are remembered.
const MOST_LAUNCHES: usize = 16_384;

/// A notice that waits, with what was found of the process as it came.
struct Waiting<T> {
    notice: ProcessNotice,
    told: u64,
    came: Instant,
    found: T,
    wants_launch: bool,
}

struct Known {
    launch: Launch,
    told: u64,
    came: Instant,
}

/// The notices, in their order. `T` is what was found of a process when its notice came.
pub struct Starts<T> {
    waiting: VecDeque<Waiting<T>>,
    /// By PID; several where it was given again at once.
    launches: HashMap<u32, Vec<Known>>,
    count: usize,
    pruned: Instant,
}

impl<T> Starts<T> {
    /// Nothing waits.
    pub fn new(now: Instant) -> Self {
        Self { waiting: VecDeque::new(), launches: HashMap::new(), count: 0, pruned: now }
    }

    /// A notice that was written at `told` (100 ns since 1601). With `wants_launch` it waits a moment for one.
    pub fn notice(&mut self, notice: ProcessNotice, told: u64, found: T, wants_launch: bool, now: Instant) {
        self.waiting.push_back(Waiting { notice, told, came: now, found, wants_launch });
    }

    /// A launch that was written at `told`.
    pub fn launch(&mut self, launch: Launch, told: u64, now: Instant) {
        if now.saturating_duration_since(self.pruned) >= FORGOTTEN {
            self.prune(now);
        }
        if self.count < MOST_LAUNCHES {
            self.launches.entry(launch.pid).or_default().push(Known { launch, told, came: now });
            self.count += 1;
        }
    }

    /// The next notice that need not wait any more, with its launch.
    pub fn next(&mut self, now: Instant) -> Option<(ProcessNotice, T, Option<Launch>)> {
        let first = self.waiting.front()?;
        let launch = match &first.notice {
            ProcessNotice::Started { pid, parent, .. } => take(&mut self.launches, *pid, *parent, first.told),
            ProcessNotice::Ended { .. } => None,
        };
        self.count -= usize::from(launch.is_some());
        let is_start = matches!(first.notice, ProcessNotice::Started { .. });
        let waits = is_start && first.wants_launch && launch.is_none();
        if waits && now.saturating_duration_since(first.came) < PATIENCE {
            return None;
        }
        let Waiting { notice, found, .. } = self.waiting.pop_front()?;
        Some((notice, found, launch))
    }

    /// Whether something waits.
    pub fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    fn prune(&mut self, now: Instant) {
        self.pruned = now;
        self.launches.retain(|_, known| {
            known.retain(|one| now.saturating_duration_since(one.came) < FORGOTTEN);
            !known.is_empty()
        });
        self.count = self.launches.values().map(Vec::len).sum();
    }
}

/// Takes out the launch that was written nearest to the start.
fn take(launches: &mut HashMap<u32, Vec<Known>>, pid: u32, parent: u32, told: u64) -> Option<Launch> {
    let known = launches.get_mut(&pid)?;
    let fits = |one: &Known| one.launch.parent == parent && one.told.abs_diff(told) <= SAME_MOMENT;
    let candidates = known.iter().enumerate().filter(|(_, one)| fits(one));
    let (at, _) = candidates.min_by_key(|(_, one)| one.told.abs_diff(told))?;
    let launch = known.swap_remove(at).launch;
    if known.is_empty() {
        launches.remove(&pid);
    }
    Some(launch)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(pid: u32, parent: u32) -> ProcessNotice {
        ProcessNotice::Started { pid, created: 1, parent, session: 1, image: String::new() }
    }

    fn launch(pid: u32, parent: u32, line: &str) -> Launch {
        Launch { pid, parent, sid: None, command_line: line.to_owned() }
    }

    fn line(next: Option<(ProcessNotice, (), Option<Launch>)>) -> Option<Option<String>> {
        next.map(|(_, (), launch)| launch.map(|launch| launch.command_line))
    }

    #[test]
    fn a_start_that_is_gone_waits_for_its_command_line_and_not_for_ever() {
        let now = Instant::now();
        let mut starts = Starts::new(now);
        starts.notice(start(7, 1), 1_000, (), true, now);
        starts.notice(start(8, 1), 1_100, (), true, now);
        assert_eq!(line(starts.next(now)), None, "its launch may still come");
        starts.launch(launch(8, 1, "eight"), 1_100, now);
        assert_eq!(line(starts.next(now)), None, "in their order");
        starts.launch(launch(7, 1, "seven"), 990, now);
        assert_eq!(line(starts.next(now)), Some(Some("seven".to_owned())));
        assert_eq!(line(starts.next(now)), Some(Some("eight".to_owned())));
        starts.notice(start(9, 1), 1_200, (), true, now);
        assert_eq!(line(starts.next(now)), None);
        assert_eq!(line(starts.next(now + PATIENCE)), Some(None), "none came");
        starts.notice(start(9, 1), 1_300, (), false, now);
        assert_eq!(line(starts.next(now)), Some(None), "what could be asked itself does not wait");
        assert!(!starts.is_waiting());
    }

    #[test]
    fn a_pid_that_was_given_again_has_its_own_command_line() {
        let now = Instant::now();
        let mut starts = Starts::new(now);
        starts.launch(launch(7, 1, "first"), 1_000, now);
        starts.launch(launch(7, 1, "second"), 5_000, now);
        starts.launch(launch(7, 2, "of another"), 5_001, now);
        starts.notice(start(7, 1), 5_001, (), true, now);
        starts.notice(start(7, 1), 1_001, (), true, now);
        starts.notice(start(7, 3), 1_001, (), true, now);
        assert_eq!(line(starts.next(now)), Some(Some("second".to_owned())));
        assert_eq!(line(starts.next(now)), Some(Some("first".to_owned())));
        assert_eq!(line(starts.next(now)), None, "of another parent");
        // Far apart in time is another life.
        let mut starts = Starts::new(now);
        starts.launch(launch(7, 1, "old"), 1_000, now);
        starts.notice(start(7, 1), 1_001 + SAME_MOMENT, (), true, now);
        assert_eq!(line(starts.next(now + PATIENCE)), Some(None));
    }

    #[test]
    fn launches_are_forgotten_and_bounded() {
        let now = Instant::now();
        let mut starts = Starts::<()>::new(now);
        for pid in 0..2 * MOST_LAUNCHES as u32 {
            starts.launch(launch(pid, 1, ""), 1, now);
        }
        assert_eq!(starts.count, MOST_LAUNCHES);
        starts.launch(launch(1, 1, ""), 1, now + FORGOTTEN);
        assert_eq!(starts.count, 1);
    }
}
