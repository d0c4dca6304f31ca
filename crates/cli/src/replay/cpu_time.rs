//! CPU time of this process: on a busy machine the only fair measure of speed.

use std::time::Duration;

/// The kernel counts in hundredths of a second for everybody who reads /proc (USER_HZ).
const TICK: Duration = Duration::from_millis(10);

/// User and system time so far; `None` on systems without /proc.
pub(super) fn cpu_time() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The second field is the program's name and may hold anything, brackets too.
    let mut fields = text.get(text.rfind(')')? + 1..)?.split_ascii_whitespace();
    // utime and stime are fields 14 and 15; what is left begins with field 3.
    let user: u32 = fields.nth(11)?.parse().ok()?;
    let system: u32 = fields.next()?.parse().ok()?;
    TICK.checked_mul(user.checked_add(system)?)
}
