//! Who may use a folder, and whose it is.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::windows::fs::OpenOptionsExt as _;
use std::os::windows::io::AsRawHandle as _;
use std::path::Path;
use std::ptr::null_mut;

use windows_sys::Win32::Foundation::LocalFree;
use windows_sys::Win32::Security::Authorization::{
    ConvertStringSecurityDescriptorToSecurityDescriptorW, GetNamedSecurityInfoW, GetSecurityInfo,
    SDDL_REVISION_1, SE_FILE_OBJECT,
};
use windows_sys::Win32::Security::{
    DACL_SECURITY_INFORMATION, OWNER_SECURITY_INFORMATION, PROTECTED_DACL_SECURITY_INFORMATION,
    PSECURITY_DESCRIPTOR, PSID, SetKernelObjectSecurity,
};
use windows_sys::Win32::Storage::FileSystem::{
    FILE_FLAG_BACKUP_SEMANTICS, FILE_FLAG_OPEN_REPARSE_POINT, FILE_READ_ATTRIBUTES, READ_CONTROL, WRITE_DAC,
    WRITE_OWNER,
};

use crate::file::{facts, facts_at, may_not_answer};
use crate::text::wide;
use crate::{check, check_code};

/// Owned by the administrators; full access for them and for the system, for nobody else; inherited by all below,
/// and nothing inherited from above.
const SYSTEM_AND_ADMINISTRATORS: &str = "O:BAD:P(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)";

/// Windows' installer of its own files: what belongs to it is Windows'.
const TRUSTED_INSTALLER: &str = "S-1-5-80-956008885-3418522649-1831038044-1853292631-2271478464";

/// The system, the administrators, and Windows' installer.
const TRUSTED_OWNERS: [&str; 3] = ["S-1-5-18", "S-1-5-32-544", TRUSTED_INSTALLER];

/// Folders in folders that are gone through.
const MOST_DEPTH: usize = 32;

/// Lets only the system and administrators into a folder and all that is in it, and makes the administrators
/// its owner: an owner may change who gets in at any time.
///
/// What is there already is taken only if nobody else could have put it there: nothing may be a link, have
/// several names, or belong to anybody but the system, the administrators and whom this process runs as.
///
/// # Errors
/// Something is not as said above, or its list can't be set. The folder may be closed by then and what is in
/// it not all; it is not to be used.
pub fn close_folder(path: &Path) -> io::Result<()> {
    let own = crate::user::of_this_process()?.sid.clone();
    let descriptor = Descriptor::new(SYSTEM_AND_ADMINISTRATORS)?;
    close(path, &own, &descriptor, 0)
}

fn close(path: &Path, own: &str, descriptor: &Descriptor, depth: usize) -> io::Result<()> {
    let refused = |why: String| {
        let text = format!("{}: {why}; hint: look what it is, and remove it", path.display());
        io::Error::new(io::ErrorKind::PermissionDenied, text)
    };
    let doing = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    if depth > MOST_DEPTH {
        return Err(refused("lies too deep".to_owned()));
    }
    let held = OpenOptions::new()
        .access_mode(FILE_READ_ATTRIBUTES | READ_CONTROL | WRITE_DAC | WRITE_OWNER)
        .custom_flags(FILE_FLAG_OPEN_REPARSE_POINT | FILE_FLAG_BACKUP_SEMANTICS)
        .open(path)
        .map_err(doing)?;
    let facts = facts(&held).map_err(doing)?;
    if facts.is_reparse_point() {
        return Err(refused("leads elsewhere".to_owned()));
    }
    if !facts.is_folder() && facts.links > 1 {
        return Err(refused(format!("has {} names", facts.links)));
    }
    let owner = owner_by_handle(&held).map_err(doing)?;
    if owner != own && !TRUSTED_OWNERS.contains(&owner.as_str()) {
        return Err(refused(format!("belongs to {owner}, who may be anybody")));
    }
    descriptor.set_on(&held).map_err(doing)?;
    // From here on nobody else can put another in its place; somebody may have done so before.
    let now = facts_at(path).map_err(doing)?;
    if (now.volume, now.index) != (facts.volume, facts.index) {
        return Err(refused("became another one just now".to_owned()));
    }
    if facts.is_folder() {
        for entry in std::fs::read_dir(path).map_err(doing)? {
            close(&entry.map_err(doing)?.path(), own, descriptor, depth + 1)?;
        }
    }
    Ok(())
}

/// A security descriptor that the system allocated.
struct Descriptor(PSECURITY_DESCRIPTOR);

impl Descriptor {
    fn new(text: &str) -> io::Result<Self> {
        let text = wide(text);
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
        Ok(Self(descriptor))
    }

    /// On this object alone: what is below a folder is not gone through by the system, which follows paths.
    fn set_on(&self, file: &File) -> io::Result<()> {
        let what =
            OWNER_SECURITY_INFORMATION | DACL_SECURITY_INFORMATION | PROTECTED_DACL_SECURITY_INFORMATION;
        // SAFETY: the handle is open for the call, the descriptor is live and has an owner and a list.
        check(unsafe { SetKernelObjectSecurity(file.as_raw_handle(), what, self.0) })
    }
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        // SAFETY: the system allocated it for us.
        unsafe { LocalFree(self.0) };
    }
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
    text_of(owner, Descriptor(descriptor))
}

/// Whether a file is one of Windows' own, by its owner: nobody but the system can give it to its installer. One that
/// may be on another host is not, and is not asked for there.
///
/// # Errors
/// There is none, or the system does not say.
pub fn belongs_to_windows(path: &Path) -> io::Result<bool> {
    if may_not_answer(path) {
        return Ok(false);
    }
    owner_of(path).map(|owner| owner == TRUSTED_INSTALLER)
}

fn owner_by_handle(file: &File) -> io::Result<String> {
    let (mut owner, mut descriptor) = (null_mut(), null_mut());
    // SAFETY: the handle is open for the call, `owner` and `descriptor` are live, the others are not asked for.
    check_code(unsafe {
        GetSecurityInfo(
            file.as_raw_handle(),
            SE_FILE_OBJECT,
            OWNER_SECURITY_INFORMATION,
            &raw mut owner,
            null_mut(),
            null_mut(),
            null_mut(),
            &raw mut descriptor,
        )
    })?;
    text_of(owner, Descriptor(descriptor))
}

/// The SID lies in the descriptor, which is freed with this.
fn text_of(owner: PSID, _: Descriptor) -> io::Result<String> {
    crate::user::sid_text(owner)
}
