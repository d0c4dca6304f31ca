//! Signing in and out.

use axum::extract::Extension;
use axum::http::{HeaderMap, header};
use axum::response::{AppendHeaders, IntoResponse as _, Response};

use super::*;
use crate::http::openapi::SESSION_COOKIE;
use crate::listener::PeerAddress;

/// Sign in; sets the session cookie.
#[utoipa::path(post, path = "/session", tag = "session", request_body = LoginRequest, responses((status = 200, body = Session, description = "Signed in", headers(("set-cookie" = String, description = "The session"))), (status = 401, description = "Not signed in, or wrong password", body = Problem, content_type = "application/problem+json"), (status = 429, description = "Too many attempts", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn sign_in(
    State(app): Application,
    Extension(peer): Extension<PeerAddress>,
    headers: HeaderMap,
    Body(body): Body<LoginRequest>,
) -> Answer<Response> {
    let user_agent =
        headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let (token, user) = app.sign_in(body.username, body.password, peer.0, user_agent.to_owned()).await?;
    let cookie = format!("{SESSION_COOKIE}={}; Path=/; Secure; HttpOnly; SameSite=Strict", token.as_str());
    let session = Session {
        user: SessionUser {
            username: user.username,
            role: user.role,
            must_change_password: user.must_change_password,
        },
    };
    Ok((AppendHeaders([(header::SET_COOKIE, cookie)]), Json(session)).into_response())
}

/// Who is signed in.
#[utoipa::path(get, path = "/session", tag = "session", responses((status = 200, body = Session)))]
pub(crate) async fn session(SignedIn(caller): SignedIn) -> Answer<Json<Session>> {
    Ok(Json(Session {
        user: SessionUser {
            username: caller.name,
            role: caller.role,
            must_change_password: caller.must_change_password,
        },
    }))
}

/// Sign out.
#[utoipa::path(delete, path = "/session", tag = "session", responses((status = 204, description = "Done")))]
pub(crate) async fn sign_out(State(app): Application, SignedIn(caller): SignedIn) -> Answer<Response> {
    app.work(move |app| app.sign_out(&caller)).await?;
    let cookie = format!("{SESSION_COOKIE}=; Path=/; Secure; HttpOnly; SameSite=Strict; Max-Age=0");
    Ok((StatusCode::NO_CONTENT, AppendHeaders([(header::SET_COOKIE, cookie)])).into_response())
}

/// Replace the own password; ends all other sessions.
#[utoipa::path(put, path = "/session/password", tag = "session", request_body = PasswordChange, responses((status = 204, description = "Done"), (status = 401, description = "Not signed in, or wrong password", body = Problem, content_type = "application/problem+json"), (status = 422, description = "What was sent can not be used", body = Problem, content_type = "application/problem+json"), (status = 429, description = "Too many attempts", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn change_password(
    State(app): Application,
    SignedIn(caller): SignedIn,
    Body(body): Body<PasswordChange>,
) -> Answer<StatusCode> {
    app.change_own_password(caller, body.current_password, body.new_password).await?;
    Ok(StatusCode::NO_CONTENT)
}
