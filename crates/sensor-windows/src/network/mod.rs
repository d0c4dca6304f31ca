//! Connections and listening sockets.

mod change;
#[cfg(windows)]
mod table;

pub use change::{Changes, Kind, Row, Told};
#[cfg(windows)]
pub use table::ConnectionTable;
