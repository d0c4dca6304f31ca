//! Rules.

use event_model::RuleId;

use super::*;

/// Rules by id.
#[utoipa::path(get, path = "/rules", tag = "rules", responses((status = 200, body = RulePage)))]
pub(crate) async fn list_rules(State(app): Application) -> Answer<Json<RulePage>> {
    let views = app.work(|app| app.rule_views()).await?;
    Ok(Json(RulePage { items: views.into_iter().map(Rule::from).collect(), next_cursor: None }))
}

/// One rule.
#[utoipa::path(get, path = "/rules/{id}", tag = "rules", params(("id" = String, Path, description = "Id of the rule")), responses((status = 200, body = Rule), (status = 404, description = "Not there", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn rule(State(app): Application, Id(id): Id) -> Answer<Json<Rule>> {
    Ok(Json(app.work(move |app| app.rule_view(&RuleId::new(id))).await?.into()))
}

/// The hosts where a rule can't fire for want of events.
#[utoipa::path(get, path = "/rules/{id}/coverage", tag = "rules", params(("id" = String, Path, description = "Id of the rule")), responses((status = 200, body = RuleCoverage), (status = 404, description = "Not there", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn rule_coverage(State(app): Application, Id(id): Id) -> Answer<Json<RuleCoverage>> {
    Ok(Json(app.work(move |app| app.rule_coverage(&RuleId::new(id))).await?.into()))
}

/// Add a rule.
#[utoipa::path(post, path = "/rules", tag = "rules", request_body = RuleText, responses((status = 201, body = Rule), (status = 409, description = "Conflict with what is there", body = Problem, content_type = "application/problem+json"), (status = 422, description = "What was sent can not be used", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn create_rule(
    State(app): Application,
    SignedIn(caller): SignedIn,
    Body(body): Body<RuleText>,
) -> Answer<(StatusCode, Json<Rule>)> {
    let view = app.work(move |app| app.create_rule(&caller, &body.text)).await?;
    Ok((StatusCode::CREATED, Json(view.into())))
}

/// Add every rule of a text, or none: several Sigma documents, or a list of native rules.
#[utoipa::path(post, path = "/rules/import", tag = "rules", request_body = RuleCollectionText, responses((status = 201, body = RulePage), (status = 409, description = "Conflict with what is there", body = Problem, content_type = "application/problem+json"), (status = 422, description = "What was sent can not be used", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn import_rules(
    State(app): Application,
    SignedIn(caller): SignedIn,
    Body(body): Body<RuleCollectionText>,
) -> Answer<(StatusCode, Json<RulePage>)> {
    let views = app.work(move |app| app.import_rules(&caller, &body.text)).await?;
    let items = views.into_iter().map(Rule::from).collect();
    Ok((StatusCode::CREATED, Json(RulePage { items, next_cursor: None })))
}

/// Replace a rule; its id can not change.
#[utoipa::path(put, path = "/rules/{id}", tag = "rules", params(("id" = String, Path, description = "Id of the rule")), request_body = RuleText, responses((status = 200, body = Rule), (status = 404, description = "Not there", body = Problem, content_type = "application/problem+json"), (status = 422, description = "What was sent can not be used", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn replace_rule(
    State(app): Application,
    SignedIn(caller): SignedIn,
    Id(id): Id,
    Body(body): Body<RuleText>,
) -> Answer<Json<Rule>> {
    Ok(Json(app.work(move |app| app.replace_rule(&caller, &RuleId::new(id), &body.text)).await?.into()))
}

/// Switch a rule on or off, or change its mode.
#[utoipa::path(patch, path = "/rules/{id}", tag = "rules", params(("id" = String, Path, description = "Id of the rule")), request_body = RuleChange, responses((status = 200, body = Rule), (status = 404, description = "Not there", body = Problem, content_type = "application/problem+json"), (status = 422, description = "What was sent can not be used", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn change_rule(
    State(app): Application,
    SignedIn(caller): SignedIn,
    Id(id): Id,
    Body(body): Body<RuleChange>,
) -> Answer<Json<Rule>> {
    let view =
        app.work(move |app| app.change_rule(&caller, &RuleId::new(id), body.enabled, body.mode)).await?;
    Ok(Json(view.into()))
}

/// Remove a rule.
#[utoipa::path(delete, path = "/rules/{id}", tag = "rules", params(("id" = String, Path, description = "Id of the rule")), responses((status = 204, description = "Done"), (status = 404, description = "Not there", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn delete_rule(
    State(app): Application,
    SignedIn(caller): SignedIn,
    Id(id): Id,
) -> Answer<StatusCode> {
    app.work(move |app| app.delete_rule(&caller, &RuleId::new(id))).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// What the rule engine says about a text, without saving it.
#[utoipa::path(post, path = "/rules/check", tag = "rules", request_body = RuleCollectionText, responses((status = 200, body = RuleCheck)))]
pub(crate) async fn check_rule(
    State(app): Application,
    Body(body): Body<RuleCollectionText>,
) -> Answer<Json<RuleCheck>> {
    let outcome = app.work(move |app| app.check_rule(&body.text)).await?;
    let ok = outcome.is_ok();
    let rule = outcome.rules.first().filter(|_| ok).map(|rule| CheckedRule::from(rule.head()));
    let rules = outcome.rules.len() as u64;
    let diagnostics = outcome.diagnostics.into_iter().map(RuleDiagnostic::from).collect();
    Ok(Json(RuleCheck { ok, diagnostics, rule, rules }))
}

/// What an exception would have hidden of the rule's past alerts, without saving it.
#[utoipa::path(post, path = "/rules/{id}/exceptions/preview", tag = "rules", params(("id" = String, Path, description = "Id of the rule")), request_body = ExceptionTrial, responses((status = 200, body = ExceptionPreview), (status = 404, description = "Not there", body = Problem, content_type = "application/problem+json"), (status = 422, description = "What was sent can not be used", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn preview_exception(
    State(app): Application,
    Id(id): Id,
    Body(body): Body<ExceptionTrial>,
) -> Answer<Json<ExceptionPreview>> {
    let found = app.work(move |app| app.preview_exception(&RuleId::new(id), &body.text, body.since)).await?;
    Ok(Json(found.into()))
}
