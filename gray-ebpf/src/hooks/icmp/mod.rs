//! ICMP errors about steered packets. An error quotes the packet it is about, as it was on the wire where the error was
//! made: rewritten. Whoever sent the packet knows another one, so the quotation is put back to what was sent, and the
//! error goes where that packet came from. Without this, path MTU discovery fails and an unreachable port looks like silence.
//!
//! The quotation's own way back is a flow of ours, and that entry holds both tuples: the one that the quotation has, turned
//! round, is its key, and the one that it must have, turned round, is its value.
//!
//! The checksum of the quoted transport header is left as it is: the quotation is often cut before it, and nobody can check it.

pub mod echo;
pub mod too_big;
pub mod v4;
pub mod v6;
