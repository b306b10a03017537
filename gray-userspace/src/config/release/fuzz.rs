//! Fuzz target of releases: any text becomes one, or places and sentences; and what it takes of the traffic is a policy.

use super::super::{Source, fuzz::place, load, load_release};
use crate::{
    fuzz::text,
    release::{Traffic, source, source_name},
};

const POLICY: &str = "services:
  shop: { listen: ['198.18.1.1:80'], instances: [{ address: '198.18.2.1:80', version: '1' }, { address: '198.18.2.2:80', version: '2' }], stable: { version: '1' } }
cohorts:
  office: { sources: ['198.18.7.0/24'] }
";

pub fn release(data: &[u8]) {
    let given = Source::new("release", text(data));
    let user = Source::new("policy", POLICY);
    let Ok(policy) = load(std::slice::from_ref(&user)) else { panic!("the policy is none") };
    let spec = match load_release(&given, Some(&policy.policy)) {
        Ok(spec) => spec,
        Err(problems) => {
            assert!(!problems.errors.is_empty(), "refused without a word");
            let _ = problems.render(true);
            return problems.errors.iter().for_each(|p| place(p, std::slice::from_ref(&given)));
        }
    };
    assert!(load_release(&given, None).is_ok_and(|again| again == spec));
    let stages = (0..spec.stages.len()).map(Traffic::Stage);
    for t in [Traffic::None, Traffic::Testers, Traffic::All].into_iter().chain(stages) {
        let Some(text) = source(&spec, t) else { continue };
        let ours = Source::new(source_name(&spec.name), text);
        if let Err(e) = load(&[user.clone(), ours.clone()]) {
            panic!("{t:?}: {e}\n{}", ours.text);
        }
    }
}
