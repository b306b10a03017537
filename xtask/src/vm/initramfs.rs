//! The guest's first file system: busybox, the few modules that bring the host's files, and `tests/vm/init.sh`.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::Path,
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use super::image::Image;
use crate::{run, workspace::Workspace};

/// What the host's files come through.
const MODULES: [&str; 4] = ["virtio_pci", "9pnet_virtio", "9p", "overlay"];
const DIRS: [&str; 7] = ["dev", "proc", "sys", "m", "ro", "rw", "root"];

/// Writes the archive, about 4 MB.
pub fn write(ws: &Workspace, image: &Image, to: &Path) -> Result<()> {
    let busybox = run::find("busybox").context("no busybox")?;
    let program = fs::read(&busybox).with_context(|| busybox.display().to_string())?;
    if program.windows(4).any(|w| w == b"/ld-") {
        bail!("{} is not static: install busybox-static", busybox.display());
    }
    let init = ws.root.join("tests/vm/init.sh");
    let file = File::create(to).with_context(|| ws.show(to))?;
    let mut cpio = Cpio { out: BufWriter::new(file), inode: 0 };
    for dir in DIRS {
        cpio.entry(dir, DIRECTORY, b"")?;
    }
    cpio.entry("busybox", PROGRAM, &program)?;
    cpio.entry("init", PROGRAM, &fs::read(&init).with_context(|| ws.show(&init))?)?;
    let mut order = String::new();
    for module in MODULES {
        for path in image.with_dependencies(module)? {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let name = name.trim_end_matches(".xz");
            if !order.lines().any(|l| l == name) {
                cpio.entry(&format!("m/{name}"), PLAIN, &uncompressed(&path)?)?;
                order += &format!("{name}\n");
            }
        }
    }
    cpio.entry("modules", PLAIN, order.as_bytes())?;
    cpio.entry("TRAILER!!!", 0, b"")?;
    cpio.out.flush().with_context(|| ws.show(to))
}

fn uncompressed(module: &Path) -> Result<Vec<u8>> {
    if module.extension().is_none_or(|e| e != "xz") {
        return fs::read(module).with_context(|| module.display().to_string());
    }
    let out = Command::new("xz").arg("-dc").arg(module).output().context("cannot start xz")?;
    if !out.status.success() {
        bail!("xz -dc {}: {}", module.display(), String::from_utf8_lossy(&out.stderr).trim());
    }
    Ok(out.stdout)
}

const PLAIN: u32 = 0o100_644;
const PROGRAM: u32 = 0o100_755;
const DIRECTORY: u32 = 0o040_755;

/// The kernel's archive format (Documentation/driver-api/early-userspace/buffer-format.rst, "newc").
struct Cpio<W> {
    out: W,
    inode: u32,
}

impl<W: Write> Cpio<W> {
    fn entry(&mut self, name: &str, mode: u32, content: &[u8]) -> io::Result<()> {
        self.inode += 1;
        let (size, name_size) = (content.len() as u32, name.len() as u32 + 1);
        write!(self.out, "070701")?;
        // inode, mode, uid, gid, links, time, size, device (2), its device (2), size of the name, checksum.
        for field in [self.inode, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, name_size, 0] {
            write!(self.out, "{field:08x}")?;
        }
        self.out.write_all(name.as_bytes())?;
        self.out.write_all(&[0; 4][..1 + pad(110 + name_size)])?;
        self.out.write_all(content)?;
        self.out.write_all(&[0; 4][..pad(size)])
    }
}

/// To the next multiple of four.
fn pad(size: u32) -> usize {
    (size.next_multiple_of(4) - size) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_aligned() {
        for (name, content) in [("a", ""), ("ab", "x"), ("abc", "four"), ("abcd", "sixsix")] {
            let mut cpio = Cpio { out: Vec::new(), inode: 0 };
            cpio.entry(name, PLAIN, content.as_bytes()).unwrap();
            assert_eq!(cpio.out.len() % 4, 0, "{name}");
            let at = (110 + name.len() + 1).next_multiple_of(4);
            assert_eq!(&cpio.out[at..at + content.len()], content.as_bytes(), "{name}");
        }
    }
}
