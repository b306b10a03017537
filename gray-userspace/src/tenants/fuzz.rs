//! Fuzz target: any bytes are a strategy, a table, or sentences.

use super::{plan, read};
use crate::{
    config::{Source, load_strategy},
    fuzz::{choice, one_line, text},
};

const STRATEGY: &str = "\
name: a
choose: { any: [{ active: { measure: logins, at-least: 2.5 } }, { all: [{ fixes: [T-1] }, { not: { potential: [x] } }] }] }
layer: { keys: 10, keys-per-tenant: 3, damping: 0.5 }
";

/// The first byte chooses: a strategy, or a table for a good one.
pub fn tenants(data: &[u8]) {
    let Some((which, rest)) = choice(data, 2) else { return };
    let given = text(rest);
    let document = if which == 0 { &given } else { STRATEGY };
    match load_strategy(&Source::new("strategy", document)) {
        Err(problems) => {
            assert!(!problems.errors.is_empty(), "refused, and nothing is said");
            problems.errors.iter().for_each(|p| one_line(&p.message));
        }
        Ok(strategy) if which == 1 => match read("tenants", &given, &strategy.choose) {
            Err(bad) => bad.0.iter().for_each(|said| one_line(said)),
            Ok(tenants) => {
                let plan = plan(&strategy, &tenants);
                assert!(plan.chosen.len() as u64 <= plan.of && plan.of == tenants.len() as u64);
                assert!(plan.chosen.iter().all(|c| !c.why.is_empty()), "chosen for no reason");
                assert!(plan.layer.is_some_and(|c| (0.0..=1.0).contains(&c)));
            }
        },
        Ok(_) => {}
    }
}
