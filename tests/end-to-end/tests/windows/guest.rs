//! A Windows of its own under Wine, and programs in it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;
use test_support::skip;

/// A Windows of its own: a prefix, with the programs of the test on its drive `C:`.
pub(crate) struct Wine {
    wine: PathBuf,
    pub(crate) folder: TempDir,
}

impl Wine {
    pub(crate) fn new() -> Option<Self> {
        let (Some(made), Some(wine)) =
            (std::env::var_os("RAMPART_WINDOWS_DIR"), std::env::var_os("RAMPART_WINE"))
        else {
            skip("runs by `make test-windows`, which builds the agent for Windows");
            return None;
        };
        let new =
            Self { wine: wine.into(), folder: TempDir::with_prefix("rampart-windows-").expect("a folder") };
        // Makes the prefix.
        let made_prefix = new.command("wineboot", &["-i"]).status().expect("wine starts");
        assert!(made_prefix.success(), "wineboot ended with {made_prefix}");
        // What that left running is to be gone first: the next program would start a second service manager beside
        // the first, and each of them would answer every other question.
        new.server("-w");
        // The scheduler of Wine makes no folder of its own.
        for folder in ["watched", "rules", "bin", "windows/system32/tasks"] {
            fs::create_dir_all(new.drive(folder)).expect("made");
        }
        for program in ["edr-agent.exe", "bcryptprimitives.dll", "waits.exe", "registry.exe", "service.exe"] {
            new.bring(program);
        }
        for name in ["backdoor.exe", "powershell.exe"] {
            fs::copy(Path::new(&made).join("waits.exe"), new.drive("bin").join(name)).expect("copied");
        }
        Some(new)
    }

    /// Puts one of the programs that were built into `C:\bin`.
    pub(crate) fn bring(&self, program: &str) {
        let made = std::env::var_os("RAMPART_WINDOWS_DIR").expect("it was there before");
        fs::copy(Path::new(&made).join(program), self.drive("bin").join(program)).expect("copied");
    }

    /// A path on the drive `C:`, as this system sees it.
    pub(crate) fn drive(&self, path: &str) -> PathBuf {
        self.folder.path().join("prefix/drive_c").join(path)
    }

    pub(crate) fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.wine);
        command.arg(program).args(arguments);
        self.dress(&mut command);
        command
    }

    fn server(&self, word: &str) {
        let mut command = Command::new(self.wine.with_file_name("wineserver"));
        command.arg(word);
        self.dress(&mut command);
        let _ = command.status();
    }

    fn dress(&self, command: &mut Command) {
        command
            .env("WINEPREFIX", self.folder.path().join("prefix"))
            .env("WINEDEBUG", "-all")
            .env("WINEDLLOVERRIDES", "mscoree,mshtml=")
            .env_remove("DISPLAY")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
    }

    pub(crate) fn run(&self, program: &str, arguments: &[&str]) {
        let status = self.command(program, arguments).status().expect("wine starts");
        assert!(status.success(), "{program} {arguments:?} ended with {status}");
    }

    /// What it said, whether it was content or not.
    pub(crate) fn said(&self, program: &str, arguments: &[&str]) -> (bool, String) {
        let mut command = self.command(program, arguments);
        let output = command.stdout(Stdio::piped()).stderr(Stdio::piped()).output().expect("wine starts");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.success(), text(&output.stdout) + &text(&output.stderr))
    }

    pub(crate) fn start(&self, program: &str, arguments: &[&str]) -> Guest {
        Guest(self.command(program, arguments).spawn().expect("wine starts"))
    }
}

impl Drop for Wine {
    fn drop(&mut self) {
        // Ends what runs in this prefix, and nothing else.
        self.server("-k");
    }
}

/// A program of the guest; ended with the test.
pub(crate) struct Guest(pub(crate) Child);

impl Guest {
    pub(crate) fn ended(&mut self) -> bool {
        self.0.try_wait().expect("our own child").is_some()
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
