//! Taking one instance out of new connections, and back.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// `SERVICE/INSTANCE`. Established connections stay where they are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct InstanceRef {
    #[schema(example = "shop/198.18.2.3:8080")]
    pub id: String,
}

impl InstanceRef {
    /// Service and instance id. None: not of the form `SERVICE/INSTANCE`.
    pub fn split(&self) -> Option<(&str, &str)> {
        self.id.split_once('/').filter(|(s, i)| !s.is_empty() && !i.is_empty())
    }
}
