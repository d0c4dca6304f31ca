//! The one port: TLS 1.3, and whatever comes to it.
//!
//! Nothing is parsed before TLS has been agreed on, and every step until then has
//! a limit: connections at once, time for the handshake, size of the headers.
//! What does not speak TLS is counted, and told so if it was a browser. A client
//! certificate is asked for and may be left out; one that is shown must be our
//! CA's. Whom it speaks for goes into every request's extensions as
//! [`PeerIdentity`]. Who shows none gets less of everything ([`StrangerLimits`]).

mod places;

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use protocol::enrollment::{host_of_certificate, sha256};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tower::ServiceExt as _;

use crate::app::{App, Counter, PeerIdentity, place_of};
use crate::log_limit::LogLimit;
use crate::pki::Pki;
use places::{Answer, Places, Use};

pub use places::StrangerLimits;

/// Connections at once. An agent has one, a browser a few.
const MAX_CONNECTIONS: usize = 12_000;
/// From the first byte to the end of the handshake.
const HANDSHAKE_TIME: Duration = Duration::from_secs(10);
/// For the headers of a request of HTTP/1.
const HEADER_TIME: Duration = Duration::from_secs(10);
/// For all headers of a request.
const MAX_HEADER_BYTES: u32 = 16 * 1024;
/// Streams at once on a connection of HTTP/2; a browser needs about ten.
const MAX_STREAMS: u32 = 16;
/// Handshakes at once of one address. Many agents may come from behind one.
const HANDSHAKES_OF_ADDRESS: usize = 2_000;

/// What may be on its way to a handler that does not read, in bytes.
#[derive(Debug, Clone, Copy)]
struct Windows {
    stream: u32,
    connection: u32,
}

/// Agents send batches.
const AGENT_WINDOWS: Windows = Windows { stream: 512 << 10, connection: 1 << 20 };
/// Others send small requests, and nobody knows who they are.
const STRANGER_WINDOWS: Windows = Windows { stream: 64 << 10, connection: 128 << 10 };
/// How long connections may take to end when the server stops.
const GRACE: Duration = Duration::from_secs(4);

/// The listener can't be made.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// No address could be bound.
    #[error("can't listen on {address}; hint: is another server running there?")]
    Bind {
        /// The last address tried.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// TLS can't be set up with these files.
    #[error("TLS can't be set up: {0}")]
    Tls(String),
}

/// Binds the first address that can be bound.
///
/// # Errors
/// [`ListenError::Bind`] for the last one if none can.
pub async fn bind(addresses: &[SocketAddr]) -> Result<TcpListener, ListenError> {
    let mut last = ListenError::Tls("no address given".to_owned());
    for address in addresses {
        match TcpListener::bind(address).await {
            Ok(listener) => return Ok(listener),
            Err(source) => last = ListenError::Bind { address: *address, source },
        }
    }
    Err(last)
}

/// TLS 1.3 with the server's certificate, asking for one of ours.
///
/// # Errors
/// [`ListenError::Tls`] if key and certificate do not fit.
pub fn tls_config(pki: &Pki) -> Result<ServerConfig, ListenError> {
    let failed = |error: &dyn std::fmt::Display| ListenError::Tls(error.to_string());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(pki.ca.clone()).map_err(|error| failed(&error))?;
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
        .allow_unauthenticated()
        .build()
        .map_err(|error| failed(&error))?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| failed(&error))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(pki.tls_chain.clone(), pki.tls_key())
        .map_err(|error| failed(&error))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// Serves until `stop` completes, then lets connections end.
pub async fn serve(
    listener: TcpListener,
    tls: ServerConfig,
    router: Router,
    app: Arc<App>,
    limits: StrangerLimits,
    stop: impl Future<Output = ()>,
) {
    let door = Arc::new(Door {
        tls: TlsAcceptor::from(Arc::new(tls)),
        http1: http_builder(STRANGER_WINDOWS).http1_only(),
        http2: http_builder(AGENT_WINDOWS).http2_only(),
        http2_of_strangers: http_builder(STRANGER_WINDOWS).http2_only(),
        router,
        app,
        handshakes: Places::new(MAX_CONNECTIONS, HANDSHAKES_OF_ADDRESS),
        strangers: Places::new(limits.all, limits.of_address),
        silence: limits.silence,
        free: Arc::new(Semaphore::new(MAX_CONNECTIONS)),
        garbage_log: LogLimit::default(),
        accept_log: LogLimit::default(),
    });
    let graceful = GracefulShutdown::new();
    tokio::pin!(stop);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut stop => break,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file handles, mostly: the connection waits, others may end.
                if let Some(missed) = door.accept_log.permit() {
                    tracing::warn!(%error, missed, "connection could not be accepted");
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&door.free).try_acquire_owned() else {
            door.app.counters().count(Counter::TooManyConnections);
            continue;
        };
        let (door, watcher) = (Arc::clone(&door), graceful.watcher());
        tokio::spawn(async move {
            door.take(stream, address, watcher).await;
            drop(place);
        });
    }
    drop(listener);
    door.app.begin_shutdown();
    if timeout(GRACE, graceful.shutdown()).await.is_err() {
        tracing::warn!("connections were cut: they did not end in time");
    }
}

fn http_builder(windows: Windows) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIME)
        .max_buf_size(MAX_HEADER_BYTES as usize);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(MAX_HEADER_BYTES)
        .max_concurrent_streams(MAX_STREAMS)
        .initial_stream_window_size(windows.stream)
        .initial_connection_window_size(windows.connection)
        .keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(20));
    builder
}

/// The address of the other end, for whoever handles the request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PeerAddress(pub(crate) IpAddr);

struct Door {
    tls: TlsAcceptor,
    http1: auto::Builder<TokioExecutor>,
    http2: auto::Builder<TokioExecutor>,
    http2_of_strangers: auto::Builder<TokioExecutor>,
    router: Router,
    app: Arc<App>,
    handshakes: Arc<Places>,
    strangers: Arc<Places>,
    silence: Duration,
    free: Arc<Semaphore>,
    garbage_log: LogLimit,
    accept_log: LogLimit,
}

impl Door {
    async fn take(
        &self,
        stream: TcpStream,
        address: SocketAddr,
        watcher: hyper_util::server::graceful::Watcher,
    ) {
        // Acknowledgements are small and must not wait for more to send.
        let _ = stream.set_nodelay(true);
        let place = place_of(address.ip());
        let Some(handshake) = self.handshakes.take(place) else {
            return self.app.counters().count(Counter::TooManyConnections);
        };
        let Ok(Some(stream)) = timeout(HANDSHAKE_TIME, self.shake_hands(stream, address)).await else {
            return;
        };
        drop(handshake);
        let identity = identity_of(&stream);
        // By what was agreed on in the handshake: looking at the first bytes would have no time limit.
        let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        let http = match (is_http2, identity) {
            (true, Some(_)) => &self.http2,
            (true, None) => &self.http2_of_strangers,
            (false, _) => &self.http1,
        };
        let router = self.router.clone();
        let peer = PeerAddress(address.ip().to_canonical());
        let used = Use::new();
        let requests = Arc::clone(&used);
        let service = tower::service_fn(move |mut request: hyper::Request<Incoming>| {
            request.extensions_mut().insert(peer);
            if let Some(identity) = identity {
                request.extensions_mut().insert(identity);
            }
            let in_use = requests.begin();
            let answer = router.clone().oneshot(request.map(Body::new));
            async move { Ok::<_, Infallible>(answer.await?.map(|body| Answer { body, _in_use: in_use })) }
        });
        let connection =
            http.serve_connection_with_upgrades(TokioIo::new(stream), TowerToHyperService::new(service));
        let connection = watcher.watch(connection.into_owned());
        let served = if identity.is_some() {
            connection.await
        } else {
            let Some(_place) = self.strangers.take(place) else {
                return self.app.counters().count(Counter::TooManyConnections);
            };
            tokio::select! {
                served = connection => served,
                () = used.ended(self.silence) => return,
            }
        };
        if let Err(error) = served {
            tracing::debug!(%address, error, "connection ended with an error");
        }
    }

    async fn shake_hands(&self, mut stream: TcpStream, address: SocketAddr) -> Option<TlsStream<TcpStream>> {
        let mut first = [0; 8];
        let seen = stream.peek(&mut first).await.ok()?;
        if seen == 0 {
            return None;
        }
        /// A TLS record that begins a handshake (RFC 8446 section 5.1).
        const HANDSHAKE: u8 = 22;
        if first[0] != HANDSHAKE {
            self.note_garbage(address, "no TLS");
            if speaks_http(&first[..seen]) {
                let _ = stream.write_all(PLAIN_HTTP_ANSWER.as_bytes()).await;
                let _ = stream.shutdown().await;
            }
            return None;
        }
        match self.tls.accept(stream).await {
            Ok(stream) => Some(stream),
            Err(error) => {
                self.note_failed_handshake(address, &error);
                None
            }
        }
    }

    fn note_garbage(&self, address: SocketAddr, what: &'static str) {
        self.app.counters().count(Counter::GarbageConnections);
        if let Some(missed) = self.garbage_log.permit() {
            tracing::warn!(%address, what, missed, "connection refused");
        }
    }

    fn note_failed_handshake(&self, address: SocketAddr, error: &io::Error) {
        let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>());
        match cause {
            Some(rustls::Error::InvalidCertificate(reason)) => {
                self.app.counters().count(Counter::BadCertificate);
                if let Some(missed) = self.garbage_log.permit() {
                    tracing::warn!(%address, ?reason, missed, "client certificate refused");
                }
            }
            Some(
                rustls::Error::InvalidMessage(_)
                | rustls::Error::InappropriateMessage { .. }
                | rustls::Error::InappropriateHandshakeMessage { .. }
                | rustls::Error::PeerIncompatible(_)
                | rustls::Error::PeerMisbehaved(_)
                | rustls::Error::DecryptError,
            ) => self.note_garbage(address, "broken TLS"),
            // The other end went away or did not like our certificate.
            _ => tracing::debug!(%address, %error, "handshake failed"),
        }
    }
}

const PLAIN_HTTP_ANSWER: &str = "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\n\
    Content-Length: 48\r\n\r\nThis port speaks TLS only: begin with https://.\n";

fn speaks_http(first: &[u8]) -> bool {
    ["GET ", "POST ", "HEAD ", "PUT ", "DELETE ", "OPTIONS ", "PRI * "]
        .iter()
        .any(|method| first.starts_with(&method.as_bytes()[..method.len().min(first.len())]))
}

fn identity_of(stream: &TlsStream<TcpStream>) -> Option<PeerIdentity> {
    // The verifier has checked the chain; here it is only read.
    let certificate = stream.get_ref().1.peer_certificates()?.first()?;
    Some(PeerIdentity { host: host_of_certificate(certificate)?, fingerprint: sha256(certificate) })
}
