//! Starts and ends of processes as the kernel tells them, by a session of event tracing on a thread of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread::JoinHandle;

use win32::etw::{Provider, Record, Session, Stopper};
use win32::event::Event as Signal;

use crate::etw::{KERNEL_PROCESS, ProcessNotice, event_of, process_notice, reason};

const NAME: &str = "Rampart processes";
/// Of `Microsoft-Windows-Kernel-Process`: starts and ends of processes.
const PROCESSES: u64 = 0x10;
/// Notices that may wait.
const MOST_WAITING: usize = 16_384;

/// The notices that come.
pub(super) struct Notices {
    received: Receiver<ProcessNotice>,
    shared: Arc<Shared>,
    stopper: Stopper,
    pumping: Option<JoinHandle<()>>,
    /// Lost in the session, as far as it was told.
    told: u64,
}

#[derive(Default)]
struct Shared {
    /// That found no room.
    dropped: AtomicU64,
    ended: AtomicBool,
}

impl Notices {
    /// Begins the session. `signal` is set whenever a notice came.
    pub(super) fn begin(signal: Arc<Signal>) -> Result<Self, String> {
        let providers = [Provider { id: KERNEL_PROCESS, keywords: PROCESSES }];
        let mut session = Session::begin(NAME, &providers).map_err(|error| reason(&error))?;
        let (sender, received) = mpsc::sync_channel(MOST_WAITING);
        let (shared, stopper) = (Arc::new(Shared::default()), session.stopper());
        let pumping = std::thread::Builder::new().name("etw processes".into()).spawn({
            let shared = Arc::clone(&shared);
            move || {
                if let Err(error) = session.pump(&mut |record| hand_over(record, &sender, &shared, &signal)) {
                    tracing::warn!(%error, "event tracing of processes broke off");
                }
                shared.ended.store(true, Ordering::Relaxed);
            }
        });
        let pumping = pumping.map_err(|error| reason(&error))?;
        Ok(Self { received, shared, stopper, pumping: Some(pumping), told: 0 })
    }

    /// The next one that waits.
    pub(super) fn next(&self) -> Option<ProcessNotice> {
        self.received.try_recv().ok()
    }

    /// Whether somebody ended the session.
    pub(super) fn has_ended(&self) -> bool {
        self.shared.ended.load(Ordering::Relaxed)
    }

    /// How many were lost since this was asked last.
    pub(super) fn take_lost(&mut self) -> u64 {
        let in_session = self.stopper.lost().unwrap_or(self.told);
        let new = in_session.saturating_sub(self.told);
        self.told = in_session;
        new + self.shared.dropped.swap(0, Ordering::Relaxed)
    }
}

impl Drop for Notices {
    fn drop(&mut self) {
        self.stopper.stop();
        if let Some(pumping) = self.pumping.take() {
            let _ = pumping.join();
        }
    }
}

fn hand_over(record: Record, sender: &SyncSender<ProcessNotice>, shared: &Shared, signal: &Signal) {
    let Some(notice) = event_of(record).as_ref().and_then(process_notice) else { return };
    if sender.try_send(notice).is_err() {
        shared.dropped.fetch_add(1, Ordering::Relaxed);
    }
    signal.set();
}
