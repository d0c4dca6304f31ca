//! Ending a process without taking the system down with it.
//!
//! Whoever may debug can mark his process or a thread of it as one that the system can't do without
//! (`RtlSetProcessIsCritical`): its end is a blue screen then. The mark is taken off before, and looked for again.

use std::io;
use std::os::windows::io::{AsRawHandle as _, FromRawHandle as _, OwnedHandle};

use windows_sys::Wdk::System::Threading::NtQueryInformationProcess;
use windows_sys::Win32::Foundation::{
    ERROR_ACCESS_DENIED, ERROR_INVALID_PARAMETER, HANDLE, INVALID_HANDLE_VALUE, NTSTATUS,
    STATUS_INVALID_INFO_CLASS, STATUS_NOT_IMPLEMENTED,
};
use windows_sys::Win32::System::Diagnostics::ToolHelp::{
    CreateToolhelp32Snapshot, TH32CS_SNAPTHREAD, THREADENTRY32, Thread32First, Thread32Next,
};
use windows_sys::Win32::System::Threading::{
    GetProcessId, GetProcessIdOfThread, OpenThread, PROCESS_QUERY_INFORMATION, PROCESS_SET_INFORMATION,
    PROCESS_SUSPEND_RESUME, THREAD_QUERY_INFORMATION, THREAD_SET_INFORMATION, TerminateProcess,
};

use crate::process::{Process, check_status};
use crate::{check, last_error};

/// Classes of information: `ProcessBreakOnTermination` and `ThreadBreakOnTermination`.
const PROCESS_CRITICAL: i32 = 29;
const THREAD_CRITICAL: i32 = 18;

/// Not in the metadata from which windows-sys is made, or with other names for their classes; exported since
/// Windows XP.
mod nt {
    use core::ffi::c_void;
    use windows_sys::Win32::Foundation::{HANDLE, NTSTATUS};

    windows_link::link!("ntdll.dll" "system" fn NtSetInformationProcess(process: HANDLE, class: i32, value: *const c_void, size: u32) -> NTSTATUS);
    windows_link::link!("ntdll.dll" "system" fn NtQueryInformationThread(thread: HANDLE, class: i32, value: *mut c_void, size: u32, length: *mut u32) -> NTSTATUS);
    windows_link::link!("ntdll.dll" "system" fn NtSetInformationThread(thread: HANDLE, class: i32, value: *const c_void, size: u32) -> NTSTATUS);
}

impl Process {
    /// Whether its end takes the system down, by its own mark. Marks of its threads are not looked for.
    ///
    /// # Errors
    /// The system does not say.
    pub fn is_critical(&self) -> io::Result<bool> {
        let asked = process_mark(self.raw());
        match &asked {
            // Before Windows 8.1 it takes more than a look.
            Err(error) if is(error, ERROR_ACCESS_DENIED) => {
                process_mark(self.opened_for(PROCESS_QUERY_INFORMATION)?.raw())
            }
            _ => asked,
        }
    }

    /// Ends it. Marks that would take the system down with it, its own and its threads', are taken off first, while
    /// it stands still; it is ended only if that can be read back. Whether it is a process that the system really
    /// can't do without is for the caller to ask.
    ///
    /// # Errors
    /// It has ended, may not be ended, or is marked and has to stay so: it goes on then.
    pub fn terminate(&self, code: u32) -> io::Result<()> {
        let threads = self.critical_threads()?;
        if threads.is_empty() && !self.is_critical()? {
            return self.terminate_now(code);
        }
        let marked = self.opened_for(PROCESS_QUERY_INFORMATION | PROCESS_SET_INFORMATION)?;
        let stopped = self.opened_for(PROCESS_SUSPEND_RESUME)?;
        // It could mark itself again in between.
        stopped.suspend()?;
        let ended = marked.take_marks_off().and_then(|()| self.terminate_now(code));
        if ended.is_err() {
            let _ = stopped.resume();
        }
        ended
    }

    fn terminate_now(&self, code: u32) -> io::Result<()> {
        // SAFETY: the handle is owned.
        check(unsafe { TerminateProcess(self.raw(), code) })
    }

    /// It stands still, so no thread begins in between.
    fn take_marks_off(&self) -> io::Result<()> {
        let off = 0_u32;
        if process_mark(self.raw())? {
            // SAFETY: the handle is owned, the value is live and has four bytes.
            let status = unsafe {
                nt::NtSetInformationProcess(self.raw(), PROCESS_CRITICAL, (&raw const off).cast(), 4)
            };
            check_status(status)?;
        }
        for thread in self.critical_threads()? {
            // SAFETY: the handle is owned, the value is live and has four bytes.
            let status = unsafe {
                nt::NtSetInformationThread(
                    thread.as_raw_handle(),
                    THREAD_CRITICAL,
                    (&raw const off).cast(),
                    4,
                )
            };
            check_status(status)?;
        }
        if process_mark(self.raw())? || !self.critical_threads()?.is_empty() {
            return Err(io::Error::other(
                "its end would take the system down, and its mark can't be taken off",
            ));
        }
        Ok(())
    }

    /// Its threads that are marked, held.
    fn critical_threads(&self) -> io::Result<Vec<OwnedHandle>> {
        // SAFETY: the handle is owned.
        let pid = unsafe { GetProcessId(self.raw()) };
        let mut marked = Vec::new();
        for thread in threads_of(pid)? {
            let Some(thread) = open_thread(thread, pid)? else { continue };
            if thread_mark(thread.as_raw_handle())? {
                marked.push(thread);
            }
        }
        Ok(marked)
    }
}

fn threads_of(pid: u32) -> io::Result<Vec<u32>> {
    // SAFETY: no pointers are given.
    let snapshot = unsafe { CreateToolhelp32Snapshot(TH32CS_SNAPTHREAD, 0) };
    if snapshot == INVALID_HANDLE_VALUE {
        return Err(last_error());
    }
    // SAFETY: the handle is new and nobody else's.
    let snapshot = unsafe { OwnedHandle::from_raw_handle(snapshot) };
    // SAFETY: a structure of numbers, for which zero is good.
    let mut entry: THREADENTRY32 = unsafe { std::mem::zeroed() };
    entry.dwSize = u32::try_from(size_of::<THREADENTRY32>()).unwrap_or(0);
    let mut threads = Vec::new();
    // SAFETY: `entry` is live and says its own size.
    let mut more = unsafe { Thread32First(snapshot.as_raw_handle(), &raw mut entry) };
    while more != 0 {
        if entry.th32OwnerProcessID == pid {
            threads.push(entry.th32ThreadID);
        }
        // SAFETY: as above.
        more = unsafe { Thread32Next(snapshot.as_raw_handle(), &raw mut entry) };
    }
    Ok(threads)
}

/// `None` if it has ended, also where its number is another process's thread by now.
fn open_thread(thread: u32, pid: u32) -> io::Result<Option<OwnedHandle>> {
    let open = |access| {
        // SAFETY: no pointers are given.
        let handle = unsafe { OpenThread(access, 0, thread) };
        // SAFETY: the handle is new and nobody else's.
        (!handle.is_null()).then(|| unsafe { OwnedHandle::from_raw_handle(handle) })
    };
    let Some(opened) =
        open(THREAD_QUERY_INFORMATION | THREAD_SET_INFORMATION).or_else(|| open(THREAD_QUERY_INFORMATION))
    else {
        let error = last_error();
        return if is(&error, ERROR_INVALID_PARAMETER) { Ok(None) } else { Err(error) };
    };
    // SAFETY: the handle is owned.
    let owner = unsafe { GetProcessIdOfThread(opened.as_raw_handle()) };
    Ok((owner == pid).then_some(opened))
}

fn process_mark(process: HANDLE) -> io::Result<bool> {
    let (mut marked, mut length) = (0_u32, 0);
    // SAFETY: the handle is open for the call, `marked` is live and has four bytes.
    let status = unsafe {
        NtQueryInformationProcess(process, PROCESS_CRITICAL, (&raw mut marked).cast(), 4, &raw mut length)
    };
    answer(status, marked)
}

fn thread_mark(thread: HANDLE) -> io::Result<bool> {
    let (mut marked, mut length) = (0_u32, 0);
    // SAFETY: the handle is open for the call, `marked` is live and has four bytes.
    let status = unsafe {
        nt::NtQueryInformationThread(thread, THREAD_CRITICAL, (&raw mut marked).cast(), 4, &raw mut length)
    };
    answer(status, marked)
}

/// A system that has no such question (Wine) has no such mark.
fn answer(status: NTSTATUS, marked: u32) -> io::Result<bool> {
    match status {
        STATUS_INVALID_INFO_CLASS | STATUS_NOT_IMPLEMENTED => Ok(false),
        status => check_status(status).map(|()| marked != 0),
    }
}

fn is(error: &io::Error, code: u32) -> bool {
    error.raw_os_error() == Some(code.cast_signed())
}

#[cfg(test)]
mod tests {
    use super::*;
    use windows_sys::Win32::Foundation::STATUS_ACCESS_DENIED;

    #[test]
    fn what_is_not_known_is_not_taken_for_harmless() {
        assert!(answer(0, 1).unwrap());
        assert!(!answer(0, 0).unwrap());
        assert!(!answer(STATUS_INVALID_INFO_CLASS, 1).unwrap());
        assert!(answer(STATUS_ACCESS_DENIED, 0).is_err());
    }
}
