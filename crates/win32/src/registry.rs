//! Keys and values of the registry.

use std::io;
use std::ptr::{null, null_mut};

use windows_sys::Win32::Foundation::{ERROR_MORE_DATA, ERROR_NO_MORE_ITEMS};
use windows_sys::Win32::System::Registry::{
    HKEY, HKEY_CLASSES_ROOT, HKEY_CURRENT_CONFIG, HKEY_CURRENT_USER, HKEY_LOCAL_MACHINE, HKEY_USERS,
    KEY_NOTIFY, KEY_READ, KEY_WOW64_64KEY, KEY_WRITE, REG_NOTIFY_CHANGE_LAST_SET, REG_NOTIFY_CHANGE_NAME,
    REG_OPTION_NON_VOLATILE, REG_OPTION_VOLATILE, RegCloseKey, RegCreateKeyExW, RegDeleteTreeW,
    RegDeleteValueW, RegEnumKeyExW, RegEnumValueW, RegNotifyChangeKeyValue, RegOpenKeyExW, RegQueryInfoKeyW,
    RegQueryValueExW, RegSetValueExW,
};

use crate::check_code;
use crate::event::Event;
use crate::text::wide;

/// `REG_BINARY`.
pub const BINARY: u32 = 3;

/// Longest name of a value, in UTF-16 units, with its zero.
const MOST_NAME: usize = 16_384;

/// The roots, by the names under which people know them.
const ROOTS: [(&str, &str, HKEY); 5] = [
    ("HKLM", "HKEY_LOCAL_MACHINE", HKEY_LOCAL_MACHINE),
    ("HKCU", "HKEY_CURRENT_USER", HKEY_CURRENT_USER),
    ("HKU", "HKEY_USERS", HKEY_USERS),
    ("HKCR", "HKEY_CLASSES_ROOT", HKEY_CLASSES_ROOT),
    ("HKCC", "HKEY_CURRENT_CONFIG", HKEY_CURRENT_CONFIG),
];

/// An open key.
#[derive(Debug)]
pub struct Key(HKEY);

// SAFETY: a key's handle may be used from any thread.
unsafe impl Send for Key {}

/// A value as it stands there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawValue {
    /// Its name; not always UTF-16.
    pub name: Vec<u16>,
    /// The number of its type.
    pub kind: u32,
    /// Its data, as far as it was asked for.
    pub data: Vec<u8>,
    /// Full length of the data in bytes.
    pub length: usize,
}

fn split(path: &str) -> io::Result<(HKEY, &str)> {
    let (root, rest) = path.split_once('\\').unwrap_or((path, ""));
    let found = ROOTS
        .iter()
        .find(|(short, long, _)| root.eq_ignore_ascii_case(short) || root.eq_ignore_ascii_case(long));
    let (_, _, key) = found.ok_or_else(|| {
        let why = format!("`{root}` is no hive; allowed: HKLM, HKCU, HKU, HKCR, HKCC and their long names");
        io::Error::new(io::ErrorKind::InvalidInput, why)
    })?;
    Ok((*key, rest.trim_end_matches('\\')))
}

impl Key {
    /// Opens a key for reading and for being told of changes. 64-bit programs' view of it.
    ///
    /// # Errors
    /// There is none, or it may not be read.
    pub fn open(path: &str) -> io::Result<Self> {
        Self::open_for(path, KEY_READ | KEY_NOTIFY)
    }

    /// Opens a key for changing it.
    ///
    /// # Errors
    /// There is none, or it may not be written.
    pub fn open_for_writing(path: &str) -> io::Result<Self> {
        Self::open_for(path, KEY_READ | KEY_WRITE)
    }

    fn open_for(path: &str, access: u32) -> io::Result<Self> {
        let (root, rest) = split(path)?;
        let rest = wide(rest);
        let mut key = null_mut();
        // SAFETY: `rest` ends in a zero, `key` is live.
        let code = unsafe { RegOpenKeyExW(root, rest.as_ptr(), 0, access | KEY_WOW64_64KEY, &raw mut key) };
        check_code(code).map(|()| Self(key))
    }

    /// Opens a key, and makes it where there is none.
    ///
    /// # Errors
    /// It may not be made.
    pub fn create(path: &str) -> io::Result<Self> {
        Self::create_with(path, REG_OPTION_NON_VOLATILE)
    }

    /// The same with a key that is gone after the next boot.
    ///
    /// # Errors
    /// It may not be made.
    pub fn create_volatile(path: &str) -> io::Result<Self> {
        Self::create_with(path, REG_OPTION_VOLATILE)
    }

    fn create_with(path: &str, options: u32) -> io::Result<Self> {
        let (root, rest) = split(path)?;
        let rest = wide(rest);
        let access = KEY_READ | KEY_WRITE | KEY_WOW64_64KEY;
        let mut key = null_mut();
        // SAFETY: `rest` ends in a zero, `key` is live, no class, attributes and disposition are asked for.
        let code = unsafe {
            RegCreateKeyExW(root, rest.as_ptr(), 0, null(), options, access, null(), &raw mut key, null_mut())
        };
        check_code(code).map(|()| Self(key))
    }

    /// One value with all its data.
    ///
    /// # Errors
    /// There is none, or it may not be read.
    pub fn value(&self, name: &str) -> io::Result<RawValue> {
        self.value_within(name, usize::MAX)
    }

    /// The same, without its data where that has more than `most_bytes`.
    ///
    /// # Errors
    /// There is none, or it may not be read.
    pub fn value_within(&self, name: &str, most_bytes: usize) -> io::Result<RawValue> {
        let wide_name = wide(name);
        let mut data = vec![0_u8; 1_024];
        loop {
            let (mut kind, mut length) = (0_u32, u32::try_from(data.len()).unwrap_or(u32::MAX));
            // SAFETY: the name ends in a zero, `length` is what `data` has room for.
            let code = unsafe {
                RegQueryValueExW(
                    self.0,
                    wide_name.as_ptr(),
                    null(),
                    &raw mut kind,
                    data.as_mut_ptr(),
                    &raw mut length,
                )
            };
            if code == ERROR_MORE_DATA && (length as usize) > data.len() {
                if (length as usize) > most_bytes {
                    let (name, length) = (name.encode_utf16().collect(), length as usize);
                    return Ok(RawValue { name, kind, data: Vec::new(), length });
                }
                data.resize(length as usize, 0);
                continue;
            }
            check_code(code)?;
            data.truncate(length as usize);
            let length = data.len();
            return Ok(RawValue { name: name.encode_utf16().collect(), kind, data, length });
        }
    }

    /// All values, at most `most` of them, each with at most `most_bytes` of its data read.
    ///
    /// # Errors
    /// The key is gone, or may not be read.
    pub fn values(&self, most: u32, most_bytes: usize) -> io::Result<Vec<RawValue>> {
        let mut values = Vec::new();
        self.each_value(most, most_bytes, |value| values.push(value))?;
        Ok(values)
    }

    /// The same one after the other, so that the data of all need not be in memory at once. Gives their number.
    ///
    /// # Errors
    /// The key is gone, or may not be read.
    pub fn each_value(
        &self,
        most: u32,
        most_bytes: usize,
        mut take: impl FnMut(RawValue),
    ) -> io::Result<u32> {
        let longest = self.info()?.1.min(most_bytes);
        let mut name = vec![0_u16; MOST_NAME];
        let mut data = vec![0_u8; longest.max(1)];
        let mut index = 0;
        while index < most {
            let mut name_length = u32::try_from(name.len()).unwrap_or(u32::MAX);
            let (mut kind, mut length) = (0_u32, u32::try_from(data.len()).unwrap_or(u32::MAX));
            // SAFETY: the lengths are what the buffers have room for.
            let code = unsafe {
                RegEnumValueW(
                    self.0,
                    index,
                    name.as_mut_ptr(),
                    &raw mut name_length,
                    null(),
                    &raw mut kind,
                    data.as_mut_ptr(),
                    &raw mut length,
                )
            };
            match code {
                ERROR_NO_MORE_ITEMS => break,
                ERROR_MORE_DATA => {
                    // Longer than what is read of it, or it grew meanwhile.
                    if (length as usize) <= most_bytes && (length as usize) > data.len() {
                        data.resize(length as usize, 0);
                        continue;
                    }
                    let (kind, length) = self.kind_and_length(index, &mut name)?;
                    let name = name[..name_of(&name)].to_vec();
                    take(RawValue { name, kind, data: Vec::new(), length });
                }
                code => {
                    check_code(code)?;
                    let length = length as usize;
                    take(RawValue {
                        name: name[..name_length as usize].to_vec(),
                        kind,
                        data: data[..length].to_vec(),
                        length,
                    });
                }
            }
            index += 1;
        }
        Ok(index)
    }

    /// Name, type and length of a value whose data is not wanted.
    fn kind_and_length(&self, index: u32, name: &mut [u16]) -> io::Result<(u32, usize)> {
        name.fill(0);
        let mut name_length = u32::try_from(name.len()).unwrap_or(u32::MAX);
        let (mut kind, mut length) = (0_u32, 0_u32);
        // SAFETY: no data is asked for, `name_length` is what `name` has room for.
        let code = unsafe {
            RegEnumValueW(
                self.0,
                index,
                name.as_mut_ptr(),
                &raw mut name_length,
                null(),
                &raw mut kind,
                null_mut(),
                &raw mut length,
            )
        };
        check_code(code).map(|()| (kind, length as usize))
    }

    /// Names of the keys below, at most `most`.
    ///
    /// # Errors
    /// The key is gone, or may not be read.
    pub fn subkeys(&self, most: u32) -> io::Result<Vec<Vec<u16>>> {
        let mut names = Vec::new();
        // A name of a key has at most 255 units.
        let mut name = [0_u16; 256];
        for index in 0..most {
            let mut length = 256_u32;
            // SAFETY: `length` is what `name` has room for.
            let code = unsafe {
                RegEnumKeyExW(
                    self.0,
                    index,
                    name.as_mut_ptr(),
                    &raw mut length,
                    null(),
                    null_mut(),
                    null_mut(),
                    null_mut(),
                )
            };
            if code == ERROR_NO_MORE_ITEMS {
                break;
            }
            check_code(code)?;
            names.push(name[..length as usize].to_vec());
        }
        Ok(names)
    }

    /// False once it was deleted, which not every system tells those who watch it.
    pub fn is_there(&self) -> bool {
        self.info().is_ok()
    }

    /// Count of the keys below, and length of the longest value in bytes.
    fn info(&self) -> io::Result<(u32, usize)> {
        let (mut keys, mut longest) = (0_u32, 0_u32);
        // SAFETY: what is not asked for is null, the others are live.
        let code = unsafe {
            RegQueryInfoKeyW(
                self.0,
                null_mut(),
                null_mut(),
                null(),
                &raw mut keys,
                null_mut(),
                null_mut(),
                null_mut(),
                null_mut(),
                &raw mut longest,
                null_mut(),
                null_mut(),
            )
        };
        check_code(code).map(|()| (keys, longest as usize))
    }

    /// Has `event` set at the next change of a value or of the keys below; once.
    ///
    /// # Errors
    /// The key is gone, or may not be watched.
    pub fn tell_change(&self, event: &Event, below: bool) -> io::Result<()> {
        let what = REG_NOTIFY_CHANGE_NAME | REG_NOTIFY_CHANGE_LAST_SET;
        // SAFETY: the key is open; the event lives at least until the key is closed, which ends the watch.
        check_code(unsafe { RegNotifyChangeKeyValue(self.0, below.into(), what, event.raw(), 1) })
    }

    /// Sets a value.
    ///
    /// # Errors
    /// It may not be written.
    pub fn set(&self, name: &str, kind: u32, data: &[u8]) -> io::Result<()> {
        let name = wide(name);
        let length = u32::try_from(data.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        // SAFETY: the name ends in a zero, `length` is that of `data`.
        check_code(unsafe { RegSetValueExW(self.0, name.as_ptr(), 0, kind, data.as_ptr(), length) })
    }

    /// Removes a value.
    ///
    /// # Errors
    /// There is none, or it may not be removed.
    pub fn delete_value(&self, name: &str) -> io::Result<()> {
        let name = wide(name);
        // SAFETY: the name ends in a zero.
        check_code(unsafe { RegDeleteValueW(self.0, name.as_ptr()) })
    }

    /// Removes a key below with all in it.
    ///
    /// # Errors
    /// There is none, or it may not be removed.
    pub fn delete_tree(&self, name: &str) -> io::Result<()> {
        let name = wide(name);
        // SAFETY: the name ends in a zero.
        check_code(unsafe { RegDeleteTreeW(self.0, name.as_ptr()) })
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        // SAFETY: the key is open and nobody else's.
        unsafe { RegCloseKey(self.0) };
    }
}

fn name_of(name: &[u16]) -> usize {
    name.iter().position(|unit| *unit == 0).unwrap_or(name.len())
}
