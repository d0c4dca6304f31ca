//! What this process may do that others may not.

use std::io;
use std::os::windows::io::{AsRawHandle as _, FromRawHandle as _, OwnedHandle};
use std::ptr::{null, null_mut};

use windows_sys::Win32::Foundation::{ERROR_NOT_ALL_ASSIGNED, LUID};
use windows_sys::Win32::Security::{
    AdjustTokenPrivileges, LUID_AND_ATTRIBUTES, LookupPrivilegeValueW, SE_DEBUG_NAME, SE_PRIVILEGE_ENABLED,
    TOKEN_ADJUST_PRIVILEGES, TOKEN_PRIVILEGES,
};
use windows_sys::Win32::System::Threading::{GetCurrentProcess, OpenProcessToken};

use crate::{check, last_error};

/// Lets this process open others that belong to other users, or to the system itself, where its account may do so.
///
/// # Errors
/// The account may not (`ERROR_NOT_ALL_ASSIGNED`), or the system refuses.
pub fn enable_debug_privilege() -> io::Result<()> {
    let mut token = null_mut();
    // SAFETY: the pseudo handle is always good, `token` is live.
    check(unsafe { OpenProcessToken(GetCurrentProcess(), TOKEN_ADJUST_PRIVILEGES, &raw mut token) })?;
    // SAFETY: the handle is new and nobody else's.
    let token = unsafe { OwnedHandle::from_raw_handle(token) };
    let mut id = LUID::default();
    // SAFETY: null is this machine, the name ends in a zero, `id` is live.
    check(unsafe { LookupPrivilegeValueW(null(), SE_DEBUG_NAME, &raw mut id) })?;
    let privileges = TOKEN_PRIVILEGES {
        PrivilegeCount: 1,
        Privileges: [LUID_AND_ATTRIBUTES { Luid: id, Attributes: SE_PRIVILEGE_ENABLED }],
    };
    // SAFETY: the structure is live and has as many as it says; what was before is not asked for.
    check(unsafe {
        AdjustTokenPrivileges(token.as_raw_handle(), 0, &raw const privileges, 0, null_mut(), null_mut())
    })?;
    // Success is also said where the account has no such privilege.
    match last_error() {
        error if error.raw_os_error() == Some(ERROR_NOT_ALL_ASSIGNED.cast_signed()) => Err(error),
        _ => Ok(()),
    }
}
