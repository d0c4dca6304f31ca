//! The processes and connections there are now.

use std::collections::HashMap;
use std::fs;
use std::io::Read as _;

use serde_json::{Value, json};

use crate::platform::Failure;
use crate::proc;

use super::{Linux, sockets};

/// Bytes of a command line that are shown.
const MOST_COMMAND_LINE: u64 = 4_096;

/// Processes that are listed at most.
const MOST_PROCESSES: usize = 32_768;

pub(super) fn processes(host: &Linux) -> Value {
    let mut pids = proc::pids();
    pids.sort_unstable();
    let listed = pids.iter().take(MOST_PROCESSES).filter_map(|pid| {
        let (stat, target) = (proc::stat(*pid)?, host.target_now(*pid)?);
        Some(json!({
            "pid": pid,
            "parent_pid": stat.parent,
            "entity_id": target.entity_id,
            "executable": target.executable,
            "command_line": command_line(*pid),
            "user_id": proc::user_of(*pid),
            "state": char::from(stat.state).to_string(),
        }))
    });
    Value::Array(listed.collect())
}

pub(super) fn connections() -> Result<Value, Failure> {
    let owners = owners();
    let listed = sockets::all()?.into_iter().map(|socket| {
        json!({
            "protocol": socket.protocol_name(),
            "state": socket.state_name(),
            "local": socket.local.to_string(),
            "peer": socket.peer.to_string(),
            "user_id": socket.user,
            "pid": owners.get(&socket.inode),
        })
    });
    Ok(Value::Array(listed.collect()))
}

fn command_line(pid: u32) -> String {
    let mut bytes = Vec::new();
    if let Ok(file) = fs::File::open(format!("/proc/{pid}/cmdline")) {
        // A process that ends meanwhile has an empty one.
        let _ = file.take(MOST_COMMAND_LINE).read_to_end(&mut bytes);
    }
    let words: Vec<_> = bytes.split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
    words.join(" ").trim_end().to_owned()
}

/// Which process has the socket of that inode.
fn owners() -> HashMap<u32, u32> {
    let mut owners = HashMap::new();
    for pid in proc::pids() {
        for (_, to) in open_files(pid) {
            let inode = to.strip_prefix("socket:[").and_then(|rest| rest.strip_suffix(']')?.parse().ok());
            if let Some(inode) = inode {
                owners.insert(inode, pid);
            }
        }
    }
    owners
}

/// Number of each descriptor and what it leads to; at most 65,536 of a process.
pub(super) fn open_files(pid: u32) -> Vec<(u32, String)> {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else { return Vec::new() };
    let each = entries.flatten().take(65_536).filter_map(|entry| {
        let number = entry.file_name().to_str()?.parse().ok()?;
        Some((number, fs::read_link(entry.path()).ok()?.to_string_lossy().into_owned()))
    });
    each.collect()
}
