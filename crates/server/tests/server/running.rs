//! A server in this process, on a free port, in a folder of its own.

use std::net::SocketAddr;
use std::ops::Deref;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use server::Server;
use server::app::App;
use server::config::Config;
use server::listener::StrangerLimits;
use state_store::SqliteStateStore;
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::api::Api;

/// For anything that happens by itself; far more than it takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// No test of this suite takes a third of it. Without a limit, one that waits for ever takes the whole run with it.
const WHOLE_TEST: Duration = Duration::from_secs(180);

const PASSWORD: &str = "correct horse battery staple";

/// Where a server is, and what to trust it by.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) address: SocketAddr,
    pub(crate) ca: Vec<u8>,
}

pub(crate) struct Running {
    pub(crate) folder: TempDir,
    place: Place,
    pub(crate) app: Arc<App>,
    pub(crate) first_password: String,
    pub(crate) first_enrollment: String,
    stop: Option<oneshot::Sender<()>>,
    served: Option<JoinHandle<()>>,
    _in_time: std::sync::mpsc::Sender<()>,
}

/// Ends the whole suite if the test that holds the sender never lets go of it: on a thread
/// of its own, as whatever hangs may have taken the runtime's.
#[allow(clippy::disallowed_methods, reason = "a test that hangs can't be ended any other way")]
fn watch_over_this_test() -> std::sync::mpsc::Sender<()> {
    let (sender, held) = std::sync::mpsc::channel();
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    std::thread::spawn(move || {
        if held.recv_timeout(WHOLE_TEST) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
            eprintln!("{test} is not over after {WHOLE_TEST:?}: it hangs, and the suite ends here");
            std::process::exit(101);
        }
    });
    sender
}

fn write_private(path: &std::path::Path, text: &str) {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    std::io::Write::write_all(&mut options.open(path).unwrap(), text.as_bytes()).unwrap();
}

pub(crate) fn config(folder: &TempDir) -> Config {
    Config {
        addresses: vec![SocketAddr::from(([127, 0, 0, 1], 0))],
        db_file: folder.path().join("state.db"),
        tls_files: None,
        private_key_file: None,
        public_names: Vec::new(),
        silent_after: server::config::DEFAULT_SILENT_AFTER,
        bus: "memory:".to_owned(),
        debug: false,
    }
}

impl Deref for Running {
    type Target = Place;

    fn deref(&self) -> &Place {
        &self.place
    }
}

impl Running {
    pub(crate) async fn start() -> Self {
        Self::start_with(StrangerLimits::default()).await
    }

    pub(crate) async fn start_with(limits: StrangerLimits) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = config(&folder);
        Self::start_in(folder, &config, limits).await
    }

    /// With a time after which hosts are silent; in a folder that may have been used before.
    pub(crate) async fn start_watching(folder: TempDir, silent_after: Duration) -> Self {
        let config = Config { silent_after, ..config(&folder) };
        Self::start_in(folder, &config, StrangerLimits::default()).await
    }

    /// With a certificate of the operator's own (PEM, with its key), as `-cert` and `-key` give it.
    pub(crate) async fn start_with_certificate(certificate: &str, key: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let files = (folder.path().join("own-cert.pem"), folder.path().join("own-key.pem"));
        std::fs::write(&files.0, certificate).unwrap();
        write_private(&files.1, key);
        let config = Config { tls_files: Some(files), ..config(&folder) };
        Self::start_in(folder, &config, StrangerLimits::default()).await
    }

    async fn start_in(folder: TempDir, config: &Config, limits: StrangerLimits) -> Self {
        let in_time = watch_over_this_test();
        let server = Server::prepare(config).await.expect("the server starts").with_stranger_limits(limits);
        let first = server.first_start().cloned();
        let (stop, stopped) = oneshot::channel();
        let address = server.address();
        let app = Arc::clone(server.app());
        let ca = app.pki().ca.to_vec();
        let served = tokio::spawn(server.serve(async move {
            let _ = stopped.await;
        }));
        Self {
            folder,
            place: Place { address, ca },
            app,
            first_password: first.as_ref().map(|first| first.password.clone()).unwrap_or_default(),
            first_enrollment: first.map(|first| first.enrollment_command).unwrap_or_default(),
            stop: Some(stop),
            served: Some(served),
            _in_time: in_time,
        }
    }

    /// Someone who is not signed in.
    pub(crate) fn stranger(&self) -> Api {
        Api::new(self.address, &self.ca)
    }

    /// The first administrator, signed in, with an own password.
    pub(crate) async fn administrator(&self) -> Api {
        let mut api = self.stranger();
        let answer = api.sign_in("admin", &self.first_password).await;
        assert_eq!(answer.status, 200, "{}", answer.json);
        let change = serde_json::json!({
            "current_password": self.first_password, "new_password": PASSWORD
        });
        let answer = api.put("/session/password", change).await;
        assert_eq!(answer.status, 204, "{}", answer.json);
        api
    }

    /// The same administrator after a restart.
    pub(crate) async fn administrator_again(&self) -> Api {
        let mut api = self.stranger();
        let answer = api.sign_in("admin", PASSWORD).await;
        assert_eq!(answer.status, 200, "{}", answer.json);
        api
    }

    /// The database as another process (the `edr` tool) sees it.
    pub(crate) fn state(&self) -> SqliteStateStore {
        let path: PathBuf = self.folder.path().join("state.db");
        SqliteStateStore::open(&path).unwrap()
    }

    pub(crate) async fn stop(mut self) -> TempDir {
        self.stop.take().unwrap().send(()).unwrap();
        self.served.take().unwrap().await.unwrap();
        self.folder
    }
}

/// For one look at a condition.
const ONE_TRY: Duration = Duration::from_secs(5);

/// Waits until `condition` gives something.
pub(crate) async fn eventually<T, F: Future<Output = Option<T>>>(
    what: &str,
    mut condition: impl FnMut() -> F,
) -> T {
    let start = Instant::now();
    loop {
        // A try that hangs is a try that failed.
        if let Ok(Some(value)) = timeout(ONE_TRY, condition()).await {
            return value;
        }
        assert!(start.elapsed() < PATIENCE, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub(crate) fn now() -> event_model::Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    event_model::Timestamp::from_nanos(i64::try_from(since.as_nanos()).unwrap())
}
