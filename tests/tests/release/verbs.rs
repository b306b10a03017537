//! Commands and what they lead to, with the evidence that the history has of each: `retry`, `promote`, and the modes of a recall.

use super::*;

/// Stopped, mended and tried again; then, in the middle of the ramp, given to everybody by a person's word. The history says why it stopped, and
/// what was measured when the word was given.
#[test]
fn f3_f7_retry_and_promote_and_what_each_was_decided_on() {
    let shop = Shop::start(true);
    let bad = shop.hooks.join("bad");
    std::fs::write(&bad, "").unwrap();
    let document = "release: shop-2.0\nversion: 2.0.0-gray.1\nservices: { shop: { gray: { version: '2.0' } } }\ndeploy: [{ command: [check] }]\n\
                    stages: [{ percent: 25, samples: 0, approval: true }, { percent: 100, samples: 0 }]\n";
    let _ = shop.begin(document);
    shop.wait("shop-2.0", "stopped", "retry or close");
    assert_eq!(shop.on_gray(0), BTreeSet::new());
    std::fs::remove_file(&bad).unwrap();
    let _ = shop.tell(&["retry", "shop-2.0", "--message", "it is mended"]);
    shop.wait("shop-2.0", "ramp 1", "approve");
    let on = shop.on_gray(0).len();
    assert!(on > 20 && on < 90, "{on} of 200");
    let _ = shop.tell(&["promote", "shop-2.0", "--message", "we know enough"]);
    shop.wait("shop-2.0", "done", "a policy");
    assert_eq!(shop.on_gray(0).len(), 200);
    let history = shop.tell(&["history", "shop-2.0"]);
    let entries = history.as_array().unwrap();
    let text = |e: &Value| e["text"].as_str().unwrap_or_default().to_owned();
    let moved = |from: &str, to: &str| {
        let found = entries.iter().find(|e| e["what"] == "transition" && e["from"] == from && e["to"] == to);
        found.unwrap_or_else(|| panic!("{from} to {to}: {history:#}")).clone()
    };
    assert!(text(&moved("deploying", "stopped")).contains("it is bad"), "{history:#}");
    let _ = moved("stopped", "deploying");
    let promoted = moved("ramp 1", "aligning");
    let counts = &promoted["evidence"]["counts"];
    let of = |arm: &str| counts[0][arm]["connections"].as_u64().unwrap_or_default();
    assert!(of("gray") >= on as u64 && of("stable") > 0, "what was measured until then: {promoted:#}");
    for (verb, why) in [("retry", "it is mended"), ("promote", "we know enough")] {
        let said = |e: &Value| e["what"] == "transition" && text(e).contains(verb) && text(e).contains(why);
        assert!(entries.iter().any(said), "{verb}: {history:#}");
    }
    let _ = shop.tell(&["abort", "shop-2.0"]);
    let _ = shop.tell(&["close", "shop-2.0"]);
    shop.finish();
}

/// By either command: new connections go to stable at once, and established ones stay, are closed after the grace, or are now. The other service's
/// connections to the same instance are nobody's business.
#[test]
fn f8_established_connections_are_kept_drained_or_reset_by_either_command() {
    let shop = Shop::start(true);
    let sources = shop.world.clients[0].sources(false);
    let stable = idle(&shop, sources[1], 5, "1.0");
    let modes =
        [["--mode", "keep", "", ""], ["--mode", "drain", "--grace", "1s"], ["--mode", "reset", "", ""]];
    let commands = [vec!["recall", "--release", "echo"], vec!["release", "recall", "echo"]];
    let all = modes.iter().flat_map(|mode| commands.iter().map(move |command| (mode, command)));
    for (n, (mode, command)) in all.enumerate() {
        let which = format!("{command:?} {mode:?}");
        let _ = shop.begin(&ECHO.replace("gray.1", &format!("gray.{}", n + 1)));
        shop.wait("echo", "ramp 1", "approve");
        let gray = idle(&shop, sources[0], 5, "2.0");
        let mode: Vec<&str> = mode.iter().copied().filter(|w| !w.is_empty()).collect();
        let told = shop.agent.gray_json(&[command.as_slice(), &mode].concat()).unwrap();
        let told = if told.is_array() { told[0].clone() } else { told };
        let drains = mode.contains(&"drain");
        assert_eq!(told["state"], if drains { "recalling" } else { "abnormal" }, "{which}: {told:#}");
        drop(idle(&shop, sources[0], 1, "1.0"));
        if mode.contains(&"keep") {
            all_serve(gray);
        } else {
            let mut left = gray;
            wait_for(&which, PATIENCE, || {
                left = open_still(std::mem::take(&mut left));
                Ok(left.is_empty())
            })
            .unwrap();
            shop.wait("echo", "abnormal", "retry, resume or close");
            let history = shop.agent.gray_ok(&["release", "history", "echo"]).unwrap();
            assert!(history.contains("5 closed"), "{which}: {history}");
        }
        let _ = shop.tell(&["close", "echo"]);
    }
    all_serve(stable);
    shop.finish();
}
