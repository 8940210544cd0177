//! `roomcast letters replay` as a process, on real Kafka and real NATS. The daemon's part is played by hand:
//! what is asked for is read as the daemons read it, and rows say what became of it. Run with
//! `.ci/test --test letters_replay`.

mod alone;
mod bed;
#[path = "../brokers/beds.rs"]
#[expect(dead_code, reason = "the conformance suite uses the rest of it")]
mod beds;
#[path = "../brokers/source.rs"]
#[expect(dead_code, reason = "the conformance suite uses the rest of it")]
mod source;
#[path = "../support/mod.rs"]
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::thread;
use std::time::{Duration, Instant};

use bed::{ACCOUNT, PATIENCE, Place, Said, Wanted, row};
use beds::{BEDS, Bed, Sample};
use roomcast::broker::{BROKERS, Build};
use roomcast::core::letter::LetterId;
use roomcast::core::model::Class;
use roomcast::core::replay::{Content, Row, State};
use support::ask_until;
use support::daemon::{Daemon, TOKEN};
use support::provider::{Kind, Provider};

/// One route, which makes something of every event.
const ROUTES: &str = "[[routes]]\nname = \"gifts\"\naccount = \"live\"\nrooms = '$key'\n\
    message = { kind = \"text\", text = '.n | tostring' }\n";

/// Runs a test on every broker, each in a thread that bears its name, so that a failure says which.
fn on_every_broker(test: fn(Box<dyn Bed>, Build)) {
    thread::scope(|scope| {
        for (kind, build) in BROKERS {
            let run = move || {
                let (_, make) = BEDS.iter().find(|(name, _)| name == kind).expect("every broker has a bed");
                test(make(), *build);
            };
            thread::Builder::new().name((*kind).to_owned()).spawn_scoped(scope, run).expect("a thread");
        }
    });
}

fn wanted(count: usize) -> Vec<Wanted> {
    (0..count).map(Wanted::new).collect()
}

fn states(place: &Place) -> BTreeMap<State, usize> {
    let rows = place.rows();
    let mut states = BTreeMap::new();
    rows.values().for_each(|row| *states.entry(row.state).or_default() += 1);
    states
}

#[test]
fn every_letter_is_asked_for_once_and_the_summary_adds_up_with_the_table() {
    on_every_broker(|bed, build| {
        let place = Place::with(bed, build, &[ACCOUNT, ROUTES].concat(), &wanted(60));
        let letter = |number: usize| place.letters[number];
        place.put((0..4).map(|number| (letter(number), State::Discarded)));
        place.put((4..7).map(|number| (letter(number), State::Parked)));
        place.put([(letter(7), State::Requested), (letter(8), State::Replayed)]);
        let reader = place.reader();
        let player = place.play(|request, record| {
            let number: serde_json::Value = serde_json::from_slice(record.value.as_deref()?).ok()?;
            Some(match number["n"].as_u64()? % 10 {
                0 => row(State::Replayed, Some(request.told.letter)),
                1 => row(State::Parked, None),
                2 => row(State::Open, None),
                3 => row(State::Discarded, None),
                _ => row(State::Replayed, None),
            })
        });
        let said = place.replay(&["--why", "room was renamed", "--keep-ttl", "--route", "original"]);
        assert_eq!(said.code, Some(0), "{said:#?}");
        assert_eq!((said.count("/meant"), said.count("/asked")), (60, 51));
        for (state, count) in
            [("discarded", 4), ("parked", 3), ("requested", 1), ("replayed", 1), ("open", 0)]
        {
            assert_eq!(said.count(&format!("/skipped/{state}")), count, "{state}: {said:#?}");
        }
        // 9 to 59: five of each last digit but 9, of which there are six.
        for (verdict, count) in [
            ("failed_again", 5),
            ("parked", 5),
            ("open_again", 5),
            ("discarded", 5),
            ("replayed", 31),
            ("left", 0),
        ] {
            assert_eq!(said.count(&format!("/verdicts/{verdict}")), count, "{verdict}: {said:#?}");
        }
        let seen = player.stop();
        let ids: BTreeSet<LetterId> = seen.iter().map(|(request, _)| request.told.letter).collect();
        assert_eq!((seen.len(), ids), (51, place.letters[9..].iter().copied().collect()));
        for (request, record) in &seen {
            assert!(request.asked.keep_ttl && request.asked.content == Content::Original);
            assert_eq!(serde_json::json!(request.asked.id), said.json["request"]);
            assert!(request.asked.by.contains('@'), "{:?}", request.asked);
            assert_eq!(record.header("own"), Some(&b"kept"[..]));
        }
        let expected = [
            (State::Open, 5),
            (State::Requested, 1),
            (State::Replayed, 37),
            (State::Discarded, 9),
            (State::Parked, 8),
        ];
        assert_eq!(states(&place), expected.into());
        reader.stop();
    });
}

#[test]
fn rows_say_who_asked_before_the_requests_are_there_and_others_states_are_reached_by_name() {
    on_every_broker(|bed, build| {
        let place = Place::with(bed, build, &[ACCOUNT, ROUTES].concat(), &wanted(20));
        let letter = |number: usize| place.letters[number];
        // A process that was killed between the row and the request.
        place.put((0..5).map(|number| (letter(number), State::Requested)));
        place.put((5..8).map(|number| (letter(number), State::Parked)));
        let said = place.replay(&["--state", "requested", "--why", "again"]);
        assert_eq!((said.code, said.count("/meant"), said.count("/asked")), (Some(0), 5, 5), "{said:#?}");
        assert_eq!(said.count("/verdicts/left"), 5, "nobody reads");
        assert!(said.aside.contains("No daemon reads source live"), "{said:#?}");
        let rows = place.rows();
        for number in 0..5 {
            let row = &rows[&letter(number)];
            assert_eq!((row.state, row.why.as_str()), (State::Requested, "again"));
            assert!(row.by.contains('@') && row.by != "bob@desk", "{row:?}");
            assert_eq!(serde_json::json!(row.request), said.json["request"]);
        }
        assert_eq!(place.replay(&["--state", "parked", "--limit", "1"]).count("/asked"), 1);
        let parked = letter(7).to_string();
        let said = place.replay(&[&parked, &letter(0).to_string()]);
        assert_eq!((said.count("/asked"), said.count("/skipped/requested")), (1, 1), "{said:#?}");
        let said = place.replay(&["--no-wait"]);
        assert_eq!((said.count("/asked"), said.count("/meant")), (12, 20), "{said:#?}");
        // What a daemon finds when it comes.
        let player = place.play(|_, _| Some(row(State::Replayed, None)));
        ask_until("the last request", PATIENCE, || {
            (states(&place).get(&State::Replayed) == Some(&19)).then_some(())
        });
        player.stop();
    });
}

#[test]
fn two_who_ask_at_once_cause_each_replay_once() {
    on_every_broker(|bed, build| {
        let place = Place::with(bed, build, &[ACCOUNT, ROUTES].concat(), &wanted(300));
        let reader = place.reader();
        // As daemons do, one that comes again after it is done changes nothing: the same row.
        let player = place.play(|_, _| Some(row(State::Replayed, None)));
        let arguments = ["--format", "json", "--yes"];
        let (mut one, mut other) = (place.start(&arguments), place.start(&arguments));
        let (one, other) = (Said::of(&mut one), Said::of(&mut other));
        assert_eq!((one.code, other.code), (Some(0), Some(0)), "{one:#?} {other:#?}");
        let asked = one.count("/asked") + other.count("/asked");
        assert!(asked >= 300, "{asked}");
        let requests = if place.keeps_requests_apart() { 300 } else { asked };
        ask_until("all requests", PATIENCE, || (player.seen().len() as u64 >= requests).then_some(()));
        let seen = player.stop();
        assert_eq!(seen.len() as u64, requests, "on Kafka the daemon tells them apart by the row");
        let ids: BTreeSet<LetterId> = seen.iter().map(|(request, _)| request.told.letter).collect();
        assert_eq!(ids, place.letters.iter().copied().collect());
        for said in [&one, &other] {
            assert_eq!(said.count("/meant"), 300, "{said:#?}");
            assert_eq!(said.count("/verdicts/left"), 0, "{said:#?}");
        }
        if place.keeps_requests_apart() {
            assert_eq!(asked, 300, "each letter is asked for by one of them: {one:#?} {other:#?}");
        }
        assert_eq!(states(&place), [(State::Replayed, 300)].into());
        reader.stop();
    });
}

/// The requests of before stand in the topic still. On JetStream each is followed by one more, whoever asks.
#[test]
fn what_stayed_open_is_asked_for_again_and_by_two_at_once_once() {
    on_every_broker(|bed, build| {
        let place = Place::with(bed, build, &[ACCOUNT, ROUTES].concat(), &wanted(60));
        let reader = place.reader();
        for _ in 0..2 {
            let player = place.play(|request, _| {
                Some(Row {
                    request: Some(request.asked.id),
                    why: "gone".to_owned(),
                    ..row(State::Open, None)
                })
            });
            let said = place.replay(&[]);
            assert_eq!((said.count("/asked"), said.count("/requested_before")), (60, 0), "{said:#?}");
            assert_eq!(said.count("/verdicts/open_again"), 60, "{said:#?}");
            assert_eq!(player.stop().len(), 60);
        }
        let player = place.play(|_, _| Some(row(State::Replayed, None)));
        let arguments = ["--format", "json", "--yes"];
        let (mut one, mut other) = (place.start(&arguments), place.start(&arguments));
        let (one, other) = (Said::of(&mut one), Said::of(&mut other));
        let asked = one.count("/asked") + other.count("/asked");
        assert!(asked == 60 || !place.keeps_requests_apart(), "{one:#?} {other:#?}");
        ask_until("all requests", PATIENCE, || (player.seen().len() as u64 >= asked).then_some(()));
        let seen = player.stop();
        assert_eq!(seen.len() as u64, asked);
        let ids: BTreeSet<LetterId> = seen.iter().map(|(request, _)| request.told.letter).collect();
        assert_eq!(ids, place.letters.iter().copied().collect());
        assert_eq!(states(&place), [(State::Replayed, 60)].into());
        reader.stop();
    });
}

#[test]
fn a_run_that_is_interrupted_finishes_what_is_in_progress_and_the_next_goes_on() {
    on_every_broker(|bed, build| {
        let place = Place::with(bed, build, &[ACCOUNT, ROUTES].concat(), &wanted(400));
        let reader = place.reader();
        let player = place.play(|_, _| None);
        let mut first = place.start(&["--format", "json", "--yes", "--rate", "50/s"]);
        ask_until("the first requests", PATIENCE, || (player.seen().len() >= 20).then_some(()));
        first.signal(libc::SIGINT);
        let first = Said::of(&mut first);
        let asked = first.count("/asked");
        assert_eq!(
            (first.code, &first.json["ended"]),
            (Some(1), &serde_json::json!("stopped")),
            "{first:#?}"
        );
        assert!((20..400).contains(&asked) && first.count("/meant") == asked, "{first:#?}");
        assert!(first.aside.contains("once more ends at once"), "{first:#?}");
        assert_eq!(states(&place), [(State::Requested, usize::try_from(asked).unwrap())].into());
        // While it waits it can be interrupted as well.
        let mut second = place.start(&["--format", "json", "--yes"]);
        ask_until("the other requests", PATIENCE, || (player.seen().len() >= 400).then_some(()));
        second.signal(libc::SIGINT);
        let second = Said::of(&mut second);
        assert_eq!(second.count("/asked"), 400 - asked, "{second:#?}");
        assert_eq!(second.count("/skipped/requested"), asked, "{second:#?}");
        assert_eq!((second.code, second.count("/verdicts/left")), (Some(1), 400 - asked));
        let seen = player.stop();
        let ids: BTreeSet<LetterId> = seen.iter().map(|(request, _)| request.told.letter).collect();
        assert_eq!((seen.len(), ids.len()), (400, 400));
        reader.stop();
    });
}

#[test]
fn a_patch_changes_the_value_and_leaves_letters_open_for_which_it_fails() {
    on_every_broker(|bed, build| {
        let mut wanted = wanted(30);
        wanted[3].value = "no JSON".to_owned();
        wanted[4].value = r#"{"n":"four"}"#.to_owned();
        wanted[5].is_truncated = true;
        let place = Place::with(bed, build, &[ACCOUNT, ROUTES].concat(), &wanted);
        let reader = place.reader();
        let player = place.play(|_, _| Some(row(State::Replayed, None)));
        let patch = ".n |= . + 1 | .room = $key | .by = $headers.Own";
        let said = place.replay(&["--patch", patch]);
        assert_eq!(
            (said.code, said.count("/patch_failed"), said.count("/asked")),
            (Some(1), 2, 28),
            "{said:#?}"
        );
        let notes = said.json["notes"].as_array().expect("a list");
        assert_eq!(notes.len(), 2);
        for (note, number) in notes.iter().zip([3, 4]) {
            assert_eq!(note["letter"], serde_json::json!(place.letters[number]), "{said:#?}");
            assert!(note["why"].as_str().is_some_and(|why| why.starts_with("the patch: ")), "{said:#?}");
        }
        let seen = player.stop();
        for (request, record) in seen {
            let number =
                place.letters.iter().position(|letter| *letter == request.told.letter).expect("one of ours");
            let value: serde_json::Value =
                serde_json::from_slice(record.value.as_deref().expect("a value")).unwrap();
            let key = format!("room-{}", number % 7);
            assert_eq!(
                value,
                serde_json::json!({ "type": "gift", "n": number + 1, "room": key, "by": "kept" })
            );
            assert_eq!(request.told.truncated, None);
        }
        let rows = place.rows();
        assert!(!rows.contains_key(&place.letters[3]) && !rows.contains_key(&place.letters[4]));
        reader.stop();
    });
}

#[test]
fn limit_and_rate_are_kept() {
    on_every_broker(|bed, build| {
        let place = Place::with(bed, build, &[ACCOUNT, ROUTES].concat(), &wanted(80));
        let began = Instant::now();
        let said = place.replay(&["--limit", "61", "--rate", "20/s", "--no-wait"]);
        let took = began.elapsed();
        assert_eq!((said.code, said.count("/asked")), (Some(0), 61), "{said:#?}");
        assert_eq!(said.json["ended"], "limit");
        assert!((Duration::from_secs(3)..Duration::from_secs(60)).contains(&took), "{took:?}");
        assert_eq!(states(&place), [(State::Requested, 61)].into());
        let said = place.replay(&["--no-wait"]);
        assert_eq!((said.count("/asked"), said.count("/skipped/requested")), (19, 61), "{said:#?}");
    });
}

/// Routes with a short and a long time-to-live, and one that drops.
const THREE_ROUTES: &str = "[[routes]]\nname = \"old\"\nwhen = '.old'\naccount = \"live\"\nttl = \"1s\"\n\
    message = { kind = \"text\", text = '.n | tostring' }\n\
    [[routes]]\nname = \"dropped\"\nwhen = '.dropped'\ndrop = true\n\
    [[routes]]\nname = \"gifts\"\naccount = \"live\"\nttl = \"1h\"\n\
    message = { kind = \"text\", text = '.n | tostring' }\n";

/// Every figure for letters of which all is known.
#[test]
fn a_dry_run_tells_exactly_what_would_be_done_and_does_nothing() {
    on_every_broker(|bed, build| {
        let mut wanted: Vec<Wanted> = (0..40)
            .map(|number| Wanted {
                key: format!("key-{number}"),
                room: format!("room-{}", if number < 28 { number % 4 } else { number }),
                ..Wanted::new(number)
            })
            .collect();
        wanted[..5].iter_mut().for_each(|wanted| wanted.value = r#"{"n":1,"old":true}"#.to_owned());
        wanted[5..8].iter_mut().for_each(|wanted| wanted.class = Class::RoomGone);
        wanted[8..10].iter_mut().for_each(|wanted| wanted.value = r#"{"dropped":true}"#.to_owned());
        wanted[10].value = r#"{"type":"gift","n":[]"#.to_owned();
        wanted[11..13].iter_mut().for_each(|wanted| wanted.is_truncated = true);
        let place = Place::with(bed, build, &[ACCOUNT, THREE_ROUTES].concat(), &wanted);
        place.put([(place.letters[38], State::Replayed), (place.letters[39], State::Discarded)]);
        // Delivered since: of the keys of six letters, one of which is replayed.
        let since = [20, 21, 22, 23, 24, 38].map(|number| Sample {
            key: format!("key-{number}"),
            value: b"{}".to_vec(),
            headers: Vec::new(),
        });
        place.deliver(&since);
        let last = place.records[4].timestamp.0;
        ask_until("the time-to-live to be over", PATIENCE, || (bed::wall().0 - last > 1_000).then_some(()));
        let said = place.replay(&["--dry-run"]);
        assert_eq!(said.code, Some(0), "{said:#?}");
        for (path, count) in [
            ("/meant", 40),
            ("/states/open", 38),
            ("/states/replayed", 1),
            ("/states/discarded", 1),
            ("/would_ask", 38),
            ("/classes/rejected", 35),
            ("/classes/room_gone", 3),
            ("/rooms_gone", 3),
            ("/expired", 5),
            ("/truncated/value_there", 2),
            ("/truncated/value_gone", 0),
            ("/older_than_a_finished_record/letters", 5),
            ("/dropped_by_routes", 2),
            ("/fail_again", 1),
            ("/sent/0/messages", 35),
            ("/sent/0/calls", 35),
            ("/other_rooms/rooms", 4),
            ("/other_rooms/letters", 4),
        ] {
            assert_eq!(said.count(path), count, "{path}: {said:#?}");
        }
        assert_eq!(said.json["older_than_a_finished_record"]["at_least"], false);
        assert_eq!(said.json["rooms"][0], serde_json::json!({ "room": "room-0", "letters": 7 }));
        let seconds = |key: &str| said.json["sent"][0][key].as_f64();
        // 35 calls at 20 a second, of which a tenth is kept back, and at a twentieth; each a millisecond late.
        for (key, wanted) in [("seconds_alone", 35.0 / 18.0 + 0.035), ("seconds_beside_full_traffic", 35.035)]
        {
            assert!(seconds(key).is_some_and(|time| (time - wanted).abs() < 0.001), "{key}: {said:#?}");
        }
        assert_eq!(seconds("seconds_now"), None, "no daemon answers");
        let limited = place.replay(&["--dry-run", "--limit", "3", "--patch", ".n += 1"]);
        assert_eq!((limited.count("/would_ask"), &limited.json["limited"]), (3, &serde_json::json!(true)));
        let text = Said::of(&mut place.start(&["--dry-run"]));
        let text = text.json.as_str().expect("a text").to_owned();
        for part in
            ["38 would be asked for", "5 are older than the time-to-live of", "Nothing was asked for."]
        {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert_eq!(place.rows().len(), 2, "nothing was asked for");
    });
}

/// The daemon itself: what it says in the table, what the provider accepted, and the summary agree.
#[test]
fn with_a_real_daemon_the_table_the_providers_log_and_the_summary_agree() {
    on_every_broker(|bed, build| {
        const REFUSED: &str = "1003";
        let rooms = ["--room", "1000", "--room", "1001", "--room", "1002", "--room", REFUSED];
        let provider = Provider::start(Kind::Yunxin, &[&["--no-limits"], &rooms[..]].concat());
        let illegal = serde_json::json!({"answer": {"status": 200, "code": 414, "description": "illegal"}});
        provider.set_faults(&serde_json::json!({"effect": illegal, "rooms": [REFUSED]}));
        let quota = "quota = { calls_per_second = 500, room_messages_per_second = 500 }";
        let dropped = "[[routes]]\nname = \"dropped\"\nwhen = '.dropped'\ndrop = true\n";
        let rest = [&provider.account("live", quota), dropped, ROUTES].concat();
        let wanted: Vec<Wanted> = (0..60)
            .map(|number| Wanted { room: (1_000 + number % 4).to_string(), ..Wanted::new(number) })
            .collect();
        let mut place = Place::with(bed, build, &rest, &wanted);
        let mut daemon = Daemon::start_ready(&place.config);
        let open = daemon.process().await_line("admin port open", PATIENCE);
        let open: serde_json::Value = serde_json::from_str(&open).expect("its log is JSON");
        place.configure(&format!("[admin]\nlisten = {}\ntoken = {TOKEN:?}\n", open["listen"]));
        // A JetStream reader knows that it is the one that is active, and has the quota, with its first record.
        place.publish_live(r#"{"dropped":true}"#);
        let dry = place.replay(&["--dry-run"]);
        assert_eq!((dry.count("/would_ask"), dry.count("/sent/0/messages")), (60, 60), "{dry:#?}");
        let now = dry.json["sent"][0]["seconds_now"].as_f64();
        assert_eq!(now, dry.json["sent"][0]["seconds_alone"].as_f64(), "it is idle: {dry:#?}");
        assert!(now.is_some_and(|now| now > 0.0));
        let said = place.replay(&["--why", "the provider had an outage"]);
        assert_eq!(said.code, Some(0), "{said:#?}");
        assert_eq!((said.count("/asked"), said.count("/verdicts/replayed")), (60, 45), "{said:#?}");
        assert_eq!(said.count("/verdicts/failed_again"), 15, "{said:#?}");
        let accepted: Vec<_> = provider.log().into_iter().filter(|entry| entry.accepted).collect();
        assert_eq!(accepted.len(), 45);
        assert!(accepted.iter().all(|entry| entry.resend && entry.room.as_deref() != Some(REFUSED)));
        let rows = place.rows();
        assert_eq!(states(&place), [(State::Replayed, 60)].into());
        assert_eq!(rows.values().filter(|row| row.next.len() == 1).count(), 15);
        // The new letters are open, and once the provider takes them the next run ends it.
        provider.set_faults(&serde_json::json!([]));
        let said = place.replay(&[]);
        assert_eq!(
            (said.count("/meant"), said.count("/asked"), said.count("/verdicts/replayed")),
            (75, 15, 15)
        );
        assert_eq!(said.count("/skipped/replayed"), 60);
        assert_eq!(provider.log().into_iter().filter(|entry| entry.accepted).count(), 60);
        assert!(daemon.stop().success());
    });
}

#[test]
fn what_is_wrong_is_said_before_anything_is_done() {
    on_every_broker(|bed, build| {
        let place = Place::with(bed, build, &[ACCOUNT, ROUTES].concat(), &wanted(1));
        for (arguments, told) in [
            (&["--format", "json"][..], "stdin is no terminal: give --yes"),
            (&["--yes", "--patch", ".a | fooo"], "--patch:1:6: found `fooo`, which is not known"),
            (&["--yes", "--rate", "50"], "is no rate; wanted a number and a time, such as 50/s"),
            (&["--yes", "--source", "live2"], "live"),
            (&["--yes", "--since", "yesterday"], "2026-01-31T08:00:00Z"),
        ] {
            let said = Said::of(&mut place.start(arguments));
            assert_eq!(said.code, Some(2), "{said:#?}");
            assert!(said.aside.contains(told), "{said:#?}");
        }
        assert!(place.rows().is_empty());
        let text = Said::of(&mut place.start(&["--yes"]));
        assert!(text.json.as_str().is_some_and(|text| text.contains("1  letter is meant")), "{text:#?}");
    });
}
