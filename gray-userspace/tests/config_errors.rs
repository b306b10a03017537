//! D4: every error of the policy document as a person sees it, one snapshot per case.

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

fn then(more: &str) -> String {
    format!("{SHOP}{more}")
}

#[test]
fn d4_yaml() {
    check(
        "yaml",
        &[
            (
                "open_bracket",
                "services:\n  shop:\n    listen: [\"198.18.1.100:80\"\n    stable: { version: 1 }\n".into(),
            ),
            ("bad_indent", "services:\n  shop:\n    listen: []\n   stable: {}\n".into()),
            ("tab", "services:\n\tshop: {}\n".into()),
            ("unknown_alias", "services: *gone\n".into()),
            (
                "double_key",
                with(
                    "    stable: { version: \"1.0\" }",
                    "    stable: { version: \"1.0\" }\n    stable: { version: \"2.0\" }",
                ),
            ),
            ("key_is_a_list", then("? [a, b]\n: 1\n")),
            ("tag", then("cohorts:\n  a: !secret { percent: 1 }\n")),
            ("too_deep", format!("services: {}{}", "[".repeat(70), "]".repeat(70))),
            (
                "too_deep_mixed",
                format!("{}\n", (0..70).fold(String::new(), |t, i| t + &" ".repeat(i) + "a:\n")),
            ),
            ("alias_in_itself", "services: &a [ *a ]\n".into()),
            ("alias_bomb", alias_bomb()),
            (
                "long_line",
                format!("cohorts: {{ a: {{ sources: [{} 300.1.1.1, \"::1\"] }} }}", "10.0.0.1, ".repeat(40)),
            ),
            (
                "control_characters",
                "cohorts: { a: { workloads: [\"x\\e[31m y\"] }, \"b\\u0007\": { percent: 1 } }".into(),
            ),
            ("wide_characters", "cohorts: { 早期用户: { percent: 10 }, b: { 百分比: 3 } }".into()),
        ],
    );
}

fn alias_bomb() -> String {
    let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for i in 1..12 {
        text += &format!("a{i}: &a{i} [{}]\n", vec![format!("*a{}", i - 1); 10].join(", "));
    }
    text
}

#[test]
fn d4_document() {
    check(
        "document",
        &[
            ("is_a_list", "- services\n".into()),
            ("is_text", "hello\n".into()),
            ("unknown_key", then("cohort: {}\n")),
            ("later_releases", then("releases: {}\n")),
            ("services_is_a_list", "services: []\n".into()),
            ("cohorts_is_text", then("cohorts: all\n")),
            ("routes_is_a_map", then("routes: { service: shop }\n")),
            (
                "bad_name",
                "cohorts:\n  Early Birds: { percent: 1 }\n  -x: { percent: 2 }\n  ok: { percent: 1 }\n"
                    .into(),
            ),
            ("long_name", format!("cohorts:\n  {}: {{ percent: 1 }}\n", "a".repeat(64))),
        ],
    );
}

#[test]
fn d4_service() {
    let listen = r#"    listen: ["198.18.1.100:80"]"#;
    let stable = r#"    stable: { version: "1.0" }"#;
    let listener = |text: &str| with(listen, &format!("    listen: [\"{text}\"]"));
    let more = |text: &str| with(stable, &format!("{stable}\n    {text}"));
    let alarm =
        |body: &str| format!("claims: {{ app: {{ header: X-App-Id }} }}\n    missing-alarm: {{ {body} }}");
    let many: Vec<_> = (1..=17).map(|i| format!("\"198.18.1.100:{i}\"")).collect();
    check(
        "service",
        &[
            ("balance_unknown", more("balance: random")),
            ("zone_affinity_word", more("zone-affinity: yes")),
            ("balance_with_affinity", more("balance: round-robin\n    affinity: client")),
            ("is_empty", "services:\n  shop:\n".into()),
            ("needs", "services:\n  shop: { nat: dnat }\n".into()),
            ("unknown_key", with("    instances:", "    instanses:")),
            ("later_claim", more("claims: { alpn: { header: X-Tenant } }")),
            ("claim_unknown", more("claims: { tennant: { header: X-Tenant } }")),
            (
                "claims_in_one_place",
                more(
                    "claims: { user: { header: X-Who }, tenant: { header: x-who }, app: { cookie: X-Who } }",
                ),
            ),
            ("claim_nowhere", more("claims: { app: { heder: X-App-Id } }")),
            ("claim_in_two_places", more("claims: { app: { header: X-App-Id, cookie: app } }")),
            ("claim_in_two_of_tls", more("claims: { app: { sni: true, alpn: true } }")),
            ("claim_of_tls_not_true", more("claims: { app: { sni: false } }")),
            ("claims_of_one_name", more("claims: { app: { sni: true }, user: { cookie: u, sni: true } }")),
            ("claim_reserved", more("claims: { app: { header: Cookie } }")),
            ("claim_no_name", more("claims: { app: { header: \"X App\" } }")),
            ("alarm_alone", more("missing-alarm: { percent: 10 }")),
            ("alarm_about_nothing", more(&alarm("window: 10s"))),
            ("alarm_about_two", more(&alarm("percent: 10, per-second: 5"))),
            ("alarm_clears_above", more(&alarm("percent: 10, clear: 11"))),
            ("alarm_numbers", more(&alarm("per-second: 0, window: 500ms, least: 3"))),
            ("alarm_https", more(&alarm("percent: 10, webhook: \"https://alerts.example/x\""))),
            ("alarm_program_by_path", more(&alarm("percent: 10, command: [/bin/sh, -c, reboot]"))),
            ("per_alone", more("per: request")),
            ("first_byte_alone", more("first-byte: 1s")),
            ("instance_timeout_alone", more("instance-timeout: 1s")),
            (
                "instance_timeout_too_short",
                more("claims: { app: { header: X-App-Id } }\n    instance-timeout: 10ms"),
            ),
            ("first_byte_too_long", more("claims: { app: { header: X-App-Id } }\n    first-byte: 1h")),
            ("per_unknown", more("claims: { app: { header: X-App-Id } }\n    per: packet")),
            ("claims_with_dsr", more("claims: { app: { header: X-App-Id } }\n    nat: dsr")),
            (
                "claims_with_udp",
                with(listen, "    listen: [\"198.18.1.100:80/udp\"]\n    claims: { app: { query: app } }"),
            ),
            ("identify_not_read", more("identify: [app, source]")),
            ("listen_is_text", with(listen, "    listen: \"198.18.1.100:80\"")),
            ("listen_empty", with(listen, "    listen: []")),
            ("listen_too_many", with(listen, &format!("    listen: [{}]", many.join(", ")))),
            ("listener_no_port", listener("198.18.1.100")),
            ("listener_v6_no_port", listener("fd00::1")),
            ("listener_v6_no_brackets", listener("fd00:18:0:0:0:0:0:0:1:80")),
            ("listener_port_0", listener("198.18.1.100:0")),
            ("listener_port_big", listener("198.18.1.100:70000")),
            ("listener_host_name", listener("shop.example:80")),
            ("listener_unspecified", listener("0.0.0.0:80")),
            ("listener_multicast", listener("224.0.0.1:80")),
            ("listener_broadcast", listener("255.255.255.255:80")),
            ("listener_mapped", listener("[::ffff:198.18.1.100]:80")),
            ("listener_zone", listener("[fe80::1%2]:80")),
            ("listener_proto", listener("198.18.1.100:80/sctp")),
            ("listener_twice", with(listen, "    listen: [\"198.18.1.100:80\", \"198.18.1.100:80/tcp\"]")),
            ("listener_is_a_map", with(listen, "    listen: [{ address: \"198.18.1.100:80\" }]")),
            ("identify_unknown", more("identify: [sorce]")),
            ("identify_later", more("identify: [lane, app, source]")),
            ("identify_twice", more("identify: [source, mark, source]")),
            ("identify_empty", more("identify: []")),
            ("identify_is_text", more("identify: source")),
            ("on_missing_unknown", more("on-missing-identity: reject")),
            ("on_missing_underscore", more("on_missing_identity: stable")),
            ("nat_dsr_port", more("nat: dsr")),
            ("encapsulation_without_dsr", more("encapsulation: gue")),
            ("encapsulation_unknown", more("nat: snat\n    encapsulation: geneve")),
            ("nat_unknown", more("nat: dnatt")),
            ("nat_null", more("nat:")),
            ("stable_matches_nothing", with(stable, "    stable: { version: \"1.O\" }")),
            ("stable_zone_nobody_has", with(stable, "    stable: { zone: z1 }")),
            (
                "stable_no_single_instance",
                with(stable, "    stable: { version: \"1.0\", id: \"198.18.2.3:8080\" }"),
            ),
            ("stable_empty", with(stable, "    stable: {}")),
            ("stable_is_text", with(stable, "    stable: \"1.0\"")),
            ("stable_later", with(stable, "    stable: { ip: 198.18.2.2 }")),
            ("stable_no_pattern", with(stable, "    stable: { address: [198.18.2, \"*\", shop] }")),
            ("stable_no_values", with(stable, "    stable: { version: [] }")),
            ("stable_address_nobody_has", with(stable, "    stable: { address: 198.18.9.* }")),
            ("failover_denied", more("failover: denied")),
            ("breaker_numbers", more("breaker: { failures: 129, window: 0s, open: 30, retransmits: 7 }")),
            ("breaker_keys", more("breaker: { failure: 5, opens: 30s }")),
            ("breaker_word", more("breaker: true")),
            ("agent_lost_word", more("on-agent-lost: stabel")),
            ("agent_lease_alone", more("agent-lease: 30s")),
            ("agent_lease_kept", more("on-agent-lost: keep\n    agent-lease: 30s")),
            ("agent_lease_short", more("on-agent-lost: stable\n    agent-lease: 1s")),
            ("shadow_word", more("shadow: yes")),
            ("accept_empty", more("accept: []")),
            ("accept_stable", more("accept: [{ instances: { version: \"1.0\" }, from: { mark: 7 } }]")),
            ("accept_nobody", more("accept: [{ instances: { version: \"9\" }, from: { lane: blue } }]")),
            (
                "accept_twice",
                more(
                    "accept: [{ instances: { version: \"2.0\" }, from: { mark: 7 } }, { instances: { address: 198.18.2.3 }, from: { mark: 8 } }]",
                ),
            ),
            ("accept_unread", more("accept: [{ instances: { version: \"2.0\" }, from: { app: a } }]")),
            ("accept_no_from", more("accept: [{ instances: { version: \"2.0\" }, form: early }]")),
            ("headers_words", more("route-headers: { read: [versoin, address], over-routes: maybe }")),
            ("headers_none", more("route-headers: { read: [] }")),
            ("headers_dsr", more("nat: dsr\n    route-headers: { read: [version] }")),
            (
                "headers_read_before",
                more("claims: { app: { header: N-D-Version } }\n    route-headers: { read: [version] }"),
            ),
            (
                "headers_listener",
                more("route-headers: { read: [version], listeners: [{ address: \"198.18.1.7:80\" }] }"),
            ),
            (
                "proxies_words",
                more("trusted-proxies: [shop, 0.0.0.0/0]\n    claims: { app: { proxy-tlv: 256 } }"),
            ),
            ("proxies_nobody", more("claims: { app: { proxy-tlv: 0xE0 } }")),
            ("failover_word", more("failover: stabel")),
            ("failover_by_wrong", more("failover-by: { version: stabel, zone: { zone: z7 }, port: any }")),
            (
                "callers_wrong",
                then(
                    "---\nworkloads: { web: {}, cart: { lane: blue, version: [a] }, shop-1: { zone: z1 } }\nroutes: [{ same: [zone, zone, id] }, { same: version, lane: blue, name: x }, { same: version, to: { version: \"2.0\" } }, { when: { caller: { zone: z9 } }, to: { version: \"2.0\" } }, { when: { caller: {} }, to: { version: \"2.0\" } }]\n",
                ),
            ),
            ("failover_nobody", more("failover: { version: \"1.9\" }")),
            (
                "blacklist_bad_entries",
                more("blacklist: { ids: [\"a b\", [x]], addresses: \"198.18.2.3:8080;shop;*\", names: [x] }"),
            ),
            ("blacklist_all_stable", more("blacklist: { addresses: [198.18.2.2] }")),
            ("blacklist_all_stable_together", then("blacklist: { ids: [\"198.18.2.2:8080\"] }\n")),
            ("stable_bar", with(stable, "    stable: { version: \"1.0|2.0\" }")),
            ("stable_is_no_meta", with(stable, "    stable: { version: \"1.0,2.0\" }")),
        ],
    );
}

#[test]
fn d4_instance() {
    let first = r#"      - { address: "198.18.2.2:8080", version: "1.0" }"#;
    let second = r#"      - { address: "198.18.2.3:8080", version: "2.0" }"#;
    let gray = |text: &str| with(second, &format!("      - {{ {text} }}"));
    let many: String = (0..257)
        .map(|i| format!("      - {{ address: \"198.18.{}.{}:1\" }}\n", i / 250, i % 250 + 1))
        .collect();
    check(
        "instance",
        &[
            ("is_text", with(second, "      - \"198.18.2.3:8080\"")),
            (
                "list_empty",
                format!("{}\n", with(first, "").replace(second, "").replace("instances:", "instances: []")),
            ),
            ("list_too_many", with(second, &many)),
            ("no_address", gray("version: \"2.0\", id: b")),
            ("bad_address", gray("address: \"198.18.2.300:8080\", version: \"2.0\"")),
            ("unknown_key", gray("address: \"198.18.2.3:8080\", verion: \"2.0\"")),
            ("weight_0", gray("address: \"198.18.2.3:8080\", weight: 0")),
            ("weight_1001", gray("address: \"198.18.2.3:8080\", weight: 1001")),
            ("weight_decimal", gray("address: \"198.18.2.3:8080\", weight: 1.5")),
            ("weight_quoted", gray("address: \"198.18.2.3:8080\", weight: \"10\"")),
            ("weight_list", gray("address: \"198.18.2.3:8080\", weight: [1]")),
            ("id_twice", gray("address: \"198.18.2.3:8080\", id: \"198.18.2.2:8080\"")),
            ("address_twice", gray("address: \"198.18.2.2:8080\", id: b, version: \"2.0\"")),
            ("value_with_space", gray("address: \"198.18.2.3:8080\", zone: \"zone 1\"")),
            ("value_null", gray("address: \"198.18.2.3:8080\", zone: ")),
            ("other_family", gray("address: \"[fd00:18::3]:8080\", version: \"2.0\"")),
            ("gray_is_listened_on", gray("address: \"198.18.1.100:80\", version: \"2.0\"")),
            (
                "no_stable_of_family",
                with("\"198.18.1.100:80\"", "\"198.18.1.100:80\", \"[fd00:18::100]:80\"")
                    .replace("198.18.2.3:8080", "[fd00:18::3]:8080"),
            ),
        ],
    );
}

#[test]
fn d4_cohort() {
    let cohort = |text: &str| then(&format!("cohorts:\n  early: {text}\n"));
    let lists = |n| (0..n).map(|i| format!("  c{i}: {{ sources: [] }}\n")).collect::<String>();
    let (many, some) = (lists(257), lists(200));
    let bomb: String =
        (1..9).map(|i| format!("  c{i}: {{ all: [{0}, {0}, {0}] }}\n", format!("c{}", i - 1))).collect();
    // 57 different ones, and one of them again.
    let conditions: String = (0..58)
        .map(|i| {
            format!(
                "  - {{ name: r{i}, service: shop, when: {{ mark: {} }}, to: {{ version: \"2.0\" }} }}\n",
                i % 57 + 1
            )
        })
        .collect();
    check(
        "cohort",
        &[
            ("is_a_list", cohort("[\"198.18.1.3\"]")),
            ("names_nobody", cohort("{}")),
            ("two_kinds", cohort("{ sources: [\"198.18.1.3\"], percent: 10 }")),
            ("unknown_kind", cohort("{ source: [\"198.18.1.3\"] }")),
            ("tenant", cohort("{ tenant: [t7] }")),
            ("bad_device", cohort("{ devices: [\"\", \"0123456789012345678901234567890123\", d1] }")),
            ("bad_wildcards", cohort("{ apps: [\"*app7\", \"a*7\", \"app**\", \"app7*\"], tenants: [] }")),
            ("tail_is_text", cohort("{ tail: \"7\" }")),
            ("tail_of_nothing", cohort("{ tail: {} }")),
            ("tail_of_source", cohort("{ tail: { of: source, digits: [\"7\"] } }")),
            ("tail_of_mark", cohort("{ tail: { of: mark, digits: [7] } }")),
            ("tail_of_unknown", cohort("{ tail: { of: usr, digit: [7] } }")),
            ("tail_bad_digits", cohort("{ tail: { of: user, digits: [7, \"42\", 123, a, \"\", -1, [1]] } }")),
            ("tail_no_digits", cohort("{ tail: { of: user, digits: [] } }")),
            ("tail_and_salt", cohort("{ tail: { of: user, digits: [7] }, salt: x }")),
            ("sources_is_text", cohort("{ sources: \"198.18.1.3\" }")),
            ("bad_source", cohort("{ sources: [\"198.18.1.3\", \"198.18.1.0/33\", office] }")),
            ("bad_mark", cohort("{ marks: [0x1g, -1, 4294967296] }")),
            ("bad_dscp", cohort("{ dscps: [46, 64] }")),
            ("bad_workload", cohort("{ workloads: [\"a b\", \"\"] }")),
            ("entry_is_a_list", cohort("{ sources: [[\"198.18.1.3\"]] }")),
            ("percent_101", cohort("{ percent: 100.01 }")),
            ("percent_negative", cohort("{ percent: -1 }")),
            ("percent_three_decimals", cohort("{ percent: 0.125 }")),
            ("percent_sign", cohort("{ percent: 10% }")),
            ("percent_exponent", cohort("{ percent: 1e1 }")),
            ("percent_quoted", cohort("{ percent: \"10\" }")),
            ("percent_of_unknown", cohort("{ percent: 10, of: sourc }")),
            ("percent_of_later", cohort("{ percent: 10, of: tag }")),
            ("percent_salt", cohort("{ percent: 10, salt: \"a b\" }")),
            ("of_without_percent", cohort("{ sources: [], of: source, salt: x }")),
            (
                "joined_circle",
                then("cohorts:\n  a: { any: [b, { not: c }] }\n  b: { sources: [] }\n  c: { not: a }\n"),
            ),
            ("joined_of_itself", cohort("{ not: early }")),
            ("joined_of_nobody", cohort("{ all: [erly, { any: [] }] }")),
            ("joined_bomb", then(&format!("cohorts:\n  c0: {{ percent: 1 }}\n{bomb}"))),
            ("joined_and_percent", cohort("{ any: [early], percent: 10 }")),
            ("joined_text", cohort("{ not: [early] }")),
            ("too_many_lists", then(&format!("cohorts:\n{many}"))),
            ("too_many_conditions", then(&format!("cohorts:\n{some}routes:\n{conditions}"))),
        ],
    );
}

#[test]
fn d4_route() {
    let route = |text: &str| {
        then(&format!("cohorts:\n  early: {{ percent: 1 }}\n  late: {{ marks: [1] }}\nroutes:\n  - {text}\n"))
    };
    let to = |text: &str| route(&format!("{{ service: shop, to: {text} }}"));
    let when = |text: &str| route(&format!("{{ service: shop, when: {text}, to: {{ version: \"2.0\" }} }}"));
    let nine = ["{ version: \"1.0\", weight: 1 }"; 9].join(", ");
    let deep = |n: usize| format!("{}early{}", "{ not: ".repeat(n), " }".repeat(n));
    let many: String = (0..65)
        .map(|i| format!("  - {{ name: r{i}, service: shop, when: early, to: {{ version: \"2.0\" }} }}\n"))
        .collect();
    let long = format!("{{ all: [{}] }}", vec!["early"; 50].join(", "));
    check(
        "route",
        &[
            ("is_text", route("early")),
            ("no_to", route("{ service: shop, when: early }")),
            ("unknown_key", route("{ servce: shop, to: { version: \"2.0\" } }")),
            ("unknown_service", route("{ service: shpo, to: { version: \"2.0\" } }")),
            ("unknown_service_far", route("{ service: billing, to: { version: \"2.0\" } }")),
            ("unknown_cohort", route("{ service: shop, when: erly, to: { version: \"2.0\" } }")),
            ("unknown_cohort_far", route("{ service: shop, when: testers, to: { version: \"2.0\" } }")),
            ("to_is_text", to("\"2.0\"")),
            ("to_empty_list", to("[]")),
            ("to_empty_selector", to("{ weight: 100 }")),
            ("to_unknown_key", to("{ versoin: \"2.0\" }")),
            ("to_matches_nothing", to("{ version: \"3.0\" }")),
            ("to_matches_nothing_anywhere", route("{ when: early, to: { region: r9 } }")),
            ("weights_95", to("[{ version: \"1.0\", weight: 90 }, { version: \"2.0\", weight: 5 }]")),
            (
                "weights_100_01",
                to("[{ version: \"1.0\", weight: 99.99 }, { version: \"2.0\", weight: 0.02 }]"),
            ),
            ("weight_missing", to("[{ version: \"1.0\" }, { version: \"2.0\", weight: 5 }]")),
            ("weight_negative", to("[{ version: \"1.0\", weight: 101 }, { version: \"2.0\", weight: -1 }]")),
            ("weight_alone", to("{ version: \"2.0\", weight: 50 }")),
            ("arm_twice", to("[{ version: \"1.0\", weight: 90 }, { version: \"1.0\", weight: 10 }]")),
            ("arms_too_many", to(&format!("[{nine}]"))),
            (
                "same_name",
                route(
                    "{ name: a, service: shop, to: { version: \"2.0\" } }\n  - { name: a, service: shop, when: early, to: { version: \"2.0\" } }",
                ),
            ),
            (
                "same_made_up_name",
                to("{ version: \"2.0\" } }\n  - { service: shop, to: { version: \"2.0\" }"),
            ),
            (
                "long_made_up_name",
                route(&format!("{{ service: shop, when: {long}, to: {{ version: \"2.0\" }} }}")),
            ),
            ("too_many", format!("{}{many}", route("{ when: late, to: { version: \"2.0\" } }"))),
            ("when_is_a_list", route("{ when: [early, late], to: { version: \"2.0\" } }")),
            ("when_null", route("{ when: , to: { version: \"2.0\" } }")),
            ("when_empty", route("{ when: {}, to: { version: \"2.0\" } }")),
            ("when_two_keys", route("{ when: { all: [early], not: late }, to: { version: \"2.0\" } }")),
            ("when_all_of_nothing", route("{ when: { all: [] }, to: { version: \"2.0\" } }")),
            ("when_all_is_text", route("{ when: { all: early }, to: { version: \"2.0\" } }")),
            ("when_unknown", route("{ when: { and: [early] }, to: { version: \"2.0\" } }")),
            ("when_later_claim", route("{ when: { sni: shop.example }, to: { version: \"2.0\" } }")),
            ("when_claim_unread", when("{ all: [early, { platform: android }] }")),
            (
                "when_claim_unread_anywhere",
                route("{ when: { platform: android }, to: { version: \"2.0\" } }"),
            ),
            ("when_claim_misspelt", when("{ platfrom: android }")),
            ("when_claim_of_nothing", when("{ mark: [] }")),
            ("when_claim_of_many", when(&format!("{{ mark: [{}] }}", vec!["1"; 65].join(", ")))),
            ("when_claim_is_a_map", when("{ mark: { a: 1 } }")),
            (
                "when_claim_bad_values",
                when("{ any: [{ dscp: [46, 64] }, { source: office }, { mark: [[7]] }] }"),
            ),
            ("too_many_wildcards", too_many_wildcards()),
            ("when_two_claims", when("{ mark: 1, dscp: 46 }")),
            ("when_too_deep", route(&format!("{{ when: {}, to: {{ version: \"2.0\" }} }}", deep(9)))),
        ],
    );
}

/// Nine lengths for one claim; of one that is not read they do not count.
fn too_many_wildcards() -> String {
    let ids = |n: usize| (1..=n).map(|i| format!("\"{}*\"", "x".repeat(i))).collect::<Vec<_>>().join(", ");
    with("    instances:", "    claims: { app: { header: X-App-Id } }\n    instances:")
        + &format!("cohorts:\n  a: {{ apps: [{}] }}\n  u: {{ users: [{}] }}\nroutes:\n", ids(8), ids(20))
        + "  - { service: shop, when: a, to: { version: \"2.0\" } }\n  - { when: u, to: { version: \"2.0\" } }\n"
        + "  - { when: { app: \"123456789*\" }, to: { version: \"2.0\" } }\n"
}

#[test]
fn d4_lane() {
    let lanes = |text: &str| then(&format!("cohorts:\n  early: {{ percent: 1 }}\nlanes:\n{text}\n"));
    let gray = "  gray-2.0: { shop: { version: \"2.0\" } }\n";
    let route = |text: &str| lanes(&format!("{gray}routes:\n  - {text}"));
    let many: String = (0..63).map(|i| format!("  lane-{i}: {{ shop: {{ version: \"2.0\" }} }}\n")).collect();
    check(
        "lane",
        &[
            ("is_a_list", then("lanes: [gray-2.0]\n")),
            ("is_null", lanes("  gray-2.0:")),
            ("is_text", lanes("  gray-2.0: \"2.0\"")),
            ("names_nothing", lanes("  gray-2.0: {}")),
            ("bad_names", lanes("  Gray: { Shop: { version: \"2.0\" } }")),
            (
                "service_twice",
                lanes("  gray-2.0: { shop: { version: \"2.0\" }, shop: { version: \"1.0\" } }"),
            ),
            ("unknown_service", lanes("  gray-2.0: { shpo: { version: \"2.0\" } }")),
            ("unknown_service_far", lanes("  gray-2.0: { billing: { version: \"2.0\" } }")),
            ("matches_nothing", lanes("  gray-2.0: { shop: { version: \"2.1\" } }")),
            ("no_selector", lanes("  gray-2.0: { shop: \"2.0\" }")),
            ("weighted", lanes("  gray-2.0: { shop: [{ version: \"2.0\", weight: 100 }] }")),
            ("unknown_key", lanes("  gray-2.0: { shop: { verison: \"2.0\" } }")),
            ("unknown_lane", route("{ when: early, lane: gray-2.1 }")),
            ("unknown_lane_far", route("{ when: early, lane: blue }")),
            ("no_lanes", then("routes:\n  - { lane: blue }\n")),
            ("to_and_lane", route("{ when: early, to: { version: \"2.0\" }, lane: gray-2.0 }")),
            ("service_and_lane", route("{ service: shop, when: early, lane: gray-2.0 }")),
            ("lane_is_a_map", route("{ when: early, lane: { shop: { version: \"2.0\" } } }")),
            (
                "too_many_rules",
                lanes(&format!(
                    "{many}routes:\n  - {{ when: early, lane: lane-1 }}\n  - {{ to: {{ version: \"1.0\" }} }}"
                )),
            ),
        ],
    );
}

#[test]
fn d4_over_several_files() {
    let sources = [
        Source::new("a.yaml", SHOP),
        Source::new(
            "b.yaml",
            then("cohorts: { early: { percent: 1 } }\nlanes: { blue: { shop: { version: \"2.0\" } } }\n")
                .replace("198.18.2.", "198.18.3."),
        ),
        Source::new(
            "c.yaml",
            "cohorts: { early: { percent: 2 } }\nlanes: { blue: { shop: { version: \"2.0\" } } }\nroutes: [{ service: shop, when: earl, to: { version: \"9\" } }]\n",
        ),
    ];
    insta::with_settings!({ omit_expression => true, prepend_module_to_snapshot => false }, {
        insta::assert_snapshot!("config__files__same_names", load(&sources).unwrap_err());
    });
    let broken =
        [sources[2].clone(), Source::new("broken.yaml", "cohorts: { earl: { percent: 1 }\nroutes: []\n")];
    insta::with_settings!({ omit_expression => true, prepend_module_to_snapshot => false }, {
        insta::assert_snapshot!("config__files__one_is_broken", load(&broken).unwrap_err());
    });
}

/// The claim of D4: ten different mistakes, ten errors, in one go, in order, each at its line.
#[test]
fn d4_ten_errors_at_once() {
    let text = r#"services:
  shop:
    listen: ["198.18.1.100"]
    identfy: [source]
    nat: drs
    instances:
      - { address: "198.18.2.2:8080", version: 1.0, weight: 5000 }
      - { address: "198.18.2.3:8080", version: "2.0", zone: [z1] }
    stable: { version: 1.0 }
cohorts:
  early: { sources: ["198.18.1.3", "198.18.7.0/40"] }
  tenth: { percent: 100.5 }
routes:
  - { service: shp, when: tenth, to: { version: "2.0" } }
  - { service: shop, when: eraly, to: { version: "2.0" } }
  - { service: shop, to: [ { version: "1.0", weight: 95 }, { version: "2.0", weight: 6 } ] }
"#;
    let found = problems(text);
    let lines: Vec<_> = found.errors.iter().map(|p| p.line).collect();
    assert_eq!(lines, [3, 4, 5, 7, 8, 11, 12, 14, 15, 16], "{found}");
    insta::with_settings!({ omit_expression => true, prepend_module_to_snapshot => false }, {
        insta::assert_snapshot!("config__ten_errors", found);
        insta::assert_snapshot!("config__ten_errors_color", found.render(true).replace('\x1b', "ESC"));
        insta::assert_json_snapshot!("config__ten_errors_json", found);
    });
}

#[test]
fn many_errors_are_counted_not_kept() {
    let text = format!("cohorts: {{ a: {{ sources: [{}] }} }}", vec!["x"; 3_000].join(", "));
    let found = problems(&text);
    assert_eq!((found.errors.len(), found.omitted), (1_000, 2_000));
    assert!(
        found.render(false).ends_with("3000 errors (2000 not shown)\n"),
        "{}",
        &found.render(false)[..200]
    );
}
