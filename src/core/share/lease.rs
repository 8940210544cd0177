//! `share = "nats_kv"`: one row of a bucket holds what every replica may use, and is changed by
//! compare and set alone.
//!
//! ```text
//! poll ──► Read ──► handle_read ──► poll ──► Write ──► handle_written ──► poll ──► Wait
//! ```
//!
//! Nine tenths of each quota are leased by the row. Whoever writes it gives the others what they have
//! and takes for itself at most its part of what is left, so every revision of the row adds up. A
//! share shrinks here before the row that says so is sent; it grows when the row is confirmed, and in
//! the scheduler one period and the time limit later.
//!
//! No two hosts have the same clock. A lease lasts [`LEASE`] from *before* the write that renewed it
//! was sent, on its holder's clock; the others end it when they themselves have seen the same beat
//! for [`LEASE`] and [`MARGIN`], on theirs. The tenth that is not leased is a floor for each of
//! `max_replicas`, which holds when the store cannot be reached.

use std::collections::BTreeMap;
use std::time::Duration;

use super::row::{Member, Row};
use super::{Grant, Growth, QUOTAS, Quotas, Share, Standing};
use crate::core::model::Path;
use crate::core::time::Mono;

/// How long a lease lasts.
pub const LEASE: Duration = Duration::from_secs(6);
/// How much longer others wait: clocks may run a twelfth faster or slower.
pub const MARGIN: Duration = Duration::from_millis(500);
/// How often a lease is renewed.
const BEAT: Duration = Duration::from_millis(1_500);
/// How often the row is looked at.
const POLL: Duration = Duration::from_millis(500);
/// The pause after another replica was faster, at the most.
const AGAIN_MS: u64 = 60;
/// One in so many slots is not leased.
const FLOOR: u32 = 10;

/// What is to be done next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Read the row and answer with [`Book::handle_read`].
    Read,
    /// Write the row if it still has this revision (0: if there is none), and answer with
    /// [`Book::handle_written`]. What [`Book::poll_told`] says is to be told before.
    Write {
        /// The revision that it must have.
        expected: u64,
        /// What to write.
        bytes: Vec<u8>,
    },
    /// Nothing before that time.
    Wait(Mono),
    /// The row holds nothing of ours any more.
    Left,
}

/// What became of a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Written {
    /// The row has this revision now.
    Done(u64),
    /// It had another revision than expected: another replica was faster.
    Outrun,
}

/// What the scheduler, and people, are to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// The share.
    pub grant: Grant,
    /// How it comes about.
    pub standing: Standing,
    /// Bans that other replicas met, with what is left of them.
    pub bans: Vec<(Path, Duration)>,
}

/// What the driver tells the keeper of an account's leases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// The provider holds a path back for so long.
    Ban(Path, Duration),
    /// The quotas, and the time limit of a call, are these from now on.
    Quotas(Box<Quotas>, Duration),
}

/// Whether the row has a place for us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seat {
    /// Not heard yet.
    Unknown,
    /// We are in the row, or were when it was last seen.
    Ours,
    /// As many as may be are in it without us.
    Full,
}

#[derive(Clone, Debug)]
struct Pending {
    sent: Mono,
    row: Row,
    slots: [u32; QUOTAS],
}

/// One account's leases, as one replica knows them.
#[derive(Clone, Debug)]
pub struct Book {
    me: String,
    quotas: Quotas,
    max_replicas: u32,
    /// How long slots that do not suffice for everybody stay with one replica.
    term: Duration,
    began: Mono,
    /// The row as it was last read or written, with its revision.
    row: Option<(u64, Row)>,
    /// The beats of others, and since when they stand.
    seen: BTreeMap<String, (u64, Mono)>,
    turn_since: (u64, Mono),
    seat: Seat,
    /// What is ours of the leased parts, whatever became of writes without an answer.
    have: [u32; QUOTAS],
    /// Until when.
    until: Mono,
    beat: u64,
    /// When the last beat that is confirmed was sent.
    beat_sent: Option<Mono>,
    wanted: Option<Row>,
    pending: Option<Pending>,
    next: Mono,
    /// Whether we follow nobody who may still have a call away.
    growth: Growth,
    bans: [Mono; 3],
    ban_is_new: bool,
    heard: Vec<(Path, Duration)>,
    trouble: Option<String>,
    is_leaving: bool,
    told: Option<(Grant, Standing)>,
}

impl Book {
    /// A replica that is not in the row yet. `me` is unlike every other process's.
    pub fn new(me: String, quotas: Quotas, max_replicas: u32, timeout: Duration, now: Mono) -> Self {
        Self {
            me,
            quotas,
            max_replicas: max_replicas.max(1),
            term: term(timeout),
            began: now,
            row: None,
            seen: BTreeMap::new(),
            turn_since: (0, now),
            seat: Seat::Unknown,
            have: [0; QUOTAS],
            until: now,
            beat: 0,
            beat_sent: None,
            wanted: None,
            pending: None,
            next: now,
            growth: Growth::Handed,
            bans: [Mono(0); 3],
            ban_is_new: false,
            heard: Vec::new(),
            trouble: None,
            is_leaving: false,
            told: None,
        }
    }

    /// The driver has news.
    pub fn handle_news(&mut self, news: News, now: Mono) {
        match news {
            News::Ban(path, wait) => self.handle_ban(path, wait, now),
            News::Quotas(quotas, timeout) => self.set_quotas(*quotas, timeout, now),
        }
    }

    /// The quotas and the time limit are these from now on. Of smaller ones our part is less at once; of
    /// larger ones it is more when the row says so.
    pub fn set_quotas(&mut self, quotas: Quotas, timeout: Duration, now: Mono) {
        self.quotas = quotas;
        self.term = self.term.max(term(timeout));
        // What was decided by the old ones is decided anew.
        self.wanted = None;
        self.next = self.next.min(now);
        let row = self.pending.as_ref().map(|pending| &pending.row).or(self.row.as_ref().map(|(_, row)| row));
        let Some(mut row) = row.cloned() else { return };
        let Some(own) = row.members.iter_mut().find(|member| member.id == self.me) else { return };
        own.quotas = self.quotas.slots.map(|quota| quota.unwrap_or(0));
        let part = self.part(&row);
        let pending = self.pending.as_mut().map(|pending| &mut pending.slots);
        for slots in [Some(&mut self.have), pending].into_iter().flatten() {
            slots.iter_mut().zip(part).for_each(|(slots, part)| *slots = (*slots).min(part));
        }
    }

    /// What is to be done at `now`. After a [`Step::Read`] or [`Step::Write`] its answer comes first.
    pub fn poll(&mut self, now: Mono) -> Step {
        if let Some(row) = self.wanted.take() {
            let bytes = row.write();
            let expected = self.row.as_ref().map_or(0, |(revision, _)| *revision);
            let slots = member(&row, &self.me).map_or([0; QUOTAS], |own| own.slots);
            // Less from now on, more when it is confirmed: what becomes of the write may stay unknown.
            for (have, slots) in self.have.iter_mut().zip(slots) {
                *have = (*have).min(slots);
            }
            self.pending = Some(Pending { sent: now, row, slots });
            return Step::Write { expected, bytes };
        }
        if now < self.next {
            return Step::Wait(self.next);
        }
        let is_out = |(_, row): &(u64, Row)| member(row, &self.me).is_none();
        if self.is_leaving && self.row.as_ref().is_none_or(is_out) {
            return Step::Left;
        }
        Step::Read
    }

    /// The row, with its revision, or `None` where there is none; `Err`: the store did not answer.
    pub fn handle_read(&mut self, read: Result<Option<(u64, &[u8])>, String>, now: Mono) {
        self.next = now + POLL;
        let row = read.and_then(|found| match found {
            None => Ok((0, Row::default())),
            Some((revision, bytes)) => Row::read(bytes).map(|row| (revision, row)),
        });
        let (revision, row) = match row {
            Ok(row) => row,
            Err(why) => return self.trouble = Some(why),
        };
        self.trouble = None;
        self.look(&row, now);
        self.wanted = if self.is_leaving { self.without_us(&row) } else { self.decide(&row, now) };
        self.row = Some((revision, row));
    }

    /// What became of the write; `Err`: that is not known.
    pub fn handle_written(&mut self, written: Result<Written, String>, now: Mono) {
        self.next = now + POLL;
        let Some(pending) = self.pending.take() else { return };
        match written {
            Ok(Written::Done(revision)) => {
                self.trouble = None;
                self.have = pending.slots;
                self.until = self.until.max(pending.sent + LEASE);
                self.beat_sent = Some(pending.sent);
                self.turn(&pending.row, now);
                self.row = Some((revision, pending.row));
                self.ban_is_new = false;
            }
            Ok(Written::Outrun) => {
                let spread = self.me.bytes().fold(self.beat, |sum, byte| sum * 31 % 65_521 + u64::from(byte));
                self.next = now + Duration::from_millis(spread % AGAIN_MS);
            }
            Err(why) => self.trouble = Some(why),
        }
    }

    /// The provider holds a path back for so long: the others are told.
    pub fn handle_ban(&mut self, path: Path, wait: Duration, now: Mono) {
        let until = &mut self.bans[path as usize];
        *until = (*until).max(now + wait);
        self.ban_is_new = true;
        self.next = self.next.min(now);
    }

    /// Nothing is away any more and nothing will be sent: the row shall hold nothing of ours.
    pub fn leave(&mut self, now: Mono) {
        self.is_leaving = true;
        self.wanted = None;
        self.have = [0; QUOTAS];
        self.next = now;
    }

    #[cfg(test)]
    pub(super) fn forget_told(&mut self) {
        self.told = None;
    }

    /// What is to be told, if that is something new.
    pub fn poll_told(&mut self, now: Mono) -> Option<Told> {
        if now >= self.until {
            self.have = [0; QUOTAS];
        }
        let floor = self.quotas.share(|_, quota| self.floor(quota));
        let grant = match self.seat {
            Seat::Full => Grant::lasting(self.quotas.none(), Growth::Handed),
            Seat::Unknown if now < self.began + LEASE => Grant::lasting(self.quotas.none(), Growth::Handed),
            _ if now >= self.until => Grant::lasting(floor, Growth::Fresh),
            _ => {
                let share = self.quotas.share(|place, quota| self.floor(quota) + self.have[place]);
                Grant { share, growth: self.growth, lease: Some((self.until, floor)) }
            }
        };
        let standing = self.standing(now);
        let bans = std::mem::take(&mut self.heard);
        let is_new = self.told.as_ref() != Some(&(grant, standing.clone()));
        if !is_new && bans.is_empty() {
            return None;
        }
        self.told = Some((grant, standing.clone()));
        Some(Told { grant, standing, bans })
    }

    fn standing(&self, now: Mono) -> Standing {
        let members = self.row.as_ref().map(|(_, row)| row.members.len());
        let why = match (&self.trouble, self.seat) {
            (_, Seat::Full) => format!(
                "{} replicas share the quota already, as many as max_replicas allows: this one sends nothing",
                self.max_replicas
            ),
            (Some(why), Seat::Unknown) => format!("the store of the shares does not answer: {why}"),
            (Some(why), Seat::Ours) if now >= self.until => {
                format!("the store of the shares does not answer, only the floor is left: {why}")
            }
            _ => String::new(),
        };
        let replicas = members.and_then(|count| u32::try_from(count).ok());
        Standing { kind: "nats_kv", replicas, why }
    }

    /// Notes beats, turns and bans of a row just read.
    fn look(&mut self, row: &Row, now: Mono) {
        self.seen.retain(|id, _| member(row, id).is_some());
        for other in row.members.iter().filter(|member| member.id != self.me) {
            if self.seen.get(&other.id).is_some_and(|(beat, _)| *beat == other.beat) {
                continue;
            }
            self.seen.insert(other.id.clone(), (other.beat, now));
            let bans = Path::ALL.into_iter().zip(other.bans).filter(|(_, left)| *left > 0);
            self.heard.extend(bans.map(|(path, left)| (path, Duration::from_millis(left))));
        }
        self.turn(row, now);
    }

    fn turn(&mut self, row: &Row, now: Mono) {
        if self.turn_since.0 != row.turn {
            self.turn_since = (row.turn, now);
        }
    }

    fn is_gone(&self, id: &str, now: Mono) -> bool {
        self.seen.get(id).is_some_and(|(_, since)| now >= *since + LEASE + MARGIN)
    }

    /// The row without us, if we are in it.
    fn without_us(&self, row: &Row) -> Option<Row> {
        let mut next = row.clone();
        next.members.retain(|member| member.id != self.me);
        (next != *row).then_some(next)
    }

    /// The row as it should be, if it is to be written.
    fn decide(&mut self, row: &Row, now: Mono) -> Option<Row> {
        let mut next = row.clone();
        next.members.retain(|other| other.id == self.me || !self.is_gone(&other.id, now));
        if member(&next, &self.me).is_none() {
            if next.members.len() >= usize::try_from(self.max_replicas).unwrap_or(usize::MAX) {
                self.seat = Seat::Full;
                return None;
            }
            // Who leaves does so after its last answers; whoever was found dead may not be.
            self.growth = if row.members.is_empty() { Growth::Fresh } else { Growth::Handed };
            let quotas = self.quotas.slots.map(|quota| quota.unwrap_or(0));
            let (id, slots) = (self.me.clone(), [0; QUOTAS]);
            next.members.push(Member { id, beat: 0, quotas, slots, bans: [0; 3] });
        } else if next.members.len() > 1 {
            self.growth = Growth::Handed;
        }
        self.seat = Seat::Ours;
        if next.members[0].id == self.me && now >= self.turn_since.1 + self.term {
            next.turn += 1;
        }
        let slots = self.part(&next);
        let quotas = self.quotas.slots.map(|quota| quota.unwrap_or(0));
        let own = next.members.iter_mut().find(|member| member.id == self.me).expect("it was put there");
        (own.slots, own.quotas) = (slots, quotas);
        let is_due = self.beat_sent.is_none_or(|sent| now >= sent + BEAT);
        if next == *row && !is_due && !self.ban_is_new {
            return None;
        }
        self.beat += 1;
        let own = next.members.iter_mut().find(|member| member.id == self.me).expect("it was put there");
        own.beat = self.beat;
        own.bans = self.bans.map(|until| {
            let left = until.since(now).as_nanos().div_ceil(1_000_000);
            u64::try_from(left).unwrap_or(u64::MAX)
        });
        Some(next)
    }

    /// What we shall have of each quota: an equal part, of what the others do not have now.
    fn part(&self, row: &Row) -> [u32; QUOTAS] {
        let replicas = u32::try_from(row.members.len()).unwrap_or(u32::MAX);
        let rank = row.members.iter().position(|member| member.id == self.me).unwrap_or(0) as u64;
        std::array::from_fn(|place| {
            let Some(quota) = self.quotas.slots[place] else { return 0 };
            // While replicas have different configs, the smallest quota counts.
            let quota = row.members.iter().map(|member| member.quotas[place]).fold(quota, u32::min);
            let leased = quota - self.max_replicas * self.floor(quota);
            let (base, over) = (leased / replicas, leased % replicas);
            // Where somebody would have nothing at all, the slots go round.
            let goes_round = base == 0 && self.floor(quota) == 0;
            // A slot of a minute or a day is worth moving more seldom than one of a second.
            let turn = if goes_round { row.turn / slowness(place) } else { 0 };
            let place_in_turn = (rank + turn) % u64::from(replicas);
            let due = base + u32::from(place_in_turn < u64::from(over));
            let others: u32 = row
                .members
                .iter()
                .filter(|member| member.id != self.me)
                .fold(0, |sum, member| sum.saturating_add(member.slots[place]));
            due.min(leased.saturating_sub(others))
        })
    }

    fn floor(&self, quota: u32) -> u32 {
        quota / FLOOR / self.max_replicas
    }
}

/// How long slots that do not suffice for everybody stay with one replica.
fn term(timeout: Duration) -> Duration {
    Duration::from_secs(10) + timeout * 4
}

/// Over how many turns a slot of that quota stays where it is.
fn slowness(place: usize) -> u64 {
    // A room's paces, which stand behind the paths, come to 0 and 1 as well.
    match place % super::OF_PATH {
        2 | 3 => 12,
        _ => 1,
    }
}

fn member<'a>(row: &'a Row, id: &str) -> Option<&'a Member> {
    row.members.iter().find(|member| member.id == id)
}

impl Share {
    /// Whether nothing at all may be sent.
    pub fn is_none(&self) -> bool {
        self.slots[..super::ROOM].iter().all(|slots| *slots == 0)
    }
}
