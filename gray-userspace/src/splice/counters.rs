//! What the listener counts. Each number only grows; `open` is what was taken less what has ended.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::{Protocol, Said, Why};

/// One name and one number.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub fn add(&self, n: u64) {
        let _ = self.0.fetch_add(n, Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

#[derive(Debug, Default)]
pub struct Counters {
    pub taken: Counter,
    pub ended: Counter,
    /// Reset: there was no room.
    pub no_room: Counter,
    /// Of no service that is read.
    pub unknown: Counter,
    /// The tables could not be asked.
    pub failed: Counter,
    pub http1: Counter,
    pub http2: Counter,
    pub tls: Counter,
    /// Whose source a PROXY header has said; and whose is none of a trusted proxy.
    pub proxied: Counter,
    pub disbelieved: Counter,
    /// In the order of [`Why::ALL`].
    pub unread: [Counter; 5],
    /// Clients of HTTP/2 that waited for a server's settings.
    pub greeted: Counter,
    pub gray: Counter,
    pub stable: Counter,
    pub refused: Counter,
    /// An instance refused, or was silent.
    pub another: Counter,
    pub no_instance: Counter,
    /// One of its ends broke it.
    pub broken: Counter,
    /// Bytes, from clients and to them.
    pub from_clients: Counter,
    pub to_clients: Counter,
}

impl Counters {
    pub(super) fn read(&self, said: Said) {
        match said {
            Said::Read(Protocol::Http1) => self.http1.add(1),
            Said::Read(Protocol::Http2) => self.http2.add(1),
            Said::Read(Protocol::Tls) => self.tls.add(1),
            Said::Unread(why) => self.unread[why as usize].add(1),
            Said::More | Said::Waits => {}
        }
    }

    pub(super) fn proxied(&self, believed: bool, disbelieved: bool) {
        self.proxied.add(u64::from(believed));
        self.disbelieved.add(u64::from(disbelieved));
    }

    /// An instance has it.
    pub(super) fn arrived(&self, gray: bool) {
        let counter = if gray { &self.gray } else { &self.stable };
        counter.add(1);
    }

    /// Connections that have not ended.
    pub fn open(&self) -> u64 {
        self.taken.get().saturating_sub(self.ended.get())
    }

    pub fn unread_for(&self, why: Why) -> u64 {
        self.unread[why as usize].get()
    }

    /// Names and numbers.
    pub fn all(&self) -> Vec<(String, u64)> {
        let mut out: Vec<(String, u64)> = [
            ("taken", &self.taken),
            ("ended", &self.ended),
            ("no_room", &self.no_room),
            ("unknown", &self.unknown),
            ("failed", &self.failed),
            ("http1", &self.http1),
            ("http2", &self.http2),
            ("tls", &self.tls),
            ("proxied", &self.proxied),
            ("disbelieved", &self.disbelieved),
            ("greeted", &self.greeted),
            ("gray", &self.gray),
            ("stable", &self.stable),
            ("refused", &self.refused),
            ("another", &self.another),
            ("no_instance", &self.no_instance),
            ("broken", &self.broken),
            ("from_clients", &self.from_clients),
            ("to_clients", &self.to_clients),
        ]
        .map(|(name, counter)| (name.to_owned(), counter.get()))
        .into();
        out.extend(Why::ALL.map(|why| (format!("unread_{}", why.name()), self.unread_for(why))));
        out
    }
}
