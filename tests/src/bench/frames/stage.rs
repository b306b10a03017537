//! Where the frames go: a generator's pair for each path, the paths in one namespace, one sink behind all that forward.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use aya::Ebpf;
use aya::maps::{Array, MapData};
use aya::programs::{SchedClassifier, TcAttachType, Xdp, XdpMode};
use gray_userspace::kernel::Direction;

use super::shot::{
    self,
    frame_plan::{Arrived, FramePlan},
};
use crate::dnat::Dnat;
use crate::netns::Netns;
use crate::packets::{
    frame::{ACK, Packet, SYN, TCP},
    land::{LANDS, SHOP, SHOP_AT},
    rig::{MTU, Rig, hex},
    sum,
};
use crate::{link, object};

/// What handles the frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Path {
    Drop,
    Bounce,
    Redirect,
    Routed,
    Nft,
    Gray,
    BareXdp,
    GrayXdp,
}

pub const PATHS: [Path; 8] = [
    Path::Drop,
    Path::Bounce,
    Path::Redirect,
    Path::Routed,
    Path::Nft,
    Path::Gray,
    Path::BareXdp,
    Path::GrayXdp,
];

impl Path {
    pub fn name(self) -> &'static str {
        match self {
            Self::Drop => "XDP, dropped at once",
            Self::Bounce => "XDP, sent back",
            Self::Redirect => "tc, redirected unseen",
            Self::Routed => "routed by the kernel",
            Self::Nft => "nftables DNAT",
            Self::Gray => "tc, gray",
            Self::BareXdp => "XDP, redirected unseen",
            Self::GrayXdp => "XDP, gray",
        }
    }

    /// Whether it changes where frames go.
    fn steers(self) -> bool {
        matches!(self, Self::Nft | Self::Gray | Self::GrayXdp)
    }
}

/// Client addresses.
pub const HOSTS: u32 = 64;
pub const FIRST: Ipv4Addr = Ipv4Addr::new(198, 18, 64, 0);
/// So long that the sink can keep a frame whole.
const PAYLOAD: usize = 42;
/// Frames that fit the ring between two ends of a veth pair, whoever receives them.
const FEW: u32 = 64;
/// How often a run that lost frames is repeated.
const TRIES: usize = 8;
const LATE: Duration = Duration::from_millis(500);

/// Where a path begins: the generator's interface, and the link address of the other end.
struct Entry {
    ifindex: u32,
    mac: [u8; 6],
}

pub struct Stage {
    ebpf: Ebpf,
    plan: Array<MapData, FramePlan>,
    arrived: Array<MapData, Arrived>,
    ns: Arc<Netns>,
    far: Arc<Netns>,
    entries: Vec<Entry>,
    redirect: u32,
    /// nftables knows all connections.
    spoken: bool,
    pub flows: u32,
}

impl Stage {
    pub fn build(rig: &mut Rig, flows: u32) -> Result<Self> {
        let (ns, far) = (Arc::clone(&rig.ns), Arc::clone(&rig.far));
        let end = |ns: &Arc<Netns>, ifname: String| link::EndSpec {
            ns: Arc::clone(ns),
            ifname,
            addresses: vec![],
            routes: vec![],
        };
        let mut pairs = Vec::new();
        for n in 0..PATHS.len() {
            let pair = link::Veth::create(end(&ns, format!("p{n}")), end(&far, format!("g{n}")), MTU)?;
            pair.offloads(false)?;
            link::sysctl(&ns, &format!("net/ipv4/conf/p{n}/rp_filter"), "0")?;
            pairs.push(pair);
        }
        link::sysctl(&ns, "net/ipv4/conf/all/rp_filter", "0")?;
        link::sysctl(&ns, "net/ipv4/conf/all/forwarding", "1")?;
        for ns in [&ns, &far] {
            link::offloads(ns, "out", false)?;
        }
        let redirect = link::info(&ns, "out")?.ifindex;
        let mut ebpf = object::open(|_| {})?;
        let mut take = |name: &str| ebpf.take_map(name).with_context(|| format!("the lab has no map {name}"));
        let (plan, arrived) = (Array::try_from(take("FRAME_PLAN")?)?, Array::try_from(take("ARRIVED")?)?);
        for name in [
            "lab_frames_generator",
            "lab_frames_sink",
            "lab_frames_bounce",
            "lab_frames_send",
            "lab_empty_xdp",
        ] {
            xdp(&mut ebpf, name)?.load().with_context(|| name.to_owned())?;
        }
        far.enter(|| -> Result<()> {
            on(&mut ebpf, "lab_frames_sink", "out")?;
            on(&mut ebpf, "lab_frames_sink", "g1")
        })?;
        // The sink's end takes frames.
        rig.live.set_xdp_out(&[redirect])?;
        // A program on the receiving end makes it take frames as they are; all but the first two only pass them on.
        for (n, path) in PATHS.into_iter().enumerate() {
            let name = match path {
                Path::Drop => Some("lab_frames_sink"),
                Path::Bounce => Some("lab_frames_bounce"),
                Path::BareXdp => Some("lab_frames_send"),
                Path::Redirect | Path::Routed | Path::Nft | Path::Gray => Some("lab_empty_xdp"),
                Path::GrayXdp => None,
            };
            if let Some(name) = name {
                on(&mut ebpf, name, &format!("p{n}"))?;
            }
            match path {
                Path::Redirect => {
                    let program = ebpf.program_mut("lab_frames_redirect").context("no redirect")?;
                    let program: &mut SchedClassifier = program.try_into()?;
                    program.load()?;
                    let _ = program.attach(&format!("p{n}"), TcAttachType::Ingress)?;
                }
                Path::Gray => {
                    let index = pairs[n].near_info()?.ifindex;
                    let _ = rig.live.attach(&format!("p{n}"), index, Direction::Ingress)?;
                }
                Path::GrayXdp => {
                    let index = pairs[n].near_info()?.ifindex;
                    let name = format!("p{n}");
                    let _ = rig.live.attach(&name, index, Direction::Ingress)?;
                    let _ = rig.live.attach_xdp(&name, index)?;
                }
                _ => {}
            }
        }
        let entry = |p: &link::Veth| -> Result<Entry> {
            Ok(Entry { ifindex: p.far_info()?.ifindex, mac: p.near_info()?.mac })
        };
        let entries = pairs.iter().map(entry).collect::<Result<_>>()?;
        let mut stage = Self { ebpf, plan, arrived, ns, far, entries, redirect, spoken: false, flows };
        stage.open()?;
        Ok(stage)
    }

    /// Every flow opens once and speaks once before anything is measured.
    fn open(&mut self) -> Result<()> {
        self.speak(Path::Gray, SYN)?;
        self.speak(Path::Gray, ACK)
    }

    fn speak(&mut self, path: Path, flags: u8) -> Result<()> {
        for _ in (0..self.flows).step_by(FEW as usize) {
            let _ = self.shoot(path, flags, FEW)?;
        }
        Ok(())
    }

    /// Nanoseconds a frame of one that were all handled in the same breath.
    pub fn measure(&mut self, path: Path, frames: u32) -> Result<f64> {
        let _dnat = match path {
            // Only meanwhile: its hooks would delay what is routed. Connections that it has not seen open it takes up as they are, and
            // knows them again when the table is back.
            Path::Nft => {
                let (n, land) = (Self::index(path)?, LANDS[0]);
                let to = [(land.vip(SHOP), land.stable(SHOP_AT))];
                let dnat = Dnat::add_at(&self.ns, &format!("p{n}"), &to)?;
                if !self.spoken {
                    self.speak(path, ACK)?;
                    self.spoken = true;
                }
                Some(dnat)
            }
            _ => None,
        };
        let mut last = None;
        for _ in 0..TRIES {
            match self.shoot(path, ACK, frames) {
                Ok(ns) => return Ok(ns),
                Err(e) => last = Some(e),
            }
        }
        // Unwrap: there is at least one try.
        Err(last.unwrap())
    }

    fn index(path: Path) -> Result<usize> {
        PATHS.iter().position(|p| *p == path).context("no such path")
    }

    /// Nanoseconds a frame; every frame must have arrived as the path leaves it. When the kernel leaves the receiving
    /// to its own thread, as it does on a busy machine, the generator runs ahead and the short ring between two ends of a
    /// veth pair overflows: that is an error here, as is a wrong frame.
    fn shoot(&mut self, path: Path, flags: u8, frames: u32) -> Result<f64> {
        let n = Self::index(path)?;
        let land = LANDS[0];
        let to = if path.steers() { land.stable(SHOP_AT) } else { land.vip(SHOP) };
        let nobody = SocketAddr::from(([0, 0, 0, 0], 0));
        let like = Packet { dmac: self.entries[n].mac, ..Packet::new(TCP, nobody, land.vip(SHOP)) };
        let like = like.flags(flags).payload(vec![b'x'; PAYLOAD]);
        let mut plan = shot::plan(&like, FIRST.to_bits(), HOSTS, self.flows);
        plan.next = self.plan.get(&0, 0)?.next;
        plan.redirect = self.redirect;
        plan.dport = u32::from(to.port().to_be());
        if let IpAddr::V4(a) = to.ip() {
            plan.daddr = u32::from_ne_bytes(a.octets());
        }
        self.plan.set(0, plan, 0)?;
        self.arrived.set(0, Arrived { right: 0, wrong: 0, kept: [0; 96] }, 0)?;
        let ifindex = self.entries[n].ifindex;
        let (ebpf, far) = (&mut self.ebpf, &self.far);
        let generator: &Xdp = xdp(ebpf, "lab_frames_generator")?;
        let ns = far.enter(|| shot::shoot(generator, ifindex, &like.frame(), frames))?;
        self.check(path, frames, to).with_context(|| path.name())?;
        Ok(f64::from(ns))
    }

    fn check(&self, path: Path, frames: u32, to: SocketAddr) -> Result<()> {
        let start = Instant::now();
        let mut arrived = self.arrived.get(&0, 0)?;
        while arrived.right < u64::from(frames) && start.elapsed() < LATE {
            std::thread::yield_now();
            arrived = self.arrived.get(&0, 0)?;
        }
        ensure!(
            arrived.right == u64::from(frames) && arrived.wrong == 0,
            "{} frames of {frames} arrived at {to}, {} elsewhere",
            arrived.right,
            arrived.wrong
        );
        if frames >= 1024 {
            let wrong = sum::wrong(&arrived.kept, false);
            ensure!(wrong.is_none(), "{wrong:?}:\n{}", hex(&arrived.kept));
            let ttl = if path.steers() || path == Path::Routed { 63 } else { 64 };
            ensure!(arrived.kept[22] == ttl, "TTL {} where {ttl} belongs", arrived.kept[22]);
        }
        Ok(())
    }
}

fn xdp<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut Xdp> {
    Ok(ebpf.program_mut(name).with_context(|| format!("the lab has no program {name}"))?.try_into()?)
}

fn on(ebpf: &mut Ebpf, name: &str, ifname: &str) -> Result<()> {
    let attached = xdp(ebpf, name)?.attach(ifname, XdpMode::Driver);
    attached.map(drop).with_context(|| format!("attach {name} to {ifname}"))
}
