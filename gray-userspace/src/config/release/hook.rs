//! Reads one step of a release.

use super::*;

const TIMEOUT: u32 = 60_000;
const BACKOFF: u32 = 1000;
const STATUS: (u16, u16) = (200, 399);
const UNIT: &str = "a service such as shop-2.0.service";

/// Keys that one kind of step has, and no other.
const OF_KIND: [(&str, &str); 10] = [
    ("dir", "command"),
    ("secret", "webhook"),
    ("status", "http"),
    ("query", "prometheus"),
    ("below", "prometheus"),
    ("above", "prometheus"),
    ("dialect", "script"),
    ("rules", "script"),
    ("run", "script"),
    ("changed-rows", "script"),
];
const FILE: &str = "the name of a file in the agent's --release-hooks directory";

/// What a list of this key may hold.
fn kinds(list: &str) -> &'static [HookKind] {
    use HookKind::*;
    match list {
        "notify" => &[Command, Webhook],
        "script" => &[Script],
        _ => &[Command, Webhook, Unit, Http, Prometheus],
    }
}

pub(super) fn list(node: &Node<'_>, key: &str, report: &mut Report<'_>) -> Vec<Hook> {
    let Some(items) = walk::list(node, &format!("`{key}`"), "steps", report) else { return Vec::new() };
    if items.len() > limits::HOOKS {
        let text = format!("`{key}` has {} steps", items.len());
        report.error(Draft::new(node.span, text).expected(format!("at most {}", limits::HOOKS)));
    }
    items.iter().filter_map(|item| read(item, key, report)).collect()
}

fn read(node: &Node<'_>, list: &str, report: &mut Report<'_>) -> Option<Hook> {
    let before = report.errors();
    let fields = Fields::open(node, &HOOK, node.span, report)?;
    let given: Vec<_> = HookKind::ALL.into_iter().filter_map(|k| Some((k, fields.pair(k.name())?))).collect();
    let may = kinds(list);
    let kinds = may.iter().map(|k| k.name()).collect::<Vec<_>>();
    let kinds = if list == "notify" { kinds.join(" or ") } else { kinds.join(", ") };
    match given.as_slice() {
        [_] => {}
        [] if report.errors() > before => {}
        [] => report.error(Draft::new(node.span, "a step that does nothing").expected(match may {
            [one] => one.name().to_owned(),
            _ => format!("one of {kinds}"),
        })),
        [_, (_, (key, _)), ..] => {
            let text = format!("a step with {} of {kinds}", given.len());
            report.error(Draft::new(key.span, text).expected("exactly one").help("make two steps of it"));
        }
    }
    let kind = given.first().map(|(k, _)| *k);
    for (key, of) in OF_KIND {
        if let (Some((k, _)), Some(kind)) = (fields.pair(key), kind)
            && kind.name() != of
        {
            let text = format!("`{key}` in a step by {}", kind.name());
            report.error(Draft::new(k.span, text).help(format!("remove it: it belongs to `{of}`")));
        }
    }
    if let Some((kind, (key, _))) = given.first()
        && !may.contains(kind)
    {
        let what = if list == "notify" { "as a notification".into() } else { format!("under `{list}`") };
        let draft = Draft::new(key.span, format!("{} {what}", kind.name())).expected(kinds);
        let scripts = "database scripts stand under `data: script`";
        report.error(if *kind == HookKind::Script { draft.help(scripts) } else { draft });
    }
    let timeout = time(&fields, "timeout", 10..=WEEK, TIMEOUT, report);
    let backoff = time(&fields, "backoff", 100..=600_000, BACKOFF, report);
    let retries = match fields.get("retries") {
        Some(n) => walk::integer(n, "retries", 0..=100, report),
        None => Some(0),
    };
    let does = does(kind?, &fields, node.span, report);
    (report.errors() == before).then_some(())?;
    Some(Hook { does: does?, timeout_ms: timeout?, retries: retries?, backoff_ms: backoff? })
}

fn does(kind: HookKind, fields: &Fields<'_, '_>, at: Span, report: &mut Report<'_>) -> Option<Does> {
    let mut url = |key| fields.get(key).and_then(|n| alarm::url(n, key, report)) as Option<Webhook>;
    Some(match kind {
        HookKind::Command => {
            let words = fields.get("command").and_then(|n| health::command(n, report));
            let dir = fields.get("dir").map(|n| {
                let expected = "a directory such as /srv/shop";
                health::line(n, "dir", expected, report, |t| t.starts_with('/'))
            });
            Does::Command { words: words?, dir: dir.map_or(Some(None), |d| d.map(Some))? }
        }
        HookKind::Webhook => {
            let url = url("webhook");
            let secret = fields.get("secret").map(|n| {
                let text = walk::text(n, "`secret`", value::NAME, report)?;
                walk::name(text, n.span, report)
            });
            let secret = secret.map_or(Some(None), |s| s.map(|s| Some(s.value)));
            Does::Webhook { url: url?, secret: secret? }
        }
        HookKind::Unit => {
            let plain = |t: &str| {
                let name = |c: u8| c.is_ascii_alphanumeric() || b":_.@-\\".contains(&c);
                t.ends_with(".service") && !t.starts_with('-') && t.bytes().all(name)
            };
            Does::Unit(fields.get("unit").and_then(|n| health::line(n, "unit", UNIT, report, plain))?)
        }
        HookKind::Http => {
            let url = url("http");
            let status = match fields.get("status") {
                Some(n) => health::statuses(n, report),
                None => Some(STATUS),
            };
            Does::Http { url: url?, status: status? }
        }
        HookKind::Prometheus => {
            let url = url("prometheus");
            let query = fields
                .get("query")
                .map(|n| health::line(n, "query", "a query such as sum(rate(errors[1m]))", report, |_| true));
            if query.is_none() {
                report.error(Draft::new(at, "a step by prometheus needs `query`"));
            }
            let limit = limit(fields, at, report);
            Does::Prometheus { url: url?, query: query.flatten()?, limit: limit? }
        }
        HookKind::Script => Does::Script(script(fields, at, report)?),
    })
}

fn script(fields: &Fields<'_, '_>, at: Span, report: &mut Report<'_>) -> Option<Script> {
    let mut file = |key: &str| {
        let plain = |t: &str| !t.contains('/') && !t.starts_with('.');
        fields.get(key).map(|n| health::line(n, key, FILE, report, plain))
    };
    let (name, rules) = (file("script").flatten(), file("rules"));
    let dialect = fields.get("dialect").map(|n| walk::word(n, "dialect", (DIALECTS, &[]), report));
    let run = fields.get("run").map(|n| health::words(n, "run", report));
    let rows = fields
        .get("changed-rows")
        .map_or(Some(0), |n| walk::word(n, "changed-rows", (CHANGED_ROWS, &[]), report));
    for (key, missing) in [("dialect", dialect.is_none()), ("run", run.is_none())] {
        if missing {
            report.error(Draft::new(at, format!("a script needs `{key}`")));
        }
    }
    let dialect = dialect.flatten().map(|n| if n == 0 { Dialect::Mysql } else { Dialect::Postgres });
    Some(Script {
        file: name?,
        dialect: dialect?,
        rules: rules.map_or(Some(None), |r| r.map(Some))?,
        rows_may_stay: rows? == 1,
        run: run.flatten()?,
    })
}

fn limit(fields: &Fields<'_, '_>, at: Span, report: &mut Report<'_>) -> Option<Limit> {
    let mut number = |key: &str| {
        let node = fields.get(key)?;
        let text = walk::number(node, &format!("`{key}`"), "a number", report)?;
        let n = text.parse::<f64>().ok().filter(|n| n.is_finite());
        if n.is_none() {
            report.error(Draft::new(node.span, format!("`{key}` is {}", quoted(text))).expected("a number"));
        }
        n
    };
    let (below, above) = (number("below"), number("above"));
    match (fields.get("below").is_some(), fields.get("above").is_some()) {
        (true, false) => below.map(Limit::Below),
        (false, true) => above.map(Limit::Above),
        _ => {
            let text = "a step by prometheus holds its number against one limit";
            report.error(Draft::new(at, text).expected("exactly one of below, above"));
            None
        }
    }
}
