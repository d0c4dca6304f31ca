//! Services: what there is, making, changing, starting, stopping and removing one, and being one.

mod host;

use std::io;
use std::ptr::{null, null_mut};
use std::time::{Duration, Instant};

use windows_sys::Win32::Foundation::{
    ERROR_INSUFFICIENT_BUFFER, ERROR_MORE_DATA, ERROR_SERVICE_ALREADY_RUNNING, ERROR_SERVICE_DOES_NOT_EXIST,
    ERROR_SERVICE_EXISTS, ERROR_SERVICE_NOT_ACTIVE,
};
use windows_sys::Win32::System::Services::{
    ChangeServiceConfig2W, CloseServiceHandle, ControlService, CreateServiceW, DeleteService,
    ENUM_SERVICE_STATUS_PROCESSW, EnumServicesStatusExW, OpenSCManagerW, OpenServiceW, QUERY_SERVICE_CONFIGW,
    QueryServiceConfigW, QueryServiceStatusEx, SC_ACTION, SC_ACTION_RESTART, SC_ENUM_PROCESS_INFO, SC_HANDLE,
    SC_MANAGER_CONNECT, SC_MANAGER_CREATE_SERVICE, SC_MANAGER_ENUMERATE_SERVICE, SC_STATUS_PROCESS_INFO,
    SERVICE_ALL_ACCESS, SERVICE_CHANGE_CONFIG, SERVICE_CONFIG_DESCRIPTION, SERVICE_CONFIG_FAILURE_ACTIONS,
    SERVICE_CONFIG_FAILURE_ACTIONS_FLAG, SERVICE_CONTROL_STOP, SERVICE_DESCRIPTIONW,
    SERVICE_FAILURE_ACTIONS_FLAG, SERVICE_FAILURE_ACTIONSW, SERVICE_QUERY_CONFIG, SERVICE_QUERY_STATUS,
    SERVICE_START, SERVICE_STATE_ALL, SERVICE_STATUS, SERVICE_STATUS_PROCESS, SERVICE_STOP,
    SERVICE_STOP_PENDING, SERVICE_STOPPED, SERVICE_WIN32, StartServiceW,
};
use windows_sys::core::PCWSTR;

use crate::text::{shown, wide};
use crate::{check, last_error};

pub use host::{Asked, Host, run};

/// `DELETE`, the standard right.
const DELETE: u32 = 0x0001_0000;

/// A configuration has at most 8 KiB, by the documentation of `QueryServiceConfigW`.
const MOST_CONFIG: usize = 8 << 10;
/// Services of one host; a list of more is cut.
const MOST_LIST: usize = 4 << 20;
/// Units of one text of a configuration.
const MOST_TEXT: usize = 32_768;

/// How often it is looked whether a service has stopped.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// An open handle of the service manager's.
struct Handle(SC_HANDLE);

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: the handle is open and nobody else's.
        unsafe { CloseServiceHandle(self.0) };
    }
}

fn handle(raw: SC_HANDLE) -> io::Result<Handle> {
    if raw.is_null() { Err(last_error()) } else { Ok(Handle(raw)) }
}

fn manager(access: u32) -> io::Result<Handle> {
    // SAFETY: null is this machine and its only data base.
    handle(unsafe { OpenSCManagerW(null(), null(), access) })
}

fn open(name: &str, access: u32) -> io::Result<Handle> {
    let manager = manager(SC_MANAGER_CONNECT)?;
    let name = wide(name);
    // SAFETY: the handle is open for the call, the name ends in a zero.
    handle(unsafe { OpenServiceW(manager.0, name.as_ptr(), access) })
}

/// A service in the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its name.
    pub name: String,
    /// What people read.
    pub display_name: String,
    /// Whether it is stopped.
    pub stopped: bool,
    /// PID of its process; 0 if there is none.
    pub pid: u32,
}

/// What a service is, besides its name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Config {
    /// What people read.
    pub display_name: String,
    /// Its type: 16 has a process of its own, 32 shares one, 1 and 2 are drivers.
    pub kind: u32,
    /// When it starts: 2 by itself, 3 when asked, 4 never.
    pub start: u32,
    /// What a failed start does to the boot.
    pub error_control: u32,
    /// Its command line.
    pub command_line: String,
    /// Whom it runs as.
    pub account: String,
    /// What must run before it.
    pub dependencies: Vec<String>,
}

/// All services that are no drivers.
///
/// # Errors
/// The service manager does not answer.
pub fn list() -> io::Result<Vec<Listed>> {
    let manager = manager(SC_MANAGER_CONNECT | SC_MANAGER_ENUMERATE_SERVICE)?;
    // Words of eight bytes: aligned as the structures ask.
    let mut buffer = vec![0_u64; 32 << 10];
    let mut listed = Vec::new();
    let mut resume = 0;
    loop {
        let room = u32::try_from(buffer.len() * 8).unwrap_or(u32::MAX);
        let (mut needed, mut count) = (0, 0);
        // SAFETY: `room` is that of the buffer, the others are live.
        let got = unsafe {
            EnumServicesStatusExW(
                manager.0,
                SC_ENUM_PROCESS_INFO,
                SERVICE_WIN32,
                SERVICE_STATE_ALL,
                buffer.as_mut_ptr().cast(),
                room,
                &raw mut needed,
                &raw mut count,
                &raw mut resume,
                null(),
            )
        };
        let error = (got == 0).then(last_error);
        let more =
            error.as_ref().is_some_and(|error| error.raw_os_error() == Some(ERROR_MORE_DATA.cast_signed()));
        if let Some(error) = error.filter(|_| !more) {
            return Err(error);
        }
        let entries: *const ENUM_SERVICE_STATUS_PROCESSW = buffer.as_ptr().cast();
        for at in 0..count as usize {
            // SAFETY: the system filled in `count` entries, whose texts lie in the same buffer and end in zeros.
            let (name, display_name, status) = unsafe {
                let entry = &*entries.add(at);
                (text_at(entry.lpServiceName), text_at(entry.lpDisplayName), entry.ServiceStatusProcess)
            };
            let stopped = status.dwCurrentState == SERVICE_STOPPED;
            listed.push(Listed { name, display_name, stopped, pid: status.dwProcessId });
        }
        if !more || listed.len() >= MOST_LIST / size_of::<ENUM_SERVICE_STATUS_PROCESSW>() {
            return Ok(listed);
        }
        if count == 0 {
            buffer.resize((needed as usize / 8 + 1).min(MOST_LIST / 8), 0);
        }
    }
}

/// What a service is.
///
/// # Errors
/// There is none, or it may not be read.
pub fn config(name: &str) -> io::Result<Config> {
    let service = open(name, SERVICE_QUERY_CONFIG)?;
    let mut buffer = vec![0_u64; MOST_CONFIG / 8];
    let mut needed = 0;
    loop {
        let room = u32::try_from(buffer.len() * 8).unwrap_or(0);
        // SAFETY: `room` is that of the buffer, `needed` is live.
        let got =
            unsafe { QueryServiceConfigW(service.0, buffer.as_mut_ptr().cast(), room, &raw mut needed) };
        match check(got) {
            Ok(()) => break,
            Err(error) => {
                let more = error.raw_os_error() == Some(ERROR_INSUFFICIENT_BUFFER.cast_signed());
                if !more || needed <= room || needed as usize > MOST_TEXT * 8 {
                    return Err(error);
                }
                buffer.resize(needed as usize / 8 + 1, 0);
            }
        }
    }
    // SAFETY: the system filled in the structure, whose texts lie in the same buffer and end in zeros.
    Ok(unsafe {
        let config = &*buffer.as_ptr().cast::<QUERY_SERVICE_CONFIGW>();
        Config {
            display_name: text_at(config.lpDisplayName),
            kind: config.dwServiceType,
            start: config.dwStartType,
            error_control: config.dwErrorControl,
            command_line: text_at(config.lpBinaryPathName),
            account: text_at(config.lpServiceStartName),
            dependencies: texts_at(config.lpDependencies),
        }
    })
}

/// Whether the service manager has a service of this name.
///
/// # Errors
/// It does not answer, or does not let this process ask.
pub fn is_there(name: &str) -> io::Result<bool> {
    match open(name, SERVICE_QUERY_STATUS) {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(ERROR_SERVICE_DOES_NOT_EXIST.cast_signed()) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether a service runs or is about to; an error if there is none.
///
/// # Errors
/// There is none, or it may not be asked.
pub fn runs(name: &str) -> io::Result<bool> {
    let service = open(name, SERVICE_QUERY_STATUS)?;
    Ok(!matches!(state(&service)?, SERVICE_STOPPED | SERVICE_STOP_PENDING))
}

fn state(service: &Handle) -> io::Result<u32> {
    let mut status = SERVICE_STATUS_PROCESS::default();
    let mut needed = 0;
    let size = u32::try_from(size_of::<SERVICE_STATUS_PROCESS>()).unwrap_or(0);
    // SAFETY: `status` is live and `size` its size.
    let got = unsafe {
        QueryServiceStatusEx(
            service.0,
            SC_STATUS_PROCESS_INFO,
            (&raw mut status).cast(),
            size,
            &raw mut needed,
        )
    };
    check(got).map(|()| status.dwCurrentState)
}

/// Makes a service. An account other than the system's own is not given a password.
///
/// # Errors
/// There is one of that name (`AlreadyExists`), or it may not be made.
pub fn create(name: &str, config: &Config) -> io::Result<()> {
    let manager = manager(SC_MANAGER_CONNECT | SC_MANAGER_CREATE_SERVICE)?;
    let (name, display, line) = (wide(name), wide(&config.display_name), wide(&config.command_line));
    let account = (!config.account.is_empty()).then(|| wide(&config.account));
    let dependencies = (!config.dependencies.is_empty()).then(|| {
        let each = config.dependencies.iter().flat_map(|one| wide(one));
        each.chain(std::iter::once(0)).collect::<Vec<u16>>()
    });
    let pointer = |text: &Option<Vec<u16>>| text.as_ref().map_or(null(), |text| text.as_ptr()) as PCWSTR;
    // SAFETY: the texts end in zeros, the list of dependencies in two, and all of them outlive the call.
    let made = unsafe {
        CreateServiceW(
            manager.0,
            name.as_ptr(),
            display.as_ptr(),
            SERVICE_ALL_ACCESS,
            config.kind,
            config.start,
            config.error_control,
            line.as_ptr(),
            null(),
            null_mut(),
            pointer(&dependencies),
            pointer(&account),
            null(),
        )
    };
    handle(made).map(drop).map_err(|error| match error.raw_os_error().map(i32::cast_unsigned) {
        Some(ERROR_SERVICE_EXISTS) => io::ErrorKind::AlreadyExists.into(),
        _ => error,
    })
}

/// Says what a service is for.
///
/// # Errors
/// There is no such service, or it may not be changed.
pub fn describe(name: &str, description: &str) -> io::Result<()> {
    let service = open(name, SERVICE_CHANGE_CONFIG)?;
    let mut text = wide(description);
    let info = SERVICE_DESCRIPTIONW { lpDescription: text.as_mut_ptr() };
    // SAFETY: the text ends in a zero and outlives the call.
    check(unsafe { ChangeServiceConfig2W(service.0, SERVICE_CONFIG_DESCRIPTION, (&raw const info).cast()) })
}

/// Has a service started again, after these times, whenever it ends unasked: with an error, too. After a day
/// without, it is counted anew.
///
/// # Errors
/// There is no such service, or it may not be changed.
pub fn start_again_after(name: &str, delays: &[Duration]) -> io::Result<()> {
    const DAY_SECONDS: u32 = 86_400;
    // To set such an action takes the right to start, too.
    let service = open(name, SERVICE_CHANGE_CONFIG | SERVICE_START)?;
    let mut actions: Vec<SC_ACTION> = delays
        .iter()
        .map(|delay| SC_ACTION {
            Type: SC_ACTION_RESTART,
            Delay: u32::try_from(delay.as_millis()).unwrap_or(u32::MAX),
        })
        .collect();
    let info = SERVICE_FAILURE_ACTIONSW {
        dwResetPeriod: DAY_SECONDS,
        lpRebootMsg: null_mut(),
        lpCommand: null_mut(),
        cActions: u32::try_from(actions.len()).unwrap_or(0),
        lpsaActions: actions.as_mut_ptr(),
    };
    // SAFETY: the actions outlive the call and are as many as is said.
    check(unsafe {
        ChangeServiceConfig2W(service.0, SERVICE_CONFIG_FAILURE_ACTIONS, (&raw const info).cast())
    })?;
    let flag = SERVICE_FAILURE_ACTIONS_FLAG { fFailureActionsOnNonCrashFailures: 1 };
    // SAFETY: the structure is live.
    check(unsafe {
        ChangeServiceConfig2W(service.0, SERVICE_CONFIG_FAILURE_ACTIONS_FLAG, (&raw const flag).cast())
    })
}

/// Starts a service; one that runs is left as it is.
///
/// # Errors
/// There is none, or it does not start.
pub fn start(name: &str) -> io::Result<()> {
    let service = open(name, SERVICE_START)?;
    // SAFETY: the handle is open, no arguments are given.
    match check(unsafe { StartServiceW(service.0, 0, null()) }) {
        Err(error) if error.raw_os_error() == Some(ERROR_SERVICE_ALREADY_RUNNING.cast_signed()) => Ok(()),
        other => other,
    }
}

/// Asks a service to stop, and waits until it has.
///
/// # Errors
/// There is none, it takes no such request, or it still runs after `limit`.
pub fn stop(name: &str, limit: Duration) -> io::Result<()> {
    let service = open(name, SERVICE_STOP | SERVICE_QUERY_STATUS)?;
    let mut status = SERVICE_STATUS::default();
    // SAFETY: the handle is open, `status` is live.
    match check(unsafe { ControlService(service.0, SERVICE_CONTROL_STOP, &raw mut status) }) {
        Err(error) if error.raw_os_error() == Some(ERROR_SERVICE_NOT_ACTIVE.cast_signed()) => return Ok(()),
        other => other?,
    }
    let pause = crate::event::Event::new()?;
    let begun = Instant::now();
    while state(&service)? != SERVICE_STOPPED {
        if begun.elapsed() > limit {
            return Err(io::Error::new(io::ErrorKind::TimedOut, format!("it still runs after {limit:?}")));
        }
        pause.wait(LOOK_EVERY);
    }
    Ok(())
}

/// Removes a service: at once if it is stopped, else when it stops.
///
/// # Errors
/// There is none, or it may not be removed.
pub fn delete(name: &str) -> io::Result<()> {
    let service = open(name, DELETE)?;
    // SAFETY: the handle is open.
    check(unsafe { DeleteService(service.0) })
}

/// The text at a pointer; empty for null.
///
/// # Safety
/// The pointer is null, or to a text that ends in a zero.
unsafe fn text_at(text: *const u16) -> String {
    if text.is_null() {
        return String::new();
    }
    let mut length = 0;
    // SAFETY: up to the zero all of it may be read.
    while length < MOST_TEXT && unsafe { *text.add(length) } != 0 {
        length += 1;
    }
    // SAFETY: so many units were just read.
    shown(unsafe { std::slice::from_raw_parts(text, length) })
}

/// The texts at a pointer, one after the other; none for null.
///
/// # Safety
/// The pointer is null, or to texts that end in zeros, the last of which is empty.
unsafe fn texts_at(mut text: *const u16) -> Vec<String> {
    let mut texts = Vec::new();
    // SAFETY: each text is followed by another, until an empty one.
    while !text.is_null() && unsafe { *text } != 0 && texts.len() < MOST_TEXT {
        // SAFETY: it ends in a zero.
        texts.push(unsafe { text_at(text) });
        // SAFETY: the zero that ends it lies within what may be read.
        while unsafe { *text } != 0 {
            // SAFETY: as above.
            text = unsafe { text.add(1) };
        }
        // SAFETY: after the zero comes another text or the empty one.
        text = unsafe { text.add(1) };
    }
    texts
}
