//! The identity of the current network namespace. Enters none.

use std::{
    fs, io,
    os::{
        fd::{AsFd, AsRawFd},
        unix::fs::MetadataExt,
    },
};

use rustix::net::{self, AddressFamily, SocketFlags, SocketType};

/// The cookie that `bpf_get_netns_cookie` returns in this thread's namespace (Linux 5.14). Never reused while the
/// machine runs; new after a reboot.
pub fn cookie() -> io::Result<u64> {
    let socket = net::socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    cookie_of(&socket)
}

/// The cookie of the namespace that a socket was made in.
#[expect(unsafe_code, reason = "no crate here wraps SO_NETNS_COOKIE")]
pub fn cookie_of(socket: &impl AsFd) -> io::Result<u64> {
    let mut cookie = 0u64;
    let mut len = size_of::<u64>() as libc::socklen_t;
    // SAFETY: the descriptor is borrowed for the call; `cookie` and `len` are valid for writes of the sizes given.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut len,
        )
    };
    if result == 0 { Ok(cookie) } else { Err(io::Error::last_os_error()) }
}

/// The inode of `/proc/thread-self/ns/net`: what `lsns` and `ip netns` show.
pub fn inode() -> io::Result<u64> {
    Ok(fs::metadata("/proc/thread-self/ns/net")?.ino())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookie_is_one_per_namespace() {
        let cookie = cookie().unwrap();
        assert_eq!(cookie, super::cookie().unwrap());
        assert_ne!(cookie, 0);
        assert!(inode().unwrap() > 0);
        assert!(cookie_of(&fs::File::open("/dev/null").unwrap()).is_err());
    }
}
