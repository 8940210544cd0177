//! Where a byte of a string's text stands in its file: past the quotes, the escapes and the line ends
//! that are no part of the text.

use std::ops::Range;

/// The byte of the file (of `raw`, a TOML string with its quotes) that stands for byte `at` of its text;
/// the string's last byte where the text is shorter. A string that cannot be read is its first byte.
pub fn place(raw: &str, at: usize) -> usize {
    let (marks, quote) = match raw.get(..3) {
        Some("\"\"\"") => (3, '"'),
        Some("'''") => (3, '\''),
        _ => match raw.chars().next() {
            Some(quote @ ('"' | '\'')) => (1, quote),
            _ => return 0,
        },
    };
    let mut rest = marks;
    if marks == 3 {
        rest += newline(&raw[rest..]);
    }
    let end = raw.len().saturating_sub(marks);
    let mut text = 0;
    while text < at && rest < end {
        let (read, stands_for) = match quote {
            '"' if raw[rest..].starts_with('\\') => escape(&raw[rest..]),
            _ => raw[rest..].chars().next().map_or((1, 1), |c| (c.len_utf8(), c.len_utf8())),
        };
        text += stands_for;
        rest += read;
    }
    // What ends a line in the file alone stands before the text that goes on.
    while quote == '"'
        && let Some((read, 0)) = raw.get(rest..end).filter(|rest| rest.starts_with('\\')).map(escape)
    {
        rest += read;
    }
    rest.min(end.saturating_sub(1)).max(marks.min(raw.len().saturating_sub(1)))
}

/// The same as a span of the file, one character long.
pub fn span(file: &str, string: &Range<usize>, at: usize) -> Range<usize> {
    let raw = file.get(string.clone()).unwrap_or_default();
    let start = string.start + place(raw, at);
    let width = file.get(start..).and_then(|rest| rest.chars().next()).map_or(0, char::len_utf8);
    start..start + width
}

/// Bytes of the line end that a text begins with, if it does.
fn newline(text: &str) -> usize {
    ["\r\n", "\n"].iter().find(|end| text.starts_with(**end)).map_or(0, |end| end.len())
}

/// How long the escape at the head of `raw` is, and how many bytes of text it stands for.
fn escape(raw: &str) -> (usize, usize) {
    let digits = match raw[1..].chars().next() {
        Some('x') => 2,
        Some('u') => 4,
        Some('U') => 8,
        Some(c) if c.is_whitespace() => {
            let blank = raw[1..].find(|c: char| !c.is_whitespace()).unwrap_or(raw.len() - 1);
            return (1 + blank, 0);
        }
        Some(_) => return (2, 1),
        None => return (1, 1),
    };
    let code = raw.get(2..2 + digits).and_then(|digits| u32::from_str_radix(digits, 16).ok());
    let width = code.and_then(char::from_u32).map_or(1, char::len_utf8);
    ((2 + digits).min(raw.len()), width)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_byte_of_a_text_is_found_in_its_file() {
        for raw in [
            "'.a | nope'",
            "\".a | nope\"",
            "'''.a\n| nope'''",
            "'''\n.a\n| nope'''",
            "\"\"\"\r\n.a | nope\"\"\"",
            "\".a == \\\"x\\\" | nope\"",
            "\".a\\t\\u00e9\\U0001F600\\x41 | nope\"",
            "\"\"\"\\\n   .a \\\n   | \\\n  nope\"\"\"",
            "\"\"\".a \"quoted\" 'too' | nope\"\"\"",
            "'.é商 | nope'",
        ] {
            let text = toml::from_str::<toml::Table>(&format!("x = {raw}")).unwrap();
            let text = text["x"].as_str().unwrap();
            let at = place(raw, text.find("nope").unwrap());
            assert!(raw[at..].starts_with("nope"), "{raw}: {at}");
            assert_eq!(place(raw, text.len() + 9), place(raw, text.len()), "{raw}");
        }
        assert_eq!((place("", 3), place("nope", 3), place("''", 0), place("\"", 4)), (0, 0, 1, 0));
    }
}
