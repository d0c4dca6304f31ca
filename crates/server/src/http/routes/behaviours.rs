//! Behaviours of process trees.

use state_store::ContentKind;

use super::content::{ContentBody, check, delete, list, one, put};
use super::*;
use crate::app::Override;

/// Every behaviour and sequence that agents have built in or from the server's files, those that are switched off too.
#[utoipa::path(get, path = "/behaviours", tag = "behaviours", responses((status = 200, body = BehaviourPage)))]
pub(crate) async fn list_behaviours(State(app): Application) -> Answer<Json<BehaviourPage>> {
    let heads = app.work(|app| app.behaviours()).await?;
    Ok(Json(BehaviourPage { items: heads.into_iter().map(Behaviour::from).collect(), next_cursor: None }))
}

/// Switch a behaviour off or on, or give it another weight. What is left out, or null, goes back to what its file says.
#[utoipa::path(patch, path = "/behaviours/{id}", tag = "behaviours", params(("id" = String, Path, description = "Id of the behaviour")), request_body = BehaviourChange, responses((status = 200, body = Behaviour), (status = 404, description = "Not there", body = Problem, content_type = "application/problem+json"), (status = 422, description = "What was sent can not be used", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn override_behaviour(
    State(app): Application,
    SignedIn(caller): SignedIn,
    Id(id): Id,
    Body(body): Body<BehaviourChange>,
) -> Answer<Json<Behaviour>> {
    let BehaviourChange { enabled, weight } = body;
    let change = Override { enabled, weight };
    Ok(Json(app.work(move |app| app.override_behaviour(&caller, &id, change)).await?.into()))
}

/// Files of behaviours by name, without their texts.
#[utoipa::path(get, path = "/behaviour-files", tag = "behaviours", responses((status = 200, body = ContentPage)))]
pub(crate) async fn list_behaviour_files(State(app): Application) -> Answer<Json<ContentPage>> {
    list(app, ContentKind::Behaviours).await
}

/// A file of behaviours with its text.
#[utoipa::path(get, path = "/behaviour-files/{id}", tag = "behaviours", params(("id" = String, Path, description = "Name of the file")), responses((status = 200, body = ContentDocument), (status = 404, description = "Not there", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn behaviour_file(State(app): Application, Id(name): Id) -> Answer<Json<ContentDocument>> {
    one(app, ContentKind::Behaviours, name).await
}

/// Add a file of behaviours, or replace the one of that name. Every agent gets it with the next bundle.
#[utoipa::path(put, path = "/behaviour-files/{id}", tag = "behaviours", params(("id" = String, Path, description = "Name of the file")), request_body = ContentText, responses((status = 200, body = SavedContent), (status = 413, description = "Larger than 4 MiB", body = Problem, content_type = "application/problem+json"), (status = 422, description = "What was sent can not be used", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn put_behaviour_file(
    State(app): Application,
    SignedIn(caller): SignedIn,
    Id(name): Id,
    Body(body): ContentBody,
) -> Answer<Json<SavedContent>> {
    put(app, caller, ContentKind::Behaviours, name, body.text).await
}

/// What is wrong or doubtful in a text, without saving it.
#[utoipa::path(post, path = "/behaviour-files/{id}/check", tag = "behaviours", params(("id" = String, Path, description = "Name of the file")), request_body = ContentText, responses((status = 200, body = ContentCheck), (status = 413, description = "Larger than 4 MiB", body = Problem, content_type = "application/problem+json"), (status = 422, description = "What was sent can not be used", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn check_behaviour_file(
    State(app): Application,
    Id(name): Id,
    Body(body): ContentBody,
) -> Answer<Json<ContentCheck>> {
    check(app, ContentKind::Behaviours, name, body.text).await
}

/// Remove a file of behaviours.
#[utoipa::path(delete, path = "/behaviour-files/{id}", tag = "behaviours", params(("id" = String, Path, description = "Name of the file")), responses((status = 204, description = "Done"), (status = 404, description = "Not there", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn delete_behaviour_file(
    State(app): Application,
    SignedIn(caller): SignedIn,
    Id(name): Id,
) -> Answer<StatusCode> {
    delete(app, caller, ContentKind::Behaviours, name).await
}
