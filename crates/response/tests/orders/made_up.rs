//! Hosts that a mount namespace makes up.

use std::path::Path;
use std::process::Command;

/// In a test that runs on such a host: the folder that belongs to it.
pub(crate) const HOST: &str = "RAMPART_TEST_HOST";

/// Runs a test of this program behind the mounts of `prepare`, which has the folder of the test as `$RAMPART_TEST_HOST`.
pub(crate) fn behind(prepare: &str, dir: &Path, test: &str) -> String {
    let output = Command::new("unshare")
        .args(["--mount", "--", "sh", "-c", &format!("set -e; {prepare}; exec \"$@\""), "sh"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(HOST, dir)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    said
}

pub(crate) fn skipped(why: &str) {
    eprintln!("skipped: {why}");
    assert!(std::env::var_os("RAMPART_NO_SKIP").is_none(), "must not be skipped here");
}
