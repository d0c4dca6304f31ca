//! The agents' side of the port: gRPC service `AgentLink`.
//!
//! Who an agent is comes from its certificate ([`PeerIdentity`], put into the
//! request by the listener) and is checked against the store at every call. What
//! it sends is refused piece by piece with a reason, and the link goes on.

mod gate;
mod session;

use std::sync::Arc;

use protocol::bundle;
use protocol::link::agent_link_server::AgentLink;
use protocol::link::{
    AgentMessage, EnrollReply, EnrollRequest, KeysReply, KeysRequest, RenewReply, RenewRequest, ServerMessage,
};
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::app::{App, AppError, EnrollmentRequest, PeerIdentity, causes};
use crate::listener::PeerAddress;

/// Enrolments at once: each costs an RSA operation and two commits.
const ENROLLMENTS_AT_ONCE: usize = 4;
/// Batches that are opened at once.
const OPENED_AT_ONCE: usize = 4;
/// Messages that may wait on their way to an agent.
const OUTGOING: usize = 16;

/// The service, for the router.
pub(crate) fn service(app: Arc<App>) -> gate::Gate {
    gate::Gate::new(LinkService {
        app,
        enrollments: Arc::new(Semaphore::new(ENROLLMENTS_AT_ONCE)),
        openings: Arc::new(Semaphore::new(OPENED_AT_ONCE)),
    })
}

/// See the module.
pub(crate) struct LinkService {
    app: Arc<App>,
    enrollments: Arc<Semaphore>,
    openings: Arc<Semaphore>,
}

#[tonic::async_trait]
impl AgentLink for LinkService {
    type ConnectStream = ReceiverStream<Result<ServerMessage, Status>>;

    async fn keys(&self, _request: Request<KeysRequest>) -> Result<Response<KeysReply>, Status> {
        Ok(Response::new(KeysReply { sealing_key: self.app.pki().sealing_key.clone() }))
    }

    async fn enroll(&self, request: Request<EnrollRequest>) -> Result<Response<EnrollReply>, Status> {
        let Some(PeerAddress(address)) = request.extensions().get().copied() else {
            return Err(Status::internal("the connection has no address"));
        };
        let _turn = self.enrollments.acquire().await.map_err(|_| Status::unavailable("stopping"))?;
        let request = EnrollmentRequest { sealed: request.into_inner().sealed, address };
        let enrolled = self.app.enroll(request).await.map_err(status_of)?;
        let pki = self.app.pki();
        Ok(Response::new(EnrollReply {
            host_id: enrolled.host.as_bytes().to_vec(),
            certificate: enrolled.certificate,
            ca_certificate: pki.ca.to_vec(),
            sealing_key: pki.sealing_key.clone(),
            command_key: bundle::public_command_key(&pki.command_key),
            signature: enrolled.signature,
        }))
    }

    async fn renew(&self, request: Request<RenewRequest>) -> Result<Response<RenewReply>, Status> {
        let peer = identity(&request)?;
        self.app.admit(peer).await.map_err(refused)?;
        let certificate =
            self.app.renew(peer, request.into_inner().certificate_request).await.map_err(status_of)?;
        Ok(Response::new(RenewReply { certificate }))
    }

    async fn connect(
        &self,
        request: Request<Streaming<AgentMessage>>,
    ) -> Result<Response<Self::ConnectStream>, Status> {
        let peer = identity(&request)?;
        let host = self.app.admit(peer).await.map_err(refused)?;
        let (outgoing, to_agent) = mpsc::channel(OUTGOING);
        let session = session::Session {
            app: Arc::clone(&self.app),
            openings: Arc::clone(&self.openings),
            host,
            outgoing,
        };
        tokio::spawn(session.run(request.into_inner()));
        Ok(Response::new(ReceiverStream::new(to_agent)))
    }
}

fn identity<T>(request: &Request<T>) -> Result<PeerIdentity, Status> {
    request.extensions().get().copied().ok_or_else(gate::no_certificate)
}

/// A host that is not let in.
fn refused(error: AppError) -> Status {
    match error {
        AppError::Invalid(reason) => Status::permission_denied(reason),
        other => status_of(other),
    }
}

/// The peer's fault with its reason, ours without.
fn status_of(error: AppError) -> Status {
    match &error {
        AppError::Invalid(reason) => Status::invalid_argument(reason.clone()),
        AppError::Throttled { .. } => Status::resource_exhausted(error.to_string()),
        AppError::Busy => Status::unavailable("the server is busy"),
        _ => {
            tracing::error!(error = causes(&error), "call of an agent failed");
            Status::unavailable("the server failed; its log says why")
        }
    }
}
