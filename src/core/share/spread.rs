//! `share = "partitions"`: slot i of a quota of Q belongs to whoever holds partition ⌊i·P/Q⌋ of the
//! P partitions of one source; and the whole for the one active reader of a NATS source.
//!
//! The group sees to it that a partition has one holder, so no slot has two. A source whose number of
//! partitions changes is seen to change by one replica before the other: for [`SETTLE`] after it saw
//! the change, a replica uses only the slots that are its own by the old count and by the new one,
//! which are nobody else's by either.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{Grant, Growth, Quotas, Share};
use crate::core::time::Mono;

/// How long a replica that saw the number of partitions change keeps to the old one as well. The
/// others look every ten seconds (`topic.metadata.refresh.interval.ms`) and at every rebalance.
pub const SETTLE: Duration = Duration::from_secs(60);

/// One thing that has one holder: a partition, or a source with one active reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Unit(pub u32);

/// What this process holds of all units that the slots are spread over.
#[derive(Clone, Debug)]
pub struct Spread {
    quotas: Quotas,
    /// All units in the order that every replica has them in.
    order: Vec<Unit>,
    /// Orders that held before, and until when they bind as well.
    earlier: Vec<(Vec<Unit>, Mono)>,
    held: BTreeSet<Unit>,
    growth: Growth,
    /// Whether the next growth follows a doubt.
    is_doubtful: bool,
    /// Whether anything was ever ours.
    had_some: bool,
    told: Option<Share>,
}

impl Spread {
    /// Nothing held yet, of units that are told later.
    pub fn partitions(quotas: Quotas) -> Self {
        Self {
            quotas,
            order: Vec::new(),
            earlier: Vec::new(),
            held: BTreeSet::new(),
            growth: Growth::Handed,
            is_doubtful: false,
            had_some: false,
            told: None,
        }
    }

    /// Sources with one active reader each, and who may have had what the next reader gains: the one
    /// before has given it up after its last answer, or has been silent for longer than its calls last.
    pub fn readers(quotas: Quotas, sources: impl IntoIterator<Item = Unit>, growth: Growth) -> Self {
        let order = sources.into_iter().collect();
        Self { order, growth, ..Self::partitions(quotas) }
    }

    /// The quotas are these from now on. What is more than before is told as if others had had it.
    pub fn set_quotas(&mut self, quotas: Quotas) {
        self.quotas = quotas;
        self.handle_frozen();
    }

    /// All units there are, in the order that every replica has them in.
    pub fn handle_order(&mut self, order: Vec<Unit>, now: Mono) {
        if self.order == order {
            return;
        }
        let before = std::mem::replace(&mut self.order, order);
        if !before.is_empty() {
            self.earlier.push((before, now + SETTLE));
        }
    }

    /// Units are ours.
    pub fn handle_held(&mut self, units: impl IntoIterator<Item = Unit>) {
        self.held.extend(units);
    }

    /// Units are ours no more, or will not be as soon as our calls have answered.
    pub fn handle_gone(&mut self, units: impl IntoIterator<Item = Unit>) {
        for unit in units {
            self.held.remove(&unit);
        }
    }

    /// It is not known any more whether a unit is ours: another may have it by now, and may have a
    /// call away when it is ours again.
    pub fn handle_doubt(&mut self, unit: Unit) {
        self.is_doubtful |= self.held.remove(&unit);
    }

    /// The process stood still: others may have had what it holds, and may have it still. What is told
    /// next is told as if it came from them.
    pub fn handle_frozen(&mut self) {
        self.told = None;
        self.is_doubtful = true;
    }

    /// What the scheduler is to be told, if that is something new. Asked for after every change, and
    /// now and then.
    pub fn poll_grant(&mut self, now: Mono) -> Option<Grant> {
        self.earlier.retain(|(_, until)| now < *until);
        let share = self.quotas.share(|_, quota| self.slots(quota));
        if self.told == Some(share) {
            return None;
        }
        // Who is given everything with the first assignment follows replicas that have left, after
        // their last answers, or that are dead: the group waits for those who live.
        let is_all = !self.order.is_empty() && self.order.iter().all(|unit| self.held.contains(unit));
        let growth = match self.growth {
            _ if self.is_doubtful => Growth::Handed,
            _ if is_all && !self.had_some => Growth::Fresh,
            growth => growth,
        };
        self.is_doubtful &= self.held.is_empty();
        self.had_some |= !self.held.is_empty();
        self.told = Some(share);
        Some(Grant::lasting(share, growth))
    }

    /// Units held, of those that there are, and how many there are: for status.
    pub fn units(&self) -> (usize, usize) {
        (self.order.iter().filter(|unit| self.held.contains(unit)).count(), self.order.len())
    }

    /// How many slots of a quota are ours: by the order, and by those that bind as well.
    fn slots(&self, quota: u32) -> u32 {
        let mut own = self.ranges(&self.order, quota);
        for (order, _) in &self.earlier {
            own = common(&own, &self.ranges(order, quota));
        }
        let count: u64 = own.iter().map(|(start, end)| end - start).sum();
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    /// The slots of our units in one order, as half-open ranges that do not touch backwards.
    fn ranges(&self, order: &[Unit], quota: u32) -> Vec<(u64, u64)> {
        let (all, quota) = (order.len() as u64, u64::from(quota));
        // Slot i is of unit ⌊i·P/Q⌋: unit p has the slots from ⌈p·Q/P⌉ on, up to those of p + 1.
        let first = |unit: u64| (unit * quota).div_ceil(all);
        (0..all)
            .zip(order)
            .filter(|(_, unit)| self.held.contains(unit))
            .map(|(place, _)| (first(place), first(place + 1)))
            .filter(|(start, end)| start < end)
            .collect()
    }
}

/// What two lists of ranges have in common.
fn common(one: &[(u64, u64)], other: &[(u64, u64)]) -> Vec<(u64, u64)> {
    let (mut at, mut of) = (0, 0);
    let mut found = Vec::new();
    while let (Some(&(start, end)), Some(&(from, to))) = (one.get(at), other.get(of)) {
        if start.max(from) < end.min(to) {
            found.push((start.max(from), end.min(to)));
        }
        if end <= to { at += 1 } else { of += 1 }
    }
    found
}
