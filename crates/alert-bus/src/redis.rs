//! Redis: a stream with consumer groups for our responders, and Pub/Sub for anyone.
//!
//! Publishing is one script in Redis: only an id that is new is added to the stream and told on the
//! channel, so a publish that is repeated because its answer was lost changes nothing.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use redis::{Client, Connection, Value};

use crate::{
    ANSWER_LIMIT, AlertBus, BusError, Delivery, HIGH_SEVERITY_CHANNEL, KEPT_MESSAGES, Message, Options,
    REMEMBERED, Receipt, Result, Subscription, check_size, outside_message, without_secrets,
};

const STREAM: &str = "rampart:alerts";
const ID_PREFIX: &str = "rampart:alert-id:";
const CLAIM_PREFIX: &str = "rampart:claim:";

/// KEYS: the id's key, the stream. ARGV: id, payload, seconds, length of the stream, channel, message or empty.
const PUBLISH: &str = "
if redis.call('SET', KEYS[1], '1', 'NX', 'EX', ARGV[3]) then
    redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[4], '*', 'id', ARGV[1], 'payload', ARGV[2])
    if ARGV[6] ~= '' then redis.call('PUBLISH', ARGV[5], ARGV[6]) end
    return 1
end
return 0";

/// A bus over one Redis server.
pub struct RedisBus {
    client: Client,
    name: String,
    options: Options,
    connection: Mutex<Option<Connection>>,
}

impl std::fmt::Debug for RedisBus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedisBus").field("name", &self.name).finish_non_exhaustive()
    }
}

impl RedisBus {
    /// For a URL; connects at the first call.
    ///
    /// # Errors
    /// [`BusError::Url`] if it is none.
    pub fn new(url: &str, options: Options) -> Result<Self> {
        let name = without_secrets(url);
        let client = Client::open(url).map_err(|_| BusError::Url(name.clone()))?;
        Ok(Self { client, name, options, connection: Mutex::new(None) })
    }

    /// Asks over the kept connection; after an error the next call makes a new one.
    fn ask<T>(
        &self,
        doing: &'static str,
        ask: impl FnOnce(&mut Connection) -> redis::RedisResult<T>,
    ) -> Result<T> {
        let mut kept = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        let mut connection = match kept.take() {
            Some(connection) => connection,
            None => connect(&self.client, ANSWER_LIMIT).map_err(|error| self.failed(doing, &error))?,
        };
        let answer = ask(&mut connection).map_err(|error| self.failed(doing, &error))?;
        *kept = Some(connection);
        Ok(answer)
    }

    fn failed(&self, doing: &'static str, error: &redis::RedisError) -> BusError {
        failed(&self.name, doing, error)
    }
}

fn failed(name: &str, doing: &'static str, error: &redis::RedisError) -> BusError {
    BusError::Broker { bus: name.to_owned(), doing, reason: error.to_string() }
}

fn connect(client: &Client, answer_within: Duration) -> redis::RedisResult<Connection> {
    let connection = client.get_connection_with_timeout(ANSWER_LIMIT)?;
    connection.set_read_timeout(Some(answer_within))?;
    connection.set_write_timeout(Some(ANSWER_LIMIT))?;
    Ok(connection)
}

impl AlertBus for RedisBus {
    fn publish(&self, messages: &[Message]) -> Result<()> {
        check_size(messages)?;
        if messages.is_empty() {
            return Ok(());
        }
        let mut pipeline = redis::pipe();
        for message in messages {
            pipeline
                .cmd("EVAL")
                .arg(PUBLISH)
                .arg(2)
                .arg(format!("{ID_PREFIX}{}", message.id))
                .arg(STREAM)
                .arg(&message.id)
                .arg(&message.payload)
                .arg(REMEMBERED.as_secs())
                .arg(KEPT_MESSAGES)
                .arg(HIGH_SEVERITY_CHANNEL)
                .arg(outside_message(&message.payload).unwrap_or_default());
        }
        self.ask("publish", |connection| pipeline.query::<Vec<i64>>(connection)).map(|_| ())
    }

    fn subscribe(&self, group: &str, member: &str) -> Result<Box<dyn Subscription>> {
        let mut subscription = RedisSubscription {
            client: self.client.clone(),
            name: self.name.clone(),
            options: self.options,
            group: group.to_owned(),
            member: member.to_owned(),
            connection: None,
        };
        subscription.connection = Some(subscription.connected("subscribe")?);
        Ok(Box::new(subscription))
    }

    fn claim(&self, key: &str, owner: &str) -> Result<String> {
        let key = format!("{CLAIM_PREFIX}{key}");
        self.ask("claim", |connection| {
            let mut set = redis::cmd("SET");
            set.arg(&key).arg(owner).arg("NX").arg("EX").arg(REMEMBERED.as_secs());
            let is_new: Option<String> = set.query(connection)?;
            match is_new {
                Some(_) => Ok(owner.to_owned()),
                None => redis::cmd("GET").arg(&key).query(connection),
            }
        })
    }

    fn durability(&self) -> Result<Option<String>> {
        self.ask("say how it keeps what it took", |connection| {
            let mut of = |key: &str| {
                let mut get = redis::cmd("CONFIG");
                get.arg("GET").arg(key);
                match get.query::<HashMap<String, String>>(connection) {
                    Ok(found) => Ok(found.get(key).cloned()),
                    Err(error) if error.is_io_error() => Err(error),
                    // Not allowed, or not there.
                    Err(_) => Ok(None),
                }
            };
            Ok(advice(of("appendonly")?.as_deref(), of("save")?.as_deref()))
        })
    }
}

/// What is wrong with these answers of `CONFIG GET`, of which a Redis of someone else's may give none.
fn advice(append_only: Option<&str>, snapshots: Option<&str>) -> Option<String> {
    let lost = match (append_only, snapshots) {
        (Some("yes"), _) => return None,
        (Some(_), Some("")) => {
            "keeps nothing on disk: when it ends, alerts on their way and claims of runs are lost"
        }
        (Some(_), _) => {
            "writes to disk now and then only: what came after the last snapshot is lost when it ends"
        }
        (None, _) => "does not say whether it keeps what it took (`CONFIG GET appendonly`)",
    };
    Some(format!(
        "Redis {lost}; hint: set `appendonly yes`, and `appendfsync always` where a power cut must lose nothing"
    ))
}

struct RedisSubscription {
    client: Client,
    name: String,
    options: Options,
    group: String,
    member: String,
    /// Its own: waiting for messages blocks it.
    connection: Option<Connection>,
}

impl std::fmt::Debug for RedisSubscription {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("RedisSubscription");
        shown
            .field("name", &self.name)
            .field("group", &self.group)
            .field("member", &self.member)
            .finish_non_exhaustive()
    }
}

/// Redis waits at most so long in one call, so that a dead connection is noticed.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

impl RedisSubscription {
    /// A connection to a server that has the group.
    fn connected(&mut self, doing: &'static str) -> Result<Connection> {
        if let Some(connection) = self.connection.take() {
            return Ok(connection);
        }
        let failed = |error| failed(&self.name, doing, &error);
        let mut connection = connect(&self.client, LONGEST_WAIT + ANSWER_LIMIT).map_err(failed)?;
        let mut create = redis::cmd("XGROUP");
        create.arg("CREATE").arg(STREAM).arg(&self.group).arg("0").arg("MKSTREAM");
        match create.query::<()>(&mut connection) {
            Ok(()) => {}
            // It is there already.
            Err(error) if error.code() == Some("BUSYGROUP") => {}
            Err(error) => return Err(failed(error)),
        }
        Ok(connection)
    }
}

impl Subscription for RedisSubscription {
    fn receive(&mut self, limit: usize, wait: Duration) -> Result<Vec<Delivery>> {
        let doing = "receive";
        let mut connection = self.connected(doing)?;
        let failed = |error| failed(&self.name, doing, &error);
        let idle = u64::try_from(self.options.redeliver_after.as_millis()).unwrap_or(u64::MAX);
        let mut reclaim = redis::cmd("XAUTOCLAIM");
        reclaim.arg(STREAM).arg(&self.group).arg(&self.member).arg(idle).arg("0-0").arg("COUNT").arg(limit);
        let answer: Value = reclaim.query(&mut connection).map_err(failed)?;
        let mut deliveries = match &answer {
            Value::Array(parts) => parts.get(1).map(entries).unwrap_or_default(),
            _ => Vec::new(),
        };
        if deliveries.is_empty() {
            // 0 would wait for ever.
            let wait = u64::try_from(wait.min(LONGEST_WAIT).as_millis()).unwrap_or(1).max(1);
            let mut read = redis::cmd("XREADGROUP");
            read.arg("GROUP").arg(&self.group).arg(&self.member).arg("COUNT").arg(limit);
            read.arg("BLOCK").arg(wait).arg("STREAMS").arg(STREAM).arg(">");
            let answer: Value = read.query(&mut connection).map_err(failed)?;
            deliveries = of_stream(&answer);
        }
        self.connection = Some(connection);
        Ok(deliveries)
    }

    fn acknowledge(&mut self, delivery: &Delivery) -> Result<()> {
        let Receipt::Redis(entry) = &delivery.receipt else { return Ok(()) };
        let mut connection = self.connected("acknowledge")?;
        let mut acknowledge = redis::cmd("XACK");
        acknowledge.arg(STREAM).arg(&self.group).arg(entry);
        acknowledge
            .query::<i64>(&mut connection)
            .map_err(|error| failed(&self.name, "acknowledge", &error))?;
        self.connection = Some(connection);
        Ok(())
    }
}

/// `[[stream, [entry, …]]]`, or nothing.
fn of_stream(answer: &Value) -> Vec<Delivery> {
    match answer {
        Value::Array(streams) => match streams.first() {
            Some(Value::Array(stream)) => stream.get(1).map(entries).unwrap_or_default(),
            _ => Vec::new(),
        },
        _ => Vec::new(),
    }
}

/// `[[id, [key, value, …]], …]`; an entry that was trimmed away has no values.
fn entries(answer: &Value) -> Vec<Delivery> {
    let Value::Array(entries) = answer else { return Vec::new() };
    entries.iter().filter_map(entry).collect()
}

fn entry(answer: &Value) -> Option<Delivery> {
    let Value::Array(parts) = answer else { return None };
    let entry = text(parts.first()?)?;
    let Value::Array(pairs) = parts.get(1)? else { return None };
    let value = |key: &str| {
        pairs
            .chunks_exact(2)
            .find(|pair| text(&pair[0]).as_deref() == Some(key))
            .and_then(|pair| text(&pair[1]))
    };
    let message = Message { id: value("id")?, payload: value("payload")? };
    Some(Delivery { message, receipt: Receipt::Redis(entry) })
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::BulkString(bytes) => String::from_utf8(bytes.clone()).ok(),
        Value::SimpleString(text) => Some(text.clone()),
        _ => None,
    }
}
