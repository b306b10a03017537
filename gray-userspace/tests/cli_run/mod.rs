//! Runs command lines in this process with buffers for streams.
#![allow(dead_code, reason = "each test crate uses its part")]

use std::{
    io::{self, Cursor, Write},
    path::Path,
    sync::{Arc, Mutex},
};

use gray_userspace::cli::{Io, Local, run as run_cli};

pub struct Done {
    pub code: u8,
    pub out: String,
    pub err: String,
}

#[derive(Clone, Default)]
struct Buffer(Arc<Mutex<Vec<u8>>>);

impl Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Buffer {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

/// A pipe whose reader went away.
pub struct Closed;

impl Write for Closed {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Err(io::ErrorKind::BrokenPipe.into())
    }
}

/// The agent of these tests says what it was started with, and ends.
pub fn local() -> Local {
    Local {
        agent: |o| Err(anyhow::anyhow!("{o:?}")),
        splice: |o| Err(anyhow::anyhow!("{o:?}")),
        uninstall: |o| Ok(vec![format!("{o:?}")]),
        migrate: |o| Ok(vec![format!("{o:?}")]),
    }
}

/// Words are cut at blanks; the socket is given first.
pub fn at(socket: &Path, line: &str, input: &str) -> Done {
    run(&format!("gray --socket {} {line}", socket.display()), input)
}

pub fn run(line: &str, input: &str) -> Done {
    with(line, input, None, false)
}

pub fn run_terminal(line: &str) -> Done {
    with(line, "", None, true)
}

pub fn run_io(socket: &Path, line: &str, input: &str, out: Box<dyn Write>) -> Done {
    with(&format!("gray --socket {} {line}", socket.display()), input, Some(out), false)
}

fn with(line: &str, input: &str, to: Option<Box<dyn Write>>, color: bool) -> Done {
    let (out, err) = (Buffer::default(), Buffer::default());
    let mut io = Io {
        out: to.unwrap_or_else(|| Box::new(out.clone())),
        err: Box::new(err.clone()),
        input: Box::new(Cursor::new(input.as_bytes().to_vec())),
        color,
        err_color: color,
    };
    let code = run_cli(line.split_whitespace().map(Into::into), &local(), &mut io);
    Done { code, out: out.text(), err: err.text() }
}
