//! The only place that writes to stdout and stderr: results here, complaints there.
//!
//! A reader that has gone away (`| head`) ends the output quietly, not the process with a panic.

use std::io::{self, Write as _};

/// Writes a result to stdout.
///
/// # Errors
/// When stdout cannot be written for another reason than a reader that is gone.
pub fn print(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// Writes to stderr; where that is impossible there is nobody left to tell.
pub fn complain(text: &str) {
    let mut out = io::stderr().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Lays rows out in columns, two spaces apart, each row indented by two. The last column is not filled.
pub fn columns(rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let mut out = String::new();
    for row in rows {
        let mut line = String::from(" ");
        for (column, cell) in row.iter().enumerate() {
            line.push(' ');
            line.push_str(cell);
            if column + 1 < row.len() {
                let fill = width(column) + 1 - cell.chars().count();
                line.extend(std::iter::repeat_n(' ', fill));
            }
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}
