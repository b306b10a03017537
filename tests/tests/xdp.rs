//! XDP in front of tc, live: forced on both ends of the lab, left to tc where frames are not taken, foreign programs, and
//! what the agent says and takes away.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use aya::{
    Ebpf,
    programs::{Xdp, XdpMode},
};
use gray_tests::{
    WorldSpec,
    agent::{Agent, AgentSpec},
    command::{run, wait_for},
    netns::Netns,
    object,
    policy::PolicyText,
    scene::{MODES, Scene, expect_split, servers},
    skip,
    world::World,
};
use gray_userspace::sys::kernel::KernelVersion;
use serde_json::Value;

/// The kernel tells since then what takes frames.
const TELLS: KernelVersion = KernelVersion::new(6, 3, 0);

/// The lab's XDP program that passes everything, on an interface until the drop.
struct Passing {
    ebpf: Ebpf,
}

impl Passing {
    fn on(ns: &Arc<Netns>, ifname: &str) -> Self {
        let mut ebpf = object::open(|_| {}).unwrap();
        let program: &mut Xdp = ebpf.program_mut("lab_empty_xdp").unwrap().try_into().unwrap();
        program.load().unwrap();
        let _ = ns.enter(|| program.attach(ifname, XdpMode::Driver)).unwrap();
        Self { ebpf }
    }

    fn id(&self) -> u32 {
        let program: &Xdp = self.ebpf.program("lab_empty_xdp").unwrap().try_into().unwrap();
        program.info().unwrap().id()
    }
}

/// The far ends take frames, and complete the checksums of what they send: XDP sees bytes, and no more.
fn far_ends(world: &World) -> Vec<Passing> {
    let clients = world.clients.iter().map(|c| &c.ns);
    clients
        .chain(world.backends.iter().map(|b| &b.ns))
        .map(|ns| {
            checksums_off(ns);
            Passing::on(ns, "eth0")
        })
        .collect()
}

fn checksums_off(ns: &Netns) {
    let _ = run(ns.command("ethtool").args(["-K", "eth0", "tx", "off"])).unwrap();
}

fn forced(world: &World) -> AgentSpec {
    let mut spec = AgentSpec::packets(world);
    spec.attach.iter_mut().for_each(|a| a.push_str(":xdp"));
    spec
}

fn scene(world: World, spec: AgentSpec) -> Scene {
    let (stable, gray) = servers(&world);
    let agent = Agent::start_with(&world, spec).unwrap();
    Scene { agent, stable, gray, world }
}

/// Frames that XDP redirected from an interface of the edge.
fn redirected(scene: &Scene, ifname: &str) -> u64 {
    let text = run(scene.world.edge.command("ethtool").args(["-S", ifname])).unwrap();
    let of = |line: &str| -> Option<u64> {
        let (name, n) = line.trim().split_once(": ")?;
        name.ends_with("_xdp_redirect").then(|| n.parse().ok())?
    };
    assert!(text.contains("_xdp_redirect"), "{text}");
    text.lines().filter_map(of).sum()
}

fn attachment(agent: &Agent, iface: &str) -> Value {
    let status = agent.gray_json(&["status"]).unwrap();
    let all = status["attachments"].as_array().unwrap();
    all.iter().find(|a| a["iface"] == iface).unwrap_or_else(|| panic!("{status}")).clone()
}

fn note(agent: &Agent, iface: &str) -> String {
    attachment(agent, iface)["xdp_note"].as_str().unwrap_or_default().to_owned()
}

/// The program on an interface: 0 for none.
fn program(ns: &Netns, ifname: &str) -> Result<u64> {
    let text = run(ns.command("ip").args(["-j", "-d", "link", "show", "dev", ifname]))?;
    let links: Value = serde_json::from_str(&text).context("read the output of ip -j link show")?;
    Ok(links[0]["xdp"]["prog"]["id"].as_u64().unwrap_or(0))
}

fn wait_native(agent: &Agent, iface: &str, native: bool) {
    let what = format!("XDP on {iface} to be {native}");
    // The agent compares everything each 10 s.
    wait_for(&what, Duration::from_secs(15), || Ok((attachment(agent, iface)["xdp"] == "native") == native))
        .unwrap();
}

/// Every protocol and family, from gray sources and others: nonces are checked, and servers see the clients' addresses.
fn all_protocols(scene: &Scene) {
    let c = &scene.world.clients[0];
    for v6 in [false, true] {
        let all = c.sources(v6);
        for (port, mode) in MODES {
            let report = scene.load(v6, port, mode, 2);
            expect_split(&report, &all, &all[..2]);
            assert_eq!(report.peer_kept, report.ok, "{mode:?}: dnat keeps the client's address");
        }
    }
}

fn apply(scene: &Scene) {
    let c = &scene.world.clients[0];
    let early: Vec<_> = [false, true].iter().flat_map(|v6| c.sources(*v6)[..2].to_vec()).collect();
    scene.apply(&PolicyText::moved(&scene.world).sources("early", early).gray_when("early"));
}

fn spec() -> WorldSpec {
    WorldSpec { sources4: 4, sources6: 4, vips: vec![None], ..WorldSpec::default() }
}

/// H1, H3, A5: both directions by XDP, TCP and UDP, v4 and v6. The receivers check every checksum. The agent may die, and
/// may come back.
#[test]
fn forced_on_veth_both_directions_go_by_xdp() {
    if skip::lacks(TELLS, "XDP in front") {
        return;
    }
    let world = World::build(spec()).unwrap();
    let far = far_ends(&world);
    let spec = forced(&world);
    let mut scene = scene(world, spec);
    apply(&scene);
    for iface in ["c0", "b0", "b1"] {
        let a = attachment(&scene.agent, iface);
        assert_eq!(
            (&a["hook"], &a["xdp"], &a["xdp_note"]),
            (&"tcx".into(), &"native".into(), &Value::Null),
            "{a}"
        );
    }
    let text = scene.agent.gray_ok(&["status"]).unwrap();
    assert!(text.contains("tcx + xdp (native)"), "{text}");
    all_protocols(&scene);
    let before = [redirected(&scene, "c0"), redirected(&scene, "b0"), redirected(&scene, "b1")];
    // At least the payload of some hundred requests each way.
    assert!(before.iter().all(|n| *n > 100), "{before:?}");
    scene.agent.kill9().unwrap();
    let report = scene.load(false, 8080, MODES[1].1, 2);
    report.assert_all_ok();
    assert!(redirected(&scene, "c0") > before[0], "XDP needs no agent");
    let id = program(&scene.world.edge, "c0").unwrap();
    scene.agent.restart().unwrap();
    assert_eq!(program(&scene.world.edge, "c0").unwrap(), id, "nothing is verified anew");
    all_protocols(&scene);
    assert!(redirected(&scene, "b0") > before[1]);
    drop(far);
    scene.finish();
}

/// A veth whose peer has neither XDP nor GRO loses redirected frames, and nobody is told: tc sends what leaves there.
#[test]
fn what_takes_no_frames_is_left_to_tc() {
    if skip::lacks(TELLS, "XDP in front") {
        return;
    }
    let world = World::build(spec()).unwrap();
    let spec = forced(&world);
    let scene = scene(world, spec);
    apply(&scene);
    let said = note(&scene.agent, "b0");
    assert!(said.contains("its peer has neither XDP nor GRO"), "{said}");
    all_protocols(&scene);
    let by_xdp = ["c0", "b0", "b1"].map(|i| redirected(&scene, i));
    assert_eq!(by_xdp, [0, 0, 0]);
    // Then one peer takes them: what leaves there goes by XDP, soon.
    let far = far_ends(&scene.world);
    wait_for("b1 to take frames", Duration::from_secs(15), || {
        Ok(note(&scene.agent, "b1").is_empty() && note(&scene.agent, "c0").is_empty())
    })
    .unwrap();
    all_protocols(&scene);
    assert!(redirected(&scene, "c0") > 100);
    drop(far);
    scene.finish();
}

/// Not asked for, a veth does not get it, and status says why; `:tc` says as asked.
#[test]
fn a_veth_is_refused_unless_forced() {
    let world = World::build(spec()).unwrap();
    let mut asked = AgentSpec::packets(&world);
    asked.attach[1].push_str(":tc");
    let scene = scene(world, asked);
    let text = scene.agent.gray_ok(&["status"]).unwrap();
    let c0 = attachment(&scene.agent, "c0");
    assert_eq!((&c0["state"], &c0["xdp"]), (&"attached".into(), &Value::Null), "{c0}");
    for said in ["(veth: native XDP would cost TCP 3 to 5 times; `:xdp` forces it)", "(as asked)"] {
        assert!(text.contains(said), "{text}");
    }
    for iface in ["c0", "b0", "b1"] {
        assert_eq!(program(&scene.world.edge, iface).unwrap(), 0, "{iface}");
    }
    scene.finish();
}

/// R17: somebody else's XDP program stays, tc goes on alone, and XDP comes when the other is gone.
#[test]
fn a_foreign_xdp_program_stays() {
    if skip::lacks(TELLS, "XDP in front") {
        return;
    }
    let world = World::build(spec()).unwrap();
    let far = far_ends(&world);
    let foreign = Passing::on(&world.edge, "c0");
    let spec = forced(&world);
    let scene = scene(world, spec);
    apply(&scene);
    let there = || program(&scene.world.edge, "c0").unwrap();
    assert_eq!(there(), u64::from(foreign.id()));
    let c0 = attachment(&scene.agent, "c0");
    assert_eq!(
        (&c0["state"], &c0["hook"], &c0["xdp"]),
        (&"attached".into(), &"tcx".into(), &Value::Null),
        "{c0}"
    );
    assert!(note(&scene.agent, "c0").contains("not gray's"), "{c0}");
    all_protocols(&scene);
    assert_eq!((there(), redirected(&scene, "c0")), (u64::from(foreign.id()), 0));
    drop(foreign);
    wait_native(&scene.agent, "c0", true);
    all_protocols(&scene);
    assert!(redirected(&scene, "c0") > 100);
    drop(far);
    scene.finish();
}

/// H3: an interface that comes back gets it again; what no option asks for any more is taken off, and where it was, XDP
/// does not send.
#[test]
fn it_follows_the_interface_and_the_options() {
    if skip::lacks(TELLS, "XDP in front") {
        return;
    }
    let world = World::build(spec()).unwrap();
    let mut far = far_ends(&world);
    let options = world.temp().join("agent.yaml");
    let write = |attach: &str| std::fs::write(&options, format!("attach: [{attach}]\n")).unwrap();
    write("c0=edge:xdp, b0=backend:xdp, b1=backend:xdp");
    let mut spec = forced(&world);
    spec.attach.clear();
    spec.args = vec!["--config".into(), options.display().to_string()];
    let mut scene = scene(world, spec);
    apply(&scene);
    all_protocols(&scene);

    let pair = &scene.world.clients[0].link;
    pair.delete().unwrap();
    wait_native(&scene.agent, "c0", false);
    pair.create_again().unwrap();
    wait_native(&scene.agent, "c0", true);
    let client = &scene.world.clients[0].ns;
    checksums_off(client);
    far.push(Passing::on(client, "eth0"));
    wait_for("c0 to take frames", Duration::from_secs(15), || Ok(note(&scene.agent, "c0").is_empty()))
        .unwrap();
    all_protocols(&scene);
    assert!(redirected(&scene, "c0") > 100, "on the new interface");

    write("c0=edge:xdp, b0=backend:tc, b1=backend");
    scene.agent.restart().unwrap();
    for (iface, native) in [("c0", true), ("b0", false), ("b1", false)] {
        assert_eq!(program(&scene.world.edge, iface).unwrap() != 0, native, "{iface}");
    }
    let before = redirected(&scene, "c0");
    all_protocols(&scene);
    assert_eq!(redirected(&scene, "c0"), before, "nothing takes frames any more");

    write("b1=backend");
    scene.agent.restart().unwrap();
    assert_eq!(program(&scene.world.edge, "c0").unwrap(), 0, "nobody names c0");
    drop(far);
    scene.finish();
}
