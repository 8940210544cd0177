//! One process of the world: its quotas, its clock, what it has away, and where its share comes from.

use std::collections::BTreeMap;
use std::time::Duration;

use super::world::{Rows, TIMEOUT, limits};
use crate::core::model::Path;
use crate::core::schedule::quota::Quota;
use crate::core::share::day::{DayRow, used};
use crate::core::share::lease::{Book, Step};
use crate::core::share::spread::Spread;
use crate::core::share::{Grant, Quotas, Share};
use crate::core::time::{Mono, Wall};

/// Nanoseconds of the world's own time.
pub type Time = u64;
pub const MS: Time = 1_000_000;
pub const SECOND: Time = 1_000 * MS;

/// A call, as the world knows it.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    pub path: Path,
    pub messages: u32,
    pub counted: Time,
    pub answered: Time,
}

/// Where the share comes from.
#[derive(Debug)]
pub enum Source {
    Spread(Box<Spread>),
    Book(Box<Book>),
    Fixed,
}

/// A write or read under way at the store of shares.
#[derive(Debug)]
pub struct Asking {
    pub answered: Time,
    pub answer: Answer,
}

#[derive(Debug)]
pub enum Answer {
    Read(Result<Option<(u64, Vec<u8>)>, String>),
    Written(Result<crate::core::share::lease::Written, String>),
}

/// A look at the table: when it is read, when its answer comes, and what it says.
type Recount = (Time, Time, Option<(i64, u32, Option<Wall>)>);

#[derive(Debug)]
pub struct Process {
    pub id: u32,
    base: u64,
    ppm: i64,
    pub source: Source,
    quotas: [Quota; 2],
    lease: Option<(Mono, Share)>,
    pub away: Vec<Call>,
    pub asking: Option<Asking>,
    /// When the count of the day that is being written is confirmed.
    counting: Option<Time>,
    recount: Option<Recount>,
    own_calls: BTreeMap<i64, u32>,
    others: BTreeMap<i64, u32>,
    pub broadcasts: u32,
    pub next_step: Time,
}

/// The paths that are played, with their place in a process.
pub const PATHS: [Path; 2] = [Path::Room, Path::Broadcast];

impl Process {
    pub fn new(id: u32, source: Source, now: Time, rng: &mut fastrand::Rng) -> Self {
        let (base, ppm) = (rng.u64(0..1 << 40), rng.i64(-800..800));
        let mut this = Self {
            id,
            base,
            ppm,
            source,
            quotas: PATHS.map(|path| Quota::new(&limits().paths[path as usize], Mono(0))),
            lease: None,
            away: Vec::new(),
            asking: None,
            counting: None,
            recount: None,
            own_calls: BTreeMap::new(),
            others: BTreeMap::new(),
            broadcasts: 0,
            next_step: now,
        };
        let at = this.mono(now);
        this.quotas = PATHS.map(|path| Quota::new(&limits().paths[path as usize], at));
        let quotas = quotas();
        let first = match &this.source {
            Source::Fixed => quotas.fixed(super::world::MAX_REPLICAS),
            Source::Spread(_) | Source::Book(_) => quotas.none(),
        };
        this.grant(Grant::lasting(first, crate::core::share::Growth::Fresh), now);
        // The first look at the table.
        this.recount = Some((now + rng.u64(1..50) * MS, now + 60 * MS, None));
        this
    }

    /// From now on the share comes from these leases.
    pub fn take_book(&mut self, book: Book, now: Time) {
        self.source = Source::Book(Box::new(book));
        self.grant(Grant::lasting(quotas().none(), crate::core::share::Growth::Fresh), now);
    }

    /// This process's own clock.
    pub fn mono(&self, now: Time) -> Mono {
        let drift = i128::from(now) * i128::from(self.ppm) / 1_000_000;
        Mono(self.base + u64::try_from(i128::from(now) + drift).unwrap_or(0))
    }

    fn grant(&mut self, grant: Grant, now: Time) {
        let at = self.mono(now);
        for (quota, path) in self.quotas.iter_mut().zip(PATHS) {
            quota.set_share(&grant.share, path, grant.growth, TIMEOUT, at);
        }
        self.lease = grant.lease;
    }

    /// Whether anything of ours is away.
    pub fn is_quiet(&self) -> bool {
        self.away.is_empty()
    }

    pub fn book(&mut self) -> Option<&mut Book> {
        if let Source::Book(book) = &mut self.source { Some(book) } else { None }
    }

    pub fn spread(&mut self) -> Option<&mut Spread> {
        if let Source::Spread(spread) = &mut self.source { Some(spread) } else { None }
    }

    /// Takes up answers, the share, and what its lease says.
    pub fn take_up(&mut self, now: Time) {
        let at = self.mono(now);
        let (landed, away) = self.away.iter().partition(|call| call.answered <= now);
        self.away = away;
        for call in landed {
            let call: Call = call;
            self.quotas[place(call.path)].give_back(call.messages, at);
        }
        if self.asking.as_ref().is_some_and(|asking| asking.answered <= now) {
            let answer = self.asking.take().expect("it was looked at").answer;
            let book = self.book().expect("only a book asks");
            match answer {
                Answer::Read(read) => {
                    let read = read.as_ref().map(|found| found.as_ref().map(|(r, b)| (*r, b.as_slice())));
                    book.handle_read(read.map_err(Clone::clone), at);
                }
                Answer::Written(written) => book.handle_written(written, at),
            }
        }
        if let Some((_, rest)) = self.lease.take_if(|(until, _)| *until <= at) {
            self.grant(Grant::lasting(rest, crate::core::share::Growth::Handed), now);
        }
        self.be_told(now);
    }

    /// What share there is now.
    pub fn be_told(&mut self, now: Time) {
        let at = self.mono(now);
        let grant = match &mut self.source {
            Source::Spread(spread) => spread.poll_grant(at),
            Source::Book(book) => book.poll_told(at).map(|told| told.grant),
            Source::Fixed => None,
        };
        if let Some(grant) = grant {
            self.grant(grant, now);
        }
    }

    /// What the book wants done; what it gives up by that counts before it is done.
    pub fn step(&mut self, now: Time) -> Option<Step> {
        if self.asking.is_some() {
            return None;
        }
        let at = self.mono(now);
        let step = self.book()?.poll(at);
        self.be_told(now);
        Some(step)
    }

    /// Calls that may be made now: (path, messages).
    pub fn try_call(&mut self, path: Path, now: Time, wall: Wall, rng: &mut fastrand::Rng) -> Option<u32> {
        let at = self.mono(now);
        let quota = &mut self.quotas[place(path)];
        let most = quota.room_for(at);
        if most == 0 {
            return None;
        }
        if let Some(day) = quota.day.as_mut()
            && !day.granted(wall)
        {
            if let Some((utc_day, calls)) = day.ask(wall) {
                let others = self.others.get(&utc_day).copied().unwrap_or(0);
                self.own_calls.insert(utc_day, calls.saturating_sub(others));
                let slow = if rng.u8(0..10) == 0 { 4_000 } else { 100 };
                self.counting = Some(now + rng.u64(1..slow) * MS);
            }
            return None;
        }
        let messages = if path == Path::Room { rng.u32(1..=most.min(5)) } else { 1 };
        quota.take(messages);
        self.broadcasts += u32::from(path == Path::Broadcast);
        Some(messages)
    }

    /// The day's counts: what is written, and what is read again.
    pub fn count(&mut self, now: Time, wall: Wall, rows: &mut Rows, rng: &mut fastrand::Rng) {
        let at = self.mono(now);
        if self.counting.is_some_and(|done| done <= now) {
            self.counting = None;
            for (day, calls) in &self.own_calls {
                rows.insert((*day, self.id), (*calls, wall));
            }
            self.quotas[1].day.as_mut().expect("it has one").written(wall);
        }
        if let Some((read, answered, seen)) = &mut self.recount {
            if *read <= now && seen.is_none() {
                *seen = Some(sum(rows, self.id, wall));
            }
            if let (true, Some((day, others, last))) = (*answered <= now, *seen) {
                self.recount = None;
                self.others.insert(day, others);
                let calls = others + self.own_calls.get(&day).copied().unwrap_or(0);
                self.quotas[1].restore(day, calls, last);
            }
        } else if self.quotas[1].day.as_mut().expect("it has one").begin_recount(at) {
            let read = now + rng.u64(1..200) * MS;
            self.recount = Some((read, read + rng.u64(1..200) * MS, None));
        }
    }
}

/// The calls of others on the last day that has any, and the last call of all.
fn sum(rows: &Rows, own: u32, wall: Wall) -> (i64, u32, Option<Wall>) {
    let all: Vec<_> = rows.iter().map(|((day, id), row)| (*day, id.to_string(), *row)).collect();
    let of = |skipped: Option<u32>| {
        let rows =
            all.iter().filter(move |(_, id, _)| skipped.is_none_or(|skipped| *id != skipped.to_string()));
        let row = |(day, id, (calls, last)): &(i64, String, (u32, Wall))| (*day, id.clone(), *calls, *last);
        rows.map(row).collect::<Vec<_>>()
    };
    let used = |rows: &[(i64, String, u32, Wall)]| {
        used(rows.iter().map(|(utc_day, holder, calls, last)| DayRow {
            holder,
            utc_day: *utc_day,
            calls: *calls,
            last: *last,
        }))
    };
    let Some((day, _, last)) = used(&of(None)) else { return (wall.utc_day(), 0, None) };
    // Those of others alone may end a day earlier: then they are none of this day's, unless late.
    let others = match used(&of(Some(own))) {
        Some((of, calls, _)) if of == day => calls,
        Some((of, calls, last)) if of == day - 1 && last.until_next_utc_day().as_secs() <= 60 => calls,
        _ => 0,
    };
    (day, others, Some(last))
}

fn place(path: Path) -> usize {
    usize::from(path == Path::Broadcast)
}

pub fn quotas() -> Quotas {
    Quotas::new(&limits(), true)
}

/// How long the store may take to answer.
pub const ANSWER: Duration = Duration::from_secs(2);
