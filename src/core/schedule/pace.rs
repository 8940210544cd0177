//! The pace of a room: how many messages it may get in a second, counted like quota slots from the
//! call's leaving to one period after its answer.

use std::collections::VecDeque;
use std::time::Duration;

use crate::core::time::Mono;

/// One period of a room's pace, with the same margin as quota slots have.
pub const PERIOD: Duration = Duration::from_millis(1_005);

/// When a pace has a place again.
pub enum Opens {
    /// Now.
    Open,
    /// Then.
    At(Mono),
    /// When a call has answered.
    WithAnswer,
}

/// Messages that may go now: those that are away and those answered less than a period ago take a place.
pub fn left(limit: Option<u32>, away: u32, cooling: &mut VecDeque<Mono>, now: Mono) -> u32 {
    let Some(limit) = limit else { return u32::MAX };
    while cooling.front().is_some_and(|&at| at <= now) {
        cooling.pop_front();
    }
    limit.saturating_sub(away + count(cooling))
}

/// When one message more may go.
pub fn opens(limit: Option<u32>, away: u32, cooling: &VecDeque<Mono>) -> Opens {
    match (limit, cooling.front()) {
        (Some(limit), _) if away + count(cooling) < limit => Opens::Open,
        (Some(_), Some(&at)) => Opens::At(at),
        (Some(_), None) => Opens::WithAnswer,
        (None, _) => Opens::Open,
    }
}

/// A pace is at most a 32-bit number, and so many places are taken at the most.
fn count(cooling: &VecDeque<Mono>) -> u32 {
    u32::try_from(cooling.len()).expect("no more places are taken than there are")
}
