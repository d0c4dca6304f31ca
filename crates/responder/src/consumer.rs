//! From the bus to runs.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use alert_bus::{AlertBus, BusError, Delivery, Subscription};
use playbook::{Alert, Playbook};

use crate::journal::{Header, Journal, JournalError, RunKey};
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
/// Limits in spans of time that are remembered; past them all are looked for anew.
const MOST_LIMITS: usize = 10_000;
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
    /// Runs with a journal of which it is not known yet whose they are.
    unclaimed: Mutex<BTreeSet<RunKey>>,
    /// Places of limits that are known to be taken.
    places: Mutex<HashMap<String, Places>>,
}

/// The places of one limit in one span of time.
#[derive(Debug, Default)]
struct Places {
    /// The first one that may be free.
    next: u32,
    /// Runs of this responder that have one.
    runs: HashSet<String>,
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
        Self {
            context,
            bus,
            group,
            max_age,
            running: Arc::default(),
            unclaimed: Mutex::default(),
            places: Mutex::default(),
        }
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
                // The crash came before it was known whose run it is.
                Ok(journal) if journal.is_untouched() => self.note_unclaimed(journal.header.key()),
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
                if let Some(advice) = self.bus.durability()? {
                    tracing::warn!(advice, "the alert bus may lose alerts and claims of runs");
                }
                tracing::info!(group = self.group, "waiting for alerts");
                kept.insert(made)
            }
        };
        self.settle()?;
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
        let (id, generation) = telling(&message.id);
        // The bus is transport: whoever can write to the broker must not choose what is acted on. So it is
        // the server's alert that counts, also where the message has it whole.
        let alert = match self.context.server.alert(id, generation) {
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
        let is_old = self.is_old(&alert);
        for playbook in self.context.library.triggered(&alert) {
            if is_old {
                tracing::warn!(
                    alert = alert.id,
                    playbook = playbook.id,
                    "not run: the alert is older than -max-age"
                );
                continue;
            }
            if !self.is_within_limit(&alert, playbook)? {
                continue;
            }
            if let Some((journal, busy)) = self.begin::<TakeError>(header(alert.clone(), playbook, ""))?
                && journal.is_untouched()
            {
                tracing::info!(alert = alert.id, playbook = playbook.id, mode = %playbook.mode, "a run begins");
                self.start(journal, busy);
            }
        }
        Ok(())
    }

    /// Whether the playbook may run once more for this alert and this host. All responders of a bus share the places
    /// that there are in a span of time; a run that asks again has the place that it had.
    fn is_within_limit(&self, alert: &Alert, playbook: &Playbook) -> Result<bool, TakeError> {
        let limit = &playbook.limit;
        let run =
            RunKey { alert: alert.id.clone(), playbook: playbook.id.clone(), generation: alert.generation };
        // By the clock here: the alert's own time is what a host says.
        let span = i64::try_from(limit.within.as_nanos()).unwrap_or(i64::MAX).max(1);
        let number = now().as_nanos().div_euclid(span);
        let (id, host) = (&playbook.id, &alert.host_id);
        for (whose, most) in
            [(format!("alert/{}", alert.id), limit.of_alert), (format!("host/{host}"), limit.of_host)]
        {
            if !self.has_place(&format!("limit/{id}/{whose}/{number}"), most, &run.to_string())? {
                tracing::warn!(%run, host, "not run: the playbook has run as often as its `limit` allows");
                let text = format!(
                    "playbook {id}: not run again: within {:?} it runs at most {} times for an alert and {} times for a host",
                    limit.within, limit.of_alert, limit.of_host
                );
                runner::note(&self.context, &alert.id, &text);
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn has_place(&self, places: &str, most: u32, run: &str) -> Result<bool, BusError> {
        let mut known = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MOST_LIMITS {
            known.clear();
        }
        let own = known.entry(places.to_owned()).or_default();
        if own.runs.contains(run) {
            return Ok(true);
        }
        // Each place is asked for once: a long search would keep the next alerts waiting.
        while own.next < most {
            let has_it = self.bus.claim(&format!("{places}/{}", own.next), run)? == run;
            own.next += 1;
            if has_it {
                own.runs.insert(run.to_owned());
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn is_old(&self, alert: &Alert) -> bool {
        let age = now().as_nanos().saturating_sub(alert.time.as_nanos());
        u128::try_from(age).is_ok_and(|age| age > self.max_age.as_nanos())
    }

    /// The journal of a run that is this responder's; `None` where it is another's, or a thread is at it.
    ///
    /// The journal is written before the claim. The other way round, a full disk or a crash in between would leave
    /// a run that every other responder takes for done, and that nobody does.
    pub(crate) fn begin<E>(&self, header: Header) -> Result<Option<(Journal, BusyRun)>, E>
    where
        E: From<BusError> + From<JournalError>,
    {
        let key = header.key();
        let Some(busy) = self.context.busy.take(&key) else {
            tracing::debug!(%key, "a thread is at it");
            return Ok(None);
        };
        let journal = match self.context.journals.begin(header)? {
            Some(journal) => Some(journal),
            None => self.context.journals.find(&key)?,
        };
        let Some(journal) = journal else { return Ok(None) };
        Ok(self.claimed(journal)?.map(|journal| (journal, busy)))
    }

    /// The journal again, if the run is this responder's; otherwise it goes.
    fn claimed(&self, journal: Journal) -> Result<Option<Journal>, BusError> {
        // What has an entry was claimed before that was written.
        if !journal.is_untouched() {
            return Ok(Some(journal));
        }
        let key = journal.header.key();
        let owner = match self.claim(&key.to_string()) {
            Ok(owner) => owner,
            Err(error) => {
                // The bus may have noted the claim: then nobody else will ask about this run again.
                self.note_unclaimed(key);
                return Err(error);
            }
        };
        if owner == self.context.journals.instance() {
            return Ok(Some(journal));
        }
        tracing::debug!(%key, owner, "another responder has it");
        if let Err(error) = journal.withdraw() {
            tracing::warn!(%error, "the journal of another responder's run stays");
        }
        Ok(None)
    }

    fn note_unclaimed(&self, key: RunKey) {
        self.unclaimed.lock().unwrap_or_else(PoisonError::into_inner).insert(key);
    }

    /// Finds out whose the runs are that have a journal here and no answer of the bus yet.
    fn settle(&self) -> Result<(), TakeError> {
        let keys: Vec<RunKey> =
            self.unclaimed.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect();
        for key in keys {
            // A thread that is at it asked by itself.
            if let Some(busy) = self.context.busy.take(&key)
                && let Some(journal) = self.context.journals.find(&key)?
                && journal.is_untouched()
                && let Some(journal) = self.claimed(journal)?
            {
                self.go_on(journal, busy)?;
            }
            self.unclaimed.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
        }
        Ok(())
    }

    /// Begins what was left before its first step.
    fn go_on(&self, mut journal: Journal, busy: BusyRun) -> Result<(), JournalError> {
        let header = &journal.header;
        if header.requested_by.is_empty() && self.is_old(&header.alert) {
            let reason = "the alert is older than -max-age";
            return runner::abandon(&self.context, &mut journal, reason).map(|_| ());
        }
        tracing::info!(key = %header.key(), "a run begins that was left before its first step");
        self.start(journal, busy);
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
        match self.context.busy.take(&header.key()) {
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

/// The alert that a message tells of, and which telling it is.
fn telling(message: &str) -> (&str, u32) {
    let parts = message.split_once('/');
    let number = parts.and_then(|(id, number)| Some((id, number.parse().ok()?)));
    number.unwrap_or((message, 0))
}

#[cfg(test)]
mod tests;
