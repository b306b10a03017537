//! `gray migrate`: before a gray of another ABI number takes over.

use gray_common::{abi::ABI, layouts};

use super::start;
use crate::{
    api::ApiError,
    cli::{Failure, MigrateOptions},
    fail,
    kernel::{self, Hook, Pins},
    sys::{kernel::KernelVersion, lock},
};

/// What was done, one line each.
pub fn migrate(o: MigrateOptions) -> anyhow::Result<Vec<String>> {
    let known = || layouts::KNOWN.iter().chain([&ABI]).map(u32::to_string).collect::<Vec<_>>().join(", ");
    if o.to != ABI && !layouts::KNOWN.contains(&o.to) {
        let what = format!("this gray does not know ABI {}", o.to);
        return Err(
            Failure::usage(what, format!("it knows {}; use the newer of the two grays", known())).into()
        );
    }
    let nothing = || {
        let what = format!("nothing of ABI {ABI} is pinned under {}", o.bpffs.display());
        ApiError::conflict(what, "there is nothing to migrate: start the agent of the gray that you want")
    };
    if !o.bpffs.exists() {
        return Err(nothing().into());
    }
    if let Some(pid) = lock::holder(&o.bpffs) {
        let what = format!("an agent (pid {pid}) uses {}", o.bpffs.display());
        return Err(
            ApiError::conflict(what, "stop it; steering goes on. Then run `gray migrate` again").into()
        );
    }
    fail::ready()?;
    let _lock = lock::DirLock::take(&o.bpffs)?;
    let pins = Pins::existing(&o.bpffs)?;
    if pins.is_empty() {
        return Err(nothing().into());
    }
    if o.to == ABI {
        return Ok(vec![format!("the pins are of ABI {ABI} already")]);
    }
    let hook = start::hook(KernelVersion::running()?);
    if hook == Hook::Clsact {
        let what = "clsact filters have no links that could be handed over (tcx: Linux 6.6)";
        return Err(ApiError::conflict(what, "move the traffic away, uninstall, start the other gray").into());
    }
    let moved = kernel::migrate_to(&pins, o.to, hook)?;
    Ok(vec![
        format!(
            "{} flows are in the layout of ABI {}, {} had ended, {} forgotten",
            moved.copied + moved.fetched,
            o.to,
            moved.ended,
            moved.left_out
        ),
        format!("start the gray of ABI {} now; until then what is attached goes on", o.to),
    ])
}
