//! The API's router and its OpenAPI document, made from the same handlers.

use std::sync::Arc;

use axum::Router;
use utoipa::OpenApi;
use utoipa::openapi::security::{
    ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme,
};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::permission::{API, Permission, permission_of};
use super::routes::{
    alerts, behaviours, content, events, hosts, overview, responses, rules, runs, session, settings, stream,
    tokens, users,
};
use crate::app::App;

/// Name of the session cookie. The prefix makes browsers refuse it from other
/// hosts, without TLS, or for a part of the paths.
pub(crate) const SESSION_COOKIE: &str = "__Host-rampart-session";

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Rampart",
        description = "Hosts, events, alerts and rules of a Rampart server. Errors are application/problem+json with a stable `code`.",
        license(name = "MIT")
    ),
    components(schemas(super::dto::Problem))
)]
struct Document;

fn api_router() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(overview::health))
        .routes(routes!(overview::openapi))
        .routes(routes!(session::sign_in, session::session, session::sign_out))
        .routes(routes!(session::change_password))
        .routes(routes!(overview::dashboard))
        .routes(routes!(hosts::list_hosts))
        .routes(routes!(hosts::host))
        .routes(routes!(hosts::host_account))
        .routes(routes!(hosts::host_coverage))
        .routes(routes!(hosts::revoke_host))
        .routes(routes!(responses::order_response))
        .routes(routes!(responses::list_responses))
        .routes(routes!(responses::response, responses::cancel_response))
        .routes(routes!(responses::undo_response))
        .routes(routes!(responses::decide_response))
        .routes(routes!(responses::release_code))
        .routes(routes!(runs::list_runs, runs::request_run))
        .routes(routes!(runs::run, runs::report_run))
        .routes(routes!(runs::undo_run))
        .routes(routes!(responses::fleet_stop, responses::turn_fleet_stop))
        .routes(routes!(events::search_events))
        .routes(routes!(events::histogram))
        .routes(routes!(stream::stream_events))
        .routes(routes!(events::event))
        .routes(routes!(events::fields))
        .routes(routes!(alerts::list_alerts))
        .routes(routes!(alerts::alert, alerts::change_alert))
        .routes(routes!(rules::list_rules, rules::create_rule))
        .routes(routes!(rules::check_rule))
        .routes(routes!(rules::import_rules))
        .routes(routes!(rules::rule_coverage))
        .routes(routes!(rules::rule, rules::replace_rule, rules::change_rule, rules::delete_rule))
        .routes(routes!(rules::preview_exception))
        .routes(routes!(content::list_yara_files))
        .routes(routes!(content::yara_file, content::put_yara_file, content::delete_yara_file))
        .routes(routes!(content::check_yara_file))
        .routes(routes!(content::list_indicator_lists))
        .routes(routes!(content::indicator_list, content::put_indicator_list, content::delete_indicator_list))
        .routes(routes!(content::check_indicator_list))
        .routes(routes!(behaviours::list_behaviours))
        .routes(routes!(behaviours::override_behaviour))
        .routes(routes!(behaviours::list_behaviour_files))
        .routes(routes!(
            behaviours::behaviour_file,
            behaviours::put_behaviour_file,
            behaviours::delete_behaviour_file
        ))
        .routes(routes!(behaviours::check_behaviour_file))
        .routes(routes!(users::list_users, users::create_user))
        .routes(routes!(users::change_user, users::delete_user))
        .routes(routes!(tokens::list_enrollment_tokens, tokens::create_enrollment_token))
        .routes(routes!(tokens::delete_enrollment_token))
        .routes(routes!(tokens::list_api_tokens, tokens::create_api_token))
        .routes(routes!(tokens::delete_api_token))
        .routes(routes!(settings::settings, settings::change_settings))
        .routes(routes!(settings::keys))
        .routes(routes!(overview::ingest))
        .routes(routes!(overview::audit))
}

/// The API's routes under [`API`].
pub(crate) fn router() -> Router<Arc<App>> {
    OpenApiRouter::new().nest(API, api_router()).split_for_parts().0
}

/// The OpenAPI document.
pub fn document() -> utoipa::openapi::OpenApi {
    let mut document = OpenApiRouter::<Arc<App>>::with_openapi(Document::openapi())
        .nest(API, api_router())
        .split_for_parts()
        .1;
    let components = document.components.get_or_insert_default();
    components.add_security_scheme(
        "session",
        SecurityScheme::ApiKey(ApiKey::Cookie(ApiKeyValue::new(SESSION_COOKIE))),
    );
    components.add_security_scheme(
        "token",
        SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build()),
    );
    for (path, item) in &mut document.paths.paths {
        let template = path.strip_prefix(API).unwrap_or(path);
        for (method, operation) in operations(item) {
            if permission_of(&method, template) != Some(Permission::Public) {
                let none: [&str; 0] = [];
                operation.security = Some(vec![
                    SecurityRequirement::new("session", none),
                    SecurityRequirement::new("token", none),
                ]);
            }
        }
    }
    document
}

fn operations(
    item: &mut utoipa::openapi::PathItem,
) -> impl Iterator<Item = (axum::http::Method, &mut utoipa::openapi::path::Operation)> {
    use axum::http::Method;
    [
        (Method::GET, &mut item.get),
        (Method::POST, &mut item.post),
        (Method::PUT, &mut item.put),
        (Method::PATCH, &mut item.patch),
        (Method::DELETE, &mut item.delete),
    ]
    .into_iter()
    .filter_map(|(method, operation)| Some((method, operation.as_mut()?)))
}

/// The document as it is committed and printed.
///
/// # Errors
/// None in practice: the document is plain data.
pub fn document_text() -> Result<String, serde_json::Error> {
    Ok(serde_json::to_string_pretty(&document())? + "\n")
}
