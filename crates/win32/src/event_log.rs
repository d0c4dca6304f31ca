//! The event log: events as they come, with bookmarks (wevtapi), and reports of this program.

use std::io;
use std::ptr::{null, null_mut};
use std::time::Duration;

use windows_sys::Win32::Foundation::{ERROR_INSUFFICIENT_BUFFER, ERROR_NO_MORE_ITEMS, ERROR_TIMEOUT, HANDLE};
use windows_sys::Win32::System::EventLog::{
    DeregisterEventSource, EVENTLOG_ERROR_TYPE, EVENTLOG_INFORMATION_TYPE, EVT_HANDLE, EVT_VARIANT,
    EvtChannelConfigEnabled, EvtClose, EvtCreateBookmark, EvtGetChannelConfigProperty, EvtNext,
    EvtOpenChannelConfig, EvtQuery, EvtQueryChannelPath, EvtQueryReverseDirection, EvtRender,
    EvtRenderBookmark, EvtRenderEventXml, EvtSubscribe, EvtSubscribeStartAfterBookmark,
    EvtSubscribeStartAtOldestRecord, EvtSubscribeStrict, EvtSubscribeToFutureEvents, EvtUpdateBookmark,
    EvtVarTypeBoolean, RegisterEventSourceW, ReportEventW,
};

use crate::event::Event;
use crate::registry::Key;
use crate::text::{shown, until_zero, wide};
use crate::{check, last_error};

/// Events that may be taken at once.
pub const MOST_BATCH: usize = 64;
/// A log in which nothing is found for so long, in milliseconds, is not searched further.
const SEARCH_MILLIS: u32 = 2_000;

/// A larger event is not read.
const MOST_XML_BYTES: u32 = 1 << 20;

struct Handle(EVT_HANDLE);

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: the handle is open and nobody else's.
        unsafe { EvtClose(self.0) };
    }
}

/// What a look gave.
#[derive(Debug, Default)]
pub struct Taken {
    /// Events as XML.
    pub events: Vec<String>,
    /// Events that could not be rendered.
    pub unreadable: u64,
    /// The first reason for that.
    pub reason: Option<String>,
}

/// Where a subscription begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From<'a> {
    /// After what this bookmark names.
    After(&'a str),
    /// With the oldest record that there is.
    Oldest,
    /// With what comes.
    Now,
}

/// A subscription to one channel.
pub struct Subscription {
    handle: Handle,
    bookmark: Handle,
    event: Event,
}

// SAFETY: the handles may be used from any thread.
unsafe impl Send for Subscription {}

impl Subscription {
    /// Subscribes.
    ///
    /// # Errors
    /// There is no such channel, it may not be read, or what the bookmark names is gone
    /// (the log was cleared or has gone round).
    pub fn begin(channel: &str, query: &str, from: From<'_>) -> io::Result<Self> {
        let event = Event::new()?;
        let (channel, query) = (wide(channel), wide(query));
        // Only where there is one: stand-ins for the API end the process that asks for a bookmark.
        let known = match from {
            From::After(bookmark) => Some(bookmark_of(bookmark)?),
            From::Oldest | From::Now => None,
        };
        let flags = match from {
            From::After(_) => EvtSubscribeStartAfterBookmark | EvtSubscribeStrict,
            From::Oldest => EvtSubscribeStartAtOldestRecord,
            From::Now => EvtSubscribeToFutureEvents,
        };
        let from = known.as_ref().map_or(0, |mark| mark.0);
        // SAFETY: the texts end in zeros, the event lives as long as the subscription, no callback is given.
        let handle = unsafe {
            EvtSubscribe(0, event.raw(), channel.as_ptr(), query.as_ptr(), from, null(), None, flags)
        };
        if handle == 0 {
            return Err(known_error());
        }
        let handle = Handle(handle);
        let bookmark = match known {
            Some(mark) => mark,
            None => empty_bookmark()?,
        };
        Ok(Self { handle, bookmark, event })
    }

    /// Set when there is something to be taken.
    pub fn event(&self) -> &Event {
        &self.event
    }

    /// Takes what there is, at most `most` and [`MOST_BATCH`].
    ///
    /// # Errors
    /// The subscription is broken: the log was cleared with what was waiting, its service is gone, or the batch was
    /// more than the system hands over at once. What was not taken comes after the bookmark.
    pub fn take(&mut self, most: usize) -> io::Result<Taken> {
        let mut handles: [EVT_HANDLE; MOST_BATCH] = [0; MOST_BATCH];
        let most = u32::try_from(most.clamp(1, MOST_BATCH)).unwrap_or(1);
        let mut count = 0;
        // Before it is looked: what comes from now on sets it again.
        self.event.reset();
        // SAFETY: there is room for as many handles as are asked for.
        let got = unsafe { EvtNext(self.handle.0, most, handles.as_mut_ptr(), 0, 0, &raw mut count) };
        if got == 0 {
            let error = last_error();
            return match error.raw_os_error().map(i32::cast_unsigned) {
                Some(ERROR_NO_MORE_ITEMS | ERROR_TIMEOUT) => Ok(Taken::default()),
                _ => Err(known(error)),
            };
        }
        // There may be more, of which nobody tells again.
        self.event.set();
        let mut taken = Taken::default();
        for handle in handles.into_iter().take(count as usize) {
            let event = Handle(handle);
            match render(event.0, EvtRenderEventXml) {
                Ok(xml) => taken.events.push(xml),
                Err(error) => {
                    taken.unreadable += 1;
                    taken.reason.get_or_insert_with(|| error.to_string());
                }
            }
            // SAFETY: both handles are open.
            unsafe { EvtUpdateBookmark(self.bookmark.0, event.0) };
        }
        Ok(taken)
    }

    /// Where it is, as text that [`begin`](Self::begin) takes.
    ///
    /// # Errors
    /// Nothing has been taken yet, or the system does not say.
    pub fn bookmark(&self) -> io::Result<String> {
        render(self.bookmark.0, EvtRenderBookmark)
    }

    /// Waits until there is something to be taken.
    pub fn wait(&self, limit: Duration) -> bool {
        self.event.wait(limit)
    }
}

/// A bookmark at the newest record that the query finds; `None` where it finds none.
///
/// # Errors
/// There is no such channel, it may not be read, or nothing was found for a long time.
pub fn newest(channel: &str, query: &str) -> io::Result<Option<String>> {
    let (channel, query) = (wide(channel), wide(query));
    let flags = EvtQueryChannelPath | EvtQueryReverseDirection;
    // SAFETY: the texts end in zeros.
    let found = handle_of(unsafe { EvtQuery(0, channel.as_ptr(), query.as_ptr(), flags) })?;
    let (mut handle, mut count): (EVT_HANDLE, u32) = (0, 0);
    // SAFETY: there is room for the one handle that is asked for.
    let got = unsafe { EvtNext(found.0, 1, &raw mut handle, SEARCH_MILLIS, 0, &raw mut count) };
    if got == 0 {
        let error = last_error();
        return match error.raw_os_error().map(i32::cast_unsigned) {
            Some(ERROR_NO_MORE_ITEMS) => Ok(None),
            _ => Err(known(error)),
        };
    }
    let newest = Handle(handle);
    let bookmark = empty_bookmark()?;
    // SAFETY: both handles are open.
    check(unsafe { EvtUpdateBookmark(bookmark.0, newest.0) })?;
    render(bookmark.0, EvtRenderBookmark).map(Some)
}

/// Whether a channel is switched on.
///
/// # Errors
/// There is no such channel, or the system does not say.
pub fn is_enabled(channel: &str) -> io::Result<bool> {
    let channel = wide(channel);
    // SAFETY: the text ends in a zero.
    let config = handle_of(unsafe { EvtOpenChannelConfig(0, channel.as_ptr(), 0) })?;
    let mut value = EVT_VARIANT::default();
    let room = u32::try_from(size_of::<EVT_VARIANT>()).unwrap_or(0);
    let mut used = 0;
    // SAFETY: `room` is that of the value, the handle is open.
    check(unsafe {
        EvtGetChannelConfigProperty(config.0, EvtChannelConfigEnabled, 0, room, &raw mut value, &raw mut used)
    })?;
    if value.Type != EvtVarTypeBoolean.cast_unsigned() {
        return Err(io::ErrorKind::InvalidData.into());
    }
    // SAFETY: the type says that it is this one.
    Ok(unsafe { value.Anonymous.BooleanVal } != 0)
}

fn bookmark_of(text: &str) -> io::Result<Handle> {
    let text = wide(text);
    // SAFETY: the text ends in a zero.
    handle_of(unsafe { EvtCreateBookmark(text.as_ptr()) })
}

fn empty_bookmark() -> io::Result<Handle> {
    // SAFETY: null asks for an empty one.
    handle_of(unsafe { EvtCreateBookmark(null()) })
}

fn handle_of(handle: EVT_HANDLE) -> io::Result<Handle> {
    if handle == 0 { Err(known_error()) } else { Ok(Handle(handle)) }
}

fn render(fragment: EVT_HANDLE, what: u32) -> io::Result<String> {
    let (mut used, mut properties) = (0, 0);
    let mut buffer = vec![0_u16; 4 << 10];
    loop {
        let room = u32::try_from(buffer.len() * 2).unwrap_or(0);
        // SAFETY: `room` is that of the buffer.
        let got = unsafe {
            EvtRender(0, fragment, what, room, buffer.as_mut_ptr().cast(), &raw mut used, &raw mut properties)
        };
        match check(got) {
            Ok(()) => return Ok(shown(until_zero(&buffer))),
            Err(error) => {
                let more = error.raw_os_error() == Some(ERROR_INSUFFICIENT_BUFFER.cast_signed());
                if !more || used <= room || used > MOST_XML_BYTES {
                    return Err(error);
                }
                buffer.resize(used as usize / 2 + 1, 0);
            }
        }
    }
}

/// The last error; a null without one, as stand-ins for the API give it, is no success.
fn known_error() -> io::Error {
    known(last_error())
}

fn known(error: io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(0) => io::Error::new(io::ErrorKind::Unsupported, "the system has no such event log"),
        _ => error,
    }
}

/// How bad a report is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Somebody must act.
    Error,
    /// Good to know.
    Information,
}

/// Reports of this program to the log `Application`.
pub struct Reporter(HANDLE);

impl Reporter {
    /// Opens a source.
    ///
    /// # Errors
    /// The event log's service does not answer.
    pub fn open(source: &str) -> io::Result<Self> {
        let source = wide(source);
        // SAFETY: null is this machine, the name ends in a zero.
        let handle = unsafe { RegisterEventSourceW(null(), source.as_ptr()) };
        if handle.is_null() { Err(last_error()) } else { Ok(Self(handle)) }
    }

    /// Writes a report.
    ///
    /// # Errors
    /// The log takes none.
    pub fn report(&self, level: Level, text: &str) -> io::Result<()> {
        let kind = match level {
            Level::Error => EVENTLOG_ERROR_TYPE,
            Level::Information => EVENTLOG_INFORMATION_TYPE,
        };
        let text = wide(text);
        let texts = [text.as_ptr()];
        // SAFETY: one text is given, which ends in a zero, no SID and no data.
        check(unsafe { ReportEventW(self.0, kind, 0, REPORT_ID, null_mut(), 1, 0, texts.as_ptr(), null()) })
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        // SAFETY: the handle is open and nobody else's.
        unsafe { DeregisterEventSource(self.0) };
    }
}

/// A program of Windows whose messages 1 to 1000 are the text that they are given.
const MESSAGE_FILE: &str = r"%SystemRoot%\System32\EventCreate.exe";
const REPORT_ID: u32 = 1;
const SOURCES: &str = r"HKLM\SYSTEM\CurrentControlSet\Services\EventLog\Application";
/// `REG_EXPAND_SZ`, `REG_DWORD`.
const EXPANDED_TEXT: u32 = 2;
const NUMBER: u32 = 4;
/// Errors, warnings and information.
const ALL_TYPES: u32 = 7;

/// Makes a source known, so that its reports are shown as they are.
///
/// # Errors
/// The registry may not be written.
pub fn register_source(name: &str) -> io::Result<()> {
    let key = Key::create(&format!(r"{SOURCES}\{name}"))?;
    let file: Vec<u8> = wide(MESSAGE_FILE).into_iter().flat_map(u16::to_le_bytes).collect();
    key.set("EventMessageFile", EXPANDED_TEXT, &file)?;
    key.set("TypesSupported", NUMBER, &ALL_TYPES.to_le_bytes())
}

/// Takes [`register_source`] back.
///
/// # Errors
/// There is no such source, or the registry may not be written.
pub fn forget_source(name: &str) -> io::Result<()> {
    Key::open_for_writing(SOURCES)?.delete_tree(name)
}
