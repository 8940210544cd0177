//! What comes in from sources: assignments, records with their plans, and partitions that go.

use std::iter::Peekable;
use std::sync::Arc;

use smallvec::SmallVec;

use super::job::Job;
use super::status::Fate;
use super::ticket::Group;
use super::{OnFull, Scheduler};
use crate::core::letter::Letter;
use crate::core::model::{
    Class, DropReason, Epoch, Message, PartitionId, Plan, Priority, Record, SourceId, Tries,
};
use crate::core::time::{Mono, Now};

/// Memory of one queued message beside its content, for `max_held_bytes`: job, room, lane, sets.
const JOB_WEIGHT: usize = 512;

impl Scheduler {
    /// Partitions are ours under new epochs.
    pub fn handle_assigned(&mut self, source: SourceId, partitions: &[(PartitionId, Epoch)]) {
        for &(partition, epoch) in partitions {
            self.held.assign(source, partition, epoch);
        }
    }

    /// A record and what the routes make of it. Records of one partition come in its order. One
    /// whose partition is not ours (any more) is forgotten: its owner gets it.
    pub fn handle_record(&mut self, record: Arc<Record>, plan: Plan, now: Now) {
        let hash = |message: &Message| self.lanes.hash(message.account, message.path, &message.room);
        let first = plan.messages.first().map(hash);
        let maybe_sent = record.maybe_tried;
        let Some(held) = self.held.hold(record, weight(&plan), now.mono, &mut self.effects) else { return };
        if let Some(hash) = first {
            self.lanes.expect_room(hash);
        }
        let arrival = (self.number_arrival(), now.mono, maybe_sent);
        self.held.records[held as usize].open = 1;
        self.route(held, plan, first, arrival, now);
    }

    /// Carries a record's plan out. Its one ticket is kept open while its groups are made: one that
    /// ends at once must not settle it early. `first` is the hash of the first message's room, where it
    /// is known; `arrival` the record's number among those that arrived, when it came, and whether
    /// others may have sent it.
    pub(super) fn route(
        &mut self,
        held: u32,
        plan: Plan,
        mut first: Option<u32>,
        arrival: (u64, Mono, bool),
        now: Now,
    ) {
        if plan.waits.is_some() {
            self.wait_for_key(held, arrival, plan);
            return;
        }
        let record = Arc::clone(&self.held.records[held as usize].record);
        if let Some(reason) = plan.dropped {
            self.count(plan.account, Fate::Dropped(reason), 1);
        }
        for failure in plan.failures {
            let letter = Letter {
                record: Arc::clone(&record),
                base: failure.base,
                class: failure.class,
                error: failure.error,
                route: plan.route,
                account: plan.account,
                rooms: failure.rooms,
                tries: Tries::default(),
            };
            self.held.records[held as usize].open += 1;
            self.bury(held, letter);
        }
        let mut messages = plan.messages.into_iter().peekable();
        while let Some(message) = messages.next() {
            let group = self.held.add_group(Group {
                record: held,
                route: message.route,
                account: message.account,
                jobs: SmallVec::new(),
                failed: Vec::new(),
            });
            let hash = first.take();
            self.queue((held, group), message, hash, &mut messages, arrival.2, now);
        }
        self.held.punch(held, &mut self.effects);
    }

    /// Queues the messages of one group: `first` (whose room's hash may be known) and those behind
    /// it that share its content. The group is closed here when none of them waits.
    fn queue(
        &mut self,
        (held, group): (u32, u32),
        first: Message,
        mut hash: Option<u32>,
        others: &mut Peekable<std::vec::IntoIter<Message>>,
        maybe_sent: bool,
        now: Now,
    ) {
        // What goes wrong at once is finished after all have been queued: else the first would
        // close the group before the second has joined it.
        let mut at_once: SmallVec<[(u32, AtOnce); 2]> = SmallVec::new();
        let content = Arc::as_ptr(&first.content);
        let mut next = Some(first);
        while let Some(message) = next {
            next = others.next_if(|other| Arc::as_ptr(&other.content) == content);
            let hash =
                hash.take().unwrap_or_else(|| self.lanes.hash(message.account, message.path, &message.room));
            let room = self.lanes.room(message.account, message.path, &message.room, hash);
            let expires = message.expires.map(|at| deadline(at.0, now));
            let gone = self.lanes.is_gone(room, now.mono);
            let is_timely = expires.is_none_or(|at| at > now.mono);
            if let Some(older) = self.superseded(room, &message).filter(|_| !gone && is_timely) {
                self.take_place(older, Job::new(message, (held, group), room, maybe_sent, expires));
                continue;
            }
            let full = message.priority != Priority::Background
                && self.lanes.has_as_many_as(self.settings.max_waiting_per_room, room);
            let on_full = self.settings.routes[usize::from(message.route.0)].on_full;
            let priority = message.priority;
            let oldest = if full && !gone && on_full == OnFull::DropOldest {
                self.lanes.oldest_waiting(room, priority)
            } else {
                None
            };
            let job = self.lanes.push(Job::new(message, (held, group), room, maybe_sent, expires), now.mono);
            self.held.groups[group as usize].jobs.push(job);
            self.newest.put(job, self.lanes.job(job));
            if let Some(at) = expires {
                self.expiries.insert((at, job));
            }
            if gone {
                at_once.push((job, AtOnce::Gone));
            } else if full {
                match on_full {
                    OnFull::Wait => self.hold_back(room, group, now.mono),
                    OnFull::DropOldest => at_once.push((oldest.unwrap_or(job), AtOnce::DropOldest)),
                    OnFull::DeadLetter => at_once.push((job, AtOnce::Full)),
                }
            }
        }
        for (job, what) in at_once {
            match what {
                AtOnce::DropOldest => self.finish_dropped(job, DropReason::Overflow, now.mono),
                AtOnce::Full => {
                    let most = self.settings.max_waiting_per_room;
                    let error =
                        format!("{most} messages wait for this room, as many as max_waiting_per_room allows");
                    self.finish_failed(job, Class::Overflow, error, now.mono);
                }
                AtOnce::Gone => {
                    self.finish_failed(job, Class::RoomGone, super::outcome::KNOWN_GONE.to_owned(), now.mono);
                }
            }
        }
    }

    /// Holds back the partition of a record whose room is full.
    fn hold_back(&mut self, room: u32, group: u32, now: Mono) {
        let record = self.held.groups[group as usize].record;
        let partition = self.held.partition_of(record);
        let held_back = self.full_rooms.entry(room).or_default();
        if !held_back.contains(&partition) {
            held_back.push(partition);
            self.held.pause(partition, Some(now), &mut self.effects);
        }
    }

    /// Partitions will be given up. Their waiting messages are forgotten at once; each partition is
    /// released when its last call away has answered.
    pub fn handle_revoking(&mut self, source: SourceId, partitions: &[(PartitionId, Epoch)], now: Now) {
        for &(id, epoch) in partitions {
            match self.held.partition(source, id, epoch) {
                Some(partition) => {
                    self.held.begin_revoking(partition, &mut self.effects);
                    self.give_up(partition, now.mono);
                    self.release_if_done(partition);
                }
                // Nothing is known of it: nothing is away either.
                None => self.effects.push_back(super::Effect::Released(source, id, epoch)),
            }
        }
    }

    /// Partitions are gone: nothing of theirs is sent any more. Calls away still land, so that
    /// their rooms stay in order, but settle nothing.
    pub fn handle_lost(&mut self, source: SourceId, partitions: &[(PartitionId, Epoch)], now: Now) {
        for &(id, epoch) in partitions {
            if let Some(partition) = self.held.partition(source, id, epoch) {
                self.held.begin_revoking(partition, &mut self.effects);
                self.give_up(partition, now.mono);
                for record in self.held.records_of(partition) {
                    self.held.records[record as usize].abandoned = true;
                }
                self.release_if_done(partition);
            }
        }
    }

    /// Forgets every message of a partition that is not away.
    fn give_up(&mut self, partition: u32, now: Mono) {
        for record in self.held.records_of(partition) {
            if self.unrouted.forget(record) {
                self.held.records[record as usize].abandoned = true;
            }
            let groups = self.held.records[record as usize].groups.clone();
            for group in groups {
                let jobs = self.held.groups[group as usize].jobs.clone();
                for job in jobs.into_iter().filter(|&job| !self.lanes.job(job).away).collect::<Vec<_>>() {
                    self.abandon(job, now);
                }
            }
            let held = &self.held.records[record as usize];
            if held.abandoned && held.groups.is_empty() {
                self.held.release(record, &mut self.effects);
            }
        }
        self.forget_pauses(partition);
    }

    fn forget_pauses(&mut self, partition: u32) {
        self.full_rooms.retain(|_, held_back| {
            held_back.retain(|other| *other != partition);
            !held_back.is_empty()
        });
    }

    /// Forgets a partition under revocation once no call of it is away, with what it still holds.
    pub(super) fn release_if_done(&mut self, partition: u32) {
        if !self.held.finish_revoking(partition, &mut self.effects) {
            return;
        }
        for record in self.held.records_of(partition) {
            self.held.release(record, &mut self.effects);
        }
        self.held.forget(partition);
    }
}

/// What is to be done with a message that need not wait.
enum AtOnce {
    /// It gives way in a full room: dropped.
    DropOldest,
    /// Its room is full: a letter.
    Full,
    /// Its room is known to be gone: a letter.
    Gone,
}

/// A wall-clock deadline on the monotonic clock; now, when it has passed.
fn deadline(at_ms: i64, now: Now) -> Mono {
    let left = u64::try_from(at_ms.saturating_sub(now.wall.0)).unwrap_or(0);
    now.mono + std::time::Duration::from_millis(left)
}

/// Bytes of what a plan keeps in memory.
pub(super) fn weight(plan: &Plan) -> usize {
    let mut weight = plan.messages.len() * JOB_WEIGHT;
    weight += plan.waits.as_deref().map_or(0, super::unrouted::weight);
    let mut last = None;
    for message in &plan.messages {
        let content = Arc::as_ptr(&message.content);
        if last != Some(content) {
            weight += message.content.weight();
            last = Some(content);
        }
    }
    weight + plan.failures.iter().map(|failure| failure.error.len() + JOB_WEIGHT).sum::<usize>()
}
