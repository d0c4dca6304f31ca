//! Runs of playbooks.

use state_store::{AlertId, RunQuery, RunReport};
use uuid::Uuid;

use super::*;

/// Runs of playbooks, the latest first.
#[utoipa::path(get, path = "/playbook-runs", tag = "playbook-runs", params(PlaybookRunQuery), responses((status = 200, body = PlaybookRunPage), (status = 422, description = "What was sent can not be used", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn list_runs(
    State(app): Application,
    Params(query): Params<PlaybookRunQuery>,
) -> Answer<Json<PlaybookRunPage>> {
    let alert = |id: String| id.parse::<AlertId>().map_err(|_| AppError::not_found("alert", id));
    let waiting = match query.waiting.as_deref() {
        None | Some("false") => false,
        Some("true") => true,
        Some(other) => {
            return Err(AppError::Invalid(format!("`waiting` is `true` or `false`, not `{other}`")).into());
        }
    };
    let query = RunQuery {
        alert: query.alert.map(alert).transpose()?,
        waiting,
        cursor: query.cursor,
        limit: page_size(query.limit)?,
    };
    let page = app.work(move |app| app.runs(&query)).await?;
    let items = page.items.into_iter().map(PlaybookRun::from).collect();
    Ok(Json(PlaybookRunPage { items, next_cursor: page.next_cursor }))
}

/// Ask for a run of a playbook for an alert, or for a dry run. A responder that has the playbook does it.
#[utoipa::path(post, path = "/playbook-runs", tag = "playbook-runs", request_body = PlaybookRunCreate, responses((status = 201, body = PlaybookRun), (status = 404, description = "Not there", body = Problem, content_type = "application/problem+json"), (status = 409, description = "Conflict with what is there", body = Problem, content_type = "application/problem+json"), (status = 422, description = "What was sent can not be used", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn request_run(
    State(app): Application,
    SignedIn(caller): SignedIn,
    Body(body): Body<PlaybookRunCreate>,
) -> Answer<(StatusCode, Json<PlaybookRun>)> {
    let PlaybookRunCreate { alert_id, playbook, dry_run } = body;
    let asked = app.work(move |app| app.request_run(&caller, &alert_id, playbook, dry_run)).await?;
    Ok((StatusCode::CREATED, Json(asked.into())))
}

/// One run: its steps, what the agents planned and proved, and how it compares to its dry run.
#[utoipa::path(get, path = "/playbook-runs/{id}", tag = "playbook-runs", params(("id" = String, Path, description = "Id of the run")), responses((status = 200, body = PlaybookRun), (status = 404, description = "Not there", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn run(State(app): Application, Id(id): Id) -> Answer<Json<PlaybookRun>> {
    Ok(Json(app.work(move |app| app.run(&id)).await?.into()))
}

/// How far a run came; for responders.
#[utoipa::path(put, path = "/playbook-runs/{id}", tag = "playbook-runs", params(("id" = String, Path, description = "Id of the run")), request_body = PlaybookRunReport, responses((status = 204, description = "Done"), (status = 404, description = "The alert is not there", body = Problem, content_type = "application/problem+json"), (status = 409, description = "Conflict with what is there", body = Problem, content_type = "application/problem+json"), (status = 422, description = "What was sent can not be used", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn report_run(
    State(app): Application,
    SignedIn(caller): SignedIn,
    Id(id): Id,
    Body(body): Body<PlaybookRunReport>,
) -> Answer<StatusCode> {
    let id: Uuid = id.parse().map_err(|_| AppError::Invalid("the id of a run is a UUID".to_owned()))?;
    let alert: AlertId =
        body.alert_id.parse().map_err(|_| AppError::not_found("alert", body.alert_id.clone()))?;
    let content = body.content();
    let report = RunReport {
        id,
        alert,
        playbook: body.playbook,
        dry_run: body.dry_run,
        responder: body.responder,
        state: body.state,
        report: String::new(),
    };
    app.work(move |app| app.record_run(&caller, report, &content)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Have what a run did undone, the last step first. Its responder does it.
#[utoipa::path(post, path = "/playbook-runs/{id}/undo", tag = "playbook-runs", params(("id" = String, Path, description = "Id of the run")), responses((status = 202, body = PlaybookRun), (status = 404, description = "Not there", body = Problem, content_type = "application/problem+json"), (status = 409, description = "Conflict with what is there", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn undo_run(
    State(app): Application,
    SignedIn(caller): SignedIn,
    Id(id): Id,
) -> Answer<(StatusCode, Json<PlaybookRun>)> {
    let asked = app.work(move |app| app.undo_run(&caller, &id)).await?;
    Ok((StatusCode::ACCEPTED, Json(asked.into())))
}
