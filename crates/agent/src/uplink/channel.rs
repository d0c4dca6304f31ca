//! One connection to the server: TCP, TLS with the agent's own trust, HTTP/2.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use http::Uri;
use hyper_util::rt::TokioIo;
use protocol::trust::{ServerTrust, client_config};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};

/// A server that answers nothing for so long is gone.
const CONNECT_TIME: Duration = Duration::from_secs(10);
const KEEPALIVE: Duration = Duration::from_secs(15);

/// Where the server is.
#[derive(Debug, Clone)]
pub struct ServerAddress {
    host: String,
    port: u16,
}

impl ServerAddress {
    /// From a URL that the settings have checked; without a port it is 8443.
    ///
    /// # Errors
    /// The text is no URL with a host.
    pub fn parse(url: &str) -> anyhow::Result<Self> {
        let uri: Uri = url.parse().with_context(|| format!("`{url}` is not a URL"))?;
        let host = uri.host().with_context(|| format!("`{url}` names no host"))?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        Ok(Self { host, port: uri.port_u16().unwrap_or(8443) })
    }

    /// Name or address, and port.
    pub fn parts(&self) -> (String, u16) {
        (self.host.clone(), self.port)
    }

    fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

impl std::fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "https://{}", self.authority())
    }
}

/// Connects. With `identity` (certificate and key) the agent shows who it is.
///
/// # Errors
/// The server can't be reached, or is not the one it should be; see [`is_untrusted`].
pub async fn connect(
    address: &ServerAddress,
    trust: ServerTrust,
    identity: Option<(Vec<u8>, Vec<u8>)>,
) -> anyhow::Result<Channel> {
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
        async move { tls_stream(&place, config).await.map(TokioIo::new) }
    });
    Ok(endpoint.connect_with_connector(connector).await?)
}

async fn tls_stream(
    address: &ServerAddress,
    config: Arc<ClientConfig>,
) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let stream = TcpStream::connect((address.host.as_str(), address.port)).await?;
    stream.set_nodelay(true)?;
    let name = ServerName::try_from(address.host.clone()).map_err(std::io::Error::other)?;
    TlsConnector::from(config).connect(name, stream).await
}

/// Whether the server was reached and its certificate refused: waiting does not heal that.
pub fn is_untrusted(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let tls = cause
            .downcast_ref::<rustls::Error>()
            .or_else(|| cause.downcast_ref::<std::io::Error>()?.get_ref()?.downcast_ref::<rustls::Error>());
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
