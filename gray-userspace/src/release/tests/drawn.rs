//! What docs/releases.md draws and says of states and commands is what the table says.

use std::collections::BTreeSet;

use super::{
    table::{COLUMNS, TABLE},
    *,
};

const DOCS: &str = include_str!("../../../../docs/releases.md");

fn machine() -> &'static str {
    let (_, rest) = DOCS.split_once("## The machine").unwrap();
    rest.split_once("\n## ").unwrap().0
}

fn drawing() -> &'static str {
    machine().split("```").nth(1).unwrap().strip_prefix("text").unwrap()
}

fn phases() -> BTreeSet<&'static str> {
    Phase::ALL.into_iter().map(Phase::name).collect()
}

/// The words in backticks.
fn named(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

/// A state of the table as the document names it: every stage is `ramp`.
fn plain(state: &str) -> &str {
    if state.starts_with("ramp") { "ramp" } else { state }
}

#[test]
fn f1_f7_the_drawing_is_the_machine() {
    // The way of a release that goes well, in the drawing's order.
    let way: Vec<&str> =
        drawing().lines().find(|l| l.contains("->")).unwrap().split(" -> ").map(str::trim).collect();
    assert_eq!((way.first(), way.last()), (Some(&"requested"), Some(&"closed")));
    assert_eq!(State::new(1000).name(), "requested");
    let mut run = Run::new(spec());
    for name in way[1..way.len() - 1].iter().copied() {
        run.until(if name == "ramp 1 .. ramp m" { "ramp 3" } else { name });
    }
    run.verb(Verb::Close).unwrap();
    run.end(Outcome::Pass);
    assert_eq!(run.s.name(), "closed");
    // All that there is, and nothing else.
    let words: BTreeSet<&str> = drawing().split(|c: char| !c.is_alphanumeric() && c != '-').collect();
    for phase in phases() {
        assert!(words.contains(phase), "{phase} is not drawn");
    }
    // Each command of the states that wait for one, with what it leads to.
    let mut drawn = BTreeSet::new();
    for line in drawing().lines() {
        for verb in ["retry", "resume", "close"] {
            for (_, to) in line.match_indices(verb).filter_map(|(i, _)| line[i..].split_once(": ")) {
                let to = to.split("  ").next().unwrap().trim_end_matches(['|', ' ']);
                let _ = drawn.insert((verb, to));
            }
        }
    }
    let mut want = BTreeSet::new();
    for (state, row) in TABLE.iter().filter(|(s, _)| ["stopped", "abnormal"].contains(s)) {
        for (column, to) in
            COLUMNS.iter().zip(row).filter(|(c, to)| ["retry", "resume", "close"].contains(c) && **to != "-")
        {
            assert!(drawing().contains(&format!("{column}: {to}")), "{column} in {state}");
            let _ = want.insert((*column, *to));
        }
    }
    assert_eq!(drawn, want);
}

#[test]
fn f1_the_states_that_are_described_are_all_there_are() {
    let described = machine().lines().filter(|l| l.starts_with("| `") && l.matches('|').count() == 5);
    let names: BTreeSet<&str> =
        described.flat_map(|l| named(l.split('|').nth(1).unwrap())).map(plain).collect();
    assert_eq!(names, phases());
}

#[test]
fn f7_the_commands_are_taken_where_the_document_says() {
    let order = Phase::ALL.map(Phase::name);
    let rows = machine().lines().filter(|l| l.starts_with("| `") && l.matches('|').count() == 3);
    let mut verbs = BTreeSet::new();
    for line in rows {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        // What comes behind is about what it does.
        let said = cells[2].split([';', ':']).next().unwrap();
        let states: Vec<&str> = named(said);
        let mut told: BTreeSet<&str> = match said {
            s if s.contains("everywhere but") => {
                phases().into_iter().filter(|p| !states.contains(p)).collect()
            }
            s if s.contains("` to `") => {
                let at = |name| order.iter().position(|p| *p == name).unwrap();
                order[at(states[0])..=at(states[1])].iter().copied().collect()
            }
            s if s.starts_with("a stage that waits") => BTreeSet::from(["ramp"]),
            _ => states.iter().copied().collect(),
        };
        for held in ["paused", "frozen"] {
            let (mut takes, all) = (0, TABLE.iter().filter(|(s, _)| s.starts_with(held)).count());
            if told.remove(held) {
                let column = COLUMNS.iter().position(|c| *c == "resume").unwrap();
                takes += TABLE.iter().filter(|(s, row)| s.starts_with(held) && row[column] != "-").count();
                assert_eq!(takes, all, "{line}");
            }
        }
        for verb in named(cells[1]).into_iter().map(|v| v.split(' ').next().unwrap()) {
            assert!(verbs.insert(verb));
            let column = COLUMNS.iter().position(|c| *c == verb).unwrap();
            let free = TABLE.iter().filter(|(s, _)| !s.contains('('));
            let takes: BTreeSet<&str> =
                free.filter(|(_, row)| row[column] != "-").map(|(s, _)| plain(s)).collect();
            assert_eq!(takes, told, "{verb}: {line}");
        }
    }
    let all: BTreeSet<&str> = Verb::ALL.into_iter().map(Verb::name).collect();
    assert_eq!(verbs, all);
}
