//! From the numbers that the kernel counts by to the names that people know. A snapshot of one policy; reads nothing.

use std::{
    borrow::Cow,
    collections::HashMap,
    net::{IpAddr, SocketAddr},
};

use gray_common::wire::{ARM_GRAY, Addr};

use crate::{
    api::types::ArmName,
    compile::{Assigned, assigned::Numbers},
    model::Policy,
};

pub struct Names {
    services: HashMap<u32, String>,
    rules: HashMap<u32, String>,
    instances: HashMap<(u32, SocketAddr), String>,
    /// For numbers that this policy uses no more.
    resting_services: Numbers,
    resting_rules: Numbers,
}

impl Names {
    pub fn new(policy: &Policy, assigned: &Assigned) -> Self {
        let turned = |n: &Numbers| n.iter().map(|(name, i)| (i, name.to_string())).collect();
        let instances = policy.services.iter().filter_map(|s| Some((assigned.services.get(&s.name)?, s)));
        Self {
            services: turned(&assigned.services),
            rules: turned(&assigned.rules),
            instances: instances
                .flat_map(|(n, s)| s.instances.iter().map(move |i| ((n, canonical(i.address)), i.id.clone())))
                .collect(),
            resting_services: assigned.services.clone(),
            resting_rules: assigned.rules.clone(),
        }
    }

    /// A service's name; of one that is long gone, its number.
    pub fn service(&self, number: u32) -> Cow<'_, str> {
        let known =
            self.services.get(&number).map(String::as_str).or_else(|| self.resting_services.name(number));
        known.map_or_else(|| format!("#{number}").into(), Cow::from)
    }

    /// The name that a rule is counted under; none: the default. Of one that is long gone, its number.
    pub fn rule(&self, number: u32) -> Option<Cow<'_, str>> {
        if number == 0 {
            return None;
        }
        let known = self.rules.get(&number).map(String::as_str).or_else(|| self.resting_rules.name(number));
        Some(known.map_or_else(|| format!("#{number}").into(), Cow::from))
    }

    /// The route of a rule: without the service, which a route for all services, or a lane, is counted by.
    pub fn route(&self, number: u32) -> Option<String> {
        // A made-up name of one service's route may have the character in a value.
        let name = |text: &str| !text.contains('/');
        let for_all = |r: &str| r.starts_with("*/") || name(r.strip_prefix("lane/").unwrap_or(r));
        self.rule(number).map(|n| match n.rsplit_once('@') {
            Some((route, _)) if for_all(route) => route.to_string(),
            _ => n.into_owned(),
        })
    }

    /// The instance's id; none: the policy knows none at this address.
    pub fn instance(&self, service: u32, at: SocketAddr) -> Option<&str> {
        self.instances.get(&(service, at)).map(String::as_str)
    }
}

pub fn canonical(a: SocketAddr) -> SocketAddr {
    SocketAddr::new(a.ip().to_canonical(), a.port())
}

/// Address and port as the tables hold them, the port in network order.
pub fn socket_addr(addr: Addr, port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::from(addr), u16::from_be(port))
}

pub fn arm_name(arm: u32) -> ArmName {
    if arm == ARM_GRAY { ArmName::Gray } else { ArmName::Stable }
}

pub fn proto_name(proto: u8) -> String {
    match proto {
        gray_common::packet::TCP => "tcp".into(),
        gray_common::packet::UDP => "udp".into(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::testing;

    #[test]
    fn numbers_become_names_and_strangers_stay_numbers() {
        let (policy, compiled) = testing::compiled(
            "services:
  shop: { listen: ['198.18.1.100:80'], instances: [{ address: '198.18.2.2:80', version: '1.0', id: one }], stable: { version: '1.0' } }
cohorts:
  early: { sources: ['198.18.1.3'] }
routes:
  - { name: all, when: early, to: { version: '1.0' } }
",
        );
        let names = Names::new(&policy, &compiled.assigned);
        let shop = compiled.assigned.services.get("shop").unwrap();
        let all = compiled.assigned.rules.get("all@shop").unwrap();
        assert_eq!(names.service(shop), "shop");
        assert_eq!(names.service(77), "#77");
        assert_eq!(names.rule(all).as_deref(), Some("all@shop"));
        assert_eq!(names.route(all).as_deref(), Some("all"));
        assert_eq!((names.route(0), names.route(900).as_deref()), (None, Some("#900")));
        assert_eq!(names.instance(shop, "198.18.2.2:80".parse().unwrap()), Some("one"));
        assert_eq!(names.instance(shop, "198.18.2.2:81".parse().unwrap()), None);
        let (policy, compiled) = testing::compiled(
            "services:
  shop: { listen: ['198.18.1.100:80'], instances: [{ address: '198.18.2.2:80', version: '1.0', id: one }], stable: { version: '1.0' } }
routes:
  - { service: shop, when: { workload: a@shop }, to: { version: '1.0' } }
  - { when: { workload: b@shop }, to: { version: '1.0' } }
",
        );
        let names = Names::new(&policy, &compiled.assigned);
        let of = |n: &str| names.route(compiled.assigned.rules.get(n).unwrap()).unwrap();
        assert_eq!(of("shop/workload=a@shop/version=1.0"), "shop/workload=a@shop/version=1.0");
        assert_eq!(of("*/workload=b@shop/version=1.0@shop"), "*/workload=b@shop/version=1.0");
    }
}
