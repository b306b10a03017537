//! Keeps the store from growing without end: after a change, what is too old goes, a small piece at a time.

use std::{sync::Arc, time::Duration};

use super::{
    core::{Core, Inner},
    done, time,
};
use crate::{api::ApiError, store::Retention};

/// Between two pieces: whoever waits for the agent comes first.
const PAUSE: Duration = Duration::from_millis(20);
/// After a piece that failed.
const LATER: Duration = Duration::from_secs(60);

pub async fn keep(core: Arc<Core>) {
    let grown = core.lock().grown.clone();
    loop {
        loop {
            let core = core.clone();
            match done("old revisions stay for now", move || core.lock().drop_old()).await {
                Some(true) => tokio::time::sleep(PAUSE).await,
                Some(false) => break,
                None => tokio::time::sleep(LATER).await,
            }
        }
        grown.notified().await;
    }
}

impl Inner {
    /// One piece; whether there may be more.
    fn drop_old(&mut self) -> Result<bool, ApiError> {
        // Of an open release what was in force when it began: the way back that people know.
        let keep = Retention { newest: self.keep_revisions, at: self.releases.open_since() };
        self.store.retain(&keep, time::now_ms()).map_err(|e| ApiError::internal(&e))
    }
}
