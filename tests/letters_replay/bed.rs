//! A source with letters, on every broker; the command as a process; the daemon's part, played by hand.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bytes::Bytes;
use roomcast::broker::{Archive, Arrival, Build, Command, Reading, SourceLimits};
use roomcast::core::letter::{Letter, LetterId, Names};
use roomcast::core::model::{BaseId, Class, Record, Room, SourceId, Tries};
use roomcast::core::replay::{Request, Row, State, open};
use roomcast::core::section::{Table, Value};
use roomcast::core::time::Wall;
use serde_json::Value as Json;
use tempfile::TempDir;
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::beds::{Bed, Sample};
use crate::source::{Source, broker};
use crate::support::block_on;
use crate::support::daemon::roomcast;
use crate::support::process::Process;

/// Longer than anything takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(120);
/// What no output may show.
const SECRET: &str = "s3cr3t-of-the-account";
/// An account that nobody calls.
pub const ACCOUNT: &str = "[accounts.live]\nprovider = \"easemob\"\nbase_url = \"http://127.0.0.1:9\"\norg = \"acme\"\n\
    app = \"live\"\nclient_id = \"id\"\nclient_secret = \"s3cr3t-of-the-account\"\n";

/// A letter to be written.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The record's key.
    pub key: String,
    /// The record's value.
    pub value: String,
    /// Its class.
    pub class: Class,
    /// The room it owes.
    pub room: String,
    /// Written without its value.
    pub is_truncated: bool,
}

impl Wanted {
    /// A rejected one whose value has its number.
    pub fn new(number: usize) -> Self {
        Self {
            key: format!("room-{}", number % 7),
            value: format!("{{\"type\":\"gift\",\"n\":{number}}}"),
            class: Class::Rejected,
            room: format!("room-{}", number % 7),
            is_truncated: false,
        }
    }
}

/// A source with letters and a config for the command.
pub struct Place {
    bed: Box<dyn Bed>,
    build: Build,
    folder: TempDir,
    /// The config of the command.
    pub config: String,
    /// The letters, in the order in which they were wanted.
    pub letters: Vec<LetterId>,
    /// Their records.
    pub records: Vec<Record>,
}

impl Place {
    /// Publishes a record for each letter and writes the letters. `rest` is the config but for the source.
    pub fn with(bed: Box<dyn Bed>, build: Build, rest: &str, wanted: &[Wanted]) -> Self {
        let folder = tempfile::tempdir().expect("a scratch folder");
        let kind = broker(build, &bed.settings()).kind();
        let source = format!("[sources.live]\nkind = {kind:?}\n{}", toml(&bed.settings()));
        let config = format!("{source}\n{rest}");
        fs::write(folder.path().join("roomcast.toml"), &config).expect("the scratch folder can be written");
        let mut place = Self { bed, build, folder, config, letters: Vec::new(), records: Vec::new() };
        place.publish(wanted);
        place
    }

    /// More of them.
    pub fn publish(&mut self, wanted: &[Wanted]) {
        let mut source = Source::ready(self.build, &self.bed.settings());
        let samples: Vec<Sample> = wanted
            .iter()
            .map(|wanted| Sample {
                key: wanted.key.clone(),
                value: wanted.value.clone().into_bytes(),
                headers: vec![("Own".to_owned(), "kept".to_owned())],
            })
            .collect();
        self.bed.publish(&samples);
        let records = source.records(wanted.len());
        let sealed = records.iter().zip(wanted).map(|(record, wanted)| {
            let sealed = letter(record, wanted).seal(&names(record), wall());
            if wanted.is_truncated { sealed.truncated() } else { sealed }
        });
        for letter in sealed.collect::<Vec<_>>() {
            self.letters.push(letter.id);
            block_on(source.started.letters.write(letter)).expect("the letter is confirmed");
        }
        source.settle(&records);
        source.stop();
        self.records.extend(records);
    }

    /// Publishes records that become no letters, and finishes them.
    pub fn deliver(&self, samples: &[Sample]) {
        let mut source = Source::ready(self.build, &self.bed.settings());
        self.bed.publish(samples);
        let records = source.records(samples.len());
        source.settle(&records);
        source.stop();
    }

    /// Publishes one record for whoever reads.
    pub fn publish_live(&self, value: &str) {
        self.publish_all([("live".to_owned(), value.to_owned())]);
    }

    /// The same of several, with their keys.
    pub fn publish_all(&self, records: impl IntoIterator<Item = (String, String)>) {
        let sample =
            |(key, value): (String, String)| Sample { key, value: value.into_bytes(), headers: Vec::new() };
        self.bed.publish(&records.into_iter().map(sample).collect::<Vec<_>>());
    }

    /// Somebody who reads the source, as a daemon would.
    pub fn reader(&self) -> Source {
        Source::ready(self.build, &self.bed.settings())
    }

    /// The letters as others see them.
    pub fn archive(&self) -> Arc<dyn Archive> {
        broker(self.build, &self.bed.settings()).archive()
    }

    /// Whether the broker itself keeps a letter from being asked for twice.
    pub fn keeps_requests_apart(&self) -> bool {
        self.bed.keeps_requests_apart()
    }

    /// Adds lines to the config of the command.
    pub fn configure(&mut self, more: &str) {
        self.config += more;
        fs::write(self.folder.path().join("roomcast.toml"), &self.config).expect("it can be written again");
    }

    /// Sets rows of letters.
    pub fn put(&self, states: impl IntoIterator<Item = (LetterId, State)>) {
        let table = self.archive().table();
        for (letter, state) in states {
            let row = Row::new(state, "bob@desk", wall());
            block_on(table.put(Row::key(letter), Bytes::from(row.write()))).expect("the row is confirmed");
        }
    }

    /// All rows of letters.
    pub fn rows(&self) -> BTreeMap<LetterId, Row> {
        let rows = block_on(self.archive().table().load(|_| true)).expect("the table can be read");
        let row =
            |(key, value): (String, Bytes)| Some((Row::letter(&key)?, Row::read(&value).expect("a row")));
        rows.into_iter().filter_map(row).collect()
    }

    /// Starts `roomcast letters replay` with these arguments.
    pub fn start(&self, arguments: &[&str]) -> Process {
        let config: PathBuf = self.folder.path().join("roomcast.toml");
        let config = config.to_str().expect("scratch folders have plain names").to_owned();
        let mut command = roomcast(&["letters", "replay", "-c", &config]);
        command.args(arguments);
        Process::start("letters replay", command)
    }

    /// Runs it to its end: exit code, what it printed as JSON, and what it said beside.
    pub fn replay(&self, arguments: &[&str]) -> Said {
        let mut all = vec!["--format", "json", "--yes"];
        all.extend(arguments);
        Said::of(&mut self.start(&all))
    }

    /// Plays the daemon.
    pub fn play(&self, verdict: fn(&Request, &Record) -> Option<Row>) -> Player {
        let replays = broker(self.build, &self.bed.settings()).replays(SourceId(7), Reading::AtOnce);
        let table = self.archive().table();
        let (sender, mut inbox) = mpsc::channel(64);
        let limits = SourceLimits { held_records: 1_000, held_bytes: 64 << 20 };
        let started = block_on(async { replays.start(limits, sender) });
        let (seen, ends) =
            (Arc::<Mutex<Vec<(Request, Record)>>>::default(), Arc::new(AtomicBool::new(false)));
        let (into, end) = (Arc::clone(&seen), Arc::clone(&ends));
        let thread = thread::spawn(move || {
            while !end.load(Ordering::Relaxed) {
                let next =
                    block_on(async { tokio::time::timeout(Duration::from_millis(50), inbox.recv()).await });
                let Ok(Some(Arrival::Record(record))) = next else { continue };
                let (request, restored) = open(&record).expect("what is asked for is a request");
                let letter = request.told.letter;
                if let Some(row) = verdict(&request, &restored) {
                    block_on(table.put(Row::key(letter), Bytes::from(row.write()))).expect("it is confirmed");
                }
                into.lock().expect("nobody panics").push((request, restored));
                started.commands.send(Command::Settle(record.id)).expect("the source is at work");
            }
            drop(started.commands.send(Command::Stop));
            block_on(async {
                while inbox.recv().await.is_some() {}
                started.ended.await.expect("a source that is told to stop ends");
            });
        });
        Player { seen, ends, thread: Some(thread) }
    }
}

/// What a run of the command came to.
#[derive(Debug)]
pub struct Said {
    /// Its exit code.
    pub code: Option<i32>,
    /// Its result.
    pub json: Json,
    /// What it said on stderr.
    pub aside: String,
}

impl Said {
    /// Waits for the end of a run.
    pub fn of(process: &mut Process) -> Self {
        let code = process.await_end(PATIENCE).code();
        let text = |stdout: bool| -> String {
            let lines = process.lines().into_iter().filter(|line| line.stdout == stdout);
            lines.map(|line| line.text + "\n").collect()
        };
        let (result, aside) = (text(true), text(false));
        assert!(!result.contains(SECRET) && !aside.contains(SECRET), "{result}\n{aside}");
        let json = serde_json::from_str(&result).unwrap_or(Json::String(result));
        let said = Self { code, json, aside };
        if said.json.get("meant").is_some() && said.json.get("asked").is_some() {
            said.adds_up();
        }
        said
    }

    /// A number of the result, by a path such as `/verdicts/replayed`.
    #[track_caller]
    pub fn count(&self, path: &str) -> u64 {
        let found = self.json.pointer(path).and_then(Json::as_u64);
        found.unwrap_or_else(|| panic!("there is no {path}: {self:#?}"))
    }

    /// Every letter that is meant is in one of the counts.
    #[track_caller]
    fn adds_up(&self) {
        let sum = |path: &str| -> u64 {
            let counts = self.json.pointer(path).and_then(Json::as_object).expect("a table");
            counts.values().filter_map(Json::as_u64).sum()
        };
        assert_eq!(self.count("/asked"), sum("/verdicts"), "{self:#?}");
        let others = ["/asked", "/patch_failed", "/value_gone", "/not_written", "/stuck"];
        let all: u64 = others.into_iter().map(|path| self.count(path)).sum();
        assert_eq!(self.count("/meant"), all + sum("/skipped"), "{self:#?}");
    }
}

/// A daemon's part: reads requests and says what became of each.
pub struct Player {
    seen: Arc<Mutex<Vec<(Request, Record)>>>,
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Player {
    /// The requests that came so far, with the records as they were.
    pub fn seen(&self) -> Vec<(Request, Record)> {
        self.seen.lock().expect("nobody panics").clone()
    }

    /// Stops it.
    pub fn stop(mut self) -> Vec<(Request, Record)> {
        self.ends.store(true, Ordering::Relaxed);
        self.thread.take().expect("it is stopped once").join().expect("it ends well");
        self.seen()
    }
}

/// A final row.
pub fn row(state: State, next: Option<LetterId>) -> Row {
    let mut row = Row::new(state, "daemon", wall());
    row.next.extend(next);
    row
}

fn letter(record: &Record, wanted: &Wanted) -> Letter {
    Letter {
        record: Arc::new(record.clone()),
        base: BaseId(Uuid::from_u128(u128::from(record.origin.offset.unsigned_abs()))),
        class: wanted.class,
        error: "no".to_owned(),
        route: None,
        account: None,
        rooms: vec![Room(wanted.room.as_str().into())],
        tries: Tries { attempts: 1, first: None, last: None, http_status: None, provider_code: None },
    }
}

fn names(record: &Record) -> Names {
    Names { sources: (0..=record.id.source.0).map(|_| Arc::from("live")).collect(), ..Names::default() }
}

/// The settings as a config has them.
fn toml(table: &Table) -> String {
    table.iter().map(|(key, node)| format!("{key} = {}\n", written(&node.value))).collect()
}

fn written(value: &Value) -> String {
    match value {
        Value::Text(text) => format!("{text:?}"),
        Value::Integer(number) => number.to_string(),
        Value::Float(number) => number.to_string(),
        Value::Boolean(word) => word.to_string(),
        Value::List(nodes) => {
            format!("[{}]", nodes.iter().map(|node| written(&node.value)).collect::<Vec<_>>().join(", "))
        }
        Value::Table(table) => {
            let pairs = table.iter().map(|(key, node)| format!("{key} = {}", written(&node.value)));
            format!("{{ {} }}", pairs.collect::<Vec<_>>().join(", "))
        }
    }
}

/// The time it is.
pub fn wall() -> Wall {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    Wall(i64::try_from(since.as_millis()).expect("it fits"))
}
