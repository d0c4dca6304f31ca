//! Sigma correlations: what fires when, and what is refused.

mod logs;

use logs::{judged, rules, set};
use rule_engine::{CompileOptions, RuleSet};
use serde_json::{Value, json};

fn base(id: &str, value: u32) -> String {
    format!(
        "title: {id}\nname: {id}\nid: id-{id}\nlogsource: {{product: linux, service: auditd}}\ndetection: {{s: {{T: {value}}}, condition: s}}\n---\n"
    )
}

fn correlation(id: &str, keys: &str) -> String {
    format!("title: {id}\nid: {id}\nname: {id}\nlevel: high\ncorrelation: {{{keys}}}\n---\n")
}

/// For each record (`T`, user, second, value), what matches.
fn run(rules: &RuleSet, records: &[(u32, &str, u32, Value)]) -> Vec<String> {
    let one = |(kind, user, second, value): &(u32, &str, u32, Value)| {
        let time = format!("2026-11-21T20:{:02}:{:02}Z", second / 60, second % 60);
        judged(rules, &json!({"T": kind, "User": user, "V": value, "@timestamp": time})).join("+")
    };
    records.iter().map(one).collect()
}

fn at(kind: u32, user: &str, second: u32) -> (u32, &str, u32, Value) {
    (kind, user, second, Value::Null)
}

#[test]
fn events_are_counted_by_group_within_the_timespan() {
    let set = set(&format!(
        "{}{}",
        base("a", 1),
        correlation(
            "many",
            "type: event_count, rules: [a], group-by: [User], timespan: 10s, condition: {gte: 3}"
        )
    ));
    let records = [
        at(1, "x", 0),
        at(1, "X", 5),
        at(1, "y", 6),
        at(2, "x", 7),
        at(1, "x", 10), // 0, 5, 10: fires, begins anew
        at(1, "x", 11),
        at(1, "x", 12),
        at(1, "x", 30),
        at(1, "x", 31),
        at(1, "x", 29), // 29, 30, 31, out of order
    ];
    assert_eq!(run(&set, &records), ["", "", "", "", "many", "", "", "", "", "many"]);
}

#[test]
fn distinct_values_are_counted() {
    let keys = "type: value_count, rules: [id-a], group-by: [User], timespan: 1m, generate: true, condition: {gt: 2, field: V}";
    let set = set(&format!("{}{}", base("a", 1), correlation("c", keys)));
    let records = [
        (1, "x", 0, json!("p")),
        (1, "x", 1, json!("P")),
        (1, "x", 2, json!("q")),
        (1, "x", 3, Value::Null),
        (1, "x", 4, json!("r")),
    ];
    assert_eq!(run(&set, &records), ["id-a", "id-a", "id-a", "id-a", "id-a+c"]);
}

#[test]
fn together_and_in_order() {
    let bases = format!("{}{}", base("a", 1), base("b", 2));
    let keys = |kind: &str| format!("type: {kind}, rules: [a, b], group-by: [User], timespan: 10s");
    let together = set(&format!("{bases}{}", correlation("c", &keys("temporal"))));
    assert_eq!(run(&together, &[at(2, "x", 0), at(1, "y", 1), at(1, "x", 2)]), ["", "", "c"]);
    assert_eq!(run(&together, &[at(1, "z", 0), at(2, "z", 11), at(1, "z", 20)]), ["", "", "c"]);
    let ordered = set(&format!("{bases}{}", correlation("c", &keys("temporal_ordered"))));
    assert_eq!(run(&ordered, &[at(2, "x", 0), at(1, "x", 1), at(2, "x", 2)]), ["", "", "c"]);
    let either =
        set(&format!("{bases}{}", correlation("c", &format!("{}, condition: a or b", keys("temporal")))));
    assert_eq!(run(&either, &[at(2, "x", 0)]), ["c"]);
}

#[test]
fn aliases_name_one_thing_in_two_rules() {
    let keys =
        "type: temporal, rules: [a, b], group-by: [who], timespan: 10s, aliases: {who: {a: User, b: V}}";
    let set = set(&format!("{}{}{}", base("a", 1), base("b", 2), correlation("c", keys)));
    assert_eq!(
        run(&set, &[at(1, "x", 0), (2, "other", 1, json!("y")), (2, "other", 2, json!("X"))]),
        ["", "", "c"]
    );
    // Rules are called by id in one place and by name in the other.
    let by_id = logs::set(&format!(
        "{}{}{}",
        base("a", 1),
        base("b", 2),
        correlation("c", &keys.replace("a: User, b: V", "id-a: User, id-b: V"))
    ));
    assert_eq!(run(&by_id, &[at(1, "x", 0), (2, "other", 1, json!("x"))]), ["", "c"]);
    let unknown = correlation("c", &keys.replace("b: V}}", "b: V, bb: V}}"));
    let text = format!("{}{}{unknown}", base("a", 1), base("b", 2));
    let compiled = RuleSet::compile(rules(text.trim_end_matches("---\n")));
    let told: Vec<_> = compiled
        .diagnostics
        .iter()
        .map(|it| (it.code.as_str(), it.is_error(), it.reason.contains("bb")))
        .collect();
    assert_eq!((told, compiled.rules.len()), (vec![("bad-reference", false, true)], 3));
}

#[test]
fn numbers_are_summed_averaged_and_ranked() {
    let numbers =
        [(1, "x", 0, json!(10)), (1, "x", 1, json!("20")), (1, "x", 2, json!(90)), (1, "x", 3, json!(5))];
    for (keys, expected) in [
        ("type: value_sum, condition: {field: V, gte: 100}", ["", "", "c", ""]),
        ("type: value_avg, condition: {field: V, gt: 30}", ["", "", "c", ""]),
        ("type: value_percentile, condition: {field: V, percentile: 50, gte: 20}", ["", "", "c", ""]),
        ("type: value_median, condition: {field: V, gte: 50}", ["", "", "", ""]),
        // Of an even number of values, the mean of the two in the middle.
        ("type: value_median, condition: {field: V, gte: 15}", ["", "c", "c", ""]),
    ] {
        let set = set(&format!(
            "{}{}",
            base("a", 1),
            correlation("c", &format!("{keys}, rules: [a], group-by: [User], timespan: 1m"))
        ));
        assert_eq!(run(&set, &numbers), expected, "{keys}");
    }
}

#[test]
fn a_bound_from_above_is_judged_when_the_time_is_over() {
    let keys = "type: event_count, rules: [a], group-by: [User], timespan: 10s, condition: {lte: 2}";
    let set = set(&format!("{}{}", base("a", 1), correlation("few", keys)));
    let few = [at(1, "x", 0), at(1, "x", 5), at(1, "x", 11)];
    assert_eq!(run(&set, &few), ["", "", "few"]);
    let many = [at(1, "y", 0), at(1, "y", 5), at(1, "y", 6), at(1, "y", 11)];
    assert_eq!(run(&set, &many), ["", "", "", ""]);
}

#[test]
fn correlations_are_chained_and_never_in_a_circle() {
    let inner = correlation(
        "burst",
        "type: event_count, rules: [a], group-by: [User], timespan: 10s, condition: {gte: 2}",
    );
    let outer =
        correlation("then", "type: temporal_ordered, rules: [burst, b], group-by: [User], timespan: 1m");
    let chained = set(&format!("{}{}{outer}{inner}", base("a", 1), base("b", 2)));
    assert_eq!(
        run(&chained, &[at(1, "x", 0), at(1, "x", 1), at(2, "y", 2), at(2, "x", 3)]),
        ["", "", "", "then"]
    );

    let circle = format!(
        "{}{}{}",
        correlation("p", "type: temporal, rules: [q], timespan: 1m"),
        correlation("q", "type: temporal, rules: [p], timespan: 1m"),
        correlation("lost", "type: temporal, rules: [nothing], timespan: 1m"),
    );
    let compiled = RuleSet::compile(rules(&circle));
    assert_eq!((compiled.rules.len(), compiled.diagnostics.len()), (0, 3));
    assert!(compiled.diagnostics.iter().all(|it| it.is_error() && it.code.as_str() == "bad-reference"));
}

#[test]
fn what_is_remembered_is_bounded() {
    let set = set(&format!(
        "{}{}",
        base("a", 1),
        correlation("c", "type: event_count, rules: [a], group-by: [V], timespan: 1d, condition: {gte: 2}")
    ));
    for number in 0..120_000_u32 {
        assert!(run(&set, &[(1, "x", number / 100, json!(number))])[0].is_empty());
    }
    assert_eq!(run(&set, &[(1, "x", 1_200, json!(119_999))]), ["c"], "the newest are kept");
    assert_eq!(run(&set, &[(1, "x", 1_200, json!(1))]), [""], "the quietest gave way");
}

#[test]
fn all_correlations_together_stay_within_their_bytes_and_count_what_they_forget() {
    let keys = "type: event_count, rules: [a], group-by: [User], timespan: 1h, condition: {gte: 3}";
    let text: String =
        (0..20).map(|nth| correlation(&format!("c{nth}"), keys)).fold(base("a", 1), |all, one| all + &one);
    let rules = rule_engine::parse_rules("a.yml", text.trim_end_matches("---\n")).rules;
    let options = CompileOptions { correlation_bytes: Some(1 << 20), ..CompileOptions::default() };
    let set = RuleSet::compile_with(rules, options).rules;
    // Each of them would remember 5,000 names of 500 bytes: 50 MB in all.
    for number in 0..5_000 {
        run(&set, &[(1, &format!("{number:0500}"), number / 10, json!(0))]);
    }
    let counters = set.correlation_counters();
    assert!(counters.bytes <= 1 << 20 && counters.bytes > 1 << 18, "{counters:?}");
    assert!(counters.evicted > 90_000, "{counters:?}");
    let latest = format!("{:0500}", 4_999);
    let found = run(&set, &[(1, &latest, 500, json!(0)), (1, &latest, 501, json!(0))]);
    assert!(!found[1].is_empty(), "the newest are kept: {found:?}");
}

#[test]
fn rules_that_are_loaded_anew_go_on_counting() {
    let keys = "type: event_count, rules: [a], group-by: [User], timespan: 1m, condition: {gte: 2}";
    let text = format!("{}{}", base("a", 1), correlation("c", keys));
    let first = set(&text);
    // Another rule of the file, and a word beside the correlation, change nothing about what it asks for.
    let edited = text.replace("level: high", "level: low").replace("T: 1", "T: [1, 3]");
    let (mut same, mut other) = (set(&edited), set(&text.replace("1m", "2m")));
    assert_eq!(run(&first, &[at(1, "x", 0), at(1, "y", 0)]), ["", ""]);
    same.take_over(&first);
    assert_eq!(run(&same, &[at(3, "x", 1)]), ["c"]);
    other.take_over(&first);
    assert_eq!(run(&other, &[at(1, "x", 2)]), [""], "it is another rule now");
    assert_eq!(run(&first, &[at(1, "z", 3)]), [""], "whoever judges by the set before");
    assert_eq!(run(&same, &[at(1, "z", 4)]), ["c"], "counts for the one that replaces it");
}

#[test]
fn a_correlation_that_is_switched_off_is_as_if_it_were_not_there() {
    let keys = "type: event_count, rules: [a], group-by: [User], timespan: 1m, condition: {gte: 1}";
    let off = format!("enabled: false\n{}", correlation("off", keys));
    let mode_off = format!("mode: off\n{}", correlation("moff", keys));
    let outer = correlation("outer", &keys.replace("[a]", "[off, moff]"));
    let set = set(&format!("{}{off}{mode_off}{outer}", base("a", 1)));
    assert_eq!(run(&set, &[at(1, "x", 0)]), ["id-a"], "its rules are not silent for it");
}

#[test]
fn a_filter_hides_only_where_it_is_on_and_has_its_values() {
    let filter = |keys: &str, selection: &str, condition: &str| {
        format!(
            "title: f\nid: f\n{keys}logsource: {{product: linux}}\nfilter: {{rules: any, selection: {{{selection}}}, condition: {condition}}}\n"
        )
    };
    let found = |filter: &str| {
        let outcome = rule_engine::parse_rules("f.yml", &format!("{}{filter}", base("a", 1)));
        let codes: Vec<_> = outcome.diagnostics.iter().map(|it| it.code.as_str()).collect();
        let set = RuleSet::compile(outcome.rules).rules;
        (run(&set, &[at(1, "x", 0)]).remove(0), codes, set.filters())
    };
    let own = |id: &str| id.to_owned();
    assert_eq!(found(&filter("", "User: x", "not selection")), (own(""), vec![], 1));
    assert_eq!(found(&filter("enabled: false\n", "User: x", "not selection")), (own("id-a"), vec![], 0));
    let placeholder = filter("", "User|expand: '%who%'", "not selection");
    assert_eq!(found(&placeholder), (own("id-a"), vec!["no-placeholder"], 0));
    let keeps = filter("", "User|expand: '%who%'", "selection");
    assert_eq!(found(&keeps), (own("id-a"), vec!["no-placeholder", "filter-keeps"], 0));
}

/// What each of many events at different times completes, as how many of them do.
fn completed(set: &RuleSet, values: impl Iterator<Item = (u32, Value)>) -> Vec<u32> {
    let mut fired = Vec::new();
    for (millisecond, value) in values {
        let (second, rest) = (millisecond / 1_000, millisecond % 1_000);
        let time = format!("2026-11-21T20:{:02}:{:02}.{rest:03}Z", second / 60, second % 60);
        if !judged(set, &json!({"T": 1, "User": "x", "V": value, "@timestamp": time})).is_empty() {
            fired.push(millisecond);
        }
    }
    fired
}

#[test]
fn counts_past_what_is_remembered_one_by_one_are_told() {
    let keys = |number: u32| {
        format!("type: event_count, rules: [a], group-by: [User], timespan: 1m, condition: {{gte: {number}}}")
    };
    let many = set(&format!("{}{}", base("a", 1), correlation("many", &keys(25_000))));
    let each = |number: u32| (number, Value::Null);
    assert_eq!(completed(&many, (0..26_000).map(each)), [24_999]);
    assert!(many.correlation_counters().bytes < 1 << 20, "{:?}", many.correlation_counters());
    assert_eq!(many.correlation_counters().evicted, 0);

    for bound in ["gte: 20001", "gt: 20000", "lt: 30000", "neq: 30000"] {
        let keys = format!("type: value_count, rules: [a], timespan: 1m, condition: {{field: V, {bound}}}");
        let text = correlation("c", &keys);
        let outcome = rule_engine::parse_rules("c.yml", text.trim_end_matches("---\n"));
        let codes: Vec<_> = outcome.diagnostics.iter().map(|it| it.code.as_str()).collect();
        assert_eq!(codes, ["too-large"], "{bound}");
    }
}

#[test]
fn sums_forget_exactly_what_is_over() {
    let keys = "type: value_sum, rules: [a], group-by: [User], timespan: 10s, condition: {field: V, gte: 5}";
    let set = set(&format!("{}{}", base("a", 1), correlation("sum", keys)));
    let values = [
        (0, json!(-1e300)),
        (9_000, json!(4.5)),
        (10_001, json!("inf")),
        (10_002, json!("nan")),
        (10_003, json!("no number")),
        (10_004, json!(0.25)),
        (10_005, json!("0.25")), // 4.5, 0.25, 0.25
        (10_006, json!(4)),
        (20_007, json!(4)), // the one before is over
        (20_008, json!(1)),
    ];
    assert_eq!(completed(&set, values.into_iter()), [10_005, 20_008]);
}

#[test]
fn what_comes_late_does_not_turn_time_back() {
    let keys =
        "type: value_count, rules: [a], group-by: [User], timespan: 10s, condition: {field: V, gte: 2}";
    let distinct = set(&format!("{}{}", base("a", 1), correlation("c", keys)));
    let one = |second, value: &str| (1, "x", second, json!(value));
    assert_eq!(run(&distinct, &[one(100, "p"), one(95, "p"), one(108, "q")]), ["", "", "c"]);
    let bases = format!("{}{}", base("a", 1), base("b", 2));
    let together = "type: temporal, rules: [a, b], group-by: [User], timespan: 10s";
    let together = set(&format!("{bases}{}", correlation("c", together)));
    assert_eq!(run(&together, &[at(1, "x", 100), at(1, "x", 95), at(2, "x", 108)]), ["", "", "c"]);
    let ordered = "type: temporal_ordered, rules: [a, b, a], group-by: [User], timespan: 10s";
    let ordered = set(&format!("{bases}{}", correlation("c", ordered)));
    // The first `a` comes late, and the last `b` comes between.
    let records = [at(2, "x", 101), at(1, "x", 104), at(1, "x", 80), at(1, "x", 100)];
    assert_eq!(run(&ordered, &records), ["", "", "", "c"]);
}

#[test]
fn temporal_counts_rules_where_its_condition_is_a_map() {
    let bases = format!("{}{}{}", base("a", 1), base("b", 2), base("d", 3));
    let keys = |kind: &str, condition: &str| {
        format!("type: {kind}, rules: [a, b, d], group-by: [User], timespan: 10s, condition: {{{condition}}}")
    };
    let two = set(&format!("{bases}{}", correlation("c", &keys("temporal", "gte: 2"))));
    assert_eq!(run(&two, &[at(1, "x", 0), at(1, "x", 1), at(3, "x", 2)]), ["", "", "c"]);
    let one = set(&format!("{bases}{}", correlation("c", &keys("temporal", "eq: 1"))));
    assert_eq!(run(&one, &[at(1, "x", 0), at(1, "x", 5), at(1, "x", 11)]), ["", "", "c"]);
    let all = set(&format!("{bases}{}", correlation("c", &keys("temporal_ordered", "gte: 3"))));
    assert_eq!(run(&all, &[at(1, "x", 0), at(2, "x", 1), at(3, "x", 2)]), ["", "", "c"]);
    let some = set(&format!("{bases}{}", correlation("c", &keys("temporal", "gte: 2, lte: 5"))));
    let records = [at(1, "x", 0), at(2, "x", 5), at(1, "x", 11), at(1, "x", 22)];
    assert_eq!(run(&some, &records), ["", "", "c", ""], "told when the time is over");
    for (kind, condition) in [("temporal", "gte: 4"), ("temporal", "eq: 4"), ("temporal_ordered", "gte: 2")] {
        let text = correlation("c", &keys(kind, condition));
        let outcome = rule_engine::parse_rules("c.yml", text.trim_end_matches("---\n"));
        let codes: Vec<_> = outcome.diagnostics.iter().map(|it| it.code.as_str()).collect();
        assert_eq!(codes, ["bad-condition"], "{kind} {condition}");
    }
}

#[test]
fn chains_are_as_deep_as_the_limit_and_no_deeper() {
    let keys = |of: &str| format!("type: event_count, rules: [{of}], timespan: 1m, condition: {{gte: 1}}");
    let mut text = format!("{}{}", base("a", 1), correlation("c0", &keys("a")));
    for nth in 1..40 {
        text += &correlation(&format!("c{nth}"), &keys(&format!("c{}", nth - 1)));
    }
    let compiled = RuleSet::compile(rules(text.trim_end_matches("---\n")));
    assert_eq!((compiled.rules.len(), compiled.diagnostics.len()), (33, 8));
    assert!(compiled.diagnostics.iter().all(|it| it.is_error() && it.reason.contains("chain")));
    assert_eq!(run(&compiled.rules, &[at(1, "x", 0)]), ["c31"]);
}

#[test]
fn correlations_that_multiply_come_to_an_end() {
    // Each completes two, and so does each of those.
    let keys = |of: &str| format!("type: event_count, rules: [{of}], timespan: 1m, condition: {{gte: 1}}");
    let mut text = base("a", 1);
    for depth in 0..30 {
        for own in ["l", "r"] {
            let of = match depth {
                0 => "a".to_owned(),
                _ => format!("l{0}, r{0}", depth - 1),
            };
            text += &correlation(&format!("{own}{depth}"), &keys(&of));
        }
    }
    let set = set(text.trim_end_matches("---\n"));
    run(&set, &[at(1, "x", 0)]);
    assert!(set.correlation_counters().evicted > 0, "what was not taken is told");
}

#[test]
fn one_event_gives_a_correlation_once_however_often_it_completes_it() {
    let keys = |of: &str| format!("type: event_count, rules: [{of}], timespan: 1m, condition: {{gte: 1}}");
    let (left, right) = (correlation("left", &keys("a")), correlation("right", &keys("a")));
    // Both complete `last`, which counts each of them.
    let last = correlation("last", &keys("left, right"));
    let outer = correlation("outer", &keys("last").replace("gte: 1", "gte: 4"));
    let diamond = set(&format!("{}{left}{right}{last}", base("a", 1)));
    assert_eq!(run(&diamond, &[at(1, "x", 0), at(1, "x", 1)]), ["last", "last"]);
    let counted = set(&format!("{}{left}{right}{last}{outer}", base("a", 1)));
    assert_eq!(run(&counted, &[at(1, "x", 0), at(1, "x", 1)]), ["", "outer"]);
    // Two rules that match the same event.
    let two = set(&format!("{}{}{}", base("a", 1), base("b", 1), correlation("c", &keys("a, b"))));
    assert_eq!(run(&two, &[at(1, "x", 0)]), ["c"]);
}

#[test]
fn a_rule_that_is_listed_twice_counts_once() {
    let told = |keys: &str| {
        let text = format!("{}{}{}", base("a", 1), base("b", 2), correlation("c", keys));
        let compiled = RuleSet::compile(rules(text.trim_end_matches("---\n")));
        let told: Vec<_> = compiled.diagnostics.iter().map(|it| (it.code.as_str(), it.is_error())).collect();
        (compiled.rules, told)
    };
    let keys = "rules: [a, id-a, b], group-by: [User], timespan: 10s";
    let (counted, warned) = told(&format!("type: event_count, {keys}, condition: {{gte: 2}}"));
    assert_eq!(warned, [("bad-reference", false)]);
    assert_eq!(run(&counted, &[at(1, "x", 0), at(2, "x", 1)]), ["", "c"]);
    let (together, warned) = told(&format!("type: temporal, {keys}"));
    assert_eq!(warned, [("bad-reference", false)]);
    assert_eq!(run(&together, &[at(1, "x", 0), at(2, "x", 1)]), ["", "c"]);

    let (left, refused) = told("type: temporal, rules: [a, a], timespan: 10s, condition: {gte: 2}");
    assert_eq!((left.len(), refused.contains(&("bad-reference", true))), (2, true));

    // In an order it is asked for twice, and one event is one of the two.
    let (ordered, warned) = told("type: temporal_ordered, rules: [a, a], group-by: [User], timespan: 10s");
    assert!(warned.is_empty(), "{warned:?}");
    let events: Vec<_> = (0..4).map(|second| at(1, "x", second)).collect();
    assert_eq!(run(&ordered, &events), ["", "c", "", "c"]);
}

#[test]
fn a_warning_is_told_once_also_where_another_correlation_is_refused() {
    let repeats = correlation("c", "type: temporal, rules: [a, a, b], timespan: 10s");
    let lost = correlation("lost", "type: temporal, rules: [nothing], timespan: 1m");
    let text = format!("{}{}{repeats}{lost}", base("a", 1), base("b", 2));
    let compiled = RuleSet::compile(rules(text.trim_end_matches("---\n")));
    let mut told: Vec<_> = compiled.diagnostics.iter().map(rule_engine::Diagnostic::is_error).collect();
    told.sort_unstable();
    assert_eq!(told, [false, true]);
}

#[test]
fn a_condition_over_rules_names_some_of_them() {
    let bases = format!("{}{}", base("a", 1), base("b", 2));
    let keys = |condition: &str| {
        format!("type: temporal, rules: [a, id-b], group-by: [User], timespan: 10s, condition: {condition}")
    };
    // By id or by name, whichever `rules` has.
    for condition in ["a and b", "id-a and id-b", "all of them", "all of id-*", "a and 1 of b*"] {
        let set = set(&format!("{bases}{}", correlation("c", &keys(condition))));
        assert_eq!(run(&set, &[at(1, "x", 0), at(2, "x", 1)]), ["", "c"], "{condition}");
    }
    for condition in ["a and bb", "a or d", "1 of sel*", "a and all of d*"] {
        let text = format!("{bases}{}{}", base("d", 3), correlation("c", &keys(condition)));
        let compiled = RuleSet::compile(rules(text.trim_end_matches("---\n")));
        let told: Vec<_> = compiled.diagnostics.iter().map(|it| (it.code.as_str(), it.is_error())).collect();
        assert_eq!((told, compiled.rules.len()), (vec![("bad-reference", true)], 3), "{condition}");
    }
}

#[test]
fn errors_are_told() {
    for (keys, code) in [
        ("type: event_cont, rules: [a], timespan: 1m, condition: {gte: 1}", "bad-value"),
        ("type: event_count, rules: [a], timespan: 1w, condition: {gte: 1}", "bad-value"),
        ("type: event_count, rules: [a], condition: {gte: 1}", "missing-key"),
        ("type: event_count, rules: [a], timespan: 1m", "missing-key"),
        ("type: value_count, rules: [a], timespan: 1m, condition: {gte: 1}", "missing-key"),
        ("type: value_sum, rules: [a], timespan: 1m, condition: {gte: 1, field: [x, y]}", "bad-value"),
        ("type: value_median, rules: [a], timespan: 1m, condition: {gte: 1, field: [x, y]}", "bad-value"),
        ("type: event_count, rules: [], timespan: 1m, condition: {gte: 1}", "bad-value"),
        ("type: temporal, rules: [a], timespan: 1m, condition: not a", "bad-condition"),
        ("type: temporal, rules: [a], timespan: 1m, groupby: [x]", "unknown-key"),
    ] {
        let text = correlation("c", keys);
        let outcome = rule_engine::parse_rules("c.yml", text.trim_end_matches("---\n"));
        let codes: Vec<_> = outcome.diagnostics.iter().map(|it| it.code.as_str()).collect();
        assert_eq!((codes, outcome.rules.len()), (vec![code], 0), "{keys}");
    }
}
