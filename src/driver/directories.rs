//! The loop's directories: what their keepers tell is put in place between two records, and the
//! records that waited for a key go before any that comes later.
//!
//! Until every directory is loaded the sources are asked to take nothing; what slips through is kept
//! aside in its order. Records whose key has become known are planned some at a time, and as long as
//! there are such, nothing is taken from the inbox and no update from a keeper: so a turn stays short,
//! and nobody overtakes.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tracing::info;

use super::{BATCH, Command, Driver, Phase};
use crate::core::model::{DirectoryId, Plan, Record};
use crate::core::route::directory::{Directories, Map, Update};
use crate::core::schedule::Woken;
use crate::core::schedule::status::Snapshot;
use crate::core::time::{Mono, Now};

/// Directories for the loop.
#[derive(Debug, Default)]
pub struct Lookups {
    /// Name and kind of each, by `DirectoryId`.
    pub names: Vec<(Arc<str>, &'static str)>,
    /// What they hold at the start: those that are files.
    pub held: Directories,
    /// What their keepers tell.
    pub updates: Option<mpsc::Receiver<(DirectoryId, Update)>>,
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
    pub(super) updates: Option<mpsc::Receiver<(DirectoryId, Update)>>,
    /// Records whose key has become known, in their order.
    pub(super) woken: VecDeque<Woken>,
    /// Records that came before every directory was loaded.
    early: Vec<Record>,
    reports: Vec<(DirectoryReport, Option<Mono>)>,
}

impl Shelf {
    pub(super) fn new(lookups: Lookups) -> Self {
        let Lookups { names, held, updates } = lookups;
        let report = |(name, kind)| (DirectoryReport { name, kind, ..DirectoryReport::default() }, None);
        let mut reports: Vec<(DirectoryReport, Option<Mono>)> = names.into_iter().map(report).collect();
        for ((report, changed), id) in reports.iter_mut().zip(0..) {
            if held.map(DirectoryId(id)).is_some() {
                (report.loads[0], *changed) = (1, Some(Mono(0)));
            }
        }
        Self { held, updates, woken: VecDeque::new(), early: Vec::new(), reports }
    }

    /// What a keeper tells next; waits for ever where there is none.
    pub(super) async fn told(
        updates: &mut Option<mpsc::Receiver<(DirectoryId, Update)>>,
    ) -> Option<(DirectoryId, Update)> {
        match updates {
            Some(updates) => updates.recv().await,
            None => std::future::pending().await,
        }
    }

    /// Whether every directory is loaded.
    pub(super) fn is_complete(&self) -> bool {
        self.held.are_loaded()
    }

    pub(super) fn reports(&self, snapshot: &Snapshot, now: Mono) -> Vec<DirectoryReport> {
        let of = |((report, changed), id): (&(DirectoryReport, Option<Mono>), u16)| {
            let map = self.held.map(DirectoryId(id));
            DirectoryReport {
                is_loaded: map.is_some(),
                keys: map.map_or(0, Map::len),
                bytes: map.map_or(0, Map::weight),
                age: changed.map(|at| now.since(at)),
                waiting: snapshot.waiting_for_keys.get(&DirectoryId(id)).copied().unwrap_or(0),
                ..report.clone()
            }
        };
        self.reports.iter().zip(0..).map(of).collect()
    }
}

impl Driver {
    /// Asks the sources to take nothing until every directory is loaded.
    pub(super) fn await_directories(&mut self) {
        if !self.shelf.is_complete() {
            info!("nothing is taken from the sources before every directory is loaded");
            self.tell_all(&Command::Intake(false));
        }
    }

    /// A record, at the turn that is its own.
    pub(super) fn handle_record(&mut self, record: Record, now: Now) {
        if !self.shelf.is_complete() {
            self.shelf.early.push(record);
            return;
        }
        let (record, plan) = self.take_request(record);
        self.scheduler.handle_record(Arc::new(record), plan, now);
    }

    pub(super) fn plan(&mut self, record: &Record) -> Plan {
        let plan = (self.planner)(record, &self.shelf.held);
        if let Some(DirectoryId(id)) = plan.unknown {
            self.shelf.reports[usize::from(id)].0.unknown += 1;
        }
        plan
    }

    /// Puts an update in place, and plans some of the records whose key is known now.
    pub(super) fn turn_directories(&mut self, update: Option<(DirectoryId, Update)>, now: Now) {
        if let Some((directory, update)) = update {
            self.update_directory(directory, update, now);
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

    fn update_directory(&mut self, directory: DirectoryId, update: Update, now: Now) {
        let was_complete = self.shelf.is_complete();
        let Shelf { held, reports, woken, .. } = &mut self.shelf;
        let (report, changed) = &mut reports[usize::from(directory.0)];
        match update {
            Update::Loaded { map, refused } => {
                held.load(directory, map);
                woken.extend(self.scheduler.wake_known(directory, |key| held.knows(directory, key)));
                (report.trouble, *changed) = (None, Some(now.mono));
                report.loads[0] += 1;
                report.rows[1] += refused;
            }
            Update::Changed { rows, refused } => {
                for (key, rooms) in &rows {
                    held.set(directory, key, rooms.as_deref());
                    if rooms.is_some() {
                        woken.extend(self.scheduler.wake_key(directory, key));
                    }
                }
                *changed = Some(now.mono);
                report.rows[0] += rows.len() as u64;
                report.rows[1] += refused;
            }
            Update::Failed(why) => {
                report.trouble = Some(why);
                report.loads[1] += 1;
            }
        }
        if !was_complete && self.shelf.is_complete() {
            self.begin_intake(now);
        }
    }

    /// Every directory is loaded: the sources may begin, after what came early.
    fn begin_intake(&mut self, now: Now) {
        self.look_ready();
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
