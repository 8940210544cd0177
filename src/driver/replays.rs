//! The loop's replays: records that are requests, and what is written about them.
//!
//! What a request leads to is decided by the book ([`crate::core::replay::Book`]) and the routes; from then on
//! its messages are like any others. When all of them are finished the rows of its letters are written, and
//! only then is the request settled.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;
use tracing::{debug, info, warn};

use super::counts::patiently;
use super::tasks::Reply;
use super::{Driver, Phase};
use crate::broker::{Command, Followed, Table};
use crate::core::letter::Letter;
use crate::core::model::{Epoch, PartitionId, Plan, Record, RecordId, SourceId};
use crate::core::replay::{Book, Opened, Row, nothing};
use crate::core::time::Now;

/// The sources of replay requests.
#[derive(Debug, Default)]
pub struct Replays {
    /// Which they are.
    pub of: Vec<ReplayParts>,
    /// Rows of the tables beside their letters, as they are read and as they change.
    pub rows: Option<mpsc::Receiver<(SourceId, Followed)>>,
}

/// One of them.
#[derive(Debug)]
pub struct ReplayParts {
    /// The source.
    pub source: SourceId,
    /// The sources whose letters these are: while one of them is read here, so are their requests. Empty:
    /// they are read in any case.
    pub of: Vec<SourceId>,
    /// Its book, new.
    pub book: Book,
}

/// What the loop keeps of one.
pub(super) struct ReplayDesk {
    pub(super) book: Book,
    pub(super) table: Arc<dyn Table>,
    pub(super) of: Vec<SourceId>,
    /// Whether the source was told to read.
    pub(super) reads: bool,
    /// Whether what others wrote into the table was known once: it may not be there before.
    pub(super) is_current: bool,
}

/// What is told next of the tables; waits for ever where there is none.
pub(super) async fn told(
    rows: &mut Option<mpsc::Receiver<(SourceId, Followed)>>,
) -> Option<(SourceId, Followed)> {
    match rows {
        Some(rows) => match rows.recv().await {
            Some(told) => Some(told),
            None => std::future::pending().await,
        },
        None => std::future::pending().await,
    }
}

impl Driver {
    /// What is to be scheduled for a record: itself, or, of a request, the record that it is about.
    pub(super) fn take_request(&mut self, record: Record) -> (Record, Plan) {
        let Some(desk) = &mut self.sources[usize::from(record.id.source.0)].replays else {
            let plan = self.plan(&record);
            return (record, plan);
        };
        match desk.book.open(&record) {
            Opened::Replay(request, restored) => {
                debug!(letter = %request.told.letter, by = request.asked.by, "replaying a letter");
                let plan = self.plan(&restored);
                self.note_drop(restored.id, &plan);
                (restored, plan)
            }
            Opened::Repeated(why) => {
                // Counted in `roomcast_replay_requests_total`; two who ask for the same make thousands of them.
                debug!(why, "a request was made before");
                (record, nothing())
            }
            Opened::Nothing(why) => {
                let source = &self.sources[usize::from(record.id.source.0)].name;
                info!(%source, partition = record.origin.partition, offset = record.origin.offset, why, "a request leads to nothing");
                (record, nothing())
            }
        }
    }

    /// Takes note of a plan that drops what was asked for.
    pub(super) fn note_drop(&mut self, record: RecordId, plan: &Plan) {
        if let (Some(reason), Some(desk)) = (plan.dropped, &mut self.source(record.source).replays) {
            desk.book.dropped(record, reason);
        }
    }

    /// Takes note of a letter that is written for a replay.
    pub(super) fn note_failure(&mut self, letter: &Letter) {
        if let Some(desk) = &mut self.source(letter.record.id.source).replays {
            desk.book.failed(letter);
        }
    }

    /// Reads requests where one of the sources is read whose letters they are of. A replica that only stands
    /// by has no part of what their readers may send: requests would wait with it for ever.
    pub(super) fn look_whose_requests(&mut self) {
        for id in 0..self.sources.len() {
            let Some(desk) = &self.sources[id].replays else { continue };
            let is_read = |of: &SourceId| !self.sources[usize::from(of.0)].partitions.is_empty();
            let reads = desk.of.is_empty() || desk.of.iter().any(is_read);
            if reads == desk.reads {
                continue;
            }
            let of = &mut self.sources[id];
            if let Some(desk) = &mut of.replays {
                desk.reads = reads;
            }
            debug!(source = %of.name, reads, "requests are read where their source is");
            // A source that has ended needs no command.
            let _ = of.commands.send(Command::Read(reads));
        }
    }

    /// Forgets the requests of partitions that are given up or gone.
    pub(super) fn forget_requests(&mut self, source: SourceId, partitions: &[(PartitionId, Epoch)]) {
        if let Some(desk) = &mut self.source(source).replays {
            for &(partition, epoch) in partitions {
                desk.book.forget(source, partition, epoch);
            }
        }
    }

    /// Writes the rows of a request whose every message is finished, for as long as it takes.
    pub(super) fn answer(&mut self, record: RecordId, now: Now) {
        let Some(desk) = &mut self.source(record.source).replays else {
            self.scheduler.handle_answered(record, now);
            return;
        };
        let rows = desk.book.finish(record, now.wall);
        if rows.is_empty() {
            self.scheduler.handle_answered(record, now);
            return;
        }
        let (table, answer_to) = (desk.table.clone(), self.answer_to.clone());
        tokio::spawn(async move {
            for (letter, row) in rows {
                let (key, value) = (Row::key(letter), Bytes::from(row.write()));
                patiently("write what became of a letter", || table.put(key.clone(), value.clone())).await;
            }
            let _ = answer_to.send(Reply::Answered { record });
        });
    }

    /// Takes note of what others wrote into the table beside the letters.
    pub(super) fn note_rows(&mut self, told: Option<(SourceId, Followed)>) {
        let Some((source, told)) = told else { return };
        let runs = self.phase == Phase::Running;
        let of = self.source(source);
        let Some(desk) = &mut of.replays else { return };
        match told {
            Followed::Rows(rows) => {
                for (key, value) in rows {
                    desk.book.note(&String::from_utf8_lossy(&key), value.as_deref());
                }
            }
            Followed::Current => desk.is_current = true,
            Followed::Waiting(why) if desk.is_current && runs => {
                desk.is_current = false;
                warn!(source = %of.name, why, "what others do about letters is not known now");
            }
            Followed::Waiting(why) => debug!(source = %of.name, why, "the table beside the letters waits"),
            Followed::Begun => {}
        }
    }
}
