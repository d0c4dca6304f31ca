//! Event tracing: a session of our own, the events of its providers as they come, and how each is laid out.

use std::io;
use std::ptr::null;

use windows_sys::Win32::Foundation::{
    ERROR_ALREADY_EXISTS, ERROR_CTX_CLOSE_PENDING, ERROR_INSUFFICIENT_BUFFER, ERROR_SUCCESS,
};
use windows_sys::Win32::System::Diagnostics::Etw::{
    CONTROLTRACE_HANDLE, CloseTrace, ControlTraceW, ENABLE_TRACE_PARAMETERS,
    ENABLE_TRACE_PARAMETERS_VERSION_2, EVENT_CONTROL_CODE_ENABLE_PROVIDER, EVENT_FILTER_DESCRIPTOR,
    EVENT_FILTER_TYPE_EVENT_ID, EVENT_HEADER_FLAG_64_BIT_HEADER, EVENT_HEADER_FLAG_CLASSIC_HEADER,
    EVENT_PROPERTY_INFO, EVENT_RECORD, EVENT_TRACE_CONTROL_QUERY, EVENT_TRACE_CONTROL_STOP,
    EVENT_TRACE_FLAG_NO_SYSCONFIG, EVENT_TRACE_FLAG_PROCESS, EVENT_TRACE_LOGFILEW, EVENT_TRACE_PROPERTIES,
    EVENT_TRACE_REAL_TIME_MODE, EVENT_TRACE_SYSTEM_LOGGER_MODE, EnableTraceEx2, OpenTraceW,
    PROCESS_TRACE_MODE_EVENT_RECORD, PROCESS_TRACE_MODE_REAL_TIME, PROCESSTRACE_HANDLE, ProcessTrace,
    StartTraceW, TRACE_EVENT_INFO, TdhGetEventInformation, WNODE_FLAG_TRACED_GUID,
};
use windows_sys::core::GUID;

use crate::check_code;
use crate::text::{shown, wide};

/// Units of a session's name, with its zero.
const MOST_NAME: usize = 128;
/// KiB of a buffer, and how many there may be: some seconds of a busy host.
const BUFFER_KIB: u32 = 64;
const LEAST_BUFFERS: u32 = 8;
const MOST_BUFFERS: u32 = 64;
/// Buffers are handed over at least so often, in milliseconds: who is told of a process a second late can't ask
/// it anything any more.
const FLUSH_MILLIS: u32 = 50;
/// `EVENT_TRACE_USE_MS_FLUSH_TIMER` of the WDK: that number is one of milliseconds.
const FLUSH_IN_MILLIS: u32 = 0x10;
/// A larger description of an event is not read.
const MOST_DESCRIPTION: u32 = 1 << 20;
/// Properties of an event.
const MOST_PROPERTIES: u32 = 256;
/// `MAX_EVENT_FILTER_EVENT_ID_COUNT` of evntprov.h.
const MOST_IDS: usize = 64;

/// Where properties are of another length than their type says.
const PARAM_LENGTH: i32 = 2;
const PARAM_COUNT: i32 = 4;
const STRUCT: i32 = 1;

/// The session's clock: as `GetSystemTimePreciseAsFileTime`, in units of 100 ns since 1601.
const SYSTEM_TIME: u32 = 2;

/// What the kernel tells of itself, in the events that are older than providers: starts and ends of processes.
pub const KERNEL_PROCESSES: u32 = EVENT_TRACE_FLAG_PROCESS | EVENT_TRACE_FLAG_NO_SYSCONFIG;

/// A provider that a session listens to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Provider {
    /// Its id.
    pub id: u128,
    /// Which kinds of events, by the provider's own bits; 0 is all.
    pub keywords: u64,
    /// The ids of the events that are wanted, 64 at most; none is all. Others may come all the same: systems before
    /// Windows 8.1 can't leave them out.
    pub events: &'static [u16],
}

/// Whether the system knows a provider. A session can listen to any id: to one that is not known in vain.
///
/// # Errors
/// The system does not say.
pub fn is_registered(id: u128) -> io::Result<bool> {
    const PUBLISHERS: &str = r"HKLM\SOFTWARE\Microsoft\Windows\CurrentVersion\WINEVT\Publishers";
    let text = format!("{id:032x}");
    let part = |from: usize, to: usize| text.get(from..to).unwrap_or_default();
    let (first, second, third) = (part(0, 8), part(8, 12), part(12, 16));
    let key = format!(r"{PUBLISHERS}\{{{first}-{second}-{third}-{}-{}}}", part(16, 20), part(20, 32));
    match crate::registry::Key::open(&key) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// A property of an event, in the order of the payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Property {
    /// Its name.
    pub name: String,
    /// The number of its type (`TDH_INTYPE_…`).
    pub kind: u16,
    /// Its length, where the type leaves it open; 0 where nothing says it.
    pub length: u16,
    /// The property that has its length.
    pub length_from: Option<usize>,
    /// It is not a single value, so that what comes after it can't be found.
    pub is_compound: bool,
}

/// Asks the system how the payload of an event is laid out, which takes it some time; `None` where it does not know, or
/// did not just now. It is the same for all events of one provider, id and version.
pub type AskLayout<'a> = dyn Fn() -> Option<Vec<Property>> + 'a;

/// An event as it came.
#[derive(Debug, Clone)]
pub struct Record {
    /// The provider.
    pub provider: u128,
    /// Its id; 0 for all of the kernel's old events, which their opcode tells apart.
    pub id: u16,
    /// What was done, by the provider's own numbers.
    pub opcode: u8,
    /// The version of its layout.
    pub version: u8,
    /// Pointers in its payload have eight bytes.
    pub is_64_bit: bool,
    /// The process in which it was written.
    pub pid: u32,
    /// When, in units of 100 ns since 1601.
    pub time: u64,
    /// Its data.
    pub payload: Vec<u8>,
}

/// A session. It ends when this is dropped.
pub struct Session {
    name: Vec<u16>,
    control: CONTROLTRACE_HANDLE,
    trace: Option<PROCESSTRACE_HANDLE>,
    /// It is over; one of the same name is somebody else's.
    ended: bool,
    /// What the system calls with. A pointer, as the system keeps one, too; freed by `drop`.
    callee: *mut Callee,
}

// SAFETY: the handles may be used from any thread; the callee is only touched by the system within `pump`.
unsafe impl Send for Session {}

/// Asks a session from another thread what it lost, and ends it, so that its pump comes back.
#[derive(Debug, Clone)]
pub struct Stopper(Vec<u16>);

/// Where records go.
type Sink<'a> = dyn FnMut(Record, &AskLayout<'_>) + 'a;

#[derive(Default)]
struct Callee {
    /// Set while they are pumped.
    sink: Option<*mut Sink<'static>>,
}

/// The structure with room for the name behind it.
#[repr(C)]
struct Properties {
    head: EVENT_TRACE_PROPERTIES,
    name: [u16; MOST_NAME],
}

fn properties() -> Properties {
    let mut new = Properties { head: EVENT_TRACE_PROPERTIES::default(), name: [0; MOST_NAME] };
    new.head.Wnode.BufferSize = u32::try_from(size_of::<Properties>()).unwrap_or(0);
    new.head.Wnode.Flags = WNODE_FLAG_TRACED_GUID;
    new.head.Wnode.ClientContext = SYSTEM_TIME;
    new.head.BufferSize = BUFFER_KIB;
    new.head.MinimumBuffers = LEAST_BUFFERS;
    new.head.MaximumBuffers = MOST_BUFFERS;
    new.head.LogFileMode = EVENT_TRACE_REAL_TIME_MODE | FLUSH_IN_MILLIS;
    new.head.FlushTimer = FLUSH_MILLIS;
    new.head.LoggerNameOffset = u32::try_from(size_of::<EVENT_TRACE_PROPERTIES>()).unwrap_or(0);
    new
}

fn control(name: &[u16], code: u32) -> io::Result<Properties> {
    let mut properties = properties();
    let none = CONTROLTRACE_HANDLE { Value: 0 };
    // SAFETY: the name ends in a zero, the structure says its own size and has room for the name.
    check_code(unsafe { ControlTraceW(none, name.as_ptr(), &raw mut properties.head, code) })?;
    Ok(properties)
}

impl Session {
    /// Begins a session of that name, which listens to nobody yet. One of that name that somebody left (an agent
    /// that was killed) is ended first.
    ///
    /// # Errors
    /// Tracing is not there or not allowed, or there are too many sessions.
    pub fn begin(name: &str) -> io::Result<Self> {
        Self::begin_with_kernel(name, 0)
    }

    /// The same, with events of the kernel itself besides (`kernel`: [`KERNEL_PROCESSES`], or 0 for none). The
    /// system has room for eight such sessions in all.
    ///
    /// # Errors
    /// As [`begin`](Self::begin).
    pub fn begin_with_kernel(name: &str, kernel: u32) -> io::Result<Self> {
        let name = wide(name);
        if name.len() > MOST_NAME {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let start = || {
            let mut properties = properties();
            if kernel != 0 {
                properties.head.LogFileMode |= EVENT_TRACE_SYSTEM_LOGGER_MODE;
                properties.head.EnableFlags = kernel;
            }
            let mut handle = CONTROLTRACE_HANDLE { Value: 0 };
            // SAFETY: the name ends in a zero, the structure says its own size and has room for the name.
            let code = unsafe { StartTraceW(&raw mut handle, name.as_ptr(), &raw mut properties.head) };
            (code, handle)
        };
        let (mut code, mut control_handle) = start();
        if code == ERROR_ALREADY_EXISTS {
            control(&name, EVENT_TRACE_CONTROL_STOP)?;
            (code, control_handle) = start();
        }
        check_code(code)?;
        let callee = Box::into_raw(Box::<Callee>::default());
        let mut new = Self { name, control: control_handle, trace: None, ended: false, callee };
        new.open()?;
        Ok(new)
    }

    /// Listens to a provider from now on.
    ///
    /// # Errors
    /// The system refuses it, for example because the provider is guarded.
    pub fn enable(&self, provider: Provider) -> io::Result<()> {
        if provider.events.is_empty() || provider.events.len() > MOST_IDS {
            return self.enable_with(provider, null());
        }
        // EVENT_FILTER_EVENT_ID: that these are wanted (a byte, and one that is reserved), how many, and they.
        let mut filter = vec![1, u16::try_from(provider.events.len()).unwrap_or(0)];
        filter.extend(provider.events);
        let mut described = EVENT_FILTER_DESCRIPTOR {
            Ptr: filter.as_ptr() as u64,
            Size: u32::try_from(filter.len() * size_of::<u16>()).unwrap_or(0),
            Type: EVENT_FILTER_TYPE_EVENT_ID,
        };
        let parameters = ENABLE_TRACE_PARAMETERS {
            Version: ENABLE_TRACE_PARAMETERS_VERSION_2,
            EnableFilterDesc: &raw mut described,
            FilterDescCount: 1,
            ..ENABLE_TRACE_PARAMETERS::default()
        };
        // A system that can't filter by ids refuses it.
        self.enable_with(provider, &raw const parameters).or_else(|_| self.enable_with(provider, null()))
    }

    fn enable_with(&self, provider: Provider, parameters: *const ENABLE_TRACE_PARAMETERS) -> io::Result<()> {
        const ALL_LEVELS: u8 = 255;
        let id = GUID::from_u128(provider.id);
        // SAFETY: the session was begun, the id is live, and the parameters are null or live with all they lead to.
        check_code(unsafe {
            EnableTraceEx2(
                self.control,
                &raw const id,
                EVENT_CONTROL_CODE_ENABLE_PROVIDER,
                ALL_LEVELS,
                provider.keywords,
                0,
                0,
                parameters,
            )
        })
    }

    fn open(&mut self) -> io::Result<()> {
        // SAFETY: a structure of numbers and pointers, for which zero is good.
        let mut file: EVENT_TRACE_LOGFILEW = unsafe { std::mem::zeroed() };
        file.LoggerName = self.name.as_mut_ptr();
        file.Anonymous1.ProcessTraceMode = PROCESS_TRACE_MODE_REAL_TIME | PROCESS_TRACE_MODE_EVENT_RECORD;
        file.Anonymous2.EventRecordCallback = Some(came);
        file.Context = self.callee.cast();
        // SAFETY: the structure is live; the name and the callee outlive the trace, which `drop` closes.
        let handle = unsafe { OpenTraceW(&raw mut file) };
        // INVALID_PROCESSTRACE_HANDLE; on some systems only the lower half of it, and zero of stand-ins.
        if handle.Value == u64::MAX || handle.Value == u64::from(u32::MAX) || handle.Value == 0 {
            let error = crate::last_error();
            return Err(match error.raw_os_error() {
                Some(0) => io::Error::new(io::ErrorKind::Unsupported, "the system has no event tracing"),
                _ => error,
            });
        }
        self.trace = Some(handle);
        Ok(())
    }

    /// What ends it from elsewhere.
    pub fn stopper(&self) -> Stopper {
        Stopper(self.name.clone())
    }

    /// Hands events to `sink` as they come, each with what tells how it is laid out; comes back when the session is
    /// ended.
    ///
    /// # Errors
    /// The system broke off.
    pub fn pump(&mut self, sink: &mut dyn FnMut(Record, &AskLayout<'_>)) -> io::Result<()> {
        let Some(trace) = self.trace else { return Ok(()) };
        // SAFETY: only the lifetime is taken away; it is given back below, before the borrow ends.
        let sink: *mut Sink<'static> =
            unsafe { std::mem::transmute::<*mut Sink<'_>, *mut Sink<'static>>(sink) };
        // SAFETY: nothing is pumped, so nobody else touches it.
        unsafe { (*self.callee).sink = Some(sink) };
        // SAFETY: one handle is given, which is open; the call returns when no callback runs any more.
        let code = unsafe { ProcessTrace(&raw const trace, 1, null(), null()) };
        // SAFETY: as above: the system calls no more.
        unsafe { (*self.callee).sink = None };
        self.ended = code == ERROR_SUCCESS || code == ERROR_CTX_CLOSE_PENDING;
        if self.ended { Ok(()) } else { check_code(code) }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if !self.ended {
            let _ = control(&self.name, EVENT_TRACE_CONTROL_STOP);
        }
        if let Some(trace) = self.trace {
            // SAFETY: the handle is open and nobody else's; nothing is pumped, as that borrows the session.
            unsafe { CloseTrace(trace) };
        }
        // SAFETY: it was made by `begin`, and the system that knew it has closed the trace.
        drop(unsafe { Box::from_raw(self.callee) });
    }
}

impl Stopper {
    /// Events that the session could not keep, in all.
    ///
    /// # Errors
    /// There is no such session any more.
    pub fn lost(&self) -> io::Result<u64> {
        let head = control(&self.0, EVENT_TRACE_CONTROL_QUERY)?.head;
        Ok(u64::from(head.EventsLost) + u64::from(head.RealTimeBuffersLost))
    }

    /// Ends the session; one that has ended already is fine.
    pub fn stop(&self) {
        let _ = control(&self.0, EVENT_TRACE_CONTROL_STOP);
    }
}

/// Called by the system for each event, on the thread that pumps.
unsafe extern "system" fn came(event: *mut EVENT_RECORD) {
    // SAFETY: the system gives a live record for the call.
    let record = unsafe { &*event };
    // SAFETY: the context is the callee that `open` gave, which lives as long as the trace; the thread that
    // pumps does not touch it meanwhile.
    let callee = unsafe { &*record.UserContext.cast::<Callee>() };
    let Some(sink) = callee.sink else { return };
    let head = &record.EventHeader;
    // Asking for the layout of the kernel's old events would start WMI; who wants them knows it.
    let is_old = u32::from(head.Flags) & EVENT_HEADER_FLAG_CLASSIC_HEADER != 0;
    let ask = || if is_old { None } else { layout_of(event) };
    let payload = match record.UserData.is_null() {
        true => Vec::new(),
        // SAFETY: so many bytes are there, for the call.
        false => unsafe {
            std::slice::from_raw_parts(record.UserData.cast::<u8>(), record.UserDataLength.into()).to_vec()
        },
    };
    let read = Record {
        provider: number(&head.ProviderId),
        id: head.EventDescriptor.Id,
        opcode: head.EventDescriptor.Opcode,
        version: head.EventDescriptor.Version,
        is_64_bit: u32::from(head.Flags) & EVENT_HEADER_FLAG_64_BIT_HEADER != 0,
        pid: head.ProcessId,
        time: head.TimeStamp.cast_unsigned(),
        payload,
    };
    // SAFETY: `pump` holds the sink's borrow until the system calls no more.
    unsafe { (*sink)(read, &ask) };
}

fn number(id: &GUID) -> u128 {
    let tail = u64::from_be_bytes(id.data4);
    u128::from(id.data1) << 96 | u128::from(id.data2) << 80 | u128::from(id.data3) << 64 | u128::from(tail)
}

/// How the payload of an event is laid out, by the description that its provider registered.
fn layout_of(event: *const EVENT_RECORD) -> Option<Vec<Property>> {
    let mut size = 0;
    // SAFETY: the record is live; the first call only asks for the size.
    let code = unsafe { TdhGetEventInformation(event, 0, null(), std::ptr::null_mut(), &raw mut size) };
    if code != ERROR_INSUFFICIENT_BUFFER || size > MOST_DESCRIPTION {
        return None;
    }
    // Words of eight bytes: aligned as the structure asks.
    let mut buffer = vec![0_u64; size as usize / 8 + 1];
    // SAFETY: the buffer has room for `size` bytes.
    let code = unsafe { TdhGetEventInformation(event, 0, null(), buffer.as_mut_ptr().cast(), &raw mut size) };
    if code != ERROR_SUCCESS {
        return None;
    }
    // SAFETY: the system filled in the structure at the beginning.
    let info = unsafe { &*buffer.as_ptr().cast::<TRACE_EVENT_INFO>() };
    let bytes = buffer.len() * 8;
    let first = std::mem::offset_of!(TRACE_EVENT_INFO, EventPropertyInfoArray);
    let count = info.TopLevelPropertyCount.min(MOST_PROPERTIES) as usize;
    if first + count * size_of::<EVENT_PROPERTY_INFO>() > bytes {
        return None;
    }
    let text_at = |offset: u32| {
        let rest = bytes.saturating_sub(offset as usize) / 2;
        // SAFETY: it was just bounded to what is left of the buffer, in which texts lie aligned.
        let units = unsafe {
            std::slice::from_raw_parts(buffer.as_ptr().cast::<u8>().add(offset as usize).cast::<u16>(), rest)
        };
        shown(crate::text::until_zero(units))
    };
    let property = |at: usize| {
        // SAFETY: it was checked that so many are in the buffer.
        let info = unsafe {
            *buffer
                .as_ptr()
                .cast::<u8>()
                .add(first + at * size_of::<EVENT_PROPERTY_INFO>())
                .cast::<EVENT_PROPERTY_INFO>()
        };
        let has = |flag: i32| info.Flags & flag != 0;
        let is_offset_good = (info.NameOffset as usize) < bytes && info.NameOffset % 2 == 0;
        // SAFETY: each of the unions holds numbers only; which one is meant is said by the flags.
        let (kind, length, count) =
            unsafe { (info.Anonymous1.nonStructType.InType, info.Anonymous3.length, info.Anonymous2.count) };
        Property {
            name: if is_offset_good { text_at(info.NameOffset) } else { String::new() },
            kind: if has(STRUCT) { 0 } else { kind },
            length: if has(PARAM_LENGTH) { 0 } else { length },
            length_from: has(PARAM_LENGTH).then_some(length.into()),
            is_compound: has(STRUCT) || has(PARAM_COUNT) || count > 1,
        }
    };
    Some((0..count).map(property).collect())
}
