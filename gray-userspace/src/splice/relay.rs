//! Two connections as one: what one end says the other one hears, its end too. Reads nothing.

use std::{
    io,
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
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

/// A socket of either side. However this process ends, what is on its way ends with a reset: what broke off must not look whole. Only
/// [`relay`], when both ends have said everything, takes that back.
pub fn prepare(s: &TcpStream) -> io::Result<()> {
    s.set_nodelay(true)?;
    sockopt::set_socket_keepalive(s, true)?;
    sockopt::set_tcp_keepidle(s, IDLE)?;
    sockopt::set_tcp_keepintvl(s, AGAIN)?;
    s.set_zero_linger()
}

/// Has it end with a reset when it is dropped, before it was prepared.
pub fn reset(s: &TcpStream) {
    // What is gone already needs none.
    let _ = s.set_zero_linger();
}

/// Why a direction ended early.
enum Broken {
    Reading(io::Error),
    Writing(io::Error),
}

/// How two connections ended early.
#[derive(Debug)]
pub struct Cut {
    /// The instance broke its own before it had said anything.
    pub unanswered: bool,
    pub error: io::Error,
}

/// What a direction tells: bytes that were said, whether there were any, and since when the other direction has ended.
struct Tells<'a> {
    counter: &'a Counter,
    any: AtomicBool,
    ended: &'a OnceLock<Instant>,
}

/// After an instance has ended, a client that says nothing for so long has forgotten the connection.
const HALF: Duration = if cfg!(test) { Duration::from_millis(600) } else { Duration::from_secs(60) };

/// Copies both ways until both ends have said everything. An instance that takes no more may still have answered: it is heard to its
/// end. A client that has said everything may be answered much later; one that was told the end may not keep its own open for ever.
///
/// # Errors
/// Which end broke it.
pub async fn relay(
    client: &mut TcpStream,
    instance: &mut TcpStream,
    acked: Option<Acknowledged>,
    counters: &Counters,
) -> Result<(), Cut> {
    let ((from_client, to_client), (from_instance, to_instance)) = (client.split(), instance.split());
    let (ended, never) = (OnceLock::new(), OnceLock::new());
    let tells = |counter, ended| Tells { counter, any: AtomicBool::new(false), ended };
    let (up, down) = (tells(&counters.from_clients, &ended), tells(&counters.to_clients, &never));
    let said = async {
        match copy(from_client, to_instance, acked, &up).await {
            Err(Broken::Reading(error)) => Err(Cut { unanswered: false, error }),
            Ok(()) | Err(Broken::Writing(_)) => Ok(()),
        }
    };
    let answered = async {
        let answered = copy(from_instance, to_client, None, &down).await;
        let _ = ended.set(Instant::now());
        match answered {
            Err(Broken::Reading(error)) => Err(Cut { unanswered: !down.any.load(Relaxed), error }),
            Err(Broken::Writing(error)) => Err(Cut { unanswered: false, error }),
            Ok(()) => Ok(()),
        }
    };
    let ((), ()) = tokio::try_join!(said, answered)?;
    for s in [client, instance] {
        // Bytes that are not sent yet the kernel sends. One that is gone needs nothing.
        let _ = sockopt::set_socket_linger(&*s, None);
    }
    Ok(())
}

/// One direction, without the acknowledgement that is ours. Where the other one has ended it waits for [`HALF`] at least, and at most for
/// twice that: then it has said everything.
async fn copy(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    mut acked: Option<Acknowledged>,
    tells: &Tells<'_>,
) -> Result<(), Broken> {
    let (mut buffer, mut out) = (vec![0; BUFFER], Vec::new());
    loop {
        let n = loop {
            match timeout(HALF, from.read(&mut buffer)).await {
                Ok(n) => break n.map_err(Broken::Reading)?,
                Err(_) if tells.ended.get().is_some_and(|at| at.elapsed() >= HALF) => break 0,
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
        if n != 0 {
            tells.any.store(true, Relaxed);
        }
        tells.counter.add(said.len() as u64);
        if n == 0 {
            return to.shutdown().await.map_err(Broken::Writing);
        }
        if acked.as_ref().is_some_and(Acknowledged::done) {
            acked = None;
        }
    }
}
