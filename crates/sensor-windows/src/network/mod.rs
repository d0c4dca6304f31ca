//! Connections and listening sockets.

mod change;
mod ledger;
#[cfg(windows)]
mod table;
#[cfg(windows)]
mod trace;

pub use change::{Changes, Kind, Row, Told};
pub use ledger::{GRACE, Ledger, Pair, Segment, What};
#[cfg(windows)]
pub use table::ConnectionTable;
#[cfg(windows)]
pub use trace::ConnectionTrace;
#[cfg(windows)]
pub(crate) use trace::Shared;
