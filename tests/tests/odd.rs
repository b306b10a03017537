//! Packets that are not the plain ones, live: datagrams in pieces, VLANs, IP options.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use gray_tests::{
    Place, World, WorldSpec,
    agent::{Agent, AgentSpec},
    client::{LoadSpec, Mode},
    hostile::{Harm, Hostile, HostileSpec, Side},
    link::ip_batch,
    pace::patience,
    policy::PolicyText,
    residue,
    scene::{MODES, Scene, vip},
    server::{Server, ServerSpec},
    skip,
    world::{vip4, vip6},
};
use gray_userspace::sys::kernel::SECOND_TAG;

const EARLY: &str = "sources: [\"198.18.10.0/24\", \"fd00:18:10::/64\"]";

/// Of an answer to a datagram of `size` bytes: the version, and whether it came back whole. `None`: no answer.
fn ask(place: &Place, from: IpAddr, to: SocketAddr, size: usize) -> Option<(String, bool)> {
    place.ns.enter(|| {
        let socket = UdpSocket::bind((from, 0)).unwrap();
        socket.set_read_timeout(Some(patience(Duration::from_secs(1)))).unwrap();
        let nonce: String = (0..size).map(|n| char::from(b'a' + (n % 23) as u8)).collect();
        let _ = socket.send_to(nonce.as_bytes(), to).unwrap();
        let mut buffer = vec![0; 65_536];
        let (n, sender) = socket.recv_from(&mut buffer).ok()?;
        let text = String::from_utf8_lossy(&buffer[..n]).into_owned();
        let mut words = text.split(' ').skip(1);
        let version = words.next()?.to_owned();
        Some((version, words.next() == Some(&*nonce) && sender == to))
    })
}

#[test]
fn h1_a_datagram_in_pieces_reaches_one_instance_and_its_answer_comes_back_whole() {
    let scene = Scene::packets(WorldSpec::default());
    let w = &scene.world;
    scene.apply(&PolicyText::moved(w).cohort("early", EARLY).gray_when("early"));
    let client = &w.clients[0];
    for v6 in [false, true] {
        for size in [1_473, 4_000, 20_000] {
            let got = ask(&client.place(), client.sources(v6)[0], vip(v6, 9001), size);
            assert_eq!(got, Some(("2.0".to_owned(), true)), "v6 {v6}, {size} bytes");
        }
    }
    scene.finish();
}

/// With `nat: dsr` pieces of the whole MTU do not fit: the client is told at the first one, and sends smaller ones. Each goes in a
/// packet of its own, and an instance's node puts them together.
#[test]
fn h1_a_datagram_in_pieces_reaches_an_instance_that_answers_itself() {
    let world = World::build(WorldSpec { vips: vec![None], ..WorldSpec::default() }).unwrap();
    for b in &world.backends {
        ip_batch(&b.ns, &format!("addr add {}/32 dev lo\naddr add {}/128 dev lo nodad\n", vip4(0), vip6(0)))
            .unwrap();
    }
    let place = |j: usize| world.backends[j].place();
    let at = |j: usize| {
        let own = [IpAddr::V4(vip4(0)), IpAddr::V6(vip6(0))];
        let mut spec = ServerSpec::on(&world.backends[j], "pieces", ["1.0", "2.0"][j]);
        spec.listen.extend(own);
        Server::start(&place(j), spec).unwrap()
    };
    let servers = [at(0), at(1)];
    let receivers: Vec<Agent> = (0..2)
        .map(|j| {
            let mut spec = AgentSpec::packets(&world);
            spec.attach = vec!["eth0=host".into()];
            spec.args = ["--dsr-from", "198.18.200.1", "--dsr-from", "fd00:18:200::1"].map(Into::into).into();
            spec.elsewhere = Some((place(j), format!("b{j}")));
            Agent::start_with(&world, spec).unwrap()
        })
        .collect();
    let mut spec = AgentSpec::packets(&world);
    spec.args = ["--dsr-source", "198.18.200.1", "--dsr-source", "fd00:18:200::1"].map(Into::into).into();
    let agent = Agent::start_with(&world, spec).unwrap();
    let client = &world.clients[0];
    for form in ["ipip", "gue"] {
        let text = PolicyText::moved(&world).cohort("early", EARLY).gray_when("early").to_string();
        let text = text
            .replace("    instances:", &format!("    nat: dsr\n    encapsulation: {form}\n    instances:"));
        let _ = agent.apply(&text).unwrap();
        for (v6, size) in [(false, 4_000), (true, 4_000), (false, 20_000), (true, 20_000)] {
            let ask = || ask(&client.place(), client.sources(v6)[0], vip(v6, 9001), size);
            // One may be lost while nobody knows the way and its MTU, one is answered with that.
            let got = ask().or_else(ask).or_else(ask);
            assert_eq!(got, Some(("2.0".to_owned(), true)), "{form}, v6 {v6}, {size} bytes");
        }
    }
    receivers.into_iter().for_each(|r| r.uninstall().unwrap());
    drop(servers);
    residue::assert_none(&world, agent);
}

#[test]
fn h1_pieces_in_any_order_go_the_same_way() {
    let scene = Scene::packets(WorldSpec::default());
    let w = &scene.world;
    // Stable is where the address points: what passes arrives there.
    scene.apply(&PolicyText::own(w).cohort("early", EARLY).gray_when("early"));
    let client = &w.clients[0];
    let harm = Harm { reorder: 3_000, ..Harm::default() };
    let spec = HostileSpec { ingress: Harm::default(), ..HostileSpec::both(5, harm) };
    let hostile = Hostile::on(&client.link, Side::Far, spec).unwrap();
    let mut answers = std::collections::BTreeMap::<String, usize>::new();
    for n in 0..100 {
        let v6 = n % 2 == 1;
        let got = ask(&client.place(), client.sources(v6)[0], vip(v6, 9001), 4_000);
        let (version, whole) = got.unwrap_or_else(|| panic!("datagram {n} was torn apart"));
        assert!(whole, "datagram {n}");
        *answers.entry(version).or_default() += 1;
    }
    // In order: gray. A later piece first: stable, with all of its datagram.
    assert!(answers["2.0"] > 10 && answers["1.0"] > 10, "{answers:?}");
    assert!(hostile.egress().unwrap().reordered > 50);
    drop(hostile);
    scene.finish();
}

/// A VLAN, or one in another, between client 0 and the edge, which attached to the interface below it.
fn vlan(w: &World, tags: &[(&str, u16)]) -> anyhow::Result<[IpAddr; 2]> {
    let (near, far) = (&w.clients[0].link.near, &w.clients[0].link.far);
    let (v4, v6) = ("198.18.10.77", "fd00:18:10:77::2");
    for (end, last4, last6) in [(near, "198.18.10.76", "fd00:18:10:77::1"), (far, v4, v6)] {
        let mut below = end.ifname.clone();
        let mut script = String::new();
        for (n, (proto, id)) in tags.iter().enumerate() {
            let name = format!("tag{n}");
            script += &format!("link add link {below} name {name} type vlan proto {proto} id {id}\n");
            script += &format!("link set {name} up\n");
            below = name;
        }
        script += &format!("addr add {last4}/31 dev {below}\naddr add {last6}/64 dev {below} nodad\n");
        ip_batch(&end.ns, &script)?;
    }
    let via = format!("tag{}", tags.len() - 1);
    let routes = [vip(false, 0).ip(), vip(true, 0).ip()].map(|ip| match ip {
        IpAddr::V4(ip) => format!("route replace {ip}/32 via 198.18.10.76 dev {via} src {v4}\n"),
        IpAddr::V6(ip) => format!("route replace {ip}/128 via fd00:18:10:77::1 dev {via} src {v6}\n"),
    });
    ip_batch(&far.ns, &routes.concat())?;
    Ok([v4.parse()?, v6.parse()?])
}

fn through_vlans(tags: &[(&str, u16)]) {
    let scene = Scene::packets(WorldSpec::default());
    let w = &scene.world;
    let sources = match vlan(w, tags) {
        Ok(sources) => sources,
        Err(e) if format!("{e:#}").contains("Unknown device type") => {
            skip::because("this kernel has no VLAN interfaces");
            return scene.finish();
        }
        Err(e) => panic!("{e:#}"),
    };
    // Whatever gray makes of it, neighbours find each other: a closed port says so.
    for (from, peer) in sources.iter().zip(["198.18.10.76", "fd00:18:10:77::1"]) {
        let refused = w.clients[0].place().ns.enter(|| {
            let socket = UdpSocket::bind((*from, 0))?;
            socket.set_read_timeout(Some(patience(Duration::from_secs(3))))?;
            socket.connect((peer, 9))?;
            let _ = socket.send(b"?")?;
            socket.recv(&mut [0; 8])
        });
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::ConnectionRefused, "{peer}");
    }
    if tags.len() > 1 && skip::lacks(SECOND_TAG, "two VLAN tags") {
        return scene.finish();
    }
    scene.apply(
        &PolicyText::moved(w)
            .cohort("tagged", "sources: [\"198.18.10.77\", \"fd00:18:10:77::2\"]")
            .gray_when("tagged"),
    );
    for (v6, source) in [false, true].into_iter().zip(sources) {
        for (port, mode) in MODES {
            let spec = LoadSpec::new(vip(v6, port), mode).count(8).sources(vec![source]);
            let report = spec.run(&w.clients[0].place()).unwrap();
            assert_eq!(
                (report.failed(), report.of_version("2.0")),
                (0, report.ok),
                "{mode:?} v6 {v6}: {report:?}"
            );
            assert!(report.ok >= 8);
        }
    }
    // Who comes without a tag is who they were.
    let plain =
        LoadSpec::new(SocketAddr::new(w.backends[0].v4.into(), 8080), Mode::Http { per_connection: 1 });
    let report = plain.count(4).sources(w.clients[0].sources(false)).run(&w.clients[0].place()).unwrap();
    assert_eq!((report.failed(), report.of_version("1.0")), (0, 4));
    scene.finish();
}

#[test]
fn h1_who_comes_through_a_vlan_is_steered() {
    through_vlans(&[("802.1Q", 5)]);
}

#[test]
fn h1_who_comes_through_a_vlan_in_another_is_steered() {
    through_vlans(&[("802.1ad", 5), ("802.1Q", 6)]);
}

#[test]
fn h1_packets_with_ip_options_are_steered() {
    let scene = Scene::packets(WorldSpec::default());
    let w = &scene.world;
    scene.apply(&PolicyText::moved(w).cohort("early", EARLY).gray_when("early"));
    let client = &w.clients[0];
    let answer = client.place().ns.enter(|| {
        let socket = UdpSocket::bind((client.sources(false)[0], 0)).unwrap();
        socket.set_read_timeout(Some(patience(Duration::from_secs(2)))).unwrap();
        gray_tests::sys::ip_options(&socket, &[1, 1, 1, 0]).unwrap();
        let _ = socket.send_to(b"nonce", vip(false, 9001)).unwrap();
        let mut buffer = [0; 512];
        let n = socket.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..n]).into_owned()
    });
    assert!(answer.contains(" 2.0 nonce "), "{answer}");
    scene.finish();
}
