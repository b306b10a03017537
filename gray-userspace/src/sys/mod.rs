//! What gray asks of the operating system besides bpf(2): kernel version, mounts, cgroups, links, locks, priorities.
//! Reads only, except the locks, the priority of own threads, the end of drained sockets and programs that are run. No policy.

pub mod background;
pub mod clock;
pub mod command;
pub mod files;
#[cfg(any(test, feature = "fuzz"))]
pub(crate) mod fuzz;
pub mod kernel;
pub mod lock;
pub mod mounts;
pub mod netlink;
pub mod netns;
pub mod notify;
pub mod program;
pub mod rationed;
pub mod sockets;
pub mod watch;
pub mod watch_dir;
pub mod workload;
