//! Actions on hosts.

use super::*;
use crate::app::{ResponseOrder, parse_host};

/// Order an action on a host.
#[utoipa::path(post, path = "/hosts/{id}/responses", tag = "responses", params(("id" = String, Path, description = "Id of the host")), request_body = ResponseCreate, responses((status = 201, body = Response), (status = 404, description = "Not there", body = Problem, content_type = "application/problem+json"), (status = 409, description = "Conflict with what is there", body = Problem, content_type = "application/problem+json"), (status = 422, description = "What was sent can not be used", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn order_response(
    State(app): Application,
    SignedIn(caller): SignedIn,
    Id(id): Id,
    Body(body): Body<ResponseCreate>,
) -> Answer<(StatusCode, Json<Response>)> {
    let host = id.parse().map_err(|_| AppError::not_found("host", &id))?;
    let order = ResponseOrder {
        action: body.action,
        parameters: body.parameters,
        dry_run: body.dry_run,
        comment: body.comment,
        expires_in_seconds: body.expires_in_seconds,
        run_id: body.run_id,
    };
    let ordered = app.work(move |app| app.order_response(&caller, host, order)).await?;
    Ok((StatusCode::CREATED, Json(ordered.into())))
}

/// Ordered actions, the latest first.
#[utoipa::path(get, path = "/responses", tag = "responses", params(ResponseQuery), responses((status = 200, body = ResponsePage), (status = 422, description = "What was sent can not be used", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn list_responses(
    State(app): Application,
    Params(query): Params<ResponseQuery>,
) -> Answer<Json<ResponsePage>> {
    let limit = page_size(query.limit)?;
    let host = query.host.as_deref().map(parse_host).transpose()?;
    let page =
        app.work(move |app| app.response_page(host, query.state, query.cursor.as_deref(), limit)).await?;
    let items = page.items.into_iter().map(Response::from).collect();
    Ok(Json(ResponsePage { items, next_cursor: page.next_cursor }))
}

/// One ordered action with its receipt.
#[utoipa::path(get, path = "/responses/{id}", tag = "responses", params(("id" = String, Path, description = "Id of the response")), responses((status = 200, body = Response), (status = 404, description = "Not there", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn response(State(app): Application, Id(id): Id) -> Answer<Json<Response>> {
    Ok(Json(app.work(move |app| app.response_of(&id)).await?.into()))
}

/// Take an ordered action back before it is sent.
#[utoipa::path(delete, path = "/responses/{id}", tag = "responses", params(("id" = String, Path, description = "Id of the response")), responses((status = 204, description = "Done"), (status = 404, description = "Not there", body = Problem, content_type = "application/problem+json"), (status = 409, description = "Conflict with what is there", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn cancel_response(
    State(app): Application,
    SignedIn(caller): SignedIn,
    Id(id): Id,
) -> Answer<StatusCode> {
    app.work(move |app| app.cancel_response(&caller, &id)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Order what undoes an action that was done.
#[utoipa::path(post, path = "/responses/{id}/undo", tag = "responses", params(("id" = String, Path, description = "Id of the response")), responses((status = 201, body = Response), (status = 404, description = "Not there", body = Problem, content_type = "application/problem+json"), (status = 409, description = "Conflict with what is there", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn undo_response(
    State(app): Application,
    SignedIn(caller): SignedIn,
    Id(id): Id,
) -> Answer<(StatusCode, Json<Response>)> {
    let ordered = app.work(move |app| app.undo_response(&caller, &id)).await?;
    Ok((StatusCode::CREATED, Json(ordered.into())))
}

/// Agree to an action that waits for it, or decline it. Not for who ordered it, nor for tokens.
#[utoipa::path(post, path = "/responses/{id}/decision", tag = "responses", params(("id" = String, Path, description = "Id of the response")), request_body = ResponseDecide, responses((status = 200, body = Response), (status = 404, description = "Not there", body = Problem, content_type = "application/problem+json"), (status = 409, description = "Conflict with what is there", body = Problem, content_type = "application/problem+json"), (status = 422, description = "What was sent can not be used", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn decide_response(
    State(app): Application,
    SignedIn(caller): SignedIn,
    Id(id): Id,
    Body(body): Body<ResponseDecide>,
) -> Answer<Json<Response>> {
    let decided = app.work(move |app| app.decide_response(&caller, &id, body.approve, body.comment)).await?;
    Ok(Json(decided.into()))
}

/// The code that lets an isolated host go on the spot, where it can't be reached. That it was read is audited.
#[utoipa::path(get, path = "/responses/{id}/release-code", tag = "responses", params(("id" = String, Path, description = "Id of the isolation")), responses((status = 200, body = ReleaseCode), (status = 404, description = "Not there", body = Problem, content_type = "application/problem+json"), (status = 409, description = "Conflict with what is there", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn release_code(
    State(app): Application,
    SignedIn(caller): SignedIn,
    Id(id): Id,
) -> Answer<Json<ReleaseCode>> {
    let code = app.work(move |app| app.release_code(&caller, &id)).await?;
    Ok(Json(ReleaseCode { code }))
}

/// Whether the response of all hosts is stopped.
#[utoipa::path(get, path = "/fleet-stop", tag = "responses", responses((status = 200, body = FleetStop)))]
pub(crate) async fn fleet_stop(State(app): Application) -> Answer<Json<FleetStop>> {
    Ok(Json(app.work(|app| app.fleet_stop()).await?.into()))
}

/// Stop the response of all hosts, or allow it again. Connected hosts are ordered at once, others when they connect.
#[utoipa::path(put, path = "/fleet-stop", tag = "responses", request_body = FleetStopTurn, responses((status = 200, body = FleetStop), (status = 409, description = "Conflict with what is there", body = Problem, content_type = "application/problem+json"), (status = 422, description = "What was sent can not be used", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn turn_fleet_stop(
    State(app): Application,
    SignedIn(caller): SignedIn,
    Body(body): Body<FleetStopTurn>,
) -> Answer<Json<FleetStop>> {
    let turned = app.work(move |app| app.turn_fleet_stop(&caller, body.stopped, &body.reason)).await?;
    Ok(Json(Some(turned).into()))
}
