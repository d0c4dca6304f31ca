//! One connection to the server: TCP, TLS with the agent's own trust, HTTP/2.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use http::Uri;
use hyper_util::rt::TokioIo;
use protocol::trust::{ServerTrust, client_config};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint};

use super::server_address::ServerAddress;

/// A server that answers nothing for so long is gone.
const CONNECT_TIME: Duration = Duration::from_secs(10);
const KEEPALIVE: Duration = Duration::from_secs(15);

/// How long a look-up is waited for where there are addresses without it. On an isolated host none is answered.
const LOOK_UP_TIME: Duration = Duration::from_secs(2);

/// An address that says nothing for so long is not waited for: the next one is tried beside it.
const HEAD_START: Duration = Duration::from_millis(500);

/// Addresses that are tried: with the head starts, all within the time to connect.
const MOST_FRESH: usize = 8;
const MOST_TRIED: usize = 12;

/// Connects. With `identity` (certificate and key) the agent shows who it is.
///
/// # Errors
/// The server can't be reached, or is not the one it should be; see [`is_untrusted`].
pub async fn connect(
    address: &ServerAddress,
    trust: ServerTrust,
    identity: Option<(Vec<u8>, Vec<u8>)>,
) -> anyhow::Result<Channel> {
    let proves = !matches!(trust, ServerTrust::DangerNoVerification);
    let config = Arc::new(client_config(trust, identity)?);
    // TLS is made by the connector below, with a trust that tonic's own can't have.
    let endpoint = Endpoint::from_shared(format!("http://{}", address.authority()))?
        .connect_timeout(CONNECT_TIME)
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE)
        .keep_alive_while_idle(true)
        .user_agent(concat!("edr-agent/", env!("CARGO_PKG_VERSION")))?;
    let place = address.clone();
    let connector = tower::service_fn(move |_: Uri| {
        let (place, config) = (place.clone(), Arc::clone(&config));
        async move { tls_stream(&place, config, proves).await.map(TokioIo::new) }
    });
    Ok(endpoint.connect_with_connector(connector).await?)
}

/// To where the name leads now, and otherwise to where the server was before. What `proves` itself by
/// its certificate there is remembered.
async fn tls_stream(
    server: &ServerAddress,
    config: Arc<ClientConfig>,
    proves: bool,
) -> io::Result<TlsStream<TcpStream>> {
    let name = ServerName::try_from(server.host().to_owned()).map_err(io::Error::other)?;
    let before = server.known();
    let patience = if before.is_empty() { CONNECT_TIME } else { LOOK_UP_TIME };
    let (mut places, unknown) = match server.look(patience).await {
        Ok(found) => (found, None),
        Err(why) => (Vec::new(), Some(format!("`{}` can't be looked up: {why}", server.host()))),
    };
    places.truncate(MOST_FRESH);
    let fresh = places.len();
    for place in before {
        if places.len() < MOST_TRIED && !places.contains(&place) {
            places.push(place);
        }
    }
    match (first_to_answer(&places, fresh, &name, &config).await, unknown) {
        (Ok((place, stream)), _) => {
            if proves {
                server.proved_at(place);
            }
            Ok(stream)
        }
        (Err(None), why) => {
            Err(io::Error::other(why.unwrap_or_else(|| "the server has no address".to_owned())))
        }
        (Err(Some(error)), None) => Err(error),
        (Err(Some(error)), Some(why)) => {
            Err(io::Error::other(format!("{why}; and where the server was before: {error}")))
        }
    }
}

/// Tries them in this order, each with a head start before the next. The error is the one that tells most: of
/// the `fresh` ones, which come first, and of those of the server itself rather than of the way to it.
async fn first_to_answer(
    places: &[SocketAddr],
    fresh: usize,
    name: &ServerName<'static>,
    config: &Arc<ClientConfig>,
) -> Result<(SocketAddr, TlsStream<TcpStream>), Option<io::Error>> {
    let mut waiting = places.iter().enumerate();
    let mut tried = JoinSet::new();
    let mut told: Option<((bool, bool), io::Error)> = None;
    loop {
        let is_last = match waiting.next() {
            Some((number, place)) => {
                let (place, name, connector) = (*place, name.clone(), TlsConnector::from(Arc::clone(config)));
                tried.spawn(async move { (number, place, dial(place, name, connector).await) });
                false
            }
            None => true,
        };
        let ended = match is_last {
            true => tried.join_next().await,
            false => match tokio::time::timeout(HEAD_START, tried.join_next()).await {
                Ok(ended) => ended,
                Err(_) => continue,
            },
        };
        match ended {
            Some(Ok((_, place, Ok(stream)))) => return Ok((place, stream)),
            Some(Ok((number, _, Err(error)))) => {
                let weight = (number < fresh, is_of_tls(&error));
                if told.as_ref().is_none_or(|(known, _)| weight > *known) {
                    told = Some((weight, error));
                }
            }
            // None is taken back before one has answered.
            Some(Err(error)) => tracing::error!(%error, "a try to connect ended unexpectedly"),
            None => return Err(told.map(|(_, error)| error)),
        }
    }
}

async fn dial(
    place: SocketAddr,
    name: ServerName<'static>,
    connector: TlsConnector,
) -> io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(place).await?;
    stream.set_nodelay(true)?;
    connector.connect(name, stream).await
}

fn is_of_tls(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>())
}

/// Whether the server was reached and its certificate refused: waiting does not heal that.
pub fn is_untrusted(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let tls = cause
            .downcast_ref::<rustls::Error>()
            .or_else(|| cause.downcast_ref::<io::Error>()?.get_ref()?.downcast_ref::<rustls::Error>());
        matches!(tls, Some(rustls::Error::InvalidCertificate(_)))
    })
}

/// The error with all its causes in one line.
pub fn causes(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain() {
        let text = cause.to_string();
        // Wrappers tend to repeat what they wrap.
        if !line.ends_with(&text) {
            if !line.is_empty() {
                line.push_str(": ");
            }
            line.push_str(&text);
        }
    }
    line
}

/// A status of the server as an error that tells what it said.
pub fn said(status: &tonic::Status) -> anyhow::Error {
    anyhow!("{} ({:?})", status.message(), status.code())
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};
    use rustls_pki_types::{CertificateDer, PrivateKeyDer};
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;

    use super::*;

    /// Leads nowhere, by RFC 6761.
    const NAME: &str = "rampart-test.invalid";

    /// A server of that name on this machine: its port and its certificate.
    async fn server() -> (u16, Vec<u8>) {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec![NAME.to_owned()]).unwrap().self_signed(&key).unwrap();
        let certificate = certificate.der().to_vec();
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
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let acceptor = acceptor.clone();
                // Until the other side goes.
                tokio::spawn(async move {
                    let mut stream = acceptor.accept(stream).await?;
                    tokio::io::AsyncReadExt::read(&mut stream, &mut [0]).await
                });
            }
        });
        (port, certificate)
    }

    #[tokio::test]
    async fn a_server_whose_name_leads_nowhere_is_found_where_it_was_and_must_prove_itself_there() {
        let (port, certificate) = server().await;
        let dir = tempfile::tempdir().unwrap();
        let address = || ServerAddress::parse(&format!("https://{NAME}:{port}")).unwrap();
        let there = SocketAddr::from(([127, 0, 0, 1], port));
        let gone = SocketAddr::from(([192, 0, 2, 1], port));
        let first = address().remember_in(dir.path());
        first.proved_at(there);
        // It moved, and moved back: nobody is at the first address that is tried.
        first.proved_at(gone);

        let next = address().remember_in(dir.path());
        assert_eq!(next.known(), [gone, there]);
        let config = |trusted: &[u8]| {
            Arc::new(client_config(ServerTrust::Certificates(vec![trusted.to_vec()]), None).unwrap())
        };
        tls_stream(&next, config(&certificate), true).await.expect("it is the server, by its own name");
        assert_eq!(next.known(), [there, gone], "where it proved itself comes first");

        let (_, of_another) = server().await;
        let other = address().remember_in(dir.path());
        tls_stream(&other, config(&of_another), true).await.expect_err("somebody else is there now");
    }
}
