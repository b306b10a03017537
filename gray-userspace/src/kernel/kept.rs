//! Programs have pins of their own: the verifier takes more than a second of a core for all of them, and what it passed for the last
//! agent it would pass for the next one. A program is taken over where all that made it is the same: the object, what its
//! constants were set to, and the maps, each by its number, which the kernel gives to no other one while a program holds it. Nothing of
//! it outlives a reboot, or the kernel that verified it.

use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};

use aya::programs::{
    CgroupSkb, CgroupSockAddr, CgroupSockAddrAttachType, Program, ProgramError, SchedClassifier, SockOps, Xdp,
};
use aya_obj::programs::XdpAttachType;
use gray_common::names::{MapKind, MapSpec};
use sha2::{Digest as _, Sha256};

use super::{KernelError, bpf, pins::Pins};

/// Digest of the object, taken when it was embedded.
const OBJECT: &str = env!("GRAY_OBJECT");
/// The ring that aya-log writes to. Its size is the object's matter.
pub const LOG: MapSpec = MapSpec { name: "AYA_LOGS", kind: MapKind::RingBuf, key: 0, value: 0, entries: 0 };

/// Pins of programs that are as these would be.
pub struct Kept {
    pins: Pins,
    key: String,
    /// None is taken over, and none is kept.
    alone: bool,
}

impl Kept {
    /// `constants`: of the object, in one order; `maps`: numbers of all that are pinned, in one order.
    pub fn new(pins: &Pins, constants: &[u32], maps: &[u32], alone: bool) -> Self {
        let mut all = Sha256::new_with_prefix(OBJECT);
        for part in [constants, maps] {
            all.update((part.len() as u64).to_le_bytes());
            part.iter().for_each(|n| all.update(n.to_le_bytes()));
        }
        let key = all.finalize().iter().take(8).map(|b| format!("{b:02x}")).collect();
        Self { pins: pins.clone(), key, alone }
    }

    /// Pin of the log ring that programs of this object write to.
    pub fn log(pins: &Pins) -> std::path::PathBuf {
        pins.program(&format!("{OBJECT}-{}", LOG.name))
    }

    fn pin(&self, name: &str) -> std::path::PathBuf {
        self.pins.program(&format!("{}-{name}", self.key))
    }

    /// Puts the pinned program in this one's place. False: it must be loaded.
    pub fn take(&self, name: &str, program: &mut Program) -> bool {
        if self.alone || !is_kept(program) {
            return false;
        }
        let path = self.pin(name);
        match self.pins.open(&path) {
            Ok(None) => return false,
            Ok(Some(fd)) if !is_program(&fd) => {
                let _ = self.pins.remove(&path);
                return false;
            }
            Ok(Some(_)) => {}
            Err(e) => {
                tracing::warn!("a kept program is not taken over: {e}");
                return false;
            }
        }
        let taken = taken(program, &path);
        if let Err(e) = &taken {
            tracing::warn!("{}: not taken over: {e}", path.display());
            let _ = self.pins.remove(&path);
        }
        taken.is_ok()
    }

    /// Pins a program for the next agent. Without its pin the next one loads it.
    pub fn keep(&self, name: &str, program: &Program) -> Result<(), ProgramError> {
        let fd = program.fd()?;
        if self.alone || !is_kept(program) {
            return Ok(());
        }
        let path = self.pin(name);
        match bpf::pin(fd.as_fd(), &path) {
            Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => {
                tracing::warn!("{}: cannot pin: {e}; the next agent starts a second later", path.display());
            }
            _ => {}
        }
        Ok(())
    }

    /// Removes the pins of programs that were made of anything else. Where they are attached, they stay.
    pub fn forget_others(&self) -> Result<(), KernelError> {
        if self.alone {
            return Ok(());
        }
        let stays = |name: &&String| name.starts_with(&self.key) || name.starts_with(OBJECT);
        let all = self.pins.programs();
        all.iter().filter(|n| !stays(n)).try_for_each(|n| self.pins.remove(&self.pins.program(n)))
    }
}

/// A tracepoint takes one program once (before Linux 6.10), and the link that holds the last agent's is to stay until there is a new one; nor is
/// its BTF told to whoever has no CAP_SYS_ADMIN.
fn is_kept(program: &Program) -> bool {
    !matches!(program, Program::BtfTracePoint(_))
}

/// The kernel tells of a map what it tells of a program, to whoever asks for that.
fn is_program(fd: &OwnedFd) -> bool {
    let what = std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()));
    what.is_ok_and(|w| w.as_os_str() == "anon_inode:bpf-prog")
}

/// aya asks for a program's kind of attachment when it loads it, and when it attaches it by that kind; here neither happens:
/// cgroups' links are made by number (`attach`).
fn taken(program: &mut Program, path: &std::path::Path) -> Result<(), ProgramError> {
    match program {
        Program::SchedClassifier(p) => *p = SchedClassifier::from_pin(path)?,
        Program::Xdp(p) => *p = Xdp::from_pin(path, XdpAttachType::Interface)?,
        Program::CgroupSockAddr(p) => {
            *p = CgroupSockAddr::from_pin(path, CgroupSockAddrAttachType::Connect4)?;
        }
        Program::SockOps(p) => *p = SockOps::from_pin(path)?,
        Program::CgroupSkb(p) => {
            let kind = p.expected_attach_type().ok_or(ProgramError::UnexpectedProgramType)?;
            *p = CgroupSkb::from_pin(path, kind)?;
        }
        _ => return Err(ProgramError::UnexpectedProgramType),
    }
    Ok(())
}
