//! A kernel made ready: what its guests see as `/vm`, the files kept for them, and guests that run a script, alone or as a
//! crew that shares the work.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::mpsc,
    thread,
};

use anyhow::{Context as _, Result, bail};

use super::{
    image::{self, Image},
    initramfs, qemu, quoted,
};
use crate::{
    setup::{self, Part},
    workspace::Workspace,
};

/// A kernel that is ready to boot, and the directory that its guests see as `/vm`. One of a kernel at a time.
pub struct Guest<'a> {
    ws: &'a Workspace,
    image: Image,
    job: PathBuf,
    _lock: fs::File,
}

impl<'a> Guest<'a> {
    pub fn prepare(ws: &'a Workspace, kernel: &str, anew: bool) -> Result<Self> {
        setup::need(ws, &[Part::Vm])?;
        let job = ws.vm().join(kernel);
        fs::create_dir_all(&job).with_context(|| ws.show(&job))?;
        let lock = fs::File::create(ws.vm().join(format!("{kernel}.lock")))?;
        lock.lock()?;
        let image = image::get(ws, kernel, anew)?;
        fs::remove_dir_all(&job).with_context(|| ws.show(&job))?;
        for dir in ["bin/deps", "claims"] {
            fs::create_dir_all(job.join(dir)).with_context(|| ws.show(&job))?;
        }
        initramfs::write(ws, &image, &job.join("initrd"))?;
        let script = ws.root.join("tests/vm/guest.sh");
        let _ = fs::copy(&script, job.join("guest.sh")).with_context(|| ws.show(&script))?;
        fs::write(job.join("env.sh"), format!("VM_MODULES={}\n", quoted(&image.modules())))?;
        Ok(Self { ws, image, job, _lock: lock })
    }

    /// A file as it is now, for the guests: what is built while they run must not change under them. Keeps the directory
    /// `deps`.
    pub fn keep(&self, file: &Path) -> Result<PathBuf> {
        let deps = file.parent().is_some_and(|p| p.ends_with("deps"));
        let to =
            self.job.join(if deps { "bin/deps" } else { "bin" }).join(file.file_name().unwrap_or_default());
        // The linker writes a new file in place of the old one, so that a second name keeps the old one.
        fs::hard_link(file, &to)
            .or_else(|_| fs::copy(file, &to).map(drop))
            .with_context(|| file.display().to_string())?;
        Ok(to)
    }

    /// Boots one guest, and runs a shell script in `/`. Its output comes line by line.
    pub fn run(&self, script: &str, line: impl FnMut(&str)) -> Result<()> {
        self.run_in(1, script, line)
    }

    /// Boots guests that all run the script; it is the script's business who does what (`/vm/claims` is empty, and theirs).
    pub fn run_in(&self, guests: usize, script: &str, mut line: impl FnMut(&str)) -> Result<()> {
        fs::write(self.job.join("job.sh"), script)?;
        let (to, from) = mpsc::channel::<String>();
        let failed: Vec<String> = thread::scope(|scope| {
            let crew: Vec<_> = (1..=guests)
                .map(|n| {
                    let to = to.clone();
                    scope.spawn(move || {
                        let say = |text: &str| to.send(text.to_string()).unwrap_or(());
                        qemu::boot(&self.image, &self.job.join("initrd"), &self.job, &self.log_of(n), say)
                    })
                })
                .collect();
            drop(to);
            for text in from {
                line(&text);
            }
            let ended = crew.into_iter().zip(1..).map(|(guest, n)| match guest.join() {
                Ok(Ok(())) => None,
                Ok(Err(e)) => Some(format!("guest {n}: {e:#}")),
                Err(_) => Some(format!("guest {n}: its thread panicked")),
            });
            ended.flatten().collect()
        });
        if failed.is_empty() { Ok(()) } else { bail!("{}", failed.join("; ")) }
    }

    /// Its directory, here.
    pub fn job(&self) -> &Path {
        &self.job
    }

    /// As `uname -r` prints it.
    pub fn release(&self) -> &str {
        &self.image.release
    }

    /// What the first guest's kernel said; that of the others has a number.
    pub fn console(&self) -> PathBuf {
        self.log_of(1)
    }

    fn log_of(&self, n: usize) -> PathBuf {
        let name = self.job.file_name().unwrap_or_default().display().to_string();
        self.ws.vm().join(if n == 1 { format!("{name}.log") } else { format!("{name}.{n}.log") })
    }

    /// Nothing went wrong: nobody needs its log.
    pub fn forget(self) {
        for log in (1..).map(|n| self.log_of(n)).take_while(|log| log.exists()) {
            let _ = fs::remove_file(log);
        }
        let _ = fs::remove_dir_all(&self.job);
    }
}
