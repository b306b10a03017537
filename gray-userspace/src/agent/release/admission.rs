//! What an open release and the policy owe each other: whether one of them is refused because of the other, and what helps then.

use super::Running;
use crate::{
    agent::{core::Inner, health},
    api::{ApiError, ErrorKind, types::Problem},
    compile::is_far,
    model::{Instance, Policy, Selector, Service, ZoneAffinity},
    release::{Phase, SOURCE, ServiceSpec, Spec},
};

/// Instances that are named in one line.
const NAMED: usize = 3;

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

/// Nobody who is sent to gray of a service gets there.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unserved {
    pub why: String,
    pub help: String,
}

/// Routes alone bring nobody to gray: of each service what keeps everybody away. `out`: why an instance gets no new connections.
fn unserved(
    spec: &Spec,
    policy: &Policy,
    out: impl Fn(&Service, &Instance) -> Option<String>,
) -> Vec<Unserved> {
    let one = |s: &ServiceSpec| {
        let p = policy.service(&s.name)?;
        if p.shadow {
            let why = format!("{} is in shadow, which sends nobody to gray", p.name);
            return Some(Unserved {
                why,
                help: format!("apply a policy without the `shadow` of {}", p.name),
            });
        }
        let gray = p.instances.iter().filter(|i| s.gray.matches(i));
        // One that serves is enough.
        let out: Vec<String> = gray.map(|i| out(p, i)).collect::<Option<_>>()?;
        let shown = out.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
        let why = format!("gray of {} ({}) has no instance that serves", p.name, s.gray);
        let why = if shown.is_empty() { why } else { format!("{why}: {shown}") };
        let help = format!(
            "bring one back: `gray get instances` shows why, `gray instance restore {}/INSTANCE` ends a drain",
            p.name
        );
        Some(Unserved { why, help })
    };
    spec.services.iter().filter_map(one).collect()
}

impl Inner {
    /// `checked`: what health checks say counts, too; before the deployment they say nothing.
    pub(super) fn unserved(&self, spec: &Spec, checked: bool) -> Vec<Unserved> {
        let board = health::lock(&self.board);
        let (kept, now) = (board.kept(), health::now());
        unserved(spec, &self.policy, |s, i| {
            let target = board.target(&s.name, &i.id).filter(|_| checked && !kept.contains(&*s.name));
            let why = match target.filter(|t| !t.machine.is_up()) {
                _ if self.drained.contains(&health::board::id(&s.name, &i.id)) => "drained",
                _ if self.policy.is_blacklisted(&s.name, i) => "blacklisted",
                _ if s.zone_affinity == ZoneAffinity::Only && is_far(s, i, self.zone.as_deref()) => {
                    "in another zone"
                }
                Some(t) => t.state(now),
                None => return None,
            };
            Some(format!("{} is {why}", i.id))
        })
    }

    /// A command that sends people to gray is for gray that serves them.
    pub(super) fn is_served(&self, spec: &Spec, checked: bool) -> Result<(), ApiError> {
        match self.unserved(spec, checked).into_iter().next() {
            None => Ok(()),
            Some(one) => Err(ApiError::conflict(one.why, one.help)),
        }
    }
}

/// What an open release needs is missing. The same documents may be right when the release is over.
pub(in crate::agent) fn could_not_go_on(e: ApiError) -> ApiError {
    ApiError {
        kind: ErrorKind::Conflict,
        error: format!("a release that is open could not go on: {}", e.error),
        help:
            "nothing was changed; keep what it needs, or end it first: gray release abort, gray release close"
                .into(),
        problems: e.problems.into_iter().map(unwritten).collect(),
    }
}

/// Of the documents of people and of releases together: what is wrong in a release's alone is missing in the people's.
pub(in crate::agent) fn not_loaded(e: ApiError) -> ApiError {
    let mut placed = e.problems.iter().filter(|p| p.file.is_some()).peekable();
    if placed.peek().is_some() && placed.all(is_ours) {
        return could_not_go_on(e);
    }
    ApiError { problems: e.problems.into_iter().map(unwritten).collect(), ..e }
}

fn is_ours(p: &Problem) -> bool {
    p.file.as_deref().is_some_and(|f| f.starts_with(SOURCE))
}

/// A place in a release's document says nothing to anybody: nobody wrote it.
fn unwritten(p: Problem) -> Problem {
    match p.file.as_deref().and_then(|f| f.strip_prefix(SOURCE)) {
        Some(name) => {
            Problem { help: p.help, ..Problem::note(format!("{name}, which is open: {}", p.message)) }
        }
        None => p,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::{self, Source},
        release::State,
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

    #[test]
    fn d4_what_a_release_misses_is_said_of_the_release() {
        let cart = "services:\n  cart: { listen: ['198.18.1.101:80'], stable: { version: '1.0' }, instances: [{ address: '198.18.2.2:80', version: '1.0' }] }\n";
        let own = Source::new("policy.yaml", cart);
        let ours = Source::new(
            "release/shop-2.0",
            "cohorts:\n  release-shop-2.0: { percent: 25, salt: \"s\" }\nroutes:\n  - { name: release-shop-2.0-0-percent, service: \"shop\", when: \"release-shop-2.0\", to: { version: \"2.0\" } }\n",
        );
        let load = |own: &Source| {
            not_loaded(ApiError::from(
                &config::load(&[own.clone(), ours.clone()]).expect_err("it needs shop"),
            ))
        };
        let e = load(&own);
        assert_eq!(e.kind, ErrorKind::Conflict);
        assert!(e.error.contains("a release that is open could not go on"), "{e:?}");
        assert!(!e.help.contains("correct the document"), "{e:?}");
        let nobody_wrote = |p: &Problem| p.file.is_some() || p.rendered.is_some() || p.snippet.is_some();
        assert!(!e.problems.is_empty() && !e.problems.iter().any(nobody_wrote), "{e:?}");
        assert!(e.problems[0].message.starts_with("shop-2.0, which is open: "), "{e:?}");
        assert!(e.problems[0].message.contains("shop"), "{e:?}");
        // What the people's own documents have wrong is theirs to correct, first.
        let e = load(&Source::new("policy.yaml", format!("{cart}routs: []\n")));
        assert_eq!(e.kind, ErrorKind::Invalid);
        assert!(e.problems.iter().all(|p| p.file.as_deref().is_none_or(|f| f == "policy.yaml")), "{e:?}");
        assert!(e.problems.iter().any(|p| p.file.is_some()), "{e:?}");
    }

    #[test]
    fn f7_gray_that_nobody_would_get_to_is_said() {
        let mut p = policy("{ version: '1.0' }");
        let spec = running(Phase::Ramp).spec;
        let drained = |name: &'static str| {
            move |_: &Service, i: &Instance| i.id.contains(name).then(|| format!("{} is drained", i.id))
        };
        assert_eq!(unserved(&spec, &p, drained("198.18.2.2")), [], "stable's");
        let all = unserved(&spec, &p, drained("198.18.2.3"));
        assert_eq!(all.len(), 1);
        let why = "gray of shop (version=2.0) has no instance that serves: 198.18.2.3:80 is drained";
        assert_eq!(all[0].why, why);
        assert!(all[0].help.contains("gray instance restore shop/"), "{}", all[0].help);
        p.services[0].shadow = true;
        let all = unserved(&spec, &p, |_, _| None);
        assert!(
            all[0].why.contains("shop is in shadow") && all[0].help.contains("`shadow` of shop"),
            "{all:?}"
        );
        p.services[0].shadow = false;
        // One of two is enough.
        let other = Instance { id: "other".into(), ..p.services[0].instances[1].clone() };
        p.services[0].instances.push(other);
        assert_eq!(unserved(&spec, &p, drained("198.18.2.3")), []);
        assert_eq!(unserved(&spec, &p, drained("")).len(), 1);
    }
}
