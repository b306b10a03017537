//! `gray lint-sql`: a database script against the version that is still running, in this process, with no agent.

use std::{fs, io::Write, path::PathBuf};

use clap::Args;

use super::{
    Failure,
    args::Format,
    ctx::Ctx,
    failure::REFUSED,
    table::{Cell, Paint, Style, Table},
    text::count,
};
use crate::{
    api::types::{Problem, script_problems},
    lint_sql::{Dialect, Kind, Level, Levels, Report, lint},
};

#[derive(Debug, Args)]
#[command(after_help = "\
Splits the script into DDL and DML, and judges each statement by what it does to a version that is still running. What cannot be
judged is refused. Exit code 3 when a statement is refused; warnings alone are fine. docs/lint-sql.md lists the rules.

Examples:
  gray lint-sql release.sql --dialect postgres
  gray lint-sql release.sql --dialect mysql --rules rules.yaml
  gray lint-sql release.sql --dialect mysql -o json | jq .ddl_reversible
  cat 1.sql 2.sql | gray lint-sql - --dialect postgres")]
pub struct LintSqlArgs {
    /// The script; `-` is standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Whose SQL it is
    #[arg(long, value_name = "DIALECT")]
    dialect: Dialect,
    /// A file of levels of rules, as `rules: { drop-index: warn }`
    #[arg(long, value_name = "FILE")]
    rules: Option<PathBuf>,
}

pub fn run(args: &LintSqlArgs, ctx: &mut Ctx<'_>) -> Result<(), Failure> {
    let levels = args.rules.as_ref().map_or(Ok(Levels::default()), levels)?;
    let file = args.file.display().to_string();
    let script = String::from_utf8(ctx.read(&args.file)?).map_err(|e| {
        let before = &e.as_bytes()[..e.utf8_error().valid_up_to()];
        let line = before.iter().filter(|b| **b == b'\n').count() + 1;
        Failure::new(REFUSED, format!("{file}:{line}: not UTF-8"), "convert it, so that it can be judged")
    })?;
    let report = lint(&script, args.dialect, &levels);
    ctx.show(&report, table)?;
    let table = ctx.format == Format::Table;
    if table {
        for p in script_problems(&report, &file, Level::Warn) {
            write!(ctx.io.err, "{}", p.render("warning"))?;
        }
    }
    if report.level < Level::Refuse {
        return Ok(());
    }
    let what = format!("{file}: {} refused", count(report.refused as u64, "statement"));
    let failure =
        Failure::new(REFUSED, what, "change them as told, or set rules that do not matter here by --rules");
    Err(Failure {
        problems: if table { script_problems(&report, &file, Level::Refuse) } else { Vec::new() },
        ..failure
    })
}

fn levels(path: &PathBuf) -> Result<Levels, Failure> {
    let text = fs::read_to_string(path).map_err(|e| Failure::file("read", path, &e))?;
    Levels::parse(&text).map_err(|wrong| {
        let problem = |w: &crate::lint_sql::Wrong| Problem {
            file: Some(path.display().to_string()),
            line: Some(w.line),
            column: Some(w.column),
            help: Some(w.help.clone()),
            ..Problem::note(&w.what)
        };
        let what = format!("{} has {}", path.display(), count(wrong.len() as u64, "problem"));
        let failure = Failure::usage(what, "docs/lint-sql.md lists the rules and their levels");
        Failure { problems: wrong.iter().map(problem).collect(), ..failure }
    })
}

fn table(report: &Report, paint: Paint) -> String {
    let mut t = Table::new(&["LINE", "KIND", "RESULT", "UNDO", "RULE", "STATEMENT"]);
    for s in &report.statements {
        let style = match s.level {
            Level::Ok => Style::Good,
            Level::Warn => Style::Warn,
            Level::Refuse => Style::Bad,
        };
        let kind = match s.kind {
            Kind::Ddl => "ddl",
            Kind::Dml => "dml",
            Kind::Control => "control",
            Kind::Unknown => "unknown",
        };
        let mut rules: Vec<&str> = s.findings.iter().map(|f| f.rule.as_str()).collect();
        rules.dedup();
        let short: String = s.statement.chars().take(60).collect();
        t.row([
            s.line.into(),
            kind.into(),
            Cell::styled(style, s.level.name()),
            if s.reversible { "yes" } else { "no" }.into(),
            rules.join(", ").into(),
            short.into(),
        ]);
    }
    t.render(paint, "statements")
}
