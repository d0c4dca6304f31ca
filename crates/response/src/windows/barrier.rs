//! What holds a block or an isolation: filters of our own in the Windows Filtering Platform, all of them in force at
//! once or none; where they can't be had, rules of the Windows firewall.
//!
//! Nothing but the agent's own program can remove such filters. So they are made only where that lies where nobody but
//! administrators may put another: the task that lifts them when the agent is dead runs it as the system.

use std::io;
use std::path::{Path, PathBuf};

use win32::filtering::{self, Engine};

use super::{firewall, lifting};
use crate::platform::Failure;
use crate::scheduled_task::LiftingTask;
use crate::wfp_filters::{Barrier, Condition, Filter, Layer, Means, differing, raised};

/// All names of ours begin so.
const OURS: &str = "Rampart ";

/// Barriers of this host.
#[derive(Clone)]
pub(super) struct Barriers {
    /// There as soon as there may be filters of ours: without it a filtering service that does not answer is none.
    used: PathBuf,
    /// The program that the task runs.
    lifter: Option<PathBuf>,
}

/// Removes all filters of ours with this name; for the task that runs when the agent can't any more. That task is
/// removed once nothing is left that it lifts: until then the scheduler runs it again.
///
/// # Errors
/// It is no name of ours, the system refuses, or filters are still there. The task stays then.
pub fn lift_filters(name: &str) -> io::Result<()> {
    if !name.starts_with(OURS) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("`{name}` is no name of the agent's filters"),
        ));
    }
    let engine = Engine::open()?;
    engine.replace(&[name], &[])?;
    match engine.count_of(name)? {
        0 => {}
        left => return Err(io::Error::other(format!("{left} are still there"))),
    }
    let Some((task, names)) = LiftingTask::that_lifts(name) else { return Ok(()) };
    let failure = |failure: Failure| io::Error::other(failure.to_string());
    for name in &names {
        // Rules are deleted by the task's other actions: with any of them there is something left to do.
        if engine.count_of(name)? > 0 || firewall::count_of(name).map_err(failure)? > 0 {
            return Ok(());
        }
    }
    lifting::remove(&task).map_err(failure)
}

impl Barriers {
    pub(super) fn of(dir: &Path) -> Self {
        let folder = Path::new(win32::host::PROGRAM_FOLDER);
        let is_installed = |program: &PathBuf| {
            let parent = program.parent().map(Path::to_string_lossy).unwrap_or_default();
            parent.eq_ignore_ascii_case(&folder.to_string_lossy())
        };
        let lifter = std::env::current_exe().ok().filter(is_installed);
        Self { used: dir.join("filters-were-used"), lifter }
    }

    /// The task that lifts it, whatever holds it.
    pub(super) fn task(&self, what: &str, until_seconds: u64, barrier: &Barrier) -> LiftingTask {
        let lifter = self.lifter.as_ref().map(|path| path.to_string_lossy().into_owned());
        LiftingTask::new(what, until_seconds, barrier.names.clone()).with_lifter(lifter)
    }

    /// What would be done with filters; `None` where rules of the firewall would be made.
    pub(super) fn plan(&self, barrier: &Barrier) -> Result<Option<String>, Failure> {
        let names: Vec<String> = barrier.names.iter().map(|name| format!("`{name}`")).collect();
        match self.engine().and_then(|engine| engine.filters().map_err(|error| error.to_string())) {
            Ok(_) => Ok(Some(format!(
                "WFP: add {} filters named {} in one transaction, or rules of the Windows firewall if it is refused",
                barrier.filters.len(),
                names.join(" and ")
            ))),
            Err(_) => firewall::is_ready().map(|()| None),
        }
    }

    /// Puts it in force, or puts it anew.
    pub(super) fn raise(&self, barrier: &Barrier) -> Result<Means, Failure> {
        let engine = self.engine();
        let why_not = engine.as_ref().err().cloned();
        let filters = || match &engine {
            Ok(engine) => self.add_filters(engine, barrier),
            Err(why) => Err(Failure::system("opening the filtering platform", why)),
        };
        raised(why_not, filters, || {
            firewall::is_ready()?;
            // Filters that can't be renewed are of no use any more; that some are left is seen when it is proved.
            let _ = self.with_filters((), |engine| engine.replace(&names_of(barrier), &[]));
            barrier.names.iter().try_for_each(|name| firewall::delete(name))?;
            firewall::add(&barrier.rules)
        })
    }

    fn add_filters(&self, engine: &Engine, barrier: &Barrier) -> Result<(), Failure> {
        let failure = |doing: &str, error: io::Error| Failure::system(format!("{doing} (WFP)"), error);
        std::fs::write(&self.used, b"").map_err(|error| failure("noting that there are filters", error))?;
        let names = names_of(barrier);
        let wanted: Vec<filtering::Filter> = barrier.filters.iter().map(to_add).collect();
        engine.replace(&names, &wanted).map_err(|error| failure("adding the filters", error))?;
        let proved = differences(engine, barrier).and_then(|differences| match differences {
            (0, 0) => Ok(()),
            (missing, other) => Err(Failure::NotProved(format!(
                "the filters were taken, but {missing} of {} can't be read back, and {other} are others",
                barrier.filters.len()
            ))),
        });
        if let Err(doubt) = proved {
            return Err(match engine.replace(&names, &[]) {
                Ok(()) => doubt,
                Err(error) => failure(&format!("{doubt}; removing them again"), error),
            });
        }
        // Of a time when there were no filters to be had. What is left of them is seen where they are to be gone.
        for name in names {
            let _ = firewall::delete(name);
        }
        Ok(())
    }

    /// What holds it whole, in words.
    pub(super) fn stands(&self, barrier: &Barrier) -> Result<String, Failure> {
        let asked = Engine::open().map_err(|error| Failure::system("opening the filtering platform", error));
        let count = barrier.filters.len();
        match asked.and_then(|engine| differences(&engine, barrier)) {
            Ok((0, 0)) => return Ok(format!("the filtering platform has all {count} filters")),
            Ok((missing, other)) if missing < count || other > 0 => {
                let what = format!("{missing} of {count} filters are not in force, {other} are others");
                return Err(Failure::NotProved(what));
            }
            // None at all: then by rules.
            Ok(_) | Err(_) => {}
        }
        firewall::is_ready()?;
        match firewall::missing(&barrier.rules)?.len() {
            0 => Ok(format!("the firewall has all {} rules", barrier.rules.len())),
            missing => Err(Failure::NotProved(format!(
                "{missing} of {} rules are not in force, and there are no filters",
                barrier.rules.len()
            ))),
        }
    }

    /// Takes it away, whatever holds it; nothing there is fine.
    pub(super) fn lower(&self, barrier: &Barrier) -> Result<(), Failure> {
        let by_rules = barrier.names.iter().try_for_each(|name| firewall::delete(name));
        let removed = self.with_filters((), |engine| engine.replace(&names_of(barrier), &[]));
        by_rules.and(removed)?;
        self.is_gone(barrier)
    }

    pub(super) fn is_gone(&self, barrier: &Barrier) -> Result<(), Failure> {
        for name in &barrier.names {
            let rules = firewall::count_of(name)?;
            let filters = self.with_filters(0, |engine| engine.count_of(name))?;
            if rules + filters > 0 {
                return Err(Failure::NotProved(format!(
                    "{rules} rules and {filters} filters named `{name}` are still there"
                )));
            }
        }
        Ok(())
    }

    /// Asks the filtering platform; where it does not answer and there never were filters, `none` is right.
    fn with_filters<T>(&self, none: T, ask: impl FnOnce(&Engine) -> io::Result<T>) -> Result<T, Failure> {
        match Engine::open().and_then(|engine| ask(&engine)) {
            Ok(answer) => Ok(answer),
            Err(_) if !self.used.exists() => Ok(none),
            Err(error) => Err(Failure::system("asking the filtering platform for what is left there", error)),
        }
    }

    /// Whether there may be filters that can't be asked for now.
    pub(super) fn is_unknown(&self) -> bool {
        self.used.exists() && Engine::open().and_then(|engine| engine.filters()).is_err()
    }

    /// For filters that the task can lift.
    fn engine(&self) -> Result<Engine, String> {
        if self.lifter.is_none() {
            return Err(format!("the agent does not run from {}", win32::host::PROGRAM_FOLDER));
        }
        Engine::open().map_err(|error| format!("opening the filtering platform: {error}"))
    }
}

fn names_of(barrier: &Barrier) -> Vec<&str> {
    barrier.names.iter().map(String::as_str).collect()
}

/// How many filters are missing, and how many are others by the same names.
fn differences(engine: &Engine, barrier: &Barrier) -> Result<(usize, usize), Failure> {
    let failure = |error| Failure::system("reading the filters back (WFP)", error);
    let there: Vec<Filter> = engine.filters().map_err(failure)?.into_iter().map(as_read).collect();
    let (missing, mut other) = differing(&barrier.filters, &there);
    // Those that are not as ours are, are not among what was read.
    for name in &barrier.names {
        let read = there.iter().filter(|filter| filter.name == *name).count();
        other += engine.count_of(name).map_err(failure)?.saturating_sub(read);
    }
    Ok((missing, other))
}

fn to_add(filter: &Filter) -> filtering::Filter {
    filtering::Filter {
        name: filter.name.clone(),
        layer: match filter.layer {
            Layer::ConnectV4 => filtering::Layer::ConnectV4,
            Layer::ConnectV6 => filtering::Layer::ConnectV6,
            Layer::AcceptV4 => filtering::Layer::AcceptV4,
            Layer::AcceptV6 => filtering::Layer::AcceptV6,
        },
        permits: filter.permits,
        weight: filter.weight,
        conditions: filter
            .conditions
            .iter()
            .map(|condition| match *condition {
                Condition::Loopback => filtering::Condition::Loopback,
                Condition::Protocol(number) => filtering::Condition::Protocol(number),
                Condition::Remote(address, bits) => filtering::Condition::Remote(address, bits),
                Condition::RemotePort(port) => filtering::Condition::RemotePort(port),
                Condition::LocalPort(port) => filtering::Condition::LocalPort(port),
            })
            .collect(),
    }
}

fn as_read(filter: filtering::Filter) -> Filter {
    Filter {
        name: filter.name,
        layer: match filter.layer {
            filtering::Layer::ConnectV4 => Layer::ConnectV4,
            filtering::Layer::ConnectV6 => Layer::ConnectV6,
            filtering::Layer::AcceptV4 => Layer::AcceptV4,
            filtering::Layer::AcceptV6 => Layer::AcceptV6,
        },
        permits: filter.permits,
        weight: filter.weight,
        conditions: filter
            .conditions
            .into_iter()
            .map(|condition| match condition {
                filtering::Condition::Loopback => Condition::Loopback,
                filtering::Condition::Protocol(number) => Condition::Protocol(number),
                filtering::Condition::Remote(address, bits) => Condition::Remote(address, bits),
                filtering::Condition::RemotePort(port) => Condition::RemotePort(port),
                filtering::Condition::LocalPort(port) => Condition::LocalPort(port),
            })
            .collect(),
    }
}
