//! Rubbish on the port.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::running::{PATIENCE, Running, eventually};

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
    assert_eq!(api.send(request).await.status().as_u16(), 431);
    assert_eq!(api.get("/health").await.status, 200);
    running.stop().await;
}
