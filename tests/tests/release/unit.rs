//! Steps that are units, of a real systemd.

use gray_tests::server::Systemd;

use super::*;

fn unit(does: &str) -> String {
    format!(
        "[Unit]\nDefaultDependencies=no\n[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/sh -c '{does}'\n"
    )
}

fn document(name: &str, n: u32, step: &str) -> String {
    format!(
        "release: {name}\nversion: 2.0.0-gray.{n}\nservices: {{ shop: {{ gray: {{ version: '2.0' }} }} }}\n\
         deploy: [{{ {step} }}]\nstages: [{{ percent: 100, samples: 0, approval: true }}]\n"
    )
}

/// The unit is started, once, in systemd's own cgroup for it, and has ended when the step passes; one that fails, does not end, or is not
/// listed ends the release before anybody is on gray, and says why.
#[test]
fn f2_a_unit_of_a_real_systemd_is_started_and_what_fails_is_told() {
    let mut systemd = None;
    let shop = Shop::start_with(true, |world, spec| {
        let ran = world.temp().join("ran");
        let units = [
            ("shop-gray.service", unit(&format!("grep ^0:: /proc/self/cgroup >> {}", ran.display()))),
            ("bad.service", unit("exit 3")),
            ("slow.service", unit("sleep 100000")),
        ];
        let cgroup = world.lab().cgroup().child("systemd").unwrap();
        let started = Systemd::start(&world.edge_place(), cgroup, world.temp(), &units).unwrap();
        spec.by = started.by().unwrap();
        systemd = Some(started);
    });
    let systemd = systemd.unwrap();
    let listed = "shop-gray.service\nbad.service\nslow.service\n";
    std::fs::write(shop.hooks.join("units"), listed).unwrap();
    let _ = shop.begin(&document("good", 1, "unit: shop-gray.service"));
    shop.wait("good", "ramp 1", "approve");
    let ran = std::fs::read_to_string(shop.world.temp().join("ran")).unwrap();
    assert_eq!(ran.trim_end(), "0::/system.slice/shop-gray.service", "it ran once, as that unit");
    let shown = systemd.ctl(&["show", "-p", "ActiveState", "--value", "shop-gray.service"]).unwrap();
    assert_eq!(shown, "active");
    let history = shop.agent.gray_ok(&["release", "history", "good"]).unwrap();
    assert!(history.contains("ended with 0"), "{history}");
    let _ = shop.tell(&["abort", "good"]);
    let _ = shop.tell(&["close", "good"]);
    for (name, n, step, why) in [
        ("bad", 2, "unit: bad.service", "Job for bad.service failed"),
        ("slow", 3, "unit: slow.service, timeout: 2s", "did not end within 2s"),
    ] {
        let _ = shop.begin(&document(name, n, step));
        wait_for(name, PATIENCE, || Ok(shop.state(name) == "stopped")).unwrap();
        let history = shop.agent.gray_ok(&["release", "history", name]).unwrap();
        assert!(history.contains(why), "{history}");
        assert_eq!(shop.on_gray(0), BTreeSet::new());
        let _ = shop.tell(&["close", name]);
    }
    let file = shop.world.temp().join("other.yaml");
    std::fs::write(&file, document("other", 4, "unit: sshd.service")).unwrap();
    let refused = shop.agent.gray(&["release", "start", "-f", &file.to_string_lossy()]).unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("sshd.service is not listed"), "{said}");
    drop(systemd);
    shop.finish();
}
