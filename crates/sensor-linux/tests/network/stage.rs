//! How a role is played and what the sensor told of it.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use event_model::{EventType, Field, Value};
use sensor_api::contract::read_until;
use sensor_api::{Actor, Observation, Observed, ObservedActivity, Sensor};
use sensor_linux::LinuxSensorOptions;

use crate::rights::ebpf;

/// A loopback address of this test alone.
pub(crate) const HERE: Ipv4Addr = Ipv4Addr::new(127, 83, 61, 7);
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// Starts a role.
pub(crate) fn start(role: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "role", "--nocapture"])
        .env("RAMPART_TEST_ROLE", role)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Runs the role to its end; its PID.
pub(crate) fn act(role: &str) -> u32 {
    act_and_say(role).0
}

/// The same, with what it said.
pub(crate) fn act_and_say(role: &str) -> (u32, String) {
    let child = start(role);
    let pid = child.id();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{role}");
    (pid, String::from_utf8(output.stdout).unwrap())
}

/// A port on which nobody listens, as it was just let go.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind((HERE, 0)).unwrap().local_addr().unwrap().port()
}

/// An address as the kernel has it.
pub(crate) fn sockaddr(of: SocketAddr) -> libc::sockaddr_in {
    let SocketAddr::V4(of) = of else { panic!("{of} is not of IPv4") };
    libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: of.port().to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(of.ip().octets()) },
        sin_zero: [0; 8],
    }
}

/// What was told of a process.
pub(crate) struct Told {
    pid: u32,
    said: String,
    seen: Vec<Observed>,
}

impl Told {
    /// Has the role played and reads until its process has ended; `None`, said aloud, where
    /// there is no sensor.
    pub(crate) fn to_the_end(role: &str) -> Option<Self> {
        Self::until_closed(role, 0)
    }

    /// The same, and until so many of its connections were told to have ended.
    pub(crate) fn until_closed(role: &str, closes: usize) -> Option<Self> {
        let mut sensor = ebpf(LinuxSensorOptions::default())?;
        let (pid, said) = act_and_say(role);
        let mut seen = Vec::new();
        read_until(&mut sensor, &mut seen, "its end and those of its connections", |seen| {
            of(pid, EventType::NetworkClose, seen).len() >= closes && has_ended(pid, seen)
        });
        Some(Self { pid, said, seen })
    }

    /// A number that it wrote as `name=number`.
    pub(crate) fn said(&self, name: &str) -> i64 {
        let found = self.said.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        found.unwrap_or_else(|| panic!("no {name} in {}", self.said)).parse().unwrap()
    }

    pub(crate) fn all(&self, event_type: EventType) -> Vec<ObservedActivity> {
        of(self.pid, event_type, &self.seen)
    }

    /// The one event of a type, with all that it must tell.
    pub(crate) fn only(&self, event_type: EventType) -> ObservedActivity {
        let mut all = self.all(event_type);
        assert_eq!(all.len(), 1, "{all:#?}");
        is_complete(&all[0]);
        all.remove(0)
    }
}

fn has_ended(pid: u32, seen: &[Observed]) -> bool {
    seen.iter()
        .any(|observed| matches!(observed.what, Observation::ProcessExited(exit) if exit.process.pid == pid))
}

/// Reads until the process has ended.
pub(crate) fn read_to_end(sensor: &mut dyn Sensor, pid: u32) -> Vec<Observed> {
    let mut seen = Vec::new();
    read_until(sensor, &mut seen, "the end", |seen| has_ended(pid, seen));
    seen
}

pub(crate) fn of(pid: u32, event_type: EventType, seen: &[Observed]) -> Vec<ObservedActivity> {
    let is_it = |activity: &&ObservedActivity| {
        activity.event_type == event_type && activity.actor.map(Actor::pid) == Some(pid)
    };
    let activities = seen.iter().filter_map(|observed| match &observed.what {
        Observation::Activity(activity) => Some(activity.as_ref()),
        _ => None,
    });
    activities.filter(is_it).cloned().collect()
}

pub(crate) fn value(activity: &ObservedActivity, field: Field) -> Option<&Value> {
    activity.fields.iter().find(|(own, _)| *own == field).map(|(_, value)| value)
}

pub(crate) fn text(activity: &ObservedActivity, field: Field) -> &str {
    match value(activity, field) {
        Some(Value::Text(text)) => text,
        other => panic!("{field:?} is {other:?} in {activity:?}"),
    }
}

pub(crate) fn number(activity: &ObservedActivity, field: Field) -> i64 {
    match value(activity, field) {
        Some(Value::Integer(number)) => *number,
        other => panic!("{field:?} is {other:?} in {activity:?}"),
    }
}

/// Everything that its type must tell is there, besides the lives that the agent adds.
pub(crate) fn is_complete(activity: &ObservedActivity) {
    for field in activity.event_type.spec().needs {
        assert!(value(activity, *field).is_some(), "{field:?} is missing in {activity:?}");
    }
}

/// The ids of these connections, in order.
pub(crate) fn ids(of: &[ObservedActivity]) -> Vec<i64> {
    let mut ids: Vec<_> = of.iter().map(|one| number(one, Field::NetworkConnectionId)).collect();
    ids.sort_unstable();
    ids
}
