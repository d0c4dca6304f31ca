//! YARA files and lists of indicators, and what all files of that kind are asked for.

use state_store::ContentKind;

use super::*;

/// Largest body: a text of 4 MiB, of which JSON may write every second character as two.
pub(super) const MAX_CONTENT_BODY: usize = 9 << 20;

pub(super) type ContentBody = Body<ContentText, MAX_CONTENT_BODY>;

pub(super) async fn list(app: Arc<App>, kind: ContentKind) -> Answer<Json<ContentPage>> {
    let heads = app.work(move |app| app.content_heads(kind)).await?;
    let items = heads.into_iter().map(ContentSummary::from).collect();
    Ok(Json(ContentPage { items, next_cursor: None }))
}

pub(super) async fn one(app: Arc<App>, kind: ContentKind, name: String) -> Answer<Json<ContentDocument>> {
    Ok(Json(app.work(move |app| app.content_file(kind, &name)).await?.into()))
}

pub(super) async fn put(
    app: Arc<App>,
    caller: Caller,
    kind: ContentKind,
    name: String,
    text: String,
) -> Answer<Json<SavedContent>> {
    let (file, warnings) = app.work(move |app| app.put_content(&caller, kind, &name, text)).await?;
    let warnings = warnings.into_iter().map(RuleDiagnostic::from).collect();
    Ok(Json(SavedContent { summary: file.head.into(), warnings }))
}

pub(super) async fn check(
    app: Arc<App>,
    kind: ContentKind,
    name: String,
    text: String,
) -> Answer<Json<ContentCheck>> {
    let checked = app.work(move |app| app.check_content(kind, &name, &text)).await?;
    let ok = checked.entries > 0 && !checked.diagnostics.iter().any(rule_engine::Diagnostic::is_error);
    let diagnostics = checked.diagnostics.into_iter().map(RuleDiagnostic::from).collect();
    Ok(Json(ContentCheck { ok, entries: checked.entries, diagnostics }))
}

pub(super) async fn delete(
    app: Arc<App>,
    caller: Caller,
    kind: ContentKind,
    name: String,
) -> Answer<StatusCode> {
    app.work(move |app| app.delete_content(&caller, kind, &name)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// YARA files by name, without their texts.
#[utoipa::path(get, path = "/yara-files", tag = "yara", responses((status = 200, body = ContentPage)))]
pub(crate) async fn list_yara_files(State(app): Application) -> Answer<Json<ContentPage>> {
    list(app, ContentKind::Yara).await
}

/// A YARA file with its text.
#[utoipa::path(get, path = "/yara-files/{id}", tag = "yara", params(("id" = String, Path, description = "Name of the file")), responses((status = 200, body = ContentDocument), (status = 404, description = "Not there", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn yara_file(State(app): Application, Id(name): Id) -> Answer<Json<ContentDocument>> {
    one(app, ContentKind::Yara, name).await
}

/// Add a YARA file, or replace the one of that name. Every agent gets it with the next bundle.
#[utoipa::path(put, path = "/yara-files/{id}", tag = "yara", params(("id" = String, Path, description = "Name of the file")), request_body = ContentText, responses((status = 200, body = SavedContent), (status = 413, description = "Larger than 4 MiB", body = Problem, content_type = "application/problem+json"), (status = 422, description = "What was sent can not be used", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn put_yara_file(
    State(app): Application,
    SignedIn(caller): SignedIn,
    Id(name): Id,
    Body(body): ContentBody,
) -> Answer<Json<SavedContent>> {
    put(app, caller, ContentKind::Yara, name, body.text).await
}

/// What is wrong or doubtful in a text, without saving it.
#[utoipa::path(post, path = "/yara-files/{id}/check", tag = "yara", params(("id" = String, Path, description = "Name of the file")), request_body = ContentText, responses((status = 200, body = ContentCheck), (status = 413, description = "Larger than 4 MiB", body = Problem, content_type = "application/problem+json"), (status = 422, description = "What was sent can not be used", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn check_yara_file(
    State(app): Application,
    Id(name): Id,
    Body(body): ContentBody,
) -> Answer<Json<ContentCheck>> {
    check(app, ContentKind::Yara, name, body.text).await
}

/// Remove a YARA file.
#[utoipa::path(delete, path = "/yara-files/{id}", tag = "yara", params(("id" = String, Path, description = "Name of the file")), responses((status = 204, description = "Done"), (status = 404, description = "Not there", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn delete_yara_file(
    State(app): Application,
    SignedIn(caller): SignedIn,
    Id(name): Id,
) -> Answer<StatusCode> {
    delete(app, caller, ContentKind::Yara, name).await
}

/// Lists of indicators by name, without their texts.
#[utoipa::path(get, path = "/indicator-lists", tag = "indicators", responses((status = 200, body = ContentPage)))]
pub(crate) async fn list_indicator_lists(State(app): Application) -> Answer<Json<ContentPage>> {
    list(app, ContentKind::Indicators).await
}

/// A list of indicators with its text.
#[utoipa::path(get, path = "/indicator-lists/{id}", tag = "indicators", params(("id" = String, Path, description = "Name of the file")), responses((status = 200, body = ContentDocument), (status = 404, description = "Not there", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn indicator_list(State(app): Application, Id(name): Id) -> Answer<Json<ContentDocument>> {
    one(app, ContentKind::Indicators, name).await
}

/// Add a list of indicators, or replace the one of that name. Every agent gets it with the next bundle.
#[utoipa::path(put, path = "/indicator-lists/{id}", tag = "indicators", params(("id" = String, Path, description = "Name of the file")), request_body = ContentText, responses((status = 200, body = SavedContent), (status = 413, description = "Larger than 4 MiB", body = Problem, content_type = "application/problem+json"), (status = 422, description = "What was sent can not be used", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn put_indicator_list(
    State(app): Application,
    SignedIn(caller): SignedIn,
    Id(name): Id,
    Body(body): ContentBody,
) -> Answer<Json<SavedContent>> {
    put(app, caller, ContentKind::Indicators, name, body.text).await
}

/// What is wrong or doubtful in a text, without saving it.
#[utoipa::path(post, path = "/indicator-lists/{id}/check", tag = "indicators", params(("id" = String, Path, description = "Name of the file")), request_body = ContentText, responses((status = 200, body = ContentCheck), (status = 413, description = "Larger than 4 MiB", body = Problem, content_type = "application/problem+json"), (status = 422, description = "What was sent can not be used", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn check_indicator_list(
    State(app): Application,
    Id(name): Id,
    Body(body): ContentBody,
) -> Answer<Json<ContentCheck>> {
    check(app, ContentKind::Indicators, name, body.text).await
}

/// Remove a list of indicators.
#[utoipa::path(delete, path = "/indicator-lists/{id}", tag = "indicators", params(("id" = String, Path, description = "Name of the file")), responses((status = 204, description = "Done"), (status = 404, description = "Not there", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn delete_indicator_list(
    State(app): Application,
    SignedIn(caller): SignedIn,
    Id(name): Id,
) -> Answer<StatusCode> {
    delete(app, caller, ContentKind::Indicators, name).await
}
