//! Every kind of persistence, kernel modules, and what is said of the source.

use event_model::{EventType, Field};
use sensor_linux::{SourceOptions, sources};

use crate::host::{Host, Watching, list, text, value};

/// A file of each kind, none of whose directories is there at the start.
const FILES: &[(&str, &str)] = &[
    ("/etc/sudoers", "sudoers"),
    ("/etc/sudoers.d/evil", "sudoers"),
    ("/etc/rc.local", "rc_file"),
    ("/etc/rc3.d/S99evil", "rc_file"),
    ("/etc/profile", "shell_profile"),
    ("/etc/profile.d/evil.sh", "shell_profile"),
    ("/etc/bash.bashrc", "shell_profile"),
    ("/etc/zsh/zshenv", "shell_profile"),
    ("/root/.bashrc", "shell_profile"),
    ("/home/bob/.bashrc", "shell_profile"),
    ("/home/bob/.profile", "shell_profile"),
    ("/home/bob/.bash_profile", "shell_profile"),
    ("/home/bob/.bash_login", "shell_profile"),
    ("/home/bob/.bash_logout", "shell_profile"),
    ("/home/bob/.zshrc", "shell_profile"),
    ("/home/bob/.zshenv", "shell_profile"),
    ("/srv/service/.profile", "shell_profile"),
    ("/root/.ssh/authorized_keys", "authorized_keys"),
    ("/home/bob/.ssh/authorized_keys", "authorized_keys"),
    ("/home/bob/.ssh/rc", "ssh_rc"),
    ("/etc/ssh/sshd_config", "sshd_config"),
    ("/etc/ssh/sshd_config.d/evil.conf", "sshd_config"),
    ("/etc/ld.so.preload", "ld_preload"),
    ("/etc/ld.so.conf", "ld_config"),
    ("/etc/ld.so.conf.d/evil.conf", "ld_config"),
    ("/etc/pam.d/sshd", "pam"),
    ("/usr/lib/x86_64-linux-gnu/security/pam_evil.so", "pam"),
    ("/etc/udev/rules.d/99-evil.rules", "udev"),
    ("/etc/modprobe.d/evil.conf", "module_config"),
    ("/etc/modules-load.d/evil.conf", "module_config"),
    ("/etc/modules", "module_config"),
    ("/etc/environment", "environment"),
    ("/etc/xdg/autostart/evil.desktop", "autostart"),
    ("/home/bob/.config/autostart/evil.desktop", "autostart"),
    ("/etc/update-motd.d/00-evil", "motd"),
    ("/etc/apt/apt.conf.d/99evil", "package_hook"),
    ("/etc/dpkg/dpkg.cfg.d/evil", "package_hook"),
    ("/home/bob/.gitconfig", "git_config"),
    ("/etc/network/if-up.d/evil", "network_hook"),
    ("/etc/systemd/system-generators/evil", "systemd_generator"),
    ("/etc/binfmt.d/evil.conf", "binfmt"),
];

#[test]
fn every_kind_of_persistence_is_told_with_old_and_new() {
    let host = Host::with(&[(
        "/etc/passwd",
        "root:x:0:0::/root:/bin/sh\nbob:x:9:9::/home/bob:/bin/sh\nsrv:x:8:8::/srv/service:/bin/false\n",
    )]);
    let mut watching = host.watch();
    for (action, step) in [("create", 0), ("modify", 1), ("delete", 2)] {
        for (path, _) in FILES {
            match step {
                0 => host.put(path, "first\nlast\n"),
                1 => host.put(path, "first\nevil\nlast\n"),
                _ => host.remove(path),
            }
        }
        let mut told = watching.settle(&host);
        for (path, kind) in FILES {
            let at = told.iter().position(|event| text(event, Field::FilePath) == *path);
            let at = at.unwrap_or_else(|| panic!("{action} of {path} is not told: {told:#?}"));
            let event = told.remove(at);
            assert_eq!(event.event_type, EventType::Persistence, "{path}");
            assert_eq!(text(&event, Field::PersistenceKind), *kind, "{path}");
            assert_eq!(text(&event, Field::EventAction), action, "{path}");
            let expected = [("", "first\nlast"), ("", "evil"), ("first\nevil\nlast", "")][step];
            assert_eq!((text(&event, Field::ChangeOld), text(&event, Field::ChangeNew)), expected, "{path}");
            let owner =
                if path.starts_with("/home/bob") { "bob" } else { text(&event, Field::UserTargetName) };
            assert_eq!(text(&event, Field::UserTargetName), owner, "{path}");
            assert_eq!(text(&event, Field::FileSha256).len(), 64, "{path}");
        }
        assert_eq!(told, [], "nothing else is told on {action}");
    }
}

#[test]
fn homes_come_and_go_with_accounts() {
    let passwd = "root:x:0:0::/root:/bin/sh\n";
    let host =
        Host::with(&[("/etc/passwd", passwd), ("/opt/app/.ssh/authorized_keys", "ssh-ed25519 A old\n")]);
    let mut watching = host.watch();
    host.replace("/etc/passwd", &format!("{passwd}app:x:7:7::/opt/app:/bin/sh\n"));
    // What was there before the account is news of the account.
    let event = watching.next_at(EventType::Persistence, "/opt/app/.ssh/authorized_keys");
    assert_eq!(text(&event, Field::UserTargetName), "app");
    host.write("/opt/app/.ssh/authorized_keys", "ssh-ed25519 A old\nssh-ed25519 B new\n");
    let event = watching.next_at(EventType::Persistence, "/opt/app/.ssh/authorized_keys");
    assert_eq!((text(&event, Field::ChangeOld), text(&event, Field::ChangeNew)), ("", "ssh-ed25519 B new"));
    std::fs::remove_dir_all(host.path("/opt/app")).unwrap();
    let event = watching.next_at(EventType::Persistence, "/opt/app/.ssh/authorized_keys");
    assert_eq!(text(&event, Field::EventAction), "delete");
    host.replace("/etc/passwd", passwd);
    watching.next("end of the account", |event| event.event_type == EventType::AccountDelete);
    host.write("/opt/app/.bashrc", "nobody's");
    assert_eq!(watching.settle(&host), []);
}

#[test]
fn what_every_new_home_gets_is_told_as_such() {
    let host = Host::with(&[("/etc/skel/.bashrc", "default\n"), ("/home/old/.x", "")]);
    let mut watching = host.watch();
    host.write("/home/new/.bashrc", "default\n");
    let event = watching.next_at(EventType::Persistence, "/home/new/.bashrc");
    assert_eq!(text(&event, Field::EventReason), "a copy of the file in /etc/skel");
    host.write("/home/new/.bashrc", "default\nevil\n");
    let event = watching.next_at(EventType::Persistence, "/home/new/.bashrc");
    assert_eq!((text(&event, Field::EventReason), text(&event, Field::ChangeNew)), ("", "evil"));
    host.write("/home/old/.bashrc", "evil\n");
    let event = watching.next_at(EventType::Persistence, "/home/old/.bashrc");
    assert_eq!(text(&event, Field::EventReason), "");
}

#[test]
fn kernel_modules_are_told_with_their_hashes() {
    let host = Host::with(&[("/usr/lib/modules/6.1.0/kernel/fs/ext4.ko", "old module")]);
    std::os::unix::fs::symlink("usr/lib", host.path("/lib")).unwrap();
    let mut watching = host.watch();
    let path = "/usr/lib/modules/6.1.0/kernel/fs/ext4.ko";
    let hash = |bytes: &[u8]| -> String {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
        digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    };
    host.write(path, "new module \0");
    let event = watching.next_at(EventType::FileModify, path);
    assert_eq!(text(&event, Field::FileObject), "kernel_module");
    assert_eq!(text(&event, Field::FileOperation), "modify");
    assert_eq!(text(&event, Field::FileSha256), hash(b"new module \0"));
    assert_eq!(list(&event, Field::ChangedFields), ["content"]);
    host.replace(path, "third module");
    let event = watching.next_at(EventType::FileModify, path);
    assert_eq!(text(&event, Field::FileOldSha256), hash(b"new module \0"));
    let new = "/usr/lib/modules/6.1.0/updates/deep/er/rootkit.ko.xz";
    host.write(new, "rootkit");
    let event = watching.next_at(EventType::FileCreate, new);
    assert_eq!(text(&event, Field::FileSha256), hash(b"rootkit"));
    assert!(value(&event, Field::FileSize).is_some());
    // A kernel that is installed while the agent runs.
    let other = "/lib/modules/6.2.0/kernel/new.ko.zst";
    host.write(other, "other kernel");
    watching.next_at(EventType::FileCreate, "/usr/lib/modules/6.2.0/kernel/new.ko.zst");
    host.write("/lib/modules/6.2.0/modules.dep", "no module");
    host.remove(new);
    watching.next_at(EventType::FileDelete, new);
    assert_eq!(watching.settle(&host), []);
}

#[test]
fn the_source_says_where_its_types_come_from() {
    let host = Host::with(&[]);
    let options = SourceOptions { root: host.path("/"), ..SourceOptions::default() };
    let source = sources(&options).into_iter().find(|source| source.name() == "file_watch").unwrap();
    let provisions = source.provisions();
    assert!(provisions.iter().any(|provision| provision.event_type == EventType::AccountCreate));
    for provision in &provisions {
        assert_eq!(provision.missing, None);
        assert!(provision.describe().contains("=file_watch (inotify: "), "{}", provision.describe());
    }
}

#[test]
fn without_a_state_directory_nothing_is_written_and_all_is_told() {
    let host = Host::with(&[("/etc/passwd", "root:x:0:0::/root:/bin/sh\n")]);
    let mut watching = Watching::start(&SourceOptions { root: host.path("/"), ..SourceOptions::default() });
    // Nothing says when the first look is done; a file that is changed until it is told does.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    let mut round = 0;
    while watching.events.is_empty() {
        assert!(std::time::Instant::now() < deadline, "no event");
        round += 1;
        host.write("/etc/ld.so.preload", format!("/tmp/evil-{round}.so\n"));
        std::thread::park_timeout(std::time::Duration::from_millis(50));
        watching.take();
    }
    assert_eq!(text(&watching.events[0], Field::PersistenceKind), "ld_preload");
    watching.stop();
    assert!(!host.state("watched-files").exists());
}
