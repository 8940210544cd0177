//! What came of asking for replays, for people.

use crate::cli::output;
use crate::letters::ask::{Ended, Tally};
use crate::letters::rows::Verdict;
use crate::letters::summary::{Earlier, Summary};

/// For people.
pub fn text(told: &Summary) -> String {
    let Tally { meant, asked, before, unpatched, gone, unwritten, stuck, .. } = &told.tally;
    let what = if *meant == 1 { "letter is meant" } else { "letters are meant" };
    let mut rows = vec![row(0, *meant, what), row(1, *asked, "asked for")];
    for verdict in Verdict::ALL {
        let count = told.verdicts.of(verdict);
        if count > 0 {
            rows.push(row(2, count, meaning(verdict, count)));
        }
    }
    for (state, count) in &told.tally.skipped {
        rows.push(row(
            1,
            *count,
            &format!("left as {}: {}", if *count == 1 { "it is" } else { "they are" }, state.word()),
        ));
    }
    for (count, why) in [
        (unpatched, "left open: the patch failed"),
        (gone, "left open: the value was too large to keep and is gone"),
        (unwritten, "not asked for: the state table could not be written"),
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
    for (letter, why) in &told.tally.notes {
        text += &format!("{letter}: {why}\n");
    }
    let unnoted = unpatched + gone - told.tally.notes.len() as u64;
    if unnoted > 0 {
        text += &format!("… and {unnoted} more.\n");
    }
    text + &ending(told)
}

fn ending(told: &Summary) -> String {
    let again = "The same command goes on with what is still open.";
    let more = match &told.ended {
        Ended::Through => String::new(),
        Ended::Limit => "As many as --limit says; there may be more.\n".to_owned(),
        Ended::Stopped => format!("Stopped before all letters were looked at. {again}\n"),
        Ended::Failed(why) => format!("Ended early: {why}. {again}\n"),
    };
    let earlier = match told.earlier.unwrap_or_default() {
        Earlier { ended: 0, left: 0 } => String::new(),
        Earlier { ended, left: 0 } => {
            format!("Of earlier requests, {ended} came to their end as well.\n")
        }
        Earlier { ended, left } => format!(
            "Of earlier requests, {ended} came to their end as well, {left} did not: with --state requested \
             they are asked for again.\n"
        ),
    };
    let left = match told.verdicts.of(Verdict::Left) {
        0 => "",
        _ => "Those left stand at `requested`: daemons take them up, or --standalone does.\n",
    };
    more + &earlier + left
}

fn row(depth: usize, count: u64, what: &str) -> Vec<String> {
    vec![format!("{:>10}", count), format!("{}{what}", "  ".repeat(depth))]
}

fn meaning(verdict: Verdict, count: u64) -> &'static str {
    let is_one = count == 1;
    match verdict {
        Verdict::Left => "left: no daemon has said anything yet",
        Verdict::Replayed => "replayed",
        Verdict::FailedAgain if is_one => "failed again: a new letter, linked to the old one",
        Verdict::FailedAgain => "failed again: new letters, linked to the old ones",
        Verdict::Parked => "parked: failed as often as max_replays allows",
        Verdict::Discarded => "discarded meanwhile",
        Verdict::OpenAgain if is_one => "open again: its row says why",
        Verdict::OpenAgain => "open again: their rows say why",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};
    use uuid::Uuid;

    use super::*;
    use crate::core::letter::LetterId;
    use crate::core::replay::State;
    use crate::letters::rows::Verdicts;

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
        let said = text(&failed);
        for part in [
            "14  letters are meant",
            "2    left as they are: requested",
            "1    left as it is: replayed",
            "1    requested, and the request may not be written: ask again with --state requested",
            "the request of 1 was there before",
            "00000000-0000-0000-0000-000000000001: the patch: no\n… and 2 more.",
            "Ended early: no leader. The same command goes on",
        ] {
            assert!(said.contains(part), "{part}: {said}");
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
        let one = summary(Tally { meant: 1, asked: 1, ..Tally::default() }, Ended::Through);
        assert!(text(&one).contains("1  letter is meant\n"), "{}", text(&one));
        assert!(clean.is_done() && !text(&clean).contains("more"));
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
            let (text, json) = (text(&with(earlier)), with(earlier).json());
            assert_eq!(text.contains("earlier"), told.is_some(), "{text}");
            assert!(told.is_none_or(|told| text.contains(told)), "{text}");
            let wanted = earlier.map(|earlier| json!({ "ended": earlier.ended, "left": earlier.left }));
            assert_eq!(json["earlier"], json!(wanted));
        }
    }
}
