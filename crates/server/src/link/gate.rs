//! What stands before the calls of the link, so that nobody's bytes are kept for nothing.
//!
//! tonic reads a message into memory before a handler hears of it. So it is
//! decided here, by the certificate and the call, how much is read: of a stranger
//! a small message within a short time, and only for the calls that are theirs;
//! of an agent's stream what the [`BUDGET`] for all agents has room for.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::Request;
use hyper::body::{Frame, SizeHint};
use protocol::MAX_SEALED_BATCH_BYTES;
use protocol::link::agent_link_server::AgentLinkServer;
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tonic::Status;
use tower::{Service, ServiceExt as _};

use super::LinkService;
use crate::app::PeerIdentity;

/// A message's frame may be this much larger than the batch in it.
const FRAME_OVERHEAD: usize = 64 * 1024;
/// For every call but `Connect`: a token, a certificate request and a few names.
const MAX_SMALL_MESSAGE: usize = 64 * 1024;
/// For every call but `Connect`, from its head to its answer.
const CALL_TIME: Duration = Duration::from_secs(10);
/// Batches of all agents that are being read or opened, in KiB.
const BUDGET: usize = 256 * 1024;
/// Messages up to this size (bytes) need no part of the budget: a heartbeat must not wait for batches.
const FREE_OF_BUDGET: usize = 64 * 1024;

type Answer = axum::http::Response<tonic::body::Body>;
type Pending<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// The link as the router sees it.
#[derive(Clone)]
pub(crate) struct Gate {
    streams: AgentLinkServer<LinkService>,
    calls: AgentLinkServer<LinkService>,
    budget: Arc<Semaphore>,
}

impl Gate {
    pub(super) fn new(service: LinkService) -> Self {
        let service = Arc::new(service);
        Self {
            streams: AgentLinkServer::from_arc(Arc::clone(&service))
                .max_decoding_message_size(MAX_SEALED_BATCH_BYTES + FRAME_OVERHEAD),
            calls: AgentLinkServer::from_arc(service).max_decoding_message_size(MAX_SMALL_MESSAGE),
            budget: Arc::new(Semaphore::new(BUDGET)),
        }
    }
}

impl Service<Request> for Gate {
    type Response = Answer;
    type Error = Infallible;
    type Future = Pending<Result<Answer, Infallible>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let is_agent = request.extensions().get::<PeerIdentity>().is_some();
        let call = request.uri().path().rsplit('/').next().unwrap_or_default();
        if !is_agent && !matches!(call, "Keys" | "Enroll") {
            // Nothing of the body is read.
            return Box::pin(async { Ok(no_certificate().into_http()) });
        }
        if call == "Connect" {
            let budget = Arc::clone(&self.budget);
            let request = request.map(|body| Body::new(Metered::new(body, budget)));
            return Box::pin(self.streams.clone().oneshot(request));
        }
        let answer = self.calls.clone().oneshot(request);
        Box::pin(async move {
            timeout(CALL_TIME, answer).await.unwrap_or_else(|_| {
                Ok(Status::deadline_exceeded("the call took too long; try again").into_http())
            })
        })
    }
}

/// What is said to one who shows no certificate where one is needed.
pub(super) fn no_certificate() -> Status {
    Status::unauthenticated(
        "this call needs the agent's certificate; hint: enrol the host with a token first",
    )
}

/// An agent's stream that goes on with a large message only when the budget has
/// room for it. tonic asks for more bytes only after it has handed out all
/// messages that it has, and the session asks for a message only after it has
/// opened the one before: so a part is given back when the next bytes are asked for.
struct Metered {
    body: Body,
    budget: Arc<Semaphore>,
    framing: Framing,
    /// The part of the budget, and the number of the message that it is for.
    held: Option<(u64, OwnedSemaphorePermit)>,
    waiting: Option<Pending<Result<OwnedSemaphorePermit, AcquireError>>>,
}

impl Metered {
    fn new(body: Body, budget: Arc<Semaphore>) -> Self {
        Self { body, budget, framing: Framing::default(), held: None, waiting: None }
    }
}

impl HttpBody for Metered {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = &mut *self;
        let number = this.framing.number;
        if this.held.as_ref().is_some_and(|(held, _)| *held != number || this.framing.left == 0) {
            this.held = None;
        }
        if this.framing.left > 0 && this.framing.size > FREE_OF_BUDGET && this.held.is_none() {
            let part = u32::try_from(this.framing.size.div_ceil(1024).min(BUDGET)).unwrap_or(u32::MAX);
            let waiting = this
                .waiting
                .get_or_insert_with(|| Box::pin(Arc::clone(&this.budget).acquire_many_owned(part)));
            let permit = ready!(waiting.as_mut().poll(context));
            this.waiting = None;
            this.held = permit.ok().map(|permit| (number, permit));
        }
        let frame = ready!(Pin::new(&mut this.body).poll_frame(context));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            this.framing.see(data);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Where in gRPC's framing (a flag, four bytes of length, the message) a stream is.
#[derive(Debug, Default)]
struct Framing {
    head: [u8; 5],
    head_len: usize,
    /// Size of the message that was begun last.
    size: usize,
    /// What is still to come of it.
    left: usize,
    /// Counts the messages.
    number: u64,
}

impl Framing {
    fn see(&mut self, mut data: &[u8]) {
        while !data.is_empty() {
            if self.left > 0 {
                let part = self.left.min(data.len());
                self.left -= part;
                data = &data[part..];
                continue;
            }
            self.head[self.head_len] = data[0];
            self.head_len += 1;
            data = &data[1..];
            if self.head_len == self.head.len() {
                let [_, length @ ..] = self.head;
                self.size = u32::from_be_bytes(length) as usize;
                self.left = self.size;
                self.head_len = 0;
                self.number += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use futures_util::FutureExt as _;
    use tokio::sync::mpsc;
    use tokio_stream::StreamExt as _;
    use tokio_stream::wrappers::UnboundedReceiverStream;

    use super::*;

    fn metered(budget: &Arc<Semaphore>) -> (mpsc::UnboundedSender<Vec<u8>>, Metered) {
        let (sender, parts) = mpsc::unbounded_channel();
        let parts = UnboundedReceiverStream::new(parts).map(|part| Ok::<_, Infallible>(Bytes::from(part)));
        (sender, Metered::new(Body::from_stream(parts), Arc::clone(budget)))
    }

    fn next(body: &mut Metered) -> Option<usize> {
        let frame = poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).now_or_never()??;
        Some(frame.unwrap().data_ref().unwrap().len())
    }

    fn head(size: u32) -> Vec<u8> {
        [&[0][..], &size.to_be_bytes()].concat()
    }

    #[test]
    fn a_large_message_waits_for_its_part_of_the_budget_and_gives_it_back() {
        let budget = Arc::new(Semaphore::new(1024));
        let (first, mut one) = metered(&budget);
        let (second, mut two) = metered(&budget);
        for sender in [&first, &second] {
            // A small message and the head of a large one, the rest later.
            sender.send([head(3), vec![1; 3], head(1_000_000)].concat()).unwrap();
            sender.send(vec![2; 999_999]).unwrap();
        }
        assert_eq!(next(&mut one), Some(13));
        assert_eq!(next(&mut one), Some(999_999));
        assert_eq!(budget.available_permits(), 1024 - 977);
        assert_eq!(next(&mut two), Some(13), "what fits into a frame is read");
        assert_eq!(next(&mut two), None, "the rest waits");
        first.send(vec![2]).unwrap();
        assert_eq!(next(&mut one), Some(1));
        assert_eq!(next(&mut two), None, "the message is read, but not yet opened");
        assert_eq!(next(&mut one), None, "more is asked for: now it is");
        assert_eq!(next(&mut two), Some(999_999));
        drop(two);
        assert_eq!(budget.available_permits(), 1024);
    }
}
