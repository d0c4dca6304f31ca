//! Being a service: the service manager's requests, and telling it how far this process is.

use std::io;
use std::ptr::null_mut;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, mpsc};
use std::time::Duration;

use windows_sys::Win32::Foundation::{ERROR_CALL_NOT_IMPLEMENTED, NO_ERROR};
use windows_sys::Win32::System::Services::{
    RegisterServiceCtrlHandlerExW, SERVICE_ACCEPT_PRESHUTDOWN, SERVICE_ACCEPT_STOP,
    SERVICE_CONTROL_INTERROGATE, SERVICE_CONTROL_PRESHUTDOWN, SERVICE_CONTROL_STOP, SERVICE_RUNNING,
    SERVICE_START_PENDING, SERVICE_STATUS, SERVICE_STATUS_HANDLE, SERVICE_STOP_PENDING, SERVICE_STOPPED,
    SERVICE_TABLE_ENTRYW, SERVICE_WIN32_OWN_PROCESS, SetServiceStatus, StartServiceCtrlDispatcherW,
};

use crate::check;
use crate::event::Event;
use crate::text::wide;

/// `ERROR_SERVICE_SPECIFIC_ERROR`: the exit code is the service's own.
const SPECIFIC: u32 = 1_066;

/// So long the service manager waits for a change of state or another checkpoint before it calls the service hung.
const PATIENCE_MS: u32 = 30_000;

/// How often a service that is stopping says that it still is, and how often at most: one that hangs must not look
/// busy for ever. The agent's own patience at its end is far below the product.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(5);
const MOST_CHECKPOINTS: u32 = 36;

/// What the service manager asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// Somebody stops the service.
    Stop,
    /// The host is about to shut down.
    Shutdown,
}

/// The service that this process is.
pub struct Host {
    status: Arc<Status>,
    /// Taken by whoever listens.
    requests: Mutex<Option<mpsc::Receiver<Asked>>>,
}

struct Status {
    handle: Mutex<SERVICE_STATUS_HANDLE>,
    asks: Mutex<mpsc::Sender<Asked>>,
    /// The last state that was told, behind a lock so that no checkpoint of stopping comes after the stop.
    state: Mutex<u32>,
}

// SAFETY: the handle is only given to SetServiceStatus, which may be called from any thread.
unsafe impl Send for Status {}
// SAFETY: as above, and behind a lock.
unsafe impl Sync for Status {}

type Body = Box<dyn FnOnce(&Host) -> u8 + Send>;

/// What the service's main function is to do: the system calls it without anything of ours.
static BODY: OnceLock<(String, Mutex<Option<Body>>)> = OnceLock::new();

/// Runs `body` as the service of this name; comes back after its end. Only for a process that the service
/// manager started.
///
/// # Errors
/// It was not started by the service manager (error 1063), or this was called before.
pub fn run(name: &str, body: impl FnOnce(&Host) -> u8 + Send + 'static) -> io::Result<()> {
    let kept = BODY.set((name.to_owned(), Mutex::new(Some(Box::new(body)))));
    if kept.is_err() {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    let mut name = wide(name);
    let table = [
        SERVICE_TABLE_ENTRYW { lpServiceName: name.as_mut_ptr(), lpServiceProc: Some(main) },
        SERVICE_TABLE_ENTRYW { lpServiceName: null_mut(), lpServiceProc: None },
    ];
    // SAFETY: the table ends in an empty row and lives until the call is over, which is the service's end.
    check(unsafe { StartServiceCtrlDispatcherW(table.as_ptr()) })
}

/// Called by the system on a thread of its own.
unsafe extern "system" fn main(_: u32, _: *mut *mut u16) {
    let Some((name, body)) = BODY.get() else { return };
    let Some(body) = body.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
    let (asks, requests) = mpsc::channel();
    let status = Arc::new(Status {
        handle: Mutex::new(null_mut()),
        asks: Mutex::new(asks),
        state: Mutex::new(SERVICE_START_PENDING),
    });
    let wide_name = wide(name);
    // Given to the handler, which may be called until the process ends: never taken back.
    let context = Arc::into_raw(Arc::clone(&status));
    // SAFETY: the name ends in a zero, the context is never freed.
    let handle = unsafe { RegisterServiceCtrlHandlerExW(wide_name.as_ptr(), Some(control), context.cast()) };
    if handle.is_null() {
        return;
    }
    *status.handle.lock().unwrap_or_else(PoisonError::into_inner) = handle;
    status.tell(SERVICE_START_PENDING, 0);
    let host = Host { status: Arc::clone(&status), requests: Mutex::new(Some(requests)) };
    let code = body(&host);
    status.tell(SERVICE_STOPPED, code);
}

/// Called by the system for each request.
unsafe extern "system" fn control(
    asked: u32,
    _: u32,
    _: *mut core::ffi::c_void,
    context: *mut core::ffi::c_void,
) -> u32 {
    // SAFETY: the context is the status that `main` gave, which is never freed.
    let status: &'static Status = unsafe { &*context.cast::<Status>() };
    let asked = match asked {
        SERVICE_CONTROL_STOP => Asked::Stop,
        SERVICE_CONTROL_PRESHUTDOWN => Asked::Shutdown,
        SERVICE_CONTROL_INTERROGATE => return NO_ERROR,
        _ => return ERROR_CALL_NOT_IMPLEMENTED,
    };
    status.tell(SERVICE_STOP_PENDING, 0);
    keep_saying_that_it_stops(status);
    // Nobody listens any more where the service is at its end already.
    let _ = status.asks.lock().unwrap_or_else(PoisonError::into_inner).send(asked);
    NO_ERROR
}

/// Without checkpoints whoever stops the service gives up while the agent is still sending its last events.
fn keep_saying_that_it_stops(status: &'static Status) {
    let said = std::thread::Builder::new().name("stopping".into()).spawn(|| {
        let Ok(pause) = Event::new() else { return };
        for checkpoint in 1..=MOST_CHECKPOINTS {
            pause.wait(CHECKPOINT_EVERY);
            if !status.tell_checkpoint(checkpoint) {
                return;
            }
        }
    });
    // Where the system refuses a thread the one hint of above has to do.
    drop(said);
}

impl Status {
    fn tell(&self, state: u32, code: u8) {
        let mut last = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        *last = state;
        self.set(state, code, 0);
    }

    /// Says that it is still stopping, if it is.
    fn tell_checkpoint(&self, checkpoint: u32) -> bool {
        let last = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let stops = *last == SERVICE_STOP_PENDING;
        if stops {
            self.set(SERVICE_STOP_PENDING, 0, checkpoint);
        }
        stops
    }

    fn set(&self, state: u32, code: u8, checkpoint: u32) {
        let accepted = match state {
            SERVICE_RUNNING => SERVICE_ACCEPT_STOP | SERVICE_ACCEPT_PRESHUTDOWN,
            _ => 0,
        };
        let pending = matches!(state, SERVICE_START_PENDING | SERVICE_STOP_PENDING);
        let status = SERVICE_STATUS {
            dwServiceType: SERVICE_WIN32_OWN_PROCESS,
            dwCurrentState: state,
            dwControlsAccepted: accepted,
            dwWin32ExitCode: if code == 0 { NO_ERROR } else { SPECIFIC },
            dwServiceSpecificExitCode: code.into(),
            dwCheckPoint: checkpoint,
            dwWaitHint: if pending { PATIENCE_MS } else { 0 },
        };
        let handle = self.handle.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: the handle is the one that was registered, the structure is live.
        unsafe { SetServiceStatus(*handle, &raw const status) };
    }
}

impl Host {
    /// Tells that the service is up and takes requests.
    pub fn is_up(&self) {
        self.status.tell(SERVICE_RUNNING, 0);
    }

    /// The requests that come; once.
    pub fn requests(&self) -> Option<mpsc::Receiver<Asked>> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}
