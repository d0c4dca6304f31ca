//! Scheduled tasks of Windows: the one that lifts what the agent can't any more, and where their definitions
//! lie. No I/O.

use event_model::Timestamp;

use crate::firewall_rules::ISOLATION;
use crate::wfp_filters::Barrier;

/// Where the agent's own tasks are.
const FOLDER: &str = r"\Rampart";

/// Without a duration it has no end.
const EACH_MINUTE: &str =
    "<Repetition><Interval>PT1M</Interval><StopAtDurationEnd>false</StopAtDurationEnd></Repetition>";

/// A task that lifts something at its time, whatever became of the agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LiftingTask {
    /// Its name, with the folder of tasks.
    pub(crate) name: String,
    /// When.
    at: Timestamp,
    /// Names of the firewall's rules that it deletes, and of the filters.
    rules: Vec<String>,
    /// The program that removes the filters.
    lifter: Option<String>,
}

impl LiftingTask {
    /// A task that deletes these rules; `what` is in its name.
    pub(crate) fn new(what: &str, until_seconds: u64, rules: Vec<String>) -> Self {
        let plain = |letter: char| if letter.is_ascii_alphanumeric() || letter == '.' { letter } else { '-' };
        let name = format!(r"{FOLDER}\lift {}", what.chars().map(plain).collect::<String>());
        let seconds = i64::try_from(until_seconds).unwrap_or(i64::MAX / 1_000_000_000);
        Self { name, at: Timestamp::from_nanos(seconds.saturating_mul(1_000_000_000)), rules, lifter: None }
    }

    /// The same, with a program that removes the filters of these names.
    pub(crate) fn with_lifter(self, lifter: Option<String>) -> Self {
        Self { lifter, ..self }
    }

    /// The task, of any time, that lifts what has this name, and all names that it lifts; `None` for a name that no
    /// task of ours lifts.
    pub(crate) fn that_lifts(name: &str) -> Option<(Self, Vec<String>)> {
        if name == ISOLATION {
            let names = vec![name.to_owned()];
            return Some((Self::new("isolation", 0, names.clone()), names));
        }
        let block = name.strip_prefix("Rampart block ")?;
        let network = block.strip_suffix(" in").or_else(|| block.strip_suffix(" out"))?.parse().ok()?;
        let names = Barrier::of_block(network).names;
        Some((Self::new(&format!("block {network}"), 0, names.clone()), names))
    }

    /// Its definition: it runs as the system, and after the next start where the host was off at its time.
    ///
    /// With a lifter it runs again each minute, without an end, until the lifter has seen that all is gone and removes
    /// it: filters that stay would lock the host out for ever. Without, it removes itself last: `netsh` looks at nothing.
    pub(crate) fn definition(&self, system_folder: &str) -> String {
        let run = |path: &str, arguments: &str| {
            format!(
                "<Exec><Command>{}</Command><Arguments>{}</Arguments></Exec>",
                escaped(path),
                escaped(arguments)
            )
        };
        let exec = |program: &str, arguments: &str| run(&format!(r"{system_folder}\{program}"), arguments);
        let mut actions: String = self
            .rules
            .iter()
            .map(|name| {
                exec("netsh.exe", &crate::firewall_rules::typed(&crate::firewall_rules::to_delete(name)))
            })
            .collect();
        let repetition = match &self.lifter {
            Some(lifter) => {
                actions
                    .extend(self.rules.iter().map(|name| run(lifter, &format!("\"-service=lift {name}\""))));
                EACH_MINUTE
            }
            None => {
                actions.push_str(&exec("schtasks.exe", &format!("/delete /f /tn \"{}\"", self.name)));
                ""
            }
        };
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-16\"?>\r\n\
             <Task version=\"1.2\" xmlns=\"http://schemas.microsoft.com/windows/2004/02/mit/task\">\
             <RegistrationInfo><Author>Rampart</Author>\
             <Description>Lifts a block or an isolation when its time is over, also with the agent dead.</Description>\
             </RegistrationInfo>\
             <Triggers><TimeTrigger>{repetition}<StartBoundary>{at}</StartBoundary><Enabled>true</Enabled></TimeTrigger></Triggers>\
             <Principals><Principal id=\"System\"><UserId>S-1-5-18</UserId>\
             <RunLevel>HighestAvailable</RunLevel></Principal></Principals>\
             <Settings><MultipleInstancesPolicy>IgnoreNew</MultipleInstancesPolicy>\
             <DisallowStartIfOnBatteries>false</DisallowStartIfOnBatteries>\
             <StopIfGoingOnBatteries>false</StopIfGoingOnBatteries>\
             <StartWhenAvailable>true</StartWhenAvailable><Enabled>true</Enabled>\
             <ExecutionTimeLimit>PT10M</ExecutionTimeLimit></Settings>\
             <Actions Context=\"System\">{actions}</Actions></Task>",
            at = seconds_of(self.at),
        )
    }
}

/// With whole seconds, as the scheduler takes it.
fn seconds_of(at: Timestamp) -> String {
    let text = at.to_string();
    match text.split_once('.') {
        Some((seconds, _)) => format!("{seconds}Z"),
        None => text,
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// The name of the task whose definition is the file at this path; `tasks` is the folder of them all.
pub(crate) fn name_of_file(path: &str, tasks: &str) -> Option<String> {
    let head = path.get(..tasks.len())?;
    let rest = path.get(tasks.len()..)?;
    let is = head.eq_ignore_ascii_case(tasks) && rest.starts_with('\\') && rest.len() > 1;
    is.then(|| rest.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_task_that_lifts_names_its_time_and_rules_and_stays_until_its_filters_are_gone() {
        let rules = vec!["Rampart block 192.0.2.0/24 in".to_owned(), "a & \"b\"".to_owned()];
        let task = LiftingTask::new("block 192.0.2.0/24", 1_767_322_800, rules);
        assert_eq!(task.name, r"\Rampart\lift block-192.0.2.0-24");
        let text = task.definition(r"C:\Windows\System32");
        assert!(text.contains("<StartBoundary>2026-01-02T03:00:00Z</StartBoundary>"), "{text}");
        assert!(
            text.contains("delete rule name=&quot;Rampart block 192.0.2.0/24 in&quot;</Arguments>"),
            "{text}"
        );
        assert!(text.contains("a &amp; "), "{text}");
        assert!(!text.contains("-service=lift") && !text.contains("<Repetition>"), "{text}");
        let last = text.rsplit("<Exec>").next().unwrap();
        assert!(last.contains(r"schtasks.exe</Command>") && last.contains("/delete /f /tn"), "{last}");
        let program = r"C:\Program Files\Rampart\edr-agent.exe";
        let text = task.with_lifter(Some(program.to_owned())).definition(r"C:\Windows\System32");
        let lifts = format!(
            "<Exec><Command>{program}</Command><Arguments>&quot;-service=lift Rampart block 192.0.2.0/24 in&quot;\
             </Arguments></Exec>"
        );
        assert!(text.contains(&lifts), "{text}");
        let again = "<TimeTrigger><Repetition><Interval>PT1M</Interval>";
        assert!(text.contains(again) && !text.contains("<Duration>"), "each minute, without an end: {text}");
        assert!(!text.contains("schtasks.exe"), "it does not remove itself: {text}");
    }

    #[test]
    fn the_lifter_knows_the_task_that_runs_it_and_all_that_this_lifts() {
        for network in ["192.0.2.0/24", "192.0.2.7", "2001:db8::1"] {
            let network = network.parse().unwrap();
            let names = Barrier::of_block(network).names;
            for name in &names {
                let (task, lifted) = LiftingTask::that_lifts(name).unwrap();
                assert_eq!(task.name, LiftingTask::new(&format!("block {network}"), 7, Vec::new()).name);
                assert_eq!(lifted, names);
            }
        }
        let (task, lifted) = LiftingTask::that_lifts(ISOLATION).unwrap();
        assert_eq!((task.name.as_str(), lifted), (r"\Rampart\lift isolation", vec![ISOLATION.to_owned()]));
        for other in ["Rampart isolation 2", "Rampart block x in", "Rampart block 192.0.2.7", "Vendor"] {
            assert_eq!(LiftingTask::that_lifts(other), None, "{other}");
        }
    }

    #[test]
    fn the_names_of_a_block_and_of_other_blocks_differ() {
        let name = |what| LiftingTask::new(what, 0, Vec::new()).name;
        assert_eq!(name("block 2001:db8::1"), r"\Rampart\lift block-2001-db8--1");
        assert_ne!(name("block 192.0.2.1"), name("block 192.0.2.11"));
    }

    #[test]
    fn only_what_lies_in_the_folder_of_tasks_is_one() {
        let tasks = r"C:\Windows\System32\Tasks";
        let of = |path| name_of_file(path, tasks);
        assert_eq!(of(r"c:\windows\system32\tasks\Vendor\Update").as_deref(), Some(r"\Vendor\Update"));
        for other in [tasks, r"C:\Windows\System32\Tasks\", r"C:\Windows\System32\TasksX\a", r"C:\a", "ü"] {
            assert_eq!(of(other), None, "{other}");
        }
    }
}
