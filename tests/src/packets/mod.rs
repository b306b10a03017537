//! Packet cases: frames by hand, the tables of what must come out, and what they run on: the data path in the kernel
//! behind BPF_PROG_TEST_RUN, or the model of it in memory. No traffic: nothing here leaves the test run.

pub mod aged;
pub mod broken;
pub mod case;
pub mod claims;
mod direct;
pub mod frame;
pub mod front;
pub mod fuzz;
pub mod icmp;
pub mod land;
pub mod model;
pub mod others;
pub mod pcap;
pub mod pieces;
pub mod random;
pub mod rig;
pub mod subject;
pub mod sum;
pub mod tables;
pub mod transport;
pub mod wrapped;
