//! Starts and ends of processes as the kernel tells them, by a session of event tracing on a thread of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use win32::etw::{AskLayout, KERNEL_PROCESSES, Provider, Record, Session, Stopper};
use win32::event::Event as Signal;

use crate::etw::{
    Decoder, KERNEL_PROCESS, Launch, ProcessNotice, SYSTEM_PROCESS, launch, process_notice, reason,
};

pub(super) const NAME: &str = "Rampart processes";
/// Of `Microsoft-Windows-Kernel-Process`: starts and ends of processes.
const PROCESSES: u64 = 0x10;
/// Their ids.
const STARTS_AND_ENDS: &[u16] = &[1, 2];
/// How often it is asked how much the session lost.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// Notices that may wait.
const MOST_WAITING: usize = 16_384;

/// What the kernel told.
pub(super) enum Told {
    /// A start or an end.
    Notice(ProcessNotice),
    /// The command line of a start.
    Launch(Launch),
}

/// The notices that come.
pub(super) struct Notices {
    /// With when they were written, in units of 100 ns since 1601.
    received: Receiver<(u64, Told)>,
    has_launches: bool,
    shared: Arc<Shared>,
    stopper: Stopper,
    pumping: Option<JoinHandle<()>>,
    /// Lost in the session, as far as it was told, and when it was asked.
    told: u64,
    asked: Instant,
}

#[derive(Default)]
struct Shared {
    /// That found no room.
    dropped: AtomicU64,
    /// Whose template is missing, or does not fit.
    unread: AtomicU64,
    ended: AtomicBool,
}

impl Notices {
    /// Begins the session. `signal` is set whenever a notice came.
    pub(super) fn begin(signal: Arc<Signal>) -> Result<Self, String> {
        let provider = Provider { id: KERNEL_PROCESS, keywords: PROCESSES, events: STARTS_AND_ENDS };
        // One session for both, so that a start and its command line come in the order in which they were
        // written. There are only eight that may have the kernel's own events.
        let (mut session, has_launches) = match Session::begin_with_kernel(NAME, KERNEL_PROCESSES) {
            Ok(session) => (session, true),
            Err(_) => (Session::begin(NAME).map_err(|error| reason(&error))?, false),
        };
        session.enable(provider).map_err(|error| reason(&error))?;
        let (sender, received) = mpsc::sync_channel(MOST_WAITING);
        let (shared, stopper) = (Arc::new(Shared::default()), session.stopper());
        let pumping = std::thread::Builder::new().name("etw processes".into()).spawn({
            let shared = Arc::clone(&shared);
            move || {
                let mut decoder = Decoder::default();
                let mut came = |record: Record, ask: &AskLayout<'_>| {
                    if let Some(told) = told_of(&record, ask, &mut decoder, &shared) {
                        hand_over((record.time, told), &sender, &shared, &signal);
                    }
                };
                if let Err(error) = session.pump(&mut came) {
                    tracing::warn!(%error, "event tracing of processes broke off");
                }
                shared.ended.store(true, Ordering::Relaxed);
            }
        });
        let pumping = pumping.map_err(|error| reason(&error))?;
        Ok(Self {
            received,
            has_launches,
            shared,
            stopper,
            pumping: Some(pumping),
            told: 0,
            asked: Instant::now(),
        })
    }

    /// The next one that waits.
    pub(super) fn next(&self) -> Option<(u64, Told)> {
        self.received.try_recv().ok()
    }

    /// Whether command lines are told.
    pub(super) fn has_launches(&self) -> bool {
        self.has_launches
    }

    /// Whether somebody ended the session.
    pub(super) fn has_ended(&self) -> bool {
        self.shared.ended.load(Ordering::Relaxed)
    }

    /// How many were lost since this was asked last.
    pub(super) fn take_lost(&mut self) -> u64 {
        let is_due = self.asked.elapsed() >= ASK_EVERY && !self.has_ended();
        let in_session = if is_due { self.stopper.lost().unwrap_or(self.told) } else { self.told };
        if is_due {
            self.asked = Instant::now();
        }
        let new = in_session.saturating_sub(self.told);
        self.told = in_session;
        new + self.shared.dropped.swap(0, Ordering::Relaxed)
    }

    /// How many came that could not be read, since this was asked last.
    pub(super) fn take_unread(&self) -> u64 {
        self.shared.unread.swap(0, Ordering::Relaxed)
    }
}

impl Drop for Notices {
    fn drop(&mut self) {
        // One that has ended by itself is not stopped: it may be another agent's by now.
        if !self.has_ended() {
            self.stopper.stop();
        }
        if let Some(pumping) = self.pumping.take() {
            let _ = pumping.join();
        }
    }
}

/// What a record tells. One that should and can't be read is counted.
fn told_of(record: &Record, ask: &AskLayout<'_>, decoder: &mut Decoder, shared: &Shared) -> Option<Told> {
    match record.provider {
        SYSTEM_PROCESS if record.is_64_bit => {
            launch(record.opcode, record.version, &record.payload).map(Told::Launch)
        }
        KERNEL_PROCESS if STARTS_AND_ENDS.contains(&record.id) => {
            let notice = decoder.event(record, ask).as_ref().and_then(process_notice);
            if notice.is_none() {
                shared.unread.fetch_add(1, Ordering::Relaxed);
            }
            notice.map(Told::Notice)
        }
        _ => None,
    }
}

fn hand_over(told: (u64, Told), sender: &SyncSender<(u64, Told)>, shared: &Shared, signal: &Signal) {
    // A command line that is lost is no start that is lost.
    let counts = matches!(told.1, Told::Notice(_));
    if sender.try_send(told).is_err() && counts {
        shared.dropped.fetch_add(1, Ordering::Relaxed);
    }
    signal.set();
}
