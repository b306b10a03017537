//! The kernel tier's packet cases: frames by hand, the data path behind BPF_PROG_TEST_RUN, and the tables of what
//! must come out. No traffic: nothing here leaves the test run.

pub mod broken;
pub mod case;
pub mod frame;
pub mod fuzz;
pub mod icmp;
pub mod land;
pub mod others;
pub mod random;
pub mod rig;
pub mod sum;
pub mod transport;
