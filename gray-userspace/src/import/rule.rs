//! The elements of a rule, each to routes or to the list of what is left out. In the order in which the framework asks them:
//! blue-green, gray, the strategy for everybody, the rules of discovery.

use std::collections::{BTreeMap, BTreeSet};

use roxmltree::{Document, Node};

use super::{
    arms::{self, Choice},
    expression,
    routes::{Routes, caller},
    shown,
};
use crate::model::{Condition, MetaKey, Selector};

pub(super) struct File<'a> {
    pub name: &'a str,
    /// Lines before the text.
    pub before: usize,
    pub tree: &'a Document<'a>,
}

impl File<'_> {
    fn place(&self, node: Node<'_, '_>) -> String {
        let row = self.tree.text_pos_at(node.range().start).row as usize;
        format!("{}:{}", self.name, self.before + row)
    }
}

pub(super) fn read(file: &File<'_>, root: Node<'_, '_>, to: &mut Routes<'_>) {
    let all = |names: &'static [&str]| elements(root).filter(move |n| names.contains(&tag(*n)));
    for node in all(&["strategy-release", "strategy-customization"]) {
        release(file, node, to);
    }
    for node in all(&["strategy"]) {
        let choices = choices(file, elements(node).map(|n| (n, kind(tag(n)), text(n))), to);
        to.choices(&file.place(node), "the strategy", None, choices);
    }
    for node in all(&["discovery"]) {
        discovery(file, node, to);
    }
    for node in elements(root) {
        let why = match tag(node) {
            "strategy-release" | "strategy-customization" | "strategy" | "discovery" => continue,
            "register" => "who may register is for the registry to say",
            "strategy-blacklist" => {
                blacklist(file, node, to);
                continue;
            }
            "strategy-failover" => {
                "say it at each service: failover-by: { version: { version: .. }, region: any } and failover: stable, any, deny"
            }
            "parameter" => "parameters are the applications' own",
            _ => "an element that is not known",
        };
        to.leave(file.place(node), format!("<{}>", shown(tag(node))), why);
    }
}

/// Of all services together.
fn blacklist(file: &File<'_>, node: Node<'_, '_>, to: &mut Routes<'_>) {
    for list in elements(node) {
        let key = match tag(list) {
            "id" => MetaKey::Id,
            "address" => MetaKey::Address,
            _ => {
                to.leave(file.place(list), format!("<{}>", shown(tag(list))), "an element that is not known");
                continue;
            }
        };
        let text = text(list);
        let found = if text.starts_with('{') {
            Err("a list for each service: give it there, services.NAME.blacklist".to_owned())
        } else {
            arms::values(key, &text)
        };
        match found {
            Ok(more) if key == MetaKey::Id => to.blacklist.ids.extend(more),
            Ok(more) => to.blacklist.addresses.extend(more),
            Err(why) => to.leave(file.place(list), format!("the blacklist by {}", key.name()), why),
        }
    }
}

fn elements<'a, 'i>(node: Node<'a, 'i>) -> impl Iterator<Item = Node<'a, 'i>> {
    node.children().filter(Node::is_element)
}

fn tag<'a>(node: Node<'a, '_>) -> &'a str {
    node.tag_name().name()
}

/// The element's text, or its `value`.
fn text(node: Node<'_, '_>) -> String {
    let inside: String = node.children().filter_map(|n| n.text()).collect();
    let inside = inside.trim();
    if inside.is_empty() {
        node.attribute("value").unwrap_or_default().trim().to_owned()
    } else {
        inside.to_owned()
    }
}

/// What a value is about, and whether it has weights.
fn kind(name: &str) -> Option<(MetaKey, bool)> {
    Some(match name {
        "version" => (MetaKey::Version, false),
        "region" => (MetaKey::Region, false),
        "address" => (MetaKey::Address, false),
        "version-weight" => (MetaKey::Version, true),
        "region-weight" => (MetaKey::Region, true),
        _ => return None,
    })
}

/// One value for every service, or JSON with one for each.
fn per_service(text: &str) -> Result<Vec<(Option<String>, String)>, String> {
    if !text.starts_with('{') {
        return Ok(vec![(None, text.to_owned())]);
    }
    let map: BTreeMap<String, serde_json::Value> =
        serde_json::from_str(text).map_err(|e| format!("no JSON of services: {e}"))?;
    map.into_iter()
        .map(|(service, value)| match value {
            serde_json::Value::String(v) => Ok((Some(service), v)),
            _ => Err(format!("the value of {} is no text", shown(&service))),
        })
        .collect()
}

/// What a set of values chooses, by service.
fn choices<'a, 'i: 'a>(
    file: &File<'_>,
    values: impl Iterator<Item = (Node<'a, 'i>, Option<(MetaKey, bool)>, String)>,
    to: &mut Routes<'_>,
) -> BTreeMap<Option<String>, Choice> {
    let mut out: BTreeMap<Option<String>, Choice> = BTreeMap::new();
    for (node, kind, text) in values {
        let what = || format!("<{}>", shown(tag(node)));
        let Some((key, has_weights)) = kind else {
            to.leave(file.place(node), what(), "an element that is not known");
            continue;
        };
        let each = match per_service(&text) {
            Ok(each) => each,
            Err(why) => {
                to.leave(file.place(node), what(), why);
                continue;
            }
        };
        for (service, value) in each {
            let choice = out.get(&service).cloned().unwrap_or_default();
            match with(choice, key, has_weights, &value) {
                Ok(choice) => drop(out.insert(service, choice)),
                Err(why) => {
                    let whose = service.map_or_else(String::new, |s| format!(" of {}", shown(&s)));
                    to.leave(file.place(node), what() + &whose, why);
                }
            }
        }
    }
    out
}

fn with(mut choice: Choice, key: MetaKey, has_weights: bool, value: &str) -> Result<Choice, String> {
    if !has_weights {
        let _ = choice.pairs.insert(key, arms::values(key, value)?);
    } else if let Some((other, _)) = &choice.weights {
        return Err(format!("weights by {} go first", other.name()));
    } else {
        choice.weights = Some((key, arms::weights(key, value)?));
    }
    Ok(choice)
}

/// `conditions` of both types, and the routes that they name.
fn release(file: &File<'_>, node: Node<'_, '_>, to: &mut Routes<'_>) {
    let routes: BTreeMap<&str, Node<'_, '_>> = elements(node)
        .filter(|n| tag(*n) == "routes")
        .flat_map(elements)
        .filter_map(|n| Some((n.attribute("id")?, n)))
        .collect();
    let mut everybody = None;
    for wanted in ["blue-green", "gray"] {
        for conditions in
            elements(node).filter(|n| tag(*n) == "conditions" && n.attribute("type") == Some(wanted))
        {
            for condition in elements(conditions) {
                let place = file.place(condition);
                let what =
                    format!("the {wanted} condition {}", shown(condition.attribute("id").unwrap_or("?")));
                if let Some(first) = &everybody {
                    to.leave(
                        place,
                        what,
                        format!("it never applies: {first} is for everybody and goes first"),
                    );
                    continue;
                }
                let given = condition.attribute("expression").or_else(|| condition.attribute("header"));
                let given = given.map(str::trim).filter(|e| !e.is_empty());
                let when = match given.map(|e| expression::read(e, &mut |n, v| to.asks(n, v))).transpose() {
                    Ok(when) => when,
                    Err(why) => {
                        to.leave(place, what, why);
                        continue;
                    }
                };
                if when.is_none() {
                    everybody = Some(place.clone());
                }
                let at = Asked { file, node: condition, what: &what, when: when.as_ref() };
                if wanted == "gray" { at.gray(&routes, to) } else { at.blue_green(&routes, to) }
            }
        }
    }
    for other in elements(node) {
        let known = match tag(other) {
            "routes" => true,
            "conditions" => matches!(other.attribute("type"), Some("blue-green" | "gray")),
            _ => false,
        };
        if !known {
            to.leave(file.place(other), format!("<{}>", shown(tag(other))), "nothing is put into requests");
        }
    }
}

/// One `condition`.
struct Asked<'f, 'a, 'i: 'a> {
    file: &'f File<'f>,
    node: Node<'a, 'i>,
    what: &'f str,
    when: Option<&'f Condition>,
}

impl Asked<'_, '_, '_> {
    /// The attributes that name routes.
    fn named(&self) -> Vec<(&'static str, &str)> {
        let ids = ["version-id", "region-id", "address-id", "version-weight-id", "region-weight-id"];
        ids.into_iter().filter_map(|id| Some((id, self.node.attribute(id)?.trim()))).collect()
    }

    fn leave(&self, why: impl Into<String>, to: &mut Routes<'_>) {
        to.leave(self.file.place(self.node), self.what, why);
    }

    fn blue_green(&self, routes: &BTreeMap<&str, Node<'_, '_>>, to: &mut Routes<'_>) {
        let mut values = Vec::new();
        for (id, name) in self.named() {
            match routes.get(name) {
                Some(route) => values.push((*route, kind(id.trim_end_matches("-id")), text(*route))),
                None => self.leave(format!("there is no route `{}`", shown(name)), to),
            }
        }
        if values.is_empty() && self.named().is_empty() {
            self.leave("it names no route", to);
        }
        let choices = choices(self.file, values.into_iter(), to);
        to.choices(&self.file.place(self.node), self.what, self.when, choices);
    }

    /// `version-id="a=10;b=90"`: of each service, what each route says of it, with the route's weight.
    fn gray(&self, routes: &BTreeMap<&str, Node<'_, '_>>, to: &mut Routes<'_>) {
        let named = self.named();
        let Some((id, shares)) = named.first() else { return self.leave("it names no route", to) };
        for (other, _) in &named[1..] {
            self.leave(format!("`{other}` beside `{id}`: only one of them is divided"), to);
        }
        let Some((key, false)) = kind(id.trim_end_matches("-id")) else {
            return self.leave(format!("`{id}` of a gray condition"), to);
        };
        let shares = match arms::weighted(shares) {
            Ok(shares) => shares,
            Err(why) => return self.leave(why, to),
        };
        let mut by_service: BTreeMap<Option<String>, Vec<(Selector, u64)>> = BTreeMap::new();
        let mut parts = Vec::new();
        for (name, weight) in &shares {
            let Some(route) = routes.get(name.as_str()) else {
                return self.leave(format!("there is no route `{}`", shown(name)), to);
            };
            let part = choices(self.file, std::iter::once((*route, Some((key, false)), text(*route))), to);
            parts.push((part, *weight));
        }
        let services: BTreeSet<Option<String>> = parts.iter().flat_map(|(p, _)| p.keys().cloned()).collect();
        for service in services {
            for (part, weight) in &parts {
                let choice = part.get(&service).or_else(|| part.get(&None));
                let pairs = choice.map(|c| c.pairs.clone()).unwrap_or_default();
                by_service.entry(service.clone()).or_default().push((Selector(pairs), *weight));
            }
        }
        for (service, given) in by_service {
            match arms::shares(given) {
                Ok(arms) => {
                    to.route(&self.file.place(self.node), self.what, service, self.when.cloned(), arms)
                }
                Err(why) => {
                    let whose = service.map_or_else(String::new, |s| format!(" of {}", shown(&s)));
                    to.leave(self.file.place(self.node), format!("{}{whose}", self.what), why);
                }
            }
        }
    }
}

/// Rules by who calls whom, and weights.
fn discovery(file: &File<'_>, node: Node<'_, '_>, to: &mut Routes<'_>) {
    for part in elements(node) {
        match tag(part) {
            "version" => called(file, part, MetaKey::Version, to),
            "region" => called(file, part, MetaKey::Region, to),
            "weight" => weight(file, part, to),
            "blacklist" | "whitelist" => {
                let why =
                    "which addresses are found is for the registry to say: leave them out of `instances`";
                to.leave(file.place(part), format!("<{}> of discovery", tag(part)), why);
            }
            other => {
                to.leave(file.place(part), format!("<{}>", shown(other)), "an element that is not known")
            }
        }
    }
}

fn attribute<'a>(node: Node<'a, '_>, name: &str) -> Option<&'a str> {
    node.attribute(name).map(str::trim).filter(|v| !v.is_empty())
}

fn called(file: &File<'_>, part: Node<'_, '_>, key: MetaKey, to: &mut Routes<'_>) {
    for rule in elements(part) {
        let (place, what) = (file.place(rule), format!("a rule by {}", key.name()));
        let of = |who: &str| attribute(rule, &format!("{who}-{}-value", key.name()));
        let why = match (attribute(rule, "provider-service-name"), of("consumer"), of("provider")) {
            (None, ..) => "it names no provider",
            (_, Some(_), _) => {
                "the caller's version or region is no claim: a lane keeps a chain of one version together"
            }
            (_, None, None) => "it names no value of the provider",
            (Some(provider), None, Some(value)) => {
                let choice = match arms::values(key, value) {
                    Ok(any) => Choice { pairs: BTreeMap::from([(key, any)]), weights: None },
                    Err(why) => {
                        to.leave(place, what, why);
                        continue;
                    }
                };
                let when = match attribute(rule, "consumer-service-name").map(caller).transpose() {
                    Ok(when) => when,
                    Err(why) => {
                        to.leave(place, what, why);
                        continue;
                    }
                };
                let choices = BTreeMap::from([(Some(provider.to_owned()), choice)]);
                to.choices(&place, &what, when.as_ref(), choices);
                continue;
            }
        };
        to.leave(place, what, why);
    }
}

/// Version before region, one caller's before everybody's: so the framework asks.
fn weight(file: &File<'_>, part: Node<'_, '_>, to: &mut Routes<'_>) {
    let mut for_all = None;
    for key in [MetaKey::Version, MetaKey::Region] {
        let is = |n: &Node<'_, '_>| match tag(*n) {
            "service" => n.attribute("type").unwrap_or("version") == key.name(),
            name => name == key.name(),
        };
        let mut rules: Vec<_> = elements(part).filter(is).collect();
        rules.sort_by_key(|n| (tag(*n) != "service", attribute(*n, "consumer-service-name").is_none()));
        for rule in rules {
            let (place, what) = (file.place(rule), format!("a weight by {}", key.name()));
            let provider = attribute(rule, "provider-service-name").map(str::to_owned);
            if tag(rule) == "service" && provider.is_none() {
                to.leave(place, what, "it names no provider");
                continue;
            }
            if let Some(first) = &for_all {
                to.leave(
                    place,
                    what,
                    format!("it never applies: {first} is for all services, by version, and goes first"),
                );
                continue;
            }
            let given = attribute(rule, "provider-weight-value").unwrap_or_default();
            let choice = match arms::weights(key, given) {
                Ok(weights) => Choice { pairs: BTreeMap::new(), weights: Some((key, weights)) },
                Err(why) => {
                    to.leave(place, what, why);
                    continue;
                }
            };
            let when = match attribute(rule, "consumer-service-name").map(caller).transpose() {
                Ok(when) => when,
                Err(why) => {
                    to.leave(place, what, why);
                    continue;
                }
            };
            to.choices(&place, &what, when.as_ref(), BTreeMap::from([(provider, choice)]));
        }
        for_all = elements(part).find(|n| tag(*n) == key.name()).map(|n| file.place(n)).or(for_all);
    }
    for other in elements(part).filter(|n| !["service", "version", "region"].contains(&tag(*n))) {
        to.leave(file.place(other), format!("<{}>", shown(tag(other))), "an element that is not known");
    }
}
