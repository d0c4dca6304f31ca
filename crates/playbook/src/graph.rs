//! The order of steps: who waits for whom, and whether that can end.

use crate::Step;

/// A circle of steps that wait for each other, if there is one: the ids in order, the first again at
/// the end.
pub(crate) fn circle(steps: &[Step]) -> Option<Vec<usize>> {
    // 0 not seen, 1 on the path, 2 done. The depth is bounded by the number of steps.
    let mut seen = vec![0_u8; steps.len()];
    let mut path = Vec::new();
    (0..steps.len()).find_map(|step| visit(steps, step, &mut seen, &mut path))
}

fn visit(steps: &[Step], step: usize, seen: &mut [u8], path: &mut Vec<usize>) -> Option<Vec<usize>> {
    match seen.get(step)? {
        1 => {
            let from = path.iter().position(|known| *known == step)?;
            let mut circle = path[from..].to_vec();
            circle.push(step);
            return Some(circle);
        }
        2 => return None,
        _ => {}
    }
    seen[step] = 1;
    path.push(step);
    for before in &steps[step].after {
        if let Some(circle) = visit(steps, *before, seen, path) {
            return Some(circle);
        }
    }
    path.pop();
    seen[step] = 2;
    None
}

/// All steps that end before this one begins.
pub(crate) fn all_before(steps: &[Step], step: usize) -> Vec<bool> {
    let mut before = vec![false; steps.len()];
    let mut open = vec![step];
    while let Some(place) = open.pop() {
        for other in steps.get(place).map_or(&[][..], |step| &step.after) {
            if let Some(seen) = before.get_mut(*other)
                && !*seen
            {
                *seen = true;
                open.push(*other);
            }
        }
    }
    before
}
