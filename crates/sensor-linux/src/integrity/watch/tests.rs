use event_model::Field;
use sensor_api::{Observation, ObservationQueue, observation_queue};

use super::*;

/// Scans until none is under way.
fn scan_all(watch: &mut Watch, sender: &ObservationSender) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while watch.scan(sender).is_some() {
        assert!(Instant::now() < deadline, "the scan ends");
        std::thread::yield_now();
    }
}

/// Types of the events, and how many losses.
fn taken(queue: &ObservationQueue) -> (Vec<EventType>, usize) {
    let (mut types, mut lost) = (Vec::new(), 0);
    queue.take(usize::MAX, &mut |observed| match observed.what {
        Observation::Activity(activity) => {
            assert!(activity.fields.iter().any(|(field, _)| *field == Field::FilePath));
            types.push(activity.event_type);
        }
        Observation::Lost(_) => lost += 1,
        _ => {}
    });
    (types, lost)
}

#[test]
fn an_overflow_is_told_and_costs_a_scan_that_finds_everything() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a"), "1").unwrap();
    let (sender, queue) = observation_queue(100);
    let dirs = [folder.path().to_owned()];
    let mut watch = Watch::new(&dirs, Duration::from_secs(3_600), None, None);
    scan_all(&mut watch, &sender);
    fs::write(folder.path().join("a"), "22").unwrap();
    fs::write(folder.path().join("b"), "1").unwrap();
    assert!(watch.scan(&sender).is_none(), "the next scan is far away");
    assert_eq!(taken(&queue), (vec![], 0));
    watch.take(Change::Overflow, Moment::now(), &sender);
    scan_all(&mut watch, &sender);
    let (mut types, lost) = taken(&queue);
    types.sort_by_key(|event_type| event_type.number());
    assert_eq!((types, lost), (vec![EventType::FileCreate, EventType::FileModify], 1));
}

/// Whoever fills the queue first does not hide what is done to a watched file after that.
#[test]
fn without_room_for_it_a_change_is_told_later_and_not_taken_for_known() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["a", "b"] {
        fs::write(folder.path().join(name), "1").unwrap();
    }
    let (sender, queue) = observation_queue(ROOM + 4);
    let dirs = [folder.path().to_owned()];
    let mut watch = Watch::new(&dirs, Duration::from_secs(3_600), None, None);
    scan_all(&mut watch, &sender);
    let (dir, _) = watch.tree.roots().next().unwrap();
    let flood = || {
        let fields = vec![(Field::FilePath, event_model::Value::Text("/flood".to_owned()))];
        let event_type = EventType::Mount;
        sender.send(1, sensor_api::ObservedActivity { event_type, actor: None, target: None, fields })
    };
    assert!((0..5).all(|_| flood()));
    fs::write(folder.path().join("a"), "22").unwrap();
    fs::remove_file(folder.path().join("b")).unwrap();
    for (name, what) in [
        (b"a".to_vec(), What { written: true, ..What::default() }),
        (b"b".to_vec(), What { removed: true, ..What::default() }),
    ] {
        watch.take(Change::Name { dir, name, what, pid: None }, Moment::now(), &sender);
    }
    watch.settle(&sender, true);
    watch.take(Change::Overflow, Moment::now(), &sender);
    assert!(watch.scan(&sender).is_some(), "the scan waits, too");
    assert_eq!(taken(&queue), (vec![EventType::Mount; 5], 1), "the overflow alone is a loss");
    watch.settle(&sender, true);
    let (mut types, lost) = taken(&queue);
    types.sort_by_key(|event_type| event_type.number());
    assert_eq!((types, lost), (vec![EventType::FileModify, EventType::FileDelete], 0));
    scan_all(&mut watch, &sender);
    assert_eq!(taken(&queue), (vec![], 0), "once");
}

#[test]
fn more_names_than_may_wait_are_scanned_instead() {
    let folder = tempfile::tempdir().unwrap();
    let (sender, queue) = observation_queue(100);
    let dirs = [folder.path().to_owned()];
    let mut watch = Watch::new(&dirs, Duration::from_secs(3_600), None, None);
    scan_all(&mut watch, &sender);
    fs::write(folder.path().join("real"), "1").unwrap();
    let (dir, _) = watch.tree.roots().next().unwrap();
    for number in 0..=MOST_WAITING {
        let (name, what) = (number.to_string().into_bytes(), What { written: true, ..What::default() });
        watch.take(Change::Name { dir, name, what, pid: None }, Moment::now(), &sender);
    }
    assert_eq!(watch.waiting.len(), MOST_WAITING);
    scan_all(&mut watch, &sender);
    assert_eq!(taken(&queue).0, [EventType::FileCreate]);
    watch.settle(&sender, true);
    assert_eq!(taken(&queue).0, [], "names at which nothing is");
}

#[test]
fn what_a_removed_directory_left_does_not_reach_the_next_one() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("old")).unwrap();
    let (sender, queue) = observation_queue(100);
    let dirs = [folder.path().to_owned()];
    let mut watch = Watch::new(&dirs, Duration::from_secs(3_600), None, None);
    scan_all(&mut watch, &sender);
    let (root, _) = watch.tree.roots().next().unwrap();
    let old = watch.tree.get(root, b"old").unwrap().dir.unwrap();
    let made = What { made: true, ..What::default() };
    watch.take(Change::Name { dir: old, name: b"x".to_vec(), what: made, pid: None }, Moment::now(), &sender);
    watch.forget(root, b"old");
    let state = State { inode: 1, ..look_at(folder.path()) };
    let new = watch.tree.put(root, b"new", state).unwrap();
    assert_eq!(new, old, "the id is given again");
    watch.settle(&sender, true);
    assert_eq!(taken(&queue), (vec![], 0));
}

fn look_at(path: &Path) -> State {
    let parent = fs::File::open(path.parent().unwrap()).unwrap();
    look(parent.as_fd(), path.file_name().unwrap().as_bytes(), None, false).unwrap().unwrap()
}
