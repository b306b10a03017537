//! The hooks behind effects, and their names for people.

use super::{Hook, List, Spec, What, stage};

/// How many steps a list has.
pub(super) fn count(spec: &Spec, list: List) -> usize {
    if list == List::Data { spec.data.len() } else { hooks(spec, list).len() }
}

/// The step of a list with this number, from 0.
pub(super) fn hook(spec: &Spec, list: List, n: usize) -> Option<&Hook> {
    match list {
        List::Data => spec.data.get(n).map(|d| &d.hook),
        list => hooks(spec, list).get(n),
    }
}

fn hooks(spec: &Spec, list: List) -> &[Hook] {
    match list {
        // Of more than one kind.
        List::Data => &[],
        List::Deploy => &spec.deploy,
        List::Verify => &spec.verify,
        List::GrayVerify => &spec.gray_verify,
        List::Checks(stage) => spec.stages.get(stage).map_or(&[], |g| &g.checks),
        List::Align => &spec.align,
        List::Notify => &spec.notify,
    }
}

/// An effect for people: `deploy 1 of 2 (command deploy-shop 2.0)`.
pub(super) fn describe(spec: &Spec, what: &What) -> String {
    match hook_of(spec, what) {
        Some(h) => format!("{} ({h})", step_name(spec, what)),
        None => step_name(spec, what),
    }
}

/// The hook that an effect is about.
pub fn hook_of<'s>(spec: &'s Spec, what: &What) -> Option<&'s Hook> {
    match what {
        What::Traffic(_) | What::Close => None,
        What::Notify(n, _) => spec.notify.get(*n),
        What::Hook(list, n) => hook(spec, *list, *n),
    }
}

/// `deploy 1 of 2`, `data 2 of 5, clear`.
pub fn step_name(spec: &Spec, what: &What) -> String {
    let (list, n) = match what {
        What::Traffic(t) => return stage::share(spec, *t),
        What::Close => return "connections of gray".into(),
        What::Notify(n, _) => (List::Notify, *n),
        What::Hook(list, n) => (*list, *n),
    };
    let name = match list {
        List::Deploy => "deploy",
        List::Data => "data",
        List::Verify => "verify",
        List::GrayVerify => "gray-verify",
        List::Checks(_) => "check",
        List::Align => "align",
        List::Notify => "notification",
    };
    let of = spec.data.get(n).filter(|_| list == List::Data);
    let layer = of.map(|d| format!(", {}", d.layer.name())).unwrap_or_default();
    format!("{name} {} of {}{layer}", n + 1, count(spec, list))
}
