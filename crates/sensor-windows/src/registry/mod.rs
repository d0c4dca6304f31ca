//! Changes of the registry: which keys are watched, what differs between two looks at one, and
//! how a value is shown.

mod change;
mod open_keys;
mod places;
mod reach;
#[cfg(windows)]
mod trace;
mod value;
#[cfg(windows)]
mod watch;
mod writers;

pub use change::{Contents, Difference, Kept, Room, compare, describe};
pub use places::{BUILT_IN, Depth, Place, asked_for, normal};
pub use value::{MOST_BYTES, Shown, kind_name, shown};
#[cfg(windows)]
pub use watch::RegistryWatch;
pub use writers::{Changes, KERNEL_REGISTRY, REGISTRY_IDS, REGISTRY_KEYWORDS, Writers};
