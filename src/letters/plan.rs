//! What a replay would do, before it is asked for: which letters, what became too old, how much is sent.
//!
//! [`plan`] prepares every letter as asking would, renders it through the routes as they are, and counts.
//! It writes nothing. What it keeps for each letter is its id and where its record stands.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::ask::{Fate, Target, Wish, may, prepare};
use super::query::Query;
use super::{Found, scan_into};
use crate::broker::{Later, Part, Stands};
use crate::core::letter::LetterId;
use crate::core::model::{self, AccountId, Class, Path, Record};
use crate::core::provider::Limits;
use crate::core::replay::State;
use crate::core::time::Wall;

/// Letters on their way from the broker.
const AHEAD: usize = 32;
/// How much later than it may, a call of the background leaves on the average: timers count in milliseconds, and
/// the next one is paced from when it left.
const GRAIN: Duration = Duration::from_millis(1);

/// What the daemons would make of letters.
pub struct Scene<'a> {
    /// Renders the request of a letter.
    pub render: &'a (dyn Fn(&Record) -> model::Plan + Sync),
    /// Rooms that one call of an account to [`Path::Room`] may name.
    pub rooms_per_call: &'a (dyn Fn(AccountId) -> usize + Sync),
    /// The time it is.
    pub now: Wall,
}

/// What a replay would do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Letters that the query means.
    pub meant: u64,
    /// These by their state.
    pub states: BTreeMap<State, u64>,
    /// Those that would be asked for. All that follows counts these.
    pub asked: u64,
    /// By class; `unknown` for words that this version does not know.
    pub classes: BTreeMap<&'static str, u64>,
    /// By room that is owed; a letter that is owed to two counts for both.
    pub rooms: BTreeMap<Arc<str>, u64>,
    /// Rooms that the provider called gone: those of letters of that class.
    pub rooms_gone: BTreeSet<Arc<str>>,
    /// Letters whose time-to-live, by the routes as they are, is over.
    pub expired: u64,
    /// Letters that could not keep their value.
    pub truncated: u64,
    /// Letters that are older than a record with the same key that was finished since.
    pub older: u64,
    /// There may be more of them: not all records could be looked at.
    pub older_is_cut: bool,
    /// Letters that the routes, as they are, drop.
    pub dropped: u64,
    /// Letters that would fail again before any call, as a whole or in part.
    pub failing: u64,
    /// Letters whose rooms are in a directory that only a daemon reads.
    pub unknown: u64,
    /// What would be sent.
    pub sent: BTreeMap<(AccountId, Path), Load>,
    /// Letters, meant to be asked for, whose value is gone: they would stay open.
    pub gone: u64,
    /// Letters, meant to be asked for, for which the patch fails: they would stay open.
    pub unpatched: u64,
    /// Whether the limit ended it: there may be more letters.
    pub is_limited: bool,
}

/// What an account would send on one path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Calls at least: siblings share one.
    pub calls: u64,
    /// Messages.
    pub messages: u64,
    /// Messages of the room that gets most of them.
    pub fullest_room: u64,
}

impl Load {
    /// How long it takes while replays have that part (0 to 1) of the path's quota.
    pub fn time(&self, limits: &Limits, path: Path, part: f64) -> Duration {
        let quota = &limits.paths[path as usize];
        #[expect(clippy::cast_precision_loss, reason = "an estimate")]
        let seconds = |count: u64, a_second: f64| count as f64 / a_second;
        let mut longest = seconds(self.calls, f64::from(quota.calls_per_second) * part);
        if let Some(messages) = quota.messages_per_second {
            longest = longest.max(seconds(self.messages, f64::from(messages) * part));
        }
        if let Some(calls) = quota.calls_per_minute {
            longest = longest.max(seconds(self.calls, f64::from(calls) / 60.0 * part));
        }
        longest += seconds(self.calls, 1.0) * GRAIN.as_secs_f64();
        if path != Path::Broadcast {
            longest = longest.max(seconds(self.fullest_room, f64::from(limits.room_messages_per_second)));
        }
        Duration::from_secs_f64(longest.clamp(0.0, 1e9))
    }
}

/// What is kept until all letters were met.
#[derive(Debug, Default)]
struct Kept {
    /// By part and key, where records of letters that would be asked for stand.
    asked: BTreeMap<Part, BTreeMap<Bytes, Vec<i64>>>,
    /// Where records of letters stand that were not delivered: none of them came later in this sense.
    undelivered: BTreeMap<Part, BTreeSet<i64>>,
    /// Messages by room.
    rooms: BTreeMap<(AccountId, Path, Arc<str>), u64>,
    /// Letters that were met: one may stand in the topic twice.
    seen: HashSet<LetterId>,
}

/// Goes through the letters of one place; the plan grows, so that several places can share one.
///
/// # Errors
/// What the broker says.
pub async fn plan(
    target: &Target<'_>,
    wish: &Wish,
    scene: &Scene<'_>,
    plan: &mut Plan,
) -> Result<(), String> {
    let mut kept = Kept::default();
    let (into, mut found) = mpsc::channel::<Found>(AHEAD);
    // All letters, because those that are not meant were not delivered either.
    let all = Query::default();
    let scan = scan_into(target.archive, |letter| target.rows.of(letter), &all, into);
    let count = async {
        while let Some(found) = found.recv().await {
            if kept.meets(&found) && wish.query.means(&found) {
                plan.take(target, wish, scene, found, &mut kept).await?;
                // In a daemon others wait for their turn.
                tokio::task::yield_now().await;
            }
        }
        Ok(())
    };
    let (scanned, counted): (_, Result<(), String>) = tokio::join!(scan, count);
    counted.and(scanned.map(drop))?;
    for ((account, path, _), messages) in &kept.rooms {
        let load = plan.sent.entry((*account, *path)).or_default();
        load.fullest_room = load.fullest_room.max(*messages);
    }
    let later = target.archive.later(kept.stands()).await?;
    plan.count_older(&kept, &later);
    Ok(())
}

impl Kept {
    /// Takes note of a letter; whether it is met for the first time.
    fn meets(&mut self, found: &Found) -> bool {
        let told = &found.told;
        if !self.seen.insert(told.letter) {
            return false;
        }
        if found.state != State::Replayed {
            self.undelivered.entry(part(found)).or_default().insert(told.origin.offset);
        }
        true
    }

    /// What is asked of the broker.
    fn stands(&self) -> BTreeMap<Part, Stands> {
        let stands = |(part, keys): (&Part, &BTreeMap<Bytes, Vec<i64>>)| {
            let oldest = |(key, offsets): (&Bytes, &Vec<i64>)| Some((key.clone(), *offsets.iter().min()?));
            let stands = Stands {
                oldest: keys.iter().filter_map(oldest).collect(),
                except: self.undelivered.get(part).cloned().unwrap_or_default(),
            };
            (part.clone(), stands)
        };
        self.asked.iter().map(stands).collect()
    }
}

fn part(found: &Found) -> Part {
    let origin = &found.told.origin;
    (Arc::clone(&origin.stream), origin.lasting_partition())
}

impl Plan {
    async fn take(
        &mut self,
        target: &Target<'_>,
        wish: &Wish,
        scene: &Scene<'_>,
        found: Found,
        kept: &mut Kept,
    ) -> Result<(), String> {
        if wish.limit.is_some_and(|limit| self.asked >= limit) {
            self.is_limited = true;
            return Ok(());
        }
        self.meant += 1;
        *self.states.entry(found.state).or_default() += 1;
        if !may(found.state, &wish.query) {
            return Ok(());
        }
        let (letter, place) = (found.told.clone(), part(&found));
        let (mut request, whole) = match prepare(target, wish, found).await {
            Ok(prepared) => prepared,
            Err(Fate::Gone(_)) => {
                self.gone += 1;
                return Ok(());
            }
            Err(Fate::Unwritten(why)) => return Err(why),
            Err(_) => {
                self.unpatched += 1;
                return Ok(());
            }
        };
        self.asked += 1;
        *self.classes.entry(letter.class.map_or("unknown", Class::word)).or_default() += 1;
        letter.rooms.iter().for_each(|room| *self.rooms.entry(Arc::clone(&room.0)).or_default() += 1);
        if letter.class == Some(Class::RoomGone) {
            self.rooms_gone.extend(letter.rooms.iter().map(|room| Arc::clone(&room.0)));
        }
        self.truncated += u64::from(letter.truncated.is_some());
        if let Some(key) = &request.key {
            let keys = kept.asked.entry(place).or_default();
            keys.entry(key.clone()).or_default().push(letter.origin.offset);
        }
        request.value = whole.or(request.value);
        // With the time-to-live, whether or not it is to count: it is told how many it would end.
        let mut asked = wish.asked.clone();
        asked.keep_ttl = true;
        request.headers.extend(asked.headers());
        self.render(&(scene.render)(&request), scene, kept);
        Ok(())
    }

    /// Counts what would be sent for one letter.
    fn render(&mut self, plan: &model::Plan, scene: &Scene<'_>, kept: &mut Kept) {
        self.dropped += u64::from(plan.dropped.is_some());
        self.unknown += u64::from(plan.waits.is_some());
        self.failing += u64::from(!plan.failures.is_empty());
        self.expired += u64::from(plan.messages.iter().any(|m| m.expires.is_some_and(|at| at <= scene.now)));
        let mut rest = &plan.messages[..];
        while let Some(first) = rest.first() {
            let sibling = |m: &&model::Message| {
                m.account == first.account && m.path == first.path && Arc::ptr_eq(&m.content, &first.content)
            };
            let (siblings, after) = rest.split_at(rest.iter().take_while(sibling).count());
            rest = after;
            let load = self.sent.entry((first.account, first.path)).or_default();
            load.messages += siblings.len() as u64;
            let most = if first.path == Path::Room { (scene.rooms_per_call)(first.account) } else { 1 };
            load.calls += siblings.len().div_ceil(most.max(1)) as u64;
            for message in siblings {
                let room = (message.account, message.path, Arc::clone(&message.room.0));
                *kept.rooms.entry(room).or_default() += 1;
            }
        }
    }

    fn count_older(&mut self, kept: &Kept, later: &Later) {
        self.older_is_cut |= later.is_cut;
        for (part, keys) in &kept.asked {
            for (key, offsets) in keys {
                let is_older = |offset: &&i64| later.is_after(part, key, **offset);
                self.older += offsets.iter().filter(is_older).count() as u64;
            }
        }
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
