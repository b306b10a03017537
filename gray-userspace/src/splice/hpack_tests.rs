use proptest::prelude::*;

use super::*;

type Field = (Vec<u8>, Vec<u8>);

fn decode(block: &[u8]) -> Result<Vec<Field>, Bad> {
    let mut out = Vec::new();
    fields(block, |name, value| {
        out.push((name.to_vec(), value.to_vec()));
        Ok::<(), Bad>(())
    })?;
    Ok(out)
}

fn all(list: &[(&str, &str)]) -> Vec<Field> {
    list.iter().map(|(n, v)| (n.as_bytes().to_vec(), v.as_bytes().to_vec())).collect()
}

/// RFC 7541, appendix C.2, C.3.1 and C.4.1.
#[test]
fn a1_blocks_of_the_rfc() {
    let request =
        [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "www.example.com")];
    for (block, want) in [
        (&b"\x40\x0acustom-key\x0dcustom-header"[..], &[("custom-key", "custom-header")][..]),
        (b"\x04\x0c/sample/path", &[(":path", "/sample/path")]),
        (b"\x10\x08password\x06secret", &[("password", "secret")]),
        (b"\x82", &[(":method", "GET")]),
        (b"\x82\x86\x84\x41\x0fwww.example.com", &request),
        (b"\x82\x86\x84\x41\x8c\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff", &request),
        (b"\x40\x01a\x01b\xbe\xbe", &[("a", "b"), ("a", "b"), ("a", "b")]),
        (b"\x20\x82", &[(":method", "GET")]),
        (b"\x3f\xe1\x1f\x82", &[(":method", "GET")]),
        (b"", &[]),
    ] {
        assert_eq!(decode(block), Ok(all(want)), "{block:x?}");
    }
}

#[test]
fn a1_blocks_that_are_none() {
    for (name, block) in [
        ("a size that does not end", &b"\x3f"[..]),
        ("index 0", b"\x80"),
        ("an index that nothing has", b"\xbe"),
        ("... by name", b"\x7f\x00\x01a"),
        ("a table that is too large", b"\x3f\xe2\x1f\x82"),
        ("a size behind a field", b"\x82\x20\x82"),
        ("a size and no field", b"\x20"),
        ("a number that does not end", b"\xff\xff\xff\xff\xff\xff\x01"),
        ("half a string", b"\x40\x05ab"),
        ("a name and no value", b"\x40\x01a"),
        ("what a smaller table has forgotten", b"\x3f\x02\x40\x01a\x01b\xbe"),
    ] {
        assert_eq!(decode(block), Err(Bad), "{name}");
    }
}

#[test]
fn a1_who_is_told_can_end_it() {
    let mut seen = 0;
    let ended = fields(b"\x82\x82\x82", |_, _| {
        seen += 1;
        if seen == 2 { Err(Bad) } else { Ok(()) }
    });
    assert_eq!((ended, seen), (Err(Bad), 2));
}

fn text() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![prop::collection::vec(any::<u8>(), 1..40), "[a-z-]{1,12}".prop_map(String::into_bytes)]
}

proptest! {
    /// Ours says what the other one encoded.
    #[test]
    fn a1_as_another_encoder_means_it(list in prop::collection::vec((text(), text()), 0..30)) {
        let block = loona_hpack::Encoder::new().encode(list.iter().map(|(n, v)| (&n[..], &v[..])));
        prop_assert_eq!(decode(&block), Ok(list));
    }

    /// What ours takes, the other decoder takes for the same.
    #[test]
    fn a1_as_another_decoder_takes_it(block in prop::collection::vec(any::<u8>(), 0..60)) {
        if let Ok(list) = decode(&block) {
            prop_assert_eq!(loona_hpack::Decoder::new().decode(&block), Ok(list));
        }
    }
}
