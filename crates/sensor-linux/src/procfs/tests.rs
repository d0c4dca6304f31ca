mod hanging;

use super::*;
use hanging::HangingProcess;

/// On a host that is busy enough even what is there can come too late, and is marked then.
fn image_once(pid: u32, is_wanted: impl Fn(&ObservedImage) -> bool) -> ObservedImage {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    loop {
        let image = image(pid).unwrap();
        if is_wanted(&image) || std::time::Instant::now() > deadline {
            return image;
        }
    }
}

fn is_whole(image: &ObservedImage) -> bool {
    image.image.is_some()
        && !image.args_truncated
        && !image.environment.iter().any(|variable| variable == UNREAD)
}

#[test]
fn a_name_may_hold_what_ends_it() {
    let line = b"42 (a) S 1 (b)) R 7 1 42 34816 42 4194304 1 2 3 4 5 6 7 8 20 0 3 0 123 0 0\n";
    let stat = Stat::parse(line).unwrap();
    assert_eq!(stat.comm, b"a) S 1 (b)");
    assert_eq!((stat.state, stat.parent_pid, stat.session_id), (b'R', 7, 42));
    assert_eq!((stat.tty, stat.threads), (34816, 3));
    assert_eq!(stat.start_ns, 123 * tick_ns());
    assert_eq!(terminal(stat.tty).as_deref(), Some("pts/0"));
    assert_eq!(Stat::parse(b"42 (a"), None);
    assert_eq!(Stat::parse(b""), None);
}

#[test]
fn the_cgroup_that_says_most_is_chosen() {
    let of = |text: &str| cgroup_path(text.as_bytes());
    assert_eq!(of("0::/system.slice/a.service\n"), "/system.slice/a.service");
    assert_eq!(of("8:pids:/docker/1\n4:memory:/m\n0::/\n"), "/docker/1");
    assert_eq!(of("8:pids:/\n4:cpu,memory:/m\n0::/\n"), "/m");
    assert_eq!(of("8:pids:/\n0::/\n"), "/");
    assert_eq!(of("2:cpu:/a:b\n1:name=systemd:/\n"), "/");
    assert_eq!(of("0::/a:b\n"), "/a:b");
    assert_eq!(of(""), "/");
}

#[test]
fn this_process_is_found_with_all_its_facts() {
    let pid = std::process::id();
    let image = image_once(pid, is_whole);
    let here = std::env::current_exe().unwrap();
    assert_eq!(image.executable, here.to_str().unwrap());
    assert_eq!(image.args, std::env::args().collect::<Vec<_>>());
    assert_eq!(image.working_directory.as_deref(), std::env::current_dir().unwrap().to_str());
    assert_eq!(image.parent_pid, std::os::unix::process::parent_id());
    assert_eq!(image.image.map(|file| file.inode), Some(fs::metadata(&here).unwrap().ino()));
    assert!(!image.image_deleted && !image.kernel_thread);
    assert_eq!(
        image_of(ProcessKey { start_ns: image.start_ns + 50 * tick_ns(), ..image.key() }, image.key()),
        None
    );
}

/// It has the lock of its memory for ever, and so would have whoever reads what lies there.
#[test]
fn a_process_that_hangs_holds_up_nobody_and_what_is_missing_is_marked() {
    let Some(hanging) = HangingProcess::start() else { return };
    let seen = image_once(hanging.pid, |image| image.image.is_some());
    let this = image_once(std::process::id(), is_whole);
    assert_eq!((&seen.executable, seen.image), (&this.executable, this.image));
    assert_eq!((seen.args.as_slice(), seen.args_truncated), ([].as_slice(), true));
    assert_eq!(seen.environment, [UNREAD]);
    assert_eq!(
        variables_beyond(seen.key(), b"PATH=/bin\0LD_PRELOAD=/tmp/x.so\0"),
        ["LD_PRELOAD=/tmp/x.so", UNREAD]
    );
    assert!(this.args.len() == std::env::args().count() && !this.args_truncated);
    assert!(!this.environment.iter().any(|variable| variable == UNREAD));
}

#[test]
fn of_a_process_that_is_gone_the_beginning_of_the_environment_is_told_as_one() {
    let this = image(std::process::id()).unwrap().key();
    let another = ProcessKey { start_ns: this.start_ns + 50 * tick_ns(), ..this };
    assert_eq!(variables_beyond(another, b"ENV=/x\0A=b\0"), ["ENV=/x", UNREAD]);
}
