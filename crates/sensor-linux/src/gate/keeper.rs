//! The process that holds the kernel's questions. It opens no file but those that it watches, takes no lock, writes
//! to nobody who might not read, and never waits longer than a deadline.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{Mode, OFlags};
use rustix::mm::{MlockAllFlags, mlockall};

use super::GatePlaces;
use super::kernel::{Asked, Executions};
use super::wire::{State, ToKeeper, ask, of_agent, say_failure, say_refused, say_state};
use crate::watch::mounts::{FileSystem, LocalFileSystem, MountTree};

/// A program runs unjudged when no verdict came by then. People do not feel it; a chain of a hundred programs does.
const DEADLINE: Duration = Duration::from_millis(250);
/// So many late answers in a row, and nobody is asked for a while: the agent hangs, or the host has no time for it.
const LATE_IN_A_ROW: u32 = 16;
const SUSPENDED_FOR: Duration = Duration::from_secs(30);
/// How often the agent is told how it goes.
const SAY_EVERY: Duration = Duration::from_millis(500);
/// How often all is marked anew, though nothing is known to have changed.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How soon after the last look a mount that comes or goes makes another one.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// Questions that are under way at once. Each has a descriptor, and where those run out the kernel refuses programs.
const MOST_WAITING: usize = 256;
/// Places of which the agent was told that they are not watched. More are told again and again.
const MOST_REFUSED: usize = 1_024;

struct Waiting {
    asked: Asked,
    until: Instant,
}

struct Keeper<'a> {
    socket: BorrowedFd<'a>,
    places: GatePlaces,
    executions: Executions,
    /// The list of mounts, which says when it changes.
    mounts: Option<File>,
    mounts_changed: bool,
    is_watching: bool,
    /// Places that can't be watched, with the reason that the agent was told.
    refused: HashMap<String, String>,
    waiting: BTreeMap<u64, Waiting>,
    next_id: u64,
    /// There is something to judge by.
    on: bool,
    counted: State,
    late_in_a_row: u32,
    suspended_until: Option<Instant>,
}

/// Keeps the gate for the agent at the other end of the socket, until the agent is gone.
///
/// # Errors
/// If the kernel refuses; the agent has been told.
pub fn serve(socket: BorrowedFd<'_>, places: GatePlaces) -> io::Result<()> {
    let executions = Executions::open().inspect_err(|error| {
        // Where the agent is gone, too, there is nobody to tell.
        let _ = say_failure(socket, &format!("the kernel gives no fanotify group for executions: {error}"));
    })?;
    // On a host that is short of memory its pages would be read from a disk while programs wait. Those that it never
    // came to need no place. Without it, it only is slower then.
    let _ = mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT);
    let mut keeper = Keeper {
        socket,
        places,
        executions,
        mounts: File::open("/proc/self/mountinfo").ok(),
        mounts_changed: false,
        is_watching: false,
        refused: HashMap::new(),
        waiting: BTreeMap::new(),
        next_id: 1,
        on: false,
        counted: State::default(),
        late_in_a_row: 0,
        suspended_until: None,
    };
    keeper.run()
}

impl Keeper<'_> {
    fn run(&mut self) -> io::Result<()> {
        let (mut said, mut looked): (Option<Instant>, Option<Instant>) = (None, None);
        loop {
            if said.is_none_or(|said| said.elapsed() >= SAY_EVERY) {
                said = Some(Instant::now());
                let state = State { suspended: self.suspended_until.is_some(), ..self.counted };
                match say_state(self.socket, state) {
                    Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Ok(()),
                    _ => {}
                }
            }
            let look_after = if self.mounts_changed { LOOK_AGAIN } else { LOOK_EVERY };
            if looked.is_none_or(|looked| looked.elapsed() >= look_after) {
                looked = Some(Instant::now());
                self.mounts_changed = false;
                self.look();
            }
            self.wait()?;
            while let Some(message) = match of_agent(self.socket) {
                Ok(message) => message,
                // Gone, or not to be understood: what still waits is let go with the group.
                Err(_) => return Ok(()),
            } {
                match message {
                    ToKeeper::Answer { id, deny } => self.answered(id, deny),
                    ToKeeper::Watch(on) => {
                        self.on = on;
                        looked = None;
                    }
                }
            }
            let mut asked = Vec::new();
            let untaken = self.executions.take(&mut |one| asked.push(one))?;
            self.counted.unopened += untaken.unopened;
            self.counted.overflows += untaken.overflows;
            asked.into_iter().for_each(|one| self.asked(one));
            self.let_late_ones_go();
        }
    }

    /// Until there is something to do.
    fn wait(&mut self) -> io::Result<()> {
        let first = self.waiting.values().map(|one| one.until).min();
        let most = if self.mounts_changed { LOOK_AGAIN } else { SAY_EVERY };
        let wait = first.map_or(most, |until| until.saturating_duration_since(Instant::now()).min(most));
        // Rounded up, so that the deadline has passed when it wakes.
        let wait = Timespec { tv_sec: 0, tv_nsec: i64::from(wait.subsec_nanos()) + 100_000 };
        let mut descriptors = vec![
            PollFd::from_borrowed_fd(self.executions.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(self.socket, PollFlags::IN),
        ];
        descriptors.extend(self.mounts.as_ref().map(|list| PollFd::new(list, PollFlags::PRI)));
        match rustix::event::poll(&mut descriptors, Some(&wait)) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        let changed = descriptors.get(2).is_some_and(|list| list.revents().contains(PollFlags::PRI));
        self.mounts_changed |= changed;
        Ok(())
    }

    fn asked(&mut self, asked: Asked) {
        let id = self.next_id;
        self.next_id += 1;
        // A full socket is an agent that does not keep up.
        if self.suspended_until.is_some()
            || !self.on
            || self.waiting.len() >= MOST_WAITING
            || ask(self.socket, id, asked.thread, asked.file.as_fd()).is_err()
        {
            if self.suspended_until.is_none() && self.on {
                self.was_late();
            }
            self.answer(&asked, false);
            return;
        }
        self.waiting.insert(id, Waiting { asked, until: Instant::now() + DEADLINE });
    }

    fn answered(&mut self, id: u64, deny: bool) {
        // One that came too late is no answer.
        let taken = self.waiting.remove(&id).is_some_and(|one| {
            self.late_in_a_row = 0;
            self.answer(&one.asked, deny)
        });
        if deny {
            // The agent waits for this before it says that something was kept from running. It can't be told twice:
            // without it, the agent says that it does not know.
            let _ = say_refused(self.socket, id, taken);
        }
    }

    fn let_late_ones_go(&mut self) {
        let now = Instant::now();
        let late: Vec<u64> =
            self.waiting.iter().filter(|(_, one)| one.until <= now).map(|(id, _)| *id).collect();
        for one in late.iter().filter_map(|id| self.waiting.remove(id)).collect::<Vec<_>>() {
            self.answer(&one.asked, false);
            self.was_late();
        }
    }

    fn was_late(&mut self) {
        self.counted.late += 1;
        self.late_in_a_row += 1;
        if self.late_in_a_row >= LATE_IN_A_ROW && self.suspended_until.is_none() {
            self.suspended_until = Some(Instant::now() + SUSPENDED_FOR);
            self.look();
        }
    }

    /// False where whoever asked was killed meanwhile.
    fn answer(&self, asked: &Asked, deny: bool) -> bool {
        self.executions.answer(asked.file.as_fd(), deny).is_ok()
    }

    /// Watches what there is to watch now.
    fn look(&mut self) {
        if self.suspended_until.is_some_and(|until| until <= Instant::now()) {
            self.suspended_until = None;
            self.late_in_a_row = 0;
        }
        if !self.on || self.suspended_until.is_some() {
            if self.is_watching && self.executions.watch_nothing().is_ok() {
                self.is_watching = false;
            }
            return;
        }
        self.is_watching = true;
        let tree = MountTree::read();
        // Each time all of them: the kernel forgets its mark with the file system, and gives the device's number to
        // the next one.
        match self.places.clone() {
            GatePlaces::All => tree.local().iter().for_each(|one| {
                let watched = self.watch_local(one);
                self.note(&one.name, watched);
            }),
            GatePlaces::These(places) => places.iter().for_each(|place| {
                let watched = if tree.is_remote(place.as_os_str().as_encoded_bytes()) {
                    Err(io::Error::other("it lies on a network or on a file system of a program"))
                } else {
                    self.watch(place).and_then(|watched| match watched {
                        true => Ok(()),
                        false => Err(io::Error::other("its file system is none of a disk or of memory")),
                    })
                };
                self.note(&place.display().to_string(), watched);
            }),
        }
    }

    /// By any of its points.
    fn watch_local(&self, one: &LocalFileSystem) -> io::Result<()> {
        let mut failed = io::Error::other("other mounts cover it wherever it is mounted");
        for point in &one.points {
            match self.watch(point) {
                Ok(_) => return Ok(()),
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }

    /// False where programs are none of its matter: the kernel's own file systems.
    fn watch(&self, place: &Path) -> io::Result<bool> {
        let held = rustix::fs::open(place, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        let is_local = FileSystem::of(rustix::fs::fstatfs(&held)?.f_type) == FileSystem::Local;
        if is_local {
            self.executions.watch(held.as_fd())?;
        }
        Ok(is_local)
    }

    /// Tells the agent of what is not watched, once for each reason. It is tried again with each look.
    fn note(&mut self, place: &str, watched: io::Result<()>) {
        let Err(error) = watched else {
            self.refused.remove(place);
            return;
        };
        let reason = error.to_string();
        if self.refused.get(place) == Some(&reason) {
            return;
        }
        if self.refused.len() >= MOST_REFUSED {
            self.refused.clear();
        }
        let text = format!("programs on {place} are not judged before they run: {reason}");
        if say_failure(self.socket, &text).is_ok() {
            self.refused.insert(place.to_owned(), reason);
        }
    }
}
