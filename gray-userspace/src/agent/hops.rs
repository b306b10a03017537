//! Flows keep their next hop for seconds. When packets may have to leave another way, all are told to look again.

use std::{sync::Arc, time::Duration};

use gray_common::wire::Control;

use super::core::Core;
use crate::sys::ways::WayEvents;

/// What changes meanwhile is one change: a routing daemon changes thousands of routes at once, and each costs every flow a lookup.
const REST: Duration = Duration::from_millis(100);

/// Follows routes, rules, links and neighbours of this network namespace for ever.
pub async fn follow(core: Arc<Core>, mut events: WayEvents) {
    // Nobody listened before.
    renew(&core).await;
    loop {
        match events.changed().await {
            Ok(()) => renew(&core).await,
            Err(e) => {
                tracing::warn!(error = %e, "cannot follow the routes: a next hop may be 4 s old");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
        tokio::time::sleep(REST).await;
    }
}

/// The state may be locked for seconds by a large change.
async fn renew(core: &Arc<Core>) {
    let core = core.clone();
    // It ends with the agent alone, or fails with whoever has the lock.
    let _ = tokio::task::spawn_blocking(move || core.lock().live.configure(Control::renew_hops)).await;
}
