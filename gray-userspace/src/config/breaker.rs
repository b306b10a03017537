//! Reads the circuit breaker of a service. Must not look at the service around it.

use gray_common::wire::{MOST_FAILURES, MOST_RETRANSMITS};

use super::{
    report::Report,
    shape::BREAKER,
    tree::Node,
    walk::{self, Fields},
};
use crate::model::{Breaker, Millis};

const HOUR: u32 = 3_600_000;
const WINDOW: u32 = 10_000;
const OPEN: u32 = 30_000;

pub(super) fn read(node: &Node<'_>, report: &mut Report<'_>) -> Option<Breaker> {
    let fields = Fields::open(node, &BREAKER, node.span, report)?;
    // Read whatever is missing: every problem at once.
    let failures = fields.get("failures").map(|n| walk::integer(n, "failures", 1..=MOST_FAILURES, report));
    let window = match fields.get("window") {
        Some(n) => walk::duration(n, "window", 1000..=HOUR, report),
        None => Some(WINDOW),
    };
    let open = match fields.get("open") {
        Some(n) => walk::duration(n, "open", 1000..=HOUR, report),
        None => Some(OPEN),
    };
    let retransmits = match fields.get("retransmits") {
        Some(n) => walk::integer(n, "retransmits", 1..=MOST_RETRANSMITS, report),
        None => Some(1),
    };
    Some(Breaker {
        failures: failures??,
        window: Millis(window?),
        open: Millis(open?),
        retransmits: retransmits?,
    })
}
