//! `abi`: the layout that two gray versions share through pinned maps, compared with the file that was blessed.

use std::{fs, path::PathBuf};

use anyhow::{Context as _, Result, bail};
use gray_common::abi;

use crate::workspace::Workspace;

#[derive(clap::Args)]
pub struct Args {
    /// Write gray-common/abi.txt from the code
    #[arg(long)]
    bless: bool,
}

/// Lines of a difference that are worth reading.
const SHOWN: usize = 40;

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Same,
    /// The layout differs under the blessed number.
    NotBumped,
    /// The number differs: the file is to be written anew.
    NotBlessed,
}

pub fn run(ws: &Workspace, args: &Args) -> Result<()> {
    if !args.bless {
        check(ws)?;
        println!("abi {}: as blessed", abi::ABI);
        return Ok(());
    }
    let (text, path) = (abi::text(), file(ws));
    let blessed = fs::read_to_string(&path).unwrap_or_default();
    match judge(&blessed, &text) {
        Verdict::Same => println!("abi {}: {} is up to date", abi::ABI, ws.show(&path)),
        verdict => {
            fs::write(&path, &text).with_context(|| ws.show(&path))?;
            println!("abi {}: wrote {}", abi::ABI, ws.show(&path));
            if verdict == Verdict::NotBumped {
                println!("the number is the old one: right only while no release carries it");
            }
        }
    }
    Ok(())
}

/// Fails, with the difference, when the code's layout is not the blessed one.
pub fn check(ws: &Workspace) -> Result<()> {
    let (text, path) = (abi::text(), file(ws));
    let blessed = match fs::read_to_string(&path) {
        Ok(t) => t,
        Err(e) => bail!("{}: {e}; run cargo xtask abi --bless", ws.show(&path)),
    };
    let advice = match judge(&blessed, &text) {
        Verdict::Same => return Ok(()),
        Verdict::NotBumped => "bump ABI in gray-common/src/abi.rs and run cargo xtask abi --bless",
        Verdict::NotBlessed => "run cargo xtask abi --bless",
    };
    bail!("the kernel ABI is not the one in {}: {advice}\n{}", ws.show(&path), difference(&blessed, &text))
}

fn file(ws: &Workspace) -> PathBuf {
    ws.root.join("gray-common/abi.txt")
}

/// Both texts start with the line `abi N`.
fn judge(blessed: &str, text: &str) -> Verdict {
    if blessed == text {
        Verdict::Same
    } else if blessed.lines().next() == text.lines().next() {
        Verdict::NotBumped
    } else {
        Verdict::NotBlessed
    }
}

/// The lines that differ, in order: a diff without context, by the longest common subsequence.
fn difference(old: &str, new: &str) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    // common[i][j]: length of the longest common subsequence of old[i..] and new[j..]. A few hundred lines a side.
    let mut common = vec![vec![0u32; new.len() + 1]; old.len() + 1];
    for i in (0..old.len()).rev() {
        for j in (0..new.len()).rev() {
            common[i][j] = if old[i] == new[j] {
                common[i + 1][j + 1] + 1
            } else {
                common[i + 1][j].max(common[i][j + 1])
            };
        }
    }
    let (mut i, mut j, mut lines) = (0, 0, Vec::new());
    while i < old.len() || j < new.len() {
        if i < old.len() && j < new.len() && old[i] == new[j] {
            (i, j) = (i + 1, j + 1);
        } else if i < old.len() && (j == new.len() || common[i + 1][j] >= common[i][j + 1]) {
            lines.push(format!("- {}", old[i]));
            i += 1;
        } else {
            lines.push(format!("+ {}", new[j]));
            j += 1;
        }
    }
    let more = lines.len().saturating_sub(SHOWN);
    lines.truncate(SHOWN);
    if more > 0 {
        lines.push(format!("... {more} more lines"));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "abi 1\nstruct A size 8\n  0 x: u64\nend\n";

    #[test]
    fn a_changed_layout_wants_a_new_number() {
        assert_eq!(judge(OLD, OLD), Verdict::Same);
        assert_eq!(judge(OLD, &OLD.replace("u64", "i64")), Verdict::NotBumped);
        assert_eq!(judge(OLD, &OLD.replace("abi 1", "abi 2")), Verdict::NotBlessed);
        assert_eq!(judge("", OLD), Verdict::NotBlessed);
    }

    #[test]
    fn the_difference_shows_changed_lines_only() {
        assert_eq!(difference(OLD, &OLD.replace("u64", "i64")), "-   0 x: u64\n+   0 x: i64");
        assert_eq!(difference(OLD, &format!("{OLD}more\n")), "+ more");
        assert_eq!(difference("a\nb\na\n", "b\na\nc\n"), "- a\n+ c");
        assert_eq!(difference(OLD, OLD), "");
    }

    #[test]
    fn the_text_starts_with_the_number() {
        assert_eq!(abi::text().lines().next(), Some(format!("abi {}", abi::ABI).as_str()));
    }
}
