//! Tells the service manager how it goes (sd_notify(3)), where there is one that wants to know.

use std::{
    env, io,
    os::{
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr, UnixDatagram},
    },
};

/// `READY=1`, or `WATCHDOG=1`. Nobody to tell is no fault.
pub fn say(what: &str) {
    if let Some(at) = env::var_os("NOTIFY_SOCKET")
        && let Err(error) = send(&at.to_string_lossy(), what)
    {
        tracing::debug!(%error, "the service manager was not told: {what}");
    }
}

/// A path, or behind `@` an abstract name.
fn send(at: &str, what: &str) -> io::Result<()> {
    let to = match at.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(at)?,
    };
    let socket = UnixDatagram::unbound()?;
    // A manager that does not read must not stop the agent.
    socket.set_nonblocking(true)?;
    socket.send_to_addr(what.as_bytes(), &to).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h2_a_manager_hears_it_by_a_path_and_by_a_name() {
        let tmp = tempfile::tempdir().unwrap();
        let path = tmp.path().join("notify").display().to_string();
        let name = format!("gray-notify-{}", std::process::id());
        let at = SocketAddr::from_abstract_name(&name).unwrap();
        for (socket, to) in [
            (UnixDatagram::bind(&path).unwrap(), path.clone()),
            (UnixDatagram::bind_addr(&at).unwrap(), format!("@{name}")),
        ] {
            send(&to, "READY=1").unwrap();
            let mut said = [0; 32];
            let n = socket.recv(&mut said).unwrap();
            assert_eq!(&said[..n], b"READY=1");
        }
        assert!(send(&path[1..], "READY=1").is_err());
    }
}
