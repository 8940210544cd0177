//! Routes: what an event becomes.
//!
//! [`Rules`] is the config's routes, compiled once. [`Rules::plan`] decodes a record, finds the
//! first route that takes it and renders its messages; it cannot fail, because whatever goes wrong
//! is a letter or a counted drop. [`Rules::explain`] tells the same with its reasons. Nothing here
//! waits, sends or remembers one record while it looks at the next.

mod address;
mod conflate;
pub mod directory;
pub mod explain;
mod fields;
pub mod filter;
mod identity;
mod make;
mod message;
mod plan;
mod replay;
#[cfg(test)]
mod replay_tests;
mod rooms;
mod rule;
mod template;
mod text;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::decode::{KeyFormat, Payload};
use super::model::{AccountId, Path, RouteId, SourceId};
use super::provider::Provider;
use super::schedule::RoutePolicy;
use super::schedule::backoff::Retry;
use super::section::{Section, Value};

use directory::DirectoryView;
use rule::{Known, Rule};

pub use explain::{Explanation, Tried};
pub use rule::fits;
pub use text::told;

/// An account as routes see it.
#[derive(Clone, Debug)]
pub struct AccountView {
    /// Its id.
    pub id: AccountId,
    /// Its name.
    pub name: Arc<str>,
    /// Its provider.
    pub provider: Arc<dyn Provider>,
}

/// A source as routes see it.
#[derive(Clone, Debug)]
pub(crate) struct SourceView {
    id: SourceId,
    name: Arc<str>,
    payload: Payload,
    key_format: KeyFormat,
    unmatched: Unmatched,
}

/// What becomes of an event that no route takes: `unmatched`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Unmatched {
    /// Dropped and counted.
    #[default]
    Drop,
    /// A letter of class `no_route`.
    DeadLetter,
}

/// All routes, compiled.
#[derive(Debug)]
pub struct Rules {
    rules: Vec<Rule>,
    sources: Vec<SourceView>,
    max_rooms_per_event: usize,
    /// Whether any filter looks at `$headers`: else they are not made.
    uses_headers: bool,
    /// The ids of the routes, in their order.
    ids: Vec<RouteId>,
}

impl Rules {
    /// Compiles `[[routes]]`, `[retry]` and each source's `unmatched`, `payload` and `key_format`.
    /// `root` is the whole config, not finished here; `sources` are the sections of the sources;
    /// `directories` are those that can be used.
    /// `None` when a route cannot be used; every problem is told to the report.
    pub fn build(
        root: &Section<'_>,
        accounts: &[AccountView],
        sources: &[(SourceId, &Section<'_>)],
        directories: &[DirectoryView],
        max_rooms_per_event: usize,
    ) -> Option<Self> {
        let sources: Vec<SourceView> = sources.iter().map(|(id, section)| source(*id, section)).collect();
        let retry = match root.section("retry") {
            // Not finished here: `room_gone` stands in it too, which `app` reads.
            Some(section) => Retry::read(&section, &Retry::default()),
            None => Retry::default(),
        };
        let mut account_names = names(root, "accounts");
        if account_names.is_empty() {
            account_names = accounts.iter().map(|account| account.name.to_string()).collect();
        }
        let known = Known {
            sources: &sources,
            accounts,
            account_names: &account_names,
            retry: &retry,
            directories,
            directory_names: &names(root, "directories"),
        };
        let rules = rules(root, &known)?;
        let uses_headers = rules.iter().any(|rule| {
            let send = rule.send.as_ref();
            rule.when.as_ref().is_some_and(filter::Filter::uses_headers)
                || send.is_some_and(rule::Send::uses_headers)
        });
        let ids = (0..=u16::MAX).take(rules.len()).map(RouteId).collect();
        Some(Self { rules, sources, max_rooms_per_event, uses_headers, ids })
    }

    /// Gives the routes other ids than their places, in their order: after a reload a place may have
    /// been another route's, of which messages wait.
    pub fn set_ids(&mut self, ids: Vec<RouteId>) {
        debug_assert_eq!(ids.len(), self.rules.len(), "each route has an id");
        self.ids = ids;
    }

    /// What the scheduler must know of each route, in their order.
    pub fn policies(&self) -> Vec<RoutePolicy> {
        self.rules.iter().map(|rule| rule.policy.clone()).collect()
    }

    /// The same by their ids, which are not their places after a reload.
    pub fn policies_by_id(&self) -> BTreeMap<RouteId, RoutePolicy> {
        self.routes().map(|(id, rule)| (id, rule.policy.clone())).collect()
    }

    /// The first source, by name, whose events may go out through that account: the one whose table
    /// keeps the account's counts. `None` when no route sends through it.
    pub fn first_source_of(&self, account: AccountId) -> Option<SourceId> {
        self.sources_of(account).into_iter().min()
    }

    /// The sources, by name, whose events may go out through that account.
    pub fn sources_of(&self, account: AccountId) -> BTreeSet<SourceId> {
        let all = || self.sources.iter().map(|source| source.id);
        let of = |rule: &Rule| rule.scope.source.map_or_else(|| all().collect(), |only| vec![only]);
        self.sending(account).flat_map(|(rule, _)| of(rule)).collect()
    }

    /// The endpoints of that account that routes send to.
    pub fn paths_of(&self, account: AccountId) -> BTreeSet<Path> {
        self.sending(account).map(|(_, send)| send.target.path()).collect()
    }

    /// Whether every room that this account sends to is named by its record's key: then one partition,
    /// and with it one process, sends to it.
    pub fn rooms_are_keys(&self, account: AccountId) -> bool {
        self.sending(account).all(|(_, send)| send.target.is_key())
    }

    fn sending(&self, account: AccountId) -> impl Iterator<Item = (&Rule, &rule::Send)> {
        let sends = self.rules.iter().filter_map(|rule| Some((rule, rule.send.as_ref()?)));
        sends.filter(move |(_, send)| send.account.id == account)
    }

    /// How the keys of a source are read.
    pub fn key_format(&self, source: SourceId) -> KeyFormat {
        let found = self.sources.iter().find(|view| view.id == source);
        found.map_or_else(KeyFormat::default, |view| view.key_format)
    }

    /// The routes in their order, with their ids.
    fn routes(&self) -> impl Iterator<Item = (RouteId, &Rule)> {
        // More routes than ids are refused at the start.
        self.ids.iter().copied().zip(&self.rules)
    }
}

fn source(id: SourceId, section: &Section<'_>) -> SourceView {
    SourceView {
        id,
        name: Arc::from(section.name()),
        payload: section.word(
            "payload",
            Payload::default(),
            &[("json", Payload::Json), ("text", Payload::Text), ("base64", Payload::Base64)],
        ),
        key_format: section.word(
            "key_format",
            KeyFormat::default(),
            &[("text", KeyFormat::Text), ("int64", KeyFormat::Int64), ("int32", KeyFormat::Int32)],
        ),
        unmatched: section.word(
            "unmatched",
            Unmatched::default(),
            &[("drop", Unmatched::Drop), ("dead_letter", Unmatched::DeadLetter)],
        ),
    }
}

/// Names of all accounts, or directories, in the config: one that could not be built has told its own
/// problem, and a route that names it is not wrong.
fn names(root: &Section<'_>, key: &str) -> Vec<String> {
    match root.node(key).map(|node| &node.value) {
        Some(Value::Table(table)) => table.keys().cloned().collect(),
        _ => Vec::new(),
    }
}

fn rules(root: &Section<'_>, known: &Known<'_>) -> Option<Vec<Rule>> {
    let sections = root.sections("routes");
    if sections.is_empty() {
        return match (known.accounts, known.account_names) {
            ([only], [_]) => Some(vec![Rule::for_everything(only, known.retry)]),
            // `app` tells that there is no account, or why the one cannot be made.
            (_, [_] | []) => None,
            _ => {
                let wanted = "one [[routes]] at least: with several accounts it must say which one sends";
                root.wrong("routes", "nothing", wanted);
                None
            }
        };
    }
    let mut names: Vec<String> = Vec::new();
    let mut rules = Vec::new();
    for section in &sections {
        if let Some(name) = section.node("name").and_then(|_| section.text("name")) {
            if names.contains(&name) {
                let wanted =
                    "another name: ids of messages are made from it, and letters and metrics carry it";
                section.wrong("name", format!("{name:?}, which another route has"), wanted);
            }
            names.push(name);
        }
        rules.push(Rule::read(section, known));
    }
    if rules.len() > usize::from(u16::MAX) {
        root.wrong("routes", format!("{} routes", rules.len()), format!("at most {}", u16::MAX));
        return None;
    }
    sections.into_iter().for_each(Section::finish);
    rules.into_iter().collect()
}
