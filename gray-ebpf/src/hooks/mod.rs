//! One file per hook family. No pointers here: `ctx` has them.

pub mod admit;
pub mod breaker;
pub mod calls;
pub mod clock;
pub mod connect;
mod direct;
pub mod dsr;
pub mod fragment;
pub mod handed;
pub mod icmp;
pub mod life;
pub mod links;
pub mod packet;
pub mod probe;
pub mod request;
pub mod spoken;
pub mod tags;
pub mod times;
pub mod udp;
mod v4;
pub mod v6;
mod vlan;
pub mod xdp;
