//! Events as the matcher sees them: values by [`FieldId`] in an [`EventBuffer`].
//!
//! How a reader of logs offers its records (nothing is allocated for each of them):
//!
//! ```text
//! let mut event = EventBuffer::new();              // once for each thread
//! let mut desk = rules.desk();                     // likewise: scratch memory of judging
//! loop {
//!     event.clear();
//!     event.set_time(time);
//!     for (name, value) in record {
//!         match rules.field(name) {                // Option<FieldId>; nested names with dots
//!             Some(id) => event.push_text(id, value),
//!             None if rules.searches_all_values() => event.push_text(FieldId::UNNAMED, value),
//!             None => {}
//!         }
//!     }
//!     let Some(source) = rules.route(&event) else { continue };   // or rules.source(&LogSource {…})
//!     for rule in rules.judge(&event, source, &mut desk) { … }    // matches as RuleMatch
//! }
//! ```

mod buffer;
mod names;
mod prepared;

pub(crate) use buffer::StoredKind;
pub use buffer::{EVENT_TEXT_LIMIT, EVENT_VALUE_LIMIT, EventBuffer};
pub use names::{FieldId, FieldNames};
pub(crate) use prepared::Prepared;
