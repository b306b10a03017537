//! `abi`: the layout that two gray versions share through pinned maps, compared with the file that was blessed.

use std::{fmt::Write as _, fs, path::PathBuf};

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

/// The lines between the common start and the common end, old ones first.
fn difference(old: &str, new: &str) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    let shorter = old.len().min(new.len());
    let head = (0..shorter).take_while(|i| old[*i] == new[*i]).count();
    let tail = (1..=shorter - head).take_while(|i| old[old.len() - i] == new[new.len() - i]).count();
    let lines = old[head..old.len() - tail].iter().map(|l| ('-', l));
    let lines: Vec<_> = lines.chain(new[head..new.len() - tail].iter().map(|l| ('+', l))).collect();
    let mut out = String::new();
    for (sign, line) in lines.iter().take(SHOWN) {
        let _ = writeln!(out, "{sign} {line}");
    }
    if lines.len() > SHOWN {
        let _ = writeln!(out, "... {} more lines", lines.len() - SHOWN);
    }
    out
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
        assert_eq!(difference(OLD, &OLD.replace("u64", "i64")), "-   0 x: u64\n+   0 x: i64\n");
        assert_eq!(difference(OLD, &format!("{OLD}more\n")), "+ more\n");
        assert_eq!(difference("a\na\n", "a\n"), "- a\n");
        assert_eq!(difference(OLD, OLD), "");
    }

    #[test]
    fn the_text_starts_with_the_number() {
        assert_eq!(abi::text().lines().next(), Some(format!("abi {}", abi::ABI).as_str()));
    }
}
