//! The rows with their weights, as the public EDR-Telemetry comparison has them; what has none there weighs nothing.
//! Hashes of libraries and of files that were just written are not asked for: docs/limitations.md says why.

use serde_json::Value;

use crate::acts::Act;

/// One row of the list.
pub(crate) struct Row {
    /// Weight in tenths.
    pub(crate) tenths: u32,
    /// The row's name in the comparison.
    pub(crate) name: &'static str,
    /// What is done for it.
    pub(crate) act: Act,
    pub(crate) event_type: &'static str,
    /// What tells the act's event from others: dotted field, and a part of its value.
    matching: &'static [(&'static str, &'static str)],
    /// What the event must tell besides.
    needs: &'static [&'static str],
}

macro_rules! rows {
    ($($tenths:literal $name:literal $act:ident $event_type:literal
       [$($field:literal ~ $part:literal),*] $who:ident [$($need:literal)*];)*) => {
        pub(crate) const ROWS: &[Row] = &[$(Row {
            tenths: $tenths,
            name: $name,
            act: Act::$act,
            event_type: $event_type,
            matching: &[$(($field, $part)),*],
            needs: rows!(@needs $who [$($need)*]),
        }),*];
    };
    (@needs WHO [$($need:literal)*]) => {
        &["process.entity_id", "process.executable", "process.command_line", "process.parent.entity_id", "user.id", $($need),*]
    };
    (@needs NOBODY [$($need:literal)*]) => { &[$($need),*] };
}

rows! {
    10 "process creation" Process "process_start" ["process.args" ~ "rampart-telemetry"]
        WHO ["process.args" "process.working_directory" "user.effective.id" "user.group.id"
             "process.thread.capabilities.effective" "rampart.process.inode"];
    5 "process termination" Process "process_exit" ["process.command_line" ~ "rampart-telemetry"]
        WHO ["process.exit_code" "rampart.process.run_time_ns"];
    10 "file creation" CreateFile "file_create" ["file.path" ~ "telemetry-created"] WHO ["file.mode" "file.size" "file.uid"];
    10 "file modification" ModifyFile "file_modify" ["file.path" ~ "telemetry-modified"] WHO ["file.size" "file.mtime"];
    10 "file deletion" DeleteFile "file_delete" ["file.path" ~ "telemetry-deleted"] WHO ["rampart.file.operation"];
    7 "user logon" Logon "user_logon" ["rampart.logon.service" ~ "su"] NOBODY ["user.name" "rampart.logon.service"];
    4 "user logoff" Logon "user_logoff" ["rampart.logon.service" ~ "su"] NOBODY ["user.name"];
    10 "logon failed" FailedLogon "user_logon_failed" ["rampart.logon.service" ~ "su"] NOBODY ["event.reason"];
    10 "script content" Script "script_content" ["rampart.script.path" ~ "telemetry-script"]
        WHO ["rampart.script.text" "rampart.script.interpreter" "rampart.script.sha256"];
    10 "network connection" Connect "network_connect" ["destination.ip" ~ "127.71.3.9"]
        WHO ["source.ip" "destination.port" "network.transport" "network.type" "network.direction"];
    0 "connection accepted" Connect "network_accept" ["destination.ip" ~ "127.71.3.9"]
        WHO ["source.ip" "source.port" "destination.port" "network.transport" "network.direction"];
    10 "network listen" Connect "network_listen" ["source.ip" ~ "127.71.3.9"] WHO ["source.port" "network.transport"];
    10 "DNS query" AskName "dns_query" ["dns.question.name" ~ "telemetry.example.test"]
        WHO ["dns.question.type" "destination.ip"];
    7 "scheduled task" ScheduledTask "scheduled_task" ["file.path" ~ "telemetry-task"]
        NOBODY ["rampart.task.schedule" "rampart.task.command" "rampart.task.owner" "event.action"];
    10 "account created" CreateAccount "account_create" ["user.target.name" ~ "telemetry1"]
        NOBODY ["user.target.id" "rampart.account.shell" "rampart.account.home"];
    10 "account modified" ModifyAccount "account_modify" ["user.target.name" ~ "telemetry1"]
        NOBODY ["rampart.change.fields"];
    5 "account deleted" DeleteAccount "account_delete" ["user.target.name" ~ "telemetry1"] NOBODY ["user.target.id"];
    10 "driver load" LoadModule "module_load" ["rampart.module.name" ~ "telemetry"] WHO ["rampart.access.method" "event.outcome"];
    10 "driver modification" ModifyModule "file_modify" ["rampart.file.object" ~ "kernel_module"] NOBODY ["file.path"];
    10 "image load" Process "image_load" ["dll.path" ~ "libc.so"] WHO ["rampart.file.inode"];
    10 "eBPF event" LoadBpf "bpf_load" ["rampart.bpf.name" ~ "telemetry"] WHO ["rampart.bpf.type" "rampart.bpf.id" "rampart.bpf.tag"];
    10 "raw access read" RawRead "raw_access_read" ["file.path" ~ "telemetry-disk"] WHO ["rampart.access.mode"];
    10 "process access" AccessProcess "process_access" ["rampart.access.method" ~ "process_vm_readv"]
        WHO ["rampart.target.entity_id" "rampart.target.executable"];
    10 "process tampering" TamperProcess "process_tamper" ["rampart.access.method" ~ "process_vm_writev"]
        WHO ["rampart.target.entity_id" "rampart.target.executable"];
    10 "memory-backed file" RunMemfd "process_start" ["rampart.process.memfd" ~ "true"] WHO ["process.executable"];
    10 "service created" CreateService "service" ["service.name" ~ "telemetry", "event.action" ~ "create"]
        NOBODY ["file.path" "rampart.service.command" "rampart.service.user"];
    7 "service modified" ModifyService "service" ["service.name" ~ "telemetry", "event.action" ~ "modify"]
        NOBODY ["rampart.change.fields"];
    6 "service deleted" DeleteService "service" ["service.name" ~ "telemetry", "event.action" ~ "delete"] NOBODY [];
    2 "agent start" None "agent_start" [] NOBODY ["agent.version" "rampart.agent.config_hash" "rampart.agent.rules_version"];
    8 "agent stop" StopAgent "agent_stop" [] NOBODY ["rampart.agent.stop_reason" "process.pid"];
    10 "MD5" NewExecutable "process_start" ["process.executable" ~ "telemetry-program"] WHO ["process.hash.md5"];
    10 "SHA" NewExecutable "process_start" ["process.executable" ~ "telemetry-program"]
        WHO ["process.hash.sha1" "process.hash.sha256"];
    10 "fuzzy hash" NewExecutable "process_start" ["process.executable" ~ "telemetry-program"] WHO ["process.hash.tlsh"];
    5 "file entropy" NewExecutable "process_start" ["process.executable" ~ "telemetry-program"]
        WHO ["rampart.process.entropy_milli"];
    5 "header bytes" NewExecutable "process_start" ["process.executable" ~ "telemetry-program"]
        WHO ["rampart.process.image_header" "rampart.process.image_type"];
    2 "file size" NewExecutable "process_start" ["process.executable" ~ "telemetry-program"] WHO ["rampart.process.image_size"];
}

impl Row {
    /// Whether the event is that of the row's act.
    pub(crate) fn is_of_act(&self, event: &Value) -> bool {
        self.matching
            .iter()
            .all(|(field, part)| at(event, field).is_some_and(|value| text(value).contains(part)))
    }

    /// Which of the fields that it must have it does not have.
    pub(crate) fn lacks(&self, event: &Value) -> Vec<&'static str> {
        self.needs.iter().copied().filter(|field| at(event, field).is_none_or(Value::is_null)).collect()
    }

    pub(crate) fn matching_text(&self) -> String {
        let parts = self.matching.iter().map(|(field, part)| format!("{field} ~ {part}"));
        parts.collect::<Vec<_>>().join(", ")
    }

    /// What the event says of the act, in short.
    pub(crate) fn shown(&self, event: &Value) -> String {
        let fields =
            self.matching.iter().map(|(field, _)| *field).chain(self.needs.iter().rev().take(2).copied());
        let shown = fields.filter_map(|field| Some(format!("{field}={}", text(at(event, field)?))));
        shown.collect::<Vec<_>>().join(" ").chars().take(140).collect()
    }
}

fn at<'a>(event: &'a Value, dotted: &str) -> Option<&'a Value> {
    dotted.split('.').try_fold(event, |value, name| value.get(name))
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
