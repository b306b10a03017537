//! bpf(2) by hand, for what tests must see and do without aya: what is attached where, and foreign programs
//! that stand beside gray's. It never detaches what it did not attach.

mod clsact;

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::Arc;

use anyhow::{Context, Result};

use crate::cgroup::Cgroup;
use crate::link;
use crate::netns::Netns;
use crate::skip;

const PROG_LOAD: i32 = 5;
const OBJ_GET_INFO_BY_FD: i32 = 15;
const PROG_QUERY: i32 = 16;
const PROG_ATTACH: i32 = 8;
const PROG_DETACH: i32 = 9;
const LINK_CREATE: i32 = 28;

const PROG_TYPE_SCHED_CLS: u32 = 3;
const PROG_TYPE_SOCK_OPS: u32 = 13;
const PROG_TYPE_CGROUP_SOCK_ADDR: u32 = 18;

const CGROUP_SOCK_OPS: u32 = 3;

pub const SK_LOOKUP: u32 = 36;
pub const FLOW_DISSECTOR: u32 = 17;
pub const TCX_INGRESS: u32 = 46;
pub const TCX_EGRESS: u32 = 47;

/// Attach types of cgroups that hold network programs, with the names bpftool uses (`enum bpf_attach_type`).
pub const CGROUP_TYPES: &[(u32, &str)] = &[
    (0, "cgroup_inet_ingress"),
    (1, "cgroup_inet_egress"),
    (2, "cgroup_inet_sock_create"),
    (3, "cgroup_sock_ops"),
    (8, "cgroup_inet4_bind"),
    (9, "cgroup_inet6_bind"),
    (10, "cgroup_inet4_connect"),
    (11, "cgroup_inet6_connect"),
    (12, "cgroup_inet4_post_bind"),
    (13, "cgroup_inet6_post_bind"),
    (14, "cgroup_udp4_sendmsg"),
    (15, "cgroup_udp6_sendmsg"),
    (18, "cgroup_sysctl"),
    (19, "cgroup_udp4_recvmsg"),
    (20, "cgroup_udp6_recvmsg"),
    (21, "cgroup_getsockopt"),
    (22, "cgroup_setsockopt"),
    (29, "cgroup_inet4_getpeername"),
    (30, "cgroup_inet6_getpeername"),
    (31, "cgroup_inet4_getsockname"),
    (32, "cgroup_inet6_getsockname"),
    (34, "cgroup_inet_sock_release"),
];

/// `union bpf_attr`, the part for BPF_PROG_QUERY.
#[repr(C)]
#[derive(Default)]
struct QueryAttr {
    target: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    prog_ids: u64,
    prog_cnt: u32,
    pad: u32,
    prog_attach_flags: u64,
    link_ids: u64,
    link_attach_flags: u64,
    revision: u64,
}

#[repr(C)]
#[derive(Default)]
struct LoadAttr {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
    prog_ifindex: u32,
    expected_attach_type: u32,
}

#[repr(C)]
#[derive(Default)]
struct LinkAttr {
    prog_fd: u32,
    target: u32,
    attach_type: u32,
    flags: u32,
    relative: u32,
    pad: u32,
    expected_revision: u64,
}

/// For BPF_PROG_ATTACH and BPF_PROG_DETACH.
#[repr(C)]
#[derive(Default)]
struct AttachAttr {
    target: u32,
    prog_fd: u32,
    attach_type: u32,
    flags: u32,
}

#[repr(C)]
#[derive(Default)]
struct InfoAttr {
    fd: u32,
    len: u32,
    info: u64,
}

pub(crate) fn bpf<T>(command: i32, attr: &mut T) -> io::Result<i32> {
    // SAFETY: `attr` is a live prefix of `union bpf_attr` of the size given; the kernel takes the rest as
    // zero. Every pointer inside it is set by the caller to a buffer that outlives the call.
    let n = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), size_of::<T>()) };
    if n < 0 { Err(io::Error::last_os_error()) } else { Ok(n as i32) }
}

fn bpf_fd<T>(command: i32, attr: &mut T) -> io::Result<OwnedFd> {
    let fd = bpf(command, attr)?;
    // SAFETY: the two commands this is called with return a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Ids of the programs attached, in the order they run. Empty where the kernel does not know the type.
fn query(target: u32, attach_type: u32) -> io::Result<Vec<u32>> {
    let mut ids = vec![0_u32; 64];
    let mut attr =
        QueryAttr { target, attach_type, prog_ids: ids.as_mut_ptr() as u64, ..QueryAttr::default() };
    attr.prog_cnt = ids.len() as u32;
    match bpf(PROG_QUERY, &mut attr) {
        Ok(_) => {}
        // Nothing was ever attached (tcx), or the kernel has no such attach type.
        Err(e) if matches!(e.raw_os_error(), Some(libc::ENOENT | libc::EINVAL | libc::EOPNOTSUPP)) => {
            return Ok(Vec::new());
        }
        Err(e) => return Err(e),
    }
    ids.truncate(attr.prog_cnt as usize);
    Ok(ids)
}

/// Program ids on an interface of a namespace (`TCX_INGRESS`, `TCX_EGRESS`), first to run first. Where there is no tcx:
/// those of clsact.
pub fn on_interface(ns: &Netns, ifname: &str, attach_type: u32) -> Result<Vec<u32>> {
    if !skip::tcx() {
        return clsact::programs(ns, ifname, attach_type);
    }
    let ifindex = link::info(ns, ifname)?.ifindex;
    ns.enter(|| query(ifindex, attach_type))
        .with_context(|| format!("query tcx of {ifname} in {}", ns.name()))
}

/// Program ids attached to the namespace itself (`SK_LOOKUP`, `FLOW_DISSECTOR`).
pub fn on_netns(ns: &Netns, attach_type: u32) -> Result<Vec<u32>> {
    let file = File::open(ns.path())?;
    query(file.as_raw_fd() as u32, attach_type).with_context(|| format!("query programs of {}", ns.name()))
}

/// Program ids attached to the cgroup itself (not those above it that have effect in it).
pub fn on_cgroup(path: &std::path::Path, attach_type: u32) -> Result<Vec<u32>> {
    let dir = File::open(path)?;
    query(dir.as_raw_fd() as u32, attach_type)
        .with_context(|| format!("query type {attach_type} of {}", path.display()))
}

/// tcx and clsact: the next program decides.
pub const TCX_NEXT: i32 = -1;
/// tcx and clsact: the packet is dropped.
pub const TCX_DROP: i32 = 2;
/// Cgroup socket hooks: the call proceeds.
pub const ALLOW: i32 = 1;
/// Cgroup socket hooks: the call fails with EPERM.
pub const DENY: i32 = 0;

/// A program of somebody else that returns one verdict, attached until the drop.
#[derive(Debug)]
pub struct Foreign {
    prog: OwnedFd,
    _place: Place,
}

#[derive(Debug)]
enum Place {
    Link(#[expect(dead_code, reason = "held open, it is attached")] OwnedFd),
    Filter(#[expect(dead_code, reason = "its drop removes it")] clsact::Filter),
    Alone(#[expect(dead_code, reason = "its drop removes it")] Alone),
}

/// A cgroup's only program of its type.
#[derive(Debug)]
struct Alone {
    dir: File,
    attach_type: u32,
}

impl Drop for Alone {
    fn drop(&mut self) {
        let (target, attach_type) = (self.dir.as_raw_fd() as u32, self.attach_type);
        let _ = bpf(PROG_DETACH, &mut AttachAttr { target, attach_type, ..AttachAttr::default() });
    }
}

impl Foreign {
    /// On an interface (`TCX_INGRESS` or `TCX_EGRESS`), after what is there. Where there is no tcx: on clsact.
    pub fn interface(ns: &Arc<Netns>, ifname: &str, attach_type: u32, verdict: i32) -> Result<Self> {
        let ifindex = link::info(ns, ifname)?.ifindex;
        let prog = load(PROG_TYPE_SCHED_CLS, 0, verdict).context("load a foreign tc program")?;
        let place = if skip::tcx() {
            ns.enter(|| attach(&prog, ifindex, attach_type)).map(Place::Link).map_err(Into::into)
        } else {
            clsact::Filter::add(ns, ifname, attach_type, &prog).map(Place::Filter)
        };
        Ok(Self { _place: place.context("attach a foreign tc program")?, prog })
    }

    /// On a cgroup, connect, sendmsg and their like (10, 11, 14, 15, 19, 20, 29, 30).
    pub fn cgroup(cgroup: &Cgroup, attach_type: u32, verdict: i32) -> Result<Self> {
        let dir = File::open(cgroup.path())?;
        let prog = load(PROG_TYPE_CGROUP_SOCK_ADDR, attach_type, verdict)
            .context("load a foreign cgroup program")?;
        let link = attach(&prog, dir.as_raw_fd() as u32, attach_type);
        Ok(Self { _place: Place::Link(link.context("attach a foreign cgroup program")?), prog })
    }

    /// On a cgroup: every TCP segment of its sockets that has room for it gets an option of somebody else's experiment, as long as nobody
    /// takes that away ([`Self::OPTION`]).
    pub fn options(cgroup: &Cgroup) -> Result<Self> {
        let dir = File::open(cgroup.path())?;
        let prog = load_insns(PROG_TYPE_SOCK_OPS, 0, &OPTIONS).context("load a foreign sockops program")?;
        let link = attach(&prog, dir.as_raw_fd() as u32, CGROUP_SOCK_OPS);
        Ok(Self { _place: Place::Link(link.context("attach a foreign sockops program")?), prog })
    }

    /// On a cgroup that takes no other program for sockets' moments as long as this is there.
    pub fn alone(cgroup: &Cgroup) -> Result<Self> {
        let place = Alone { dir: File::open(cgroup.path())?, attach_type: CGROUP_SOCK_OPS };
        let prog = load(PROG_TYPE_SOCK_OPS, 0, 1).context("load a foreign sockops program")?;
        let (target, prog_fd) = (place.dir.as_raw_fd() as u32, prog.as_raw_fd() as u32);
        let mut attr = AttachAttr { target, prog_fd, attach_type: CGROUP_SOCK_OPS, flags: 0 };
        let _ = bpf(PROG_ATTACH, &mut attr).context("attach a foreign sockops program")?;
        Ok(Self { _place: Place::Alone(place), prog })
    }

    /// How tcpdump shows it.
    pub const OPTION: &str = "unknown-253 0xf989";

    /// The program's id, as `on_interface` and `on_cgroup` list it.
    pub fn id(&self) -> Result<u32> {
        Ok(prog_info(&self.prog).context("read a program's id")?[1])
    }
}

/// `struct bpf_prog_info` as words, so far as the lab reads it; it begins with type and id. The kernel fills as much
/// as there is room for.
pub(crate) fn prog_info(prog: &OwnedFd) -> io::Result<[u32; 56]> {
    let mut info = [0_u32; 56];
    let mut attr = InfoAttr {
        fd: prog.as_raw_fd() as u32,
        len: size_of_val(&info) as u32,
        info: info.as_mut_ptr() as u64,
    };
    bpf(OBJ_GET_INFO_BY_FD, &mut attr).map(|_| info)
}

/// One instruction: code, destination, source, offset, immediate.
const fn insn(code: u8, to: u8, from: u8, off: i16, imm: i32) -> u64 {
    code as u64
        | (to as u64 | (from as u64) << 4) << 8
        | (off as u16 as u64) << 16
        | (imm as u32 as u64) << 32
}

/// By `enum bpf_func_id` and `BPF_SOCK_OPS_*` of `linux/bpf.h`.
const OPTIONS: [u64; 24] = [
    insn(0xbf, 6, 1, 0, 0),   //     r6 = ctx
    insn(0x61, 2, 6, 0, 0),   //     r2 = r6->op
    insn(0x15, 2, 0, 3, 3),   //     a connect, op 3:
    insn(0x15, 2, 0, 6, 14),  //     how long, op 14:
    insn(0x15, 2, 0, 10, 15), //     what, op 15:
    insn(0x05, 0, 0, 16, 0),  //     else the end
    insn(0xbf, 1, 6, 0, 0),   //  6: bpf_sock_ops_cb_flags_set(ctx, BPF_SOCK_OPS_WRITE_HDR_OPT_CB_FLAG)
    insn(0xb7, 2, 0, 0, 1 << 6),
    insn(0x85, 0, 0, 0, 59),
    insn(0x05, 0, 0, 12, 0),
    insn(0xbf, 1, 6, 0, 0), // 10: bpf_reserve_hdr_opt(ctx, 4, 0)
    insn(0xb7, 2, 0, 0, 4),
    insn(0xb7, 3, 0, 0, 0),
    insn(0x85, 0, 0, 0, 144),
    insn(0x05, 0, 0, 7, 0),
    insn(0x62, 10, 0, -8, i32::from_le_bytes([253, 4, 0xf9, 0x89])), // 15: bpf_store_hdr_opt(ctx, it, 4, 0)
    insn(0xbf, 1, 6, 0, 0),
    insn(0xbf, 2, 10, 0, 0),
    insn(0x07, 2, 0, 0, -8),
    insn(0xb7, 3, 0, 0, 4),
    insn(0xb7, 4, 0, 0, 0),
    insn(0x85, 0, 0, 0, 143),
    insn(0xb7, 0, 0, 0, 1), // 22: r0 = 1
    insn(0x95, 0, 0, 0, 0),
];

/// `r0 = verdict; exit`
pub(crate) fn load(prog_type: u32, expected_attach_type: u32, verdict: i32) -> io::Result<OwnedFd> {
    load_insns(prog_type, expected_attach_type, &[insn(0xb7, 0, 0, 0, verdict), insn(0x95, 0, 0, 0, 0)])
}

fn load_insns(prog_type: u32, expected_attach_type: u32, insns: &[u64]) -> io::Result<OwnedFd> {
    let mut attr = LoadAttr {
        prog_type,
        insn_cnt: insns.len() as u32,
        insns: insns.as_ptr() as u64,
        license: c"GPL".as_ptr() as u64,
        prog_name: *b"foreign\0\0\0\0\0\0\0\0\0",
        expected_attach_type,
        ..LoadAttr::default()
    };
    bpf_fd(PROG_LOAD, &mut attr)
}

pub(crate) fn attach(prog: &OwnedFd, target: u32, attach_type: u32) -> io::Result<OwnedFd> {
    let prog_fd = prog.as_raw_fd() as u32;
    bpf_fd(LINK_CREATE, &mut LinkAttr { prog_fd, target, attach_type, ..LinkAttr::default() })
}
