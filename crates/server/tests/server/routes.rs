//! Every route of the document, asked by everyone.

use axum::http::Method;
use server::http::permission::{API, Permission, ROUTES};
use state_store::{AccessStore as _, NewApiToken, Role, Token};

use crate::running::{Running, now};

fn documented() -> Vec<(Method, String)> {
    let document = serde_json::to_value(server::http::document()).unwrap();
    let paths = document["paths"].as_object().unwrap();
    let routes = paths.iter().flat_map(|(path, item)| {
        let methods = item.as_object().unwrap().keys();
        methods.map(move |method| (method.to_uppercase().parse().unwrap(), path.clone()))
    });
    routes.collect()
}

#[test]
fn the_document_and_the_table_of_permissions_have_the_same_routes() {
    let documented = documented();
    for (method, path) in &documented {
        let template = path.strip_prefix(API).expect("under the API");
        assert!(
            ROUTES.iter().any(|(known, route, _)| known == method && *route == template),
            "{method} {path} has no permission"
        );
    }
    for (method, template, _) in ROUTES {
        assert!(documented.contains(&(method.clone(), format!("{API}{template}"))), "{method} {template}");
    }
}

#[test]
fn the_committed_document_is_the_servers() {
    let committed = include_str!("../../../../schema/openapi.json");
    let current = server::http::document_text().unwrap();
    assert!(committed == current, "run: edr-server -openapi > schema/openapi.json");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_refuses_strangers_and_roles_that_may_not() {
    let running = Running::start().await;
    let state = running.state();
    let expires_at = event_model::Timestamp::from_nanos(now().as_nanos() + 3_600_000_000_000);
    let mut callers = vec![(None, running.stranger())];
    for role in Role::ALL {
        let token = Token::for_api().unwrap();
        let new = NewApiToken {
            secret: token.digest(),
            name: role.to_string(),
            role: *role,
            expires_at,
            created_by: "test".to_owned(),
        };
        state.create_api_token(&new, now()).unwrap();
        callers.push((Some(*role), running.stranger().with_token(token.as_str())));
    }
    for (method, template, permission) in ROUTES {
        // Ids of nothing, so that nothing happens where a caller may.
        let path = template.replace("{id}", "00000000-0000-0000-0000-000000000000");
        for (role, api) in &callers {
            let request = api.request(method.as_str(), &path, None);
            let status = api.send(request).await.status().as_u16();
            let allowed = match role {
                None => *permission == Permission::Public,
                Some(role) => permission.is_given_to(*role),
            };
            let case = format!("{method} {path} as {role:?}: {status}");
            match (allowed, role) {
                (true, _) => assert!(!matches!(status, 401 | 403) && status < 500, "{case}"),
                (false, None) => assert_eq!(status, 401, "{case}"),
                (false, Some(_)) => assert_eq!(status, 403, "{case}"),
            }
        }
    }
    running.stop().await;
}
