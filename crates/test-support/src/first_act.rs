//! Programs that show whether they ran at all.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// What such a program does once it has done its first act.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// It ends, with status 0.
    Ends,
    /// It waits for a signal.
    Waits,
}

/// Writes a program for Linux on x86-64 that needs no library, and whose first instructions make the file that its first
/// argument names.
///
/// # Errors
/// If it can't be written.
pub fn write_first_act_program(path: &Path, then: Then) -> io::Result<()> {
    let mut code = vec![
        0x48, 0x8b, 0x7c, 0x24, 0x10, // mov rdi, [rsp + 16]
        0xbe, 0x41, 0x00, 0x00, 0x00, // mov esi, O_WRONLY | O_CREAT
        0xba, 0xa4, 0x01, 0x00, 0x00, // mov edx, 0644
        0xb8, 0x02, 0x00, 0x00, 0x00, // mov eax, open
        0x0f, 0x05, // syscall
    ];
    if then == Then::Waits {
        code.extend([
            0xb8, 0x22, 0x00, 0x00, 0x00, // mov eax, pause
            0x0f, 0x05, // syscall
        ]);
    }
    code.extend([
        0x31, 0xff, // xor edi, edi
        0xb8, 0x3c, 0x00, 0x00, 0x00, // mov eax, exit
        0x0f, 0x05, // syscall
    ]);
    // An ELF header, one header of a segment that is loaded whole, and the code.
    let (base, headers) = (0x40_0000_u64, 64 + 56_u64);
    let size = headers + code.len() as u64;
    let mut elf = Vec::new();
    elf.extend(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    elf.extend([2_u16, 62].into_iter().flat_map(u16::to_le_bytes));
    elf.extend(1_u32.to_le_bytes());
    elf.extend([base + headers, 64, 0].into_iter().flat_map(u64::to_le_bytes));
    elf.extend(0_u32.to_le_bytes());
    elf.extend([64_u16, 56, 1, 64, 0, 0].into_iter().flat_map(u16::to_le_bytes));
    elf.extend([1_u32, 5].into_iter().flat_map(u32::to_le_bytes));
    elf.extend([0, base, base, size, size, 0x1000].into_iter().flat_map(u64::to_le_bytes));
    elf.extend(code);
    fs::write(path, elf)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
}
