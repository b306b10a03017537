//! The eBPF object in this binary: which maps and programs it brings, and how it is loaded over the pins.

use std::{
    os::fd::{AsFd as _, OwnedFd},
    path::Path,
};

use aya::{
    Ebpf, EbpfLoader,
    programs::{Program, ProgramError, ProgramFd},
};
use gray_common::{
    limits,
    names::{self, MAPS},
};

use super::{
    KernelError, bpf,
    kept::{self, Kept},
    moving::{self, FlowTable},
    pins::Pins,
    sender::Sender,
};
use crate::sys::kernel::{KernelVersion, SECOND_TAG};

/// Empty when the binary was built without its data path.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/gray.o"));

/// Parts of the programs that only some agents need.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Parts {
    /// The one that reads requests.
    pub reads: bool,
    /// The one that reads tags, or overwrites them.
    pub tags: bool,
    /// The one by which local callers are handed over to a splice listener.
    pub hands: bool,
    /// Programs of its own, neither taken over nor kept: what runs them by BPF_PROG_TEST_RUN may be interrupted by a packet, whose program
    /// must have other scratch maps.
    pub alone: bool,
}

/// The loaded programs; the maps live on in their pins.
pub struct Loaded {
    ebpf: Ebpf,
    parts: Parts,
    kept: Kept,
}

/// Makes the maps that are missing, and loads the programs of packets over the pinned ones and these flow tables; the others
/// when they are asked for.
pub fn load(pins: &Pins, flows: &[FlowTable], parts: Parts) -> Result<Loaded, KernelError> {
    if OBJECT.is_empty() {
        return Err(KernelError::NoObject);
    }
    let fixed = || MAPS.iter().filter(|m| !moving::TABLES.contains(&m.name));
    for spec in fixed() {
        let path = pins.map(spec.name);
        let Some(shape) = moving::shape(pins, spec, &path)? else { continue };
        if shape.entries != spec.entries && spec.name != names::SPLICES {
            return Err(KernelError::ForeignMap { path });
        }
    }
    let mut loader = EbpfLoader::new();
    let log = Kept::log(pins);
    let _ = moving::shape(pins, &kept::LOG, &log)?;
    let _ = loader.allow_unsupported_maps().map_pin_path(kept::LOG.name, log.clone());
    let mut pinned = vec![log];
    for spec in fixed() {
        pinned.push(pins.map(spec.name));
        let _ = loader.map_pin_path(spec.name, pins.map(spec.name));
    }
    let splices = spliced(pins, flows)?;
    let _ = loader.map_max_entries(names::SPLICES, splices);
    let mut bits = 0;
    for table in flows {
        let _ = loader.map_max_entries(table.name, table.entries).map_pin_path(table.name, &table.now);
        pinned.push(table.now.clone());
        if let Some(before) = &table.before {
            let (name, bit) = table.before_name(before);
            let _ = loader.map_max_entries(name, before.entries).map_pin_path(name, &before.path);
            pinned.push(before.path.clone());
            bits |= bit;
        }
    }
    let tags = u32::from(parts.tags);
    let flood = flood_at(flows.iter().map(|t| t.entries).min().unwrap_or_default());
    let opens = u32::from(KernelVersion::running().is_ok_and(|v| v >= SECOND_TAG));
    let _ = loader
        .override_global("MOVING", &bits, true)
        .override_global("FLOOD_AT", &flood, true)
        .override_global("OPENS", &opens, true)
        .override_global("TAGS", &tags, true);
    let mut ebpf =
        loader.load(OBJECT).map_err(|e| KernelError::Load { what: "the maps".into(), source: e.into() })?;
    let maps = pinned.iter().map(|path| number(pins, path)).collect::<Result<Vec<_>, _>>()?;
    let kept = Kept::new(pins, &[bits, flood, opens, tags], &maps, parts.alone);
    verify(&mut ebpf, &kept, &[named(names::TC_INGRESS, parts), names::CLOCK_PROGRAM])?;
    kept.forget_others()?;
    Ok(Loaded { ebpf, parts, kept })
}

/// The kernel's number of a pinned map.
fn number(pins: &Pins, path: &Path) -> Result<u32, KernelError> {
    let map = pins.open(path)?;
    map.map_or(Ok(0), |m| bpf::object_id(m.as_fd())).map_err(|e| KernelError::io("cannot inspect", path, e))
}

/// The program that is meant, of those with a part or those without it.
fn named(name: &str, parts: Parts) -> &str {
    let handing = names::HANDING_PROGRAMS.iter().find(|(of, _)| parts.hands && *of == name);
    match name {
        names::TC_INGRESS if parts.reads => names::TC_INGRESS_READS,
        names::TC_EGRESS if parts.reads => names::TC_EGRESS_READS,
        _ => handing.map_or(name, |(_, with)| with),
    }
}

/// Loads these programs, each on a thread of its own: the kernel verifies side by side. What is loaded already stays. The verifier
/// takes more than a second of a core for all programs: what an agent does not attach, it does not load, and what the last agent left
/// it takes over.
fn verify(ebpf: &mut Ebpf, kept: &Kept, wanted: &[&str]) -> Result<(), KernelError> {
    let missing = wanted.iter().find(|w| ebpf.program(w).is_none());
    if let Some(name) = missing {
        return Err(KernelError::MissingProgram((*name).to_string()));
    }
    let load = |name: &str, program: &mut Program| {
        let done = match program {
            Program::SchedClassifier(p) if p.fd().is_err() => p.load(),
            Program::CgroupSockAddr(p) if p.fd().is_err() => p.load(),
            Program::Xdp(p) if p.fd().is_err() => p.load(),
            Program::SockOps(p) if p.fd().is_err() => p.load(),
            Program::CgroupSkb(p) if p.fd().is_err() => p.load(),
            Program::BtfTracePoint(p) if p.fd().is_err() => aya::Btf::from_sys_fs()
                .map_err(ProgramError::from)
                .and_then(|btf| p.load(names::trace_point(name).unwrap_or_default(), &btf)),
            _ => return Ok(()),
        };
        let failed =
            |e: ProgramError| KernelError::Load { what: format!("program {name}"), source: e.into() };
        done.and_then(|()| kept.keep(name, program)).map_err(failed)
    };
    // A thread for each that is there already would be most of what a frame of ours costs.
    let wanted = ebpf.programs_mut().filter(|(name, p)| wanted.contains(name) && p.fd().is_err());
    let wanted: Vec<_> = wanted.filter_map(|(name, p)| (!kept.take(name, p)).then_some((name, p))).collect();
    std::thread::scope(|s| {
        let all: Vec<_> =
            wanted.into_iter().map(|(name, program)| s.spawn(move || load(name, program))).collect();
        let done = all.into_iter().map(|t| t.join().unwrap_or_else(|p| std::panic::resume_unwind(p)));
        done.fold(Ok(()), Result::and)
    })
}

/// Connections whose numbers are translated: as many as a flow table has room for. As it is pinned, whatever its size: it does not move.
fn spliced(pins: &Pins, flows: &[FlowTable]) -> Result<u32, KernelError> {
    let Some(spec) = MAPS.iter().find(|m| m.name == names::SPLICES) else { return Ok(limits::SPLICES) };
    let pinned = moving::shape(pins, spec, &pins.map(spec.name))?;
    let wanted = flows
        .iter()
        .map(|t| t.entries)
        .max()
        .map_or(limits::SPLICES, |n| (n / 2).clamp(limits::SPLICES_LEAST, limits::SPLICES_MOST));
    Ok(pinned.map_or(wanted, |s| s.entries))
}

/// Connections of a second on one CPU that are a flood, for flow tables of so many entries. Connections come to a few CPUs at
/// once, however many there are.
fn flood_at(entries: u32) -> u32 {
    let cpus = aya::util::online_cpus().map_or(1, |c| c.len().clamp(1, 4) as u32);
    (entries / 2 / limits::FLOOD_S / cpus).max(16)
}

/// The data path's log lines: `flush` hands them to `log`.
pub type LogLines = aya_log::EbpfLogger<&'static dyn log::Log>;

impl Loaded {
    pub fn parts(&self) -> Parts {
        self.parts
    }

    /// The log ring of these programs; `None`: they log nothing, or it was taken before.
    pub fn log_lines(&mut self) -> Option<LogLines> {
        aya_log::EbpfLogger::init(&mut self.ebpf).ok()
    }

    /// Loads the connect path's programs, so that attaching them cannot fail for want of the verifier.
    pub fn need_connect(&mut self) -> Result<(), KernelError> {
        let wanted = names::CONNECT_PROGRAMS.iter().map(|name| named(name, self.parts));
        verify(&mut self.ebpf, &self.kept, &wanted.collect::<Vec<_>>())
    }

    /// The same for those that write tags.
    pub fn need_tags(&mut self) -> Result<(), KernelError> {
        verify(&mut self.ebpf, &self.kept, names::TAG_PROGRAMS)
    }

    /// The same for those that time first words.
    pub fn need_measures(&mut self) -> Result<(), KernelError> {
        verify(&mut self.ebpf, &self.kept, names::MEASURE_PROGRAMS)
    }

    /// The same for those that links are made by.
    pub fn need_links(&mut self) -> Result<(), KernelError> {
        let traces = names::LINK_TRACES.iter().map(|(program, _)| *program);
        verify(&mut self.ebpf, &self.kept, &traces.chain([names::LINK_PROGRAM]).collect::<Vec<_>>())
    }

    /// From here on the packet programs are those that read requests, loaded as far as the others are. False: they were.
    pub fn read_requests(&mut self) -> Result<bool, KernelError> {
        let loaded = |name: &str| matches!(self.ebpf.program(name), Some(Program::SchedClassifier(p)) if p.fd().is_ok());
        if self.parts.reads {
            return Ok(false);
        }
        let wanted: Vec<_> = [names::TC_INGRESS, names::TC_EGRESS]
            .into_iter()
            .filter(|n| loaded(n))
            .map(|n| named(n, Parts { reads: true, ..self.parts }))
            .collect();
        verify(&mut self.ebpf, &self.kept, &wanted)?;
        self.parts.reads = true;
        Ok(true)
    }

    /// A descriptor of a program of its own; it is loaded if it is not yet.
    pub fn program(&mut self, name: &str) -> Result<OwnedFd, KernelError> {
        self.one_of(name, self.parts.reads)
    }

    /// The same of those that read requests, or of those that do not.
    pub fn one_of(&mut self, name: &str, reads: bool) -> Result<OwnedFd, KernelError> {
        let name = named(name, Parts { reads, ..self.parts });
        verify(&mut self.ebpf, &self.kept, &[name])?;
        let missing = || KernelError::MissingProgram(name.to_string());
        let fd = self.ebpf.program(name).ok_or_else(missing)?.fd().map_err(|_| missing())?;
        fd.as_fd().try_clone_to_owned().map_err(|_| missing())
    }

    /// The numbers of the programs that packets meet.
    pub fn packet_programs(&self) -> Result<Vec<u32>, KernelError> {
        let loaded = |name: &&str| match self.ebpf.program(named(name, self.parts))? {
            Program::SchedClassifier(p) => p.fd().ok(),
            Program::Xdp(p) => p.fd().ok(),
            _ => None,
        };
        let id = |fd: &ProgramFd| {
            bpf::object_id(fd.as_fd())
                .map_err(|e| KernelError::Load { what: "programs".into(), source: e.into() })
        };
        [names::TC_INGRESS, names::TC_EGRESS, names::XDP].iter().filter_map(loaded).map(id).collect()
    }

    pub fn classifier(&mut self, name: &str) -> Result<&mut aya::programs::SchedClassifier, KernelError> {
        let name = named(name, self.parts);
        verify(&mut self.ebpf, &self.kept, &[name])?;
        match self.ebpf.program_mut(name) {
            Some(Program::SchedClassifier(p)) => Ok(p),
            _ => Err(KernelError::MissingProgram(name.to_string())),
        }
    }

    /// Runs the clock program once.
    pub fn note_clock(&mut self) -> Result<(), KernelError> {
        let frame = [0u8; 64];
        let mut out = [0u8; 128];
        let program = self.classifier(names::CLOCK_PROGRAM)?;
        let options =
            aya::TestRunOptions { data_in: Some(&frame), data_out: Some(&mut out), ..Default::default() };
        aya::TestRun::test_run(program, options)
            .map(drop)
            .map_err(|e| KernelError::Load { what: "the clock".into(), source: e.into() })
    }

    /// What sends frames as if they had come in by this interface.
    pub fn sender(&mut self, ifindex: u32) -> Result<Sender, KernelError> {
        Ok(Sender::new(self.program(names::PROBE_PROGRAM)?, ifindex))
    }

    pub fn run_xdp(&mut self, frame: &[u8], ingress: u32) -> Result<(i32, Vec<u8>), KernelError> {
        verify(&mut self.ebpf, &self.kept, &[names::XDP])?;
        let Some(Program::Xdp(program)) = self.ebpf.program_mut(names::XDP) else {
            return Err(KernelError::MissingProgram(names::XDP.into()));
        };
        // `struct xdp_md`: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex.
        let mut context = [0u8; 24];
        context[4..8].copy_from_slice(&(frame.len() as u32).to_ne_bytes());
        context[12..16].copy_from_slice(&ingress.to_ne_bytes());
        run_once(program, names::XDP, frame, &context)
    }

    pub fn run_packet(&mut self, name: &str, frame: &[u8], mark: u32) -> Result<(i32, Vec<u8>), KernelError> {
        // The start of `struct __sk_buff`: len and pkt_type must be 0, then the mark.
        let mut context = [0u8; 12];
        context[8..].copy_from_slice(&mark.to_ne_bytes());
        run_once(self.classifier(name)?, name, frame, &context)
    }
}

/// Verdict and frame after one run.
fn run_once(
    program: &impl for<'a> aya::TestRun<Opts<'a> = aya::TestRunOptions<'a>, Result = aya::TestRunResult>,
    name: &str,
    frame: &[u8],
    context: &[u8],
) -> Result<(i32, Vec<u8>), KernelError> {
    let mut out = vec![0u8; frame.len() + 256];
    let options = aya::TestRunOptions {
        data_in: Some(frame),
        data_out: Some(&mut out),
        ctx_in: Some(context),
        ..Default::default()
    };
    let done = program
        .test_run(options)
        .map_err(|e| KernelError::Load { what: format!("a run of {name}"), source: e.into() })?;
    let (verdict, len) = (done.return_value as i32, done.data_size_out as usize);
    out.truncate(len);
    Ok((verdict, out))
}
