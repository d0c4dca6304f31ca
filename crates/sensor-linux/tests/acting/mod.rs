//! The test program, started once more to do something.

use std::io::Read;
use std::process::{Child, Command, Stdio};

/// A child that performs an act.
pub(crate) struct Acting {
    child: Child,
}

impl Acting {
    pub(crate) fn start(name: &str, argument: &str) -> Self {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "act", "--quiet", "--nocapture"])
            .env("RAMPART_TEST_ACT", name)
            .env("RAMPART_TEST_ARGUMENT", argument)
            .stdout(Stdio::piped())
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        Self { child }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for its end, which must be a good one; the numbers that it wrote as `name=number`.
    pub(crate) fn finish(mut self) -> Numbers {
        let mut output = String::new();
        self.child.stdout.take().unwrap().read_to_string(&mut output).unwrap();
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}: {output}");
        Numbers(output)
    }
}

impl Drop for Acting {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What it wrote.
pub(crate) struct Numbers(String);

impl Numbers {
    pub(crate) fn get(&self, name: &str) -> u32 {
        let found = self.0.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        found.unwrap_or_else(|| panic!("no {name} in {}", self.0)).parse().unwrap()
    }
}
