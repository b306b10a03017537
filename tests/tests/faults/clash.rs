//! One client port twice: towards two services with one instance, again while the last connection's end is not forgotten,
//! again after an instance's address went to another service. Who answers is who was asked, by nonce and by name.

use std::net::{IpAddr, SocketAddr};

use gray_common::{Reason, wire::FlowKey4};
use gray_tests::{
    WorldSpec,
    agent::{Agent, AgentSpec},
    client::{LoadSpec, Mode},
    command::wait_for,
    kill::pinned,
    netns::Netns,
    packets::{
        frame::{ACK, FIN, TCP, UDP},
        land::{Land, SHOP, SHOP_AT, SHOP_TOO},
        rig::{Rig, Routes, moved, with},
        subject::Subject as _,
    },
    server::{Server, ServerSpec},
    world::{World, vip4},
};
use gray_userspace::{
    compile::plan::Write,
    datapath::Datapath as _,
    kernel::{Direction, Hook, Live, Pins},
};

use super::{PATIENCE, rounds, some_more, talk::Talk};

const ECHO: u16 = 9000;

/// Backend 0 serves both addresses as stable; 1 and 2 are gray instances.
struct Two {
    agent: Agent,
    servers: Vec<Server>,
    world: World,
}

impl Two {
    fn start(own: bool) -> Self {
        let stable = own.then_some(0);
        let world =
            World::build(WorldSpec { backends: 3, vips: vec![stable; 2], ..WorldSpec::default() }).unwrap();
        let names = ["stable", "first", "second"];
        let start = |j: usize| serve(&world, j, names[j], if j == 0 { "1.0" } else { "2.0" });
        let servers: Vec<Server> = (0..3).map(start).collect();
        let agent = Agent::start_with(&world, AgentSpec::packets(&world)).unwrap();
        Self { agent, servers, world }
    }

    /// Service `one` on the first address, `two` on the second, with their gray instances; everybody is gray, or nobody.
    fn apply(&self, own: bool, gray: [usize; 2], everybody: bool) {
        let service = |i: usize, name: &str| {
            let stable = if own { IpAddr::V4(vip4(i)) } else { IpAddr::V4(self.world.backends[0].v4) };
            let (vip, gray) = (vip4(i), self.world.backends[gray[i]].v4);
            format!(
                "  {name}:
    listen: [\"{vip}:{ECHO}\", \"{vip}:{ECHO}/udp\"]
    identify: [source]
    instances:
      - {{ address: \"{stable}:{ECHO}\", version: \"1.0\", id: s }}
      - {{ address: \"{gray}:{ECHO}\", version: \"2.0\", id: g }}
    stable: {{ version: \"1.0\" }}
"
            )
        };
        let percent = if everybody { 100 } else { 0 };
        let text = format!(
            "services:\n{}{}cohorts:\n  all: {{ percent: {percent} }}\nroutes:\n  - {{ when: all, to: {{ version: \"2.0\" }} }}\n",
            service(0, "one"),
            service(1, "two")
        );
        let _ = self.agent.apply(&text).unwrap();
    }

    fn client(&self) -> &Netns {
        &self.world.clients[0].ns
    }

    fn from(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.world.clients[0].v4[0].into(), port)
    }

    fn open(&self, port: u16, service: usize) -> anyhow::Result<Talk> {
        Talk::open(self.client(), self.from(port), to(service))
    }

    /// Connections that got another port.
    fn changed(&self) -> u64 {
        let status = self.agent.gray_json(&["status"]).unwrap();
        let all = status["counters"].as_array().unwrap();
        all.iter().find(|c| c["reason"] == "port_changed").map_or(0, |c| c["count"].as_u64().unwrap())
    }

    /// Nothing found in mid-stream is taken as stable's own any more: as if the agent had run for two minutes.
    fn end_adoption(&self) {
        let pins = Pins::open_dir(self.agent.bpffs()).unwrap();
        self.world.edge.enter(|| {
            let mut live = Live::open(pins, 1024, Hook::Tcx).unwrap();
            live.configure(|c| c.adopt_until_ns = 1);
            let tables = pinned::read(self.agent.bpffs()).unwrap();
            let bank = (tables.control.epoch & 1) as u32;
            let mut items: Vec<_> = tables.services.into_values().collect();
            items.iter_mut().for_each(|s| s.adopt_until_ns = 1);
            live.write(&Write::Services { bank, items }).unwrap();
        });
    }

    fn finish(self) {
        gray_tests::residue::assert_none(&self.world, self.agent);
    }
}

fn to(service: usize) -> SocketAddr {
    SocketAddr::new(vip4(service).into(), ECHO)
}

fn serve(world: &World, j: usize, name: &str, version: &str) -> Server {
    let b = &world.backends[j];
    // One port for both: an instance of either is the same.
    let spec = ServerSpec { udp: Some(ECHO), ..ServerSpec::on(b, name, version) };
    Server::start(&b.place(), spec).unwrap()
}

/// So many lines to and fro, each answered by who it was said to.
fn chat(talk: &mut Talk, nonce: &str, lines: u32) {
    for i in 0..lines {
        talk.ask(nonce).unwrap_or_else(|e| panic!("{nonce}, line {i}, with {}: {e:#}", talk.server));
    }
}

/// The second connection goes to the same instance, which sees another client port, and lives whatever becomes of the first.
fn two_at_once(t: &Two) {
    for port in [40_001, 40_002] {
        let mut one = t.open(port, 0).unwrap();
        assert_eq!(one.server, "first/2.0");
        let mut two = t.open(port, 1).unwrap();
        assert_eq!(two.server, "first/2.0");
        for _ in 0..10 {
            chat(&mut one, "to-one", 1);
            chat(&mut two, "to-two", 1);
        }
        match port {
            40_001 => one.bye().unwrap(),
            _ => drop(one),
        }
        chat(&mut two, "after-one", 20);
        two.bye().unwrap();
    }
}

#[test]
fn h1_one_port_towards_two_services_with_one_instance() {
    let t = Two::start(true);
    t.apply(true, [1, 1], true);
    two_at_once(&t);
    t.finish();
}

#[test]
fn h1_one_port_towards_two_services_with_one_instance_when_nothing_is_adopted_any_more() {
    let t = Two::start(true);
    t.apply(true, [1, 1], true);
    t.end_adoption();
    two_at_once(&t);
    t.finish();
}

#[test]
fn h1_one_port_towards_two_addresses_that_nobody_has() {
    let t = Two::start(false);
    t.apply(false, [1, 1], true);
    let mut one = t.open(40_003, 0).unwrap();
    chat(&mut one, "to-one", 3);
    let mut two = t.open(40_003, 1).unwrap();
    assert_eq!((&*two.server, t.changed()), ("first/2.0", 1));
    chat(&mut two, "to-two", 3);
    chat(&mut one, "still-one", 3);
    one.bye().unwrap();
    chat(&mut two, "still-two", 3);
    let flows = t.agent.gray_json(&["flows", "--service", "two"]).unwrap();
    assert!(flows["flows"][0]["seen_as"].is_string(), "{flows}");
    t.finish();
}

/// The port comes back at once: after the server's end (its TIME_WAIT), after none at all; to the same service and to the
/// other, before and after the policy moved the client.
#[test]
fn h1_d1_a_port_used_again_at_once_is_decided_again() {
    let t = Two::start(true);
    let mut gray = false;
    for round in 0..rounds("connections", 6) {
        if round % 2 == 0 {
            gray = !gray;
            t.apply(true, [1, 1], gray);
        }
        let wanted = if gray { "first/2.0" } else { "stable/1.0" };
        // What one side has forgotten still is the instance's connection: another service's would clash with it.
        let bye = round % 2 == 0;
        for service in if bye { [0, 1] } else { [0, 0] } {
            let mut talk = t.open(40_010, service).unwrap_or_else(|e| panic!("round {round}: {e:#}"));
            assert_eq!(talk.server, wanted, "round {round}, service {service}");
            chat(&mut talk, &format!("round-{round}"), 3);
            if bye { talk.bye().unwrap() } else { talk.forget().unwrap() }
        }
    }
    t.finish();
}

#[test]
fn h1_d1_an_instances_address_that_goes_to_another_service_brings_no_wrong_peer() {
    let mut t = Two::start(true);
    t.apply(true, [1, 2], true);
    let mut old = t.open(40_020, 0).unwrap();
    assert_eq!(old.server, "first/2.0");
    // They change places: what is open stays, what is new follows.
    t.apply(true, [2, 1], true);
    chat(&mut old, "old", 5);
    let mut one = t.open(40_021, 0).unwrap();
    let mut two = t.open(40_022, 1).unwrap();
    assert_eq!((&*one.server, &*two.server), ("second/2.0", "first/2.0"));
    for _ in 0..5 {
        chat(&mut old, "old", 1);
        chat(&mut one, "one", 1);
        chat(&mut two, "two", 1);
    }
    // The same port towards the other service meets the connection that stayed.
    let mut clash = t.open(40_020, 1).unwrap();
    assert_eq!(clash.server, "first/2.0");
    chat(&mut clash, "clash", 3);
    chat(&mut old, "old", 3);
    // Another program behind the old address: the old connection ends, and never speaks to it.
    t.servers[1].kill9().unwrap();
    t.servers[1] = serve(&t.world, 1, "other", "3.0");
    assert!(old.ask("old").is_err(), "answered by another");
    assert!(one.ask("one").is_ok());
    let mut again = t.open(40_020, 0).unwrap();
    assert_eq!(again.server, "second/2.0");
    chat(&mut again, "again", 3);
    t.finish();
}

/// UDP sockets that never pause follow their service when it loses the instance, and lose no datagram.
#[test]
fn h1_d1_udp_clients_leave_an_address_that_goes_to_another_service() {
    let mut t = Two::start(true);
    t.apply(true, [1, 2], true);
    let place = t.world.clients[0].place();
    let mut spec = LoadSpec::new(to(0), Mode::Udp { connected: true, per_socket: 0 });
    (spec.workers, spec.pause_ms, spec.sources) = (8, 10, t.world.clients[0].sources(false));
    let mut load = spec.start(&place).unwrap();
    some_more(&mut load, 50);
    assert_eq!(load.snapshot().unwrap().by_server.keys().collect::<Vec<_>>(), ["first/2.0"]);
    t.apply(true, [2, 1], true);
    wait_for("all sockets to follow", PATIENCE, || {
        let before = load.snapshot()?.by_server;
        let after = load.wait_requests(before.values().sum::<u64>() + 40, PATIENCE)?.by_server;
        Ok(after["first/2.0"] == before["first/2.0"])
    })
    .unwrap();
    t.servers[1].kill9().unwrap();
    t.servers[1] = serve(&t.world, 1, "other", "3.0");
    some_more(&mut load, 50);
    let report = load.stop().unwrap();
    report.assert_all_ok();
    assert_eq!(report.by_server.keys().collect::<Vec<_>>(), ["first/2.0", "second/2.0"]);
    t.finish();
}

fn forwarded(rig: &mut Rig, frame: &[u8]) -> bool {
    rig.run(Direction::Ingress, frame).1 != frame
}

/// A connection whose beginning the instance never saw is not sent there, whoever's port it has.
#[test]
fn h1_a_clashing_connection_is_not_steered_in_mid_stream() {
    with(Routes::None, |rig| {
        rig.apply_land(true);
        let l = Land { v6: false, proto: TCP };
        let one = l.open(l.early(41_000), l.vip(SHOP));
        let two = l.open(l.early(41_000), l.vip(SHOP_TOO));
        assert!(forwarded(rig, &one.frame()) && !forwarded(rig, &two.clone().flags(ACK).frame()));
        for end in [one.answer(l.gray(SHOP_AT), FIN | ACK), one.flags(FIN | ACK)] {
            let _ = rig.run(Direction::Ingress, &end.frame());
        }
        assert!(!forwarded(rig, &two.flags(ACK).frame()), "a stray segment for the instance");
    });
}

/// The table lost the entry of a connection with another port: it is made again with that port.
#[test]
fn h1_a_changed_port_is_found_again() {
    with(Routes::None, |rig| {
        rig.apply_land(true);
        let l = Land { v6: false, proto: TCP };
        let one = l.open(l.early(41_002), l.vip(SHOP));
        let two = l.open(l.early(41_002), l.vip(SHOP_TOO));
        assert!(forwarded(rig, &one.frame()) && forwarded(rig, &two.frame()));
        let next = two.flags(ACK).frame();
        let before = rig.run(Direction::Ingress, &next).1;
        let ip = |a: SocketAddr| match a.ip() {
            IpAddr::V4(a) => u32::from_ne_bytes(a.octets()),
            IpAddr::V6(_) => unreachable!("an IPv4 land"),
        };
        let (from, to) = (l.early(41_002), l.vip(SHOP_TOO));
        let key = FlowKey4 {
            saddr: ip(from),
            daddr: ip(to),
            sport: from.port().to_be(),
            dport: to.port().to_be(),
            proto: u32::from(TCP),
        };
        rig.live.forget_flows(&[key], &[]).unwrap();
        assert_ne!(before[34..36], from.port().to_be_bytes());
        assert_eq!(rig.run(Direction::Ingress, &next).1, before);
    });
}

/// An instance that dials its service and gets itself: its kernel would drop packets from its own address.
#[test]
fn h1_an_instance_talks_to_itself_through_its_service() {
    let t = Two::start(false);
    t.apply(false, [1, 2], true);
    let own = &t.world.backends[1];
    let from = SocketAddr::new(own.v4.into(), 40_030);
    let mut talk = Talk::open_as(&own.ns, from, to(0), to(0).ip()).unwrap();
    assert_eq!(talk.server, "first/2.0");
    chat(&mut talk, "itself", 10);
    let mut other = Talk::open(&own.ns, from, to(1)).unwrap();
    assert_eq!(other.server, "second/2.0");
    chat(&mut other, "another", 3);
    chat(&mut talk, "itself", 3);
    talk.bye().unwrap();
    t.finish();
}

/// The first one fell silent long ago: the port is free again.
#[test]
fn h1_what_is_over_clashes_with_nobody() {
    for proto in [UDP, TCP] {
        with(Routes::None, |rig| {
            rig.apply_land(true);
            let l = Land { v6: false, proto };
            let one = l.open(l.early(41_001), l.vip(SHOP));
            let two = l.open(l.early(41_001), l.vip(SHOP_TOO));
            assert!(forwarded(rig, &one.frame()));
            // Not no ticks at all: the clock ticks also between the writing and the reading of an entry.
            rig.age();
            let before = rig.counters();
            let steered = forwarded(rig, &two.frame());
            rig.young();
            let moved = moved(&before, &rig.counters());
            assert!(steered && !moved.contains_key(&Reason::TupleClash), "{proto}: {moved:?}");
            let answer = two.answer(l.gray(SHOP_AT), ACK);
            let back = rig.run(Direction::Ingress, &answer.frame()).1;
            assert_eq!(back[26..30], [198, 18, 100, 1], "{proto}: from the service");
            assert_eq!(back[34..36], SHOP_TOO.to_be_bytes(), "{proto}: that was asked");
        });
    }
}
