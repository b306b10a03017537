//! The kernel's version and what needs which one. Features that backports bring are probed elsewhere.

use std::{fmt, fs, io};

/// Orders as versions do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KernelVersion {
    pub major: u16,
    pub minor: u16,
    pub patch: u16,
}

/// The oldest kernel that gray supports.
pub const OLDEST: KernelVersion = KernelVersion::new(6, 1, 0);
/// Tracepoints tell of messages that sockets take and give since 6.3 (6e6eda44b939).
pub const MESSAGES: KernelVersion = KernelVersion::new(6, 3, 0);
/// tcx links came with 6.6 (e420bed02507); below it gray attaches by clsact.
pub const TCX: KernelVersion = KernelVersion::new(6, 6, 0);
/// A frame that came in with two VLAN tags can be opened and closed again (938863727076): before, `bpf_skb_vlan_push` left
/// it four bytes ahead of itself, and the next to read it saw rubbish.
pub const SECOND_TAG: KernelVersion = KernelVersion::new(6, 12, 0);
/// Local callers are handed over to a splice listener: older verifiers count frames of functions in steps of 32 bytes, which are too many.
pub const HANDS: KernelVersion = KernelVersion::new(6, 12, 0);

impl KernelVersion {
    pub const fn new(major: u16, minor: u16, patch: u16) -> Self {
        Self { major, minor, patch }
    }

    /// Of this machine.
    pub fn running() -> io::Result<Self> {
        let text = fs::read_to_string("/proc/sys/kernel/osrelease")?;
        Self::parse(&text).ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                format!("kernel release `{}` has no version", text.trim()),
            )
        })
    }

    /// Reads a release as `uname -r` prints it: `6.18.44-fc-v445`, `6.1.0-18-amd64`, `6.6-rc3`.
    pub fn parse(release: &str) -> Option<Self> {
        let release = release.trim();
        let end = release.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(release.len());
        let mut numbers = release[..end].split('.').take(3);
        let mut next = || numbers.next().filter(|n| !n.is_empty()).map(|n| n.parse().ok());
        let (major, minor) = (next()??, next()??);
        let patch = next().unwrap_or(Some(0))?;
        Some(Self { major, minor, patch })
    }

    /// `None` when this kernel is new enough, else a sentence that says what `what` needs.
    pub fn needs(self, oldest: Self, what: &str) -> Option<String> {
        (self < oldest).then(|| format!("{what} needs Linux {oldest} or newer, this is {self}"))
    }
}

/// `6.18.44`; a zero patch level is left out.
impl fmt::Display for KernelVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)?;
        if self.patch > 0 { write!(f, ".{}", self.patch) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_what_distributions_print() {
        let v = KernelVersion::new;
        for (text, want) in [
            ("6.18.44-fc-v445\n", Some(v(6, 18, 44))),
            ("6.1.0-18-amd64", Some(v(6, 1, 0))),
            ("5.15.167.4-microsoft-standard-WSL2", Some(v(5, 15, 167))),
            ("6.6-rc3", Some(v(6, 6, 0))),
            ("6.6", Some(v(6, 6, 0))),
            ("6.6.", Some(v(6, 6, 0))),
            ("6.12.0+", Some(v(6, 12, 0))),
            ("6", None),
            ("", None),
            ("v6.1", None),
            ("6..1", None),
            ("99999.1", None),
            ("6.99999", None),
            ("6.1.99999", None),
        ] {
            assert_eq!(KernelVersion::parse(text), want, "{text:?}");
        }
    }

    #[test]
    fn orders_and_explains() {
        let v = KernelVersion::new;
        assert!(v(6, 10, 0) > v(6, 9, 99) && v(7, 0, 0) > TCX && OLDEST < TCX);
        assert_eq!(v(6, 6, 0).needs(TCX, "tcx"), None);
        assert_eq!(v(6, 5, 13).needs(TCX, "tcx").unwrap(), "tcx needs Linux 6.6 or newer, this is 6.5.13");
        assert!(KernelVersion::running().unwrap() > v(2, 6, 0));
    }
}
