//! Sockets bound to a source before they connect. No protocol.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

use crate::client::LoadSpec;
use crate::pace;
use crate::sys::set_int_option;

/// `linux/in.h`; the port is chosen at connect, so that one source can have many connections to many targets.
const IP_BIND_ADDRESS_NO_PORT: i32 = 24;

pub(super) fn tcp(spec: &LoadSpec, source: Option<IpAddr>) -> io::Result<TcpStream> {
    let target = dialled(spec);
    let socket = Socket::new(Domain::for_address(target), Type::STREAM, Some(Protocol::TCP))?;
    bind(&socket, spec, source)?;
    let patience = patience(spec);
    if spec.mark != 0 {
        set_int_option(socket.as_fd(), libc::SOL_SOCKET, libc::SO_MARK, spec.mark as i32)?;
    }
    if let Some(other) = spec.refused_by {
        // In one piece: a connect that was waited for must be called once more to be over.
        match socket.connect(&other.into()) {
            Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => {}
            Err(e) => return Err(e),
            Ok(()) => return Err(io::Error::other(format!("{other} does not refuse"))),
        }
    }
    socket.connect_timeout(&target.into(), patience)?;
    socket.set_tcp_nodelay(true)?;
    socket.set_read_timeout(Some(patience))?;
    socket.set_write_timeout(Some(patience))?;
    Ok(socket.into())
}

pub(super) fn udp(spec: &LoadSpec, source: Option<IpAddr>, connected: bool) -> io::Result<UdpSocket> {
    let target = dialled(spec);
    let socket = Socket::new(Domain::for_address(target), Type::DGRAM, Some(Protocol::UDP))?;
    match source {
        Some(source) => socket.bind(&SocketAddr::new(mapped(spec, source), 0).into())?,
        // An unconnected socket has no port before it sends; bind it, so that it has one to compare.
        None if !connected => {
            let any: IpAddr =
                if target.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
            socket.bind(&SocketAddr::new(any, 0).into())?;
        }
        None => {}
    }
    if connected {
        socket.connect(&target.into())?;
    }
    socket.set_read_timeout(Some(patience(spec)))?;
    Ok(socket.into())
}

fn patience(spec: &LoadSpec) -> Duration {
    pace::patience(Duration::from_millis(spec.timeout_ms))
}

/// The address as the socket call gets it.
pub(super) fn dialled(spec: &LoadSpec) -> SocketAddr {
    SocketAddr::new(mapped(spec, spec.target.ip()), spec.target.port())
}

fn mapped(spec: &LoadSpec, ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(v4) if spec.v4_mapped => v4.to_ipv6_mapped().into(),
        other => other,
    }
}

fn bind(socket: &Socket, spec: &LoadSpec, source: Option<IpAddr>) -> io::Result<()> {
    let Some(source) = source else { return Ok(()) };
    set_int_option(socket.as_fd(), libc::SOL_IP, IP_BIND_ADDRESS_NO_PORT, 1)?;
    socket.bind(&SocketAddr::new(mapped(spec, source), 0).into())
}
