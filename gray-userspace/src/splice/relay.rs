//! Two connections as one: what one end says the other one hears, its end too. Reads nothing.

use std::{io, time::Duration};

use rustix::net::sockopt;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
};

use super::{
    counters::{Counter, Counters},
    http2::Acknowledged,
};

/// Bytes of each direction that are held at once.
const BUFFER: usize = 16_384;
/// An end that is gone without a word is found after some minutes: the first question, and those that follow.
const IDLE: Duration = Duration::from_secs(120);
const AGAIN: Duration = Duration::from_secs(20);

/// A socket of either side.
pub fn prepare(s: &TcpStream) -> io::Result<()> {
    s.set_nodelay(true)?;
    sockopt::set_socket_keepalive(s, true)?;
    sockopt::set_tcp_keepidle(s, IDLE)?;
    sockopt::set_tcp_keepintvl(s, AGAIN)?;
    Ok(())
}

/// Has it end with a reset when it is dropped: an answer that broke off must not look whole.
pub fn reset(s: &TcpStream) {
    // What is gone already needs none.
    let _ = s.set_zero_linger();
}

/// Why a direction ended early.
enum Broken {
    Reading(io::Error),
    Writing(io::Error),
}

/// Copies both ways until both ends have said everything. An instance that takes no more may still have answered: it is heard to its
/// end.
///
/// # Errors
/// That of the end which broke it.
pub async fn relay(
    client: &mut TcpStream,
    instance: &mut TcpStream,
    acked: Option<Acknowledged>,
    counters: &Counters,
) -> io::Result<()> {
    let ((from_client, to_client), (from_instance, to_instance)) = (client.split(), instance.split());
    let up = async {
        match copy(from_client, to_instance, acked, &counters.from_clients).await {
            Err(Broken::Writing(_)) => Ok(()),
            said => said,
        }
    };
    let down = copy(from_instance, to_client, None, &counters.to_clients);
    match tokio::try_join!(up, down) {
        Ok(((), ())) => Ok(()),
        Err(Broken::Reading(e) | Broken::Writing(e)) => Err(e),
    }
}

/// One direction, without the acknowledgement that is ours.
async fn copy(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    mut acked: Option<Acknowledged>,
    counter: &Counter,
) -> Result<(), Broken> {
    let (mut buffer, mut out) = (vec![0; BUFFER], Vec::new());
    loop {
        let n = from.read(&mut buffer).await.map_err(Broken::Reading)?;
        let said = match &mut acked {
            Some(filter) => {
                out.clear();
                filter.pass(&buffer[..n], &mut out);
                if n == 0 {
                    out = filter.rest();
                }
                &out[..]
            }
            None => &buffer[..n],
        };
        to.write_all(said).await.map_err(Broken::Writing)?;
        counter.add(said.len() as u64);
        if n == 0 {
            return to.shutdown().await.map_err(Broken::Writing);
        }
        if acked.as_ref().is_some_and(Acknowledged::done) {
            acked = None;
        }
    }
}
