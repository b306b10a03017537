//! Fuzz targets of the policy document: any text becomes a policy, or places and sentences.

use super::{Problem, Source, diff, load, to_yaml};
use crate::fuzz::{choice, no_hole, one_line, text};

/// Never in UTF-8: stands between the files of a policy.
const NEXT_FILE: u8 = 0xff;
const FILES: usize = 4;

/// Up to four files as one policy.
pub fn policy(data: &[u8]) {
    let parts = data.split(|b| *b == NEXT_FILE).take(FILES);
    let sources: Vec<_> =
        parts.zip(["a", "b", "c", "d"]).map(|(t, name)| Source::new(name, text(t))).collect();
    check(&sources);
}

/// One value in an otherwise good document: selectors, conditions, addresses, percentages, names.
pub fn policy_values(data: &[u8]) {
    let Some((slot, value)) = choice(data, SLOTS.len()) else { return };
    let (section, line) = SLOTS[slot];
    let put = |name: &str, good: &str| {
        if name == section { line.replace('@', &text(value)) } else { good.to_owned() }
    };
    let document = format!(
        "services:\n{}\ncohorts:\n  early: {{ sources: ['198.18.1.9'] }}\n  some: {{ percent: 5 }}\n{}\nlanes:\n{}\nroutes:\n{}\n",
        put("services", SERVICE),
        put("cohorts", "  other: { marks: ['0x7'] }"),
        put("lanes", "  blue: { shop: { version: '2' } }"),
        put("routes", "  - { when: early, to: { version: '2' } }"),
    );
    check(&[Source::new("document", document)]);
}

const SERVICE: &str = "  shop: { listen: ['198.18.1.1:80'], claims: { user: { cookie: uid }, platform: { query: os } }, instances: [{ address: '198.18.2.1:80', version: '1' }, \
                       { address: '198.18.2.2:80', version: '2' }], stable: { version: '1' } }";

/// The section of the document that a line replaces, and the line; `@` is the value.
const SLOTS: &[(&str, &str)] = &[
    (
        "services",
        "  @: { listen: ['198.18.1.1:80'], instances: [{ address: '198.18.2.1:80', version: '1' }, \
                  { address: '198.18.2.2:80', version: '2' }], stable: { version: '1' } }",
    ),
    (
        "services",
        "  shop: { listen: [@], instances: [{ address: '198.18.2.1:80', version: '1' }, \
                  { address: '198.18.2.2:80', version: '2' }], stable: { version: '1' } }",
    ),
    (
        "services",
        "  shop: { listen: ['198.18.1.1:80'], instances: [{ address: @, version: '1' }, \
                  { address: '198.18.2.2:80', version: '2' }], stable: { version: '1' } }",
    ),
    (
        "services",
        "  shop: { listen: ['198.18.1.1:80'], instances: [{ address: '198.18.2.1:80', version: '1', @ }, \
                  { address: '198.18.2.2:80', version: '2' }], stable: { version: '1' } }",
    ),
    (
        "services",
        "  shop: { listen: ['198.18.1.1:80'], instances: [{ address: '198.18.2.1:80', version: '1' }, \
                  { address: '198.18.2.2:80', version: '2' }], stable: { @ } }",
    ),
    (
        "services",
        "  shop: { listen: ['198.18.1.1:80'], identify: [@], instances: [{ address: '198.18.2.1:80', \
                  version: '1' }, { address: '198.18.2.2:80', version: '2' }], stable: { version: '1' } }",
    ),
    ("cohorts", "  @: { percent: 5 }"),
    ("cohorts", "  other: { sources: [@] }"),
    ("cohorts", "  other: { marks: [@] }"),
    ("cohorts", "  other: { dscps: [@] }"),
    ("cohorts", "  other: { workloads: [@] }"),
    ("cohorts", "  other: { percent: @ }"),
    ("cohorts", "  other: { percent: 10, salt: @ }"),
    ("cohorts", "  other: { percent: 10, of: @ }"),
    ("routes", "  - { when: @, to: { version: '2' } }"),
    ("routes", "  - { when: early, to: @ }"),
    ("routes", "  - { service: shop, to: [{ version: '1', weight: @ }, { version: '2', weight: 1 }] }"),
    ("routes", "  - { name: @, when: early, to: { version: '2' } }"),
    ("routes", "  - { service: @, when: early, to: { version: '2' } }"),
    ("routes", "  - { when: early, lane: @ }"),
    ("lanes", "  @: { shop: { version: '2' } }"),
    ("lanes", "  blue: { @: { version: '2' } }"),
    ("lanes", "  blue: { shop: @ }"),
    (
        "services",
        "  shop: { listen: ['198.18.1.1:80'], claims: { app: { header: @ }, user: { cookie: X-App-Id } }, \
                  instances: [{ address: '198.18.2.1:80', version: '1' }, { address: '198.18.2.2:80', version: '2' }], \
                  stable: { version: '1' } }",
    ),
    ("cohorts", "  other: { platforms: [@] }"),
    ("cohorts", "  other: { tail: { of: user, digits: [@] } }"),
    ("routes", "  - { when: { all: [early, { platform: @ }] }, to: { version: '2' } }"),
    ("routes", "  - { service: shop, when: { @ }, to: { version: '2' } }"),
];

fn check(sources: &[Source]) {
    let problems = match load(sources) {
        Ok(loaded) => {
            let printed = to_yaml(&loaded.policy);
            match load(&[Source::new("printed", &printed)]) {
                Ok(again) => assert_eq!(again.policy, loaded.policy, "{printed}"),
                Err(e) => panic!("what was printed is refused:\n{e}\n{printed}"),
            }
            assert!(diff(&loaded.policy, &loaded.policy).is_empty());
            no_hole(&loaded.policy);
            loaded.warnings
        }
        Err(problems) => {
            assert!(!problems.errors.is_empty(), "refused without a word");
            let _ = problems.render(true);
            problems.errors.into_iter().chain(problems.warnings).collect()
        }
    };
    problems.iter().for_each(|p| place(p, sources));
}

/// A problem stands at a place that is there, and is said so that a terminal shows nothing else.
pub(super) fn place(p: &Problem, sources: &[Source]) {
    let source = sources.iter().find(|s| s.name == p.file).unwrap_or_else(|| panic!("no such file: {p:?}"));
    // A carriage return alone is a line break of YAML.
    let lines = source.text.split(['\n', '\r']).count() as u32;
    assert!((1..=lines + 1).contains(&p.line) && p.column >= 1, "{p:?}: {lines} lines");
    one_line(&p.message);
    for said in p.expected.iter().chain(&p.help) {
        one_line(said);
    }
    assert!(p.underline.1 >= 1, "{p:?}");
    let shown = p.render(false);
    assert!(!shown.contains(|c: char| c.is_control() && c != '\n'), "{shown:?}");
}
