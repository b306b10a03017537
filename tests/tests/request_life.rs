//! What becomes of connections whose requests were read (A1), when something happens to what they need: the policy, the agent,
//! the tables, the way.

use std::{
    net::{IpAddr, SocketAddr},
    time::{Duration, SystemTime},
};

use aya::maps::{Array, Map, MapData};
use gray_common::{
    abi::ABI,
    limits,
    request::{options::Options, pending},
    wire::Held,
};
use gray_tests::{
    agent::{Agent, AgentSpec},
    client::{
        curl,
        talk::{Talk, get},
    },
    command::{run, wait_for},
    hostile::{Harm, Hostile, HostileSpec, Side},
    link::sysctl,
    netstat, pace, pattern,
    policy::PolicyText,
    residue,
    scene::{Scene, servers, vip},
    server::{Nginx, Server, ServerSpec},
    world::{World, WorldSpec, vip4, vip6},
};
use sha2::{Digest as _, Sha256};

const FILES: u16 = 8081;
const PATIENCE: Duration = Duration::from_secs(20);

/// `apps: [app7]` goes to 2.0.
fn policy(w: &World) -> PolicyText {
    let text = PolicyText::moved(w).service("files", FILES, false);
    let text = text.claims("app: { header: X-App-Id }").identify("app, source");
    text.cohort("early", "apps: [app7]").gray_when("early")
}

fn counted(agent: &Agent, reason: &str) -> u64 {
    let status = agent.gray_json(&["status"]).unwrap();
    let counters = status["counters"].as_array().unwrap();
    counters.iter().find(|c| c["reason"] == reason).map_or(0, |c| c["count"].as_u64().unwrap())
}

fn talk(scene: &Scene, v6: bool) -> Talk {
    Talk::connect(&scene.world.clients[0].ns, vip(v6, 8080)).unwrap()
}

/// Two gray versions are two places, though both are gray.
#[test]
fn a1_each_request_goes_to_its_own_of_two_gray_versions() {
    let scene = Scene::packets(WorldSpec { backends: 3, ..WorldSpec::default() });
    let w = &scene.world;
    let third = &w.backends[2];
    let _third = Server::start(&third.place(), ServerSpec::on(third, "third", "3.0")).unwrap();
    let at = |ip: IpAddr| SocketAddr::new(ip, 8080).to_string();
    let mut instances = String::new();
    for (b, version) in w.backends.iter().zip(["1.0", "2.0", "3.0"]) {
        for ip in [IpAddr::V4(b.v4), IpAddr::V6(b.v6)] {
            instances += &format!("      - {{ address: \"{}\", version: \"{version}\" }}\n", at(ip));
        }
    }
    let (v4, v6) = (at(vip4(0).into()), at(vip6(0).into()));
    let text = format!(
        "services:\n  web:\n    listen: [\"{v4}\", \"{v6}\"]\n    claims: {{ app: {{ header: X-App-Id }} }}\n    per: request\n    \
         identify: [app, source]\n    instances:\n{instances}    stable: {{ version: \"1.0\" }}\n\
         cohorts:\n  two: {{ apps: [app2] }}\n  three: {{ apps: [app3] }}\n\
         routes:\n  - {{ when: two, to: {{ version: \"2.0\" }} }}\n  - {{ when: three, to: {{ version: \"3.0\" }} }}\n"
    );
    let _ = scene.agent.apply(&text).unwrap();
    for v6 in [false, true] {
        let mut talk = talk(&scene, v6);
        for (i, n) in [2, 3, 1, 3, 3, 2, 1, 1, 2, 3].into_iter().cycle().take(30).enumerate() {
            let answer = talk.get(&format!("app{n}"), &format!("n{i}")).unwrap();
            assert_eq!((answer.version(), answer.nonce()), (format!("{n}.0"), format!("n{i}")), "v6: {v6}");
        }
    }
    scene.finish();
}

/// A full table loses the beginning of a request: nobody gets what was not said.
#[test]
fn a1_what_is_held_and_lost_is_sent_again() {
    let scene = Scene::packets(WorldSpec::default());
    scene.apply(&policy(&scene.world));
    let (a, b) = (get("app7", "held"), 40);
    let (a, b) = a.as_bytes().split_at(b);
    let asked = |v6: bool| {
        let mut talk = talk(&scene, v6);
        talk.send(a).unwrap();
        wait_for("the beginning to be held", PATIENCE, || Ok(forget_held(&scene.agent) > 0)).unwrap();
        talk.send(b).unwrap();
        let answer = talk.answer().unwrap();
        assert_eq!(answer.nonce(), "held");
        answer.version()
    };
    // Who sends a part of a head again and again waits for an answer, and gets one. Where bpftool takes so long, that may be this client.
    let tries = if pace::factor() == 1 { 1 } else { 5 };
    for v6 in [false, true] {
        assert!((0..tries).any(|_| asked(v6) == "2.0"), "v6: {v6}");
    }
    scene.finish();
}

/// More clients have said a part of their request than there are places: who loses its own says it again. Afterwards all are free.
#[test]
fn a1_more_wait_than_there_are_places_for_what_is_held() {
    let scene = Scene::packets(WorldSpec::default());
    scene.apply(&policy(&scene.world));
    let clients = pace::many("clients", 3000, 300);
    let requests: Vec<String> =
        (0..clients).map(|i| get(["app7", "app8"][i % 2], &format!("held-{i}"))).collect();
    let mut talks: Vec<Talk> = (0..clients).map(|_| talk(&scene, false)).collect();
    // Some have their APP ID in what is held, some not.
    let half = |i: usize| requests[i].len() * (1 + i % 4) / 5;
    for (i, talk) in talks.iter_mut().enumerate() {
        talk.send(&requests[i].as_bytes()[..half(i)]).unwrap();
    }
    let taken = taken(&places(&scene.agent)).len();
    assert!(taken > clients.min(limits::HELD as usize) / 2, "{taken} places");
    for (i, talk) in talks.iter_mut().enumerate() {
        talk.send(&requests[i].as_bytes()[half(i)..]).unwrap();
    }
    let mut gray = 0;
    for (i, talk) in talks.iter_mut().enumerate() {
        let answer = talk.answer().unwrap();
        assert_eq!(answer.nonce(), format!("held-{i}"));
        // Who has said a part again and again is decided on without the rest.
        assert!(i % 2 == 0 || answer.version() == "1.0", "{i} has somebody else's APP ID");
        gray += usize::from(answer.version() == "2.0");
    }
    // How many depends on how quick all this is.
    assert!(gray > clients / 20, "{gray} of {clients}");
    assert_eq!(self::taken(&places(&scene.agent)), [0; 0], "places of connections that have their instance");
    drop(talks);
    scene.finish();
}

const PLACE: usize = size_of::<Held>();
type Places = Array<MapData, [u8; PLACE]>;

fn places(agent: &Agent) -> Places {
    Map::Array(MapData::from_pin(agent.bpffs().join("abi1/maps/HELD")).unwrap()).try_into().unwrap()
}

/// Which places for held bytes somebody has.
fn taken(places: &Places) -> Vec<u32> {
    (0..limits::HELD).filter(|n| places.get(n, 0).unwrap()[..8] != [0; 8]).collect()
}

/// Frees every place, as other connections would that take them; how many were taken.
fn forget_held(agent: &Agent) -> usize {
    let mut places = places(agent);
    let taken = taken(&places);
    taken.iter().for_each(|n| places.set(*n, [0; PLACE], 0).unwrap());
    taken.len()
}

fn forget(agent: &Agent, table: &str) -> usize {
    let pin = agent.bpffs().join("abi1/maps").join(table);
    let bpftool = |args: &[&str]| {
        let mut command = std::process::Command::new("bpftool");
        run(command.args(["-j", "map"]).args(args)).unwrap()
    };
    let pin = pin.to_str().unwrap();
    let all: serde_json::Value = serde_json::from_str(&bpftool(&["dump", "pinned", pin])).unwrap();
    let all = all.as_array().unwrap();
    for entry in all {
        let key = entry["key"].as_array().unwrap().iter().map(|b| b.as_str().unwrap());
        let key: Vec<&str> =
            ["delete", "pinned", pin, "key", "hex"].into_iter().chain(key.map(|b| &b[2..])).collect();
        let _ = bpftool(&key);
    }
    all.len()
}

/// A request's first segments are sums of ours where the network card does not make them: of any length.
#[test]
fn a1_sums_are_right_whatever_is_held() {
    let scene = Scene::packets(WorldSpec::default());
    scene.apply(&policy(&scene.world).per_request());
    let w = &scene.world;
    w.clients.iter().for_each(|c| c.link.offloads(false).unwrap());
    w.backends.iter().for_each(|b| b.link.offloads(false).unwrap());
    for v6 in [false, true] {
        let mut talk = talk(&scene, v6);
        // Around what is summed at once, and every rest of a word; each request changes the version, a shorter one after a longer.
        for len in [1460, 1025, 1024, 1023, 515, 514, 513, 512, 511, 510, 509, 300, 299, 298, 297] {
            for app in ["app7", "app8"] {
                let plain = get(app, "x");
                let pad = format!("X-Pad: {}\r\n\r\n", "p".repeat(len - plain.len() - 9));
                let text = format!("{}{pad}", &plain[..plain.len() - 2]);
                assert_eq!(text.len(), len);
                talk.send(text.as_bytes()).unwrap();
                let answer = talk.answer().unwrap();
                assert_eq!(answer.version(), if app == "app7" { "2.0" } else { "1.0" }, "{len}, v6: {v6}");
            }
        }
    }
    for b in &w.backends {
        assert_eq!(netstat::counter(&b.ns, "Tcp InCsumErrors").unwrap(), 0);
    }
    scene.finish();
}

/// The service is taken out of the policy: who has an instance keeps it.
#[test]
fn a1_connections_outlive_their_service() {
    let scene = Scene::packets(WorldSpec::default());
    for per_request in [false, true] {
        let text = policy(&scene.world);
        scene.apply(&if per_request { text.per_request() } else { text });
        let mut talks = [false, true].map(|v6| talk(&scene, v6));
        for t in &mut talks {
            assert_eq!(t.get("app7", "a").unwrap().version(), "2.0");
        }
        let other = "services:\n  other:\n    listen: [\"198.18.1.250:80\"]\n    instances: [{ address: \"198.18.1.251:80\", version: \"1\" }]\n    stable: { version: \"1\" }\n";
        let _ = scene.agent.apply(other).unwrap();
        for t in &mut talks {
            for _ in 0..3 {
                assert_eq!(t.get("app7", "b").unwrap().version(), "2.0", "per request: {per_request}");
            }
        }
    }
    scene.finish();
}

/// A deadline ends them, too.
#[test]
fn c12_a_drain_closes_them_at_its_deadline() {
    let scene = Scene::packets(WorldSpec::default());
    scene.apply(&policy(&scene.world));
    let mut talks = [false, true].map(|v6| talk(&scene, v6));
    for t in &mut talks {
        assert_eq!(t.get("app7", "a").unwrap().version(), "2.0");
    }
    for id in ["web/g4", "web/g6"] {
        let _ = scene.agent.gray_ok(&["instance", "drain", id, "--deadline", "1s"]).unwrap();
    }
    for (t, v6) in talks.iter_mut().zip([false, true]) {
        wait_for("the connection to be closed", PATIENCE, || Ok(t.get("app7", "b").is_err())).unwrap();
        // Another one goes to stable: gray has nobody.
        assert_eq!(talk(&scene, v6).get("app7", "c").unwrap().version(), "1.0", "v6: {v6}");
    }
    scene.finish();
}

/// Another agent, other programs: connections go on, and requests are followed.
#[test]
fn h2_requests_are_followed_by_the_next_agent_too() {
    let mut scene = Scene::packets(WorldSpec::default());
    scene.apply(&policy(&scene.world).per_request());
    let mut talks = [false, true].map(|v6| talk(&scene, v6));
    for round in 0..3 {
        for t in &mut talks {
            for (app, version) in [("app7", "2.0"), ("app8", "1.0"), ("app7", "2.0")] {
                assert_eq!(t.get(app, "a").unwrap().version(), version, "round {round}");
            }
        }
        scene.agent.kill9().unwrap();
        scene.agent.restart().unwrap();
    }
    assert_eq!(counted(&scene.agent, "request_stayed"), 0);
    scene.finish();
}

/// Marks and DSCP are claims of a client whose request is read, too.
#[test]
fn a11_what_the_packet_says_counts_beside_the_request() {
    let scene = Scene::packets(WorldSpec::default());
    let text = PolicyText::moved(&scene.world).claims("app: { header: X-App-Id }").identify("app, source");
    scene.apply(&text.cohort("fast", "dscps: [46]").gray_when("fast"));
    for v6 in [false, true] {
        for (dscp, version) in [(0, "1.0"), (46, "2.0")] {
            let mut talk = talk(&scene, v6);
            talk.mark_dscp(dscp).unwrap();
            assert_eq!(talk.get("app8", "d").unwrap().version(), version, "v6: {v6}, DSCP {dscp}");
        }
    }
    scene.finish();
}

/// The way to the instances, and that to the clients, is narrower than what both ends were told.
#[test]
fn a1_a_narrow_way_is_found() {
    let scene = Scene::packets(WorldSpec::default());
    scene.apply(&policy(&scene.world));
    let w = &scene.world;
    let start = |j: usize, name, version| {
        Nginx::start(&w.backends[j].place(), w.temp(), name, version, FILES).unwrap()
    };
    let nginx = [start(0, "stable", "1.0"), start(1, "gray", "2.0")];
    let place = w.clients[0].place();
    for offloads in [true, false] {
        w.clients.iter().for_each(|c| c.link.offloads(offloads).unwrap());
        w.backends.iter().for_each(|b| b.link.offloads(offloads).unwrap());
        for narrow in [&w.backends[0].link, &w.clients[0].link] {
            let _narrow = narrow.change_mtu(1300).unwrap();
            for ip in [IpAddr::V4(vip4(0)), IpAddr::V6(vip6(0))] {
                curl::download_10mb(&place, &nginx[0].url(ip, "/file")).unwrap();
                let [one, two] = &nginx;
                assert_eq!(
                    curl::upload_10mb(&place, w.temp(), ip, FILES, &[one, two]).unwrap(),
                    "1.0",
                    "{ip}"
                );
            }
        }
    }
    scene.finish();
}

/// On an instance's own node: a head of several segments, and a connection that goes to another node and comes back.
#[test]
fn a1_on_an_instances_own_node_all_segments_arrive() {
    let world = World::build(WorldSpec::default()).unwrap();
    let _servers = servers(&world);
    for key in ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"] {
        sysctl(&world.backends[0].ns, key, "1").unwrap();
    }
    let mut spec = AgentSpec::packets(&world);
    spec.attach = vec!["eth0=host".into()];
    let own = [world.backends[0].v4.to_string(), world.backends[0].v6.to_string()];
    let snat = own.into_iter().flat_map(|a| ["--snat".into(), a]);
    spec.args.extend(snat);
    spec.elsewhere = Some((world.backends[0].place(), "b0".into()));
    let agent = Agent::start_with(&world, spec).unwrap();
    let text =
        PolicyText::own(&world).claims("app: { header: X-App-Id }").per_request().identify("app, source");
    let text = text.cohort("early", "apps: [app7]").gray_when("early").to_string();
    // What another node serves is to come back by this one.
    let _ = agent.apply(&text.replace("    identify:", "    nat: snat\n    identify:")).unwrap();
    for v6 in [false, true] {
        let mut talk = Talk::connect(&world.clients[0].ns, vip(v6, 8080)).unwrap();
        let body: Vec<u8> = (0..3000u32).map(|i| i as u8).collect();
        let pad = "p".repeat(2600);
        for (i, (app, version)) in [
            ("app8", "1.0"),
            ("app7", "2.0"),
            ("app8", "1.0"),
            ("app8", "1.0"),
            ("app7", "2.0"),
            ("app8", "1.0"),
        ]
        .into_iter()
        .enumerate()
        {
            let head = format!(
                "POST /?nonce=n{i} HTTP/1.1\r\nHost: web\r\nX-Pad: {pad}\r\nX-App-Id: {app}\r\nContent-Length: {}\r\n\r\n",
                body.len()
            );
            let began = std::time::Instant::now();
            talk.send(&[head.as_bytes(), &body].concat()).unwrap();
            let answer = talk.answer().unwrap();
            gray_tests::command::note(&format!("request {i}, v6: {v6}: {} ms", began.elapsed().as_millis()));
            let status = agent.gray_json(&["status"]).unwrap();
            assert_eq!(
                (&*answer.version(), answer.nonce()),
                (version, format!("n{i}")),
                "v6: {v6}; {}",
                status["counters"]
            );
            assert_eq!(answer.body_sha256(), pattern::hex(&Sha256::digest(&body)));
        }
    }
    // The first to a local instance.
    assert_eq!(counted(&agent, "request_no_instance"), 0);
    residue::assert_none(&world, agent);
}

/// More connections than the table of those that are translated has room for: whoever has lost its place is told at once and counted, never
/// answered by somebody else, and the same client opens another connection.
#[test]
fn a1_h1_a_connection_that_others_have_taken_the_place_of_is_reset_and_counted() {
    let scene = Scene::packets(WorldSpec::default());
    scene.apply(&policy(&scene.world));
    for (v6, forgotten) in [(false, 1), (true, 2)] {
        let mut open = talk(&scene, v6);
        assert_eq!(open.get("app7", "before").unwrap().version(), "2.0");
        assert_ne!(forget(&scene.agent, "SPLICES"), 0);
        assert!(open.get("app7", "after").is_err(), "v6: {v6}: a segment went on in the wrong numbers");
        assert_eq!(counted(&scene.agent, "request_forgotten"), forgotten, "v6: {v6}");
        assert_eq!(talk(&scene, v6).get("app7", "again").unwrap().version(), "2.0");
    }
    scene.finish();
}

/// Nothing that such a client sends brings back what it offered: it is remembered while there is room, and else not granted.
#[test]
fn a1_a_client_without_timestamps_keeps_window_scale_and_sack_while_there_is_room() {
    let scene = Scene::packets(WorldSpec::default());
    let w = &scene.world;
    let client = &w.clients[0];
    sysctl(&client.ns, "net/ipv4/tcp_timestamps", "0").unwrap();
    scene.apply(&policy(w));
    let start = |j: usize, name, version| {
        Nginx::start(&w.backends[j].place(), w.temp(), name, version, FILES).unwrap()
    };
    let nginx = [start(0, "stable", "1.0"), start(1, "gray", "2.0")];
    let [one, two] = &nginx;
    let harm = Harm { lose: 100, reorder: 100, ..Harm::default() };
    for full in [false, true] {
        if full {
            take_all_places(&scene);
        }
        for v6 in [false, true] {
            let agreed = |at: SocketAddr| {
                let mut talk = Talk::connect(&client.ns, at).unwrap();
                let version = talk.get("app7", "n").unwrap().version().to_owned();
                let said = run(client.ns.command("ss").args(["-tinH", "state", "established"])).unwrap();
                let has = |o: &str| said.split_whitespace().any(|w| w.starts_with(o));
                (version, ["sack", "wscale", "ts"].map(has))
            };
            let b = &w.backends[1];
            let direct = agreed(SocketAddr::new(if v6 { b.v6.into() } else { b.v4.into() }, 8080));
            assert!(direct.1[1] && !direct.1[2], "{direct:?}");
            let none = ("2.0".to_owned(), [false; 3]);
            let what = agreed(vip(v6, 8080));
            assert_eq!(&what, if full { &none } else { &direct }, "full: {full}, v6: {v6}");
        }
        let hostile = Hostile::on(&client.link, Side::Far, HostileSpec::both(7, harm)).unwrap();
        for ip in [IpAddr::V4(vip4(0)), IpAddr::V6(vip6(0))] {
            curl::download_10mb(&client.place(), &one.url(ip, "/file")).unwrap();
            let by = curl::upload_10mb(&client.place(), w.temp(), ip, FILES, &[one, two]).unwrap();
            assert_eq!(by, "1.0", "full: {full}, {ip}");
        }
        assert!(hostile.egress().unwrap().lost > 10);
    }
    scene.finish();
}

/// As after a flood of SYNs whose clients never speak.
fn take_all_places(scene: &Scene) {
    let path = scene.agent.bpffs().join(format!("abi{ABI}/maps/PENDING"));
    let data = MapData::from_pin(path).unwrap();
    let mut places: Array<_, u64> = Map::Array(data).try_into().unwrap();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis() as u64;
    let word = pending::word(u64::MAX, &Options::default(), now);
    (0..pending::PLACES).for_each(|i| places.set(i, word, 0).unwrap());
}
