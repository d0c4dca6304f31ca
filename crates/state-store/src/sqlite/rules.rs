//! Rules and their version.

use event_model::{ResponseMode, RuleId, Severity, Timestamp};
use rusqlite::{Connection, Row, params};

use super::{Columns, Result, SqliteStateStore, collect, conflict, execute, first};
use crate::{NewRule, Rule, RuleHead, RuleOrigin, RulePatch, RuleSet, RuleStore, StateError};

const CHANGING: &str = "change a rule";

impl RuleStore for SqliteStateStore {
    fn rules(&self) -> Result<RuleSet> {
        self.read("read the rules", |transaction| {
            // Both reads see one moment: they stand in one transaction.
            let version = version(transaction)?;
            let rules =
                collect(transaction, "read the rules", "SELECT * FROM rules ORDER BY id", (), read_rule)?;
            Ok(RuleSet { version, rules })
        })
    }

    fn rules_version(&self) -> Result<u64> {
        self.read("read the rules' version", |transaction| version(transaction))
    }

    fn rule(&self, id: &RuleId) -> Result<Option<Rule>> {
        self.read("read a rule", |transaction| {
            first(transaction, "read a rule", "SELECT * FROM rules WHERE id = ?", [id.as_str()], read_rule)
        })
    }

    fn insert_starter_rules(&self, rules: &[NewRule], now: Timestamp) -> Result<bool> {
        self.write("put the starter rules in", |transaction| {
            // Version 0 means that no rule was ever put in; one who removed every
            // starter rule does not want them back at the next start.
            if version(transaction)? != 0 {
                return Ok(false);
            }
            for rule in rules {
                insert(transaction, rule, RuleOrigin::Starter, "starter pack", now)?;
            }
            bump(transaction, now)?;
            Ok(true)
        })
    }

    fn create_rules(&self, rules: &[NewRule], by: &str, now: Timestamp) -> Result<u64> {
        self.write(CHANGING, |transaction| {
            for rule in rules {
                insert(transaction, rule, RuleOrigin::User, by, now)?;
            }
            bump(transaction, now)
        })
    }

    fn replace_rule(&self, rule: &NewRule, by: &str, now: Timestamp) -> Result<u64> {
        self.write(CHANGING, |transaction| {
            let head = &rule.head;
            let sql =
                "UPDATE rules SET text = ?, name = ?, rule_type = ?, severity = ?, enabled = ?, mode = ?,
                           updated_at = ?, updated_by = ?
                       WHERE id = ?";
            let values = params![
                rule.text,
                head.name,
                head.rule_type,
                head.severity.as_str(),
                head.enabled,
                head.mode.as_str(),
                now.as_nanos(),
                by,
                head.id.as_str()
            ];
            found(execute(transaction, CHANGING, sql, values)?, &head.id)?;
            bump(transaction, now)
        })
    }

    fn patch_rule(&self, id: &RuleId, patch: &RulePatch, by: &str, now: Timestamp) -> Result<u64> {
        self.write(CHANGING, |transaction| {
            let sql = "UPDATE rules SET enabled = coalesce(?, enabled), mode = coalesce(?, mode),
                           text = coalesce(?, text), updated_at = ?, updated_by = ?
                       WHERE id = ?";
            let values = params![
                patch.enabled,
                patch.mode.map(ResponseMode::as_str),
                patch.text,
                now.as_nanos(),
                by,
                id.as_str()
            ];
            found(execute(transaction, CHANGING, sql, values)?, id)?;
            bump(transaction, now)
        })
    }

    fn delete_rule(&self, id: &RuleId, now: Timestamp) -> Result<u64> {
        self.write("remove a rule", |transaction| {
            found(
                execute(transaction, "remove a rule", "DELETE FROM rules WHERE id = ?", [id.as_str()])?,
                id,
            )?;
            bump(transaction, now)
        })
    }

    fn set_mode_of_all(&self, mode: ResponseMode, by: &str, now: Timestamp) -> Result<(u64, u64)> {
        self.write(CHANGING, |transaction| {
            let sql = "UPDATE rules SET mode = ?1, updated_at = ?2, updated_by = ?3 WHERE mode <> ?1";
            let changed = execute(transaction, CHANGING, sql, params![mode.as_str(), now.as_nanos(), by])?;
            let version = if changed > 0 { bump(transaction, now)? } else { version(transaction)? };
            Ok((version, changed as u64))
        })
    }
}

pub(super) fn version(connection: &Connection) -> Result<u64> {
    let doing = "read the rules' version";
    let version =
        first(connection, doing, "SELECT version FROM rules_version", (), |row| row.count("version"))?;
    Ok(version.unwrap_or_default())
}

/// To the larger of the version before plus one and the time in milliseconds, in
/// the caller's transaction: no one ever sees new rules under an old version.
pub(super) fn bump(connection: &Connection, now: Timestamp) -> Result<u64> {
    let sql = "UPDATE rules_version SET version = max(version + 1, ?)";
    execute(connection, CHANGING, sql, [now.as_millis()])?;
    version(connection)
}

fn insert(
    connection: &Connection,
    rule: &NewRule,
    origin: RuleOrigin,
    by: &str,
    now: Timestamp,
) -> Result<()> {
    let head = &rule.head;
    let sql = "INSERT INTO rules (id, text, name, rule_type, severity, enabled, mode, origin, updated_at,
                   updated_by)
               VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
    let values = params![
        head.id.as_str(),
        rule.text,
        head.name,
        head.rule_type,
        head.severity.as_str(),
        head.enabled,
        head.mode.as_str(),
        origin.as_str(),
        now.as_nanos(),
        by
    ];
    connection.execute(sql, values).map_err(conflict(CHANGING, "rule", head.id.as_str()))?;
    Ok(())
}

fn found(changed: usize, id: &RuleId) -> Result<()> {
    match changed {
        0 => Err(StateError::NotFound { what: "rule", key: id.to_string() }),
        _ => Ok(()),
    }
}

fn read_rule(row: &Row<'_>) -> Result<Rule> {
    Ok(Rule {
        head: RuleHead {
            id: RuleId::new(row.text("id")?),
            name: row.text("name")?,
            rule_type: row.text("rule_type")?,
            severity: row.word("severity", Severity::from_word)?,
            enabled: row.flag("enabled")?,
            mode: row.word("mode", ResponseMode::from_word)?,
        },
        text: row.text("text")?,
        origin: row.word("origin", RuleOrigin::from_word)?,
        updated_at: row.time("updated_at")?,
        updated_by: row.text("updated_by")?,
    })
}
