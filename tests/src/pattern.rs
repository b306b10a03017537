//! The bytes that servers send and transfers compare: a fixed sequence that no offset error survives. Pure.

use sha2::{Digest, Sha256};

/// Fills `buf` with the bytes of the sequence from `offset` on.
pub fn fill(offset: u64, buf: &mut [u8]) {
    let mut at = offset;
    let mut rest = buf;
    while !rest.is_empty() {
        let skip = (at % 8) as usize;
        let n = rest.len().min(8 - skip);
        let (now, later) = rest.split_at_mut(n);
        now.copy_from_slice(&word(at / 8)[skip..skip + n]);
        at += n as u64;
        rest = later;
    }
}

/// SplitMix64 of the word's index: neighbouring words share nothing.
fn word(index: u64) -> [u8; 8] {
    let mut z = index.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z ^ (z >> 31)).to_le_bytes()
}

/// The first `n` bytes.
pub fn bytes(n: usize) -> Vec<u8> {
    let mut all = vec![0; n];
    fill(0, &mut all);
    all
}

/// Lower-case hex SHA-256.
pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
