//! D4: every error of a health check as a person sees it, one snapshot per case.

use gray_userspace::config::{Problems, Source, load};

/// A right service; cases add to it or replace a line.
const SHOP: &str = r#"services:
  shop:
    listen: ["198.18.1.100:80"]
    instances:
      - { address: "198.18.2.2:8080", version: "1.0" }
      - { address: "198.18.2.3:8080", version: "2.0" }
    stable: { version: "1.0" }
"#;

fn problems(text: &str) -> Problems {
    match load(&[Source::new("shop.yaml", text)]) {
        Err(problems) => problems,
        Ok(loaded) => panic!("accepted:\n{text}\n{loaded:?}"),
    }
}

/// `group__case` snapshots of the rendered errors, each after the document that made it.
fn check(group: &str, cases: &[(&str, String)]) {
    for (name, text) in cases {
        let shown = problems(text).render(false);
        insta::with_settings!({ omit_expression => true, prepend_module_to_snapshot => false }, {
            insta::assert_snapshot!(format!("config__{group}__{name}"), shown);
        });
    }
}

/// The shop with one line of it replaced.
fn with(line: &str, by: &str) -> String {
    assert_eq!(SHOP.matches(line).count(), 1, "{line}");
    SHOP.replace(line, by)
}

/// The shop with a health check.
fn checked(health: &str) -> String {
    with(
        "    stable: { version: \"1.0\" }",
        &format!("    health: {health}\n    stable: {{ version: \"1.0\" }}"),
    )
}

#[test]
fn d4_health() {
    check(
        "health",
        &[
            ("no_kind", checked("{ interval: 2s }")),
            ("is_text", checked("tcp")),
            ("unknown_kind", checked("{ check: htpp }")),
            ("later_kind", checked("{ check: grpc }")),
            ("key_of_another_kind", checked("{ check: tcp, path: /ready, command: [a] }")),
            ("command_without_words", checked("{ check: command }")),
            ("command_is_a_path", checked("{ check: command, command: [/bin/sh, -c, 'true'] }")),
            ("bad_path", checked("{ check: http, path: 'ready now' }")),
            ("bad_status", checked("{ check: http, status: 399-200 }")),
            ("bad_host", checked("{ check: http, host: \"a b\" }")),
            ("bare_interval", checked("{ check: tcp, interval: 2 }")),
            ("short_interval", checked("{ check: tcp, interval: 50ms }")),
            ("timeout_beyond_interval", checked("{ check: tcp, interval: 1s, timeout: 2s }")),
            ("rise_zero", checked("{ check: tcp, rise: 0 }")),
            ("max_below_hold", checked("{ check: tcp, damping: { hold: 1m, max: 10s } }")),
            ("empty_word", checked("{ check: tcp, empty: drop }")),
            ("udp_only", checked("{ check: tcp }").replace("198.18.1.100:80", "198.18.1.100:80/udp")),
            (
                "all_at_once",
                checked(
                    "{ check: http, path: x, rise: 0, interval: soon, empty: none, prot: 1, damping: { flips: 0 } }",
                ),
            ),
        ],
    );
}
