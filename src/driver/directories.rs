//! The loop's directories: what their keepers tell is put in place between two records, and the
//! records that waited for a key go before any that comes later.
//!
//! Until every directory is loaded the sources are asked to take nothing; what slips through is kept
//! aside in its order. A reload may bring other directories later on: those that are loaded still go on,
//! and records that ask one of which nothing is known wait until it is loaded. Records whose key has become known are planned some at a time, and as long as
//! there are such, nothing is taken from the inbox and no update from a keeper: so a turn stays short,
//! and nobody overtakes.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tracing::info;

use super::{BATCH, Command, Driver, Phase};
use crate::core::model::{DirectoryId, Plan, Record};
use crate::core::route::directory::{Directories, KeeperId, Map, Update};
use crate::core::schedule::Woken;
use crate::core::schedule::status::Snapshot;
use crate::core::time::{Mono, Now};

/// What keepers tell.
type Updates = mpsc::Receiver<(KeeperId, Update)>;

/// Directories for the loop.
#[derive(Debug, Default)]
pub struct Lookups {
    /// By `DirectoryId`.
    pub directories: Vec<DirectoryParts>,
    /// What their keepers tell.
    pub updates: Option<Updates>,
}

/// What the loop needs of one directory.
#[derive(Debug)]
pub struct DirectoryParts {
    /// Its name.
    pub name: Arc<str>,
    /// `file`, `kafka` or `nats_kv`.
    pub kind: &'static str,
    /// Who keeps it.
    pub keeper: KeeperId,
    /// All that it holds, where that was just read: a file. `None`: what that keeper told before.
    pub map: Option<Map>,
}

/// How one directory is.
#[derive(Clone, Debug, Default)]
pub struct DirectoryReport {
    /// Its name.
    pub name: Arc<str>,
    /// `file`, `kafka` or `nats_kv`.
    pub kind: &'static str,
    /// Whether it was loaded.
    pub is_loaded: bool,
    /// Keys that it holds.
    pub keys: usize,
    /// Bytes of memory that it takes.
    pub bytes: usize,
    /// How long ago it was loaded or changed last.
    pub age: Option<Duration>,
    /// Times that all of it was read, and that it could not be read.
    pub loads: [u64; 2],
    /// Rows that changed, and rows that could not be read.
    pub rows: [u64; 2],
    /// Why it could not be read last time; `None` when it could.
    pub trouble: Option<String>,
    /// Look-ups of keys that it did not hold.
    pub unknown: u64,
    /// Records that wait until it holds their key.
    pub waiting: usize,
}

/// What the loop keeps of directories.
pub(super) struct Shelf {
    held: Directories,
    /// By `DirectoryId`, as `held`.
    kept: Vec<Kept>,
    pub(super) updates: Option<Updates>,
    /// Records whose key has become known, in their order.
    pub(super) woken: VecDeque<Woken>,
    /// Whether every directory was loaded at once, which the sources wait for.
    has_begun: bool,
    /// Records that came before that.
    early: Vec<Record>,
}

/// One directory beside what it holds.
#[derive(Default)]
struct Kept {
    keeper: Option<KeeperId>,
    report: DirectoryReport,
    /// When it was loaded or changed last.
    changed: Option<Mono>,
}

impl Shelf {
    pub(super) fn new(lookups: Lookups) -> Self {
        let Lookups { directories, updates } = lookups;
        let mut shelf = Self {
            held: Directories::default(),
            kept: Vec::new(),
            updates,
            woken: VecDeque::new(),
            has_begun: false,
            early: Vec::new(),
        };
        shelf.renew(directories, Mono(0));
        shelf.has_begun = shelf.is_complete();
        shelf
    }

    /// Goes on with these directories. What a keeper told stays true as long as it is the keeper; what was
    /// counted goes on as long as the name is there.
    fn renew(&mut self, directories: Vec<DirectoryParts>, now: Mono) {
        let mut before = BTreeMap::new();
        for (kept, id) in std::mem::take(&mut self.kept).into_iter().zip(0..) {
            before.insert(kept.report.name.clone(), (kept, self.held.take(DirectoryId(id))));
        }
        self.held = Directories::new(directories.len());
        for (parts, id) in directories.into_iter().zip(0..) {
            let DirectoryParts { name, kind, keeper, map: read } = parts;
            let (mut kept, mut map) = before.remove(&name).unwrap_or_default();
            if kept.keeper != Some(keeper) {
                (map, kept.report.trouble, kept.changed) = (None, None, None);
            }
            if let Some(read) = read {
                (map, kept.report.trouble, kept.changed) = (Some(read), None, Some(now));
                kept.report.loads[0] += 1;
            }
            if let Some(map) = map {
                self.held.load(DirectoryId(id), map);
            }
            (kept.report.name, kept.report.kind, kept.keeper) = (name, kind, Some(keeper));
            self.kept.push(kept);
        }
    }

    /// What a keeper tells next; waits for ever where there is none.
    pub(super) async fn told(updates: &mut Option<Updates>) -> Option<(KeeperId, Update)> {
        let Some(keepers) = updates else { return std::future::pending().await };
        let told = keepers.recv().await;
        if told.is_none() {
            // All of them have ended.
            *updates = None;
        }
        told
    }

    /// Whether every directory is loaded.
    pub(super) fn is_complete(&self) -> bool {
        self.held.are_loaded()
    }

    pub(super) fn reports(&self, snapshot: &Snapshot, now: Mono) -> Vec<DirectoryReport> {
        let of = |(kept, id): (&Kept, u16)| {
            let map = self.held.map(DirectoryId(id));
            DirectoryReport {
                is_loaded: map.is_some(),
                keys: map.map_or(0, Map::len),
                bytes: map.map_or(0, Map::weight),
                age: kept.changed.map(|at| now.since(at)),
                waiting: snapshot.waiting_for_keys.get(&DirectoryId(id)).copied().unwrap_or(0),
                ..kept.report.clone()
            }
        };
        self.kept.iter().zip(0..).map(of).collect()
    }
}

impl Driver {
    /// Asks the sources to take nothing until every directory is loaded.
    pub(super) fn await_directories(&mut self) {
        if !self.shelf.has_begun {
            info!("nothing is taken from the sources before every directory is loaded");
            self.tell_all(&Command::Intake(false));
        }
    }

    /// Goes on with other directories, or the same ones read again. All that wait for a key are planned
    /// anew, before anything that comes later: what they wait for may mean something else by now.
    pub(super) fn renew_directories(&mut self, directories: Vec<DirectoryParts>, now: Now) {
        self.shelf.renew(directories, now.mono);
        let woken = &mut self.shelf.woken;
        woken.extend(self.scheduler.wake_all());
        // Some were woken before, and are not planned yet.
        woken.make_contiguous().sort_by_key(Woken::number);
        if !self.shelf.has_begun {
            self.begin_if_complete(now);
            return;
        }
        for (kept, id) in self.shelf.kept.iter().zip(0..) {
            if self.shelf.held.map(DirectoryId(id)).is_none() {
                info!(directory = %kept.report.name, "not loaded yet: records that ask it wait for it");
            }
        }
    }

    /// A record, at the turn that is its own.
    pub(super) fn handle_record(&mut self, record: Record, now: Now) {
        if !self.shelf.has_begun {
            self.shelf.early.push(record);
            return;
        }
        let (record, plan) = self.take_request(record);
        self.scheduler.handle_record(Arc::new(record), plan, now);
    }

    pub(super) fn plan(&mut self, record: &Record) -> Plan {
        let plan = (self.planner)(record, &self.shelf.held);
        if let Some(DirectoryId(id)) = plan.unknown {
            self.shelf.kept[usize::from(id)].report.unknown += 1;
        }
        plan
    }

    /// Puts an update in place, and plans some of the records whose key is known now.
    pub(super) fn turn_directories(&mut self, update: Option<(KeeperId, Update)>, now: Now) {
        if let Some((keeper, update)) = update {
            self.update_directory(keeper, update, now);
        }
        if self.phase != Phase::Running {
            // Nothing new is sent: what waits stays unsettled and comes again.
            self.shelf.woken.clear();
            return;
        }
        for _ in 0..BATCH {
            let Some(woken) = self.shelf.woken.pop_front() else { return };
            let plan = self.plan(woken.record());
            self.note_drop(woken.record().id, &plan);
            self.scheduler.handle_woken(woken, plan, now);
            self.do_effects(now);
        }
    }

    fn update_directory(&mut self, keeper: KeeperId, update: Update, now: Now) {
        let Shelf { held, kept, woken, .. } = &mut self.shelf;
        // The last words of one whose directory has gone, or is kept elsewhere since.
        let Some((kept, id)) = kept.iter_mut().zip(0..).find(|(kept, _)| kept.keeper == Some(keeper)) else {
            return;
        };
        let directory = DirectoryId(id);
        match update {
            Update::Loaded { map, refused } => {
                // Of one that was not loaded nobody could say which keys it does not hold.
                let is_first = held.map(directory).is_none();
                held.load(directory, map);
                let is_known = |key: &str| is_first || held.knows(directory, key);
                woken.extend(self.scheduler.wake_known(directory, is_known));
                (kept.report.trouble, kept.changed) = (None, Some(now.mono));
                kept.report.loads[0] += 1;
                kept.report.rows[1] += refused;
            }
            Update::Changed { rows, refused } => {
                for (key, rooms) in &rows {
                    held.set(directory, key, rooms.as_deref());
                    if rooms.is_some() {
                        woken.extend(self.scheduler.wake_key(directory, key));
                    }
                }
                kept.changed = Some(now.mono);
                kept.report.rows[0] += rows.len() as u64;
                kept.report.rows[1] += refused;
            }
            Update::Failed(why) => {
                kept.report.trouble = Some(why);
                kept.report.loads[1] += 1;
            }
        }
        self.begin_if_complete(now);
    }

    /// Once every directory is loaded the sources may begin, after what came early.
    fn begin_if_complete(&mut self, now: Now) {
        self.look_ready();
        if self.shelf.has_begun || !self.shelf.is_complete() {
            return;
        }
        self.shelf.has_begun = true;
        let early = std::mem::take(&mut self.shelf.early);
        if self.phase != Phase::Running {
            return;
        }
        info!("every directory is loaded: the sources begin");
        for record in early {
            self.handle_record(record, now);
            self.do_effects(now);
        }
        for source in &self.sources {
            // One whose bound is full already was asked to pause by the scheduler.
            if source.report.paused_by.is_none() {
                let _ = source.commands.send(Command::Intake(true));
            }
        }
    }
}
