//! The console's files and the headers around them.

use std::path::Path;

use http_body_util::Full;
use hyper::Request;
use hyper::body::Bytes;

use crate::running::Running;

/// The server was built with what is there.
fn console_is_built() -> bool {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../console/dist/index.html").exists()
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_carry_the_strict_policy_and_the_api_is_never_cached() {
    let running = Running::start().await;
    let api = running.stranger();
    let get =
        |path: &str| Request::get(path).header("host", "localhost").body(Full::<Bytes>::default()).unwrap();
    for path in ["/", "/alerts/some-id", "/rules/my.rule"] {
        let mut request = get(path);
        request.headers_mut().insert("accept", "text/html,application/xhtml+xml,*/*;q=0.8".parse().unwrap());
        let page = api.answer(request).await;
        if console_is_built() {
            assert_eq!(page.status, 200, "{path}");
            assert!(page.text.contains("/assets/"), "{path}: {}", page.text);
        } else {
            assert_eq!(page.status, 404, "{path}");
            assert!(page.text.contains("The console is not in this server"), "{path}: {}", page.text);
        }
        assert!(page.headers["content-type"].to_str().unwrap().starts_with("text/html"), "{path}");
        let policy = page.headers["content-security-policy"].to_str().unwrap();
        for part in [
            "default-src 'none'",
            "script-src 'self'",
            "require-trusted-types-for 'script'",
            "frame-ancestors 'none'",
        ] {
            assert!(policy.contains(part), "{policy}");
        }
        assert_eq!(page.headers["x-content-type-options"], "nosniff");
        assert!(page.headers.contains_key("strict-transport-security"));
    }
    for file in ["/assets/none.js", "/rules/my.rule"] {
        assert_eq!(api.answer(get(file)).await.status, 404, "{file}: a script must not get a page");
    }
    for path in ["/../Cargo.toml", "/..%2f..%2fetc%2fpasswd", "/%00.js", "//etc/passwd"] {
        let status = api.answer(get(path)).await.status;
        assert!(matches!(status, 200 | 400 | 404), "{path}: {status}");
    }
    let health = api.get("/health").await;
    assert_eq!(health.headers["cache-control"], "no-store");
    let document = api.get("/openapi.json").await;
    assert_eq!(document.json["info"]["title"], "Rampart");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hashed_files_are_kept_for_ever_and_go_out_compressed() {
    let running = Running::start().await;
    let api = running.stranger();
    let get =
        |path: &str| Request::get(path).header("host", "localhost").body(Full::<Bytes>::default()).unwrap();
    let page = api.answer(get("/")).await;
    let Some(script) =
        page.text.split('"').find(|part| part.starts_with("/assets/") && part.ends_with(".js"))
    else {
        assert!(!console_is_built(), "{}", page.text);
        println!("skipped: this server was built without the console");
        return;
    };
    assert_eq!(page.headers["cache-control"], "no-cache");
    let plain = api.answer(get(script)).await;
    assert_eq!((plain.status, plain.headers.get("content-encoding")), (200, None));
    assert!(plain.headers["cache-control"].to_str().unwrap().contains("immutable"));
    assert!(plain.headers["content-type"].to_str().unwrap().starts_with("text/javascript"));
    let mut request = get(script);
    request.headers_mut().insert("accept-encoding", "gzip, deflate, br".parse().unwrap());
    let packed = api.answer(request).await;
    assert_eq!(packed.headers["content-encoding"], "br");
    let mut request = get(script);
    request.headers_mut().insert("if-none-match", plain.headers["etag"].clone());
    assert_eq!(api.answer(request).await.status, 304);
    running.stop().await;
}
