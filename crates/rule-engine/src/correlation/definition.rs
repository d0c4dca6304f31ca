//! A correlation as its rule has it.

use crate::expression::Order;
use crate::sigma::ConditionTree;

/// A correlation as it was read.
#[derive(Debug, PartialEq)]
pub(crate) struct Correlation {
    pub(crate) kind: CorrelationKind,
    /// Ids or names.
    pub(crate) rules: Vec<String>,
    pub(crate) group_by: Vec<String>,
    pub(crate) timespan_ns: i64,
    /// For each name in `group_by` that is none of a field, the field it is in each rule.
    pub(crate) aliases: Vec<(String, Vec<(String, String)>)>,
    /// Whether the rules it refers to also match by themselves.
    pub(crate) generate: bool,
}

#[derive(Debug, PartialEq)]
pub(crate) enum CorrelationKind {
    /// A number with its bounds.
    Measured(Measure, Vec<Bound>),
    /// All rules, or as the condition has it.
    Together(Option<ConditionTree>),
    /// All rules, in their order.
    Ordered,
}

impl CorrelationKind {
    /// Whether more events can make it false, so that it is judged when the time is over.
    pub(super) fn is_judged_at_end(&self) -> bool {
        matches!(self, Self::Measured(_, bounds) if bounds.iter().any(|bound| bound.is_from_above()))
    }
}

/// What is measured; of several fields, the values together.
#[derive(Debug, PartialEq)]
pub(crate) enum Measure {
    Events,
    /// How many of the rules were seen.
    Rules,
    Distinct(Vec<String>),
    Sum(Vec<String>),
    Average(Vec<String>),
    /// By the nearest rank.
    Percentile(Vec<String>, f64),
    /// Of an even number of values, the mean of the two in the middle.
    Median(Vec<String>),
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Bound {
    Is(Order, f64),
    Not(f64),
}

impl Bound {
    pub(super) fn holds(self, number: f64) -> bool {
        match self {
            Self::Is(order, bound) => order.holds(&number, &bound),
            Self::Not(bound) => number.partial_cmp(&bound) != Some(std::cmp::Ordering::Equal),
        }
    }

    /// Whether it can't be told from another one without counting further than that.
    pub(crate) fn is_beyond(self, count: usize) -> bool {
        #[expect(clippy::cast_precision_loss, reason = "limits are far below 2^53")]
        let count = count as f64;
        match self {
            Self::Is(Order::Greater, bound) => bound >= count,
            Self::Is(_, bound) | Self::Not(bound) => bound > count,
        }
    }

    /// Whether it asks for more than there can be.
    pub(crate) fn is_out_of_reach(self, most: usize) -> bool {
        match self {
            Self::Is(Order::Greater | Order::GreaterOrEqual | Order::Equal, _) => self.is_beyond(most),
            Self::Is(Order::Less | Order::LessOrEqual, _) | Self::Not(_) => false,
        }
    }

    /// Whether more events can make it false.
    fn is_from_above(self) -> bool {
        !matches!(self, Self::Is(Order::Greater | Order::GreaterOrEqual, _))
    }
}
