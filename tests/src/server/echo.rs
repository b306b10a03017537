//! The TCP line echo and the UDP echo. Formats are those of `client::exchange`.
//!
//! TCP: on connect `name version peer-ip peer-port`; each line comes back; `bye NONCE` comes back and the
//! server closes first. UDP: `NONCE` is answered by `name version NONCE peer-ip peer-port`.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpStream, UdpSocket};

use super::process::Identity;

pub(super) async fn lines(mut stream: TcpStream, peer: SocketAddr, who: &Identity) -> io::Result<()> {
    let (read, mut write) = stream.split();
    let banner = format!("{} {} {} {}\n", who.name, who.version, peer.ip(), peer.port());
    write.write_all(banner.as_bytes()).await?;
    let mut read = BufReader::new(read);
    let mut line = String::new();
    while read.read_line(&mut line).await? > 0 {
        let text = line.trim_end();
        let (last, nonce) = text.strip_prefix("bye ").map_or((false, text), |nonce| (true, nonce));
        let prefix = if last { "bye " } else { "" };
        // Counted before it is sent: a client that has the answer must find it counted.
        let _ = who.lines.fetch_add(1, Ordering::Relaxed);
        write.write_all(format!("{prefix}{}\n", who.nonce(nonce)).as_bytes()).await?;
        if last {
            break;
        }
        line.clear();
    }
    write.shutdown().await
}

pub(super) async fn datagrams(socket: UdpSocket, who: Arc<Identity>) {
    let mut buffer = vec![0; 65_536];
    loop {
        // An error here is an ICMP answer to an earlier datagram of ours.
        let Ok((n, peer)) = socket.recv_from(&mut buffer).await else { continue };
        let nonce = who.nonce(String::from_utf8_lossy(&buffer[..n]).trim_end());
        let answer = format!("{} {} {nonce} {} {}", who.name, who.version, peer.ip(), peer.port());
        let _ = who.datagrams.fetch_add(1, Ordering::Relaxed);
        let _ = socket.send_to(answer.as_bytes(), peer).await;
    }
}
