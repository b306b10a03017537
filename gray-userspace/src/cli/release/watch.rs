//! `gray release status NAME --watch`: one screen, drawn over itself.

use std::time::{Duration, Instant};

use super::{clean, screen};
use crate::{
    api::types::{ReleaseEvent, ReleaseView},
    cli::{
        Failure,
        args::Format,
        ctx::Ctx,
        failure::UNREACHABLE,
        table::{Paint, Style},
    },
};

const EVERY: Duration = Duration::from_secs(1);
/// An agent that was there may be away for so long: it is restarted, or another one takes its place.
const AWAY: Duration = Duration::from_mins(1);
/// Lines of the history beneath.
const LINES: usize = 3;
/// Where nobody says how large the terminal is.
const SIZE: (usize, usize) = (80, 24);

/// Until it is over. On a terminal each frame is drawn over the one before; elsewhere they come one after the other.
pub(super) fn run(path: &str, ctx: &mut Ctx<'_>) -> Result<(), Failure> {
    let over = ctx.format == Format::Table && ctx.io.color;
    if over {
        // Once: what stood there goes, and nothing flickers later.
        ctx.io.out.write_all(b"\x1b[H\x1b[2J")?;
    }
    let last = format!("{path}/history?limit={LINES}");
    let mut seen = None;
    loop {
        let view: Result<ReleaseView, Failure> = ctx.wait(ctx.client.get(path));
        let asked = view.and_then(|view| {
            let events: Vec<ReleaseEvent> = if over { ctx.wait(ctx.client.get(&last))? } else { Vec::new() };
            Ok((view, events))
        });
        let (view, events) = match (asked, seen) {
            (Ok(all), _) => all,
            (Err(e), Some(at)) if e.code == UNREACHABLE && Instant::elapsed(&at) < AWAY => {
                std::thread::sleep(EVERY);
                continue;
            }
            (Err(e), _) => return Err(e),
        };
        seen = Some(Instant::now());
        if over {
            let text = text(&view, &events, ctx.paint());
            ctx.io.out.write_all(frame(&text, size()).as_bytes())?;
        } else {
            ctx.show(&view, screen)?;
        }
        ctx.io.out.flush()?;
        if view.over {
            return Ok(());
        }
        std::thread::sleep(EVERY);
    }
}

/// As it is now: people change it.
fn size() -> (usize, usize) {
    match rustix::termios::tcgetwinsize(std::io::stdout()) {
        Ok(s) if s.ws_col > 0 && s.ws_row > 0 => (s.ws_col.into(), s.ws_row.into()),
        _ => SIZE,
    }
}

fn text(v: &ReleaseView, events: &[ReleaseEvent], paint: Paint) -> String {
    let mut out = screen(v, paint);
    if !events.is_empty() {
        out += &format!("\n{}\n", paint.text(Style::Bold, "last"));
    }
    // Newest last, as it comes.
    for e in events.iter().rev() {
        let text = if e.text.is_empty() { format!("{} -> {}", e.from, e.to) } else { clean(&e.text) };
        out += &format!("{}  {:<10} {text}\n", e.at, e.what);
    }
    out
}

/// From the top left, each line to its end and the rest of the screen cleared: nothing of the last frame stays, and nothing is blank
/// between two of them. What the terminal has no room for is cut.
fn frame(text: &str, (columns, rows): (usize, usize)) -> String {
    let mut out = String::from("\x1b[H");
    for (i, line) in text.lines().take(rows.saturating_sub(1)).enumerate() {
        if i > 0 {
            out += "\r\n";
        }
        out += &cut(line, columns);
        out += "\x1b[K";
    }
    out + "\r\n\x1b[J"
}

/// So many characters of a line; what colours it takes no room.
fn cut(line: &str, columns: usize) -> String {
    let (mut out, mut room, mut escape) = (String::new(), columns, false);
    for c in line.chars() {
        if c == '\x1b' {
            escape = true;
        } else if escape {
            escape = c != 'm';
        } else if room == 0 {
            continue;
        } else {
            room -= 1;
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f7_a_frame_clears_what_it_does_not_write_and_nothing_else() {
        let drawn = frame("one\ntwo\n", (80, 24));
        assert_eq!(drawn, "\x1b[Hone\x1b[K\r\ntwo\x1b[K\r\n\x1b[J");
        assert!(!drawn.contains("\x1b[2J"), "a whole screen that is cleared flickers");
    }

    #[test]
    fn f7_a_frame_fits_into_a_small_terminal() {
        let text = "one two three\nfour\nfive\nsix\n";
        assert_eq!(frame(text, (5, 3)), "\x1b[Hone t\x1b[K\r\nfour\x1b[K\r\n\x1b[J");
        assert_eq!(cut("\x1b[1mone\x1b[0m two", 4), "\x1b[1mone\x1b[0m ");
        assert_eq!(frame("", (0, 0)), "\x1b[H\r\n\x1b[J");
    }
}
