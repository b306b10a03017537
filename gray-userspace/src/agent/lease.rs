//! The agent's lease: programs hold it against what services allow, and send everybody to stable when it is over. It is renewed under
//! the agent's lock: an agent that lives and can do nothing for anybody is as good as gone. A large change renews it on its way
//! (`Live::write`).

use std::{sync::Arc, time::Duration};

use gray_common::wire::ARM_STABLE;
use tokio::time::MissedTickBehavior;

use super::{
    core::{Core, Inner},
    done,
};
use crate::{api::ApiError, kernel::RENEWALS, sys::notify};

/// Renews it as long as the agent runs. Whoever stops an agent lets it run on.
pub async fn renew(core: Arc<Core>) {
    let mut tick = tokio::time::interval(RENEWALS);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let _ = tick.tick().await;
        let core = core.clone();
        if done("the agent's lease", move || core.lock().take_lease()).await.is_some() {
            notify::say("WATCHDOG=1");
        }
    }
}

impl Inner {
    /// Renews it, and tells which services did without an agent for longer than they allow.
    pub(super) fn take_lease(&mut self) -> Result<(), ApiError> {
        let internal = |e| ApiError::internal(&e);
        let Some(gone) = self.live.renew_lease().map_err(internal)? else { return Ok(()) };
        for s in &self.policy.services {
            let lease = s.agent_lease.filter(|l| gone > Duration::from_millis(l.0.into()));
            let Some((lease, id)) = lease.zip(self.compiled.assigned.services.get(&s.name)) else { continue };
            let kept = self.live.arm(id, ARM_STABLE).map_err(internal)?.lost;
            tracing::warn!(
                service = s.name,
                gone_s = gone.as_secs(),
                lease = %lease,
                kept,
                "no agent was able to act for longer than the service allows: everybody went to stable; from now on routes count again"
            );
        }
        Ok(())
    }
}
