//! UDP flows whose instance their service has no more: forgotten, so that the client's next datagram is decided anew. Who
//! answers at that address now may serve another service. TCP connections live on: whoever comes to the address after
//! their instance knows nothing of them, and resets them.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use gray_common::{packet::UDP, wire::FLOW_PASS};

use super::{
    core::Inner,
    flows::{Row, row4, row6},
    names::{Names, canonical},
};
use crate::{kernel::KernelError, model::Policy};

/// Whether some service loses an instance, or is lost with all of its own.
pub fn made_by(before: &Policy, after: &Policy) -> bool {
    let instances = |p: &Policy| -> BTreeSet<(String, SocketAddr)> {
        let of = p.services.iter().flat_map(|s| s.instances.iter().map(|i| (s.name.clone(), i.address)));
        of.map(|(service, at)| (service, canonical(at))).collect()
    };
    !instances(before).is_subset(&instances(after))
}

fn is_orphan(r: &Row, names: &Names) -> bool {
    let steered = r.proto == UDP && r.state.flags & FLOW_PASS == 0;
    steered && names.instance(r.service_number(), r.instance).is_none()
}

impl Inner {
    /// Walks both flow tables. Returns how many flows are forgotten. The reply direction stays, for answers that are on
    /// their way. A flow that is decided anew between walk and removal is decided once more.
    pub fn forget_orphans(&mut self) -> Result<usize, KernelError> {
        let names = Names::new(&self.policy, &self.compiled.assigned);
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        self.live.flows4(|k, f| {
            if row4(&k, &f).is_some_and(|r| is_orphan(&r, &names)) {
                v4.push(k);
            }
        })?;
        self.live.flows6(|k, f| {
            if row6(&k, &f).is_some_and(|r| is_orphan(&r, &names)) {
                v6.push(k);
            }
        })?;
        self.live.forget_flows(&v4, &v6)?;
        Ok(v4.len() + v6.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::testing;

    fn policy(one: &str, two: &str) -> Policy {
        let service = |name: &str, port: u16, instances: &str| {
            format!(
                "  {name}: {{ listen: ['198.18.1.100:{port}/udp'], instances: [{instances}], stable: {{ version: '1.0' }} }}\n"
            )
        };
        let text = format!("services:\n{}{}", service("one", 80, one), service("two", 81, two));
        testing::compiled(&text).0
    }

    #[test]
    fn an_instance_that_a_service_loses_makes_orphans_and_one_that_it_gets_does_not() {
        let [a, b] = [2, 3].map(|n| format!("{{ address: '198.18.2.{n}:80', version: '1.0' }}"));
        let both = format!("{a}, {b}");
        let of = |one: &str, two: &str| policy(one, two);
        assert!(!made_by(&of(&a, &b), &of(&a, &b)));
        assert!(!made_by(&of(&a, &b), &of(&both, &b)));
        assert!(made_by(&of(&both, &b), &of(&a, &b)));
        assert!(made_by(&of(&a, &b), &of(&b, &a)), "they change places");
        assert!(made_by(&of(&a, &b), &Policy::default()));
    }
}
