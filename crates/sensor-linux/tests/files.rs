//! What the eBPF sensor tells of files: real acts of another process, and the
//! events that they give.

#![allow(clippy::unwrap_used, reason = "in tests a failed expectation is the report")]
#![allow(unsafe_code, reason = "some calls have no safe form")]

mod deeds;
mod rights;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use event_model::{EventType, Field, Value};
use sensor_api::{Actor, ObservedActivity, Sensor as _};
use sensor_linux::LinuxSensorOptions;

use deeds::Scene;
use rights::ebpf;

fn value(activity: &ObservedActivity, field: Field) -> Option<&Value> {
    activity.fields.iter().find(|(own, _)| *own == field).map(|(_, value)| value)
}

fn text(activity: &ObservedActivity, field: Field) -> &str {
    match value(activity, field) {
        Some(Value::Text(text)) => text,
        other => panic!("{field:?} of {activity:?} is {other:?}"),
    }
}

fn number(activity: &ObservedActivity, field: Field) -> i64 {
    match value(activity, field) {
        Some(Value::Integer(number)) => *number,
        other => panic!("{field:?} of {activity:?} is {other:?}"),
    }
}

/// Type and operation of each, in order.
fn operations(seen: &[ObservedActivity]) -> Vec<(EventType, &str)> {
    seen.iter().map(|one| (one.event_type, text(one, Field::FileOperation))).collect()
}

fn check_needs(seen: &[ObservedActivity]) {
    for one in seen {
        for need in one.event_type.spec().needs {
            assert!(value(one, *need).is_some(), "{need:?} is missing in {one:?}");
        }
        assert!(matches!(one.actor, Some(Actor::Life(_))), "{one:?}");
    }
}

/// Performs the deed in a scene of its own; what was told of files there.
fn told(deed: &str) -> Option<(Scene, Vec<ObservedActivity>)> {
    let mut sensor = ebpf(LinuxSensorOptions::default())?;
    let scene = Scene::new(deed);
    let seen = scene.perform(&mut sensor);
    Box::new(sensor).shut_down().unwrap();
    check_needs(&seen);
    Some((scene, seen))
}

#[test]
fn a_file_is_told_from_its_creation_to_its_end() {
    let Some((scene, seen)) = told("a_life") else { return };
    use EventType::{FileCreate, FileDelete, FileModify, FileRename};
    assert_eq!(
        operations(&seen),
        [(FileCreate, "create"), (FileModify, "modify"), (FileRename, "rename"), (FileDelete, "delete")]
    );
    let path = |name: &str| scene.path(name);
    assert_eq!(text(&seen[0], Field::FilePath), path("one.txt"));
    assert_eq!(text(&seen[0], Field::FileName), "one.txt");
    assert_eq!(text(&seen[0], Field::FileExtension), "txt");
    assert_eq!(text(&seen[0], Field::FileMode), "0640");
    assert_eq!(text(&seen[0], Field::FileOwnerId), "0");
    assert_eq!(number(&seen[0], Field::FileSize), 0);
    assert_eq!(number(&seen[1], Field::FileSize), 10);
    assert_eq!(number(&seen[1], Field::FileOldSize), 0);
    assert_eq!(number(&seen[1], Field::FileInode), number(&seen[0], Field::FileInode));
    let device = fs::metadata(scene.dir()).unwrap().dev();
    assert_eq!(number(&seen[0], Field::FileDevice), device.cast_signed());
    assert_eq!(text(&seen[2], Field::FileOldPath), path("one.txt"));
    assert_eq!(text(&seen[2], Field::FilePath), path("sub/two.txt"));
    assert_eq!(text(&seen[3], Field::FilePath), path("sub/two.txt"));
    let actors: Vec<u32> = seen.iter().map(|one| one.actor.unwrap().pid()).collect();
    assert!(actors.iter().all(|pid| *pid == actors[0] && *pid != std::process::id()));
}

#[test]
fn writing_is_told_once_for_each_time_a_file_was_open() {
    let Some((scene, seen)) = told("writing") else { return };
    let of = |name: &str| -> Vec<&ObservedActivity> {
        let path = scene.path(name);
        seen.iter().filter(|one| text(one, Field::FilePath) == path).collect()
    };
    let modified = |name: &str| of(name).iter().filter(|one| one.event_type == EventType::FileModify).count();
    assert_eq!(modified("appended"), 1, "many writes, one session");
    assert_eq!(
        (number(of("appended")[0], Field::FileOldSize), number(of("appended")[0], Field::FileSize)),
        (4, 1004)
    );
    assert_eq!(modified("only_opened"), 0, "open for writing is not writing");
    assert_eq!(modified("only_read"), 0);
    assert_eq!(modified("same_size"), 1, "overwritten in place");
    assert_eq!(modified("emptied"), 1);
    assert_eq!(text(of("emptied")[0], Field::FileOperation), "truncate");
    assert_eq!(modified("by_dup2"), 1);
    assert_eq!(modified("by_close_range"), 1);
    assert_eq!(modified("by_exit"), 1, "{:?}", of("by_exit"));
    assert_eq!(modified("by_exec"), 1, "{:?}", of("by_exec"));
    assert_eq!(modified("by_memory"), 1);
    assert_eq!(modified("by_child"), 1, "the last of two processes tells");
    assert_eq!(modified("touched"), 0);
    assert_eq!(of("touched").len(), 1, "it was made");
}

#[test]
fn calls_that_close_nothing_hide_no_write() {
    let Some((scene, seen)) = told("closed_in_vain") else { return };
    let modified = |name: &str| -> usize {
        let path = scene.path(name);
        seen.iter()
            .filter(|one| one.event_type == EventType::FileModify && text(one, Field::FilePath) == path)
            .count()
    };
    for name in ["by_dup2", "by_dup3", "by_close_range", "by_child", "by_leaving", "by_thread"] {
        assert_eq!(modified(name), 1, "{name}: {seen:#?}");
    }
    assert_eq!(modified("early"), 2, "what was told is what is compared with next: {seen:#?}");
    let sizes: Vec<(i64, i64)> = seen
        .iter()
        .filter(|one| text(one, Field::FilePath) == scene.path("early"))
        .map(|one| (number(one, Field::FileOldSize), number(one, Field::FileSize)))
        .collect();
    assert_eq!(sizes, [(4, 8), (8, 13)]);
}

#[test]
fn a_file_that_two_let_go_at_once_is_told() {
    let Some((scene, seen)) = told("at_once") else { return };
    for round in 0..2 * deeds::ROUNDS {
        let path = scene.path(&round.to_string());
        let told = seen
            .iter()
            .any(|one| one.event_type == EventType::FileModify && text(one, Field::FilePath) == path);
        assert!(told, "{path}: {seen:#?}");
    }
}

#[test]
fn names_may_hold_any_byte_and_be_as_long_as_the_kernel_takes() {
    let Some((scene, seen)) = told("odd_names") else { return };
    let paths: Vec<&str> = seen.iter().map(|one| text(one, Field::FilePath)).collect();
    for name in ["not\\xffutf8\\xfe", "new\nline", "esc\u{1b}[31m", "ünïcode", " ", "..."] {
        let path = scene.path(name);
        assert_eq!(
            paths.iter().filter(|one| **one == path).count(),
            2,
            "made and removed: {path:?} in {paths:?}"
        );
    }
    let long: Vec<&&str> = paths.iter().filter(|path| path.ends_with("/end")).collect();
    assert_eq!(long.len(), 4, "made and removed, twice: {long:?}");
    for path in long {
        assert!(path.len() == 4_095 && path.starts_with(&scene.path("")), "{} {path}", path.len());
    }
    assert!(seen.iter().all(|one| value(one, Field::EventIncomplete).is_none()));
}

#[test]
fn paths_are_whole_from_wherever_they_begin() {
    let Some((scene, seen)) = told("places") else { return };
    let of = |event_type: EventType| -> Vec<&ObservedActivity> {
        seen.iter().filter(|one| one.event_type == event_type).collect()
    };
    let deletes: Vec<&str> = of(EventType::FileDelete).iter().map(|one| text(one, Field::FilePath)).collect();
    for name in ["by_cwd", "sub/by_dir", "sub/by_dots", "gone"] {
        assert!(deletes.contains(&scene.path(name).as_str()), "{name} in {deletes:?}");
    }
    let moved: Vec<(&str, &str)> = of(EventType::FileRename)
        .iter()
        .map(|one| (text(one, Field::FileOldPath), text(one, Field::FilePath)))
        .collect();
    let pair = |old: &str, new: &str| (scene.path(old), scene.path(new));
    let expected = [pair("a", "b"), pair("sub/c", "other/d"), pair("sub/e", "sub/f"), pair("g", "h")];
    let moved: Vec<(String, String)> =
        moved.into_iter().map(|(old, new)| (old.to_owned(), new.to_owned())).collect();
    assert_eq!(moved, expected);
    let creates: Vec<&str> = of(EventType::FileCreate).iter().map(|one| text(one, Field::FilePath)).collect();
    assert!(creates.contains(&scene.path("jail/in_chroot").as_str()), "{creates:?}");
    assert!(deletes.contains(&scene.path("jail/in_chroot").as_str()), "{deletes:?}");
}

#[test]
fn what_is_refused_for_lack_of_rights_is_told_as_a_failure() {
    let Some((scene, seen)) = told("refused") else { return };
    assert_eq!(
        operations(&seen),
        [(EventType::FileDelete, "delete"), (EventType::FileRename, "rename")],
        "what does not exist is no news"
    );
    for one in &seen {
        assert_eq!(text(one, Field::EventOutcome), "failure");
        assert_eq!(number(one, Field::EventErrno), i64::from(libc::EACCES));
    }
    assert_eq!(text(&seen[0], Field::FilePath), scene.path("closed/file"));
}

#[test]
fn attributes_are_told_with_what_stood_there_before_where_it_is_known() {
    let Some((scene, seen)) = told("attributes") else { return };
    let find = |operation: &str, name: &str| -> Vec<&ObservedActivity> {
        let path = scene.path(name);
        let is_it = |one: &&ObservedActivity| {
            one.event_type == EventType::FileAttribute
                && text(one, Field::FileOperation) == operation
                && text(one, Field::FilePath) == path
        };
        seen.iter().filter(is_it).collect()
    };
    let one = |operation: &str, name: &str| -> &ObservedActivity {
        let found = find(operation, name);
        assert_eq!(found.len(), 1, "{operation} of {name}: {found:?}");
        found[0]
    };
    assert_eq!(text(one("mode", "mode_path"), Field::FileMode), "4755");
    assert_eq!(text(one("mode", "mode_fd"), Field::FileMode), "0700");
    assert_eq!(text(one("mode", "mode_fd"), Field::FileOldMode), "0644");
    assert_eq!(text(one("owner", "owner_path"), Field::FileOwnerId), "1234");
    assert_eq!(value(one("owner", "owner_path"), Field::FileGroupId), None, "left as it was");
    assert_eq!(text(one("owner", "owner_fd"), Field::FileGroupId), "77");
    assert_eq!(text(one("owner", "owner_fd"), Field::FileOldOwner), "0:0");
    let time = |seconds: i64| Some(Value::Time(event_model::Timestamp::from_nanos(seconds * 1_000_000_000)));
    assert_eq!(value(one("times", "times_path"), Field::FileModified), time(1_000_000).as_ref());
    let stomped = one("times", "times_fd");
    assert_eq!(value(stomped, Field::FileModified), time(2_000_000).as_ref());
    assert_eq!(value(stomped, Field::FileOldModified), time(1_500_000).as_ref());
    let cut = one("truncate", "cut_fd");
    assert_eq!((number(cut, Field::FileOldSize), number(cut, Field::FileSize)), (5, 2));
    assert_eq!(number(one("truncate", "cut_path"), Field::FileSize), 1);
    let named = find("xattr", "named");
    let names: Vec<(&str, &str)> = named
        .iter()
        .map(|one| (text(one, Field::FileAttributeName), text(one, Field::EventAction)))
        .collect();
    assert_eq!(names, [("user.one", "set"), ("user.two", "set"), ("user.one", "remove")]);
}

#[test]
fn links_nodes_and_directories_are_told() {
    let Some((scene, seen)) = told("links") else { return };
    let operations: Vec<(EventType, &str, String)> = seen
        .iter()
        .filter(|one| matches!(one.event_type, EventType::FileLink | EventType::PipeCreate))
        .map(|one| match one.event_type {
            EventType::FileLink => {
                (one.event_type, text(one, Field::FileTargetPath), text(one, Field::FilePath).to_owned())
            }
            _ => (one.event_type, "", text(one, Field::PipeName).to_owned()),
        })
        .collect();
    let file = scene.path("file");
    assert_eq!(
        operations,
        [
            (EventType::FileLink, file.as_str(), scene.path("hard")),
            (EventType::FileLink, "../anywhere", scene.path("soft")),
            (EventType::PipeCreate, "", scene.path("pipe")),
        ]
    );
    let directories: Vec<(EventType, &str)> = seen
        .iter()
        .filter(|one| value(one, Field::FileObject).is_some())
        .map(|one| (one.event_type, text(one, Field::FileObject)))
        .collect();
    assert_eq!(
        directories,
        [(EventType::FileCreate, "directory"), (EventType::FileDelete, "directory")],
        "{seen:?}"
    );
}

#[test]
fn what_a_file_is_to_the_system_is_told() {
    let Some((scene, seen)) = told("histories") else { return };
    let mut histories: Vec<(EventType, &str)> = seen
        .iter()
        .filter(|one| text(one, Field::FilePath) == scene.path(".bash_history"))
        .map(|one| {
            assert_eq!(text(one, Field::FileObject), "shell_history");
            (one.event_type, text(one, Field::FileOperation))
        })
        .collect();
    // Cutting an empty file sets its time anew: a change where the clock has ticked since it was opened.
    if histories.get(2) == Some(&(EventType::FileModify, "truncate")) {
        histories.remove(2);
    }
    assert_eq!(
        histories,
        [
            (EventType::FileModify, "truncate"),
            (EventType::FileAttribute, "truncate"),
            (EventType::FileDelete, "delete")
        ]
    );
}

#[test]
fn devices_opened_past_the_file_system_are_told() {
    let Some(mut sensor) = ebpf(LinuxSensorOptions::default()) else { return };
    let scene = Scene::new("raw");
    let seen = scene.perform_at(&mut sensor, &["/dev/".to_owned(), "/proc/".to_owned(), scene.path("")]);
    check_needs(&seen);
    let raw: Vec<&str> = seen
        .iter()
        .filter(|one| one.event_type == EventType::RawAccessRead && text(one, Field::AccessMode) == "read")
        .map(|one| text(one, Field::FilePath))
        .collect();
    let opened = fs::read_to_string(scene.dir().join("opened")).unwrap();
    if opened.is_empty() {
        return println!("skipped: this host lets nobody open a block device or the kernel's memory");
    }
    for path in opened.lines() {
        assert!(raw.contains(&path), "{path} in {raw:?}");
    }
    assert!(!raw.contains(&"/dev/null"), "not every device is past the file system");
}

#[test]
fn the_sensors_own_acts_are_not_told() {
    let Some(mut sensor) = ebpf(LinuxSensorOptions::default()) else { return };
    let scene = Scene::new("a_life");
    fs::write(scene.dir().join("own"), "x").unwrap();
    fs::set_permissions(scene.dir().join("own"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::remove_file(scene.dir().join("own")).unwrap();
    let seen = scene.perform(&mut sensor);
    assert!(!seen.is_empty());
    assert!(seen.iter().all(|one| text(one, Field::FileName) != "own"), "{seen:?}");
}

/// Not a test by itself: what the process does that the tests start.
#[test]
fn deed() {
    deeds::perform_if_asked();
}
