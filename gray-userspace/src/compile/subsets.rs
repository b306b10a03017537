//! Subsets of one service: which instances match a selector, and the Maglev table over them per address family.

use std::collections::{BTreeMap, BTreeSet};

use gray_common::{
    maglev,
    wire::{ARM_GRAY, ARM_STABLE, Addr, Instance},
};

use super::{CompileError, Compiled, assigned::Numbers, proto_number};
use crate::model::{self, Policy, Proto, Selector};

/// A subset before its tables have places in the arena: instance numbers, slot by slot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubsetPlan {
    /// `service: selector`.
    pub name: String,
    pub v4: Vec<u32>,
    pub v6: Vec<u32>,
    pub arm: u32,
}

/// The protocols of a service's listeners. An instance serves each of them on its one port.
fn protocols(s: &model::Service) -> BTreeSet<Proto> {
    s.listen.iter().map(|l| l.proto).collect()
}

/// The tables hold addresses, and the protocol is the flow's own: one number per address.
fn instance_name(i: &model::Instance) -> String {
    i.address.to_string()
}

/// Every instance address of a policy.
pub fn instance_names(policy: &Policy) -> BTreeSet<String> {
    policy.services.iter().flat_map(|s| s.instances.iter().map(instance_name)).collect()
}

/// Collects the subsets that a service's routes name, each once.
pub struct Subsets<'a> {
    service: &'a model::Service,
    numbers: &'a Numbers,
    drained: &'a BTreeSet<String>,
    known: BTreeMap<&'a Selector, u32>,
    out: &'a mut Compiled,
}

impl<'a> Subsets<'a> {
    pub fn new(
        service: &'a model::Service,
        numbers: &'a Numbers,
        drained: &'a BTreeSet<String>,
        out: &'a mut Compiled,
    ) -> Self {
        let proto = protocols(service).into_iter().next().map_or(0, proto_number);
        for i in &service.instances {
            if let Some(n) = numbers.get(&instance_name(i)) {
                let wire = Instance {
                    addr: Addr::from(i.address.ip().to_canonical()),
                    port: i.address.port().to_be(),
                    proto,
                    live: 1,
                };
                let _ = out.instances.entry(n).or_insert(wire);
            }
        }
        Self { service, numbers, drained, known: BTreeMap::new(), out }
    }

    pub fn out(&mut self) -> &mut Compiled {
        self.out
    }

    /// The bank index of a selector's subset.
    pub fn index(&mut self, selector: &'a Selector) -> Result<u32, CompileError> {
        if let Some(i) = self.known.get(selector) {
            return Ok(*i);
        }
        let plan = SubsetPlan {
            name: format!("{}: {selector}", self.service.name),
            v4: self.table(selector, true),
            v6: self.table(selector, false),
            arm: if self.is_stable(selector) { ARM_STABLE } else { ARM_GRAY },
        };
        self.out.subsets.push(plan);
        let index = self.out.subsets.len() as u32 - 1;
        let _ = self.known.insert(selector, index);
        Ok(index)
    }

    /// Stable by another name is stable: what counts is which instances are chosen.
    fn is_stable(&self, selector: &Selector) -> bool {
        *selector == self.service.stable
            || self.service.instances.iter().all(|i| selector.matches(i) == self.service.stable.matches(i))
    }

    fn table(&self, selector: &Selector, v4: bool) -> Vec<u32> {
        let chosen: Vec<(String, u16, u32)> = self
            .service
            .instances
            .iter()
            .filter(|i| selector.matches(i) && i.address.is_ipv4() == v4)
            .filter(|i| !self.drained.contains(&format!("{}/{}", self.service.name, i.id)))
            .filter_map(|i| Some((instance_name(i), i.weight, self.numbers.get(&instance_name(i))?)))
            .collect();
        let backends: Vec<(&str, u16)> = chosen.iter().map(|(n, w, _)| (n.as_str(), *w)).collect();
        let slots = maglev::build(&backends, maglev::table_len(backends.len()));
        slots.into_iter().filter_map(|s| chosen.get(s as usize).map(|c| c.2)).collect()
    }
}
