//! Parts of the data path that only some policies need: programs are loaded without them, and with them before the first
//! policy that does.

use gray_common::wire::{SERVICE_DENY, SERVICE_REQUEST, SUBSET_DENY, SUBSET_REFUSE};

use super::core::{AttachState, Inner};
use crate::{
    api::ApiError,
    compile::Compiled,
    kernel::{Hook, KernelError},
};

/// Whether requests are read, or anybody is refused.
fn reads(compiled: &Compiled) -> bool {
    const PARTS: u32 = SERVICE_REQUEST | SERVICE_DENY;
    compiled.services.iter().any(|s| s.flags & PARTS != 0)
        || compiled.subsets.iter().any(|s| s.flags & (SUBSET_REFUSE | SUBSET_DENY) != 0)
}

impl Inner {
    /// Loads the programs that the policy needs, if they are not. What is loaded once stays: connections may live by it.
    pub(super) fn load_parts(&mut self, compiled: &Compiled) -> Result<bool, KernelError> {
        Ok(reads(compiled) && self.live.read_requests()?)
    }

    /// The same, and attaches them, before anything of the policy is written. An earlier change may have been refused because they
    /// could not be attached everywhere: that is tried again, and refused again.
    pub(super) fn need_parts(&mut self, compiled: &Compiled) -> Result<(), ApiError> {
        let internal = |e: KernelError| ApiError::internal(&e);
        if !reads(compiled) {
            return Ok(());
        }
        let fresh = self.load_parts(compiled).map_err(internal)?;
        // Of filters nobody tells whose program they are.
        let before = if self.live.hook() == Hook::Clsact { Vec::new() } else { self.failed() };
        if !fresh && self.failed() == before && self.live.strangers().map_err(internal)?.is_empty() {
            return Ok(());
        }
        self.relink();
        let mut places = self.live.strangers().map_err(internal)?;
        places.extend(self.failed().into_iter().filter(|f| !before.contains(f)));
        if places.is_empty() {
            tracing::info!("the packet programs read requests now");
            return Ok(());
        }
        Err(ApiError::conflict(
            format!("programs that read requests cannot be attached: {}", places.join(", ")),
            "nothing was changed; see `gray status`, mend or detach these interfaces, and apply again",
        ))
    }

    /// Interfaces that could not be attached.
    fn failed(&self) -> Vec<String> {
        let failed = self.attachments.iter().filter(|a| a.state == AttachState::Failed);
        failed.map(|a| a.iface.clone()).collect()
    }
}
