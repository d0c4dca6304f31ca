//! Where the server is: its name, and the addresses at which it was found.
//!
//! A host that is isolated can ask nobody for names, and one that starts before its network has
//! nobody to ask. So what the name led to last, and where the server proved itself last, is
//! remembered on disk: the link falls back on it, and an isolation keeps it reachable.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read as _};
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use http::Uri;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::state_file;

/// In the state directory.
const FILE: &str = "server.json";

/// A larger file is not ours.
const MOST_BYTES: u64 = 64 << 10;

/// Addresses of one look-up that count.
const MOST_FOUND: usize = 16;

/// Addresses at which the server proved itself that are remembered, the latest ones.
const MOST_PROVED: usize = 4;

/// How often the name is looked up when that goes well.
const LOOK_EVERY: Duration = Duration::from_secs(300);

/// When it is tried again after a failure; doubles up to the longest.
const FIRST_RETRY: Duration = Duration::from_secs(2);
const LONGEST_RETRY: Duration = Duration::from_secs(60);

/// How soon it is asked again how a look-up goes that is under way.
const UNDER_WAY: Duration = Duration::from_secs(1);

/// Where the server is. Clones share what is known of it.
#[derive(Debug, Clone)]
pub struct ServerAddress {
    host: String,
    port: u16,
    places: Arc<Places>,
}

#[derive(Debug)]
struct Places {
    file: Option<PathBuf>,
    /// What the file holds, as far as this process knows; also the turn to write it.
    written: Mutex<Option<Remembered>>,
    known: Mutex<Known>,
    /// Told when a look-up ended: those that wait as threads, and those that wait as tasks.
    looked: Condvar,
    ended: watch::Sender<Found>,
}

/// What a look-up gave, or why it gave nothing.
type Found = Result<Vec<SocketAddr>, String>;

#[derive(Debug, Default)]
struct Known {
    /// Where the server showed its certificate, the latest first.
    proved: Vec<SocketAddr>,
    /// What the last look-up that went well gave, sorted.
    found: Vec<SocketAddr>,
    is_looking: bool,
    /// Look-ups that failed since one went well.
    failures: u32,
    next_look: Option<Instant>,
}

/// As on disk.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Remembered {
    /// Whose addresses these are: another `-server` has nothing of them.
    server: String,
    proved: Vec<SocketAddr>,
    found: Vec<SocketAddr>,
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
        Ok(Self { host, port: uri.port_u16().unwrap_or(8443), places: Arc::new(Places::new(None)) })
    }

    /// The same, with a memory in that directory. What can't be read there is as if it were not there:
    /// the link makes it anew.
    pub fn remember_in(self, state_dir: &Path) -> Self {
        let places = Places::new(Some(state_dir.join(FILE)));
        let remembered = places.file.as_deref().and_then(|file| match read(file) {
            Ok(remembered) => Some(remembered),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                tracing::warn!(%error, file = %file.display(), "where the server was found before can't be read");
                None
            }
        });
        let new = Self { places: Arc::new(places), ..self };
        if let Some(remembered) = remembered.filter(|it| it.server == new.to_string() && new.is_name()) {
            let mut known = new.places.lock();
            known.proved = new.usable(remembered.proved, MOST_PROVED);
            known.found = new.usable(remembered.found, MOST_FOUND);
        }
        new
    }

    /// Name or address, without brackets.
    pub(super) fn host(&self) -> &str {
        &self.host
    }

    pub(super) fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    fn is_name(&self) -> bool {
        self.fixed().is_none()
    }

    /// The address that was given instead of a name.
    fn fixed(&self) -> Option<SocketAddr> {
        self.host.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, self.port))
    }

    /// Every address at which the server is, as far as is known: where it proved itself last comes first.
    /// At most 20.
    pub fn known(&self) -> Vec<SocketAddr> {
        if let Some(fixed) = self.fixed() {
            return vec![fixed];
        }
        let known = self.places.lock();
        let others = known.found.iter().filter(|place| !known.proved.contains(place));
        known.proved.iter().chain(others).copied().collect()
    }

    /// Has the name looked up again where that is due. Waits for nothing.
    pub fn look_if_due(&self) {
        let is_due = {
            let known = self.places.lock();
            !known.is_looking && known.next_look.is_none_or(|at| Instant::now() >= at)
        };
        if is_due {
            self.begin_look();
        }
    }

    /// When [`look_if_due`](Self::look_if_due) should be called again.
    pub fn next_look_in(&self) -> Duration {
        if !self.is_name() {
            return LOOK_EVERY;
        }
        let known = self.places.lock();
        match known.next_look {
            Some(at) if !known.is_looking => at.saturating_duration_since(Instant::now()),
            _ => UNDER_WAY,
        }
    }

    /// Waits until an address is known, or the first look-up has ended, or this time is over.
    pub fn wait_for_first_look(&self, limit: Duration) {
        if !self.is_name() {
            return;
        }
        let nothing_yet = |known: &mut Known| {
            known.proved.is_empty() && known.found.is_empty() && known.next_look.is_none()
        };
        // Whether there is something now, or the time is over: the caller looks at what is known.
        drop(self.places.looked.wait_timeout_while(self.places.lock(), limit, nothing_yet));
    }

    /// What the name leads to now, in the order in which it should be tried.
    ///
    /// # Errors
    /// In words: it can't be looked up, or not in this time.
    pub(super) async fn look(&self, limit: Duration) -> Result<Vec<SocketAddr>, String> {
        if let Some(fixed) = self.fixed() {
            return Ok(vec![fixed]);
        }
        // Before it is begun, so that its end is not missed.
        let mut ended = self.places.ended.subscribe();
        self.begin_look();
        match tokio::time::timeout(limit, ended.changed()).await {
            Ok(Ok(())) => ended.borrow_and_update().clone(),
            _ => Err(format!("no answer within {} s", limit.as_secs())),
        }
    }

    /// In a thread of its own, of which there is one at most: nothing limits how long a resolver takes.
    fn begin_look(&self) {
        if !self.is_name() || std::mem::replace(&mut self.places.lock().is_looking, true) {
            return;
        }
        let this = self.clone();
        let look = move || {
            let found = (this.host.as_str(), this.port).to_socket_addrs();
            this.looked(found.map(|all| all.collect()).map_err(|error| error.to_string()));
        };
        if let Err(error) = std::thread::Builder::new().name("look-up".into()).spawn(look) {
            self.looked(Err(error.to_string()));
        }
    }

    fn looked(&self, found: Found) {
        let found = found.map(|all| self.usable(all, MOST_FOUND)).and_then(|all| match all.is_empty() {
            true => Err("it leads to no address".to_owned()),
            false => Ok(all),
        });
        self.places.lock().looked(&found, Instant::now());
        match &found {
            Ok(_) => self.remember(),
            // The addresses that it had stay known.
            Err(error) => tracing::debug!(error, host = self.host, "the server's name can't be looked up"),
        }
        self.places.looked.notify_all();
        drop(self.places.ended.send_replace(found));
    }

    /// The server proved at this address that it is the server.
    pub(super) fn proved_at(&self, place: SocketAddr) {
        if self.is_name() && self.places.lock().proved_at(place) {
            self.remember();
        }
    }

    /// Addresses that a peer can have, of this port, each once.
    fn usable(&self, places: Vec<SocketAddr>, most: usize) -> Vec<SocketAddr> {
        let mut seen = BTreeSet::new();
        let fits = |place: &SocketAddr| {
            let ip = place.ip();
            place.port() == self.port && !ip.is_unspecified() && !ip.is_multicast() && seen.insert(*place)
        };
        places.into_iter().filter(fits).take(most).collect()
    }

    fn remember(&self) {
        let Some(file) = &self.places.file else { return };
        let mut written = self.places.written.lock().unwrap_or_else(PoisonError::into_inner);
        let now = {
            let known = self.places.lock();
            Remembered { server: self.to_string(), proved: known.proved.clone(), found: known.found.clone() }
        };
        if written.as_ref() == Some(&now) {
            return;
        }
        let text = serde_json::to_vec(&now).map_err(io::Error::from);
        match text.and_then(|text| state_file::write(file, &text)) {
            Ok(()) => *written = Some(now),
            Err(error) => {
                tracing::warn!(%error, file = %file.display(), "where the server was found can't be remembered");
            }
        }
    }
}

impl std::fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "https://{}", self.authority())
    }
}

impl Places {
    fn new(file: Option<PathBuf>) -> Self {
        Self {
            file,
            written: Mutex::default(),
            known: Mutex::default(),
            looked: Condvar::new(),
            ended: watch::Sender::new(Err(String::new())),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn looked(&mut self, found: &Found, now: Instant) {
        self.is_looking = false;
        match found {
            Ok(all) => {
                self.found.clone_from(all);
                // Servers of names turn their answers round: that is no news.
                self.found.sort_unstable();
                self.failures = 0;
                self.next_look = Some(now + LOOK_EVERY);
            }
            Err(_) => {
                let wait = FIRST_RETRY.saturating_mul(2_u32.saturating_pow(self.failures)).min(LONGEST_RETRY);
                self.failures = self.failures.saturating_add(1);
                self.next_look = Some(now + wait);
            }
        }
    }

    /// True if that is news.
    fn proved_at(&mut self, place: SocketAddr) -> bool {
        if self.proved.first() == Some(&place) {
            return false;
        }
        self.proved.retain(|known| *known != place);
        self.proved.insert(0, place);
        self.proved.truncate(MOST_PROVED);
        true
    }
}

fn read(file: &Path) -> io::Result<Remembered> {
    let mut text = Vec::new();
    File::open(file)?.take(MOST_BYTES).read_to_end(&mut text)?;
    Ok(serde_json::from_slice(&text)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn named(dir: &Path) -> ServerAddress {
        ServerAddress::parse("https://edr.example").unwrap().remember_in(dir)
    }

    #[test]
    fn where_the_server_was_found_is_remembered_for_this_server_alone() {
        let dir = tempfile::tempdir().unwrap();
        let address = named(dir.path());
        assert!(address.known().is_empty());
        address.looked(Ok(places(&["192.0.2.2:8443", "192.0.2.1:8443", "0.0.0.0:8443"])));
        address.proved_at("192.0.2.2:8443".parse().unwrap());
        address.proved_at("198.51.100.7:8443".parse().unwrap());
        let expected = places(&["198.51.100.7:8443", "192.0.2.2:8443", "192.0.2.1:8443"]);
        assert_eq!(address.known(), expected);
        assert_eq!(named(dir.path()).known(), expected, "by the agent that comes next");

        let other = ServerAddress::parse("https://other.example").unwrap().remember_in(dir.path());
        assert!(other.known().is_empty(), "they are another server's");
        let port = ServerAddress::parse("https://edr.example:9443").unwrap().remember_in(dir.path());
        assert!(port.known().is_empty(), "they are another service's");
        std::fs::write(dir.path().join(FILE), "{").unwrap();
        assert!(named(dir.path()).known().is_empty(), "damage is as if there were nothing");
    }

    #[test]
    fn a_look_up_that_fails_takes_nothing_away_and_is_tried_again_in_seconds() {
        let dir = tempfile::tempdir().unwrap();
        let address = named(dir.path());
        let found = places(&["192.0.2.1:8443"]);
        address.looked(Ok(found.clone()));
        assert!(address.next_look_in() > LOOK_EVERY / 2);
        let now = Instant::now();
        let mut known = address.places.lock();
        for seconds in [2, 4, 8, 16, 32, 60, 60] {
            known.looked(&Err("no network".to_owned()), now);
            assert_eq!(known.next_look, Some(now + Duration::from_secs(seconds)));
        }
        drop(known);
        assert_eq!(address.known(), found);
        address.looked(Ok(places(&["192.0.2.9:8443"])));
        assert_eq!(address.known(), places(&["192.0.2.9:8443"]), "what it leads to no more is forgotten");
    }

    #[test]
    fn what_is_remembered_is_bounded_and_written_only_when_it_is_news() {
        let dir = tempfile::tempdir().unwrap();
        let address = named(dir.path());
        let many: Vec<SocketAddr> =
            (1..=99).map(|last| SocketAddr::from(([192, 0, 2, last], 8443))).collect();
        address.looked(Ok(many.clone()));
        many.iter().for_each(|place| address.proved_at(*place));
        assert_eq!(address.known().len(), MOST_FOUND + MOST_PROVED);
        assert_eq!(address.known()[0], many[98]);
        std::fs::remove_file(dir.path().join(FILE)).unwrap();
        address.looked(Ok(many.iter().take(MOST_FOUND).rev().copied().collect()));
        address.proved_at(many[98]);
        assert!(!dir.path().join(FILE).exists(), "nothing of it is new");
    }

    #[test]
    fn an_address_that_was_given_is_the_servers_and_needs_no_memory() {
        let dir = tempfile::tempdir().unwrap();
        for (url, expected) in
            [("https://192.0.2.1", "192.0.2.1:8443"), ("https://[2001:db8::1]:9", "[2001:db8::1]:9")]
        {
            let address = ServerAddress::parse(url).unwrap().remember_in(dir.path());
            address.look_if_due();
            address.proved_at("192.0.2.7:8443".parse().unwrap());
            assert_eq!(address.known(), places(&[expected]));
        }
        assert!(!dir.path().join(FILE).exists());
    }
}
