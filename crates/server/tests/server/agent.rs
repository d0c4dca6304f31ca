//! An agent's side of the link, made of what agents are made of.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use event_model::{
    BootId, EventHeader, EventRecord, EventType, Field, HostId, Record, RecordBody, Timestamp, Value,
};
use hyper_util::rt::TokioIo;
use prost::Message as _;
use protocol::enrollment::{enrollment_words, is_signed_by_ca};
use protocol::envelope::{Purpose, Sealer};
use protocol::link::agent_link_client::AgentLinkClient;
use protocol::link::agent_message::Message as FromAgent;
use protocol::link::server_message::Message as ToAgent;
use protocol::link::{
    AgentMessage, EnrollPayload, EnrollReply, EnrollRequest, Hello, HostFacts, KeysRequest, ServerMessage,
};
use protocol::trust::{ServerTrust, client_config};
use protocol::wire::{Ledger, encode_batch};
use rcgen::KeyPair;
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Status, Streaming};
use uuid::Uuid;

use crate::running::{PATIENCE, Place, Running, now};

pub(crate) type Identity = (Vec<u8>, Vec<u8>);

pub(crate) async fn client(
    address: SocketAddr,
    ca: &[u8],
    identity: Option<Identity>,
) -> Result<AgentLinkClient<Channel>, tonic::transport::Error> {
    client_with(None, address, trusting(ca), identity).await
}

/// An agent that knows no more of the server than this.
pub(crate) async fn client_by(
    trust: ServerTrust,
    address: SocketAddr,
) -> Result<AgentLinkClient<Channel>, tonic::transport::Error> {
    client_with(None, address, trust, None).await
}

fn trusting(ca: &[u8]) -> ServerTrust {
    ServerTrust::Certificates(vec![ca.to_vec()])
}

/// A stranger who connects from this address.
pub(crate) async fn client_from(
    from: IpAddr,
    address: SocketAddr,
    ca: &[u8],
) -> Result<AgentLinkClient<Channel>, tonic::transport::Error> {
    client_with(Some(from), address, trusting(ca), None).await
}

async fn client_with(
    from: Option<IpAddr>,
    address: SocketAddr,
    trust: ServerTrust,
    identity: Option<Identity>,
) -> Result<AgentLinkClient<Channel>, tonic::transport::Error> {
    let tls = client_config(trust, identity).unwrap();
    let tls = TlsConnector::from(Arc::new(tls));
    let connector = tower::service_fn(move |_| {
        let tls = tls.clone();
        async move {
            let stream = match from {
                Some(from) => {
                    let socket = TcpSocket::new_v4()?;
                    socket.bind(SocketAddr::new(from, 0))?;
                    socket.connect(address).await?
                }
                None => TcpStream::connect(address).await?,
            };
            let stream = tls.connect("localhost".try_into().unwrap(), stream).await?;
            Ok::<_, std::io::Error>(TokioIo::new(stream))
        }
    });
    let channel = Endpoint::from_static("https://localhost").connect_with_connector(connector).await?;
    Ok(AgentLinkClient::new(channel).max_encoding_message_size(usize::MAX))
}

pub(crate) fn request_for_certificate(key: &KeyPair) -> Vec<u8> {
    let params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.serialize_request(key).unwrap().der().to_vec()
}

pub(crate) fn facts() -> HostFacts {
    HostFacts {
        name: "test-host".to_owned(),
        os: "Debian GNU/Linux 12 (bookworm)".to_owned(),
        kernel: "6.1.0".to_owned(),
        agent_version: "0.1.0".to_owned(),
        machine_id: String::new(),
    }
}

/// Redeems a token as an agent does.
pub(crate) async fn enroll(place: &Place, token: &str) -> Result<(EnrollReply, KeyPair), Status> {
    let mut client = client(place.address, &place.ca, None).await.unwrap();
    enroll_with(&mut client, token).await
}

/// Redeems a token on this connection.
pub(crate) async fn enroll_with(
    client: &mut AgentLinkClient<Channel>,
    token: &str,
) -> Result<(EnrollReply, KeyPair), Status> {
    let keys = client.keys(KeysRequest {}).await?.into_inner();
    let key = KeyPair::generate().unwrap();
    let request = request_for_certificate(&key);
    let payload =
        EnrollPayload { token: token.to_owned(), certificate_request: request.clone(), host: Some(facts()) };
    let nobody = HostId::from_uuid(Uuid::nil());
    let mut sealer = Sealer::new(&keys.sealing_key, nobody, Purpose::Enrollment).unwrap();
    let reply = client.enroll(EnrollRequest { sealed: sealer.seal(&payload.encode_to_vec()) }).await?;
    let reply = reply.into_inner();
    let host = HostId::from_slice(&reply.host_id).unwrap();
    let words = enrollment_words(&request, host, &reply.command_key, &keys.sealing_key);
    assert!(is_signed_by_ca(&reply.ca_certificate, &words, &reply.signature), "an agent would not take it");
    Ok((reply, key))
}

/// An enrolled agent.
pub(crate) struct Agent {
    pub(crate) host: HostId,
    pub(crate) identity: Identity,
    pub(crate) command_key: Vec<u8>,
    pub(crate) sealing_key: Vec<u8>,
    pub(crate) boot: BootId,
    pub(crate) sealer: Sealer,
}

impl Agent {
    /// With the token of the first start.
    pub(crate) async fn first(running: &Running) -> Self {
        let token = running.first_enrollment.split("-token=").nth(1).unwrap();
        Self::with_token(running, token).await
    }

    pub(crate) async fn with_token(place: &Place, token: &str) -> Self {
        let (reply, key) = enroll(place, token).await.expect("the token is good");
        let host = HostId::from_slice(&reply.host_id).unwrap();
        Self {
            host,
            identity: (reply.certificate, key.serialized_der().to_vec()),
            sealer: Sealer::new(&reply.sealing_key, host, Purpose::Batch).unwrap(),
            sealing_key: reply.sealing_key,
            command_key: reply.command_key,
            boot: BootId::from_uuid(Uuid::new_v4()),
        }
    }

    pub(crate) async fn client(&self, place: &Place) -> AgentLinkClient<Channel> {
        client(place.address, &place.ca, Some(self.identity.clone())).await.expect("connects")
    }

    /// A stream with the hello said.
    pub(crate) async fn connect(&self, place: &Place, policy_version: u64) -> Result<Stream, Status> {
        let (to_server, outgoing) = mpsc::channel(16);
        let hello = Hello {
            host: Some(facts()),
            boot_id: self.boot.as_bytes().to_vec(),
            sensor: "ebpf".to_owned(),
            policy_version,
        };
        to_server.send(AgentMessage { message: Some(FromAgent::Hello(hello)) }).await.unwrap();
        let mut client = self.client(place).await;
        let incoming = client.connect(ReceiverStream::new(outgoing)).await?.into_inner();
        Ok(Stream { to_server, incoming })
    }

    pub(crate) fn event(&self, sequence: u64, name: &str) -> EventRecord {
        let start = sequence * 1_000;
        let entity = event_model::ProcessEntityId::new(self.boot, 1000, start);
        let fields = vec![
            (Field::ProcessEntityId, Value::Text(entity.to_string())),
            (Field::ProcessPid, Value::Integer(1000)),
            (Field::ProcessName, Value::Text(name.to_owned())),
            (Field::ProcessExecutable, Value::Text(format!("/tmp/{name}"))),
            (Field::ProcessCommandLine, Value::Text(format!("/tmp/{name} --number {sequence}"))),
            (Field::UserName, Value::Text("root".to_owned())),
        ];
        EventRecord::from_fields(self.header(sequence), EventType::ProcessStart, fields)
    }

    pub(crate) fn header(&self, sequence: u64) -> EventHeader {
        EventHeader {
            host_id: self.host,
            boot_id: self.boot,
            sequence,
            observed_at: Timestamp::from_nanos(now().as_nanos() + i64::try_from(sequence).unwrap()),
            monotonic_ns: sequence * 1_000,
        }
    }

    pub(crate) fn record(&self, sequence: u64, name: &str) -> Record {
        Record { header: self.header(sequence), body: RecordBody::Event(self.event(sequence, name)) }
    }

    pub(crate) fn batch_of(&self, records: &[Record]) -> Vec<u8> {
        let (first, last) = (records[0].header.sequence, records[records.len() - 1].header.sequence);
        let ledger = Ledger { produced: last, ..Ledger::default() };
        encode_batch(self.boot, first, last, records, &ledger)
    }

    /// A sealed batch of process starts.
    pub(crate) fn sealed(&mut self, numbers: std::ops::RangeInclusive<u64>, name: &str) -> Vec<u8> {
        let records: Vec<_> = numbers.map(|sequence| self.record(sequence, name)).collect();
        let plain = self.batch_of(&records);
        self.sealer.seal(&plain)
    }
}

pub(crate) struct Stream {
    pub(crate) to_server: mpsc::Sender<AgentMessage>,
    pub(crate) incoming: Streaming<ServerMessage>,
}

impl Stream {
    pub(crate) async fn send(&self, message: FromAgent) {
        self.to_server.send(AgentMessage { message: Some(message) }).await.expect("the stream is open");
    }

    pub(crate) async fn send_batch(&self, sealed: Vec<u8>) {
        self.send(FromAgent::Batch(sealed)).await;
    }

    /// The next message that is neither a heartbeat nor the marks with which a stream begins.
    pub(crate) async fn next(&mut self) -> Result<Option<ToAgent>, Status> {
        let wait = async {
            loop {
                match self.incoming.message().await? {
                    Some(ServerMessage {
                        message: Some(ToAgent::Heartbeat(_) | ToAgent::HighWaterMarks(_)),
                    }) => {}
                    Some(message) => return Ok(message.message),
                    None => return Ok(None),
                }
            }
        };
        timeout(PATIENCE, wait).await.expect("the server answers")
    }

    /// The next answer to a batch; bundles that come between are left out.
    pub(crate) async fn next_answer(&mut self) -> ToAgent {
        loop {
            match self.next().await.expect("the stream is good") {
                Some(ToAgent::Policy(_)) => {}
                Some(message) => return message,
                None => panic!("the stream ended"),
            }
        }
    }

    /// Waits for the acknowledgement of everything up to `last`.
    pub(crate) async fn acknowledged(&mut self, last: u64) {
        loop {
            match self.next_answer().await {
                ToAgent::Stored(stored) if stored.last_sequence >= last => return,
                ToAgent::Stored(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    pub(crate) async fn refused(&mut self) -> protocol::link::BatchRefused {
        match self.next_answer().await {
            ToAgent::Refused(refused) => refused,
            other => panic!("{other:?}"),
        }
    }

    /// Waits for the end, and gives its status.
    pub(crate) async fn end(&mut self) -> Status {
        let wait = async {
            loop {
                match self.incoming.message().await {
                    Ok(Some(_)) => {}
                    Ok(None) => return Status::ok(""),
                    Err(status) => return status,
                }
            }
        };
        timeout(Duration::from_secs(5), wait).await.expect("the stream ends")
    }
}
