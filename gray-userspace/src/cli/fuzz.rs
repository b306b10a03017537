//! Fuzz targets of the command line: arguments, and the agent's file. Nothing is run.

use std::{cell::RefCell, ffi::OsString, io::Write, rc::Rc};

use super::{Failure, Io, agent_file::AgentFile, args::Verb, explain, parse};
use crate::fuzz::{one_line, text};

/// One argument per line.
pub fn arguments(data: &[u8]) {
    let text = text(data);
    let given = text.split('\n').take(24).map(OsString::from);
    let mut io = silent();
    match parse([OsString::from("gray")].into_iter().chain(given), &mut io) {
        Ok(Some(cli)) => match cli.verb {
            // A file that an argument names is not read.
            Verb::Agent(a) if !a.names_file() => drop(a.options(None).map_err(said)),
            Verb::Explain(a) => drop(explain::request(a).map_err(said)),
            _ => {}
        },
        Ok(None) => {}
        Err(f) => said(f),
    }
}

pub fn agent_file(data: &[u8]) {
    if let Err((place, what)) = AgentFile::parse(&text(data)) {
        one_line(&what);
        assert!(place.is_empty() || place.starts_with(':'), "{place:?}");
    }
}

/// What a person sees: a line of what is wrong, and one of what to do.
fn said(f: Failure) {
    let shown = Shown::default();
    let mut io = silent();
    io.err = Box::new(shown.clone());
    let _ = f.report(&mut io);
    let text = String::from_utf8_lossy(&shown.0.borrow()).into_owned();
    let lines: Vec<&str> = text.lines().collect();
    assert!(
        lines.len() == 2 && lines[0].starts_with("error: ") && lines[1].starts_with("help: "),
        "{text:?}"
    );
    lines.into_iter().for_each(one_line);
}

fn silent() -> Io {
    Io {
        out: Box::new(std::io::sink()),
        err: Box::new(std::io::sink()),
        input: Box::new(std::io::empty()),
        color: false,
        err_color: false,
    }
}

#[derive(Clone, Default)]
struct Shown(Rc<RefCell<Vec<u8>>>);

impl Write for Shown {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.borrow_mut().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
