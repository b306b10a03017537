//! Checks for what the stack would do with a packet on its way out, and a redirected one passes by: rules by mark, IPsec.

use std::io;

use super::{DoctorInput, Finding, host::Host, ok, warn};

/// The next hop is looked up with no mark.
pub(super) fn marks(_: &DoctorInput, host: &Host) -> Vec<Finding> {
    vec![match host.marked_rules {
        Ok(0) => ok("no rule routes by a packet's mark"),
        Ok(n) => warn(
            format!(
                "{n} rules route by a packet's mark (`ip rule`): steered packets are routed as if they had none"
            ),
            "route to the instances by destination, source or interface, or steer on a node without such rules",
        ),
        Err(ref e) => unread("the routing rules", e),
    }]
}

pub(super) fn ipsec(_: &DoctorInput, host: &Host) -> Vec<Finding> {
    vec![match host.ipsec_policies {
        Ok(0) => ok("no policies"),
        Ok(n) => warn(
            format!(
                "{n} policies of IPsec (`ip xfrm policy`): steered packets leave unencrypted, whatever the policies say"
            ),
            "keep the networks of clients and instances out of the policies, or encrypt on another node",
        ),
        Err(ref e) => unread("the policies of IPsec", e),
    }]
}

fn unread(what: &str, e: &io::Error) -> Finding {
    warn(format!("cannot list {what}: {e}"), "run gray doctor as root")
}
