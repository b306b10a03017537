//! Java properties: keys, values over several lines, escapes. Must not know what they mean.

/// One pair, and the line where it begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Property {
    pub line: usize,
    pub key: String,
    pub value: String,
}

/// All of them. Nothing is refused: what is no pair is a key with an empty value, as Java reads it.
pub(super) fn read(text: &str) -> Vec<Property> {
    let mut out = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((i, first)) = lines.next() {
        let first = first.trim_start();
        if first.is_empty() || first.starts_with(['#', '!']) {
            continue;
        }
        let mut whole = first.to_owned();
        while continues(&whole) {
            let _ = whole.pop();
            let Some((_, next)) = lines.next() else { break };
            whole.push_str(next.trim_start());
        }
        let (key, value) = cut(&whole);
        out.push(Property { line: i + 1, key: plain(key), value: plain(value) });
    }
    out
}

/// An odd number of backslashes at the end.
fn continues(line: &str) -> bool {
    line.bytes().rev().take_while(|b| *b == b'\\').count() % 2 == 1
}

/// The first `=`, `:` or space that no backslash stands before.
fn cut(line: &str) -> (&str, &str) {
    let mut escaped = false;
    let end = line.find(|c: char| {
        let ends = !escaped && (c == '=' || c == ':' || c.is_whitespace());
        escaped = c == '\\' && !escaped;
        ends
    });
    let Some(end) = end else { return (line, "") };
    let rest = line[end..].trim_start();
    (&line[..end], rest.strip_prefix(['=', ':']).unwrap_or(rest).trim_start())
}

fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('n') => out.push('\n'),
            Some('t') => out.push('\t'),
            Some('r') => out.push('\r'),
            Some('f') => out.push('\u{c}'),
            Some('u') => {
                let digits: String = chars.by_ref().take(4).collect();
                let c = u32::from_str_radix(&digits, 16).ok().and_then(char::from_u32);
                out.push(c.unwrap_or('\u{fffd}'));
            }
            Some(c) => out.push(c),
            None => {}
        }
    }
    out
}

/// Why a property is not in the document.
pub(super) fn why(key: &str) -> &'static str {
    let about = |words: &[&str]| words.iter().any(|w| key.contains(w));
    if about(&["metadata."]) {
        "it is of one instance: give it there, services.NAME.instances"
    } else if about(&["strategy.", "discovery."]) {
        "a switch of the framework in the application"
    } else {
        "it is no rule"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_java_reads() {
        let text = "# a comment\n! another\n\n a = 1\nb:2\nc 3\nd\nlong=<rule>\\\n   <x/>\\\n</rule>\n\
                    e\\=f=g\\\\\nu=\\u4e2d\\n.\nlast=x\\";
        let got: Vec<_> = read(text).into_iter().map(|p| (p.line, p.key, p.value)).collect();
        let want = [
            (4, "a", "1"),
            (5, "b", "2"),
            (6, "c", "3"),
            (7, "d", ""),
            (8, "long", "<rule><x/></rule>"),
            (11, "e=f", "g\\"),
            (12, "u", "中\n."),
            (13, "last", "x"),
        ];
        assert_eq!(got, want.map(|(l, k, v)| (l, k.to_owned(), v.to_owned())));
    }
}
