//! The way of connections whose requests were read (A1): an MTU that only a router farther on knows, what the instance sees of the client's
//! header, an instance that fails, a SYN that nobody can answer.

use std::{
    fmt::Write as _,
    net::{IpAddr, SocketAddr},
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use gray_common::Reason;
use gray_tests::{
    World, WorldSpec,
    agent::{Agent, AgentSpec},
    client::{
        curl,
        talk::{Talk, get},
    },
    link::{EndSpec, Veth, ip_batch, sysctl},
    netns::Netns,
    pace,
    packets::{
        frame::{ACK, Packet, SYN, TCP},
        land::{LANDS, SHOP, SHOP_AT},
        rig::{Routes, moved, with},
    },
    place::Place,
    policy::PolicyText,
    residue,
    scene::{Scene, vip},
    server::{Nginx, Server, ServerSpec},
    world::{vip4, vip6},
};
use gray_userspace::kernel::Direction;

const FILES: u16 = 8081;
const WEB: u16 = 8080;

fn counted(agent: &Agent, reason: &str) -> u64 {
    let status = agent.gray_json(&["status"]).unwrap();
    let counters = status["counters"].as_array().unwrap();
    counters.iter().find(|c| c["reason"] == reason).map_or(0, |c| c["count"].as_u64().unwrap())
}

/// A host behind a namespace of the world, which is its router and knows that the way to it takes 1280 bytes. All links take 1500.
struct Far {
    place: Place,
    v4: IpAddr,
    v6: IpAddr,
    _link: Veth,
}

impl Far {
    fn behind(w: &World, router: &Arc<Netns>, at: [IpAddr; 2], number: u16) -> Self {
        let ns = w.lab().netns(&format!("far{number}")).unwrap();
        for key in ["net/ipv4/conf/all/rp_filter", "net/ipv4/conf/default/rp_filter"] {
            sysctl(&ns, key, "0").unwrap();
        }
        sysctl(&ns, "net/ipv6/conf/default/accept_dad", "0").unwrap();
        sysctl(router, "net/ipv4/ip_forward", "1").unwrap();
        sysctl(router, "net/ipv6/conf/all/forwarding", "1").unwrap();
        ip_batch(&ns, "link set lo up\n").unwrap();
        let (net4, net6) = (format!("198.18.{number}"), format!("fd00:18:{number}:"));
        let near = EndSpec {
            ns: Arc::clone(router),
            ifname: "far".into(),
            addresses: vec![format!("{net4}.1/24"), format!("{net6}:1/64")],
            routes: vec![],
        };
        let far = EndSpec {
            ns: Arc::clone(&ns),
            ifname: "eth0".into(),
            addresses: vec![format!("{net4}.2/24"), format!("{net6}:2/64")],
            routes: vec![format!("default via {net4}.1"), format!("default via {net6}:1")],
        };
        let link = Veth::create(near, far, 1500).unwrap();
        let narrow = format!(
            "route add {net4}.2/32 dev far mtu lock 1280\nroute add {net6}:2/128 dev far mtu lock 1280\n"
        );
        ip_batch(router, &narrow).unwrap();
        let there = format!("route add {net4}.0/24 via {}\nroute add {net6}:/64 via {}\n", at[0], at[1]);
        ip_batch(&w.edge, &there).unwrap();
        let (v4, v6) = (format!("{net4}.2").parse().unwrap(), format!("{net6}:2").parse().unwrap());
        Self { place: Place::new(&ns), v4, v6, _link: link }
    }
}

/// 10 MB each way over a path that is narrower than every link that an end or the node sees, on the client's side and on the instance's.
#[test]
fn a1_h1_a_router_farther_on_says_what_fits() {
    let world = World::build(WorldSpec::default()).unwrap();
    let (c, b) = (&world.clients[0], &world.backends[1]);
    let client = Far::behind(&world, &c.ns, [c.v4[0].into(), c.v6[0].into()], 61);
    let instance = Far::behind(&world, &b.ns, [b.v4.into(), b.v6.into()], 62);
    let nginx = Nginx::start(&instance.place, world.temp(), "far", "1.0", FILES).unwrap();
    let agent = Agent::start_with(&world, AgentSpec::packets(&world)).unwrap();
    let at = |ip: IpAddr| SocketAddr::new(ip, FILES);
    let text = format!(
        "services:\n  files:\n    listen: [\"{}\", \"{}\"]\n    claims: {{ app: {{ header: X-App-Id }} }}\n    identify: [app, source]\n    \
         instances:\n      - {{ address: \"{}\", version: \"1.0\" }}\n      - {{ address: \"{}\", version: \"1.0\" }}\n    \
         stable: {{ version: \"1.0\" }}\n",
        at(vip4(0).into()),
        at(vip6(0).into()),
        at(instance.v4),
        at(instance.v6),
    );
    let _ = agent.apply(&text).unwrap();
    for ip in [IpAddr::V4(vip4(0)), IpAddr::V6(vip6(0))] {
        let before = counted(&agent, "icmp_error");
        curl::download_10mb(&client.place, &nginx.url(ip, "/file")).unwrap_or_else(|e| panic!("{ip}: {e:#}"));
        let down = counted(&agent, "icmp_error");
        assert!(down > before, "{ip}: nothing was too large");
        let took = curl::upload_10mb(&client.place, world.temp(), ip, FILES, &[&nginx]);
        assert_eq!(took.unwrap_or_else(|e| panic!("{ip}: {e:#}")), "1.0");
        assert!(counted(&agent, "icmp_error") > down, "{ip}: nothing was too large on its way up");
    }
    assert!(counted(&agent, "request_bound") > 0, "no number was translated");
    drop((nginx, client, instance));
    residue::assert_none(&world, agent);
}

/// What the first `n` packets of this kind look like there, that come of what is done.
fn dump(place: &Place, filter: &str, n: u32, done: impl FnOnce()) -> String {
    let mut dump = place.command("tcpdump");
    let _ = dump.args(["-l", "-nn", "-v", "-c", &n.to_string(), "-i", "eth0", filter]);
    let child = dump.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    std::thread::sleep(pace::patience(Duration::from_millis(1500)));
    done();
    String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap()
}

/// The SYN and the request that the program makes look like the client's own, and so does what comes after them.
#[test]
fn a1_h1_an_instance_sees_the_clients_dscp_and_hops() {
    let scene = Scene::packets(WorldSpec::default());
    let text = PolicyText::moved(&scene.world).claims("app: { header: X-App-Id }").identify("app, source");
    scene.apply(&text.cohort("early", "apps: [app7]").gray_when("early"));
    let there = scene.world.backends[1].place();
    for (v6, filter, says) in [
        (false, "ip and tcp dst port 8080", ["tos 0xb8", "ttl 76"]),
        (true, "ip6 and tcp dst port 8080", ["class 0xb8", "hlim 76"]),
    ] {
        let seen = dump(&there, filter, 4, || {
            let mut talk = Talk::connect(&scene.world.clients[0].ns, vip(v6, WEB)).unwrap();
            talk.mark_dscp(46).unwrap();
            talk.mark_hops(77).unwrap();
            for n in ["n1", "n2"] {
                assert_eq!(talk.get("app7", n).unwrap().version(), "2.0");
            }
        });
        for what in says {
            assert_eq!(seen.matches(what).count(), 4, "{what}:\n{seen}");
        }
    }
    scene.finish();
}

/// A client that sticks to an instance of its subset gets another one of it when that one fails, and not stable's: refused, or silent.
#[test]
fn a1_c7_another_instance_of_the_subset_takes_what_one_fails() {
    let world = World::build(WorldSpec { backends: 3, ..WorldSpec::default() }).unwrap();
    let start = |j: usize, name, version| {
        let b = &world.backends[j];
        Server::start(&b.place(), ServerSpec::on(b, name, version)).unwrap()
    };
    let _servers = [start(0, "stable", "1.0"), start(1, "gray", "2.0")];
    let agent = Agent::start_with(&world, AgentSpec::packets(&world)).unwrap();
    let at = |ip: IpAddr| SocketAddr::new(ip, WEB);
    let mut text = format!(
        "services:\n  web:\n    listen: [\"{}\", \"{}\"]\n    claims: {{ app: {{ header: X-App-Id }} }}\n    identify: [app, source]\n    \
         affinity: client\n    instance-timeout: 300ms\n    instances:\n",
        at(vip4(0).into()),
        at(vip6(0).into())
    );
    for (b, version) in world.backends.iter().zip(["1.0", "2.0", "2.0"]) {
        for ip in [IpAddr::V4(b.v4), IpAddr::V6(b.v6)] {
            writeln!(text, "      - {{ address: \"{}\", version: \"{version}\" }}", at(ip)).unwrap();
        }
    }
    text += "    stable: { version: \"1.0\" }\ncohorts:\n  early: { apps: [\"app*\"] }\n\
             routes:\n  - { when: early, to: { version: \"2.0\" } }\n";
    let _ = agent.apply(&text).unwrap();
    let all_served = |clients: usize, how: &str| {
        let before = counted(&agent, "request_another");
        for v6 in [false, true] {
            for n in 0..clients {
                let mut talk = Talk::connect(&world.clients[0].ns, vip(v6, WEB)).unwrap();
                let answer =
                    talk.get(&format!("app{n}"), "n").unwrap_or_else(|e| panic!("{how}, app{n}: {e:#}"));
                assert_eq!(answer.version(), "2.0", "{how}, app{n}, v6: {v6}");
            }
        }
        assert!(counted(&agent, "request_another") > before, "{how}: nobody came to that one");
    };
    // Nobody listens there.
    all_served(24, "refused");
    // And nothing that it says goes anywhere.
    ip_batch(
        &world.backends[2].ns,
        "route add blackhole 198.18.10.0/24\nroute add blackhole fd00:18:10::/64\n",
    )
    .unwrap();
    all_served(12, "silent");
    residue::assert_none(&world, agent);
}

/// A SYN with a signature: nobody can speak for its ends. It goes on, to stable, as it is.
#[test]
fn a1_h1_a_signed_syn_is_decided_on_as_it_is() {
    const SIGNATURE: u8 = 19;
    with(Routes::Neighbours, |rig| {
        for l in LANDS.into_iter().filter(|l| l.proto == TCP) {
            rig.apply(&format!(
                "services:\n  shop:\n    listen: [\"{}\"]\n    claims: {{ app: {{ header: X-App-Id }} }}\n    identify: [app]\n    \
                 instances:\n      - {{ address: \"{}\", version: \"1.0\" }}\n    stable: {{ version: \"1.0\" }}\n",
                l.vip(SHOP),
                l.stable(SHOP_AT)
            ));
            let mut options = vec![SIGNATURE, 18];
            options.resize(18, 7);
            options.extend([1, 1]);
            let syn = Packet { tcp_options: options, ..l.open(l.plain(4000), l.vip(SHOP)).flags(SYN) };
            let before = rig.counters();
            let (_, out) = rig.run(Direction::Ingress, &syn.frame());
            let wanted = rig.leaves(&syn.rewritten(syn.src, l.stable(SHOP_AT)));
            assert!(out == wanted, "{}: not sent to stable", l.name());
            let seen = moved(&before, &rig.counters());
            assert_eq!(seen.get(&Reason::RequestOptions), Some(&1), "{}: {seen:?}", l.name());
            assert_eq!(seen.get(&Reason::RequestLost), None, "{}: {seen:?}", l.name());
            // The rest of the connection goes there, too, and is not read.
            let next = Packet { payload: get("app7", "n").into_bytes(), ..syn.clone() }.flags(ACK);
            let (_, out) = rig.run(Direction::Ingress, &next.frame());
            let wanted = rig.leaves(&next.rewritten(next.src, l.stable(SHOP_AT)));
            assert!(out == wanted, "{}: the next one is not", l.name());
        }
    });
}
