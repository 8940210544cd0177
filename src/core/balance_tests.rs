//! Tests of [`super`]: a small world of replicas, pins and lost beats, each run fixed by a seed.

use super::*;

const STEP: Duration = Duration::from_millis(500);
/// How long a pin outlives its dead holder.
const PIN: Duration = Duration::from_secs(11);

fn beat(held: &[u32], waiting: &[u32]) -> Beat {
    Beat { held: held.iter().copied().collect(), waiting: waiting.iter().copied().collect() }
}

fn owned(beats: &[(&'static str, Beat)], partitions: u32) -> BTreeMap<&'static str, Vec<u32>> {
    let beats: BTreeMap<&str, &Beat> = beats.iter().map(|(name, beat)| (*name, beat)).collect();
    let mut parts: BTreeMap<&'static str, Vec<u32>> = BTreeMap::new();
    for (partition, owner) in owners(&beats, partitions) {
        parts.entry(owner).or_default().push(partition);
    }
    parts
}

#[test]
fn parts_differ_by_one_at_most_and_nobody_moves_without_need() {
    let parts = owned(&[("a", beat(&[0, 1, 2, 3, 4, 5, 6, 7], &[])), ("b", beat(&[], &[]))], 8);
    assert_eq!(parts, BTreeMap::from([("a", vec![0, 1, 2, 3]), ("b", vec![4, 5, 6, 7])]));
    let parts = owned(&[("a", beat(&[0, 1], &[])), ("b", beat(&[2, 3, 4], &[])), ("c", beat(&[], &[]))], 5);
    assert_eq!(parts, BTreeMap::from([("a", vec![0, 1]), ("b", vec![2, 3]), ("c", vec![4])]));
    let even = [("a", beat(&[1, 3], &[])), ("b", beat(&[0, 2, 4], &[]))];
    assert_eq!(owned(&even, 5), BTreeMap::from([("a", vec![1, 3]), ("b", vec![0, 2, 4])]), "as it was");
    let more = [("a", beat(&[0], &[])), ("b", beat(&[1], &[])), ("c", beat(&[], &[]))];
    assert_eq!(owned(&more, 2), BTreeMap::from([("a", vec![0]), ("b", vec![1])]), "one has nothing to do");
}

#[test]
fn what_is_only_asked_for_moves_before_what_is_read() {
    let parts = owned(&[("a", beat(&[2, 3], &[0, 1])), ("b", beat(&[], &[]))], 4);
    assert_eq!(parts, BTreeMap::from([("a", vec![2, 3]), ("b", vec![0, 1])]));
    let both = [("a", beat(&[], &[0, 1])), ("b", beat(&[1], &[0]))];
    assert_eq!(owned(&both, 2), BTreeMap::from([("a", vec![0]), ("b", vec![1])]), "the reader has it");
}

#[test]
fn a_new_replica_listens_first_and_one_alone_takes_all() {
    let start = Mono(0);
    let mut alone = Balance::new("a".to_owned(), 2, start);
    assert_eq!(alone.turn(start), []);
    assert_eq!(alone.turn(start + LISTEN), [Change::Take(0), Change::Take(1)]);
    assert_eq!(alone.turn(start + LISTEN + STEP), []);
    assert_eq!(alone.beat(), beat(&[], &[0, 1]));
    alone.assigned(1);
    assert_eq!(alone.beat(), beat(&[1], &[0]));
}

#[test]
fn what_is_anothers_is_given_up_only_after_a_while() {
    let mut now = Mono(0) + LISTEN;
    let mut mine = Balance::new("a".to_owned(), 2, Mono(0));
    mine.turn(now);
    mine.assigned(0);
    mine.assigned(1);
    mine.heard("b", Beat::default(), now);
    assert_eq!(mine.turn(now), []);
    now = now + STEP;
    mine.left("b");
    assert_eq!(mine.turn(now), [], "it was there for a moment only");
    mine.heard("b", Beat::default(), now);
    assert_eq!(mine.turn(now), []);
    now = now + SETTLE;
    assert_eq!(mine.turn(now), [Change::GiveUp(1)]);
    assert_eq!(mine.turn(now), [], "once");
    mine.gone(1);
    assert_eq!(mine.beat(), beat(&[0], &[]));
    assert_eq!(mine.replicas(), 2);
}

#[test]
fn one_that_slept_gives_nothing_up_and_takes_nothing_before_it_has_listened() {
    let mut mine = Balance::new("a".to_owned(), 4, Mono(0));
    let mut now = Mono(0);
    mine.heard("b", beat(&[2, 3], &[]), now);
    now = now + LISTEN;
    mine.heard("b", beat(&[2, 3], &[]), now);
    assert_eq!(mine.turn(now), [Change::Take(0), Change::Take(1)]);
    now = now + Duration::from_secs(60);
    assert_eq!(mine.turn(now), [], "the other did not die: nobody listened");
    assert_eq!(mine.replicas(), 2);
    now = now + LISTEN;
    assert_eq!(mine.turn(now), []);
    let end = now + ALIVE;
    let mut changes = Vec::new();
    while now < end {
        now = now + STEP;
        changes.extend(mine.turn(now));
    }
    assert_eq!(changes, [Change::Take(2), Change::Take(3)], "now it is dead indeed");
}

struct Replica {
    balance: Balance,
    asks: BTreeSet<u32>,
    /// Being given up, until when.
    leaving: BTreeMap<u32, Mono>,
    asleep_until: Mono,
    moves: usize,
    given_up: usize,
}

struct World {
    rng: fastrand::Rng,
    now: Mono,
    partitions: u32,
    replicas: BTreeMap<String, Replica>,
    /// Who reads, and when it asked last.
    pins: BTreeMap<u32, (String, Mono)>,
    /// Beats on their way.
    beats: Vec<(Mono, String, String, Beat)>,
    next: u32,
    /// Of a hundred beats, how many are lost.
    losses: u32,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let partitions = rng.u32(2..17);
        let mut world = Self {
            rng,
            now: Mono(0) + Duration::from_secs(100),
            partitions,
            replicas: BTreeMap::new(),
            pins: BTreeMap::new(),
            beats: Vec::new(),
            next: 0,
            losses: 20,
        };
        world.join();
        world
    }

    fn join(&mut self) {
        let name = format!("{:03}-{}", self.rng.u32(0..1_000), self.next);
        self.next += 1;
        let balance = Balance::new(name.clone(), self.partitions, self.now);
        let replica = Replica {
            balance,
            asks: BTreeSet::new(),
            leaving: BTreeMap::new(),
            asleep_until: self.now,
            moves: 0,
            given_up: 0,
        };
        self.replicas.insert(name, replica);
    }

    fn pick(&mut self) -> Option<String> {
        let names: Vec<_> = self.replicas.keys().cloned().collect();
        self.rng.choice(names)
    }

    fn fault(&mut self) {
        match self.rng.u32(0..20) {
            0 if self.replicas.len() < 6 => self.join(),
            1 if self.replicas.len() > 1 => {
                // In an orderly way: what it read is free at once, and all hear it.
                let Some(name) = self.pick() else { return };
                self.replicas.remove(&name);
                self.pins.retain(|_, (holder, _)| *holder != name);
                self.replicas.values_mut().for_each(|other| other.balance.left(&name));
            }
            2 if self.replicas.len() > 1 => {
                if let Some(name) = self.pick() {
                    self.replicas.remove(&name);
                }
            }
            3 => {
                let until = self.now + Duration::from_secs(self.rng.u64(1..30));
                if let Some(name) = self.pick() {
                    self.replicas.get_mut(&name).expect("picked").asleep_until = until;
                }
            }
            _ => {}
        }
    }

    /// A message in some partitions: whoever asks first gets the pin, unless it is taken.
    fn traffic(&mut self) {
        self.pins.retain(|_, (_, asked)| self.now.since(*asked) < PIN);
        for partition in 0..self.partitions {
            // The last ones are quiet.
            if self.pins.contains_key(&partition) || partition > self.partitions / 2 || self.rng.bool() {
                continue;
            }
            let asking = self
                .replicas
                .iter()
                .filter(|(_, replica)| replica.asks.contains(&partition) && replica.asleep_until <= self.now);
            let asking: Vec<String> = asking.map(|(name, _)| name.clone()).collect();
            if let Some(name) = self.rng.choice(asking) {
                self.replicas.get_mut(&name).expect("it asks").balance.assigned(partition);
                self.pins.insert(partition, (name, self.now));
            }
        }
    }

    fn step(&mut self) {
        self.now = self.now + STEP;
        self.traffic();
        let (now, names): (_, Vec<String>) = (self.now, self.replicas.keys().cloned().collect());
        let (due, later) = std::mem::take(&mut self.beats).into_iter().partition(|(at, ..)| *at <= now);
        self.beats = later;
        for (_, to, from, beat) in due {
            if let Some(replica) = self.replicas.get_mut(&to) {
                replica.balance.heard(&from, beat, now);
            }
        }
        for name in &names {
            let replica = self.replicas.get_mut(name).expect("it is there");
            if replica.asleep_until > now {
                continue;
            }
            for partition in replica.balance.beat().held {
                match self.pins.get_mut(&partition) {
                    Some((holder, asked)) if holder == name => *asked = now,
                    _ => replica.balance.gone(partition),
                }
            }
            let given: Vec<u32> =
                replica.leaving.extract_if(.., |_, at| *at <= now).map(|(p, _)| p).collect();
            for partition in given {
                replica.balance.gone(partition);
                if self.pins.get(&partition).is_some_and(|(holder, _)| holder == name) {
                    self.pins.remove(&partition);
                }
            }
            for change in replica.balance.turn(now) {
                replica.moves += 1;
                match change {
                    Change::Take(partition) => drop(replica.asks.insert(partition)),
                    Change::Leave(partition) => drop(replica.asks.remove(&partition)),
                    Change::GiveUp(partition) => {
                        replica.given_up += 1;
                        replica.asks.remove(&partition);
                        let takes = Duration::from_millis(self.rng.u64(0..5_000));
                        replica.leaving.insert(partition, now + takes);
                    }
                }
            }
            let beat = replica.balance.beat();
            for other in names.iter().filter(|other| *other != name) {
                if self.rng.u32(0..100) < self.losses {
                    continue;
                }
                let at = now + Duration::from_millis(self.rng.u64(0..1_500));
                self.beats.push((at, other.clone(), name.clone(), beat.clone()));
            }
        }
    }

    fn steps(&mut self, count: u32) {
        (0..count).for_each(|_| self.step());
    }

    fn moves(&self) -> usize {
        self.replicas.values().map(|replica| replica.moves).sum()
    }

    fn given_up(&self) -> usize {
        self.replicas.values().map(|replica| replica.given_up).sum()
    }

    /// Each partition is asked for by one replica alone, in parts within one of even.
    fn assert_even(&self, seed: u64) {
        for partition in 0..self.partitions {
            let asking: Vec<_> = self
                .replicas
                .iter()
                .filter(|(_, r)| r.asks.contains(&partition))
                .map(|(name, _)| name)
                .collect();
            assert_eq!(asking.len(), 1, "seed {seed}: partition {partition} is asked for by {asking:?}");
            let holder = self.pins.get(&partition).map(|(holder, _)| holder);
            assert!(
                holder.is_none_or(|holder| holder == asking[0]),
                "seed {seed}: {holder:?} reads {partition}"
            );
        }
        let parts: Vec<usize> = self.replicas.values().map(|replica| replica.asks.len()).collect();
        let spread = parts.iter().max().expect("one is left") - parts.iter().min().expect("one is left");
        assert!(spread <= 1, "seed {seed}: {parts:?}");
    }
}

#[test]
fn whatever_happened_all_is_read_in_even_parts_and_then_nothing_moves() {
    for seed in 0..200 {
        let mut world = World::new(seed);
        for _ in 0..120 {
            world.fault();
            world.step();
        }
        // Beats are still late, and some lost, but nobody comes or goes.
        world.losses = 5;
        world.steps(120);
        world.assert_even(seed);
        let moves = world.moves();
        world.steps(120);
        world.assert_even(seed);
        assert_eq!(world.moves(), moves, "seed {seed}: something moved without need");
    }
}

#[test]
fn one_that_joins_is_given_its_part_and_no_more_moves() {
    for seed in 0..200 {
        let mut world = World::new(seed);
        world.losses = 0;
        world.steps(40);
        for replicas in 2..5 {
            let before = world.given_up();
            world.join();
            world.steps(60);
            world.assert_even(seed);
            let part = usize::try_from(world.partitions.div_ceil(replicas)).expect("a few");
            let moved = world.given_up() - before;
            assert!(moved <= part, "seed {seed}: {moved} partitions were given up for a part of {part}");
        }
    }
}

#[test]
fn who_leaves_is_counted_no_more_and_who_is_silent_for_so_long_neither() {
    let mut mine = Balance::new("a".to_owned(), 2, Mono(0));
    mine.heard("b", Beat::default(), Mono(0));
    mine.heard("c", Beat::default(), Mono(0));
    assert_eq!(mine.replicas(), 3);
    mine.left("b");
    assert_eq!(mine.replicas(), 2);
    for second in 1..=4 {
        mine.turn(Mono(0) + Duration::from_secs(second));
    }
    assert_eq!(mine.replicas(), 2);
    mine.turn(Mono(0) + ALIVE);
    assert_eq!(mine.replicas(), 1);
}

#[test]
fn whose_connection_was_away_listens_before_it_takes_anything() {
    let start = Mono(0) + LISTEN;
    let mut mine = Balance::new("a".to_owned(), 1, Mono(0));
    mine.listen_anew(start);
    assert_eq!(mine.turn(start), []);
    assert_eq!(mine.turn(start + LISTEN), [Change::Take(0)]);
}
