//! Tenants by strategy: shown, loaded, and why, by a real agent. Where requests of the chosen go is what `explain` reads of the
//! kernel's tables.

use gray_tests::{WorldSpec, policy::PolicyText, scene::Scene};

const STRATEGY: &str = "\
name: it-14
choose: { any: [{ fixes: [T-101] }, { active: { measure: logins, at-least: 100 } }] }
layer: { keys: 1000, keys-per-tenant: 100, damping: 2 }
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
