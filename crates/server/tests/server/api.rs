//! A client of the API: one connection a request, over real TLS.

use std::net::SocketAddr;
use std::sync::Arc;

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use protocol::trust::{ServerTrust, client_config};
use serde_json::Value as Json;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

pub(crate) struct Api {
    address: SocketAddr,
    tls: TlsConnector,
    pub(crate) cookie: Option<String>,
    pub(crate) token: Option<String>,
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: hyper::HeaderMap,
    pub(crate) json: Json,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn code(&self) -> &str {
        self.json["code"].as_str().unwrap_or_default()
    }
}

impl Api {
    pub(crate) fn new(address: SocketAddr, ca: &[u8]) -> Self {
        let mut tls = client_config(ServerTrust::Certificates(vec![ca.to_vec()]), None).unwrap();
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        Self { address, tls: TlsConnector::from(Arc::new(tls)), cookie: None, token: None }
    }

    pub(crate) fn with_token(&self, token: &str) -> Self {
        Self { address: self.address, tls: self.tls.clone(), cookie: None, token: Some(token.to_owned()) }
    }

    pub(crate) async fn send(&self, request: Request<Full<Bytes>>) -> Response<Incoming> {
        self.try_to_send(request).await.unwrap()
    }

    pub(crate) async fn try_to_send(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, hyper::Error> {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let name = "localhost".try_into().unwrap();
        let stream = self.tls.connect(name, stream).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        sender.send_request(request).await
    }

    pub(crate) fn request(&self, method: &str, path: &str, body: Option<&Json>) -> Request<Full<Bytes>> {
        let mut builder =
            Request::builder().method(method).uri(format!("/api/v1{path}")).header("host", "localhost");
        if let Some(cookie) = &self.cookie {
            builder = builder.header("cookie", cookie);
        }
        if let Some(token) = &self.token {
            builder = builder.header("authorization", format!("Bearer {token}"));
        }
        if body.is_some() {
            builder = builder.header("content-type", "application/json");
        }
        let body = body.map(|body| serde_json::to_vec(body).unwrap()).unwrap_or_default();
        builder.body(Full::new(Bytes::from(body))).unwrap()
    }

    pub(crate) async fn answer(&self, request: Request<Full<Bytes>>) -> Answer {
        let response = self.send(request).await;
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        Answer {
            status: parts.status.as_u16(),
            headers: parts.headers,
            json: serde_json::from_slice(&bytes).unwrap_or(Json::Null),
            text: String::from_utf8_lossy(&bytes).into_owned(),
        }
    }

    pub(crate) async fn call(&self, method: &str, path: &str, body: Option<Json>) -> Answer {
        self.answer(self.request(method, path, body.as_ref())).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.call("GET", path, None).await
    }

    pub(crate) async fn post(&self, path: &str, body: Json) -> Answer {
        self.call("POST", path, Some(body)).await
    }

    pub(crate) async fn put(&self, path: &str, body: Json) -> Answer {
        self.call("PUT", path, Some(body)).await
    }

    pub(crate) async fn patch(&self, path: &str, body: Json) -> Answer {
        self.call("PATCH", path, Some(body)).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.call("DELETE", path, None).await
    }

    pub(crate) async fn sign_in(&mut self, username: &str, password: &str) -> Answer {
        let body = serde_json::json!({ "username": username, "password": password });
        let answer = self.post("/session", body).await;
        if let Some(cookie) = answer.headers.get("set-cookie") {
            self.cookie = Some(cookie.to_str().unwrap().split(';').next().unwrap().to_owned());
        }
        answer
    }

    /// One of the counters.
    pub(crate) async fn counter(&self, name: &str) -> u64 {
        self.get("/ingest").await.json[name].as_u64().unwrap_or_else(|| panic!("no counter {name}"))
    }
}
