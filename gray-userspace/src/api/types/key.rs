//! The fleet's hash key. A secret: only the admin role reads it.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The key as text, made by export, taken by import.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct HashKey {
    /// Hex digits.
    pub key: String,
}

/// A log line must not hold the key.
impl fmt::Debug for HashKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HashKey(..)")
    }
}
