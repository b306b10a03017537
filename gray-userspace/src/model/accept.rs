//! From whom some instances take connections.

use super::{Condition, Instance, Selector, Service};

/// Connections from others are refused: those that a route sends there, and those that dial an instance by its own address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accept {
    pub instances: Selector,
    pub from: Condition,
}

impl Service {
    /// Whether an instance takes connections from some clients only. In shadow nobody is refused.
    pub fn is_guarded(&self, i: &Instance) -> bool {
        !self.shadow && self.accept.iter().any(|a| a.instances.matches(i))
    }

    /// Who is refused by some instance of a subset; `None`: nobody.
    pub fn refused_by(&self, subset: &Selector) -> Option<Condition> {
        let has = |a: &&Accept| self.instances.iter().any(|i| subset.matches(i) && a.instances.matches(i));
        let from: Vec<Condition> =
            self.accept.iter().filter(|_| !self.shadow).filter(has).map(|a| a.from.clone()).collect();
        (!from.is_empty()).then(|| Condition::Not(Box::new(Condition::All(from))))
    }
}
