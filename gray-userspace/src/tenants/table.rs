//! Reads tables of tenants, CSV or JSON, and holds them against what a strategy asks for. Every error at once.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{
    ClaimKind, Member, parse_member,
    tenant::{Choose, Tenant},
};

/// What is wrong with a table: places and sentences.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct BadTable(pub Vec<String>);

/// So many problems are told.
const TOLD: usize = 50;

/// A table of tenants: CSV, or what `mysql -B` prints with tabs between, whose first line names the columns, or a JSON list of objects. `id` is required; what has several values
/// (tickets, features) is a JSON list, or one CSV field with `;` between.
///
/// # Errors
/// Every place where it is wrong, also for want of what the strategy asks for.
pub fn read(name: &str, text: &str, choose: &Choose) -> Result<Vec<Tenant>, BadTable> {
    let text = text.trim_start_matches('\u{feff}');
    let mut bad = Bad::default();
    let rows = if text.trim_start().starts_with('[') {
        json(name, text, &mut bad)
    } else {
        csv(name, text, &mut bad)
    };
    check(name, &rows, choose, &mut bad);
    if bad.told.is_empty() {
        return Ok(rows.into_iter().map(|(_, t)| t).collect());
    }
    if bad.more > 0 {
        bad.told.push(format!("{} more problems are not shown", bad.more));
    }
    Err(BadTable(bad.told))
}

#[derive(Default)]
struct Bad {
    told: Vec<String>,
    more: usize,
}

impl Bad {
    fn tell(&mut self, place: &str, what: &str) {
        if self.told.len() < TOLD {
            self.told.push(format!("{place}: {what}").replace(char::is_control, "\u{fffd}"));
        } else {
            self.more += 1;
        }
    }
}

/// Where it stands, and what it is.
type Row = (String, Tenant);

fn csv(name: &str, text: &str, bad: &mut Bad) -> Vec<Row> {
    // A tab in the first line: names of columns have none.
    let tabs = text.lines().next().is_some_and(|l| l.contains('\t') && !l.contains(','));
    let mut reader = csv::ReaderBuilder::new();
    let _ = reader.trim(csv::Trim::All);
    if tabs {
        // There a quote is a character as any other.
        let _ = reader.delimiter(b'\t').quoting(false);
    }
    let mut reader = reader.from_reader(text.as_bytes());
    let columns: Vec<String> = match reader.headers() {
        Ok(h) => h.iter().map(str::to_owned).collect(),
        Err(e) => {
            bad.tell(name, &format!("no CSV: {}", first_line(&e.to_string())));
            return Vec::new();
        }
    };
    let mut seen = BTreeSet::new();
    for c in columns.iter().filter(|c| !seen.insert(c.as_str())) {
        bad.tell(&format!("{name}:1"), &format!("the column `{c}` is there twice"));
    }
    let mut out = Vec::new();
    for record in reader.records() {
        let record = match record {
            Ok(r) => r,
            Err(e) => {
                let line = e.position().map_or_else(String::new, |p| format!(":{}", p.line()));
                bad.tell(&format!("{name}{line}"), &said(&e));
                continue;
            }
        };
        let line = record.position().map_or(0, csv::Position::line);
        let mut t = Tenant::default();
        for (column, field) in columns.iter().zip(record.iter()) {
            // As it prints what has no value.
            let field = if tabs && field == "NULL" { "" } else { field };
            if !tabs && field.starts_with('"') {
                bad.tell(&format!("{name}:{line}"), &format!("a space before the quote of `{column}`"));
            }
            if column == "id" {
                t.id = field.to_owned();
            } else {
                let values = field.split(';').map(str::trim).filter(|v| !v.is_empty());
                let _ = t.attributes.insert(column.clone(), values.map(str::to_owned).collect());
            }
        }
        out.push((format!("{name}:{line}"), t));
    }
    if !columns.iter().any(|c| c == "id") {
        bad.tell(&format!("{name}:1"), "no column `id`: the first line names the columns");
        return Vec::new();
    }
    out
}

fn said(e: &csv::Error) -> String {
    match e.kind() {
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            format!("{len} fields, where the first line has {expected_len}")
        }
        _ => first_line(&e.to_string()),
    }
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

fn json(name: &str, text: &str, bad: &mut Bad) -> Vec<Row> {
    use serde_json::Value;
    let rows: Vec<BTreeMap<String, Value>> = match serde_json::from_str(text) {
        Ok(rows) => rows,
        Err(e) => {
            bad.tell(
                &format!("{name}:{}:{}", e.line(), e.column()),
                "no JSON list of tenants, each an object",
            );
            return Vec::new();
        }
    };
    let mut out = Vec::new();
    for (i, row) in rows.into_iter().enumerate() {
        let place = format!("{name}: tenant {}", i + 1);
        let mut t = Tenant::default();
        for (key, value) in row {
            let one = |v: &Value| match v {
                Value::String(s) => Some(s.clone()),
                Value::Number(n) => Some(n.to_string()),
                _ => None,
            };
            let values = match &value {
                Value::Null => Some(Vec::new()),
                Value::Array(all) => all.iter().map(one).collect::<Option<Vec<_>>>(),
                v => one(v).map(|v| vec![v]),
            };
            match values {
                None => bad.tell(&place, &format!("`{key}` is neither text, a number, nor a list of them")),
                Some(values) if key == "id" && values.len() == 1 => t.id = values.concat(),
                Some(_) if key == "id" => bad.tell(&place, "`id` is no single value"),
                Some(values) => drop(t.attributes.insert(key, values)),
            }
        }
        out.push((place, t));
    }
    out
}

fn check(name: &str, rows: &[Row], choose: &Choose, bad: &mut Bad) {
    let mut seen: BTreeMap<&str, &str> = BTreeMap::new();
    for (place, t) in rows {
        match parse_member(ClaimKind::Tenant, &t.id) {
            Ok(Member::Text(text)) if text == t.id => {}
            _ => bad.tell(place, &format!("the id `{}` is not a value of 1 to 32 bytes, without `*`", t.id)),
        }
        if let Some(first) = seen.insert(&t.id, place) {
            bad.tell(place, &format!("the tenant `{}` is there twice, first at {first}", t.id));
        }
        for measure in choose.measures() {
            let Some(values) = t.attributes.get(measure) else { continue };
            let ok = |v: &String| v.parse::<f64>().is_ok_and(f64::is_finite);
            if values.len() > 1 || !values.iter().all(ok) {
                bad.tell(
                    place,
                    &format!("`{measure}` is `{}`, and the strategy takes it as a number", values.join(";")),
                );
            }
        }
    }
    let known: BTreeSet<&str> =
        rows.iter().flat_map(|(_, t)| t.attributes.keys()).map(String::as_str).collect();
    for (asked, _) in choose.asked() {
        if !rows.is_empty() && !known.contains(asked) {
            let all: Vec<_> = known.iter().copied().collect();
            bad.tell(
                name,
                &format!(
                    "the strategy asks for `{asked}`, which no tenant has; they have {}",
                    all.join(", ")
                ),
            );
        }
    }
}
