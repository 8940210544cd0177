//! `roomcast letters replay --standalone`: the pipeline in the command, against a provider that counts.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use roomcast::broker::Build;
use roomcast::core::replay::State;
use serde_json::json;

use crate::bed::{PATIENCE, Place, Said, Wanted};
use crate::beds::{Bed, Sample};
use crate::support::ask_until;
use crate::support::daemon::Daemon;
use crate::support::provider::{Entry, Kind, Provider};
use crate::{ROUTES, on_every_broker, states};

const ALONE: &[&str] = &["--format", "json", "--yes", "--standalone"];
/// Calls a second that the provider of most tests takes. One more, and it refuses for ten seconds.
const QUOTA: u64 = 40;
/// Live events where there are some: five seconds of the quota.
const LIVE: usize = 200;
const DROPPED: &str = "[[routes]]\nname = \"dropped\"\nwhen = '.dropped'\ndrop = true\n";

/// Letters for rooms of their own, so that the account's quota alone bounds them.
fn wanted(count: usize) -> Vec<Wanted> {
    (0..count).map(|number| Wanted { room: (1_000 + number).to_string(), ..Wanted::new(number) }).collect()
}

/// A provider that refuses what goes beyond the quota, and a config of which `share` is in the quota.
fn counting(share: &str) -> (Provider, String) {
    let provider =
        Provider::start(Kind::Yunxin, &["--calls-per-second", &QUOTA.to_string(), "--latency", "20ms"]);
    let quota = format!("quota = {{ calls_per_second = {QUOTA}{share} }}");
    let rest = [&provider.account("live", &quota), DROPPED, ROUTES].concat();
    (provider, rest)
}

fn place(bed: Box<dyn Bed>, build: Build, rest: &str, letters: &[Wanted]) -> Place {
    let mut place = Place::with(bed, build, rest, letters);
    if place.config.contains("kind = \"kafka\"") {
        // How long a process that was killed counts as a member.
        let properties = "properties = { \"session.timeout.ms\" = \"6000\" }\n";
        place.config =
            place.config.replacen("kind = \"kafka\"\n", &format!("kind = \"kafka\"\n{properties}"), 1);
        place.configure("");
    }
    place
}

fn accepted(provider: &Provider) -> Vec<Entry> {
    provider.log().into_iter().filter(|entry| entry.accepted).collect()
}

/// A live event; rooms from 5000 on are those of live events.
fn live(number: usize) -> (String, String) {
    ((5_000 + number).to_string(), format!(r#"{{"n":{number}}}"#))
}

/// What was accepted, live messages and replays.
fn by_kind(provider: &Provider) -> (Vec<Entry>, Vec<Entry>) {
    let is_live = |entry: &Entry| entry.room.as_deref().is_some_and(|room| room.starts_with('5'));
    accepted(provider).into_iter().partition(is_live)
}

/// Asserts that each room of these letters has one message, a marked one, and that nothing was refused.
#[track_caller]
fn assert_each_once(provider: &Provider, letters: usize) {
    let accepted = accepted(provider);
    let rooms: BTreeSet<_> = accepted.iter().map(|entry| entry.room.clone()).collect();
    assert_eq!((accepted.len(), rooms.len()), (letters, letters));
    assert!(accepted.iter().all(|entry| entry.resend), "a replay is marked");
    provider.assert_content();
}

/// Starts a run that has to wait for its quota, and waits until it has sent some.
fn begin(place: &Place, provider: &Provider) -> crate::support::process::Process {
    let run = place.start(ALONE);
    ask_until("the first replays", PATIENCE, || {
        let ended = run.find_line(0, Duration::ZERO, |_| false) == Err("ended".to_owned());
        assert!(!ended, "it ended:\n{}", run.tail());
        provider.accepted().filter(|accepted| *accepted >= 20)
    });
    run
}

/// Runs it again and again while the broker still counts somebody who was killed.
fn until_not_refused(place: &Place) -> Said {
    ask_until("a run that is not refused", PATIENCE, || {
        let said = Said::of(&mut place.start(ALONE));
        match said.code {
            Some(1) if said.aside.contains("A process that was killed counts") => None,
            _ => Some(said),
        }
    })
}

#[test]
fn without_a_daemon_the_command_sends_and_leaves_the_live_source_alone() {
    on_every_broker(|bed, build| {
        const REFUSED: &str = "1003";
        let provider = Provider::start(Kind::Yunxin, &["--no-limits"]);
        let illegal = json!({"answer": {"status": 200, "code": 414, "description": "illegal"}});
        provider.set_faults(&json!({"effect": illegal, "rooms": [REFUSED]}));
        let quota = "quota = { calls_per_second = 500, room_messages_per_second = 500 }";
        let rest = [&provider.account("live", quota), DROPPED, ROUTES].concat();
        let wanted: Vec<Wanted> = (0..60)
            .map(|number| Wanted { room: (1_000 + number % 4).to_string(), ..Wanted::new(number) })
            .collect();
        let place = Place::with(bed, build, &rest, &wanted);
        place.publish_live(r#"{"n":"live"}"#);
        let said = place.replay(&["--standalone", "--why", "the provider had an outage"]);
        assert_eq!(said.code, Some(0), "{said:#?}");
        assert_eq!((said.count("/asked"), said.count("/verdicts/replayed")), (60, 45), "{said:#?}");
        assert_eq!(said.count("/verdicts/failed_again"), 15, "{said:#?}");
        assert_eq!(said.json["earlier"], json!({ "ended": 0, "left": 0 }));
        assert_eq!(said.aside, "", "there is nothing to be said beside it");
        let log = accepted(&provider);
        assert_eq!(log.len(), 45);
        assert!(log.iter().all(|entry| entry.resend && entry.room.as_deref() != Some(REFUSED)));
        assert_eq!(states(&place), [(State::Replayed, 60)].into());
        // The new letters are open, and once the provider takes them the next run ends it.
        provider.set_faults(&json!([]));
        let said = place.replay(&["--standalone"]);
        assert_eq!((said.count("/asked"), said.count("/verdicts/replayed")), (15, 15), "{said:#?}");
        assert_eq!((said.code, accepted(&provider).len()), (Some(0), 60));
        assert!(provider.log().iter().all(|entry| !entry.content.contains("live")));
        // What the source's own reader finds: the first record that it has not finished.
        let mut reader = place.reader();
        let [first] = &reader.records(1)[..] else { panic!("one was asked for") };
        assert_eq!(first.value.as_deref(), Some(&br#"{"n":"live"}"#[..]));
        reader.stop();
    });
}

#[test]
fn it_is_refused_while_others_read_and_says_what_to_do() {
    on_every_broker(|bed, build| {
        let (provider, rest) = counting("");
        let place = place(bed, build, &rest, &wanted(200));
        let mut daemon = Daemon::start_ready(&place.config);
        let said = ask_until("a member of the group", PATIENCE, || {
            let said = Said::of(&mut place.start(ALONE));
            said.aside.contains("source live has").then_some(said)
        });
        assert_eq!(said.code, Some(1), "{said:#?}");
        for part in ["--standalone is for when no daemon runs", "Leave the option out", "or stop them first"]
        {
            assert!(said.aside.contains(part), "{part}: {said:#?}");
        }
        assert!(place.rows().is_empty() && accepted(&provider).is_empty(), "nothing was done");
        assert!(daemon.stop().success());
        let mut first = begin(&place, &provider);
        let second = Said::of(&mut place.start(ALONE));
        assert_eq!(second.code, Some(1), "{second:#?}");
        assert!(second.aside.contains("requests beside the letters of source live has"), "{second:#?}");
        let first = Said::of(&mut first);
        assert_eq!((first.code, first.count("/verdicts/replayed")), (Some(0), 200), "{first:#?}");
        assert_each_once(&provider, 200);
    });
}

#[test]
fn a_run_that_is_interrupted_ends_in_order_and_the_next_does_the_rest() {
    on_every_broker(|bed, build| {
        let (provider, rest) = counting("");
        let place = place(bed, build, &rest, &wanted(240));
        let mut first = begin(&place, &provider);
        first.signal(libc::SIGINT);
        let first = Said::of(&mut first);
        let done = first.count("/verdicts/replayed");
        assert_eq!(first.code, Some(1), "{first:#?}");
        assert_eq!(done, accepted(&provider).len() as u64, "the summary has the last one: {first:#?}");
        let left = first.count("/verdicts/left");
        assert!((1..240).contains(&done) && left > 0, "{first:#?}");
        let second = Said::of(&mut place.start(ALONE));
        assert_eq!(second.code, Some(0), "{second:#?}");
        assert_eq!(second.json["earlier"], json!({ "ended": left, "left": 0 }), "{second:#?}");
        assert_eq!(second.count("/asked") + left + done, 240, "{second:#?}");
        assert_eq!(states(&place), [(State::Replayed, 240)].into());
        assert_each_once(&provider, 240);
    });
}

#[test]
fn p4_p9_a_run_that_is_killed_loses_nothing_and_its_quota_counts() {
    on_every_broker(|bed, build| {
        let (provider, rest) = counting("");
        let place = place(bed, build, &rest, &wanted(240));
        begin(&place, &provider).kill();
        let said = until_not_refused(&place);
        assert_eq!(said.code, Some(0), "{said:#?}");
        assert_eq!(said.json["earlier"]["left"], json!(0), "{said:#?}");
        assert_eq!(states(&place), [(State::Replayed, 240)].into());
        let accepted = accepted(&provider);
        let rooms: BTreeSet<_> = accepted.iter().map(|entry| entry.room.clone()).collect();
        assert_eq!(rooms.len(), 240);
        assert!(accepted.iter().all(|entry| entry.resend), "what is sent twice is marked");
        provider.assert_content();
    });
}

#[test]
fn p4_when_a_daemon_comes_it_stops_and_the_daemon_does_the_rest() {
    on_every_broker(|bed, build| {
        let (provider, rest) = counting("");
        let place = place(bed, build, &rest, &wanted(600));
        let mut run = begin(&place, &provider);
        // The daemon has to send at the full quota from the moment it has it.
        place.publish_all((0..LIVE).map(live));
        let mut daemon = Daemon::start(&place.config);
        let said = Said::of(&mut run);
        assert_eq!(said.code, Some(1), "{said:#?}");
        assert!(said.aside.contains("nothing more is sent from here"), "{said:#?}");
        assert!(said.count("/verdicts/left") > 0 && said.count("/verdicts/replayed") >= 20, "{said:#?}");
        ask_until("the rest", PATIENCE, || (!states(&place).contains_key(&State::Requested)).then_some(()));
        ask_until("the live messages", PATIENCE, || {
            provider.accepted().filter(|accepted| *accepted >= 600 + LIVE as u64)
        });
        assert!(daemon.stop().success());
        let (live, replayed) = by_kind(&provider);
        assert_eq!((live.len(), replayed.len()), (LIVE, 600));
        provider.assert_content();
    });
}

#[test]
fn p4_what_a_daemon_that_was_just_killed_has_used_counts() {
    on_every_broker(|bed, build| {
        let (provider, rest) = counting("");
        let place = place(bed, build, &rest, &wanted(80));
        let mut daemon = Daemon::start_ready(&place.config);
        place.publish_all((0..LIVE).map(live));
        ask_until("more than a second at the full quota", PATIENCE, || {
            provider.accepted().filter(|accepted| *accepted >= QUOTA + QUOTA / 2)
        });
        daemon.kill();
        let said = until_not_refused(&place);
        assert_eq!((said.code, said.count("/verdicts/replayed")), (Some(0), 80), "{said:#?}");
        let (live, replayed) = by_kind(&provider);
        assert!((60..LIVE).contains(&live.len()), "it was killed on the way: {}", live.len());
        assert_eq!(replayed.len(), 80);
        provider.assert_content();
    });
}

#[test]
fn its_options_work_as_without_it() {
    on_every_broker(|bed, build| {
        let (provider, rest) = counting("");
        let place = place(bed, build, &rest, &wanted(60));
        let began = Instant::now();
        let patch = ".n |= \"patched-\\(.)\"";
        let said = place.replay(&["--standalone", "--limit", "41", "--rate", "10/s", "--patch", patch]);
        assert!(began.elapsed() >= Duration::from_secs(3), "41 at 10/s");
        assert_eq!((said.code, said.count("/verdicts/replayed")), (Some(0), 41), "{said:#?}");
        assert_eq!(said.json["ended"], "limit");
        assert!(accepted(&provider).iter().all(|entry| entry.content.contains("patched-")));
        let dry = place.replay(&["--standalone", "--dry-run"]);
        assert_eq!((dry.code, dry.count("/would_ask")), (Some(0), 19), "{dry:#?}");
        let said = place.replay(&["--standalone", "--route", "original", "--class", "rejected"]);
        assert_eq!((said.code, said.count("/verdicts/replayed")), (Some(0), 19), "{said:#?}");
        assert_each_once(&provider, 60);
        let said = Said::of(&mut place.start(&["--yes", "--standalone", "--no-wait"]));
        assert_eq!(said.code, Some(2), "{said:#?}");
    });
}

#[test]
fn a_share_that_the_config_fixes_is_its_share_too() {
    on_every_broker(|bed, build| {
        let (provider, rest) = counting(", share = \"static\", max_replicas = 4");
        let place = place(bed, build, &rest, &wanted(40));
        let said = place.replay(&["--standalone"]);
        assert_eq!((said.code, said.count("/verdicts/replayed")), (Some(0), 40), "{said:#?}");
        assert_each_once(&provider, 40);
        let times: Vec<u64> = accepted(&provider).iter().map(|entry| entry.at_ns).collect();
        let most = times
            .iter()
            .map(|from| times.iter().filter(|at| (*from..from + 1_000_000_000).contains(at)).count());
        assert!(most.max() <= usize::try_from(QUOTA / 4).ok(), "a quarter: {times:?}");
    });
}

#[test]
fn leases_are_taken_where_replicas_have_leases() {
    on_every_broker(|bed, build| {
        if bed.settings().contains_key("brokers") {
            return; // buckets are a thing of NATS
        }
        let (provider, rest) = counting(", share = \"nats_kv\", share_source = \"live\", max_replicas = 2");
        let place = place(bed, build, &rest, &wanted(60));
        let said = place.replay(&["--standalone"]);
        assert_eq!((said.code, said.count("/verdicts/replayed")), (Some(0), 60), "{said:#?}");
        assert_each_once(&provider, 60);
    });
}

/// Whoever is not refused shares the quota by what it reads of the requests.
#[test]
fn two_who_begin_at_once_cause_each_replay_once_within_one_quota() {
    on_every_broker(|bed, build| {
        let (provider, rest) = counting("");
        let place = place(bed, build, &rest, &wanted(200));
        let mut runs = [place.start(ALONE), place.start(ALONE)];
        let runs = runs.each_mut().map(Said::of);
        for run in &runs {
            let is_refused = run.aside.contains("--standalone is for when no daemon runs");
            assert_eq!(run.code, Some(i32::from(is_refused)), "{run:#?}");
        }
        assert!(runs.iter().any(|run| run.code == Some(0)), "{runs:#?}");
        assert_eq!(states(&place), [(State::Replayed, 200)].into());
        let accepted = accepted(&provider);
        let rooms: BTreeSet<_> = accepted.iter().map(|entry| entry.room.clone()).collect();
        assert_eq!(rooms.len(), 200);
        assert!(accepted.iter().all(|entry| entry.resend), "what is sent twice is marked");
        provider.assert_content();
    });
}

/// Letters that are `requested` without a request: a run that was killed. Nothing of them comes, ever.
#[test]
fn letters_whose_request_was_never_written_are_not_waited_for_without_end() {
    on_every_broker(|bed, build| {
        let (provider, rest) = counting("");
        let place = place(bed, build, &rest, &wanted(12));
        place.put((0..5).map(|number| (place.letters[number], State::Requested)));
        let said = place.replay(&["--standalone"]);
        assert_eq!((said.code, said.count("/verdicts/replayed")), (Some(0), 7), "{said:#?}");
        assert_eq!(said.json["earlier"], json!({ "ended": 0, "left": 5 }), "{said:#?}");
        let said = place.replay(&["--standalone", "--state", "requested"]);
        assert_eq!((said.code, said.count("/verdicts/replayed")), (Some(0), 5), "{said:#?}");
        assert_eq!(said.json["earlier"], json!({ "ended": 0, "left": 0 }), "{said:#?}");
        assert_each_once(&provider, 12);
        place.deliver(&[Sample { key: "k".to_owned(), value: b"{}".to_vec(), headers: Vec::new() }]);
    });
}
