//! What other programs do on the machine meanwhile: they cannot be stopped, but their rounds can be told.

use std::fs;

use anyhow::{Context, Result};

/// CPU seconds of all processes so far but this one and those of its labs; with their dead children's, so that a
/// short-lived process is not lost, and with what other guests of the host stole. What the kernel does for others is not in it.
pub fn cpu_seconds() -> Result<f64> {
    let ours = ours()?;
    let mut ticks = stolen(&fs::read_to_string("/proc/stat").context("read /proc/stat")?).unwrap_or(0);
    for entry in fs::read_dir("/proc").context("read /proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|n| n.parse::<u32>().ok()) else { continue };
        let read = |file| fs::read_to_string(format!("/proc/{pid}/{file}"));
        // A process may end while we look.
        let (Ok(stat), Ok(cgroup)) = (read("stat"), read("cgroup")) else { continue };
        if pid != std::process::id() && !cgroup.contains(&ours) {
            ticks += used(&stat).unwrap_or(0);
        }
    }
    Ok(ticks as f64 / 100.0)
}

/// What the cgroups of this process's labs have in their names; a helper belongs to the lab that it runs in.
fn ours() -> Result<String> {
    let cgroup = fs::read_to_string("/proc/self/cgroup").context("read /proc/self/cgroup")?;
    let lab = cgroup.split_once("gray-lab-").and_then(|(_, rest)| rest.split('-').next()?.parse().ok());
    Ok(format!("/gray-lab-{}-", lab.unwrap_or_else(std::process::id)))
}

/// The eighth count of all CPUs.
fn stolen(stat: &str) -> Option<u64> {
    stat.lines().next()?.split_whitespace().nth(8)?.parse().ok()
}

/// utime, stime, cutime and cstime; nothing for a kernel thread, which works for all.
fn used(stat: &str) -> Option<u64> {
    const KTHREAD: u64 = 0x0020_0000;
    let fields: Vec<&str> = stat[stat.rfind(')')? + 1..].split_whitespace().collect();
    let number = |k: usize| fields.get(k)?.parse::<u64>().ok();
    if number(6)? & KTHREAD != 0 {
        return None;
    }
    (11..=14).map(number).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_processes_and_their_dead_children_is_counted_but_not_of_kernel_threads() {
        let stat =
            |flags: u64| format!("7 (a (b) c) S 1 7 7 0 -1 {flags} 5 6 7 8 100 20 3 4 20 0 1 0 55 0 0");
        assert_eq!(used(&stat(0x40_0000)), Some(127));
        assert_eq!(used(&stat(0x20_8040)), None);
        assert_eq!(stolen("cpu  10 20 30 400 50 60 70 80 90 0\ncpu0 1 1 1 1 1 1 1 1 1 0\n"), Some(80));
        assert!(cpu_seconds().unwrap() > 0.0);
    }
}
