//! Reads the health check of a service. Must not look at the service around it.

use super::{
    limits,
    report::{Draft, Report, quoted},
    shape::{CHECKS, CHECKS_LATER, DAMPING, EMPTY, HEALTH},
    tree::Node,
    value,
    walk::{self, Fields},
};
use crate::model::{Damping, Empty, Health, Millis, Probe};

const HOUR: u32 = 3_600_000;
const STATUSES: &str = "a status or a range of them, such as 200 or 200-399";
const HTTP: (u16, u16) = (200, 399);

/// Keys that one kind of check has, and no other.
const OF_KIND: [(&str, &str); 4] =
    [("path", "http"), ("status", "http"), ("host", "http"), ("command", "command")];

pub(super) fn read(node: &Node<'_>, report: &mut Report<'_>) -> Option<Health> {
    let fields = Fields::open(node, &HEALTH, node.span, report)?;
    let kind = fields.get("check").and_then(|n| walk::word(n, "check", (CHECKS, CHECKS_LATER), report));
    let kind = kind.map(|k| CHECKS[k]);
    for (key, of) in OF_KIND {
        if let Some((key, _)) = fields.pair(key).filter(|_| kind.is_some_and(|k| k != of)) {
            let text = format!("`{}` in a check by {}", key.text, kind.unwrap_or_default());
            report.error(Draft::new(key.span, text).help(format!("remove it, or write `check: {of}`")));
        }
    }
    // Read whatever the kind is: every problem at once.
    let path = fields.get("path").map(|n| path(n, report));
    let status = fields.get("status").map(|n| statuses(n, report));
    let host = fields.get("host").map(|n| host(n, report));
    let command = fields.get("command").map(|n| command(n, report));
    let mut number = |key, range, default| match fields.get(key) {
        Some(n) => walk::integer(n, key, range, report),
        None => Some(default),
    };
    let (rise, fall) = (number("rise", 1..=100, 2), number("fall", 1..=100, 3));
    let (jitter, port) = (number("jitter", 0..=50, 10), number("port", 1..=65_535, 0));
    let mut time = |key, range, default| match fields.get(key) {
        Some(n) => walk::duration(n, key, range, report),
        None => Some(default),
    };
    let interval = time("interval", 100..=HOUR, 2000);
    let timeout = time("timeout", 10..=60_000, interval.unwrap_or(2000).min(1000));
    let slow_start = time("slow-start", 0..=HOUR, 0);
    let damping = match fields.get("damping") {
        Some(n) => damping(n, report),
        None => Some(DEFAULT_DAMPING),
    };
    let empty = match fields.get("empty") {
        Some(n) => walk::word(n, "empty", (EMPTY, &[]), report),
        None => Some(0),
    };
    if let (Some(i), Some(t), Some(n)) = (interval, timeout, fields.get("timeout"))
        && t > i
    {
        let text = format!("`timeout` {} is longer than the interval {}", Millis(t), Millis(i));
        report.error(Draft::new(n.span, text).expected(format!("at most {}", Millis(i))));
    }
    let probe = match kind? {
        "tcp" => Probe::Tcp,
        "http" => Probe::Http {
            path: path.unwrap_or_else(|| Some("/".to_owned()))?,
            status: status.unwrap_or(Some(HTTP))?,
            host: host.map_or(Some(None), |h| h.map(Some))?,
        },
        _ => match command {
            Some(words) => Probe::Command(words?),
            None => {
                let text = "a check by command needs `command`";
                report.error(
                    Draft::new(node.span, text).help("`command`: the program's name, then its arguments"),
                );
                return None;
            }
        },
    };
    Some(Health {
        probe,
        port: Some(u16::try_from(port?).ok()?).filter(|p| *p != 0),
        interval_ms: interval?,
        timeout_ms: timeout?,
        rise: rise?,
        fall: fall?,
        jitter: jitter?,
        slow_start_ms: slow_start?,
        damping: damping?,
        empty: if empty? == 1 { Empty::Keep } else { Empty::Stable },
    })
}

const DEFAULT_DAMPING: Damping = Damping { flips: 3, hold_ms: 10_000, max_ms: 300_000 };

fn damping(node: &Node<'_>, report: &mut Report<'_>) -> Option<Damping> {
    let fields = Fields::open(node, &DAMPING, node.span, report)?;
    let flips = match fields.get("flips") {
        Some(n) => walk::integer(n, "flips", 1..=100, report),
        None => Some(DEFAULT_DAMPING.flips),
    };
    let hold = match fields.get("hold") {
        Some(n) => walk::duration(n, "hold", 0..=HOUR, report),
        None => Some(DEFAULT_DAMPING.hold_ms),
    };
    let max = match fields.get("max") {
        Some(n) => walk::duration(n, "max", 0..=24 * HOUR, report),
        None => hold.map(|h| h.max(DEFAULT_DAMPING.max_ms)),
    };
    if let (Some(h), Some(m), Some(n)) = (hold, max, fields.get("max"))
        && m < h
    {
        let text = format!("`max` {} is shorter than the first hold {}", Millis(m), Millis(h));
        report.error(Draft::new(n.span, text).expected(format!("at least {}", Millis(h))));
    }
    Some(Damping { flips: flips?, hold_ms: hold?, max_ms: max? })
}

/// Text of one line; a request is made of it, so nothing that ends a line may be in it.
pub(super) fn line(
    node: &Node<'_>,
    key: &str,
    expected: &str,
    report: &mut Report<'_>,
    fits: fn(&str) -> bool,
) -> Option<String> {
    let text = walk::text(node, &format!("`{key}`"), expected, report)?;
    let plain =
        !text.is_empty() && text.chars().count() <= limits::WORD_CHARS && !text.contains(char::is_control);
    if plain && fits(text) {
        return Some(text.to_owned());
    }
    report.error(Draft::new(node.span, format!("`{key}` is {}", quoted(text))).expected(expected));
    None
}

fn path(node: &Node<'_>, report: &mut Report<'_>) -> Option<String> {
    let expected = "a path like /health, in ASCII without spaces";
    line(node, "path", expected, report, |t| {
        t.starts_with('/') && t.bytes().all(|b| b.is_ascii_graphic()) && !t.contains('#')
    })
}

fn host(node: &Node<'_>, report: &mut Report<'_>) -> Option<String> {
    let expected = "a host name like shop.example, perhaps with a port";
    line(node, "host", expected, report, |t| {
        t.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_:[]".contains(&b))
    })
}

pub(super) fn statuses(node: &Node<'_>, report: &mut Report<'_>) -> Option<(u16, u16)> {
    let text = walk::text(node, "`status`", STATUSES, report)?;
    let found = value::statuses(text);
    if found.is_none() {
        report.error(Draft::new(node.span, format!("`status` is {}", quoted(text))).expected(STATUSES));
    }
    found
}

pub(super) fn command(node: &Node<'_>, report: &mut Report<'_>) -> Option<Vec<String>> {
    words(node, "command", report)
}

/// A program and its arguments.
pub(super) fn words(node: &Node<'_>, key: &str, report: &mut Report<'_>) -> Option<Vec<String>> {
    let items = walk::list(node, &format!("`{key}`"), "words", report)?;
    if items.is_empty() || items.len() > limits::COMMAND_WORDS {
        let text = format!("`{key}` has {} words", items.len());
        report.error(Draft::new(node.span, text).expected(format!("1 to {}", limits::COMMAND_WORDS)));
        return None;
    }
    let mut words = Vec::with_capacity(items.len());
    for (i, item) in items.iter().enumerate() {
        words.push(match i {
            0 => program(item, key, report),
            _ => line(item, key, "a word of at most 1024 characters", report, |_| true),
        });
    }
    words.into_iter().collect()
}

/// A name, no path: which programs may run is the agent's matter, not the document's.
fn program(node: &Node<'_>, key: &str, report: &mut Report<'_>) -> Option<String> {
    let expected = "the name of a program in the agent's --health-commands directory";
    line(node, key, expected, report, |t| !t.contains('/') && !t.starts_with('.'))
}
