//! Puts the eBPF object where the library embeds it (`OUT_DIR/gray.o`), and names the revision. Builds nothing, needs no
//! tool, and never fails for want of the object: an empty file means "built without one".

use std::{
    env, fs, io,
    path::{Path, PathBuf},
    process::Command,
};

use sha2::{Digest as _, Sha256};

fn main() -> io::Result<()> {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=GRAY_BPF_OBJECT");
    let var = |name: &str| env::var_os(name).filter(|v| !v.is_empty());
    // Unwrap: cargo always sets these two for a build script.
    let out = PathBuf::from(var("OUT_DIR").unwrap()).join("gray.o");
    let krate = PathBuf::from(var("CARGO_MANIFEST_DIR").unwrap());
    match var("GRAY_BPF_OBJECT").map(PathBuf::from) {
        Some(object) => embed(&object, &out).map_err(|e| named(&object, &e))?,
        None => embed_default(&krate.join("../target/bpf/gray.o"), &out)?,
    }
    println!("cargo:rustc-env=GRAY_GIT={}", revision(&krate).unwrap_or_default());
    Ok(())
}

fn embed(object: &Path, out: &Path) -> io::Result<()> {
    println!("cargo:rerun-if-changed={}", object.display());
    write(out, &fs::read(object)?)
}

/// The object, and a digest by which a program that the kernel has is known to be of this one.
fn write(out: &Path, object: &[u8]) -> io::Result<()> {
    let digest: String = Sha256::digest(object).iter().take(8).map(|b| format!("{b:02x}")).collect();
    println!("cargo:rustc-env=GRAY_OBJECT={digest}");
    fs::write(out, object)
}

/// What `cargo xtask build` left, or nothing.
fn embed_default(object: &Path, out: &Path) -> io::Result<()> {
    if !object.exists() {
        // cargo takes a missing file for a changed one and would compile this crate anew each time; an empty file stands
        // still until the object is there. Where it cannot be written, the object is simply not watched.
        let made = object.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(object, []));
        if made.is_err() {
            return write(out, &[]);
        }
    }
    embed(object, out)
}

fn named(path: &Path, e: &io::Error) -> io::Error {
    io::Error::new(e.kind(), format!("GRAY_BPF_OBJECT={}: {e}", path.display()))
}

/// The commit of a release build; empty for debug builds, which need not be compiled anew after each commit.
fn revision(krate: &Path) -> Option<String> {
    if env::var("PROFILE").ok()? != "release" {
        return None;
    }
    let git = |args: &[&str]| {
        let out =
            Command::new("git").args(args).current_dir(krate).output().ok().filter(|o| o.status.success())?;
        Some(String::from_utf8(out.stdout).ok()?.trim().to_string())
    };
    // The log of HEAD grows with each commit and checkout.
    let log = krate.join(git(&["rev-parse", "--git-path", "logs/HEAD"])?);
    if log.exists() {
        println!("cargo:rerun-if-changed={}", log.display());
    }
    git(&["rev-parse", "--short=12", "HEAD"])
}
