//! Tenants that a strategy chose, as identities of a list: what was chosen, when, by which strategy.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A tenant, and why it was chosen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChosenTenant {
    pub id: String,
    pub why: Vec<String>,
}

/// Makes these tenants the whole list of a cohort of tenants, and keeps why.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Choice {
    /// The strategy's name.
    pub strategy: String,
    /// Its document.
    pub document: String,
    /// The table's file, as the caller called it.
    pub table: String,
    /// SHA-256 of the table, in hex.
    pub table_sha256: String,
    /// Tenants of the table.
    pub of: u64,
    pub chosen: Vec<ChosenTenant>,
    /// The gray metadata layer's size, in basis points of the formal one's.
    #[serde(default)]
    pub layer_basis_points: Option<u16>,
    /// Why, for the history.
    #[serde(default)]
    pub message: Option<String>,
}

/// The choice that a cohort's list was last loaded from, and what has become of the list since.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ChoiceShow {
    pub cohort: String,
    pub at: String,
    pub who: String,
    /// The revision that it made; none: that change was cut short.
    pub revision: Option<u64>,
    pub choice: Choice,
    /// On the list, and not chosen.
    pub added: Vec<String>,
    /// Chosen, and not on the list.
    pub removed: Vec<String>,
}
