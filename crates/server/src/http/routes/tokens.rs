//! Enrolment tokens and API tokens.

use super::*;

/// Enrolment tokens, the latest first.
#[utoipa::path(get, path = "/enrollment-tokens", tag = "tokens", responses((status = 200, body = EnrollmentTokenPage)))]
pub(crate) async fn list_enrollment_tokens(State(app): Application) -> Answer<Json<EnrollmentTokenPage>> {
    let tokens = app.work(|app| Ok(app.state.enrollment_tokens()?)).await?;
    let items = tokens.into_iter().map(EnrollmentToken::from).collect();
    Ok(Json(EnrollmentTokenPage { items, next_cursor: None }))
}

/// Make an enrolment token.
#[utoipa::path(post, path = "/enrollment-tokens", tag = "tokens", request_body = EnrollmentTokenCreate, responses((status = 201, body = EnrollmentTokenCreated), (status = 422, description = "What was sent can not be used", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn create_enrollment_token(
    State(app): Application,
    SignedIn(caller): SignedIn,
    Body(body): Body<EnrollmentTokenCreate>,
) -> Answer<(StatusCode, Json<EnrollmentTokenCreated>)> {
    let created = app
        .work(move |app| {
            let made = app.create_enrollment_token(&caller.actor(), body.ttl_seconds, body.uses)?;
            Ok(EnrollmentTokenCreated {
                id: made.id.to_string(),
                token: made.token.as_str().to_owned(),
                expires_at: made.expires_at,
                command: app.enrollment_command(&made.token),
                windows_command: app.windows_enrollment_command(&made.token),
            })
        })
        .await?;
    Ok((StatusCode::CREATED, Json(created)))
}

/// Take an enrolment token back.
#[utoipa::path(delete, path = "/enrollment-tokens/{id}", tag = "tokens", params(("id" = String, Path, description = "Id of the token")), responses((status = 204, description = "Done"), (status = 404, description = "Not there", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn delete_enrollment_token(
    State(app): Application,
    SignedIn(caller): SignedIn,
    Id(id): Id,
) -> Answer<StatusCode> {
    app.work(move |app| app.revoke_enrollment_token(&caller, &id)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// API tokens.
#[utoipa::path(get, path = "/api-tokens", tag = "tokens", responses((status = 200, body = ApiTokenPage)))]
pub(crate) async fn list_api_tokens(State(app): Application) -> Answer<Json<ApiTokenPage>> {
    let tokens = app.work(|app| Ok(app.state.api_tokens()?)).await?;
    Ok(Json(ApiTokenPage { items: tokens.into_iter().map(ApiToken::from).collect(), next_cursor: None }))
}

/// Make an API token.
#[utoipa::path(post, path = "/api-tokens", tag = "tokens", request_body = ApiTokenCreate, responses((status = 201, body = ApiTokenCreated), (status = 409, description = "Conflict with what is there", body = Problem, content_type = "application/problem+json"), (status = 422, description = "What was sent can not be used", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn create_api_token(
    State(app): Application,
    SignedIn(caller): SignedIn,
    Body(body): Body<ApiTokenCreate>,
) -> Answer<(StatusCode, Json<ApiTokenCreated>)> {
    let created = app
        .work(move |app| {
            let made = app.create_api_token(&caller, &body.name, body.role, body.ttl_days)?;
            Ok(ApiTokenCreated {
                id: made.id.to_string(),
                token: made.token.as_str().to_owned(),
                expires_at: made.expires_at,
            })
        })
        .await?;
    Ok((StatusCode::CREATED, Json(created)))
}

/// Remove an API token.
#[utoipa::path(delete, path = "/api-tokens/{id}", tag = "tokens", params(("id" = String, Path, description = "Id of the token")), responses((status = 204, description = "Done"), (status = 404, description = "Not there", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn delete_api_token(
    State(app): Application,
    SignedIn(caller): SignedIn,
    Id(id): Id,
) -> Answer<StatusCode> {
    app.work(move |app| app.delete_api_token(&caller, &id)).await?;
    Ok(StatusCode::NO_CONTENT)
}
