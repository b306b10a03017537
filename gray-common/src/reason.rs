//! The one list of reasons: counter index, metric label, event code, text and documentation. Codes are never reused.

macro_rules! reasons {
    ($($name:ident = $code:literal, $label:literal, $doc:literal;)+) => {
        /// Why a connection or packet went where it went. Used by the data path as a counter index.
        #[repr(u8)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Reason { $(#[doc = $doc] $name = $code,)+ }

        impl Reason {
            pub const ALL: &'static [Reason] = &[$(Reason::$name,)+];

            /// Metric label and JSON value: lower case, underscores.
            pub const fn label(self) -> &'static str {
                match self { $(Reason::$name => $label,)+ }
            }

            /// One sentence for people.
            pub const fn doc(self) -> &'static str {
                match self { $(Reason::$name => $doc,)+ }
            }

            pub const fn from_code(code: u8) -> Option<Reason> {
                match code { $($code => Some(Reason::$name),)+ _ => None }
            }
        }
    };
}

reasons! {
    NotManaged = 0, "not_managed", "The destination is no managed service; left alone.";
    NoPolicy = 1, "no_policy", "No policy is active; left alone.";
    Malformed = 2, "malformed", "A header is cut short or contradicts itself, a transport header only where the packet may be ours; passed unchanged.";
    Fragment = 3, "fragment", "A fragment from or to an address of ours that came before the first of its packet; all of that packet pass unchanged, to where the address points.";
    HeaderUnsupported = 4, "header_unsupported", "An IPv6 extension header that nothing can be steered behind (ESP, AH, routing with more to visit, over six of them); passed unchanged.";
    OtherNamespace = 5, "other_namespace", "A socket of another network namespace than this agent's; left alone.";
    Explicit = 6, "explicit", "A client on an explicit list.";
    Condition = 7, "condition", "A client that meets a condition (percentage, combination).";
    Weight = 8, "weight", "A weighted route's bucket.";
    Default = 9, "default", "No route applied: stable.";
    Failover = 10, "failover", "The chosen subset has no instance: the service's failover, by default stable.";
    NoInstance = 11, "no_instance", "Stable has no instance either; left alone.";
    Rebuilt = 12, "rebuilt", "A packet in the middle of a TCP connection without a flow entry; decided again, which gives the same answer while the policy stands.";
    Adopted = 13, "adopted", "A TCP connection older than gray's attachment; recorded as stable and left alone.";
    TableHole = 14, "table_hole", "A table entry that must exist was missing; left alone. Should be 0.";
    FlowInsert = 15, "flow_insert", "The flow table refused an entry; the packet was left alone.";
    TupleClash = 16, "tuple_clash", "Other connections have this client port and those tried in its place towards the same instance; left alone.";
    NoNeighbour = 17, "no_neighbour", "The next hop's link address was unknown; sent through neighbour resolution.";
    NoRoute = 18, "no_route", "The kernel gave no direct route; rewritten and handed to the stack.";
    Oversize = 19, "oversize", "Larger than the next hop's MTU; rewritten and handed to the stack, which fragments.";
    TtlExpired = 20, "ttl_expired", "TTL or hop limit used up; handed to the stack unchanged, which answers.";
    StorageFull = 21, "storage_full", "No memory for a socket's peer record; the connection was left alone.";
    EventLost = 22, "event_lost", "The event ring was full.";
    EventLimited = 23, "event_limited", "An event over the rate limit.";
    RewriteFailed = 24, "rewrite_failed", "The kernel refused a part of a rewrite (a checksum, a VLAN tag); the packet was dropped rather than sent corrupted. Should be 0.";
    IcmpError = 25, "icmp_error", "An ICMP error about a steered packet; translated back and sent to that packet's sender.";
    TooBig = 26, "too_big", "Larger than the next hop's MTU and not to be fragmented; its sender was told the MTU.";
    Echo = 27, "echo", "An ICMP echo request to a service address that no instance has; answered.";
    PortChanged = 28, "port_changed", "Another connection has this client port towards the same instance; the instance sees another one.";
    DsrNoRoute = 29, "dsr_no_route", "With nat: dsr: no direct route to the instance, or it is this node itself; left alone. Where stable has the address, a new flow stays with stable, and a packet of one that the instance has is dropped.";
    DsrOversize = 30, "dsr_oversize", "With nat: dsr: too large with its outer header, and its sender cannot be told (options, a fragment behind the first); left alone.";
    DsrFailed = 31, "dsr_failed", "With nat: dsr: no address to send from, or no room for an outer header; left alone.";
    Decapsulated = 32, "decapsulated", "A packet in another one from a trusted node; the outer header was taken off.";
    DsrUntrusted = 33, "dsr_untrusted", "A packet in another one to this node from a node that is not trusted (--dsr-from); passed unchanged.";
    DsrInner = 34, "dsr_inner", "What a trusted node sent in a packet is none that this node takes: another protocol, not to an address of its own, a fragment outside; passed unchanged.";
    DsrPathMtu = 35, "dsr_path_mtu", "With nat: dsr: a router on the way to an instance told a smaller MTU; clients are told it when they send more. Passed unchanged, too.";
    Flood = 36, "flood", "So many connections open that the flow table would be full of them within 2 s: this one is kept apart from the established ones until both of its ends have spoken.";
    RequestAnswered = 37, "request_answered", "The SYN of a client whose first bytes say where it goes; answered with a cookie.";
    RequestBound = 38, "request_bound", "The instance that a request belongs to answered; from now on the connection's numbers are translated.";
    RequestLost = 39, "request_lost", "A segment of a connection that is to be read, without an entry or a good cookie, or one that cannot be translated; dropped.";
    RequestEarly = 40, "request_early", "A segment before bytes that have to be read first; dropped, its sender sends it again.";
    RequestAnother = 41, "request_another", "An instance refused a connection or said nothing; another one is tried, at last stable's.";
    RequestNoInstance = 42, "request_no_instance", "No instance took a connection; its client is reset.";
    RequestChallenge = 43, "request_challenge", "An instance remembers an older connection of the same ports; that one is reset and dialled again.";
    RequestPlain = 44, "request_plain", "The first bytes name no identity that is looked for, or cannot be read (TLS where no server name is looked for, a bad head, what only an absent splice listener could read); decided without.";
    RequestSwitched = 45, "request_switched", "With per: request: the next request on a connection belongs to another arm; its instance was dialled.";
    RequestWaits = 46, "request_waits", "With per: request: a request for another arm waits, unacknowledged, for the answers before it.";
    RequestStayed = 47, "request_stayed", "With per: request: a request that cannot be followed (its framing, its head, over 4380 bytes) stays with the connection's instance, and so does all that follows.";
    RequestNotFollowed = 48, "request_not_followed", "With per: request: a request for another arm on a connection that cannot change its instance any more; the connection is reset.";
    RequestBusy = 49, "request_busy", "A segment of a connection that another CPU had at this moment, and for longer than it takes; dropped, its sender sends it again.";
    Denied = 50, "denied", "Nothing that the service's identify asks for is known of a client, and its policy denies that (on-missing-identity): TCP is reset, a UDP packet dropped, a local caller's call refused.";
    Lane = 51, "lane", "A connection in a lane, or of a client whom a route sends into one, at a service that the lane names.";
    LaneUnknown = 52, "lane_unknown", "A call by a workload in a lane that the policy does not know; decided as if it were in none.";
    RequestSilent = 53, "request_silent", "A client that is to be read said nothing for as long as first-byte allows: it waits for the server, and goes where clients go of whom nothing is known.";
    Shadow = 54, "shadow", "A route would have sent it to gray, and its service is in shadow: it went to stable, as if there were no route.";
    FailoverDenied = 55, "failover_denied", "The chosen subset has no instance, and the service's failover denies that: TCP is reset, a UDP packet dropped, a local caller's call refused.";
    Isolated = 56, "isolated", "The instances that a route chose, or that is dialled by its own address, take connections from others only (accept): TCP is reset, a UDP packet dropped, a local caller's call refused.";
    TagSaid = 57, "tag_said", "A SYN that says its connection's lane or identity to the next node: of a socket of this node, or one that this node sends on for a client in a lane.";
    TagTaken = 58, "tag_taken", "A good tag came in by a trusted interface, once for each SYN that has it; its lane and identity are the client's if the connection is decided by this node.";
    TagRefused = 59, "tag_refused", "A tag by a trusted interface that is none of this fleet's for this connection (another key, version or length, a lane that the policy does not know); decided without.";
    TagOverwritten = 60, "tag_overwritten", "A SYN with a tag by an interface that is not trusted; the tag was overwritten.";
    TagNoRoom = 61, "tag_no_room", "A connection whose SYN had no room for its tag, or whose socket no memory for it; it says nothing.";
    AgentLost = 62, "agent_lost", "Nobody has renewed the agent's lease for longer than its service allows, and the service wants everybody at stable then (on-agent-lost): it went to stable, as if there were no route.";
    Broken = 63, "broken", "Gray failed too often, and its breaker is open: it went to stable, as if there were no route.";
    RequestListener = 64, "request_listener", "First bytes that only the splice listener of this node can read (HTTP/2, a PROXY header, over 4380 bytes, a head in pieces, JSON in a header): it has the connection, reads, decides and copies.";
    RequestAlone = 65, "request_alone", "First bytes that only the splice listener could have read, and it is not there or did not take the connection; decided without what was not read.";
    RequestOptions = 66, "request_options", "A SYN of a service with claims whose options are broken or nobody between its ends can take part in (signatures: TCP MD5, TCP-AO); its client is not answered and nothing of it is read: decided on at once, without claims.";
    RequestForgotten = 67, "request_forgotten", "A connection whose numbers were translated, and are not known any more: others have its place in the table, which has room for half of --flows as it was when the table was made, 262144 at most; its client is reset. Should be 0: give --flows room for the peak; the table keeps its size until a reboot.";
    RequestLocal = 68, "request_local", "A call by a local caller to a service with claims: the connect path has no request yet, and no splice listener is there, so it was decided without what the request says (packets of other callers are read).";
    Linked = 69, "linked", "A call that is in the lane of the request that its workload serves (link).";
    LinkAmbiguous = 70, "link_ambiguous", "With link strict: a call while requests of several lanes are in flight on its thread; it is in no lane.";
    RequestCaller = 71, "request_caller", "A call by a local caller to a service with claims that the splice listener has: it reads, decides and copies.";
    RequestDamaged = 72, "request_damaged", "A segment of a connection that is to be read, with a wrong checksum; dropped, its sender sends it again.";
}

/// Size of the counter array: room for reasons to come without a new layout.
pub const REASON_SLOTS: u32 = 128;
const _: () = assert!(Reason::ALL.len() <= REASON_SLOTS as usize);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_unique_and_codes_dense() {
        for (i, r) in Reason::ALL.iter().enumerate() {
            assert_eq!(*r as usize, i);
            assert_eq!(Reason::from_code(i as u8), Some(*r));
            assert!(Reason::ALL.iter().filter(|o| o.label() == r.label()).count() == 1, "{}", r.label());
            assert!(r.label().chars().all(|c| c.is_ascii_lowercase() || c == '_'));
            assert!(r.doc().ends_with('.') || r.doc().ends_with(".)"));
        }
        assert_eq!(Reason::from_code(200), None);
    }
}
