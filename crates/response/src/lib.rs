//! Local response: ending a process, in four steps that the types keep apart.
//!
//! 1. A [`Plan`] says what is to be done to whom. It can be shown; it does nothing.
//! 2. [`Guards::authorise`] turns it into an [`Authorised`], or refuses. Only it
//!    can: acting takes an `Authorised`, so no code acts without having asked.
//! 3. [`Terminator::act`] checks the target's identity at that moment, sends the
//!    first signal in the caller's thread, and hands the rest to its own.
//! 4. That thread waits on the pidfd, uses force after the grace, reads the end
//!    state back and sends a [`ResponseReceipt`](event_model::ResponseReceipt).
//!
//! Nothing reports a success that was not read back: `verified` means that the
//! process is gone.

#![deny(missing_docs)]

mod breaker;
mod guards;
mod plan;
mod proc;
mod prove;
mod terminate;

pub use breaker::{Limit, MAX_AUTOMATIC_PER_MINUTE, MAX_IMAGES_ON_HOST_PER_MINUTE};
pub use guards::{Authorised, Guards, Refusal, Refused};
pub use plan::{Plan, Target};
pub use terminate::{Clock, Terminator};
