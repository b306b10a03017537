use proptest::prelude::*;

use super::*;

const PRI: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    out.extend([kind, flags]);
    out.extend(stream.to_be_bytes());
    out.extend(payload);
    out
}

/// A client's preface and settings, and more.
fn client(more: &[Vec<u8>]) -> Vec<u8> {
    [PRI, &frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 100]), &more.concat()].concat()
}

fn run(b: &[u8]) -> Step {
    Frames::default().run(b)
}

const GET: &[u8] = b"\x82\x86\x84";

#[test]
fn a1_frames_as_a_table() {
    let head = || Step::Head(b"GET / HTTP/1.1\r\n\r\n".to_vec());
    let bad = || Step::Unread(Why::Bad);
    let headers = frame(HEADERS, END_HEADERS | 1, 1, GET);
    let padded = [&[2][..], &[0, 0, 0, 0, 9], GET, &[0, 0]].concat();
    for (name, frames, want) in [
        ("settings", vec![], Step::Waits),
        ("half a frame", vec![headers[..7].to_vec()], Step::More),
        ("half a block", vec![headers[..11].to_vec()], Step::More),
        ("headers", vec![headers.clone()], head()),
        ("a window before", vec![frame(8, 0, 0, &[0, 1, 0, 0]), headers.clone()], head()),
        ("settings acknowledged", vec![frame(SETTINGS, ACK, 0, &[]), headers.clone()], head()),
        ("what nobody knows", vec![frame(0x77, 0xff, 7, &[1; 100]), headers.clone()], head()),
        ("padding and priority", vec![frame(HEADERS, END_HEADERS | PADDED | PRIORITY, 1, &padded)], head()),
        (
            "in three parts",
            vec![
                frame(HEADERS, 1, 3, &GET[..1]),
                frame(CONTINUATION, 0, 3, &GET[1..2]),
                frame(CONTINUATION, END_HEADERS, 3, &GET[2..]),
            ],
            head(),
        ),
        ("the rest of a block", vec![frame(HEADERS, 0, 1, GET)], Step::More),
        ("something between", vec![frame(HEADERS, 0, 1, GET), frame(8, 0, 0, &[0, 1, 0, 0])], bad()),
        ("another's rest", vec![frame(HEADERS, 0, 1, GET), frame(CONTINUATION, 4, 3, GET)], bad()),
        ("a rest of nothing", vec![frame(CONTINUATION, 4, 1, GET)], bad()),
        ("an even stream", vec![frame(HEADERS, 4, 2, GET)], bad()),
        ("data first", vec![frame(DATA, 0, 1, GET)], bad()),
        ("no room for its padding", vec![frame(HEADERS, 4 | PADDED, 1, &[9, 0x82])], bad()),
        ("no field", vec![frame(HEADERS, 4, 1, &[])], bad()),
        ("an acknowledgement with text", vec![frame(SETTINGS, ACK, 0, &[0; 6])], bad()),
        ("a frame that is too large", vec![vec![0, 0x40, 1, 0x77, 0, 0, 0, 0, 0]], bad()),
        (
            "too much",
            vec![frame(0x77, 0, 0, &[0; 16_384]), frame(0x77, 0, 0, &[0; 16_384])],
            Step::Unread(Why::TooLong),
        ),
    ] {
        assert_eq!(run(&client(&frames)), want, "{name}");
    }
    assert_eq!(run(&[PRI, &headers].concat()), bad(), "settings come first");
    assert_eq!(run(&[PRI, &frame(SETTINGS, ACK, 0, &[])].concat()), bad(), "of the client's own");
    assert_eq!(run(PRI), Step::More);
}

fn block(list: &[(&str, &str)]) -> Result<String, Why> {
    let list = list.iter().map(|(n, v)| (n.as_bytes(), v.as_bytes()));
    head(&loona_hpack::Encoder::new().encode(list)).map(|h| String::from_utf8(h).unwrap())
}

#[test]
fn a1_field_blocks_as_heads() {
    let get = [(":method", "GET"), (":scheme", "http"), (":path", "/?a=1"), (":authority", "shop:80")];
    let with = |more: &[(&'static str, &'static str)]| block(&[&get[..], more].concat());
    let begins = "GET /?a=1 HTTP/1.1\r\nhost: shop:80\r\n";
    assert_eq!(
        with(&[("x-app-id", "7"), ("te", "trailers")]),
        Ok(format!("{begins}x-app-id: 7\r\nte: trailers\r\n\r\n"))
    );
    assert_eq!(
        with(&[("cookie", "a=1"), ("cookie", "b=2")]),
        Ok(format!("{begins}cookie: a=1\r\ncookie: b=2\r\n\r\n"))
    );
    let connect = [(":method", "CONNECT"), (":authority", "shop:80")];
    assert_eq!(block(&connect), Ok("CONNECT shop:80 HTTP/1.1\r\nhost: shop:80\r\n\r\n".into()));
    for (name, more) in [
        ("a line more", ("x-a", "1\r\nx-app-id: 7")),
        ("a line feed", ("x-a", "1\nx-app-id: 7")),
        ("a name with an end", ("x-a: 1\r\nx-app-id", "7")),
        ("a large letter", ("X-App-Id", "7")),
        ("no name", ("", "7")),
        ("a path again", (":path", "/b")),
        ("what no request has", (":status", "200")),
    ] {
        assert_eq!(with(&[more]), Err(Why::Bad), "{name}");
    }
    assert_eq!(with(&[("a", "1"), (":protocol", "websocket")]), Err(Why::Bad), "behind the others");
    assert_eq!(block(&get[1..]), Err(Why::Bad), "no method");
    assert_eq!(block(&[(":method", "GET"), (":path", "/ HTTP/1.1")]), Err(Why::Bad), "a path with an end");
    let long = "x".repeat(5000);
    let long = [("a", &long[..]), ("b", &long[..]), ("c", &long[..]), ("d", &long[..])];
    assert_eq!(block(&[&get[..], &long].concat()), Err(Why::TooLong));
}

/// 16 kB that would become 60 MB: ends at the limit.
#[test]
fn a1_a_block_that_grows_without_end_is_ended() {
    let mut bomb = [&b"\x82\x86\x84\x40\x01a\x7f\xa1\x1e"[..], &[b'x'; 4000]].concat();
    assert_eq!(bomb.len(), 4009);
    bomb.extend([0xbe; 12_000]);
    let begun = std::time::Instant::now();
    assert_eq!(head(&bomb), Err(Why::TooLong));
    assert!(begun.elapsed().as_millis() < 1000);
}

fn passed(acked: &mut Acknowledged, parts: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::new();
    parts.iter().for_each(|p| acked.pass(p, &mut out));
    out.extend(acked.rest());
    out
}

#[test]
fn a1_only_the_first_acknowledgement_is_taken_out() {
    let ack = frame(SETTINGS, ACK, 0, &[]);
    let headers = frame(HEADERS, END_HEADERS, 1, GET);
    // What is in a frame is none: a payload that looks like it.
    let data = frame(DATA, 0, 1, &ack);
    let before = client(&[headers.clone(), data]);
    let after = [ack.clone(), headers].concat();
    let said = [&before[..], &ack, &after].concat();
    let mut acked = Acknowledged::behind(PREFACE);
    assert_eq!(passed(&mut acked, &[&said]), [&before[..], &after].concat());
    assert!(acked.done());
    let mut never = Acknowledged::behind(PREFACE);
    assert_eq!(
        passed(&mut never, &[&before, &ack[..8]]),
        [&before[..], &ack[..8]].concat(),
        "nothing is kept at the end"
    );
    assert!(!never.done());
}

proptest! {
    #[test]
    fn a1_acknowledgements_in_any_pieces(
        frames in prop::collection::vec((0u8..10, 0u8..2, prop::collection::vec(any::<u8>(), 0..20)), 0..6),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let ack = |kind: u8, flags: u8, text: &[u8]| kind == SETTINGS && flags & ACK != 0 && text.is_empty();
        let frames: Vec<_> = frames.iter().filter(|(k, f, t)| !ack(*k, *f, t)).map(|(k, f, t)| frame(*k, *f, 0, t)).collect();
        let (before, after) = (client(&frames), frames.concat());
        let said = [&before[..], &frame(SETTINGS, ACK, 0, &[]), &after].concat();
        let mut at: Vec<usize> = cuts.iter().map(|c| c.index(said.len())).collect();
        at.extend([0, said.len()]);
        at.sort_unstable();
        let parts: Vec<&[u8]> = at.windows(2).map(|w| &said[w[0]..w[1]]).collect();
        let mut acked = Acknowledged::behind(PREFACE);
        prop_assert_eq!(passed(&mut acked, &parts), [before, after].concat());
        prop_assert!(acked.done());
    }

    #[test]
    fn a1_any_frames_are_taken_well(raw in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = run(&client(std::slice::from_ref(&raw)));
        let _ = head(&raw);
    }
}
