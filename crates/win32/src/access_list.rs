//! Who may use a folder.

use std::io;
use std::path::Path;
use std::ptr::null_mut;

use windows_sys::Win32::Foundation::LocalFree;
use windows_sys::Win32::Security::Authorization::{
    ConvertStringSecurityDescriptorToSecurityDescriptorW, SDDL_REVISION_1, SE_FILE_OBJECT,
    SetNamedSecurityInfoW,
};
use windows_sys::Win32::Security::{
    ACL, DACL_SECURITY_INFORMATION, GetSecurityDescriptorDacl, PROTECTED_DACL_SECURITY_INFORMATION,
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
