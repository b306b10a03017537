//! B is node: one thread, which reads and answers many at once.

use gray_tests::{command::note, server::How, skip};
use gray_userspace::sys::kernel::MESSAGES;

use crate::chain::{Chain, many};

/// Of each caller.
const REQUESTS: u64 = 500;

/// A handler that calls before it waits for anything: node dials in the turn that has read the request, however many there are.
#[test]
fn e2_c10_node_calls_in_the_lane_of_what_it_has_read() {
    if skip::lacks(MESSAGES, "a link") {
        return;
    }
    let mut chain = Chain::start(&["--tags"]);
    chain.label(&["--link", "run-to-completion"]);
    for how in [How::Node, How::NodeAgent] {
        chain.serve(how, false);
        for (workers, per_connection) in [(1, 1), (8, 1), (8, 10)] {
            let both = chain.ask(&chain.load(false, per_connection).count(REQUESTS).workers(workers)).gray();
            assert_eq!(both, [REQUESTS, 0], "{how:?}, {workers} at once, {per_connection} on a connection");
        }
    }
    assert_eq!(chain.ask(&chain.load(false, 10).count(many()).workers(8)).gray(), [many(), 0]);
    assert_eq!(chain.said(), None);
    // One that waits first is right as long as there is one request at a time, and wrong beside others: a person has to know it.
    chain.serve(How::NodeWaits, false);
    let alone = chain.load(false, 1).workers(1).count(50).run(&chain.place(&chain.gray)).unwrap();
    alone.assert_all_ok();
    assert_eq!(alone.of_version("2.0"), 50);
    let [gray, plain] = chain.ask(&chain.load(false, 1).count(REQUESTS)).gray();
    note(&format!(
        "a handler that waits: {gray} of {REQUESTS} in the lane, {plain} of {REQUESTS} by mistake"
    ));
    chain.finish();
}

/// However it is written, nobody is in a lane by mistake; what is recalled beside others is little.
#[test]
fn e2_c10_node_is_in_no_lane_by_mistake_where_the_link_is_strict() {
    if skip::lacks(MESSAGES, "a link") {
        return;
    }
    let mut chain = Chain::start(&["--tags"]);
    chain.label(&["--link", "strict"]);
    for how in [How::Node, How::NodeWaits] {
        chain.serve(how, false);
        let [recalled, leaked] = chain.ask(&chain.load(false, 1).count(many())).gray();
        note(&format!("{how:?}: {recalled} of {} in the lane", many()));
        assert_eq!(leaked, 0, "{how:?}");
        let alone = chain.load(false, 1).workers(1).count(50).run(&chain.place(&chain.gray)).unwrap();
        alone.assert_all_ok();
        assert_eq!(alone.of_version("2.0"), 50, "{how:?}");
    }
    chain.finish();
}
