//! The thread that carries out orders, those of rules and those of the server.
//!
//! The pipeline waits for nobody, so it only hands orders over: what waits has a
//! bound. What a rule asks for and does not fit is refused with a receipt; what the
//! server orders and does not fit is left unanswered, so that it asks again. The
//! same thread looks now and then whether what is in force (an isolation) still is.

mod orders;

use std::fs::DirBuilder;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError, SyncSender, TrySendError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use event_model::{BootId, EventType, Field, Value};
use os_files::DirBuilderExt as _;
use response::{
    Action, Clock, Guards, Lineage, Notice, Order, OrderState, Receipt, Responder, ResponderParts, Signature,
    Switch, ThisHost,
};
use sensor_api::{ObservationSender, ObservedActivity, ProcessClock};
use uuid::Uuid;

use self::orders::{Job, MOST_OF_RULES, Orders, Taken};
use crate::clock::boot_ns;
use crate::run_state::Caution;
use crate::uplink::identity::Identity;
use crate::uplink::server_address::ServerAddress;

/// Refused commands that become events in any minute.
const MOST_REFUSALS_TOLD: u32 = 20;

/// How often what is in force is looked at.
const WATCH_EVERY: Duration = Duration::from_secs(15);

/// How long an order that could cut the link waits for the first look-up of the server's name.
const FIRST_LOOK: Duration = Duration::from_secs(5);

/// What the thread works with.
pub struct RespondingParts {
    /// Folder of its own, in the state directory.
    pub dir: PathBuf,
    /// Where quarantined files go; in `dir` if not given.
    pub vault: Option<PathBuf>,
    /// Tells lives of a PID apart.
    pub processes: Arc<dyn ProcessClock>,
    /// Who came of whom, as the pipeline sees it.
    pub lineage: Arc<Lineage>,
    /// The boot.
    pub boot: BootId,
    /// Wall clock.
    pub clock: Clock,
    /// The server, the link to which no action may cut; `None` without a server.
    pub server: Option<ServerAddress>,
    /// Programs of the operator's own that are protected too.
    pub protected: Vec<PathBuf>,
    /// In safe mode nothing is acted on; to look and to let go is allowed.
    pub caution: Caution,
    /// Takes what somebody does to the response itself: it goes the way of all events, so that the server
    /// hears of it also when it could not be reached at that time.
    pub tell: ObservationSender,
}

/// The way to the thread. It ends when the last of these is dropped.
#[derive(Clone)]
pub struct Responding {
    orders: Arc<Orders>,
    /// Says that there is something to do. One that waits says it for all.
    wake: SyncSender<()>,
    switch: Switch,
    tell: ObservationSender,
    /// Begin of a minute, and refused commands that were told of in it.
    told: Arc<Mutex<(Instant, u32)>>,
}

impl Responding {
    /// Starts the thread. A folder that can't be used does not keep the agent from watching: then
    /// every order is refused with that reason.
    ///
    /// # Errors
    /// The system refused a thread.
    pub fn start(parts: RespondingParts) -> std::io::Result<Self> {
        let (wake, woken) = mpsc::sync_channel(1);
        let orders = Arc::new(Orders::default());
        let switch = Switch::default();
        // Made here: whoever watches the state directory begins after it.
        let opened = open(&parts, switch.clone());
        let tell = parts.tell.clone();
        let work = Work { orders: Arc::clone(&orders), woken };
        std::thread::Builder::new().name("respond".into()).spawn(move || run(&parts, opened, &work))?;
        Ok(Self { orders, wake, switch, tell, told: Arc::new(Mutex::new((Instant::now(), 0))) })
    }

    /// Tells the server that a command came over its own link that is not its own, or not for this host.
    pub fn tell_of_refused_command(&self, reason: &str) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.0.elapsed() >= Duration::from_secs(60) {
            *told = (Instant::now(), 0);
        }
        told.1 += 1;
        // Each is in the log. Events of this kind are never shed, so who sends commands must not fill the spool.
        if told.1 <= MOST_REFUSALS_TOLD {
            tell(&self.tell, "command_refused", None, reason);
        }
    }

    /// Stops all response of this host, also what does not go through this thread.
    pub fn switch(&self) -> &Switch {
        &self.switch
    }

    /// Hands over what a rule asks for. Where too much of that waits it is refused at once.
    pub fn order(&self, order: Order, answer: impl FnOnce(Receipt) + Send + 'static) {
        if let Some((order, answer)) = self.orders.take_in_of_rule(order, Box::new(answer)) {
            let reason = format!("{MOST_OF_RULES} orders of rules wait already; nothing was done");
            return answer(refusal(&order, reason));
        }
        if self.wake_up().is_err() {
            for (order, answer) in self.orders.give_up_of_rules() {
                let reason = "the thread that carries out orders has ended; nothing was done";
                answer(refusal(&order, reason.to_owned()));
            }
        }
    }

    /// Hands over an order of the server. One that waits or is being done already is not taken twice, and
    /// whoever asked last is told. Where too many wait it is not answered: a receipt would say for good what
    /// became of the order, and the server asks again on its next link.
    pub fn command(&self, order: Order, answer: impl FnOnce(Receipt) + Send + 'static) {
        let id = order.id;
        match self.orders.take_in_of_server(order, Box::new(answer)) {
            Taken::In => {
                // Where nobody is there to do it there is no answer, and the server asks again.
                let _ = self.wake_up();
            }
            Taken::Again => tracing::debug!(%id, "an order came again before it was done"),
            Taken::NoRoom => {
                tracing::warn!(%id, "too many orders wait, one is left to be asked for again by the server");
            }
        }
    }

    /// An error where nobody is there to be woken.
    fn wake_up(&self) -> Result<(), TrySendError<()>> {
        match self.wake.try_send(()) {
            Err(TrySendError::Full(())) => Ok(()),
            other => other,
        }
    }
}

/// Lets this host go by its code: leaves it for the agent, and waits until the agent has taken it.
///
/// # Errors
/// What stands against it, in words for a person.
pub fn release_by_code(state_dir: &Path, code: &str) -> Result<String, String> {
    let dir = state_dir.join("responses");
    if !response::is_isolation_noted(&dir) {
        return Err(format!(
            "{}: this host is not isolated, as far as this folder says; hint: give the -state of the agent",
            dir.display()
        ));
    }
    response::leave_release_code(&dir, code).map_err(|error| format!("{}: {error}", dir.display()))?;
    let began = Instant::now();
    let (_keep, pause) = mpsc::channel::<()>();
    while response::is_release_code_waiting(&dir) {
        if began.elapsed() > 3 * WATCH_EVERY {
            return Err(
                "no agent took the code; hint: start the agent, it looks for the code at once".to_owned()
            );
        }
        let _ = pause.recv_timeout(Duration::from_millis(100));
    }
    // Taken first, then acted on.
    while response::is_isolation_noted(&dir) {
        if began.elapsed() > 4 * WATCH_EVERY {
            return Err("the agent did not let the host go: the code is not that of this isolation, or the \
                        firewall refused; its log says which"
                .to_owned());
        }
        let _ = pause.recv_timeout(Duration::from_millis(100));
    }
    Ok("the host is released".to_owned())
}

fn open(parts: &RespondingParts, switch: Switch) -> std::io::Result<Responder> {
    DirBuilder::new().recursive(true).mode(0o700).create(&parts.dir)?;
    let vault = parts.vault.clone().unwrap_or_else(|| parts.dir.join("vault"));
    let platform = ThisHost::new(Arc::clone(&parts.processes), parts.boot, parts.dir.clone(), &vault)?;
    let platform = platform.know(Arc::clone(&parts.lineage));
    let platform = match parts.dir.parent().map(PathBuf::from) {
        Some(state) => platform.sign_with(Box::new(move |text| signature(&state, text))),
        None => platform,
    };
    let mut guards = Guards::of_this_host();
    guards.protect(parts.protected.iter().cloned());
    // The folder of all that the agent keeps is the one around this.
    let own = parts.dir.parent().map(PathBuf::from).into_iter();
    guards.protect_folders(own.chain([vault]));
    let (responder, found) = Responder::open(ResponderParts {
        dir: parts.dir.clone(),
        platform: Box::new(platform),
        guards,
        switch,
        clock: Arc::clone(&parts.clock),
        checkpoint: None,
    })?;
    for note in found.notes {
        tracing::warn!(note, "response");
    }
    for receipt in found.receipts {
        // Whoever ordered it asks again, and is given this receipt.
        tracing::warn!(
            id = %receipt.id, action = receipt.action, state = %receipt.state, reason = receipt.reason,
            "an order that the end of the agent interrupted"
        );
    }
    Ok(responder)
}

/// By the key of the certificate that the server gave; read anew, since it is renewed.
fn signature(state: &Path, text: &[u8]) -> Option<Signature> {
    let identity = match Identity::load(state) {
        Ok(identity) => identity?,
        Err(error) => {
            tracing::warn!(%error, "evidence can't be signed");
            return None;
        }
    };
    let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &identity.private_key).ok()?;
    let signature = key.sign(&SystemRandom::new(), text).ok()?.as_ref().to_vec();
    Some(Signature { signature, certificate: identity.certificate })
}

/// The thread's side of what is handed over.
struct Work {
    orders: Arc<Orders>,
    woken: mpsc::Receiver<()>,
}

impl Work {
    /// Does what waits; then waits for more, at most for `limit`. False once nobody can hand anything over.
    fn turn(&self, limit: Duration, mut carry_out: impl FnMut(Order) -> Receipt) -> bool {
        let (receipt, answer) = match self.orders.next() {
            Some(Job::OfRule(order, answer)) => (carry_out(order), Some(answer)),
            Some(Job::OfServer(order)) => {
                let id = order.id;
                // Asked for afterwards: it may have come again in the meantime.
                (carry_out(order), self.orders.answer_of(id))
            }
            None => return self.woken.recv_timeout(limit) != Err(RecvTimeoutError::Disconnected),
        };
        if let Some(answer) = answer {
            answer(receipt);
        }
        true
    }
}

fn run(parts: &RespondingParts, opened: std::io::Result<Responder>, work: &Work) {
    let mut responder = match opened {
        Ok(responder) => responder,
        Err(error) => {
            let reason = format!("response is not available: {}: {error}", parts.dir.display());
            tracing::error!(reason, "response");
            while work.turn(WATCH_EVERY, |order| refusal(&order, reason.clone())) {}
            return;
        }
    };
    if let Some(server) = &parts.server {
        responder.expect_server(server.to_string());
    }
    let mut watched: Option<Instant> = None;
    loop {
        let mut pause = WATCH_EVERY;
        if let Some(server) = &parts.server {
            server.look_if_due();
            pause = pause.min(server.next_look_in());
        }
        if watched.is_none_or(|at| at.elapsed() >= WATCH_EVERY) {
            for Notice { text, interference, order } in responder.watch() {
                tracing::warn!(text, "response");
                if let Some(what) = interference {
                    tell(&parts.tell, what.as_str(), order, &text);
                }
            }
            watched = Some(Instant::now());
        }
        if !work.turn(pause, |order| carry_out(parts, &mut responder, order)) {
            return;
        }
    }
}

fn carry_out(parts: &RespondingParts, responder: &mut Responder, order: Order) -> Receipt {
    if let Some(server) = &parts.server {
        if matches!(order.action, Action::IsolateHost(_) | Action::BlockAddress(_)) {
            server.wait_for_first_look(FIRST_LOOK);
        }
        responder.keep_server(server.known());
    }
    let free = order.action.only_looks() || order.action.is_release() || order.dry_run;
    // What was done before the crashes is answered with what became of it.
    let is_new = !responder.knows(order.id);
    let receipt = match parts.caution == Caution::SafeMode && !free && is_new {
        true => {
            refusal(&order, "the agent is in safe mode after repeated crashes, it does not act".to_owned())
        }
        false => responder.run(order),
    };
    tracing::info!(
        id = %receipt.id, action = receipt.action, state = %receipt.state, reason = receipt.reason,
        "order"
    );
    receipt
}

/// Somebody acted on the response itself. `item` is the order that it was about.
fn tell(sender: &ObservationSender, what: &'static str, item: Option<Uuid>, reason: &str) {
    let mut fields = vec![
        (Field::AgentTampered, Value::Text(what.to_owned())),
        (Field::EventReason, Value::Text(reason.to_owned())),
    ];
    fields.extend(item.map(|id| (Field::AgentOrder, Value::Text(id.to_string()))));
    let event_type = EventType::AgentTamper;
    sender.send(boot_ns(), ObservedActivity { event_type, actor: None, target: None, fields });
}

fn refusal(order: &Order, reason: String) -> Receipt {
    Receipt {
        id: order.id,
        action: order.action.word().to_owned(),
        state: OrderState::Refused,
        reason,
        plan: Vec::new(),
        steps: Vec::new(),
        undo: None,
        result: serde_json::Value::Null,
    }
}
