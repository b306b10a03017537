//! A real systemd that is the first process of namespaces of its own: it starts units of the lab's alone, and sets nothing of the host's.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::cgroup::Cgroup;
use crate::command::{Daemon, run, wait_for};
use crate::place::Place;

/// Reached when it has begun; nothing of the distribution's is started for it.
const TARGET: &str = "gray-lab.target";

/// A drop kills it, and with it all that it has started: they are of its PID namespace.
#[derive(Debug)]
pub struct Systemd {
    daemon: Daemon,
    dir: PathBuf,
    // After it.
    _cgroup: Arc<Cgroup>,
}

impl Systemd {
    /// With these units, by name and text. It takes orders when this returns. `temp` is the lab's directory, `cgroup` its own.
    pub fn start(place: &Place, cgroup: Cgroup, temp: &Path, units: &[(&str, String)]) -> Result<Self> {
        let dir = temp.join("systemd");
        let at = dir.join("run/systemd/system");
        fs::create_dir_all(&at).context("make systemd's directory")?;
        fs::write(at.join(TARGET), "[Unit]\nDefaultDependencies=no\n")?;
        for (name, text) in units {
            fs::write(at.join(name), text)?;
        }
        let cgroup = Arc::new(cgroup);
        // Its own /run, and no setting of the kernel's that others share.
        let begin = format!(
            "set -e\nmount --make-rprivate /\nmount -t proc proc /proc\nmount --bind /proc/sys /proc/sys\nmount -o remount,ro,bind /proc/sys\n\
             mount --bind {}/run /run\nmount -t cgroup2 cgroup2 /sys/fs/cgroup\n\
             exec env -i container=gray PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --system --unit={TARGET} --log-target=null --show-status=false\n",
            dir.display()
        );
        fs::write(dir.join("begin"), begin)?;
        let mut command = place.in_cgroup(&cgroup).command("unshare");
        let _ = command
            .args([
                "--pid",
                "--fork",
                "--kill-child=SIGKILL",
                "--mount",
                "--cgroup",
                "--uts",
                "--ipc",
                "--net",
                "sh",
            ])
            .arg(dir.join("begin"))
            .stdin(std::process::Stdio::null());
        let daemon = Daemon::spawn("systemd", &mut command, &dir.join("log"))?;
        let mut systemd = Self { daemon, dir, _cgroup: cgroup };
        wait_for("systemd to answer", Duration::from_secs(60), || {
            systemd.daemon.check_alive()?;
            Ok(systemd.ctl(&["list-units"]).is_ok())
        })?;
        Ok(systemd)
    }

    /// `systemctl` beside it.
    pub fn ctl(&self, args: &[&str]) -> Result<String> {
        let mut command = Command::new("sh");
        let _ = command.arg(self.wrapper()?).args(args);
        Ok(run(&mut command)?.trim_end().to_owned())
    }

    /// What starts a program whose `systemctl` is the one beside this systemd, in a mount namespace of its own.
    pub fn by(&self) -> Result<Vec<String>> {
        let script = "mount --bind \"$0\" \"$(command -v systemctl)\" && exec \"$@\"";
        let wrapper = self.wrapper()?.display().to_string();
        Ok(["unshare", "--mount", "sh", "-c", script, &wrapper].map(String::from).into())
    }

    /// A program that is `systemctl` in its namespaces.
    fn wrapper(&self) -> Result<PathBuf> {
        let path = self.dir.join("systemctl");
        let pid = self.daemon.pid().context("systemd is not running")?;
        let text = format!(
            "#!/bin/sh\nexec nsenter --mount=/proc/{pid}/ns/mnt --pid=/proc/{pid}/ns/pid_for_children systemctl \"$@\"\n"
        );
        if !path.exists() {
            fs::write(&path, text)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        }
        Ok(path)
    }
}
