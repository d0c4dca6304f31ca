use std::io::Write;

use super::*;

const PROGRAM: Program = Program {
    name: "edr-test",
    about: "a test",
    settings: &[
        Setting {
            flag: "addr",
            key: "addr",
            kind: Kind::Text,
            value_name: "HOST:PORT",
            help: "where to listen",
        },
        Setting {
            flag: "dirs",
            key: "monitor_dirs",
            kind: Kind::List,
            value_name: "DIR,…",
            help: "what to watch",
        },
        Setting {
            flag: "cpulimit",
            key: "cpu_limit",
            kind: Kind::Number,
            value_name: "PERCENT",
            help: "how much",
        },
        Setting { flag: "debug", key: "debug", kind: Kind::Switch, value_name: "", help: "say more" },
        Setting { flag: "token", key: "", kind: Kind::Text, value_name: "TOKEN", help: "a secret" },
    ],
};

fn read(arguments: &[&str], environment: &[(&str, &str)]) -> Result<Resolved, SettingsError> {
    let environment = |name: &str| {
        environment.iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value))
    };
    match PROGRAM.read(arguments.iter().map(OsString::from), environment)? {
        Request::Run(resolved) => Ok(resolved),
        other => panic!("{other:?}"),
    }
}

fn config(text: &str) -> (PathBuf, String) {
    let path = std::env::temp_dir().join(format!(
        "settings-test-{}-{:?}.json",
        std::process::id(),
        std::thread::current().id()
    ));
    std::fs::File::create(&path).unwrap().write_all(text.as_bytes()).unwrap();
    let text = path.to_str().unwrap().to_owned();
    (path, text)
}

#[test]
fn flags_take_one_dash_or_two_and_equals_or_space() {
    for arguments in [&["-addr=:1"][..], &["-addr", ":1"], &["--addr=:1"], &["--addr", ":1"]] {
        assert_eq!(read(arguments, &[]).unwrap().text("addr"), Some(":1"), "{arguments:?}");
    }
    let resolved = read(&["-debug", "-dirs=/a, /b", "--cpulimit", "2.5"], &[]).unwrap();
    assert!(resolved.is_on("debug"));
    assert_eq!(resolved.list("dirs").unwrap(), ["/a", "/b"]);
    assert_eq!(resolved.number("cpulimit"), Some(2.5));
    assert!(!read(&["-debug=false"], &[("EDR_DEBUG", "1")]).unwrap().is_on("debug"));
}

#[test]
fn flags_win_over_environment_over_config_file() {
    let (path, text) = config(r#"{"addr": "file", "monitor_dirs": ["/f"], "cpu_limit": 3, "debug": true}"#);
    let file_only = read(&["-config", &text], &[]).unwrap();
    assert_eq!(file_only.text("addr"), Some("file"));
    assert_eq!(file_only.list("dirs").unwrap(), ["/f"]);
    assert_eq!(file_only.number("cpulimit"), Some(3.0));
    assert!(file_only.is_on("debug"));
    let environment = [("EDR_ADDR", "environment"), ("EDR_CONFIG", text.as_str())];
    assert_eq!(read(&[], &environment).unwrap().text("addr"), Some("environment"));
    assert_eq!(read(&["-addr=flag"], &environment).unwrap().text("addr"), Some("flag"));
    std::fs::remove_file(path).unwrap();
}

#[test]
fn what_is_unknown_names_the_nearest() {
    let message = |arguments: &[&str]| read(arguments, &[]).unwrap_err().to_string();
    assert_eq!(message(&["-adr=:1"]), "`-adr` is not a flag of edr-test; hint: did you mean `-addr`?");
    assert_eq!(message(&["--zzzzzz"]), "`--zzzzzz` is not a flag of edr-test; hint: `-help` lists all");
    assert!(message(&["serve"]).contains("is not a flag"));
    assert!(message(&["-addr"]).contains("`-addr HOST:PORT`"));
    assert!(message(&["-addr=1", "-addr=2"]).contains("given twice"));
    let (path, text) = config(r#"{"monitor_dir": []}"#);
    assert!(message(&["-config", &text]).ends_with("did you mean `monitor_dirs`?"));
    std::fs::remove_file(path).unwrap();
    // A secret has no place in a file that is backed up and shown around.
    let (path, text) = config(r#"{"token": "x"}"#);
    assert!(message(&["-config", &text]).contains("`token` is not a key"));
    std::fs::remove_file(path).unwrap();
}

#[test]
fn bad_values_and_bad_json_say_where_and_what_is_allowed() {
    let message = |arguments: &[&str]| read(arguments, &[]).unwrap_err().to_string();
    assert_eq!(message(&["-cpulimit=much"]), "-cpulimit: `much` is not a number");
    assert_eq!(message(&["-debug=perhaps"]), "-debug: `perhaps` is not true or false");
    let (path, text) = config("{\n  \"addr\": 1\n}");
    assert!(message(&["-config", &text]).ends_with("`addr`: `1` is not a text in quotes"));
    std::fs::remove_file(path).unwrap();
    let (path, text) = config("{\n  \"addr\": \"HKLM\\SOFTWARE\"\n}");
    let bad = message(&["-config", &text]);
    assert!(bad.contains(":2:") && bad.ends_with("a backslash is written `\\\\`"), "{bad}");
    std::fs::remove_file(path).unwrap();
}

#[test]
fn help_lists_every_flag_with_its_key() {
    let help = PROGRAM.help();
    for setting in PROGRAM.settings {
        assert!(
            help.contains(&format!("-{}", setting.flag)) && help.contains(setting.key),
            "{}",
            setting.flag
        );
    }
}
