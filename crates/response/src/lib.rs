//! Response: what is done to a host, in steps that the types keep apart.
//!
//! There are two ways to act, with the same guard rails.
//!
//! **At once**: ending a single process for a rule, in the pipeline's own thread.
//! [`Guards::authorise`] turns a [`Plan`] into an [`Authorised`], or refuses;
//! [`Terminator::act`] takes only that, checks the target's identity at that moment,
//! sends the first signal, and leaves the waiting and the proof to a thread.
//!
//! **In order**: everything else. A [`Responder`] takes an [`Order`], lets the
//! [`Platform`] survey it (which only looks), asks the guard rails for a [`Permit`],
//! writes to disk what is about to be done and what undoes it, lets the platform
//! apply it, and reads the end state back.
//!
//! Nothing reports a success that was not read back: `verified` means that the
//! process is gone, the file is out of its folder, the kernel's rule is there.

#![deny(missing_docs)]

mod action;
mod address;
mod approval;
mod archives;
mod breaker;
mod guards;
mod isolation;
mod journal;
mod lineage;
mod order;
mod plan;
mod platform;
mod protected;
mod rails;
mod release;
mod responder;
mod tar;
mod vault;

// What an operating system does its own way; the names are the same on each.
#[cfg(target_os = "linux")]
mod identity;
#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
mod proc;
#[cfg(target_os = "linux")]
mod prove;
#[cfg(target_os = "linux")]
mod terminate;

// What Windows is asked for and says, without asking: tested on every system.
#[cfg(any(windows, test))]
mod firewall_rules;
#[cfg(any(windows, test))]
mod scheduled_task;
#[cfg(any(windows, test))]
mod service_backup;
#[cfg(any(windows, test))]
mod wfp_filters;

#[cfg(windows)]
#[path = "windows/proc.rs"]
mod proc;
#[cfg(windows)]
#[path = "windows/terminate.rs"]
mod terminate;
#[cfg(windows)]
mod windows;

pub use action::{
    Action, AddressTarget, BadParameter, EvidenceRequest, FileTarget, Isolation, Item, MAX_EVIDENCE_FILES,
    MAX_TTL_SECONDS, ProcessTarget, ServiceTarget, is_path,
};
pub use address::{Network, NotANetwork};
pub use approval::{
    Approval, Asked, Consent, MASS_ACTION_ABOVE, MASS_ISOLATION_ABOVE, RULE_ASKS, approvals_needed,
    approvers, mass_above,
};
pub use breaker::{Limit, MAX_AUTOMATIC_PER_MINUTE, MAX_IMAGES_ON_HOST_PER_MINUTE};
pub use guards::{Authorised, Guards, ProtectedFiles, Refusal, Refused};
pub use lineage::Lineage;
#[cfg(target_os = "linux")]
pub use linux::Linux;
#[cfg(target_os = "linux")]
pub use linux::Linux as ThisHost;
pub use order::{Order, OrderState, Origin, Receipt};
pub use plan::{Plan, Target};
pub use platform::{
    Checkpoint, Failure, Interference, Notice, Platform, Progress, Signature, Signer, Subject, Survey,
};
pub use rails::{
    MAX_HEAVY_PER_HOUR, MAX_OF_HOST_PER_HOUR, MAX_OF_RULE_PER_HOUR, MAX_RULE_ORDERS_PER_MINUTE, Permit,
    Switch,
};
pub use release::{
    is_isolation_noted, is_release_code_waiting, leave_release_code, new_release_code, release_hash,
};
pub use responder::{Found, Responder, ResponderParts, order_id};
pub use terminate::{Clock, Terminator};
#[cfg(windows)]
pub use windows::{Windows as ThisHost, lift_filters};
