//! One statement's text to sqlparser's tree, with what keeps it in bounds; and what is looked for in the tokens themselves, because the tree
//! may not show it.

use sqlparser::{
    ast::Statement,
    dialect::{Dialect as Grammar, MySqlDialect, PostgreSqlDialect},
    parser::{Parser, ParserError},
    tokenizer::{Token, TokenWithSpan, Tokenizer, Whitespace},
};

use super::Dialect;

/// Levels of nesting; sqlparser counts expressions, queries and statements.
const DEPTH: usize = 48;
/// Long chains (`1 + 1 + ..`, `UNION ..`) make a tree as deep as they are long: it has to fit the stack when it is dropped.
const TOKENS: usize = 200_000;
/// What the thread that parses has. Reserved, not used: a page counts when it is touched.
pub const STACK: usize = 64 << 20;

/// A statement and its tokens, without blanks and comments.
pub struct Parsed {
    pub statement: Statement,
    pub tokens: Vec<Token>,
}

/// Why there is none: the line within the text (from 1), and what is wrong.
pub struct Unparsed {
    pub line: u32,
    pub what: String,
    /// As far as they are known.
    pub tokens: Vec<Token>,
}

pub fn parse(text: &str, dialect: Dialect) -> Result<Parsed, Unparsed> {
    let grammar: &dyn Grammar = match dialect {
        Dialect::Mysql => &MySqlDialect {},
        Dialect::Postgres => &PostgreSqlDialect {},
    };
    let all = Tokenizer::new(grammar, text).tokenize_with_location().map_err(|e| Unparsed {
        line: e.location.line as u32,
        what: one_line(&e.message),
        tokens: Vec::new(),
    })?;
    let tokens: Vec<Token> =
        all.iter().filter(|t| !matches!(t.token, Token::Whitespace(_))).map(|t| t.token.clone()).collect();
    let fault = |line: u32, what: &str| Unparsed { line, what: what.into(), tokens: tokens.clone() };
    if tokens.len() > TOKENS {
        let what = format!("{} words and signs are more than the {TOKENS} that are looked at", tokens.len());
        return Err(fault(1, &what));
    }
    if let Some((line, what)) = all.iter().find_map(|t| strange(t, dialect)) {
        return Err(fault(line, what));
    }
    let mut parser = Parser::new(grammar).with_recursion_limit(DEPTH).with_tokens_with_locations(all);
    let statement = parser.parse_statement().map_err(|e| {
        let (line, what) = place(e);
        fault(line, &what)
    })?;
    while parser.consume_token(&Token::SemiColon) {}
    let next = parser.peek_token();
    if next.token != Token::EOF {
        let what = format!("`{}` is more than one statement can have", one_line(&next.token.to_string()));
        return Err(fault(next.span.start.line as u32, &what));
    }
    Ok(Parsed { statement, tokens })
}

/// Tokens that say that the text is not what the server will get.
fn strange(token: &TokenWithSpan, dialect: Dialect) -> Option<(u32, &'static str)> {
    let what = match &token.token {
        Token::Placeholder(_) => "a placeholder: what will stand there is not in the script",
        Token::Colon if dialect == Dialect::Postgres => "a colon: psql puts a variable there",
        Token::Word(w)
            if dialect == Dialect::Mysql
                && w.quote_style.is_none()
                && w.value.eq_ignore_ascii_case("delimiter") =>
        {
            "the word DELIMITER inside of a statement: the mysql client takes it for its command"
        }
        Token::Whitespace(Whitespace::MultiLineComment(c)) if c.starts_with('!') || c.starts_with("M!") => {
            "a comment with a version: some servers run it"
        }
        _ => return None,
    };
    Some((token.span.start.line as u32, what))
}

/// sqlparser has the place in its message.
fn place(e: ParserError) -> (u32, String) {
    let text = match e {
        ParserError::RecursionLimitExceeded => return (1, format!("nested deeper than {DEPTH} levels")),
        ParserError::TokenizerError(text) | ParserError::ParserError(text) => text,
    };
    let (what, line) = match text.rsplit_once(" at Line: ") {
        Some((what, at)) => (what, at.split(',').next().and_then(|n| n.trim().parse().ok())),
        None => (text.as_str(), None),
    };
    (line.unwrap_or(1), one_line(what))
}

/// Cut to what a line can hold.
pub fn one_line(text: &str) -> String {
    let flat = text.split_whitespace().collect::<Vec<_>>().join(" ").replace(char::is_control, "?");
    match flat.char_indices().nth(160) {
        Some((cut, _)) => format!("{}..", &flat[..cut]),
        None => flat,
    }
}

/// The word of a token that is no quoted name.
pub fn word(token: &Token) -> Option<&str> {
    match token {
        Token::Word(w) if w.quote_style.is_none() => Some(&w.value),
        _ => None,
    }
}

/// Whether `word` stands somewhere as a word.
pub fn has(tokens: &[Token], wanted: &str) -> bool {
    tokens.iter().filter_map(word).any(|w| w.eq_ignore_ascii_case(wanted))
}
