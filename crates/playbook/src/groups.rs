//! Groups of hosts, by name or id.

use std::sync::Arc;

use rule_engine::yaml::{self, Node};
use rule_engine::{Diagnostic, DiagnosticCode, DiagnosticSeverity, Place};

/// Groups and who is in them: the file `host-groups.yml` beside the playbooks.
#[derive(Debug, Clone, Default)]
pub struct HostGroups {
    groups: Vec<(String, Vec<String>)>,
}

impl HostGroups {
    /// Reads `GROUP: [name, id or pattern with * and ?, …]` for each group.
    ///
    /// # Errors
    /// What is wrong, with its place.
    pub fn parse(file: &str, text: &str) -> Result<Self, Vec<Diagnostic>> {
        let file: Arc<str> = file.into();
        let error = |place: &Place, code, reason: String, hint: Option<&str>| {
            let hint = hint.map(str::to_owned);
            vec![Diagnostic::new(DiagnosticSeverity::Error, code, place, reason, hint)]
        };
        let shape = Some("write `web: [web-*, db-1]` for each group");
        let (documents, failed) = yaml::read(text);
        if let Some(failed) = failed {
            return Err(error(&failed.at.place(&file), DiagnosticCode::BadYaml, failed.reason, None));
        }
        let Some(document) = documents.first() else { return Ok(Self::default()) };
        let wrong = |node: &Node, what: &str| {
            error(&node.at().place(&file), DiagnosticCode::WrongType, what.to_owned(), shape)
        };
        let Some(entries) = document.root.map() else {
            return Err(wrong(&document.root, "groups are a map of names and lists"));
        };
        let mut groups = Vec::new();
        for (key, value) in entries {
            let name = key.text().ok_or_else(|| wrong(key, "a group's name is a text"))?;
            let members = value.items().iter().map(|item| {
                let text = item.scalar_text();
                text.ok_or_else(|| wrong(item, "a member is a host's name, id or pattern"))
            });
            groups.push((name.to_owned(), members.collect::<Result<_, _>>()?));
        }
        Ok(Self { groups })
    }

    /// The groups that a host is in.
    pub fn of(&self, host_id: &str, host_name: &str) -> Vec<String> {
        let is_in =
            |members: &[String]| members.iter().any(|member| member == host_id || is_like(host_name, member));
        self.groups.iter().filter(|(_, members)| is_in(members)).map(|(name, _)| name.clone()).collect()
    }

    /// Whether there is a group of that name.
    pub fn has(&self, name: &str) -> bool {
        self.groups.iter().any(|(known, _)| known == name)
    }
}

/// Whether a text is like a pattern with `*` and `?`; case counts for nothing.
pub(crate) fn is_like(text: &str, pattern: &str) -> bool {
    let text: Vec<char> = text.to_lowercase().chars().collect();
    let pattern: Vec<char> = pattern.to_lowercase().chars().collect();
    let (mut t, mut p, mut star) = (0, 0, None);
    // Goes back to the last star only, so it takes at most the product of both lengths.
    while t < text.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(character) if *character == '?' || *character == text[t] => {
                t += 1;
                p += 1;
            }
            _ => match star {
                Some((place, taken)) => {
                    star = Some((place, taken + 1));
                    t = taken + 1;
                    p = place + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|character| *character == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_take_names_ids_and_patterns() {
        let groups = HostGroups::parse("g.yml", "web: [web-*, id-7]\ndb: db-?\n").expect("good");
        assert_eq!(groups.of("x", "WEB-01"), ["web"]);
        assert_eq!(groups.of("id-7", "db-2"), ["web", "db"]);
        assert!(groups.of("y", "db-22").is_empty());
        let errors = HostGroups::parse("g.yml", "web: {a: b}\n").expect_err("bad");
        assert_eq!((errors[0].line, errors[0].column), (1, 6));
    }
}
