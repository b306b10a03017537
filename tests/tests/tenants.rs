//! Tenants by strategy: shown, loaded, and why, by a real agent. Where requests of the chosen go is what `explain` reads of the
//! kernel's tables.

use gray_tests::{WorldSpec, policy::PolicyText, scene::Scene};

const STRATEGY: &str = "\
name: it-14
choose: { any: [{ fixes: [T-101] }, { active: { measure: logins, at-least: 100 } }] }
layer: { keys: 1000, keys-per-tenant: 100, damping: 2 }
";
const RELEASE: &str = "
release: web-2.0
version: 2.0.0-gray.1
services: { web: { gray: { version: '2.0' } } }
stages: [{ cohort: both, approval: true }, { percent: 100 }]
";
const TABLE: &str = "id,logins,tickets\nacme,7,T-101\nbolt,7,T-102\ncoil,100,\n";

#[test]
fn b5_g4_chosen_tenants_are_gray_and_the_choice_is_kept() {
    let mut scene = Scene::start(WorldSpec::default());
    let policy = PolicyText::own(&scene.world)
        .claims("tenant: { header: X-Tenant }")
        .cohort("early", "tenants: []")
        .cohort("office", "sources: []");
    scene.apply(&policy.gray_when("early").gray_when("office"));
    let [strategy, table] = [("strategy.yaml", STRATEGY), ("tenants.csv", TABLE)].map(|(name, text)| {
        let path = scene.world.temp().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_string_lossy().into_owned()
    });
    let plan =
        |more: &[&'static str]| [&["cohort", "plan"], more, &["-f", &strategy, "--tenants", &table]].concat();
    let service =
        scene.agent.gray_json(&["get", "services"]).unwrap()[0]["name"].as_str().unwrap().to_owned();
    let arm = |scene: &Scene, tenant: &str| {
        let said = scene.agent.gray_json(&[
            "explain",
            "--service",
            &service,
            "--src",
            "198.18.9.9",
            "--tenant",
            tenant,
        ]);
        said.unwrap()["arm"].as_str().unwrap().to_owned()
    };

    let shown = scene.agent.gray_ok(&plan(&[])).unwrap();
    assert!(
        shown.contains("acme  reported T-101\ncoil  logins 100 is at least 100\n2 of 3 tenants"),
        "{shown}"
    );
    assert_eq!(arm(&scene, "acme"), "stable", "shown, not loaded");
    assert!(!scene.agent.gray(&plan(&["office", "--load"])).unwrap().status.success(), "a list of sources");
    assert!(!scene.agent.gray(&["cohort", "show", "early", "--why"]).unwrap().status.success());

    let loaded = scene.agent.gray_json(&plan(&["early", "--load"])).unwrap();
    assert_eq!(loaded["loaded"]["added"], 2, "{loaded}");
    assert_eq!(["acme", "bolt", "coil"].map(|t| arm(&scene, t)), ["gray", "stable", "gray"]);
    let _ = scene.agent.gray_ok(&["cohort", "add", "early", "bolt"]).unwrap();
    let _ = scene.agent.gray_ok(&["cohort", "remove", "early", "coil"]).unwrap();

    // Also after the agent's death, and whatever becomes of the files.
    std::fs::remove_file(&table).unwrap();
    scene.agent.kill9().unwrap();
    scene.agent.restart().unwrap();
    let why = scene.agent.gray_json(&["cohort", "show", "early", "--why"]).unwrap();
    assert_eq!(
        (&why["added"], &why["removed"]),
        (&serde_json::json!(["bolt"]), &serde_json::json!(["coil"]))
    );
    assert_eq!(why["choice"]["document"], STRATEGY);
    assert_eq!(why["choice"]["chosen"][0], serde_json::json!({ "id": "acme", "why": ["reported T-101"] }));
    assert_eq!(why["revision"], loaded["loaded"]["revision"]);
    let history = scene.agent.gray_ok(&["history"]).unwrap();
    assert!(history.contains("2 of 3 tenants, by strategy it-14"), "{history}");
    scene.finish();
}

/// While a release is open that names them, also by way of another cohort; other lists are edited as ever.
#[test]
fn b5_the_tenants_of_an_open_release_are_frozen() {
    let mut scene = Scene::start(WorldSpec::default());
    let policy = |tenants: &str| {
        PolicyText::own(&scene.world)
            .claims("tenant: { header: X-Tenant }")
            .cohort("early", &format!("tenants: [{tenants}]"))
            .cohort("free", "tenants: []")
            .cohort("office", "sources: []")
            .cohort("both", "any: [early, office]")
    };
    let (first, other) = (policy("acme"), policy("acme, bolt"));
    scene.apply(&first);
    let [strategy, table, release, document, others] = [
        ("s.yaml", STRATEGY),
        ("t.csv", TABLE),
        ("release.yaml", RELEASE),
        ("other.yaml", &other.to_string()),
        ("others.txt", "bolt\ndash\n"),
    ]
    .map(|(name, text)| {
        let path = scene.world.temp().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_string_lossy().into_owned()
    });
    let plan = ["cohort", "plan", "early", "--load", "-f", &strategy, "--tenants", &table];
    let load = ["cohort", "load", "early", "--file", &others];
    let edits: [&[&str]; 5] = [
        &["cohort", "add", "early", "dash"],
        &["cohort", "remove", "early", "acme"],
        &load,
        &plan,
        &["apply", "-f", &document],
    ];
    let _ = scene.agent.gray_ok(&["release", "start", "-f", &release]).unwrap();
    let frozen = |scene: &Scene| {
        for edit in edits {
            let out = scene.agent.gray(edit).unwrap();
            let said = String::from_utf8_lossy(&out.stderr).into_owned();
            let told = said.contains("the tenants of web-2.0") && said.contains("gray release close web-2.0");
            assert!(!out.status.success() && told, "{edit:?}: {said}");
        }
        let shown = scene.agent.gray_json(&["cohort", "show", "early"]).unwrap();
        assert_eq!(shown["ids"], serde_json::json!(["acme"]), "{shown}");
    };
    frozen(&scene);
    for edit in [["cohort", "add", "free", "dash"], ["cohort", "add", "office", "198.18.7.7"]] {
        let _ = scene.agent.gray_ok(&edit).unwrap();
    }
    scene.agent.kill9().unwrap();
    scene.agent.restart().unwrap();
    frozen(&scene);
    let _ = scene.agent.gray_ok(&["release", "abort", "web-2.0"]).unwrap();
    let _ = scene.agent.gray_ok(&["release", "close", "web-2.0"]).unwrap();
    let _ = scene.agent.gray_ok(&["cohort", "add", "early", "dash"]).unwrap();
    let _ = scene.agent.gray_ok(&plan).unwrap();
    scene.finish();
}
