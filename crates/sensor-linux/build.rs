//! Compiles the BPF programs with clang; the object is embedded in the library.

use std::env;
use std::error::Error;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;

fn main() -> Result<(), Box<dyn Error>> {
    for source in ["bpf/process.bpf.c", "bpf/record.h", "bpf/kernel_types.h"] {
        println!("cargo:rerun-if-changed={source}");
    }
    println!("cargo:rerun-if-env-changed=CLANG");

    // libbpf-sys hands on where it put the headers of its libbpf.
    let headers = env::var("DEP_BPF_INCLUDE").map_err(|_| "libbpf-sys did not say where its headers are")?;
    let object = PathBuf::from(env::var("OUT_DIR")?).join("process.bpf.o");
    let clang = clang();
    let output = Command::new(&clang)
        .args(["-g", "-O2", "-target", "bpf", "-mcpu=v3", "-Wall", "-Wextra", "-Werror", "-fno-ident"])
        // The object must not depend on where it was built.
        .arg(format!("-ffile-prefix-map={}=.", env::var("CARGO_MANIFEST_DIR")?))
        .arg("-I")
        .arg(&headers)
        .args(["-c", "bpf/process.bpf.c", "-o"])
        .arg(&object)
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
        return Err(
            format!("{} could not compile the BPF programs:\n{messages}", clang.to_string_lossy()).into()
        );
    }
    let hash = fnv1a(&std::fs::read(&object)?);
    println!("cargo:rustc-env=RAMPART_BPF_OBJECT={}", object.display());
    println!("cargo:rustc-env=RAMPART_BPF_OBJECT_HASH={hash}");
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
