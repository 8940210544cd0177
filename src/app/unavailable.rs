//! What the design names but this version does not have: refused with a plain word, never ignored.
//!
//! A setting that is accepted and does nothing is worse than one that is missing. When a feature
//! arrives, its line here goes. What belongs to one module alone is refused there.

use crate::core::section::{Node, Problem, Report, Severity, Table, UNKNOWN};

/// What a key of this file's lists is called.
const NOT_YET: &str = "a setting that this version does not have yet";

/// Sections at the top.
const SECTIONS: &[(&str, &str)] = &[(
    "letters",
    "no [letters] section: letters are written to `dead_letter`, replay and the flood guard come later",
)];

/// Tells of everything that is written but not available. It looks at the table itself: a section
/// would count the keys as known and offer them to people.
pub fn refuse(root: &Table, report: &Report<'_>) {
    for (key, instead) in SECTIONS {
        if let Some(node) = root.get(*key) {
            tell(report, node, (*key).to_owned(), instead);
        }
    }
}

/// The problems without those that say of a key refused here that it is unknown as well.
pub fn without_echoes(mut problems: Vec<Problem>) -> Vec<Problem> {
    let refused: Vec<String> =
        problems.iter().filter(|p| p.found == NOT_YET).map(|p| p.key.clone()).collect();
    problems.retain(|p| p.found != UNKNOWN || !refused.contains(&p.key));
    problems
}

fn tell(report: &Report<'_>, node: &Node, key: String, wanted: &str) {
    report.add(Problem {
        severity: Severity::Error,
        place: node.key_place.clone(),
        key,
        found: NOT_YET.to_owned(),
        wanted: wanted.to_owned(),
    });
}
