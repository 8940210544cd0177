//! What live messages wait for because of replays, and of all that goes in the background: one call, and
//! those that are the background's in any case.
//!
//! Judged by messages that nothing else can hold up: alone in their event, to a room where this process
//! has had nothing to do for a while; and by how evenly those calls go. Only worlds with replays are judged.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use roomcast::core::model::{Path, Priority};
use roomcast::core::schedule::Attempt;
use roomcast::core::schedule::status::GateState;
use roomcast::core::time::Mono;

use super::WINDOW;
use crate::calls::What;
use crate::spec::{EventNo, MessageNo};
use crate::world::{ProcessNo, World};

/// How long a room must have been idle.
const IDLE: Duration = Duration::from_secs(3);
/// The part of a quota that the background has in any case, and within which time it catches up.
const LEAST: f64 = 0.05;
const CATCHES_UP: f64 = 1.0;
/// The part of a quota at which it goes evenly where live traffic uses nothing.
const EVEN: f64 = 0.9;

/// What is watched of it within one life of a process.
#[derive(Debug, Default)]
pub struct Waits {
    /// Calls of nothing but background messages, by account, without those that probed a gate.
    background: BTreeMap<usize, u32>,
    /// When those of the last second left.
    left: BTreeMap<usize, VecDeque<Mono>>,
    /// When a room was last written to, or was to be.
    rooms: BTreeMap<(usize, Arc<str>), Mono>,
    /// The one message that a room waits for: since when, and how many of those calls there were before.
    since: BTreeMap<(usize, Arc<str>), (MessageNo, Mono, u32)>,
}

impl World {
    /// A record has got its messages.
    pub(super) fn law_waits(&mut self, process: ProcessNo, event: EventNo) {
        if !self.replays.are_on {
            return;
        }
        let numbers = self.spec.events[event].messages.clone();
        let is_alone = numbers.len() == 1;
        for number in numbers {
            let message = &self.spec.messages[number];
            let (account, to) = (message.account, (message.account, message.room.clone()));
            let waits = &mut self.processes[process].watch.waits;
            waits.since.remove(&to);
            let before = waits.rooms.insert(to.clone(), self.now);
            let is_idle = before.is_none_or(|before| self.now.since(before) >= IDLE);
            let is_live = message.priority != Priority::Background && message.path == Path::Room;
            let is_free = !self.is_held_for(process, event, number) && !self.is_called(process, &to);
            if is_alone && is_live && is_idle && is_free {
                let waits = &mut self.processes[process].watch.waits;
                let calls = waits.background.get(&account).copied().unwrap_or(0);
                waits.since.insert(to, (number, self.now, calls));
            }
        }
    }

    /// Whether a process holds another record with a message to the same room.
    fn is_held_for(&self, process: ProcessNo, event: EventNo, number: MessageNo) -> bool {
        let (of, wanted) = (&self.processes[process], &self.spec.messages[number]);
        let others = of.open.iter().map(|id| of.events[id]).filter(|other| *other != event);
        others.flat_map(|other| self.spec.events[other].messages.clone()).any(|other| {
            let other = &self.spec.messages[other];
            (other.account, &other.room) == (wanted.account, &wanted.room)
        })
    }

    /// Whether a call of a process to a room is away. One of an assignment that has ended still holds up the
    /// next message of its lane.
    fn is_called(&self, process: ProcessNo, (account, room): &(usize, Arc<str>)) -> bool {
        let life = self.processes[process].life;
        self.calls.values().filter(|away| (away.process, away.life) == (process, life)).any(|away| {
            let What::Send(attempt) = &away.what else { return false };
            away.account == *account && attempt.items.iter().any(|item| item.room.0 == *room)
        })
    }

    /// A call came back: its rooms' pace counts from now on.
    pub(super) fn law_answered(&mut self, process: ProcessNo, attempt: &Attempt) {
        if !self.replays.are_on {
            return;
        }
        let account = usize::from(attempt.account.0);
        let rooms = &mut self.processes[process].watch.waits.rooms;
        rooms.extend(attempt.items.iter().map(|item| ((account, item.room.0.clone()), self.now)));
    }

    /// A process sends a call.
    pub(super) fn law_waited(&mut self, process: ProcessNo, attempt: &Attempt) {
        if !self.replays.are_on || attempt.path != Path::Room {
            return;
        }
        let (account, now) = (usize::from(attempt.account.0), self.now);
        let quota = self.accounts[account]
            .limit(WINDOW, now, |limits| Some(limits.paths[Path::Room as usize].calls_per_second));
        let mut is_background = true;
        for item in &attempt.items {
            let number = self.laws.number(&self.spec, item);
            is_background &= self.spec.messages[number].priority == Priority::Background;
            let waits = &mut self.processes[process].watch.waits;
            waits.rooms.insert((account, item.room.0.clone()), now);
            let waited = waits.since.remove(&(account, item.room.0.clone()));
            let Some((_, since, before)) = waited.filter(|(of, ..)| *of == number) else { continue };
            let calls = waits.background.get(&account).copied().unwrap_or(0) - before;
            let seconds = now.since(since).as_secs_f64() + CATCHES_UP;
            let quota = f64::from(quota.unwrap_or(u32::MAX));
            let least = (quota * LEAST * seconds).ceil();
            self.seen.waited_behind += u64::from(calls > 0);
            assert!(
                f64::from(calls) <= 1.0 + least,
                "P5: message {number} waits {seconds:.1} s, for {calls} calls of the background, {least:.1} are its own; quota {quota}"
            );
        }
        if is_background {
            self.law_even(process, account, quota);
        }
    }

    /// A call of the background leaves. Whatever is free, they go evenly: who takes all slots at once has them
    /// all when a live message comes. One that probes a gate goes when the gate says so.
    fn law_even(&mut self, process: ProcessNo, account: usize, quota: Option<u32>) {
        let now = self.now;
        let snapshot = self.processes[process].scheduler.snapshot(self.now_of(process));
        if snapshot.accounts[account][Path::Room as usize].gate != GateState::Open {
            return;
        }
        let waits = &mut self.processes[process].watch.waits;
        *waits.background.entry(account).or_default() += 1;
        let left = waits.left.entry(account).or_default();
        left.push_back(now);
        while left.front().is_some_and(|first| now.since(*first) > Duration::from_secs(1)) {
            left.pop_front();
        }
        let quota = f64::from(quota.unwrap_or(u32::MAX));
        for (first, calls) in left.iter().rev().zip(1_u32..) {
            let seconds = now.since(*first).as_secs_f64();
            let most = 2.0 + quota * (EVEN * seconds + LEAST * (seconds + CATCHES_UP));
            assert!(
                f64::from(calls) <= most,
                "P5: {calls} calls of the background within {seconds:.3} s, {most:.1} are even; quota {quota}"
            );
        }
    }
}
