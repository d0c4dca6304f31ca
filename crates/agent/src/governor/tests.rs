use super::*;

/// A made-up agent: what its work costs on each rung, in thousandths of a core.
struct Simulated {
    governor: Governor,
    at: Duration,
    cpu: Duration,
    rungs: Vec<u8>,
}

impl Simulated {
    fn new(limit: u32) -> Self {
        let governor = Governor::new(Budget { cpu_permille: Some(limit), memory_bytes: None });
        Self { governor, at: Duration::ZERO, cpu: Duration::ZERO, rungs: vec![0] }
    }

    /// Runs for so many seconds; the largest ten-second average in that time.
    fn run(&mut self, seconds: u32, cost: impl Fn(&Rung) -> u32) -> u32 {
        let mut most = 0;
        for _ in 0..seconds * 10 {
            self.at += MEASURE_EVERY;
            self.cpu += MEASURE_EVERY * cost(self.governor.rung()) / 1_000;
            self.governor.measure(self.at, self.cpu, 0);
            most = most.max(self.governor.cpu_permille());
            let rung = self.governor.rung().number;
            if self.rungs.last() != Some(&rung) {
                self.rungs.push(rung);
            }
        }
        most
    }
}

/// Network 20, files 60, bulk 200, the protected rest 10, and a tenth of what is sampled.
fn storm(rung: &Rung) -> u32 {
    let part = |class, whole| match rung.keep(class) {
        Keep::All if rung.saves_work() => whole * 9 / 10,
        Keep::All => whole,
        Keep::Some => whole / 10,
        Keep::None => 0,
    };
    10 + part(EventClass::Network, 20) + part(EventClass::File, 60) + part(EventClass::Bulk, 200)
}

#[test]
fn a_storm_is_brought_below_the_limit_in_the_documented_order() {
    let mut agent = Simulated::new(50);
    let most = agent.run(600, storm);
    assert!(most <= 55, "more than a tenth above the limit: {most}");
    let up: Vec<u8> = agent.rungs.windows(2).filter(|two| two[1] > two[0]).map(|two| two[1]).collect();
    assert_eq!(up[..4], [1, 2, 3, 4], "{:?}", agent.rungs);
    assert!(agent.rungs.windows(2).all(|two| two[0].abs_diff(two[1]) == 1), "one rung at a time");
    assert!(!agent.rungs.contains(&7), "the network need not be shed for this: {:?}", agent.rungs);
    assert!(agent.rungs.len() < 60, "it flaps: {:?}", agent.rungs);
}

#[test]
fn it_comes_down_again_when_the_storm_is_over() {
    let mut agent = Simulated::new(50);
    agent.run(30, storm);
    assert!(agent.governor.rung().number >= 3);
    agent.run(300, |_| 5);
    assert_eq!(agent.governor.rung().number, 0);
}

#[test]
fn what_is_protected_is_kept_on_every_rung_and_may_exceed_the_budget() {
    let mut agent = Simulated::new(50);
    agent.run(60, |_| 400);
    let rung = agent.governor.rung();
    assert_eq!((rung.number, rung.step), (8, BudgetStep::Sleeping));
    for rung in &RUNGS {
        assert_eq!(rung.keep(EventClass::Protected), Keep::All);
        assert_eq!(rung.rest.is_zero(), rung.step != BudgetStep::Sleeping);
    }
    assert_eq!(RUNGS[4].described(), ["file (1 of 10 is kept)", "bulk"]);
    assert_eq!(RUNGS[7].shed(), [EventClass::Network, EventClass::File, EventClass::Bulk]);
}

#[test]
fn below_the_limit_and_without_one_nothing_is_saved() {
    let mut agent = Simulated::new(50);
    agent.run(300, |_| 25);
    // A short burst, as when rules are loaded.
    agent.run(1, |_| 60);
    agent.run(60, |_| 5);
    assert_eq!(agent.rungs, [0]);
    let mut governor = Governor::new(Budget::default());
    for second in 1..100 {
        let time = Duration::from_secs(second);
        assert_eq!(governor.measure(time, time * 2, u64::MAX), Ask::GoOn);
    }
    assert_eq!(governor.cpu_permille(), 2_000, "it is measured all the same");
}

#[test]
fn memory_sheds_first_and_restarts_only_after_long() {
    let mut governor = Governor::new(Budget { cpu_permille: None, memory_bytes: Some(1_000) });
    let mut at = Duration::from_secs(700);
    let mut measure = |governor: &mut Governor, resident| {
        at += Duration::from_secs(1);
        governor.measure(at, Duration::ZERO, resident)
    };
    assert_eq!(measure(&mut governor, 900), Ask::GoOn);
    assert_eq!(measure(&mut governor, 1_001), Ask::DropCaches);
    assert_eq!(governor.rung().shed().len(), 3);
    assert_eq!(measure(&mut governor, 900), Ask::GoOn, "still short: no flapping");
    assert_eq!(governor.rung().shed().len(), 3);
    assert_eq!(measure(&mut governor, 700), Ask::Changed);
    assert_eq!(governor.rung().number, 0);
    let asks: Vec<Ask> = (0..12).map(|_| measure(&mut governor, 2_000)).collect();
    assert_eq!((asks[0], asks[5], asks[10]), (Ask::DropCaches, Ask::GoOn, Ask::Restart));
    let mut young = Governor::new(Budget { cpu_permille: None, memory_bytes: Some(1_000) });
    for second in 1..600 {
        let ask = young.measure(Duration::from_secs(second), Duration::ZERO, 2_000);
        assert_ne!(ask, Ask::Restart, "no loop of restarts");
    }
}
