//! Tenants of a table, chosen by a strategy. Pure: no files, no clock.

#[cfg(any(test, feature = "fuzz"))]
pub(crate) mod fuzz;
mod layer;
mod table;
#[cfg(test)]
mod tests;

pub use layer::share;
pub use table::{BadTable, read};

use crate::model::tenant::{Strategy, Tenant};

/// A tenant that was chosen, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chosen {
    pub id: String,
    pub why: Vec<String>,
}

/// What a strategy makes of a table.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// By id.
    pub chosen: Vec<Chosen>,
    /// Tenants of the table.
    pub of: u64,
    /// The gray layer's size as a share of the formal one's; `None`: the strategy does not ask.
    pub layer: Option<f64>,
}

/// Chooses. The table has what the strategy asks for: [`read`] has seen to that.
pub fn plan(strategy: &Strategy, tenants: &[Tenant]) -> Plan {
    let choose = |t: &Tenant| Some(Chosen { id: t.id.clone(), why: strategy.choose.why(t)? });
    let mut chosen: Vec<_> = tenants.iter().filter_map(choose).collect();
    chosen.sort_by(|a, b| a.id.cmp(&b.id));
    let (n, of) = (chosen.len() as u64, tenants.len() as u64);
    let layer = strategy.layer.as_ref().map(|l| match l.basis_points {
        Some(bp) => f64::from(bp) / 10_000.0,
        None => share(n, of, l.keys_per_tenant.unwrap_or(0), l.keys.unwrap_or(0), l.damping.unwrap_or(0.0)),
    });
    Plan { chosen, of, layer }
}
