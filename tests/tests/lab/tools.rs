//! Real programs through the edge: curl, nginx, iperf3, and our own server seen by curl.

use std::net::IpAddr;

use gray_tests::client::{self, curl};
use gray_tests::server::{IperfServer, Nginx};
use gray_tests::{WorldSpec, pattern, world};

use super::{build, stable, vip};

#[test]
fn curl_reaches_nginx_through_the_edge_on_both_families() {
    let world = build(WorldSpec::default());
    let place = world.backends[0].place();
    let nginx = Nginx::start(&place, world.temp(), "shop", "1.0", 8080).unwrap();
    for (ip, source) in [
        (IpAddr::from(world::vip4(0)), IpAddr::from(world.clients[0].v4[3])),
        (world::vip6(0).into(), world.clients[0].v6[1].into()),
        (world.backends[0].v4.into(), world.clients[0].v4[15].into()),
        (world.backends[0].v6.into(), world.clients[0].v6[0].into()),
    ] {
        let url = nginx.url(ip, "/?nonce=n7");
        let answer =
            curl::get(&world.clients[0].place(), &url, &["--interface", &source.to_string()]).unwrap();
        assert_eq!((answer.status, answer.remote_ip.as_str()), (200, ip.to_string().as_str()));
        let json = answer.json().unwrap();
        assert_eq!(json["version"], "1.0");
        assert_eq!(json["nonce"], "n7");
        assert_eq!(json["peer"], source.to_string());
        assert_eq!(json["server"], ip.to_string());
    }
}

#[test]
fn ten_megabytes_go_both_ways_unchanged_with_offloads_on_and_off() {
    let world = build(WorldSpec::default());
    let nginx = Nginx::start(&world.backends[0].place(), world.temp(), "shop", "1.0", 8080).unwrap();
    let client = world.clients[0].place();
    for offloads in [true, false] {
        world.clients[0].link.offloads(offloads).unwrap();
        world.backends[0].link.offloads(offloads).unwrap();
        for target in [vip(false, 8080), vip(true, 8080)] {
            curl::download_10mb(&client, &nginx.url(target.ip(), "/file")).unwrap();
            let by = curl::upload_10mb(&client, world.temp(), target.ip(), 8080, &[&nginx]).unwrap();
            assert_eq!(by, "1.0");
        }
    }
}

#[test]
fn our_server_sends_the_pattern_and_hashes_bodies() {
    let world = build(WorldSpec::default());
    let _server = stable(&world);
    let client = world.clients[0].place();
    let url = format!("http://{}", vip(false, 8080));
    let answer = curl::get(&client, &format!("{url}/bytes?n=1000003"), &[]).unwrap();
    assert!(answer.body == pattern::bytes(1_000_003));
    let file = world.temp().join("body");
    std::fs::write(&file, &answer.body).unwrap();
    let data = format!("@{}", file.display());
    let answer = curl::get(&client, &url, &["--data-binary", &data]).unwrap().json().unwrap();
    assert_eq!(answer["method"], "POST");
    assert_eq!(answer["body_sha256"], pattern::sha256(&pattern::bytes(1_000_003)));
}

#[test]
fn iperf3_measures_a_path() {
    let world = build(WorldSpec::default());
    let server = IperfServer::start(&world.backends[1].place(), world.temp(), 5201).unwrap();
    for args in [&["-n", "20M"][..], &["-n", "20M", "-R"]] {
        let to = world.backends[1].v6.into();
        let result = client::iperf::run(&world.clients[0].place(), to, server.port, args).unwrap();
        assert!(result.bytes_sent >= 20_000_000, "{result:?}");
        assert!(result.bytes_received > 10_000_000 && result.bits_per_second > 0.0, "{result:?}");
    }
}

#[test]
fn the_pattern_is_the_same_from_every_offset() {
    let whole = pattern::bytes(100);
    for offset in 0..50 {
        for length in 0..50 {
            let mut part = vec![0; length];
            pattern::fill(offset as u64, &mut part);
            assert_eq!(part, whole[offset..offset + length], "{length} from {offset}");
        }
    }
    assert_ne!(whole[..48], whole[48..96]);
}
