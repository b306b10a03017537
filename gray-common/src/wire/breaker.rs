//! The circuit breaker of a service's gray arm: its numbers, which are policy, and its state, which programs keep.

use super::wire;

/// So many failures inside of a window open it. Of a service without one all is 0.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Breaker {
    pub window_ms: u32,
    /// For so long nobody new goes to gray; then one connection tries.
    pub open_ms: u32,
    pub failures: u32,
    /// How often a SYN comes again, unanswered, before that is a failure; 0 is once.
    pub retransmits: u32,
}

/// As many as may be asked for. A flow counts them in three bits, of which 7 says that they were too many.
pub const MOST_RETRANSMITS: u32 = 6;
/// Its SYN came again too often, and that was counted.
pub const RETRANSMITS_TOLD: u32 = 7;

impl Breaker {
    /// Whether a SYN that came again so often is a failure.
    #[inline(always)]
    pub fn is_silence(&self, times: u32) -> bool {
        times >= if self.retransmits == 0 { 1 } else { self.retransmits }
    }
}

/// The latest failures that are remembered by their time: twice as many as may be asked for, since CPUs write theirs side by side.
pub const FAILURES: usize = 256;
/// As many as may be too many. Programs are handed them in eight bits.
pub const MOST_FAILURES: u32 = 128;
const _: () = assert!(MOST_FAILURES as usize * 2 <= FAILURES && MOST_FAILURES < 256);

/// By the service's number. Ticks are jiffies.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trip {
    /// When it opened, or the latest connection was let through to try; 0: it is closed.
    pub opened: u64,
    /// Failures, and how many of them were before it closed: those do not open it again.
    pub count: u64,
    pub before: u64,
    /// How often it opened.
    pub opens: u64,
    /// As of the latest decision.
    pub rule: Breaker,
    /// When the latest failures were, low 32 bits of ticks; that of number n at n modulo their number.
    pub at: [u32; FAILURES],
}

impl Default for Trip {
    fn default() -> Self {
        Self { opened: 0, count: 0, before: 0, opens: 0, rule: Breaker::default(), at: [0; FAILURES] }
    }
}

/// Whether one that opened at a time, or 0, keeps a new connection from gray now; if not, and it opened, the connection tries. `seen`: its
/// end will be. Where nobody tries, all may after twice the time.
#[inline(always)]
pub fn trip_is_open(opened: u64, now: u64, hz: u32, open_ms: u32, seen: bool) -> bool {
    // Signed: another CPU may have opened it since `now` was read.
    let passed = (now.wrapping_sub(opened) as i64).wrapping_mul(1000);
    let open = i64::from(open_ms).wrapping_mul(i64::from(hz));
    opened != 0 && passed <= if seen { open } else { open.wrapping_mul(2) }
}

impl Trip {
    /// Notes failure number `n`, from 1; true: it is the one that is too many.
    #[inline(always)]
    pub fn fails(&mut self, n: u64, now: u64, hz: u32) -> bool {
        self.at[n as usize % FAILURES] = now as u32;
        let most = u64::from(self.rule.failures);
        if most == 0 || n.wrapping_sub(self.before) < most {
            return false;
        }
        // The first of as many as are too many.
        let first = self.at[n.wrapping_sub(most - 1) as usize % FAILURES];
        // Another CPU may be up to a second ahead. Not signed: what was long ago would be to come.
        let passed = u64::from((now as u32).wrapping_sub(first).wrapping_add(hz));
        passed.wrapping_mul(1000) <= (u64::from(self.rule.window_ms) + 1000).wrapping_mul(u64::from(hz))
    }
}

wire!(Breaker, size 16, { window_ms @ 0: u32, open_ms @ 4: u32, failures @ 8: u32, retransmits @ 12: u32 });
wire!(Trip, size 1072, {
    opened @ 0: u64, count @ 8: u64, before @ 16: u64, opens @ 24: u64, rule @ 32: Breaker, at @ 48: [u32; 256],
});

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HZ: u32 = 250;

    fn trip(failures: u32, window_ms: u32) -> Trip {
        Trip { rule: Breaker { failures, window_ms, open_ms: 30_000, retransmits: 1 }, ..Trip::default() }
    }

    #[test]
    fn f15_so_many_failures_inside_of_a_window_are_too_many() {
        let mut t = trip(3, 10_000);
        // Ticks of failures, and whether each is one too many.
        let all = [
            (1000, false),
            (1001, false),
            (3501, false),
            (3501, true),
            (9000, false),
            (11_500, false),
            (11_500, true),
        ];
        for (n, (now, opens)) in (1..).zip(all) {
            assert_eq!(t.fails(n, now, HZ), opens, "number {n}");
        }
        // What was before it closed does not count.
        t.before = 7;
        assert!(!t.fails(8, 11_501, HZ) && !t.fails(9, 11_502, HZ) && t.fails(10, 11_503, HZ));
        assert!(trip(1, 1000).fails(1, 5, HZ), "one may be too many");
        assert!(!trip(0, 1000).fails(1, 5, HZ), "there is no breaker");
    }

    #[test]
    fn f15_a_syn_is_unanswered_after_so_many_retransmits() {
        let b = |retransmits| Breaker { retransmits, ..Breaker::default() };
        let first = |b: Breaker| (0..10).find(|n| b.is_silence(*n));
        assert_eq!([0, 1, 2, 6].map(|n| first(b(n))), [1, 1, 2, 6].map(Some));
        assert!(
            MOST_RETRANSMITS < RETRANSMITS_TOLD
                && RETRANSMITS_TOLD << 11 == u32::from(crate::wire::FLOW_OPENING)
        );
    }

    #[test]
    fn f15_an_open_one_lets_one_try_after_its_time() {
        for (now, seen, unseen) in [
            (1000, true, true),
            (990, true, true),
            (8500, true, true),
            (8501, false, true),
            (16_000, false, true),
            (16_001, false, false),
        ] {
            let open = |seen| trip_is_open(1000, now, HZ, 30_000, seen);
            assert_eq!([open(true), open(false)], [seen, unseen], "at {now}");
        }
        assert!(!trip_is_open(0, 8501, HZ, 30_000, true) && !trip_is_open(0, 8501, HZ, 30_000, false));
    }

    proptest! {
        /// Against a list of all that failed.
        #[test]
        fn f15_the_ring_says_what_a_list_says(
            failures in 1u32..=128, window in 1u32..5_000, base in prop::sample::select(vec![0u64, 0xffff_ff00, 1 << 40]),
            mut gaps in prop::collection::vec(0u64..200, 1..400),
            // Once: what was 2^32 ticks ago, 50 days at the least, seems to be now.
            pause in (any::<prop::sample::Index>(), prop::sample::select(vec![0u64, 1 << 31, 3 << 30])),
        ) {
            let at = pause.0.index(gaps.len());
            gaps[at] += pause.1;
            let mut t = trip(failures, window);
            let (mut now, mut list) = (base + 1, Vec::new());
            for gap in gaps {
                now += gap;
                list.push(now);
                let said = t.fails(list.len() as u64, now, 1000);
                let inside = list.iter().filter(|at| now - **at <= u64::from(window)).count();
                prop_assert_eq!(said, inside >= failures as usize);
            }
        }
    }
}
