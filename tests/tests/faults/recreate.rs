//! An interface that is made again and again while the agent follows: nothing piles up, and the last one is steered.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use gray_tests::{
    WorldSpec, bpf,
    command::{note, wait_for},
    kill::pinned,
    link::{Veth, ip_batch},
    scene::{Scene, expect_split},
    skip,
};

use super::{attached, four_are_gray, lived_on, long_lived, new_connections, rounds, some_more};
use crate::ONE;

/// What the agent holds and what it pinned: descriptors by what they are, names of pins, threads, programs by place.
#[derive(Debug)]
struct Held {
    fds: BTreeMap<String, u32>,
    pins: Vec<String>,
    threads: usize,
    attached: Vec<usize>,
}

impl Held {
    fn now(scene: &Scene) -> Self {
        let pid = scene.agent.pid().unwrap();
        let mut fds = BTreeMap::new();
        for entry in fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten() {
            // One that was closed meanwhile was none to hold.
            let Ok(what) = fs::read_link(entry.path()) else { continue };
            let what = what.to_string_lossy().into_owned();
            // Sockets and pipes have numbers.
            let kind = what.split(":[").next().unwrap_or(&what).to_owned();
            *fds.entry(kind).or_default() += 1;
        }
        let w = &scene.world;
        let attached = w.client_ifs().into_iter().chain(w.backend_ifs());
        Self {
            fds,
            pins: pinned::names(scene.agent.bpffs()),
            threads: fs::read_dir(format!("/proc/{pid}/task")).unwrap().count(),
            attached: attached
                .map(|i| bpf::on_interface(&w.edge, &i, bpf::TCX_INGRESS).unwrap().len())
                .collect(),
        }
    }

    /// Connections to the API come and go: one may have been there `before` and be gone. Of all else there is what there was.
    fn no_more_than(&self, before: &Self) -> bool {
        let sockets = |held: &Self| held.fds.get(SOCKET).copied().unwrap_or(0);
        let rest = |held: &Self| {
            let mut fds = held.fds.clone();
            let _ = fds.remove(SOCKET);
            (fds, held.pins.clone(), held.threads, held.attached.clone())
        };
        sockets(self) <= sockets(before) && rest(self) == rest(before)
    }
}

const SOCKET: &str = "socket";

/// Anonymous memory, KiB.
fn memory(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find_map(|l| l.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").trim().parse().unwrap()
}

/// Once in a while it moves to another namespace and ends there.
fn again(pair: &Veth, i: usize) {
    if i % 8 == 3 {
        let (name, far) = (&pair.near.ifname, &pair.far.ns);
        ip_batch(&pair.near.ns, &format!("link set {name} netns {}\n", far.name())).unwrap();
        ip_batch(far, &format!("link del {name}\n")).unwrap();
    } else {
        pair.delete().unwrap();
    }
    pair.create_again().unwrap();
}

#[test]
fn h2_an_interface_made_again_and_again_leaves_nothing_behind() {
    if skip::without_tcx() {
        return;
    }
    let scene = Scene::packets(WorldSpec { clients: 2, ..WorldSpec::default() });
    let (all, gray) = four_are_gray(&scene);
    let other = &scene.world.clients[0];
    let mut long = long_lived(&other.place(), super::vip(false, 9000), &all);
    let pair = &scene.world.clients[1].link;
    let pid = scene.agent.pid().unwrap();
    let half = rounds("interfaces", 120) / 2;
    let some = || {
        for i in 0..half {
            again(pair, i);
            if i % 10 == 0 {
                attached(&scene, pair);
            }
        }
        attached(&scene, pair);
    };
    // Buffers and threads' heaps reach their size in the first half.
    some();
    let (before, memory_before) = (Held::now(&scene), memory(pid));
    some();
    let grown = memory(pid).saturating_sub(memory_before);
    let same = wait_for("the agent to hold no more than before", Duration::from_secs(5), || {
        Ok(Held::now(&scene).no_more_than(&before))
    });
    assert!(same.is_ok(), "{:#?}, before {before:#?}", Held::now(&scene));
    note(&format!("{half} times more: {grown} KiB"));
    // After a handful they have not.
    let most = if half < 30 { 1024 } else { 512 };
    assert!(grown < most, "{grown} KiB more than after the first half");
    // Not before: each is an event, and the agent keeps the last ones.
    let mut new = new_connections(&other.place(), &all);
    again(pair, 0);
    attached(&scene, pair);
    some_more(&mut new, 50);
    some_more(&mut long, 50);
    let new = new.stop().unwrap();
    new.assert_all_ok();
    expect_split(&new, &all, &gray);
    lived_on(&long.stop().unwrap());
    // Clients behind the last one are steered.
    let last = &scene.world.clients[1];
    let sources = last.sources(false);
    let two: Vec<String> = sources[..2].iter().map(ToString::to_string).collect();
    let _ = scene.agent.gray_ok(&["cohort", "add", "early", &two[0], &two[1]]).unwrap();
    let report = scene.load_from(&last.place(), false, 8080, ONE, sources.clone(), sources.len() as u64);
    report.assert_all_ok();
    expect_split(&report, &sources, &sources[..2]);
    scene.finish();
}
