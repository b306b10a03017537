//! XDP in front of tc: a pinned link in driver mode for each interface. Foreign programs are never touched.

use std::os::fd::AsFd as _;

use gray_common::names;

use super::{KernelError, bpf, link_name, object::Loaded, pins::Pins};
use crate::fail::{self, Point};

/// `enum bpf_attach_type`.
const BPF_XDP: u32 = 37;
/// `XDP_FLAGS_DRV_MODE`: by the driver, never the generic way, which costs more than tc.
const DRIVER: u32 = 1 << 2;
const PREFIX: &str = "xdp-";

fn pin_name(iface: &str) -> String {
    link_name::of(PREFIX, iface)
}

/// Attaches to an interface (true), or brings an existing link to our program (false).
pub fn attach(pins: &Pins, loaded: &mut Loaded, iface: &str, ifindex: u32) -> Result<bool, KernelError> {
    let failed = |e: std::io::Error| KernelError::Attach { what: format!("{iface} xdp"), source: e };
    let program = loaded.program(names::XDP)?;
    let path = pins.link(&pin_name(iface));
    if let Some(link) = pins.open(&path)? {
        if bpf::link_xdp(link.as_fd()).map_err(failed)? == ifindex {
            return bpf::link_update(link.as_fd(), program.as_fd()).map_err(failed).map(|()| false);
        }
        // The interface was deleted and made again: its old link hangs on nothing.
        pins.remove(&path)?;
    }
    let link = bpf::link_create_with(program.as_fd(), ifindex, BPF_XDP, DRIVER).map_err(failed)?;
    fail::point(Point::KernelLink).map_err(failed)?;
    bpf::pin(link.as_fd(), &path).map_err(|e| KernelError::io("cannot pin", &path, e))?;
    Ok(true)
}

/// Whether the pinned link still hangs on this interface.
pub fn is_attached(pins: &Pins, iface: &str, ifindex: u32) -> bool {
    let link = pins.open(&pins.link(&pin_name(iface))).ok().flatten();
    link.is_some_and(|l| bpf::link_xdp(l.as_fd()).is_ok_and(|at| at == ifindex))
}

/// Names of the interfaces with a pinned link, whether it still hangs on them or not.
pub fn pinned(pins: &Pins) -> Vec<String> {
    pins.links().iter().filter_map(|n| link_name::iface(PREFIX, n)).collect()
}

/// Takes the program off. The caller has made sure that none sends there any more.
pub fn detach(pins: &Pins, iface: &str) -> Result<(), KernelError> {
    pins.detach(&pins.link(&pin_name(iface)))
}
