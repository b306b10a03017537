//! What an open release and the policy owe each other: whether one of them is refused because of the other, and what helps then.

use super::Running;
use crate::{
    api::ApiError,
    model::{Policy, Selector, Service},
    release::Phase,
};

impl Running {
    /// What ends it from where it is: not every command is taken everywhere.
    pub(super) fn way_out(&self) -> String {
        let name = &self.spec.name;
        let close = format!("gray release close {name}");
        match self.state.phase {
            Phase::Failed | Phase::Closed => {
                format!("its routes cannot be taken away yet: gray release status {name}")
            }
            _ if self.unread.is_some() => format!("end it first: gray release abort {name}"),
            Phase::Stopped | Phase::Abnormal => format!("end it first: {close}"),
            Phase::Recalling => format!("end it first: {close}, as soon as it is abnormal"),
            Phase::Done => format!(
                "end it first: {close}, with a policy whose stable is the new version; or gray release recall {name}, then {close}"
            ),
            _ => format!("end it first: gray release recall {name}, then {close}"),
        }
    }

    /// The policy leaves somebody to go back to. One whose stable is the new version comes when the release is done. Where stable was that
    /// wide before, it may stay.
    pub(super) fn keeps_stable(&self, before: &Policy, after: &Policy) -> Result<(), ApiError> {
        let phase = self.state.phase;
        if phase.is_over() || phase == Phase::Done || self.unread.is_some() {
            return Ok(());
        }
        for s in &self.spec.services {
            let all = |p: &&Service| is_stable(&s.gray, p);
            let was = before.service(&s.name).is_some_and(|p| all(&p));
            if let Some(p) = after.service(&s.name).filter(all)
                && !was
            {
                let name = &self.spec.name;
                let what = format!(
                    "stable of {} would be {}, which has all of gray while {name} is {}: nobody could go back",
                    s.name,
                    p.stable,
                    self.state.name()
                );
                let help =
                    format!("nothing was changed; apply it when {name} is done, or {}", self.way_out());
                return Err(ApiError::conflict(what, help));
            }
        }
        Ok(())
    }
}

/// All of gray's instances are stable's, too.
pub(super) fn is_stable(gray: &Selector, s: &Service) -> bool {
    let mut gray = s.instances.iter().filter(|i| gray.matches(i)).peekable();
    gray.peek().is_some() && gray.all(|i| s.stable.matches(i))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::ErrorKind,
        config::{self, Source},
        release::{ServiceSpec, Spec, State},
    };

    fn policy(stable: &str) -> Policy {
        let text = format!(
            "services:\n  shop: {{ listen: ['198.18.1.100:80'], stable: {stable}, instances: [\
             {{ address: '198.18.2.2:80', version: '1.0', group: a }}, {{ address: '198.18.2.3:80', version: '2.0', group: a }}] }}\n"
        );
        config::load(&[Source::new("policy.yaml", text)]).unwrap().policy
    }

    fn running(phase: Phase) -> Running {
        let gray = Selector::one(crate::model::MetaKey::Version, "2.0");
        let spec = Spec {
            name: "shop-2.0".into(),
            services: vec![ServiceSpec { name: "shop".into(), gray }],
            ..Spec::default()
        };
        let state = State { phase, ..State::new(0) };
        Running { spec, state, run: 1, who: "ann".into(), document: String::new(), unread: None }
    }

    #[test]
    fn f1_what_ends_a_release_is_taken_where_it_is() {
        use crate::release::{Closing, Command, Event, Verb, on};
        for phase in Phase::ALL {
            let mut r = running(phase);
            r.spec.stages = vec![crate::release::Stage { basis_points: 10_000, ..Default::default() }];
            let help = r.way_out();
            if phase.is_over() {
                assert!(!help.contains("end it first"), "{phase:?}: {help}");
                continue;
            }
            // The first command that is named; in `recalling` it is for later.
            let named =
                |v: &Verb| help.find(&format!("gray release {} shop-2.0", v.name())).map(|at| (at, *v));
            let (_, verb) = Verb::ALL.iter().filter_map(named).min_by_key(|(at, _)| *at).unwrap();
            assert!(help.contains("gray release close shop-2.0"), "{phase:?}: {help}");
            let command =
                Command { verb, stage: 0, closing: Closing::Reset, who: "ann".into(), why: String::new() };
            let taken = on(&r.spec, &mut r.state, &Event::Command(command), 0, &[]).is_ok();
            assert_eq!(taken, phase != Phase::Recalling, "{phase:?}: {help}");
        }
        let unread = Running { unread: Some("?".into()), ..running(Phase::Abnormal) };
        assert_eq!(unread.way_out(), "end it first: gray release abort shop-2.0");
    }

    #[test]
    fn f8_a_policy_whose_stable_is_gray_waits_for_the_end_of_the_release() {
        let (old, new) = (policy("{ version: '1.0' }"), policy("{ version: '2.0' }"));
        for phase in Phase::ALL {
            let r = running(phase);
            assert_eq!(r.keeps_stable(&old, &old), Ok(()), "{phase:?}");
            let done = r.keeps_stable(&old, &new);
            if matches!(phase, Phase::Done | Phase::Closed | Phase::Failed) {
                assert_eq!(done, Ok(()), "{phase:?}");
                continue;
            }
            let e = done.unwrap_err();
            assert_eq!(e.kind, ErrorKind::Conflict);
            assert!(e.error.contains("stable of shop would be version=2.0"), "{}", e.error);
            assert!(
                e.help.contains("when shop-2.0 is done") && e.help.contains("gray release close"),
                "{}",
                e.help
            );
        }
        // By another selector, and one that was as wide all the time.
        let wide = policy("{ group: a }");
        assert!(running(Phase::Ramp).keeps_stable(&old, &wide).is_err());
        assert_eq!(running(Phase::Ramp).keeps_stable(&wide, &wide), Ok(()));
    }
}
