//! The processes and connections there are now.

use event_model::{BootId, ProcessEntityId};
use serde_json::{Value, json};
use win32::clock::since_boot_ns;
use win32::network::{Protocol, sockets};
use win32::process::{Process, Wanted, list};

use crate::platform::Failure;

pub(super) fn processes(boot: BootId) -> Result<Value, Failure> {
    let listed = list().map_err(|error| Failure::system("listing the processes", error))?;
    let each = listed.iter().map(|one| {
        let process = Process::open(one.pid, Wanted::Look).ok();
        let start_ns = process.as_ref().and_then(|process| process.times().ok()).map(|(created, _)| since_boot_ns(created));
        let user = process.as_ref().and_then(|process| process.user().ok());
        json!({
            "pid": one.pid,
            "parent_pid": one.parent_pid,
            "entity_id": start_ns.map(|start_ns| ProcessEntityId::new(boot, one.pid, start_ns)),
            "executable": process.as_ref().and_then(|process| process.image_path().ok()).unwrap_or_else(|| one.name.clone()),
            "command_line": process.as_ref().and_then(|process| process.command_line().ok()),
            "user_id": user.as_ref().map(|user| user.sid.clone()),
            "user": user.as_ref().and_then(|user| user.name.clone()),
        })
    });
    Ok(Value::Array(each.collect()))
}

pub(super) fn connections() -> Result<Value, Failure> {
    let all = sockets().map_err(|error| Failure::system("reading the table of sockets", error))?;
    let each = all.iter().map(|socket| {
        json!({
            "protocol": match socket.protocol { Protocol::Tcp => "tcp", Protocol::Udp => "udp" },
            "state": state_name(socket.state),
            "local": socket.local.to_string(),
            "peer": socket.peer.map(|peer| peer.to_string()),
            "pid": socket.pid,
        })
    });
    Ok(Value::Array(each.collect()))
}

/// As RFC 9293 names them, in the order of MIB_TCP_STATE.
fn state_name(state: u32) -> &'static str {
    let names = [
        "-",
        "closed",
        "listen",
        "syn-sent",
        "syn-received",
        "established",
        "fin-wait-1",
        "fin-wait-2",
        "close-wait",
        "closing",
        "last-ack",
        "time-wait",
        "delete-tcb",
    ];
    names.get(state as usize).copied().unwrap_or("unknown")
}
