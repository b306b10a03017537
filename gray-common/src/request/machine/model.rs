//! A world for the machine: a client and instances that speak honest TCP (`tcp`), the node with the machine between them
//! (`edge`), a network that loses, doubles, delays, splits and joins packets (`world`), and what they say (`http`).

mod edge;
mod http;
mod tcp;
mod world;

pub use edge::{Edge, LISTENING};
pub use http::Plan;
pub use tcp::{Pkt, Tcp};
pub use world::{Hostile, Outcome, World};

/// Numbers that depend on a seed only (xorshift, Marsaglia 2003).
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(crate::hash::mix(seed ^ 0x9e37_79b9) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub fn below(&mut self, n: u64) -> u64 {
        (self.next() >> 11) % n.max(1)
    }

    pub fn percent(&mut self, p: u64) -> bool {
        self.below(100) < p
    }
}
