//! What a running process makes of its config when that is read again.
//!
//! All or nothing, with one exception that is said: a key that needs a restart keeps the value it had,
//! and the rest takes. [`read`] builds the new config in whole, so that a wrong one changes nothing;
//! then it puts back what needs a restart and builds that, which is what may run. Which keys differ is
//! a comparison of what was written; secret files count by their contents.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;

use super::{App, Shares};
use crate::config::Loaded;
use crate::core::model::{AccountId, Path, SourceId};
use crate::core::provider::{Limits, Provider};
use crate::core::schedule::Renewal;
use crate::core::section::{Node, OpenSecret, Place, Problem, Severity, Table, Value};
use crate::core::share::settings::{KEYS as SHARE_KEYS, Sharing};

/// The keys from the root to a setting.
type Key = Vec<String>;

/// What runs, as far as another config is compared with it.
#[derive(Clone, Debug)]
pub struct Running {
    table: Table,
    /// What was in the secret files, by the keys that name them: never the secrets themselves.
    secrets: BTreeMap<Key, u64>,
    hasher: RandomState,
    accounts: Vec<Kept>,
    /// Every secret file that was asked for, whether it could be read or not.
    pub files: BTreeSet<String>,
}

#[derive(Clone, Debug)]
struct Kept {
    name: Arc<str>,
    provider: Arc<dyn Provider>,
    shares: Shares,
    /// Whether a route broadcasts through it.
    broadcasts: bool,
    /// The source beside whose letters its calls of the day are counted, from the start on.
    counted_by: Option<SourceId>,
}

/// What another config comes to.
pub struct Reread {
    /// What may run: as written, but for what needs a restart.
    pub app: App,
    /// What is compared with the next one, when this one was taken.
    pub running: Running,
    /// Keys that differ and take, by their names for people.
    pub takes: Vec<String>,
    /// Keys that differ and need a restart, with why where that is not plain.
    pub needs_restart: Vec<String>,
    /// What changes of calls, by `AccountId`.
    pub renewals: Vec<Renewal>,
}

/// Opens secret files and remembers which, and a hash of what was in each.
struct Opened<'o> {
    open: OpenSecret<'o>,
    hasher: RandomState,
    seen: RefCell<BTreeMap<String, Option<u64>>>,
}

impl Opened<'_> {
    fn open(&self, file: &str) -> Result<String, String> {
        let secret = (self.open)(file);
        let hash = secret.as_ref().ok().map(|secret| self.hasher.hash_one(secret));
        self.seen.borrow_mut().insert(file.to_owned(), hash);
        secret
    }
}

/// Checks and constructs a config for the start of a process, with what later ones are compared with.
///
/// # Errors
/// As [`super::build`].
pub fn begin(loaded: &Loaded, open_secret: OpenSecret<'_>) -> Result<(App, Running), Vec<Problem>> {
    let hasher = RandomState::new();
    let opened = Opened { open: open_secret, hasher: hasher.clone(), seen: RefCell::default() };
    let app = super::build(loaded, &|file| opened.open(file))?;
    let running = Running::of(&app, loaded.table.clone(), opened);
    Ok((app, running))
}

/// What a config that was read again comes to.
///
/// # Errors
/// All problems found, and the secret files that it names: nothing may change.
pub fn read(
    running: &Running,
    loaded: Loaded,
    open_secret: OpenSecret<'_>,
) -> Result<Reread, (Vec<Problem>, BTreeSet<String>)> {
    let opening = || Opened { open: open_secret, hasher: running.hasher.clone(), seen: RefCell::default() };
    let opened = opening();
    let app = super::build(&loaded, &|file| opened.open(file));
    let files: BTreeSet<String> = opened.seen.borrow().keys().cloned().collect();
    let app = app.map_err(|problems| (problems, files.clone()))?;
    let mut new = Running::of(&app, loaded.table.clone(), opened);
    let differ = differences(running, &new);
    let mut held: BTreeMap<Key, &'static str> = BTreeMap::new();
    held.extend(differ.iter().filter(|key| effect(key) == Effect::Restart).map(|key| (key.clone(), "")));
    let texts = loaded.texts;
    let mut app = app;
    loop {
        if !held.is_empty() {
            let table = put_back(&running.table, &loaded.table, held.keys());
            let loaded = Loaded { table, texts: texts.clone() };
            let opened = opening();
            app = super::build(&loaded, &|file| opened.open(file))
                .map_err(|problems| (because(&held, problems), files.clone()))?;
            new = Running::of(&app, loaded.table, opened);
        }
        // Held back by what the settings amount to, which may be another round.
        let more = amounts(running, &new);
        let before = held.len();
        for (key, why) in more {
            held.entry(key).or_insert(why);
        }
        if held.len() == before {
            break;
        }
    }
    for key in held.keys() {
        match running.secrets.get(key) {
            Some(hash) => drop(new.secrets.insert(key.clone(), *hash)),
            None => drop(new.secrets.remove(key)),
        }
    }
    new.files.extend(files);
    for (new, old) in new.accounts.iter_mut().zip(&running.accounts) {
        new.counted_by = old.counted_by;
    }
    let is_held = |key: &&Key| held.keys().any(|held| key.starts_with(held));
    let takes: Vec<&Key> = differ.iter().filter(|key| !is_held(key)).collect();
    let renewals = new.accounts.iter().map(|account| renewal(&account.name, &takes)).collect();
    let told = |(key, why): (&Key, &&str)| match *why {
        "" => key.join("."),
        why => format!("{} ({why})", key.join(".")),
    };
    Ok(Reread {
        takes: takes.iter().map(|key| label(key, &running.table, &loaded.table)).collect(),
        needs_restart: held.iter().map(told).collect(),
        app,
        running: new,
        renewals,
    })
}

impl Running {
    fn of(app: &App, table: Table, opened: Opened<'_>) -> Self {
        let seen = opened.seen.into_inner();
        let mut secrets = BTreeMap::new();
        named_files(&table, &mut Vec::new(), &mut |key, file| {
            if let Some(Some(hash)) = seen.get(file) {
                secrets.insert(key.to_vec(), *hash);
            }
        });
        let kept = |(account, id): (&super::Account, u16)| Kept {
            name: account.name.clone(),
            provider: account.provider.clone(),
            shares: account.shares.clone(),
            broadcasts: app.rules.paths_of(AccountId(id)).contains(&Path::Broadcast),
            counted_by: app.rules.first_source_of(AccountId(id)),
        };
        let accounts = app.accounts.iter().zip(0..).map(kept).collect();
        Self { table, secrets, hasher: opened.hasher, accounts, files: seen.into_keys().collect() }
    }

    /// Whether that account's calls go to the same addresses within the same time as `other`'s.
    pub fn same_client(&self, account: AccountId, other: &dyn Provider) -> bool {
        let of = &self.accounts[usize::from(account.0)].provider;
        of.base_urls() == other.base_urls() && of.timeout() == other.timeout()
    }
}

/// Visits every `…_file` key with its file.
pub(super) fn named_files(table: &Table, path: &mut Key, visit: &mut impl FnMut(&[String], &str)) {
    for (key, node) in table {
        path.push(key.clone());
        match &node.value {
            Value::Table(table) => named_files(table, path, visit),
            Value::Text(file) if key.ends_with("_file") => visit(path, file),
            _ => {}
        }
        path.pop();
    }
}

/// What a changed key does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effect {
    Takes,
    Restart,
}

/// The keys of an account that say which app it is, or what its messages were rendered for.
const OF_THE_APP: [&str; 6] = ["provider", "org", "app", "app_key", "batch", "rooms_per_call"];

/// The keys whose change makes for a new login.
const CREDENTIALS: [&str; 8] = [
    "base_url",
    "client_id",
    "client_secret",
    "client_secret_file",
    "app_token",
    "app_token_file",
    "app_secret",
    "app_secret_file",
];

/// What changes when this key does. Whoever adds a section that can be reloaded adds it here.
fn effect(key: &[String]) -> Effect {
    let key: Vec<&str> = key.iter().map(String::as_str).collect();
    let takes = match key[..] {
        ["routes" | "retry" | "directories" | "letters", ..] | ["admin", "watch"] => true,
        ["limits", "max_waiting_per_room" | "max_rooms_per_event" | "drain_timeout"] => true,
        ["accounts", _, key] => !OF_THE_APP.contains(&key),
        ["accounts", _, "quota", key] => !SHARE_KEYS.contains(&key),
        ["sources", _, "unmatched" | "payload" | "key_format"] => true,
        _ => false,
    };
    if takes { Effect::Takes } else { Effect::Restart }
}

/// Every key whose value differs, whichever of both has it.
fn differences(old: &Running, new: &Running) -> BTreeSet<Key> {
    let mut found = BTreeSet::new();
    compare(&old.table, &new.table, &mut Vec::new(), &mut found);
    // A file of the same name whose contents differ.
    let changed =
        new.secrets.iter().filter(|(key, hash)| old.secrets.get(*key).is_some_and(|old| old != *hash));
    found.extend(changed.map(|(key, _)| key.clone()));
    found
}

fn compare(old: &Table, new: &Table, path: &mut Key, found: &mut BTreeSet<Key>) {
    let none = Table::new();
    let keys: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    for key in keys {
        path.push(key.clone());
        let (old, new) = (old.get(key).map(|node| &node.value), new.get(key).map(|node| &node.value));
        // An account or a source that comes or goes is one change; another table has its defaults.
        let is_one = path.len() == 2 && matches!(path[0].as_str(), "accounts" | "sources" | "directories");
        match (old, new) {
            (Some(Value::Table(old)), Some(Value::Table(new))) => compare(old, new, path, found),
            (Some(Value::Table(old)), None) if !is_one => compare(old, &none, path, found),
            (None, Some(Value::Table(new))) if !is_one => compare(&none, new, path, found),
            (Some(old), Some(new)) if same(old, new) => {}
            _ => drop(found.insert(path.clone())),
        }
        path.pop();
    }
}

/// Whether two values say the same, wherever they were written.
fn same(old: &Value, new: &Value) -> bool {
    match (old, new) {
        (Value::Text(old), Value::Text(new)) => old == new,
        (Value::Integer(old), Value::Integer(new)) => old == new,
        (Value::Float(old), Value::Float(new)) => old.to_bits() == new.to_bits(),
        (Value::Boolean(old), Value::Boolean(new)) => old == new,
        (Value::List(old), Value::List(new)) => {
            old.len() == new.len() && old.iter().zip(new).all(|(old, new)| same(&old.value, &new.value))
        }
        (Value::Table(old), Value::Table(new)) => {
            old.len() == new.len()
                && old.iter().zip(new).all(|((a, old), (b, new))| a == b && same(&old.value, &new.value))
        }
        _ => false,
    }
}

/// A changed key for people; of the routes, which.
fn label(key: &Key, old: &Table, new: &Table) -> String {
    if *key != ["routes"] {
        let come_or_gone = match (find(old, key), find(new, key)) {
            (None, Some(Node { value: Value::Table(_), .. })) => " (new)",
            (Some(Node { value: Value::Table(_), .. }), None) => " (gone)",
            _ => "",
        };
        return key.join(".") + come_or_gone;
    }
    let routes = |table| match find(table, key).map(|node| &node.value) {
        Some(Value::List(routes)) => routes.iter().filter_map(named).collect(),
        _ => BTreeMap::new(),
    };
    let (old, new): (BTreeMap<&str, &Value>, BTreeMap<&str, &Value>) = (routes(old), routes(new));
    let names: BTreeSet<&str> = old.keys().chain(new.keys()).copied().collect();
    let words = names.into_iter().filter_map(|name| match (old.get(name), new.get(name)) {
        (Some(old), Some(new)) if same(old, new) => None,
        (Some(_), Some(_)) => Some(name.to_owned()),
        (None, _) => Some(format!("{name} (new)")),
        (_, None) => Some(format!("{name} (gone)")),
    });
    let words: Vec<String> = words.collect();
    match words.is_empty() {
        true => "the order of routes".to_owned(),
        false => format!("routes {}", words.join(", ")),
    }
}

/// A route with its name.
fn named(route: &Node) -> Option<(&str, &Value)> {
    let Value::Table(table) = &route.value else { return None };
    match &table.get("name")?.value {
        Value::Text(name) => Some((name, &route.value)),
        _ => None,
    }
}

/// The new table with these keys as they were.
fn put_back<'k>(old: &Table, new: &Table, keys: impl Iterator<Item = &'k Key>) -> Table {
    let mut table = new.clone();
    for key in keys {
        set(&mut table, key, find(old, key).map(unplaced));
    }
    table
}

fn find<'t>(table: &'t Table, key: &[String]) -> Option<&'t Node> {
    let (first, rest) = key.split_first()?;
    let node = table.get(first)?;
    match (&node.value, rest) {
        (_, []) => Some(node),
        (Value::Table(table), rest) => find(table, rest),
        _ => None,
    }
}

fn set(table: &mut Table, key: &[String], node: Option<Node>) {
    let Some((first, rest)) = key.split_first() else { return };
    if rest.is_empty() {
        match node {
            Some(node) => drop(table.insert(first.clone(), node)),
            None => drop(table.remove(first)),
        }
        return;
    }
    let empty =
        || Node { value: Value::Table(Table::new()), place: Place::Nowhere, key_place: Place::Nowhere };
    let inner = table.entry(first.clone()).or_insert_with(empty);
    if let Value::Table(inner) = &mut inner.value {
        set(inner, rest, node);
    }
}

/// A node of a file that says something else by now: its place there means nothing.
fn unplaced(node: &Node) -> Node {
    let place = |place: &Place| match place {
        Place::Variable(_) => place.clone(),
        Place::File { .. } | Place::Inside { .. } | Place::Nowhere => Place::Nowhere,
    };
    let value = match &node.value {
        Value::Table(table) => {
            Value::Table(table.iter().map(|(key, node)| (key.clone(), unplaced(node))).collect())
        }
        Value::List(nodes) => Value::List(nodes.iter().map(unplaced).collect()),
        other => other.clone(),
    };
    Node { value, place: place(&node.place), key_place: place(&node.key_place) }
}

/// What cannot change while the process runs although no single key says so.
fn amounts(old: &Running, new: &Running) -> Vec<(Key, &'static str)> {
    let mut held = Vec::new();
    for (old, new) in old.accounts.iter().zip(&new.accounts) {
        let is_leased = |account: &Kept| matches!(account.shares.sharing, Sharing::Leased { .. });
        if is_leased(old) != is_leased(new) {
            let why = "an account whose quotas are leased gets its first route, or loses its last";
            held.push((vec!["routes".to_owned()], why));
        }
        let counts_days = |limits: &Limits| limits.paths.map(|path| path.calls_per_day.is_some());
        let (before, after) = (counts_days(old.provider.limits()), counts_days(new.provider.limits()));
        if before != after {
            let key = ["accounts", &new.name, "quota", "broadcasts_per_day"].map(str::to_owned);
            held.push((key.to_vec(), "a quota by the day comes or goes"));
        } else if new.broadcasts && after[Path::Broadcast as usize] && old.counted_by != new.counted_by {
            let why = "another source keeps the counts of an account's calls of the day";
            held.push((vec!["routes".to_owned()], why));
        }
    }
    held
}

/// Problems of what would run: each key may be right, and what needs a restart is needed by the rest.
fn because(held: &BTreeMap<Key, &'static str>, mut problems: Vec<Problem>) -> Vec<Problem> {
    let keys: Vec<String> = held.keys().map(|key| key.join(".")).collect();
    problems.retain(|problem| problem.severity == Severity::Error);
    problems.insert(
        0,
        Problem {
            severity: Severity::Error,
            place: Place::Nowhere,
            key: keys.join(", "),
            found: "a change that needs a restart, and other changes that do not work without it".to_owned(),
            wanted: "a restart, or the other changes alone; nothing was changed".to_owned(),
        },
    );
    problems
}

/// What of an account's calls these changes concern.
fn renewal(account: &str, takes: &[&Key]) -> Renewal {
    let of = takes.iter().filter(|key| key.len() > 2 && key[0] == "accounts" && key[1] == account);
    let of: Vec<&str> = of.map(|key| key[2].as_str()).filter(|key| *key != "quota").collect();
    match of {
        none if none.is_empty() => Renewal::None,
        some if some.iter().any(|key| CREDENTIALS.contains(key)) => Renewal::Credentials,
        _ => Renewal::Calls,
    }
}

#[cfg(test)]
#[path = "reload_tests.rs"]
mod tests;
