//! Conflation: of the messages of one lane and route with the same key, at most one waits, the one
//! taken in last. It stands where the older one stood, and the older one is finished as conflated.
//!
//! A message whose try is away is never touched: the newer one waits behind it. If that try fails
//! and the older one would wait again, the newer one takes its place then, and with it what is left
//! of its backoff: the wait is the room's, a stream of updates does not end it. Everything else is
//! the newer one's own: id, resend mark, time-to-live, and tries, which begin at none.

use std::collections::HashMap;

use super::Scheduler;
use super::job::Job;
use super::status::Fate;
use crate::core::model::{ConflateKey, Message, RouteId};
use crate::core::time::Mono;

/// The newest message of each key, waiting or away. Holds nothing of messages without a key.
#[derive(Debug, Default)]
pub struct Newest {
    jobs: HashMap<Place, u32>,
}

/// A key where it counts: room, lane and route.
type Place = (u32, u8, RouteId, ConflateKey);

fn place(room: u32, message: &Message) -> Option<Place> {
    Some((room, message.priority as u8, message.route, message.conflate?))
}

impl Newest {
    /// The newest job with the key of that message; `None` for one without a key.
    fn get(&self, room: u32, message: &Message) -> Option<u32> {
        self.jobs.get(&place(room, message)?).copied()
    }

    /// This job is the newest of its key from now on.
    pub fn put(&mut self, key: u32, job: &Job) {
        if let Some(place) = place(job.room, &job.message) {
            self.jobs.insert(place, key);
        }
    }

    /// This job leaves.
    pub fn forget(&mut self, key: u32, job: &Job) {
        if let Some(place) = place(job.room, &job.message)
            && self.jobs.get(&place) == Some(&key)
        {
            self.jobs.remove(&place);
        }
    }

    /// Whether no message with a key is held.
    pub fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }
}

impl Scheduler {
    /// The waiting message whose place a new one takes, if there is one.
    pub(super) fn superseded(&self, room: u32, message: &Message) -> Option<u32> {
        let older = self.newest.get(room, message)?;
        (!self.lanes.job(older).away).then_some(older)
    }

    /// Puts a job where `older` waits, which is finished by that.
    pub(super) fn take_place(&mut self, older: u32, job: Job) {
        let (group, expires) = (job.group, job.expires);
        // First of all: were both of one group, it must not be closed in between.
        self.held.groups[group as usize].jobs.push(older);
        let old = self.lanes.exchange(older, job);
        if let Some(at) = old.expires {
            self.expiries.remove(&(at, older));
        }
        if let Some(at) = expires {
            self.expiries.insert((at, older));
        }
        self.leave_group(older, old.group);
        self.count(Some(old.message.account), Fate::Conflated, 1);
        self.conflated[usize::from(old.message.route.0)] += 1;
        self.close_if_done(old.group);
    }

    /// Messages of a call that has answered and been judged: those that would wait again give way
    /// to newer ones.
    pub(super) fn conflate_landed(&mut self, landed: &[u32], now: Mono) {
        if self.newest.is_empty() {
            return;
        }
        for &older in landed {
            let Some(job) = self.lanes.get(older).filter(|job| !job.away) else { continue };
            match self.newest.get(job.room, &job.message) {
                Some(newer) if newer != older => {
                    let job = self.lanes.remove(newer, now);
                    if let Some(at) = job.expires {
                        self.expiries.remove(&(at, newer));
                    }
                    self.leave_group(newer, job.group);
                    self.newest.put(older, &job);
                    let room = job.room;
                    self.take_place(older, job);
                    self.resume_if_room(room);
                }
                Some(_) => {}
                None => self.newest.put(older, job),
            }
        }
    }
}
