//! The lab: namespaces, veth, cgroups, servers, clients and the agent as guards. It knows gray only by its
//! command line; everything it makes is gone when the guard is dropped, or swept by the next lab.

pub mod agent;
pub mod bench;
pub mod bpf;
pub mod cases;
pub mod cgroup;
pub mod client;
pub mod command;
pub mod demo;
pub mod dnat;
pub mod flood;
pub mod helper;
pub mod hostile;
pub mod kill;
pub mod lab;
pub mod link;
pub mod netns;
pub mod netstat;
pub mod object;
pub mod pace;
pub mod packets;
pub mod pattern;
pub mod place;
pub mod policy;
pub mod residue;
pub mod rights;
pub mod scene;
pub mod server;
pub mod skip;
pub mod splice;
pub mod sweep;
pub mod sys;
pub mod world;

pub use place::Place;
pub use world::{World, WorldSpec};
