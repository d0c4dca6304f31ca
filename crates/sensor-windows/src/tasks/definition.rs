//! What a task's definition says: XML, as the scheduler writes it or as somebody else put it there.

/// What of a definition is told.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Definition {
    /// What it runs: program and arguments of each action, or the class that is loaded.
    pub command: String,
    /// Whom it runs as.
    pub owner: Option<String>,
    /// Its triggers, as `CalendarTrigger 2026-01-02T03:00:00`.
    pub schedule: String,
}

/// Bytes of each part that are kept.
const MOST: usize = 4_096;
/// Actions and triggers that are told.
const MOST_PARTS: usize = 32;

impl Definition {
    /// Reads one. What is no definition gives an empty one.
    pub fn read(text: &str) -> Self {
        let actions = between(text, "Actions").unwrap_or(text);
        let mut commands = Vec::new();
        for action in all_between(actions, "Exec") {
            let parts = ["Command", "Arguments"].into_iter().filter_map(|tag| between(action, tag));
            commands.push(parts.map(unescaped).collect::<Vec<_>>().join(" "));
        }
        for action in all_between(actions, "ComHandler") {
            commands.push(format!("class {}", unescaped(between(action, "ClassId").unwrap_or_default())));
        }
        let triggers = between(text, "Triggers").unwrap_or_default();
        let owner = between(text, "Principals")
            .and_then(|principals| between(principals, "UserId").or_else(|| between(principals, "GroupId")))
            .map(unescaped);
        Self { command: cut(commands.join("; ")), owner: owner.map(cut), schedule: cut(schedule(triggers)) }
    }
}

/// The name of each trigger with the time at which it begins, where it has one.
fn schedule(triggers: &str) -> String {
    let mut told = Vec::new();
    let mut rest = triggers;
    while let Some((_, after)) = rest.split_once('<')
        && told.len() < MOST_PARTS
    {
        let name: String = after.chars().take_while(char::is_ascii_alphanumeric).collect();
        rest = after;
        if !name.ends_with("Trigger") {
            continue;
        }
        let closing = format!("</{name}>");
        let (body, next) = after.split_once(closing.as_str()).unwrap_or((after, ""));
        // One that ends in itself has nothing in it.
        let is_empty = after.split_once('>').is_some_and(|(head, _)| head.ends_with('/'));
        match between(body, "StartBoundary").filter(|_| !is_empty) {
            Some(at) => told.push(format!("{name} {}", unescaped(at))),
            None => told.push(name),
        }
        if !is_empty {
            rest = next;
        }
    }
    told.join("; ")
}

/// What stands in the first element of this name; its attributes are passed over.
fn between<'a>(text: &'a str, tag: &str) -> Option<&'a str> {
    all_between(text, tag).next()
}

fn all_between<'a>(text: &'a str, tag: &str) -> impl Iterator<Item = &'a str> {
    let (opening, closing) = (format!("<{tag}"), format!("</{tag}>"));
    let mut rest = text;
    let each = std::iter::from_fn(move || {
        loop {
            let (_, after) = rest.split_once(opening.as_str())?;
            rest = after;
            // `<Exec` begins `<Execution…`, too.
            if !after.starts_with(['>', ' ', '\t', '\r', '\n']) {
                continue;
            }
            let (_, inner) = after.split_once('>')?;
            let (found, next) = inner.split_once(closing.as_str())?;
            rest = next;
            return Some(found);
        }
    });
    each.take(MOST_PARTS)
}

fn unescaped(text: &str) -> String {
    let plain = text.trim().replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"");
    // The last: what it makes is no beginning of another.
    plain.replace("&apos;", "'").replace("&amp;", "&")
}

fn cut(text: String) -> String {
    if text.len() <= MOST { text } else { format!("{}…", &text[..text.floor_char_boundary(MOST)]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_definition_tells_what_runs_as_whom_and_when() {
        let text = r#"<?xml version="1.0"?><Task version="1.2"><Triggers>
            <CalendarTrigger id="a"><StartBoundary>2026-01-02T03:00:00</StartBoundary></CalendarTrigger>
            <LogonTrigger /><BootTrigger></BootTrigger></Triggers>
            <Principals><Principal id="x"><UserId>S-1-5-18</UserId></Principal></Principals>
            <Settings><ExecutionTimeLimit>PT1H</ExecutionTimeLimit></Settings>
            <Actions Context="x"><Exec><Command>cmd.exe</Command><Arguments>/c a &amp;&amp; b &gt; "c"</Arguments></Exec>
            <Exec><Command>d.exe</Command></Exec><ComHandler><ClassId>{1-2}</ClassId></ComHandler></Actions></Task>"#;
        let read = Definition::read(text);
        assert_eq!(read.command, "cmd.exe /c a && b > \"c\"; d.exe; class {1-2}");
        assert_eq!(read.owner.as_deref(), Some("S-1-5-18"));
        assert_eq!(read.schedule, "CalendarTrigger 2026-01-02T03:00:00; LogonTrigger; BootTrigger");
    }

    #[test]
    fn actions_alone_and_broken_text_are_taken_as_far_as_they_go() {
        let exec = "<Exec><Command>a&amp;lt;</Command></Exec>";
        assert_eq!(Definition::read(exec).command, "a&lt;");
        for broken in
            ["", "<Exec>", "<Exec><Command>a</Command>", "<Actions><Exec", "\u{0}<<>>&", "<ExecX>a</ExecX>"]
        {
            assert_eq!(Definition::read(broken).command, "", "{broken}");
        }
        let endless = format!("<Exec><Command>{}</Command></Exec>", "ü".repeat(MOST));
        assert!(Definition::read(&endless).command.len() <= MOST + '…'.len_utf8());
        let many = "<Exec><Command>a</Command></Exec>".repeat(1_000);
        assert_eq!(Definition::read(&many).command.matches('a').count(), MOST_PARTS);
    }
}
