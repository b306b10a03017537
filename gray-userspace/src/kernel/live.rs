//! The data path in the kernel: the pinned maps by type, and the writes of a plan.

mod flows;
mod health;
mod links;
mod resize;
mod tables;
mod xdp;

use std::{
    path::Path,
    time::{Duration, Instant},
};

use gray_common::{
    decide::mem::MemTables,
    filter::Filter,
    limits, names,
    wire::{
        ARM_GRAY, ArmCount, Clock, Control, ListenCount, Listening, RequestCount, Service, Times, Trip,
        Workload,
    },
};

pub use flows::FlowTables;
pub use health::{Turner, Unsteered};
pub(super) use resize::did;

use super::{
    KernelError,
    attach::{self, Direction, Hook},
    bpf::Map,
    control::ControlPage,
    maps::{Maps, Miss, failed, open},
    moving::{self, FlowTable},
    object::{self, Loaded, Parts},
    pins::Pins,
    sender::Sender,
    ticks,
};
use crate::sys::clock::monotonic_ns;

/// The agent's lease is renewed this often.
pub const RENEWALS: Duration = Duration::from_secs(1);

/// The loaded and pinned data path.
pub struct Live {
    pins: Pins,
    loaded: Loaded,
    tables: Vec<FlowTable>,
    control: ControlPage,
    maps: Maps,
    cpus: usize,
    hook: Hook,
    /// When the agent's lease was last renewed by this process.
    renewed: Option<Instant>,
    /// The longest that no agent had said it, of those that nobody was told of.
    gone: Option<Duration>,
}

impl Live {
    /// Loads programs of its own over the pins, adopting what else is there. `flows`: entries per family of a new flow table.
    /// With every part but tags. Nothing is attached yet.
    pub fn open(pins: Pins, flows: u32, hook: Hook) -> Result<Self, KernelError> {
        Self::open_tagged(pins, flows, hook, false)
    }

    /// The same, and perhaps with tags.
    pub fn open_tagged(pins: Pins, flows: u32, hook: Hook, tags: bool) -> Result<Self, KernelError> {
        let tables = moving::adopted(&pins, flows)?;
        Self::open_over(pins, tables, hook, Parts { reads: true, tags, alone: true, ..Parts::default() })
    }

    pub(super) fn open_over(
        pins: Pins,
        tables: Vec<FlowTable>,
        hook: Hook,
        parts: Parts,
    ) -> Result<Self, KernelError> {
        let loaded = object::load(&pins, &tables, parts)?;
        let control: Map<u32, Control> = open(&pins, names::CONTROL)?;
        let maps = Maps::open(&pins, &tables)?;
        let page = ControlPage::map(control.fd())
            .map_err(|e| KernelError::io("cannot map", &pins.map(names::CONTROL), e))?;
        let cpus = aya::util::nr_cpus()
            .map_err(|(_, e)| KernelError::io("cannot count", Path::new("the CPUs"), e))?;
        Ok(Self { pins, loaded, tables, control: page, maps, cpus, hook, renewed: None, gone: None })
    }

    pub fn control(&self) -> Control {
        self.control.read()
    }

    /// Until when each service of the active bank, by its counter id, takes strays as stable's own (ns, 0: not).
    pub fn adopt_windows(&self) -> Result<Vec<(u16, u64)>, KernelError> {
        let first = (self.control().epoch & 1) as u32 * limits::SERVICES;
        let mut out = Vec::new();
        let visit = |i: u32, s: Service| {
            if (first..first + limits::SERVICES).contains(&i) && s.adopt_until_ns != 0 {
                out.push((s.id, s.adopt_until_ns));
            }
        };
        self.maps.services.for_each(visit).map_err(failed("the services"))?;
        Ok(out)
    }

    /// Settings that hold for every epoch.
    pub fn configure(&mut self, change: impl FnOnce(&mut Control)) {
        self.control.edit(change);
    }

    pub fn hook(&self) -> Hook {
        self.hook
    }

    /// CONFIG_HZ, measured.
    pub fn measure_ticks(&mut self) -> Result<u32, KernelError> {
        ticks::measure(|| self.clock())
    }

    /// Ticks and nanoseconds now.
    pub fn clock(&mut self) -> Result<Clock, KernelError> {
        self.loaded.note_clock()?;
        Ok(self.maps.clock.lookup(&0).map_err(failed("the clock"))?.unwrap_or_default())
    }

    /// Says to the programs that an agent is there and able to act. Returns for how long none had said so; `None`: none ever did.
    pub fn renew_lease(&mut self) -> Result<Option<Duration>, KernelError> {
        let now = self.clock()?.jiffies;
        let c = self.control.read();
        self.control.set_renewed(now);
        self.renewed = Some(Instant::now());
        let ticks = now.saturating_sub(c.renewed);
        let ms = ticks.saturating_mul(1000) / u64::from(c.hz.max(1));
        let gone = (c.renewed != 0).then(|| Duration::from_millis(ms));
        Ok(self.gone.take().max(gone))
    }

    /// The same while many writes are made, one after the other: whoever makes them is able to act.
    ///
    /// A failure is nobody's but the lease's: the next renewal tells of it.
    pub fn go_on(&mut self) {
        if self.renewed.is_some_and(|at| at.elapsed() > RENEWALS) {
            self.gone = self.renew_lease().unwrap_or_default();
        }
    }

    /// The request path's clock, milliseconds: `Splice::since` is by it.
    pub fn request_ms(&mut self) -> Result<u64, KernelError> {
        let ticks = self.clock()?.jiffies;
        let c = self.control.read();
        Ok((ticks.wrapping_mul(1000) / u64::from(c.hz.max(1))).wrapping_add(c.wall_ms))
    }

    /// What sends frames of this node's own making, as if they had come in by this interface.
    pub fn sender(&mut self, ifindex: u32) -> Result<Sender, KernelError> {
        self.loaded.sender(ifindex)
    }

    /// True: newly attached; false: an existing attachment was brought to our program.
    pub fn attach(&mut self, iface: &str, ifindex: u32, d: Direction) -> Result<bool, KernelError> {
        attach::interface(&self.pins, &mut self.loaded, self.hook, iface, ifindex, d)
    }

    /// Filters have no pins to look at: they are attached again each time, which replaces ours by itself, or brings it back
    /// when somebody took it or the qdisc away.
    pub fn is_attached(&self, iface: &str, ifindex: u32, d: Direction) -> bool {
        self.hook == Hook::Tcx && attach::is_attached(&self.pins, iface, ifindex, d)
    }

    /// Loads what [`Live::attach_cgroup`] attaches.
    pub fn need_connect(&mut self) -> Result<(), KernelError> {
        self.loaded.need_connect()
    }

    pub fn attach_cgroup(&mut self, path: &Path) -> Result<(), KernelError> {
        attach::cgroup(&self.pins, &mut self.loaded, path)
    }

    /// What becomes of calls is counted, by programs beside those that steer.
    pub fn attach_calls(&mut self, path: &Path) -> Result<(), KernelError> {
        attach::calls(&self.pins, &mut self.loaded, path)
    }

    /// Whether it is, on the cgroup with this id.
    pub fn are_calls_attached(&self, id: u64) -> bool {
        attach::are_calls_attached(&self.pins, id)
    }

    pub fn is_cgroup_attached(&self, id: u64) -> bool {
        attach::is_cgroup_attached(&self.pins, id)
    }

    /// Loads what [`Live::attach_tags`] attaches.
    pub fn need_tags(&mut self) -> Result<(), KernelError> {
        self.loaded.need_tags()
    }

    /// What tags are written by, which few agents need: attached to the same cgroup, or taken off.
    pub fn attach_tags(&mut self, path: &Path, wanted: bool) -> Result<(), KernelError> {
        if !wanted {
            return attach::detach_tags(&self.pins);
        }
        self.loaded.need_tags()?;
        attach::tags(&self.pins, &mut self.loaded, path)
    }

    /// Loads what [`Live::attach_measures`] attaches.
    pub fn need_measures(&mut self) -> Result<(), KernelError> {
        self.loaded.need_measures()
    }

    /// What first words of callers are timed by, which costs each of their packets: attached to the same cgroup, or taken off.
    pub fn attach_measures(&mut self, path: &Path, wanted: bool) -> Result<(), KernelError> {
        if !wanted {
            return attach::detach_measures(&self.pins);
        }
        self.loaded.need_measures()?;
        attach::measures(&self.pins, &mut self.loaded, path)
    }

    /// Whether all of that hangs on the cgroup with this id.
    pub fn are_measures_attached(&self, id: u64) -> bool {
        attach::are_measures_attached(&self.pins, id)
    }

    /// Whether all that writes tags hangs on the cgroup with this id.
    pub fn are_tags_attached(&self, id: u64) -> bool {
        attach::are_tags_attached(&self.pins, id)
    }

    pub fn prune_links(
        &self,
        wanted: &[(String, Direction)],
        connect: bool,
    ) -> Result<Vec<String>, KernelError> {
        attach::prune(&self.pins, wanted, connect)
    }

    pub fn set_workload(&mut self, cgroup: u64, w: &Workload) -> Result<(), KernelError> {
        self.maps.workloads.update(&cgroup, w).map_err(failed("a workload"))
    }

    pub fn remove_workload(&mut self, cgroup: u64) -> Result<(), KernelError> {
        self.maps.workloads.delete(&cgroup).map_err(failed("a workload"))
    }

    pub fn workloads(&self) -> Result<Vec<(u64, Workload)>, KernelError> {
        let mut out = Vec::new();
        self.maps.workloads.for_each(|k, v| out.push((k, v))).map_err(failed("the workloads"))?;
        Ok(out)
    }

    /// Counters by reason, summed over CPUs.
    pub fn reasons(&self) -> Result<Vec<(gray_common::Reason, u64)>, KernelError> {
        gray_common::Reason::ALL
            .iter()
            .map(|r| {
                let all =
                    self.maps.reasons.lookup_percpu(&(*r as u32), self.cpus).map_err(failed("a counter"))?;
                Ok((*r, all.iter().sum()))
            })
            .collect()
    }

    /// Counters of one arm of a service (by its stable id), summed over CPUs.
    pub fn arm(&self, service: u32, arm: u32) -> Result<ArmCount, KernelError> {
        let all =
            self.maps.arms.lookup_percpu(&(service * 2 + arm), self.cpus).map_err(failed("a counter"))?;
        let listened = self.listened(service)?;
        // Connections of the packet path, too.
        let (packet_flows, refused) = match arm {
            ARM_GRAY => (listened.gray, listened.failed_gray),
            _ => (listened.stable, listened.failed_stable),
        };
        Ok(all.iter().fold(ArmCount { packet_flows, refused, ..ArmCount::default() }, |s, a| ArmCount {
            packet_flows: s.packet_flows + a.packet_flows,
            udp_flows: s.udp_flows + a.udp_flows,
            connects: s.connects + a.connects,
            packets: s.packets + a.packets,
            bytes: s.bytes + a.bytes,
            reply_packets: s.reply_packets + a.reply_packets,
            reply_bytes: s.reply_bytes + a.reply_bytes,
            refused: s.refused + a.refused,
            resets: s.resets + a.resets,
            client_resets: s.client_resets + a.client_resets,
            unanswered: s.unanswered + a.unanswered,
            shadowed: s.shadowed + a.shadowed,
            lost: s.lost + a.lost,
            broken: s.broken + a.broken,
            answers: std::array::from_fn(|i| s.answers[i] + a.answers[i]),
            retransmits: s.retransmits + a.retransmits,
            calls: s.calls + a.calls,
        }))
    }

    /// Times of one arm of a service (by its stable id), summed over CPUs.
    pub fn times(&self, service: u32, arm: u32) -> Result<Times, KernelError> {
        let all = match self.maps.times.lookup_percpu(&(service * 2 + arm), self.cpus) {
            // No time was counted yet.
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            all => all.map_err(failed("times"))?,
        };
        let mut sum = Times::NONE;
        all.iter().for_each(|one| sum.add(one));
        Ok(sum)
    }

    /// The breaker of a service, by its stable id.
    pub fn trip(&self, service: u32) -> Result<Trip, KernelError> {
        Ok(self.maps.trips.lookup(&service).map_err(failed("a breaker"))?.unwrap_or_default())
    }

    /// Closes a breaker that nobody asks for any more.
    pub fn forget_trip(&mut self, service: u32) -> Result<(), KernelError> {
        self.maps.trips.update(&service, &Trip::default()).map_err(failed("a breaker"))
    }

    /// Lets the counters of these services and rules (by their stable ids), and the services' breakers, begin anew: what they have was
    /// somebody else's.
    pub fn begin_counts(&mut self, services: &[u32], rules: &[u32]) -> Result<(), KernelError> {
        let (m, cpus) = (&self.maps, self.cpus);
        let service = |n: &u32| {
            for arm in [2 * n, 2 * n + 1] {
                m.arms.clear_percpu(&arm, cpus)?;
                m.times.delete(&arm)?;
            }
            m.requests.clear_percpu(n, cpus)?;
            m.listened.update(n, &ListenCount::default())?;
            m.trips.update(n, &Trip::default())
        };
        let rule = |n: &u32| m.rule_hits.clear_percpu(n, cpus);
        services.iter().try_for_each(service).map_err(failed("a service's counters"))?;
        rules.iter().try_for_each(rule).map_err(failed("a route's counter"))
    }

    /// Requests of a service (by its stable id) whose `claims` are read, summed over CPUs.
    pub fn requests(&self, service: u32) -> Result<RequestCount, KernelError> {
        let all = self.maps.requests.lookup_percpu(&service, self.cpus).map_err(failed("a counter"))?;
        let listened = self.listened(service)?;
        let by_listener = RequestCount { read: listened.read, missing: listened.missing };
        Ok(all
            .iter()
            .fold(by_listener, |s, n| RequestCount { read: s.read + n.read, missing: s.missing + n.missing }))
    }

    /// A splice listener that wrote the filter at the same moment as we did may have lost bits of ours.
    pub fn keep_filter(&mut self, ours: &Filter) -> Result<(), KernelError> {
        let now = self.maps.filter.lookup(&0).map_err(failed("the filter"))?.unwrap_or_default();
        let mut all = now;
        all.merge(ours);
        if all == now { Ok(()) } else { self.maps.filter.update(&0, &all).map_err(failed("the filter")) }
    }

    /// What the splice listener decided on of a service (by its stable id).
    pub fn listened(&self, service: u32) -> Result<ListenCount, KernelError> {
        Ok(self.maps.listened.lookup(&service).map_err(failed("a counter"))?.unwrap_or_default())
    }

    /// Where splice listeners say that they are, by IPv4 and by IPv6; a lease that is over counts as none.
    pub fn listeners(&self) -> Result<[Option<Listening>; 2], KernelError> {
        let now = monotonic_ns();
        let at = |i: u32| {
            let there = self.maps.listener.lookup(&i).map_err(failed("the splice listener"))?;
            Ok(there.filter(|l| l.until_ns > now))
        };
        Ok([at(0)?, at(1)?])
    }

    pub fn rule_hits(&self, rule: u32) -> Result<u64, KernelError> {
        let all = self.maps.rule_hits.lookup_percpu(&rule, self.cpus).map_err(failed("a counter"))?;
        Ok(all.iter().sum())
    }

    /// The data path's log lines, once.
    pub fn log_lines(&mut self) -> Option<object::LogLines> {
        self.loaded.log_lines()
    }

    /// The event ring, opened from its pin.
    pub fn events(&self) -> Result<aya::maps::RingBuf<aya::maps::MapData>, KernelError> {
        let path = self.pins.map(names::EVENTS);
        let failed =
            |e: aya::maps::MapError| KernelError::Load { what: path.display().to_string(), source: e.into() };
        let data = aya::maps::MapData::from_pin(&path).map_err(failed)?;
        aya::maps::RingBuf::try_from(aya::maps::Map::RingBuf(data)).map_err(failed)
    }

    /// Runs a packet program once on a frame (BPF_PROG_TEST_RUN), as if it came in on the loopback interface. Returns
    /// the verdict and the frame after it. For tests and benchmarks.
    pub fn run_packet(&mut self, d: Direction, frame: &[u8]) -> Result<(i32, Vec<u8>), KernelError> {
        self.run_packet_marked(d, frame, 0)
    }

    /// The same with an skb mark.
    pub fn run_packet_marked(
        &mut self,
        d: Direction,
        frame: &[u8],
        mark: u32,
    ) -> Result<(i32, Vec<u8>), KernelError> {
        self.loaded.run_packet(d.program(), frame, mark)
    }

    /// A descriptor of a packet program, which reads requests or does not. For benchmarks.
    pub fn packet_program(&mut self, d: Direction, reads: bool) -> Result<std::os::fd::OwnedFd, KernelError> {
        self.loaded.one_of(d.program(), reads)
    }

    /// Fetches what a decision missed into tables in memory; see `agent::explain`.
    pub fn fetch(&self, t: &mut MemTables, miss: Miss) -> Result<(), KernelError> {
        self.maps.fetch(t, miss)
    }
}
