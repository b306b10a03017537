//! Options as a table, and against a parser of its own.

use proptest::prelude::*;

use super::*;

fn bytes(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|w| w.to_be_bytes()).collect()
}

fn read(b: &[u8]) -> Options {
    Options { at: 0, ..Options::read(b, b.len() as u32) }
}

#[test]
fn a1_options_as_a_table() {
    let none = Options::default();
    let time = Options { time_value: 0x0102_0304, time_echo: 0x0506_0708, flags: HAS_TIME, ..none };
    for (name, raw, want) in [
        ("nothing", &[][..], none),
        ("mss", &[2, 4, 5, 180], Options { mss: 1460, flags: HAS_MSS, ..none }),
        ("an MSS of 0 is none", &[2, 4, 0, 0], none),
        ("scale", &[1, 3, 3, 7], Options { scale: 7, ..none }),
        ("a scale over 14 is 14", &[3, 3, 200], Options { scale: 14, ..none }),
        ("SACK permitted", &[4, 2], Options { flags: HAS_SACK_OK, ..none }),
        ("time", &[1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8], Options { time_at: 4, ..time }),
        ("SACK", &[5, 10, 0, 0, 0, 1, 0, 0, 0, 2], Options { sack_at: 2, sack_blocks: 1, ..none }),
        ("a SACK option of 12 bytes is unknown", &[5, 12, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0], none),
        ("unknown kinds are passed over", &[254, 4, 9, 9, 4, 2], Options { flags: HAS_SACK_OK, ..none }),
        ("nothing counts after the end", &[4, 2, 0, 3, 3, 7], Options { flags: HAS_SACK_OK, ..none }),
        ("length 0", &[4, 2, 3, 0, 3, 3], Options { flags: HAS_SACK_OK | BROKEN, ..none }),
        ("length 1", &[3, 1, 7], Options { flags: BROKEN, ..none }),
        ("beyond the header", &[1, 8, 10, 1], Options { flags: BROKEN, ..none }),
        ("no length", &[1, 1, 8], Options { flags: BROKEN, ..none }),
        ("a known kind of another size", &[2, 3, 5, 3, 3, 1], Options { scale: 1, ..none }),
        (
            "signed",
            &[19, 18, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            Options { flags: SIGNED, ..none },
        ),
        ("the last MSS counts", &[2, 4, 1, 0, 2, 4, 2, 0], Options { mss: 512, flags: HAS_MSS, ..none }),
    ] {
        assert_eq!(read(raw), want, "{name}");
    }
    let twice = [[8, 10, 1, 2, 3, 4, 5, 6, 7, 8], [8, 10, 1, 2, 3, 4, 5, 6, 7, 8]].concat();
    assert!(read(&twice).has(TWICE));
}

#[test]
fn a1_the_walk_ends_at_forty_bytes() {
    assert_eq!(Options::read(&[1u8; 100][..], 100).at, 40);
    let mut late = [1u8; 60];
    late[39..41].copy_from_slice(&[4, 2]);
    assert_eq!(read(&late).flags, BROKEN);
}

/// Kind and value of each option, by slices; `None`: broken.
fn reference(mut b: &[u8]) -> (Vec<(u8, &[u8])>, bool) {
    b = &b[..b.len().min(40)];
    let mut out = Vec::new();
    while let Some((&kind, rest)) = b.split_first() {
        match kind {
            0 => break,
            1 => b = rest,
            _ => {
                let Some((&size, _)) = rest.split_first() else { return (out, true) };
                let Some(value) = b.get(2..usize::from(size)) else { return (out, true) };
                out.push((kind, value));
                b = &b[usize::from(size)..];
            }
        }
    }
    (out, false)
}

fn option() -> impl Strategy<Value = Vec<u8>> {
    let known =
        prop::sample::select(vec![(2u8, 4u8), (3, 3), (4, 2), (5, 10), (5, 18), (8, 10), (254, 6), (19, 18)]);
    let good = (known, any::<[u8; 32]>()).prop_map(|((kind, size), fill)| {
        let mut o = vec![kind, size];
        o.extend(&fill[..usize::from(size) - 2]);
        o
    });
    prop_oneof![6 => good, 3 => Just(vec![1]), 1 => Just(vec![0]), 1 => prop::collection::vec(any::<u8>(), 1..6)]
}

proptest! {
    #[test]
    fn a1_options_equal_the_reference(parts in prop::collection::vec(option(), 0..8)) {
        let raw = parts.concat();
        let (options, broken) = reference(&raw);
        let got = read(&raw);
        prop_assert_eq!(got.has(BROKEN), broken);
        let last = |kind: u8, len: usize| options.iter().rev().find(|(k, v)| *k == kind && v.len() == len).map(|o| o.1);
        let times: Vec<_> = options.iter().filter(|o| o.0 == 8 && o.1.len() == 8).collect();
        prop_assert_eq!(got.has(HAS_TIME), !times.is_empty());
        if let Some(v) = last(8, 8) {
            let both = bytes(&[got.time_value, got.time_echo]);
            prop_assert_eq!(both.as_slice(), v);
            prop_assert_eq!(&raw[usize::from(got.time_at)..][..8], v);
        }
        let scale = last(3, 1).map_or(NO_SCALE, |v| v[0].min(14));
        prop_assert_eq!(got.scale, scale);
        prop_assert_eq!(got.has(HAS_SACK_OK), last(4, 0).is_some());
        let sacks = options.iter().filter(|o| o.0 == 5 && matches!(o.1.len(), 8 | 16 | 24 | 32)).count();
        prop_assert_eq!(got.has(TWICE), times.len() > 1 || sacks > 1);
        prop_assert_eq!(got.sack_blocks != 0, sacks != 0);
    }

    /// What we write, everybody reads.
    #[test]
    fn a1_what_is_offered_is_read(time: bool, sack: bool, scale in prop::option::of(0u8..=14), mss in 1u16.., v: u32, e: u32) {
        let offer = Offer {
            time_value: v, time_echo: e, mss, scale: scale.unwrap_or(NO_SCALE), sack: sack.into(), time: time.into(), _pad: [0; 3],
        };
        let got = read(&bytes(&offer.words()));
        prop_assert_eq!((got.mss, got.scale), (mss, offer.scale));
        prop_assert_eq!((got.has(HAS_SACK_OK), got.has(HAS_TIME), got.has(BROKEN)), (sack, time, false));
        if time {
            prop_assert_eq!((got.time_value, got.time_echo), (v, e));
        }
        let got = read(&bytes(&time_words(v, e)));
        prop_assert_eq!((got.time_value, got.time_echo, got.flags), (v, e, HAS_TIME));
    }
}
