//! The mount table of this process, parsed. Mounts nothing.

use std::{
    ffi::OsString,
    io,
    os::unix::ffi::OsStringExt,
    path::{Path, PathBuf},
};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Which part of the file system is seen here; `/` for all of it.
    pub root: PathBuf,
    pub point: PathBuf,
    pub fstype: String,
    pub read_only: bool,
}

/// Of this process, in mount order.
pub fn all() -> io::Result<Vec<Mount>> {
    Ok(parse(&std::fs::read("/proc/self/mountinfo")?))
}

/// Reads the form of `/proc/PID/mountinfo` (proc(5)); lines of another form are left out.
pub fn parse(mountinfo: &[u8]) -> Vec<Mount> {
    mountinfo.split(|b| *b == b'\n').filter_map(line).collect()
}

fn line(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|b| *b == b' ');
    let (root, point) = (fields.nth(3)?, fields.next()?);
    let options = fields.next()?;
    // Optional fields of any number end with a dash.
    let _ = fields.find(|f| *f == b"-")?;
    let fstype = String::from_utf8(fields.next()?.to_vec()).ok()?;
    let read_only = options.split(|b| *b == b',').any(|o| o == b"ro");
    Some(Mount { root: unescape(root), point: unescape(point), fstype, read_only })
}

/// The kernel writes blanks and backslashes as `\ooo`.
fn unescape(field: &[u8]) -> PathBuf {
    let (mut out, mut rest) = (Vec::with_capacity(field.len()), field);
    while let Some((first, tail)) = rest.split_first() {
        let octal = tail.get(..3).filter(|d| *first == b'\\' && d.iter().all(|c| (b'0'..=b'7').contains(c)));
        if let Some(d) = octal {
            // Three octal digits may exceed a byte only in a text the kernel never writes.
            out.push(d.iter().fold(0u8, |n, c| n.wrapping_mul(8).wrapping_add(c - b'0')));
            rest = &tail[3..];
        } else {
            out.push(*first);
            rest = tail;
        }
    }
    PathBuf::from(OsString::from_vec(out))
}

/// The mount that `path` lies on: the deepest one, of those the latest.
pub fn holding<'m>(mounts: &'m [Mount], path: &Path) -> Option<&'m Mount> {
    mounts.iter().filter(|m| path.starts_with(&m.point)).max_by_key(|m| m.point.components().count())
}

/// The cgroup2 mount: one that shows the whole hierarchy if there is one. Hybrid hosts have it at
/// `/sys/fs/cgroup/unified`.
pub fn cgroup2(mounts: &[Mount]) -> Option<&Mount> {
    let mut of = mounts.iter().filter(|m| m.fstype == "cgroup2");
    let first = of.clone().next();
    of.find(|m| m.root == Path::new("/")).or(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: &[u8] = b"\
22 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n\
25 22 0:21 / /sys rw,nosuid shared:7 master:2 - sysfs sysfs rw\n\
30 25 0:26 /child /mnt/part rw - cgroup2 cgroup rw\n\
31 25 0:26 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n\
32 22 0:27 / /srv/a\\040b\\134c ro,noexec - tmpfs tmpfs rw\n\
garbage\n\n1 2 3\n";

    #[test]
    fn parses_escapes_optional_fields_and_garbage() {
        let m = parse(SAMPLE);
        assert_eq!(m.len(), 5);
        assert_eq!(m[4].point, Path::new("/srv/a b\\c"));
        assert!(m[4].read_only && !m[0].read_only);
        assert_eq!((&*m[1].fstype, &m[1].point), ("sysfs", &PathBuf::from("/sys")));
    }

    #[test]
    fn finds_the_whole_cgroup2_and_the_deepest_mount() {
        let m = parse(SAMPLE);
        assert_eq!(cgroup2(&m).unwrap().point, Path::new("/sys/fs/cgroup/unified"));
        assert_eq!(cgroup2(&m[..3]).unwrap().point, Path::new("/mnt/part"));
        assert_eq!(cgroup2(&m[..2]), None);
        assert_eq!(holding(&m, Path::new("/sys/fs/cgroup/unified/a")).unwrap().fstype, "cgroup2");
        assert_eq!(holding(&m, Path::new("/sysx")).unwrap().point, Path::new("/"));
    }

    #[test]
    fn reads_this_machine() {
        assert!(all().unwrap().iter().any(|m| m.fstype == "proc"));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes: Vec<u8>) {
            let _ = parse(&bytes);
            let mut line = b"1 2 3 /".to_vec();
            line.extend(bytes);
            let _ = parse(&line);
        }
    }
}
