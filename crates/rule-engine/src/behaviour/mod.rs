//! Behaviour: what a tree of processes did, weighed together.
//!
//! A *behaviour* is a condition (or a rule of the rule set) with a weight. When it is seen, it counts for the
//! process and for a stated number of its ancestors, and fades with a half-life. Where the sum of a tree passes the
//! threshold of a severity, that is one finding, which tells what it is made of. A *sequence* is behaviours in an
//! order and within a time, over one tree.
//!
//! [`read`] takes files, [`set`] puts them together (the conditions go into the matcher as rules that only show a
//! behaviour), [`tree`] knows who started whom, [`score`] and [`sequence`] are the
//! two ways to judge, [`engine`] is what an agent feeds. `docs/reference/behaviour.md` is the author's view.

mod engine;
mod read;
mod score;
mod sequence;
mod set;
mod tree;

pub use engine::{BehaviourCounters, BehaviourEngine, BehaviourFinding};
pub use read::{BehaviourFile, is_behaviour_file, parse_behaviours};
pub use set::{BehaviourHead, BehaviourSet};
