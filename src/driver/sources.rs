//! What sources tell the loop: records, assignments, how they are, and that they have ended.

use tracing::{debug, error, info, warn};

use super::report::Filled;
use super::{Driver, Phase, SourceState};
use crate::broker::{Arrival, Status};
use crate::core::model::{Epoch, PartitionId, SourceId};
use crate::core::partitions::Fill;
use crate::core::time::Now;

impl Driver {
    pub(super) fn handle_arrival(&mut self, arrival: Arrival, now: Now) {
        match arrival {
            // A record that comes while draining is left unsettled: it comes again.
            Arrival::Record(_) if self.phase != Phase::Running => {}
            Arrival::Record(mut record) => {
                record.maybe_tried |= now.mono < self.doubtful_until;
                self.handle_record(record, now);
            }
            Arrival::Assigned { source, partitions, order } => {
                let epochs: Vec<_> = partitions.iter().map(|(id, epoch, _)| (*id, *epoch)).collect();
                let ids: Vec<_> = partitions.iter().map(|(id, _, _)| *id).collect();
                let of = self.source(source);
                info!(source = %of.name, partitions = partitions.len(), "partitions assigned");
                for (id, _, _) in &partitions {
                    of.filled.remove(id);
                }
                of.partitions.extend(partitions.into_iter().map(|(id, epoch, name)| (id, (epoch, name))));
                self.scheduler.handle_assigned(source, &epochs);
                self.share_assigned(source, &ids, order.as_deref(), now);
                self.look_whose_requests();
            }
            Arrival::Revoking { source, partitions } => {
                self.forget(source, &partitions, now);
                self.scheduler.handle_revoking(source, &partitions, now);
            }
            Arrival::Lost { source, partitions } => {
                self.forget(source, &partitions, now);
                self.scheduler.handle_lost(source, &partitions, now);
                self.forget_requests(source, &partitions);
            }
            Arrival::Status { source, status } => self.handle_status(source, status, now),
            Arrival::CommitMetadata { source, partitions } => self.note_fills(source, &partitions, now),
            Arrival::Lag { source, records } => self.source(source).report.lag = Some(records),
        }
    }

    /// Takes note of how full the metadata of commits is.
    fn note_fills(&mut self, source: SourceId, fills: &[(PartitionId, Epoch, Fill)], now: Now) {
        let of = self.source(source);
        for &(id, epoch, fill) in fills {
            if of.partitions.get(&id).is_some_and(|(held, _)| *held == epoch) {
                let before = of.filled.get(&id).filter(|filled| filled.epoch == epoch);
                let since = before.and_then(|filled| filled.since).unwrap_or(now.mono);
                of.filled.insert(id, Filled { epoch, fill, since: fill.pauses.then_some(since) });
            }
        }
    }

    /// Strikes partitions that are going or gone, unless they came back under a newer epoch.
    fn forget(&mut self, source: SourceId, partitions: &[(PartitionId, Epoch)], now: Now) {
        let of = self.source(source);
        info!(source = %of.name, partitions = partitions.len(), "partitions given up");
        for (id, epoch) in partitions {
            if of.partitions.get(id).is_some_and(|(held, _)| held == epoch) {
                of.partitions.remove(id);
                of.filled.remove(id);
            }
        }
        let gone: Vec<_> =
            partitions.iter().map(|(id, _)| *id).filter(|id| !of.partitions.contains_key(id)).collect();
        self.share_gone(source, &gone, now);
        self.look_whose_requests();
    }

    fn handle_status(&mut self, source: SourceId, status: Status, now: Now) {
        self.share_connection(source, status == Status::Ready, now);
        let of = self.source(source);
        if matches!((&status, &of.report.state), (Status::Waiting(why), SourceState::Waiting(said)) if why == said)
        {
            return;
        }
        match &status {
            Status::Ready => info!(source = %of.name, "source connected"),
            Status::Waiting(why) => warn!(source = %of.name, why, "source waits for its broker"),
        }
        of.report.state = match status {
            Status::Ready => SourceState::Ready,
            Status::Waiting(why) => SourceState::Waiting(why),
        };
        of.report.joined |= of.report.state == SourceState::Ready;
        self.look_ready();
    }

    /// Ready is who has joined all brokers once and knows every directory. Replays are not waited for: a
    /// topic of requests that is missing is no reason to keep live events back.
    pub(super) fn look_ready(&self) {
        let mut live = self.sources.iter().filter(|source| source.replays.is_none());
        if live.all(|source| source.report.joined) && self.shelf.is_complete() {
            self.pulse.set_ready();
        }
    }

    /// A source that has ended settles nothing any more: what it gave is forgotten, and comes again
    /// in the next process.
    pub(super) fn handle_source_end(&mut self, source: SourceId, result: Result<(), String>, now: Now) {
        let running = self.phase == Phase::Running;
        let of = self.source(source);
        let held: Vec<_> =
            std::mem::take(&mut of.partitions).into_iter().map(|(id, (epoch, _))| (id, epoch)).collect();
        of.filled.clear();
        of.report.state = SourceState::Ended(match (result, running) {
            (Err(why), _) => {
                error!(source = %of.name, why, "the source has ended");
                Some(why)
            }
            (Ok(()), true) => {
                error!(source = %of.name, "the source has ended without having been asked to");
                Some("ended without having been asked to".to_owned())
            }
            (Ok(()), false) => {
                debug!(source = %of.name, "source ended");
                None
            }
        });
        if running {
            self.pulse.set_source_dead();
        }
        self.scheduler.handle_lost(source, &held, now);
        let gone: Vec<_> = held.iter().map(|(id, _)| *id).collect();
        self.share_gone(source, &gone, now);
        self.look_whose_requests();
    }
}
