//! Reads the alarm of a service. Must not look at the service around it.

use super::{
    health::{command, line},
    report::{Draft, Report, quoted},
    shape::ALARM,
    tree::Node,
    walk::{self, Fields},
};
use crate::model::{Alarm, Over, Webhook};

const HOUR: u32 = 3_600_000;
const WINDOW: u32 = 30_000;
const LEAST: u32 = 20;
/// Most requests a second that an alarm can be about.
const RATE: u32 = 1_000_000;

pub(super) fn read(node: &Node<'_>, report: &mut Report<'_>) -> Option<Alarm> {
    let fields = Fields::open(node, &ALARM, node.span, report)?;
    // Read whatever is missing: every problem at once.
    let percent = fields.get("percent").map(|n| walk::percent(n, "percent", report).map(u32::from));
    let rate = fields.get("per-second").map(|n| walk::integer(n, "per-second", 1..=RATE, report));
    let clear = fields.get("clear").map(|n| match rate {
        Some(_) => walk::integer(n, "clear", 0..=RATE, report),
        None => walk::percent(n, "clear", report).map(u32::from),
    });
    let window = match fields.get("window") {
        Some(n) => walk::duration(n, "window", 1000..=HOUR, report),
        None => Some(WINDOW),
    };
    let least = match fields.get("least") {
        Some(n) => walk::integer(n, "least", 1..=RATE, report),
        None => Some(LEAST),
    };
    let webhook = fields.get("webhook").map(|n| url(n, "webhook", report));
    let command = fields.get("command").map(|n| command(n, report));
    let over = match (percent, rate) {
        (Some(bp), None) => bp.map(Over::Percent),
        (None, Some(n)) => n.map(Over::PerSecond),
        _ => {
            report.error(
                Draft::new(node.span, "an alarm is about one number")
                    .expected("exactly one of `percent`, `per-second`"),
            );
            None
        }
    };
    if let (Some((key, _)), Some(_)) = (fields.pair("least"), rate) {
        report.error(
            Draft::new(key.span, "`least` in an alarm by `per-second`")
                .help("remove it: it is for shares of few requests"),
        );
    }
    let most = match over? {
        Over::Percent(n) | Over::PerSecond(n) => n,
    };
    let clear = clear.unwrap_or(Some(most / 2))?;
    if let Some(n) = fields.get("clear").filter(|_| clear > most) {
        report.error(
            Draft::new(n.span, "`clear` is more than what raises the alarm").expected("at most the same"),
        );
        return None;
    }
    Some(Alarm {
        over: over?,
        clear,
        window_ms: window?,
        least: least?,
        webhook: webhook.map_or(Some(None), |w| w.map(Some))?,
        command: command.map_or(Some(None), |c| c.map(Some))?,
    })
}

const URL: &str = "a URL like http://alerts.example:8080/path";

/// Where something is asked or told.
pub(super) fn url(node: &Node<'_>, key: &str, report: &mut Report<'_>) -> Option<Webhook> {
    let text = line(node, key, URL, report, |t| t.bytes().all(|b| b.is_ascii_graphic()))?;
    let found = parse(&text);
    if found.is_none() {
        let help = text
            .starts_with("https://")
            .then_some("the agent speaks plain HTTP: let a relay of this node encrypt it, or use `command`");
        report.error(
            Draft::new(node.span, format!("`{key}` is {}", quoted(&text))).expected(URL).help_if(help),
        );
    }
    found
}

/// Neither user nor fragment: what a person writes into a policy is read by others.
fn parse(text: &str) -> Option<Webhook> {
    let rest = text.strip_prefix("http://")?;
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let path = if path.is_empty() { "/" } else { path };
    let (host, port) = match authority.strip_prefix('[') {
        Some(v6) => {
            let (host, port) = v6.split_once(']')?;
            let _: std::net::Ipv6Addr = host.parse().ok()?;
            (host, port.strip_prefix(':').or(port.is_empty().then_some("80"))?)
        }
        None => authority.split_once(':').unwrap_or((authority, "80")),
    };
    let named = |c: u8| c.is_ascii_alphanumeric() || b".-_:".contains(&c);
    let port: u16 = port.parse().ok().filter(|p| *p != 0)?;
    let ok = !host.is_empty() && host.bytes().all(named) && !path.contains(['#', '"', '<', '>', '\\']);
    ok.then(|| Webhook { host: host.to_owned(), port, path: path.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a3_where_a_webhook_goes() {
        for (text, want) in [
            ("http://alerts:8080/a?b=c", Some(("alerts", 8080, "/a?b=c"))),
            ("http://198.18.1.9", Some(("198.18.1.9", 80, "/"))),
            ("http://[fd00::9]:81/x", Some(("fd00::9", 81, "/x"))),
            ("http://[fd00::9]/x", Some(("fd00::9", 80, "/x"))),
            ("https://alerts/", None),
            ("http:///x", None),
            ("http://me:secret@alerts/", None),
            ("http://alerts:0/", None),
            ("http://a b/", None),
            ("http://[x]/", None),
            ("alerts", None),
        ] {
            let found = parse(text);
            let got = found.as_ref().map(|w| (w.host.as_str(), w.port, w.path.as_str()));
            assert_eq!(got, want, "{text}");
            if let Some(w) = found {
                assert_eq!(parse(&w.to_string()), Some(w), "{text}");
            }
        }
    }
}
