//! The agent killed at every point of a release; and at random moments, several times in one, with notices, and while somebody recalls it.

use super::*;

#[test]
fn f1_killed_anywhere_it_comes_to_the_same_end() {
    let mut shop = Shop::start(true);
    let load = shop.load(0);
    let points = |text: &str| -> Vec<String> {
        let all = text.lines().filter_map(|l| l.strip_prefix("fail point "));
        all.filter(|p| p.starts_with("release.")).map(str::to_owned).collect()
    };
    // One that nobody kills says what there is.
    shop.agent.stop().unwrap();
    shop.agent.spawn(&[("GRAY_FAIL", "trace")]).unwrap();
    assert!(shop.agent.wait_ready().unwrap());
    let _ = shop.begin(&short("r0", 1));
    shop.wait("r0", "done", "a policy");
    let all = points(&std::fs::read_to_string(shop.agent.log()).unwrap());
    give_up(&shop, "r0");
    let every =
        if all_points() { 1 } else { all.len() / many("kills of a release", 12, 3).min(all.len()).max(1) };
    // Each point at its first passing, and others evenly; `GRAY_POINTS=all`: every passing.
    let mut seen = BTreeSet::new();
    let chosen: Vec<String> = all
        .iter()
        .enumerate()
        .filter(|(i, p)| seen.insert(p.split(':').next().unwrap().to_owned()) || i % every.max(1) == 0)
        .map(|(_, p)| p.clone())
        .collect();
    note(&format!("{} of {} points: {chosen:?}", chosen.len(), all.len()));
    assert_eq!(seen.len(), 6, "{seen:?}");
    let mut killed = 0;
    for (n, point) in chosen.iter().enumerate() {
        let name = format!("r{}", n + 1);
        shop.agent.stop().unwrap();
        shop.agent.spawn(&[("GRAY_FAIL", point)]).unwrap();
        assert!(shop.agent.wait_ready().unwrap());
        shop.try_begin(&short(&name, n + 2));
        let mut died = false;
        wait_for("the agent's death", PATIENCE, || {
            died = shop.agent.was_killed()?;
            let out = shop.agent.gray(&["release", "status", &name, "-o", "json"])?;
            let shown: Value = serde_json::from_slice(&out.stdout).unwrap_or_default();
            Ok(died || shown["state"] == "done")
        })
        .unwrap_or_else(|e| panic!("{point}: {e:#}"));
        if died {
            killed += 1;
            shop.agent.restart().unwrap();
        }
        shop.wait(&name, "done", "a policy");
        assert_eq!((shop.on_gray(0).len(), shop.on_gray(1).len()), (200, 200), "{point}");
        let history = shop.tell(&["history", &name]);
        let unknown = history.as_array().unwrap().iter().filter(|e| e["what"] == "unknown").count() as u32;
        let mine: Vec<u32> = shop
            .said()
            .into_iter()
            .filter(|(k, _)| k.starts_with(&format!("{name}.")))
            .map(|(_, n)| n)
            .collect();
        assert_eq!(mine.len(), 2, "{point}: deploy and align have a key each");
        let more: u32 = mine.iter().map(|n| n - 1).sum();
        assert!(more <= unknown, "{point}: {more} times more, {unknown} said to be unknown");
        give_up(&shop, &name);
    }
    assert!(killed >= 5, "{killed} kills");
    load.stop().unwrap().assert_all_ok();
    shop.finish();
}

/// Numbers that a seed repeats (an LCG's upper bits).
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default)
}

/// Goes to its end by itself, and tells somebody of each transition.
fn told(name: &str, n: u64) -> String {
    format!(
        "release: {name}\nversion: 2.0.0-gray.{n}\nservices: {{ shop: {{ gray: {{ version: '2.0' }} }}, cart: {{ gray: {{ version: '2.0' }} }} }}\n\
         deploy: [{{ command: [log, deploy] }}, {{ command: [log, deploy, again] }}]\nverify: [{{ command: [log, verify] }}]\n\
         stages:\n  - {{ percent: 10, samples: 0, checks: [{{ command: [check] }}] }}\n  - {{ percent: 25, samples: 0, time: 300ms }}\n  - {{ percent: 100, samples: 0 }}\n\
         align: {{ steps: [{{ command: [log, align] }}] }}\nnotify: [{{ command: [log, told] }}]\n"
    )
}

/// `GRAY_KILLS=N`: so many; `GRAY_SEED=N`: these moments.
#[test]
fn f1_f7_killed_at_random_moments_it_comes_to_the_same_end() {
    let mut shop = Shop::start(true);
    let load = shop.load(0);
    let wanted = number("GRAY_KILLS", many("random kills of a release", 60, 8) as u64);
    let seed = number("GRAY_SEED", 7);
    let mut random = Random(seed);
    let (mut killed, mut recalls, mut lost, mut n) = (0, 0, 0, 0);
    while killed < wanted {
        n += 1;
        let name = format!("k{n}");
        let which = format!("seed {seed}, release {n}");
        let _ = shop.begin(&told(&name, n));
        let kills = 1 + random.below(4);
        // The second script: somebody takes it back in the middle, and the agent dies beside it.
        let recalled_at = (n % 2 == 0).then(|| random.below(kills));
        for kill in 0..kills {
            // From before the first step to after the last; and the next agent, while it begins.
            std::thread::sleep(Duration::from_millis(random.below(900)));
            let recall = (recalled_at == Some(kill)).then(|| {
                let mut command = shop.agent.command(&["release", "recall", &name, "--mode", "reset"]);
                let quiet = || std::process::Stdio::null();
                let child = command.stdout(quiet()).stderr(quiet()).spawn().unwrap();
                std::thread::sleep(Duration::from_millis(random.below(400)));
                child
            });
            shop.agent.kill9().unwrap();
            killed += 1;
            if let Some(mut child) = recall {
                let _ = child.wait().unwrap();
            }
            shop.agent.restart().unwrap();
        }
        if recalled_at.is_some() {
            recalls += 1;
            // Its word may have died with the agent: who gave it was told so, and gives it again.
            let goes_on = |s: &str| !matches!(s, "stopped" | "recalling" | "abnormal");
            if goes_on(&shop.state(&name)) {
                lost += 1;
                let _ = shop.tell(&["recall", &name, "--mode", "reset"]);
            }
            let over = || Ok(matches!(shop.state(&name).as_str(), "stopped" | "abnormal"));
            wait_for("it to be taken back", PATIENCE, over).unwrap_or_else(|e| panic!("{which}: {e:#}"));
            assert_eq!((shop.on_gray(0), shop.on_gray(1)), (BTreeSet::new(), BTreeSet::new()), "{which}");
        } else {
            shop.wait(&name, "done", "a policy");
            assert_eq!((shop.on_gray(0).len(), shop.on_gray(1).len()), (200, 200), "{which}");
        }
        each_once_or_unknown(&shop, &name, recalled_at.is_none(), &which);
        if recalled_at.is_none() {
            let _ = shop.tell(&["abort", &name]);
        }
        let _ = shop.tell(&["close", &name]);
        shop.wait(&name, "failed", "");
    }
    note(&format!(
        "seed {seed}: {killed} kills in {n} releases; of {recalls} recalls {lost} had to be said again"
    ));
    load.stop().unwrap().assert_all_ok();
    shop.finish();
}

/// Each step and notice was done once as the outside sees it, or its history says that nobody knows.
fn each_once_or_unknown(shop: &Shop, name: &str, whole: bool, which: &str) {
    let mine: Vec<u32> =
        shop.said().into_iter().filter(|(k, _)| k.starts_with(&format!("{name}."))).map(|(_, n)| n).collect();
    let history = shop.tell(&["history", name]);
    let of = |what: &str| history.as_array().unwrap().iter().filter(|e| e["what"] == what).count();
    let (unknown, turns) = (of("unknown") as u32, of("transition"));
    let more: u32 = mine.iter().map(|n| n - 1).sum();
    assert!(more <= unknown, "{which}: {more} times more, {unknown} said to be unknown");
    if whole {
        // Two deployments, one verification, one alignment, and the notices of all transitions so far.
        let told = || shop.said().keys().filter(|k| k.starts_with(&format!("{name}."))).count();
        wait_for("every step and notice", PATIENCE, || Ok(told() >= 4 + turns))
            .unwrap_or_else(|e| panic!("{which}: {} of {}: {e:#}", told(), 4 + turns));
        assert_eq!(told(), 4 + turns, "{which}: a key each");
    }
}
