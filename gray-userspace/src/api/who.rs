//! Who calls, and what they may: peer credentials to a role. Decides no single request; `routes` has the role of each.

use std::{fmt, fs};

use axum::{extract::connect_info::Connected, serve::IncomingStream};
use serde::{Deserialize, Serialize};
use tokio::net::{UnixListener, unix::UCred};

/// Ordered: each may do all that the ones before it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Reads.
    Viewer,
    /// Changes policy, cohorts, workloads, instances.
    Operator,
    /// Also handles the fleet's key.
    Admin,
}

impl Role {
    pub fn name(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }

    /// The role of a peer on the unix socket. The file's mode (0660) has already kept out everybody but its owner and group.
    pub fn of_peer(peer_uid: u32, own_uid: u32) -> Self {
        if peer_uid == 0 || peer_uid == own_uid { Self::Admin } else { Self::Operator }
    }
}

/// The caller of one request. `Display` is what history shows: `uid:NAME`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Who {
    pub uid: u32,
    /// From /etc/passwd; the number when it is not there.
    pub name: String,
    pub pid: Option<i32>,
    pub role: Role,
}

impl Who {
    /// The agent itself, for what it does unasked.
    pub fn agent() -> Self {
        let uid = own_uid();
        Self { uid, name: user_name(uid), pid: i32::try_from(std::process::id()).ok(), role: Role::Admin }
    }

    fn from_peer(cred: UCred) -> Self {
        let uid = cred.uid();
        Self { uid, name: user_name(uid), pid: cred.pid(), role: Role::of_peer(uid, own_uid()) }
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "uid:{}", self.name)
    }
}

/// What axum attaches to each request of a connection. None: the kernel would not say who it is.
#[derive(Clone, Debug)]
pub(super) struct Peer(pub Option<Who>);

impl Connected<IncomingStream<'_, UnixListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, UnixListener>) -> Self {
        Self(stream.io().peer_cred().ok().map(Who::from_peer))
    }
}

/// Effective uid of this process; root when /proc does not tell, so that nobody else becomes admin.
fn own_uid() -> u32 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    effective_uid(&status).unwrap_or(0)
}

pub(super) fn effective_uid(status: &str) -> Option<u32> {
    status.lines().find_map(|l| l.strip_prefix("Uid:"))?.split_whitespace().nth(1)?.parse().ok()
}

/// Local accounts only: the name service could block.
fn user_name(uid: u32) -> String {
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    name_in(&passwd, uid).unwrap_or_else(|| uid.to_string())
}

pub(super) fn name_in(passwd: &str, uid: u32) -> Option<String> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_string())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_and_the_agents_own_user_are_admin_others_operator() {
        for (peer, own, role) in [
            (0, 0, Role::Admin),
            (0, 990, Role::Admin),
            (990, 990, Role::Admin),
            (1000, 990, Role::Operator),
            (1000, 0, Role::Operator),
        ] {
            assert_eq!(Role::of_peer(peer, own), role, "peer {peer}, agent {own}");
        }
    }

    #[test]
    fn roles_are_ordered_by_what_they_may() {
        assert!(Role::Viewer < Role::Operator && Role::Operator < Role::Admin);
    }

    #[test]
    fn names_come_from_passwd() {
        let passwd = "root:x:0:0:root:/root:/bin/bash\nbroken\nann:x:1000:1000::/home/ann:/bin/sh\n";
        assert_eq!(name_in(passwd, 1000).as_deref(), Some("ann"));
        assert_eq!(name_in(passwd, 0).as_deref(), Some("root"));
        assert_eq!(name_in(passwd, 7), None);
    }

    #[test]
    fn the_effective_uid_counts() {
        assert_eq!(effective_uid("Name:\tgray\nUid:\t1\t2\t3\t4\n"), Some(2));
        assert_eq!(effective_uid("Uid:\n"), None);
    }
}
