//! easemob: not written yet.
use super::{Provider, Section};

/// Makes the provider from its account's section.
pub fn build(section: &Section<'_>) -> Option<Box<dyn Provider>> {
    section.wrong("provider", "easemob", "a provider that is built in");
    None
}
