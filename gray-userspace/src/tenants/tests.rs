//! B5: tables and strategies to chosen tenants.

use super::{Chosen, plan, read};
use crate::config::{Source, load_strategy};

const TABLE: &str = "\
id,logins,tickets,features
acme, 240, T-101;T-7,\"bulk-export; reports\"
bolt, 99.5, T-102,
coil, 100,, bulk-export
dune,,,
";

fn chosen(choose: &str, table: &str) -> Vec<String> {
    let strategy = load_strategy(&Source::new("s.yaml", format!("name: it-14\nchoose: {choose}\n"))).unwrap();
    let tenants = read("tenants", table, &strategy.choose).unwrap();
    let plan = plan(&strategy, &tenants);
    assert_eq!(plan.of, tenants.len() as u64);
    plan.chosen.into_iter().map(|Chosen { id, why }| format!("{id}: {}", why.join("; "))).collect()
}

#[test]
fn b5_strategies_alone_and_combined() {
    let active = "active: { measure: logins, at-least: 100 }";
    for (choose, want) in [
        (
            format!("{{ {active} }}"),
            vec!["acme: logins 240 is at least 100", "coil: logins 100 is at least 100"],
        ),
        ("{ fixes: [T-101, T-102] }".into(), vec!["acme: reported T-101", "bolt: reported T-102"]),
        (
            "{ potential: [bulk-export] }".into(),
            vec!["acme: expected to use bulk-export", "coil: expected to use bulk-export"],
        ),
        (
            format!("{{ all: [{{ {active} }}, {{ fixes: [T-7] }}] }}"),
            vec!["acme: logins 240 is at least 100; reported T-7"],
        ),
        (
            format!("{{ any: [{{ {active} }}, {{ fixes: [T-102] }}] }}"),
            vec![
                "acme: logins 240 is at least 100",
                "bolt: reported T-102",
                "coil: logins 100 is at least 100",
            ],
        ),
        (
            "{ all: [{ potential: [bulk-export] }, { not: { fixes: [T-101] } }] }".into(),
            vec!["coil: expected to use bulk-export; not reported T-101"],
        ),
        ("{ fixes: [T-999] }".into(), vec![]),
    ] {
        assert_eq!(chosen(&choose, TABLE), want, "{choose}");
    }
}

/// What `mysql -B` prints: tabs, quotes that are characters, NULL.
#[test]
fn b5_a_querys_result_is_the_same_table() {
    let table = "id\tlogins\ttickets\tfeatures\nacme\t240\tT-101;T-7\tbulk-export; reports\nbolt\t99.5\tT-102\tNULL\ncoil\t100\tNULL\tbulk-export\ndune\tNULL\tNULL\t\"\n";
    for choose in [
        "{ active: { measure: logins, at-least: 100 } }",
        "{ fixes: [T-101, T-102] }",
        "{ potential: [bulk-export] }",
        "{ fixes: ['NULL'] }",
    ] {
        assert_eq!(chosen(choose, table), chosen(choose, TABLE), "{choose}");
    }
    assert_eq!(chosen("{ potential: ['\"'] }", table), ["dune: expected to use \""]);
}

#[test]
fn b5_json_is_the_same_table() {
    let json = r#"[{"id":"acme","logins":240,"tickets":["T-101","T-7"],"features":["bulk-export"]},
        {"id":"coil","logins":100.0,"tickets":null}]"#;
    assert_eq!(chosen("{ active: { measure: logins, at-least: 100 } }", json).len(), 2);
    assert_eq!(chosen("{ fixes: [T-7] }", json), ["acme: reported T-7"]);
}

#[test]
fn g4_the_layer_follows_from_who_is_chosen() {
    let with = |layer: &str| {
        let text = format!("name: a\nchoose: {{ fixes: [T-7] }}\nlayer: {layer}\n");
        let strategy = load_strategy(&Source::new("s.yaml", text)).unwrap();
        plan(&strategy, &read("t", TABLE, &strategy.choose).unwrap()).layer.unwrap()
    };
    let got = with("{ keys: 1000, keys-per-tenant: 100, damping: 2.5 }");
    assert!((got - super::share(1, 4, 100, 1000, 2.5)).abs() < 1e-12 && got > 0.13, "{got}");
    assert_eq!(with("{ keys: 1000, keys-per-tenant: 100, damping: 2.5, percent: 30 }"), 0.3);
    assert_eq!(with("{ percent: 12.5 }"), 0.125);
}

#[test]
fn b5_bad_tables_are_told_at_once() {
    let strategy = load_strategy(&Source::new(
        "s",
        "name: a\nchoose: { all: [{ active: { measure: logins, at-least: 1 } }, { fixes: [x] }] }\n",
    ))
    .unwrap();
    for (text, want) in [
        ("id,logins,tickets\na,1,\na,2,\n", vec!["t:3: the tenant `a` is there twice, first at t:2"]),
        ("name,logins\na,1\n", vec!["t:1: no column `id`: the first line names the columns"]),
        (
            "id,logins,tickets\na,many,\n,1,\nb*,1;2,\n",
            vec![
                "t:2: `logins` is `many`, and the strategy takes it as a number",
                "t:3: the id `` is not a value of 1 to 32 bytes, without `*`",
                "t:4: the id `b*` is not a value of 1 to 32 bytes, without `*`",
                "t:4: `logins` is `1;2`, and the strategy takes it as a number",
            ],
        ),
        ("id,logins,tickets\na,1, \"x\"\n", vec!["t:2: a space before the quote of `tickets`"]),
        ("id,logins,logins,tickets\na,1,2,\n", vec!["t:1: the column `logins` is there twice"]),
        (
            "id,login\na,1\n",
            vec![
                "t: the strategy asks for `logins`, which no tenant has; they have login",
                "t: the strategy asks for `tickets`, which no tenant has; they have login",
            ],
        ),
        ("id,logins,tickets\na,1\n", vec!["t:2: 2 fields, where the first line has 3"]),
        ("[{\"id\":\"a\"", vec!["t:1:10: no JSON list of tenants, each an object"]),
        (
            "[{\"id\":[\"a\",\"b\"],\"logins\":{},\"tickets\":[]}]",
            vec![
                "t: tenant 1: `id` is no single value",
                "t: tenant 1: `logins` is neither text, a number, nor a list of them",
                "t: tenant 1: the id `` is not a value of 1 to 32 bytes, without `*`",
                "t: the strategy asks for `logins`, which no tenant has; they have tickets",
            ],
        ),
    ] {
        assert_eq!(read("t", text, &strategy.choose).unwrap_err().0, want, "{text}");
    }
    let many: String = "id,logins,tickets\n".chars().chain("a,x,\n".repeat(100).chars()).collect();
    let told = read("t", &many, &strategy.choose).unwrap_err().0;
    assert_eq!(told.last().unwrap(), "149 more problems are not shown");
}

#[test]
fn b5_bad_strategies_are_told_at_once() {
    for (text, want) in [
        ("name: a\n", "needs `choose`"),
        ("choose: { fixes: [x] }\n", "needs `name`"),
        ("name: a\nchoose: { fixes: [] }\n", "empty list"),
        ("name: a\nchoose: { fixs: [x] }\n", "did you mean `fixes`?"),
        ("name: a\nchoose: { fixes: [x], potential: [y] }\n", "exactly one of"),
        ("name: a\nchoose: { active: { measure: logins } }\n", "needs `at-least`"),
        ("name: a\nchoose: { active: { measure: logins, at-least: many } }\n", "a number such as"),
        ("name: a\nchoose: { all: [] }\n", "at least one choice"),
        ("name: a\nchoose: [x]\n", "a choice is a list"),
        ("name: a\nchoose: { fixes: [x] }\nlayer: { keys: 10 }\n", "no known size"),
        (
            "name: a\nchoose: { fixes: [x] }\nlayer: { keys: 10, keys-per-tenant: 1, damping: 0 }\n",
            "more than 0",
        ),
        ("name: a\nchoose: { fixes: [x] }\n---\nname: b\n", "2 documents"),
        ("", "expected"),
        ("name: [\n", "error"),
    ] {
        let e = load_strategy(&Source::new("s", text)).unwrap_err().to_string();
        assert!(e.contains(want), "{text:?}: {e}");
    }
    let deep = format!("name: a\nchoose: {}{{ fixes: [x] }}{}\n", "{ not: ".repeat(12), " }".repeat(12));
    assert!(load_strategy(&Source::new("s", deep)).unwrap_err().to_string().contains("deeper than 8"));
    let two = load_strategy(&Source::new("s", "name: A b\nchoose: { fixes: [a b], x: 1 }\n")).unwrap_err();
    assert!(two.errors.len() >= 2, "{two}");
}
