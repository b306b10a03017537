//! Two connections as one: what one end says the other one hears, its end too. Reads nothing.

use std::{
    io,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::Duration,
};

use rustix::net::sockopt;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    time::timeout,
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

/// After an instance has ended, a client that says nothing for so long has forgotten the connection.
const HALF: Duration = Duration::from_secs(60);

/// Copies both ways until both ends have said everything. An instance that takes no more may still have answered: it is heard to its
/// end. A client that has said everything may be answered much later; one that was told the end may not keep its own open for ever.
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
    let ended = AtomicBool::new(false);
    let up = async {
        match copy(from_client, to_instance, acked, (&counters.from_clients, &ended)).await {
            Err(Broken::Writing(_)) => Ok(()),
            said => said,
        }
    };
    let never = AtomicBool::new(false);
    let down = async {
        let said = copy(from_instance, to_client, None, (&counters.to_clients, &never)).await;
        ended.store(true, Relaxed);
        said
    };
    match tokio::try_join!(up, down) {
        Ok(((), ())) => Ok(()),
        Err(Broken::Reading(e) | Broken::Writing(e)) => Err(e),
    }
}

/// One direction, without the acknowledgement that is ours. Where the other one has ended it waits for [`HALF`], or twice that.
async fn copy(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    mut acked: Option<Acknowledged>,
    (counter, ended): (&Counter, &AtomicBool),
) -> Result<(), Broken> {
    let (mut buffer, mut out) = (vec![0; BUFFER], Vec::new());
    loop {
        let n = loop {
            match timeout(HALF, from.read(&mut buffer)).await {
                Ok(n) => break n.map_err(Broken::Reading)?,
                Err(_) if ended.load(Relaxed) => return Err(Broken::Reading(io::ErrorKind::TimedOut.into())),
                Err(_) => {}
            }
        };
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
