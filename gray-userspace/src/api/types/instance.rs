//! Taking one instance out of new connections, and back.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// `SERVICE/INSTANCE`. Established connections stay where they are, until a deadline if there is one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct InstanceRef {
    #[schema(example = "shop/198.18.2.3:8080")]
    pub id: String,
    /// Of a drain: what is still open after so many milliseconds, at most a week, is closed. None: it lives on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_ms: Option<u64>,
}

/// A week.
pub const LONGEST_DRAIN_MS: u64 = 7 * 24 * 3_600_000;

impl InstanceRef {
    /// Service and instance id. None: not of the form `SERVICE/INSTANCE`.
    pub fn split(&self) -> Option<(&str, &str)> {
        self.id.split_once('/').filter(|(s, i)| !s.is_empty() && !i.is_empty())
    }
}
