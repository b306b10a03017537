//! How many files this process may have open.

use rustix::process::{Resource, getrlimit, setrlimit};

/// As many as the hard limit allows; `None`: any number. Services are started with a soft limit of 1024, for programs that use select(2).
pub fn raise() -> Option<u64> {
    let mut limit = getrlimit(Resource::Nofile);
    let before = limit.current;
    limit.current = limit.maximum;
    if setrlimit(Resource::Nofile, limit).is_ok() { limit.maximum } else { before }
}
