//! The agent in its Windows, and the server of this machine.

use std::fs::{self, File};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use test_support::{Api, ServerProcess, pause};

use crate::guest::{Guest, Wine};
use crate::{OWN_KEY, write_rules};

/// Wine on a busy machine takes its time.
pub(crate) const LONG: Duration = Duration::from_secs(120);

pub(crate) struct Installation {
    pub(crate) agent: Guest,
    pub(crate) server: Option<ServerProcess>,
    pub(crate) api: Api,
    pub(crate) wine: Wine,
}

impl Installation {
    pub(crate) fn start() -> Option<Self> {
        let wine = Wine::new()?;
        let server = ServerProcess::start(wine.folder.path());
        let api = server.api("administrator");
        write_rules(&wine.drive("rules"));
        let agent = start_agent(&wine, &server);
        let new = Self { agent, server: Some(server), api, wine };
        new.host();
        Some(new)
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.wine.folder.path().join("agent.log")).unwrap_or_default()
    }

    /// The agent of a finished part has not ended by itself.
    pub(crate) fn still_runs(&mut self) {
        assert!(!self.agent.ended(), "the agent ended:\n{}", self.log());
    }

    pub(crate) fn wait<T>(&self, what: &str, ask: impl FnMut() -> Option<T>) -> T {
        self.wait_or_show(what, String::new, ask)
    }

    /// Waits; where it is in vain, shows the agent's log and what else helps to see why.
    fn wait_or_show<T>(
        &self,
        what: &str,
        show: impl Fn() -> String,
        mut ask: impl FnMut() -> Option<T>,
    ) -> T {
        let until = Instant::now() + LONG;
        loop {
            if let Some(answer) = ask() {
                return answer;
            }
            assert!(
                Instant::now() < until,
                "{what}: not within {LONG:?}\n{}\nthe agent's log:\n{}",
                show(),
                self.log()
            );
            // The server has other things to do than to answer this one question.
            pause(Duration::from_millis(200));
        }
    }

    pub(crate) fn host(&self) -> Value {
        self.wait("the host is online", || {
            let hosts = self.api.get("/hosts").ok()?;
            hosts["items"].as_array()?.iter().find(|host| host["online"] == true).cloned()
        })
    }

    /// The first event of a type that is as wanted.
    pub(crate) fn event(&self, event_type: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let show = || {
            let told: Vec<String> = self.events(event_type).iter().map(Value::to_string).collect();
            format!("what was told of that type:\n{}", told.join("\n"))
        };
        self.wait_or_show(event_type, show, || {
            self.events(event_type).into_iter().find(|event| wanted(event))
        })
    }

    /// Changes rules of the server's, and waits until the agent has them in force.
    pub(crate) fn change_rules(&self, change: impl FnOnce(&Api)) {
        // What the server sends first would otherwise be taken for the change.
        let before = self.wait("the server's first rules are in force", || {
            self.host()["rules_version"].as_u64().filter(|version| *version > 0)
        });
        change(&self.api);
        self.wait("the agent has the change", || {
            (self.host()["rules_version"].as_u64()? > before).then_some(())
        });
    }

    pub(crate) fn events(&self, event_type: &str) -> Vec<Value> {
        self.api.all(&format!("/events?type={event_type}&limit=500"))
    }

    pub(crate) fn alert(&self, rule: u64) -> Value {
        let id = rule.to_string();
        let is_of_rule = |one: &Value| one["rule"]["id"].to_string().trim_matches('"') == id;
        self.wait(&format!("an alert of rule {rule}"), || {
            let alerts = self.api.get("/alerts?limit=100").ok()?;
            let found = alerts["items"].as_array()?.iter().find(|one| is_of_rule(one));
            self.api.get(&format!("/alerts/{}", found?["id"].as_str()?)).ok()
        })
    }

    pub(crate) fn ordered(&self, action: &str, parameters: &Value, dry_run: bool) -> Value {
        let made = self.asked_for(action, parameters, dry_run);
        self.ended(&made)
    }

    fn asked_for(&self, action: &str, parameters: &Value, dry_run: bool) -> Value {
        let host = self.host()["id"].as_str().expect("an id").to_owned();
        let body = json!({ "action": action, "parameters": parameters, "dry_run": dry_run });
        self.api.post(&format!("/hosts/{host}/responses"), &body).expect("it is ordered")
    }

    /// Undoes what was ordered.
    pub(crate) fn undone(&self, order: &Value) -> Value {
        let id = text(order, &["id"]);
        let made = self.api.post(&format!("/responses/{id}/undo"), &json!({})).expect("ordered");
        self.ended(&made)
    }

    pub(crate) fn ended(&self, made: &Value) -> Value {
        let path = format!("/responses/{}", made["id"].as_str().expect("an id"));
        self.wait("the receipt", || {
            let now = self.api.get(&path).ok()?;
            (!["queued", "sent"].contains(&now["state"].as_str()?)).then_some(now)
        })
    }
}

fn start_agent(wine: &Wine, server: &ServerProcess) -> Guest {
    let ca = format!("Z:{}", server.ca_file().display().to_string().replace('/', "\\"));
    let arguments = [
        format!("-server={}", server.url()),
        format!("-cert={ca}"),
        format!("-token={}", server.enrollment_token()),
        r"-state=C:\state".to_owned(),
        r"-dirs=C:\watched".to_owned(),
        r"-rules=C:\rules".to_owned(),
        format!("-regs={OWN_KEY}"),
        "-cpulimit=0".to_owned(),
        "-debug".to_owned(),
    ];
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let log =
        File::options().create(true).append(true).open(wine.folder.path().join("agent.log")).expect("a log");
    let mut command = wine.command(r"C:\bin\edr-agent.exe", &arguments);
    command.stderr(log.try_clone().expect("a log")).stdout(log);
    Guest(command.spawn().expect("wine starts"))
}

/// The text at a place of a document; empty where there is none.
pub(crate) fn text<'a>(event: &'a Value, path: &[&str]) -> &'a str {
    path.iter().fold(event, |value, key| &value[*key]).as_str().unwrap_or_default()
}
