//! Hosts and their enrolment.

use event_model::{BootId, HostId, Timestamp};
use rusqlite::{Connection, Row, params};
use uuid::Uuid;

use super::{
    Columns, Result, SqliteStateStore, as_i64, collect, conflict, execute, first, to_json, unreadable,
};
use crate::{
    AgentFigures, AgentStatus, AlertId, Certificate, EnrollmentToken, Host, HostContact, HostStore,
    NewEnrollmentToken, NewHost, RedeemError, SecretDigest, StateError, TokenRefusal,
};

const SELECT_HOST: &str = "SELECT *, (SELECT count(*) FROM alerts
    WHERE alerts.host_id = hosts.id AND status <> 'closed') AS open_alerts FROM hosts";

impl HostStore for SqliteStateStore {
    fn create_enrollment_token(&self, token: &NewEnrollmentToken, now: Timestamp) -> Result<Uuid> {
        if token.uses == 0 {
            return Err(StateError::Invalid(
                "an enrolment token must be good for at least one host".to_owned(),
            ));
        }
        let id = Uuid::new_v4();
        self.write("make an enrolment token", |transaction| {
            execute(
                transaction,
                "make an enrolment token",
                "INSERT INTO enrollment_tokens
                     (id, secret, created_at, created_by, expires_at, uses, uses_left)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6)",
                params![
                    id.as_bytes(),
                    token.secret.as_bytes(),
                    now.as_nanos(),
                    token.created_by,
                    token.expires_at.as_nanos(),
                    token.uses
                ],
            )?;
            Ok(id)
        })
    }

    fn enrollment_tokens(&self) -> Result<Vec<EnrollmentToken>> {
        let doing = "list enrolment tokens";
        self.read(doing, |transaction| {
            let sql = "SELECT * FROM enrollment_tokens ORDER BY created_at DESC, id LIMIT 500";
            collect(transaction, doing, sql, (), read_token)
        })
    }

    fn revoke_enrollment_token(&self, id: Uuid, now: Timestamp) -> Result<bool> {
        let doing = "revoke an enrolment token";
        self.write(doing, |transaction| {
            let sql = "UPDATE enrollment_tokens SET revoked_at = coalesce(revoked_at, ?) WHERE id = ?";
            Ok(execute(transaction, doing, sql, params![now.as_nanos(), id.as_bytes()])? > 0)
        })
    }

    fn check_token(&self, secret: &SecretDigest, now: Timestamp) -> std::result::Result<(), RedeemError> {
        self.read("check an enrolment token", |transaction| good_token(transaction, secret, now).map(|_| ()))
    }

    fn redeem_token(
        &self,
        secret: &SecretDigest,
        host: &NewHost,
        now: Timestamp,
    ) -> std::result::Result<(), RedeemError> {
        // The write lock is taken before the token is read, so of two that race
        // for the last use the second one finds it used up.
        self.write("enrol a host", |transaction| {
            let token = good_token(transaction, secret, now)?;
            let sql = "UPDATE enrollment_tokens SET uses_left = uses_left - 1, used_at = ?, used_by = ?
                       WHERE id = ?";
            let values = params![now.as_nanos(), host.id.as_bytes(), token.id.as_bytes()];
            execute(transaction, "use an enrolment token", sql, values)?;
            insert_host(transaction, host, now)?;
            Ok(())
        })
    }

    fn hosts(&self) -> Result<Vec<Host>> {
        self.read("list hosts", |transaction| {
            let sql = format!("{SELECT_HOST} ORDER BY name, id");
            collect(transaction, "list hosts", &sql, (), read_host)
        })
    }

    fn host(&self, id: HostId) -> Result<Option<Host>> {
        self.read("read a host", |transaction| {
            let sql = format!("{SELECT_HOST} WHERE id = ?");
            first(transaction, "read a host", &sql, [id.as_bytes()], read_host)
        })
    }

    fn host_by_certificate(&self, fingerprint: &[u8; 32]) -> Result<Option<Host>> {
        let doing = "look a certificate up";
        self.read(doing, |transaction| {
            let sql = format!("{SELECT_HOST} WHERE certificate = ?1 OR previous_certificate = ?1");
            first(transaction, doing, &sql, [fingerprint], read_host)
        })
    }

    fn renew_certificate(&self, id: HostId, certificate: &Certificate) -> Result<()> {
        let doing = "renew a certificate";
        self.write(doing, |transaction| {
            // Asking again with the same certificate must not push the good one out.
            let sql = "UPDATE hosts SET previous_certificate = certificate,
                           previous_certificate_expires_at = certificate_expires_at,
                           certificate = ?1, certificate_expires_at = ?2
                       WHERE id = ?3 AND certificate <> ?1";
            let values = params![certificate.fingerprint, certificate.expires_at.as_nanos(), id.as_bytes()];
            if execute(transaction, doing, sql, values)? == 0 {
                must_exist(transaction, id)?;
            }
            Ok(())
        })
    }

    fn drop_previous_certificate(&self, id: HostId) -> Result<()> {
        let doing = "forget a certificate";
        self.write(doing, |transaction| {
            let sql = "UPDATE hosts SET previous_certificate = NULL, previous_certificate_expires_at = NULL
                       WHERE id = ?";
            execute(transaction, doing, sql, [id.as_bytes()]).map(|_| ())
        })
    }

    fn revoke_host(&self, id: HostId, now: Timestamp) -> Result<bool> {
        self.write("revoke a host", |transaction| {
            let sql = "UPDATE hosts SET revoked_at = coalesce(revoked_at, ?) WHERE id = ?";
            Ok(execute(transaction, "revoke a host", sql, params![now.as_nanos(), id.as_bytes()])? > 0)
        })
    }

    fn record_status(&self, id: HostId, boot: BootId, status: &AgentStatus, now: Timestamp) -> Result<()> {
        let doing = "note an agent's status";
        self.write(doing, |transaction| {
            let sql = "UPDATE hosts SET name = ?, os = ?, kernel = ?, agent_version = ?, sensor = ?,
                           rules_version = ?, rules_loaded = ?, rules_errors = ?,
                           produced = ?, spooled = ?, dropped = ?, kernel_lost = ?,
                           boot_id = ?, last_seen_at = max(coalesce(last_seen_at, 0), ?)
                       WHERE id = ?";
            let figures = &status.figures;
            let values = params![
                status.name,
                status.os,
                status.kernel,
                status.agent_version,
                status.sensor,
                as_i64(status.rules_version),
                as_i64(status.rules_loaded),
                to_json(&status.rules_errors),
                as_i64(figures.produced),
                as_i64(figures.spooled),
                as_i64(figures.dropped),
                as_i64(figures.kernel_lost),
                boot.as_bytes(),
                now.as_nanos(),
                id.as_bytes(),
            ];
            match execute(transaction, doing, sql, values)? {
                0 => must_exist(transaction, id),
                _ => Ok(()),
            }
        })
    }

    fn record_seen(&self, seen: &[(HostId, Timestamp)]) -> Result<()> {
        if seen.is_empty() {
            return Ok(());
        }
        let doing = "note when hosts were seen";
        self.write(doing, |transaction| {
            let sql = "UPDATE hosts SET last_seen_at = max(coalesce(last_seen_at, 0), ?) WHERE id = ?";
            for (id, at) in seen {
                execute(transaction, doing, sql, params![at.as_nanos(), id.as_bytes()])?;
            }
            Ok(())
        })
    }

    fn set_contact(
        &self,
        id: HostId,
        contact: HostContact,
        since: Timestamp,
        alert: Option<AlertId>,
    ) -> Result<bool> {
        let doing = "note whether a host reports";
        self.write(doing, |transaction| {
            let sql = "UPDATE hosts SET contact = ?1, contact_since = ?2, silence_alert = ?3
                       WHERE id = ?4 AND contact <> ?1";
            let alert = alert.map(|alert| alert.as_uuid().as_bytes().to_vec());
            let values = params![contact.as_str(), since.as_nanos(), alert, id.as_bytes()];
            match execute(transaction, doing, sql, values)? {
                0 => must_exist(transaction, id).map(|()| false),
                _ => Ok(true),
            }
        })
    }
}

fn good_token(
    connection: &Connection,
    secret: &SecretDigest,
    now: Timestamp,
) -> std::result::Result<EnrollmentToken, RedeemError> {
    let doing = "look an enrolment token up";
    let sql = "SELECT * FROM enrollment_tokens WHERE secret = ?";
    let token =
        first(connection, doing, sql, [secret.as_bytes()], read_token)?.ok_or(TokenRefusal::Unknown)?;
    if token.revoked_at.is_some() {
        Err(TokenRefusal::Revoked)?;
    }
    if token.uses_left == 0 {
        Err(TokenRefusal::UsedUp)?;
    }
    if now >= token.expires_at {
        Err(TokenRefusal::Expired)?;
    }
    Ok(token)
}

fn insert_host(connection: &Connection, host: &NewHost, now: Timestamp) -> Result<()> {
    let doing = "enrol a host";
    let sql = "INSERT INTO hosts (id, name, os, kernel, agent_version, enrolled_at, certificate,
                   certificate_expires_at)
               VALUES (?, ?, ?, ?, ?, ?, ?, ?)";
    connection
        .execute(
            sql,
            params![
                host.id.as_bytes(),
                host.name,
                host.os,
                host.kernel,
                host.agent_version,
                now.as_nanos(),
                host.certificate.fingerprint,
                host.certificate.expires_at.as_nanos()
            ],
        )
        .map_err(conflict(doing, "host", &host.id.to_string()))?;
    Ok(())
}

fn must_exist(connection: &Connection, id: HostId) -> Result<()> {
    let found =
        first(connection, "look a host up", "SELECT 1 FROM hosts WHERE id = ?", [id.as_bytes()], |_| Ok(()))?;
    found.ok_or_else(|| StateError::NotFound { what: "host", key: id.to_string() })
}

fn read_token(row: &Row<'_>) -> Result<EnrollmentToken> {
    let used_by = row.bytes("used_by")?;
    let small = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
    Ok(EnrollmentToken {
        id: row.uuid("id")?,
        created_at: row.time("created_at")?,
        created_by: row.text("created_by")?,
        expires_at: row.time("expires_at")?,
        uses: small(row.count("uses")?),
        uses_left: small(row.count("uses_left")?),
        used_at: row.optional_time("used_at")?,
        used_by: used_by
            .map(|bytes| HostId::from_slice(&bytes).map_err(|error| unreadable("used_by", error)))
            .transpose()?,
        revoked_at: row.optional_time("revoked_at")?,
    })
}

fn read_host(row: &Row<'_>) -> Result<Host> {
    let certificate = |bytes: Option<Vec<u8>>,
                       expires_at: Option<Timestamp>|
     -> Result<Option<Certificate>> {
        let (Some(bytes), Some(expires_at)) = (bytes, expires_at) else { return Ok(None) };
        let fingerprint =
            bytes.try_into().map_err(|_| unreadable("certificate", "a digest that is not of 32 bytes"))?;
        Ok(Some(Certificate { fingerprint, expires_at }))
    };
    let boot_id = row.bytes("boot_id")?;
    let current = certificate(row.bytes("certificate")?, row.optional_time("certificate_expires_at")?)?;
    Ok(Host {
        id: row.host_id("id")?,
        name: row.text("name")?,
        os: row.text("os")?,
        kernel: row.text("kernel")?,
        agent_version: row.text("agent_version")?,
        sensor: row.optional_text("sensor")?,
        enrolled_at: row.time("enrolled_at")?,
        last_seen_at: row.optional_time("last_seen_at")?,
        boot_id: boot_id
            .map(|bytes| BootId::from_slice(&bytes).map_err(|error| unreadable("boot_id", error)))
            .transpose()?,
        rules_version: row.count("rules_version")?,
        rules_loaded: row.count("rules_loaded")?,
        rules_errors: row.json("rules_errors")?,
        certificate: current.ok_or_else(|| unreadable("certificate", "NULL"))?,
        previous_certificate: certificate(
            row.bytes("previous_certificate")?,
            row.optional_time("previous_certificate_expires_at")?,
        )?,
        revoked_at: row.optional_time("revoked_at")?,
        figures: AgentFigures {
            produced: row.count("produced")?,
            spooled: row.count("spooled")?,
            dropped: row.count("dropped")?,
            kernel_lost: row.count("kernel_lost")?,
        },
        open_alerts: row.count("open_alerts")?,
        contact: row.word("contact", HostContact::from_word)?,
        contact_since: row.optional_time("contact_since")?,
        silence_alert: row
            .bytes("silence_alert")?
            .map(|bytes| Uuid::from_slice(&bytes).map(AlertId::from_uuid))
            .transpose()
            .map_err(|error| unreadable("silence_alert", error))?,
    })
}
