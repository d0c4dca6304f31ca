//! Processes: who is there, what they are, and acting on one that is held by its handle.

use std::collections::HashMap;
use std::io;
use std::os::windows::io::{AsRawHandle, FromRawHandle, OwnedHandle};
use std::process::Child;
use std::sync::Arc;
use std::time::Duration;

use windows_sys::Wdk::System::Threading::NtQueryInformationProcess;
use windows_sys::Win32::Foundation::{
    ERROR_BAD_LENGTH, ERROR_NO_MORE_FILES, FILETIME, HANDLE, INVALID_HANDLE_VALUE, NTSTATUS,
    RtlNtStatusToDosError, UNICODE_STRING, WAIT_OBJECT_0,
};
use windows_sys::Win32::System::Diagnostics::Debug::ReadProcessMemory;
use windows_sys::Win32::System::Diagnostics::ToolHelp::{
    CreateToolhelp32Snapshot, MODULEENTRY32W, Module32FirstW, Module32NextW, PROCESSENTRY32W,
    Process32FirstW, Process32NextW, TH32CS_SNAPMODULE, TH32CS_SNAPMODULE32, TH32CS_SNAPPROCESS,
};
use windows_sys::Win32::System::ProcessStatus::{K32GetProcessMemoryInfo, PROCESS_MEMORY_COUNTERS};
use windows_sys::Win32::System::RemoteDesktop::ProcessIdToSessionId;
use windows_sys::Win32::System::Threading::{
    GetCurrentProcess, GetExitCodeProcess, GetProcessId, GetProcessTimes, OpenProcess,
    PROCESS_QUERY_INFORMATION, PROCESS_QUERY_LIMITED_INFORMATION, PROCESS_SUSPEND_RESUME,
    PROCESS_SYNCHRONIZE, PROCESS_TERMINATE, PROCESS_VM_READ, QueryFullProcessImageNameW, WaitForSingleObject,
};

use crate::clock::joined;
use crate::event::millis;
use crate::text::{shown, until_zero};
use crate::user::{self, User};
use crate::{check, last_error};

/// Longest command line of Windows, in bytes, with the header that the system puts before it.
const MOST_COMMAND_LINE: usize = 65_536 + 64;

/// Questions of NtQueryInformationProcess: `ProcessBasicInformation` and `ProcessCommandLineInformation`.
const BASIC: i32 = 0;
const COMMAND_LINE: i32 = 60;

/// Where a 64-bit process has its command line: `PEB.ProcessParameters`, and `CommandLine` in that. Both have
/// stood there since Windows Vista.
const PARAMETERS_IN_PEB: usize = 0x20;
const COMMAND_LINE_IN_PARAMETERS: usize = 0x70;

/// Not in the metadata from which windows-sys is made, but exported since Windows XP.
mod nt {
    use windows_sys::Win32::Foundation::{HANDLE, NTSTATUS};

    windows_link::link!("ntdll.dll" "system" fn NtSuspendProcess(process: HANDLE) -> NTSTATUS);
    windows_link::link!("ntdll.dll" "system" fn NtResumeProcess(process: HANDLE) -> NTSTATUS);
}

/// A process in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// PID.
    pub pid: u32,
    /// PID that its parent had; may be another's by now.
    pub parent_pid: u32,
    /// Name of its image.
    pub name: String,
    /// Threads.
    pub threads: u32,
}

/// Who is there now, parents before their children: whoever meets them in this order knows the parents.
///
/// # Errors
/// The system has no memory for the list.
pub fn list() -> io::Result<Vec<Listed>> {
    // SAFETY: no pointers are given.
    let snapshot = unsafe { CreateToolhelp32Snapshot(TH32CS_SNAPPROCESS, 0) };
    if snapshot == INVALID_HANDLE_VALUE {
        return Err(last_error());
    }
    // SAFETY: the handle is new and nobody else's.
    let snapshot = unsafe { OwnedHandle::from_raw_handle(snapshot) };
    // SAFETY: a structure of numbers, for which zero is good.
    let mut entry: PROCESSENTRY32W = unsafe { std::mem::zeroed() };
    entry.dwSize = u32::try_from(size_of::<PROCESSENTRY32W>()).unwrap_or(0);
    let mut listed = Vec::new();
    // SAFETY: `entry` is live and says its own size.
    let mut more = unsafe { Process32FirstW(snapshot.as_raw_handle(), &raw mut entry) };
    while more != 0 {
        listed.push(Listed {
            pid: entry.th32ProcessID,
            parent_pid: entry.th32ParentProcessID,
            name: shown(until_zero(&entry.szExeFile)),
            threads: entry.cntThreads,
        });
        // SAFETY: as above.
        more = unsafe { Process32NextW(snapshot.as_raw_handle(), &raw mut entry) };
    }
    let error = last_error();
    match error.raw_os_error().map(i32::cast_unsigned) {
        Some(ERROR_NO_MORE_FILES | 0) => Ok(parents_first(listed)),
        _ if !listed.is_empty() => Ok(parents_first(listed)),
        _ => Err(error),
    }
}

/// PIDs that were given again may make circles, which are cut where they are met.
fn parents_first(listed: Vec<Listed>) -> Vec<Listed> {
    let places: HashMap<u32, usize> = listed.iter().enumerate().map(|(at, one)| (one.pid, at)).collect();
    let mut left: Vec<Option<Listed>> = listed.into_iter().map(Some).collect();
    let mut ordered = Vec::with_capacity(left.len());
    for at in 0..left.len() {
        let mut chain = Vec::new();
        let mut next = Some(at);
        while let Some(one) = next.and_then(|at| left.get_mut(at)?.take()) {
            next = places.get(&one.parent_pid).copied();
            chain.push(one);
        }
        ordered.extend(chain.into_iter().rev());
    }
    ordered
}

/// Paths of the libraries that a process has loaded, its image first; of a 32-bit process also those. At most some
/// thousands.
///
/// # Errors
/// There is no such process, it may not be read, or it is just beginning and keeps changing its list.
pub fn modules(pid: u32) -> io::Result<Vec<String>> {
    const MOST: usize = 4_096;
    let snapshot = modules_snapshot(pid)?;
    // SAFETY: a structure of numbers and pointers, for which zero is good.
    let mut entry: MODULEENTRY32W = unsafe { std::mem::zeroed() };
    entry.dwSize = u32::try_from(size_of::<MODULEENTRY32W>()).unwrap_or(0);
    let mut modules = Vec::new();
    // SAFETY: `entry` is live and says its own size.
    let mut more = unsafe { Module32FirstW(snapshot.as_raw_handle(), &raw mut entry) };
    while more != 0 && modules.len() < MOST {
        modules.push(shown(until_zero(&entry.szExePath)));
        // SAFETY: as above.
        more = unsafe { Module32NextW(snapshot.as_raw_handle(), &raw mut entry) };
    }
    Ok(modules)
}

/// The documentation says to ask again at `ERROR_BAD_LENGTH`, which comes while the process loads libraries. It
/// does not say how often.
fn modules_snapshot(pid: u32) -> io::Result<OwnedHandle> {
    const TRIES: usize = 16;
    let mut left = TRIES;
    loop {
        // SAFETY: no pointers are given.
        let snapshot = unsafe { CreateToolhelp32Snapshot(TH32CS_SNAPMODULE | TH32CS_SNAPMODULE32, pid) };
        if snapshot != INVALID_HANDLE_VALUE {
            // SAFETY: the handle is new and nobody else's.
            return Ok(unsafe { OwnedHandle::from_raw_handle(snapshot) });
        }
        let error = last_error();
        left -= 1;
        if left == 0 || error.raw_os_error() != Some(ERROR_BAD_LENGTH.cast_signed()) {
            return Err(error);
        }
    }
}

/// What is to be done with a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// Looking.
    Look,
    /// Looking, and ending it.
    Terminate,
    /// Looking, and stopping it where it stands, or letting it go on.
    Suspend,
}

/// A process that is held: as long as it is, its PID is nobody else's.
#[derive(Debug)]
pub struct Process(OwnedHandle);

impl Process {
    /// The one that has this PID now.
    ///
    /// # Errors
    /// There is none, or it may not be opened.
    pub fn open(pid: u32, wanted: Wanted) -> io::Result<Self> {
        let access = PROCESS_QUERY_LIMITED_INFORMATION
            | PROCESS_SYNCHRONIZE
            | match wanted {
                Wanted::Look => 0,
                Wanted::Terminate => PROCESS_TERMINATE,
                Wanted::Suspend => PROCESS_SUSPEND_RESUME,
            };
        // SAFETY: no pointers are given.
        let handle = unsafe { OpenProcess(access, 0, pid) };
        if handle.is_null() {
            return Err(last_error());
        }
        // SAFETY: the handle is new and nobody else's.
        Ok(Self(unsafe { OwnedHandle::from_raw_handle(handle) }))
    }

    /// When it was created, and when it ended (0 while it lives), in units of 100 ns since 1601.
    ///
    /// # Errors
    /// The system does not say.
    pub fn times(&self) -> io::Result<(u64, u64)> {
        let mut times = [FILETIME { dwLowDateTime: 0, dwHighDateTime: 0 }; 4];
        let [created, ended, kernel, user] = &mut times;
        // SAFETY: the handle is owned, the pointers are to live values.
        check(unsafe { GetProcessTimes(self.raw(), created, ended, kernel, user) })?;
        let [created, ended, ..] = times;
        Ok((joined(created), joined(ended)))
    }

    /// Whether it has ended.
    pub fn has_ended(&self) -> bool {
        self.ends_within(Duration::ZERO)
    }

    /// Waits for its end; true if it has ended.
    pub fn ends_within(&self, limit: Duration) -> bool {
        // SAFETY: the handle is owned.
        unsafe { WaitForSingleObject(self.raw(), millis(limit)) == WAIT_OBJECT_0 }
    }

    /// Its exit code; of no meaning while it lives.
    ///
    /// # Errors
    /// The system does not say.
    pub fn exit_code(&self) -> io::Result<u32> {
        let mut code = 0;
        // SAFETY: the handle is owned, `code` is live.
        check(unsafe { GetExitCodeProcess(self.raw(), &raw mut code) }).map(|()| code)
    }

    /// Path of its image, as `C:\…`.
    ///
    /// # Errors
    /// It has none (`System`), or has ended.
    pub fn image_path(&self) -> io::Result<String> {
        let mut path = vec![0_u16; 32_768];
        let mut length = 32_768_u32;
        // SAFETY: `length` is what `path` has room for.
        check(unsafe { QueryFullProcessImageNameW(self.raw(), 0, path.as_mut_ptr(), &raw mut length) })?;
        Ok(shown(&path[..length as usize]))
    }

    /// Its command line, as it was given.
    ///
    /// # Errors
    /// It has none, or has ended.
    pub fn command_line(&self) -> io::Result<String> {
        // Aligned as the structure at its beginning asks.
        let mut buffer = vec![0_u64; MOST_COMMAND_LINE / 8];
        let room = u32::try_from(buffer.len() * 8).unwrap_or(0);
        let mut length = 0;
        // SAFETY: `room` is that of the buffer.
        let status = unsafe {
            NtQueryInformationProcess(
                self.raw(),
                COMMAND_LINE,
                buffer.as_mut_ptr().cast(),
                room,
                &raw mut length,
            )
        };
        if status < 0 {
            // Before Windows 8.1 there is no such question.
            return self.command_line_in_memory();
        }
        // SAFETY: the system filled in a UNICODE_STRING at the beginning.
        let text = unsafe { *buffer.as_ptr().cast::<UNICODE_STRING>() };
        let (start, end) = (buffer.as_ptr() as usize, buffer.as_ptr() as usize + buffer.len() * 8);
        let at = text.Buffer as usize;
        let units = usize::from(text.Length) / 2;
        if text.Buffer.is_null() || units == 0 {
            return Ok(String::new());
        }
        if at < start || at + units * 2 > end || !at.is_multiple_of(2) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        // SAFETY: it was just checked that it lies in the buffer, whole and aligned.
        Ok(shown(unsafe { std::slice::from_raw_parts(text.Buffer, units) }))
    }

    /// The command line from where the process itself finds it. It may have written there; what it writes
    /// is text, and bounded.
    fn command_line_in_memory(&self) -> io::Result<String> {
        let process = self.opened_for(PROCESS_QUERY_INFORMATION | PROCESS_VM_READ)?;
        // PROCESS_BASIC_INFORMATION: six words, the second is the address of the PEB.
        let mut basic = [0_usize; 6];
        let mut length = 0;
        let room = u32::try_from(size_of_val(&basic)).unwrap_or(0);
        // SAFETY: `room` is that of the buffer.
        let status = unsafe {
            NtQueryInformationProcess(process.raw(), BASIC, basic.as_mut_ptr().cast(), room, &raw mut length)
        };
        check_status(status)?;
        let mut parameters = [0_u8; 8];
        process.read_memory(basic[1].wrapping_add(PARAMETERS_IN_PEB), &mut parameters)?;
        let mut text = [0_u8; 16];
        let at = usize::from_le_bytes(parameters).wrapping_add(COMMAND_LINE_IN_PARAMETERS);
        process.read_memory(at, &mut text)?;
        let (head, pointer) = text.split_at(8);
        let bytes = usize::from(u16::from_le_bytes([head[0], head[1]]));
        let pointer = usize::from_le_bytes(pointer.try_into().unwrap_or_default());
        let mut line = vec![0_u8; bytes & !1];
        process.read_memory(pointer, &mut line)?;
        let units: Vec<u16> =
            line.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])).collect();
        Ok(shown(&units))
    }

    /// The same process with other rights: it is held, so its PID is still its own.
    pub(crate) fn opened_for(&self, access: u32) -> io::Result<Self> {
        // SAFETY: the handle is owned; no pointers are given.
        let handle = unsafe { OpenProcess(access, 0, GetProcessId(self.raw())) };
        if handle.is_null() {
            return Err(last_error());
        }
        // SAFETY: the handle is new and nobody else's.
        Ok(Self(unsafe { OwnedHandle::from_raw_handle(handle) }))
    }

    fn read_memory(&self, at: usize, to: &mut [u8]) -> io::Result<()> {
        let mut read = 0;
        // SAFETY: the length is that of `to`; the address is the other process's and checked by the system.
        check(unsafe {
            ReadProcessMemory(self.raw(), at as *const _, to.as_mut_ptr().cast(), to.len(), &raw mut read)
        })?;
        if read == to.len() { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    /// Whom it runs as.
    ///
    /// # Errors
    /// Its token may not be read.
    pub fn user(&self) -> io::Result<Arc<User>> {
        user::of_process(self.raw())
    }

    /// Stops all its threads where they stand.
    ///
    /// # Errors
    /// It may not be stopped.
    pub fn suspend(&self) -> io::Result<()> {
        // SAFETY: the handle is owned.
        check_status(unsafe { nt::NtSuspendProcess(self.raw()) })
    }

    /// Lets its threads go on.
    ///
    /// # Errors
    /// It may not be resumed.
    pub fn resume(&self) -> io::Result<()> {
        // SAFETY: the handle is owned.
        check_status(unsafe { nt::NtResumeProcess(self.raw()) })
    }

    pub(crate) fn raw(&self) -> HANDLE {
        self.0.as_raw_handle()
    }
}

/// Waits for the end of a child; true if it has ended.
pub fn child_ends_within(child: &Child, limit: Duration) -> bool {
    // SAFETY: the handle is the child's, and open as long as it is borrowed.
    unsafe { WaitForSingleObject(child.as_raw_handle(), millis(limit)) == WAIT_OBJECT_0 }
}

/// Session of a process.
pub fn session_of(pid: u32) -> Option<u32> {
    let mut session = 0;
    // SAFETY: `session` is live.
    check(unsafe { ProcessIdToSessionId(pid, &raw mut session) }).ok().map(|()| session)
}

/// Memory of this process that is in use, in bytes; 0 where the system does not say.
pub fn own_resident_bytes() -> u64 {
    // SAFETY: a structure of numbers, for which zero is good.
    let mut counters: PROCESS_MEMORY_COUNTERS = unsafe { std::mem::zeroed() };
    let size = u32::try_from(size_of::<PROCESS_MEMORY_COUNTERS>()).unwrap_or(0);
    counters.cb = size;
    // SAFETY: the pseudo handle is always good, `counters` is live and `size` its size.
    let got = unsafe { K32GetProcessMemoryInfo(GetCurrentProcess(), &raw mut counters, size) };
    if got == 0 { 0 } else { counters.WorkingSetSize as u64 }
}

pub(crate) fn check_status(status: NTSTATUS) -> io::Result<()> {
    if status >= 0 {
        return Ok(());
    }
    // SAFETY: no pointers are given.
    Err(io::Error::from_raw_os_error(unsafe { RtlNtStatusToDosError(status) }.cast_signed()))
}
