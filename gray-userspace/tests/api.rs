//! The API over a real unix socket: round trips, limits, errors, streams, the socket file.

mod api_memory;

use std::{
    io::{Read, Write},
    os::unix::{
        fs::{FileTypeExt, PermissionsExt},
        net::UnixStream,
    },
    time::Duration,
};

use api_memory::{event, serve, serve_with};
use bytes::Bytes;
use gray_userspace::api::{Client, ClientError, Server, ServerError, ServerOptions, types::*};

fn apply(text: &str) -> ApplyRequest {
    ApplyRequest {
        sources: vec![SourceText { name: "p.yaml".into(), text: text.into() }],
        ..Default::default()
    }
}

async fn refused<T: std::fmt::Debug>(got: impl Future<Output = Result<T, ClientError>>) -> (u16, ErrorReply) {
    match got.await {
        Err(ClientError::Reply { status, reply }) => (status.as_u16(), reply),
        other => panic!("expected an error reply, got {other:?}"),
    }
}

/// One request as raw bytes: what a client that is not ours may send.
fn raw(socket: &std::path::Path, request: &str) -> String {
    let mut s = UnixStream::connect(socket).unwrap();
    s.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    s.write_all(request.as_bytes()).unwrap();
    let mut reply = String::new();
    let _ = s.read_to_string(&mut reply);
    reply
}

#[tokio::test(flavor = "multi_thread")]
async fn an_apply_is_audited_with_its_caller_d5() {
    let s = serve().await;
    let client = Client::new(&s.socket);
    let dry: ApplyReply =
        client.post("/v1/apply", &ApplyRequest { dry_run: true, ..apply("a") }).await.unwrap();
    assert_eq!((dry.revision, dry.changes.len()), (None, 3));
    let message = Some("because".into());
    let made: ApplyReply = client.post("/v1/apply", &ApplyRequest { message, ..apply("a") }).await.unwrap();
    assert_eq!(made.revision, Some(1));
    let history: Vec<HistoryEntry> = client.get("/v1/history").await.unwrap();
    let uid = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self").unwrap());
    let want = if uid == 0 { "uid:root".to_string() } else { history[0].who.clone() };
    assert_eq!((history[0].who.as_str(), history[0].why.as_deref()), (want.as_str(), Some("because")));
    assert!(history[0].who.starts_with("uid:"));
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_answer_in_the_types_of_the_contract() {
    let s = serve().await;
    let c = Client::new(&s.socket);
    assert_eq!(c.get::<Status>("/v1/status").await.unwrap().pid, 4711);
    assert_eq!(c.get::<Vec<AuditEntry>>("/v1/audit?limit=2&before=4").await.unwrap()[1].seq, 2);
    assert_eq!(c.get::<AuditVerified>("/v1/audit/verify").await.unwrap().records, 4);
    assert_eq!(c.get::<Vec<ServiceView>>("/v1/services").await.unwrap().len(), 1);
    assert_eq!(c.get::<Vec<InstanceView>>("/v1/instances").await.unwrap().len(), 2);
    assert_eq!(c.get::<Vec<RouteView>>("/v1/routes").await.unwrap().len(), 1);
    assert_eq!(c.get::<Vec<CohortView>>("/v1/cohorts").await.unwrap().len(), 2);
    assert_eq!(
        c.get::<Flows>("/v1/flows?arm=stable&src=198.18.1.3&limit=1").await.unwrap().flows[0].arm,
        ArmName::Stable
    );
    assert!(c.get::<DoctorReport>("/v1/doctor").await.unwrap().failed());
    let tuple = FlowTuple {
        proto: gray_userspace::model::Proto::Tcp,
        src: "198.18.1.3:40000".parse().unwrap(),
        dst: "198.18.1.100:80".parse().unwrap(),
    };
    let ask = ExplainRequest { live: Some(tuple), ..Default::default() };
    assert_eq!(
        c.post::<_, ExplainReply>("/v1/explain", &ask).await.unwrap().claims[0].value,
        "198.18.1.3:40000"
    );
    assert!(c.text("/metrics").await.unwrap().contains("gray_up 1"));
    assert!(c.text("/openapi.json").await.unwrap().contains("x-gray-role"));
}

#[tokio::test(flavor = "multi_thread")]
async fn cohorts_are_edited_live_one_at_a_time_or_by_a_million_b1() {
    let s = serve().await;
    let c = Client::new(&s.socket);
    let edit = CohortEdit { op: CohortOp::Add, ids: ["app7", "app8"].into_iter().collect(), message: None };
    let got: CohortEdited = c.post("/v1/cohorts/early-apps/edit", &edit).await.unwrap();
    assert_eq!((got.added, got.unchanged, got.size), (1, 1, 3));
    let page: CohortShow = c.get("/v1/cohorts/early-apps?offset=1&limit=1").await.unwrap();
    assert_eq!(page.ids, ["app8"]);

    let list: String = (0..1_000_000).map(|i| format!("id-{i}\n")).collect();
    let got: CohortEdited =
        c.post_text("/v1/cohorts/early-apps/lines?op=replace", list.into()).await.unwrap();
    assert_eq!((got.added, got.removed, got.size), (1_000_000, 3, 1_000_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn workloads_and_instances_go_round() {
    let s = serve().await;
    let c = Client::new(&s.socket);
    let set = WorkloadSet { name: "cart 2.0/ü".into(), pid: Some(1), ..Default::default() };
    let _: Workload = c.post("/v1/workloads", &set).await.unwrap();
    assert_eq!(c.get::<Vec<Workload>>("/v1/workloads").await.unwrap()[0].name, set.name);
    let path = format!("/v1/workloads/{}", gray_userspace::api::client::path_segment(&set.name));
    let _: Done = c.delete(&path).await.unwrap();
    assert_eq!(refused(c.delete::<Done>(&path)).await.0, 404);

    let both = WorkloadSet { unit: Some("a.service".into()), ..set };
    assert_eq!(refused(c.post::<_, Workload>("/v1/workloads", &both)).await.0, 422);

    let id = InstanceRef { id: "shop/198.18.2.3:8080".into(), deadline_ms: None };
    let _: Done = c.post("/v1/instances/drain", &id).await.unwrap();
    assert_eq!(refused(c.post::<_, Done>("/v1/instances/drain", &id)).await.0, 409);
    let _: Done = c.post("/v1/instances/restore", &id).await.unwrap();
    let (status, reply) = refused(
        c.post::<_, Done>("/v1/instances/drain", &InstanceRef { id: "shop".into(), deadline_ms: None }),
    )
    .await;
    assert_eq!((status, reply.error.as_str()), (422, "`shop` is not SERVICE/INSTANCE"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invalid_policy_comes_back_with_every_problem_d4() {
    let s = serve().await;
    let (status, reply) =
        refused(Client::new(&s.socket).post::<_, ApplyReply>("/v1/apply", &apply("verison"))).await;
    assert_eq!(status, 422);
    assert_eq!((reply.problems[0].line, reply.problems[0].file.as_deref()), (Some(3), Some("p.yaml")));
    assert_eq!(reply.error, "the policy has 1 problem");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_error_is_an_error_reply() {
    let s = serve_with(|o| o.body_limit = 1024).await;
    let c = Client::new(&s.socket);
    for (what, status, request) in [
        ("no such path", 404, "GET /v1/nothing HTTP/1.1\r\n"),
        ("no such method", 405, "DELETE /v1/status HTTP/1.1\r\n"),
        ("malformed JSON", 400, "POST /v1/apply HTTP/1.1\r\ncontent-length: 1\r\n"),
        ("no body", 400, "POST /v1/apply HTTP/1.1\r\n"),
        ("unknown query key", 400, "GET /v1/flows?sorce=1 HTTP/1.1\r\n"),
        ("bad query value", 400, "GET /v1/flows?arm=red HTTP/1.1\r\n"),
        ("bad name", 400, "GET /v1/cohorts/%ff HTTP/1.1\r\n"),
        ("not a text body", 400, "POST /v1/cohorts/x/lines?op=add HTTP/1.1\r\n"),
        ("no op", 400, "POST /v1/cohorts/x/lines HTTP/1.1\r\ncontent-type: text/plain\r\n"),
        ("body too large", 413, "POST /v1/apply HTTP/1.1\r\ncontent-length: 1025\r\n"),
    ] {
        let got = raw(&s.socket, &format!("{request}host: x\r\nconnection: close\r\n\r\n{{"));
        let (head, body) = got.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{what}: no reply"));
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{what}: {head}");
        let reply: ErrorReply = serde_json::from_str(body).unwrap_or_else(|e| panic!("{what}: {e}: {body}"));
        assert!(!reply.error.is_empty() && !reply.help.is_empty(), "{what}: {reply:?}");
        assert!(!reply.error.contains('\n') && !reply.help.contains('\n'), "{what}: {reply:?}");
    }
    // Chunked: no length was declared, the limit holds all the same.
    let chunk = format!("{:x}\r\n{}\r\n0\r\n\r\n", 2000, "x".repeat(2000));
    let chunked =
        "POST /v1/apply HTTP/1.1\r\nhost: x\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n";
    let got = raw(&s.socket, &format!("{chunked}{chunk}"));
    assert!(got.starts_with("HTTP/1.1 413 "), "{got}");

    let unknown = serde_json::json!({ "sources": [], "dryrun": true });
    let (status, reply) = refused(c.post::<_, ApplyReply>("/v1/apply", &unknown)).await;
    assert!(status == 422 && reply.error.contains("dryrun"), "{status} {reply:?}");
    assert_eq!(refused(c.get::<CohortShow>("/v1/cohorts/none")).await.0, 404);
    let got = c.post_text::<CohortEdited>("/v1/cohorts/x/lines?op=add", Bytes::from_static(b"a\n\xff")).await;
    assert_eq!(refused(async { got }).await.1.error, "line 2 of the list is not UTF-8");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_defect_in_the_core_ends_one_request_only() {
    let s = serve().await;
    let c = Client::new(&s.socket);
    assert_eq!(refused(c.post::<_, ApplyReply>("/v1/apply", &apply("panic"))).await.0, 500);
    assert_eq!(c.get::<Status>("/v1/status").await.unwrap().pid, 4711);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_operation_times_out_for_its_caller() {
    let s = serve_with(|o| o.request_timeout = Duration::from_millis(100)).await;
    let c = Client::new(&s.socket);
    assert_eq!(refused(c.post::<_, ApplyReply>("/v1/apply", &apply("slow"))).await.0, 504);
    // A body that never comes, too.
    let got = raw(&s.socket, "POST /v1/apply HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n");
    assert!(got.starts_with("HTTP/1.1 504 "), "{got}");
}

#[tokio::test(flavor = "multi_thread")]
async fn events_begin_with_the_latest_and_go_on_h4() {
    let s = serve().await;
    let c = Client::new(&s.socket);
    for n in 0..3 {
        let _ = s.core.events.send(event("shop", &format!("198.18.1.{n}:1"))).unwrap();
    }
    let _ = s.core.events.send(event("cart", "198.18.1.9:1")).unwrap();
    let client_of = |line: &str| match serde_json::from_str(line).unwrap() {
        EventLine::Event(e) => e.client,
        EventLine::Health(h) => h.instance,
        EventLine::Missing(m) => m.missing,
        EventLine::Alarm(a) => a.alarm,
        EventLine::Breaker(b) => b.breaker,
        EventLine::Policy(p) => p.policy,
        EventLine::Lost { lost } => format!("lost {lost}"),
    };
    // The recorder runs beside us: wait until it has all four.
    let mut all = Vec::new();
    for _ in 0..100 {
        let mut lines = c.lines("/v1/events").await.unwrap();
        all.clear();
        while let Some(line) = lines.next().await.unwrap() {
            all.push(client_of(&line));
        }
        if all.len() == 4 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(all, ["198.18.1.0:1", "198.18.1.1:1", "198.18.1.2:1", "198.18.1.9:1"]);

    let mut lines = c.lines("/v1/events?follow=true&recent=1&service=shop").await.unwrap();
    assert_eq!(client_of(&lines.next().await.unwrap().unwrap()), "198.18.1.2:1");
    let _ = s.core.events.send(event("cart", "198.18.1.10:1")).unwrap();
    let _ = s.core.events.send(event("shop", "198.18.1.11:1")).unwrap();
    assert_eq!(client_of(&lines.next().await.unwrap().unwrap()), "198.18.1.11:1");

    // Stopping ends the stream in order and does not wait for its reader.
    let begun = std::time::Instant::now();
    s.server.stop().await;
    assert_eq!(lines.next().await.unwrap(), None);
    assert!(begun.elapsed() < Duration::from_secs(3));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_socket_file_has_its_mode_and_goes_with_the_server() {
    let s = serve().await;
    let mode = |p: &std::path::Path| std::fs::metadata(p).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&s.socket), mode(s.socket.parent().unwrap())), (0o660, 0o755));
    assert_eq!(std::fs::read_dir(s.socket.parent().unwrap()).unwrap().count(), 1);
    s.server.stop().await;
    assert!(!s.socket.exists());
    let gone = Client::new(&s.socket).get::<Status>("/v1/status").await;
    assert!(matches!(gone, Err(ClientError::Unreachable { .. })), "{gone:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
    let s = serve().await;
    let options = ServerOptions { socket: s.socket.clone(), ..Default::default() };
    let second = Server::start(s.core.clone(), options.clone()).await.err().unwrap();
    assert!(matches!(second, ServerError::InUse { .. }), "{second}");

    // A socket file whose owner died.
    let stale = s.dir.path().join("stale.sock");
    drop(std::os::unix::net::UnixListener::bind(&stale).unwrap());
    let third = Server::start(s.core.clone(), ServerOptions { socket: stale.clone(), ..options.clone() })
        .await
        .unwrap();
    assert_eq!(Client::new(&stale).get::<Status>("/v1/status").await.unwrap().pid, 4711);

    // Replaced by another file meanwhile: not ours to remove.
    std::fs::remove_file(&stale).unwrap();
    let other = std::os::unix::net::UnixListener::bind(&stale).unwrap();
    third.stop().await;
    assert!(std::fs::metadata(&stale).unwrap().file_type().is_socket());
    drop(other);

    let file = s.dir.path().join("file");
    std::fs::write(&file, "precious").unwrap();
    let refused =
        Server::start(s.core.clone(), ServerOptions { socket: file.clone(), ..options }).await.err().unwrap();
    assert!(matches!(refused, ServerError::NotASocket { .. }), "{refused}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "precious");
}

/// An agent that is stopped, or hangs.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_does_not_wait_for_ever() {
    let tmp = tempfile::tempdir().unwrap();
    let socket = tmp.path().join("gray.sock");
    let _listens = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let patience = Duration::from_millis(50);
    let client = Client::patient(&socket, patience);
    let silent = |e: ClientError| match e {
        ClientError::Silent { after, .. } => after,
        other => panic!("{other:?}"),
    };
    assert_eq!(silent(client.get::<Status>("/v1/status").await.unwrap_err()), patience);
    assert_eq!(silent(client.post::<_, ApplyReply>("/v1/apply", &apply("a")).await.unwrap_err()), patience);
    assert_eq!(silent(client.text("/metrics").await.unwrap_err()), patience);
    assert_eq!(silent(client.lines("/v1/events").await.err().unwrap()), patience);
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_over_tcp_are_loopback_only_and_nothing_else() {
    let s = serve_with(|o| o.metrics = Some("127.0.0.1:0".parse().unwrap())).await;
    let addr = s.server.metrics_addr().unwrap();
    let get = |path: &str| {
        let mut tcp = std::net::TcpStream::connect(addr).unwrap();
        write!(tcp, "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
        let mut reply = String::new();
        let _ = tcp.read_to_string(&mut reply).unwrap();
        reply
    };
    let metrics = get("/metrics");
    assert!(metrics.contains("gray_up 1") && metrics.contains("openmetrics-text"), "{metrics}");
    assert!(get("/v1/status").starts_with("HTTP/1.1 404 "));

    // Nobody asks who comes there: those who say nothing wait in the kernel, and take nothing from others.
    let files = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let before = files();
    let silent: Vec<_> = (0..100).map(|_| std::net::TcpStream::connect(addr).unwrap()).collect();
    tokio::time::sleep(Duration::from_millis(200)).await;
    // Their own ends are here, too.
    assert!((100..150).contains(&(files() - before)), "{} files", files() - before);
    let _: Status = Client::new(&s.socket).get("/v1/status").await.unwrap();
    drop(silent);
    assert!(get("/metrics").contains("gray_up 1"));

    // A port that somebody else has is no reason to do without an agent.
    let taken =
        ServerOptions { socket: s.dir.path().join("c.sock"), metrics: Some(addr), ..Default::default() };
    let other = Server::start(s.core.clone(), taken).await.unwrap();
    assert_eq!(other.metrics_addr(), None);
    other.stop().await;

    let socket = s.dir.path().join("b.sock");
    let open = ServerOptions {
        socket: socket.clone(),
        metrics: Some("0.0.0.0:0".parse().unwrap()),
        ..Default::default()
    };
    let refused = Server::start(s.core.clone(), open).await.err().unwrap();
    assert!(matches!(refused, ServerError::NotLoopback { .. }), "{refused}");
    assert!(!socket.exists());
}
