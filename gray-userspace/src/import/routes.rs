//! The document in the making: routes in order, what shadows what, and what was left out. Must not know XML.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::{Imported, Left, Wishes, arms::Choice, shown};
use crate::{
    config::{condition_text, default_route_name, is_name, limits},
    model::{Arm, Blacklist, ClaimKind, Condition, Policy, Route, Target, canonical_member},
};

pub(super) struct Routes<'a> {
    wishes: &'a Wishes,
    routes: Vec<Route>,
    /// By service and condition: where the route stands that goes first.
    seen: HashMap<(Option<String>, String), String>,
    names: HashSet<String>,
    claims: BTreeMap<ClaimKind, String>,
    left: Vec<Left>,
    pub(super) blacklist: Blacklist,
}

impl<'a> Routes<'a> {
    pub(super) fn new(wishes: &'a Wishes) -> Self {
        Self {
            wishes,
            routes: Vec::new(),
            seen: HashMap::new(),
            names: HashSet::new(),
            claims: BTreeMap::new(),
            left: Vec::new(),
            blacklist: Blacklist::default(),
        }
    }

    pub(super) fn leave(&mut self, place: String, what: impl Into<String>, why: impl Into<String>) {
        self.left.push(Left { place, what: what.into(), why: why.into() });
    }

    pub(super) fn done(self) -> Imported {
        Imported {
            policy: Policy { routes: self.routes, blacklist: self.blacklist, ..Policy::default() },
            claims: self.claims,
            left: self.left,
        }
    }

    /// A route for each service (`None`: every service), where it can be one.
    pub(super) fn choices(
        &mut self,
        place: &str,
        what: &str,
        when: Option<&Condition>,
        choices: BTreeMap<Option<String>, Choice>,
    ) {
        let for_all = choices.get(&None).cloned().unwrap_or_default();
        for (service, choice) in choices {
            let choice = if service.is_some() { choice.or(&for_all) } else { choice };
            match choice.arms() {
                Ok(arms) => self.route(place, what, service, when.cloned(), arms),
                Err(why) => {
                    let whose = service.map_or_else(String::new, |s| format!(" of {}", shown(&s)));
                    self.leave(place.to_owned(), format!("{what}{whose}"), why);
                }
            }
        }
    }

    pub(super) fn route(
        &mut self,
        place: &str,
        what: &str,
        service: Option<String>,
        when: Option<Condition>,
        arms: Vec<Arm>,
    ) {
        let Some(service) = self.named(place, what, service) else { return };
        let own = self.wishes.consumer.as_deref().and_then(|c| caller(c).ok());
        let when = match (own, when) {
            (Some(own), Some(when)) => Some(Condition::All(vec![own, when])),
            (own, when) => own.or(when),
        };
        let key = (service.clone(), when.as_ref().map_or_else(String::new, condition_text));
        if let Some(first) = self.seen.get(&key) {
            let why = format!("it never applies: what stands at {first} has the same clients and goes first");
            self.leave(
                place.to_owned(),
                format!("{what} of {}", service.as_deref().unwrap_or("every service")),
                why,
            );
            return;
        }
        let _ = self.seen.insert(key, place.to_owned());
        let to = Target::Arms(arms);
        let mut name = default_route_name(service.as_deref(), when.as_ref(), &to);
        if name.len() > limits::ROUTE_NAME_CHARS || self.names.contains(&name) {
            name = format!("imported-{}", self.routes.len() + 1);
        }
        let _ = self.names.insert(name.clone());
        self.routes.push(Route { name, service, when, to });
    }

    /// A service's name as documents have it; the outer `None`: it cannot be one.
    fn named(&mut self, place: &str, what: &str, service: Option<String>) -> Option<Option<String>> {
        let Some(given) = service else { return Some(None) };
        let name = given.to_lowercase();
        if is_name(&name) {
            return Some(Some(name));
        }
        let why = "no name here: 1 to 63 of a-z 0-9 . _ -";
        self.leave(place.to_owned(), format!("{what} of {}", shown(&given)), why);
        None
    }

    /// The condition that a header, parameter or cookie has a value.
    pub(super) fn asks(&mut self, name: &str, value: &str) -> Result<Condition, String> {
        let token = |c: u8| c.is_ascii_alphanumeric() || b"-_.".contains(&c);
        if name.is_empty() || name.len() > 64 || !name.bytes().all(token) {
            return Err(format!("`{}` is no name of a header", shown(name)));
        }
        let wished = self.wishes.claims.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, of)| *of);
        let of = wished.or_else(|| usual(name)).ok_or_else(|| {
            format!("nothing says which claim `{name}` is: give --claim {name}=user, or another claim")
        })?;
        match self.claims.get(&of) {
            Some(other) if !other.eq_ignore_ascii_case(name) => {
                return Err(format!(
                    "the claim {} is `{other}` already, and cannot be `{name}` too: give --claim {name}=..",
                    of.name()
                ));
            }
            _ => {}
        }
        let value = canonical_member(of, value).map_err(|e| e.to_string())?.into_owned();
        let _ = self.claims.entry(of).or_insert_with(|| name.to_owned());
        Ok(Condition::Claim { of, values: BTreeSet::from([value]) })
    }
}

/// The calls of a service: of the workload that has its name.
pub(super) fn caller(name: &str) -> Result<Condition, String> {
    let lower = name.to_lowercase();
    if !is_name(&lower) {
        return Err(format!("the caller `{}` is no name here: 1 to 63 of a-z 0-9 . _ -", shown(name)));
    }
    Ok(Condition::Claim { of: ClaimKind::Workload, values: BTreeSet::from([lower]) })
}

/// `X-User-Id`, `userId`, `user` -> user.
fn usual(name: &str) -> Option<ClaimKind> {
    let bare: String = name.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_lowercase();
    let bare = bare.strip_prefix('x').unwrap_or(&bare);
    let bare = bare.strip_suffix("id").filter(|b| !b.is_empty()).unwrap_or(bare);
    ClaimKind::READ.into_iter().find(|k| k.name() == bare)
}
