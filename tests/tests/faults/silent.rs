//! Peers that fall silent: one that reads nothing, one whose acknowledgements never come, one that was forgotten by the
//! other side. Beside them all others go on, and afterwards they do too, or are told.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::Result;
use gray_tests::{
    WorldSpec,
    command::{run, run_with_input},
    netns::Netns,
    pace, pattern,
    policy::PolicyText,
    scene::{Scene, vip},
    server::{Nginx, nginx::FILE_BYTES},
};
use socket2::{Domain, Socket, Type};

use super::{lived_on, long_lived, new_connections, some_more, talk::Talk};

const PORT: u16 = 42_000;
const FILE: u16 = 8082;

/// What leaves a namespace from this port is lost until the drop, but for openings and data: acknowledgements and ends.
struct Mute<'a>(&'a Netns);

impl<'a> Mute<'a> {
    fn port(ns: &'a Netns, port: u16) -> Self {
        let script = format!(
            "table inet gray_lab_mute {{ chain out {{ type filter hook output priority 0; policy accept; tcp sport {port} tcp flags & (syn | psh) == 0x0 drop; }}\n}}\n"
        );
        let _ = run_with_input(ns.command("nft").args(["-f", "-"]), &script).unwrap();
        Self(ns)
    }
}

impl Drop for Mute<'_> {
    fn drop(&mut self) {
        let _ = run(self.0.command("nft").args(["delete", "table", "inet", "gray_lab_mute"]));
    }
}

/// A download that was asked for, of which nothing is read yet.
fn asked(ns: &Netns, from: SocketAddr, to: SocketAddr, buffer: usize) -> Result<TcpStream> {
    ns.enter(|| {
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
        socket.set_recv_buffer_size(buffer)?;
        socket.bind(&from.into())?;
        socket.connect(&to.into())?;
        let mut stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(pace::patience(Duration::from_secs(20))))?;
        stream.write_all(b"GET /file HTTP/1.1\r\nHost: lab\r\nConnection: close\r\n\r\n")?;
        Ok(stream)
    })
}

fn whole(mut stream: TcpStream) {
    let mut all = Vec::new();
    let _ = stream.read_to_end(&mut all).unwrap();
    let head = all.windows(4).position(|w| w == b"\r\n\r\n").unwrap() + 4;
    assert!(all[head..] == pattern::bytes(FILE_BYTES)[..], "{} bytes of {FILE_BYTES}", all.len() - head);
}

#[test]
fn h1_a_client_that_reads_nothing_or_acknowledges_nothing_disturbs_nobody() {
    let scene = Scene::packets(WorldSpec::default());
    let w = &scene.world;
    let all = w.clients[0].sources(false);
    let policy = PolicyText::own(w).service("files", FILE, false).sources("early", &all[..4]);
    scene.apply(&policy.gray_when("early"));
    let nginx = [(0, "stable", "1.0"), (1, "gray", "2.0")].map(|(j, name, version)| {
        Nginx::start(&w.backends[j].place(), w.temp(), name, version, FILE).unwrap()
    });
    let (place, ns) = (w.clients[0].place(), &w.clients[0].ns);
    let mut long = long_lived(&place, vip(false, 9000), &all);
    let mut new = new_connections(&place, &all);
    let open = |source: usize, port, buffer| {
        asked(ns, SocketAddr::new(all[source], port), vip(false, FILE), buffer).unwrap()
    };
    // One of each kind to gray, one to stable. The small buffer is full at once, the large one is not.
    let idle = [open(0, PORT + 1, 64 << 10), open(9, PORT + 2, 64 << 10)];
    let silence = Mute::port(ns, PORT);
    let mute = [open(1, PORT, 1 << 20), open(10, PORT, 1 << 20)];
    some_more(&mut new, 200);
    some_more(&mut long, 400);
    drop(silence);
    idle.into_iter().chain(mute).for_each(whole);
    new.stop().unwrap().assert_all_ok();
    lived_on(&long.stop().unwrap());
    drop(nginx);
    scene.finish();
}

/// The instance died, and its last words were lost: the client that speaks next is told at once, by the address it dialled.
#[test]
fn h1_a_client_of_an_instance_that_forgot_is_told() {
    let scene = Scene::packets(WorldSpec::default());
    let (all, _) = super::four_are_gray(&scene);
    let ns = &scene.world.clients[0].ns;
    let open = |i: usize| Talk::open(ns, SocketAddr::new(all[i], PORT), vip(false, 9000)).unwrap();
    let (mut gray, mut stable) = (open(0), open(9));
    gray.ask("gray").unwrap();
    stable.ask("stable").unwrap();
    for (talk, server, j) in [(&mut gray, &scene.gray, 1), (&mut stable, &scene.stable, 0)] {
        let mute = Mute::port(&scene.world.backends[j].ns, 9000);
        server.kill9().unwrap();
        drop(mute);
        let said = talk.ask("anybody there").unwrap_err();
        // A reset, or an end that came first; no silence.
        let kind = said.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
        assert!(!matches!(kind, Some(ErrorKind::WouldBlock | ErrorKind::TimedOut)), "{j}: {said:#}");
    }
    scene.finish();
}

/// The client lost its power, came back, and dials from the same port while the instance still knows the old connection.
#[test]
fn h1_a_client_that_forgot_dials_again_from_the_same_port() {
    let scene = Scene::packets(WorldSpec::default());
    let (all, _) = super::four_are_gray(&scene);
    let ns = &scene.world.clients[0].ns;
    for (source, wanted) in [(all[0], "gray/2.0"), (all[9], "stable/1.0")] {
        for _ in 0..2 {
            let mut talk = Talk::open(ns, SocketAddr::new(source, PORT + 3), vip(false, 9000)).unwrap();
            talk.ask("hello").unwrap();
            assert_eq!(talk.server, wanted);
            talk.forget().unwrap();
        }
    }
    scene.finish();
}
