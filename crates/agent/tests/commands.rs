//! What the server orders, on its way to the thread that acts: over a real connection, and where too much waits.

#![allow(clippy::unwrap_used, reason = "a failed expectation is the report")]

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use agent::host::HostFacts;
use agent::options::{Asked, read};
use agent::responding::{Responding, RespondingParts};
use agent::rules::RuleBook;
use agent::run_state::Caution;
use agent::server_mark::ServerMark;
use agent::uplink::Uplink;
use agent::uplink::identity::Identity;
use agent::uplink::server_address::ServerAddress;
use aws_lc_rs::signature::Ed25519KeyPair;
use event_model::{BootId, DetectionId, EventType, Field, HostId, ResponseMode, RuleId, Timestamp, Value};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use protocol::bundle::public_command_key;
use protocol::command::sign_command;
use protocol::link::agent_link_server::{AgentLink, AgentLinkServer};
use protocol::link::agent_message::Message as FromAgent;
use protocol::link::server_message::Message as ToAgent;
use protocol::link::{
    AgentMessage, Command, CommandReceipt, EnrollReply, EnrollRequest, HighWaterMarks, KeysReply,
    KeysRequest, RenewReply, RenewRequest, ServerMessage, SignedCommand,
};
use rcgen::{CertificateParams, KeyPair};
use response::{
    Action, AddressTarget, Clock, Consent, FileTarget, Isolation, Order, OrderState, Origin, Receipt,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use sensor_api::{Observation, ObservationQueue, ProcessClock, observation_queue};
use spool::{Spool, SpoolOptions};
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use uuid::Uuid;

const LIMIT: Duration = Duration::from_secs(60);

struct NoProcesses;

impl ProcessClock for NoProcesses {
    fn start_ns(&self, _pid: u32) -> Option<u64> {
        None
    }

    fn precision_ns(&self) -> u64 {
        1
    }
}

/// Where the thread waits in the middle of an order, until it may go on.
#[derive(Default)]
struct Gate {
    /// Whether somebody waits at it, and whether it is open.
    state: Mutex<(bool, bool)>,
    changed: Condvar,
}

impl Gate {
    /// The wall clock, which is asked at the begin of each order.
    fn clock(self: &Arc<Self>) -> Clock {
        let gate = Arc::clone(self);
        Arc::new(move || {
            let mut state = gate.state.lock().unwrap();
            state.0 = true;
            gate.changed.notify_all();
            drop(gate.changed.wait_while(state, |(_, is_open)| !*is_open).unwrap());
            Timestamp::from_nanos(1)
        })
    }

    fn wait_for_the_thread(&self) {
        let state = self.state.lock().unwrap();
        let (state, timeout) =
            self.changed.wait_timeout_while(state, LIMIT, |(somebody, _)| !*somebody).unwrap();
        assert!(!timeout.timed_out() && state.0, "the thread began no order");
    }

    fn open(&self) {
        self.state.lock().unwrap().1 = true;
        self.changed.notify_all();
    }
}

fn responding(dir: &Path, clock: Clock, server: Option<ServerAddress>) -> (Responding, ObservationQueue) {
    let (tell, told) = observation_queue(1_000);
    let responding = Responding::start(RespondingParts {
        dir: dir.join("responses"),
        vault: None,
        processes: Arc::new(NoProcesses),
        boot: BootId::from_uuid(Uuid::from_u128(1)),
        clock,
        server,
        protected: Vec::new(),
        caution: Caution::Normal,
        lineage: Arc::default(),
        tell,
    });
    (responding.unwrap(), told)
}

fn order(id: u128, action: Action, origin: Origin) -> Order {
    Order { id: Uuid::from_u128(id), action, origin, dry_run: false, expires_at: Timestamp::from_nanos(2) }
}

fn of_server(id: u128, action: Action) -> Order {
    order(id, action, Origin::Command { user: "eve".to_owned(), consent: Consent::default() })
}

/// One that is soon done: there is no such file.
fn of_rule(id: u128) -> Order {
    let path = "/nowhere/at/all".to_owned();
    let action = Action::QuarantineFile(FileTarget { path, sha256: None, file: None });
    let detection_id = DetectionId::from_uuid(Uuid::from_u128(id));
    order(id, action, Origin::Rule { rule_id: RuleId::new("1"), detection_id, mode: ResponseMode::Auto })
}

fn looks(id: u128) -> Order {
    of_server(id, Action::ListProcesses {})
}

/// Gives the answer on, with the link on which it was given.
fn to(answers: &Sender<(u32, Receipt)>, link: u32) -> impl FnOnce(Receipt) + Send + 'static {
    let answers = answers.clone();
    // Nobody listens any more once the test has failed.
    move |receipt| drop(answers.send((link, receipt)))
}

/// The link breaks while orders are done and wait, and the server asks again on the next one: each is done once, and
/// told on the link that there is, with what became of it. That it was not done nobody says.
#[test]
fn orders_that_come_again_while_they_wait_are_told_once_and_truly() {
    let dir = tempfile::tempdir().unwrap();
    let gate = Arc::new(Gate::default());
    let (responding, _told) = responding(dir.path(), gate.clock(), None);
    let (answers, answered) = channel();
    responding.command(looks(1), to(&answers, 1));
    gate.wait_for_the_thread();
    responding.command(looks(2), to(&answers, 1));
    responding.command(looks(3), to(&answers, 1));
    // One that is being done, and one that waits.
    responding.command(looks(1), to(&answers, 2));
    responding.command(looks(3), to(&answers, 2));
    assert!(answered.try_recv().is_err(), "nothing is answered before it is done");
    gate.open();
    for (id, link) in [(1, 2), (2, 1), (3, 2)] {
        let (on, receipt) = answered.recv_timeout(LIMIT).unwrap();
        assert_eq!((receipt.id, on), (Uuid::from_u128(id), link));
        assert_eq!(receipt.state, OrderState::Verified, "{}", receipt.reason);
    }
    // Asked for once more when it is done: the same answer.
    responding.command(looks(2), to(&answers, 2));
    let (on, receipt) = answered.recv_timeout(LIMIT).unwrap();
    assert_eq!((receipt.id, receipt.state, on), (Uuid::from_u128(2), OrderState::Verified, 2));
    assert!(answered.try_recv().is_err(), "each is told once");
}

#[test]
fn however_much_rules_ask_for_a_persons_order_is_taken_and_comes_next() {
    let dir = tempfile::tempdir().unwrap();
    let gate = Arc::new(Gate::default());
    let (responding, _told) = responding(dir.path(), gate.clock(), None);
    let (answers, answered) = channel();
    responding.order(of_rule(1), to(&answers, 1));
    gate.wait_for_the_thread();
    for id in 2..=258 {
        responding.order(of_rule(id), to(&answers, 1));
    }
    let (_, refused) = answered.try_recv().unwrap();
    assert_eq!((refused.id, refused.state), (Uuid::from_u128(258), OrderState::Refused));
    assert!(refused.reason.contains("256 orders of rules wait already"), "{}", refused.reason);
    responding.command(of_server(1_000, Action::StopResponses {}), to(&answers, 2));
    gate.open();
    let (_, begun) = answered.recv_timeout(LIMIT).unwrap();
    assert_eq!(begun.id, Uuid::from_u128(1), "what was begun");
    let (link, stopped) = answered.recv_timeout(LIMIT).unwrap();
    assert_eq!((link, stopped.state), (2, OrderState::Verified), "{}", stopped.reason);
    let (_, next) = answered.recv_timeout(LIMIT).unwrap();
    assert!(next.reason.contains("all response is stopped"), "{}", next.reason);
}

/// A server that is configured by a name which was never found.
#[test]
fn a_host_is_not_cut_off_from_a_server_of_which_no_address_is_known() {
    let dir = tempfile::tempdir().unwrap();
    // No name has a part of more than 63 characters.
    let url = format!("https://{}.invalid", "x".repeat(64));
    let server = ServerAddress::parse(&url).unwrap().remember_in(dir.path());
    let (responding, _told) = responding(dir.path(), Arc::new(|| Timestamp::from_nanos(1)), Some(server));
    let (answers, answered) = channel();
    let isolate = Isolation { ttl_seconds: 60, keep: Vec::new(), release_hash: None };
    let block = AddressTarget { address: "192.0.2.7".parse().unwrap(), ttl_seconds: 60 };
    for (id, action) in [(1, Action::IsolateHost(isolate)), (2, Action::BlockAddress(block))] {
        // Were it not refused, this machine would be cut off.
        let order = Order { dry_run: true, ..of_server(id, action) };
        responding.command(order, to(&answers, 1));
        let (_, receipt) = answered.recv_timeout(LIMIT).unwrap();
        assert_eq!(receipt.state, OrderState::Refused, "{}", receipt.reason);
        assert!(
            receipt.reason.contains(&format!("no address of the server {url}:8443")),
            "{}",
            receipt.reason
        );
        assert!(receipt.reason.contains("hint: "), "{}", receipt.reason);
    }
}

/// A server that sends commands to every agent and notes what comes back.
struct Server {
    commands: Vec<SignedCommand>,
    receipts: mpsc::UnboundedSender<CommandReceipt>,
}

#[tonic::async_trait]
impl AgentLink for Server {
    type ConnectStream = ReceiverStream<Result<ServerMessage, Status>>;

    async fn keys(&self, _: Request<KeysRequest>) -> Result<Response<KeysReply>, Status> {
        Err(Status::unimplemented("not asked for here"))
    }

    async fn enroll(&self, _: Request<EnrollRequest>) -> Result<Response<EnrollReply>, Status> {
        Err(Status::unimplemented("not asked for here"))
    }

    async fn renew(&self, _: Request<RenewRequest>) -> Result<Response<RenewReply>, Status> {
        Err(Status::unimplemented("not asked for here"))
    }

    async fn connect(
        &self,
        request: Request<Streaming<AgentMessage>>,
    ) -> Result<Response<Self::ConnectStream>, Status> {
        let (outgoing, to_agent) = mpsc::channel(16);
        let (commands, receipts, mut incoming) =
            (self.commands.clone(), self.receipts.clone(), request.into_inner());
        tokio::spawn(async move {
            let marks = ToAgent::HighWaterMarks(HighWaterMarks::default());
            let commands = commands.into_iter().map(ToAgent::Command);
            for message in std::iter::once(marks).chain(commands) {
                outgoing.send(Ok(ServerMessage { message: Some(message) })).await.unwrap();
            }
            while let Ok(Some(message)) = incoming.message().await {
                if let Some(FromAgent::CommandReceipt(receipt)) = message.message {
                    receipts.send(receipt).unwrap();
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(to_agent)))
    }
}

/// Serves it on this machine: its port and its certificate.
async fn serve(server: Server) -> (u16, Vec<u8>) {
    let key = KeyPair::generate().unwrap();
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let certificate = CertificateParams::new(names).unwrap().self_signed(&key).unwrap().der().to_vec();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![CertificateDer::from(certificate.clone())],
            PrivateKeyDer::Pkcs8(key.serialize_der().into()),
        )
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let tls = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let service = TowerToHyperService::new(AgentLinkServer::new(server));
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (tls, service) = (tls.clone(), service.clone());
            tokio::spawn(async move {
                let stream = tls.accept(stream).await.unwrap();
                let http = auto::Builder::new(TokioExecutor::new()).http2_only();
                // It ends with the agent.
                let _ = http.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    (port, certificate)
}

fn identity(host_id: HostId, ca_certificate: Vec<u8>, command_key: Vec<u8>) -> Identity {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::default().self_signed(&key).unwrap().der().to_vec();
    let (private_key, sealing_key) = (key.serialize_der(), Vec::new());
    Identity { host_id, certificate, private_key, ca_certificate, sealing_key, command_key }
}

fn uplink(state: &Path, port: u16, identity: Identity, responding: Responding) -> Uplink {
    let url = format!("https://127.0.0.1:{port}");
    let asked =
        read([format!("-server={url}"), format!("-state={}", state.display())].map(OsString::from), |_| None);
    let Ok(Asked::Run(options)) = asked else { panic!("{asked:?}") };
    Uplink {
        address: ServerAddress::parse(&url).unwrap(),
        options: *options,
        identity,
        state_dir: state.to_owned(),
        facts: HostFacts::read(),
        boot_id: BootId::from_uuid(Uuid::from_u128(1)),
        sensor: "test".to_owned(),
        spool: Arc::new(Spool::open(&state.join("spool"), SpoolOptions::default()).unwrap().0),
        wake: Arc::new(Notify::new()),
        server_mark: Arc::new(ServerMark::default()),
        rules: Arc::new(RuleBook::open(None)),
        responding,
        linked: Arc::new(AtomicBool::new(false)),
        stored: AtomicBool::new(false),
    }
}

/// Commands that came over the server's own link and are not its own, or not for this host.
#[tokio::test]
async fn a_forged_command_and_one_for_another_host_become_events_and_touch_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().canonicalize().unwrap();
    let victim: PathBuf = state.join("victim");
    std::fs::write(&victim, "harmless").unwrap();
    let (own, stranger) = (Ed25519KeyPair::generate().unwrap(), Ed25519KeyPair::generate().unwrap());
    let (host, other_host) = (HostId::from_uuid(Uuid::from_u128(7)), HostId::from_uuid(Uuid::from_u128(8)));
    let take =
        Action::QuarantineFile(FileTarget { path: victim.display().to_string(), sha256: None, file: None });
    let command = |id: u128, host: HostId, action: &Action| Command {
        id: Uuid::from_u128(id).as_bytes().to_vec(),
        host_id: host.as_bytes().to_vec(),
        expires_at_ns: 2,
        user: "eve".to_owned(),
        action: serde_json::to_string(action).unwrap(),
        ..Command::default()
    };
    let altered = {
        let mut altered = sign_command(&command(3, host, &Action::ListProcesses {}), &own);
        altered.command = sign_command(&command(3, host, &take), &stranger).command;
        altered
    };
    let commands = vec![
        sign_command(&command(1, host, &take), &stranger),
        sign_command(&command(2, other_host, &take), &own),
        altered,
        sign_command(&command(4, host, &Action::ListProcesses {}), &own),
    ];
    let (receipts, mut received) = mpsc::unbounded_channel();
    let (port, certificate) = serve(Server { commands, receipts }).await;
    let (responding, told) = responding(&state, Arc::new(|| Timestamp::from_nanos(1)), None);
    let identity = identity(host, certificate, public_command_key(&own));
    let link = tokio::spawn(uplink(&state, port, identity, responding).run());

    // They came before it.
    let receipt = tokio::time::timeout(LIMIT, received.recv()).await.unwrap().unwrap();
    link.abort();
    assert_eq!(receipt.id, Uuid::from_u128(4).as_bytes(), "what is not the server's is not answered");
    assert_eq!(receipt.state, "verified", "{}", receipt.receipt);
    assert!(received.try_recv().is_err(), "no other receipt came");
    let mut events = Vec::new();
    told.take(1_000, &mut |observed| {
        if let Observation::Activity(activity) = observed.what {
            events.push(activity);
        }
    });
    let text = |fields: &[(Field, Value)], wanted: Field| {
        fields.iter().find_map(|(field, value)| match value {
            Value::Text(text) if *field == wanted => Some(text.clone()),
            _ => None,
        })
    };
    assert!(events.iter().all(|event| event.event_type == EventType::AgentTamper), "{events:?}");
    let reasons: Vec<(Option<String>, Option<String>)> = events
        .iter()
        .map(|event| (text(&event.fields, Field::AgentTampered), text(&event.fields, Field::EventReason)))
        .collect();
    let refused = |reason: &str| (Some("command_refused".to_owned()), Some(reason.to_owned()));
    let (forged, foreign) = ("the signature is not the server's", "the command is for another host");
    assert_eq!(reasons, [refused(forged), refused(foreign), refused(forged)]);
    assert_eq!(std::fs::read_to_string(&victim).unwrap(), "harmless");
    let journal = std::fs::read_dir(state.join("responses/journal")).unwrap().flatten();
    let noted: Vec<_> = journal.map(|entry| entry.file_name().into_string().unwrap()).collect();
    assert_eq!(noted, [format!("{}.json", Uuid::from_u128(4))], "no other order was begun");
}
