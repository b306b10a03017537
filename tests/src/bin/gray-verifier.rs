//! Loads each program of an eBPF object by itself, with the largest tables gray uses, and says what the verifier said. It
//! attaches nothing and pins nothing. `cargo xtask verifier` reads its lines.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use aya::programs::{Program, ProgramError};
use aya::{EbpfLoader, VerifierLogLevel};
use clap::Parser;
use gray_common::names;
use gray_userspace::sys::kernel::{HANDS, KernelVersion};

/// Prints `NAME verified INSTRUCTIONS`, or `NAME rejected REASON` and keeps the verifier's log.
#[derive(Parser)]
struct Args {
    object: PathBuf,
    /// Where `NAME.log` of a rejected program goes
    logs: PathBuf,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let bytes = std::fs::read(&args.object).with_context(|| args.object.display().to_string())?;
    let mut loader = EbpfLoader::new();
    let _ = loader.verifier_log_level(VerifierLogLevel::DEBUG | VerifierLogLevel::STATS);
    // With what reads tags.
    let _ = loader.override_global("TAGS", &1u32, false);
    let mut ebpf = loader.allow_unsupported_maps().load(&bytes).context("load the maps")?;
    let mut out = std::io::stdout().lock();
    let too_old = KernelVersion::running()? < HANDS;
    for (name, program) in ebpf.programs_mut() {
        match load(name, program) {
            Ok(count) => writeln!(out, "{name} verified {count}")?,
            // This kernel has no such tracepoint: what needs it is refused there.
            Err(ProgramError::Btf(aya::BtfError::UnknownBtfTypeName { .. })) => {}
            // Nor does an agent load these there.
            Err(_) if names::HANDING_PROGRAMS.iter().any(|(_, with)| *with == name) && too_old => {}
            Err(e) => writeln!(out, "{name} rejected {}", keep(&args.logs, name, &e)?)?,
        }
    }
    Ok(())
}

/// The number of instructions that the verifier looked at.
fn load(name: &str, program: &mut Program) -> Result<u32, ProgramError> {
    let info = match program {
        Program::SchedClassifier(p) => p.load().and_then(|()| p.info()),
        Program::CgroupSockAddr(p) => p.load().and_then(|()| p.info()),
        Program::Xdp(p) => p.load().and_then(|()| p.info()),
        Program::SockOps(p) => p.load().and_then(|()| p.info()),
        Program::CgroupSkb(p) => p.load().and_then(|()| p.info()),
        Program::BtfTracePoint(p) => {
            let btf = aya::Btf::from_sys_fs()?;
            let point = names::trace_point(name).unwrap_or_default();
            p.load(point, &btf).and_then(|()| p.info())
        }
        _ => Err(ProgramError::UnexpectedProgramType),
    }?;
    Ok(info.verified_instruction_count().unwrap_or(0))
}

/// Writes the log, and gives its last line that is a reason.
fn keep(dir: &Path, name: &str, e: &ProgramError) -> Result<String> {
    let ProgramError::LoadError { io_error, verifier_log } = e else { return Ok(e.to_string()) };
    let log = verifier_log.to_string();
    std::fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
    let file = dir.join(format!("{name}.log"));
    std::fs::write(&file, &log).with_context(|| file.display().to_string())?;
    let statistics = ["processed ", "verification time ", "stack depth "];
    let reason = log.lines().rev().find(|l| !l.is_empty() && !statistics.iter().any(|s| l.starts_with(s)));
    Ok(format!("{} ({io_error})", reason.unwrap_or("no reason given")))
}
