//! The real data path on the bench: maps and programs loaded in a lab's bpffs directory, tables written as the agent
//! writes them, packets through BPF_PROG_TEST_RUN. Nothing is attached.
//!
//! In a test run the packet seems to come in on the loopback interface of the current namespace, with its checksums
//! already right in the bytes and unknown to the kernel (CHECKSUM_NONE): what comes out is what the wire would see.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use gray_common::{
    Reason,
    hash::HashKey,
    wire::{Addr, FlowKey4, FlowKey6},
};
use gray_userspace::{
    compile::{
        self, Circumstances, Compiled,
        have::Have,
        lists::{Lists, entry, of_policy},
        plan::{Want, plan},
    },
    config::{self, Source},
    datapath::Datapath as _,
    kernel::{Direction, Hook, Live, Pins},
    model::{ClaimKind, Policy, parse_member},
};

use super::{
    frame::{ETH, Packet},
    land::{LANDS, Land},
};
use crate::{lab::Lab, link, netns::Netns};

pub const KEY: HashKey = HashKey { k0: 3, k1: 4 };
/// What the bench tells the programs of the kernel's ticks per second.
pub const HZ: u32 = 250;
const FLOWS: u32 = 65_536;

/// Whether the namespace knows the way to the instances and clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Routes {
    /// None: rewritten packets go to the stack.
    None,
    /// Connected, with permanent neighbour entries: rewritten packets are redirected with new link addresses.
    Neighbours,
    /// Connected, nobody's link address is known.
    Unresolved,
}

/// MTU of the way out.
pub const MTU: u32 = 1400;

/// How a rewritten packet leaves.
#[derive(Clone, Debug)]
pub enum Way {
    Stack,
    /// Out of the interface with this link address.
    Redirect([u8; 6]),
    /// Out of the interface, the kernel finds the link address.
    Resolve,
}

/// What a bench is made of.
#[derive(Clone, Copy, Debug)]
pub struct Spec<'a> {
    pub routes: Routes,
    /// Entries of each flow table.
    pub flows: u32,
    /// Who is on the link beside the hosts of the cases.
    pub hosts: &'a [IpAddr],
    /// Whether the programs read tags.
    pub tags: bool,
}

/// The bench.
pub struct Rig {
    pub live: Live,
    pub pins: Pins,
    pub way: Way,
    /// Where the programs run, and who is on the link.
    pub ns: Arc<Netns>,
    pub far: Arc<Netns>,
    have: Have,
    compiled: Compiled,
}

/// The link address of a neighbour: made of its own address.
pub fn neighbour(ip: IpAddr) -> [u8; 6] {
    match ip {
        IpAddr::V4(a) => [2, 4, 0, 0, a.octets()[2], a.octets()[3]],
        IpAddr::V6(a) => [2, 6, 0, 0, a.octets()[3], a.octets()[15]],
    }
}

/// Runs `f` with a bench in a namespace of its own.
pub fn with(routes: Routes, f: impl FnOnce(&mut Rig) + Send) {
    with_spec(&Spec { routes, flows: FLOWS, hosts: &[], tags: false }, f);
}

/// The same with what `f` answers.
pub fn with_spec<R: Send>(spec: &Spec<'_>, f: impl FnOnce(&mut Rig) -> R + Send) -> R {
    let lab = Lab::new().unwrap();
    let (ns, far) = (lab.netns("path").unwrap(), lab.netns("far").unwrap());
    let way = connect(&ns, &far, spec.routes, spec.hosts);
    let pins = Pins::open_dir(&lab.bpffs()).unwrap();
    Arc::clone(&ns).enter(move || {
        let mut live = Live::open_tagged(pins.clone(), spec.flows, Hook::Tcx, spec.tags).unwrap();
        live.configure(|c| {
            c.hz = HZ;
            c.snat = [false, true].map(|v6| Addr::from(Land { v6, proto: 6 }.node(0).ip()));
            c.dsr = c.snat;
        });
        let have = live.read().unwrap();
        f(&mut Rig { live, pins, way, ns, far, have, compiled: Compiled::default() })
    })
}

fn connect(ns: &Arc<Netns>, far: &Arc<Netns>, routes: Routes, more: &[IpAddr]) -> Way {
    if routes == Routes::None {
        return Way::Stack;
    }
    let end = |ns: &Arc<Netns>, addresses: &[&str]| link::EndSpec {
        ns: Arc::clone(ns),
        ifname: "out".to_owned(),
        addresses: addresses.iter().map(|a| (*a).to_owned()).collect(),
        routes: vec![],
    };
    // One network for all: every host is on the link.
    let here = end(ns, &["198.18.99.1/16", "fd00:99::1/16"]);
    let pair = link::Veth::create(here, end(far, &[]), MTU).unwrap();
    link::ip_batch(ns, "link set lo up\n").unwrap();
    for key in ["net/ipv4/conf/all/forwarding", "net/ipv4/conf/lo/forwarding", "net/ipv6/conf/all/forwarding"]
    {
        link::sysctl(ns, key, "1").unwrap();
    }
    if routes == Routes::Unresolved {
        return Way::Resolve;
    }
    let hosts: BTreeSet<IpAddr> = LANDS.iter().flat_map(|l| l.hosts()).chain(more.iter().copied()).collect();
    let script: String = hosts
        .into_iter()
        .map(|ip| {
            let mac = neighbour(ip).map(|b| format!("{b:02x}")).join(":");
            format!("neigh add {ip} lladdr {mac} dev out nud permanent\n")
        })
        .collect();
    link::ip_batch(ns, &script).unwrap();
    Way::Redirect(pair.near_info().unwrap().mac)
}

impl Rig {
    /// Puts a policy in force, as the agent does.
    pub fn apply(&mut self, text: &str) {
        self.apply_with(text, &Circumstances::default());
    }

    pub fn apply_with(&mut self, text: &str, around: &Circumstances) {
        self.apply_listed(text, around, "", std::iter::empty());
    }

    /// With more members of the list `cohort` than a text would name.
    pub fn apply_listed(
        &mut self,
        text: &str,
        around: &Circumstances,
        cohort: &str,
        members: impl Iterator<Item = String>,
    ) {
        let policy =
            config::load(&[Source::new("test", text)]).unwrap_or_else(|e| panic!("{e}\n{text}")).policy;
        let compiled = compile::compile(&policy, &self.compiled.assigned, around).unwrap();
        let mut lists = lists(&policy, &compiled);
        for text in members {
            // Unwrap: the caller's own cohort, and what it lists are sources.
            let bit = compiled.assigned.lists.get(cohort).unwrap();
            let member = parse_member(ClaimKind::Source, &text).unwrap();
            let _ = lists.set(bit, entry(KEY, ClaimKind::Source, &member), true);
        }
        self.live.settle().unwrap();
        let want = Want::all(self.have.revision + 1, KEY, &compiled, &lists);
        for step in plan(&mut self.have, &want).unwrap() {
            self.live.write(&step).unwrap();
        }
        self.compiled = compiled;
    }

    /// The policy of the case tables, with its drained instances and adoption deadlines.
    pub fn apply_land(&mut self, early: bool) {
        self.apply_with(&super::land::policy(early), &super::land::around());
    }

    /// Verdict and frame after one run.
    pub fn run(&mut self, d: Direction, frame: &[u8]) -> (i32, Vec<u8>) {
        self.run_marked(d, frame, 0)
    }

    pub fn run_marked(&mut self, d: Direction, frame: &[u8], mark: u32) -> (i32, Vec<u8>) {
        self.live.run_packet_marked(d, frame, mark).unwrap_or_else(|e| panic!("{e:?}\n{}", hex(frame)))
    }

    /// `None`: BPF_PROG_TEST_RUN itself refuses the frame. It wants an Ethernet header, and (newer kernels) the whole
    /// IP header of a frame that says IP; anything longer it must take.
    ///
    /// # Panics
    /// When it refuses more than that.
    pub fn try_run(&mut self, d: Direction, frame: &[u8]) -> Option<(i32, Vec<u8>)> {
        self.try_run_marked(d, frame, 0)
    }

    /// The same, with a mark.
    pub fn try_run_marked(&mut self, d: Direction, frame: &[u8], mark: u32) -> Option<(i32, Vec<u8>)> {
        let least = match frame.get(12..14) {
            Some([0x08, 0x00]) => ETH + 20,
            Some([0x86, 0xdd]) => ETH + 40,
            _ => ETH,
        };
        match self.live.run_packet_marked(d, frame, mark) {
            Ok(done) => Some(done),
            Err(_) if frame.len() < least => None,
            Err(e) => panic!("{e:?}\n{}", hex(frame)),
        }
    }

    /// The flow's flags; `None`: there is no such flow.
    pub fn flow(&self, p: &Packet) -> Option<u16> {
        self.look(p, false)
    }

    /// The same, wherever the programs would find it: in a flood, also apart.
    pub fn flow_anywhere(&self, p: &Packet) -> Option<u16> {
        self.look(p, true)
    }

    fn look(&self, p: &Packet, apart: bool) -> Option<u16> {
        let (sport, dport, proto) = (p.src.port().to_be(), p.dst.port().to_be(), u32::from(p.proto));
        let (saddr, daddr) = (Addr::from(p.src.ip()), Addr::from(p.dst.ip()));
        if p.src.is_ipv4() {
            let key = FlowKey4 { saddr: saddr.as_v4(), daddr: daddr.as_v4(), sport, dport, proto };
            let found = if apart { self.live.flow4(&key) } else { self.live.settled4(&key) };
            found.unwrap().map(|f| f.state.flags)
        } else {
            let key = FlowKey6 { saddr, daddr, sport, dport, proto };
            let found = if apart { self.live.flow6(&key) } else { self.live.settled6(&key) };
            found.unwrap().map(|f| f.state.flags)
        }
    }

    pub fn counters(&self) -> BTreeMap<Reason, u64> {
        self.live.reasons().unwrap().into_iter().collect()
    }

    /// What a rewritten packet looks like when it leaves.
    pub fn leaves(&self, p: &Packet) -> Vec<u8> {
        self.way.leaves(p)
    }
}

impl Way {
    /// What a rewritten packet looks like when it leaves this way.
    pub fn leaves(&self, p: &Packet) -> Vec<u8> {
        match self {
            Self::Redirect(smac) => Packet { dmac: neighbour(p.dst.ip()), smac: *smac, ..p.clone() }.frame(),
            Self::Stack | Self::Resolve => p.frame(),
        }
    }
}

/// Which counters moved between two readings, and by how much.
pub fn moved(before: &BTreeMap<Reason, u64>, after: &BTreeMap<Reason, u64>) -> BTreeMap<Reason, u64> {
    after.iter().map(|(r, n)| (*r, n - before[r])).filter(|(_, n)| *n > 0).collect()
}

/// The lists that a policy itself gives.
pub fn lists(policy: &Policy, c: &Compiled) -> Lists {
    of_policy(policy, &c.assigned.lists, KEY)
}

/// A frame for people.
pub fn hex(frame: &[u8]) -> String {
    let rows: Vec<String> = frame
        .chunks(16)
        .enumerate()
        .map(|(i, row)| {
            let bytes: Vec<String> = row.iter().map(|b| format!("{b:02x}")).collect();
            format!("  {:04x}  {}", i * 16, bytes.join(" "))
        })
        .collect();
    rows.join("\n")
}

impl Land {
    pub fn name(self) -> String {
        format!("{}/{}", if self.v6 { "v6" } else { "v4" }, if self.proto == 6 { "tcp" } else { "udp" })
    }
}
