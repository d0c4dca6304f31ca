//! Settings and keys.

use super::*;

/// How long things are kept.
#[utoipa::path(get, path = "/settings", tag = "settings", responses((status = 200, body = Settings)))]
pub(crate) async fn settings(State(app): Application) -> Answer<Json<Settings>> {
    Ok(Json(app.work(|app| Ok(app.state.retention()?)).await?.into()))
}

/// Change how long things are kept.
#[utoipa::path(put, path = "/settings", tag = "settings", request_body = Settings, responses((status = 200, body = Settings), (status = 422, description = "What was sent can not be used", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn change_settings(
    State(app): Application,
    SignedIn(caller): SignedIn,
    Body(body): Body<Settings>,
) -> Answer<Json<Settings>> {
    let changed = app
        .work(move |app| {
            app.state.set_retention(body.into())?;
            let detail =
                format!("events={}d alerts={}d", body.events_retention_days, body.alerts_retention_days);
            app.audit(&caller.actor(), "settings.update", "retention", &detail);
            Ok(app.state.retention()?)
        })
        .await?;
    Ok(Json(changed.into()))
}

/// Certificates and public keys of the server.
#[utoipa::path(get, path = "/settings/keys", tag = "settings", responses((status = 200, body = Keys)))]
pub(crate) async fn keys(State(app): Application) -> Answer<Json<Keys>> {
    let facts = app.pki().facts().map_err(|error| AppError::internal("reading the certificates", error))?;
    Ok(Json(facts.into()))
}
