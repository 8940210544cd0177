//! The only place that writes to stdout and stderr: results here, complaints there.
//!
//! A reader that has gone away (`| head`) ends the output quietly, not the process with a panic.

use std::borrow::Cow;
use std::io::{self, IsTerminal as _, Write as _};

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

/// Writes a result to stdout.
///
/// # Errors
/// When stdout cannot be written for another reason than a reader that is gone.
pub fn print(text: &str) -> anyhow::Result<()> {
    print_more(text).map(drop)
}

/// Writes a part of a result to stdout; whether somebody still reads it.
///
/// # Errors
/// As [`print()`].
pub fn print_more(text: &str) -> anyhow::Result<bool> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// How many columns a line of stdout may have: what `COLUMNS` says, else what the terminal has; `None`
/// where stdout is no terminal, so that nothing need be cut.
pub fn width() -> Option<usize> {
    let told = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    let terminal = || terminal_size::terminal_size().map(|(width, _)| usize::from(width.0));
    told.or_else(|| io::stdout().is_terminal().then(terminal).flatten()).filter(|width| *width > 0)
}

/// The columns that a text takes.
pub fn columns_of(text: &str) -> usize {
    text.width()
}

/// A text of others on one line, so that it cannot steer a terminal: what would is a blank.
pub fn plain(text: &str) -> Cow<'_, str> {
    let steers = |c: char| {
        c.is_control()
            || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{2029}')
    };
    if text.contains(steers) { Cow::Owned(text.replace(steers, " ")) } else { Cow::Borrowed(text) }
}

/// The text, cut to so many columns with an ellipsis where it has more.
pub fn cut(text: &str, most: usize) -> Cow<'_, str> {
    if text.width() <= most {
        return Cow::Borrowed(text);
    }
    let mut used = 1;
    let kept = text.chars().take_while(|char| {
        used += char.width().unwrap_or(0);
        used <= most
    });
    let kept: String = kept.collect();
    Cow::Owned(kept + "…")
}

/// Writes to stderr; where that is impossible there is nobody left to tell.
pub fn complain(text: &str) {
    let mut out = io::stderr().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Lays rows out in columns, two spaces apart, each row indented by two. The last column is not filled.
pub fn columns(rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.width()).max().unwrap_or(0)
    };
    let mut out = String::new();
    for row in rows {
        let mut line = String::from(" ");
        for (column, cell) in row.iter().enumerate() {
            line.push(' ');
            line.push_str(cell);
            if column + 1 < row.len() {
                let fill = width(column) + 1 - cell.width();
                line.extend(std::iter::repeat_n(' ', fill));
            }
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_by_the_columns_that_they_take() {
        for (text, most, wanted) in [
            ("直播间", 6, "直播间"),
            ("直播间", 5, "直播…"),
            ("直播间", 4, "直…"),
            ("lobby", 4, "lob…"),
            ("", 3, ""),
        ] {
            assert_eq!(cut(text, most), wanted);
            assert!(columns_of(&cut(text, most)) <= most);
        }
    }

    #[test]
    fn what_would_steer_a_terminal_is_a_blank() {
        assert_eq!(plain("a\u{1b}[31mb\nc\u{202e}d"), "a [31mb c d");
        assert!(matches!(plain("直播间"), Cow::Borrowed(_)));
    }

    #[test]
    fn columns_stand_straight_beside_wide_letters() {
        let rows = [["房间", "1"], ["abcdef", "2"]].map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(columns(&rows), "  房间    1\n  abcdef  2\n");
    }
}
