//! The outside check `prometheus` (F10), asked of a real one that scrapes the agent's own metrics.

use gray_tests::server::Prometheus;

use super::*;

#[test]
fn f10_a_real_prometheus_passes_fails_and_holds_when_it_is_not_there() {
    let mut shop = Shop::start(true);
    let at = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
    let (metrics, server) = (at(9464), at(9090));
    let hooks = shop.hooks.display().to_string();
    shop.agent.use_args(&["--release-hooks", &hooks, "--metrics", &metrics.to_string()]);
    shop.agent.restart().unwrap();
    let place = shop.world.edge_place();
    let temp = shop.world.temp().to_owned();
    let prometheus = Prometheus::start(&place, &temp, server, metrics).unwrap();
    let load = shop.load(0);
    let check = |limit: &str| {
        format!(
            "checks: [{{ prometheus: 'http://{server}', query: 'sum(gray_connections_total{{service=\"shop\",arm=\"gray\"}})', {limit} }}], every: 1s"
        )
    };
    let document = format!(
        "release: shop-2.0\nversion: 2.0.0-gray.1\nservices: {{ shop: {{ gray: {{ version: '2.0' }} }} }}\nstages:\n  \
         - {{ percent: 25, approval: true, {} }}\n  - {{ percent: 50, samples: 0, approval: true, {} }}\n  - {{ percent: 100, approval: true, {} }}\n",
        check("below: 1000000000"),
        check("below: 1000000000"),
        check("below: 1")
    );
    let _ = shop.begin(&document);
    // A round has passed.
    shop.wait("shop-2.0", "ramp 1", "approve");

    // Nobody answers: the stage holds, however long, and nobody is taken back.
    drop(prometheus);
    let _ = shop.tell(&["approve", "shop-2.0"]);
    let said = |what: &str| {
        let history = shop.tell(&["history", "shop-2.0"]);
        history.as_array().unwrap().iter().any(|e| {
            e["what"] == "step" && e["from"] == "ramp 2" && e["text"].as_str().unwrap().contains(what)
        })
    };
    wait_for("a check that cannot tell", PATIENCE, || Ok(said("prometheus"))).unwrap();
    std::thread::sleep(Duration::from_secs(3));
    let shown = shop.tell(&["status", "shop-2.0"]);
    assert_eq!(shown["state"], "ramp 2", "{shown:#}");
    assert!(shown["waits_for"].to_string().contains("a round that passes"), "{shown:#}");
    assert!(shop.on_gray(0).len() > 50, "the share stays");

    // It is back, and so is the answer.
    let prometheus = Prometheus::start(&place, &temp, server, metrics).unwrap();
    shop.wait("shop-2.0", "ramp 2", "approve");

    // A number that is out of bounds takes it back: somebody has come to gray.
    let _ = shop.tell(&["approve", "shop-2.0"]);
    shop.wait("shop-2.0", "abnormal", "retry, resume or close");
    let shown = shop.tell(&["status", "shop-2.0"]);
    assert!(shown["reason"].as_str().unwrap().contains("prometheus sum(gray_connections_total"), "{shown:#}");
    assert_eq!(shop.on_gray(0), BTreeSet::new());
    load.stop().unwrap().assert_all_ok();
    let _ = shop.tell(&["close", "shop-2.0"]);
    drop(prometheus);
    shop.finish();
}
