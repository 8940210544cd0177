//! Trouble with the provider: a ban, an outage, time-outs, revoked tokens, answers that get lost.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use sha1::{Digest, Sha1};

use crate::bed::{Bed, Event, await_metric, line_route, lines, lines_from, on_both};
use crate::support::daemon::Daemon;
use crate::support::oracle::{Owed, judge};
use crate::support::provider::{Entry, Kind, Provider};
use crate::support::{ask_until, http};

const PATIENCE: Duration = Duration::from_secs(90);
const ROOMS: u64 = 20;
/// Answers that get lost where some do: two for every fourth room.
const LOST: u64 = 2 * ROOMS / 4;

/// Lines of the rooms from 5001 on go to Easemob, the others to Yunxin.
fn both(easemob: &Provider, yunxin: &Provider, more: &str) -> String {
    let quota = "quota = { calls_per_second = 100, room_messages_per_second = 100 }";
    let easemob_quota =
        "quota = { calls_per_second = 100, messages_per_second = 100, room_messages_per_second = 100 }";
    [
        easemob.account("live", &format!("{easemob_quota}\n{more}")),
        yunxin.account("match", &format!("{quota}\n{more}")),
        line_route("live", "when = '.type == \"live\"'").replace("\"lines\"", "\"live\""),
        line_route("match", ""),
    ]
    .concat()
}

/// The same lines for both: rooms of Easemob are numbered 4,000 higher.
fn events(lines: &[Owed]) -> (Vec<Event>, BTreeSet<Owed>) {
    let live = |line: &Owed| {
        let room: u64 = line.room.parse().expect("rooms are numbers here");
        Owed { room: (room + 4_000).to_string(), sequence: line.sequence }
    };
    let owed: BTreeSet<Owed> = lines.iter().map(live).collect();
    let event = |line: &Owed| {
        let line = live(line);
        Event::new(&line.room, json!({"type": "live", "text": line.token()}).to_string())
    };
    (lines.iter().flat_map(|line| [event(line), Event::line(line)]).collect(), owed)
}

#[track_caller]
fn await_accepted(provider: &Provider, at_least: u64) {
    ask_until(&format!("{at_least} acceptances"), PATIENCE, || {
        provider.accepted().filter(|accepted| *accepted >= at_least)
    });
}

/// The gate of an account's path to rooms, as `/api/status` has it.
fn gate(daemon: &Daemon, account: &str) -> Option<Value> {
    let status = daemon.status()?;
    let account = status["accounts"].as_array()?.iter().find(|found| found["name"] == account)?;
    Some(account["paths"]["room"]["gate"].clone())
}

#[track_caller]
fn await_gate(daemon: &Daemon, account: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    ask_until(&format!("the gate of {account}"), PATIENCE, || gate(daemon, account).filter(&wanted))
}

fn closed_by(cause: &str) -> impl Fn(&Value) -> bool {
    move |gate| gate["cause"] == cause && gate["state"] != "open"
}

/// Somebody else uses the same key, until the provider bans it.
fn burst(provider: &Provider) {
    let banned = AtomicBool::new(false);
    let call_on = &|caller: usize| {
        let mut numbers = 0..200;
        while !banned.load(Ordering::Relaxed) {
            let number = numbers.next().expect("the burst brings the ban");
            let answer = foreign_call(provider, caller * 1_000 + number).expect("the simulator answers");
            // Not any 416: the answer to an accepted call holds the time in milliseconds.
            banned.fetch_or(answer.body.contains("\"code\":416"), Ordering::Relaxed);
        }
    };
    thread::scope(|scope| {
        for caller in 0..8 {
            scope.spawn(move || call_on(caller));
        }
    });
}

/// Somebody else's call under the same key: signed, well formed, of no interest.
fn foreign_call(provider: &Provider, number: usize) -> Option<http::Answer> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is past 1970").as_secs().to_string();
    let nonce = number.to_string();
    let sum: String =
        Sha1::digest(format!("secret{nonce}{now}")).iter().map(|byte| format!("{byte:02x}")).collect();
    let headers = [("AppKey", "key"), ("Nonce", &nonce), ("CurTime", &now), ("CheckSum", &sum)];
    let form = format!("roomid=9&msgId=foreign-{number}&fromAccid=other&msgType=0&attach=x&resendFlag=0");
    http::post_form(&format!("{}/chatroom/sendMsg.action", provider.base_url()), &headers, form)
}

/// Calls of roomcast to rooms, by arrival: the time in nanoseconds and whether accepted.
fn own(entries: &[Entry]) -> Vec<(u64, bool)> {
    let own = entries.iter().filter(|entry| entry.path == "room" && Owed::find(&entry.content).is_some());
    own.map(|entry| (entry.at_ns, entry.accepted)).collect()
}

on_both!(
    a_ban_closes_one_gate_and_one_probe_opens_it,
    an_outage_pauses_and_a_revoked_token_costs_one_login,
    lost_answers_are_repeated_under_their_id,
    limits_below_ours_slow_us_down_and_bury_nothing
);

fn a_ban_closes_one_gate_and_one_probe_opens_it(bed: &Bed) {
    let yunxin = Provider::start(
        Kind::Yunxin,
        &["--latency", "20ms", "--calls-per-second", "60", "--calls-extend-ban"],
    );
    let easemob = Provider::start(Kind::Easemob, &["--no-limits"]);
    let more = "";
    let config = both(&easemob, &yunxin, more)
        .replace("quota = { calls_per_second = 100, room", "quota = { calls_per_second = 50, room");
    let mut daemon = Daemon::start_ready(&[config, bed.source("")].concat());
    let first = lines(ROOMS, 400);
    let (events_first, mut live) = events(&first);
    bed.publish(events_first);
    await_accepted(&yunxin, 60);
    burst(&yunxin);
    let gate = await_gate(&daemon, "match", closed_by("ban"));
    assert!(gate["reopens_in_seconds"].as_f64() > Some(5.0), "{gate}");
    assert_eq!(
        daemon.metric("roomcast_gate_closed", "account=\"match\",path=\"room\",cause=\"ban\""),
        Some(1.0)
    );
    assert_eq!(daemon.metric("roomcast_account_up", "account=\"match\""), Some(0.0));
    assert_eq!(daemon.metric("roomcast_account_up", "account=\"live\""), Some(1.0));
    // The other account goes on meanwhile, with what was there and with what is new.
    let second = lines_from(400, ROOMS, 100);
    let (events_second, more_live) = events(&second);
    bed.publish(events_second);
    live.extend(more_live);
    await_accepted(&easemob, 500);
    assert!(closed_by("ban")(&self::gate(&daemon, "match").expect("it answers")), "still banned");
    bed.await_finished(PATIENCE);
    assert_eq!(daemon.stop().code(), Some(0));

    let entries = yunxin.log();
    let calls = own(&entries);
    // The gate can only know of the ban from the first answer to an own call; what left with that call
    // (they go in one bunch, when slots come free) is refused as well.
    let began = calls.iter().find(|(_, accepted)| !accepted).expect("the ban meets roomcast").0;
    let seconds = |at: u64| Duration::from_nanos(at.saturating_sub(began)).as_secs_f64();
    let during: Vec<f64> =
        calls.iter().map(|(at, _)| seconds(*at)).filter(|at| (0.2..10.0).contains(at)).collect();
    assert_eq!(during, Vec::<f64>::new(), "calls during the ban");
    let after: Vec<(f64, bool)> =
        calls.iter().map(|(at, accepted)| (seconds(*at), *accepted)).filter(|(at, _)| *at >= 10.0).collect();
    assert!(after[0].0 < 12.0 && after[0].1, "one probe after ten seconds, accepted: {:?}", after[0]);
    assert!(after[1].0 - after[0].0 >= 0.02, "nothing goes before the probe's answer: {:?}", &after[..2]);
    let refused = calls.iter().filter(|(_, accepted)| !accepted).count();
    assert!(
        refused <= usize::try_from(ROOMS).expect("few"),
        "only calls that were away were refused: {refused}"
    );
    let owed: BTreeSet<Owed> = first.into_iter().chain(second).collect();
    let judgement = judge(&owed, &entries, &BTreeSet::new());
    judgement.assert_kept();
    assert_eq!(judgement.repeated_unmarked, Vec::<String>::new());
    judge(&live, &easemob.log(), &BTreeSet::new()).assert_kept();
    easemob.assert_content();
    assert_eq!(bed.letters_if_any(), [], "a ban buries nothing");
}

fn an_outage_pauses_and_a_revoked_token_costs_one_login(bed: &Bed) {
    let easemob = Provider::start(Kind::Easemob, &["--no-limits"]);
    let mut yunxin = Provider::start(Kind::Yunxin, &["--no-limits"]);
    let mut daemon =
        Daemon::start_ready(&[both(&easemob, &yunxin, "timeout = \"1s\""), bed.source("")].concat());
    let first = lines(ROOMS, 200);
    let (published, mut live) = events(&first);
    bed.publish(published);
    await_accepted(&easemob, 40);
    await_accepted(&yunxin, 40);
    // Connections are refused for a while; Yunxin then hangs as well.
    let refuse = json!({"effect": "outage", "for_ms": 3_000});
    easemob.set_faults(&refuse);
    yunxin.set_faults(&refuse);
    for account in ["live", "match"] {
        await_gate(&daemon, account, closed_by("outage"));
        assert_eq!(daemon.metric("roomcast_account_up", account), Some(0.0));
    }
    assert!(daemon.metric("roomcast_waiting_messages", "cause=\"gate\"") > Some(0.0));
    let second = lines_from(200, ROOMS, 100);
    let (published, more_live) = events(&second);
    bed.publish(published);
    live.extend(more_live);
    await_accepted(&yunxin, 100);
    yunxin.process().signal(libc::SIGSTOP);
    await_gate(&daemon, "match", closed_by("outage"));
    assert_eq!(
        daemon.metric("roomcast_gate_closed", "account=\"match\",path=\"room\",cause=\"outage\""),
        Some(1.0)
    );
    yunxin.process().signal(libc::SIGCONT);
    await_accepted(&easemob, 200);
    easemob.set_faults(&json!({"effect": "revoke_tokens", "count": 1}));
    bed.await_finished(PATIENCE);
    // The token may have died on the very last call: the next one logs in.
    let third = lines_from(300, ROOMS, 40);
    let (published, more_live) = events(&third);
    bed.publish(published);
    live.extend(more_live);
    bed.await_finished(PATIENCE);
    assert_eq!(daemon.stop().code(), Some(0));
    assert_eq!(easemob.stats()["tokens"], 2, "the first login, and one after the token was revoked");
    let owed: BTreeSet<Owed> = first.into_iter().chain(second).chain(third).collect();
    let game = judge(&owed, &yunxin.log(), &BTreeSet::new());
    game.assert_kept();
    assert_eq!(game.repeated_unmarked, Vec::<String>::new(), "what hung is repeated with its mark");
    judge(&live, &easemob.log(), &BTreeSet::new()).assert_kept();
    assert_eq!(yunxin.stats()["warnings"], json!({}));
    assert_eq!(easemob.stats()["warnings"], json!({}));
    assert_eq!(bed.letters_if_any(), [], "an outage buries nothing");
}

fn lost_answers_are_repeated_under_their_id(bed: &Bed) {
    let easemob = Provider::start(Kind::Easemob, &["--no-limits"]);
    let yunxin = Provider::start(Kind::Yunxin, &["--no-limits"]);
    // Two lost answers for every fourth room: never three for one message, which would be given up on
    // Easemob, and few enough that a probe finds a good one soon; and one room where all are lost.
    let lost = |first: u64| -> Vec<Value> {
        let rule = |room: u64| json!({"effect": "drop_after", "rooms": [room.to_string()], "after": room % 3, "count": 2});
        (first..first + ROOMS).step_by(4).map(rule).collect()
    };
    let mut live_faults = lost(5_001);
    live_faults.push(json!({"effect": "drop_after", "rooms": ["6001"]}));
    easemob.set_faults(&Value::from(live_faults));
    yunxin.set_faults(&Value::from(lost(1_001)));
    let mut daemon = Daemon::start_ready(&[both(&easemob, &yunxin, ""), bed.source("")].concat());
    let all = lines(ROOMS, 200);
    let (mut published, mut live) = events(&all);
    let hopeless = Owed { room: "6001".to_owned(), sequence: 0 };
    published.push(Event::new("6001", json!({"type": "live", "text": hopeless.token()}).to_string()));
    bed.publish(published);
    await_accepted(&easemob, 200 + LOST);
    // Its failures are its own only while others of the account are accepted in between.
    let (published, more_live) = events(&lines_from(200, ROOMS, 100));
    live.extend(more_live);
    bed.publish(published);
    await_metric(
        &daemon,
        "roomcast_messages_total",
        "account=\"live\",fate=\"letter\",kind=\"uncertain\"",
        1.0,
        PATIENCE,
    );
    bed.await_finished(PATIENCE);
    assert_eq!(daemon.stop().code(), Some(0));
    let owed: BTreeSet<Owed> = all.into_iter().chain(lines_from(200, ROOMS, 100)).collect();
    let game = judge(&owed, &yunxin.log(), &BTreeSet::new());
    game.assert_kept();
    let repeats = usize::try_from(LOST).expect("few");
    assert_eq!((game.repeated_marked, game.repeated_unmarked), (repeats, Vec::new()), "Yunxin");
    live.insert(hopeless);
    let live = judge(&live, &easemob.log(), &BTreeSet::new());
    live.assert_kept();
    // Easemob has no mark: the id in `ext` is all, and `assert_kept` says that it stayed.
    assert_eq!(
        live.repeated_unmarked.iter().filter(|token| !token.contains("6001")).count(),
        repeats,
        "Easemob"
    );
    let letters = bed.letters();
    assert_eq!(letters.len(), 1, "{letters:?}");
    let header = |name: &str| letters[0].headers[&format!("roomcast-{name}")].as_str();
    assert_eq!((header("class"), header("rooms")), ("uncertain", "[\"6001\"]"));
    assert!(header("attempts").parse::<u32>().is_ok_and(|attempts| attempts >= 3), "{}", header("attempts"));
    easemob.assert_content();
    yunxin.assert_content();
}

/// Easemob's two refusals for speed: 429 for calls, 403 with a text for messages.
fn limits_below_ours_slow_us_down_and_bury_nothing(bed: &Bed) {
    let calls = Provider::start(Kind::Easemob, &["--calls-per-second", "5"]);
    let messages = Provider::start(Kind::Easemob, &["--messages-per-second", "5"]);
    let config = [
        calls.account("live", ""),
        messages.account("match", ""),
        line_route("live", "when = '.type == \"live\"'").replace("\"lines\"", "\"live\""),
        line_route("match", ""),
        bed.source(""),
    ];
    let mut daemon = Daemon::start_ready(&config.concat());
    let all = lines(ROOMS, 40);
    let (published, live) = events(&all);
    bed.publish(published);
    bed.await_finished(PATIENCE);
    assert_eq!(daemon.stop().code(), Some(0));
    for (provider, owed) in [(&calls, live), (&messages, all.into_iter().collect())] {
        let judgement = judge(&owed, &provider.log(), &BTreeSet::new());
        judgement.assert_kept();
        assert_eq!(judgement.repeated_unmarked, Vec::<String>::new(), "a refusal is no acceptance");
        assert!(!judgement.refused.is_empty(), "the limit was met");
        assert_eq!(provider.stats()["warnings"], json!({}));
    }
    assert_eq!(bed.letters_if_any(), [], "a throttle buries nothing");
}
