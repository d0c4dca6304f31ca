//! Two clocks: one that only goes forward and orders what is seen, and the wall clock, in which
//! Windows says when a process began.

use std::io;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use windows_sys::Win32::Foundation::FILETIME;
use windows_sys::Win32::System::Performance::{QueryPerformanceCounter, QueryPerformanceFrequency};
use windows_sys::Win32::System::SystemInformation::GetSystemTimePreciseAsFileTime;
use windows_sys::Win32::System::Threading::{
    GetCurrentProcess, GetCurrentThread, GetProcessTimes, GetThreadTimes,
};

use crate::{check, registry};

/// 1970 in the counting of Windows: units of 100 ns since 1601.
const UNIX_EPOCH: u64 = 116_444_736_000_000_000;

/// Where it is kept what is true for one boot: a volatile key is gone after it.
const BOOT_KEY: &str = r"HKLM\SOFTWARE\Rampart\Boot";
const BOOT_PARENT: &str = r"HKLM\SOFTWARE\Rampart";
const BOOT_VALUE: &str = "Boot";

/// What is true for one boot of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Boot {
    /// Drawn by the first agent that ran in this boot.
    pub id: u128,
    /// The wall clock, in units of 100 ns since 1601, at zero of [`boot_ns`], as it was measured then.
    /// Fixed, so that the start of a process is the same number in every agent of this boot.
    zero: u64,
}

/// The boot, read once.
static BOOT: OnceLock<Boot> = OnceLock::new();

/// Now, in nanoseconds on the counter that never steps and goes on while the host sleeps
/// (QueryPerformanceCounter).
pub fn boot_ns() -> u64 {
    static FREQUENCY: OnceLock<u64> = OnceLock::new();
    let frequency = *FREQUENCY.get_or_init(|| {
        let mut frequency = 0_i64;
        // SAFETY: the pointer is to a live i64. The call can't fail since Windows XP.
        unsafe { QueryPerformanceFrequency(&raw mut frequency) };
        u64::try_from(frequency).unwrap_or(1).max(1)
    });
    let mut ticks = 0_i64;
    // SAFETY: the pointer is to a live i64.
    unsafe { QueryPerformanceCounter(&raw mut ticks) };
    let ticks = u64::try_from(ticks).unwrap_or(0);
    let (seconds, rest) = (ticks / frequency, ticks % frequency);
    seconds.saturating_mul(1_000_000_000).saturating_add(rest * 1_000_000_000 / frequency)
}

/// Now, in units of 100 ns since 1601.
pub fn file_time() -> u64 {
    let mut time = FILETIME { dwLowDateTime: 0, dwHighDateTime: 0 };
    // SAFETY: the pointer is to a live FILETIME.
    unsafe { GetSystemTimePreciseAsFileTime(&raw mut time) };
    joined(time)
}

/// Now, in nanoseconds since 1970.
pub fn wall_ns() -> i64 {
    unix_ns(file_time())
}

/// Nanoseconds since 1970 of a time in units of 100 ns since 1601.
pub fn unix_ns(file_time: u64) -> i64 {
    let units = i128::from(file_time) - i128::from(UNIX_EPOCH);
    i64::try_from(units * 100).unwrap_or(if units < 0 { i64::MIN } else { i64::MAX })
}

/// The start of a process on the scale of [`boot_ns`], exact and the same for all who ask in this boot.
/// The clock may have been set since: the scale is that of the first measurement.
pub fn since_boot_ns(file_time: u64) -> u64 {
    let zero = BOOT.get().map_or_else(measured_zero, |boot| boot.zero);
    file_time.saturating_sub(zero).saturating_mul(100)
}

/// The boot; `new_id` is its id if nobody asked before in this boot.
///
/// # Errors
/// The registry can't be written: it takes an administrator.
pub fn boot(new_id: impl FnOnce() -> u128) -> io::Result<Boot> {
    if let Some(boot) = BOOT.get() {
        return Ok(*boot);
    }
    registry::Key::create(BOOT_PARENT)?;
    let key = registry::Key::create_volatile(BOOT_KEY)?;
    let read = |key: &registry::Key| {
        let bytes = key.value(BOOT_VALUE).ok()?.data;
        let id = u128::from_le_bytes(bytes.get(..16)?.try_into().ok()?);
        let zero = u64::from_le_bytes(bytes.get(16..24)?.try_into().ok()?);
        Some(Boot { id, zero })
    };
    let boot = match read(&key) {
        Some(boot) => boot,
        None => {
            let new = Boot { id: new_id(), zero: measured_zero() };
            let mut bytes = new.id.to_le_bytes().to_vec();
            bytes.extend_from_slice(&new.zero.to_le_bytes());
            key.set(BOOT_VALUE, registry::BINARY, &bytes)?;
            // Another agent may have written in between; all go by what stands there.
            read(&key).unwrap_or(new)
        }
    };
    Ok(*BOOT.get_or_init(|| boot))
}

fn measured_zero() -> u64 {
    file_time().saturating_sub(boot_ns() / 100)
}

/// CPU time of this process.
pub fn process_cpu() -> Duration {
    let mut times = [FILETIME { dwLowDateTime: 0, dwHighDateTime: 0 }; 4];
    let [created, ended, kernel, user] = &mut times;
    // SAFETY: the pseudo handle of this process is always good, the pointers are to live values.
    let got = unsafe { GetProcessTimes(GetCurrentProcess(), created, ended, kernel, user) };
    cpu(check(got).is_ok(), times)
}

/// CPU time of this thread.
pub fn thread_cpu() -> Duration {
    let mut times = [FILETIME { dwLowDateTime: 0, dwHighDateTime: 0 }; 4];
    let [created, ended, kernel, user] = &mut times;
    // SAFETY: the pseudo handle of this thread is always good, the pointers are to live values.
    let got = unsafe { GetThreadTimes(GetCurrentThread(), created, ended, kernel, user) };
    cpu(check(got).is_ok(), times)
}

fn cpu(known: bool, [_, _, kernel, user]: [FILETIME; 4]) -> Duration {
    if known { Duration::from_nanos((joined(kernel) + joined(user)) * 100) } else { Duration::ZERO }
}

pub(crate) fn joined(time: FILETIME) -> u64 {
    u64::from(time.dwHighDateTime) << 32 | u64::from(time.dwLowDateTime)
}

/// What a piece of work of this thread costs.
#[derive(Debug)]
pub struct Effort {
    begun: Instant,
    cpu: Duration,
}

impl Effort {
    /// The work begins.
    pub fn begin() -> Self {
        Self { begun: Instant::now(), cpu: thread_cpu() }
    }

    /// What it cost so far: the thread's CPU time, which the system counts in steps of 16 ms, and not more than the time
    /// that went by. On a host that is busy with other things that time says nothing.
    pub fn elapsed(&self) -> Duration {
        thread_cpu().saturating_sub(self.cpu).min(self.begun.elapsed())
    }
}
