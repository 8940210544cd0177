//! What stands in the dead-letter topic, in the table beside it and in the simulator's log, letter by letter.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use roomcast::app;
use roomcast::broker::Archive;
use roomcast::config;
use roomcast::core::letter::LetterId;
use roomcast::core::model::{BaseId, Room};
use roomcast::core::replay::{Row, State};
use serde_json::{Value as Json, json};
use uuid::Uuid;

use crate::bed::{Bed, Letter};
use crate::live::{Sent, owed};
use crate::making::{Flaw, Made, mark};
use crate::support::block_on;
use crate::support::oracle::{Owed, judge};
use crate::support::provider::{Entry, Provider};
use crate::{QUOTA, tell};

/// With this variable the ninety-ninth of a hundred live lines may take a fifth longer beside replays than
/// without, and no more: for a release build on a quiet machine, where that can be judged.
const STRICT: &str = "REDRIVE_STRICT";
/// In any case it may not take as long as it takes until all slots of a quota have come back: then live lines
/// would wait for replays.
const STARVED: Duration = Duration::from_secs(1);

/// What was sent more often than once.
pub struct Verdict {
    /// Replays.
    pub repeats: usize,
    /// Live lines.
    pub live_repeats: usize,
}

/// A letter's place in all that is judged.
struct Judged<'a> {
    row: &'a Row,
    header: &'a BTreeMap<String, String>,
    flaw: Flaw,
    room: &'a str,
}

impl Verdict {
    /// Judges all of it: the letters that were made, and what became of each. `requests` are those of the
    /// summaries: each row names one of them.
    #[track_caller]
    pub fn of(
        bed: &Bed,
        made: &Made,
        config: &str,
        provider: &Provider,
        sent: &Sent,
        requests: &[Json],
    ) -> Self {
        let entries = provider.log();
        let live_repeats = assert_live(provider, &entries, sent);
        let mut replays: BTreeMap<&str, Vec<&Entry>> = BTreeMap::new();
        for entry in entries.iter().filter(|entry| entry.accepted && Owed::find(&entry.content).is_none()) {
            assert!(entry.resend, "a replay says that it may be a repeat: {entry:?}");
            replays.entry(entry.id.as_deref().expect("messages have ids")).or_default().push(entry);
        }
        let all = bed.letters();
        let letters: BTreeMap<LetterId, &Letter> =
            all.iter().map(|letter| (id(letter, "letter"), letter)).collect();
        let (again, first): (Vec<_>, Vec<_>) =
            letters.iter().partition(|(_, letter)| letter.headers.contains_key("roomcast-original"));
        assert_eq!(first.len(), made.letters.len(), "the letters that were made");
        let rows = rows(&*archive(config));
        assert_eq!(rows.keys().collect::<Vec<_>>(), first.iter().map(|(id, _)| *id).collect::<Vec<_>>());
        let by_value = made.values();
        let (mut ended, mut next) = (BTreeSet::new(), BTreeSet::new());
        for (id, letter) in first {
            let value = letter.value.as_deref().expect("values are kept");
            let number = by_value[value];
            let flaw = made.letters[number].0;
            assert!(ended.insert(number), "{number} has two letters");
            let judged =
                Judged { row: &rows[id], header: &letter.headers, flaw, room: &made.letters[number].1 };
            judged.assert_row(requests);
            judged.assert_sent(number, &mut replays);
            next.extend(judged.row.next.iter().map(|next| (*next, *id)));
        }
        assert!(replays.is_empty(), "accepted, and no letter's: {replays:?}");
        let linked = again.iter().map(|(id, letter)| (**id, self::id(letter, "original"))).collect();
        assert_eq!(next, linked, "each row names its new letter, which names the first");
        assert_eq!(next.len() as u64, made.irreparable());
        let accepted =
            entries.iter().filter(|entry| entry.accepted && Owed::find(&entry.content).is_none()).count();
        Self { repeats: accepted - (made.letters.len() - next.len()), live_repeats }
    }
}

impl Judged<'_> {
    #[track_caller]
    fn assert_row(&self, requests: &[Json]) {
        assert_eq!(self.row.state, State::Replayed, "{:?}", self.row);
        assert!(requests.contains(&json!(self.row.request)), "{:?}, of {requests:?}", self.row);
        assert_eq!(self.row.next.len(), usize::from(self.flaw == Flaw::Irreparable), "{:?}", self.row);
        assert_eq!(self.header["roomcast-class"], self.flaw.class());
    }

    /// What it owes was accepted under its message's id, and is taken out of the replays.
    #[track_caller]
    fn assert_sent(&self, number: usize, replays: &mut BTreeMap<&str, Vec<&Entry>>) {
        if self.flaw == Flaw::Irreparable {
            return;
        }
        let base: Uuid = self.header["roomcast-id"].parse().expect("a UUID");
        let id = BaseId(base).message(&Room(self.room.into())).0.to_string();
        let accepted =
            replays.remove(&*id).unwrap_or_else(|| panic!("{number} was not sent: {:?}", self.row));
        let is_its = |entry: &&Entry| {
            entry.room.as_deref() == Some(self.room) && entry.content.contains(&mark(number))
        };
        assert!(accepted.iter().all(is_its), "{number}: {accepted:?}");
    }
}

/// Live traffic kept its promises, and the account was never used beyond its quota. Answers with how many
/// lines came again.
#[track_caller]
fn assert_live(provider: &Provider, entries: &[Entry], sent: &Sent) -> usize {
    let judgement = judge(&owed(sent), entries, &BTreeSet::new());
    judgement.assert_kept();
    assert!(judgement.repeated_unmarked.is_empty(), "{:?}", judgement.repeated_unmarked);
    let stats = provider.stats();
    assert_eq!((&stats["refused"], &stats["bans"]), (&json!({}), &json!(0)), "{stats:#}");
    assert_eq!((&stats["unseen"]["pace"], &stats["repeats_unmarked"]), (&Json::Null, &json!(0)), "{stats:#}");
    let busiest = stats["max_calls_per_second"]["room"].as_u64().expect("a number");
    assert!(busiest <= u64::from(QUOTA), "{busiest} calls in a second, of {QUOTA}");
    judgement.repeated_marked
}

/// The slow ones of live lines are about as slow beside replays as without: before, after, beside, each
/// in order of length.
#[track_caller]
pub fn assert_latency(bed: &str, paces: &[Vec<Duration>; 3]) {
    let of = |all: &[Duration], part: usize| all[all.len() * part / 100];
    for (what, all) in ["before replays", "after replays", "beside replays"].into_iter().zip(paces) {
        tell(&format!(
            "{bed}: {} live lines {what}: p50 {:.1?}, p99 {:.1?}, longest {:.1?}",
            all.len(),
            of(all, 50),
            of(all, 99),
            all[all.len() - 1]
        ));
    }
    let [before, after, beside] = paces.each_ref().map(|all| of(all, 99));
    let alone = before.max(after);
    let busy = processes_a_core();
    let allowed = match std::env::var_os(STRICT) {
        Some(_) => alone.mul_f64(1.2),
        None => alone + STARVED,
    };
    tell(&format!(
        "{bed}: p99 beside replays is {:.2} times that without; {busy:.1} processes wanted each core",
        beside.as_secs_f64() / alone.as_secs_f64()
    ));
    assert!(beside <= allowed, "p99 {beside:?} beside replays, {alone:?} without, {allowed:?} allowed");
}

/// How many processes wanted each core within the last minute.
fn processes_a_core() -> f64 {
    let load = std::fs::read_to_string("/proc/loadavg").expect("Linux tells its load");
    let load: f64 = load.split(' ').next().and_then(|load| load.parse().ok()).expect("a number");
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    load / f64::from(u32::try_from(cores).expect("a few cores"))
}

fn id(letter: &Letter, name: &str) -> LetterId {
    let text = &letter.headers[&format!("roomcast-{name}")];
    LetterId(text.parse().expect("a UUID"))
}

/// The archive of a config's only source, as another process has it.
fn archive(config: &str) -> Arc<dyn Archive> {
    let folder = tempfile::tempdir().expect("a scratch folder");
    let path = folder.path().join("config.toml");
    std::fs::write(&path, config).expect("the scratch folder can be written");
    let loaded = config::load(&[path], std::iter::empty()).unwrap_or_else(|_| panic!("{config}"));
    let app = app::build(&loaded, &app::open_secret).unwrap_or_else(|problems| panic!("{problems:?}"));
    app.sources[0].broker.archive()
}

fn rows(archive: &dyn Archive) -> BTreeMap<LetterId, Row> {
    let rows =
        block_on(archive.table().load(|key| Row::letter(key).is_some())).expect("the table can be read");
    let row = |(key, value): (String, bytes::Bytes)| {
        (Row::letter(&key).expect("a letter's key"), Row::read(&value).expect("a letter's row"))
    };
    rows.into_iter().map(row).collect()
}
