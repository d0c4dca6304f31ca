//! Compiles the BPF programs with clang; the object is embedded in the library.

use std::env;
use std::error::Error;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The hook families, each an object of its own; src/families.rs says what they make.
const FAMILIES: &[&str] = &[
    "process",
    "file",
    "path",
    "network",
    "dns",
    "memory",
    "mapping",
    "signal",
    "privilege",
    "kernel_objects",
    "module_calls",
    "mount",
    "unix_socket",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=bpf");
    println!("cargo:rerun-if-env-changed=CLANG");

    // libbpf-sys hands on where it put the headers of its libbpf.
    let headers = env::var("DEP_BPF_INCLUDE").map_err(|_| "libbpf-sys did not say where its headers are")?;
    let out_dir = PathBuf::from(env::var("OUT_DIR")?);
    let clang = clang();
    let mut all = Vec::new();
    for family in FAMILIES {
        let source = format!("bpf/{family}.bpf.c");
        let object = out_dir.join(format!("{family}.bpf.o"));
        compile(&clang, &headers, &source, &object)?;
        all.extend(std::fs::read(&object)?);
    }
    let hash = fnv1a(&all);
    println!("cargo:rustc-env=RAMPART_BPF_OBJECT_HASH={hash}");
    Ok(())
}

fn compile(clang: &OsStr, headers: &str, source: &str, object: &Path) -> Result<(), Box<dyn Error>> {
    let output = Command::new(clang)
        .args(["-g", "-O2", "-target", "bpf", "-mcpu=v3", "-Wall", "-Wextra", "-Werror", "-fno-ident"])
        // The object must not depend on where it was built.
        .arg(format!("-ffile-prefix-map={}=.", env::var("CARGO_MANIFEST_DIR")?))
        .args(["-I", headers, "-c", source, "-o"])
        .arg(object)
        .output()
        .map_err(|error| {
            format!(
                "the BPF programs need clang, but `{}` can't be run: {error}\n\
                 hint: `make deps` installs it; CLANG=/path/to/clang names another",
                clang.to_string_lossy()
            )
        })?;
    if !output.status.success() {
        let messages = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(format!("{} could not compile {source}:\n{messages}", clang.to_string_lossy()).into());
    }
    Ok(())
}

fn clang() -> OsString {
    if let Some(named) = env::var_os("CLANG") {
        return named;
    }
    ["clang-19", "clang"]
        .into_iter()
        .find(|name| Command::new(name).arg("--version").output().is_ok_and(|output| output.status.success()))
        .unwrap_or("clang")
        .into()
}

/// Tells one build of the programs from another; not a defence against anyone.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}
