//! The provider of the world: what it counts, what it makes of a call, and when it answers.

use std::time::Duration;

use roomcast::core::model::Class;
use roomcast::core::provider::{Acceptance, Item, Outcome, Throttle};
use roomcast::core::schedule::{Attempt, OnFull};

use crate::world::{Event, FAULTS_END, Flight, World, millis, trouble};

impl World {
    /// Whether a message may have been judged to be dropped or to become a letter, when a crash or a
    /// lost partition kept its record from being settled: whoever gets the record next sends it,
    /// outside of the order.
    pub fn letters_may_be_decided(&self) -> bool {
        let route = &self.settings.routes[0];
        let faults = &self.faults;
        route.on_full != OnFull::Wait
            || faults.refused
            || faults.gone
            || faults.uncertain
            || faults.outage
            || faults.ttl
    }

    /// A call leaves: when it is counted, what the provider makes of it and when the answer comes
    /// are drawn here; the answer arrives by the agenda.
    pub fn send(&mut self, attempt: Attempt) {
        let process = self.process;
        self.seen.shared_calls += u64::from(attempt.items.len() > 1 && self.limits.rooms_per_call > 1);
        self.seen.batched_calls += u64::from(attempt.items.len() > 1 && self.limits.rooms_per_call == 1);
        for flight in self.flights.values() {
            for item in &flight.attempt.items {
                let same = |other: &Item| {
                    other.room == item.room && self.of_message[&other.id].1 == self.of_message[&item.id].1
                };
                let clash = flight.attempt.path == attempt.path && attempt.items.iter().any(same);
                assert!(!clash, "P2: two calls away for room {}", item.room);
            }
        }
        for item in &attempt.items {
            self.laws.p3_sent(item.id, item.resend);
            self.seen.repeats += u64::from(item.resend);
            let late = self.expires[&item.id].is_some_and(|at| at < self.now.wall);
            assert!(!late, "time-to-live: {} is sent after {:?}", item.id, self.expires[&item.id]);
        }
        let timeout = 5_000;
        let latency = match (self.faults.tail, self.rng.u8(..20)) {
            (true, 0) => self.rng.u64(1_000..=timeout),
            _ => self.rng.u64(1..80),
        };
        let counted = self.now.mono + millis(self.rng.u64(0..=latency.min(250)));
        let rooms: Vec<String> = attempt.items.iter().map(|item| item.room.0.to_string()).collect();
        self.laws.p4_counted(attempt.path, &rooms, counted, &self.limits);
        self.note(&|| format!("send {:?} {rooms:?}", attempt.path));
        let outcomes = self.outcomes(&attempt);
        self.note(&|| {
            let told: Vec<String> = attempt
                .items
                .iter()
                .zip(&outcomes)
                .map(|(item, outcome)| {
                    format!("{:?} {} {}", self.of_message[&item.id], item.resend, outcome.word())
                })
                .collect();
            format!("  {:?}: {told:?}", attempt.id)
        });
        self.take(&attempt, &outcomes);
        if std::mem::take(&mut self.ban_begins) {
            let answer = self.now.mono + millis(latency);
            self.ban[attempt.path as usize] = (answer, answer + Duration::from_secs(3));
        }
        self.after(millis(latency), Event::Answer(attempt.id, process));
        self.flights.insert(attempt.id, Flight { attempt, outcomes });
    }

    /// What the provider takes, whatever it answers.
    fn take(&mut self, attempt: &Attempt, outcomes: &[Outcome]) {
        let whole_call = self.rng.bool();
        for (item, outcome) in attempt.items.iter().zip(outcomes) {
            if matches!(outcome, Outcome::Uncertain(_)) {
                self.seen.uncertain += 1;
                self.laws.maybe_sent(item.id);
            }
            let delivered = match outcome {
                Outcome::Accepted(_) => true,
                Outcome::Uncertain(_) if self.limits.messages_per_call > 1 => whole_call,
                Outcome::Uncertain(_) => self.rng.bool(),
                _ => false,
            };
            if delivered {
                self.seen.accepted += 1;
                let ((partition, offset), priority) = self.of_message[&item.id];
                if self.faults.partial
                    || (self.letters_may_be_decided() && self.partitions[partition as usize].epoch > 1)
                {
                    self.laws.accepted_in_any_order(item.id);
                    continue;
                }
                self.laws.p2_accepted(partition, attempt.path, &item.room.0, priority, offset, item.id);
            }
        }
    }

    pub fn outcomes(&mut self, attempt: &Attempt) -> Vec<Outcome> {
        let all = |outcome: Outcome| vec![outcome; attempt.items.len()];
        let now = self.now.mono;
        if attempt.session.is_none() && self.settings.accounts[0].needs_login {
            panic!("a call without a session");
        }
        if self.faults.token && self.rng.u8(..30) == 0 {
            self.token_good = false;
            return all(Outcome::Unauthorized(trouble("401")));
        }
        let (from, until) = self.ban[attempt.path as usize];
        assert!(now <= from || now >= until, "P4: a call during a ban");
        if self.faults.outage && now < self.outage_until && (now.0 / 4_000_000_000).is_multiple_of(2) {
            return all(match self.rng.bool() {
                true => Outcome::Failed(trouble("refused")),
                false => Outcome::Uncertain(trouble("timeout")),
            });
        }
        if self.faults.bans && self.flights.is_empty() && self.rng.u8(..60) == 0 {
            self.seen.bans += 1;
            self.ban_begins = true;
            return all(Outcome::Throttled {
                scope: Throttle::Path(Duration::from_secs(3)),
                trouble: trouble("416"),
            });
        }
        let shared = attempt.items.len() > 1 && self.limits.rooms_per_call > 1;
        if shared && self.faults.refused && self.rng.u8(..6) == 0 {
            return all(Outcome::Refused { class: Class::Rejected, trouble: trouble("400") });
        }
        if self.limits.messages_per_call > 1 && !self.faults.partial {
            // The batch succeeds or fails as one.
            let outcome = self.outcome(&attempt.items[0]);
            return all(outcome);
        }
        attempt.items.iter().map(|item| self.outcome(item)).collect()
    }

    pub fn outcome(&mut self, item: &Item) -> Outcome {
        if self.now.mono > FAULTS_END {
            return Outcome::Accepted(Acceptance::Plain);
        }
        if self.gone_rooms.contains(&*item.room.0) {
            return Outcome::Refused { class: Class::RoomGone, trouble: trouble("404") };
        }
        match self.rng.u8(..40) {
            0 if self.faults.uncertain => Outcome::Uncertain(trouble("reset")),
            1 if self.faults.refused => Outcome::Refused { class: Class::Rejected, trouble: trouble("400") },
            2 if self.faults.refused => {
                Outcome::Throttled { scope: Throttle::Room(millis(900)), trouble: trouble("403") }
            }
            3 if self.faults.uncertain => Outcome::Failed(trouble("busy")),
            4 => Outcome::Accepted(Acceptance::Duplicate),
            _ => Outcome::Accepted(Acceptance::Plain),
        }
    }
}
