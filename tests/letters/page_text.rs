//! A page as what is to be done, and what it shows against what came.

use std::collections::BTreeMap;

use regex_lite::Regex;

/// What a page has, in its order.
#[derive(Debug)]
pub enum Piece<'p> {
    /// A heading.
    Heading(&'p str),
    /// The config.
    Config(&'p str),
    /// Commands for a shell, and what they say; `None` where the page does not show it.
    Commands(&'p str, Option<&'p str>),
}

/// Takes a page apart. Every block must be of a kind that is known here: nothing is passed over.
pub fn pieces(page: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    for (number, part) in page.split("\n```").enumerate() {
        let Some((head, text)) = part.split_once('\n').filter(|_| number % 2 == 1) else {
            let headings = part.lines().filter_map(|line| line.strip_prefix('#'));
            pieces.extend(headings.map(|line| Piece::Heading(line.trim_start_matches('#').trim())));
            continue;
        };
        match (head.split_once(' '), head, pieces.last_mut()) {
            (Some(("toml", "roomcast.toml")), ..) => pieces.push(Piece::Config(text)),
            (None, "sh", _) => pieces.push(Piece::Commands(text, None)),
            (None, "text", Some(Piece::Commands(_, shown @ None))) => *shown = Some(text),
            _ => panic!("a block of the kind {head:?}, where none is wanted:\n{text}"),
        }
    }
    pieces
}

/// Ids that the page shows, and those that came in their places.
#[derive(Debug, Default)]
pub struct Matched {
    ids: BTreeMap<String, String>,
}

/// An id, whole or as tables show it.
fn id() -> Regex {
    Regex::new("[0-9a-f]{8}-[0-9a-f]{4}(-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})?").expect("a regex")
}

/// The beginning of an id that tables show.
const SHORT: usize = 13;

impl Matched {
    /// Commands of the page with the ids that came.
    pub fn put_in(&self, commands: &str) -> String {
        id().replace_all(commands, |found: &regex_lite::Captures<'_>| {
            let shown = &found[0];
            let known = self.ids.get(shown).or_else(|| self.ids.get(&shown[..SHORT]));
            known.unwrap_or_else(|| panic!("no output of the page shows the id {shown} before")).clone()
        })
        .into_owned()
    }

    /// Compares line by line, blanks counted once. A line `…` stands for any lines.
    pub fn compare(&mut self, shown: Option<&str>, said: &str) -> Result<(), String> {
        let Some(shown) = shown else { return Ok(()) };
        let shown: Vec<String> = shown.lines().map(plain).filter(|line| !line.is_empty()).collect();
        let said: Vec<String> = said.lines().map(plain).filter(|line| !line.is_empty()).collect();
        let mut rest = said.iter();
        let mut skips = false;
        for line in &shown {
            if line == "…" {
                skips = true;
                continue;
            }
            let found = if skips { rest.find(|said| masked(said) == masked(line)) } else { rest.next() };
            match found.filter(|said| masked(said) == masked(line)) {
                Some(said) => self.learn(line, said)?,
                None => return Err(format!("it shows `{line}`, and nothing said fits")),
            }
            skips = false;
        }
        match rest.next().filter(|_| !skips) {
            Some(more) => Err(format!("it does not show `{more}`")),
            None => Ok(()),
        }
    }

    /// Takes the ids of a line; the same one stands for the same one.
    fn learn(&mut self, shown: &str, said: &str) -> Result<(), String> {
        let id = id();
        for (shown, said) in id.find_iter(shown).zip(id.find_iter(said)) {
            let (shown, said) = (shown.as_str(), said.as_str());
            for (shown, said) in [(shown, said), (&shown[..SHORT], &said[..SHORT])] {
                let known = self.ids.entry(shown.to_owned()).or_insert_with(|| said.to_owned());
                if known != said {
                    return Err(format!("{shown} stood for {known} and now stands for {said}"));
                }
            }
        }
        Ok(())
    }
}

fn plain(line: &str) -> String {
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A line without what is different each time.
fn masked(line: &str) -> String {
    let mut line = id().replace_all(line, "ID").into_owned();
    for (what, mask) in [
        (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "TIME"),
        (r"\b\d+[smhd]\b", "AGE"),
        (r"127\.0\.0\.1:\d+", "ADDRESS"),
        (r"ann@[^\s,;:]+", "ann@HOST"),
        (r"/0/\d+", "/0/N"),
        (r#""offset":\d+"#, "OFFSET"),
        (r#""goes_on_in_seconds":[\d.]+"#, "SECONDS"),
        (r"by roomcast \d+\.\d+\.\d+", "by roomcast VERSION"),
        (r#""version":"[^"]*""#, "VERSION"),
    ] {
        line = Regex::new(what).expect("a regex").replace_all(&line, mask).into_owned();
    }
    line
}
