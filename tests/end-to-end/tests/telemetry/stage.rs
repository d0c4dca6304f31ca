//! Where the acts happen: a mount namespace with copies of the folders that they touch.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use test_support::{skip, wait_for};

const INSIDE: &str = "RAMPART_TELEMETRY_STAGE";

/// True inside the namespace. Outside, runs this test in it and gives false, or
/// fails as it does there.
pub(crate) fn enter() -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    if !test_support::can_load_bpf() {
        skip("needs root and /sys/kernel/btf/vmlinux");
        return false;
    }
    let folder = tempfile::Builder::new().prefix("rampart-telemetry-").tempdir().unwrap();
    // Copies, bound over the originals: what is renamed within one stays within it.
    let script = r#"
        set -e
        for place in etc var/log var/spool home root/.ssh; do
            mkdir -p "$STAGE/$place"
            if [ -d "/$place" ]; then cp -a "/$place/." "$STAGE/$place/" 2>/dev/null || true; else continue; fi
            mount --bind "$STAGE/$place" "/$place"
        done
        modules="/lib/modules/$(uname -r)"
        if ! [ -d "$modules" ]; then
            # The folder that holds it is replaced, so that the real one gets nothing new.
            mkdir -p "$STAGE/modules/$(uname -r)/kernel/drivers"
            if [ -d /lib/modules ]; then mount --bind "$STAGE/modules" /lib/modules; else exit 77; fi
        else
            mkdir -p "$STAGE/modules/kernel/drivers"
            mount --bind "$STAGE/modules" "$modules"
        fi
        exec "$TEST" --exact every_row_gives_its_event --nocapture
    "#;
    // A folder that every kernel's modules could lie in; an empty one harms nothing.
    std::fs::create_dir_all("/lib/modules").unwrap();
    let status = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-c", script])
        .env("STAGE", folder.path())
        .env("TEST", std::env::current_exe().unwrap())
        .env(INSIDE, "1")
        .status()
        .expect("unshare can be started");
    assert!(status.success(), "inside the namespace: {status}; its words are above");
    false
}

/// A log daemon of its own, so that logons are written down as on any server.
pub(crate) struct Syslog {
    child: Child,
    _folder: tempfile::TempDir,
}

impl Syslog {
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("rsyslog.conf");
        let text = "module(load=\"imuxsock\")\n\
            template(name=\"plain\" type=\"string\" string=\"%TIMESTAMP% %HOSTNAME% %syslogtag%%msg:::sp-if-no-1st-sp%%msg%\\n\")\n\
            auth,authpriv.* action(type=\"omfile\" file=\"/var/log/auth.log\" template=\"plain\")\n";
        std::fs::write(&config, text).unwrap();
        std::fs::OpenOptions::new().create(true).append(true).open("/var/log/auth.log").unwrap();
        // /dev/log is this namespace's only if /dev is; a socket that another daemon has is left alone.
        let child = Command::new("rsyslogd")
            .args(["-n", "-i", "NONE", "-f"])
            .arg(&config)
            .stdout(Stdio::null())
            .spawn()
            .expect("rsyslogd can be started; `make deps-test` installs it");
        wait_for("the log's socket", Duration::from_secs(20), || {
            Path::new("/dev/log").exists().then_some(())
        });
        Self { child, _folder: folder }
    }
}

impl Drop for Syslog {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
