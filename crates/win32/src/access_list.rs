//! Who may use a folder.

use std::io;
use std::path::Path;
use std::ptr::null_mut;

use windows_sys::Win32::Foundation::LocalFree;
use windows_sys::Win32::Security::Authorization::{
    ConvertStringSecurityDescriptorToSecurityDescriptorW, GetNamedSecurityInfoW, SDDL_REVISION_1,
    SE_FILE_OBJECT, SetNamedSecurityInfoW,
};
use windows_sys::Win32::Security::{
    ACL, DACL_SECURITY_INFORMATION, GetSecurityDescriptorDacl, OWNER_SECURITY_INFORMATION,
    PROTECTED_DACL_SECURITY_INFORMATION,
};

use crate::text::wide;
use crate::{check, check_code};

/// Full access for the system and for administrators, for nobody else; inherited by all below, and nothing
/// inherited from above.
const SYSTEM_AND_ADMINISTRATORS: &str = "D:P(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)";

/// Lets only the system and administrators into a folder.
///
/// # Errors
/// The list can't be set.
pub fn close_folder(path: &Path) -> io::Result<()> {
    let text = wide(SYSTEM_AND_ADMINISTRATORS);
    let mut descriptor = null_mut();
    // SAFETY: the text ends in a zero, `descriptor` is live, its size is not asked for.
    check(unsafe {
        ConvertStringSecurityDescriptorToSecurityDescriptorW(
            text.as_ptr(),
            SDDL_REVISION_1,
            &raw mut descriptor,
            null_mut(),
        )
    })?;
    let (mut present, mut defaulted) = (0, 0);
    let mut list: *mut ACL = null_mut();
    // SAFETY: the descriptor was just made, the others are live.
    let got =
        unsafe { GetSecurityDescriptorDacl(descriptor, &raw mut present, &raw mut list, &raw mut defaulted) };
    let path = wide(&path.to_string_lossy());
    let result = check(got).and_then(|()| {
        let what = DACL_SECURITY_INFORMATION | PROTECTED_DACL_SECURITY_INFORMATION;
        // SAFETY: the path ends in a zero, the list is in the descriptor, owner, group and SACL are not set.
        check_code(unsafe {
            SetNamedSecurityInfoW(
                path.as_ptr(),
                SE_FILE_OBJECT,
                what,
                null_mut(),
                null_mut(),
                list,
                null_mut(),
            )
        })
    });
    // SAFETY: the system allocated it for us.
    unsafe { LocalFree(descriptor) };
    result
}

/// The SID of whoever owns a file, for example `S-1-5-18`.
///
/// # Errors
/// There is none, or the system does not say.
pub fn owner_of(path: &Path) -> io::Result<String> {
    let path = wide(&path.to_string_lossy());
    let (mut owner, mut descriptor) = (null_mut(), null_mut());
    // SAFETY: the path ends in a zero, `owner` and `descriptor` are live, the others are not asked for.
    check_code(unsafe {
        GetNamedSecurityInfoW(
            path.as_ptr(),
            SE_FILE_OBJECT,
            OWNER_SECURITY_INFORMATION,
            &raw mut owner,
            null_mut(),
            null_mut(),
            null_mut(),
            &raw mut descriptor,
        )
    })?;
    let text = crate::user::sid_text(owner);
    // SAFETY: the system allocated it for us; the SID in it is not used any more.
    unsafe { LocalFree(descriptor) };
    text
}
