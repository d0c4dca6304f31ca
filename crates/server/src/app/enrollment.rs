//! How a machine becomes a host: a token for a certificate.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use event_model::HostId;
use protocol::envelope::{OpenError, Purpose};
use protocol::link::{EnrollPayload, HostFacts};
use state_store::{Certificate, NewHost, RedeemError, SecretDigest};
use uuid::Uuid;

use super::refusals::{Note, Refusals};
use super::throttle::Throttle;
use super::{Actor, App, AppError, Counter, PeerIdentity, now, place_of};

/// Longest text that a host may say about itself, in characters.
const MAX_FACT: usize = 256;

/// What is known of those who tried to enrol and were refused.
#[derive(Debug)]
pub(super) struct Enrollments {
    /// Refusals of an address; good enrolments cost nothing.
    by_address: Throttle<IpAddr>,
    /// Which of them stand in the audit log.
    refusals: Refusals,
}

impl Default for Enrollments {
    fn default() -> Self {
        Self { by_address: Throttle::new(40, Duration::from_secs(10)), refusals: Refusals::default() }
    }
}

/// A sealed request to enrol.
#[derive(Debug)]
pub struct EnrollmentRequest {
    /// An envelope around [`EnrollPayload`].
    pub sealed: Vec<u8>,
    /// From where.
    pub address: IpAddr,
}

/// A new host.
#[derive(Debug)]
pub struct Enrolled {
    /// Its id.
    pub host: HostId,
    /// Its certificate (DER).
    pub certificate: Vec<u8>,
    /// The CA's, over the enrolment and the server's keys.
    pub signature: Vec<u8>,
}

/// A text of a stranger, made fit to be shown in one line.
pub(crate) fn shown(text: &str) -> String {
    text.chars().filter(|character| !character.is_control()).take(MAX_FACT).collect()
}

impl App {
    /// Enrols a host.
    ///
    /// # Errors
    /// [`AppError::Invalid`] for a request or token that is not good, with the
    /// reason; [`AppError::Throttled`] for an address with too many of them.
    pub(crate) async fn enroll(self: &Arc<Self>, request: EnrollmentRequest) -> Result<Enrolled, AppError> {
        let place = place_of(request.address);
        self.enrollments
            .by_address
            .take(&place, Instant::now())
            .map_err(|retry_after| AppError::Throttled { retry_after })?;
        let enrolled = self.work(move |app| app.enroll_now(&request)).await;
        if !matches!(enrolled, Err(AppError::Invalid(_))) {
            self.enrollments.by_address.give_back(&place);
        }
        enrolled
    }

    /// Writes into the audit log how many refusals were left out of it in hours that are over.
    pub(super) fn note_left_out_refusals(&self) {
        for (place, left_out) in self.enrollments.refusals.take_ended(Instant::now()) {
            self.audit_left_out(place, left_out);
        }
    }

    fn audit_left_out(&self, place: IpAddr, left_out: u64) {
        let actor = Actor { who: "server".to_owned(), address: Some(place) };
        self.audit(&actor, "host.enroll_refused", "", &format!("{left_out} more within an hour"));
    }

    fn enroll_now(&self, request: &EnrollmentRequest) -> Result<Enrolled, AppError> {
        let opened = self.pki.opener.open(&request.sealed, Purpose::Enrollment, None).map_err(|error| {
            self.counters.count(match error {
                OpenError::TooLarge { .. } => Counter::Oversize,
                _ => Counter::BadEnvelope,
            });
            AppError::Invalid(format!("the request to enrol can't be read: {error}"))
        })?;
        let payload: EnrollPayload = prost_decode(&opened.plain).ok_or_else(|| {
            self.counters.count(Counter::Malformed);
            AppError::Invalid("the request to enrol is malformed".to_owned())
        })?;
        let secret = SecretDigest::of_enrollment_token(payload.token.trim());
        self.state.check_token(&secret, now()).map_err(|error| self.refused(error, request.address))?;

        let host = HostId::from_uuid(Uuid::new_v4());
        let issued = self
            .pki
            .issue_agent_certificate(&payload.certificate_request, host, now())
            .map_err(|error| AppError::Invalid(error.to_string()))?;
        let signature = self
            .pki
            .sign_enrollment(&payload.certificate_request, host)
            .map_err(|error| AppError::internal("signing an enrolment", error))?;
        let facts = payload.host.unwrap_or_default();
        let new = NewHost {
            id: host,
            name: named(&facts),
            os: shown(&facts.os),
            kernel: shown(&facts.kernel),
            agent_version: shown(&facts.agent_version),
            certificate: Certificate { fingerprint: issued.fingerprint, expires_at: issued.expires_at },
        };
        self.state
            .redeem_token(&secret, &new, now())
            .map_err(|error| self.refused(error, request.address))?;
        let actor = Actor { who: format!("host:{host}"), address: Some(request.address) };
        self.audit(&actor, "host.enroll", &host.to_string(), &new.name);
        tracing::info!(%host, name = new.name, address = %request.address, "host enrolled");
        self.tell_host(host);
        Ok(Enrolled { host, certificate: issued.der, signature })
    }

    fn refused(&self, error: RedeemError, address: IpAddr) -> AppError {
        match error {
            RedeemError::Refused(refusal) => {
                self.counters.count(Counter::BadToken);
                match self.enrollments.refusals.note(place_of(address), Instant::now()) {
                    Note::LeftOut => {}
                    Note::Written { left_out } => {
                        if left_out > 0 {
                            self.audit_left_out(place_of(address), left_out);
                        }
                        let actor = Actor { who: "server".to_owned(), address: Some(address) };
                        self.audit(&actor, "host.enroll_refused", "", &refusal.to_string());
                    }
                }
                AppError::Invalid(format!(
                    "{refusal}; hint: make a new one in the console (Settings) or with `edr token create`"
                ))
            }
            RedeemError::Store(error) => error.into(),
        }
    }

    /// A new certificate for a host that shows its present one.
    ///
    /// # Errors
    /// [`AppError::Invalid`] for a bad request, [`AppError::Forbidden`] for a host that is not let in.
    pub(crate) async fn renew(
        self: &Arc<Self>,
        peer: PeerIdentity,
        request: Vec<u8>,
    ) -> Result<Vec<u8>, AppError> {
        self.work(move |app| {
            let issued = app
                .pki
                .issue_agent_certificate(&request, peer.host, now())
                .map_err(|error| AppError::Invalid(error.to_string()))?;
            let certificate = Certificate { fingerprint: issued.fingerprint, expires_at: issued.expires_at };
            app.state.renew_certificate(peer.host, &certificate)?;
            Ok(issued.der)
        })
        .await
    }

    /// Whether the certificate's host may speak: enrolled, not revoked, and the
    /// certificate its present or previous one.
    ///
    /// # Errors
    /// [`AppError::Invalid`] with the reason if not.
    pub(crate) async fn admit(self: &Arc<Self>, peer: PeerIdentity) -> Result<state_store::Host, AppError> {
        self.work(move |app| {
            let known = app.state.host_by_certificate(&peer.fingerprint)?;
            let refuse = |reason: &str| {
                app.counters.count(Counter::Revoked);
                AppError::Invalid(reason.to_owned())
            };
            let Some(host) = known.filter(|host| host.id == peer.host) else {
                return Err(refuse("this certificate is not known here; hint: enrol the host again"));
            };
            if host.is_revoked() {
                return Err(refuse("this host was revoked; hint: enrol it again if it is to come back"));
            }
            if host.certificate.fingerprint == peer.fingerprint && host.previous_certificate.is_some() {
                app.state.drop_previous_certificate(host.id)?;
            }
            Ok(host)
        })
        .await
    }
}

pub(crate) fn named(facts: &HostFacts) -> String {
    let name = shown(&facts.name);
    if name.is_empty() { "unnamed".to_owned() } else { name }
}

fn prost_decode<M: prost::Message + Default>(bytes: &[u8]) -> Option<M> {
    M::decode(bytes).ok()
}
