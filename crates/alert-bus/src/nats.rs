//! NATS JetStream: a stream on disk with a durable consumer for each group.
//!
//! JetStream itself leaves out a message whose id it has seen. A claim is a message on a subject of its
//! own that is only taken as the first there.

use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, PullConsumer, pull};
use async_nats::jetstream::stream::{DiscardPolicy, StorageType};
use async_nats::jetstream::{Context, stream};
use async_nats::{Client, HeaderMap};
use futures_util::StreamExt as _;
use tokio::runtime::Runtime;

use crate::{
    ANSWER_LIMIT, AlertBus, BusError, Delivery, KEPT_MESSAGES, Message, Options, REMEMBERED, Receipt, Result,
    Subscription, check_size, without_secrets,
};

const ALERTS: &str = "RAMPART_ALERTS";
const ALERTS_SUBJECT: &str = "rampart.alerts";
const CLAIMS: &str = "RAMPART_CLAIMS";
const CLAIMS_SUBJECT: &str = "rampart.claims";

/// A bus over one NATS server or cluster.
pub struct NatsBus {
    url: String,
    name: String,
    options: Options,
    client: Mutex<Option<Client>>,
}

impl std::fmt::Debug for NatsBus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NatsBus").field("name", &self.name).finish_non_exhaustive()
    }
}

/// The client's own tasks run here, whoever calls.
fn runtime() -> std::result::Result<&'static Runtime, BusError> {
    static RUNTIME: OnceLock<std::io::Result<Runtime>> = OnceLock::new();
    let made = RUNTIME.get_or_init(|| {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(1).thread_name("nats").enable_all().build()
    });
    made.as_ref().map_err(|error| BusError::Broker {
        bus: "nats".to_owned(),
        doing: "start a thread",
        reason: error.to_string(),
    })
}

impl NatsBus {
    /// For a URL; connects at the first call.
    ///
    /// # Errors
    /// [`BusError::Url`] if it is none.
    pub fn new(url: &str, options: Options) -> Result<Self> {
        let name = without_secrets(url);
        if url.parse::<async_nats::ServerAddr>().is_err() {
            return Err(BusError::Url(name));
        }
        Ok(Self { url: url.to_owned(), name, options, client: Mutex::new(None) })
    }

    fn failed(&self, doing: &'static str) -> impl Fn(String) -> BusError + use<> {
        let bus = self.name.clone();
        move |reason| BusError::Broker { bus: bus.clone(), doing, reason }
    }

    /// The kept client, which connects again by itself.
    fn context(&self, doing: &'static str) -> Result<Context> {
        let mut kept = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        let client = match &*kept {
            Some(client) => client.clone(),
            None => {
                let options = async_nats::ConnectOptions::new()
                    .connection_timeout(ANSWER_LIMIT)
                    .request_timeout(Some(ANSWER_LIMIT));
                let connected = bounded(options.connect(self.url.as_str()))?;
                let client = connected.map_err(self.failed(doing))?;
                kept.insert(client).clone()
            }
        };
        // It starts a task of its own.
        let _entered = runtime()?.enter();
        let mut context = async_nats::jetstream::new(client);
        context.set_timeout(ANSWER_LIMIT);
        Ok(context)
    }
}

/// Waits on the runtime, at most twice as long as any single answer may take.
fn bounded<T, E: std::fmt::Display>(
    work: impl Future<Output = std::result::Result<T, E>>,
) -> Result<std::result::Result<T, String>> {
    let limit = ANSWER_LIMIT * 2;
    let done = runtime()?.block_on(async { tokio::time::timeout(limit, work).await });
    Ok(match done {
        Ok(done) => done.map_err(|error| error.to_string()),
        Err(_) => Err(format!("no answer within {limit:?}")),
    })
}

async fn alerts(context: &Context) -> std::result::Result<stream::Stream, String> {
    let config = stream::Config {
        name: ALERTS.to_owned(),
        subjects: vec![ALERTS_SUBJECT.to_owned()],
        storage: StorageType::File,
        discard: DiscardPolicy::Old,
        max_messages: i64::try_from(KEPT_MESSAGES).unwrap_or(i64::MAX),
        max_age: REMEMBERED,
        duplicate_window: REMEMBERED,
        ..stream::Config::default()
    };
    context.get_or_create_stream(config).await.map_err(|error| error.to_string())
}

impl AlertBus for NatsBus {
    fn publish(&self, messages: &[Message]) -> Result<()> {
        check_size(messages)?;
        if messages.is_empty() {
            return Ok(());
        }
        let context = self.context("publish")?;
        let published = bounded(async {
            alerts(&context).await?;
            let mut waiting = Vec::with_capacity(messages.len());
            for message in messages {
                let mut headers = HeaderMap::new();
                headers.insert("Nats-Msg-Id", message.id.as_str());
                let sent =
                    context.publish_with_headers(ALERTS_SUBJECT, headers, message.payload.clone().into());
                waiting.push(sent.await.map_err(|error| error.to_string())?);
            }
            for acknowledged in waiting {
                acknowledged.await.map_err(|error| error.to_string())?;
            }
            Ok::<_, String>(())
        })?;
        published.map_err(self.failed("publish"))
    }

    fn subscribe(&self, group: &str, _member: &str) -> Result<Box<dyn Subscription>> {
        let context = self.context("subscribe")?;
        let config = pull::Config {
            durable_name: Some(group.to_owned()),
            ack_policy: AckPolicy::Explicit,
            ack_wait: self.options.redeliver_after,
            ..pull::Config::default()
        };
        let consumer = bounded(async {
            let stream = alerts(&context).await?;
            stream.get_or_create_consumer(group, config).await.map_err(|error| error.to_string())
        })?;
        let consumer = consumer.map_err(self.failed("subscribe"))?;
        Ok(Box::new(NatsSubscription { name: self.name.clone(), context, consumer }))
    }

    fn claim(&self, key: &str, owner: &str) -> Result<String> {
        let context = self.context("claim")?;
        let subject = format!("{CLAIMS_SUBJECT}.{}", token(key));
        let config = stream::Config {
            name: CLAIMS.to_owned(),
            subjects: vec![format!("{CLAIMS_SUBJECT}.*")],
            storage: StorageType::File,
            max_messages_per_subject: 1,
            max_age: REMEMBERED,
            // A stream's window for ids can't be longer than its age; claims use none.
            duplicate_window: Duration::from_secs(120),
            ..stream::Config::default()
        };
        let claimed = bounded(async {
            let stream = context.get_or_create_stream(config).await.map_err(|error| error.to_string())?;
            let mut headers = HeaderMap::new();
            headers.insert("Nats-Expected-Last-Subject-Sequence", "0");
            let sent = context.publish_with_headers(subject.clone(), headers, owner.to_owned().into());
            let sent = sent.await.map_err(|error| error.to_string())?;
            if sent.await.is_ok() {
                return Ok(owner.to_owned());
            }
            // Somebody was first, be it ourselves with an answer that was lost.
            let first = stream.get_last_raw_message_by_subject(&subject).await;
            let first = first.map_err(|error| error.to_string())?;
            Ok::<_, String>(String::from_utf8_lossy(&first.payload).into_owned())
        })?;
        claimed.map_err(self.failed("claim"))
    }
}

/// A key as one token of a subject: hexadecimal, so that nothing in it means anything.
fn token(key: &str) -> String {
    key.bytes().map(|byte| format!("{byte:02x}")).collect()
}

struct NatsSubscription {
    name: String,
    context: Context,
    consumer: PullConsumer,
}

impl std::fmt::Debug for NatsSubscription {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NatsSubscription").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Subscription for NatsSubscription {
    fn receive(&mut self, limit: usize, wait: Duration) -> Result<Vec<Delivery>> {
        let wait = wait.clamp(Duration::from_millis(10), ANSWER_LIMIT);
        let received = bounded(async {
            // One first, so that it is not kept waiting until as many as the limit have come.
            let mut deliveries = Vec::new();
            let first = self.consumer.batch().max_messages(1).expires(wait).messages();
            let mut first = first.await.map_err(|error| error.to_string())?;
            while let Some(message) = first.next().await {
                deliveries.push(delivery(message.map_err(|error| error.to_string())?));
            }
            if deliveries.is_empty() || limit < 2 {
                return Ok::<_, String>(deliveries);
            }
            let rest = self.consumer.fetch().max_messages(limit - 1).messages();
            let mut rest = rest.await.map_err(|error| error.to_string())?;
            while let Some(message) = rest.next().await {
                deliveries.push(delivery(message.map_err(|error| error.to_string())?));
            }
            Ok(deliveries)
        })?;
        let failed = |reason| BusError::Broker { bus: self.name.clone(), doing: "receive", reason };
        Ok(received.map_err(failed)?.into_iter().flatten().collect())
    }

    fn acknowledge(&mut self, delivery: &Delivery) -> Result<()> {
        let Receipt::Nats(reply) = &delivery.receipt else { return Ok(()) };
        let client = self.context.client();
        // A request: the server answers when it has noted it.
        let done = bounded(client.request(reply.clone(), "+ACK".into()))?;
        let failed = |reason| BusError::Broker { bus: self.name.clone(), doing: "acknowledge", reason };
        done.map(|_| ()).map_err(failed)
    }
}

fn delivery(message: async_nats::jetstream::Message) -> Option<Delivery> {
    let id = message.headers.as_ref()?.get("Nats-Msg-Id")?.as_str().to_owned();
    let payload = String::from_utf8(message.payload.to_vec()).ok()?;
    let receipt = Receipt::Nats(message.reply.as_ref()?.to_string());
    Some(Delivery { message: Message { id, payload }, receipt })
}
