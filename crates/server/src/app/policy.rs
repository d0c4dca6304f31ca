//! The rule bundle in force: made and signed at each change, pushed to every agent.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::signature::Ed25519KeyPair;
use event_model::Timestamp;
use protocol::bundle::sign_bundle;
use protocol::link::{ContentFile, PolicyBundle, RuleText, SignedBundle};
use state_store::{ContentKind, ContentSet, Rule, RuleSet, StateStore};
use tokio::sync::watch;

use super::{AppError, after, before, now};

/// How long agents may take a bundle for new. One in force stays in force.
const BUNDLE_LIFE: Duration = Duration::from_secs(7 * 24 * 3600);
/// A bundle of this age is signed anew, so that one that is sent never is near its end.
const SIGN_AGAIN: Duration = Duration::from_secs(24 * 3600);

/// A signed bundle.
#[derive(Debug, Clone)]
pub struct SignedPolicy {
    /// Its version.
    pub version: u64,
    /// It.
    pub bundle: SignedBundle,
    created_at: Timestamp,
}

/// The bundle in force; links watch it.
#[derive(Debug)]
pub struct Policy {
    current: watch::Sender<Arc<SignedPolicy>>,
}

impl Policy {
    pub(crate) fn of(state: &dyn StateStore, key: &Ed25519KeyPair) -> Result<Self, AppError> {
        Ok(Self { current: watch::channel(Arc::new(sign(state, key)?)).0 })
    }

    /// Watches for changes.
    pub(crate) fn watch(&self) -> watch::Receiver<Arc<SignedPolicy>> {
        self.current.subscribe()
    }

    /// The version in force.
    pub fn version(&self) -> u64 {
        self.current.borrow().version
    }

    /// Makes a new bundle if the rules have changed, whoever changed them.
    pub(crate) fn refresh(&self, state: &dyn StateStore, key: &Ed25519KeyPair) -> Result<(), AppError> {
        let (version, created_at) = {
            let current = self.current.borrow();
            (current.version, current.created_at)
        };
        let is_old = created_at < before(now(), SIGN_AGAIN);
        if state.rules_version()? == version && !is_old {
            return Ok(());
        }
        let signed = sign(state, key)?;
        // Two changes may race; the later version stays.
        self.current.send_if_modified(|current| {
            let newer = signed.version > current.version || is_old;
            if newer {
                *current = Arc::new(signed);
            }
            newer
        });
        Ok(())
    }
}

fn sign(state: &dyn StateStore, key: &Ed25519KeyPair) -> Result<SignedPolicy, AppError> {
    let (set, content) = of_one_moment(state)?;
    let files_of = |kind| {
        let files = content.files.iter().filter(|file| file.head.kind == kind);
        files.map(|file| ContentFile { name: file.head.name.clone(), text: file.text.clone() }).collect()
    };
    let created_at = now();
    let bundle = PolicyBundle {
        version: set.version,
        created_at_ns: created_at.as_nanos(),
        expires_at_ns: after(created_at, BUNDLE_LIFE).as_nanos(),
        rules: set.rules.iter().map(rule_text).collect(),
        yara: files_of(ContentKind::Yara),
        indicators: files_of(ContentKind::Indicators),
        behaviours: files_of(ContentKind::Behaviours),
    };
    Ok(SignedPolicy { version: set.version, bundle: sign_bundle(&bundle, key), created_at })
}

/// Rules, and files of the same version. Both are read again where a change came in between.
fn of_one_moment(state: &dyn StateStore) -> Result<(RuleSet, ContentSet), AppError> {
    loop {
        let (rules, content) = (state.rules()?, state.content_set()?);
        if rules.version == content.version {
            return Ok((rules, content));
        }
    }
}

/// The rule as agents judge it: the switches beside the text win over those in it.
fn rule_text(rule: &Rule) -> RuleText {
    let enabled = if rule.head.enabled { "true" } else { "false" };
    let mode = format!("\"{}\"", rule.head.mode);
    let json = rule_engine::set_key(&rule.text, "enabled", enabled)
        .and_then(|text| rule_engine::set_key(&text, "mode", &mode))
        // A text that was saved is an object; if it were not, the agent says so for this rule alone.
        .unwrap_or_else(|_| rule.text.clone());
    RuleText { id: rule.head.id.to_string(), json }
}
