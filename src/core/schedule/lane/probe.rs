//! What a closed gate is probed with.

use super::{LaneState, Lanes};
use crate::core::model::Priority;
use crate::core::time::Mono;

/// So many ready lanes are looked at for a probe, which leaves twice a second at most.
const PROBED: usize = 64;

impl Lanes {
    /// Of the next ready lanes of that priority one whose head was never tried, if there is any: what a
    /// gate is probed with, because it cannot have been refused for its own sake.
    pub fn untried(&self, path: usize, priority: Priority, now: Mono) -> Option<u32> {
        let lane = priority as usize;
        let ready = self.paths[path].rings[lane].iter().take(PROBED);
        let ready = ready.filter(|&room| self.next_state(room, lane, now) == LaneState::Ready);
        let mut heads = ready.map(|room| self.rooms[room as usize].lane(lane).head);
        heads.find(|&head| self.jobs[head as usize].attempts == 0)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::super::status::GateState;
    use super::super::super::test_bed::{ACCEPTED, Bed, message, settings};
    use crate::core::model::{Class, Path};
    use crate::core::provider::{Outcome, Trouble};

    #[test]
    fn p5_a_gate_that_refusals_closed_is_probed_with_what_was_never_refused() {
        let mut bed = Bed::new(settings(), 1);
        let trouble = Trouble { status: Some(400), code: None, text: "no".to_owned() };
        let refused = Outcome::Refused { class: Class::Rejected, trouble };
        for n in 0..40 {
            bed.record(0, vec![message(&format!("sick{n}"), &format!("s{n}"), None)]);
        }
        let gate = |bed: &Bed| bed.scheduler.snapshot(bed.now).accounts[0][Path::Room as usize].gate.clone();
        while gate(&bed) == GateState::Open {
            bed.answer(&refused);
        }
        while !bed.away.is_empty() {
            bed.answer(&refused);
        }
        bed.one("well", "w", None);
        bed.pass(Duration::from_secs(20));
        assert_eq!(bed.contents_away(), ["w"], "of twenty-one rooms that wait");
        bed.answer(&ACCEPTED);
        assert_eq!(gate(&bed), GateState::Open);
    }
}
