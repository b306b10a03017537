//! The agent's loops. None of them ends by itself: when one does, whoever waits here is told, and ends the agent, so that it is
//! started again. A drop ends them all.

use std::{collections::HashMap, future::Future};

use tokio::task::{Id, JoinSet};

#[derive(Debug, Default)]
pub struct Tasks {
    set: JoinSet<()>,
    names: HashMap<Id, &'static str>,
}

impl Tasks {
    /// Needs a runtime.
    pub fn spawn(&mut self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let id = self.set.spawn(task).id();
        let _ = self.names.insert(id, name);
    }

    /// Waits for the first that ends, and says which and how; without any, for ever. Cancel safe.
    pub async fn ended(&mut self) -> String {
        let (id, how) = match self.set.join_next_with_id().await {
            None => std::future::pending().await,
            Some(Ok((id, ()))) => (id, "ended".to_owned()),
            Some(Err(e)) => (e.id(), e.to_string()),
        };
        format!("{}: {how}", self.names.get(&id).copied().unwrap_or("a task"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn h2_the_first_that_ends_or_panics_is_told_by_name() {
        let mut tasks = Tasks::default();
        tasks.spawn("events", std::future::pending());
        tasks.spawn("alarms", async { panic!("no way on") });
        let said = tasks.ended().await;
        assert!(
            said.starts_with("alarms: ") && said.contains("panicked with message \"no way on\""),
            "{said}"
        );
        tasks.spawn("files", async {});
        assert_eq!(tasks.ended().await, "files: ended");
    }
}
