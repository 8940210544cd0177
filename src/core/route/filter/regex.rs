//! Regular expressions for filters, on regex-lite, which has bounds for nesting and size.
//!
//! A pattern may come from an event, so both compiling and matching are paid for by what they can
//! cost at worst. Patterns compiled lately are kept for the thread; that changes speed alone.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use jaq_core::native::bome;
use jaq_core::{Cv, Error, ValR, ValXs};
use regex_lite::{Captures, Regex, RegexBuilder};

use super::Jq;
use crate::core::value::budget::step;
use crate::core::value::{Fields, Val};

/// Bytes of a text that a pattern is tried on.
const TEXT_MAX: usize = 64 << 10;
/// Bytes of a pattern.
const PATTERN_MAX: usize = 1_024;
/// Flags: more than there are different ones say nothing.
const FLAGS_MAX: usize = 16;
/// Bytes of a compiled pattern: some thousand instructions.
const SIZE_MAX: usize = 128 << 10;
/// Compiled patterns kept for a thread.
const KEPT: usize = 64;

/// Which parts of the text are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parts {
    /// What matches.
    Matches,
    /// What stands between.
    Rest,
    /// Both, in order.
    Both,
}

#[derive(Clone)]
struct Pattern {
    regex: Arc<Regex>,
    /// About how many instructions it has, and what each of them carries along: what one character
    /// costs at worst.
    weight: usize,
    /// One in how many characters a search is reckoned to look at before what it finds is known: with
    /// a repetition without an end it may read on to the end of the text and come back.
    ahead: usize,
    global: bool,
    no_empty: bool,
}

thread_local! {
    static PATTERNS: RefCell<BTreeMap<(String, String), Pattern>> = const { RefCell::new(BTreeMap::new()) };
}

/// The native behind `test`, `match`, `split`, `sub` and the like: pattern and flags as arguments.
pub fn run<'a>(mut cv: Cv<'a, Jq>, parts: Parts) -> ValXs<'a, Val> {
    let flags = cv.0.pop_var();
    let pattern = cv.0.pop_var();
    bome(find(&cv.1, &pattern, &flags, parts))
}

fn text(value: &Val) -> Result<&str, Error<Val>> {
    value.as_text().ok_or_else(|| Error::typ(value.clone(), "a text"))
}

fn find(value: &Val, pattern: &Val, flags: &Val, parts: Parts) -> ValR<Val> {
    let (whole, pattern, flags) = (text(value)?, text(pattern)?, text(flags)?);
    if whole.len() > TEXT_MAX {
        return Err(Error::str(format!("a text of {} bytes for a regex, at most {TEXT_MAX}", whole.len())));
    }
    let pattern = compiled(pattern, flags)?;
    let mut found = Vec::new();
    let (mut from, mut rest) = (0, 0);
    // Characters up to a byte, counted once along the text.
    let (mut chars, mut counted) = (0, 0);
    while from <= whole.len() {
        step(1 + (whole.len() - from).saturating_mul(pattern.weight) / pattern.ahead);
        let Some(captures) = pattern.regex.captures_at(whole, from) else { break };
        let Some(hit) = captures.get(0) else { break };
        step(1 + (hit.end() - from).saturating_mul(pattern.weight) / 16);
        from = match hit.is_empty() {
            true => hit.end() + whole[hit.end()..].chars().next().map_or(1, char::len_utf8),
            false => hit.end(),
        };
        if hit.is_empty() && pattern.no_empty {
            continue;
        }
        if parts != Parts::Matches {
            found.push(Val::from(whole[rest..hit.start()].to_owned()));
        }
        if parts != Parts::Rest {
            chars += whole[counted..hit.start()].chars().count();
            counted = hit.start();
            found.push(groups(&captures, &pattern.regex, whole, chars));
        }
        rest = hit.end();
        if !pattern.global {
            break;
        }
    }
    step(1 + whole.len().saturating_sub(from).saturating_mul(pattern.weight) / 16);
    if parts != Parts::Matches {
        found.push(Val::from(whole[rest..].to_owned()));
    }
    Ok(found.into_iter().collect())
}

/// The groups of one match that took part: offset and length in characters, the text, the name.
fn groups(captures: &Captures<'_>, regex: &Regex, whole: &str, start_chars: usize) -> Val {
    let start = captures.get(0).map_or(0, |hit| hit.start());
    let group = |(index, name): (usize, Option<&str>)| {
        let group = captures.get(index)?;
        let (before, after) = (group.start().min(start), group.start().max(start));
        let between = whole[before..after].chars().count();
        let offset = if group.start() < start { start_chars - between } else { start_chars + between };
        let mut fields = Fields::from([
            (Arc::from("offset"), Val::from(offset)),
            (Arc::from("length"), Val::from(group.as_str().chars().count())),
            (Arc::from("string"), Val::from(group.as_str().to_owned())),
        ]);
        fields.extend(name.map(|name| (Arc::from("name"), Val::text(name))));
        Some(Val::object(fields))
    };
    regex.capture_names().enumerate().filter_map(group).collect()
}

fn compiled(pattern: &str, flags: &str) -> Result<Pattern, Error<Val>> {
    if flags.len() > FLAGS_MAX {
        return Err(Error::str(format!("{} regex flags, at most {FLAGS_MAX}", flags.len())));
    }
    let key = (pattern.to_owned(), flags.to_owned());
    if let Some(known) = PATTERNS.with_borrow(|patterns| patterns.get(&key).cloned()) {
        return Ok(known);
    }
    if pattern.len() > PATTERN_MAX {
        return Err(Error::str(format!("a regex of {} bytes, at most {PATTERN_MAX}", pattern.len())));
    }
    let weight = weight(pattern);
    step(100 + weight.saturating_mul(4));
    let mut builder = RegexBuilder::new(pattern);
    builder.size_limit(SIZE_MAX);
    let (mut global, mut no_empty) = (false, false);
    for flag in flags.chars() {
        match flag {
            'g' => global = true,
            'n' => no_empty = true,
            'i' => {
                builder.case_insensitive(true);
            }
            'x' => {
                builder.ignore_whitespace(true);
            }
            's' => {
                builder.dot_matches_new_line(true);
            }
            'm' => {
                builder.multi_line(true);
            }
            'p' => {
                builder.multi_line(true).dot_matches_new_line(true);
            }
            'l' => {
                builder.swap_greed(true);
            }
            other => return Err(Error::str(format!("no regex flag {other:?}; there are g n i x s m p l"))),
        }
    }
    let regex = builder.build().map_err(|error| Error::str(format!("regex {pattern:?}: {error}")))?;
    let ahead = if ["*", "+", ",}"].iter().any(|endless| key.0.contains(endless)) { 64 } else { 512 };
    // A state copies the places of all groups with each character.
    let weight = weight.saturating_mul(4 + regex.captures_len()) / 5;
    let pattern = Pattern { regex: Arc::new(regex), weight, ahead, global, no_empty };
    PATTERNS.with_borrow_mut(|patterns| {
        if patterns.len() >= KEPT {
            patterns.clear();
        }
        patterns.insert(key, pattern.clone());
    });
    Ok(pattern)
}

/// An upper bound of a pattern's instructions: its length, times every number in braces.
fn weight(pattern: &str) -> usize {
    let mut weight = pattern.len().max(1);
    for part in pattern.split('{').skip(1) {
        let inner = part.split('}').next().unwrap_or_default();
        let most = inner
            .split(',')
            .filter_map(|bound| {
                let digits: String = bound.chars().filter(char::is_ascii_digit).collect();
                digits.parse::<usize>().ok()
            })
            .max();
        weight = weight.saturating_mul(most.unwrap_or(1).max(1));
    }
    // The bound of the compiled size holds whatever the pattern says.
    weight.min(SIZE_MAX / 16)
}
