//! One `[[routes]]` table: which events it takes, where they go, and how it is read.

use std::sync::Arc;
use std::time::Duration;

use super::directory::DirectoryView;
use super::filter::{Filter, Literal};
use super::message::MessageRule;
use super::rooms::{RoomsRule, gives_ids};
use super::text::{filter, filter_at, full_key, told};
use super::{AccountView, SourceView};
use crate::core::model::{Path, Priority, SourceId};
use crate::core::schedule::backoff::Retry;
use crate::core::schedule::{OnExpiry, OnFull, RoutePolicy};
use crate::core::section::Section;

/// The words of `priority`.
pub const PRIORITIES: [(&str, Priority); 3] =
    [("high", Priority::High), ("normal", Priority::Normal), ("low", Priority::Low)];

/// A route, compiled.
#[derive(Debug)]
pub struct Rule {
    /// Which events it takes, beside `when`.
    pub scope: Scope,
    /// The last condition.
    pub when: Option<Filter>,
    /// What becomes of the events it takes; `None`: they are dropped.
    pub send: Option<Send>,
    /// What the scheduler must know.
    pub policy: RoutePolicy,
}

/// `source`, `topics` and `subjects`.
#[derive(Debug, Default)]
pub struct Scope {
    /// Events of this source only.
    pub source: Option<SourceId>,
    /// Events of these topics only.
    pub topics: Option<Vec<String>>,
    /// Events of subjects that one of these patterns fits.
    pub subjects: Option<Vec<String>>,
}

/// Where a route sends and what.
#[derive(Debug)]
pub struct Send {
    /// The account.
    pub account: AccountView,
    /// Whom it is for.
    pub target: Target,
    /// What is sent, one after the other; never empty.
    pub messages: Vec<MessageRule>,
    /// How urgent it is.
    pub priority: PriorityRule,
    /// How long it may wait; `None`: for ever.
    pub ttl: Option<Duration>,
    /// What it is the newest of; `None`: it stands for itself.
    pub conflate: Option<Filter>,
}

/// `rooms`, `users` and `all_rooms`.
#[derive(Debug)]
pub enum Target {
    /// Everybody in these rooms.
    Rooms(RoomsRule),
    /// Members of one room.
    Users {
        /// The room.
        rooms: RoomsRule,
        /// The members.
        users: Filter,
    },
    /// Every room.
    All,
}

impl Target {
    /// The endpoint that serves it.
    pub fn path(&self) -> Path {
        match self {
            Self::Rooms(_) => Path::Room,
            Self::Users { .. } => Path::Users,
            Self::All => Path::Broadcast,
        }
    }
}

/// `priority`: a word, or a filter that gives one.
#[derive(Debug)]
pub enum PriorityRule {
    /// The same for every event.
    Fixed(Priority),
    /// One of the words of [`PRIORITIES`].
    Filter(Filter),
}

/// What a route may refer to.
pub struct Known<'k> {
    /// The sources, by id.
    pub sources: &'k [SourceView],
    /// The accounts that are usable.
    pub accounts: &'k [AccountView],
    /// Names of all accounts in the config, usable or not.
    pub account_names: &'k [String],
    /// `[retry]`.
    pub retry: &'k Retry,
    /// The directories that are usable.
    pub directories: &'k [DirectoryView],
    /// Names of all directories in the config, usable or not.
    pub directory_names: &'k [String],
}

impl Rule {
    /// The route that takes everything when there is none in the config: machine events.
    pub fn for_everything(account: &AccountView, retry: &Retry) -> Self {
        Self {
            scope: Scope::default(),
            when: None,
            send: Some(Send {
                account: account.clone(),
                target: Target::Rooms(RoomsRule::Key),
                messages: vec![MessageRule::Machine(false)],
                priority: PriorityRule::Fixed(Priority::default()),
                ttl: None,
                conflate: None,
            }),
            policy: RoutePolicy {
                name: Arc::from("default"),
                retry: retry.clone(),
                on_expiry: OnExpiry::default(),
                on_full: OnFull::default(),
            },
        }
    }

    /// Reads a route; `None` when it cannot be used. Its problems are told, all of them.
    pub fn read(section: &Section<'_>, known: &Known<'_>) -> Option<Self> {
        let name = match section.node("name") {
            Some(_) => section.required_text("name"),
            None => {
                section.wrong(
                    "name",
                    "nothing",
                    "a name of its own for each route: letters and metrics carry it",
                );
                None
            }
        };
        let scope = Scope::read(section, known);
        let when = filter(section, "when");
        let dropped = section.boolean("drop", false);
        let send = match dropped {
            true => {
                refuse_for_drop(section);
                Some(None)
            }
            false => Send::read(section, known).map(Some),
        };
        let policy = RoutePolicy {
            name: Arc::from(name.clone().unwrap_or_default()),
            retry: retry(section, known.retry),
            on_expiry: section.word(
                "on_expiry",
                OnExpiry::default(),
                &[("drop", OnExpiry::Drop), ("dead_letter", OnExpiry::DeadLetter)],
            ),
            on_full: section.word(
                "on_full",
                OnFull::default(),
                &[
                    ("wait", OnFull::Wait),
                    ("drop_oldest", OnFull::DropOldest),
                    ("dead_letter", OnFull::DeadLetter),
                ],
            ),
        };
        name?;
        Some(Self { scope: scope?, when: when.ok()?, send: send?, policy })
    }
}

fn retry(section: &Section<'_>, base: &Retry) -> Retry {
    let Some(inner) = section.section("retry") else { return base.clone() };
    let retry = Retry::read(&inner, base);
    inner.finish();
    retry
}

/// A dropped event has no message: keys that shape one are mistakes.
fn refuse_for_drop(section: &Section<'_>) {
    for key in
        ["account", "rooms", "users", "all_rooms", "message", "messages", "priority", "ttl", "conflate"]
    {
        if section.node(key).is_some() {
            section.wrong(key, "a key beside drop = true", "no such key: what is dropped is not sent");
        }
    }
}

impl Scope {
    fn read(section: &Section<'_>, known: &Known<'_>) -> Option<Self> {
        let mut usable = true;
        let source = section.text("source").and_then(|name| {
            let found = known.sources.iter().find(|source| *source.name == *name);
            if found.is_none() {
                let names = known.sources.iter().map(|source| &*source.name);
                section.wrong("source", format!("{name:?}, which is no source"), told(&name, names));
                usable = false;
            }
            found.map(|source| source.id)
        });
        usable &= source.is_some() == section.node("source").is_some();
        let topics = section.texts("topics");
        for topic in topics.iter().flatten().filter(|topic| topic.starts_with('^')) {
            let wanted = "names of topics; for a pattern use when = '$topic | test(\"^…\")'";
            section.wrong("topics", format!("{topic:?}"), wanted);
            usable = false;
        }
        let subjects = section.texts("subjects");
        for subject in subjects.iter().flatten().filter(|subject| !is_subject(subject)) {
            let wanted =
                "a NATS subject: tokens with dots between, * for one token, > at the end for the rest";
            section.wrong("subjects", format!("{subject:?}"), wanted);
            usable = false;
        }
        for (key, list) in [("topics", &topics), ("subjects", &subjects)] {
            if list.as_ref().is_some_and(Vec::is_empty) {
                section.wrong(key, "an empty list", "one name at least, or no such key for all of them");
            }
            usable &= list.is_some() == section.node(key).is_some();
        }
        usable.then_some(Self { source, topics, subjects })
    }
}

/// Whether a text can be a subject pattern of NATS.
fn is_subject(pattern: &str) -> bool {
    let tokens: Vec<&str> = pattern.split('.').collect();
    tokens.iter().enumerate().all(|(index, token)| {
        !token.is_empty()
            && !token.contains(char::is_whitespace)
            && (*token != ">" || index + 1 == tokens.len())
    })
}

/// Whether a subject fits a pattern: `*` stands for one token, a final `>` for one or more.
pub fn fits(pattern: &str, subject: &str) -> bool {
    let mut tokens = subject.split('.');
    for wanted in pattern.split('.') {
        match (wanted, tokens.next()) {
            (">", Some(_)) => return true,
            ("*", Some(_)) => {}
            (wanted, Some(token)) if wanted == token => {}
            _ => return false,
        }
    }
    tokens.next().is_none()
}

impl Send {
    /// Whether a filter in it looks at `$headers`.
    pub fn uses_headers(&self) -> bool {
        self.target.uses_headers()
            || self.messages.iter().any(MessageRule::uses_headers)
            || self.priority.uses_headers()
            || self.conflate.as_ref().is_some_and(Filter::uses_headers)
    }

    fn read(section: &Section<'_>, known: &Known<'_>) -> Option<Self> {
        let account = account(section, known);
        let target = Target::read(section, known);
        let priority = PriorityRule::read(section);
        let ttl = section.optional_duration("ttl");
        if ttl.is_some_and(|ttl| ttl.is_zero()) {
            section.wrong("ttl", "no time at all", "more than zero, or no such key: then it waits for ever");
        }
        let conflate = filter(section, "conflate");
        let Some(account) = account else {
            MessageRule::compile_alone(section);
            return None;
        };
        let fixed = match priority {
            Some(PriorityRule::Fixed(priority)) => Some(priority),
            Some(PriorityRule::Filter(_)) | None => None,
        };
        // What is wrong with its rooms hides nothing that is wrong with what it says.
        let meant = match (section.boolean("all_rooms", false), section.node("users")) {
            (true, _) => Path::Broadcast,
            (false, Some(_)) => Path::Users,
            (false, None) => Path::Room,
        };
        let path = target.as_ref().map_or(meant, Target::path);
        let messages = MessageRule::read(section, &*account.provider, path, fixed);
        let target = target?;
        Some(Self {
            account,
            target,
            messages: messages?,
            priority: priority?,
            ttl,
            conflate: conflate.ok()?,
        })
    }
}

fn account(section: &Section<'_>, known: &Known<'_>) -> Option<AccountView> {
    let Some(name) = section.text("account") else {
        if section.node("account").is_some() {
            return None;
        }
        return match (known.accounts, known.account_names) {
            ([only], [_]) => Some(only.clone()),
            (_, [_]) => None,
            _ => {
                let names: Vec<String> = known.account_names.iter().map(|name| format!("{name:?}")).collect();
                section.wrong(
                    "account",
                    "nothing",
                    format!("the account that sends: one of {}", names.join(", ")),
                );
                None
            }
        };
    };
    let found = known.accounts.iter().find(|account| *account.name == *name);
    // An account that is there but broken has told so itself.
    if found.is_none() && !known.account_names.contains(&name) {
        let names = known.account_names.iter().map(String::as_str);
        section.wrong("account", format!("{name:?}, which is no account"), told(&name, names));
    }
    found.cloned()
}

impl Target {
    fn read(section: &Section<'_>, known: &Known<'_>) -> Option<Self> {
        let all = section.boolean("all_rooms", false);
        if all {
            let mut usable = true;
            for key in ["rooms", "users"] {
                if section.node(key).is_some() {
                    section.wrong(
                        key,
                        "a key beside all_rooms = true",
                        "no such key: a broadcast goes to every room",
                    );
                    usable = false;
                }
            }
            return usable.then_some(Self::All);
        }
        let rooms = RoomsRule::read(section, known);
        let users = filter(section, "users");
        let (rooms, users) = (rooms?, users.ok()?);
        Some(match users {
            Some(users) if !gives_ids(section, "users", &users) => return None,
            Some(users) => Self::Users { rooms, users },
            None => Self::Rooms(rooms),
        })
    }

    /// Where its rooms come from; `None`: it goes to all of them.
    pub fn rooms(&self) -> Option<&RoomsRule> {
        match self {
            Self::Rooms(rooms) | Self::Users { rooms, .. } => Some(rooms),
            Self::All => None,
        }
    }

    /// Whether the record's key is the room, or there is none.
    pub fn is_key(&self) -> bool {
        match self.rooms() {
            None | Some(RoomsRule::Key) => true,
            Some(RoomsRule::Filter(filter)) => filter.is_key(),
            Some(RoomsRule::Directory(_)) => false,
        }
    }

    /// Whether a filter in it looks at `$headers`.
    pub fn uses_headers(&self) -> bool {
        let in_rooms = matches!(self.rooms(), Some(RoomsRule::Filter(filter)) if filter.uses_headers());
        in_rooms || matches!(self, Self::Users { users, .. } if users.uses_headers())
    }
}

impl PriorityRule {
    /// Whether it looks at `$headers`.
    pub fn uses_headers(&self) -> bool {
        matches!(self, Self::Filter(filter) if filter.uses_headers())
    }

    fn read(section: &Section<'_>) -> Option<Self> {
        let text = section.text("priority");
        let Some(node) = section.node("priority") else { return Some(Self::Fixed(Priority::default())) };
        let text = text?;
        if let Some((_, priority)) = PRIORITIES.iter().find(|(word, _)| *word == text) {
            return Some(Self::Fixed(*priority));
        }
        if text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-')) {
            let words = PRIORITIES.iter().map(|(word, _)| *word);
            let mut wanted = told(&text, words);
            if !wanted.ends_with('?') {
                wanted += "; or a filter that gives one of them";
            }
            section.wrong("priority", format!("{text:?}"), wanted);
            return None;
        }
        let filter = filter_at(section, &full_key(section, "priority"), node, &text)?;
        match filter.constant().map(Literal::value) {
            None => Some(Self::Filter(filter)),
            Some(value) => {
                let word = PRIORITIES.iter().find(|(word, _)| value.as_text() == Some(word));
                if word.is_none() {
                    section.wrong(
                        "priority",
                        format!("a filter that gives {}", value.shown()),
                        "\"high\", \"normal\" or \"low\"",
                    );
                }
                word.map(|(_, priority)| Self::Fixed(*priority))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_fit_as_in_nats() {
        for (pattern, subject, expected) in [
            ("a.b", "a.b", true),
            ("a.b", "a.b.c", false),
            ("a.b.c", "a.b", false),
            ("a.*", "a.b", true),
            ("a.*", "a", false),
            ("a.>", "a.b.c", true),
            ("a.>", "a", false),
            (">", "a", true),
            ("*.b", "a.b", true),
        ] {
            assert_eq!(fits(pattern, subject), expected, "{pattern} {subject}");
        }
        assert!(is_subject("match.*.events") && is_subject("a.>"));
        assert!(!is_subject("") && !is_subject("a..b") && !is_subject("a.>.b") && !is_subject("a b"));
    }
}
