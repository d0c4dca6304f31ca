//! Rubbish on the port.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http_body_util::StreamBody;
use hyper::body::{Bytes, Frame, Incoming};
use hyper::client::conn::http2::SendRequest;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use protocol::trust::{ServerTrust, client_config};
use server::app::Counter;
use server::listener::StrangerLimits;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc::{self, UnboundedSender};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::Code;

use crate::agent::Agent;
use crate::running::{PATIENCE, Place, Running, eventually};

async fn all_of(stream: &mut TcpStream) -> Vec<u8> {
    let mut answer = Vec::new();
    // The server may cut the connection; what came before counts.
    let _ = timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("the server closes");
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_is_counted_and_the_server_serves_on() {
    let running = Running::start().await;
    let admin = running.administrator().await;
    for rubbish in [&b"\x00\x01\x02\x03"[..], &[0xff; 4096], b"SSH-2.0-OpenSSH_9.2\r\n"] {
        let mut stream = TcpStream::connect(running.address).await.unwrap();
        stream.write_all(rubbish).await.unwrap();
        all_of(&mut stream).await;
    }
    // Begins like TLS, and is none.
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    stream.write_all(&[&[22, 3, 1, 2, 0][..], &[0xaa; 512]].concat()).await.unwrap();
    all_of(&mut stream).await;
    eventually("all four are counted", || async {
        (admin.counter("garbage_connections").await == 4).then_some(())
    })
    .await;
    assert_eq!(running.stranger().get("/health").await.status, 200);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_http_is_told_to_use_tls() {
    let running = Running::start().await;
    let admin = running.administrator().await;
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let answer = String::from_utf8(all_of(&mut stream).await).unwrap();
    assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("https://"), "{answer}");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains(&format!("Content-Length: {}", body.len())), "{answer}");
    assert_eq!(admin.counter("garbage_connections").await, 1);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_say_nothing_do_not_keep_others_out() {
    let running = Running::start().await;
    let mut silent = Vec::new();
    for _ in 0..200 {
        silent.push(TcpStream::connect(running.address).await.unwrap());
    }
    let answer = timeout(Duration::from_secs(5), async { running.stranger().get("/health").await.status });
    assert_eq!(answer.await.expect("an answer in time"), 200);
    drop(silent);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_past_the_limit_are_refused() {
    let running = Running::start().await;
    let api = running.stranger();
    let mut request = api.request("GET", "/health", None);
    request.headers_mut().insert("x-long", "x".repeat(64 * 1024).parse().unwrap());
    // The server reads no more than the limit; its answer may be overtaken by the end of the connection.
    if let Ok(answer) = api.try_to_send(request).await {
        assert_eq!(answer.status().as_u16(), 431);
    }
    assert_eq!(api.get("/health").await.status, 200);
    running.stop().await;
}

pub(crate) type Body = StreamBody<UnboundedReceiverStream<Result<Frame<Bytes>, Infallible>>>;

/// A connection of HTTP/2 without a certificate.
pub(crate) async fn stranger_http2(place: &Place) -> Option<SendRequest<Body>> {
    let mut tls = client_config(ServerTrust::Certificates(vec![place.ca.clone()]), None).unwrap();
    tls.alpn_protocols = vec![b"h2".to_vec()];
    let stream = TcpStream::connect(place.address).await.ok()?;
    let connector = TlsConnector::from(Arc::new(tls));
    let stream = connector.connect("localhost".try_into().unwrap(), stream).await.ok()?;
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.ok()?;
    tokio::spawn(connection);
    Some(sender)
}

/// A call of the link with a body that never ends, and the way to add to it.
pub(crate) fn endless_call(
    call: &str,
    begin: Vec<u8>,
) -> (Request<Body>, UnboundedSender<Result<Frame<Bytes>, Infallible>>) {
    let (more, parts) = mpsc::unbounded_channel();
    more.send(Ok(Frame::data(Bytes::from(begin)))).unwrap();
    let request = Request::post(format!("https://localhost/rampart.link.v1.AgentLink/{call}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(StreamBody::new(UnboundedReceiverStream::new(parts)))
        .unwrap();
    (request, more)
}

fn grpc_status(response: &Response<Incoming>) -> Code {
    let status = response.headers().get("grpc-status").expect("the status is in the head");
    Code::from_bytes(status.as_bytes())
}

/// Nobody's bytes are kept: large messages, slow ones, and those for calls that need a certificate.
#[tokio::test(flavor = "multi_thread")]
async fn who_has_no_certificate_can_fill_no_memory() {
    let running = Running::start().await;
    let head = |size: u32| [&[0][..], &size.to_be_bytes()].concat();
    let large = [head(16 << 20), vec![7; 1 << 20]].concat();
    let mut connections = Vec::new();
    for _ in 0..8 {
        let mut connection = stranger_http2(&running).await.unwrap();
        let mut open = Vec::new();
        for call in ["Enroll", "Keys", "Connect", "Renew"] {
            let (request, more) = endless_call(call, large.clone());
            let answer = timeout(Duration::from_secs(5), connection.send_request(request)).await;
            let expected =
                if matches!(call, "Enroll" | "Keys") { Code::OutOfRange } else { Code::Unauthenticated };
            assert_eq!(grpc_status(&answer.expect("at once").unwrap()), expected, "{call}");
            open.push(more);
        }
        connections.push((connection, open));
    }
    let (request, more) = endless_call("Enroll", head(1024));
    let start = Instant::now();
    let answer = timeout(PATIENCE, connections[0].0.send_request(request)).await.expect("an answer in time");
    assert_eq!(grpc_status(&answer.unwrap()), Code::DeadlineExceeded);
    assert!(start.elapsed() > Duration::from_secs(5), "{:?}", start.elapsed());
    drop(more);
    Agent::first(&running).await.connect(&running, 0).await.expect("agents are let in as ever");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_strangers_get_few_places_and_lose_them_and_agents_get_in() {
    let limits = StrangerLimits { all: 100, of_address: 10, silence: Duration::from_secs(3) };
    let running = Running::start_with(limits).await;
    let agent = Agent::first(&running).await;
    let mut idle = Vec::new();
    for _ in 0..30 {
        idle.push(stranger_http2(&running).await);
    }
    eventually("the others are turned away", || async {
        (running.app.counters().value(Counter::TooManyConnections) >= 19).then_some(())
    })
    .await;
    let mut stream = agent.connect(&running, 0).await.expect("an agent has a place of its own");
    // The idle ones are still held by us; the server has closed them.
    eventually("there is a place again", || async {
        let mut connection = stranger_http2(&running).await?;
        let (request, _more) = endless_call("Connect", Vec::new());
        connection.send_request(request).await.ok()
    })
    .await;
    drop(idle);
    stream.next().await.expect("the agent's link is not closed for silence");
    running.stop().await;
}
