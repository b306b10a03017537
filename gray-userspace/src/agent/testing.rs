//! What the tests of the reading side share: a real policy, loaded and compiled.

use crate::{
    compile::{Circumstances, Compiled, assigned::Assigned, compile},
    config::{self, Source},
    model::Policy,
};

pub fn compiled(document: &str) -> (Policy, Compiled) {
    compiled_in(None, document)
}

/// By an agent of a zone.
pub fn compiled_in(zone: Option<&str>, document: &str) -> (Policy, Compiled) {
    let around = Circumstances { zone: zone.map(str::to_owned), ..Circumstances::default() };
    let policy = config::load(&[Source::new("test", document)]).unwrap().policy;
    let compiled = compile(&policy, &Assigned::default(), &around).unwrap();
    (policy, compiled)
}
