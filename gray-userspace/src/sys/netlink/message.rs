//! The framing of netlink messages and attributes (netlink(7)): bounded, and any bytes are safe to read.

use std::io;

use super::Link;

const HEADER: usize = 16;
const ERROR: u16 = 2;
const DONE: u16 = 3;
const NEW_LINK: u16 = 16;
const DEL_LINK: u16 = 17;
const GET_LINK: u16 = 18;
pub(in crate::sys) const F_REQUEST: u16 = 1;
pub(in crate::sys) const F_ACK: u16 = 4;
pub(in crate::sys) const F_DUMP: u16 = 0x300;
const F_DUMP_INTR: u16 = 0x10;

/// One message of a datagram.
#[derive(Clone, Copy, Debug)]
pub(in crate::sys) struct Message<'b> {
    kind: u16,
    flags: u16,
    pub seq: u32,
    body: &'b [u8],
}

/// `RTM_GETLINK` for all links.
pub(super) fn link_dump(seq: u32) -> Vec<u8> {
    frame(GET_LINK, F_REQUEST | F_DUMP, seq, &[0; super::link::INFO])
}

pub(in crate::sys) fn frame(kind: u16, flags: u16, seq: u32, body: &[u8]) -> Vec<u8> {
    let mut m = Vec::with_capacity(HEADER + body.len());
    m.extend(((HEADER + body.len()) as u32).to_ne_bytes());
    m.extend(kind.to_ne_bytes());
    m.extend(flags.to_ne_bytes());
    m.extend(seq.to_ne_bytes());
    m.extend(0u32.to_ne_bytes());
    m.extend(body);
    m
}

/// Until the end or the first header that does not fit.
pub(in crate::sys) fn messages(mut bytes: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let len = u32_at(bytes, 0)? as usize;
        let message = Message {
            kind: u16_at(bytes, 4)?,
            flags: u16_at(bytes, 6)?,
            seq: u32_at(bytes, 8)?,
            body: bytes.get(HEADER..len)?,
        };
        bytes = bytes.get(aligned(len)..).unwrap_or_default();
        Some(message)
    })
}

/// Type (without the nested and byte-order bits) and value of each attribute.
pub(in crate::sys) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let len = usize::from(u16_at(bytes, 0)?);
        let attribute = (u16_at(bytes, 2)? & 0x3fff, bytes.get(4..len)?);
        bytes = bytes.get(aligned(len)..).unwrap_or_default();
        Some(attribute)
    })
}

fn aligned(len: usize) -> usize {
    len.next_multiple_of(4)
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

impl Message<'_> {
    pub(in crate::sys) fn is_done(&self) -> bool {
        self.kind == DONE
    }

    /// The dump is not consistent: something changed while the kernel wrote it.
    pub(in crate::sys) fn interrupted(&self) -> bool {
        self.flags & F_DUMP_INTR != 0
    }

    pub(in crate::sys) fn error(&self) -> Option<io::Error> {
        if self.kind != ERROR {
            return None;
        }
        let code = u32_at(self.body, 0).map_or(0, |c| c as i32);
        // Zero is an acknowledgement, which nobody asked for.
        (code != 0).then(|| io::Error::from_raw_os_error(code.saturating_neg()))
    }

    /// The body of a message of this kind.
    pub(in crate::sys) fn body_of(&self, kind: u16) -> Option<&[u8]> {
        (self.kind == kind).then_some(self.body)
    }

    /// What was asked for is done.
    pub(in crate::sys) fn acknowledges(&self) -> bool {
        self.kind == ERROR && u32_at(self.body, 0) == Some(0)
    }

    pub(in crate::sys) fn new_link(&self) -> Option<Link> {
        (self.kind == NEW_LINK).then(|| Link::parse(self.body)).flatten()
    }

    pub(in crate::sys) fn del_link(&self) -> Option<Link> {
        (self.kind == DEL_LINK).then(|| Link::parse(self.body)).flatten()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn several_messages_and_a_cut_one() {
        let mut bytes = frame(DONE, 0, 7, &[1, 2, 3, 4, 5]);
        bytes.extend([0; 3]); // alignment
        bytes.extend(frame(ERROR, F_DUMP_INTR, 8, &(-1i32).to_ne_bytes()));
        let seen: Vec<_> = messages(&bytes).map(|m| (m.kind, m.seq, m.body.len())).collect();
        assert_eq!(seen, [(DONE, 7, 5), (ERROR, 8, 4)]);
        let error = messages(&bytes).nth(1).unwrap();
        assert_eq!(error.error().unwrap().kind(), io::ErrorKind::PermissionDenied);
        assert!(error.interrupted());
        assert_eq!(messages(&bytes[..bytes.len() - 1]).count(), 1);
    }

    #[test]
    fn lengths_that_would_loop_or_overflow_end_the_reading() {
        for len in [0u32, 1, 15, u32::MAX] {
            let mut bytes = frame(DONE, 0, 1, &[0; 8]);
            bytes[..4].copy_from_slice(&len.to_ne_bytes());
            assert_eq!(messages(&bytes).count(), 0, "{len}");
        }
        for len in [0u16, 3, 9, u16::MAX] {
            assert_eq!(attributes(&[&len.to_ne_bytes()[..], &[0; 6]].concat()).count(), 0, "{len}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes: Vec<u8>) {
            for m in messages(&bytes) {
                let _ = (m.new_link(), m.del_link(), m.error());
            }
            let _ = attributes(&bytes).count();
        }

        #[test]
        fn any_attributes_of_a_link_are_read_without_panic(index: u32, attrs: Vec<(u8, Vec<u8>)>, cut: usize) {
            let mut body = vec![0; super::super::link::INFO];
            body[4..8].copy_from_slice(&index.to_ne_bytes());
            for (kind, value) in attrs {
                body.extend((value.len() as u16 + 4).to_ne_bytes());
                body.extend(u16::from(kind % 48).to_ne_bytes());
                body.extend(&value);
                body.resize(aligned(body.len()), 0);
            }
            body.truncate(cut % (body.len() + 1));
            for m in messages(&frame(NEW_LINK, 0, 1, &body)) {
                let _ = m.new_link();
            }
        }
    }
}
