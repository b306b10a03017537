//! Who goes where by what their requests say (A8, B3, B4, B6): random policies and requests, answered by the kernel, by the
//! tables in memory, and by an oracle that reads the policy as its words mean it.

mod client;
mod oracle;
mod random;

use std::{collections::BTreeMap, net::IpAddr};

use gray_common::{
    decide::{Claims, Request, Verdict, decide, mem::MemTables},
    request::reading::read,
    wire::Addr,
};
use gray_userspace::{
    compile::{
        self, Assigned, Circumstances, Compiled,
        have::Have,
        plan::{Want, plan},
    },
    config::{self, Source},
    datapath::write_mem,
    model::{ClaimKind, Policy},
};

pub use client::ask;
pub use random::{document, request};

use super::{
    land::{Land, SHOP},
    rig::{KEY, lists},
};

/// A request, and what it says.
#[derive(Clone, Debug)]
pub struct Asking {
    pub source: IpAddr,
    /// As it is sent, in one segment or several.
    pub parts: Vec<Vec<u8>>,
    /// The value that counts of each claim.
    pub said: BTreeMap<ClaimKind, Vec<u8>>,
}

/// Where a request goes: the instance, and the rule's number.
pub type Way = (IpAddr, u16);

/// A policy, compiled, and in force in memory.
#[derive(Debug)]
pub struct Ruled {
    pub policy: Policy,
    compiled: Compiled,
    tables: MemTables,
}

impl Ruled {
    /// `None`: its wildcards have too many lengths, or its conditions are too many once they are spread out.
    ///
    /// # Panics
    /// When it is no policy.
    pub fn new(text: &str) -> Option<Self> {
        let policy = match config::load(&[Source::new("random", text)]) {
            Ok(loaded) => loaded.policy,
            Err(e) if e.errors.iter().all(|e| e.message.contains("wildcards of")) => return None,
            Err(e) => panic!("{e}\n{text}"),
        };
        let compiled = compile::compile(&policy, &Assigned::default(), &Circumstances::default()).ok()?;
        let mut tables = MemTables::default();
        let lists = lists(&policy, &compiled);
        for step in plan(&mut Have::default(), &Want::all(1, KEY, &compiled, &lists)).unwrap() {
            write_mem(&mut tables, &step);
        }
        Some(Self { policy, compiled, tables })
    }

    /// By the tables in memory.
    ///
    /// # Panics
    /// When it is not steered.
    pub fn decided(&self, a: &Asking) -> Way {
        let view = self.tables.view();
        let to = Land { v6: a.source.is_ipv6(), proto: 6 }.vip(SHOP);
        let key = compile::listener_key(&gray_userspace::model::Listener {
            addr: to,
            proto: gray_userspace::model::Proto::Tcp,
        });
        let listener = view.listener(&key);
        let source = Addr::from(a.source);
        let mut claims = Claims::none(0);
        claims.set_source(KEY, &source);
        let head = a.parts.concat();
        let reading = listener.service().and_then(|s| view.reading(s)).expect("what is read of requests");
        read(reading, &head).claims(KEY, &mut claims);
        let r = Request {
            listener,
            claims: &claims,
            source: Some(&source),
            is_v4: a.source.is_ipv4(),
            seed: 1,
            spares: 0,
        };
        match decide(&view, &r) {
            Verdict::Steer(d) => (IpAddr::from(d.instance.addr), d.rule),
            other => panic!("not steered: {other:?}"),
        }
    }

    /// By the words of the policy.
    pub fn meant(&self, a: &Asking) -> Way {
        let service = &self.policy.services[0];
        let route = oracle::route(&self.policy, service, a);
        let subset = route.and_then(|r| r.to.arms().first()).map_or(&service.stable, |arm| &arm.subset);
        let here = |i: &&gray_userspace::model::Instance| i.address.is_ipv4() == a.source.is_ipv4();
        let instance =
            service.instances.iter().filter(here).find(|i| subset.matches(i)).expect("an instance");
        let number = |r| self.compiled.assigned.rules.get(&compile::rule_name(r, &service.name));
        (instance.address.ip(), route.map_or(0, |r| number(r).expect("a number") as u16))
    }
}
