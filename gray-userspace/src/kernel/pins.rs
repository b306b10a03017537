//! The directory on the bpf file system where maps and links outlive the agent: its layout, mode and ABI number.

use std::{
    fs, io,
    os::fd::{AsFd as _, OwnedFd},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use gray_common::{abi::ABI, layouts};

use super::{KernelError, bpf};

/// `statfs` magic of bpffs.
const BPF_FS_MAGIC: i64 = 0xcafe_4a11;

/// One agent's pins: `<root>/abi<N>/maps/NAME`, and the same of `links` and `programs`.
#[derive(Clone, Debug)]
pub struct Pins {
    root: PathBuf,
    abi: u32,
}

impl Pins {
    /// Opens or makes the directory. Refuses one that others may write to, that is a symlink, that is not on bpffs, or
    /// that holds the pins of an ABI that this gray does not know.
    pub fn open_dir(root: &Path) -> Result<Self, KernelError> {
        let pins = Self { root: root.to_path_buf(), abi: ABI };
        let exists = Self::check(root)?;
        let parent = root.parent().filter(|p| p.exists());
        let probe = if exists { root } else { parent.unwrap_or(Path::new("/")) };
        if !on_bpffs(probe) {
            return Err(KernelError::NoBpffs { path: root.into() });
        }
        let make = |p: &Path| {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(p)
                .map_err(|e| KernelError::io("cannot make", p, e))
        };
        if exists {
            for other in pins.abi_dirs() {
                let known = other == ABI || layouts::KNOWN.contains(&other);
                let theirs = Self { abi: other, ..pins.clone() };
                if !known && theirs.holds_anything() {
                    return Err(KernelError::OtherAbi { path: root.into(), found: other, ours: ABI });
                }
            }
        }
        make(root)?;
        fs::set_permissions(root, fs::Permissions::from_mode(0o700))
            .map_err(|e| KernelError::io("cannot set the mode of", root, e))?;
        pins.make_dirs()?;
        Ok(pins)
    }

    /// As [`Pins::open_dir`], and makes nothing.
    pub fn existing(root: &Path) -> Result<Self, KernelError> {
        let pins = Self { root: root.to_path_buf(), abi: ABI };
        let _ = Self::check(root)?;
        if !on_bpffs(root) {
            return Err(KernelError::NoBpffs { path: root.into() });
        }
        for dir in pins.dirs() {
            let _ = Self::check(&dir)?;
        }
        Ok(pins)
    }

    pub fn make_dirs(&self) -> Result<(), KernelError> {
        for dir in self.dirs() {
            let _ = Self::check(&dir)?;
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&dir)
                .map_err(|e| KernelError::io("cannot make", &dir, e))?;
        }
        Ok(())
    }

    /// The same directory's pins of another ABI.
    pub fn of(&self, abi: u32) -> Self {
        Self { abi, ..self.clone() }
    }

    pub fn abi(&self) -> u32 {
        self.abi
    }

    /// Of another ABI, which these take over from.
    pub fn others(&self) -> Option<Self> {
        self.abi_dirs().into_iter().find(|abi| *abi != self.abi).map(|abi| self.of(abi))
    }

    /// Whether anything is pinned.
    pub fn is_empty(&self) -> bool {
        names(&self.dir("maps")).is_empty()
    }

    /// Links stay what they are, under another directory.
    pub fn hand_over_links(&self, to: &Self) -> Result<(), KernelError> {
        for name in self.links() {
            let (from, to) = (self.link(&name), to.link(&name));
            fs::rename(&from, to).map_err(|e| KernelError::io("cannot rename", &from, e))?;
        }
        Ok(())
    }

    /// Removes what is pinned, links not. What is at work lives on.
    pub fn remove_all(&self) -> Result<(), KernelError> {
        let [outer, maps, links, programs] = self.dirs();
        for dir in [&programs, &maps] {
            names(dir).iter().try_for_each(|name| self.remove(&dir.join(name)))?;
        }
        for dir in [maps, links, programs, outer] {
            match fs::remove_dir(&dir) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => {
                    return Err(KernelError::io("cannot remove", &dir, e));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Outer before inner.
    fn dirs(&self) -> [PathBuf; 4] {
        let maps = self.dir("maps");
        [maps.parent().unwrap_or(&self.root).into(), maps, self.dir("links"), self.dir("programs")]
    }

    /// Whether the directory exists; refuses what is none, a symbolic link and another user's.
    fn check(root: &Path) -> Result<bool, KernelError> {
        match fs::symlink_metadata(root) {
            Ok(m) if !m.is_dir() => {
                Err(KernelError::NotOurs { path: root.into(), why: "it is no directory" })
            }
            Ok(m) if another_user(&m) => Err(KernelError::NotOurs { path: root.into(), why: ANOTHER_USER }),
            Ok(_) => Ok(true),
            Err(_) => Ok(false),
        }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    fn dir(&self, kind: &str) -> PathBuf {
        self.root.join(format!("abi{}", self.abi)).join(kind)
    }

    pub fn map(&self, name: &str) -> PathBuf {
        self.dir("maps").join(name)
    }

    /// Of the map that shall take this one's place.
    pub fn next_map(&self, name: &str) -> PathBuf {
        self.dir("maps").join(format!("{name}-next"))
    }

    /// It takes the place in one step: no moment without a pin.
    pub fn put_in_place(&self, name: &str) -> Result<(), KernelError> {
        let next = self.next_map(name);
        fs::rename(&next, self.map(name)).map_err(|e| KernelError::io("cannot rename", &next, e))
    }

    pub fn link(&self, name: &str) -> PathBuf {
        self.dir("links").join(name)
    }

    /// Names of the pinned links.
    pub fn links(&self) -> Vec<String> {
        names(&self.dir("links"))
    }

    pub fn program(&self, name: &str) -> PathBuf {
        self.dir("programs").join(name)
    }

    /// Names of the pinned programs.
    pub fn programs(&self) -> Vec<String> {
        names(&self.dir("programs"))
    }

    fn abi_dirs(&self) -> Vec<u32> {
        names(&self.root).iter().filter_map(|n| n.strip_prefix("abi")?.parse().ok()).collect()
    }

    /// A gray that made its directory and died then left nothing that another one could disturb.
    fn holds_anything(&self) -> bool {
        ["maps", "links"].iter().any(|kind| !names(&self.dir(kind)).is_empty())
    }

    /// Opens a pin; `None` when there is none. Refuses symbolic links and what another user pinned.
    pub fn open(&self, path: &Path) -> Result<Option<OwnedFd>, KernelError> {
        match fs::symlink_metadata(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(KernelError::io("cannot read", path, e)),
            Ok(m) if m.is_symlink() => {
                Err(KernelError::NotOurs { path: path.into(), why: "it is a symbolic link" })
            }
            Ok(m) if another_user(&m) => Err(KernelError::NotOurs { path: path.into(), why: ANOTHER_USER }),
            Ok(_) => bpf::get(path).map(Some).map_err(|e| KernelError::io("cannot open the pin", path, e)),
        }
    }

    /// Takes the program of a pinned link off, and removes the pin.
    pub fn detach(&self, path: &Path) -> Result<(), KernelError> {
        if let Some(link) = self.open(path)? {
            // Of a tracepoint it goes with its pin.
            let _ = bpf::link_detach(link.as_fd());
        }
        self.remove(path)
    }

    pub fn remove(&self, path: &Path) -> Result<(), KernelError> {
        match fs::remove_file(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(KernelError::io("cannot remove", path, e)),
            _ => Ok(()),
        }
    }

    /// What agents with this directory pinned, in the order of removal: links before programs and maps, because what still runs
    /// keeps its maps until it is detached; then the directories. Refuses a directory that is not on bpffs, a symbolic
    /// link and one of another user; names nothing that is not in its place.
    pub fn ours(root: &Path) -> Result<Vec<PathBuf>, KernelError> {
        let _ = Self::check(root)?;
        if !on_bpffs(root) {
            return Err(KernelError::NoBpffs { path: root.into() });
        }
        let pins = Self { root: root.to_path_buf(), abi: ABI };
        let mut out = Vec::new();
        for abi in pins.abi_dirs() {
            let abi = root.join(format!("abi{abi}"));
            let _ = Self::check(&abi)?;
            for kind in ["links", "programs", "maps"] {
                let dir = abi.join(kind);
                // What a link leads to is not ours to remove.
                let _ = Self::check(&dir)?;
                out.extend(names(&dir).into_iter().map(|n| dir.join(n)));
                out.push(dir);
            }
            out.push(abi);
        }
        Ok(out)
    }
}

const ANOTHER_USER: &str = "it belongs to another user";

fn another_user(m: &fs::Metadata) -> bool {
    // SAFETY: geteuid has no arguments and cannot fail.
    m.uid() != unsafe { libc::geteuid() }
}

fn names(dir: &Path) -> Vec<String> {
    let mut out: Vec<String> = fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|e| e.file_name().into_string().ok())
        .collect();
    out.sort();
    out
}

pub fn on_bpffs(path: &Path) -> bool {
    use std::os::unix::ffi::OsStrExt as _;
    let Ok(c) = std::ffi::CString::new(path.as_os_str().as_bytes()) else { return false };
    // SAFETY: all-zero is a valid statfs buffer, and the path is a C string.
    unsafe {
        let mut s: libc::statfs = std::mem::zeroed();
        libc::statfs(c.as_ptr(), &raw mut s) == 0 && s.f_type == BPF_FS_MAGIC
    }
}
