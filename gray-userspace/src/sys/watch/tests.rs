//! The watcher on real links, in a network namespace that ends with the test.
#![expect(clippy::print_stdout, reason = "a skip speaks")]

use std::{
    process::{Command, Stdio},
    time::Duration,
};

use super::*;
use crate::sys::netlink::links;

const INNER: &str = "sys::watch::tests::in_a_namespace_of_its_own";

#[test]
fn links_that_come_change_and_go_are_seen() {
    let own = Command::new("unshare").args(["--net", "true"]).stderr(Stdio::null()).status();
    if !own.is_ok_and(|s| s.success()) {
        println!("skipped: needs the right to make a network namespace");
        return;
    }
    let exe = std::env::current_exe().unwrap();
    let out = Command::new("unshare")
        .arg("--net")
        .arg(exe)
        .args(["--exact", INNER, "--ignored", "--nocapture"])
        .output();
    let out = out.unwrap();
    let text = String::from_utf8_lossy(&out.stdout);
    assert!(
        out.status.success() && text.contains("1 passed"),
        "{text}{}",
        String::from_utf8_lossy(&out.stderr)
    );
}

fn ip(args: &str) {
    let status = Command::new("ip").args(args.split(' ')).status().unwrap();
    assert!(status.success(), "ip {args}");
}

async fn until(events: &mut LinkEvents, what: &str, wanted: impl Fn(&LinkEvent) -> bool) -> LinkEvent {
    let found = async {
        loop {
            let event = events.next().await.unwrap();
            if wanted(&event) {
                return event;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(5), found).await.unwrap_or_else(|_| panic!("no event: {what}"))
}

#[tokio::test]
#[ignore = "links_that_come_change_and_go_are_seen runs it in a network namespace"]
async fn in_a_namespace_of_its_own() {
    // Started by hand in the machine's own namespace it must not touch anything.
    assert!(links().unwrap().iter().all(|l| l.name == "lo" || !l.up), "not a fresh namespace");
    let mut events = LinkEvents::open().unwrap();
    ip("link add gva type veth peer name gvb");
    let new = until(&mut events, "gva is new", |e| matches!(e, LinkEvent::New(l) if l.name == "gva")).await;
    let LinkEvent::New(link) = new else { unreachable!() };
    assert_eq!((link.kind.as_deref(), link.up, link.mtu), (Some("veth"), false, 1500));
    assert!(link.mac.is_some());
    ip("link set gvb up");
    ip("link set gva mtu 1400 up");
    let up = |e: &LinkEvent| matches!(e, LinkEvent::New(l) if l.name == "gva" && l.up && l.carrier && l.mtu == 1400);
    let _ = until(&mut events, "gva is up", up).await;
    let dumped = links().unwrap().into_iter().find(|l| l.name == "gva").unwrap();
    assert_eq!(dumped.ifindex, link.ifindex);

    // Leaving a bridge is not going away.
    ip("link add gbr type bridge");
    ip("link set gva master gbr");
    ip("link set gva nomaster");
    ip("link del gbr");
    let _ = until(&mut events, "the bridge goes", |e| {
        assert!(!matches!(e, LinkEvent::Del { name, .. } if name == "gva"), "the port was taken for gone");
        matches!(e, LinkEvent::Del { name, .. } if name == "gbr")
    })
    .await;

    ip("link del gva");
    let gone = |e: &LinkEvent| matches!(e, LinkEvent::Del { ifindex, .. } if *ifindex == link.ifindex);
    let _ = until(&mut events, "gva is gone", gone).await;
    assert!(!links().unwrap().iter().any(|l| l.name == "gva"));

    // A queue too small for what comes: said so, then alive again.
    events.socket.get_ref().set_receive_buffer(4096).unwrap();
    for n in 0..40 {
        ip(&format!("link add d{n} type bridge"));
    }
    let _ = until(&mut events, "overrun", |e| *e == LinkEvent::Overrun).await;
    while tokio::time::timeout(Duration::from_millis(100), events.next()).await.is_ok() {}
    ip("link add last type bridge");
    let _ =
        until(&mut events, "after an overrun", |e| matches!(e, LinkEvent::New(l) if l.name == "last")).await;
    assert_eq!(links().unwrap().iter().filter(|l| l.kind.as_deref() == Some("bridge")).count(), 41);
}
