//! The tree of verbs as data: help, examples, options of the agent, generated files. No agent needed.

mod cli_run;

use clap::Command;
use cli_run::run;
use gray_userspace::cli::command;

/// Every verb with its path, hidden ones too.
fn verbs() -> Vec<(String, Command)> {
    fn walk(path: &str, c: &Command, all: &mut Vec<(String, Command)>) {
        for sub in c.get_subcommands() {
            let path = format!("{path} {}", sub.get_name());
            all.push((path.clone(), sub.clone()));
            walk(&path, sub, all);
        }
    }
    let mut tree = command();
    tree.build();
    let mut all = Vec::new();
    walk("gray", &tree, &mut all);
    all
}

#[test]
fn the_tree_is_sound() {
    command().debug_assert();
}

#[test]
fn every_verb_and_option_has_help_and_every_verb_examples() {
    let verbs = verbs();
    assert!(verbs.len() > 25);
    for (path, c) in verbs {
        assert!(c.get_about().is_some(), "{path}: no help");
        if !c.is_hide_set() && path != "gray help" {
            let after = c.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(after.contains("Examples:") && after.contains("gray "), "{path}: no examples");
        }
        for a in c.get_arguments().filter(|a| !a.is_hide_set() && a.get_id() != "help") {
            let positional_says_it = a.is_positional() && c.is_hide_set();
            assert!(a.get_help().is_some() || positional_says_it, "{path}: no help for {}", a.get_id());
        }
    }
}

#[test]
fn help_of_each_verb() {
    for (path, c) in verbs() {
        let name = path.replace(' ', "-");
        let text = c.term_width(100).render_help().to_string();
        insta::assert_snapshot!(format!("help-{name}"), text);
    }
}

#[test]
fn help_and_version_go_to_stdout() {
    let help = run("gray --help", "");
    assert!(help.code == 0 && help.err.is_empty());
    for verb in [
        "agent",
        "apply",
        "validate",
        "get",
        "cohort",
        "explain",
        "status",
        "events",
        "history",
        "audit",
        "rollback",
        "workload",
        "flows",
        "release",
        "recall",
        "instance",
        "doctor",
        "import",
        "key",
        "uninstall",
        "migrate",
        "completions",
    ] {
        assert!(help.out.contains(&format!("\n  {verb} ")), "{verb} is not in --help");
    }
    for hidden in ["man", "openapi", "schema"] {
        assert!(!help.out.contains(&format!("\n  {hidden} ")), "{hidden} is in --help");
    }
    assert!(run("gray --version", "").out.starts_with("gray "));
}

/// The test's agent reports its options as an error.
#[test]
fn options_of_the_agent() {
    let d = run("gray agent", "");
    for want in [
        "/var/lib/gray",
        "/sys/fs/bpf/gray",
        "attach: []",
        "flows: 131072",
        "log_format: Auto",
        "no_connect: false",
    ] {
        assert!(d.err.contains(want), "{want}: {}", d.err);
    }
    let d = run(
        "gray --socket /s agent --attach eth0=edge --attach eth1=backend --metrics 127.0.0.1:9464 --flows 4096",
        "",
    );
    for want in [
        "socket: \"/s\"",
        "iface: \"eth0\", role: Edge",
        "iface: \"eth1\", role: Backend",
        "127.0.0.1:9464",
        "flows: 4096",
    ] {
        assert!(d.err.contains(want), "{want}: {}", d.err);
    }
}

#[test]
fn flags_win_over_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("agent.yaml");
    std::fs::write(&file, "state-dir: /file\nbpffs: /file-bpf\nattach: [eth0=edge]\nno-connect: true\n")
        .unwrap();
    let d = run(&format!("gray agent --config {} --state-dir /flag", file.display()), "");
    for want in ["state_dir: \"/flag\"", "bpffs: \"/file-bpf\"", "iface: \"eth0\"", "no_connect: true"] {
        assert!(d.err.contains(want), "{want}: {}", d.err);
    }
    let d = run(&format!("gray agent --config {} --attach eth9=host --cgroup /c", file.display()), "");
    for want in ["iface: \"eth9\", role: Host", "cgroup: Some(\"/c\")", "no_connect: false"] {
        assert!(d.err.contains(want), "{want}: {}", d.err);
    }
    assert!(!d.err.contains("eth0"), "{}", d.err);
    let d = run(&format!("gray uninstall --dry-run --config {}", file.display()), "");
    assert!(d.code == 0 && d.out.contains("/file-bpf") && d.out.starts_with("would remove "), "{}", d.out);

    std::fs::write(&file, "state-dir: /a\nbpfs: /b\n").unwrap();
    let d = run(&format!("gray agent --config {}", file.display()), "");
    assert!(d.code == 2 && d.err.contains("agent.yaml:2:1: ") && d.err.contains("bpfs"), "{}", d.err);
}

#[test]
fn bad_options_of_the_agent_say_what_is_wrong() {
    for (line, word) in [
        ("--attach eth0", "IFACE=ROLE"),
        ("--attach eth0=egde", "`egde` is no role"),
        ("--attach eth0=lo", "not supported yet"),
        ("--attach eth0=edge:generic", "`generic` is no way to attach; use auto, xdp, tc or nothing"),
        ("--attach =edge", "`` is no interface name"),
        ("--attach a/b=edge", "`a/b` is no interface name"),
        ("--attach interface-name-too-long=edge", "is no interface name"),
        ("--attach a=edge --attach a=backend", "a is given twice"),
        ("--metrics 0.0.0.0:9464", "not a loopback address"),
        ("--metrics 9464", "ADDR:PORT"),
        ("--flows 0", "no usable size"),
        ("--flows many", "many"),
        ("--no-connect", "nothing to do"),
        ("--no-connect --cgroup /a --attach a=edge", "cannot be used with"),
        ("--log-format xml", "xml"),
    ] {
        let d = run(&format!("gray agent {line}"), "");
        assert_eq!(d.code, 2, "{line}: {}", d.err);
        assert!(d.err.contains(word), "{line}: {}", d.err);
        assert_eq!(d.err.lines().count(), 2, "{line}: {}", d.err);
    }
}

#[test]
fn generated_files() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let d = run(&format!("gray completions {shell}"), "");
        assert!(d.code == 0 && d.out.contains("cohort") && d.out.contains("dry-run"), "{shell}");
    }
    let dir = tempfile::tempdir().unwrap();
    let d = run(&format!("gray man {}/man1", dir.path().display()), "");
    assert_eq!(d.code, 0, "{}", d.err);
    assert!(std::fs::read_to_string(dir.path().join("man1/gray-apply.1")).unwrap().contains("dry"));
    assert_eq!(run("gray openapi", "").out, gray_userspace::api::openapi::json());
}

#[test]
fn validate_needs_no_agent_d4() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let good = file("good.yaml", GOOD);
    let d = run(&format!("gray --socket /nowhere validate {good}"), "");
    assert_eq!((d.code, d.out.as_str()), (0, "valid\n"), "{}", d.err);
    assert_eq!(run("gray validate -", GOOD).code, 0);

    let bad = file("bad.yaml", &GOOD.replace("stable:", "stabel:"));
    let d = run(&format!("gray validate {bad}"), "");
    assert_eq!((d.code, d.out.as_str()), (1, ""));
    assert!(
        d.err.contains("stabel") && d.err.contains("bad.yaml:5:5") && d.err.contains("`stable`"),
        "{}",
        d.err
    );
    let lines: Vec<_> = d.err.lines().collect();
    assert!(lines[lines.len() - 2].starts_with("error: the policy has "), "{}", d.err);
    let json = run(&format!("gray validate {bad} -o json"), "");
    let reply: serde_json::Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!((json.code, &reply["valid"], &reply["problems"][0]["line"]), (1, &false.into(), &5.into()));
    assert_eq!(json.err.lines().count(), 2, "{}", json.err);
    assert_eq!(run("gray validate /nowhere.yaml", "").code, 1);
    assert_eq!(run("gray schema", "").out, gray_userspace::config::schema_json());
}

/// What `config` lets pass and only the compiler refuses: a route of too many rules.
#[test]
fn validate_compiles_too_d4() {
    let mut text = GOOD.to_owned();
    let pairs: Vec<String> = (0..8).map(|c| format!("{{ any: [c{c}, c{}] }}", c + 8)).collect();
    text.push_str("cohorts:\n");
    (0..16).for_each(|c| text.push_str(&format!("  c{c}: {{ sources: [\"10.0.0.{c}\"] }}\n")));
    text.push_str("routes:\n");
    let when = format!("{{ all: [{}] }}", pairs.join(", "));
    text.push_str(&format!(
        "  - name: wide\n    service: shop\n    when: {when}\n    to: {{ version: \"1.0\" }}\n"
    ));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("wide.yaml");
    std::fs::write(&path, &text).unwrap();
    let json = run(&format!("gray validate {} -o json", path.display()), "");
    let reply: serde_json::Value = serde_json::from_str(&json.out).unwrap();
    let line = text.lines().position(|l| l.ends_with("name: wide")).unwrap() + 1;
    let told = &reply["problems"][0];
    assert_eq!((json.code, &reply["valid"]), (1, &false.into()), "{}", json.out);
    assert_eq!((&told["line"], &told["column"]), (&line.into(), &11.into()), "{}", json.out);

    let d = run(&format!("gray validate {}", path.display()), "");
    let place = format!("wide.yaml:{line}:11");
    assert!(d.err.contains("too many alternatives") && d.err.contains(&place), "{}", d.err);
    assert_eq!((d.code, d.out.as_str()), (1, ""));
}

const GOOD: &str = r#"services:
  shop:
    listen: ["198.18.1.100:80"]
    instances: [{ address: "198.18.2.2:8080", version: "1.0" }]
    stable: { version: "1.0" }
"#;

#[test]
fn doctor_looks_at_the_host_where_no_agent_runs() {
    let d = run("gray --socket /nowhere/gray.sock doctor", "");
    assert!(d.code < 2, "{}", d.err);
    assert!(d.err.starts_with("no agent runs: "), "{}", d.err);
    assert!(d.out.contains("kernel"), "{}", d.out);
}
