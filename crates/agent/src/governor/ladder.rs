//! The ladder: what is saved on each rung.

use std::time::Duration;

use event_model::EventClass;

use super::BudgetStep;

/// Where a class is sampled, one act of so many is kept.
pub const KEEP_ONE_OF: u32 = 10;

/// A rest between two rounds.
const REST: Duration = Duration::from_millis(50);

/// What is kept of a class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// Everything.
    All,
    /// One of [`KEEP_ONE_OF`].
    Some,
    /// Nothing.
    None,
}

/// One rung.
#[derive(Debug)]
pub struct Rung {
    /// Its place; 0 is the ground.
    pub number: u8,
    /// What it is called.
    pub step: BudgetStep,
    bulk: Keep,
    file: Keep,
    network: Keep,
    /// The rest between two rounds.
    pub rest: Duration,
}

const fn rung(number: u8, step: BudgetStep, bulk: Keep, file: Keep, network: Keep) -> Rung {
    let rest = if matches!(step, BudgetStep::Sleeping) { REST } else { Duration::ZERO };
    Rung { number, step, bulk, file, network, rest }
}

/// From the ground up.
pub static RUNGS: [Rung; 9] = {
    use BudgetStep::{LessWork, Normal, Shedding, Sleeping};
    use Keep::{All, None, Some};
    [
        rung(0, Normal, All, All, All),
        rung(1, LessWork, All, All, All),
        rung(2, Shedding, Some, All, All),
        rung(3, Shedding, None, All, All),
        rung(4, Shedding, None, Some, All),
        rung(5, Shedding, None, None, All),
        rung(6, Shedding, None, None, Some),
        rung(7, Shedding, None, None, None),
        rung(8, Sleeping, None, None, None),
    ]
};

/// The rung that memory needs at once: shedding what may be shed.
pub(super) const ALL_SHED: usize = 7;

impl Rung {
    /// What is kept of a class.
    pub fn keep(&self, class: EventClass) -> Keep {
        match class {
            EventClass::Protected => Keep::All,
            EventClass::Network => self.network,
            EventClass::File => self.file,
            EventClass::Bulk => self.bulk,
        }
    }

    /// Whether nothing of any class is left out.
    pub fn keeps_all(&self) -> bool {
        EventClass::ALL.iter().all(|class| self.keep(*class) == Keep::All)
    }

    /// The classes of which nothing is kept.
    pub fn shed(&self) -> Vec<EventClass> {
        let shed = |class: &EventClass| self.keep(*class) == Keep::None;
        EventClass::ALL.iter().copied().filter(shed).collect()
    }

    /// The classes of which something is left out, as the agent's health tells them.
    pub fn described(&self) -> Vec<String> {
        let classes = EventClass::ALL.iter().filter_map(|class| match self.keep(*class) {
            Keep::All => None,
            Keep::Some => Some(format!("{class} (1 of {KEEP_ONE_OF} is kept)")),
            Keep::None => Some(class.to_string()),
        });
        classes.collect()
    }

    /// Whether like acts are merged and images not hashed.
    pub fn saves_work(&self) -> bool {
        self.number > 0
    }
}
