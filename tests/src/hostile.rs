//! A hostile network on one interface end, as a guard: per direction it loses, duplicates, corrupts and reorders a stated
//! share of the IP packets, by a seed. It serves where the kernel has no netem, and counts everything it does.
//!
//! Programs of the lab (tcx; clsact before Linux 6.6) lose and duplicate; what is to be late or corrupted makes a detour
//! through a TAP device and a thread of ours. A corrupted packet has a wrong checksum also where veth would never have
//! computed one: on its way through the TAP device the kernel completes it, and then one bit is turned.

mod offloads;
mod relay;
mod tap;
#[expect(dead_code, reason = "some marks are between the programs only")]
#[path = "../ebpf/src/wire.rs"]
mod wire;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use aya::Ebpf;
use aya::maps::Array;
use aya::programs::{LinkOrder, SchedClassifier, TcAttachType, tc};

use crate::link::{self, EndSpec, Veth};
use crate::netns::Netns;
use crate::object;
use offloads::Segments;
use relay::Relay;
use wire::{EGRESS, INGRESS, WHOLE, Way};

const NO_MAP: &str = "the lab's object has no map WAYS: run cargo xtask build";

/// Shares in 1/10 000 of the IP packets; every packet meets one of them at most.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Harm {
    pub lose: u32,
    pub duplicate: u32,
    /// One bit of the payload is turned, without a new checksum: the receiver drops it.
    pub corrupt: u32,
    /// The packet is held back for `HostileSpec::hold`; what comes later overtakes it.
    pub reorder: u32,
}

/// What happens on an interface.
#[derive(Debug, Clone, Copy)]
pub struct HostileSpec {
    pub seed: u64,
    pub ingress: Harm,
    pub egress: Harm,
    /// How late reordered packets are.
    pub hold: Duration,
    /// Leave segmentation offloads as they are. Else both ends of the pair hand over packets of wire size, of which
    /// the shares are meant.
    pub super_packets: bool,
}

impl HostileSpec {
    /// The same in both directions; held packets are 2 ms late.
    pub fn both(seed: u64, harm: Harm) -> Self {
        Self { seed, ingress: harm, egress: harm, hold: Duration::from_millis(2), super_packets: false }
    }
}

/// Exact counts of one direction since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HarmDone {
    /// IP packets that came by.
    pub seen: u64,
    pub lost: u64,
    pub duplicated: u64,
    pub corrupted: u64,
    pub reordered: u64,
    /// On the detour now: neither sent on nor failed.
    pub away: u64,
    /// Could not be sent on (the interface is gone or down): lost without intention.
    pub failed: u64,
}

/// Which end of a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Near,
    Far,
}

/// The hostile network; a drop makes it friendly again.
pub struct Hostile {
    end: EndSpec,
    /// Present until the drop.
    ebpf: Option<Ebpf>,
    relay: Option<Relay>,
    segments: Vec<Segments>,
    /// Below tcx: the qdisc that we made.
    qdisc: bool,
}

impl Hostile {
    /// Attaches to one end of the pair. The nearest to the wire: first at ingress, last at egress.
    pub fn on(pair: &Veth, side: Side, spec: HostileSpec) -> Result<Self> {
        let end = if side == Side::Near { &pair.near } else { &pair.far }.clone();
        for harm in [spec.ingress, spec.egress] {
            let sum =
                [harm.lose, harm.duplicate, harm.corrupt, harm.reorder].map(u64::from).iter().sum::<u64>();
            ensure!(sum <= WHOLE, "{harm:?}: the shares are more than {WHOLE} together");
        }
        let mut segments = Vec::new();
        if !spec.super_packets {
            for end in [&pair.near, &pair.far] {
                segments.push(Segments::off(&end.ns, &end.ifname)?);
            }
        }
        let what = format!("a hostile network on {} of {}", end.ifname, end.ns.name());
        let mut hostile = Self { end, ebpf: None, relay: None, segments, qdisc: false };
        hostile.start(&spec).context(what)?;
        Ok(hostile)
    }

    fn start(&mut self, spec: &HostileSpec) -> Result<()> {
        let (ns, ifname) = (Arc::clone(&self.end.ns), self.end.ifname.clone());
        let ifindex = link::info(&ns, &ifname)?.ifindex;
        let relay = Relay::start(&ns, &ifname, ifindex, spec)?;
        let mut ebpf = object::open(|_| {})?;
        let mut ways = Array::<_, Way>::try_from(ebpf.map_mut("WAYS").context(NO_MAP)?)?;
        for (index, harm, tap) in
            [(INGRESS, spec.ingress, &relay.taps[0]), (EGRESS, spec.egress, &relay.taps[1])]
        {
            let way = Way {
                // Directions draw from sequences of their own.
                seed: spec.seed.wrapping_add(u64::from(index) << 32),
                lose: harm.lose,
                duplicate: harm.duplicate,
                detour: harm.corrupt + harm.reorder,
                tap: tap.ifindex,
                ifindex,
                ..Way::default()
            };
            ways.set(index, way, 0)?;
        }
        let names = [relay.taps[0].name.clone(), relay.taps[1].name.clone()];
        self.relay = Some(relay);
        // Kept before anything is attached: whatever fails, the drop takes it off.
        let ebpf = self.ebpf.insert(ebpf);
        self.qdisc = ns.enter(|| -> Result<bool> {
            let mut made = false;
            for (program, ifname, at) in [
                ("lab_hostile_back", &names[0], TcAttachType::Ingress),
                ("lab_hostile_back", &names[1], TcAttachType::Ingress),
                ("lab_hostile_in", &ifname, TcAttachType::Ingress),
                ("lab_hostile_out", &ifname, TcAttachType::Egress),
            ] {
                made |= attach(ebpf, program, ifname, at)? && *ifname == self.end.ifname;
            }
            Ok(made)
        })?;
        Ok(())
    }

    pub fn ingress(&self) -> Result<HarmDone> {
        self.done(INGRESS)
    }

    pub fn egress(&self) -> Result<HarmDone> {
        self.done(EGRESS)
    }

    fn done(&self, index: u32) -> Result<HarmDone> {
        let ebpf = self.ebpf.as_ref().context("no programs")?;
        let way = Array::<_, Way>::try_from(ebpf.map("WAYS").context(NO_MAP)?)?.get(&index, 0)?;
        let tally = self.relay.as_ref().context("no relay")?.tally(index as usize);
        Ok(HarmDone {
            seen: way.seen,
            lost: way.lost,
            duplicated: way.duplicated,
            corrupted: tally.corrupted,
            reordered: tally.reordered,
            away: way.detoured.saturating_sub(way.returned + tally.failed),
            failed: tally.failed,
        })
    }
}

// SAFETY: plain integers without padding.
unsafe impl aya::Pod for Way {}

/// Attaches in the namespace of the calling thread; true when it made a clsact qdisc for that.
fn attach(ebpf: &mut Ebpf, program: &str, ifname: &str, at: TcAttachType) -> Result<bool> {
    let what = || format!("attach {program} to {ifname}");
    let program: &mut SchedClassifier = ebpf.program_mut(program).with_context(what)?.try_into()?;
    if program.fd().is_err() {
        program.load().with_context(what)?;
    }
    let order = if at == TcAttachType::Ingress { LinkOrder::first() } else { LinkOrder::last() };
    if tcx() {
        let _ = program
            .attach_with_options(ifname, at, tc::TcAttachOptions::TcxOrder(order))
            .with_context(what)?;
        return Ok(false);
    }
    // EEXIST: somebody has it already, which serves us too.
    let made = tc::qdisc_add_clsact(ifname).is_ok();
    // 1 is before everybody else; at egress whoever redirects must be asked first.
    let priority = if at == TcAttachType::Ingress { 1 } else { u16::MAX };
    let options = tc::NlOptions { priority, ..tc::NlOptions::default() };
    let _ =
        program.attach_with_options(ifname, at, tc::TcAttachOptions::Netlink(options)).with_context(what)?;
    Ok(made)
}

/// Linux 6.6 has tcx.
fn tcx() -> bool {
    aya::util::KernelVersion::current().is_ok_and(|v| v >= aya::util::KernelVersion::new(6, 6, 0))
}

impl Drop for Hostile {
    fn drop(&mut self) {
        let (ns, ifname): (&Netns, _) = (&self.end.ns, &self.end.ifname);
        if let Some(ebpf) = self.ebpf.take() {
            // clsact filters are detached by netlink, in the namespace.
            ns.enter(|| drop(ebpf));
        }
        if self.qdisc {
            let _ = crate::command::output(ns.command("tc").args(["qdisc", "del", "dev", ifname, "clsact"]));
        }
        // What was held back arrives now.
        drop(self.relay.take());
        self.segments.clear();
    }
}
