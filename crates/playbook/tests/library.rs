//! Every ready playbook loads without a finding and does what its test says.

use std::path::Path;

use playbook::{HostGroups, Mode, TestFile, read_playbook};

#[test]
fn the_ten_ready_playbooks_pass_their_tests() {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../playbooks"));
    let groups = HostGroups::default();
    let mut count = 0;
    for entry in std::fs::read_dir(folder).expect("the library is there") {
        let path = entry.expect("readable").path();
        if path.extension().is_none_or(|extension| extension != "yml") {
            continue;
        }
        let name = path.display().to_string();
        let text = std::fs::read(&path).expect("readable");
        let outcome = read_playbook(&name, &text, &groups);
        assert!(outcome.diagnostics.is_empty(), "{name}: {:#?}", outcome.diagnostics);
        let playbook = outcome.playbook.expect("read");
        assert_eq!(path.file_stem().and_then(|stem| stem.to_str()), Some(playbook.id.as_str()), "{name}");
        assert_eq!(playbook.mode, Mode::Shadow, "{name}: nobody fears the first start");
        let tests =
            std::fs::read(path.with_extension("test.json")).unwrap_or_else(|error| panic!("{name}: {error}"));
        let tests = TestFile::parse(&tests).unwrap_or_else(|error| panic!("{name}: {error}"));
        for case in &tests.cases {
            let failures = case.failures(&playbook, &groups);
            assert!(failures.is_empty(), "{name}, {}: {failures:#?}", case.name);
        }
        count += 1;
    }
    assert_eq!(count, 10);
}
