//! Fuzz targets of what the kernel says: netlink datagrams, and files of /proc.

use std::path::Path;

use super::{kernel::KernelVersion, mounts, netlink, watch, workload};
use crate::fuzz::{choice, text};

pub fn netlink(data: &[u8]) {
    let mut messages = 0;
    for m in netlink::messages(data) {
        messages += 1;
        let (new, del) = (m.new_link(), m.del_link());
        assert!(new.is_none() || del.is_none(), "both a new link and none");
        for link in new.iter().chain(&del) {
            assert!(link.ifindex != 0 && !link.name.is_empty(), "{link:?}");
        }
        let _ = (m.error(), m.is_done(), m.interrupted());
    }
    // Each message takes its header at least: no length makes the reading go on for ever.
    assert!(messages <= data.len() / 16);
    assert!(watch::events(data).count() <= messages);
}

/// mountinfo, a process's cgroup, the kernel's release.
pub fn host(data: &[u8]) {
    let Some((which, data)) = choice(data, 3) else { return };
    match which {
        0 => {
            let all = mounts::parse(data);
            assert!(all.len() <= data.split(|b| *b == b'\n').count());
            let _ = (mounts::cgroup2(&all), mounts::holding(&all, Path::new("/sys/fs/cgroup/a/b")));
        }
        1 => assert!(workload::v2_line(&text(data)).is_none_or(|path| !path.contains('\n'))),
        _ => {
            if let Some(v) = KernelVersion::parse(&text(data)) {
                assert_eq!(KernelVersion::parse(&v.to_string()), Some(v));
            }
        }
    }
}
