//! What came of asking for replays. It adds up.

use serde_json::{Value as Json, json};
use uuid::Uuid;

use super::ask::{Ended, Tally};
use super::rows::{Verdict, Verdicts};
use crate::core::replay::State;

/// Letters that had been asked for before, where the command itself sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Earlier {
    /// That came to an end meanwhile.
    pub ended: u64,
    /// That did not.
    pub left: u64,
}

/// All that is known at the end.
pub struct Summary {
    /// The asking, as rows and requests name it.
    pub request: Uuid,
    /// What was asked for, and what was not.
    pub tally: Tally,
    /// What became of what was asked for.
    pub verdicts: Verdicts,
    /// Why asking ended.
    pub ended: Ended,
    /// Whether the verdicts were waited for to the end.
    pub waited: bool,
    /// What became of earlier requests, with `--standalone`.
    pub earlier: Option<Earlier>,
}

impl Summary {
    /// Whether all was done that was wanted.
    pub fn is_done(&self) -> bool {
        let is_through = matches!(self.ended, Ended::Through | Ended::Limit);
        is_through && self.tally.unasked() == 0 && (!self.waited || self.verdicts.of(Verdict::Left) == 0)
    }

    /// For machines.
    pub fn json(&self) -> Json {
        let tally = &self.tally;
        let verdict = |verdict: Verdict| (verdict.word().to_owned(), json!(self.verdicts.of(verdict)));
        let verdicts: serde_json::Map<String, Json> = Verdict::ALL.map(verdict).into_iter().collect();
        let state = |state: State| {
            let count = tally.skipped.get(&state).copied().unwrap_or(0);
            (state.word().to_owned(), json!(count))
        };
        let skipped: serde_json::Map<String, Json> = State::ALL.map(state).into_iter().collect();
        let note = |(letter, why): &(_, _)| json!({ "letter": letter, "why": why });
        let (ended, error) = match &self.ended {
            Ended::Through => ("through", None),
            Ended::Limit => ("limit", None),
            Ended::Stopped => ("stopped", None),
            Ended::Failed(why) => ("failed", Some(why)),
        };
        let mut told = json!({
            "request": self.request,
            "meant": tally.meant,
            "asked": tally.asked,
            "requested_before": tally.before,
            "verdicts": verdicts,
            "skipped": skipped,
            "patch_failed": tally.unpatched,
            "value_gone": tally.gone,
            "not_written": tally.unwritten,
            "stuck": tally.stuck,
            "notes": tally.notes.iter().map(note).collect::<Vec<_>>(),
            "ended": ended,
            "error": error,
        });
        if let Some(earlier) = self.earlier {
            told["earlier"] = json!({ "ended": earlier.ended, "left": earlier.left });
        }
        told
    }
}
