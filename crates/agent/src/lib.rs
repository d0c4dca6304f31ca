//! The agent: watches one host, judges what it sees, acts at once, and tells the server.
//!
//! ```text
//! sensor ─► pipeline: process table ─► event ─► rules ─► response ─► recorder ─► spool ─► uplink ─► server
//!                                                          │            └─► -output
//!                                                          └─► proof ─► receipt, back into the pipeline
//! ```
//!
//! The [`pipeline`] is one thread, in which everything observed is handled in the
//! order of the kernel. The uplink is another, and may be away for as long as the
//! spool has room: judging and acting never wait for the server.

pub mod account;
mod admission;
pub mod agent;
pub mod anomaly;
pub mod block_list;
pub mod clock;
pub mod container;
pub mod content_reload;
pub mod drop_account;
pub mod enrich;
mod flood;
mod folder;
pub mod gate;
pub mod governor;
pub mod host;
pub mod image;
pub mod image_facts;
pub mod indicator_book;
pub mod indicator_match;
pub mod judge;
pub mod log_file;
pub mod note;
pub mod options;
pub mod output;
pub mod pipeline;
pub mod process_table;
mod provided;
pub mod recorder;
pub mod responding;
pub mod rules;
pub mod run_state;
pub mod scanner;
pub mod server_mark;
mod state_file;
mod system;
pub mod uplink;
pub mod users;
pub mod yara_book;

pub use system::{execution_gate::keep_if_asked as keep_gate_if_asked, service, signals, supervisor};
