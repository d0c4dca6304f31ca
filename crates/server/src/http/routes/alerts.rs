//! Alerts.

use event_model::{RuleId, Severity};
use state_store::AlertStatus;

use super::*;
use crate::http::permission::Permission;

/// Alerts, the latest first.
#[utoipa::path(get, path = "/alerts", tag = "alerts", params(AlertQuery), responses((status = 200, body = AlertPage)))]
pub(crate) async fn list_alerts(
    State(app): Application,
    Params(query): Params<AlertQuery>,
) -> Answer<Json<AlertPage>> {
    let host = query.host.as_deref().map(crate::app::parse_host).transpose()?;
    let query = state_store::AlertQuery {
        status: words("status", query.status.as_deref(), AlertStatus::from_word)?,
        severity: words("severity", query.severity.as_deref(), Severity::from_word)?,
        host,
        rule: query.rule.map(RuleId::new),
        text: query.q,
        from: None,
        until: None,
        cursor: query.cursor,
        limit: page_size(query.limit)?,
    };
    if query.text.as_ref().is_some_and(|text| text.len() > 256) {
        return Err(AppError::Invalid("`q` is longer than 256 bytes".to_owned()).into());
    }
    let page = app.work(move |app| Ok(app.state.alerts(&query)?)).await?;
    Ok(Json(AlertPage {
        items: page.items.into_iter().map(Alert::from).collect(),
        next_cursor: page.next_cursor,
    }))
}

/// All about one alert.
#[utoipa::path(get, path = "/alerts/{id}", tag = "alerts", params(("id" = String, Path, description = "Id of the alert"), AlertTelling), responses((status = 200, body = AlertDetail), (status = 404, description = "Not there", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn alert(
    State(app): Application,
    Id(id): Id,
    Params(query): Params<AlertTelling>,
) -> Answer<Json<AlertDetail>> {
    let detail = app.work(move |app| match query.generation.unwrap_or(0) {
        0 => app.alert(&id),
        generation => app.alert_as_told(&id, generation),
    });
    Ok(Json(detail.await?.into()))
}

/// Change status or assignee, add a note.
#[utoipa::path(patch, path = "/alerts/{id}", tag = "alerts", params(("id" = String, Path, description = "Id of the alert")), request_body = AlertChange, responses((status = 200, body = AlertDetail), (status = 404, description = "Not there", body = Problem, content_type = "application/problem+json"), (status = 422, description = "What was sent can not be used", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn change_alert(
    State(app): Application,
    SignedIn(caller): SignedIn,
    Id(id): Id,
    Body(body): Body<AlertChange>,
) -> Answer<Json<AlertDetail>> {
    if body.note.as_ref().is_some_and(|note| note.chars().count() > 4000) {
        return Err(AppError::Invalid("a note has at most 4000 characters".to_owned()).into());
    }
    if body.assignee.as_ref().is_some_and(|assignee| assignee.chars().count() > 64) {
        return Err(AppError::Invalid("an assignee has at most 64 characters".to_owned()).into());
    }
    if body.note.as_deref().is_some_and(decides) && !Permission::Approve.is_given_to(caller.role) {
        let (role, needed) = (caller.role.to_string(), Permission::Approve.needed());
        return Err(AppError::Forbidden { role, needed }.into());
    }
    let update = state_store::AlertUpdate {
        status: body.status,
        close_reason: body.close_reason,
        assignee: body.assignee.map(|name| (!name.is_empty()).then_some(name)),
        note: body.note.filter(|note| !note.trim().is_empty()),
    };
    Ok(Json(app.work(move |app| app.change_alert(&caller, &id, &update)).await?.into()))
}

/// Whether a playbook may take a line of the note for its approval.
fn decides(note: &str) -> bool {
    let mut words = note.lines().filter_map(|line| line.trim().split_once(' '));
    words.any(|(word, _)| ["approve", "deny"].iter().any(|known| word.eq_ignore_ascii_case(known)))
}

/// Words with commas between.
fn words<T>(key: &str, text: Option<&str>, from_word: fn(&str) -> Option<T>) -> Result<Vec<T>, AppError> {
    let words = text.unwrap_or_default().split(',').map(str::trim).filter(|word| !word.is_empty());
    words
        .map(|word| from_word(word).ok_or_else(|| AppError::Invalid(format!("`{word}` is not a {key}"))))
        .collect()
}
