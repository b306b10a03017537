//! The tables as the splice listener uses them: read for its decisions, and the few elements that are its own. Loads nothing, attaches
//! nothing, and needs no agent.

use std::{
    fs, io,
    net::{IpAddr, SocketAddr},
    os::{fd::AsFd, unix::fs::MetadataExt as _},
    path::Path,
};

use gray_common::{
    decide::mem::MemTables,
    names,
    packet::TCP,
    request::cookie::Tuple,
    wire::{
        Addr, Breaker, Control, Flow4, Flow6, FlowKey4, FlowKey6, ListenCount, Listening, Tagged, Wire,
        Workload,
    },
};

use super::{
    KernelError, Unsteered,
    bpf::Map,
    maps::{Maps, Miss, failed, open},
    moving,
    pins::Pins,
    trips::Trips,
};
use crate::sys::{clock::monotonic_ns, sockets};

/// How long the listener is taken for there after it said so.
const LEASE_NS: u64 = 3_000_000_000;

/// The data path's tables, opened by their pins.
pub struct Listener {
    pins: Pins,
    /// Of the pin that says where the listener is: another one is of another data path.
    inode: u64,
    control: Map<u32, Control>,
    maps: Maps,
    unsteered: Unsteered,
    /// `None`: they are an older agent's, and cannot be mapped.
    trips: Option<Trips>,
    /// This node tells whose a socket is.
    callers: bool,
}

/// Whose a connection is that was handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Whose {
    pub client: SocketAddr,
    /// What the client dialled.
    pub service: SocketAddr,
    pub mark: u32,
    pub dscp: u8,
    /// What the tag of its SYN said.
    pub tag: Tagged,
    /// It is one of this node.
    pub caller: Option<Called>,
}

/// What is known of a caller on this node beside what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Called {
    pub workload: Option<Workload>,
    /// The number of the lane that its calls are in; 0: none.
    pub lane: u64,
    /// The address that its socket is bound to.
    pub source: Option<Addr>,
}

impl Listener {
    /// `None`: no data path is pinned at `root`.
    ///
    /// # Errors
    /// What is there is none of ours, or of another ABI.
    pub fn open(root: &Path) -> Result<Option<Self>, KernelError> {
        if !root.exists() {
            return Ok(None);
        }
        let pins = Pins::existing(root)?;
        let Ok(inode) = inode(&pins) else {
            return pins.others().map_or(Ok(None), |other| {
                Err(KernelError::OtherAbi { path: root.into(), found: other.abi(), ours: pins.abi() })
            });
        };
        // Of their size, as they are.
        let tables = moving::adopted(&pins, 0)?;
        let control = open(&pins, names::CONTROL)?;
        let maps = Maps::open(&pins, &tables)?;
        let unsteered = Unsteered::open(&pins)?;
        let callers = sockets::tells_cookies();
        if !callers {
            tracing::warn!(
                "this kernel does not tell of sockets (sock_diag): local callers are steered without what they say"
            );
        }
        let trips = Trips::map(maps.trips.fd())
            .inspect_err(|e| tracing::warn!("breakers do not hear of what is read here: {e}"))
            .ok();
        Ok(Some(Self { pins, inode, control, maps, unsteered, trips, callers }))
    }

    /// False: the data path was removed, or another one is in its place.
    pub fn is_there(&self) -> bool {
        inode(&self.pins).is_ok_and(|i| i == self.inode)
    }

    /// # Errors
    /// The kernel's.
    pub fn control(&self) -> Result<Control, KernelError> {
        Ok(self.control.lookup(&0).map_err(failed("the control element"))?.unwrap_or_default())
    }

    /// Ticks now: the agent notes both clocks each second, and nobody does without one.
    ///
    /// # Errors
    /// The kernel's.
    pub fn now(&self, control: &Control) -> Result<u64, KernelError> {
        let noted = self.maps.clock.lookup(&0).map_err(failed("the clock"))?.unwrap_or_default();
        let since = u128::from(monotonic_ns().saturating_sub(noted.ktime_ns));
        Ok(noted.jiffies.wrapping_add((since * u128::from(control.hz) / 1_000_000_000) as u64))
    }

    /// # Errors
    /// The kernel's.
    pub fn fetch(&self, to: &mut MemTables, miss: Miss) -> Result<(), KernelError> {
        self.maps.fetch(to, miss)
    }

    /// Tells a service's breaker that its gray instance has failed a connection.
    ///
    /// # Errors
    /// The kernel's.
    pub fn fails(&self, service: u16, breaker: Breaker) -> Result<(), KernelError> {
        if let Some(trips) = &self.trips
            && breaker.failures != 0
        {
            let control = self.control()?;
            trips.failed(service, breaker, self.now(&control)?, control.hz);
        }
        Ok(())
    }

    /// Keeps the connect path from steering a socket that is about to be connected.
    ///
    /// # Errors
    /// The kernel's.
    pub fn unsteered(&self, socket: &impl AsFd) -> io::Result<()> {
        self.unsteered.pass(socket)
    }

    /// Says of a connected socket which service it is of and where it was sent, and by which rule, for the agent to close it with what its instance has.
    ///
    /// # Errors
    /// The kernel's.
    pub fn sent(&self, socket: &impl AsFd, ends: (SocketAddr, SocketAddr), rule: u16) -> io::Result<()> {
        self.unsteered.sent(socket, ends, rule)
    }

    /// Says for some seconds that a listener is at `at`, for its family.
    ///
    /// # Errors
    /// The kernel's.
    pub fn say(&self, at: SocketAddr) -> Result<(), KernelError> {
        let (addr, port) = (Addr::from(at.ip()), at.port().to_be());
        // Its answers are met on their way out only where the filter knows it. The agent writes it, too: it keeps what is ours, and brings
        // back what of its own is lost here.
        let mut filter = self.maps.filter.lookup(&0).map_err(failed("the filter"))?.unwrap_or_default();
        if filter.add(&addr, port) {
            self.maps.filter.update(&0, &filter).map_err(failed("the filter"))?;
        }
        let said = Listening {
            addr,
            port,
            until_ns: monotonic_ns() + LEASE_NS,
            callers: self.callers.into(),
            _pad: [0; 5],
        };
        self.maps.listener.update(&family(at), &said).map_err(failed("the listener"))
    }

    fn said(&self, at: SocketAddr) -> Result<Listening, KernelError> {
        Ok(self.maps.listener.lookup(&family(at)).map_err(failed("the listener"))?.unwrap_or_default())
    }

    /// Whether another one than the one at `at` says that it is there.
    ///
    /// # Errors
    /// The kernel's.
    pub fn is_followed(&self, at: SocketAddr) -> Result<bool, KernelError> {
        let said = self.said(at)?;
        let own = (said.addr, said.port) == (Addr::from(at.ip()), at.port().to_be());
        Ok(!own && said.until_ns > monotonic_ns())
    }

    /// Takes it back, unless it is another one's by now.
    ///
    /// # Errors
    /// The kernel's.
    pub fn take_back(&self, at: SocketAddr) -> Result<(), KernelError> {
        let said = self.said(at)?;
        if (said.addr, said.port) == (Addr::from(at.ip()), at.port().to_be()) {
            self.maps.listener.update(&family(at), &Listening::default()).map_err(failed("the listener"))?;
        }
        Ok(())
    }

    /// Adds to what was counted of a service, by its number.
    ///
    /// # Errors
    /// The kernel's.
    pub fn count(&self, service: u16, more: &ListenCount) -> Result<(), KernelError> {
        let at = u32::from(service);
        let mut sum = self.maps.listened.lookup(&at).map_err(failed("a counter"))?.unwrap_or_default();
        sum.add(more);
        self.maps.listened.update(&at, &sum).map_err(failed("a counter"))
    }

    /// Whose a connection is that came from `peer` to `local`; `None`: nobody handed it over.
    ///
    /// # Errors
    /// The kernel's.
    pub fn whose(&self, peer: SocketAddr, local: SocketAddr) -> Result<Option<Whose>, KernelError> {
        let Some((client, service)) = self.ends(peer, local)? else { return self.called(peer, local) };
        let key = Tuple {
            client: Addr::from(client.ip()).words(),
            service: Addr::from(service.ip()).words(),
            client_port: client.port().to_be(),
            service_port: service.port().to_be(),
            number: 0,
        };
        let bound = self.maps.splices.lookup(&key).map_err(failed("a connection"))?;
        let Some(b) = bound else { return Ok(None) };
        let tag = self.maps.tagged.lookup(&key).map_err(failed("a tag"))?.unwrap_or_default();
        Ok(Some(Whose { client, service, mark: b.mark, dscp: b.dscp, tag, caller: None }))
    }

    /// A caller of this node, by its own socket: what the connect path has noted of that.
    fn called(&self, peer: SocketAddr, local: SocketAddr) -> Result<Option<Whose>, KernelError> {
        let Some(cookie) = sockets::cookie(peer, local).map_err(failed("the caller's socket"))? else {
            return Ok(None);
        };
        let Some(c) = self.maps.callers.lookup(&cookie).map_err(failed("a caller"))? else {
            return Ok(None);
        };
        let workload = match c.label {
            0 => None,
            label => self.maps.workloads.lookup(&label).map_err(failed("a workload"))?,
        };
        let source = (c.source != Addr([0; 16])).then_some(c.source);
        Ok(Some(Whose {
            client: peer,
            service: end(c.service, c.service_port as u16),
            mark: c.mark,
            dscp: 0,
            tag: Tagged::default(),
            caller: Some(Called { workload, lane: c.lane.into(), source }),
        }))
    }

    /// Both ends as the client sees them: by the answers' entry.
    fn ends(
        &self,
        peer: SocketAddr,
        local: SocketAddr,
    ) -> Result<Option<(SocketAddr, SocketAddr)>, KernelError> {
        let (sport, dport, proto) = (local.port().to_be(), peer.port().to_be(), u32::from(TCP));
        let (from, to) = (Addr::from(local.ip().to_canonical()), Addr::from(peer.ip().to_canonical()));
        if from.is_v4() {
            let key = FlowKey4 { saddr: from.as_v4(), daddr: to.as_v4(), sport, dport, proto };
            let f = self.find(&key, names::FLOWS4, &self.maps.opening4)?;
            return Ok(f.map(|f: Flow4| (end(Addr::v4(f.daddr), f.dport), end(Addr::v4(f.saddr), f.sport))));
        }
        let key = FlowKey6 { saddr: from, daddr: to, sport, dport, proto };
        let f = self.find(&key, names::FLOWS6, &self.maps.opening6)?;
        Ok(f.map(|f: Flow6| (end(f.daddr, f.dport), end(f.saddr, f.sport))))
    }

    /// Where the flows are now, or are going (ADR 16): what they have moved out of is of the past. Also those apart (ADR 20).
    fn find<K: Wire, V: Wire>(
        &self,
        key: &K,
        name: &str,
        opening: &Map<K, V>,
    ) -> Result<Option<V>, KernelError> {
        for path in [self.pins.next_map(name), self.pins.map(name)] {
            let Some(fd) = self.pins.open(&path)? else { continue };
            let map = Map::<K, V>::new(fd).map_err(|e| KernelError::io("cannot use the map", &path, e))?;
            if let Some(f) = map.lookup(key).map_err(failed("a flow"))? {
                return Ok(Some(f));
            }
        }
        opening.lookup(key).map_err(failed("a flow"))
    }
}

/// The element of an address's family.
fn family(at: SocketAddr) -> u32 {
    u32::from(at.is_ipv6())
}

fn end(addr: Addr, port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::from(addr), u16::from_be(port))
}

fn inode(pins: &Pins) -> io::Result<u64> {
    fs::symlink_metadata(pins.map(names::LISTENER)).map(|m| m.ino())
}
