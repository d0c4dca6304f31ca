//! The console's files, out of the binary.
//!
//! Hashed files may be kept for ever, `index.html` must be asked for each time.
//! Any path without an extension is a page of the console, which finds its way
//! itself; so is one that is no file but that a browser wants to show (`text/html`):
//! ids may have dots. Files that the build compressed go out so.

use std::borrow::Cow;

use axum::body::Bytes;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use rust_embed::{EmbeddedFile, RustEmbed};

#[derive(RustEmbed)]
#[folder = "../../console/dist"]
struct Files;

const NOT_BUILT: &str = "<!doctype html><meta charset=utf-8><title>Rampart</title>\
    <h1>The console is not in this server</h1>\
    <p>It was built without it. Build the console first (<code>make console</code>), then the server again.</p>\
    <p>The API works: <a href=/api/v1/openapi.json>/api/v1/openapi.json</a></p>";

/// Answers everything that is not the API's or the agents'.
pub(crate) async fn serve(method: Method, uri: Uri, headers: HeaderMap) -> Response {
    if !matches!(method, Method::GET | Method::HEAD) {
        return StatusCode::METHOD_NOT_ALLOWED.into_response();
    }
    let path = uri.path().trim_start_matches('/');
    let looks_like_file = path.rsplit('/').next().unwrap_or_default().contains('.');
    let found = if looks_like_file { find(path, &headers) } else { None };
    if let Some(found) = found {
        return found;
    }
    if looks_like_file && !wants_page(&headers) {
        return StatusCode::NOT_FOUND.into_response();
    }
    find("index.html", &headers).unwrap_or_else(|| {
        let no_store =
            [(header::CACHE_CONTROL, "no-store"), (header::CONTENT_TYPE, "text/html; charset=utf-8")];
        (StatusCode::NOT_FOUND, no_store, NOT_BUILT).into_response()
    })
}

/// Browsers say so when they open a page, and not when they load a script or an image.
fn wants_page(headers: &HeaderMap) -> bool {
    headers
        .get(header::ACCEPT)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|accepted| accepted.contains("text/html"))
}

fn find(path: &str, headers: &HeaderMap) -> Option<Response> {
    let accepted =
        headers.get(header::ACCEPT_ENCODING).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let accepts = |coding: &str| {
        accepted.split(',').any(|part| part.split(';').next().is_some_and(|name| name.trim() == coding))
    };
    let packed = [("br", "br"), ("gzip", "gz")]
        .into_iter()
        .filter(|(coding, _)| accepts(coding))
        .find_map(|(coding, extension)| Some((Files::get(&format!("{path}.{extension}"))?, Some(coding))));
    let (file, coding) = match packed {
        Some(found) => found,
        None => (Files::get(path)?, None),
    };
    Some(answer(path, file, coding, headers))
}

fn answer(path: &str, file: EmbeddedFile, coding: Option<&'static str>, headers: &HeaderMap) -> Response {
    let tag = format!("\"{}\"", protocol::enrollment::to_hex(&file.metadata.sha256_hash()[..16]));
    // The build puts what it names by its hash into `assets`.
    let caching =
        if path.starts_with("assets/") { "public, max-age=31536000, immutable" } else { "no-cache" };
    let unchanged =
        headers.get(header::IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == tag.as_bytes());
    let mut response = if unchanged {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        match file.data {
            // Not a copy for each who asks.
            Cow::Borrowed(data) => Bytes::from_static(data).into_response(),
            Cow::Owned(data) => data.into_response(),
        }
    };
    let out = response.headers_mut();
    out.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type(path)));
    out.insert(header::CACHE_CONTROL, HeaderValue::from_static(caching));
    out.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        out.insert(header::ETAG, tag);
    }
    if let Some(coding) = coding {
        out.insert(header::CONTENT_ENCODING, HeaderValue::from_static(coding));
    }
    response
}

fn content_type(path: &str) -> &'static str {
    match path.rsplit('.').next().unwrap_or_default() {
        "html" => "text/html; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "json" | "map" => "application/json",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "ico" => "image/x-icon",
        "woff2" => "font/woff2",
        "txt" => "text/plain; charset=utf-8",
        "webmanifest" => "application/manifest+json",
        _ => "application/octet-stream",
    }
}
