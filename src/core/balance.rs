//! Which replica reads which partition of a source that is spread over replicas.
//!
//! Safety is not decided here: the broker pins one reader to each partition, whatever replicas want.
//! This decides what a replica asks for and what it gives up, so that all partitions are read, in
//! parts within one of even, and none moves without need. Replicas tell each other several times a
//! minute what they read ([`Beat`]); each computes the same [`owners`] from the same beats and acts
//! on its own part of them. While beats are missing it errs towards asking for too much, which
//! costs nothing: one that asks stands by behind the reader's pin. Only what has been too much for a
//! while is given up. The NATS source drives it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::time::Mono;

/// How long a replica counts as alive after its last beat: five beats.
pub const ALIVE: Duration = Duration::from_secs(5);
/// How long a new replica listens before it asks for anything: one beat and a half.
pub const LISTEN: Duration = Duration::from_millis(1_500);
/// How long a partition must be another's before it is given up: two beats, so that one that is late
/// moves nothing.
pub const SETTLE: Duration = Duration::from_secs(2);
/// A replica that did not turn for so long heard nothing meanwhile, and listens anew.
const ASLEEP: Duration = Duration::from_secs(3);

/// What a replica tells the others about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Beat {
    /// What it reads: it had a message, and the pin with it.
    pub held: BTreeSet<u32>,
    /// What it asks for without having been given anything yet.
    pub waiting: BTreeSet<u32>,
}

/// What is to be done about one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Ask for it.
    Take(u32),
    /// Ask for it no more; nothing was given.
    Leave(u32),
    /// Give it up in an orderly way: it is another's.
    GiveUp(u32),
}

#[derive(Debug)]
struct Peer {
    beat: Beat,
    heard: Mono,
}

/// One replica's view, and what it does about it.
#[derive(Debug)]
pub struct Balance {
    me: String,
    partitions: u32,
    peers: BTreeMap<String, Peer>,
    wanted: BTreeSet<u32>,
    held: BTreeSet<u32>,
    /// Being given up.
    leaving: BTreeSet<u32>,
    /// Since when what is held is another's.
    surplus: BTreeMap<u32, Mono>,
    quiet_until: Mono,
    turned: Mono,
}

impl Balance {
    /// The view of a replica that has heard nothing yet. `me` must differ from every other's.
    pub fn new(me: String, partitions: u32, now: Mono) -> Self {
        Self {
            me,
            partitions,
            peers: BTreeMap::new(),
            wanted: BTreeSet::new(),
            held: BTreeSet::new(),
            leaving: BTreeSet::new(),
            surplus: BTreeMap::new(),
            quiet_until: now + LISTEN,
            turned: now,
        }
    }

    /// Another replica's beat.
    pub fn heard(&mut self, from: &str, beat: Beat, now: Mono) {
        if from != self.me {
            self.peers.insert(from.to_owned(), Peer { beat, heard: now });
        }
    }

    /// Another replica has said that it leaves.
    pub fn left(&mut self, from: &str) {
        self.peers.remove(from);
    }

    /// The connection was away: what others said meanwhile was not heard.
    pub fn listen_anew(&mut self, now: Mono) {
        self.quiet_until = now + LISTEN;
        for peer in self.peers.values_mut() {
            peer.heard = now;
        }
        self.surplus.clear();
    }

    /// A partition is read by this replica.
    pub fn assigned(&mut self, partition: u32) {
        self.held.insert(partition);
    }

    /// A partition is read by this replica no more, whether lost or given up.
    pub fn gone(&mut self, partition: u32) {
        self.held.remove(&partition);
        self.leaving.remove(&partition);
        self.surplus.remove(&partition);
    }

    /// What to tell the others.
    pub fn beat(&self) -> Beat {
        let waiting = self.wanted.difference(&self.held).copied().collect();
        Beat { held: self.held.clone(), waiting }
    }

    /// How many replicas there are, this one among them.
    pub fn replicas(&self) -> usize {
        self.peers.len() + 1
    }

    /// What is to be done now. To be asked at least once a second.
    pub fn turn(&mut self, now: Mono) -> Vec<Change> {
        if now.since(self.turned) >= ASLEEP {
            self.listen_anew(now);
        }
        self.turned = now;
        self.peers.retain(|_, peer| now.since(peer.heard) < ALIVE);
        if now < self.quiet_until {
            return Vec::new();
        }
        let own = self.beat();
        let beats = self.peers.iter().map(|(name, peer)| (name.as_str(), &peer.beat));
        let beats: BTreeMap<&str, &Beat> = beats.chain([(self.me.as_str(), &own)]).collect();
        let owners = owners(&beats, self.partitions);
        let target: BTreeSet<u32> = owners
            .into_iter()
            .filter(|(_, owner)| *owner == self.me)
            .map(|(partition, _)| partition)
            .collect();
        let mut changes = Vec::new();
        for partition in 0..self.partitions {
            let is_mine = target.contains(&partition);
            if is_mine && !self.leaving.contains(&partition) {
                self.surplus.remove(&partition);
                if self.wanted.insert(partition) {
                    changes.push(Change::Take(partition));
                }
            } else if self.held.contains(&partition) {
                let since = *self.surplus.entry(partition).or_insert(now);
                if now.since(since) >= SETTLE && self.leaving.insert(partition) {
                    self.wanted.remove(&partition);
                    changes.push(Change::GiveUp(partition));
                }
            } else if self.wanted.remove(&partition) {
                changes.push(Change::Leave(partition));
            }
        }
        changes
    }
}

/// Who should read each partition: a pure function of what all say they read. Each keeps what it has
/// up to its part; what is too much of one, or nobody's, goes to those with too little. Parts differ by
/// one at most, the larger ones are those of whoever has most now.
pub fn owners<'n>(beats: &BTreeMap<&'n str, &Beat>, partitions: u32) -> BTreeMap<u32, &'n str> {
    let mut has: BTreeMap<&'n str, Vec<(bool, u32)>> = beats.keys().map(|name| (*name, Vec::new())).collect();
    for partition in 0..partitions {
        let reader = beats.iter().find(|(_, beat)| beat.held.contains(&partition));
        let holder = reader.or_else(|| beats.iter().find(|(_, beat)| beat.waiting.contains(&partition)));
        if let Some((name, beat)) = holder {
            // What is only asked for moves before what is read: that costs nothing.
            let is_idle = !beat.held.contains(&partition);
            has.entry(*name).or_default().push((is_idle, partition));
        }
    }
    let replicas = u32::try_from(has.len()).unwrap_or(u32::MAX).max(1);
    let (part, larger) = (partitions / replicas, partitions % replicas);
    let mut order: Vec<&str> = has.keys().copied().collect();
    order.sort_by_key(|name| (std::cmp::Reverse(has[name].len()), *name));
    let mut owners = BTreeMap::new();
    let mut lacking = BTreeMap::new();
    for (rank, name) in order.into_iter().enumerate() {
        let part = part + u32::from(u32::try_from(rank).unwrap_or(u32::MAX) < larger);
        let mut own = has.remove(name).unwrap_or_default();
        own.sort_unstable();
        own.truncate(part.try_into().unwrap_or(usize::MAX));
        lacking.insert(name, part - u32::try_from(own.len()).unwrap_or(part));
        owners.extend(own.into_iter().map(|(_, partition)| (partition, name)));
    }
    let mut lacking = lacking.into_iter().flat_map(|(name, count)| (0..count).map(move |_| name));
    for partition in 0..partitions {
        if !owners.contains_key(&partition)
            && let Some(name) = lacking.next()
        {
            owners.insert(partition, name);
        }
    }
    owners
}

#[cfg(test)]
#[path = "balance_tests.rs"]
mod tests;
