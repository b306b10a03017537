//! The command line against a served core: what it prints, how it ends.

mod api_memory;
mod cli_run;

use api_memory::{event, serve, serve_with};
use cli_run::{Done, at, local, run, run_io};
use gray_userspace::api::{
    Role,
    types::{Status, Tag},
};
use insta::assert_snapshot;

/// Runs a command line against the served core, off the runtime.
async fn on(socket: &std::path::Path, line: &str) -> Done {
    on_input(socket, line, "").await
}

async fn on_input(socket: &std::path::Path, line: &str, input: &str) -> Done {
    let (socket, line, input) = (socket.to_path_buf(), line.to_string(), input.to_string());
    tokio::task::spawn_blocking(move || at(&socket, &line, &input)).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_person_sees() {
    let s = serve().await;
    for (name, line) in [
        ("status", "status"),
        ("services", "get services"),
        ("instances", "get instances shop"),
        ("cohorts", "get cohorts"),
        ("routes", "get routes"),
        ("lanes", "get lanes"),
        ("cohort-show", "cohort show early-apps --limit 1"),
        ("explain", "explain --service shop --src 198.18.1.3"),
        ("explain-live", "explain --live tcp 198.18.1.3 40000 198.18.1.100 80"),
        ("flows", "flows --arm gray"),
        ("no-workloads", "workload list"),
        ("releases", "release status"),
        ("release", "release status shop-2.0"),
        ("release-history", "release history shop-2.0"),
        ("audit", "audit"),
        ("audit-part", "audit -n 1 --before 3"),
        ("audit-verify", "audit --verify"),
    ] {
        let done = on(&s.socket, line).await;
        assert_eq!((done.code, done.err.as_str()), (0, ""), "{line}");
        assert_snapshot!(name, done.out);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn f7_what_a_release_is_told() {
    let s = serve().await;
    for (line, want) in [
        ("release pause shop-2.0 -m because", "pause None None"),
        ("release jump shop-2.0 3", "jump Some(3) None"),
        ("release recall shop-2.0 --grace 5m", "recall None Some(300000) Drain"),
        ("release recall shop-2.0 --mode reset", "recall None None Reset"),
        ("release recall shop-2.0 --mode keep", "abort None None"),
    ] {
        let done = on(&s.socket, line).await;
        assert_eq!((done.code, done.err.as_str()), (0, ""), "{line}");
        assert!(done.out.contains(want), "{line}: {}", done.out);
    }
    let begun = on_input(&s.socket, "release start -f - -o json", "release: cart-3\n").await;
    assert!(begun.out.contains("\"name\": \"cart-3\""), "{}", begun.out);
    for (line, code) in [
        ("release pause nobody", 1),
        ("release jump shop-2.0 0", 2),
        ("release recall shop-2.0 --mode reset --grace 5s", 2),
        ("release status --watch", 2),
        ("release start", 2),
    ] {
        assert_eq!(on(&s.socket, line).await.code, code, "{line}");
    }
}

/// Whoever it is that can go back, by one command; what cannot is said, and holds up none of the others.
#[tokio::test(flavor = "multi_thread")]
async fn f8_everybody_is_recalled_by_one_command() {
    let s = serve().await;
    for (line, want) in [
        ("recall --service shop", "recall None None Drain"),
        ("recall --service cart --grace 5m", "recall None Some(300000) Drain"),
        ("recall --release shop-2.0 --service cart --mode reset", "recall None None Reset"),
        ("recall --release shop-2.0 --mode keep", "abort None None Drain"),
    ] {
        let done = on(&s.socket, &format!("{line} -o json")).await;
        assert_eq!((done.code, done.err.as_str()), (0, ""), "{line}");
        let told: serde_json::Value = serde_json::from_str(&done.out).unwrap();
        assert_eq!(told.as_array().map(Vec::len), Some(1), "{line}: {told:#}");
        assert_eq!((&told[0]["name"], &told[0]["reason"]), (&"shop-2.0".into(), &want.into()), "{line}");
    }
    let all = on(&s.socket, "recall").await;
    assert_eq!(all.out.lines().count(), 2, "a table of those that go back: {}", all.out);
    let help = "help: roll the policy back first: gray rollback REVISION\n";
    assert_eq!((all.code, all.err), (1, format!("error: pay-3.0: nobody would go back\n{help}")));
    for (line, error) in [
        (
            "recall --service shpo",
            "no open release of shpo\nhelp: did you mean shop? open: shop-2.0 of shop, cart; pay-3.0 of pay\n",
        ),
        (
            "recall --release pay-2.9",
            "pay-2.9 is stopped: nobody is to go back\nhelp: `gray release status pay-2.9` shows why\n",
        ),
        ("recall --release shop-1.9", "shop-1.9 is closed: nobody is to go back\n"),
        (
            "recall --release shop-2",
            "no open release shop-2\nhelp: did you mean shop-2.0? open: shop-2.0 of shop, cart; pay-3.0 of pay\n",
        ),
        ("recall --release pay-3.0 --service shop", "no open release pay-3.0 of shop\n"),
    ] {
        let done = on(&s.socket, line).await;
        assert!(
            (done.code, done.out.as_str()) == (1, "") && done.err.contains(error),
            "{line}: {}",
            done.err
        );
    }
    for (line, code) in [
        ("recall --mode reset --grace 5s", 2),
        ("recall --mode keep --grace 5s", 2),
        ("recall --grace 8d", 2),
        ("recall --mode now", 2),
        ("recall shop-2.0", 2),
    ] {
        assert_eq!(on(&s.socket, line).await.code, code, "{line}");
    }
    let gone = std::path::PathBuf::from("/nowhere/gray.sock");
    assert_eq!(on(&gone, "recall").await.code, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_person_sees_of_changes_d5() {
    let s = serve().await;
    let policy = s.dir.path().join("policy.yaml");
    std::fs::write(&policy, "services: {}").unwrap();
    let dry = on(&s.socket, &format!("apply -f {} --dry-run", policy.display())).await;
    assert_snapshot!("apply-dry-run", dry.out);
    let made = on(&s.socket, &format!("apply -f {} -m because", policy.display())).await;
    assert!(made.out.ends_with("revision 1, epoch 1\n"), "{}", made.out);
    assert_eq!(made.err, "warning: cohort `tenth` is used by no route\n");
    let piped = on_input(&s.socket, "apply -f -", "services: {}").await;
    assert!(piped.out.ends_with("revision 2, epoch 2\n"), "{}", piped.out);

    let back = on(&s.socket, "rollback 1").await;
    assert_eq!(back.out, "revision 3, epoch 3\n");
    assert_eq!(on(&s.socket, "rollback 99").await.code, 1);
    let history = on(&s.socket, "history").await.out;
    let words = |l: &str| l.split_whitespace().map(String::from).collect::<Vec<_>>();
    assert_eq!(
        words(history.lines().nth(3).unwrap())[3..],
        ["apply", "superseded", "3", "changes", "because"]
    );
    assert_eq!(on(&s.socket, "history -n 1").await.out.lines().count(), 2);
    assert_eq!(on(&s.socket, "get history 2").await.out.lines().count(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_are_edited_and_loaded_b1() {
    let s = serve().await;
    let add = on(&s.socket, "cohort add early-apps app1 app7").await;
    assert_eq!(add.out, "1 added, 0 removed, 1 unchanged; 3 entries\nrevision 1, epoch 1\n");
    let file = s.dir.path().join("ids");
    std::fs::write(&file, "# early\napp1\r\n\n").unwrap();
    let remove = on(&s.socket, &format!("cohort remove early-apps app9 --file {}", file.display())).await;
    assert_eq!(remove.out, "0 added, 2 removed, 0 unchanged; 1 entry\nrevision 2, epoch 2\n");
    let ids: String =
        (0..1_000_000).map(|i| format!("10.{}.{}.{}\n", i >> 16, (i >> 8) & 255, i & 255)).collect();
    std::fs::write(&file, ids).unwrap();
    let load = on(&s.socket, &format!("cohort load early-apps --file {}", file.display())).await;
    assert_eq!(load.out, "1000000 added, 1 removed, 0 unchanged; 1000000 entries\nrevision 3, epoch 3\n");
    let piped = on_input(&s.socket, "cohort load early-apps --file -", "x\ny\n").await;
    assert!(piped.out.contains("2 entries"), "{}", piped.out);
    assert_eq!(on(&s.socket, "cohort add early-apps").await.code, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn tenants_are_shown_before_they_are_loaded_b5() {
    let s = serve().await;
    let [strategy, table] = ["strategy.yaml", "tenants.csv"].map(|f| s.dir.path().join(f));
    std::fs::write(&strategy, "name: it-14\nchoose: { fixes: [T-1, T-2] }\nlayer: { percent: 12.5 }\n")
        .unwrap();
    std::fs::write(&table, "id,tickets\nacme,T-1;T-9\nbolt,T-3\ncoil,T-2\n").unwrap();
    let line =
        |more: &str| format!("cohort plan {more} -f {} --tenants {}", strategy.display(), table.display());
    let shown = on(&s.socket, &line("")).await;
    assert_eq!(
        shown.out,
        "acme  reported T-1\ncoil  reported T-2\n2 of 3 tenants by strategy it-14\n\
         gray layer: 12.5 % of the formal one\nnothing was loaded: `gray cohort plan NAME .. --load` makes them a cohort's list\n"
    );
    assert_eq!(s.core.state().revision, 0);
    assert_eq!(on(&s.socket, &line("--load")).await.code, 2, "without a cohort");
    let loaded = on(&s.socket, &line("early-apps --load -m because")).await;
    assert!(
        loaded.out.ends_with("2 added, 2 removed, 0 unchanged; 2 entries\nrevision 1, epoch 1\n"),
        "{}",
        loaded.out
    );
    assert_eq!(s.core.state().history[0].why.as_deref(), Some("because"));
    assert_eq!(on(&s.socket, "cohort remove early-apps coil").await.code, 0);
    assert_eq!(on(&s.socket, "cohort add early-apps dune").await.code, 0);
    let why = on(&s.socket, "cohort show early-apps --why").await;
    let table_name = table.display();
    assert_eq!(
        why.out,
        format!(
            "acme  reported T-1\ncoil  reported T-2  (taken off since)\ndune  not chosen: added since\n\
             2 of 3 tenants of {table_name} by strategy it-14, 2026-01-02T03:04:05Z by uid:root, revision 1\n\
             gray layer: 12.5 % of the formal one\n"
        )
    );
    // Nobody is chosen, and what is wrong.
    std::fs::write(&table, "id,tickets\nacme,T-9\n").unwrap();
    assert_eq!(on(&s.socket, &line("early-apps --load")).await.code, 3);
    std::fs::write(&table, "id,ticket\nacme,T-1\nacme,\n").unwrap();
    let bad = on(&s.socket, &line("early-apps --load")).await;
    assert!(
        bad.code == 1 && bad.err.contains("there twice") && bad.err.contains("asks for `tickets`"),
        "{}",
        bad.err
    );
    std::fs::write(&strategy, "nam: it-14\n").unwrap();
    let bad = on(&s.socket, &line("")).await;
    assert!(bad.code == 1 && bad.err.contains("did you mean `name`?"), "{}", bad.err);
    assert_eq!(s.core.state().revision, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_reading_verb_speaks_json_and_yaml() {
    let s = serve().await;
    for line in [
        "status",
        "get services",
        "get instances",
        "get cohorts",
        "get routes",
        "get history",
        "history",
        "audit",
        "audit --verify",
        "cohort show early-apps",
        "explain --service shop",
        "flows",
        "workload list",
        "key export",
    ] {
        let json = on(&s.socket, &format!("{line} -o json")).await;
        assert_eq!(json.code, 0, "{line}: {}", json.err);
        let parsed: serde_json::Value =
            serde_json::from_str(&json.out).unwrap_or_else(|e| panic!("{line}: {e}"));
        let yaml = on(&s.socket, &format!("{line} -o yaml")).await.out;
        let again: serde_json::Value =
            serde_saphyr::from_str(&yaml).unwrap_or_else(|e| panic!("{line}: {e}\n{yaml}"));
        assert_eq!(parsed, again, "{line}");
    }
    let status: Status = serde_json::from_str(&on(&s.socket, "-o json status").await.out).unwrap();
    assert_eq!(status.pid, 4711);
}

#[tokio::test(flavor = "multi_thread")]
async fn workloads_instances_and_the_key() {
    let s = serve().await;
    assert_eq!(
        on(&s.socket, "workload set cart --unit cart.service").await.out,
        "workload cart is /system.slice/cart.service\n"
    );
    assert!(on(&s.socket, "workload list").await.out.contains("cart"));
    for (lane, said) in [("gray-2.0", "gray-2.0"), ("blue", "blue (not in the policy)")] {
        let set = on(&s.socket, &format!("workload set cart-2 --unit cart.service --lane {lane}")).await;
        assert_eq!(set.out, format!("workload cart-2 is /system.slice/cart.service, in lane {said}\n"));
        assert!(on(&s.socket, "workload list").await.out.contains(said));
    }
    assert_eq!(on(&s.socket, "tag --workload cart-2").await.out, "blue\n");
    assert_eq!(
        on(&s.socket, "tag --workload cart-2 --env").await.out,
        "GRAY_TAG=blue\nGRAY_WORKLOAD=cart-2\nGRAY_LANE=blue\n"
    );
    let tag: Tag = serde_json::from_str(&on(&s.socket, "tag -o json").await.out).unwrap();
    assert_eq!((tag.tag.as_str(), tag.workload.as_deref()), ("stable", Some("own")), "of whoever calls");
    assert_eq!(on(&s.socket, "tag --workload a --pid 1").await.code, 2);
    assert_eq!(on(&s.socket, "tag -- /no/such/program").await.code, 1);
    assert_eq!(on("/no/such/socket".as_ref(), "tag").await.code, 4);
    assert_eq!(on("/no/such/socket".as_ref(), "tag --or formal").await.out, "formal\n");
    assert_eq!(on(&s.socket, "workload remove cart-2").await.code, 0);
    assert_eq!(on(&s.socket, "workload remove cart").await.out, "workload cart removed\n");
    assert_eq!(on(&s.socket, "workload remove cart").await.code, 1);
    assert_eq!(on(&s.socket, "workload set cart --pid 1 --unit a").await.code, 2);
    assert_eq!(
        on(&s.socket, "instance drain shop/shop-2a").await.out,
        "shop/shop-2a takes no new connections\n"
    );
    assert!(on(&s.socket, "get instances shop/shop-2a").await.out.contains("draining"));
    assert_eq!(on(&s.socket, "instance drain shop/shop-2a").await.code, 1);
    assert_eq!(on(&s.socket, "instance restore shop/shop-2a").await.code, 0);
    assert_eq!(on(&s.socket, "instance drain shop").await.code, 2);

    let key = "0123456789abcdef0123456789abcdef";
    assert_eq!(on_input(&s.socket, "key import -", &format!("{key}\n")).await.code, 0);
    let file = s.dir.path().join("key");
    assert_eq!(on(&s.socket, &format!("key export --file {}", file.display())).await.code, 0);
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&file).unwrap().permissions());
    assert_eq!((std::fs::read_to_string(&file).unwrap(), mode & 0o777), (format!("{key}\n"), 0o600));
    assert_eq!(
        on(&s.socket, &format!("key export --file {}", file.display())).await.code,
        1,
        "never overwrites"
    );
    assert_eq!(on_input(&s.socket, "key import -", "no key").await.code, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_fails_when_a_check_failed() {
    let s = serve().await;
    let done = on(&s.socket, "doctor").await;
    assert_eq!(done.code, 1);
    assert_snapshot!("doctor", done.out);
    assert_eq!(done.err, "error: 1 check failed\nhelp: follow the advice under each\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_followed_and_counted_h4() {
    let s = serve().await;
    let (socket, core) = (s.socket.clone(), s.core.clone());
    let reader =
        tokio::task::spawn_blocking(move || at(&socket, "events --follow --count 2 --service shop", ""));
    // The reader may not have begun: send until it has seen enough.
    let mut n = 0;
    while !reader.is_finished() {
        let _ = core.events.send(event(if n % 2 == 0 { "shop" } else { "cart" }, "198.18.1.3:40000"));
        n += 1;
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let done = reader.await.unwrap();
    assert_eq!((done.code, done.out.lines().count()), (0, 2), "{}", done.err);
    assert_snapshot!("event", done.out.lines().next().unwrap());

    let json = on(&s.socket, "events --count 1 -o json").await.out;
    assert_eq!(serde_json::from_str::<serde_json::Value>(&json).unwrap()["arm"], "gray");
    assert_eq!(json.lines().count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn exit_codes_and_two_lines() {
    let s = serve().await;
    let bad = s.dir.path().join("bad.yaml");
    std::fs::write(&bad, "verison").unwrap();
    let dead = s.dir.path().join("dead.sock");
    let missing = s.dir.path().join("none.yaml");
    for (code, socket, line) in [
        (0, &s.socket, "status".to_string()),
        (1, &s.socket, "get services none".into()),
        (1, &s.socket, "cohort show none".into()),
        (1, &s.socket, format!("apply -f {}", missing.display())),
        (2, &s.socket, "".into()),
        (2, &s.socket, "nonsense".into()),
        (2, &s.socket, "apply".into()),
        (2, &s.socket, "apply -f - -f -".into()),
        (2, &s.socket, "explain --live tcp 1".into()),
        (2, &s.socket, "explain --service a --live tcp".into()),
        (2, &s.socket, "status -o xml".into()),
        (4, &dead, "status".into()),
        (4, &dead, "events".into()),
        (4, &dead, format!("apply -f {}", bad.display())),
    ] {
        let done = on(socket, &line).await;
        assert_eq!(done.code, code, "{line}: {}", done.err);
        if code > 0 {
            let lines: Vec<_> = done.err.lines().collect();
            assert_eq!(lines.len(), 2, "{line}: {}", done.err);
            assert!(
                lines[0].starts_with("error: ") && lines[1].starts_with("help: "),
                "{line}: {}",
                done.err
            );
            assert!(lines[1].len() > "help: ".len() + 5, "{line}: {}", done.err);
        }
    }
    let invalid = on(&s.socket, &format!("apply -f {}", bad.display())).await;
    assert_eq!((invalid.code, invalid.out.as_str()), (1, ""));
    assert_snapshot!("apply-invalid", invalid.err.replace(&bad.display().to_string(), "bad.yaml"));
    let dead = on(&dead, "status").await.err;
    assert!(dead.contains("gray agent") && dead.contains("GRAY_SOCKET"), "{dead}");
}

/// Codes that need a core that refuses: an unknown peer cannot be made here, so the reply is made by a role.
#[test]
fn a_refusal_is_code_3() {
    use gray_userspace::{api::ApiError, cli::Failure};
    let refused = ApiError::refused("no", "ask");
    let reply =
        gray_userspace::api::ClientError::Reply { status: refused.kind.status(), reply: refused.reply() };
    assert_eq!(Failure::from(reply).code, 3);
    assert!(Role::Viewer < Role::Operator);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_has_seen_enough_is_no_failure() {
    let s = serve().await;
    for line in [
        "status",
        "get instances",
        "completions bash",
        "openapi",
        "--help",
        "history -o json",
        "cohort show early-apps",
    ] {
        let (socket, line) = (s.socket.clone(), line.to_string());
        let code =
            tokio::task::spawn_blocking(move || run_io(&socket, &line, "", Box::new(cli_run::Closed)).code)
                .await;
        assert_eq!(code.unwrap(), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_file_is_refused_before_it_is_sent() {
    let s = serve_with(|_| {}).await;
    let file = s.dir.path().join("large");
    std::fs::File::create(&file).unwrap().set_len((64 << 20) + 1).unwrap();
    let done = on(&s.socket, &format!("cohort load early-apps --file {}", file.display())).await;
    assert_eq!(done.code, 1);
    assert!(done.err.contains("larger than 64 MiB"), "{}", done.err);
}

#[test]
fn colour_only_on_a_terminal() {
    let colored = cli_run::run_terminal("gray --help");
    assert!(colored.out.contains("\x1b["));
    assert!(!run("gray --help", "").out.contains("\x1b["));
    let _ = local();
}
