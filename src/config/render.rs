//! Problems as people read them: plain lines, or on a terminal a picture of the place.
//!
//! The plain line is `file:line:column: key: found X, wanted Y`, which editors and CI can follow.
//! All problems of a run are told, by file, then by line; then variables by name; then what has no
//! place. The texts come without secrets from `config::load`.

use std::fmt::Write as _;
use std::ops::Range;
use std::sync::Arc;

use miette::{GraphicalReportHandler, GraphicalTheme, LabeledSpan, MietteDiagnostic, NamedSource};

use super::{Texts, mask, strings};
use crate::core::section::{Place, Problem, Severity, position};

/// How problems look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// One line each.
    Plain,
    /// With the lines of the file and a caret, for a terminal of that many columns.
    Picture {
        /// Columns of the terminal.
        width: usize,
        /// Whether it shows colours.
        colour: bool,
    },
}

/// All problems, sorted by place, without repeats.
pub fn problems(problems: &[Problem], texts: &Texts, look: Look) -> String {
    let mut out = String::new();
    for problem in sorted(problems, texts) {
        match look {
            Look::Plain => out.push_str(&line(problem, texts)),
            Look::Picture { width, colour } => {
                out.push_str(&picture(problem, texts, width, colour).unwrap_or_else(|| line(problem, texts)));
            }
        }
        if !out.ends_with('\n') {
            out.push('\n');
        }
    }
    out
}

/// The problems by place, without repeats.
pub fn sorted<'a>(problems: &'a [Problem], texts: &Texts) -> Vec<&'a Problem> {
    let mut sorted: Vec<&Problem> = problems.iter().collect();
    sorted.sort_by_cached_key(|problem| rank(problem, texts));
    sorted.dedup();
    sorted
}

/// One problem on one line.
pub fn line(problem: &Problem, texts: &Texts) -> String {
    let mut line = String::new();
    match (&problem.place, span(&problem.place, texts)) {
        (Place::File { name, .. } | Place::Inside { name, .. }, Some((text, span))) => {
            let (row, column) = position(text, span.start);
            write!(line, "{name}:{row}:{column}: ")
        }
        (Place::File { name, .. } | Place::Inside { name, .. } | Place::Variable(name), _) => {
            write!(line, "{name}: ")
        }
        (Place::Nowhere, _) => Ok(()),
    }
    .expect("writing to a string cannot fail");
    if problem.severity == Severity::Warning {
        line.push_str("warning: ");
    }
    line + &title(problem) + ", " + &wanted(problem)
}

/// `wanted X`; a question (`did you mean …?`) stands as it is.
fn wanted(problem: &Problem) -> String {
    let wanted = mask::address(&problem.wanted);
    if wanted.starts_with("did you mean ") { wanted } else { format!("wanted {wanted}") }
}

fn title(problem: &Problem) -> String {
    let found = mask::address(&problem.found);
    match problem.key.as_str() {
        "" => format!("found {found}"),
        key => format!("{key}: found {found}"),
    }
}

/// Where a problem stands among the others.
fn rank(problem: &Problem, texts: &Texts) -> (u8, usize, usize, Arc<str>, String) {
    let key = problem.key.clone();
    match &problem.place {
        Place::File { name, .. } | Place::Inside { name, .. } => {
            let start = span(&problem.place, texts).map_or(0, |(_, span)| span.start);
            (0, texts.get(name).map_or(usize::MAX, |(index, _)| index), start, name.clone(), key)
        }
        Place::Variable(name) => (1, 0, 0, name.clone(), key),
        Place::Nowhere => (2, 0, 0, Arc::from(""), key),
    }
}

/// The text of the file that a place stands in, and the bytes of it; `None` where it is in no file, or
/// in one that could not be opened.
fn span<'t>(place: &Place, texts: &'t Texts) -> Option<(&'t str, Range<usize>)> {
    match place {
        Place::File { name, span } => Some((&**texts.get(name)?.1, span.clone())),
        Place::Inside { name, span, at } => {
            let text = &**texts.get(name)?.1;
            Some((text, strings::span(text, span, *at as usize)))
        }
        Place::Variable(_) | Place::Nowhere => None,
    }
}

/// File, line and column of a place, as far as there are.
pub fn file_and_position<'p>(place: &'p Place, texts: &Texts) -> (Option<&'p str>, Option<(usize, usize)>) {
    match place {
        Place::File { name, .. } | Place::Inside { name, .. } => {
            (Some(&**name), span(place, texts).map(|(text, span)| position(text, span.start)))
        }
        Place::Variable(_) | Place::Nowhere => (None, None),
    }
}

/// The place in its file with a caret; `None` where there is no text to show.
fn picture(problem: &Problem, texts: &Texts, width: usize, colour: bool) -> Option<String> {
    let name = file_and_position(&problem.place, texts).0?;
    let (text, span) = span(&problem.place, texts)?;
    let span = visible(text, &span)?;
    let diagnostic = MietteDiagnostic::new(title(problem))
        .with_severity(match problem.severity {
            Severity::Error => miette::Severity::Error,
            Severity::Warning => miette::Severity::Warning,
        })
        .with_help(wanted(problem))
        .with_label(LabeledSpan::new_with_span(None, span));
    let report = miette::Report::new(diagnostic).with_source_code(NamedSource::new(name, text.to_string()));
    let theme = if colour { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
    let handler = GraphicalReportHandler::new_themed(theme).with_width(width).with_context_lines(1);
    let mut out = String::new();
    handler.render_report(&mut out, report.as_ref()).ok()?;
    Some(out)
}

/// The part of a span that can be underlined: on one line, and at least one character, which at
/// the end of the text is the last one.
fn visible(text: &str, span: &Range<usize>) -> Option<Range<usize>> {
    let last = text.char_indices().next_back()?.0;
    let mut start = span.start.min(last);
    while !text.is_char_boundary(start) {
        start -= 1;
    }
    let line = text[start..].find('\n').map_or(text.len(), |newline| start + newline);
    let mut end = span.end.clamp(start, line.max(start));
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    Some(start..end)
}
