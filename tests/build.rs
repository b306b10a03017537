//! Puts the lab's eBPF objects where the library embeds them (`OUT_DIR`). Never fails for want of one: an empty file means "built without
//! it", and the lab says so when it is used.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
};

fn main() -> io::Result<()> {
    println!("cargo:rerun-if-changed=build.rs");
    let var = |name: &str| env::var_os(name).map(PathBuf::from);
    // Unwrap: cargo always sets these two for a build script.
    let (out, krate) = (var("OUT_DIR").unwrap(), var("CARGO_MANIFEST_DIR").unwrap());
    for name in ["lab.o", "decide.o"] {
        embed(&krate.join("../target/bpf").join(name), &out.join(name))?;
    }
    Ok(())
}

fn embed(object: &Path, out: &Path) -> io::Result<()> {
    if !object.exists() {
        // cargo takes a missing file for a changed one and would compile this crate anew each time; an empty file stands
        // still until the object is there. Where it cannot be written, the object is simply not watched.
        let made = object.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(object, []));
        if made.is_err() {
            return fs::write(out, []);
        }
    }
    println!("cargo:rerun-if-changed={}", object.display());
    fs::write(out, fs::read(object)?)
}
