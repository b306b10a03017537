//! The numbers of a spliced connection. The client was answered with a number of ours, the instance chose its own; the
//! client's numbers are the same on both sides. So what the instance counts (its sequence numbers, and the client's
//! acknowledgements and SACK blocks of them), its timestamps and its window are translated, and nothing else.

use super::seq::before;
use crate::wire::wire;

/// The distance between what the client sees and what the instance says.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shift {
    /// Instance's sequence number minus the client's view of it.
    pub seq: u32,
    /// Instance's timestamp minus the client's view of it.
    pub time: u32,
    /// The instance's window scale, and the one that the client was told; both 0 where there is none.
    pub scale: u8,
    pub told: u8,
    /// Not 0: the instance takes no SACK blocks; the client's are taken out.
    pub no_sack: u8,
    /// Not 0: the instance has not had an acknowledgement of its SYN-ACK, and may drop one that echoes something older
    /// than `floor` (Linux 6.15).
    pub fresh: u8,
    /// The instance's first timestamp, as the client sees it.
    pub floor: u32,
    /// The client's window scale where the instance knows of none.
    pub unscaled: u8,
    pub _pad: [u8; 3],
}

wire!(Shift, size 20, {
    seq @ 0: u32, time @ 4: u32, scale @ 8: u8, told @ 9: u8, no_sack @ 10: u8, fresh @ 11: u8, floor @ 12: u32,
    unscaled @ 16: u8, _pad @ 17: [u8; 3],
});

/// The fields of one segment that may change. Host order.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fields {
    pub seq: u32,
    pub ack: u32,
    pub time_value: u32,
    pub time_echo: u32,
    pub sack: [u32; 8],
    pub window: u16,
    /// Blocks in `sack`.
    pub sack_blocks: u8,
    /// Not 0: ACK is set; without it the acknowledgement field means nothing.
    pub has_ack: u8,
    /// Not 0: there is a timestamp.
    pub has_time: u8,
    pub _pad: [u8; 3],
}

impl Shift {
    /// Client to instance.
    #[inline(always)]
    pub fn to_instance(&self, f: &mut Fields) {
        if f.has_ack != 0 {
            f.ack = f.ack.wrapping_add(self.seq);
            // An echo means something with ACK only (RFC 7323, 3.2).
            if self.fresh != 0 && before(f.time_echo, self.floor) {
                f.time_echo = self.floor;
            }
            f.time_echo = f.time_echo.wrapping_add(if f.has_time != 0 { self.time } else { 0 });
        }
        f.window = window(f.window, self.unscaled, 0);
        if self.no_sack != 0 {
            f.sack_blocks = 0;
        }
        let mut i = 0;
        while i < 8 {
            if let Some(s) = f.sack.get_mut(i) {
                *s = s.wrapping_add(self.seq);
            }
            i += 1;
        }
    }

    /// Instance to client.
    #[inline(always)]
    pub fn to_client(&self, f: &mut Fields) {
        f.seq = f.seq.wrapping_sub(self.seq);
        f.time_value = f.time_value.wrapping_sub(if f.has_time != 0 { self.time } else { 0 });
        f.window = window(f.window, self.scale, self.told);
    }
}

/// A window in another scale, rounded down; but never to 0, which would silence the sender: it may then send a few bytes
/// more than there is room for, which the receiver drops and gets again.
#[inline(always)]
pub fn window(w: u16, scale: u8, told: u8) -> u16 {
    let bytes = u32::from(w) << (scale & 15);
    let out = (bytes >> (told & 15)).min(0xffff) as u16;
    if out == 0 && w != 0 { 1 } else { out }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a1_windows_in_another_scale() {
        for (w, scale, told, want) in [
            (100, 7, 7, 100),
            (100, 10, 7, 800),
            (800, 7, 10, 100),
            (0xffff, 10, 7, 0xffff),
            (0, 10, 7, 0),
            (3, 0, 7, 1),
            (127, 0, 7, 1),
            (64_240, 0, 0, 64_240),
            (0xffff, 14, 0, 0xffff),
        ] {
            assert_eq!(window(w, scale, told), want, "{w} {scale} {told}");
        }
    }

    #[test]
    fn a1_no_sack_blocks_for_an_instance_that_takes_none() {
        let mut f = Fields { sack_blocks: 3, ..Fields::default() };
        Shift { no_sack: 1, ..Shift::default() }.to_instance(&mut f);
        assert_eq!(f.sack_blocks, 0);
    }

    #[test]
    fn a1_a_reset_without_ack_keeps_its_field() {
        let mut f = Fields { ack: 0, seq: 9, ..Fields::default() };
        Shift { seq: 77, ..Shift::default() }.to_instance(&mut f);
        assert_eq!((f.seq, f.ack), (9, 0));
    }

    proptest! {
        /// What the instance says, the client acknowledges in its own numbers, and the instance gets back what it said.
        #[test]
        fn a1_there_and_back_is_the_same(seq: u32, time: u32, said: u32, at: u32, client: u32) {
            let s = Shift { seq, time, scale: 7, told: 7, ..Shift::default() };
            let mut f = Fields { seq: said, ack: client, time_value: at, time_echo: client, has_ack: 1, has_time: 1, ..Fields::default() };
            s.to_client(&mut f);
            prop_assert_eq!((f.ack, f.time_echo), (client, client));
            let mut back = Fields {
                seq: f.ack, ack: f.seq, time_value: f.time_echo, time_echo: f.time_value,
                sack: [f.seq; 8], sack_blocks: 4, has_ack: 1, has_time: 1, ..Fields::default()
            };
            s.to_instance(&mut back);
            prop_assert_eq!((back.seq, back.ack, back.time_value, back.time_echo), (client, said, client, at));
            prop_assert_eq!(back.sack, [said; 8]);
        }
    }
}
