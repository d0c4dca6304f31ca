//! The table of places: which files are watched, and what each of them is to the system.

use super::pattern;

/// What a watched file is, which says how its changes are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// passwd, shadow, group or gshadow.
    AccountFile,
    /// A cron table with a column for the user.
    CronTable,
    /// A cron table that bears its user's name.
    CronSpool,
    /// A program that run-parts starts.
    CronScript,
    /// The table of anacron.
    AnacronTable,
    /// A job of at(1).
    AtJob,
    /// A systemd unit, drop-in or enablement link.
    Unit,
    /// A SysV init script.
    InitScript,
    /// A file of the kernel's module tree.
    KernelModule,
    /// Anything else from which things are started by themselves, with its `rampart.persistence.kind`.
    Persistence(&'static str),
}

impl Kind {
    /// Its name in the kept baseline; unique in the table.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::AccountFile => "@account",
            Self::CronTable => "@cron_table",
            Self::CronSpool => "@cron_spool",
            Self::CronScript => "@cron_script",
            Self::AnacronTable => "@anacron",
            Self::AtJob => "@at",
            Self::Unit => "@unit",
            Self::InitScript => "@init_script",
            Self::KernelModule => "@module",
            Self::Persistence(word) => word,
        }
    }

    /// The kind with this name, if this version of the table has it.
    pub(super) fn from_word(word: &[u8]) -> Option<Self> {
        PLACES.iter().map(|place| place.kind).find(|kind| kind.word().as_bytes() == word)
    }
}

/// One row: files of one kind in one directory.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    /// The directory; a part may have `*`. `~` stands for every home.
    pub(super) dir: &'static str,
    /// Names of the files; they may have `*`.
    pub(super) names: &'static [&'static str],
    /// How many levels of directories below are watched too, whatever their names.
    pub(super) depth: u8,
    /// What the files are.
    pub(super) kind: Kind,
}

impl Place {
    /// Whether a path, given as bytes, may lie in this place's directory.
    pub(super) fn is_dir(&self, path: &[u8]) -> bool {
        let own = self.dir.split('/').filter(|part| !part.is_empty());
        let mut parts = path.split(|byte| *byte == b'/').filter(|part| !part.is_empty());
        own.into_iter().all(|part| parts.next().is_some_and(|name| pattern::matches(part.as_bytes(), name)))
            && parts.next().is_none()
    }
}

const ANY: &[&str] = &["*"];

/// systemd.unit(5), systemd.timer(5) and so on. Slices and scopes start nothing.
const UNITS: &[&str] =
    &["*.service", "*.timer", "*.socket", "*.path", "*.mount", "*.automount", "*.swap", "*.target", "*.conf"];

/// bash(1), zsh(1), sh(1), ksh(1), csh(1), fish is in `~/.config`; pam_env(8) and X sessions read the last ones.
const HOME_PROFILES: &[&str] = &[
    ".bashrc",
    ".profile",
    ".bash_profile",
    ".bash_login",
    ".bash_logout",
    ".bash_aliases",
    ".zshrc",
    ".zshenv",
    ".zprofile",
    ".zlogin",
    ".zlogout",
    ".kshrc",
    ".cshrc",
    ".tcshrc",
    ".login",
    ".logout",
    ".inputrc",
    ".xprofile",
    ".xinitrc",
    ".xsession",
    ".xsessionrc",
];

const MODULES: &[&str] = &["*.ko", "*.ko.*"];

macro_rules! places {
    ($($kind:expr => { $($dir:literal $names:expr $(, depth $depth:literal)?;)* })*) => {
        &[$($(Place { dir: $dir, names: $names, depth: 0 $(+ $depth)?, kind: $kind },)*)*]
    };
}

/// All of them. Where two rows lead to the same directory (`/lib` that is a link to
/// `/usr/lib`), it is told under the path without the link.
pub(super) const PLACES: &[Place] = places! {
    Kind::AccountFile => {
        "/etc" &["passwd", "shadow", "group", "gshadow"];
    }
    Kind::CronTable => {
        "/etc" &["crontab"];
        "/etc/cron.d" ANY;
    }
    Kind::CronSpool => {
        "/var/spool/cron" ANY;
        "/var/spool/cron/crontabs" ANY;
        "/etc/crontabs" ANY;
    }
    Kind::CronScript => {
        "/etc/cron.hourly" ANY;
        "/etc/cron.daily" ANY;
        "/etc/cron.weekly" ANY;
        "/etc/cron.monthly" ANY;
        "/etc/cron.yearly" ANY;
    }
    Kind::AnacronTable => {
        "/etc" &["anacrontab"];
    }
    Kind::AtJob => {
        "/var/spool/cron/atjobs" ANY;
        "/var/spool/at" ANY;
        "/var/spool/atjobs" ANY;
    }
    Kind::Unit => {
        "/etc/systemd/system" UNITS, depth 1;
        "/run/systemd/system" UNITS, depth 1;
        "/run/systemd/transient" UNITS, depth 1;
        "/usr/local/lib/systemd/system" UNITS, depth 1;
        "/usr/lib/systemd/system" UNITS, depth 1;
        "/lib/systemd/system" UNITS, depth 1;
        "/etc/systemd/user" UNITS, depth 1;
        "/run/systemd/user" UNITS, depth 1;
        "/usr/local/lib/systemd/user" UNITS, depth 1;
        "/usr/lib/systemd/user" UNITS, depth 1;
        "~/.config/systemd/user" UNITS, depth 1;
        "~/.local/share/systemd/user" UNITS, depth 1;
    }
    Kind::InitScript => {
        "/etc/init.d" ANY;
        "/etc/rc.d/init.d" ANY;
    }
    Kind::KernelModule => {
        "/usr/lib/modules/*" MODULES, depth 12;
        "/lib/modules/*" MODULES, depth 12;
    }
    Kind::Persistence("sudoers") => {
        "/etc" &["sudoers"];
        "/etc/sudoers.d" ANY;
    }
    Kind::Persistence("rc_file") => {
        "/etc" &["rc.local", "inittab", "rc"];
        "/etc/rc*.d" ANY;
        "/etc/rc.d/rc*.d" ANY;
    }
    Kind::Persistence("shell_profile") => {
        "/etc" &["profile", "bash.bashrc", "bashrc", "bash.bash_logout", "zshrc", "zshenv", "zprofile", "zlogin",
            "csh.cshrc", "csh.login", "inputrc", "shells"];
        "/etc/profile.d" ANY;
        "/etc/bashrc.d" ANY;
        "/etc/zsh" ANY;
        "/etc/fish" ANY, depth 1;
        "/etc/skel" HOME_PROFILES;
        "~" HOME_PROFILES;
        "~/.config/fish" &["*.fish"], depth 1;
    }
    Kind::Persistence("authorized_keys") => {
        "~/.ssh" &["authorized_keys", "authorized_keys2"];
    }
    Kind::Persistence("ssh_rc") => {
        "~/.ssh" &["rc", "environment", "config"];
        "/etc/ssh" &["sshrc"];
    }
    Kind::Persistence("sshd_config") => {
        "/etc/ssh" &["sshd_config"];
        "/etc/ssh/sshd_config.d" ANY;
    }
    Kind::Persistence("ld_preload") => {
        "/etc" &["ld.so.preload"];
    }
    Kind::Persistence("ld_config") => {
        "/etc" &["ld.so.conf"];
        "/etc/ld.so.conf.d" ANY;
    }
    Kind::Persistence("pam") => {
        "/etc" &["pam.conf"];
        "/etc/pam.d" ANY;
        "/etc/security" ANY, depth 1;
        "/usr/lib/security" ANY;
        "/usr/lib64/security" ANY;
        "/usr/lib/*-linux-gnu*/security" ANY;
        "/lib/security" ANY;
        "/lib64/security" ANY;
        "/lib/*-linux-gnu*/security" ANY;
    }
    Kind::Persistence("udev") => {
        "/etc/udev/rules.d" ANY;
        "/run/udev/rules.d" ANY;
        "/usr/local/lib/udev/rules.d" ANY;
        "/usr/lib/udev/rules.d" ANY;
        "/lib/udev/rules.d" ANY;
    }
    Kind::Persistence("module_config") => {
        "/etc" &["modules", "modprobe.conf"];
        "/etc/modprobe.d" ANY;
        "/etc/modules-load.d" ANY;
        "/etc/dkms" ANY;
        "/run/modprobe.d" ANY;
        "/run/modules-load.d" ANY;
        "/usr/lib/modprobe.d" ANY;
        "/usr/lib/modules-load.d" ANY;
        "/lib/modprobe.d" ANY;
        "/lib/modules-load.d" ANY;
        "/etc/initramfs-tools" &["modules"];
        "/etc/initramfs-tools/hooks" ANY;
        "/etc/dracut.conf.d" ANY;
        "/etc" &["sysctl.conf"];
        "/etc/sysctl.d" ANY;
    }
    Kind::Persistence("environment") => {
        "/etc" &["environment"];
        "/etc/environment.d" ANY;
        "~/.config/environment.d" ANY;
        "~" &[".pam_environment"];
    }
    Kind::Persistence("autostart") => {
        "/etc/xdg/autostart" ANY;
        "/etc/X11/Xsession.d" ANY;
        "/etc/X11/xinit/xinitrc.d" ANY;
        "~/.config/autostart" ANY;
        "~/.config/autostart-scripts" ANY;
        "~/.config/plasma-workspace/env" ANY;
    }
    Kind::Persistence("motd") => {
        "/etc/update-motd.d" ANY;
        "/usr/lib/update-notifier" ANY;
    }
    Kind::Persistence("package_hook") => {
        "/etc/apt" &["apt.conf"];
        "/etc/apt/apt.conf.d" ANY;
        "/etc/dpkg" &["dpkg.cfg"];
        "/etc/dpkg/dpkg.cfg.d" ANY;
        "/etc/yum/pluginconf.d" ANY;
        "/etc/dnf/plugins" ANY;
        "/etc/dnf/libdnf5-plugins/actions.d" ANY;
        "/etc/pacman.d/hooks" ANY;
        "/etc/kernel/postinst.d" ANY;
    }
    Kind::Persistence("git_config") => {
        "/etc" &["gitconfig"];
        "~" &[".gitconfig"];
        "~/.config/git" &["config"];
    }
    Kind::Persistence("network_hook") => {
        "/etc/network" &["interfaces"];
        "/etc/network/interfaces.d" ANY;
        "/etc/network/if-up.d" ANY;
        "/etc/network/if-pre-up.d" ANY;
        "/etc/network/if-down.d" ANY;
        "/etc/network/if-post-down.d" ANY;
        "/etc/NetworkManager/dispatcher.d" ANY, depth 1;
        "/etc/networkd-dispatcher" ANY, depth 1;
        "/etc/dhcp" ANY, depth 1;
        "/etc/ppp/ip-up.d" ANY;
    }
    Kind::Persistence("systemd_generator") => {
        "/etc/systemd/system-generators" ANY;
        "/run/systemd/system-generators" ANY;
        "/usr/local/lib/systemd/system-generators" ANY;
        "/usr/lib/systemd/system-generators" ANY;
        "/etc/systemd/user-generators" ANY;
        "/usr/lib/systemd/user-generators" ANY;
        "/usr/lib/systemd/system-shutdown" ANY;
        "/usr/lib/systemd/system-sleep" ANY;
        "/etc/systemd/system-sleep" ANY;
    }
    Kind::Persistence("binfmt") => {
        "/etc/binfmt.d" ANY;
        "/usr/lib/binfmt.d" ANY;
    }
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_found_again_by_their_words() {
        for place in PLACES {
            assert_eq!(Kind::from_word(place.kind.word().as_bytes()), Some(place.kind));
        }
        assert_eq!(Kind::from_word(b"no such"), None);
    }

    #[test]
    fn a_place_knows_its_directory() {
        let place = |dir| PLACES.iter().find(|place| place.dir == dir).unwrap();
        assert!(place("/usr/lib/modules/*").is_dir(b"/usr/lib/modules/6.1.0"));
        assert!(!place("/usr/lib/modules/*").is_dir(b"/usr/lib/modules/6.1.0/kernel"));
        assert!(place("/etc/rc*.d").is_dir(b"/etc/rc2.d"));
        assert!(!place("/etc/rc*.d").is_dir(b"/etc"));
    }
}
