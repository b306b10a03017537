//! Links: what a service calls is in the lane of the request that it serves, with no change of its code (docs/adr/0028-links.md).

mod chain;

use chain::{Chain, REQUESTS};

const ALL: [u64; 2] = [REQUESTS, 0];

/// A thread for each connection, which calls by itself, by another thread, and by another process.
#[test]
fn e2_c10_a_thread_calls_in_the_lane_of_what_it_has_read() {
    let mut chain = Chain::start(&["--tags"]);
    chain.label(&["--link", "thread"]);
    for (how, v6) in [("threads", false), ("threads", true), ("helpers", false), ("forks", false)] {
        chain.serve(how, v6);
        assert_eq!(chain.ask(&chain.load(v6, 1)).gray(), ALL, "{how}, v6: {v6}");
    }
    assert_eq!(chain.agent.counted("linked"), 4 * REQUESTS);
    // Connections that stay, with many requests.
    chain.serve("threads", false);
    assert_eq!(chain.ask(&chain.load(false, 10)).gray(), ALL);
    // Without it, and all is as before.
    chain.label(&[]);
    assert_eq!(chain.ask(&chain.load(false, 1)).gray(), [0, 0]);
    chain.finish();
}
