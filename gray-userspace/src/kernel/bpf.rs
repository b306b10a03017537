//! The bpf(2) calls that aya 0.14 does not offer: links by raw update, object info, pins; typed map access with batches in
//! `map`. Nothing here knows what the maps mean.

mod map;

use std::{
    ffi::CString,
    io,
    os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
    os::unix::ffi::OsStrExt as _,
    path::Path,
};

pub use map::{BATCH, Map, Shape, map_shape};

/// `enum bpf_cmd`.
mod cmd {
    pub const LOOKUP: i64 = 1;
    pub const UPDATE: i64 = 2;
    pub const DELETE: i64 = 3;
    pub const NEXT_KEY: i64 = 4;
    pub const PIN: i64 = 6;
    pub const GET: i64 = 7;
    pub const TEST_RUN: i64 = 10;
    pub const INFO: i64 = 15;
    pub const LOOKUP_BATCH: i64 = 24;
    pub const UPDATE_BATCH: i64 = 26;
    pub const DELETE_BATCH: i64 = 27;
    pub const LINK_CREATE: i64 = 28;
    pub const LINK_UPDATE: i64 = 29;
    pub const LINK_DETACH: i64 = 34;
}

/// `union bpf_attr`, as words; longer than any variant used here, zero where unused.
type Attr = [u64; 18];

fn call(cmd: i64, attr: &mut Attr) -> io::Result<i64> {
    // SAFETY: bpf(2) reads and writes at most the given size of `attr`; pointers inside point to live buffers whose
    // sizes the callers below match to the map's key and value sizes.
    let rc = unsafe { libc::syscall(libc::SYS_bpf, cmd, attr.as_mut_ptr(), size_of::<Attr>()) };
    if rc < 0 { Err(io::Error::last_os_error()) } else { Ok(rc) }
}

fn fd_result(rc: i64) -> OwnedFd {
    // SAFETY: the call returned a new descriptor that nobody else owns. Descriptors fit in an i32.
    unsafe { OwnedFd::from_raw_fd(rc as i32) }
}

fn path_string(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(io::Error::other)
}

fn raw(fd: BorrowedFd<'_>) -> u64 {
    fd.as_raw_fd() as u64
}

/// Pins an object. The path must be on a bpf file system and must not exist.
pub fn pin(fd: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = path_string(path)?;
    let mut a = Attr::default();
    a[0] = path.as_ptr() as u64;
    a[1] = raw(fd);
    call(cmd::PIN, &mut a).map(drop)
}

/// Opens a pinned object.
pub fn get(path: &Path) -> io::Result<OwnedFd> {
    let path = path_string(path)?;
    let mut a = Attr::default();
    a[0] = path.as_ptr() as u64;
    call(cmd::GET, &mut a).map(fd_result)
}

/// Attaches a program by link. `target`: an interface index (tcx, XDP) or a descriptor number (cgroup).
pub fn link_create(program: BorrowedFd<'_>, target: u32, attach_type: u32) -> io::Result<OwnedFd> {
    link_create_with(program, target, attach_type, 0)
}

/// The same with the flags of the attach type.
pub fn link_create_with(
    program: BorrowedFd<'_>,
    target: u32,
    attach_type: u32,
    flags: u32,
) -> io::Result<OwnedFd> {
    let mut a = Attr::default();
    a[0] = raw(program) | u64::from(target) << 32;
    a[1] = u64::from(attach_type) | u64::from(flags) << 32;
    call(cmd::LINK_CREATE, &mut a).map(fd_result)
}

/// Replaces the program of a link in one step: no packet or call passes in between without one.
pub fn link_update(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let mut a = Attr::default();
    a[0] = raw(link) | raw(program) << 32;
    call(cmd::LINK_UPDATE, &mut a).map(drop)
}

/// Takes a link's program off, at once (Linux 5.9; not of tracepoints). Its last descriptor does so, too, but a pin's is let go of by a worker
/// of the kernel's, some time after the pin is gone.
pub fn link_detach(link: BorrowedFd<'_>) -> io::Result<()> {
    let mut a = Attr::default();
    a[0] = raw(link);
    call(cmd::LINK_DETACH, &mut a).map(drop)
}

fn info<const WORDS: usize>(fd: BorrowedFd<'_>) -> io::Result<[u64; WORDS]> {
    let mut out = [0u64; WORDS];
    let mut a = Attr::default();
    a[0] = raw(fd) | (size_of::<[u64; WORDS]>() as u64) << 32;
    a[1] = out.as_mut_ptr() as u64;
    let _ = call(cmd::INFO, &mut a)?;
    Ok(out)
}

/// `enum bpf_link_type`.
mod link_type {
    pub const CGROUP: u32 = 3;
    pub const XDP: u32 = 6;
    pub const TCX: u32 = 11;
}

/// The variant part of `struct bpf_link_info`, which begins with type, id, prog_id and padding.
fn link_info(link: BorrowedFd<'_>, kind: u32, what: &str) -> io::Result<[u64; 2]> {
    let i = info::<8>(link)?;
    if i[0] as u32 != kind {
        return Err(io::Error::other(format!("what is pinned there is no {what} link; unpin it")));
    }
    Ok([i[2], i[3]])
}

/// Interface (0 once it is gone) and attach type of a tcx link.
pub fn link_tcx(link: BorrowedFd<'_>) -> io::Result<(u32, u32)> {
    let [at, _] = link_info(link, link_type::TCX, "tcx")?;
    Ok((at as u32, (at >> 32) as u32))
}

/// Interface of an XDP link; 0 once it is gone.
pub fn link_xdp(link: BorrowedFd<'_>) -> io::Result<u32> {
    let [at, _] = link_info(link, link_type::XDP, "XDP")?;
    Ok(at as u32)
}

/// The program of a link, and the interface that a tcx or XDP link hangs on: 0 once it is gone, `None` for other links.
pub fn link_program(link: BorrowedFd<'_>) -> io::Result<(u32, Option<u32>)> {
    let i = info::<8>(link)?;
    let on_interface = [link_type::TCX, link_type::XDP].contains(&(i[0] as u32));
    Ok((i[1] as u32, on_interface.then_some(i[2] as u32)))
}

/// The kernel's number of a program or a map.
pub fn object_id(object: BorrowedFd<'_>) -> io::Result<u32> {
    // struct bpf_prog_info and bpf_map_info: type, id. The rest of them is longer, and not asked for.
    Ok((info::<1>(object)?[0] >> 32) as u32)
}

/// Cgroup (inode number) and attach type of a cgroup link.
pub fn link_cgroup(link: BorrowedFd<'_>) -> io::Result<(u64, u32)> {
    let [id, kind] = link_info(link, link_type::CGROUP, "cgroup")?;
    Ok((id, kind as u32))
}

/// Runs a packet program once over a frame; what it answered. The frame as it left is not asked for.
pub fn run(program: BorrowedFd<'_>, frame: &[u8], context: &[u8]) -> io::Result<u32> {
    let mut a = Attr::default();
    a[0] = raw(program);
    a[1] = frame.len() as u64;
    a[2] = frame.as_ptr() as u64;
    a[5] = context.len() as u64;
    a[6] = context.as_ptr() as u64;
    let _ = call(cmd::TEST_RUN, &mut a)?;
    Ok((a[0] >> 32) as u32)
}

/// Waits until no program run that began before the call is still going (membarrier(2), MEMBARRIER_CMD_GLOBAL: one
/// RCU grace period, 8 to 16 ms).
pub fn wait_for_runs() -> io::Result<()> {
    // SAFETY: a system call without pointers.
    let rc = unsafe { libc::syscall(libc::SYS_membarrier, 1, 0, 0) };
    if rc < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
