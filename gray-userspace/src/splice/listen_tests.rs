//! Real sockets on loopback; the service's address is the listener's own.

use std::{io::ErrorKind, sync::Mutex};

use gray_common::{
    decide::mem::MemTables,
    wire::{Control, Tagged},
};
use tokio::{io, task::JoinHandle};

use super::{
    super::decide::tests::{Memory, memory},
    *,
};
use crate::kernel::{KernelError, Miss};

/// The last: failures that the breaker was told of.
struct Loopback(Memory, Mutex<ListenCount>, AtomicU64);

impl Tables for Loopback {
    fn control(&self) -> Result<Control, KernelError> {
        self.0.control()
    }

    fn now(&self, control: &Control) -> Result<u64, KernelError> {
        self.0.now(control)
    }

    fn fetch(&self, to: &mut MemTables, miss: Miss) -> Result<(), KernelError> {
        self.0.fetch(to, miss)
    }
}

impl Node for Loopback {
    fn whose(&self, client: SocketAddr, service: SocketAddr) -> Result<Option<Whose>, KernelError> {
        Ok(Some(Whose { client, service, mark: 0, dscp: 0, tag: Tagged::default(), caller: None }))
    }

    fn count(&self, _: u16, more: &ListenCount) {
        self.1.lock().unwrap().add(more);
    }

    fn failed(&self, _: u16, breaker: Breaker) {
        assert_eq!(breaker.failures, 3);
        let _ = self.2.fetch_add(1, Relaxed);
    }

    fn unsteered(&self, _: &TcpSocket) -> io::Result<()> {
        Ok(())
    }

    fn sent(&self, _: &TcpStream, _: (SocketAddr, SocketAddr), _: u16) -> io::Result<()> {
        Ok(())
    }
}

/// A server that notes what it is sent, answers with its name when the client has said everything, and ends.
struct Server {
    at: SocketAddr,
    heard: Arc<Mutex<Vec<Vec<u8>>>>,
    _task: JoinHandle<()>,
}

impl Server {
    async fn start(name: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let notes = heard.clone();
        let task = tokio::spawn(async move {
            loop {
                let (mut s, _) = listener.accept().await.unwrap();
                let notes = notes.clone();
                drop(tokio::spawn(async move {
                    let mut all = Vec::new();
                    let _ = s.read_to_end(&mut all).await;
                    notes.lock().unwrap().push(all);
                    let _ = s.write_all(name.as_bytes()).await;
                    let _ = s.shutdown().await;
                }));
            }
        });
        Self { at, heard, _task: task }
    }

    fn heard(&self) -> Vec<Vec<u8>> {
        self.heard.lock().unwrap().clone()
    }
}

struct World {
    at: SocketAddr,
    splice: Arc<Splice<Loopback>>,
    stable: Server,
    gray: Server,
    _task: JoinHandle<()>,
}

/// Of two versions; `gray`: another address for the second one.
async fn world_of(gray_at: Option<SocketAddr>, (more, first_byte): (&str, &str), most: usize) -> World {
    let (stable, gray) = (Server::start("stable").await, Server::start("gray").await);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let document = format!(
        "services:
  shop:
    listen: ['{at}']
    identify: [app]
    claims: {{ app: {{ header: X-App-Id }} }}
    route-headers: {{ read: [version], without-route: true }}
    first-byte: {first_byte}
    breaker: {{ failures: 3, window: 10s, open: 30s }}
    instances:
      - {{ address: '{}', version: '1' }}
      - {{ address: '{}', version: '2' }}
    stable: {{ version: '1' }}
{more}cohorts:
  early: {{ apps: ['7'] }}
routes:
  - {{ service: shop, when: early, to: {{ version: '2' }} }}
",
        stable.at,
        gray_at.unwrap_or(gray.at)
    );
    let splice = Splice::new(Loopback(memory(&document), Mutex::default(), AtomicU64::new(0)), most);
    let task = tokio::spawn(splice.clone().serve(listener));
    World { at, splice, stable, gray, _task: task }
}

async fn world(gray_at: Option<SocketAddr>, more: &str, most: usize) -> World {
    world_of(gray_at, (more, "30s"), most).await
}

/// Says these parts, with a little time between them, and then nothing more. What it is answered.
async fn said(at: SocketAddr, parts: &[&[u8]]) -> io::Result<String> {
    let mut s = TcpStream::connect(at).await?;
    for part in parts {
        s.write_all(part).await?;
        sleep(Duration::from_millis(10)).await;
    }
    // Who was reset already is told when it reads.
    let _ = s.shutdown().await;
    let mut answer = String::new();
    let _ = timeout(Duration::from_secs(60), s.read_to_string(&mut answer)).await??;
    Ok(answer)
}

/// Until the listener has noted it.
async fn until(mut is: impl FnMut() -> bool) {
    for _ in 0..3000 {
        if is() {
            return;
        }
        sleep(Duration::from_millis(10)).await;
    }
    panic!("not within 30 s");
}

fn far_behind() -> Vec<u8> {
    format!("GET / HTTP/1.1\r\nCookie: x={}\r\nX-App-Id: 7\r\n\r\nbody", "c".repeat(9000)).into_bytes()
}

#[tokio::test]
async fn a1_what_programs_cannot_read_reaches_its_instance() {
    let w = world(None, "", 100).await;
    let far = far_behind();
    for (name, parts, want) in [
        ("far behind", vec![&far[..]], "gray"),
        ("in parts", vec![&far[..10], &far[10..9020], &far[9020..9030], &far[9030..]], "gray"),
        ("another identity", vec![&b"GET / HTTP/1.1\r\nX-App-Id: 8\r\n\r\n"[..]], "stable"),
        (
            "JSON",
            vec![
                &b"GET / HTTP/1.1\r\nX-App-Id: 8\r\nn-d-version: {\"cart\":\"1\",\"shop\":\"2\"}\r\n\r\n"[..],
            ],
            "gray",
        ),
        (
            "JSON of others",
            vec![&b"GET / HTTP/1.1\r\nX-App-Id: 8\r\nn-d-version: {\"cart\":\"2\"}\r\n\r\n"[..]],
            "stable",
        ),
        ("what is no request", vec![&b"\x00\x01\x02"[..]], "stable"),
        ("half a request", vec![&b"GET / HTTP/1.1\r\nX-App"[..]], "stable"),
    ] {
        assert_eq!(said(w.at, &parts).await.unwrap(), want, "{name}");
        let server = if want == "gray" { &w.gray } else { &w.stable };
        assert_eq!(server.heard().last().unwrap(), &parts.concat(), "{name}: byte by byte");
    }
    let c = &w.splice.counters;
    until(|| c.ended.get() == 7).await;
    assert_eq!((c.taken.get(), c.http1.get(), c.gray.get(), c.stable.get()), (7, 5, 3, 4));
    assert_eq!((c.unread_for(Why::Bad), c.unread_for(Why::Ended), c.broken.get()), (1, 1, 0));
}

#[tokio::test]
async fn a1_a_client_that_says_nothing_is_stables() {
    let w = world_of(None, ("", "300ms"), 100).await;
    let mut s = TcpStream::connect(w.at).await.unwrap();
    let c = &w.splice.counters;
    until(|| c.stable.get() == 1).await;
    assert_eq!(c.unread_for(Why::Silent), 1);
    s.write_all(b"late").await.unwrap();
    s.shutdown().await.unwrap();
    let mut answer = String::new();
    let _ = s.read_to_string(&mut answer).await.unwrap();
    assert_eq!((&answer[..], w.stable.heard()), ("stable", vec![b"late".to_vec()]));
}

/// It refuses: it is tried twice, then it is stable's.
#[tokio::test]
async fn f4_an_instance_that_refuses_is_stables_in_the_end() {
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let w = world(Some(gone), "", 100).await;
    assert_eq!(said(w.at, &[b"GET / HTTP/1.1\r\nX-App-Id: 7\r\n\r\n"]).await.unwrap(), "stable");
    let c = &w.splice.counters;
    assert_eq!((c.another.get(), c.stable.get(), c.gray.get(), c.no_instance.get()), (2, 1, 0, 0));
}

#[tokio::test]
async fn a4_who_is_denied_is_reset() {
    let w = world(None, "    on-missing-identity: deny\n", 100).await;
    let e = said(w.at, &[b"GET / HTTP/1.1\r\n\r\n"]).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::ConnectionReset);
    assert_eq!(w.splice.counters.refused.get(), 1);
    assert_eq!((w.stable.heard().len(), w.gray.heard().len()), (0, 0));
}

/// gRPC's clients: no request before the server's settings. The instance gets no acknowledgement of what it never sent.
#[tokio::test]
async fn a1_a_client_that_waits_for_settings_is_greeted() {
    let w = world(None, "", 100).await;
    let begin = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    let ack = b"\0\0\0\x04\x01\0\0\0\0";
    let block = b"\x82\x86\x84\x40\x08x-app-id\x017";
    let headers = [&[0, 0, block.len() as u8, 1, 4, 0, 0, 0, 1], &block[..]].concat();
    let mut s = TcpStream::connect(w.at).await.unwrap();
    s.write_all(begin).await.unwrap();
    let mut settings = [0; 9];
    let _ = s.read_exact(&mut settings).await.unwrap();
    assert_eq!(settings, GREETING);
    s.write_all(&ack[..4]).await.unwrap();
    sleep(Duration::from_millis(20)).await;
    s.write_all(&[&ack[4..], &headers].concat()).await.unwrap();
    let c = &w.splice.counters;
    until(|| c.gray.get() == 1).await;
    s.write_all(ack).await.unwrap();
    s.shutdown().await.unwrap();
    let mut answer = String::new();
    let _ = s.read_to_string(&mut answer).await.unwrap();
    assert_eq!(answer, "gray");
    assert_eq!(w.gray.heard(), [[&begin[..], &headers, ack].concat()]);
    assert_eq!((c.http2.get(), c.greeted.get()), (1, 1));
    // Who does not wait is not greeted.
    assert_eq!(said(w.at, &[&[&begin[..], &headers].concat()]).await.unwrap(), "gray");
    assert_eq!((c.http2.get(), c.greeted.get()), (2, 1));
}

/// An acknowledgement that comes behind the request.
#[tokio::test]
async fn a1_a_late_acknowledgement_is_taken_out_too() {
    let w = world(None, "", 100).await;
    let begin = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    let (ack, request) = (b"\0\0\0\x04\x01\0\0\0\0", b"\0\0\x03\x01\x04\0\0\0\x01\x82\x86\x84");
    assert!(said(w.at, &[begin, request, &ack[..3], &ack[3..], ack]).await.unwrap().ends_with("stable"));
    assert_eq!(w.stable.heard(), [[&begin[..], request, ack].concat()]);
    assert_eq!(w.splice.counters.greeted.get(), 1);
}

/// An answer that broke off must not look whole.
#[tokio::test]
async fn a1_an_instances_reset_is_the_clients() {
    let broken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = broken.local_addr().unwrap();
    drop(tokio::spawn(async move {
        let (mut s, _) = broken.accept().await.unwrap();
        let _ = s.write_all(b"half of").await;
        sleep(Duration::from_millis(50)).await;
        relay::reset(&s);
    }));
    let w = world(Some(at), "", 100).await;
    let mut s = TcpStream::connect(w.at).await.unwrap();
    s.write_all(b"GET / HTTP/1.1\r\nX-App-Id: 7\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let e = s.read_to_end(&mut answer).await.unwrap_err();
    assert_eq!((e.kind(), &answer[..]), (ErrorKind::ConnectionReset, &b"half of"[..]));
    until(|| w.splice.counters.broken.get() == 1).await;
    assert_eq!(w.splice.node.2.load(Relaxed), 0, "it has answered");
}

/// ... and its breaker hears of it as of what programs see: refused; reset before the first word. Not of stable's, nor of an end.
#[tokio::test]
async fn f15_a_breaker_hears_of_gray_instances_that_fail() {
    const GRAY: &[u8] = b"GET / HTTP/1.1\r\nX-App-Id: 7\r\n\r\n";
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    drop(tokio::spawn(async move {
        for resets in [true, false] {
            let (mut s, _) = listener.accept().await.unwrap();
            let _ = s.read(&mut [0; 512]).await.unwrap();
            if resets {
                relay::reset(&s);
            }
        }
    }));
    let w = world(Some(at), "", 100).await;
    let told = || w.splice.node.2.load(Relaxed);
    let e = said(w.at, &[GRAY]).await.unwrap_err();
    assert_eq!((e.kind(), told()), (ErrorKind::ConnectionReset, 1));
    assert_eq!((said(w.at, &[GRAY]).await.unwrap(), told()), (String::new(), 1), "an end without a word");
    // By now nobody listens there any more.
    assert_eq!((said(w.at, &[GRAY]).await.unwrap(), told()), ("stable".into(), 3), "two attempts");
    assert_eq!(said(w.at, &[b"GET / HTTP/1.1\r\nX-App-Id: 8\r\n\r\n"]).await.unwrap(), "stable");
    assert_eq!(told(), 3);
}

/// ... and an end of one direction is not the other one's.
#[tokio::test]
async fn a1_a_half_closed_connection_goes_on() {
    let slow = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = slow.local_addr().unwrap();
    drop(tokio::spawn(async move {
        let (mut s, _) = slow.accept().await.unwrap();
        s.write_all(b"first ").await.unwrap();
        s.shutdown().await.unwrap();
        let mut all = Vec::new();
        let _ = s.read_to_end(&mut all).await.unwrap();
        assert_eq!(all.len(), 300_031);
    }));
    let w = world(Some(at), "", 100).await;
    let mut s = TcpStream::connect(w.at).await.unwrap();
    s.write_all(b"PUT / HTTP/1.1\r\nX-App-Id: 7\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    let _ = s.read_to_string(&mut answer).await.unwrap();
    assert_eq!(answer, "first ");
    s.write_all(&[7; 300_000]).await.unwrap();
    s.shutdown().await.unwrap();
    let c = &w.splice.counters;
    until(|| c.ended.get() == 1).await;
    assert_eq!((c.from_clients.get(), c.to_clients.get(), c.broken.get()), (300_031, 6, 0));
}

/// ... also where it takes no more: an answer that came before is heard.
#[tokio::test]
async fn a1_an_answer_before_the_end_is_heard() {
    let hasty = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = hasty.local_addr().unwrap();
    drop(tokio::spawn(async move {
        let (mut s, _) = hasty.accept().await.unwrap();
        let _ = s.write_all(b"too large").await;
        let _ = s.shutdown().await;
        let mut some = [0; 100];
        let _ = s.read(&mut some).await;
        sleep(Duration::from_millis(200)).await;
    }));
    let w = world(Some(at), "", 100).await;
    let mut s = TcpStream::connect(w.at).await.unwrap();
    s.write_all(b"PUT / HTTP/1.1\r\nX-App-Id: 7\r\n\r\n").await.unwrap();
    let mut answer = [0; 9];
    let _ = s.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"too large");
    while s.write_all(&[0; 10_000]).await.is_ok() {}
    until(|| w.splice.counters.ended.get() == 1).await;
}

/// Large both ways at once, whole and in order.
#[tokio::test]
async fn a1_bytes_come_whole_and_in_order() {
    let echo = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = echo.local_addr().unwrap();
    drop(tokio::spawn(async move {
        let (mut s, _) = echo.accept().await.unwrap();
        let (mut r, mut w) = s.split();
        let _ = io::copy(&mut r, &mut w).await.unwrap();
        w.shutdown().await.unwrap();
    }));
    let w = world(Some(at), "", 100).await;
    let mut s = TcpStream::connect(w.at).await.unwrap();
    let mut all = b"PUT / HTTP/1.1\r\nX-App-Id: 7\r\n\r\n".to_vec();
    all.extend((0..4_000_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8));
    let (mut r, mut to) = s.split();
    let mut back = Vec::new();
    let (wrote, read) = tokio::join!(
        async {
            to.write_all(&all).await?;
            to.shutdown().await
        },
        r.read_to_end(&mut back)
    );
    wrote.unwrap();
    assert_eq!(read.unwrap(), all.len());
    assert!(back == all);
}

#[tokio::test]
async fn a1_at_its_limit_it_takes_no_more() {
    let w = world(None, "", 1).await;
    assert!(w.splice.has_room());
    let first = TcpStream::connect(w.at).await.unwrap();
    let c = &w.splice.counters;
    until(|| c.taken.get() == 1).await;
    assert!(!w.splice.has_room(), "nobody is to be handed over any more");
    let ask: &[&[u8]] = &[b"GET / HTTP/1.1\r\nX-App-Id: 7\r\n\r\n"];
    assert_eq!(said(w.at, ask).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!((c.taken.get(), c.no_room.get()), (1, 1));
    drop(first);
    until(|| w.splice.has_room()).await;
    assert_eq!(said(w.at, ask).await.unwrap(), "gray");
}

/// Who was told the end of an answer may take its time to read it.
#[tokio::test]
async fn a1_who_still_hears_the_end_is_not_reset() {
    let late = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = late.local_addr().unwrap();
    drop(tokio::spawn(async move {
        let (mut s, _) = late.accept().await.unwrap();
        sleep(Duration::from_millis(550)).await;
        s.write_all(b"all").await.unwrap();
        s.shutdown().await.unwrap();
        let _ = s.read_to_end(&mut Vec::new()).await;
    }));
    let w = world(Some(at), "", 100).await;
    let mut s = TcpStream::connect(w.at).await.unwrap();
    s.write_all(b"GET / HTTP/1.1\r\nX-App-Id: 7\r\n\r\n").await.unwrap();
    // A round of the listener after the end of the answer, and then after its own end.
    for pause in [900, 800] {
        sleep(Duration::from_millis(pause)).await;
        let mut answer = [0; 3];
        let n = s.peek(&mut answer).await.unwrap();
        assert_eq!(&answer[..n], b"all");
    }
    let mut answer = Vec::new();
    let _ = s.read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer, b"all");
}

/// However the process ends.
#[test]
fn a1_half_an_answer_ends_with_a_reset_when_the_listener_ends() {
    use std::io::{Read as _, Write as _};
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let half = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let at = half.local_addr().unwrap();
    let w = runtime.block_on(world(Some(at), "", 100));
    let mut s = std::net::TcpStream::connect(w.at).unwrap();
    s.write_all(b"GET / HTTP/1.1\r\nX-App-Id: 7\r\n\r\n").unwrap();
    let (mut instance, _) = half.accept().unwrap();
    instance.write_all(b"half").unwrap();
    let mut answer = [0; 4];
    s.read_exact(&mut answer).unwrap();
    drop(runtime);
    assert_eq!(s.read(&mut answer).unwrap_err().kind(), ErrorKind::ConnectionReset);
}
