//! `gray-demo` itself: a whole release and the request path come out right, and what is wrong is noticed. A1, A2, A3, A5, A7, B1, B2, C10, C15, D1, E1, E2, E5, F1
//! to F6, F9, F12, H1, H2.

use std::process::{Command, Output};

use gray_tests::{command::note, helper};
use gray_userspace::sys::kernel::{KernelVersion, MESSAGES};
use serde_json::Value;

fn demo(args: &[&str]) -> Output {
    let out = Command::new(helper::beside("gray-demo").unwrap()).arg("--json").args(args).output().unwrap();
    String::from_utf8_lossy(&out.stderr).lines().filter(|l| l.starts_with("FEWER ")).for_each(note);
    out
}

fn json(out: &Output) -> Value {
    let said = String::from_utf8_lossy(&out.stderr);
    serde_json::from_slice(&out.stdout).unwrap_or_else(|e| panic!("stdout is not only JSON: {e}\n{said}"))
}

#[test]
fn h1_h2_a5_a7_b1_b2_f1_f9_the_demo_is_right_at_every_step() {
    let out = demo(&[]);
    let report = json(&out);
    assert!(out.status.success(), "{}", report["verdict"]);
    assert_eq!((&report["right"], &report["failures"]), (&Value::Bool(true), &Value::from(0)));
    let steps = report["steps"].as_array().unwrap();
    assert_eq!(steps.len(), 10);
    for step in steps {
        assert_eq!(step["rows"].as_array().unwrap().len(), 4, "clients and callers, IPv4 and IPv6: {step}");
    }
    // The clients of the first and the last step reach 1.0, those of 100 % reach 2.0: the demo shows something.
    let reached = |name: &str, version: &str| {
        let step = steps.iter().find(|s| s["name"] == name).unwrap();
        step["rows"].as_array().unwrap().iter().map(|r| r[version].as_u64().unwrap()).sum::<u64>()
    };
    assert_eq!((reached("gray is not here", "reached_2"), reached("100 %", "reached_1")), (0, 0));
    assert_eq!(reached("gray is gone", "reached_2"), 0);
    request_path(&report["request_path"]);
    releases(&report["releases"]);
}

/// Five acts, each looked at and right; what they show is what people are told of.
fn request_path(all: &Value) {
    let shown = |name: &str| -> String {
        let act = all.as_array().unwrap().iter().find(|a| a["name"] == name);
        let act = act.unwrap_or_else(|| panic!("no `{name}`: {all:#}"));
        assert_eq!((&act["right"], &act["looked_at"]), (&true.into(), &act["as_expected"]), "{act:#}");
        assert!(act["looked_at"].as_u64().unwrap() > 3, "{act:#}");
        act["shown"].as_array().unwrap().iter().map(|l| l.as_str().unwrap().to_owned() + "\n").collect()
    };
    assert_eq!(shown("one URL, two APP IDs").lines().count(), 4);
    assert_eq!(shown("one kept connection").matches("app7->2.0 app8->1.0").count(), 2 * 4);
    let nobody = shown("no APP ID");
    for told in ["GET /cart/7?...", "page on-call: orders raised", "over 10 % in 1s"] {
        assert!(nobody.contains(told), "{told}: {nobody}");
    }
    assert!(!nobody.contains("secret"), "{nobody}");
    let stable = "app8 -> front 1.0 > cart 1.0 > stock 1.0\n";
    let without = shown("a chain, without a link");
    assert!(
        without.contains("app7 -> front 2.0 > cart 1.0 > stock 1.0\n") && without.contains(stable),
        "{without}"
    );
    if KernelVersion::running().unwrap() < MESSAGES {
        assert_eq!(all.as_array().unwrap().len(), 4);
        return;
    }
    let with = shown("a chain, with a link");
    assert!(with.contains("app7 -> front 2.0 > cart 1.0 > stock 2.0\n") && with.contains(stable), "{with}");
}

/// One comes to its end, stage by stage; one is taken back by what was measured of it.
fn releases(all: &Value) {
    let [good, bad] = all.as_array().unwrap().as_slice() else { panic!("two releases: {all:#}") };
    assert_eq!((&good["ended"], &good["failures"]), (&"closed".into(), &0.into()), "{good:#}");
    let shares = |r: &Value| -> Vec<String> {
        r["stages"].as_array().unwrap().iter().map(|s| s["share"].as_str().unwrap().to_owned()).collect()
    };
    for (share, percent) in shares(good).iter().zip(["1 %", "5 %", "25 %", "100 %"]) {
        assert!(share.starts_with(percent), "{share}: {good:#}");
    }
    let step = |r: &Value, what: &str| {
        r["steps"].as_array().unwrap().iter().any(|s| s.as_str().is_some_and(|s| s.starts_with(what)))
    };
    for what in ["deploy 2 of 2", "verify 2 of 2", "gray-verify 2 of 2", "align 2 of 2"] {
        assert!(step(good, what), "{what}: {good:#}");
    }
    for stage in good["stages"].as_array().unwrap() {
        for s in stage["services"].as_array().unwrap() {
            assert!(s["gray_connections"].as_u64().unwrap() >= 50, "{stage:#}");
        }
    }
    assert_eq!((&bad["ended"], shares(bad).len()), (&"failed".into(), 1), "{bad:#}");
    let stage = &bad["stages"][0];
    assert_eq!(stage["verdict"], "fail", "{bad:#}");
    assert!(stage["services"][1]["gray_failures"].as_u64().unwrap() > 0, "{bad:#}");
    assert!(bad["taken_back_ms"].as_u64().unwrap() > 0 && bad["failures"].as_u64().unwrap() > 0, "{bad:#}");
    assert!(!step(bad, "align"), "{bad:#}");
}

#[test]
fn a_wrong_percentage_and_a_wrong_list_are_noticed() {
    let out = demo(&["--break-it"]);
    assert_eq!(out.status.code(), Some(1));
    let report = json(&out);
    assert_eq!(report["right"], false);
    let wrong = |name: &str| {
        report["steps"].as_array().unwrap().iter().any(|s| s["name"] == name && s["right"] == false)
    };
    assert!(wrong("10 %") && wrong("50 %") && !wrong("100 %"), "{}", report["verdict"]);
    // Another app is listed: whoever should be gray by its request is not, and who names nobody is told of all the same.
    for act in report["request_path"].as_array().unwrap() {
        assert_eq!(act["right"], act["name"] == "no APP ID", "{act:#}");
        assert_eq!(act["details"].as_array().unwrap().is_empty(), act["right"] == true, "{act:#}");
    }
}
