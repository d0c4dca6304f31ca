//! The processes that are there already.

use std::collections::HashSet;
use std::io::{self, Read};

use sensor_api::{Observation, Observed, ProcessKey};

use super::now_ns;
use crate::record::{forked_process, u32_at, u64_at};
use crate::ring::{Next, RingReader};
use crate::{procfs, standing};

/// As `struct task_record` of `bpf/record.h`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Task {
    process: ProcessKey,
    parent: ProcessKey,
}

const TASK_SIZE: usize = 56;
const KERNEL_THREAD: usize = 24;
const NAMESPACES: usize = 28;

/// All processes as the iterator lists them; it also enters them into the clock.
pub(super) fn read_tasks(mut iterator: impl Read) -> io::Result<Vec<Task>> {
    let mut bytes = Vec::new();
    iterator.read_to_end(&mut bytes)?;
    let task = |bytes: &[u8]| {
        Some(Task {
            process: ProcessKey { pid: u32_at(bytes, 0).ok()?, start_ns: u64_at(bytes, 8).ok()? },
            parent: ProcessKey { pid: u32_at(bytes, 4).ok()?, start_ns: u64_at(bytes, 16).ok()? },
        })
    };
    let tasks = || bytes.chunks_exact(TASK_SIZE);
    if let Some(kernel) = tasks().find(|task| u32_at(task, KERNEL_THREAD).is_ok_and(|is_one| is_one != 0)) {
        let inode = |index| u32_at(kernel, NAMESPACES + 4 * index).unwrap_or(0);
        standing::host_namespaces_are(std::array::from_fn(inode));
    }
    Ok(tasks().filter_map(task).collect())
}

/// The processes whose forks lie in the ring and are not read yet.
pub(super) fn forks_to_come(ring: &mut RingReader) -> HashSet<ProcessKey> {
    let read_to = ring.read_to();
    let mut forks = HashSet::new();
    while let Next::Record(bytes, _) = ring.next() {
        forks.extend(forked_process(bytes));
    }
    ring.skip_to(read_to);
    forks
}

/// The other processes with their facts from /proc; with the starts that /proc
/// shows where there is no list.
pub(super) fn existing(tasks: Option<&[Task]>, forks_to_come: &HashSet<ProcessKey>) -> Vec<Observed> {
    let images: Vec<_> = match tasks {
        Some(tasks) => tasks
            .iter()
            .filter(|task| !forks_to_come.contains(&task.process))
            .filter_map(|task| procfs::image_of(task.process, task.parent))
            .collect(),
        None => procfs::pids().unwrap_or_default().into_iter().filter_map(procfs::image).collect(),
    };
    let at_ns = now_ns();
    images
        .into_iter()
        .map(|image| Observed { at_ns, position: None, what: Observation::ProcessExisting(Box::new(image)) })
        .collect()
}
