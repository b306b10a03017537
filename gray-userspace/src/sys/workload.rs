//! From a workload's target (cgroup path, systemd unit, container, pod, pid) to its cgroup v2 directory and id. Changes nothing.

mod container;

use std::{
    collections::VecDeque,
    fs, io,
    os::fd::{AsFd, OwnedFd},
    path::{Component, Path, PathBuf},
    time::Duration,
};

use rustix::{
    fs::{Mode, OFlags, ResolveFlags},
    io::Errno,
};

use super::{command, mounts};
use crate::store::WorkloadKind;

/// Directories that a search may look at.
const SEARCH: usize = 20_000;
const SYSTEMCTL_LIMIT: Duration = Duration::from_secs(5);

/// The cgroup v2 hierarchy of this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CgroupMount(PathBuf);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cgroup {
    pub dir: PathBuf,
    /// What `bpf_get_current_cgroup_id` returns inside; the directory's inode number. A cgroup that is made again
    /// under the same path has another one.
    pub id: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum WorkloadError {
    #[error("no cgroup2 file system is mounted; mount one: mount -t cgroup2 none /sys/fs/cgroup/unified")]
    NoMount,
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error("cgroup {path} does not exist; is the service running?")]
    Missing { path: PathBuf },
    #[error("cgroup path `{target}`: {why}")]
    Path { target: String, why: &'static str },
    #[error(
        "`{target}` is the root cgroup, which holds every process; run the workload in a cgroup of its own"
    )]
    Root { target: String },
    #[error("`{0}` is not a unit name like nginx.service")]
    UnitName(String),
    #[error("`{0}` is no container's id; give 12 to 64 of 0-9 a-f (docker inspect -f '{{{{.Id}}}}' NAME)")]
    ContainerId(String),
    #[error("`{0}` is no pod's uid (kubectl get pod NAME -o jsonpath={{.metadata.uid}})")]
    PodUid(String),
    #[error("{what} has no cgroup; is it running?")]
    NotThere { what: String },
    #[error("{what} is there more than once: {}; name the cgroup path instead", list(.found))]
    Twice { what: String, found: Vec<PathBuf> },
    #[error("systemctl: {0}")]
    Systemctl(io::Error),
    #[error("`{0}` is not a process id")]
    Pid(String),
    #[error("no process {0}")]
    PidMissing(u32),
    #[error("process {0} has no cgroup v2 membership; boot with cgroup v2, or name a cgroup path")]
    PidNoCgroup(u32),
}

fn list(paths: &[PathBuf]) -> String {
    paths.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(", ")
}

impl CgroupMount {
    pub fn find() -> Result<Self, WorkloadError> {
        let mounts = mounts::all()
            .map_err(|source| WorkloadError::Io { path: "/proc/self/mountinfo".into(), source })?;
        mounts::cgroup2(&mounts).map(|m| Self(m.point.clone())).ok_or(WorkloadError::NoMount)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The root cgroup: what a host-wide connect path attaches to.
    pub fn root(&self) -> Result<Cgroup, WorkloadError> {
        self.open(Path::new(""))
    }

    /// A cgroup by its path: absolute below the mount, or as `/proc/PID/cgroup` has it, from the root of the hierarchy.
    /// The root cgroup is allowed here. `..` and symbolic links are refused.
    pub fn cgroup(&self, target: &str) -> Result<Cgroup, WorkloadError> {
        let bad = |why| WorkloadError::Path { target: target.to_owned(), why };
        let path = Path::new(target);
        if target.is_empty() || target.contains('\0') {
            return Err(bad("empty, or with a NUL byte; give a path like system.slice/nginx.service"));
        }
        if path.components().any(|c| c == Component::ParentDir) {
            return Err(bad("`..` is not allowed; give the path itself"));
        }
        let inside = path.strip_prefix(&self.0).unwrap_or(path);
        self.open(inside.strip_prefix("/").unwrap_or(inside))
    }

    /// The ids of a process's cgroup and of all above it, nearest first, without the root.
    pub fn above(&self, pid: u32) -> Result<Vec<u64>, WorkloadError> {
        let own = self.pid(pid)?.dir;
        let inside = own.strip_prefix(&self.0).unwrap_or(&own);
        let dirs = inside.ancestors().filter(|d| !d.as_os_str().is_empty());
        dirs.map(|dir| Ok(self.open(dir)?.id)).collect()
    }

    /// `inside` is relative to the mount.
    fn open(&self, inside: &Path) -> Result<Cgroup, WorkloadError> {
        let dir: PathBuf = self.0.join(inside).components().collect();
        match self.open_at(inside).and_then(|fd| rustix::fs::fstat(&fd)) {
            Ok(stat) => Ok(Cgroup { dir, id: stat.st_ino }),
            Err(Errno::NOENT) => Err(WorkloadError::Missing { path: dir }),
            Err(Errno::LOOP) => Err(WorkloadError::Path {
                target: dir.display().to_string(),
                why: "a symbolic link is not allowed; give the path itself",
            }),
            Err(Errno::XDEV) => Err(WorkloadError::Path {
                target: dir.display().to_string(),
                why: "leads out of the cgroup2 mount; give a path inside it",
            }),
            Err(e) => Err(WorkloadError::Io { path: dir, source: e.into() }),
        }
    }

    /// The kernel itself refuses links and ways out, so nothing can be swapped between check and use.
    fn open_at(&self, inside: &Path) -> rustix::io::Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(&self.0, flags, Mode::empty())?;
        let inside = if inside.as_os_str().is_empty() { Path::new(".") } else { inside };
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
        rustix::fs::openat2(root.as_fd(), inside, flags, Mode::empty(), resolve)
    }

    /// The cgroup of a workload, never the root cgroup: its label would be on everybody.
    pub fn resolve(&self, kind: WorkloadKind, target: &str) -> Result<Cgroup, WorkloadError> {
        let found = match kind {
            WorkloadKind::Cgroup => self.cgroup(target)?,
            WorkloadKind::Unit => self.unit(target)?,
            WorkloadKind::Pid => {
                self.pid(target.parse().map_err(|_| WorkloadError::Pid(target.to_owned()))?)?
            }
            WorkloadKind::Container => {
                let id = container::id(target)?;
                self.only(format!("container {id}"), &|dir| container::is_of(dir, &id))?
            }
            WorkloadKind::Pod => {
                let uid = container::uid(target)?;
                self.only(format!("pod {uid}"), &|dir| container::is_pod(dir, &uid))?
            }
        };
        if found.id == self.root()?.id {
            return Err(WorkloadError::Root { target: target.to_owned() });
        }
        Ok(found)
    }

    /// As [`CgroupMount::resolve`], of a target that led to `known` before: while that is there, a unit or container is taken to be in it,
    /// and neither systemd is asked nor the tree searched.
    pub fn follow(
        &self,
        known: Option<&Cgroup>,
        kind: WorkloadKind,
        target: &str,
    ) -> Result<Cgroup, WorkloadError> {
        let there = |c: &&Cgroup| {
            let inside = c.dir.strip_prefix(&self.0).unwrap_or(&c.dir);
            self.open(inside).is_ok_and(|now| now == **c)
        };
        let searched = matches!(kind, WorkloadKind::Unit | WorkloadKind::Container | WorkloadKind::Pod);
        match known.filter(|_| searched).filter(there) {
            Some(known) => Ok(known.clone()),
            None => self.resolve(kind, target),
        }
    }

    fn pid(&self, pid: u32) -> Result<Cgroup, WorkloadError> {
        let path = PathBuf::from(format!("/proc/{pid}/cgroup"));
        let text = fs::read_to_string(&path).map_err(|source| match source.raw_os_error() {
            // ESRCH: it ended between open and read.
            Some(libc::ENOENT | libc::ESRCH) => WorkloadError::PidMissing(pid),
            _ => WorkloadError::Io { path, source },
        })?;
        let inside = v2_line(&text).ok_or(WorkloadError::PidNoCgroup(pid))?;
        if inside == "/" { self.root() } else { self.cgroup(inside) }
    }

    fn unit(&self, name: &str) -> Result<Cgroup, WorkloadError> {
        let unit = unit_name(name)?;
        if Path::new("/run/systemd/system").is_dir() {
            let args = ["show", "-p", "ControlGroup", "--value", "--", &unit];
            let answer =
                command::output("systemctl", &args, SYSTEMCTL_LIMIT).map_err(WorkloadError::Systemctl)?;
            return match answer.trim() {
                "" => Err(WorkloadError::NotThere { what: format!("unit {unit}") }),
                inside => self.cgroup(inside),
            };
        }
        self.only(format!("unit {unit}"), &|dir| dir.file_name().is_some_and(|name| *name == *unit))
    }

    /// The one directory of the tree that is meant.
    fn only(&self, what: String, is_it: &dyn Fn(&Path) -> bool) -> Result<Cgroup, WorkloadError> {
        let found = search(&self.0, is_it);
        match &found[..] {
            [] => Err(WorkloadError::NotThere { what }),
            [one] => self.open(one.strip_prefix(&self.0).unwrap_or(one)),
            _ => Err(WorkloadError::Twice { what, found }),
        }
    }
}

/// Of `/proc/PID/cgroup`: the path of the v2 hierarchy. A deleted cgroup still shows its last path, with a mark.
pub(super) fn v2_line(text: &str) -> Option<&str> {
    let path = text.lines().find_map(|l| l.strip_prefix("0::"))?;
    Some(path.strip_suffix(" (deleted)").unwrap_or(path))
}

/// Checks the characters of systemd.unit(5); without a suffix it is a service.
fn unit_name(name: &str) -> Result<String, WorkloadError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c);
    if name.is_empty() || name.len() > 255 || name.starts_with(['-', '.']) || !name.chars().all(allowed) {
        return Err(WorkloadError::UnitName(name.to_owned()));
    }
    let known = [".service", ".scope", ".slice", ".socket", ".mount", ".swap"];
    Ok(if known.iter().any(|s| name.ends_with(s)) { name.to_owned() } else { format!("{name}.service") })
}

/// Every directory that is meant, breadth first; links are not followed.
fn search(root: &Path, is_it: &dyn Fn(&Path) -> bool) -> Vec<PathBuf> {
    let (mut found, mut left) = (Vec::new(), SEARCH);
    let mut queue = VecDeque::from([root.to_owned()]);
    while let Some(dir) = queue.pop_front() {
        let Ok(entries) = fs::read_dir(&dir) else { continue };
        for entry in entries.flatten().filter(|e| e.file_type().is_ok_and(|t| t.is_dir())) {
            if left == 0 {
                return found;
            }
            left -= 1;
            let dir = entry.path();
            if is_it(&dir) {
                found.push(dir.clone());
            }
            queue.push_back(dir);
        }
    }
    found
}

#[cfg(test)]
mod tests;
