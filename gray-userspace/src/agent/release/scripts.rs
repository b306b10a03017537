//! Scripts of the data plan: read from the directory of hooks, judged before a release starts (G1), and the same when they run.

use std::path::Path;

use sha2::{Digest as _, Sha256};

use crate::{
    agent::health::plain,
    api::{ApiError, ErrorKind, types::script_problems},
    lint_sql::{Level, Levels, Report, lint},
    release::{Script, Spec, State},
};

/// Larger ones are for a step of one's own.
const MOST: u64 = 4 << 20;

/// A file that nobody else may change.
pub fn read(dir: &Path, name: &str) -> Result<String, String> {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
    let path = dir.join(name);
    let told = |e: &std::io::Error| format!("{}: {}", path.display(), plain(e));
    let meta = std::fs::metadata(&path).map_err(|e| told(&e))?;
    let ours = meta.uid() == 0 || meta.uid() == rustix::process::geteuid().as_raw();
    match () {
        () if !meta.is_file() => return Err(format!("{} is no file", path.display())),
        () if meta.permissions().mode() & 0o022 != 0 || !ours => {
            return Err(format!("{} may be changed by others", path.display()));
        }
        () if meta.len() > MOST => {
            return Err(format!("{} is larger than {} MiB", path.display(), MOST >> 20));
        }
        () => {}
    }
    let bytes = std::fs::read(&path).map_err(|e| told(&e))?;
    String::from_utf8(bytes).map_err(|_| format!("{} is not UTF-8", path.display()))
}

/// What tells two texts apart.
pub fn digest(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().map(|b| format!("{b:02x}")).collect()
}

/// Judges every script of a release, remembers what was judged, and whether it can be undone. One line for the history of each.
pub fn judge(dir: Option<&Path>, spec: &Spec, state: &mut State) -> Result<Vec<String>, ApiError> {
    let (mut told, mut problems) = (Vec::new(), Vec::new());
    for script in spec.scripts() {
        let Some(dir) = dir else { break };
        let (text, levels) = open(dir, script)?;
        let report = lint(&text, script.dialect, &levels);
        problems.extend(script_problems(&report, &script.file, Level::Refuse));
        let _ = state.scripts.insert(script.file.clone(), digest(&text));
        let (freezes, undo) = undo(script, &report);
        state.irreversible |= freezes;
        told.push(format!(
            "{}: {} definitions, {} changes of rows, {} warnings{undo}",
            script.file, report.ddl, report.dml, report.warned
        ));
    }
    if problems.is_empty() {
        return Ok(told);
    }
    let text = match problems.len() {
        1 => "a statement of the release's scripts is refused".into(),
        n => format!("{n} statements of the release's scripts are refused"),
    };
    let help = "nothing was started; change them as told (`gray lint-sql` judges without a release)";
    Err(ApiError { problems, ..ApiError::new(ErrorKind::Invalid, text, help) })
}

/// Whether what is bad freezes the release, and the words for it.
fn undo(script: &Script, report: &Report) -> (bool, &'static str) {
    match (report.ddl_reversible, report.reversible, script.rows_may_stay) {
        (_, true, _) => (false, ""),
        (false, ..) => (true, "; it cannot be undone: what is bad freezes the release"),
        (true, false, false) => {
            (true, "; what it changes of rows cannot be undone: what is bad freezes the release")
        }
        (true, false, true) => {
            (false, "; what it changes of rows cannot be undone, which the release allows")
        }
    }
}

fn open(dir: &Path, script: &Script) -> Result<(String, Levels), ApiError> {
    let wrong = |what: String| {
        let help = "nothing was started; put it right first";
        ApiError::new(ErrorKind::Invalid, format!("the script cannot be judged: {what}"), help)
    };
    let text = read(dir, &script.file).map_err(wrong)?;
    let Some(rules) = &script.rules else { return Ok((text, Levels::default())) };
    let levels = Levels::parse(&read(dir, rules).map_err(wrong)?).map_err(|all| {
        let all: Vec<_> = all.iter().map(|w| format!("{rules}:{}: {}", w.line, w.what)).collect();
        wrong(all.join("; "))
    })?;
    Ok((text, levels))
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;

    #[test]
    fn g2_what_cannot_be_undone_freezes_be_it_rows_or_definitions() {
        use crate::lint_sql::Dialect;
        for (text, rows_may_stay, freezes) in [
            ("alter table t add column c text;", false, false),
            ("update t set c = 1 where id = 7;", false, true),
            ("update t set c = 1 where id = 7;", true, false),
            ("delete from t where id = 7;", false, true),
            ("insert into t (id) values (7);", false, false),
            // Definitions all the same.
            ("alter type mood add value 'meh';", true, true),
        ] {
            let run = vec!["run-sql".into()];
            let (file, dialect) = ("a.sql".into(), Dialect::Postgres);
            let script = Script { file, dialect, rules: None, rows_may_stay, run };
            let report = lint(text, Dialect::Postgres, &Levels::default());
            assert_eq!(undo(&script, &report).0, freezes, "{text} {rows_may_stay}");
            assert_eq!(undo(&script, &report).1.is_empty(), report.reversible, "{text}");
        }
    }

    #[test]
    fn g1_only_what_others_cannot_change_is_judged() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.sql");
        fs::write(&path, "select 1;").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(read(dir.path(), "a.sql").as_deref(), Ok("select 1;"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
        assert!(read(dir.path(), "a.sql").unwrap_err().contains("may be changed by others"));
        assert!(read(dir.path(), "b.sql").unwrap_err().contains("no such file"));
        assert_ne!(digest("select 1;"), digest("select 2;"));
    }
}
