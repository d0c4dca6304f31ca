//! The processes and connections there are now.

use std::collections::HashMap;
use std::fs;
use std::io;

use os_files::patient::PatientReader;
use serde_json::{Value, json};

use crate::platform::Failure;
use crate::proc;

use super::{HANGING, Linux, sockets};

/// Bytes of a command line that are shown.
const MOST_COMMAND_LINE: u64 = 4_096;

/// Processes that are listed at most.
const MOST_PROCESSES: usize = 32_768;

pub(super) fn processes(host: &Linux) -> Value {
    let mut pids = proc::pids();
    pids.sort_unstable();
    let mut reader = PatientReader::new(&HANGING);
    let listed = pids.iter().take(MOST_PROCESSES).filter_map(|pid| {
        let (stat, target) = (proc::stat(*pid)?, host.target_now(*pid)?);
        let (command_line, missing) = match command_line(&mut reader, *pid) {
            Ok(text) => (Some(text), None),
            Err(reason) => (None, Some(reason)),
        };
        let mut entry = json!({
            "pid": pid,
            "parent_pid": stat.parent,
            "entity_id": target.entity_id,
            "executable": target.executable,
            "command_line": command_line,
            "user_id": proc::user_of(*pid),
            "state": char::from(stat.state).to_string(),
        });
        // A process that can't be read is one to look at: it is listed, and says so.
        if let Some(reason) = missing {
            entry["command_line_missing"] = reason.into();
        }
        Some(entry)
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

fn command_line(reader: &mut PatientReader, pid: u32) -> Result<String, String> {
    let bytes = match reader.read(&format!("/proc/{pid}/cmdline"), MOST_COMMAND_LINE) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::TimedOut => return Err(error.to_string()),
        // A process that ends meanwhile has an empty one.
        Err(_) => Vec::new(),
    };
    let words: Vec<_> = bytes.split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
    Ok(words.join(" ").trim_end().to_owned())
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
