//! Which tenants a gray release chooses, and why. Must not know files.

use std::collections::{BTreeMap, BTreeSet};

/// One tenant of a table. An attribute has no value, one, or several.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tenant {
    pub id: String,
    pub attributes: BTreeMap<String, Vec<String>>,
}

/// The attributes that strategies look into, beside the measure that one names.
pub const TICKETS: &str = "tickets";
pub const FEATURES: &str = "features";

/// What a strategy document says.
#[derive(Clone, Debug, PartialEq)]
pub struct Strategy {
    pub name: String,
    pub choose: Choose,
    pub layer: Option<Layer>,
}

/// Which tenants.
#[derive(Clone, Debug, PartialEq)]
pub enum Choose {
    /// Active good ones: this measure is at least so large.
    Active {
        measure: String,
        at_least: f64,
    },
    /// Those whose reported problems this iteration fixes, by ticket.
    Fixes(BTreeSet<String>),
    /// Those expected to use what is new, by feature.
    Potential(BTreeSet<String>),
    All(Vec<Choose>),
    Any(Vec<Choose>),
    Not(Box<Choose>),
}

/// What the size of the gray metadata layer follows from.
#[derive(Clone, Debug, PartialEq)]
pub struct Layer {
    /// Keys of the formal layer.
    pub keys: Option<u64>,
    pub keys_per_tenant: Option<u64>,
    pub damping: Option<f64>,
    /// In place of the formula.
    pub basis_points: Option<u16>,
}

impl Choose {
    /// Why a tenant is chosen; `None`: it is not.
    pub fn why(&self, tenant: &Tenant) -> Option<Vec<String>> {
        let has = |attribute: &str, wanted: &BTreeSet<String>, word: &str| {
            let have = tenant.attributes.get(attribute).map_or(&[][..], Vec::as_slice);
            let both: BTreeSet<&str> =
                have.iter().filter(|v| wanted.contains(*v)).map(String::as_str).collect();
            let all = both.into_iter().collect::<Vec<_>>().join(", ");
            (!all.is_empty()).then(|| vec![format!("{word} {all}")])
        };
        match self {
            Self::Active { measure, at_least } => {
                let value = tenant.attributes.get(measure)?.first()?;
                (value.parse::<f64>().ok()? >= *at_least)
                    .then(|| vec![format!("{measure} {value} is at least {at_least}")])
            }
            Self::Fixes(tickets) => has(TICKETS, tickets, "reported"),
            Self::Potential(features) => has(FEATURES, features, "expected to use"),
            Self::All(parts) => {
                let each: Option<Vec<_>> = parts.iter().map(|p| p.why(tenant)).collect();
                each.map(|e| e.concat())
            }
            Self::Any(parts) => {
                let each: Vec<_> = parts.iter().filter_map(|p| p.why(tenant)).collect();
                (!each.is_empty()).then(|| each.concat())
            }
            Self::Not(part) => part.why(tenant).is_none().then(|| vec![format!("not {}", part.said())]),
        }
    }

    /// As reasons say what did not hold.
    fn said(&self) -> String {
        let list = |set: &BTreeSet<String>| set.iter().cloned().collect::<Vec<_>>().join(", ");
        let many = |parts: &[Self], word: &str| {
            format!("({})", parts.iter().map(Self::said).collect::<Vec<_>>().join(word))
        };
        match self {
            Self::Active { measure, at_least } => format!("{measure} at least {at_least}"),
            Self::Fixes(tickets) => format!("reported {}", list(tickets)),
            Self::Potential(features) => format!("expected to use {}", list(features)),
            Self::All(parts) => many(parts, " and "),
            Self::Any(parts) => many(parts, " or "),
            Self::Not(part) => format!("not {}", part.said()),
        }
    }

    /// The measures that it asks for.
    pub fn measures(&self) -> BTreeSet<&str> {
        self.asked().into_iter().filter_map(|(name, measure)| measure.then_some(name)).collect()
    }

    /// The attributes that it asks for; true: of numbers.
    pub fn asked(&self) -> BTreeSet<(&str, bool)> {
        match self {
            Self::Active { measure, .. } => BTreeSet::from([(measure.as_str(), true)]),
            Self::Fixes(_) => BTreeSet::from([(TICKETS, false)]),
            Self::Potential(_) => BTreeSet::from([(FEATURES, false)]),
            Self::All(parts) | Self::Any(parts) => parts.iter().flat_map(Self::asked).collect(),
            Self::Not(part) => part.asked(),
        }
    }
}
