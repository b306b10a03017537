//! The maps of the request path.

use aya_ebpf::{
    macros::map,
    maps::{Array, LruHashMap, PerCpuArray},
};
use gray_common::{
    decide::Claims,
    limits,
    request::{
        cookie::{Offered, Tuple},
        direction::Walk,
        frame::Frames,
        machine::{Outs, Segment},
        options::Options,
        pending,
        scan::Scan,
        tls::Hello,
        translate::Fields,
    },
    wire::{
        self, Bound, Caller, Further, Held, ListenCount, Listening, Metadata, Reading, RequestCount, Tagged,
    },
};

#[map]
pub static READINGS: Array<Reading> = Array::with_max_entries(2 * limits::SERVICES, 0);
/// By the connection as its client sees it, with number 0.
#[map]
pub static SPLICES: LruHashMap<Tuple, Bound> = LruHashMap::with_max_entries(limits::SPLICES, 0);
/// The messages of connections where every request chooses.
#[map]
pub static FRAMES: LruHashMap<Tuple, Frames> = LruHashMap::with_max_entries(limits::FRAMES, 0);
/// Connections that have said nothing, or not enough: a flood of them takes no place of one that has its instance.
#[map]
pub static WAITING: LruHashMap<Tuple, Bound> = LruHashMap::with_max_entries(limits::WAITING, 0);
/// By the service's number.
#[map]
pub static REQUESTS: PerCpuArray<RequestCount> = PerCpuArray::with_max_entries(limits::SERVICES, 0);
#[map]
pub static HELD: Array<Held> = Array::with_max_entries(limits::HELD, 0);
/// Connections that are not known, and when they spoke first, in ms. Not shared, not pinned.
#[map]
pub static STRANGERS: LruHashMap<Tuple, u32> = LruHashMap::with_max_entries(limits::STRANGERS, 0);
/// What the tags of SYNs said, by the connection.
#[map]
pub static TAGGED: LruHashMap<Tuple, Tagged> = LruHashMap::with_max_entries(limits::TAGGED, 0);
/// What clients without timestamps were granted, until they have spoken; see `gray_common::request::pending`.
#[map]
pub static PENDING: Array<u64> = Array::with_max_entries(pending::PLACES, 0);
/// Of the splice listener: programs touch neither.
#[map]
pub static FURTHER: Array<Further> = Array::with_max_entries(2 * limits::SERVICES, 0);
#[map]
pub static METADATA: Array<Metadata> = Array::with_max_entries(2 * limits::METADATA, 0);

#[map]
pub static LISTENER: Array<Listening> = Array::with_max_entries(2, 0);
/// By a socket's cookie.
#[map]
pub static CALLERS: LruHashMap<u64, Caller> = LruHashMap::with_max_entries(limits::CALLERS, 0);
/// By the service's number. Programs do not touch it.
#[map]
pub static LISTENED: Array<ListenCount> = Array::with_max_entries(limits::SERVICES, 0);

/// Bytes of a segment that are read at once.
pub const WINDOW: usize = 512;

/// The beginning of a segment that goes on without its end. Not shared, not pinned.
#[map]
pub static SPARE: PerCpuArray<[u8; wire::HELD]> = PerCpuArray::with_max_entries(1, 0);

/// One packet's way through the request path. Not shared, not pinned.
pub struct Call {
    pub key: Tuple,
    /// The key with the client's number, for cookies.
    pub tuple: Tuple,
    /// Of what its client offered, what it is granted, or was.
    pub offered: Offered,
    pub claims: Claims,
    pub words: [u64; 4],
    pub epoch: u64,
    pub now_ms: u64,
    /// The connection: taken out of its table by `lock::enter`, put back by `lock::leave`. Nobody else has it meanwhile.
    pub bound: Bound,
    pub scan: Scan,
    pub hello: Hello,
    pub seg: Segment,
    pub fields: Fields,
    pub outs: Outs,
    pub options: Options,
    pub walk: Walk,
    pub frames: Frames,
    /// What the last walk came to, and what of the segment is in `window`.
    pub taken: u32,
    pub window_at: u32,
    pub window_len: u32,
    pub window: [u8; WINDOW],
    pub area: [u8; 40],
    pub v4: u32,
    /// Where the transport header begins, and the payload.
    pub l4: u32,
    pub payload: u32,
    /// The service's index in the bank.
    pub service: u32,
    /// What the last step of a scan answered.
    pub read: u32,
    /// An attempt plus 1, at the listener 256: an instance is to be chosen, and no flow leads there yet.
    pub picked: u32,
    /// Not 0: what is new in the segment is held; and what was read of it.
    pub prepared: u32,
    /// The place in what is held, and from where in the segment how much.
    pub due: [u32; 3],
    pub verdict: u32,
    /// Not 0: what was read names none of the claims that are looked for; and what the reading came to.
    pub blank: u32,
    /// Not 0: all that is looked for was read.
    pub enough: u32,
    /// Not 0: a header's value is one for each service, as JSON.
    pub json: u32,
    pub came_to: u32,
    /// Not 0: with this segment a request was decided on.
    pub settled: u32,
    /// The arm of the request is that of the connection.
    pub keeps: u32,
    /// The reason for which the request is refused, if it is not that it names nobody; 0: none.
    pub refused: u8,
    /// Not 0: the connection is this CPU's, and in `bound`: `lock::LIVES`, `lock::WAITS`.
    pub has: u32,
    /// How many of `outs` are done.
    pub done: u32,
    /// The packet's addresses.
    pub from: [u64; 2],
    pub to: [u64; 2],
    pub from_port: u16,
    pub to_port: u16,
    pub mark: u32,
    pub ifindex: u32,
    pub dscp: u8,
    pub hops: u8,
    /// Of `hooks::request`; and not 0: the packet came from an instance.
    pub whose: u32,
    pub reply: u32,
    /// Not 0: it is on its way out of this node, on which the instance is.
    pub egress: u32,
}
#[map]
pub static CALL: PerCpuArray<Call> = PerCpuArray::with_max_entries(1, 0);

/// This CPU's.
#[inline(always)]
pub fn call() -> Option<&'static mut Call> {
    let c = CALL.get_ptr_mut(0)?;
    // SAFETY: this CPU's own slot; tc programs of one CPU do not interrupt each other, and each function takes it anew.
    Some(unsafe { &mut *c })
}
