//! YARA files and lists of indicators. They share the rules' version: both go to agents
//! in one bundle.

use event_model::Timestamp;
use rusqlite::{Row, params};

use super::rules::{bump, version};
use super::{Columns, Result, SqliteStateStore, collect, execute, first};
use crate::{
    ContentHead, ContentKind, ContentSet, ContentStore, KeptContentFile, NewContentFile, StateError,
};

const READING: &str = "read YARA files and indicators";
const CHANGING: &str = "change YARA files and indicators";

const HEAD: &str = "kind, name, length(CAST(text AS BLOB)) AS bytes, entries, updated_at, updated_by";

impl ContentStore for SqliteStateStore {
    fn content_set(&self) -> Result<ContentSet> {
        self.read(READING, |transaction| {
            // Both reads see one moment: they stand in one transaction.
            let version = version(transaction)?;
            let sql = format!("SELECT {HEAD}, text FROM content_files ORDER BY kind, name");
            let files = collect(transaction, READING, &sql, (), read_file)?;
            Ok(ContentSet { version, files })
        })
    }

    fn content_heads(&self, kind: ContentKind) -> Result<Vec<ContentHead>> {
        self.read(READING, |transaction| {
            let sql = format!("SELECT {HEAD} FROM content_files WHERE kind = ? ORDER BY name");
            collect(transaction, READING, &sql, [kind.as_str()], read_head)
        })
    }

    fn content_file(&self, kind: ContentKind, name: &str) -> Result<Option<KeptContentFile>> {
        self.read(READING, |transaction| {
            let sql = format!("SELECT {HEAD}, text FROM content_files WHERE kind = ? AND name = ?");
            first(transaction, READING, &sql, [kind.as_str(), name], read_file)
        })
    }

    fn put_content_file(
        &self,
        file: &NewContentFile,
        max_total_bytes: u64,
        by: &str,
        now: Timestamp,
    ) -> Result<u64> {
        self.write(CHANGING, |transaction| {
            let sql = "INSERT INTO content_files (kind, name, text, entries, updated_at, updated_by)
                       VALUES (?, ?, ?, ?, ?, ?)
                       ON CONFLICT (kind, name) DO UPDATE SET text = excluded.text, entries = excluded.entries,
                           updated_at = excluded.updated_at, updated_by = excluded.updated_by";
            let entries = i64::try_from(file.entries).unwrap_or(i64::MAX);
            let values =
                params![file.kind.as_str(), file.name, file.text, entries, now.as_nanos(), by];
            execute(transaction, CHANGING, sql, values)?;
            let sql = "SELECT coalesce(sum(length(CAST(text AS BLOB))), 0) AS bytes FROM content_files";
            let total = first(transaction, CHANGING, sql, (), |row| row.count("bytes"))?.unwrap_or_default();
            if total > max_total_bytes {
                return Err(StateError::Invalid(format!(
                    "with this, all YARA files and indicator lists together have {total} bytes, and \
                     {max_total_bytes} are allowed, as every agent gets all of them; remove one, or put large lists \
                     into the agents' rules directory"
                )));
            }
            bump(transaction, now)
        })
    }

    fn delete_content_file(&self, kind: ContentKind, name: &str, now: Timestamp) -> Result<u64> {
        self.write(CHANGING, |transaction| {
            let sql = "DELETE FROM content_files WHERE kind = ? AND name = ?";
            match execute(transaction, CHANGING, sql, [kind.as_str(), name])? {
                0 => Err(StateError::NotFound { what: what(kind), key: name.to_owned() }),
                _ => bump(transaction, now),
            }
        })
    }
}

fn what(kind: ContentKind) -> &'static str {
    match kind {
        ContentKind::Yara => "YARA file",
        ContentKind::Indicators => "indicator list",
        ContentKind::Behaviours => "behaviour file",
    }
}

fn read_head(row: &Row<'_>) -> Result<ContentHead> {
    Ok(ContentHead {
        kind: row.word("kind", ContentKind::from_word)?,
        name: row.text("name")?,
        bytes: row.count("bytes")?,
        entries: row.count("entries")?,
        updated_at: row.time("updated_at")?,
        updated_by: row.text("updated_by")?,
    })
}

fn read_file(row: &Row<'_>) -> Result<KeptContentFile> {
    Ok(KeptContentFile { head: read_head(row)?, text: row.text("text")? })
}
