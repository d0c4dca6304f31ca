//! The message for outside subscribers, in the form that was there before us.

use serde_json::{Value, json};

/// The Redis Pub/Sub channel of alerts that are high or critical.
pub const HIGH_SEVERITY_CHANNEL: &str = "high_severity_alerts";

/// The JSON for [`HIGH_SEVERITY_CHANNEL`], made from the alert's; `None` if the alert is not that bad.
///
/// Keys `level title description details timestamp actionable_pid source_ip` are the old ones. Where an
/// alert has no process or address the key is left out, so that a subscriber that asks for it gets
/// nothing to act on. New keys follow them.
pub fn outside_message(payload: &str) -> Option<String> {
    let alert: Value = serde_json::from_str(payload).ok()?;
    let rule = &alert["rule"];
    let severity = rule["severity"].as_str()?;
    if severity != "high" && severity != "critical" {
        return None;
    }
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let process = &alert["process"];
    let is_other = |other: &&Value| other["entity_id"] != process["entity_id"];
    let parent = alert["ancestry"].as_array().and_then(|all| all.iter().find(is_other)).cloned();
    let parent = parent.unwrap_or_default();
    let named = |process: &Value| {
        let path = text(&process["executable"]);
        path.rsplit(['/', '\\']).next().unwrap_or_default().to_owned()
    };
    let description = match (process["pid"].as_i64(), parent["pid"].as_i64()) {
        (Some(pid), Some(parent_pid)) => format!(
            "父进程 '{}' (PID: {parent_pid}) 启动了子进程 '{}' (PID: {pid})",
            named(&parent),
            named(process)
        ),
        _ => text(&rule["description"]),
    };
    let mut message = json!({
        "level": severity.to_uppercase(),
        "title": rule["name"],
        "description": description,
        "details": format!("命令行: {}", text(&process["command_line"])),
        "timestamp": alert["time"],
    });
    let map = message.as_object_mut()?;
    if let Some(pid) = process["pid"].as_i64().filter(|pid| *pid > 2) {
        map.insert("actionable_pid".to_owned(), pid.into());
    }
    // The other end: where it was connected to, or from where it came.
    let event = &alert["event"];
    let peer = [&event["destination"]["ip"], &event["source"]["ip"]].into_iter().find_map(Value::as_str);
    if let Some(peer) = peer {
        map.insert("source_ip".to_owned(), peer.into());
    }
    for (key, value) in [
        ("alert_id", &alert["id"]),
        ("host_id", &alert["host_id"]),
        ("host_name", &alert["host_name"]),
        ("rule_id", &rule["id"]),
        ("attack", &rule["attack"]),
        ("process_entity_id", &process["entity_id"]),
    ] {
        map.insert(key.to_owned(), value.clone());
    }
    Some(message.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alert(severity: &str) -> String {
        json!({
            "id": "a1", "time": "2026-11-26T06:00:00Z", "host_id": "h1", "host_name": "pc-1",
            "rule": {"id": "r1", "name": "可疑的进程创建链 (LotL)!", "severity": severity, "attack": ["T1204"]},
            "process": {"entity_id": "b:42:1", "pid": 42, "executable": "C:\\W\\powershell.exe", "command_line": "powershell -enc A"},
            "ancestry": [{"entity_id": "b:42:1", "pid": 42}, {"pid": 7, "executable": "C:\\O\\winword.exe"}],
            "event": {"destination": {"ip": "192.0.2.9"}},
        })
        .to_string()
    }

    #[test]
    fn it_has_the_old_keys_with_their_types() {
        let message: Value =
            serde_json::from_str(&outside_message(&alert("high")).expect("high")).expect("JSON");
        assert_eq!(message["level"], "HIGH");
        assert_eq!(message["title"], "可疑的进程创建链 (LotL)!");
        assert_eq!(
            message["description"],
            "父进程 'winword.exe' (PID: 7) 启动了子进程 'powershell.exe' (PID: 42)"
        );
        assert_eq!(message["details"], "命令行: powershell -enc A");
        assert_eq!(message["timestamp"], "2026-11-26T06:00:00Z");
        assert_eq!(message["actionable_pid"], 42);
        assert_eq!(message["source_ip"], "192.0.2.9");
        let keys: Vec<_> = message.as_object().expect("an object").keys().take(7).cloned().collect();
        assert_eq!(
            keys,
            ["level", "title", "description", "details", "timestamp", "actionable_pid", "source_ip"]
        );
    }

    #[test]
    fn nothing_to_act_on_is_no_key_and_low_is_not_told() {
        assert_eq!(outside_message(&alert("medium")), None);
        assert_eq!(outside_message("{"), None);
        let bare =
            r#"{"rule": {"name": "x", "severity": "critical", "description": "d"}, "process": {"pid": 1}}"#;
        let message: Value = serde_json::from_str(&outside_message(bare).expect("critical")).expect("JSON");
        assert!(message.get("actionable_pid").is_none() && message.get("source_ip").is_none());
        assert_eq!(message["description"], "d");
    }
}
