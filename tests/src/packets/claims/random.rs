//! Policies over what requests say, and requests to them, by chance.

use std::collections::BTreeMap;

use gray_userspace::model::{ClaimKind, Place, Policy};

use super::{
    super::{
        land::{Land, SHOP, SHOP_AT},
        random::Random,
    },
    Asking,
};

/// Values of claims: few, so that lists and requests meet; one is longer than what counts, another just as long.
const VALUES: [&str; 14] = [
    "app7",
    "app77",
    "u42",
    "u07",
    "7",
    "42",
    "x",
    "beta",
    "%41",
    "a=b",
    "\u{fc}n\u{ef}9",
    "android",
    LONGEST,
    TOO_LONG,
];
const LONGEST: &str = "0123456789-0123456789-0123456789";
const TOO_LONG: &str = "0123456789-0123456789-0123456789-42";
const SOURCES: [&str; 5] = ["198.18.1.9", "fd00:1::9", "198.18.7.0/24", "fd00:7::/64", "198.18.1.3"];

fn one<'a, T>(r: &mut Random, of: &'a [T]) -> &'a T {
    &of[r.below(of.len())]
}

/// One service, `shop`, cohorts and routes; some claims are read of its requests, each in its place.
pub fn document(r: &mut Random) -> String {
    let mut read: Vec<ClaimKind> = ClaimKind::READ.into_iter().filter(|_| r.below(4) != 0).collect();
    if read.is_empty() {
        read.push(*one(r, &ClaimKind::READ));
    }
    let claims: Vec<String> = read
        .iter()
        .map(|of| {
            let place = one(r, &["header: X-", "cookie: ", "query: q-"]);
            format!("{}: {{ {place}{} }}", of.name(), of.name())
        })
        .collect();
    let mut identify: Vec<&str> =
        read.iter().filter(|_| r.below(2) == 0).map(|of| of.name()).take(3).collect();
    identify.insert(r.below(identify.len() + 1), "source");
    let mut out = String::from("services:\n  shop:\n");
    let [v4, v6] = [false, true].map(|v6| Land { v6, proto: 6 });
    out += &format!("    listen: [\"{}\", \"{}\"]\n", v4.vip(SHOP), v6.vip(SHOP));
    out += &format!(
        "    claims: {{ {} }}\n    identify: [{}]\n    instances:\n",
        claims.join(", "),
        identify.join(", ")
    );
    for l in [v4, v6] {
        out += &format!("      - {{ address: \"{}\", version: \"1.0\" }}\n", l.stable(SHOP_AT));
        out += &format!("      - {{ address: \"{}\", version: \"2.0\" }}\n", l.gray(SHOP_AT));
    }
    out += "    stable: { version: \"1.0\" }\ncohorts:\n";
    let cohorts = 2 + r.below(8);
    for n in 0..cohorts {
        out += &format!("  c{n}: {{ {} }}\n", cohort(r));
    }
    out += "routes:\n";
    for n in 0..1 + r.below(7) {
        let when = if r.below(12) == 0 {
            String::new()
        } else {
            format!("when: {}, ", condition(r, &read, cohorts, 3))
        };
        let to = one(r, &["2.0", "2.0", "1.0"]);
        out += &format!("  - {{ name: r{n}, service: shop, {when}to: {{ version: \"{to}\" }} }}\n");
    }
    out
}

fn values(r: &mut Random, of: ClaimKind, most: usize) -> String {
    let pool: Vec<&str> = match of {
        ClaimKind::Source => SOURCES.to_vec(),
        _ => VALUES.into_iter().filter(|v| *v != TOO_LONG).collect(),
    };
    let entry = |r: &mut Random| {
        let value = *one(r, &pool);
        // Few lengths: a service's wildcards have eight.
        let end = value.floor_char_boundary(*one(r, &[0, 1, 3]));
        if of != ClaimKind::Source && r.below(4) == 0 {
            format!("\"{}*\"", &value[..end])
        } else {
            format!("{value:?}")
        }
    };
    let some: Vec<String> = (0..1 + r.below(most)).map(|_| entry(r)).collect();
    some.join(", ")
}

fn cohort(r: &mut Random) -> String {
    let of = *one(r, &ClaimKind::READ);
    match r.below(7) {
        0 => format!("sources: [{}]", values(r, ClaimKind::Source, 3)),
        1 => format!("percent: {}", one(r, &["0", "0.01", "30", "50", "99.99", "100"])),
        2 => format!("percent: {}, of: {}, salt: s", r.below(101), of.name()),
        3 | 4 => {
            let mut digits: Vec<String> =
                (0..1 + r.below(3))
                    .map(|_| {
                        if r.below(2) == 0 { r.below(10).to_string() } else { format!("{:02}", r.below(100)) }
                    })
                    .map(|d| format!("\"{d}\""))
                    .collect();
            if r.below(2) == 0 {
                digits.push("\"42\"".to_owned());
            }
            format!("tail: {{ of: {}, digits: [{}] }}", of.name(), digits.join(", "))
        }
        _ => format!("{}: [{}]", of.plural(), values(r, of, 5)),
    }
}

fn condition(r: &mut Random, read: &[ClaimKind], cohorts: usize, depth: usize) -> String {
    let kind = if depth == 0 { r.below(4) } else { r.below(7) };
    let parts = |r: &mut Random| {
        let all: Vec<String> = (0..1 + r.below(3)).map(|_| condition(r, read, cohorts, depth - 1)).collect();
        all.join(", ")
    };
    match kind {
        0 | 1 => format!("c{}", r.below(cohorts)),
        2 | 3 => {
            let of = if r.below(6) == 0 { ClaimKind::Source } else { *one(r, read) };
            if r.below(2) == 0 {
                format!("{{ {}: {} }}", of.name(), values(r, of, 1))
            } else {
                format!("{{ {}: [{}] }}", of.name(), values(r, of, 3))
            }
        }
        4 => format!("{{ all: [{}] }}", parts(r)),
        5 => format!("{{ any: [{}] }}", parts(r)),
        _ => format!("{{ not: {} }}", condition(r, read, cohorts, depth - 1)),
    }
}

/// A line of a head: what it says, if it is read.
type Line = (String, Vec<(ClaimKind, String)>);

/// A request to the policy's service: claims or not, said twice, among others that are like them, perhaps behind what nobody reads.
pub fn request(r: &mut Random, policy: &Policy, v6: bool) -> Asking {
    let land = Land { v6, proto: 6 };
    let source = one(r, &[land.plain(0), land.early(0), land.office(0)]).ip();
    let (mut query, mut cookies, mut lines): (Vec<_>, Vec<_>, Vec<Line>) = (
        vec![("q".to_owned(), None)],
        vec![("like".to_owned(), None)],
        vec![("Host: shop".to_owned(), vec![])],
    );
    for (of, place) in &policy.services[0].claims {
        for _ in 0..[0, 1, 1, 1, 2][r.below(5)] {
            let value = (*one(r, &VALUES)).to_owned();
            match place {
                Place::Query(name) => query.push((format!("{name}={value}"), Some((*of, value)))),
                Place::Cookie(name) => cookies.push((format!("{name}={value}"), Some((*of, value)))),
                Place::Header(name) => {
                    let name = if r.below(2) == 0 { name.to_ascii_uppercase() } else { name.clone() };
                    let space = one(r, &["", " ", " \t "]);
                    lines.push((format!("{name}:{space}{value}{space}"), vec![(*of, value)]));
                }
            }
        }
        if r.below(3) == 0 {
            let (_, name) = place.parts();
            lines.push((format!("{name}x: u42"), vec![]));
            cookies.push((format!("x{name}=u42"), None));
            query.push((format!("{name}x=u42"), None));
        }
    }
    for _ in 0..8 {
        let (a, b, c) = (r.below(query.len()), r.below(cookies.len()), r.below(lines.len()));
        query.swap(0, a);
        cookies.swap(0, b);
        lines.swap(0, c);
    }
    let half = r.below(cookies.len() + 1);
    for some in [&cookies[..half], &cookies[half..]] {
        let texts: Vec<&str> = some.iter().map(|c| c.0.as_str()).collect();
        let line =
            (format!("cookie: {}", texts.join("; ")), some.iter().filter_map(|c| c.1.clone()).collect());
        lines.insert(r.below(lines.len() + 1), line);
    }
    if r.below(8) == 0 {
        lines.insert(r.below(lines.len() + 1), ("Bad : x".to_owned(), vec![]));
    }
    // The first of each counts, up to what is bad.
    let order: Vec<(ClaimKind, String)> = query
        .iter()
        .filter_map(|q| q.1.clone())
        .chain(lines.iter().take_while(|l| !l.0.starts_with("Bad")).flat_map(|l| l.1.clone()))
        .collect();
    let mut said = BTreeMap::new();
    for (of, value) in order {
        let _ = said.entry(of).or_insert_with(|| value.into_bytes());
    }
    let query: Vec<&str> = query.iter().map(|q| q.0.as_str()).collect();
    let lines: Vec<&str> = lines.iter().map(|l| l.0.as_str()).collect();
    let head = format!("GET /?{} HTTP/1.1\r\n{}\r\n\r\n", query.join("&"), lines.join("\r\n")).into_bytes();
    let cut = if r.below(4) == 0 { 1 + r.below(head.len() - 1) } else { head.len() };
    let parts =
        [&head[..cut], &head[cut..]].into_iter().filter(|p| !p.is_empty()).map(<[u8]>::to_vec).collect();
    Asking { source, parts, said }
}
