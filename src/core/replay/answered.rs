//! The letters that nothing is left to be done about, as far as memory goes: the newest of them.
//!
//! Who asks for a replay looks into the whole table first; this is for what comes between the asking and
//! the turn of the request, and for requests that a broker hands on twice.

use std::collections::{BTreeMap, VecDeque};

use super::{LetterId, State};

/// Letters that are remembered: about 100 bytes each.
const MOST: usize = 200_000;

/// What became of letters, oldest first.
#[derive(Debug, Default)]
pub(super) struct Answered {
    of: BTreeMap<LetterId, Answer>,
    /// In the order in which they were answered; one that was reopened may stand in it still.
    order: VecDeque<LetterId>,
}

/// What became of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub state: State,
    /// The letters that were written when its replay failed.
    pub next: Box<[LetterId]>,
}

impl Answered {
    pub(super) fn get(&self, letter: LetterId) -> Option<&Answer> {
        self.of.get(&letter)
    }

    pub(super) fn set(&mut self, letter: LetterId, answer: Answer) {
        if self.of.insert(letter, answer).is_none() {
            self.order.push_back(letter);
        }
        while self.order.len() > MOST
            && let Some(oldest) = self.order.pop_front()
        {
            self.of.remove(&oldest);
        }
    }

    /// Somebody wants it open again.
    pub(super) fn forget(&mut self, letter: LetterId) {
        self.of.remove(&letter);
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.of.len()
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn the_oldest_are_forgotten_when_there_are_too_many() {
        let mut answered = Answered::default();
        let letter = |n: usize| LetterId(Uuid::from_u128(n as u128));
        let answer = Answer { state: State::Replayed, next: Box::default() };
        for n in 0..MOST + 5 {
            answered.set(letter(n), answer.clone());
            answered.set(letter(n), answer.clone());
        }
        assert_eq!(answered.len(), MOST);
        assert_eq!((answered.get(letter(4)), answered.get(letter(5))), (None, Some(&answer)));
        answered.forget(letter(5));
        assert_eq!(answered.get(letter(5)), None);
    }
}
