//! What is wrong with the config, gathered while its sections are read.

use std::cell::RefCell;

use serde_json::Value as Json;

use super::asked::{Asked, Log, Want};
use super::node::Place;

/// One thing that is wrong with the config, or looks wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Whether `run` refuses to start.
    pub severity: Severity,
    /// Where.
    pub place: Place,
    /// The key in full: `accounts.live.timeout`.
    pub key: String,
    /// What was found.
    pub found: String,
    /// What would be right.
    pub wanted: String,
}

/// How bad a problem is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// `run` goes on; `check --deny-warnings` does not.
    Warning,
    /// `run` ends with exit code 78.
    Error,
}

/// Opens a secret file, or says why not. `check` hands in one that opens nothing.
pub type OpenSecret<'a> = &'a dyn Fn(&str) -> Result<String, String>;

/// Gathers problems while sections are read.
pub struct Report<'a> {
    problems: RefCell<Vec<(Problem, Stands)>>,
    pub(super) open_secret: OpenSecret<'a>,
    asked: RefCell<Option<Log>>,
}

/// What a problem depends on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stands {
    /// On what is written at its place alone.
    Alone,
    /// On something else as well: on a key that is missing, or names what is not there.
    Together,
}

impl<'a> Report<'a> {
    /// An empty report; `open_secret` reads the `…_file` twins of secrets.
    pub fn new(open_secret: OpenSecret<'a>) -> Self {
        Self { problems: RefCell::default(), open_secret, asked: RefCell::default() }
    }

    /// An empty report that also notes every key that readers ask for.
    pub fn noting(open_secret: OpenSecret<'a>) -> Self {
        Self { asked: RefCell::new(Some(Log::default())), ..Self::new(open_secret) }
    }

    /// Notes that a reader asks for a key.
    pub(super) fn note(&self, section: &str, key: &str, want: impl FnOnce() -> (Want, Option<Json>)) {
        if let Some(log) = self.asked.borrow_mut().as_mut() {
            let (want, default) = want();
            log.note(section, key, want, default);
        }
    }

    /// The keys that readers asked for, where they were noted.
    pub fn into_asked(self) -> Vec<Asked> {
        self.asked.into_inner().map(Log::into_asked).unwrap_or_default()
    }

    /// Adds a problem.
    pub fn add(&self, problem: Problem) {
        self.problems.borrow_mut().push((problem, Stands::Together));
    }

    /// Adds a problem that is one whatever else the config says: a value of the wrong type, a filter
    /// that cannot be compiled, an unknown key.
    pub fn add_alone(&self, problem: Problem) {
        self.problems.borrow_mut().push((problem, Stands::Alone));
    }

    /// Whether nothing so far keeps `run` from starting.
    pub fn is_clean(&self) -> bool {
        self.problems.borrow().iter().all(|(p, _)| p.severity == Severity::Warning)
    }

    /// All problems, in the order they were found.
    pub fn into_problems(self) -> Vec<Problem> {
        self.problems.into_inner().into_iter().map(|(problem, _)| problem).collect()
    }

    /// Those problems that stand alone: what is right to say of a config of which a part is missing.
    pub fn into_problems_alone(self) -> Vec<Problem> {
        let all = self.problems.into_inner().into_iter();
        all.filter(|(_, stands)| *stands == Stands::Alone).map(|(problem, _)| problem).collect()
    }
}
