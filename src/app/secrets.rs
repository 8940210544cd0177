//! Secret files that a command has no use for, and that whoever runs it may not be allowed to read.

use std::collections::BTreeSet;

use super::reload::named_files;
use super::{leave_secret_closed, open_secret};
use crate::config::Loaded;

/// Opens secret files, but for those that only these sections of the config name: `accounts`, `admin`.
pub fn open_secrets_but_of(
    loaded: &Loaded,
    sections: &[&str],
) -> impl Fn(&str) -> Result<String, String> + use<> {
    let (mut closed, mut wanted) = (BTreeSet::new(), BTreeSet::new());
    named_files(&loaded.table, &mut Vec::new(), &mut |key, file| {
        let is_closed = key.first().is_some_and(|section| sections.contains(&section.as_str()));
        if is_closed { &mut closed } else { &mut wanted }.insert(file.to_owned());
    });
    move |file| match closed.contains(file) && !wanted.contains(file) {
        true => leave_secret_closed(file),
        false => open_secret(file),
    }
}
