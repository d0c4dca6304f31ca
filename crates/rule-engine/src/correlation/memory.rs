//! What a correlation remembers of one group of values.
//!
//! Each kind keeps no more than its condition asks for, and a match costs no more for those before it: what
//! events say must not decide how long judging them takes.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use super::{Asked, CorrelationKind, Measure};

/// Matches that are remembered one by one for one group.
pub(crate) const ENTRIES_LIMIT: usize = 20_000;

/// A match of one of the rules.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) time: i64,
    /// Which of the rules.
    pub(super) nth: usize,
    /// What is measured.
    pub(super) value: String,
}

/// What is remembered, by what the condition asks for.
#[derive(Debug)]
pub(super) enum Memory {
    Totals(Totals),
    Distinct(Distinct),
    Ranked(Ranked),
    /// For each rule that was seen, when last.
    Seen(BTreeMap<usize, i64>),
    Chain(Chain),
}

impl Memory {
    /// An empty one. Of what is judged when its time is over nothing runs out before, so that it needs no
    /// times.
    pub(super) fn new(asked: &Asked, timespan: i64) -> Self {
        let kind = &asked.spec.kind;
        match kind {
            CorrelationKind::Measured(measure, _) => match measure {
                Measure::Events | Measure::Sum(_) | Measure::Average(_) => {
                    Self::Totals(Totals::new(timespan, !kind.is_judged_at_end()))
                }
                Measure::Distinct(_) => Self::Distinct(Distinct::default()),
                Measure::Percentile(..) | Measure::Median(_) => Self::Ranked(Ranked::default()),
                Measure::Rules => Self::Seen(BTreeMap::new()),
            },
            CorrelationKind::Together(_) => Self::Seen(BTreeMap::new()),
            CorrelationKind::Ordered => Self::Chain(Chain::new(asked.rules)),
        }
    }

    /// Takes a match in; gives how many others were forgotten for want of room.
    pub(super) fn insert(&mut self, kind: &CorrelationKind, entry: Entry) -> u64 {
        match self {
            Self::Totals(totals) => {
                let number = match kind {
                    CorrelationKind::Measured(Measure::Events, _) => Some(1.0),
                    _ => number(&entry.value),
                };
                if let Some(number) = number {
                    totals.insert(entry.time, number);
                }
                0
            }
            Self::Distinct(distinct) => {
                distinct.insert(entry.time, &entry.value);
                0
            }
            Self::Ranked(ranked) => number(&entry.value).map_or(0, |it| ranked.insert(entry.time, it)),
            Self::Seen(seen) => {
                let last = seen.entry(entry.nth).or_insert(entry.time);
                *last = entry.time.max(*last);
                0
            }
            Self::Chain(chain) => chain.insert(entry.time, entry.nth),
        }
    }

    /// Leaves out what was before that time.
    pub(super) fn forget_before(&mut self, limit: i64) {
        match self {
            Self::Totals(totals) => totals.forget_before(limit),
            Self::Distinct(distinct) => distinct.forget_before(limit),
            Self::Ranked(ranked) => ranked.forget_before(limit),
            Self::Seen(seen) => seen.retain(|_, last| *last >= limit),
            Self::Chain(chain) => chain.forget_before(limit),
        }
    }

    /// Whether what is remembered fulfils the condition. `limit` is the time from which on matches count.
    pub(super) fn fulfils(&self, asked: &Asked, limit: i64) -> bool {
        match (&asked.spec.kind, self) {
            (CorrelationKind::Measured(measure, bounds), _) => {
                self.measured(measure).is_some_and(|number| bounds.iter().all(|bound| bound.holds(number)))
            }
            (CorrelationKind::Together(_), Self::Seen(seen)) => {
                asked.together.holds(&|nth| seen.contains_key(&nth))
            }
            (CorrelationKind::Ordered, Self::Chain(chain)) => chain.is_whole_since(limit),
            _ => false,
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
    fn measured(&self, measure: &Measure) -> Option<f64> {
        match (measure, self) {
            (Measure::Events, Self::Totals(totals)) => Some(totals.count as f64),
            (Measure::Sum(_), Self::Totals(totals)) => (totals.count > 0).then_some(totals.sum),
            (Measure::Average(_), Self::Totals(totals)) => {
                (totals.count > 0).then(|| totals.sum / totals.count as f64)
            }
            (Measure::Distinct(_), Self::Distinct(distinct)) => Some(distinct.last.len() as f64),
            (Measure::Percentile(_, percentile), Self::Ranked(ranked)) => ranked.percentile(*percentile),
            (Measure::Median(_), Self::Ranked(ranked)) => ranked.median(),
            (Measure::Rules, Self::Seen(seen)) => Some(seen.len() as f64),
            _ => None,
        }
    }

    /// Matches that are remembered one by one.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Totals(totals) => usize::try_from(totals.count).unwrap_or(usize::MAX),
            Self::Distinct(distinct) => distinct.last.len(),
            Self::Ranked(ranked) => ranked.by_time.len(),
            Self::Seen(seen) => seen.len(),
            Self::Chain(chain) => chain.entries.len(),
        }
    }

    /// What it takes, in bytes, roughly.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Totals(totals) => totals.runs.len() * size_of::<Run>(),
            Self::Distinct(distinct) => distinct.bytes,
            Self::Ranked(ranked) => ranked.by_time.len() * (size_of::<(i64, f64)>() + size_of::<f64>()),
            Self::Seen(seen) => seen.len() * (2 * size_of::<(usize, i64)>()),
            Self::Chain(chain) => {
                chain.entries.len() * size_of::<(i64, usize)>()
                    + chain.starts.len() * size_of::<Option<i64>>()
            }
        }
    }
}

/// The number that a value is. What is infinite would stay in a sum for ever.
fn number(value: &str) -> Option<f64> {
    value.trim().parse().ok().filter(|number: &f64| number.is_finite())
}

/// How many there were, and what they come to.
#[derive(Debug)]
pub(super) struct Totals {
    /// By time; of one time, one. Empty where nothing runs out.
    runs: VecDeque<Run>,
    keeps_times: bool,
    /// What is nearer to each other than this becomes one run where there are too many.
    resolution: i64,
    count: u64,
    sum: f64,
    /// Runs of which taking them off again leaves a rest.
    inexact: usize,
}

#[derive(Debug, Clone, Copy)]
struct Run {
    time: i64,
    count: u64,
    sum: f64,
    /// Whether as many of these as there may be are added and taken off without a rest: a double holds whole
    /// numbers up to 2^53, and there are fewer than 2^15 runs.
    is_exact: bool,
}

impl Run {
    fn new(time: i64, number: f64) -> Self {
        Self { time, count: 1, sum: number, is_exact: is_small_and_whole(number) }
    }

    /// Both, with the time of the other.
    fn with(self, other: Self) -> Self {
        let sum = self.sum + other.sum;
        let is_exact = self.is_exact && other.is_exact && is_small_and_whole(sum);
        Self { time: other.time, count: self.count + other.count, sum, is_exact }
    }
}

fn is_small_and_whole(number: f64) -> bool {
    const LARGEST: f64 = (1_u64 << 38) as f64;
    number.fract() == 0.0 && number.abs() <= LARGEST
}

impl Totals {
    fn new(timespan: i64, keeps_times: bool) -> Self {
        // Half as many runs as there may be are left then.
        let resolution = (timespan / (ENTRIES_LIMIT as i64 / 2)).max(1);
        Self { runs: VecDeque::new(), keeps_times, resolution, count: 0, sum: 0.0, inexact: 0 }
    }

    fn insert(&mut self, time: i64, number: f64) {
        self.count += 1;
        self.sum += number;
        if !self.keeps_times {
            return;
        }
        let new = Run::new(time, number);
        let behind = self.runs.partition_point(|run| run.time <= time);
        let same = behind.checked_sub(1).and_then(|place| self.runs.get_mut(place));
        if let Some(run) = same.filter(|run| run.time == time) {
            let was_exact = run.is_exact;
            *run = run.with(new);
            self.inexact += usize::from(was_exact && !run.is_exact);
        } else {
            self.inexact += usize::from(!new.is_exact);
            self.runs.insert(behind, new);
        }
        if self.runs.len() > ENTRIES_LIMIT {
            self.coarsen();
        }
    }

    /// Makes one of runs that are near to each other, with the time of the last: a match may count longer then,
    /// by the resolution, and never shorter.
    fn coarsen(&mut self) {
        let mut coarse: VecDeque<Run> = VecDeque::with_capacity(self.runs.len() / 2 + 1);
        let place = |time: i64| time.div_euclid(self.resolution);
        for run in &self.runs {
            match coarse.back_mut().filter(|last| place(last.time) == place(run.time)) {
                Some(last) => *last = last.with(*run),
                None => coarse.push_back(*run),
            }
        }
        self.inexact = coarse.iter().filter(|run| !run.is_exact).count();
        self.runs = coarse;
    }

    fn forget_before(&mut self, limit: i64) {
        let mut is_summed = true;
        while let Some(run) = self.runs.front().copied().filter(|run| run.time < limit) {
            self.runs.pop_front();
            self.count -= run.count;
            is_summed &= self.inexact == 0;
            self.sum -= run.sum;
            self.inexact -= usize::from(!run.is_exact);
        }
        if !is_summed {
            self.sum = self.runs.iter().map(|run| run.sum).sum();
        }
    }
}

/// Different values, each with the time it was last seen.
#[derive(Debug, Default)]
pub(super) struct Distinct {
    last: HashMap<Arc<str>, i64>,
    by_time: BTreeSet<(i64, Arc<str>)>,
    bytes: usize,
}

impl Distinct {
    fn bytes_of(value: &str) -> usize {
        // A text with its two counters, in a table and in a tree that are not full.
        value.len() + 16 + 3 * size_of::<(i64, Arc<str>)>()
    }

    fn insert(&mut self, time: i64, value: &str) {
        if let Some((own, last)) = self.last.get_key_value(value) {
            if *last < time {
                let own = Arc::clone(own);
                self.by_time.remove(&(*last, Arc::clone(&own)));
                self.by_time.insert((time, Arc::clone(&own)));
                self.last.insert(own, time);
            }
            // No bound is above the limit, so that it doesn't matter how many more there are.
        } else if self.last.len() <= ENTRIES_LIMIT {
            let own: Arc<str> = value.into();
            self.bytes += Self::bytes_of(value);
            self.by_time.insert((time, Arc::clone(&own)));
            self.last.insert(own, time);
        }
    }

    fn forget_before(&mut self, limit: i64) {
        while self.by_time.first().is_some_and(|(time, _)| *time < limit) {
            if let Some((_, value)) = self.by_time.pop_first() {
                self.bytes = self.bytes.saturating_sub(Self::bytes_of(&value));
                self.last.remove(&value);
            }
        }
    }
}

/// Numbers, by time and by size.
#[derive(Debug, Default)]
pub(super) struct Ranked {
    by_time: VecDeque<(i64, f64)>,
    by_size: Vec<f64>,
}

impl Ranked {
    fn insert(&mut self, time: i64, number: f64) -> u64 {
        let behind = self.by_time.partition_point(|(own, _)| *own <= time);
        self.by_time.insert(behind, (time, number));
        let place = self.place_of(number);
        self.by_size.insert(place, number);
        let is_full = self.by_time.len() > ENTRIES_LIMIT;
        if is_full {
            self.pop_front();
        }
        u64::from(is_full)
    }

    /// Where it stands, or would.
    fn place_of(&self, number: f64) -> usize {
        self.by_size.partition_point(|own| own.total_cmp(&number).is_lt())
    }

    fn pop_front(&mut self) {
        if let Some((_, number)) = self.by_time.pop_front() {
            let place = self.place_of(number);
            if place < self.by_size.len() {
                self.by_size.remove(place);
            }
        }
    }

    fn forget_before(&mut self, limit: i64) {
        while self.by_time.front().is_some_and(|(time, _)| *time < limit) {
            self.pop_front();
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
    fn percentile(&self, percentile: f64) -> Option<f64> {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "between 0 and the number of values"
        )]
        let rank = (percentile / 100.0 * self.by_size.len() as f64).ceil() as usize;
        self.by_size.get(rank.saturating_sub(1)).copied()
    }

    fn median(&self) -> Option<f64> {
        let middle = self.by_size.len() / 2;
        let upper = self.by_size.get(middle).copied()?;
        if self.by_size.len().is_multiple_of(2) {
            let lower = self.by_size.get(middle.checked_sub(1)?).copied()?;
            Some(f64::midpoint(lower, upper))
        } else {
            Some(upper)
        }
    }
}

/// Rules that must match one after the other.
#[derive(Debug)]
pub(super) struct Chain {
    /// By time, which of the rules.
    entries: VecDeque<(i64, usize)>,
    /// For each rule, when the latest chain began that has come as far as it.
    starts: Vec<Option<i64>>,
}

impl Chain {
    fn new(rules: usize) -> Self {
        Self { entries: VecDeque::new(), starts: vec![None; rules] }
    }

    fn insert(&mut self, time: i64, nth: usize) -> u64 {
        if self.entries.back().is_none_or(|(last, _)| *last <= time) {
            // Of one rule again and again, the first and the last are enough.
            if self.entries.iter().rev().take(2).filter(|(_, own)| *own == nth).count() == 2 {
                self.entries.pop_back();
            }
            self.entries.push_back((time, nth));
            self.step(time, nth);
        } else {
            let behind = self.entries.partition_point(|(own, _)| *own <= time);
            self.entries.insert(behind, (time, nth));
            self.starts.fill(None);
            for place in 0..self.entries.len() {
                if let Some((time, nth)) = self.entries.get(place).copied() {
                    self.step(time, nth);
                }
            }
        }
        let is_full = self.entries.len() > ENTRIES_LIMIT;
        if is_full {
            self.entries.pop_front();
        }
        u64::from(is_full)
    }

    fn step(&mut self, time: i64, nth: usize) {
        let start = match nth.checked_sub(1) {
            None => Some(time),
            Some(before) => self.starts.get(before).copied().flatten(),
        };
        if let (Some(start), Some(own)) = (start, self.starts.get_mut(nth)) {
            *own = Some(start);
        }
    }

    fn forget_before(&mut self, limit: i64) {
        while self.entries.front().is_some_and(|(time, _)| *time < limit) {
            self.entries.pop_front();
        }
    }

    fn is_whole_since(&self, limit: i64) -> bool {
        self.starts.last().copied().flatten().is_some_and(|start| start >= limit)
    }
}
