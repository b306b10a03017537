//! A worker of the lab's message example, in a process of its own: it sends to a queue of a Redis, or takes from it, as an application
//! would that knows one broker's address and the tag it was started with (`GRAY_TAG`). What it has done stands in a file.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// Between two messages of a producer.
const PAUSE: Duration = Duration::from_millis(5);
/// Before a broker that is not there is dialled again.
const AGAIN: Duration = Duration::from_millis(20);

/// `produce|consume BROKER QUEUE NAME FILE`; never ends by itself.
pub fn main() -> Result<()> {
    let mut args = std::env::args().skip(2);
    let mut next = |what: &str| args.next().with_context(|| format!("{what} is missing"));
    let role = next("the role")?;
    let worker = Worker {
        broker: next("the broker")?.parse().context("the broker's address")?,
        queue: next("the queue")?,
        name: next("the name")?,
        tag: std::env::var("GRAY_TAG").context("started without GRAY_TAG: gray tag -- PROGRAM")?,
        done: OpenOptions::new().create(true).append(true).open(next("the file")?)?,
    };
    match role.as_str() {
        "produce" => worker.produce(),
        "consume" => worker.consume(),
        other => bail!("unknown role {other}"),
    }
}

struct Worker {
    broker: SocketAddr,
    queue: String,
    name: String,
    tag: String,
    done: File,
}

impl Worker {
    /// A message is sent when the broker says so; until then it is sent again.
    fn produce(mut self) -> Result<()> {
        let mut broker = None;
        for n in 0_u64.. {
            let message = format!("{}:{}:{n}", self.tag, self.name);
            while self.ask(&mut broker, &["LPUSH", &self.queue, &message]).is_none() {}
            writeln!(self.done, "{message}")?;
            // Else a slow machine drains for as long as it has sent.
            std::thread::sleep(crate::pace::patience(PAUSE));
        }
        Ok(())
    }

    /// Taken to a list of its own first: a worker that dies loses nothing. Done, then forgotten.
    fn consume(mut self) -> Result<()> {
        let own = format!("{}:taken:{}", self.queue, self.name);
        let mut broker = None;
        loop {
            let taken = self.ask(&mut broker, &["BRPOPLPUSH", &self.queue, &own, "1"]).flatten();
            let Some(message) = taken else { continue };
            writeln!(self.done, "{message}")?;
            let _ = self.ask(&mut broker, &["LREM", &own, "1", &message]);
        }
    }

    /// `None`: no answer, and no connection any more. `Some(None)`: the answer is that there is nothing.
    fn ask(&self, broker: &mut Option<BufReader<TcpStream>>, words: &[&str]) -> Option<Option<String>> {
        if broker.is_none() {
            *broker = dial(self.broker).ok();
        }
        let answer = broker.as_mut().and_then(|b| exchange(b, words).ok());
        if answer.is_none() {
            *broker = None;
            std::thread::sleep(AGAIN);
        }
        answer
    }
}

fn dial(to: SocketAddr) -> Result<BufReader<TcpStream>> {
    let stream = TcpStream::connect_timeout(&to, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.set_nodelay(true)?;
    Ok(BufReader::new(stream))
}

/// One command and its answer (RESP2).
fn exchange(broker: &mut BufReader<TcpStream>, words: &[&str]) -> Result<Option<String>> {
    let mut text = format!("*{}\r\n", words.len());
    for word in words {
        text += &format!("${}\r\n{word}\r\n", word.len());
    }
    broker.get_mut().write_all(text.as_bytes())?;
    let head = line(broker)?;
    match head.split_at_checked(1) {
        Some((":" | "+", said)) => Ok(Some(said.to_owned())),
        Some(("$" | "*", "-1")) => Ok(None),
        Some(("$", _)) => Ok(Some(line(broker)?)),
        _ => bail!("the broker said {head}"),
    }
}

fn line(broker: &mut BufReader<TcpStream>) -> Result<String> {
    let mut line = String::new();
    if broker.read_line(&mut line)? == 0 {
        bail!("the broker has closed");
    }
    Ok(line.trim_end().to_owned())
}
