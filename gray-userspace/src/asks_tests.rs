use super::*;

#[test]
fn c8_lists_as_a_table() {
    for (text, want) in [
        ("1.0=90;1.1=10", vec![("1.0", 90), ("1.1", 10)]),
        (" 1.0 = 90 ; 1.1=0 ;", vec![("1.0", 90), ("1.1", 0)]),
        ("a=b=5", vec![("a=b", 5)]),
        ("1.0=90;1.0=10", vec![]),
        ("1.0=90;1.1", vec![]),
        ("1.0=-1", vec![]),
        ("=5", vec![]),
        ("1.0=10001", vec![]),
        ("", vec![]),
        ("a=1;b=1;c=1;d=1;e=1;f=1;g=1;h=1;i=1", vec![]),
    ] {
        let want: Vec<_> = want.into_iter().map(|(n, w)| (n.to_owned(), w)).collect();
        assert_eq!(weights(text), want, "{text}");
    }
    assert_eq!(patterns("192.168.43.101:1201;192.168.*.102;1301").len(), 3);
    assert!(patterns("192.168.43.101:1201;nonsense!").is_empty(), "half of a list is none");
    assert!(entries(&"1;".repeat(65)).is_empty());
}

/// Only what the service reads counts.
#[test]
fn c8_headers_that_do_not_count() {
    let values = || (0..5).map(|i| (i, &b"1301"[..]));
    let asks = Asks::read(MORE_ADDRESS_BLACKLIST, values());
    assert_eq!(asks, Asks { not_addresses: vec!["1301".into()], ..Asks::default() });
    assert!(Asks::read(0, values()).is_empty());
    assert!(Asks::read(u32::MAX, [(0, &b"\xff\xfe"[..]), (3, b";")]).is_empty());
}

/// Of a million identities each name has its share, to a tenth of a point; and who is in a share that grows stays.
#[test]
fn c8_c3_weights_are_exact_and_only_grow() {
    let share = |left: &[(&str, u64)]| -> Vec<Option<String>> {
        (0..100_000u64)
            .map(|who| pick(left, who.wrapping_mul(0x9e37_79b9_7f4a_7c15), ND_VERSION).map(str::to_owned))
            .collect()
    };
    let of = |all: &[Option<String>], name: &str| all.iter().filter(|n| n.as_deref() == Some(name)).count();
    let (few, more) = (share(&[("2", 10), ("1", 90)]), share(&[("2", 30), ("1", 70)]));
    assert!((9_500..10_500).contains(&of(&few, "2")), "{}", of(&few, "2"));
    assert!((29_000..31_000).contains(&of(&more, "2")), "{}", of(&more, "2"));
    let left = few.iter().zip(&more).filter(|(a, b)| a.as_deref() == Some("2") && b.as_deref() != Some("2"));
    assert_eq!(left.count(), 0);
    assert_eq!(of(&share(&[("2", 0), ("1", 1)]), "2"), 0);
    assert_eq!(pick(&[], 7, ND_VERSION), None);
}
