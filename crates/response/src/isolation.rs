//! What of an isolation is kept on disk, and what its time and its code ask for: the same on every system.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use event_model::BootId;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::action::MAX_TTL_SECONDS;
use crate::journal::write_whole;
use crate::platform::{Failure, Interference, Notice};
use crate::{proc, release};

/// How long the server may take to answer, before and after.
const REACH: Duration = Duration::from_secs(2);

/// What is in force, as on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct InForce {
    /// Seconds since 1970 at which it ends: what people are told, and what counts after a reboot.
    pub(crate) until: u64,
    /// What counts within a boot: the wall clock can be set. Older agents noted none.
    #[serde(default)]
    pub(crate) left: Option<Left>,
    pub(crate) keep: Vec<SocketAddr>,
    /// Devices with rules of their own, on systems that have such.
    #[serde(default)]
    pub(crate) devices: Vec<String>,
    #[serde(default)]
    pub(crate) release_hash: Option<String>,
    /// The order that isolated the host.
    #[serde(default)]
    pub(crate) order: Option<Uuid>,
    /// In which boot the rules were set last: a reboot may take them away, and nobody is to blame.
    #[serde(default)]
    pub(crate) boot: Option<BootId>,
    /// The rules as the system listed them right after they were set.
    pub(crate) listing: String,
    /// The host is being let go: from then on this is only tried again until it is done.
    #[serde(default)]
    pub(crate) releasing: bool,
}

/// How long a host is still held from a moment on, by the clock that nobody sets: time since boot, sleep included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Left {
    boot: BootId,
    /// The moment, in seconds since that boot.
    uptime: u64,
    seconds: u32,
}

impl Left {
    pub(crate) fn from_now(boot: BootId, seconds: u32) -> Self {
        Self { boot, uptime: proc::uptime_seconds(), seconds }
    }

    /// Whether it is of the boot that this moment is in.
    fn counts_at(&self, now: &Now) -> bool {
        self.boot == now.boot && self.uptime <= now.uptime
    }
}

/// Both clocks at one moment.
struct Now {
    boot: BootId,
    uptime: u64,
    /// Seconds since 1970.
    wall: u64,
}

impl InForce {
    /// What is left of its time. A clock that was set back can't make it longer than it was at the last look
    /// before a reboot, nor longer than it was ordered for.
    fn left(&self, now: &Now) -> Left {
        let seconds = match self.left {
            Some(left) if left.counts_at(now) => {
                u64::from(left.seconds).saturating_sub(now.uptime - left.uptime)
            }
            before => {
                let most = before.map_or(MAX_TTL_SECONDS, |left| left.seconds);
                self.until.saturating_sub(now.wall).min(most.into())
            }
        };
        let seconds = u32::try_from(seconds).unwrap_or(MAX_TTL_SECONDS);
        Left { boot: now.boot, uptime: now.uptime, seconds }
    }
}

/// Writes a file, whole and synced.
type Write = fn(&Path, &[u8]) -> io::Result<()>;

/// The isolation of this host.
pub(crate) struct Isolated {
    dir: PathBuf,
    pub(crate) in_force: Option<InForce>,
    write: Write,
}

/// What is to be done about it now.
pub(crate) enum Due {
    /// Nothing: the host is not isolated.
    Nothing,
    /// Nothing but to tell that somebody tried a wrong code.
    WrongCode(Notice),
    /// To let the host go, which this tells of.
    Release(Notice),
    /// To hold it for so many seconds more.
    Hold(InForce, u32),
}

impl Isolated {
    pub(crate) fn load(dir: &Path) -> Self {
        let new = Self { dir: dir.to_owned(), in_force: None, write: write_whole };
        let in_force = fs::read(new.file()).ok().and_then(|text| serde_json::from_slice(&text).ok());
        Self { in_force, ..new }
    }

    fn file(&self) -> PathBuf {
        release::isolation_file(&self.dir)
    }

    /// Notes what is in force. If that fails, what was noted before stays so: what got its name and was only not
    /// synced would isolate the host at the next start, behind a receipt that says `failed`.
    pub(crate) fn keep(&mut self, in_force: InForce) -> Result<(), Failure> {
        if let Err(error) = self.write(&in_force) {
            let taken_back = match &self.in_force {
                Some(before) => self.write(before),
                None => remove(&self.file()),
            };
            let also = taken_back.err().map(|left| format!("; taking that back: {left}")).unwrap_or_default();
            return Err(Failure::system("noting the isolation", format!("{error}{also}")));
        }
        self.in_force = Some(in_force);
        Ok(())
    }

    fn write(&self, in_force: &InForce) -> io::Result<()> {
        (self.write)(&self.file(), &serde_json::to_vec(in_force)?)
    }

    /// Notes that the host is being let go. Where that can't be noted on disk, this agent still knows.
    pub(crate) fn begin_release(&mut self) {
        let Some(in_force) = self.in_force.clone().filter(|in_force| !in_force.releasing) else { return };
        let releasing = InForce { releasing: true, ..in_force };
        if self.keep(releasing.clone()).is_err() {
            self.in_force = Some(releasing);
        }
    }

    /// Must be told if it fails: what stays noted is put in force again.
    pub(crate) fn forget(&mut self) -> Result<(), Failure> {
        self.in_force = None;
        remove(&self.file())
            .map_err(|error| Failure::system(format!("removing {}", self.file().display()), error))
    }

    /// What its time, and a code that somebody left on the host, ask for in this boot.
    pub(crate) fn due(&mut self, boot: BootId) -> Due {
        self.due_at(&Now { boot, uptime: proc::uptime_seconds(), wall: now_seconds() })
    }

    fn due_at(&mut self, now: &Now) -> Due {
        let code = release::take_code(&self.dir);
        let Some(in_force) = self.in_force.clone() else { return Due::Nothing };
        if let Some(code) = code {
            let hash = in_force.release_hash.as_deref();
            match hash.is_some_and(|hash| release::is_code(&code, hash)) {
                true => {
                    let text = "the host was released on the host itself, by its code";
                    self.begin_release();
                    return Due::Release(Notice::of(Interference::Released, in_force.order, text));
                }
                // A wrong one holds nothing up.
                false if in_force.releasing => {}
                false => {
                    let text = "somebody on the host gave a wrong code to release it";
                    return Due::WrongCode(Notice::of(Interference::WrongCode, in_force.order, text));
                }
            }
        }
        if in_force.releasing {
            return Due::Release(Notice::plain(
                "the release of the host was tried again, the host is released",
            ));
        }
        let left = in_force.left(now);
        if left.seconds == 0 {
            return Due::Release(Notice::plain("the isolation's time is over, the host is released"));
        }
        let is_first_look = in_force.left.is_none_or(|before| !before.counts_at(now));
        let in_force = InForce { left: Some(left), ..in_force };
        // From here on the wall clock counts no more, also where that can't be noted.
        if is_first_look && self.keep(in_force.clone()).is_err() {
            self.in_force = Some(in_force.clone());
        }
        Due::Hold(in_force, left.seconds)
    }
}

/// Removes a file that may not be there.
fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// What became of a release; one that failed is no release to tell of.
pub(crate) fn released(notice: Notice, done: Result<(), Failure>) -> Notice {
    match done {
        Ok(()) => notice,
        Err(failure) => Notice::plain(format!("{}; removing its rules: {failure}", notice.text)),
    }
}

/// The first of these that takes a connection.
pub(crate) fn reachable(server: &[SocketAddr]) -> Option<SocketAddr> {
    server.iter().copied().find(|address| TcpStream::connect_timeout(address, REACH).is_ok())
}

/// Whether the server, which was reached before, still is.
pub(crate) fn still_reached(before: Option<SocketAddr>, server: &[SocketAddr]) -> Result<(), Failure> {
    match (before, reachable(server)) {
        (Some(address), None) => {
            Err(Failure::NotProved(format!("the server ({address}) is not reached any more")))
        }
        _ => Ok(()),
    }
}

pub(crate) fn now_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// What is kept besides the server, in words.
pub(crate) fn kept_besides(addresses: &[SocketAddr]) -> String {
    match addresses {
        [] => "nothing".to_owned(),
        some => some.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const YEAR: u64 = 365 * 24 * 3_600;

    fn boot(number: u128) -> BootId {
        BootId::from_uuid(Uuid::from_u128(number << 96))
    }

    /// Ordered for 600 s, 100 s after boot 1.
    fn isolated(dir: &Path) -> Isolated {
        let mut isolated = Isolated::load(dir);
        let left = Some(Left { boot: boot(1), uptime: 100, seconds: 600 });
        isolated.keep(in_force(left)).unwrap();
        isolated
    }

    fn in_force(left: Option<Left>) -> InForce {
        InForce {
            until: 2 * YEAR + 600,
            left,
            keep: Vec::new(),
            devices: Vec::new(),
            release_hash: None,
            order: None,
            boot: None,
            listing: String::new(),
            releasing: false,
        }
    }

    /// Seconds for which the host is still held; 0 if it is let go.
    fn held(isolated: &mut Isolated, number: u128, uptime: u64, wall: u64) -> u32 {
        match isolated.due_at(&Now { boot: boot(number), uptime, wall }) {
            Due::Hold(_, left) => left,
            Due::Release(_) => 0,
            Due::Nothing | Due::WrongCode(_) => panic!("it is isolated, and nobody gave a code"),
        }
    }

    #[test]
    fn a_clock_that_is_set_back_holds_nobody_longer() {
        let dir = tempfile::tempdir().unwrap();
        let mut isolated = isolated(dir.path());
        assert_eq!(held(&mut isolated, 1, 100, 2 * YEAR), 600);
        assert_eq!(held(&mut isolated, 1, 300, YEAR), 400, "a year back");
        assert_eq!(held(&mut isolated, 1, 300, 9 * YEAR), 400, "and forward it lets nobody go");
        assert_eq!(held(&mut Isolated::load(dir.path()), 1, 699, YEAR), 1, "for the next agent, too");
        assert_eq!(held(&mut isolated, 1, 700, YEAR), 0);
    }

    #[test]
    fn a_release_that_was_begun_is_due_until_it_is_done_and_the_code_works_meanwhile() {
        let dir = tempfile::tempdir().unwrap();
        let mut isolated = isolated(dir.path());
        let hash = Some(release::release_hash("ABCDE"));
        let noted = isolated.in_force.clone().unwrap();
        isolated.keep(InForce { release_hash: hash, ..noted }).unwrap();
        assert_eq!(held(&mut isolated, 1, 100, 2 * YEAR), 600);
        isolated.begin_release();
        for mut look in [isolated, Isolated::load(dir.path())] {
            let now = Now { boot: boot(1), uptime: 100, wall: 2 * YEAR };
            assert!(matches!(look.due_at(&now), Due::Release(_)));
            release::leave_release_code(dir.path(), "wrong").unwrap();
            assert!(matches!(look.due_at(&now), Due::Release(_)), "a wrong code holds nothing up");
            release::leave_release_code(dir.path(), "abcde").unwrap();
            let Due::Release(notice) = look.due_at(&now) else { panic!("its code") };
            assert!(notice.text.contains("by its code"), "{}", notice.text);
            assert!(release::is_isolation_noted(dir.path()), "nobody forgot it");
        }
    }

    #[test]
    fn after_a_reboot_the_wall_clock_counts_but_never_for_longer_than_was_left() {
        let dir = tempfile::tempdir().unwrap();
        let mut next = isolated(dir.path());
        assert_eq!(held(&mut next, 2, 20, 2 * YEAR + 450), 150);
        // Set back after that, and in the boot after that one.
        assert_eq!(held(&mut next, 2, 70, YEAR), 100);
        assert_eq!(held(&mut Isolated::load(dir.path()), 2, 70, YEAR), 100);
        let mut third = Isolated::load(dir.path());
        assert_eq!(held(&mut third, 3, 5, YEAR), 150);
        assert_eq!(held(&mut third, 3, 155, YEAR), 0);
        assert_eq!(held(&mut Isolated::load(dir.path()), 4, 5, 2 * YEAR + 600), 0, "its time is over");
    }

    #[test]
    fn what_an_older_agent_noted_ends_by_the_wall_clock_but_ends() {
        let dir = tempfile::tempdir().unwrap();
        let mut text = serde_json::to_value(in_force(None)).unwrap();
        text.as_object_mut().unwrap().remove("left");
        fs::write(release::isolation_file(dir.path()), text.to_string()).unwrap();
        let mut isolated = Isolated::load(dir.path());
        assert_eq!(held(&mut isolated, 1, 10, YEAR), MAX_TTL_SECONDS);
        assert_eq!(held(&mut isolated, 1, 11, 0), MAX_TTL_SECONDS - 1);
    }

    #[test]
    fn what_could_not_be_noted_isolates_nobody_later() {
        let dir = tempfile::tempdir().unwrap();
        let unsynced: Write = |path, content| {
            write_whole(path, content)?;
            Err(io::Error::other("injected"))
        };
        let mut isolated = Isolated { write: unsynced, ..Isolated::load(dir.path()) };
        assert!(isolated.keep(in_force(None)).is_err());
        assert!(Isolated::load(dir.path()).in_force.is_none() && !release::is_isolation_noted(dir.path()));
        // What was noted before stays noted.
        isolated.write = write_whole;
        isolated.keep(in_force(None)).unwrap();
        isolated.write = unsynced;
        assert!(isolated.keep(InForce { until: 1, ..in_force(None) }).is_err());
        assert_eq!(Isolated::load(dir.path()).in_force, Some(in_force(None)));
    }
}
