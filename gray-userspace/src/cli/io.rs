//! Where a command reads and prints: the real streams, or buffers in tests.

use std::io::{BufWriter, IsTerminal, Read, Write, stderr, stdin, stdout};

pub struct Io {
    pub out: Box<dyn Write>,
    pub err: Box<dyn Write>,
    pub input: Box<dyn Read>,
    /// Colour on `out`.
    pub color: bool,
    /// Colour on `err`.
    pub err_color: bool,
}

impl Io {
    /// The process's own streams; colour only on a terminal and without NO_COLOR.
    pub fn real() -> Self {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
            && std::env::var_os("TERM").is_none_or(|v| v != "dumb");
        Self {
            color: wanted && stdout().is_terminal(),
            err_color: wanted && stderr().is_terminal(),
            out: Box::new(BufWriter::new(stdout())),
            err: Box::new(stderr()),
            input: Box::new(stdin()),
        }
    }
}
