//! The process that holds the kernel's questions. It opens no file but those that it watches, takes no lock, writes
//! to nobody who might not read, and never waits longer than a deadline.

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};

use super::GatePlaces;
use super::kernel::{Asked, Executions};
use super::wire::{ToKeeper, ask, of_agent, say_failure, say_refused, say_state};
use crate::watch::mounts::{FileSystem, RemoteMounts, local_points};

/// A program runs unjudged when no verdict came by then. People do not feel it; a chain of a hundred programs does.
const DEADLINE: Duration = Duration::from_millis(250);
/// So many late answers in a row, and nobody is asked for a while: the agent hangs, or the host has no time for it.
const LATE_IN_A_ROW: u32 = 16;
const SUSPENDED_FOR: Duration = Duration::from_secs(30);
/// How often the agent is told how it goes.
const SAY_EVERY: Duration = Duration::from_millis(500);
/// How often it is looked for new file systems.
const LOOK_EVERY: Duration = Duration::from_secs(2);

struct Waiting {
    asked: Asked,
    until: Instant,
}

struct Keeper<'a> {
    socket: BorrowedFd<'a>,
    places: GatePlaces,
    executions: Executions,
    /// Devices that are watched, and those that can't be.
    watched: HashSet<u64>,
    refused: HashSet<PathBuf>,
    waiting: BTreeMap<u64, Waiting>,
    next_id: u64,
    /// There is something to judge by.
    on: bool,
    late: u64,
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
    let mut keeper = Keeper {
        socket,
        places,
        executions,
        watched: HashSet::new(),
        refused: HashSet::new(),
        waiting: BTreeMap::new(),
        next_id: 1,
        on: false,
        late: 0,
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
                match say_state(self.socket, self.late, self.suspended_until.is_some()) {
                    Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Ok(()),
                    _ => {}
                }
            }
            if looked.is_none_or(|looked| looked.elapsed() >= LOOK_EVERY) {
                looked = Some(Instant::now());
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
            self.executions.take(&mut |one| asked.push(one))?;
            asked.into_iter().for_each(|one| self.asked(one));
            self.let_late_ones_go();
        }
    }

    /// Until there is something to do.
    fn wait(&self) -> io::Result<()> {
        let first = self.waiting.values().map(|one| one.until).min();
        let wait =
            first.map_or(SAY_EVERY, |until| until.saturating_duration_since(Instant::now()).min(SAY_EVERY));
        // Rounded up, so that the deadline has passed when it wakes.
        let wait = Timespec { tv_sec: 0, tv_nsec: i64::from(wait.subsec_nanos()) + 100_000 };
        let mut descriptors = [
            PollFd::from_borrowed_fd(self.executions.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(self.socket, PollFlags::IN),
        ];
        match rustix::event::poll(&mut descriptors, Some(&wait)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn asked(&mut self, asked: Asked) {
        let id = self.next_id;
        self.next_id += 1;
        // A full socket is an agent that does not keep up.
        if self.suspended_until.is_some()
            || !self.on
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
        self.late += 1;
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
            if !self.watched.is_empty() && self.executions.watch_nothing().is_ok() {
                self.watched.clear();
            }
            return;
        }
        let places = match &self.places {
            GatePlaces::All => local_points(),
            GatePlaces::These(places) => places.clone(),
        };
        let remote = RemoteMounts::read();
        for place in places {
            if remote.hold(place.as_os_str().as_encoded_bytes()) || self.refused.contains(&place) {
                continue;
            }
            if let Err(error) = self.watch(&place) {
                let text = format!("programs on {} are not judged before they run: {error}", place.display());
                // Tried again after the next start; one word of it is enough.
                let _ = say_failure(self.socket, &text);
                self.refused.insert(place);
            }
        }
    }

    fn watch(&mut self, place: &Path) -> io::Result<()> {
        let device = std::fs::metadata(place)?.dev();
        if self.watched.contains(&device) {
            return Ok(());
        }
        let file_system = FileSystem::of(rustix::fs::statfs(place)?.f_type);
        if file_system == FileSystem::Local {
            self.executions.watch(place)?;
        }
        self.watched.insert(device);
        Ok(())
    }
}
