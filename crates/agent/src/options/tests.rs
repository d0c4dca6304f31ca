use super::*;

fn run(arguments: &[&str]) -> Result<Options, String> {
    let arguments = arguments.iter().map(OsString::from);
    match read(arguments, |_| None) {
        Ok(Asked::Run(options)) => Ok(*options),
        Ok(Asked::Print(text)) => Err(text),
        Ok(Asked::Release { state_dir, code }) => Err(format!("{}: {code}", state_dir.display())),
        Ok(Asked::Service(act, _)) => Err(format!("{act:?}")),
        Err(error) => Err(error.to_string()),
    }
}

#[test]
fn a_release_code_is_no_run() {
    let asked = run(&["-release", "ABCDE-FGHJK", "-state=/tmp/x"]).unwrap_err();
    assert_eq!(asked, "/tmp/x: ABCDE-FGHJK");
}

#[test]
fn a_service_is_installed_with_what_was_given_beside_it() {
    let asked = read(
        ["-service=install", "-server=https://a:1", "-cert=ca.pem", "-dirs=/a,/b", "-cpulimit=3", "-debug"]
            .map(OsString::from),
        |_| None,
    );
    let Ok(Asked::Service(ServiceAct::Install(config), _)) = asked else { panic!("{asked:?}") };
    let absolute = std::path::absolute("ca.pem").unwrap();
    assert_eq!(
        config,
        serde_json::json!({
            "server_addr": "https://a:1", "cert_file": absolute, "monitor_dirs": ["/a", "/b"],
            "cpu_limit": 3.0, "debug": true,
        })
    );
    assert_eq!(run(&["-service=stop"]).unwrap_err(), "Stop");
    assert_eq!(run(&["-service=lift Rampart isolation"]).unwrap_err(), "Lift(\"Rampart isolation\")");
    assert!(run(&["-service=remove"]).unwrap_err().contains("`uninstall`"));
}

#[test]
fn the_kernel_of_windows_is_heard_by_what_was_asked_for() {
    for (given, expected) in
        [("etw", Collection::Etw), ("sysmon", Collection::Sysmon), ("both", Collection::Both)]
    {
        assert_eq!(run(&["-collect", given]).unwrap().collection, expected);
    }
    assert_eq!(run(&[]).unwrap().collection, Collection::Both);
    assert!(run(&["-collect=driver"]).unwrap_err().contains("`etw`, `sysmon` or `both`"));
}

#[test]
fn a_service_is_known_without_its_settings() {
    let is = |arguments: &[&str]| are_of_service(arguments.iter().map(OsString::from));
    let damaged = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(damaged.path(), "{ \"server_addr\": ").unwrap();
    let config = format!("-config={}", damaged.path().display());
    assert!(run(&["-service=run", &config]).is_err());
    assert!(is(&["-service=run", &config]) && is(&[&config, "--service=run"]));
    assert!(!is(&["-service=stop"]) && !is(&[&config]) && !is(&[]));
}

#[test]
fn all_flags_of_the_seed_are_taken_in_every_spelling() {
    let options = run(&[
        "-server=https://server-address:8443",
        "--interval",
        "30s",
        "-dirs=/etc,/bin,/usr/bin",
        r"-regs=HKLM\SOFTWARE\Microsoft\Windows\CurrentVersion\Run",
        "--cert=/path/to/server-cert.pem",
        "-insecure",
        "-pubkey",
        "/path/to/server-public.pem",
        "-quarantine=/path/to/quarantine",
        "-cpulimit=5.0",
        "-debug",
    ])
    .unwrap();
    assert_eq!(options.server.as_deref(), Some("https://server-address:8443"));
    assert!(options.insecure && options.debug);
    assert_eq!(options.notes.len(), 1, "one setting has no effect yet, and says so");
    assert_eq!(options.quarantine_dir.as_deref(), Some(std::path::Path::new("/path/to/quarantine")));
    assert_eq!(options.dirs, [PathBuf::from("/etc"), "/bin".into(), "/usr/bin".into()]);
    assert_eq!(options.interval, Some(Duration::from_secs(30)));
    assert_eq!(options.budget, Budget { cpu_permille: Some(50), memory_bytes: Some(200 << 20) });
    let unlimited = run(&["-cpulimit=0", "-memlimit=0"]).unwrap();
    assert_eq!(unlimited.budget, Budget::default());
    let learning = |arguments| run(arguments).unwrap().anomaly_learning;
    assert_eq!(learning(&[]), Some(Duration::from_secs(604_800)));
    assert_eq!(learning(&["-anomaly=on", "-anomaly-learning", "2d"]), Some(Duration::from_secs(172_800)));
    assert_eq!(learning(&["-anomaly-learning=1h30m"]), Some(Duration::from_secs(5_400)));
    assert_eq!(learning(&["-anomaly=off"]), None);
    assert_eq!(run(&[]).unwrap().server.as_deref(), Some(DEFAULT_SERVER));
    assert_eq!(run(&["-standalone", "-output", "-"]).unwrap().output, Some(OutputTarget::Stdout));
}

#[test]
fn the_seeds_config_file_is_taken_key_for_key() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("agent.json");
    let config = r#"{
        "server_addr": "https://server-address:8443", "scan_interval": "30s",
        "monitor_dirs": ["/etc", "/bin", "/usr/bin"],
        "monitor_regs": ["HKLM\\SOFTWARE\\Microsoft\\Windows\\CurrentVersion\\Run"],
        "debug": false, "cert_file": "/path/to/server-cert.pem", "insecure": false,
        "public_key_file": "/path/to/server-public.pem", "quarantine_dir": "/path/to/quarantine",
        "cpu_limit": 5.0
    }"#;
    std::fs::write(&path, config).unwrap();
    let path = path.to_str().unwrap();
    let options = run(&["-config", path]).unwrap();
    assert_eq!(options.certificate, Some("/path/to/server-cert.pem".into()));
    let options = run(&["-config", path, "-server=https://other"]).unwrap();
    assert_eq!(options.server.as_deref(), Some("https://other"), "a flag wins over the file");
}

#[test]
fn what_cannot_be_used_is_refused_with_help() {
    for (arguments, part) in [
        (&["-sever=x"][..], "-server"),
        (&["-insecure"], "-pubkey"),
        (&["-server=ftp://x"], "https://"),
        (&["-interval=soon"], "30s"),
        (&["-interval=10ms"], "1s"),
        (&["-dirs=etc"], "/etc"),
        (&["-cpulimit=900"], "up to 100"),
        (&["-memlimit=3"], "64"),
        (&["-spool-max-bytes=10"], "1048576"),
        (&["-standalone", "-token=x"], "-standalone"),
        (&["-execgate=bin"], "absolute"),
        (&["-anomaly=perhaps"], "off"),
        (&["-builtin-behaviours=no"], "off"),
        (&["-anomaly-learning=91d"], "90d"),
        (&["-anomaly-learning=-1d"], "7d"),
    ] {
        let error = run(arguments).unwrap_err();
        assert!(error.contains(part), "{arguments:?}: {error}");
    }
}

#[test]
fn durations_are_those_of_go() {
    for good in ["30s", "1m30s", "500ms", "1.5h"] {
        assert!(duration(good).is_some(), "{good}");
    }
    assert_eq!(duration("1m30.5s"), Some(Duration::from_millis(90_500)));
    for bad in ["", "30", "s", "30x", "-1s", ".s", "1.2.3s", "99999999999999999999h"] {
        assert_eq!(duration(bad), None, "{bad}");
    }
}
