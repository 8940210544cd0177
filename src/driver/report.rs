//! What the loop tells of itself when it is asked, and the log of what pauses.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tracing::{error, info, warn};

use super::handle::{Detail, FloodReport, Paused};
use super::{Driver, Report, Source, SourceReport, SourceState};
use crate::core::model::{Epoch, PartitionId, SourceId};
use crate::core::partitions::Fill;
use crate::core::schedule::status::{Bound, Snapshot};
use crate::core::time::{Mono, Now};

/// How long intake must have paused before that is worth a line: pauses come and go under load.
const LASTING: Duration = Duration::from_secs(5);
/// How often a pause that lasts is told again.
const AGAIN: Duration = Duration::from_secs(60);

/// The commit's metadata of one partition, as its source told.
#[derive(Clone, Copy, Debug)]
pub(super) struct Filled {
    pub(super) epoch: Epoch,
    pub(super) fill: Fill,
    /// Since when it keeps the partition from taking more.
    pub(super) since: Option<Mono>,
}

/// When pauses of one source began and were told of.
#[derive(Clone, Copy, Debug, Default)]
struct Told {
    since: Option<Mono>,
    at: Option<Mono>,
}

/// Remembers, of each source, whether it was told that intake pauses.
#[derive(Debug, Default)]
pub(super) struct PauseLog {
    sources: Vec<Told>,
}

/// Remembers how many messages of each route gave way to newer ones.
#[derive(Debug, Default)]
pub(super) struct ConflationLog {
    told: BTreeMap<Arc<str>, u64>,
    at: Mono,
}

impl ConflationLog {
    /// Says how many there were since the last time, at most every [`super::LOG_EVERY`].
    pub(super) fn look(&mut self, snapshot: &Snapshot, now: Mono) {
        if now < self.at + super::LOG_EVERY {
            return;
        }
        self.at = now;
        for (route, count) in &snapshot.conflated {
            let told = self.told.get(route).copied().unwrap_or(0);
            if *count > told {
                info!(%route, messages = count - told, "conflated: newer messages took their places");
            }
        }
        // Of routes that are no more nothing is remembered.
        self.told = snapshot.conflated.iter().cloned().collect();
    }
}

impl Source {
    /// How it is.
    pub(super) fn state(&self) -> SourceState {
        let stands_by = self.replays.as_ref().is_some_and(|desk| !desk.reads);
        match &self.report.state {
            SourceState::Starting | SourceState::Ready if stands_by => SourceState::StandsBy,
            state => state.clone(),
        }
    }
}

impl Driver {
    /// Everything at one moment; with `detail`, also who holds what back, which costs a walk over
    /// what is held.
    pub(super) fn report(&self, now: Now, detail: bool) -> Report {
        let mut snapshot = self.scheduler.snapshot(now);
        if !self.shelf.is_complete() {
            snapshot.sources.iter_mut().for_each(|source| source.intake_open = false);
        }
        Report {
            at: now.wall,
            uptime: now.mono.since(Mono(0)),
            draining: self.phase != super::Phase::Running,
            config: self.config.clone(),
            directories: self.shelf.reports(&snapshot, now.mono),
            snapshot,
            sources: self
                .sources
                .iter()
                .zip(0..)
                .map(|(source, id)| SourceReport {
                    flood: self.flood(SourceId(id), now),
                    replays: source.replays.as_ref().map(|desk| (desk.book.counts(), desk.book.under_way())),
                    partitions: source.partitions.values().map(|(_, name)| name.clone()).collect(),
                    letter_failures: source.desk.failures(),
                    commit_metadata: source
                        .filled
                        .values()
                        .map(|filled| filled.fill.bytes)
                        .max()
                        .unwrap_or(0),
                    commits_full: source.filled.values().filter(|filled| filled.fill.pauses).count(),
                    state: source.state(),
                    ..source.report.clone()
                })
                .collect(),
            accounts: self.stats.clone(),
            shares: self.shares.standings(),
            detail: detail.then(|| Detail {
                paused: (0..self.scheduler.sources()).map(|id| self.paused(SourceId(id), now)).collect(),
                fullest_room: self.scheduler.fullest_room(),
                max_waiting_per_room: self.scheduler.max_waiting_per_room(),
            }),
        }
    }

    /// Says that letters of a source come too fast, or do not any more.
    pub(super) fn tell_flood(&self, source: SourceId, open: bool, now: Now) {
        let name = &self.sources[usize::from(source.0)].name;
        match self.flood(source, now).filter(|_| !open) {
            Some(FloodReport { class, route, goes_on_in }) => {
                let class = class.word();
                let of_route = route.as_deref().map(|route| format!(" --route {route}")).unwrap_or_default();
                error!(
                    source = %name,
                    class,
                    route = route.as_deref(),
                    ?goes_on_in,
                    look = format!("roomcast letters list --source {name} --class {class}{of_route} --since 5m"),
                    "flood guard: letters of one class and route come faster than [letters] flood_guard; the \
                     source takes nothing more until GET /api/letters is asked for or a minute has passed"
                );
            }
            None => info!(source = %name, "flood guard: the source goes on"),
        }
    }

    fn flood(&self, source: SourceId, now: Now) -> Option<FloodReport> {
        let flood = self.scheduler.flood(source)?;
        let route = flood.route.and_then(|id| self.names.routes.get(usize::from(id.0)).cloned());
        Some(FloodReport { class: flood.class, route, goes_on_in: flood.until.since(now.mono) })
    }

    /// The partitions of a source that take nothing more, with names and reasons.
    fn paused(&self, id: SourceId, now: Now) -> Vec<Paused> {
        let source = &self.sources[usize::from(id.0)];
        let full = source.filled.iter().filter(|(_, filled)| filled.fill.pauses);
        let full: Vec<(PartitionId, Epoch)> = full.map(|(id, filled)| (*id, filled.epoch)).collect();
        let holdups = self.scheduler.holdups(id, &full, now);
        let paused = holdups.into_iter().filter_map(|mut holdup| {
            let (epoch, name) = source.partitions.get(&holdup.partition)?;
            if *epoch != holdup.epoch {
                return None;
            }
            let filled = source.filled.get(&holdup.partition);
            let full_since = filled.and_then(|filled| filled.since);
            if full_since.is_some() {
                holdup.bounds.push(Bound::CommitMetadata);
            }
            let since = [holdup.since, full_since].into_iter().flatten().min()?;
            let commit_metadata = filled.map_or(0, |filled| filled.fill.bytes);
            Some(Paused { name: name.clone(), lasting: now.mono.since(since), commit_metadata, holdup })
        });
        paused.collect()
    }

    /// Says of each source when its intake, or that of some of its partitions, has paused for a while,
    /// because of whom, and when it goes on.
    pub(super) fn tell_pauses(&mut self, snapshot: &Snapshot, now: Now) {
        let mut log = std::mem::take(&mut self.pauses);
        log.sources.resize(self.sources.len(), Told::default());
        for ((told, source), id) in log.sources.iter_mut().zip(&self.sources).zip(0..) {
            let scheduler = &snapshot.sources[usize::from(id)];
            let pauses = !scheduler.intake_open
                || scheduler.paused_partitions > 0
                || source.filled.values().any(|filled| filled.fill.pauses);
            if !pauses {
                if told.at.is_some() {
                    info!(source = %source.name, "intake goes on everywhere");
                }
                *told = Told::default();
                continue;
            }
            let since = *told.since.get_or_insert(now.mono);
            let is_due = match told.at {
                None => now.mono.since(since) >= LASTING,
                Some(at) => now.mono.since(at) >= AGAIN,
            };
            if is_due {
                told.at = Some(now.mono);
                tell(&source.name, &self.names.accounts, &self.paused(SourceId(id), now));
            }
        }
        self.pauses = log;
    }
}

/// One line for the partition that has paused longest, with the room that matters most.
fn tell(source: &str, accounts: &[Arc<str>], paused: &[Paused]) {
    let Some(first) = paused.iter().max_by_key(|paused| paused.lasting) else { return };
    let bounds: Vec<&str> = first.holdup.bounds.iter().map(|bound| bound.word()).collect();
    let room = first.holdup.rooms.first();
    let account = room.and_then(|room| accounts.get(usize::from(room.account.0)));
    warn!(
        source,
        partitions = paused.len(),
        partition = %first.name,
        bound = bounds.join(", "),
        since = ?first.lasting,
        account = account.map(|name| &**name),
        path = room.map(|room| room.path.word()),
        room = room.map(|room| &*room.room.0),
        messages = room.map(|room| room.messages),
        cause = room.map(|room| room.cause.word()),
        oldest = ?first.holdup.oldest,
        letters = first.holdup.letters,
        waiting_for_keys = first.holdup.waiting_for_keys,
        "intake pauses: what is held waits, the rest stays in the broker"
    );
}
