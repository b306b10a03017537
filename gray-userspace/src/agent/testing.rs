//! What the tests of the reading side share: a real policy, loaded and compiled.

use crate::{
    compile::{Circumstances, Compiled, assigned::Assigned, compile},
    config::{self, Source},
    model::Policy,
};

pub fn compiled(document: &str) -> (Policy, Compiled) {
    let policy = config::load(&[Source::new("test", document)]).unwrap().policy;
    let compiled = compile(&policy, &Assigned::default(), &Circumstances::default()).unwrap();
    (policy, compiled)
}
