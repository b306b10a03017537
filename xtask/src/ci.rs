//! `ci`: what CI runs, in CI's order; there is nothing that only CI does.

use anyhow::Result;

use crate::{lint, test, workspace::Workspace};

pub fn run(ws: &Workspace) -> Result<()> {
    lint::run(ws)?;
    test::run(ws, &test::Args::default())
}
