//! Bulk through the packet path: real nginx and curl compared byte by byte, iperf3, offloads on and off, and no
//! checksum error anywhere.

use std::fs;
use std::net::IpAddr;

use gray_tests::{
    World, WorldSpec,
    client::{curl, iperf},
    policy::PolicyText,
    scene::Scene,
    server::{IperfServer, Nginx},
    world::{vip4, vip6},
};

const FILES: u16 = 8081;
const BULK: u16 = 5201;

/// Every counter of bad checksums, of all namespaces: `edge Tcp InCsumErrors 3`.
fn checksum_errors(w: &World) -> Vec<String> {
    let mut bad = Vec::new();
    for ns in w.namespaces() {
        let read = |file: &str| fs::read_to_string(format!("/proc/thread-self/net/{file}")).unwrap();
        let (v4, v6) = ns.enter(|| (read("snmp"), read("snmp6")));
        let lines: Vec<&str> = v4.lines().collect();
        assert!(v4.contains("InCsumErrors") && v6.contains("InCsumErrors"), "the kernel counts them");
        for pair in lines.chunks(2) {
            let values = pair[1].split_whitespace();
            for (name, value) in pair[0].split_whitespace().zip(values) {
                if name == "InCsumErrors" && value != "0" {
                    bad.push(format!("{} {} {value}", ns.name(), pair[0]));
                }
            }
        }
        let six =
            v6.lines().filter(|l| l.contains("CsumErrors") && !l.ends_with("\t0") && !l.ends_with(" 0"));
        bad.extend(six.map(|l| format!("{} {l}", ns.name())));
    }
    bad
}

/// 10 MB down and up, iperf3 both ways; all to this version.
fn transfers(scene: &Scene, nginx: &[Nginx; 2], version: &str) {
    let w = &scene.world;
    let place = w.clients[0].place();
    for ip in [IpAddr::V4(vip4(0)), IpAddr::V6(vip6(0))] {
        let answer = curl::get(&place, &nginx[0].url(ip, "/"), &[]).unwrap();
        assert_eq!(answer.json().unwrap()["version"], version, "{ip}");
        assert_eq!(answer.remote_ip.parse::<IpAddr>().unwrap(), ip);
        curl::download_10mb(&place, &nginx[0].url(ip, "/file")).unwrap();
        let [one, two] = nginx;
        let took = curl::upload_10mb(&place, w.temp(), ip, FILES, &[one, two]).unwrap();
        assert_eq!(took, version, "{ip}");
        for way in [&["-n", "50M"][..], &["-n", "50M", "-R"]] {
            let run = iperf::run(&place, ip, BULK, way).unwrap();
            assert!(run.bytes_sent >= 50 << 20, "{ip} {way:?}: {} bytes", run.bytes_sent);
        }
    }
}

fn both_arms(offloads: bool) {
    let scene = Scene::packets(WorldSpec::default());
    let w = &scene.world;
    let start = |j: usize, name, version| {
        Nginx::start(&w.backends[j].place(), w.temp(), name, version, FILES).unwrap()
    };
    let nginx = [start(0, "stable", "1.0"), start(1, "gray", "2.0")];
    let bulk = |j: usize| IperfServer::start(&w.backends[j].place(), w.temp(), BULK).unwrap();
    let _bulk = [bulk(0), bulk(1)];
    w.clients.iter().for_each(|c| c.link.offloads(offloads).unwrap());
    w.backends.iter().for_each(|b| b.link.offloads(offloads).unwrap());
    // Rewritten to stable, too: both arms go through translation.
    let policy = PolicyText::moved(w).service("files", FILES, false).service("bulk", BULK, false);
    scene.apply(&policy.cohort("early", "sources: []").gray_when("early"));
    transfers(&scene, &nginx, "1.0");
    let _ = scene.agent.gray_ok(&["cohort", "add", "early", "198.18.10.0/24", "fd00:18:10::/64"]).unwrap();
    transfers(&scene, &nginx, "2.0");
    assert_eq!(checksum_errors(w), Vec::<String>::new());
    drop(nginx);
    scene.finish();
}

#[test]
fn h1_bulk_with_offloads() {
    both_arms(true);
}

#[test]
fn h1_bulk_without_offloads() {
    both_arms(false);
}
