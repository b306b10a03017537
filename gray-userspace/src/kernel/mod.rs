//! The kernel side of the control half: the only module that knows bpf(2) and aya. Loads, attaches, reads and writes;
//! decides nothing.

mod attach;
mod bpf;
mod control;
mod kept;
mod link_name;
mod listener;
mod live;
mod mapped;
mod maps;
mod migrate;
mod moving;
mod object;
mod pins;
mod sender;
mod stop;
mod ticks;
mod trips;
mod xdp;

use std::{
    io,
    path::{Path, PathBuf},
};

pub use attach::{Direction, Hook, clear_clsact};
pub use listener::{Called, Listener, Whose};
pub use live::{FlowTables, Live, RENEWALS, Turner, Unsteered};
pub use maps::Miss;
pub use migrate::migrate_to;
pub use moving::Moved;
pub use object::{LogLines, Parts};
pub use pins::Pins;
pub use sender::Sender;
pub use stop::{stop_steering, take_off};

/// What can go wrong between us and the kernel.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    #[error("this gray was built without its data path; build it with `cargo xtask build`")]
    NoObject,
    #[error("{path} is not on a bpf file system; mount one: mount -t bpf bpf /sys/fs/bpf")]
    NoBpffs { path: PathBuf },
    #[error("{path} is not ours: {why}; choose another --bpffs directory")]
    NotOurs { path: PathBuf, why: &'static str },
    #[error(
        "{path} holds the pins of ABI {found}, this gray speaks {ours}; with the gray that made them: `gray migrate --to {ours}`, or `gray uninstall`"
    )]
    OtherAbi { path: PathBuf, found: u32, ours: u32 },
    #[error("the pin {path} is no map of ours; run `gray uninstall` or choose another --bpffs directory")]
    ForeignMap { path: PathBuf },
    #[error("{path}: tables of ABI {abi} are half-way to another size; start its gray once, which ends it")]
    HalfWay { path: PathBuf, abi: u32 },
    #[error("{places}: programs there cannot be replaced; remove what is in their place")]
    Stays { places: String },
    #[error("cannot load {what}: {source}")]
    Load { what: String, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("the data path has no program {0}")]
    MissingProgram(String),
    #[error("cannot attach to {what}: {source}")]
    Attach { what: String, source: io::Error },
    #[error("cannot write {what} to the kernel: {source}")]
    Write { what: String, source: io::Error },
    #[error("{what} {path}: {source}")]
    Io { what: &'static str, path: PathBuf, source: io::Error },
}

impl KernelError {
    fn io(what: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io { what, path: path.into(), source }
    }
}
