//! Users.

use super::*;
use crate::app::{NewUserInput, UserPatch};

/// Users by name.
#[utoipa::path(get, path = "/users", tag = "users", responses((status = 200, body = UserPage)))]
pub(crate) async fn list_users(State(app): Application) -> Answer<Json<UserPage>> {
    let users = app.work(|app| Ok(app.state.users()?)).await?;
    Ok(Json(UserPage { items: users.into_iter().map(User::from).collect(), next_cursor: None }))
}

/// Add a user.
#[utoipa::path(post, path = "/users", tag = "users", request_body = UserCreate, responses((status = 201, body = User), (status = 409, description = "Conflict with what is there", body = Problem, content_type = "application/problem+json"), (status = 422, description = "What was sent can not be used", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn create_user(
    State(app): Application,
    SignedIn(caller): SignedIn,
    Body(body): Body<UserCreate>,
) -> Answer<(StatusCode, Json<User>)> {
    let input = NewUserInput { username: body.username, password: body.password, role: body.role };
    let user = app.work(move |app| app.create_user(&caller, &input)).await?;
    Ok((StatusCode::CREATED, Json(user.into())))
}

/// Change role or password, keep out or let in; ends the sessions of the user.
#[utoipa::path(patch, path = "/users/{id}", tag = "users", params(("id" = String, Path, description = "Name of the user")), request_body = UserChange, responses((status = 200, body = User), (status = 404, description = "Not there", body = Problem, content_type = "application/problem+json"), (status = 409, description = "Conflict with what is there", body = Problem, content_type = "application/problem+json"), (status = 422, description = "What was sent can not be used", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn change_user(
    State(app): Application,
    SignedIn(caller): SignedIn,
    Id(id): Id,
    Body(body): Body<UserChange>,
) -> Answer<Json<User>> {
    let patch = UserPatch { role: body.role, disabled: body.disabled, new_password: body.new_password };
    Ok(Json(app.work(move |app| app.change_user(&caller, &id, &patch)).await?.into()))
}

/// Remove a user; never the last administrator.
#[utoipa::path(delete, path = "/users/{id}", tag = "users", params(("id" = String, Path, description = "Name of the user")), responses((status = 204, description = "Done"), (status = 404, description = "Not there", body = Problem, content_type = "application/problem+json"), (status = 409, description = "Conflict with what is there", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn delete_user(
    State(app): Application,
    SignedIn(caller): SignedIn,
    Id(id): Id,
) -> Answer<StatusCode> {
    app.work(move |app| app.delete_user(&caller, &id)).await?;
    Ok(StatusCode::NO_CONTENT)
}
