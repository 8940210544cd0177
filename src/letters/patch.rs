//! A patch as people write it: compiled, or pointed at.

use std::sync::Arc;

use super::ask::Change;
use super::today::Today;
use crate::core::model::SourceId;
use crate::core::replay::{Patch, Told};
use crate::core::section::position;

/// Compiles a patch that was given under that name.
///
/// # Errors
/// What is wrong with it, with the place pointed at: three lines.
pub fn compile(name: &str, text: &str) -> Result<Patch, String> {
    Patch::compile(text).map_err(|refusal| {
        let (line, column) = position(text, refusal.at);
        let shown = text.lines().nth(line - 1).unwrap_or_default();
        let mark = " ".repeat(column - 1);
        let (found, wanted) = (refusal.found, refusal.wanted);
        let wanted = if wanted.starts_with("did you mean ") { wanted } else { format!("wanted {wanted}") };
        format!("{name}:{line}:{column}: found {found}, {wanted}\n  {shown}\n  {mark}^")
    })
}

/// The patch with what it needs of the sources.
pub fn change(patch: Patch, today: &Today) -> Box<Change> {
    let format = |(name, id)| (Arc::clone(name), today.rules.key_format(SourceId(id)));
    let formats: Vec<_> = today.sources.iter().zip(0..).map(format).collect();
    Box::new(move |told: &Told, record| {
        let format = formats.iter().find(|(name, _)| **name == *told.source).map(|(_, format)| *format);
        patch.apply(record, format.unwrap_or_default())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patch_that_is_no_filter_is_pointed_at() {
        for (text, wanted) in [
            (".a |", "--patch:1:5: found the end"),
            (".a\n| fooo", "--patch:2:3: found `fooo`, which is not known"),
            ("input", "--patch:1:1: "),
        ] {
            let error = compile("--patch", text).expect_err(text);
            assert!(error.contains(wanted), "{error}");
            assert!(error.ends_with('^'), "{error:?}");
        }
        assert!(compile("patch", ".room = \"lobby\"").is_ok());
    }
}
