//! XDP in front of tc: which interfaces get it, and why others do not.

use std::io;

use gray_common::limits::XDP_OUT_SLOTS;

use super::{attach::Seen, core::Inner};
use crate::{
    cli::XdpWish,
    kernel::KernelError,
    sys::netlink::{Link, Xdp, XdpFeatures, xdp_features},
};

/// What stands in front of tc on an interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Front {
    /// XDP, in the driver.
    pub on: bool,
    /// Why not, or what is less than whole; empty: nothing to say.
    pub why: String,
    /// Where frames may be redirected to: its number.
    takes: Option<u32>,
    /// What an attempt met that the driver refused: as long as it is the same, there is no other.
    met: Option<Seen>,
}

impl Front {
    fn tc(why: String) -> Self {
        Self { why, ..Self::default() }
    }

    /// `place`: whether it is free.
    fn xdp(link: &Link, takes: bool, place: bool) -> Self {
        let why = match (takes, place, link.kind.as_deref()) {
            (true, true, _) => "",
            (true, false, _) => "what leaves by it is tc's: another interface has its place",
            (false, _, Some("veth")) => "what leaves by it is tc's: its peer has neither XDP nor GRO",
            (false, ..) => "what leaves by it is tc's: its driver takes no frames",
        };
        Self { on: true, why: why.into(), takes: (takes && place).then_some(link.ifindex), met: None }
    }
}

/// Whether XDP shall be in front; `Err`: why not. `ours`: what is on the interface is gray's.
fn pick(
    wish: XdpWish,
    link: &Link,
    ours: bool,
    features: impl FnOnce(u32) -> io::Result<XdpFeatures>,
) -> Result<XdpFeatures, String> {
    match (wish, link.kind.as_deref()) {
        (XdpWish::Off, _) => return Err("as asked".into()),
        (XdpWish::Unsaid | XdpWish::Auto, Some("veth")) => {
            return Err("veth: native XDP would cost TCP 3 to 5 times; `:xdp` forces it".into());
        }
        (XdpWish::Unsaid | XdpWish::Auto, Some(kind)) => {
            return Err(format!("{kind}: no hardware; `:xdp` forces XDP"));
        }
        _ => {}
    }
    if link.xdp != Xdp::None && !ours {
        return Err("an XDP program that is not gray's is there and stays".into());
    }
    match features(link.ifindex) {
        Ok(f) if f.runs() && wish == XdpWish::Unsaid => {
            Err("its driver has native XDP; `:auto` puts it in front and may reset the link".into())
        }
        Ok(f) if f.runs() => Ok(f),
        Ok(_) => Err("its driver has no native XDP".into()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Err("XDP needs Linux 6.3".into()),
        Err(e) => Err(format!("cannot ask what its driver has: {e}")),
    }
}

/// What the kernel's refusal means.
fn refusal(e: &KernelError) -> String {
    match e {
        KernelError::Attach { source, .. } => match source.raw_os_error() {
            Some(libc::EBUSY | libc::EEXIST) => "an XDP program that is not gray's is there and stays".into(),
            Some(libc::EOPNOTSUPP) => "its driver has no native XDP".into(),
            _ => format!("its driver refuses XDP ({source}); MTU, queues or offloads may be why"),
        },
        e => e.to_string(),
    }
}

impl Inner {
    /// Brings the front of an interface that tc is attached to up to date.
    pub(super) fn follow_front(&mut self, i: usize, link: &Link) {
        let a = &self.attachments[i];
        let (iface, wish, before) = (a.iface.clone(), a.xdp, a.front.clone());
        let ours = self.live.is_xdp_attached(&iface, link.ifindex);
        let place = self
            .attachments
            .iter()
            .filter_map(|a| a.front.takes)
            .all(|n| n == link.ifindex || n % XDP_OUT_SLOTS != link.ifindex % XDP_OUT_SLOTS);
        let front = match pick(wish, link, ours, xdp_features) {
            Err(why) => {
                if self.live.xdp_pinned().contains(&iface) {
                    self.take_off(i, &iface);
                }
                Front::tc(why)
            }
            Ok(f) if ours && before.on => Front::xdp(link, f.takes_frames(), place),
            Ok(_) if before.met == Some(Seen::of(link)) => return,
            Ok(_) => match self.live.attach_xdp(&iface, link.ifindex) {
                Ok(_) => {
                    // Some drivers, and veth, take frames only now.
                    let takes = xdp_features(link.ifindex).is_ok_and(XdpFeatures::takes_frames);
                    Front::xdp(link, takes, place)
                }
                Err(e) => Front { met: Some(Seen::of(link)), ..Front::tc(refusal(&e)) },
            },
        };
        self.set_front(i, front);
    }

    /// Nothing is in front of an interface that is gone.
    pub(super) fn forget_front(&mut self, i: usize) {
        self.set_front(i, Front::default());
    }

    /// Takes XDP off the interfaces that no option names any more.
    pub(super) fn retire_fronts(&mut self) -> Result<(), KernelError> {
        let named = |iface: &String| self.attachments.iter().any(|a| a.iface == *iface);
        let gone: Vec<_> = self.live.xdp_pinned().into_iter().filter(|n| !named(n)).collect();
        if gone.is_empty() {
            return Ok(());
        }
        self.live.set_xdp_out(&[])?;
        for iface in gone {
            self.live.detach_xdp(&iface)?;
            tracing::info!(link = format!("xdp-{iface}"), "detached: no longer wanted");
        }
        Ok(())
    }

    fn take_off(&mut self, i: usize, iface: &str) {
        self.attachments[i].front = Front::default();
        self.open_ways();
        if let Err(e) = self.live.detach_xdp(iface) {
            tracing::error!(iface, error = %e, "cannot take XDP off");
        }
    }

    fn set_front(&mut self, i: usize, front: Front) {
        let a = &mut self.attachments[i];
        if a.front != front {
            tracing::info!(iface = a.iface, xdp = front.on, why = front.why, "in front of tc");
            a.front = front;
        }
        self.open_ways();
    }

    /// XDP sends to the interfaces that take its frames, and to no other: what does not take them loses them.
    fn open_ways(&mut self) {
        let takes: Vec<u32> = self.attachments.iter().filter_map(|a| a.front.takes).collect();
        if let Err(e) = self.live.set_xdp_out(&takes) {
            tracing::error!(error = %e, "cannot say where XDP may send to");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(kind: Option<&str>, xdp: Xdp) -> Link {
        Link {
            ifindex: 7,
            name: "x".into(),
            up: true,
            carrier: true,
            mtu: 1500,
            kind: kind.map(str::to_owned),
            mac: Some([2; 6]),
            xdp,
        }
    }

    fn all(_: u32) -> io::Result<XdpFeatures> {
        Ok(XdpFeatures::of(7))
    }

    fn why(wish: XdpWish, link: &Link, ours: bool) -> String {
        pick(wish, link, ours, all).err().unwrap_or_default()
    }

    #[test]
    fn hardware_gets_it_and_what_is_none_does_not() {
        use XdpWish::{Auto, Force, Off, Unsaid};
        let nic = link(None, Xdp::None);
        assert_eq!(why(Auto, &nic, false), "");
        for ours in [false, true] {
            assert!(
                why(Unsaid, &nic, ours).contains("`:auto` puts it in front"),
                "a link is not reset unasked"
            );
        }
        assert_eq!(why(Off, &nic, false), "as asked");
        let veth = link(Some("veth"), Xdp::None);
        assert!(why(Auto, &veth, false).contains("cost TCP 3 to 5 times"));
        assert_eq!(why(Force, &veth, false), "");
        assert!(why(Auto, &link(Some("bridge"), Xdp::None), false).starts_with("bridge: no hardware"));
    }

    #[test]
    fn what_is_not_grays_stays() {
        for mode in [Xdp::Native, Xdp::Generic, Xdp::Offloaded, Xdp::Several] {
            let nic = link(None, mode);
            for wish in [XdpWish::Auto, XdpWish::Force] {
                assert!(why(wish, &nic, false).contains("not gray's"), "{mode:?}");
            }
            assert_eq!(why(XdpWish::Auto, &nic, true), "");
        }
    }

    #[test]
    fn a_driver_without_it_and_a_kernel_that_does_not_tell() {
        let nic = link(None, Xdp::None);
        let ask =
            |answer: io::Result<XdpFeatures>| pick(XdpWish::Force, &nic, false, |_| answer).unwrap_err();
        assert_eq!(ask(Ok(XdpFeatures::default())), "its driver has no native XDP");
        assert_eq!(ask(Err(io::Error::from_raw_os_error(libc::ENOENT))), "XDP needs Linux 6.3");
        assert!(ask(Err(io::Error::from_raw_os_error(libc::EPERM))).starts_with("cannot ask"));
    }
}
