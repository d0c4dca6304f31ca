//! The code with which a person on an isolated host lets it go, where nobody reaches the server.
//!
//! The server draws it and keeps it; the host has its hash only. Whoever is root on the host could take the
//! rules away as well, but the agent would put them back: with the code it lets the host go itself and says so.

use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand;
use os_files::OpenCautiously as _;

use crate::journal::write_whole;

/// Letters that are not taken for each other when they are read out.
const LETTERS: &[u8; 32] = b"ABCDEFGHJKLMNPQRSTUVWXYZ23456789";
/// Letters of a code: 100 bits.
const LENGTH: usize = 20;
const GROUP: usize = 5;

/// Draws a code, for example `AB2CD-EFGH3-…`.
///
/// # Errors
/// The system has no random numbers.
pub fn new_release_code() -> io::Result<String> {
    let mut random = [0_u8; LENGTH];
    rand::fill(&mut random).map_err(|_| io::Error::other("no random numbers"))?;
    let mut code = String::new();
    for (place, byte) in random.iter().enumerate() {
        if place > 0 && place % GROUP == 0 {
            code.push('-');
        }
        // 32 letters: each is as likely as any other.
        code.push(char::from(LETTERS[usize::from(byte % 32)]));
    }
    Ok(code)
}

/// What a host keeps of a code. Small letters, spaces and dashes are as good as what was shown.
pub fn release_hash(code: &str) -> String {
    let plain: String = code.chars().filter(char::is_ascii_alphanumeric).collect();
    let text = format!("rampart release v1\0{}", plain.to_ascii_uppercase());
    digest(&SHA256, text.as_bytes()).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn is_code(code: &str, hash: &str) -> bool {
    verify_slices_are_equal(release_hash(code).as_bytes(), hash.to_ascii_lowercase().as_bytes()).is_ok()
}

/// Where a code is left for the agent.
pub(crate) fn code_file(dir: &Path) -> PathBuf {
    dir.join("release-code")
}

/// Leaves a code for the agent that has this folder of responses; it looks each 15 s.
///
/// # Errors
/// The file can't be written.
pub fn leave_release_code(dir: &Path, code: &str) -> io::Result<()> {
    write_whole(&code_file(dir), code.as_bytes())
}

/// Whether the agent has not yet taken a code that was left.
pub fn is_release_code_waiting(dir: &Path) -> bool {
    code_file(dir).exists()
}

/// Whether the host is isolated, as far as this folder of responses says.
pub fn is_isolation_noted(dir: &Path) -> bool {
    isolation_file(dir).exists()
}

/// Where it is noted that the host is isolated.
pub(crate) fn isolation_file(dir: &Path) -> PathBuf {
    dir.join("isolation.json")
}

/// Takes a code that was left; it is there only once.
pub(crate) fn take_code(dir: &Path) -> Option<String> {
    let path = code_file(dir);
    let file = fs::OpenOptions::new().read(true).cautiously().open(&path).ok()?;
    let mut text = String::new();
    let read = file.take(256).read_to_string(&mut text);
    let _ = fs::remove_file(&path);
    read.ok().map(|_| text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_read_as_people_write_it_and_no_other_is_taken() {
        let code = new_release_code().unwrap();
        assert_eq!(code.len(), LENGTH + LENGTH / GROUP - 1);
        assert_ne!(code, new_release_code().unwrap());
        let hash = release_hash(&code);
        assert!(is_code(&code, &hash));
        assert!(is_code(&format!(" {} ", code.to_lowercase().replace('-', " ")), &hash));
        for wrong in ["", &code[1..], &new_release_code().unwrap()] {
            assert!(!is_code(wrong, &hash), "{wrong}");
        }
    }
}
