//! A script in statements, as the database's own client cuts it: quotes, comments, dollar quotes, `DELIMITER`. Knows no SQL beyond that.
//! What only a client understands, or what depends on the server that reads it, is handed out as such and never as a statement.

use super::Dialect;

/// A part of a script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece<'a> {
    /// Where its first word stands, from 1.
    pub line: u32,
    pub text: &'a str,
    /// Why it is no statement that can be read.
    pub odd: Option<Odd>,
}

/// What is not to be judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Odd {
    /// `\i`, `\gexec`, `source`: a command of psql or mysql.
    Client,
    /// `/*! .. */`: code for some servers and a comment for others.
    Versioned,
    /// A quote or comment that does not end.
    Unterminated(&'static str),
    /// `E'..'` and another string after it: the server goes on with it as with the first.
    Continued,
    /// `DELIMITER` without one.
    Delimiter,
}

/// Commands of the mysql client that need no backslash, at the beginning of a statement.
const MYSQL_CLIENT: &[&str] = &[
    "?",
    "charset",
    "clear",
    "connect",
    "edit",
    "ego",
    "exit",
    "go",
    "help",
    "nopager",
    "notee",
    "nowarning",
    "pager",
    "print",
    "prompt",
    "quit",
    "rehash",
    "resetconnection",
    "source",
    "status",
    "system",
    "tee",
    "warnings",
];

/// All statements, empty ones left out.
pub fn split(script: &str, dialect: Dialect) -> Vec<Piece<'_>> {
    let script = script.strip_prefix('\u{feff}').unwrap_or(script);
    let mut reader = Reader { text: script, at: 0, line: 1, dialect, delimiter: ";", start: None, odd: None };
    let mut pieces = Vec::new();
    while let Some(piece) = reader.piece() {
        pieces.push(piece);
    }
    pieces
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    line: u32,
    dialect: Dialect,
    delimiter: &'a str,
    /// Place and line of the first word of the statement at hand.
    start: Option<(usize, u32)>,
    odd: Option<Odd>,
}

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn skip(&mut self, bytes: usize) {
        let over = &self.text[self.at..self.at + bytes];
        self.line = self.line.saturating_add(over.bytes().filter(|b| *b == b'\n').count() as u32);
        self.at += bytes;
    }

    /// Up to and with the end of what was found at `found`; all that is left if it was not found.
    fn skip_to(&mut self, found: Option<usize>, end: usize, what: &'static str) {
        let rest = self.rest().len();
        if found.is_none() {
            let _ = self.odd.get_or_insert(Odd::Unterminated(what));
        }
        self.skip(found.map_or(rest, |i| i + end));
    }

    fn begin(&mut self) {
        let _ = self.start.get_or_insert((self.at, self.line));
    }

    fn piece(&mut self) -> Option<Piece<'a>> {
        loop {
            let rest = self.rest();
            let Some(c) = rest.chars().next() else { return self.end(0) };
            if rest.starts_with(self.delimiter) {
                if let Some(piece) = self.end(self.delimiter.len()) {
                    return Some(piece);
                }
                continue;
            }
            if self.start.is_none() && self.delimiter_command() {
                if self.odd.is_some() {
                    return self.end(0);
                }
                continue;
            }
            if c.is_whitespace() {
                self.skip(c.len_utf8());
            } else if !self.comment() {
                self.begin();
                self.word_or_quote(c);
            }
        }
    }

    /// The statement up to here, if there is any; `skip` bytes are behind it.
    fn end(&mut self, skip: usize) -> Option<Piece<'a>> {
        let end = self.at;
        self.skip(skip);
        let odd = self.odd.take();
        let (start, line) = self.start.take()?;
        let text = self.text[start..end].trim_end();
        let first = text.split(|c: char| c.is_whitespace() || c == ';').next().unwrap_or_default();
        let client =
            self.dialect == Dialect::Mysql && MYSQL_CLIENT.iter().any(|w| first.eq_ignore_ascii_case(w));
        Some(Piece { line, text, odd: if client { Some(Odd::Client) } else { odd } })
    }

    /// `DELIMITER //` of the mysql client, up to the end of its line.
    fn delimiter_command(&mut self) -> bool {
        let rest = self.rest();
        let word = rest.get(..9).is_some_and(|w| w.eq_ignore_ascii_case("delimiter"));
        if self.dialect != Dialect::Mysql || !word || !rest[9..].starts_with([' ', '\t', '\r', '\n']) {
            return false;
        }
        let line = rest.lines().next().unwrap_or_default();
        match line[9..].split_whitespace().next() {
            // A backslash is refused by the client too.
            Some(new) if !new.contains('\\') => self.delimiter = new,
            _ => {
                self.begin();
                self.odd = Some(Odd::Delimiter);
            }
        }
        self.skip(line.len());
        true
    }

    /// Whether there was one. Those of a version are marked and belong to a statement.
    fn comment(&mut self) -> bool {
        let rest = self.rest();
        let mysql = self.dialect == Dialect::Mysql;
        let dashes = rest.strip_prefix("--").is_some_and(|r| {
            !mysql || r.is_empty() || r.starts_with(|c: char| c.is_ascii_whitespace() || c.is_ascii_control())
        });
        if dashes || (mysql && rest.starts_with('#')) {
            self.skip(rest.find('\n').unwrap_or(rest.len()));
            return true;
        }
        if !rest.starts_with("/*") {
            return false;
        }
        if mysql && (rest.starts_with("/*!") || rest.starts_with("/*M!")) {
            self.begin();
            self.odd = Some(Odd::Versioned);
        }
        if mysql {
            self.begin_if_unterminated(rest[2..].find("*/").is_none());
            self.skip(2);
            self.skip_to(self.rest().find("*/"), 2, "comment");
            return true;
        }
        let end = nested_end(rest);
        self.begin_if_unterminated(end.is_none());
        self.skip_to(end, 0, "comment");
        true
    }

    /// What is never closed hides whatever was meant to come after it: it must be seen even when it is all there is.
    fn begin_if_unterminated(&mut self, open: bool) {
        if open {
            self.begin();
        }
    }

    fn word_or_quote(&mut self, c: char) {
        let mysql = self.dialect == Dialect::Mysql;
        match c {
            '\'' => {
                let backslash = mysql || self.after_word("e");
                self.quote('\'', backslash, "string");
                let rest = self.rest();
                let next = rest.trim_start();
                if backslash
                    && !mysql
                    && next.len() < rest.len()
                    && (next.starts_with('\'') || next.starts_with("--"))
                {
                    let _ = self.odd.get_or_insert(Odd::Continued);
                }
            }
            '"' => self.quote('"', mysql, if mysql { "string" } else { "quoted name" }),
            '`' if mysql => self.quote('`', false, "quoted name"),
            '$' if !mysql && !self.inside_word() => match dollar_tag(self.rest()) {
                Some(tag) => {
                    self.skip(tag.len());
                    self.skip_to(self.rest().find(tag), tag.len(), "dollar quote");
                }
                None => self.skip(1),
            },
            '\\' => {
                self.odd = Some(Odd::Client);
                // psql's commands end with their line.
                let rest = self.rest();
                self.skip(rest.find('\n').unwrap_or(rest.len()));
            }
            _ => self.skip(c.len_utf8()),
        }
    }

    /// A doubled quote needs no care: it closes and opens again.
    fn quote(&mut self, quote: char, backslash: bool, what: &'static str) {
        let rest = self.rest();
        let mut escaped = false;
        let close = rest.char_indices().skip(1).find(|(_, c)| {
            let hit = *c == quote && !escaped;
            escaped = backslash && *c == '\\' && !escaped;
            hit
        });
        self.skip_to(close.map(|(i, _)| i), quote.len_utf8(), what);
    }

    fn inside_word(&self) -> bool {
        self.text[..self.at].chars().next_back().is_some_and(of_word)
    }

    /// Whether `word` alone stands right before this place.
    fn after_word(&self, word: &str) -> bool {
        let before = &self.text[..self.at];
        let start =
            before.char_indices().rev().take_while(|(_, c)| of_word(*c)).last().map_or(self.at, |(i, _)| i);
        before[start..].eq_ignore_ascii_case(word)
    }
}

fn of_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '$' || !c.is_ascii()
}

/// `$tag$` at the beginning of the text.
fn dollar_tag(text: &str) -> Option<&str> {
    let end = text[1..].find('$')? + 1;
    let tag = &text[1..end];
    let word = tag.chars().all(|c| c.is_alphanumeric() || c == '_' || !c.is_ascii());
    (word && !tag.starts_with(|c: char| c.is_ascii_digit())).then(|| &text[..=end])
}

/// Where the comment that begins here ends; PostgreSQL's comments nest.
fn nested_end(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let (mut depth, mut i) = (0u32, 0);
    while i + 1 < bytes.len() {
        match &bytes[i..i + 2] {
            b"/*" => (depth, i) = (depth + 1, i + 2),
            b"*/" => {
                (depth, i) = (depth.saturating_sub(1), i + 2);
                if depth == 0 {
                    return Some(i);
                }
            }
            _ => i += 1,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mysql(script: &str) -> Vec<(u32, &str, Option<Odd>)> {
        split(script, Dialect::Mysql).into_iter().map(|p| (p.line, p.text, p.odd)).collect()
    }

    fn postgres(script: &str) -> Vec<(u32, &str, Option<Odd>)> {
        split(script, Dialect::Postgres).into_iter().map(|p| (p.line, p.text, p.odd)).collect()
    }

    #[test]
    fn statements_end_at_semicolons_outside_of_quotes() {
        assert_eq!(
            mysql("\n-- x;\nA 'b;''c\\';' ;;\n# y;\n`d;` \"e;\\\"\" -1 --1;F"),
            [(3, "A 'b;''c\\';'", None), (5, "`d;` \"e;\\\"\" -1 --1", None), (5, "F", None)]
        );
        assert_eq!(
            postgres("A '\\'; B e'\\';' \"x;\"; /* /* ; */ ; */ C $$;$$, $a$;$$;$a$, a$b$;D"),
            [
                (1, "A '\\'", None),
                (1, "B e'\\';' \"x;\"", None),
                (1, "C $$;$$, $a$;$$;$a$, a$b$", None),
                (1, "D", None)
            ]
        );
        assert_eq!(postgres(" ;; -- nothing\n/* ; */"), []);
    }

    #[test]
    fn delimiters_of_the_mysql_client() {
        let script = "DELIMITER //\nA; B //\ndelimiter ;\nC; D";
        assert_eq!(mysql(script), [(2, "A; B", None), (4, "C", None), (4, "D", None)]);
        assert_eq!(mysql("DELIMITER\nA;"), [(1, "DELIMITER", Some(Odd::Delimiter)), (2, "A", None)]);
    }

    #[test]
    fn what_is_no_statement_is_marked() {
        assert_eq!(
            postgres("A;\n\\i other.sql\nB;"),
            [(1, "A", None), (2, "\\i other.sql\nB", Some(Odd::Client))]
        );
        assert_eq!(mysql("source x.sql;"), [(1, "source x.sql", Some(Odd::Client))]);
        assert_eq!(
            mysql("/*!50000 DROP TABLE t */;"),
            [(1, "/*!50000 DROP TABLE t */", Some(Odd::Versioned))]
        );
        for open in ["A 'b;", "/* A;", "A $$ b;", "\"A;"] {
            let odd = postgres(open);
            assert!(matches!(odd[..], [(1, _, Some(Odd::Unterminated(_)))]), "{open}: {odd:?}");
        }
    }
}
