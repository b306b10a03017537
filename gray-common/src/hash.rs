//! Hashes of the decision: the keyed hash of a claim and the mixer of buckets. The same bytes give the same
//! number on every node and on both targets.

/// The fleet's hash key, two little-endian words. Whoever loses it reshuffles everybody.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HashKey {
    pub k0: u64,
    pub k1: u64,
}

/// Longest value that takes part in a claim's hash, bytes.
pub const CLAIM_MAX: usize = 32;

/// The keyed hash of a claim: SipHash-1-3 (Aumasson & Bernstein, 2012) over an 8-byte header
/// `[kind, len, 0 * 6]` and the value padded with zeros to a multiple of 8. `WORDS` is that multiple; at most 4.
///
/// The kind is part of the message, so that the same text under two claims is two identities.
#[inline(always)]
pub fn claim_hash<const WORDS: usize>(key: HashKey, kind: u8, len: u8, value: &[u64; WORDS]) -> u64 {
    let mut s = Sip::new(key);
    s.word(u64::from(kind) | u64::from(len) << 8);
    let mut i = 0;
    while i < WORDS {
        s.word(value[i]);
        i += 1;
    }
    s.finish(8 * (1 + WORDS as u64))
}

/// The same of a value whose length is known when it is there; zero behind it.
#[inline(always)]
pub fn claim_hash_words(key: HashKey, kind: u8, len: u8, value: &[u64; 4]) -> u64 {
    let mut s = Sip::new(key);
    s.word(u64::from(kind) | u64::from(len) << 8);
    let used = u64::from(len).div_ceil(8);
    let mut i = 0;
    while i < 4 {
        if (i as u64) < used {
            s.word(value[i]);
        }
        i += 1;
    }
    s.finish(8 * (1 + used))
}

/// Mixes an identity and a salt into a number whose every bit depends on every input bit
/// (MurmurHash3's 64-bit finaliser, Appleby 2011).
#[inline(always)]
pub fn mix(x: u64) -> u64 {
    let mut h = x;
    h ^= h >> 33;
    h = h.wrapping_mul(0xff51_afd7_ed55_8ccd);
    h ^= h >> 33;
    h = h.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    h ^ (h >> 33)
}

struct Sip {
    v0: u64,
    v1: u64,
    v2: u64,
    v3: u64,
}

impl Sip {
    #[inline(always)]
    fn new(k: HashKey) -> Self {
        Self {
            v0: k.k0 ^ 0x736f_6d65_7073_6575,
            v1: k.k1 ^ 0x646f_7261_6e64_6f6d,
            v2: k.k0 ^ 0x6c79_6765_6e65_7261,
            v3: k.k1 ^ 0x7465_6462_7974_6573,
        }
    }

    #[inline(always)]
    fn round(&mut self) {
        self.v0 = self.v0.wrapping_add(self.v1);
        self.v2 = self.v2.wrapping_add(self.v3);
        self.v1 = self.v1.rotate_left(13) ^ self.v0;
        self.v3 = self.v3.rotate_left(16) ^ self.v2;
        self.v0 = self.v0.rotate_left(32);
        self.v2 = self.v2.wrapping_add(self.v1);
        self.v0 = self.v0.wrapping_add(self.v3);
        self.v1 = self.v1.rotate_left(17) ^ self.v2;
        self.v3 = self.v3.rotate_left(21) ^ self.v0;
        self.v2 = self.v2.rotate_left(32);
    }

    #[inline(always)]
    fn word(&mut self, m: u64) {
        self.v3 ^= m;
        self.round();
        self.v0 ^= m;
    }

    #[inline(always)]
    fn finish(mut self, len: u64) -> u64 {
        self.word(len << 56);
        self.v2 ^= 0xff;
        self.round();
        self.round();
        self.round();
        self.v0 ^ self.v1 ^ self.v2 ^ self.v3
    }
}

/// The hash of a claim given as bytes: what the host uses. Values over [`CLAIM_MAX`] bytes are cut.
#[cfg(any(test, feature = "user"))]
pub fn claim_hash_bytes(key: HashKey, kind: u8, value: &[u8]) -> u64 {
    let mut raw = [0u8; CLAIM_MAX];
    let len = value.len().min(CLAIM_MAX);
    raw[..len].copy_from_slice(&value[..len]);
    let mut words = [0u64; CLAIM_MAX / 8];
    for (w, chunk) in words.iter_mut().zip(raw.chunks_exact(8)) {
        *w = u64::from_le_bytes(core::array::from_fn(|i| chunk[i]));
    }
    let mut s = Sip::new(key);
    s.word(u64::from(kind) | (len as u64) << 8);
    let used = len.div_ceil(8);
    for w in &words[..used] {
        s.word(*w);
    }
    s.finish(8 * (1 + used as u64))
}

/// The salt of a name: SipHash-1-3 of its bytes under a fixed zero key, so that every node of every fleet agrees.
#[cfg(any(test, feature = "user"))]
pub fn salt(name: &str) -> u64 {
    let mut s = Sip::new(HashKey::default());
    let bytes = name.as_bytes();
    let mut chunks = bytes.chunks_exact(8);
    for c in &mut chunks {
        s.word(u64::from_le_bytes(core::array::from_fn(|i| c[i])));
    }
    let tail = chunks.remainder().iter().rev().fold(0u64, |a, b| a << 8 | u64::from(*b));
    s.v3 ^= tail | (bytes.len() as u64) << 56;
    s.round();
    s.v0 ^= tail | (bytes.len() as u64) << 56;
    s.v2 ^= 0xff;
    s.round();
    s.round();
    s.round();
    s.v0 ^ s.v1 ^ s.v2 ^ s.v3
}

/// What nodes compare of a lane beside its number: half of its name's [`salt`]. 0 is none.
#[cfg(any(test, feature = "user"))]
pub fn lane_check(name: &str) -> u32 {
    (salt(name) as u32).max(1)
}

#[cfg(test)]
mod tests {
    use std::hash::Hasher as _;

    use proptest::prelude::*;
    use siphasher::sip::SipHasher13;

    use super::*;

    proptest! {
        #[test]
        fn equals_the_reference_siphash(k0: u64, k1: u64, kind: u8, value in prop::collection::vec(any::<u8>(), 0..=32)) {
            let mut msg = vec![kind, value.len() as u8, 0, 0, 0, 0, 0, 0];
            msg.extend(&value);
            msg.resize(8 + value.len().div_ceil(8) * 8, 0);
            let mut h = SipHasher13::new_with_keys(k0, k1);
            h.write(&msg);
            prop_assert_eq!(claim_hash_bytes(HashKey { k0, k1 }, kind, &value), h.finish());
        }

        #[test]
        fn words_and_bytes_agree(k0: u64, k1: u64, a: u64, b: u64) {
            let key = HashKey { k0, k1 };
            let mut bytes = a.to_le_bytes().to_vec();
            bytes.extend(b.to_le_bytes());
            prop_assert_eq!(claim_hash(key, 1, 16, &[a, b]), claim_hash_bytes(key, 1, &bytes));
        }

        #[test]
        fn salt_is_plain_siphash_of_the_name(name in ".{0,40}") {
            let mut h = SipHasher13::new_with_keys(0, 0);
            h.write(name.as_bytes());
            prop_assert_eq!(salt(&name), h.finish());
        }
    }

    #[test]
    fn the_kind_is_part_of_the_hash() {
        let key = HashKey { k0: 1, k1: 2 };
        assert_ne!(claim_hash_bytes(key, 1, b"app7"), claim_hash_bytes(key, 2, b"app7"));
    }
}
