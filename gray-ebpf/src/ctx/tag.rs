//! VLAN tags that travel beside the frame.

use aya_ebpf::helpers::generated::{bpf_skb_vlan_pop, bpf_skb_vlan_push};

use super::skb::Skb;

impl Skb {
    /// Whether a VLAN tag was taken out of the frame and travels beside it.
    #[inline(always)]
    pub fn is_tagged(&self) -> bool {
        // SAFETY: a field of the context.
        unsafe { (*self.raw()).vlan_present != 0 }
    }

    /// That tag: ethertype as it stands in memory, and the host-order control information.
    #[inline(always)]
    pub fn vlan_tag(&self) -> Option<u32> {
        if !self.is_tagged() {
            return None;
        }
        // SAFETY: fields of the context.
        Some(unsafe { (*self.raw()).vlan_proto << 16 | (*self.raw()).vlan_tci & 0xffff })
    }

    /// Removes the outermost tag; one behind it in the frame moves beside the frame.
    #[inline(always)]
    pub fn vlan_pop(&mut self) -> bool {
        // SAFETY: a helper on the run's own context.
        unsafe { bpf_skb_vlan_pop(self.raw()) == 0 }
    }

    /// Puts a tag beside the frame; the one that was there moves into it.
    #[inline(always)]
    pub fn vlan_push(&mut self, proto: u16, tci: u16) -> bool {
        // SAFETY: a helper on the run's own context.
        unsafe { bpf_skb_vlan_push(self.raw(), proto, tci) == 0 }
    }
}
