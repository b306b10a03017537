//! Rule files as people have them, to documents that are read, together with services, as a policy.

use std::collections::{BTreeMap, BTreeSet};

use super::{Imported, Wishes, discovery};
use crate::{
    config::{Source, load, to_yaml},
    model::ClaimKind,
};

fn wishes() -> Wishes {
    Wishes { claims: BTreeMap::from([("os".to_owned(), ClaimKind::Platform)]), consumer: None }
}

fn file(name: &str) -> Imported {
    let path = format!("{}/tests/import/{name}", env!("CARGO_MANIFEST_DIR"));
    discovery(name, &std::fs::read_to_string(path).unwrap(), &wishes()).unwrap()
}

fn rule(inside: &str) -> Imported {
    discovery("rule.xml", &format!("<rule>{inside}</rule>"), &wishes()).unwrap()
}

fn left(found: &Imported) -> Vec<String> {
    found.left.iter().map(|l| format!("{} {}: {}", l.place, l.what, l.why)).collect()
}

fn routes(found: &Imported) -> Vec<String> {
    let text = to_yaml(&found.policy);
    text.lines()
        .skip_while(|l| *l != "routes:")
        .skip(1)
        .map(|l| l.trim_start_matches("  - ").to_owned())
        .collect()
}

/// Services that have what the routes name.
fn services(found: &Imported) -> String {
    let claims: Vec<_> =
        found.claims.iter().map(|(of, name)| format!("{}: {{ header: {name} }}", of.name())).collect();
    let claims =
        if claims.is_empty() { String::new() } else { format!(" claims: {{ {} }},", claims.join(", ")) };
    let names: BTreeSet<_> = found.policy.routes.iter().filter_map(|r| r.service.clone()).collect();
    let mut out = String::from("services:\n");
    for (i, name) in names.iter().enumerate() {
        let mut all = String::new();
        for (j, (version, region)) in
            ["1.0", "1.1", "1.2"].into_iter().flat_map(|v| ["dev", "qa"].map(|r| (v, r))).enumerate()
        {
            all += &format!(
                "{{ address: '192.168.{i}.{}:110{j}', version: '{version}', region: {region} }}, ",
                if j == 0 { 102 } else { 10 + j }
            );
        }
        out += &format!(
            "  {name}: {{ listen: ['10.0.0.{i}:80'],{claims} instances: [{all}], stable: {{ version: '1.0' }} }}\n"
        );
    }
    out
}

fn is_read(found: &Imported) {
    let (services, made) = (services(found), to_yaml(&found.policy));
    let loaded = load(&[Source::new("services", services.as_str()), Source::new("made", made.as_str())]);
    let policy = loaded.unwrap_or_else(|e| panic!("{e}\n{services}{made}")).policy;
    assert_eq!(policy.routes, found.policy.routes);
}

#[test]
fn d3_the_strategy_for_everybody() {
    let found = file("strategy.xml");
    assert_eq!(
        routes(&found),
        [
            r#"{ to: { region: "dev" } }"#,
            r#"{ service: shop-a, to: { version: "1.0", region: "dev", address: ["192.168.*.102", "192.168.43.101:1100"] } }"#,
            r#"{ service: shop-b, to: { version: ["1.0", "1.1"], region: "dev" } }"#,
        ]
    );
    assert_eq!(left(&found), [""; 0]);
    is_read(&found);
}

#[test]
fn d3_blue_green_and_gray_conditions() {
    let found = file("release.xml");
    let blue = "when: { all: [{ user: \"1\" }, { not: { platform: \"ios\" } }] }";
    let green =
        "when: { all: [{ any: [{ user: \"138*\" }, { user: \"2\" }] }, { not: { platform: \"web\" } }] }";
    let want = [
        format!(r#"{{ service: shop-a, {blue}, to: {{ version: "1.1" }} }}"#),
        format!(r#"{{ service: shop-b, {blue}, to: {{ version: "1.1" }} }}"#),
        format!(r#"{{ {green}, to: {{ region: "qa" }} }}"#),
        format!(r#"{{ service: shop-a, {green}, to: {{ version: "1.0", region: "qa" }} }}"#),
        format!(r#"{{ service: shop-b, {green}, to: {{ version: "1.0", region: "qa" }} }}"#),
    ];
    let got = routes(&found);
    assert_eq!(got[..5], want);
    assert_eq!(
        got[5..],
        [
            r#"{ service: shop-a, when: { user: "3" }, to: [{ version: "1.0", weight: 10 }, { version: "1.1", weight: 90 }] }"#,
            r#"{ service: shop-b, when: { user: "3" }, to: [{ version: "1.0", weight: 10 }, { version: "1.1", weight: 90 }] }"#,
            r#"{ service: shop-a, to: [{ version: "1.0", weight: 95 }, { version: "1.1", weight: 5 }] }"#,
            r#"{ service: shop-b, to: [{ version: "1.0", weight: 95 }, { version: "1.1", weight: 5 }] }"#,
        ]
    );
    assert_eq!(
        left(&found),
        [
            "release.xml:11 the blue-green condition beyond: values are equal or not: there is no larger, smaller or matching",
            "release.xml:12 the blue-green condition who: nothing says which claim `mood` is: give --claim mood=user, or another claim",
            "release.xml:23 <headers>: nothing is put into requests",
            "release.xml:3 the strategy of shop-a: it never applies: what stands at release.xml:16 has the same clients and goes first",
            "release.xml:3 the strategy of shop-b: it never applies: what stands at release.xml:16 has the same clients and goes first",
            "release.xml:32 <parameter>: parameters are the applications' own",
        ]
    );
    assert_eq!(
        found.claims,
        BTreeMap::from([(ClaimKind::User, "user".to_owned()), (ClaimKind::Platform, "os".to_owned())])
    );
    let made = to_yaml(&found.policy);
    let list = r#"blacklist: { ids: ["af043384", "e92edde5"], addresses: ["1301", "192.168.*.102", "192.168.43.101:1201"] }"#;
    assert!(made.starts_with(list), "{made}");
    is_read(&found);
}

#[test]
fn d3_weights_and_rules_of_callers() {
    let found = file("weights.xml");
    assert_eq!(
        routes(&found),
        [
            r#"{ service: shop-a, when: { workload: "gateway" }, to: { version: ["1.0", "1.1"] } }"#,
            r#"{ service: shop-b, when: { workload: "gateway" }, to: [{ version: "1.0", weight: 90 }, { version: "1.1", weight: 10 }] }"#,
            r#"{ service: shop-b, to: [{ version: "1.0", weight: 33.34 }, { version: "1.1", weight: 33.33 }, { version: "1.2", weight: 33.33 }] }"#,
            r#"{ service: shop-c, to: [{ region: "dev", weight: 85 }, { region: "qa", weight: 15 }] }"#,
            r#"{ to: [{ region: "dev", weight: 99 }, { region: "qa", weight: 1 }] }"#,
        ]
    );
    assert_eq!(
        left(&found),
        [
            "weights.xml:8 <blacklist> of discovery: which addresses are found is for the registry to say: leave them out of `instances`",
            "weights.xml:11 a rule by version: the caller's version or region is no claim: a lane keeps a chain of one version together",
            "weights.xml:18 a weight by version of shop-d: all weights are 0",
            "weights.xml:17 a weight by region of shop-b: it never applies: what stands at weights.xml:14 has the same clients and goes first",
            "weights.xml:3 <register>: who may register is for the registry to say",
        ]
    );
    is_read(&found);
}

#[test]
fn d3_properties_of_a_config_centre() {
    let wishes = Wishes { consumer: Some("Shop-Gateway".to_owned()), ..wishes() };
    let text = include_str!("../../tests/import/nacos.properties");
    let found = discovery("nacos.properties", text, &wishes).unwrap();
    assert_eq!(
        routes(&found),
        [
            r#"{ service: shop-a, when: { workload: "shop-gateway" }, to: [{ version: "1.0", weight: 99 }, { version: "1.1", weight: 1 }] }"#
        ]
    );
    assert_eq!(found.left.len(), 2);
    is_read(&found);
}

/// What cannot be said here is in the list, with its place, and never half in the document.
#[test]
fn d3_what_has_no_counterpart_is_told() {
    for (inside, why) in [
        ("<strategy><version>1.*</version></strategy>", "a wildcard in a version"),
        ("<strategy><version>{\"a\":1}</version></strategy>", "is no text"),
        ("<strategy><version>{\"a\"</version></strategy>", "no JSON of services"),
        ("<strategy><version>a b</version></strategy>", "cannot be a version here"),
        ("<strategy><version> ; </version></strategy>", "no value"),
        ("<strategy><address>somewhere</address></strategy>", "no pattern of addresses"),
        ("<strategy><environment>x</environment></strategy>", "not known"),
        ("<strategy><version>{\"ein Dienst\":\"1\"}</version></strategy>", "no name here"),
        ("<strategy><version-weight>1.0</version-weight></strategy>", "has no weight"),
        ("<strategy><version-weight>1.0=x</version-weight></strategy>", "is no number"),
        (
            "<strategy><version>1</version><version-weight>1=1;2=1</version-weight></strategy>",
            "both a version",
        ),
        ("<strategy-failover><version-failover>1</version-failover></strategy-failover>", "at each service"),
        ("<strategy><version-weight>=1;2=1</version-weight></strategy>", "cannot be a version here"),
        (
            "<discovery><weight><service consumer-service-name=\"a b\" provider-service-name=\"a\" provider-weight-value=\"1=1;2=1\"/></weight></discovery>",
            "the caller `a b` is no name here",
        ),
        ("<nonsense/>", "not known"),
    ] {
        let found = rule(inside);
        assert_eq!(found.left.len(), 1, "{inside}: {:?}", found.left);
        assert!(found.left[0].why.contains(why), "{inside}: {:?}", found.left);
        assert!(found.policy.routes.is_empty(), "{inside}");
    }
    let condition = |expression: &str, ids: &str| {
        rule(&format!(
            "<strategy-release><conditions type=\"blue-green\"><condition id=\"c\" expression=\"{expression}\" {ids}/></conditions>\
             <routes><route id=\"r\" type=\"version\">1</route></routes></strategy-release>"
        ))
    };
    for (expression, ids, why) in [
        ("#H['user'] == '1'", "version-id=\"x\"", "there is no route `x`"),
        ("#H['user'] == '1'", "", "it names no route"),
        ("#H['user'] == ''", "version-id=\"r\"", "is not a value"),
        ("#H['user' == '1'", "version-id=\"r\"", "bracket"),
        ("#H['user'] == '1", "version-id=\"r\"", "quote"),
        ("#H['user']", "version-id=\"r\"", "no comparison"),
        ("#H['user'].matches('x')", "version-id=\"r\"", "methods"),
        ("user == '1'", "version-id=\"r\"", "no variable"),
        ("#H['user'] == '1' xor #H['user'] == '2'", "version-id=\"r\"", "cannot read `xor"),
        ("((((((((((#H['user'] == '1'))))))))))", "version-id=\"r\"", "deep"),
    ] {
        let found = condition(expression, ids);
        assert_eq!(found.left.len(), 1, "{expression}: {:?}", found.left);
        assert!(found.left[0].why.contains(why), "{expression}: {:?}", found.left);
        assert!(found.policy.routes.is_empty(), "{expression}");
    }
    let two = condition("#H['user'] == '1' and #H['X-User-Id'] == '2'", "version-id=\"r\"");
    assert!(two.left[0].why.contains("the claim user is `user` already"), "{:?}", two.left);
}

/// Pieces of the samples lost, doubled or exchanged: a document or a sentence, never a panic.
#[test]
fn d3_damaged_samples_are_taken_well() {
    let mut seed = 7_u64;
    let mut random = |n: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize % n
    };
    for name in ["strategy.xml", "release.xml", "weights.xml", "nacos.properties"] {
        let whole = std::fs::read(format!("{}/tests/import/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap();
        for _ in 0..400 {
            let mut text = whole.clone();
            for _ in 0..=random(3) {
                let (at, len) = (random(text.len()), random(12));
                let end = (at + len).min(text.len());
                let piece: Vec<u8> = text[at..end].to_vec();
                match random(4) {
                    0 => drop(text.drain(at..end)),
                    1 => drop(text.splice(at..at, piece)),
                    2 => text[at] = b"<>\"'&;=#[]{}(),*\0 \n1\xff"[random(21)],
                    _ => {
                        let to = random(text.len());
                        drop(text.splice(to..to, piece));
                    }
                }
            }
            super::fuzz::rule(&text);
        }
    }
}

#[test]
fn d3_entity_bombs_and_deep_files_are_refused() {
    let bomb = "<!DOCTYPE rule [<!ENTITY a \"aaaaaaaaaa\"><!ENTITY b \"&a;&a;&a;&a;&a;&a;&a;&a;\">]><rule>&b;</rule>";
    let e = discovery("bomb.xml", bomb, &wishes()).unwrap_err();
    assert_eq!(e.to_string(), "bomb.xml:1: a document type declaration: entities are not read");
    for n in [1_000, 200_000] {
        let deep = format!("<rule>{}{}</rule>", "<a>".repeat(n), "</a>".repeat(n));
        if let Ok(found) = discovery("deep.xml", &deep, &wishes()) {
            assert_eq!(found.left.len(), 1);
        }
    }
    let wide = format!("<rule>{}</rule>", "<a/>".repeat(super::NODES as usize + 1));
    assert!(discovery("wide.xml", &wide, &wishes()).is_err());
    for (text, says) in [
        ("", "no rule is in this file"),
        ("<rules/>", "the root is <rules>"),
        ("<rule>", "rule.xml:1:"),
        ("\n\n  <rule>\n<x></rule>", "rule.xml:4:"),
        ("{}", "in JSON"),
        ("a=b", "no rule is in this file"),
    ] {
        let e = discovery("rule.xml", text, &wishes()).unwrap_err().to_string();
        assert!(e.contains(says), "{text:?}: {e}");
    }
}
