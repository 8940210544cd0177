//! Rooms, their lanes and the messages that wait in them.
//!
//! A lane is the queue of one account, path, room and priority, with one call away at a time; that
//! is what keeps order. A lane whose head may go stands in its path's ring; one whose head repeats a
//! failure stands in an ordered set of due times; one that waits for its room's pace is looked at
//! when a place comes back; every other is touched only when something happens to it. No operation
//! looks at all rooms. A room without messages and memory of them is forgotten.

mod full;
mod probe;

use std::collections::BTreeSet;

use super::index::Index;
use super::job::{Job, NONE};
use super::pace::Cooling;
use super::pool::Pool;
use super::ring::{Ring, TOGETHER};
use super::room::{LaneState, PathLanes, RoomEntry, RoomLimits, counter};
use super::status::Waiting;
use crate::core::model::{AccountId, Path, Priority, Room};
use crate::core::provider::Limits;
use crate::core::share::RoomPace;
use crate::core::time::Mono;

/// All rooms of all accounts.
#[derive(Debug)]
pub struct Lanes {
    rooms: Pool<RoomEntry>,
    index: Index,
    jobs: Pool<Job>,
    paths: Vec<PathLanes>,
    /// Places of rooms' paces that come back.
    cooling: Cooling,
    /// Lanes in [`LaneState::Backoff`], and rooms that are gone, by the time at which they are not.
    due: BTreeSet<(Mono, u64)>,
}

/// In a due token, the place of the lane; this one means: the room may be there again.
const THERE: u64 = 7;

/// So many rooms after a room was asked for, its messages are; and so many after it, what a message refers
/// to. The rest is what is left of the look ahead for that to come.
const ROOM_COMES: usize = TOGETHER;
const MESSAGE_COMES: usize = 2 * TOGETHER;

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
                        background_per_second: u32::MAX,
                    },
                    rings: [const { Ring::new() }; 4],
                    backoff: 0,
                    pace: 0,
                    away: 0,
                    jobs: 0,
                })
            })
            .collect();
        Self {
            rooms: Pool::new(),
            index: Index::new(),
            jobs: Pool::new(),
            paths,
            cooling: Cooling::default(),
            due: BTreeSet::new(),
        }
    }

    /// The hash of a room's name, for [`Lanes::room`]. Asks for the memory where the name is looked up.
    pub fn hash(&self, account: AccountId, path: Path, name: &Room) -> u32 {
        let hash = self.index.hash(u32_key(path_index(account, path)), &name.0);
        self.index.expect(hash);
        hash
    }

    /// Asks for the memory of the room with that hash.
    pub fn expect_room(&self, hash: u32) {
        if let Some(key) = self.index.find(hash, |_| true) {
            self.rooms.expect_start(key as usize);
        }
    }

    /// The room of that name and its hash, made when it is new.
    pub fn room(&mut self, account: AccountId, path: Path, name: &Room, hash: u32) -> u32 {
        let path = u32_key(path_index(account, path));
        let is_it = |key| {
            let entry: &RoomEntry = &self.rooms[key as usize];
            entry.path == path && entry.name.is(&name.0)
        };
        if let Some(key) = self.index.find(hash, is_it) {
            return key;
        }
        let key = u32_key(self.rooms.insert(RoomEntry::new(name, hash, path)));
        self.index.insert(hash, key);
        key
    }

    /// What a room of an account may get in a second from now on.
    pub fn set_pace(&mut self, account: AccountId, pace: RoomPace) {
        for path in [Path::Room, Path::Users] {
            let limits = &mut self.paths[path_index(account, path)].limits;
            limits.per_second = limits.per_second.map(|_| pace.all);
            limits.high_per_second = limits.high_per_second.map(|_| pace.high);
            limits.background_per_second = pace.background;
        }
    }

    /// Every message may have been sent.
    pub fn mark_all_maybe_sent(&mut self) {
        self.jobs.iter_mut().for_each(|job| job.maybe_sent = true);
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
        let entry = &self.rooms[room as usize];
        let lanes = (0..4).map(|lane| (entry.states[lane], entry.lane(lane).head));
        lanes.filter(|(_, head)| *head != NONE).map(|(state, head)| (state, &self.jobs[head as usize]))
    }

    /// When the room's pace has a place again; `None`: when a call has answered. Walks the answers of
    /// a second: for people, not for decisions.
    pub fn pace_returns(&self, room: u32) -> Option<Mono> {
        self.cooling.next_of(room)
    }

    /// A message of the room that has the most, and how many those are. Walks all rooms.
    pub fn fullest(&self) -> Option<(u32, usize)> {
        let entry = self.rooms.iter().max_by_key(|entry| entry.jobs)?;
        let first = (0..4).map(|lane| entry.lane(lane).head).find(|head| *head != NONE)?;
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
        entry.comes(lane);
        self.paths[entry.path as usize].jobs += 1;
        let tail = std::mem::replace(&mut entry.lane_mut(lane).tail, key);
        match tail {
            NONE => entry.lane_mut(lane).head = key,
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
        let job = &self.jobs[key as usize];
        let (room, lane) = (job.room, job.message.priority as usize);
        let entry = &self.rooms[room as usize];
        if entry.lane(lane).head == key && entry.states[lane] == LaneState::Backoff {
            // While its due time is known: the next head has another.
            self.set_state(room, lane, LaneState::Empty);
        }
        let job = self.jobs.remove(key as usize);
        let entry = &mut self.rooms[room as usize];
        entry.goes(lane);
        self.paths[entry.path as usize].jobs -= 1;
        match job.prev {
            NONE => entry.lane_mut(lane).head = job.next,
            prev => self.jobs[prev as usize].next = job.next,
        }
        match job.next {
            NONE => self.rooms[job.room as usize].lane_mut(lane).tail = job.prev,
            next => self.jobs[next as usize].prev = job.prev,
        }
        self.place(job.room, lane, now);
        self.forget_if_idle(job.room);
        job
    }

    /// The head of the next ready lane of that priority, which the caller sends.
    pub fn next_ready(&mut self, path: usize, priority: Priority, now: Mono) -> Option<u32> {
        let lane = priority as usize;
        while let Some(room) = self.paths[path].rings[lane].front() {
            // A place taken since by another lane of the room makes this one wait.
            let state = self.next_state(room, lane, now);
            if state == LaneState::Ready {
                return Some(self.rooms[room as usize].lane(lane).head);
            }
            self.set_state(room, lane, state);
        }
        None
    }

    /// Whether a lane of that priority is ready.
    pub fn has_ready(&self, path: usize, priority: Priority) -> bool {
        self.paths[path].rings[priority as usize].len() > 0
    }

    /// Asks for the memory of what is served soon, and tells of the messages that are served very soon.
    pub fn look_ahead(&mut self, path: usize, priority: Priority, mut tell: impl FnMut(&Job)) {
        let lane = priority as usize;
        let ring = &mut self.paths[path].rings[lane];
        let rooms = ring.look_ahead(|room| self.rooms.expect_start(room as usize));
        if rooms == 0 {
            return;
        }
        self.cooling.look_ahead(|room| self.rooms.expect_start(room as usize));
        let head = |room: u32| Some(self.rooms.get(room as usize)?.lane(lane).head as usize);
        for ago in 1..=rooms {
            if let Some(head) = ring.asked_for(ROOM_COMES + ago).and_then(head) {
                self.jobs.expect(head);
            }
            let message = ring.asked_for(MESSAGE_COMES + ago).and_then(head);
            if let Some(job) = message.and_then(|head| self.jobs.get(head)) {
                tell(job);
            }
        }
    }

    /// Whether this job could leave at once in another's call: it heads a ready lane.
    pub fn may_join(&self, key: u32, now: Mono) -> bool {
        let job = &self.jobs[key as usize];
        let (room, lane) = (job.room, job.message.priority as usize);
        if job.away || job.alone || self.rooms[room as usize].lane(lane).head != key {
            return false;
        }
        self.next_state(room, lane, now) == LaneState::Ready
    }

    /// The job behind this one in its lane, if the room's pace has a place for one more than `taken`.
    pub fn behind(&self, key: u32, taken: usize, now: Mono) -> Option<u32> {
        let job = &self.jobs[key as usize];
        let (room, lane, next) = (job.room, job.message.priority as usize, job.next);
        let behind = self.jobs.get(next as usize)?;
        if behind.not_before > now || behind.alone || !job.message.content.joins(&behind.message.content) {
            return None;
        }
        (self.pace_left(room, lane) as usize > taken).then_some(next)
    }

    /// All jobs of a room that no call carries.
    pub fn waiting_in(&self, room: u32) -> Vec<u32> {
        let mut waiting = Vec::new();
        let Some(entry) = self.rooms.get(room as usize) else { return waiting };
        for lane in 0..4 {
            let mut key = entry.lane(lane).head;
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
            if self.paths[entry.path as usize].limits.are_any() {
                entry.take_place(lane);
            }
            self.set_state(room, lane, LaneState::Away);
        }
    }

    /// A job's call has answered. The job stays at its place in its lane.
    pub fn landed(&mut self, key: u32, now: Mono) {
        let job = &mut self.jobs[key as usize];
        job.away = false;
        let (room, priority) = (job.room, job.message.priority);
        if self.paths[self.rooms[room as usize].path as usize].limits.are_any() {
            self.cooling.push(room, priority, now);
        }
    }

    /// Finds a lane's place anew, after its call landed or one of its jobs, which this is, changed.
    pub fn replace(&mut self, key: u32, now: Mono) {
        let job = &self.jobs[key as usize];
        self.place(job.room, job.message.priority as usize, now);
    }

    /// The provider says that the room does not exist. It may have been forgotten with its last job,
    /// where no pace remembers it.
    pub fn set_gone(&mut self, room: u32, until: Mono) {
        if !self.rooms.contains(room as usize) {
            return;
        }
        self.set_there(room);
        let entry = &mut self.rooms[room as usize];
        (entry.is_gone, entry.gone_until) = (true, until);
        self.due.insert((until, token(room, THERE)));
    }

    /// The room takes messages: it is there.
    pub fn set_there(&mut self, room: u32) {
        let entry = &mut self.rooms[room as usize];
        if std::mem::take(&mut entry.is_gone) {
            self.due.remove(&(entry.gone_until, token(room, THERE)));
        }
    }

    /// Whether the room is known to be gone.
    pub fn is_gone(&self, room: u32, now: Mono) -> bool {
        let entry = &self.rooms[room as usize];
        entry.is_gone && now < entry.gone_until
    }

    /// Moves every lane whose time has come.
    pub fn turn(&mut self, now: Mono) {
        while let Some((room, priority)) = self.cooling.pop(now) {
            let entry = &mut self.rooms[room as usize];
            entry.place_returns(priority as usize);
            if entry.jobs == 0 {
                self.forget_if_idle(room);
            } else if entry.states.contains(&LaneState::Pace) {
                for lane in 0..4 {
                    if self.rooms[room as usize].states[lane] == LaneState::Pace {
                        self.place(room, lane, now);
                    }
                }
            }
        }
        while let Some(&(at, token)) = self.due.first()
            && at <= now
        {
            self.due.pop_first();
            let (room, lane) = (u32_key(usize::try_from(token >> 3).expect("a room key")), token & 7);
            if lane == THERE {
                self.rooms[room as usize].is_gone = false;
                self.forget_if_idle(room);
            } else {
                self.place(room, usize::try_from(lane).expect("a lane"), now);
            }
        }
    }

    /// When [`Lanes::turn`] has something to do next. Rooms that have cooled are forgotten when all
    /// have, or when anything else happens: nobody is woken for one.
    pub fn wake(&self) -> Option<Mono> {
        let paced = self.paths.iter().any(|path| path.pace > 0);
        let cooled = if paced { self.cooling.next() } else { self.cooling.last() };
        let due = self.due.first().map(|&(at, _)| at);
        due.into_iter().chain(cooled).min()
    }

    /// What the messages of a path wait for.
    pub fn waiting(&self, path: usize) -> Waiting {
        let lanes = &self.paths[path];
        let quota = lanes.rings.iter().map(Ring::len).sum();
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

    fn next_state(&self, room: u32, lane: usize, now: Mono) -> LaneState {
        let head = self.rooms[room as usize].lane(lane).head;
        if head == NONE {
            return LaneState::Empty;
        }
        let job = &self.jobs[head as usize];
        if job.away {
            LaneState::Away
        } else if job.not_before > now {
            LaneState::Backoff
        } else if self.pace_left(room, lane) > 0 {
            LaneState::Ready
        } else {
            LaneState::Pace
        }
    }

    /// Messages that the room's pace lets go.
    fn pace_left(&self, room: u32, lane: usize) -> u32 {
        let entry = &self.rooms[room as usize];
        entry.pace_left(self.paths[entry.path as usize].limits, lane)
    }

    fn set_state(&mut self, room: u32, lane: usize, state: LaneState) {
        let entry = &mut self.rooms[room as usize];
        let old = entry.states[lane];
        if old == state {
            return;
        }
        let head = entry.lane(lane).head;
        if old == LaneState::Backoff {
            self.due.remove(&(self.jobs[head as usize].not_before, token(room, lane as u64)));
        }
        entry.states[lane] = state;
        let path = &mut self.paths[entry.path as usize];
        if let Some(count) = counter(path, old) {
            *count -= 1;
        }
        if let Some(count) = counter(path, state) {
            *count += 1;
        }
        if old == LaneState::Ready {
            path.rings[lane].remove(entry.lane(lane).stand);
        }
        match state {
            LaneState::Backoff => {
                self.due.insert((self.jobs[head as usize].not_before, token(room, lane as u64)));
            }
            LaneState::Ready => entry.lane_mut(lane).stand = path.rings[lane].push(room),
            LaneState::Empty | LaneState::Pace | LaneState::Away => {}
        }
    }

    /// Forgets a room that holds nothing and of whose pace nothing is taken.
    fn forget_if_idle(&mut self, room: u32) {
        let entry = &self.rooms[room as usize];
        if entry.jobs == 0 && entry.taken == 0 && !entry.is_gone {
            self.index.remove(entry.hash, room);
            self.rooms.remove(room as usize);
        }
    }
}

fn token(room: u32, lane: u64) -> u64 {
    (u64::from(room) << 3) | lane
}

/// Keys as they are kept: memory ends long before 2^32 entries of 100 bytes and more.
fn u32_key(key: usize) -> u32 {
    u32::try_from(key).expect("fewer than 2^32 entries fit in memory")
}
