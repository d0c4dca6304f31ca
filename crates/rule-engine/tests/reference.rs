//! The reference in `docs/` says what the code does: the table of fields is made
//! from the code (`RAMPART_UPDATE=1 cargo test …` writes it), and the page on rules
//! names every key, word and code, with examples that load.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

use event_model::{ActionKind, Field, FieldSpec, ResponseMode, RuleScope, Severity, ValueKind};
use rule_engine::{DiagnosticCode, LogSources, parse_rules};

fn page(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference").join(name)
}

#[test]
fn the_table_of_fields_is_that_of_the_code() {
    let expected = fields_page();
    if env::var_os("RAMPART_UPDATE").is_some() {
        fs::create_dir_all(page("")).unwrap();
        fs::write(page("fields.md"), &expected).unwrap();
    }
    let actual = fs::read_to_string(page("fields.md")).unwrap_or_default();
    assert!(actual == expected, "docs/reference/fields.md is out of date; run with RAMPART_UPDATE=1");
}

fn fields_page() -> String {
    let mut page = "# Fields\n\n\
        <!-- Made from crates/event-model/src/field.rs. `RAMPART_UPDATE=1 cargo test --release -p rule-engine --test reference` writes it. -->\n\n\
        Every spelling of a field means the same, in rules and in searches; upper and lower case are alike.\n\
        How values compare is told in [rules.md](rules.md).\n"
        .to_owned();
    for scope in RuleScope::ALL {
        let _ = write!(
            page,
            "\n## In `{scope}` rules\n\n| short names | ECS name | Sigma names | values | what it holds |\n|---|---|---|---|---|\n"
        );
        for spec in Field::ALL.iter().map(|field| field.spec()).filter(|spec| spec.scopes.contains(&scope)) {
            let short = if spec.home.contains(&scope) { spec.seed } else { &[] };
            let _ = writeln!(
                page,
                "| {} | `{}` | {} | {} | {} |",
                coded(short),
                spec.ecs,
                coded(spec.sigma),
                kind(spec),
                cell(spec.doc)
            );
        }
    }
    page.push_str("\n## Only in events\n\nRules can't use these; searches can.\n\n| ECS name | values | what it holds |\n|---|---|---|\n");
    for spec in Field::ALL.iter().map(|field| field.spec()).filter(|spec| spec.scopes.is_empty()) {
        let _ = writeln!(page, "| `{}` | {} | {} |", spec.ecs, kind(spec), cell(spec.doc));
    }
    page
}

fn coded(words: &[&str]) -> String {
    words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(" ")
}

fn kind(spec: &FieldSpec) -> &'static str {
    match spec.kind {
        ValueKind::Text => "text",
        ValueKind::Integer => "number",
        ValueKind::Boolean => "true or false",
        ValueKind::TextList => "list of texts",
        ValueKind::Time => "time",
    }
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

#[test]
fn the_page_on_rules_names_everything() {
    let page = fs::read_to_string(page("rules.md")).expect("docs/reference/rules.md");
    let mut words: Vec<&str> = DiagnosticCode::ALL.iter().map(|code| code.as_str()).collect();
    words.extend(RuleScope::ALL.map(RuleScope::as_str));
    words.extend(Severity::ALL.iter().map(|severity| severity.as_str()));
    words.extend(ResponseMode::ALL.iter().map(|mode| mode.as_str()));
    words.extend(ActionKind::ALL.iter().map(|action| action.as_str()));
    // The engine itself lists its keys in the hint for a key that is like none of them.
    let outcome = parse_rules("x", "{\"0123456789\": 1}");
    let hint = outcome
        .diagnostics
        .iter()
        .find(|it| it.code == DiagnosticCode::UnknownKey)
        .unwrap()
        .hint
        .clone()
        .unwrap();
    let keys: Vec<&str> = hint.split('`').skip(1).step_by(2).collect();
    assert!(keys.len() >= 15, "{keys:?}");
    words.extend(keys);
    let missing: Vec<&str> = words.into_iter().filter(|word| !page.contains(&format!("`{word}`"))).collect();
    assert!(missing.is_empty(), "docs/reference/rules.md does not name {missing:?}");
}

#[test]
fn the_page_on_sigma_names_every_modifier_and_its_examples_load() {
    let page = fs::read_to_string(page("rules-sigma.md")).expect("docs/reference/rules-sigma.md");
    // The engine itself lists its modifiers in the hint for one that is like none of them.
    let text = "title: t\nlogsource: {product: a}\ndetection: {s: {F|zzzzzzzzzzzz: 1}, condition: s}\n";
    let hint = parse_rules("a.yml", text).diagnostics[0].hint.clone().expect("a hint");
    let modifiers: Vec<&str> = hint.split('`').skip(1).step_by(2).collect();
    assert!(modifiers.len() > 30, "{hint}");
    // The long forms of flags are another language's.
    for modifier in modifiers.iter().filter(|word| !["ignorecase", "multiline", "dotall"].contains(*word)) {
        assert!(
            page.contains(&format!("`{modifier}`")) || page.contains(&format!("`{modifier}: ")),
            "{modifier}"
        );
    }
    let examples: Vec<&str> =
        page.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().expect("an end")).collect();
    assert!(examples.len() >= 4);
    for example in examples {
        if example.starts_with("sources:") {
            LogSources::builtin().with_file_first("example.yml", example).expect("a good file");
        } else {
            let outcome = parse_rules("example.yml", example);
            assert!(outcome.is_ok() && outcome.diagnostics.is_empty(), "{example}{:#?}", outcome.diagnostics);
        }
    }
}

#[test]
fn the_examples_of_the_page_on_rules_load() {
    let page = fs::read_to_string(page("rules.md")).expect("docs/reference/rules.md");
    let examples: Vec<&str> =
        page.split("```json\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(examples.len() >= 2, "examples");
    for example in examples {
        let outcome = parse_rules("rules.md", example);
        let findings: String = outcome.diagnostics.iter().map(|finding| finding.render(example)).collect();
        assert!(findings.is_empty() && !outcome.rules.is_empty(), "{findings}\n{example}");
    }
}
