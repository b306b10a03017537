//! Cohorts that are made of others: none of itself, none too large; and what is asked by way of them.

use std::collections::{HashMap, HashSet};

use super::{
    check::Drafts,
    cohort::CohortDraft,
    condition::Asked,
    limits,
    report::{At, Draft, Report, quoted},
};
use crate::model::{CohortBody, Condition};

/// What the cohorts ask that are made of others, by name.
pub(super) type Through<'d> = HashMap<&'d str, &'d Asked>;

pub(super) fn through(drafts: &Drafts) -> Through<'_> {
    drafts.cohorts.iter().filter_map(of_others).map(|(c, _)| (c.name.value.as_str(), &c.asked)).collect()
}

/// What `asked` asks, and what those cohorts ask that it names, and so on: each cohort's once.
pub(super) fn reached<'d>(asked: &'d Asked, through: &Through<'d>) -> Vec<&'d Asked> {
    let (mut out, mut seen, mut at) = (vec![asked], HashSet::new(), 0);
    while let Some(next) = out.get(at).copied() {
        let more = next.cohorts.iter().map(|c| c.value.as_str()).filter(|name| seen.insert(*name));
        out.extend(more.filter_map(|name| through.get(name).copied()).collect::<Vec<_>>());
        at += 1;
    }
    out
}

fn of_others(c: &CohortDraft) -> Option<(&CohortDraft, &Condition)> {
    match c.body.as_ref()? {
        CohortBody::Joined(of) => Some((c, of)),
        _ => None,
    }
}

/// After the names in them were looked up. No recursion from cohort to cohort: a document may have a million of them.
pub(super) fn check(drafts: &Drafts, report: &mut Report<'_>) {
    let all: Vec<_> = drafts.cohorts.iter().filter_map(of_others).collect();
    let at: HashMap<&str, usize> =
        all.iter().zip(0..).map(|((c, _), i)| (c.name.value.as_str(), i)).collect();
    let mut parts: Vec<Vec<usize>> = Vec::with_capacity(all.len());
    let mut users: Vec<Vec<usize>> = vec![Vec::new(); all.len()];
    for (i, (c, _)) in all.iter().enumerate() {
        let mut of: Vec<usize> =
            c.asked.cohorts.iter().filter_map(|n| at.get(n.value.as_str()).copied()).collect();
        of.sort_unstable();
        of.dedup();
        of.iter().for_each(|part| users[*part].push(i));
        parts.push(of);
    }
    // Those first that are made of none that is left.
    let mut left: Vec<usize> = parts.iter().map(Vec::len).collect();
    let mut ready: Vec<usize> = (0..all.len()).filter(|i| left[*i] == 0).collect();
    let mut sizes: Vec<Option<usize>> = vec![None; all.len()];
    let size_of =
        |sizes: &[Option<usize>], name: &str| at.get(name).map_or(Some(1), |i| sizes[*i]).unwrap_or(1);
    while let Some(i) = ready.pop() {
        let (c, of) = all[i];
        let n = size(of, &|name| size_of(&sizes, name));
        // What is made of one that is too large is not told, too.
        if n > limits::COHORT_PARTS && parts[i].iter().all(|p| sizes[*p] <= Some(limits::COHORT_PARTS)) {
            too_much(&c.name, &format!("cohort {}", quoted(&c.name.value)), limits::COHORT_PARTS, report);
        }
        sizes[i] = Some(n);
        for user in &users[i] {
            left[*user] -= 1;
            if left[*user] == 0 {
                ready.push(*user);
            }
        }
    }
    circles(&all, &parts, &sizes, report);
    let accepts = drafts.services.iter().flat_map(|s| &s.accept).map(|a| &a.from);
    for when in drafts.routes.iter().filter_map(|r| r.when.as_ref()).chain(accepts) {
        let n = size(&when.value, &|name| match size_of(&sizes, name) {
            n if n <= limits::COHORT_PARTS => n,
            // It was refused itself.
            _ => 1,
        });
        if n > limits::CONDITION_PARTS {
            too_much(when, "the condition", limits::CONDITION_PARTS, report);
        }
    }
}

fn too_much<T>(at: &At<T>, what: &str, most: usize, report: &mut Report<'_>) {
    report.error(
        Draft::new(at.span, format!("{what} is made of too much"))
            .expected(format!("at most {most} parts, with those of the cohorts that it names"))
            .help("a list holds any number of clients: name them in one"),
    );
}

/// Of those without a size each is in a circle, or leads to one: tells of each circle once.
fn circles(
    all: &[(&CohortDraft, &Condition)],
    parts: &[Vec<usize>],
    sizes: &[Option<usize>],
    report: &mut Report<'_>,
) {
    let next = |i: usize| parts[i].iter().copied().find(|p| sizes[*p].is_none());
    // In which walk it was met.
    let mut met: Vec<Option<usize>> = vec![None; all.len()];
    for start in (0..all.len()).filter(|i| sizes[*i].is_none()) {
        let (mut path, mut i) = (Vec::new(), start);
        while met[i].is_none() {
            met[i] = Some(start);
            path.push(i);
            let Some(part) = next(i) else { break };
            i = part;
        }
        if met[i] != Some(start) {
            continue;
        }
        let Some(from) = path.iter().position(|p| *p == i) else { continue };
        let circle = &path[from..];
        let (c, _) = all[*circle.iter().min().unwrap_or(&i)];
        let names: Vec<&str> =
            circle.iter().chain([&i]).take(9).map(|i| all[*i].0.name.value.as_str()).collect();
        let text = format!("cohort {} is made of itself: {}", quoted(&c.name.value), names.join(" of "));
        report.error(Draft::new(c.name.span, text).help("remove one of them from the other"));
    }
}

/// Parts, written out: each `all`, `any`, `not`, claim, lane and other cohort is one. Saturates.
fn size(c: &Condition, of: &impl Fn(&str) -> usize) -> usize {
    let parts: &[Condition] = match c {
        Condition::Cohort(name) => return of(name),
        Condition::Claim { .. } | Condition::Lane(_) | Condition::Caller(_) => &[],
        Condition::All(parts) | Condition::Any(parts) => parts,
        Condition::Not(inner) => std::slice::from_ref(&**inner),
    };
    parts.iter().fold(1, |sum: usize, part| sum.saturating_add(size(part, of)))
}
