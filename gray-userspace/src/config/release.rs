//! Reads the document of a release. What it names in the policy is looked up when there is one.

use super::{
    Source, alarm, health, limits,
    report::{At, Draft, Report, Span, did_you_mean, quoted},
    selector,
    shape::{
        ALIGN, CHANGED_ROWS, DATA, DIALECTS, HOOK, RELEASE, RELEASED, SELECTOR, STAGE, TIMES, UNMEASURED,
        VERDICT,
    },
    tree::{self, Kind, Node},
    value::{self, percent_text},
    walk::{self, Fields},
};
use crate::{
    lint_sql::Dialect,
    model::{Policy, Webhook},
    release::{
        DataStep, Does, FEW, Hook, Kind as HookKind, Layer, Limit, Script, ServiceSpec, Spec, Stage,
        Strictness,
    },
};

#[cfg(any(test, feature = "fuzz"))]
pub(crate) mod fuzz;
mod hook;

const WEEK: u32 = 7 * 24 * 3_600_000;
const EVERY: u32 = 10_000;
/// Of a stage that says nothing of it.
const SAMPLES: u32 = 50;
const MOST_SAMPLES: u32 = 1_000_000_000;

/// Reads one release. With a policy: its services and cohorts must be there.
///
/// # Errors
/// All problems at once, sorted by place.
pub fn load_release(source: &Source, policy: Option<&Policy>) -> Result<Spec, super::Problems> {
    let sources = std::slice::from_ref(source);
    let mut report = Report::new(sources);
    let mut spec = None;
    if source.text.len() > limits::TEXT_BYTES {
        let at = Span { line: 1, column: 1, ..Span::default() };
        report.error(Draft::new(at, format!("the document is larger than {} MiB", limits::TEXT_BYTES >> 20)));
    } else if let Some(roots) = tree::parse(0, &source.text, &mut report) {
        let roots: Vec<_> = roots.iter().filter(|r| !matches!(r.kind, Kind::Null)).collect();
        match roots.as_slice() {
            [root] => spec = read(root, policy, &mut report),
            more => {
                let at = more.get(1).map_or(Span { line: 1, column: 1, ..Span::default() }, |n| n.span);
                let text = format!("the file holds {} documents", more.len());
                report.error(Draft::new(at, text).expected("one release"));
            }
        }
    }
    if spec.is_none() && report.errors() == 0 {
        let at = Span { line: 1, column: 1, ..Span::default() };
        report.error(Draft::new(at, "the release cannot be read"));
    }
    match (report.finish(), spec) {
        (Ok(_), Some(spec)) => Ok(spec),
        (Err(problems), _) => Err(problems),
        // There was an error above then.
        (Ok(_), None) => Err(super::Problems { errors: Vec::new(), warnings: Vec::new(), omitted: 0 }),
    }
}

fn read(root: &Node<'_>, policy: Option<&Policy>, report: &mut Report<'_>) -> Option<Spec> {
    let before = report.errors();
    let fields = Fields::open(root, &RELEASE, root.span, report)?;
    let name = fields.get("release").and_then(|n| name(n, report));
    let version = fields.get("version").and_then(|n| walk::meta(n, "version", report));
    let formal = fields.get("formal").and_then(|n| walk::meta(n, "formal", report));
    let numbers = version.and_then(|v| version_numbers(v, formal, report));
    let services = fields.get("services").map(|n| services(n, policy, report)).unwrap_or_default();
    let salt = fields.get("salt").and_then(|n| walk::meta(n, "salt", report));
    let testers = fields.get("testers").and_then(|n| cohort(n, "testers", policy, report));
    let irreversible = flag(&fields, "irreversible", report);
    let mut list = |key: &str| fields.get(key).map(|n| hook::list(n, key, report)).unwrap_or_default();
    let (deploy, verify) = (list("deploy"), list("verify"));
    let (gray_verify, notify) = (list("gray-verify"), list("notify"));
    let data = fields.get("data").map(|n| data(n, report)).unwrap_or_default();
    let gray_period_ms = time(&fields, "gray-period", 0..=WEEK, 0, report);
    let tested = fields.get("testers").is_some();
    let stages = fields.get("stages").map(|n| stages(n, tested, policy, report)).unwrap_or_default();
    let verdict = fields.get("verdict").map(|n| verdict(n, report)).unwrap_or_default();
    let (align_approval, align) = fields.get("align").map(|n| align(n, report)).unwrap_or_default();
    if report.errors() > before {
        return None;
    }
    let (name, (version, formal)) = (name?, numbers?);
    Some(Spec {
        salt: salt.map_or_else(|| name.clone(), |s| s.value),
        name,
        version,
        formal,
        services,
        testers,
        irreversible,
        deploy,
        data,
        verify,
        gray_verify,
        gray_period_ms: gray_period_ms?,
        stages,
        verdict,
        align_approval,
        align,
        notify,
    })
}

fn name(node: &Node<'_>, report: &mut Report<'_>) -> Option<String> {
    let text = walk::text(node, "`release`", value::NAME, report)?;
    let name = walk::name(text, node.span, report)?.value;
    if name.len() > limits::RELEASE_CHARS {
        let text = format!("the release's name has {} characters", name.len());
        report.error(Draft::new(node.span, text).expected(format!("at most {}", limits::RELEASE_CHARS)));
        return None;
    }
    Some(name)
}

/// A gray version has a number of its own: the formal one, `-gray.` and a number.
fn version_numbers(
    version: At<String>,
    formal: Option<At<String>>,
    report: &mut Report<'_>,
) -> Option<(String, String)> {
    const EXPECTED: &str = "the formal number, `-gray.` and a number, such as 2.0.0-gray.3";
    if formal.as_ref().is_some_and(|f| f.value == version.value) {
        report.error(
            Draft::new(
                version.span,
                format!("the gray version has the formal number {}", quoted(&version.value)),
            )
            .expected(EXPECTED)
            .help(format!("write {}-gray.1; the formal number is for what has passed", version.value)),
        );
        return None;
    }
    let of = version.value.rsplit_once("-gray.").filter(|(f, n)| {
        !f.is_empty() && !n.is_empty() && n.len() < 10 && n.bytes().all(|c| c.is_ascii_digit())
    });
    let Some((base, _)) = of else {
        report.error(
            Draft::new(version.span, format!("{} is no gray version number", quoted(&version.value)))
                .expected(EXPECTED)
                .help(format!("write {}-gray.1", version.value)),
        );
        return None;
    };
    if let Some(f) = formal.filter(|f| f.value != base) {
        let text = format!("{} is no gray version of {}", quoted(&version.value), quoted(&f.value));
        report.error(Draft::new(f.span, text).expected(base));
        return None;
    }
    Some((version.value.clone(), base.to_owned()))
}

fn services(node: &Node<'_>, policy: Option<&Policy>, report: &mut Report<'_>) -> Vec<ServiceSpec> {
    let Kind::Map(pairs) = &node.kind else {
        report.error(
            Draft::new(node.span, format!("`services` is {}", node.is()))
                .expected("a map from services to what is released: shop: { gray: { version: \"2.0\" } }"),
        );
        return Vec::new();
    };
    if pairs.is_empty() || pairs.len() > limits::RELEASED {
        let text = format!("a release of {} services", pairs.len());
        report.error(Draft::new(node.span, text).expected(format!("1 to {}", limits::RELEASED)));
    }
    let mut out = Vec::new();
    for (key, node) in pairs {
        let known = policy.map(|p| (p, p.service(&key.text)));
        if let Some((p, None)) = known {
            let names = || p.services.iter().map(|s| s.name.as_str());
            let all: Vec<_> = names().take(8).collect();
            report.error(
                Draft::new(key.span, format!("the policy in force has no service {}", quoted(&key.text)))
                    .expected(if all.is_empty() {
                        "a policy".into()
                    } else {
                        format!("one of {}", all.join(", "))
                    })
                    .help_if(did_you_mean(&key.text, names())),
            );
        }
        let Some(fields) = Fields::open(node, &RELEASED, key.span, report) else { continue };
        let Some(gray) = fields.get("gray").and_then(|n| selector::read(n, &SELECTOR, report)) else {
            continue;
        };
        if let Some((_, Some(s))) = known {
            if s.stable == gray.value {
                let text = format!("gray and stable of {} are the same: {}", quoted(&key.text), gray.value);
                report.error(Draft::new(gray.span, text).expected("the instances of another version"));
            } else if !s.instances.iter().any(|i| gray.value.matches(i)) {
                let help = selector::seen(&gray.value, &s.instances);
                report.error(selector::matches_nothing(gray.span, &gray.value, &key.text, help));
            }
        }
        out.push(ServiceSpec { name: key.text.to_string(), gray: gray.value });
    }
    out
}

fn cohort(node: &Node<'_>, key: &str, policy: Option<&Policy>, report: &mut Report<'_>) -> Option<String> {
    let text = walk::text(node, &format!("`{key}`"), value::NAME, report)?;
    let name = walk::name(text, node.span, report)?;
    if let Some(p) = policy.filter(|p| p.cohort(&name.value).is_none()) {
        report.error(super::cohort::unknown(&name, p.cohorts.iter().map(|c| c.name.as_str())));
        return None;
    }
    Some(name.value)
}

/// `tested`: there are testers, who are gray in all of them.
fn stages(node: &Node<'_>, tested: bool, policy: Option<&Policy>, report: &mut Report<'_>) -> Vec<Stage> {
    let Some(items) = walk::list(node, "`stages`", "stages", report) else { return Vec::new() };
    if items.is_empty() || items.len() > limits::STAGES {
        let text = format!("a ramp of {} stages", items.len());
        report.error(Draft::new(node.span, text).expected(format!("1 to {}", limits::STAGES)));
    }
    let mut out: Vec<Stage> = Vec::new();
    for item in items {
        let before = out.last().map_or(0, |s| s.basis_points);
        let somebody = tested || out.iter().any(|s| s.cohort.is_some());
        out.extend(stage(item, (before, somebody), policy, report));
    }
    // Everybody comes to gray by a stage that is measured, and not by the alignment behind it.
    if let (Some(node), Some(last)) = (items.last(), out.last())
        && out.len() == items.len()
        && u32::from(last.basis_points) < limits::FULL
    {
        let percent = percent_text(u32::from(last.basis_points));
        report.error(
            Draft::new(
                node.span,
                format!("the last stage has {percent} percent, and after it comes everybody"),
            )
            .expected("a last stage with `percent: 100`")
            .help("add one behind it, with time, samples and checks as the others"),
        );
    }
    out
}

/// What came before it: the percentage, and whether somebody is gray without one.
fn stage(
    node: &Node<'_>,
    (before, somebody): (u16, bool),
    policy: Option<&Policy>,
    report: &mut Report<'_>,
) -> Option<Stage> {
    let fields = Fields::open(node, &STAGE, node.span, report)?;
    let cohort = fields.get("cohort").and_then(|n| cohort(n, "cohort", policy, report));
    let percent = fields.get("percent").map(|n| (n, walk::percent(n, "percent", report)));
    if fields.get("cohort").is_none() && percent.is_none() {
        report
            .error(Draft::new(node.span, "a stage without clients").expected("`cohort`, `percent`, or both"));
    }
    if let Some((n, Some(bp))) = percent
        && bp < before
    {
        let (bp, before) = (percent_text(u32::from(bp)), percent_text(u32::from(before)));
        report.error(
            Draft::new(n.span, format!("{bp} percent after {before}"))
                .expected(format!("at least {before}: a ramp moves nobody out")),
        );
    }
    let samples = match fields.get("samples") {
        Some(n) => walk::integer(n, "samples", 0..=MOST_SAMPLES, report),
        None => Some(SAMPLES),
    };
    let nobody = !somebody && fields.get("cohort").is_none();
    if let (Some((n, Some(0))), Some(samples)) = (percent, samples)
        && nobody
        && samples > 0
    {
        report.error(
            Draft::new(n.span, format!("a stage of nobody waits for {samples} samples of gray for ever"))
                .expected("more than 0 percent, or a `cohort`")
                .help("or `samples: 0`: nothing is judged then"),
        );
    }
    let unmeasured =
        fields.get("unmeasured").and_then(|n| walk::word(n, "unmeasured", (UNMEASURED, &[]), report));
    let checks = fields.get("checks").map(|n| hook::list(n, "checks", report)).unwrap_or_default();
    let every = time(&fields, "every", 1000..=WEEK, EVERY, report);
    if let (Some((key, _)), true) =
        (fields.pair("every"), checks.is_empty() && fields.get("checks").is_none())
    {
        report.error(Draft::new(key.span, "`every` without `checks`").help("remove it, or add `checks`"));
    }
    let time_ms = time(&fields, "time", 0..=WEEK, 0, report);
    let approval = flag(&fields, "approval", report);
    Some(Stage {
        cohort,
        basis_points: percent.map_or(Some(before), |(_, bp)| bp)?,
        time_ms: time_ms?,
        samples: u64::from(samples?),
        unmeasured: unmeasured == Some(1),
        checks,
        every_ms: every?,
        approval,
    })
}

fn verdict(node: &Node<'_>, report: &mut Report<'_>) -> Strictness {
    let default = Strictness::default();
    let Some(fields) = Fields::open(node, &VERDICT, node.span, report) else { return default };
    let mut share = |key: &str, most: u16| {
        let node = fields.get(key)?;
        let bp = walk::percent(node, key, report)?;
        if (1..=most).contains(&bp) {
            return Some(f64::from(bp) / 10_000.0);
        }
        let text = format!("`{key}` is {} percent", percent_text(u32::from(bp)));
        let most = percent_text(u32::from(most));
        report.error(Draft::new(node.span, text).expected(format!("0.01 to {most} percent")));
        None
    };
    let (level, exclude) = (share("level", 5000), share("exclude-failures", 9900));
    let few = u32::try_from(FEW).unwrap_or(u32::MAX);
    let least = fields.get("least").and_then(|n| walk::integer(n, "least", few..=MOST_SAMPLES, report));
    Strictness {
        level: level.unwrap_or(default.level),
        exclude,
        least: least.map_or(default.least, u64::from),
        times: fields.get("times").and_then(|n| walk::word(n, "times", (TIMES, &[]), report)) != Some(1),
    }
}

/// However it is written, the order is that of the layers.
fn data(node: &Node<'_>, report: &mut Report<'_>) -> Vec<DataStep> {
    let Some(fields) = Fields::open(node, &DATA, node.span, report) else { return Vec::new() };
    let mut out = Vec::new();
    for layer in Layer::ALL {
        let steps = fields.get(layer.name()).map(|n| hook::list(n, layer.name(), report));
        out.extend(steps.into_iter().flatten().map(|hook| DataStep { layer, hook }));
    }
    out
}

fn align(node: &Node<'_>, report: &mut Report<'_>) -> (bool, Vec<Hook>) {
    let Some(fields) = Fields::open(node, &ALIGN, node.span, report) else { return Default::default() };
    let steps = fields.get("steps").map(|n| hook::list(n, "steps", report)).unwrap_or_default();
    (flag(&fields, "approval", report), steps)
}

fn flag(fields: &Fields<'_, '_>, key: &str, report: &mut Report<'_>) -> bool {
    fields.get(key).and_then(|n| walk::word(n, key, (&["true", "false"], &[]), report)) == Some(0)
}

fn time(
    fields: &Fields<'_, '_>,
    key: &str,
    range: std::ops::RangeInclusive<u32>,
    default: u32,
    report: &mut Report<'_>,
) -> Option<u32> {
    match fields.get(key) {
        Some(n) => walk::duration(n, key, range, report),
        None => Some(default),
    }
}

#[cfg(test)]
mod tests;
