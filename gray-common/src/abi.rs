//! The number of the contract and its text. Two programs that share pinned maps must agree on both.

use std::fmt::Write as _;

use crate::{filter::Filter, names, wire::*};

/// Raised with every change of a wire type, a map or a reason code that already shipped.
pub const ABI: u32 = if cfg!(feature = "abi-test") { 2 } else { 1 };

/// The recorded layout of a wire type.
pub trait Layout {
    const NAME: &'static str;
    const SIZE: usize;
    /// Name, offset in bytes, type.
    const FIELDS: &'static [(&'static str, usize, &'static str)];
}

fn one<T: Layout>(out: &mut String) {
    let _ = writeln!(out, "struct {} size {}", T::NAME, T::SIZE);
    for (name, offset, ty) in T::FIELDS {
        let _ = writeln!(out, "  {offset:>5} {name}: {ty}");
    }
}

/// The whole contract as text: what `gray-common/abi.txt` blesses.
pub fn text() -> String {
    let mut out = format!("abi {ABI}\n");
    for m in names::MAPS {
        let _ = writeln!(
            out,
            "map {} {:?} key {} value {} entries {}",
            m.name, m.kind, m.key, m.value, m.entries
        );
    }
    for r in crate::Reason::ALL {
        let _ = writeln!(out, "reason {} {}", *r as u8, r.label());
    }
    one::<crate::hash::HashKey>(&mut out);
    one::<Trusted>(&mut out);
    one::<Control>(&mut out);
    one::<Filter>(&mut out);
    one::<Versioned>(&mut out);
    one::<ListenerKey>(&mut out);
    one::<PrefixKey>(&mut out);
    one::<Class>(&mut out);
    one::<Breaker>(&mut out);
    one::<Service>(&mut out);
    one::<Trip>(&mut out);
    one::<Fact>(&mut out);
    one::<Rule>(&mut out);
    one::<Weighted>(&mut out);
    one::<Table>(&mut out);
    one::<Subset>(&mut out);
    one::<Instance>(&mut out);
    one::<Workload>(&mut out);
    one::<FlowKey4>(&mut out);
    one::<FlowKey6>(&mut out);
    one::<FlowState>(&mut out);
    one::<Flow4>(&mut out);
    one::<Flow6>(&mut out);
    one::<Peer>(&mut out);
    one::<Call>(&mut out);
    one::<UdpPeers>(&mut out);
    one::<Saying>(&mut out);
    one::<SynKey>(&mut out);
    one::<Linked>(&mut out);
    one::<Thread>(&mut out);
    one::<LinkCount>(&mut out);
    one::<Event>(&mut out);
    one::<Missing>(&mut out);
    one::<RequestCount>(&mut out);
    one::<ArmCount>(&mut out);
    one::<Times>(&mut out);
    one::<EventBudget>(&mut out);
    one::<Clock>(&mut out);
    one::<crate::request::cookie::Tuple>(&mut out);
    one::<Reading>(&mut out);
    one::<Further>(&mut out);
    one::<Metadata>(&mut out);
    one::<Tagged>(&mut out);
    one::<crate::decide::Decision>(&mut out);
    one::<crate::request::translate::Shift>(&mut out);
    one::<crate::request::machine::Splice>(&mut out);
    one::<Bound>(&mut out);
    one::<Held>(&mut out);
    one::<crate::request::frame::Frames>(&mut out);
    out
}
