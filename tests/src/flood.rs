//! A flood of TCP segments from clients that do not exist, out of a client's interface, as fast as the kernel lays them;
//! and what of it arrives where. IPv4 only.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use aya::maps::Array;
use aya::programs::Xdp;

use crate::bench::frames::shot::{self, frame_plan::FramePlan};
use crate::command::{note, run, run_with_input};
use crate::link;
use crate::netns::Netns;
use crate::object;
use crate::pace;
use crate::packets::frame::{Packet, TCP};
use crate::world::World;

/// Made-up clients: routed to client 0, which drops what comes for them.
pub const CROWD: &str = "198.19.0.0/16";
const FIRST: Ipv4Addr = Ipv4Addr::new(198, 19, 0, 0);
/// Frames of one go. A go itself takes some milliseconds, whatever it sends.
const BURST: u32 = 512;
const LONG_BURST: u32 = 16_384;

/// What flows.
#[derive(Debug, Clone, Copy)]
pub struct FloodSpec {
    pub target: SocketAddr,
    pub tcp_flags: u8,
    /// Client addresses from 198.19.0.0 on, and flows in all: powers of two. Flows beyond the addresses are of other ports.
    pub hosts: u32,
    pub flows: u32,
    /// Between two bursts of 512 frames; zero: none, and longer bursts.
    pub pause: Duration,
}

/// Running until it is dropped or stopped.
#[derive(Debug)]
pub struct Flood {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Flood {
    /// Out of client 0's interface. Makes the edge's end of it take whole frames.
    pub fn start(world: &World, spec: FloodSpec) -> Result<Self> {
        let client = &world.clients[0];
        link::offloads(&world.edge, &client.link.near.ifname, true)?;
        let route = format!("route replace {CROWD} via {}\n", client.v4[0]);
        link::ip_batch(&world.edge, &route)?;
        let (ifindex, mac) = (client.link.far_info()?.ifindex, client.link.near_info()?.mac);
        let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (ready, started) = mpsc::channel();
        let (ns, stopped, count) = (Arc::clone(&client.ns), Arc::clone(&stop), Arc::clone(&sent));
        let shoot = move || ns.enter(|| shoot(&spec, ifindex, mac, &stopped, &count, &ready));
        let mut flood = Self { stop, sent, thread: Some(std::thread::spawn(shoot)) };
        if started.recv().is_err() {
            // The thread ended before it began: it says why.
            flood.end()?;
        }
        Ok(flood)
    }

    /// Frames so far.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Frames in all.
    pub fn stop(mut self) -> Result<u64> {
        self.end()?;
        Ok(self.sent())
    }

    fn end(&mut self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        let Some(thread) = self.thread.take() else { return Ok(()) };
        thread.join().map_err(|_| anyhow!("the flood's thread panicked"))?
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        if let Err(e) = self.end() {
            note(&format!("flood: {e:#}"));
        }
    }
}

fn shoot(
    spec: &FloodSpec,
    ifindex: u32,
    mac: [u8; 6],
    stop: &AtomicBool,
    sent: &AtomicU64,
    ready: &mpsc::Sender<()>,
) -> Result<()> {
    let mut ebpf = object::open(|_| {})?;
    let map = ebpf.take_map("FRAME_PLAN").context("the lab has no map FRAME_PLAN")?;
    let mut plan: Array<_, FramePlan> = Array::try_from(map)?;
    let program = ebpf.program_mut("lab_frames_generator").context("the lab has no generator")?;
    let generator: &mut Xdp = program.try_into()?;
    generator.load()?;
    let nobody = SocketAddr::from(([0, 0, 0, 0], 0));
    let like = Packet { dmac: mac, ..Packet::new(TCP, nobody, spec.target) };
    let like = like.flags(spec.tcp_flags).payload([]);
    plan.set(0, shot::plan(&like, FIRST.to_bits(), spec.hosts, spec.flows), 0)?;
    let frame = like.frame();
    let burst = if spec.pause.is_zero() { LONG_BURST } else { BURST };
    let _ = ready.send(());
    while !stop.load(Ordering::Relaxed) {
        let _ = shot::shoot(generator, ifindex, &frame, burst)?;
        let _ = sent.fetch_add(u64::from(burst), Ordering::Relaxed);
        std::thread::sleep(pace::patience(spec.pause));
    }
    Ok(())
}

static NEXT: AtomicU32 = AtomicU32::new(0);

/// Counts the flood's packets that arrive in a namespace, and lets them end there: nobody answers. A drop removes it.
#[derive(Debug)]
pub struct Basin {
    ns: Arc<Netns>,
    table: String,
}

impl Basin {
    pub fn under(ns: &Arc<Netns>) -> Result<Self> {
        let table = format!("gray_lab_basin_{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let script = format!(
            "table inet {table} {{
counter crowd {{ }}
chain in {{ type filter hook prerouting priority -300; policy accept;
ip saddr {CROWD} counter name crowd drop
}}
}}
"
        );
        let done = run_with_input(ns.command("nft").args(["-f", "-"]), &script);
        let _ = done.with_context(|| format!("nft in {}", ns.name()))?;
        Ok(Self { ns: Arc::clone(ns), table })
    }

    /// Packets so far.
    pub fn caught(&self) -> Result<u64> {
        let text = run(self.ns.command("nft").args(["-j", "list", "counter", "inet", &self.table, "crowd"]))?;
        let json: serde_json::Value = serde_json::from_str(&text).context("read what nft lists")?;
        let objects = json["nftables"].as_array().context("nft lists no objects")?;
        let found = objects.iter().find_map(|o| o["counter"]["packets"].as_u64());
        found.with_context(|| format!("no counter in {text}"))
    }
}

impl Drop for Basin {
    fn drop(&mut self) {
        let script = format!("delete table inet {}\n", self.table);
        if let Err(e) = run_with_input(self.ns.command("nft").args(["-f", "-"]), &script) {
            note(&format!("nft in {}: could not remove {}: {e:#}", self.ns.name(), self.table));
        }
    }
}
