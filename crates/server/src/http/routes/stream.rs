//! What happens, as it happens: server-sent events.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::response::sse::{Event, KeepAlive, Sse};
use event_model::{EcsContext, event_to_ecs};
use event_store::EventQuery as StoreQuery;
use futures_util::Stream;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;
use tokio::time::interval;
use tokio_stream::wrappers::ReceiverStream;

use super::*;
use crate::app::{Caller, Credential, EventFilter, LiveMessage};

/// How often it is looked whether the caller still may. Signing out, a new role,
/// a disabled account and a token that was removed or has expired end the stream within this time.
const STILL_ALLOWED: Duration = Duration::from_secs(10);
/// Messages that wait for a slow client before it is told that it lags.
const WAITING: usize = 64;
/// Events of one batch that are sent; a live tail is to be read by people.
const EVENTS_OF_A_BATCH: usize = 200;

/// Events, alerts and hosts as they come in: server-sent events `event`, `alert`, `host` and `lagged`.
///
/// `event` messages are ECS documents and obey the filters, `alert` messages are
/// `Alert`s, `host` messages `Host`s. `lagged` (`{"missed": n}`) tells that the
/// client was too slow, or that more came in at once than is sent.
#[utoipa::path(
    get, path = "/events/stream", tag = "events", params(StreamQuery),
    responses((status = 200, body = String, content_type = "text/event-stream"))
)]
pub(crate) async fn stream_events(
    State(app): Application,
    SignedIn(caller): SignedIn,
    Params(query): Params<StreamQuery>,
) -> Answer<Sse<impl Stream<Item = Result<Event, Infallible>>>> {
    let filter = EventFilter {
        host: query.host,
        event_type: query.event_type,
        text: query.q,
        ..EventFilter::default()
    };
    let filter = filter.to_query()?;
    let live = app.live.follow().ok_or(AppError::Busy)?;
    let (sender, messages) = mpsc::channel(WAITING);
    tokio::spawn(follow(app, caller, live, filter, sender));
    Ok(Sse::new(ReceiverStream::new(messages)).keep_alive(KeepAlive::new().interval(Duration::from_secs(15))))
}

async fn follow(
    app: Arc<App>,
    caller: Caller,
    mut live: Receiver<LiveMessage>,
    filter: StoreQuery,
    sender: mpsc::Sender<Result<Event, Infallible>>,
) {
    let mut still_allowed = interval(STILL_ALLOWED);
    still_allowed.tick().await;
    loop {
        let messages = tokio::select! {
            () = sender.closed() => return,
            _ = still_allowed.tick() => {
                if !is_still_allowed(&app, &caller).await {
                    return;
                }
                continue;
            }
            message = live.recv() => match message {
                Ok(message) => shown(&message, &filter),
                Err(RecvError::Lagged(missed)) => vec![lagged(missed)],
                Err(RecvError::Closed) => return,
            },
        };
        for message in messages {
            if sender.send(Ok(message)).await.is_err() {
                return;
            }
        }
    }
}

async fn is_still_allowed(app: &Arc<App>, caller: &Caller) -> bool {
    let (credential, address, role) = (caller.credential, caller.address, caller.role);
    let found = app.work(move |app| match credential {
        Credential::Session(secret) => app.caller_of_session(&secret, address),
        Credential::ApiToken(secret) => app.caller_of_token(&secret, address),
    });
    let found = found.await;
    matches!(found, Ok(Some(found)) if found.role == role)
}

fn shown(message: &LiveMessage, filter: &StoreQuery) -> Vec<Event> {
    match message {
        LiveMessage::Alert(alert) => vec![named("alert", &Alert::from(alert.as_ref().clone()))],
        LiveMessage::Host(view) => vec![named("host", &Host::from(view.as_ref().clone()))],
        LiveMessage::Events(batch) => {
            let context =
                EcsContext { host_name: &batch.host_name, agent_version: Some(&batch.agent_version) };
            let matching: Vec<_> = batch.events.iter().filter(|event| filter.matches(event)).collect();
            let shown = matching.iter().take(EVENTS_OF_A_BATCH);
            let mut events: Vec<_> =
                shown.map(|event| named("event", &event_to_ecs(event, context))).collect();
            let missed = batch.left_out + matching.len().saturating_sub(EVENTS_OF_A_BATCH) as u64;
            if missed > 0 {
                events.push(lagged(missed));
            }
            events
        }
    }
}

fn lagged(missed: u64) -> Event {
    named("lagged", &serde_json::json!({ "missed": missed }))
}

fn named(name: &str, body: &impl serde::Serialize) -> Event {
    // What the API shows can always be written as JSON; if not, the name alone says that something was.
    Event::default().event(name).json_data(body).unwrap_or_else(|_| Event::default().event(name))
}
