//! Watched files: from the change of a real file, under a root of its own, to the event.

mod accounts;
mod away;
mod bad_input;
mod host;
mod kinds;
mod tasks;
