//! The event stream: newline-delimited JSON, first the latest, then live ones while the reader stays.

use axum::{
    body::{Body, Bytes},
    extract::State,
    http::header::CONTENT_TYPE,
    response::IntoResponse,
};
use tokio::sync::{
    broadcast::{self, error::RecvError},
    mpsc, watch,
};
use tokio_stream::{StreamExt, wrappers::ReceiverStream};

use crate::api::{
    extract::Args,
    recent::KEPT,
    routes::App,
    types::{EventLine, EventsQuery},
};

const DEFAULT_RECENT: usize = 20;

/// Decision events, one JSON object per line.
#[utoipa::path(get, path = "/v1/events", params(EventsQuery),
    responses((status = 200, body = EventLine, content_type = "application/x-ndjson")))]
pub async fn events(State(app): State<App>, Args(query): Args<EventsQuery>) -> impl IntoResponse {
    let (out, body) = mpsc::channel::<Bytes>(64);
    let wanted = query.recent.unwrap_or(DEFAULT_RECENT).min(KEPT);
    let (last, live) = app.recent.tail(wanted, |line| wants(&query, line));
    drop(tokio::spawn(async move {
        for line in &last {
            if out.send(encode(line)).await.is_err() {
                return;
            }
        }
        if query.follow {
            follow(&query, live, &out, app.ending).await;
        }
    }));
    let body = Body::from_stream(ReceiverStream::new(body).map(Ok::<_, std::convert::Infallible>));
    ([(CONTENT_TYPE, "application/x-ndjson")], body)
}

/// Ends when the reader goes, the server stops, or the source ends.
async fn follow(
    query: &EventsQuery,
    mut live: broadcast::Receiver<EventLine>,
    out: &mpsc::Sender<Bytes>,
    mut ending: watch::Receiver<bool>,
) {
    loop {
        let line = tokio::select! {
            line = live.recv() => match line {
                Ok(line) => line,
                Err(RecvError::Lagged(lost)) => EventLine::Lost { lost },
                Err(RecvError::Closed) => return,
            },
            () = out.closed() => return,
            _ = ending.wait_for(|end| *end) => return,
        };
        if !wants(query, &line) {
            continue;
        }
        // A reader that has stopped reading must not hold up the end.
        tokio::select! {
            sent = out.send(encode(&line)) => if sent.is_err() { return },
            _ = ending.wait_for(|end| *end) => return,
        }
    }
}

fn wants(query: &EventsQuery, line: &EventLine) -> bool {
    match (line, &query.service) {
        (EventLine::Event(e), Some(service)) => e.service == *service,
        (EventLine::Health(e), Some(service)) => e.service == *service,
        (EventLine::Missing(e), Some(service)) => e.service == *service,
        // It is about all services.
        (EventLine::Policy(_), Some(_)) => true,
        (EventLine::Alarm(e), Some(service)) => e.service == *service,
        (EventLine::Breaker(e), Some(service)) => e.service == *service,
        _ => true,
    }
}

fn encode(line: &EventLine) -> Bytes {
    // Strings and numbers only: this serialization has no way to fail; an empty line would be skipped by readers.
    let mut text = serde_json::to_vec(line).unwrap_or_default();
    text.push(b'\n');
    text.into()
}
