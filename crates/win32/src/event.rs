//! Events that the system sets, and waiting for them.

use std::io;
use std::os::windows::io::{AsRawHandle, FromRawHandle, OwnedHandle};
use std::time::Duration;

use windows_sys::Win32::Foundation::{HANDLE, WAIT_OBJECT_0, WAIT_TIMEOUT};
use windows_sys::Win32::System::Threading::{
    CreateEventW, INFINITE, ResetEvent, SetEvent, WaitForMultipleObjects, WaitForSingleObject,
};

use crate::last_error;

/// So many can be waited for at once (`MAXIMUM_WAIT_OBJECTS`).
pub const MOST_WAITED: usize = 64;

/// An event that stays set until it is reset.
#[derive(Debug)]
pub struct Event(OwnedHandle);

impl Event {
    /// A new one, not set.
    ///
    /// # Errors
    /// The system refuses a handle.
    pub fn new() -> io::Result<Self> {
        // SAFETY: no attributes and no name are asked for.
        let handle = unsafe { CreateEventW(std::ptr::null(), 1, 0, std::ptr::null()) };
        if handle.is_null() {
            return Err(last_error());
        }
        // SAFETY: the handle is new and nobody else's.
        Ok(Self(unsafe { OwnedHandle::from_raw_handle(handle) }))
    }

    /// Whether it is set.
    pub fn is_set(&self) -> bool {
        self.wait(Duration::ZERO)
    }

    /// Waits; true if it is set.
    pub fn wait(&self, limit: Duration) -> bool {
        // SAFETY: the handle is owned.
        unsafe { WaitForSingleObject(self.raw(), millis(limit)) == WAIT_OBJECT_0 }
    }

    /// Sets it.
    pub fn set(&self) {
        // SAFETY: the handle is owned.
        unsafe { SetEvent(self.raw()) };
    }

    /// It is not set any more.
    pub fn reset(&self) {
        // SAFETY: the handle is owned.
        unsafe { ResetEvent(self.raw()) };
    }

    pub(crate) fn raw(&self) -> HANDLE {
        self.0.as_raw_handle()
    }
}

/// Waits until one of the first [`MOST_WAITED`] is set, or for `limit`; the first that is.
///
/// # Errors
/// The system refuses to wait.
pub fn wait_any(events: &[&Event], limit: Duration) -> io::Result<Option<usize>> {
    let handles: Vec<HANDLE> = events.iter().take(MOST_WAITED).map(|event| event.raw()).collect();
    let count = u32::try_from(handles.len()).unwrap_or(0);
    // SAFETY: the handles are owned by what is borrowed for the call.
    let result = unsafe { WaitForMultipleObjects(count, handles.as_ptr(), 0, millis(limit)) };
    match result {
        WAIT_TIMEOUT => Ok(None),
        set if set < WAIT_OBJECT_0 + count => Ok(Some((set - WAIT_OBJECT_0) as usize)),
        _ => Err(last_error()),
    }
}

pub(crate) fn millis(limit: Duration) -> u32 {
    // Rounded up: half a millisecond is not no wait.
    u32::try_from(limit.as_micros().div_ceil(1_000)).unwrap_or(INFINITE - 1).min(INFINITE - 1)
}
