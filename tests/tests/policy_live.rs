//! A sample of the tables of cases (`live.cases`) on all three paths: packets, requests and callers on the node are served by whom the table
//! says. The host and the kernel decide the same rows by themselves.

use std::{collections::BTreeMap, net::SocketAddr};

use gray_tests::{
    WorldSpec,
    cases::reader::{Who, files},
    client::{LoadSpec, Mode},
    command::note,
    scene::Scene,
};
use gray_userspace::model::ClaimKind;

/// The document of the sample, and its rows: what, who asks, the version that serves.
fn sample() -> (String, Vec<(String, Who, String)>) {
    let file = files().into_iter().find(|f| f.ends_with("live.cases")).expect("the sample");
    let text = std::fs::read_to_string(file).unwrap();
    let (_, rest) = text.split_once("\npolicy\n").unwrap();
    let (document, rows) = rest.split_once("\n--\n").unwrap();
    let row = |line: &str| {
        let [what, who, want]: [&str; 3] = line.split(" | ").collect::<Vec<_>>().try_into().unwrap();
        let version = want.split("version=").nth(1).unwrap().split(' ').next().unwrap();
        (what.to_owned(), Who::read(who).unwrap(), version.to_owned())
    };
    (document.to_owned(), rows.lines().filter(|l| l.contains(" | ")).map(row).collect())
}

fn value(who: &Who, of: ClaimKind) -> Option<&str> {
    who.values.iter().find(|(k, _)| *k == of).map(|(_, v)| v.as_str())
}

/// One connection with what it says.
fn asks(who: &Who, to: SocketAddr) -> LoadSpec {
    let mode =
        if to.port() == 8080 { Mode::Http { per_connection: 1 } } else { Mode::Tcp { per_connection: 1 } };
    let mut spec = LoadSpec::new(to, mode).count(1).workers(1).sources(who.source.into_iter().collect());
    spec.headers.extend(value(who, ClaimKind::App).map(|v| ("X-App-Id".to_owned(), v.to_owned())));
    spec.headers.extend(value(who, ClaimKind::User).map(|v| ("Cookie".to_owned(), format!("uid={v}"))));
    if let Some(channel) = value(who, ClaimKind::Channel) {
        spec.path = format!("/?ch={channel}");
    }
    spec.mark = value(who, ClaimKind::Mark).map_or(0, |m| m.parse().unwrap());
    spec
}

#[test]
fn a13_c7_the_sample_is_served_as_the_table_says_on_every_path() {
    let scene = Scene::start(WorldSpec::default());
    let (document, rows) = sample();
    let _ = scene.agent.apply(&document).unwrap();
    let cgroup = scene.world.callers.path().to_string_lossy().into_owned();
    let mut paths = BTreeMap::<&str, usize>::new();
    let mut wrong = Vec::new();
    for (what, who, version) in &rows {
        let to = who.to.unwrap();
        let label = value(who, ClaimKind::Workload);
        if let Some(name) = label {
            let mut set = vec!["workload", "set", name, "--cgroup", &cgroup];
            set.extend(who.lane.iter().flat_map(|l| ["--lane", l.as_str()]));
            let _ = scene.agent.gray_ok(&set).unwrap();
        }
        let place = if label.is_some() { scene.world.caller() } else { scene.world.clients[0].place() };
        let report = asks(who, to).run(&place).unwrap();
        report.assert_all_ok();
        if report.of_version(version) != 1 {
            wrong.push(format!("{what}: {:?}, not {version}", report.by_server));
        }
        if let Some(name) = label {
            let _ = scene.agent.gray_ok(&["workload", "remove", name]).unwrap();
        }
        let path =
            ["packet", "request", "connect"].into_iter().find(|p| what.contains(&format!("{p}:"))).unwrap();
        assert_eq!(path == "connect", label.is_some(), "{what}");
        *paths.entry(path).or_default() += 1;
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), rows.len(), wrong.join("\n"));
    assert!(paths.len() == 3 && paths.values().all(|n| *n >= 6), "{paths:?}");
    note(&format!("{} rows: {paths:?}", rows.len()));
    scene.finish();
}
