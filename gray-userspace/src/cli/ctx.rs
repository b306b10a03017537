//! What a verb works with: the client, the streams, the wanted format.

use std::{fs::File, io::Read, path::Path};

use serde::Serialize;
use tokio::runtime::Runtime;

use super::{
    Failure, Io,
    args::{Format, Global},
    table::Paint,
};
use crate::api::{Client, ClientError};

/// Larger bodies are refused by the agent.
const LARGEST: u64 = 64 << 20;

pub struct Ctx<'a> {
    pub io: &'a mut Io,
    pub format: Format,
    pub client: Client,
    runtime: Runtime,
}

impl<'a> Ctx<'a> {
    pub fn new(io: &'a mut Io, global: &Global) -> Result<Self, Failure> {
        if global.no_color {
            (io.color, io.err_color) = (false, false);
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|e| Failure::failed(format!("cannot start: {e}"), "check the limits of this process"))?;
        Ok(Self { io, format: global.output, client: Client::new(global.socket()), runtime })
    }

    /// Waits for the agent's answer.
    pub fn wait<T>(&self, answer: impl Future<Output = Result<T, ClientError>>) -> Result<T, Failure> {
        self.runtime.block_on(answer).map_err(Failure::from)
    }

    pub fn paint(&self) -> Paint {
        Paint(self.io.color)
    }

    /// Prints a reply as asked for; `human` makes the table or text.
    pub fn show<T: Serialize>(
        &mut self,
        value: &T,
        human: impl FnOnce(&T, Paint) -> String,
    ) -> Result<(), Failure> {
        let text = match self.format {
            Format::Table => human(value, self.paint()),
            Format::Json => format!("{}\n", serde_json::to_string_pretty(value).map_err(unprintable)?),
            Format::Yaml => serde_saphyr::to_string(value).map_err(unprintable)?,
        };
        Ok(self.io.out.write_all(text.as_bytes())?)
    }

    /// A file's content, or standard input's for `-`. At most what the agent takes.
    pub fn read(&mut self, path: &Path) -> Result<Vec<u8>, Failure> {
        let failed = |e| Failure::file("read", path, &e);
        let mut bytes = Vec::new();
        let _ = match path.to_str() {
            Some("-") => self.io.input.by_ref().take(LARGEST + 1).read_to_end(&mut bytes),
            _ => File::open(path).and_then(|f| f.take(LARGEST + 1).read_to_end(&mut bytes)),
        }
        .map_err(failed)?;
        if bytes.len() as u64 > LARGEST {
            let what = format!("{} is larger than {} MiB", path.display(), LARGEST >> 20);
            return Err(Failure::failed(what, "split it, and load the parts with `gray cohort add --file`"));
        }
        Ok(bytes)
    }
}

fn unprintable(e: impl std::fmt::Display) -> Failure {
    Failure::failed(format!("cannot print the answer: {e}"), "try another -o FORMAT")
}
