//! The dashboard and the server itself.

use std::sync::OnceLock;

use axum::http::header;
use axum::response::{IntoResponse as _, Response};

use super::*;
use crate::app::Counter;

/// The server answers.
#[utoipa::path(get, path = "/health", tag = "overview", responses((status = 200, body = Health)))]
pub(crate) async fn health() -> Answer<Json<Health>> {
    Ok(Json(Health { status: "ok".to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() }))
}

/// What the dashboard shows.
#[utoipa::path(get, path = "/dashboard", tag = "overview", responses((status = 200, body = Dashboard)))]
pub(crate) async fn dashboard(State(app): Application) -> Answer<Json<Dashboard>> {
    let overview = app.work(|app| app.overview()).await?;
    let count =
        |bucket: &event_store::HistogramBucket| MinuteCount { minute: bucket.start, count: bucket.count };
    Ok(Json(Dashboard {
        hosts: HostCounts {
            total: overview.hosts_total,
            online: overview.hosts_online,
            offline: overview.hosts_total.saturating_sub(overview.hosts_online),
        },
        alerts_by_severity: overview
            .open_alerts
            .iter()
            .map(|count| SeverityCount { severity: count.severity, open: count.open })
            .collect(),
        events_per_minute: overview.events_per_minute.iter().map(count).collect(),
        alerts_per_hour: overview
            .alerts_per_hour
            .iter()
            .map(|hour| HistogramBucket { start: hour.hour, count: hour.count })
            .collect(),
        top_rules: overview
            .top_rules
            .into_iter()
            .map(|rule| RuleCount { rule_id: rule.rule_id.to_string(), name: rule.name, count: rule.count })
            .collect(),
        recent_alerts: overview.recent_alerts.into_iter().map(Alert::from).collect(),
        completeness: Completeness { gaps_24h: overview.gaps.gaps, lost_24h: overview.gaps.lost },
    }))
}

/// What came in and what was refused since the server started.
#[utoipa::path(get, path = "/ingest", tag = "overview", responses((status = 200, body = IngestCounters)))]
pub(crate) async fn ingest(State(app): Application) -> Answer<Json<IngestCounters>> {
    let count = |counter| app.counters().value(counter);
    Ok(Json(IngestCounters {
        connected_agents: app.links().count(),
        batches: count(Counter::Batches),
        records: count(Counter::Records),
        duplicate_batches: count(Counter::DuplicateBatches),
        bad_envelope: count(Counter::BadEnvelope),
        malformed: count(Counter::Malformed),
        oversize: count(Counter::Oversize),
        wrong_agent: count(Counter::WrongAgent),
        bad_token: count(Counter::BadToken),
        bad_certificate: count(Counter::BadCertificate),
        revoked: count(Counter::Revoked),
        garbage_connections: count(Counter::GarbageConnections),
        too_many_connections: count(Counter::TooManyConnections),
        store_failures: count(Counter::StoreFailures),
    }))
}

/// The audit log, the latest first.
#[utoipa::path(get, path = "/audit", tag = "overview", params(PageQuery), responses((status = 200, body = AuditPage)))]
pub(crate) async fn audit(
    State(app): Application,
    Params(query): Params<PageQuery>,
) -> Answer<Json<AuditPage>> {
    let limit = page_size(query.limit)?;
    let page = app.work(move |app| Ok(app.state.audit(query.cursor.as_deref(), limit)?)).await?;
    let entry = |row: state_store::AuditRow| AuditEntry {
        sequence: row.sequence,
        at: row.at,
        who: row.who,
        what: row.what,
        subject: row.subject,
        detail: row.detail,
        address: row.address,
    };
    Ok(Json(AuditPage { items: page.items.into_iter().map(entry).collect(), next_cursor: page.next_cursor }))
}

/// This document.
#[utoipa::path(get, path = "/openapi.json", tag = "overview", responses((status = 200, content_type = "application/json")))]
pub(crate) async fn openapi() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], document_json()).into_response()
}

fn document_json() -> &'static str {
    static TEXT: OnceLock<String> = OnceLock::new();
    // The document is plain data; were it not, an empty one would be the lesser evil.
    TEXT.get_or_init(|| crate::http::document_text().unwrap_or_default())
}
