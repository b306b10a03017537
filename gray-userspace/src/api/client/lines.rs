//! Cuts a streamed body into lines.

use std::path::PathBuf;

use bytes::BytesMut;
use http_body_util::BodyExt;
use hyper::body::Incoming;

use super::ClientError;

/// Lines of a reply as they come.
pub struct Lines {
    socket: PathBuf,
    body: Incoming,
    buffer: BytesMut,
}

impl Lines {
    pub(super) fn new(socket: PathBuf, body: Incoming) -> Self {
        Self { socket, body, buffer: BytesMut::new() }
    }

    /// The next line that is not empty, without its end. None: the agent ended the stream. A last line without end is dropped.
    pub async fn next(&mut self) -> Result<Option<String>, ClientError> {
        loop {
            if let Some(at) = self.buffer.iter().position(|b| *b == b'\n') {
                let line = self.buffer.split_to(at + 1);
                let text = String::from_utf8_lossy(&line).trim().to_string();
                if !text.is_empty() {
                    return Ok(Some(text));
                }
                continue;
            }
            match self.body.frame().await {
                None => return Ok(None),
                Some(Err(source)) => return Err(ClientError::Lost { socket: self.socket.clone(), source }),
                Some(Ok(frame)) => {
                    if let Some(data) = frame.data_ref() {
                        self.buffer.extend_from_slice(data);
                    }
                }
            }
        }
    }
}
