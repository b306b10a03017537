//! A TAP device that nobody but its owner speaks on: no addresses, no ARP, no IPv6. It goes with its file.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::sync::Arc;

use anyhow::{Context, Result};

use crate::link;
use crate::netns::Netns;
use crate::sys::set_int_option;

/// `linux/if_tun.h`
const TUNSETIFF: libc::c_ulong = 0x4004_54ca;
const IFF_TAP: libc::c_short = 2;
const IFF_NO_PI: libc::c_short = 0x1000;

pub(super) struct Tap {
    pub name: String,
    pub ifindex: u32,
    /// Reads and writes whole Ethernet frames; does not block.
    pub file: File,
}

impl Tap {
    pub fn create(ns: &Arc<Netns>, name: &str) -> Result<Self> {
        let file = ns.enter(|| open(name)).with_context(|| {
            format!("make the TAP device {name} (needs /dev/net/tun; one hostile network for each interface)")
        })?;
        link::sysctl(ns, &format!("net/ipv6/conf/{name}/disable_ipv6"), "1")?;
        // The largest that an Ethernet device has: whatever the interface can send fits.
        link::ip_batch(ns, &format!("link set {name} mtu 65521 arp off txqueuelen 10000 up\n"))?;
        Ok(Self { name: name.to_owned(), ifindex: link::info(ns, name)?.ifindex, file })
    }
}

fn open(name: &str) -> io::Result<File> {
    let file = File::options().read(true).write(true).open("/dev/net/tun")?;
    // `struct ifreq`: name, flags, 22 bytes that this call does not read.
    let mut request = [0_u8; 40];
    request[..name.len().min(15)].copy_from_slice(&name.as_bytes()[..name.len().min(15)]);
    request[16..18].copy_from_slice(&(IFF_TAP | IFF_NO_PI).to_ne_bytes());
    // SAFETY: TUNSETIFF reads and writes one `struct ifreq`, which is as large as the buffer.
    if unsafe { libc::ioctl(file.as_raw_fd(), TUNSETIFF, request.as_mut_ptr()) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: F_SETFL changes the flags of an open descriptor.
    if unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(file)
}

/// A packet socket that sends whole frames out of an interface, each with this mark.
pub(super) fn sender(ns: &Netns, ifindex: u32, mark: u32) -> io::Result<File> {
    ns.enter(|| {
        // SAFETY: socket takes three integers; protocol 0 receives nothing.
        let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a new descriptor that nobody else owns.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        // SAFETY: all-zero is a valid sockaddr_ll.
        let mut at: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        at.sll_family = libc::AF_PACKET as u16;
        at.sll_ifindex = ifindex as i32;
        let size = size_of_val(&at) as libc::socklen_t;
        // SAFETY: the pointer and length describe one live sockaddr_ll.
        if unsafe { libc::bind(socket.as_raw_fd(), (&raw const at).cast(), size) } < 0 {
            return Err(io::Error::last_os_error());
        }
        set_int_option(socket.as_fd(), libc::SOL_SOCKET, libc::SO_MARK, mark as i32)?;
        // write(2) on a bound packet socket sends one frame.
        Ok(File::from(socket))
    })
}
