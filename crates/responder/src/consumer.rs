//! From the bus to runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant, SystemTime};

use alert_bus::{AlertBus, BusError, Delivery, Subscription};
use playbook::Alert;

use crate::journal::{Journal, JournalError};
use crate::requests::header;
use crate::runner::{self, now};
use crate::{BusyRun, Context};

/// Runs at once, those that wait for people among them. While there are so many, alerts wait on the bus.
const RUNS_AT_ONCE: usize = 200;
/// How long one look at the bus takes at most.
const LOOK: Duration = Duration::from_secs(1);
/// After a failure of the bus.
const PAUSE: Duration = Duration::from_secs(1);
/// How often journals of old runs are removed.
const FORGET_EVERY: Duration = Duration::from_secs(3_600);
/// Messages of one look.
const AT_ONCE: usize = 20;

/// Takes alerts until told to stop.
#[derive(Debug)]
pub struct Consumer {
    context: Arc<Context>,
    bus: Arc<dyn AlertBus>,
    group: String,
    max_age: Duration,
    running: Arc<AtomicUsize>,
}

/// An alert could not be taken; it comes again.
#[derive(Debug, thiserror::Error)]
enum TakeError {
    #[error(transparent)]
    Bus(#[from] BusError),
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error(transparent)]
    Server(#[from] server_api::ApiError),
}

impl Consumer {
    /// A consumer; nothing happens before [`Self::run`].
    pub fn new(context: Arc<Context>, bus: Arc<dyn AlertBus>, group: String, max_age: Duration) -> Self {
        Self { context, bus, group, max_age, running: Arc::default() }
    }

    /// Goes on with the runs that had not ended, and takes alerts until `stop` is set.
    ///
    /// # Errors
    /// [`JournalError`] if the journals can't be read.
    pub fn run(&self, stop: &AtomicBool) -> Result<(), JournalError> {
        self.forget_old();
        let mut forgot = Instant::now();
        for journal in self.context.journals.open_runs()? {
            match journal {
                Ok(journal) => {
                    tracing::info!(
                        alert = journal.header.alert.id,
                        playbook = journal.header.playbook,
                        "a run goes on"
                    );
                    self.start_free(journal);
                }
                Err(error) => tracing::error!(%error, "a run can't go on"),
            }
        }
        let (_keep, pause) = channel::<()>();
        let mut subscription: Option<Box<dyn Subscription>> = None;
        let mut has_failed = false;
        while !stop.load(Ordering::Relaxed) {
            if forgot.elapsed() >= FORGET_EVERY {
                self.forget_old();
                forgot = Instant::now();
            }
            let free = RUNS_AT_ONCE.saturating_sub(self.running.load(Ordering::Relaxed));
            if free == 0 {
                let _ = pause.recv_timeout(Duration::from_millis(100));
                continue;
            }
            match self.look(&mut subscription, free.min(AT_ONCE)) {
                Ok(()) if has_failed => {
                    has_failed = false;
                    tracing::info!("alerts come again");
                }
                Ok(()) => {}
                Err(error) => {
                    if !has_failed {
                        tracing::warn!(%error, "alerts can't be taken; it is tried again");
                    }
                    has_failed = true;
                    subscription = None;
                    let _ = pause.recv_timeout(PAUSE);
                }
            }
        }
        Ok(())
    }

    fn forget_old(&self) {
        match self.context.journals.forget_old(SystemTime::now()) {
            Ok(0) => {}
            Ok(forgotten) => tracing::info!(forgotten, "journals of old runs were removed"),
            Err(error) => tracing::warn!(%error, "journals of old runs can't be removed"),
        }
    }

    fn look(&self, kept: &mut Option<Box<dyn Subscription>>, limit: usize) -> Result<(), TakeError> {
        let subscription = match kept {
            Some(subscription) => subscription,
            None => {
                let made = self.bus.subscribe(&self.group, self.context.journals.instance())?;
                tracing::info!(group = self.group, "waiting for alerts");
                kept.insert(made)
            }
        };
        for delivery in subscription.receive(limit, LOOK)? {
            self.take(&delivery)?;
            // Only now: every run that comes of it has its journal.
            subscription.acknowledge(&delivery)?;
        }
        Ok(())
    }

    fn take(&self, delivery: &Delivery) -> Result<(), TakeError> {
        let message = &delivery.message;
        if let Ok(told) = Alert::from_json(message.payload.as_bytes())
            && !message.payload.contains("\"shortened\":true")
            && self.context.library.triggered(&told).next().is_none()
        {
            return Ok(());
        }
        // The bus is transport: whoever can write to the broker must not choose what is acted on. So it is
        // the server's alert that counts, also where the message has it whole.
        let alert = match self.context.server.alert(&message.id) {
            Ok((alert, _)) => alert,
            Err(server_api::ApiError::Refused { status, detail }) if status < 500 => {
                tracing::error!(
                    alert = message.id,
                    status,
                    detail,
                    "a message is left: the server does not have its alert"
                );
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        let age = now().as_nanos().saturating_sub(alert.time.as_nanos());
        let is_old = u128::try_from(age).is_ok_and(|age| age > self.max_age.as_nanos());
        for playbook in self.context.library.triggered(&alert) {
            if is_old {
                tracing::warn!(
                    alert = alert.id,
                    playbook = playbook.id,
                    "not run: the alert is older than -max-age"
                );
                continue;
            }
            let owner = self.claim(&format!("{}/{}", alert.id, playbook.id))?;
            if owner != self.context.journals.instance() {
                tracing::debug!(alert = alert.id, playbook = playbook.id, owner, "another responder has it");
                continue;
            }
            if let Some(journal) = self.context.journals.begin(header(alert.clone(), playbook, ""))? {
                tracing::info!(alert = alert.id, playbook = playbook.id, mode = %playbook.mode, "a run begins");
                self.start_free(journal);
            }
        }
        Ok(())
    }

    pub(crate) fn context(&self) -> &Arc<Context> {
        &self.context
    }

    /// Who does it: this responder, or the one that was first.
    pub(crate) fn claim(&self, key: &str) -> Result<String, BusError> {
        self.bus.claim(key, self.context.journals.instance())
    }

    fn start_free(&self, journal: Journal) {
        let header = &journal.header;
        match self.context.busy.take(&header.alert.id, &header.playbook) {
            Some(busy) => self.start(journal, busy),
            None => tracing::debug!(alert = header.alert.id, playbook = header.playbook, "a thread is at it"),
        }
    }

    pub(crate) fn start(&self, journal: Journal, busy: BusyRun) {
        self.spawn(move |context| {
            if let Err(error) = runner::run(context, journal) {
                tracing::error!(%error, "a run stands still until the responder is started again");
            }
            drop(busy);
        });
    }

    pub(crate) fn spawn(&self, work: impl FnOnce(&Arc<Context>) + Send + 'static) {
        let (context, running) = (Arc::clone(&self.context), Arc::clone(&self.running));
        running.fetch_add(1, Ordering::Relaxed);
        let work = move || {
            work(&context);
            running.fetch_sub(1, Ordering::Relaxed);
        };
        if let Err(error) = std::thread::Builder::new().name("run".to_owned()).spawn(work) {
            self.running.fetch_sub(1, Ordering::Relaxed);
            tracing::error!(%error, "no thread for a run; it goes on when the responder is started again");
        }
    }
}
