//! Whom a process runs as.

use std::collections::HashMap;
use std::io;
use std::os::windows::io::{AsRawHandle, FromRawHandle, OwnedHandle};
use std::ptr::null;
use std::sync::{Arc, Mutex, PoisonError};

use windows_sys::Win32::Foundation::{HANDLE, LocalFree};
use windows_sys::Win32::Security::Authorization::ConvertSidToStringSidW;
use windows_sys::Win32::Security::{
    GetTokenInformation, LookupAccountSidW, PSID, SID_NAME_USE, TOKEN_QUERY, TOKEN_USER, TokenUser,
};
use windows_sys::Win32::System::Threading::{GetCurrentProcess, OpenProcessToken};

use crate::text::{shown, until_zero};
use crate::{check, last_error};

/// Users whose names are remembered.
const MOST_KNOWN: usize = 4_096;

/// An account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Its SID, for example `S-1-5-18`.
    pub sid: String,
    /// `DOMAIN\name`, where the system knows it.
    pub name: Option<String>,
}

impl User {
    /// The last part of the SID, which tells accounts of one domain apart: 500 for the administrator.
    pub fn relative_id(&self) -> u32 {
        self.sid.rsplit('-').next().and_then(|part| part.parse().ok()).unwrap_or(u32::MAX)
    }
}

/// Names by SID: asking may take a way to a domain controller.
static KNOWN: Mutex<Option<HashMap<String, Arc<User>>>> = Mutex::new(None);

/// Whom this process runs as.
pub(crate) fn of_this_process() -> io::Result<Arc<User>> {
    // SAFETY: the pseudo handle is always good.
    of_process(unsafe { GetCurrentProcess() })
}

pub(crate) fn of_process(process: HANDLE) -> io::Result<Arc<User>> {
    let mut token = std::ptr::null_mut();
    // SAFETY: the handle is open for the call, `token` is live.
    check(unsafe { OpenProcessToken(process, TOKEN_QUERY, &raw mut token) })?;
    // SAFETY: the handle is new and nobody else's.
    let token = unsafe { OwnedHandle::from_raw_handle(token) };
    // A TOKEN_USER with the longest SID has 16 + 68 bytes; aligned as the structure asks.
    let mut buffer = [0_u64; 32];
    let mut length = 0;
    let room = u32::try_from(size_of_val(&buffer)).unwrap_or(0);
    // SAFETY: `room` is that of the buffer.
    let got = unsafe {
        GetTokenInformation(
            token.as_raw_handle(),
            TokenUser,
            buffer.as_mut_ptr().cast(),
            room,
            &raw mut length,
        )
    };
    check(got)?;
    // SAFETY: the system filled in a TOKEN_USER, whose SID lies in the same buffer.
    let sid = unsafe { (*buffer.as_ptr().cast::<TOKEN_USER>()).User.Sid };
    known_or_asked(sid)
}

/// The account of a SID as an event carries it; `None` for what is none.
pub fn user_of_sid(sid: &[u8]) -> Option<Arc<User>> {
    // Revision 1, how many parts, six bytes of authority, and four for each part.
    let &[1, parts @ 0..=15, ..] = sid else { return None };
    // Words of four bytes: aligned as the structure asks.
    let mut copy = [0_u32; 2 + 15];
    let words = 2 + usize::from(parts);
    if sid.len() != words * 4 {
        return None;
    }
    for (word, bytes) in copy.iter_mut().zip(sid.chunks_exact(4)) {
        *word = u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    }
    known_or_asked(copy.as_mut_ptr().cast()).ok()
}

/// `sid` is a whole one, in a buffer that lives for the call.
fn known_or_asked(sid: PSID) -> io::Result<Arc<User>> {
    let text = sid_text(sid)?;
    let known = || KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(user) = known().get_or_insert_default().get(&text) {
        return Ok(Arc::clone(user));
    }
    // Not under the lock: whoever asks for one that is known must not wait for a domain controller.
    let user = Arc::new(User { sid: text.clone(), name: name_of(sid) });
    let mut known = known();
    let known = known.get_or_insert_default();
    if known.len() < MOST_KNOWN {
        known.insert(text, Arc::clone(&user));
    }
    Ok(user)
}

pub(crate) fn sid_text(sid: PSID) -> io::Result<String> {
    let mut text = std::ptr::null_mut();
    // SAFETY: the SID is in a live buffer, `text` is live.
    check(unsafe { ConvertSidToStringSidW(sid, &raw mut text) })?;
    let mut length = 0;
    // SAFETY: the text ends in a zero.
    while unsafe { *text.add(length) } != 0 {
        length += 1;
    }
    // SAFETY: so many units were just read.
    let read = shown(unsafe { std::slice::from_raw_parts(text, length) });
    // SAFETY: the system allocated it for us.
    unsafe { LocalFree(text.cast()) };
    Ok(read)
}

fn name_of(sid: PSID) -> Option<String> {
    let (mut name, mut domain) = ([0_u16; 256], [0_u16; 256]);
    let (mut name_length, mut domain_length) = (256_u32, 256_u32);
    let mut kind: SID_NAME_USE = 0;
    // SAFETY: the lengths are those of the buffers, the SID is in a live one.
    let found = unsafe {
        LookupAccountSidW(
            null(),
            sid,
            name.as_mut_ptr(),
            &raw mut name_length,
            domain.as_mut_ptr(),
            &raw mut domain_length,
            &raw mut kind,
        )
    };
    if found == 0 {
        let _ = last_error();
        return None;
    }
    let (name, domain) = (shown(until_zero(&name)), shown(until_zero(&domain)));
    Some(if domain.is_empty() { name } else { format!("{domain}\\{name}") })
}
