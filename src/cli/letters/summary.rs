//! What came of asking for replays, for people and for machines. It adds up.

use serde_json::{Value as Json, json};
use uuid::Uuid;

use crate::cli::output;
use crate::core::replay::State;
use crate::letters::ask::{Ended, Tally};
use crate::letters::rows::{Verdict, Verdicts};

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

    /// For people.
    pub fn text(&self) -> String {
        let Tally { meant, asked, before, unpatched, gone, unwritten, stuck, .. } = &self.tally;
        let mut rows = vec![row(0, *meant, "letters are meant"), row(1, *asked, "asked for")];
        for verdict in Verdict::ALL {
            let count = self.verdicts.of(verdict);
            if count > 0 {
                rows.push(row(2, count, meaning(verdict)));
            }
        }
        for (state, count) in &self.tally.skipped {
            rows.push(row(1, *count, &format!("left as they are: {}", state.word())));
        }
        for (count, why) in [
            (unpatched, "left open: the patch failed"),
            (gone, "left open: the value was too large to keep and is gone"),
            (unwritten, "left as they are: the state table could not be written"),
            (stuck, "requested, and the request may not be written: ask again with --state requested"),
        ] {
            if *count > 0 {
                rows.push(row(1, *count, why));
            }
        }
        let mut text = output::columns(&rows);
        if *before > 0 {
            text += &format!("Of those asked for, the request of {before} was there before.\n");
        }
        for (letter, why) in &self.tally.notes {
            text += &format!("{letter}: {why}\n");
        }
        let unnoted = unpatched + gone - self.tally.notes.len() as u64;
        if unnoted > 0 {
            text += &format!("… and {unnoted} more.\n");
        }
        text + &self.ending()
    }

    fn ending(&self) -> String {
        let again = "The same command goes on with what is still open.";
        let more = match &self.ended {
            Ended::Through => String::new(),
            Ended::Limit => "As many as --limit says; there may be more.\n".to_owned(),
            Ended::Stopped => format!("Stopped before all letters were looked at. {again}\n"),
            Ended::Failed(why) => format!("Ended early: {why}. {again}\n"),
        };
        let earlier = match self.earlier.unwrap_or_default() {
            Earlier { ended: 0, left: 0 } => String::new(),
            Earlier { ended, left: 0 } => {
                format!("Of earlier requests, {ended} came to their end as well.\n")
            }
            Earlier { ended, left } => format!(
                "Of earlier requests, {ended} came to their end as well, {left} did not: with --state requested \
                 they are asked for again.\n"
            ),
        };
        let left = match self.verdicts.of(Verdict::Left) {
            0 => "",
            _ => "Those left stand at `requested`: daemons take them up, or --standalone does.\n",
        };
        more + &earlier + left
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
        json!({
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
            "earlier": self.earlier.map(|earlier| json!({ "ended": earlier.ended, "left": earlier.left })),
        })
    }
}

fn row(depth: usize, count: u64, what: &str) -> Vec<String> {
    vec![format!("{:>10}", count), format!("{}{what}", "  ".repeat(depth))]
}

fn meaning(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Left => "left: no daemon has said anything yet",
        Verdict::Replayed => "replayed",
        Verdict::FailedAgain => "failed again: new letters, linked to the old ones",
        Verdict::Parked => "parked: failed as often as max_replays allows",
        Verdict::Discarded => "discarded meanwhile",
        Verdict::OpenAgain => "open again: their rows say why",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::letter::LetterId;

    fn summary(tally: Tally, ended: Ended) -> Summary {
        Summary {
            request: Uuid::from_u128(9),
            tally,
            verdicts: Verdicts::default(),
            ended,
            waited: true,
            earlier: None,
        }
    }

    #[test]
    fn a_summary_adds_up_and_says_how_it_ended() {
        let tally = Tally {
            meant: 14,
            asked: 5,
            before: 1,
            skipped: [(State::Requested, 2), (State::Replayed, 1)].into(),
            unpatched: 2,
            gone: 1,
            unwritten: 2,
            stuck: 1,
            notes: vec![(LetterId(Uuid::from_u128(1)), "the patch: no".to_owned())],
        };
        assert_eq!(tally.told(), tally.meant);
        let failed = summary(tally.clone(), Ended::Failed("no leader".to_owned()));
        assert!(!failed.is_done());
        let text = failed.text();
        for part in [
            "14  letters are meant",
            "2    left as they are: requested",
            "1    requested, and the request may not be written: ask again with --state requested",
            "the request of 1 was there before",
            "00000000-0000-0000-0000-000000000001: the patch: no\n… and 2 more.",
            "Ended early: no leader. The same command goes on",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        let json = failed.json();
        let sum = ["asked", "patch_failed", "value_gone", "not_written", "stuck"]
            .iter()
            .map(|key| json[key].as_u64().expect("a number"))
            .sum::<u64>();
        let skipped: u64 =
            json["skipped"].as_object().expect("a table").values().filter_map(Json::as_u64).sum();
        assert_eq!(json["meant"], sum + skipped);
        assert_eq!((&json["ended"], &json["error"]), (&json!("failed"), &json!("no leader")));
        let clean = summary(Tally { meant: 3, asked: 3, ..Tally::default() }, Ended::Through);
        assert!(clean.is_done() && !clean.text().contains("more"));
        assert!(!summary(tally, Ended::Through).is_done());
    }

    #[test]
    fn what_became_of_earlier_requests_is_told_where_there_were_any() {
        let with = |earlier| Summary { earlier, ..summary(Tally::default(), Ended::Through) };
        for (earlier, told) in [
            (None, None),
            (Some(Earlier { ended: 0, left: 0 }), None),
            (Some(Earlier { ended: 3, left: 0 }), Some("Of earlier requests, 3 came to their end as well.")),
            (Some(Earlier { ended: 3, left: 2 }), Some("as well, 2 did not: with --state requested")),
        ] {
            let (text, json) = (with(earlier).text(), with(earlier).json());
            assert_eq!(text.contains("earlier"), told.is_some(), "{text}");
            assert!(told.is_none_or(|told| text.contains(told)), "{text}");
            let wanted = earlier.map(|earlier| json!({ "ended": earlier.ended, "left": earlier.left }));
            assert_eq!(json["earlier"], json!(wanted));
        }
    }
}
