//! Makes the crate follow what is embedded in it: the console's build and the starter rules.

use std::path::Path;

fn main() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let console = root.join("console/dist");
    // Cargo runs this again and again for a folder that is not there; an empty one
    // means a server that says how to build the console.
    if let Err(error) = std::fs::create_dir_all(&console) {
        println!("cargo::warning={}: {error}", console.display());
    }
    for folder in [console, root.join("rules")] {
        println!("cargo::rerun-if-changed={}", folder.display());
    }
}
