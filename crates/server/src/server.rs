//! Putting it all together: what the first start makes, and how the server ends.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use alert_bus::{AlertBus, BusError};
use event_store::SqliteEventStore;
use state_store::SqliteStateStore;
use tokio::net::TcpListener;

use crate::app::{App, AppError, now};
use crate::config::Config;
use crate::host_system;
use crate::listener::{self, ListenError, StrangerLimits};
use crate::pki::{Pki, PkiError};
use crate::relay::Relay;

/// The server can't start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A key or certificate can't be had.
    #[error("keys and certificates")]
    Pki(#[from] PkiError),
    /// The state database can't be opened.
    #[error("state")]
    State(#[from] state_store::StateError),
    /// The event store can't be opened.
    #[error("events")]
    Events(#[from] event_store::EventStoreError),
    /// The alert bus can't be used.
    #[error("alert bus")]
    Bus(#[from] BusError),
    /// The port can't be opened.
    #[error("port")]
    Listen(#[from] ListenError),
    /// A thread failed.
    #[error("starting")]
    Failed(#[from] AppError),
}

/// A server that is ready to serve.
#[derive(Debug)]
pub struct Server {
    app: Arc<App>,
    listener: TcpListener,
    tls: rustls::ServerConfig,
    address: SocketAddr,
    first: Option<FirstStart>,
    limits: StrangerLimits,
    bus: Arc<dyn AlertBus>,
}

/// What a first start prints, once.
#[derive(Debug, Clone)]
pub struct FirstStart {
    /// One-time password of the user `admin`.
    pub password: String,
    /// The line that enrols a host, good for an hour.
    pub enrollment_command: String,
}

impl Server {
    /// Makes what is missing, opens the stores, binds the port.
    ///
    /// # Errors
    /// [`StartError`] for what can't be had; nothing is served then.
    pub async fn prepare(config: &Config) -> Result<Self, StartError> {
        host_system::raise_file_limit();
        let pki = Pki::load_or_make(config, now())?;
        let tls = listener::tls_config(&pki)?;
        let state = SqliteStateStore::open(&config.db_file)?;
        let events = SqliteEventStore::open(&config.event_folder())?;
        let bus = alert_bus::connect(&config.bus, alert_bus::Options::default())?;
        // Before the port is bound nothing is printed that would be lost if it can't be.
        let listener = listener::bind(&config.addresses).await?;
        let address = listener
            .local_addr()
            .map_err(|source| ListenError::Bind { address: SocketAddr::from(([0, 0, 0, 0], 0)), source })?;
        let public = public_address(config, address);
        let silent_after = config.silent_after;
        let app = tokio::task::spawn_blocking(move || {
            let app = App::new(Arc::new(state), Arc::new(events), pki, public, silent_after)?;
            app.insert_starter_rules()?;
            let first = match app.make_first_administrator()? {
                Some(password) => {
                    Some(FirstStart { password, enrollment_command: app.first_enrollment_command()? })
                }
                None => None,
            };
            Ok::<_, AppError>((app, first))
        });
        let (app, first) = app.await.map_err(|error| AppError::internal("starting", error))??;
        Ok(Self { app: Arc::new(app), listener, tls, address, first, limits: StrangerLimits::default(), bus })
    }

    /// With other limits for those without a certificate, where the usual ones take too long to reach.
    #[must_use]
    pub fn with_stranger_limits(self, limits: StrangerLimits) -> Self {
        Self { limits, ..self }
    }

    /// What the console and agents of this machine use.
    pub fn url(&self) -> String {
        let host = match self.address.ip() {
            ip if ip.is_unspecified() => "localhost".to_owned(),
            IpAddr::V6(v6) => format!("[{v6}]"),
            IpAddr::V4(v4) => v4.to_string(),
        };
        format!("https://{host}:{}", self.address.port())
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What to print, if this was the first start.
    pub fn first_start(&self) -> Option<&FirstStart> {
        self.first.as_ref()
    }

    /// The application, for tests that look inside.
    pub fn app(&self) -> &Arc<App> {
        &self.app
    }

    /// Serves until `stop` completes, then ends in an orderly way within five seconds.
    pub async fn serve(self, stop: impl Future<Output = ()>) {
        let bell = self.app.posted.clone();
        let relay = Relay::start(Arc::clone(&self.app.state), Arc::clone(&self.bus), bell);
        if let Err(error) = &relay {
            tracing::error!(%error, "no thread to publish alerts; they wait in the outbox");
        }
        let house = tokio::spawn(Arc::clone(&self.app).keep_house());
        let router = crate::http::router(Arc::clone(&self.app));
        listener::serve(self.listener, self.tls, router, Arc::clone(&self.app), self.limits, stop).await;
        house.abort();
        let app = self.app;
        // It ends within the answer of a broker; what is not published is in the outbox.
        let _ = tokio::task::spawn_blocking(move || drop(relay)).await;
        if tokio::task::spawn_blocking(move || app.shut_down()).await.is_err() {
            tracing::error!("what was taken in could not be stored at the end");
        }
    }
}

/// How other machines reach this one: the name that the operator gave, the address
/// that was asked for, or the one that the default route uses.
fn public_address(config: &Config, bound: SocketAddr) -> String {
    let host = match (config.public_names.first(), bound.ip()) {
        (Some(name), _) => name.clone(),
        (None, ip) if !ip.is_unspecified() => ip.to_string(),
        (None, _) => host_system::addresses()
            .first()
            .map(ToString::to_string)
            .or_else(host_system::host_name)
            .unwrap_or_else(|| "localhost".to_owned()),
    };
    let host = if host.contains(':') { format!("[{host}]") } else { host };
    format!("https://{host}:{}", bound.port())
}
