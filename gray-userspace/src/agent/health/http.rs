//! A GET over a connection: the status is the answer. The body is not read; what an instance sends is bounded.

use bytes::Bytes;
use http_body_util::Empty;
use hyper::{Request, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// Bytes of an answer's head.
const HEAD: usize = 16 * 1024;

/// Ends when the head of the answer is there. The caller bounds the time.
pub async fn get(
    stream: TcpStream,
    host: &str,
    path: &str,
    (first, last): (u16, u16),
) -> Result<String, String> {
    let io = TokioIo::new(stream);
    let (mut ask, connection) =
        http1::Builder::new().max_buf_size(HEAD).handshake(io).await.map_err(|e| format!("http: {e}"))?;
    let request = Request::get(path)
        .header(header::HOST, host)
        .header(header::USER_AGENT, concat!("gray-health/", env!("CARGO_PKG_VERSION")))
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|e| format!("http: {e}"))?;
    let answer = async {
        let answer = ask.send_request(request).await.map_err(|e| format!("http: {e}"))?;
        Ok::<u16, String>(answer.status().as_u16())
    };
    tokio::pin!(answer);
    // The connection's own future does the reading. When it is done, the answer is there or will never be.
    let status = tokio::select! {
        status = &mut answer => status,
        ended = connection => match ended {
            Ok(()) => answer.await,
            Err(e) => Err(format!("http: {e}")),
        },
    }?;
    if (first..=last).contains(&status) {
        Ok(format!("status {status}"))
    } else if first == last {
        Err(format!("status {status}, not {first}"))
    } else {
        Err(format!("status {status}, not {first} to {last}"))
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    use super::*;

    /// What is asked, and what an answer leads to.
    async fn asked(answer: &'static [u8], status: (u16, u16)) -> (String, Result<String, String>) {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = server.local_addr().unwrap();
        let serve = async {
            let (mut s, _) = server.accept().await.unwrap();
            let mut head = vec![0; 4096];
            let n = s.read(&mut head).await.unwrap();
            let _ = s.write_all(answer).await;
            String::from_utf8_lossy(&head[..n]).into_owned()
        };
        let stream = TcpStream::connect(at).await.unwrap();
        tokio::join!(serve, get(stream, "shop.example", "/ready?x=1", status))
    }

    #[tokio::test]
    async fn the_status_is_the_answer() {
        let (request, got) = asked(b"HTTP/1.1 204 No Content\r\n\r\n", (200, 399)).await;
        assert!(request.starts_with("GET /ready?x=1 HTTP/1.1\r\n"), "{request}");
        assert!(
            request.contains("host: shop.example\r\n") && request.contains("connection: close"),
            "{request}"
        );
        assert_eq!(got, Ok("status 204".into()));
        let long = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\npart";
        assert_eq!(asked(long, (200, 200)).await.1, Ok("status 200".into()), "the body is not waited for");
        let (_, got) = asked(b"HTTP/1.1 503 Away\r\n\r\n", (200, 399)).await;
        assert_eq!(got, Err("status 503, not 200 to 399".into()));
    }

    #[tokio::test]
    async fn what_is_no_answer_fails() {
        for bad in [&b""[..], b"SSH-2.0-OpenSSH_9.6\r\n", b"HTTP/1.1 2", b"\x15\x03\x01\x00\x02\x02\x46"] {
            let (_, got) = asked(bad, (200, 399)).await;
            assert!(got.as_ref().is_err_and(|e| e.starts_with("http: ")), "{bad:?}: {got:?}");
        }
    }
}
