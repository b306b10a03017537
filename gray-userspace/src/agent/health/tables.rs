//! What a subset's tables hold when some of its instances are down or starting. Pure.

use std::borrow::Cow;

use gray_common::{
    slots::Slots,
    wire::{
        ARM_STABLE, SUBSET_AWAY4, SUBSET_AWAY6, SUBSET_DENY, SUBSET_NEAR4, SUBSET_NEAR6, SUBSET_REFUSE,
        SUBSET_SPARE4, SUBSET_SPARE6,
    },
};

use crate::{
    compile::{Family, Member, SubsetPlan, Who, placed::Content},
    model::{Empty, Instance, Service},
};

/// A subset's tables, and whether one of them is as if all were up though none is.
#[derive(Clone, Debug)]
pub struct Made<'a> {
    pub content: Content<'a>,
    pub kept: bool,
}

/// `share`: per cent of its weight that an instance gets. `ready`: the policy's own tables, if they are at hand.
pub fn made<'a>(
    who: &Who,
    arm: u32,
    service: &Service,
    share: impl Fn(&Instance) -> u32,
    ready: Option<&'a SubsetPlan>,
) -> Made<'a> {
    let keep = arm == ARM_STABLE || service.health.as_ref().is_some_and(|h| h.empty == Empty::Keep);
    let one = |family: &Family, ready: Option<&'a Slots>| {
        let of = |m: &Member| service.instances.get(m.instance).map_or(100, &share);
        // Drained ones are out, whatever their health is.
        let serving: Vec<(&Member, u32)> =
            family.members.iter().filter(|m| !m.drained).map(|m| (m, of(m))).collect();
        let kept = keep && !serving.is_empty() && serving.iter().all(|(_, s)| *s == 0);
        let spare = !kept && family.is_away(of);
        // The policy's own table is of the spare ones only where there was never anybody else.
        let whole = match (kept, spare) {
            (true, _) => true,
            (_, true) => {
                let first = family.instead(|_| 100);
                serving.is_empty() && first.is_some_and(|all| all.iter().all(|m| m.drained || of(m) == 100))
            }
            _ => serving.iter().all(|(_, s)| *s == 100) && (!serving.is_empty() || family.spare.is_empty()),
        };
        let slots = match ready {
            Some(ready) if whole => Cow::Borrowed(ready),
            _ if whole => Cow::Owned(family.table(service, |_| 100)),
            _ => Cow::Owned(family.table(service, of)),
        };
        let dialled = |m: &Member| {
            let at = service.instances.get(m.instance).map(|i| i.address);
            service.listen.iter().any(|l| Some(l.addr) == at)
        };
        let away = !kept && !slots.is_empty() && serving.iter().any(|(m, s)| *s == 0 && dialled(m));
        // Kept: as if all were up.
        let near = family.is_near(service, |m| if kept { 100 } else { of(m) });
        let stable = arm == ARM_STABLE;
        (slots, kept, (away && stable, near && stable, spare))
    };
    let (v4, kept4, (away4, near4, spare4)) = one(&who.v4, ready.map(|p| &p.v4));
    let (v6, kept6, (away6, near6, spare6)) = one(&who.v6, ready.map(|p| &p.v6));
    let flag = |on, bit| if on { bit } else { 0 };
    let flags = flag(away4, SUBSET_AWAY4)
        | flag(away6, SUBSET_AWAY6)
        | flag(near4, SUBSET_NEAR4)
        | flag(near6, SUBSET_NEAR6)
        | flag(spare4, SUBSET_SPARE4)
        | flag(spare6, SUBSET_SPARE6)
        | flag(who.refuse, SUBSET_REFUSE)
        | flag(who.deny, SUBSET_DENY);
    Made { content: Content { v4, v6, flags }, kept: kept4 || kept6 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::testing;

    /// The share of each instance by its id, of the subset with this name; ids in the table, flags, kept.
    fn table(document: &str, subset: &str, down: &[&str]) -> (Vec<String>, u32, bool) {
        let (policy, compiled) = testing::compiled(document);
        let plan = compiled.subsets.iter().find(|s| s.name == subset).unwrap();
        let service = &policy.services[0];
        let share = |i: &Instance| if down.contains(&i.id.as_str()) { 0 } else { 100 };
        let m = made(&plan.who, plan.arm, service, share, Some(plan));
        let again = made(&plan.who, plan.arm, service, share, None);
        assert_eq!((&m.content.v4, &m.content.v6), (&again.content.v4, &again.content.v6));
        let id = |n: u32| {
            let member = plan.who.v4.members.iter().find(|m| m.number == n).unwrap();
            service.instances[member.instance].id.clone()
        };
        let mut ids: Vec<String> = m.content.v4.iter().map(id).collect();
        let len = ids.len();
        assert!(len == 0 || len == plan.v4.len() as usize, "the size stays");
        ids.sort();
        ids.dedup();
        (ids, m.content.flags, m.kept)
    }

    fn shop(listen: &str, empty: &str) -> String {
        format!(
            "services:
  shop:
    listen: ['{listen}']
    health: {{ check: tcp, empty: {empty} }}
    instances:
      - {{ address: '198.18.2.1:80', version: '1', id: s1 }}
      - {{ address: '198.18.2.2:80', version: '1', id: s2 }}
      - {{ address: '198.18.2.3:80', version: '2', id: g1 }}
      - {{ address: '198.18.2.4:80', version: '2', id: g2 }}
    stable: {{ version: '1' }}
routes: [{{ service: shop, to: {{ version: '2' }} }}]
"
        )
    }

    #[test]
    fn who_is_down_gets_nothing_and_an_empty_subset_is_as_configured() {
        let far = shop("198.18.1.100:80", "stable");
        let (stable, gray) = ("shop: version=1", "shop: version=2");
        let ids = |ids: &[&str]| ids.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(table(&far, gray, &[]), (ids(&["g1", "g2"]), 0, false));
        assert_eq!(table(&far, gray, &["g1"]), (ids(&["g2"]), 0, false));
        assert_eq!(table(&far, gray, &["g1", "g2"]), (ids(&[]), 0, false), "its clients go to stable");
        assert_eq!(table(&far, stable, &["s1"]), (ids(&["s2"]), 0, false));
        assert_eq!(table(&far, stable, &["s1", "s2"]), (ids(&["s1", "s2"]), 0, true), "stable is kept");
        let keep = shop("198.18.1.100:80", "keep");
        assert_eq!(table(&keep, gray, &["g1", "g2"]), (ids(&["g1", "g2"]), 0, true));
    }

    /// `m1` is spare. Who is drained counts as who is down.
    #[test]
    fn c6_spare_instances_serve_while_the_own_are_down() {
        let with = |failover: &str, more: &str| {
            shop("198.18.1.100:80", "stable").replace(
                "    stable:",
                &format!("      - {{ address: '198.18.2.5:80', version: '1.5', id: m1 }}\n    failover: {failover}\n{more}    stable:"),
            )
        };
        let gray = "shop: version=2";
        let ids = |ids: &[&str]| ids.iter().map(ToString::to_string).collect::<Vec<_>>();
        let who = |text: &str, down: &[&str]| {
            let (policy, compiled) = testing::compiled(text);
            let plan = compiled.subsets.iter().find(|s| s.name == gray).unwrap();
            let share = |i: &Instance| if down.contains(&i.id.as_str()) { 0 } else { 100 };
            let m = made(&plan.who, plan.arm, &policy.services[0], share, Some(plan));
            let again = made(&plan.who, plan.arm, &policy.services[0], share, None);
            assert_eq!(m.content.v4, again.content.v4, "{down:?}");
            let of = |n: u32| {
                let all = plan.who.v4.members.iter().chain(plan.who.v4.spare.iter().flatten());
                let member = all.clone().find(|m| m.number == n).unwrap();
                policy.services[0].instances[member.instance].id.clone()
            };
            let found: std::collections::BTreeSet<String> = m.content.v4.iter().map(of).collect();
            (found.into_iter().collect::<Vec<_>>(), m.content.flags)
        };
        let named = with("{ version: '1.5' }", "");
        assert_eq!(who(&named, &[]), (ids(&["g1", "g2"]), 0));
        assert_eq!(who(&named, &["g1"]), (ids(&["g2"]), 0));
        assert_eq!(who(&named, &["g1", "g2"]), (ids(&["m1"]), SUBSET_SPARE4));
        assert_eq!(who(&named, &["g1", "g2", "m1"]), (ids(&[]), 0), "then stable");
        let any = with("any", "");
        assert_eq!(who(&any, &["g1", "g2"]), (ids(&["m1", "s1", "s2"]), SUBSET_SPARE4));
        assert_eq!(who(&any, &["g1", "g2", "s1"]), (ids(&["m1", "s2"]), SUBSET_SPARE4));
        let out = with("{ version: '1.5' }", "    blacklist: { ids: [g1, g2] }\n");
        assert_eq!(who(&out, &[]), (ids(&["m1"]), SUBSET_SPARE4));
        assert_eq!(who(&out, &["m1"]), (ids(&[]), 0));
        // One after the other, then any; and who ends otherwise than the service says.
        let chain = with("any", "    failover-by: { version: { version: '1.5' } }\n");
        assert_eq!(who(&chain, &["g1"]), (ids(&["g2"]), 0));
        assert_eq!(who(&chain, &["g1", "g2"]), (ids(&["m1"]), SUBSET_SPARE4));
        assert_eq!(who(&chain, &["g1", "g2", "m1"]), (ids(&["s1", "s2"]), SUBSET_SPARE4));
        assert_eq!(who(&chain, &["g1", "g2", "m1", "s1", "s2"]), (ids(&[]), 0));
        let out = with(
            "any",
            "    failover-by: { version: { version: '1.5' } }\n    blacklist: { ids: [g1, g2, m1] }\n",
        );
        assert_eq!(who(&out, &[]), (ids(&["s1", "s2"]), SUBSET_SPARE4));
        assert_eq!(who(&out, &["s1"]), (ids(&["s2"]), SUBSET_SPARE4));
        let deny = with("stable", "    failover-by: { version: deny }\n");
        assert_eq!(who(&deny, &["g1", "g2"]), (ids(&[]), SUBSET_DENY));
        let both = with("{ version: '1.5' }", "    blacklist: { ids: [g1] }\n");
        assert_eq!(who(&both, &["g2"]), (ids(&["m1"]), SUBSET_SPARE4));
    }

    /// `s1` and `g1` are of the agent's zone.
    #[test]
    fn c4_other_zones_serve_while_nobody_of_the_own_one_does() {
        let who = |affinity: &str, subset: &str, down: &[&str]| {
            let text = shop("198.18.1.100:80", "stable")
                .replace("id: s1", "id: s1, zone: z1")
                .replace("id: s2", "id: s2, zone: z2")
                .replace("id: g1", "id: g1, zone: z1")
                .replace("    stable:", &format!("    zone-affinity: {affinity}\n    stable:"));
            let (policy, compiled) = testing::compiled_in(Some("z1"), &text);
            let plan = compiled.subsets.iter().find(|s| s.name == subset).unwrap();
            let service = &policy.services[0];
            let share = |i: &Instance| if down.contains(&i.id.as_str()) { 0 } else { 100 };
            let m = made(&plan.who, plan.arm, service, share, Some(plan));
            let again = made(&plan.who, plan.arm, service, share, None);
            assert_eq!(m.content.v4, again.content.v4, "{down:?}");
            let of = |n: u32| plan.who.v4.members.iter().find(|m| m.number == n).unwrap().instance;
            let ids: std::collections::BTreeSet<&str> =
                m.content.v4.iter().map(|n| service.instances[of(n)].id.as_str()).collect();
            (ids.into_iter().collect::<Vec<_>>().join(" "), m.kept)
        };
        let (stable, gray) = ("shop: version=1", "shop: version=2");
        for (affinity, subset, down, ids, kept) in [
            ("off", stable, &[][..], "s1 s2", false),
            ("prefer", stable, &[], "s1", false),
            ("prefer", stable, &["s2"], "s1", false),
            ("prefer", stable, &["s1"], "s2", false),
            ("prefer", stable, &["s1", "s2"], "s1", true),
            ("prefer", gray, &[], "g1", false),
            ("prefer", gray, &["g1"], "g2", false),
            ("prefer", gray, &["g1", "g2"], "", false),
            ("only", gray, &[], "g1", false),
            ("only", gray, &["g1"], "", false),
            ("only", stable, &["s1"], "s1", true),
        ] {
            assert_eq!(who(affinity, subset, down), (ids.to_owned(), kept), "{affinity} {subset} {down:?}");
        }
    }

    #[test]
    fn stable_leaves_the_dialled_address_while_its_instance_is_down() {
        let own = shop("198.18.2.1:80", "stable");
        let flags = |down: &[&str]| table(&own, "shop: version=1", down).1;
        assert_eq!(flags(&[]), 0);
        assert_eq!(flags(&["s1"]), SUBSET_AWAY4);
        assert_eq!(flags(&["s2"]), 0, "another one is dialled");
        assert_eq!(flags(&["s1", "s2"]), 0, "all down: as if all were up");
        assert_eq!(table(&own, "shop: version=2", &["g1"]).1, 0);
    }
}
