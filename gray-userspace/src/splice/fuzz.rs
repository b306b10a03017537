//! Fuzz target of what the splice listener reads: whole and in pieces a client's first bytes say the same, and what goes on to the
//! instance is what came, but for one acknowledgement.

use gray_common::wire::Reading;

use super::{First, Said, first::LONGEST, http2::Acknowledged};
use crate::agent::testing;

const DOCUMENT: &str = "services:
  shop:
    listen: ['198.18.1.100:80']
    identify: [app]
    claims: { app: { header: X-App-Id }, user: { cookie: uid }, channel: { query: ch }, tenant: { sni: true } }
    route-headers: { read: [version] }
    instances: [{ address: '198.18.2.2:80', version: '1' }]
    stable: { version: '1' }
";

thread_local!(static READING: Reading = reading());

/// What is read of this document's service.
pub fn reading() -> Reading {
    testing::compiled(DOCUMENT).1.readings[0]
}

pub fn first(data: &[u8]) {
    let Some((size, data)) = data.split_first() else { return };
    let reading = READING.with(|r| *r);
    let read = |size: usize| {
        let mut first = First::new(reading);
        let mut said = Said::More;
        for part in data.chunks(size) {
            said = first.feed(part);
            assert!(first.bytes().len() < LONGEST + size || !matches!(said, Said::More | Said::Waits));
        }
        {
            let values: Vec<(u8, Vec<u8>)> = first.values().iter().map(|(k, v)| (*k, v.to_vec())).collect();
            (said, values, first.frames_at())
        }
    };
    let whole = read(data.len().max(1));
    let parts = read(usize::from(*size).max(1));
    assert_eq!(whole, parts);
    for (_, value) in &whole.1 {
        assert!(!value.is_empty());
    }
    let mut acked = Acknowledged::behind(whole.2);
    let mut out = Vec::new();
    data.chunks(usize::from(*size).max(1)).for_each(|part| acked.pass(part, &mut out));
    out.extend(acked.rest());
    let gone = if acked.done() { 9 } else { 0 };
    assert_eq!(out.len() + gone, data.len());
}
