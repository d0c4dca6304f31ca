//! Hosts.

use event_model::HostId;

use super::*;

/// Hosts by name.
#[utoipa::path(get, path = "/hosts", tag = "hosts", params(PageQuery), responses((status = 200, body = HostPage)))]
pub(crate) async fn list_hosts(
    State(app): Application,
    Params(query): Params<PageQuery>,
) -> Answer<Json<HostPage>> {
    let limit = page_size(query.limit)?;
    let (views, next_cursor) = app.work(move |app| app.host_page(query.cursor.as_deref(), limit)).await?;
    Ok(Json(HostPage { items: views.into_iter().map(Host::from).collect(), next_cursor }))
}

/// One host.
#[utoipa::path(get, path = "/hosts/{id}", tag = "hosts", params(("id" = String, Path, description = "Id of the host")), responses((status = 200, body = Host), (status = 404, description = "Not there", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn host(State(app): Application, Id(id): Id) -> Answer<Json<Host>> {
    let host = parse(&id)?;
    Ok(Json(app.work(move |app| app.host(host)).await?.into()))
}

/// The account of a host's records by kind.
#[utoipa::path(get, path = "/hosts/{id}/account", tag = "hosts", params(("id" = String, Path, description = "Id of the host")), responses((status = 200, body = HostAccount), (status = 404, description = "Not there", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn host_account(State(app): Application, Id(id): Id) -> Answer<Json<HostAccount>> {
    let host = parse(&id)?;
    Ok(Json(app.work(move |app| app.host_account(host)).await?.into()))
}

/// What a host collects, and the rules that can't fire there for want of events.
#[utoipa::path(get, path = "/hosts/{id}/coverage", tag = "hosts", params(("id" = String, Path, description = "Id of the host")), responses((status = 200, body = HostCoverage), (status = 404, description = "Not there", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn host_coverage(State(app): Application, Id(id): Id) -> Answer<Json<HostCoverage>> {
    let host = parse(&id)?;
    Ok(Json(app.work(move |app| app.host_coverage(host)).await?.into()))
}

/// Shut a host out for good.
#[utoipa::path(post, path = "/hosts/{id}/revoke", tag = "hosts", params(("id" = String, Path, description = "Id of the host")), responses((status = 204, description = "Done"), (status = 404, description = "Not there", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn revoke_host(
    State(app): Application,
    SignedIn(caller): SignedIn,
    Id(id): Id,
) -> Answer<StatusCode> {
    let host = parse(&id)?;
    app.work(move |app| app.revoke_host(&caller, host)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// What is no id is the id of no host.
fn parse(id: &str) -> Result<HostId, AppError> {
    id.parse().map_err(|_| AppError::not_found("host", id))
}
