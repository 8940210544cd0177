//! The flood guard: when letters of one class and route come too fast, their source takes nothing more for
//! a while, so that a mistake in a config or at the provider does not empty a topic into the dead letters.
//!
//! What a rule of the config says about single messages is no flood: `expired` and `overflow` letters are
//! not counted, nor those of a room that is known to be gone.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Effect, IntakeReason, Scheduler};
use crate::core::letter::Letter;
use crate::core::model::{Class, RouteId, SourceId};
use crate::core::time::Mono;

/// How long a source takes nothing more, unless somebody looks at the letters before.
const PAUSE: Duration = Duration::from_secs(60);
/// In what time letters are counted.
const WITHIN: Duration = Duration::from_secs(1);

/// Letters that came too fast.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flood {
    /// Their class.
    pub class: Class,
    /// Their route; `None`: no route took the events.
    pub route: Option<RouteId>,
    /// When the source goes on.
    pub until: Mono,
}

/// Counts letters, and knows which sources pause.
#[derive(Debug)]
pub struct Guard {
    limit: Option<u32>,
    /// Of each source, route and class: when counting began, and how many came since.
    counts: BTreeMap<(SourceId, Option<RouteId>, Class), (Mono, u32)>,
    floods: BTreeMap<SourceId, Flood>,
    /// How often each source was paused.
    times: BTreeMap<SourceId, u64>,
}

impl Guard {
    /// One that takes action above so many letters a second; `None`: never.
    pub fn new(limit: Option<u32>) -> Self {
        Self { limit, counts: BTreeMap::new(), floods: BTreeMap::new(), times: BTreeMap::new() }
    }

    /// Another limit, from now on.
    pub fn set_limit(&mut self, limit: Option<u32>) {
        self.limit = limit;
        self.counts.clear();
    }

    /// A letter is written: whether its source is to pause now.
    fn count(&mut self, letter: &Letter, now: Mono) -> bool {
        let Some(limit) = self.limit else { return false };
        let by_rule = match letter.class {
            Class::Expired | Class::Overflow => true,
            Class::RoomGone => letter.tries.attempts == 0,
            _ => false,
        };
        let source = letter.record.id.source;
        if by_rule || self.floods.contains_key(&source) {
            return false;
        }
        let (since, count) = self.counts.entry((source, letter.route, letter.class)).or_insert((now, 0));
        if now.since(*since) >= WITHIN {
            (*since, *count) = (now, 0);
        }
        *count += 1;
        if *count <= limit {
            return false;
        }
        self.counts.retain(|(of, _, _), _| *of != source);
        let flood = Flood { class: letter.class, route: letter.route, until: now + PAUSE };
        self.floods.insert(source, flood);
        *self.times.entry(source).or_default() += 1;
        true
    }

    /// When the next source goes on.
    pub fn wake(&self) -> Option<Mono> {
        self.floods.values().map(|flood| flood.until).min()
    }

    /// What keeps a source back.
    pub fn of(&self, source: SourceId) -> Option<Flood> {
        self.floods.get(&source).copied()
    }

    /// How often a source was paused.
    pub fn times(&self, source: SourceId) -> u64 {
        self.times.get(&source).copied().unwrap_or(0)
    }
}

impl Scheduler {
    /// Counts a letter that is about to be written.
    pub(super) fn guard(&mut self, letter: &Letter, now: Mono) {
        if self.flood.count(letter, now) {
            self.held.flooded(letter.record.id.source, true, now, &mut self.effects);
        }
    }

    /// Somebody has looked at the letters: sources that pause because of them go on.
    pub fn handle_looked_at(&mut self, now: Mono) {
        for source in std::mem::take(&mut self.flood.floods).into_keys() {
            self.held.flooded(source, false, now, &mut self.effects);
        }
    }

    /// Lets sources go on that have paused long enough.
    pub(super) fn end_floods(&mut self, now: Mono) {
        while let Some((&source, _)) = self.flood.floods.iter().find(|(_, flood)| flood.until <= now) {
            self.flood.floods.remove(&source);
            self.held.flooded(source, false, now, &mut self.effects);
        }
    }

    /// What keeps a source back, where letters came too fast.
    pub fn flood(&self, source: SourceId) -> Option<Flood> {
        self.flood.of(source)
    }
}

impl super::Held {
    /// Letters of a source come too fast, or do not any more.
    fn flooded(&mut self, source: SourceId, is: bool, now: Mono, effects: &mut impl Extend<Effect>) {
        if self.set_flooded(source, is, now) {
            effects.extend([Effect::Intake { source, open: !is, why: IntakeReason::FloodGuard }]);
        }
    }
}
