//! Rooms, their lanes and the messages that wait in them.
//!
//! A lane is the queue of one account, path, room and priority, with one call away at a time; that
//! is what keeps order. A lane whose head may go stands in its path's ring; one that waits for a
//! time stands in an ordered set of due times; every other is touched only when something happens
//! to it. No operation looks at all rooms. A room without messages and memory of them is forgotten.

use std::collections::{BTreeSet, HashMap, VecDeque};

use slab::Slab;

use super::job::{Job, NONE};
use super::pace::{self, Opens};
use super::room::{LaneState, PathLanes, RoomEntry, RoomLimits, counter};
use super::status::Waiting;
use crate::core::model::{AccountId, Path, Priority, Room};
use crate::core::provider::Limits;
use crate::core::time::Mono;

/// All rooms of all accounts.
#[derive(Debug)]
pub struct Lanes {
    rooms: Slab<RoomEntry>,
    jobs: Slab<Job>,
    paths: Vec<PathLanes>,
    due: BTreeSet<(Mono, u64)>,
    /// Entries made in rings so far.
    entries: u64,
}

/// In a due token, the place of the lane; this one means: forget the room.
const FORGET: u64 = 7;

/// The place of a path in the list of all accounts' paths.
pub fn path_index(account: AccountId, path: Path) -> usize {
    usize::from(account.0) * Path::ALL.len() + path as usize
}

impl Lanes {
    /// No rooms yet, for accounts with these limits.
    pub fn new<'a>(accounts: impl Iterator<Item = &'a Limits>) -> Self {
        let paths = accounts
            .flat_map(|limits| {
                Path::ALL.map(|path| PathLanes {
                    limits: RoomLimits {
                        per_second: (path != Path::Broadcast).then_some(limits.room_messages_per_second),
                        high_per_second: limits.room_high_per_second.filter(|_| path == Path::Room),
                    },
                    index: HashMap::new(),
                    rings: Default::default(),
                    ready: [0; 4],
                    backoff: 0,
                    pace: 0,
                    away: 0,
                    jobs: 0,
                })
            })
            .collect();
        Self { rooms: Slab::new(), jobs: Slab::new(), paths, due: BTreeSet::new(), entries: 0 }
    }

    /// The room of that name, made when it is new.
    pub fn room(&mut self, account: AccountId, path: Path, name: &Room) -> u32 {
        let path = path_index(account, path);
        if let Some(&key) = self.paths[path].index.get(&name.0) {
            return key;
        }
        let key = self.rooms.insert(RoomEntry {
            name: name.clone(),
            path: u32_key(path),
            lanes: Default::default(),
            jobs: 0,
            away: 0,
            away_high: 0,
            pace: VecDeque::new(),
            pace_high: VecDeque::new(),
            gone_until: None,
            forget_at: None,
        });
        self.paths[path].index.insert(name.0.clone(), u32_key(key));
        u32_key(key)
    }

    /// What a room of an account may get in a second, of all and of high priority, from now on.
    pub fn set_pace(&mut self, account: AccountId, per_second: u32, high_per_second: u32) {
        for path in [Path::Room, Path::Users] {
            let limits = &mut self.paths[path_index(account, path)].limits;
            limits.per_second = limits.per_second.map(|_| per_second);
            limits.high_per_second = limits.high_per_second.map(|_| high_per_second);
        }
    }

    /// Every message may have been sent.
    pub fn mark_all_maybe_sent(&mut self) {
        self.jobs.iter_mut().for_each(|(_, job)| job.maybe_sent = true);
    }

    /// A job.
    pub fn job(&self, key: u32) -> &Job {
        &self.jobs[key as usize]
    }

    /// A job, if it is still there.
    pub fn get(&self, key: u32) -> Option<&Job> {
        self.jobs.get(key as usize)
    }

    /// Puts another job of the same lane where this one waits, with what is left of its backoff, and
    /// takes this one out. Nothing changes for the lane.
    pub fn exchange(&mut self, key: u32, mut job: Job) -> Job {
        let old = &mut self.jobs[key as usize];
        (job.prev, job.next, job.not_before) = (old.prev, old.next, old.not_before);
        std::mem::replace(old, job)
    }

    /// A job, to change.
    pub fn job_mut(&mut self, key: u32) -> &mut Job {
        &mut self.jobs[key as usize]
    }

    /// Messages of a room, waiting or away.
    pub fn jobs_in(&self, room: u32) -> usize {
        self.rooms[room as usize].jobs as usize
    }

    /// The first message of each lane of a room that has one, and where the lane stands.
    pub fn heads(&self, room: u32) -> impl Iterator<Item = (LaneState, &Job)> {
        let lanes = &self.rooms[room as usize].lanes;
        lanes.iter().filter(|lane| lane.head != NONE).map(|lane| (lane.state, &self.jobs[lane.head as usize]))
    }

    /// A message of the room that has the most, and how many those are. Walks all rooms.
    pub fn fullest(&self) -> Option<(u32, usize)> {
        let (room, entry) = self.rooms.iter().max_by_key(|(_, entry)| entry.jobs)?;
        let first = self.rooms[room].lanes.iter().map(|lane| lane.head).find(|head| *head != NONE)?;
        Some((first, entry.jobs as usize))
    }

    /// Rooms in memory.
    pub fn rooms(&self) -> usize {
        self.rooms.len()
    }

    /// Puts a job at the end of its lane.
    pub fn push(&mut self, job: Job, now: Mono) -> u32 {
        let (room, lane) = (job.room, job.message.priority as usize);
        let key = u32_key(self.jobs.insert(job));
        let entry = &mut self.rooms[room as usize];
        entry.jobs += 1;
        self.paths[entry.path as usize].jobs += 1;
        let tail = std::mem::replace(&mut entry.lanes[lane].tail, key);
        match tail {
            NONE => entry.lanes[lane].head = key,
            _ => {
                self.jobs[tail as usize].next = key;
                self.jobs[key as usize].prev = tail;
            }
        }
        if tail == NONE {
            self.place(room, lane, now);
        }
        key
    }

    /// Takes a job out of its lane for good.
    pub fn remove(&mut self, key: u32, now: Mono) -> Job {
        let job = self.jobs.remove(key as usize);
        let lane = job.message.priority as usize;
        let entry = &mut self.rooms[job.room as usize];
        entry.jobs -= 1;
        self.paths[entry.path as usize].jobs -= 1;
        match job.prev {
            NONE => entry.lanes[lane].head = job.next,
            prev => self.jobs[prev as usize].next = job.next,
        }
        match job.next {
            NONE => self.rooms[job.room as usize].lanes[lane].tail = job.prev,
            next => self.jobs[next as usize].prev = job.prev,
        }
        self.place(job.room, lane, now);
        self.forget_if_idle(job.room, now);
        job
    }

    /// The oldest job of a room that no call carries: the first of the lane that `first` names, or
    /// of the next lane that has one.
    pub fn oldest_waiting(&self, room: u32, first: Priority) -> Option<u32> {
        let lanes = &self.rooms[room as usize].lanes;
        let order = (0..4).map(|step| (first as usize + step) % 4);
        order.filter_map(|lane| self.first_waiting(lanes[lane].head)).next()
    }

    fn first_waiting(&self, mut key: u32) -> Option<u32> {
        while key != NONE {
            let job = &self.jobs[key as usize];
            if !job.away {
                return Some(key);
            }
            key = job.next;
        }
        None
    }

    /// Takes the next ready lane of that priority out of its ring and returns its head, which the
    /// caller sends.
    pub fn pop_ready(&mut self, path: usize, priority: Priority, now: Mono) -> Option<u32> {
        let lane = priority as usize;
        while let Some((room, number)) = self.paths[path].rings[lane].pop_front() {
            if self.rooms.get(room as usize).is_none_or(|entry| entry.lanes[lane].entry != number) {
                continue;
            }
            // A place taken since by another lane of the room makes this one wait.
            let state = self.next_state(room, lane, now);
            if state == LaneState::Ready {
                return Some(self.rooms[room as usize].lanes[lane].head);
            }
            self.set_state(room, lane, state);
        }
        None
    }

    /// Whether a lane of that priority is ready.
    pub fn has_ready(&self, path: usize, priority: Priority) -> bool {
        self.paths[path].ready[priority as usize] > 0
    }

    /// Whether this job could leave at once in another's call: it heads a ready lane.
    pub fn may_join(&mut self, key: u32, now: Mono) -> bool {
        let job = &self.jobs[key as usize];
        let (room, lane) = (job.room, job.message.priority as usize);
        if job.away || job.alone || self.rooms[room as usize].lanes[lane].head != key {
            return false;
        }
        self.next_state(room, lane, now) == LaneState::Ready
    }

    /// The job behind this one in its lane, if the room's pace has a place for one more than `taken`.
    pub fn behind(&mut self, key: u32, taken: usize, now: Mono) -> Option<u32> {
        let job = &self.jobs[key as usize];
        let (room, high, next) = (job.room, job.message.priority == Priority::High, job.next);
        let behind = self.jobs.get(next as usize)?;
        if behind.not_before > now || behind.alone || !job.message.content.joins(&behind.message.content) {
            return None;
        }
        (self.pace_left(room, high, now) as usize > taken).then_some(next)
    }

    /// All jobs of a room that no call carries.
    pub fn waiting_in(&self, room: u32) -> Vec<u32> {
        let mut waiting = Vec::new();
        for lane in self.rooms.get(room as usize).map_or(&[][..], |entry| &entry.lanes) {
            let mut key = lane.head;
            while key != NONE {
                let job = &self.jobs[key as usize];
                waiting.extend((!job.away).then_some(key));
                key = job.next;
            }
        }
        waiting
    }

    /// These jobs leave in one call.
    pub fn sent(&mut self, keys: &[u32]) {
        for &key in keys {
            let job = &mut self.jobs[key as usize];
            job.away = true;
            let (room, lane) = (job.room, job.message.priority as usize);
            let entry = &mut self.rooms[room as usize];
            entry.away += 1;
            entry.away_high += u32::from(lane == Priority::High as usize);
            self.set_state(room, lane, LaneState::Away);
        }
    }

    /// A job's call has answered. The job stays at its place in its lane.
    pub fn landed(&mut self, key: u32, now: Mono) {
        let job = &mut self.jobs[key as usize];
        job.away = false;
        let (room, lane) = (job.room, job.message.priority as usize);
        let entry = &mut self.rooms[room as usize];
        let limits = self.paths[entry.path as usize].limits;
        entry.away -= 1;
        if limits.per_second.is_some() {
            entry.pace.push_back(now + pace::PERIOD);
        }
        if lane == Priority::High as usize {
            entry.away_high -= 1;
            if limits.high_per_second.is_some() {
                entry.pace_high.push_back(now + pace::PERIOD);
            }
        }
    }

    /// Finds the places of a room's lanes anew, after its calls landed or its jobs changed. The
    /// room may have been forgotten with its last job.
    pub fn replace(&mut self, room: u32, now: Mono) {
        if !self.rooms.contains(room as usize) {
            return;
        }
        for lane in 0..4 {
            self.place(room, lane, now);
        }
        self.forget_if_idle(room, now);
    }

    /// The provider says that the room does not exist.
    pub fn set_gone(&mut self, room: u32, until: Mono) {
        self.rooms[room as usize].gone_until = Some(until);
    }

    /// The room takes messages: it is there.
    pub fn set_there(&mut self, room: u32) {
        self.rooms[room as usize].gone_until = None;
    }

    /// Whether the room is known to be gone.
    pub fn is_gone(&self, room: u32, now: Mono) -> bool {
        self.rooms[room as usize].gone_until.is_some_and(|until| now < until)
    }

    /// Moves every lane whose time has come.
    pub fn turn(&mut self, now: Mono) {
        while let Some(&(at, token)) = self.due.first() {
            if at > now {
                return;
            }
            self.due.pop_first();
            let (room, lane) = (u32_key(usize::try_from(token >> 3).expect("a room key")), token & 7);
            if lane == FORGET {
                self.rooms[room as usize].forget_at = None;
                self.forget_if_idle(room, now);
            } else {
                self.place(room, usize::try_from(lane).expect("a lane"), now);
            }
        }
    }

    /// When [`Lanes::turn`] has something to do next.
    pub fn wake(&self) -> Option<Mono> {
        self.due.first().map(|&(at, _)| at)
    }

    /// What the messages of a path wait for.
    pub fn waiting(&self, path: usize) -> Waiting {
        let lanes = &self.paths[path];
        let quota = lanes.ready.iter().sum();
        let heads = quota + lanes.backoff + lanes.pace + lanes.away;
        Waiting {
            quota,
            share: 0,
            pace: lanes.pace,
            backoff: lanes.backoff,
            order: lanes.jobs.saturating_sub(heads),
            gate: 0,
        }
    }

    /// Finds where a lane belongs and puts it there.
    fn place(&mut self, room: u32, lane: usize, now: Mono) {
        let state = self.next_state(room, lane, now);
        self.set_state(room, lane, state);
    }

    fn next_state(&mut self, room: u32, lane: usize, now: Mono) -> LaneState {
        let head = self.rooms[room as usize].lanes[lane].head;
        if head == NONE {
            return LaneState::Empty;
        }
        let job = &self.jobs[head as usize];
        if job.away {
            return LaneState::Away;
        }
        if job.not_before > now {
            return LaneState::Backoff(job.not_before);
        }
        let high = lane == Priority::High as usize;
        if self.pace_left(room, high, now) > 0 {
            return LaneState::Ready;
        }
        let entry = &self.rooms[room as usize];
        let limits = self.paths[entry.path as usize].limits;
        let all = pace::opens(limits.per_second, entry.away, &entry.pace);
        let high = if high {
            pace::opens(limits.high_per_second, entry.away_high, &entry.pace_high)
        } else {
            Opens::Open
        };
        match (all, high) {
            (Opens::WithAnswer, _) | (_, Opens::WithAnswer) => LaneState::PaceAway,
            (Opens::At(one), Opens::At(other)) => LaneState::Pace(one.max(other)),
            (Opens::At(at), Opens::Open) | (Opens::Open, Opens::At(at)) => LaneState::Pace(at),
            (Opens::Open, Opens::Open) => LaneState::Ready,
        }
    }

    /// Messages that the room's pace lets go now.
    fn pace_left(&mut self, room: u32, high: bool, now: Mono) -> u32 {
        let entry = &mut self.rooms[room as usize];
        let limits = self.paths[entry.path as usize].limits;
        let all = pace::left(limits.per_second, entry.away, &mut entry.pace, now);
        match high {
            true => all.min(pace::left(limits.high_per_second, entry.away_high, &mut entry.pace_high, now)),
            false => all,
        }
    }

    fn set_state(&mut self, room: u32, lane: usize, state: LaneState) {
        let entry = &mut self.rooms[room as usize];
        let old = std::mem::replace(&mut entry.lanes[lane].state, state);
        if old == state {
            return;
        }
        let path = &mut self.paths[entry.path as usize];
        if let Some(count) = counter(path, lane, old) {
            *count -= 1;
        }
        if let Some(count) = counter(path, lane, state) {
            *count += 1;
        }
        let token = (u64::from(room) << 3) | lane as u64;
        match old {
            LaneState::Backoff(at) | LaneState::Pace(at) => drop(self.due.remove(&(at, token))),
            LaneState::Ready => {
                entry.lanes[lane].entry = 0;
                if path.ready[lane] == 0 {
                    // Nobody is ready: every entry left is of a lane that has gone.
                    path.rings[lane].clear();
                }
            }
            LaneState::Empty | LaneState::PaceAway | LaneState::Away => {}
        }
        match state {
            LaneState::Backoff(at) | LaneState::Pace(at) => drop(self.due.insert((at, token))),
            LaneState::Ready => {
                self.entries += 1;
                entry.lanes[lane].entry = self.entries;
                path.rings[lane].push_back((room, self.entries));
            }
            LaneState::Empty | LaneState::PaceAway | LaneState::Away => {}
        }
    }

    /// Forgets a room that holds nothing: at once, or when its pace has run out.
    fn forget_if_idle(&mut self, room: u32, now: Mono) {
        let entry = &mut self.rooms[room as usize];
        if entry.jobs > 0 {
            return;
        }
        let until = entry.pace.back().copied().max(entry.gone_until).filter(|&at| at > now);
        match until {
            Some(at) if entry.forget_at != Some(at) => {
                let token = (u64::from(room) << 3) | FORGET;
                if let Some(old) = entry.forget_at.replace(at) {
                    self.due.remove(&(old, token));
                }
                self.due.insert((at, token));
            }
            Some(_) => {}
            None => {
                if let Some(old) = entry.forget_at {
                    self.due.remove(&(old, (u64::from(room) << 3) | FORGET));
                }
                let entry = self.rooms.remove(room as usize);
                self.paths[entry.path as usize].index.remove(&entry.name.0);
            }
        }
    }
}

/// Slab keys as they are kept: memory ends long before 2^32 entries of 100 bytes and more.
fn u32_key(key: usize) -> u32 {
    u32::try_from(key).expect("fewer than 2^32 entries fit in memory")
}
