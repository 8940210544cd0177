//! Replays asked for over HTTP, on real brokers: the answers, the rows and the simulator's log agree.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::bed::{Bed, PATIENCE, SECRETS, field, on_both};
use crate::support::daemon::{Daemon, TOKEN};
use crate::support::provider::{Kind, Provider};
use crate::support::{ask_until, http};

on_both!(replays_are_asked_for_over_http, an_asking_ends_with_its_caller);

const PATH: &str = "/api/letters/replay";

/// A daemon with so many letters: their texts are none, or its provider refused them and takes them from now on.
fn failed(bed: &Bed, lines: usize, text: fn(usize) -> String) -> (Daemon, Provider) {
    let provider = Provider::start(Kind::Yunxin, &["--room", "1001", "--no-limits"]);
    let illegal = json!({ "answer": { "status": 200, "code": 414, "description": "illegal" } });
    provider.set_faults(&json!({ "effect": illegal, "rooms": ["1001"] }));
    let config = bed.config(&provider.account("acme", ""), "[letters]\nflood_guard = \"off\"\n");
    bed.write_config(&config);
    let texts: Vec<String> = (0..lines).map(|n| format!(r#"{{"type":"line","text":{}}}"#, text(n))).collect();
    bed.publish(&texts.iter().map(|text| ("1001", text.as_str())).collect::<Vec<_>>());
    let daemon = Daemon::start_ready(&config);
    await_count(&daemon, "open", lines);
    provider.set_faults(&json!([]));
    (daemon, provider)
}

/// Waits until so many letters are in that state.
fn await_count(daemon: &Daemon, state: &str, letters: usize) {
    ask_until(&format!("{letters} letters that are {state}"), PATIENCE, || {
        let counts = daemon.get_with_token(&format!("/api/letters/stats?state={state}"))?;
        let counts: Value = serde_json::from_str(&counts.body).ok()?;
        (counts["letters"] == letters).then_some(())
    });
}

/// Asks, and gives the lines of the answer back.
fn ask(daemon: &Daemon, order: &Value) -> Vec<Value> {
    let answer = daemon.post(PATH, order.to_string()).expect("the daemon answers");
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert!(answer.body.ends_with('\n') && SECRETS.iter().all(|secret| !answer.body.contains(secret)));
    answer.body.lines().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect()
}

/// The summary, after it was seen to add up.
fn summary(mut lines: Vec<Value>) -> Value {
    let summary = lines.pop().expect("a last line")["summary"].clone();
    let sum = |table: &Value| -> u64 {
        table.as_object().expect("a table").values().map(|count| count.as_u64().expect("a number")).sum()
    };
    let count = |key: &str| summary[key].as_u64().expect("a number");
    assert_eq!(count("asked"), sum(&summary["verdicts"]), "{summary:#}");
    let others = ["asked", "patch_failed", "value_gone", "not_written", "stuck"].map(count);
    assert_eq!(count("meant"), others.iter().sum::<u64>() + sum(&summary["skipped"]), "{summary:#}");
    summary
}

fn replays_are_asked_for_over_http(bed: &Bed) {
    const LINES: usize = 12;
    let (daemon, provider) = failed(bed, LINES, |n| format!("\"line {n}\""));
    let before = provider.log().len();
    let order =
        json!({ "which": { "class": ["rejected"] }, "by": "ann", "why": "the rooms are there again" });
    let url = format!("{}{PATH}", daemon.url());
    let token = format!("Bearer {TOKEN}");
    for (headers, status) in [
        (&[][..], 401),
        (&[("authorization", "Bearer of nothing")], 401),
        (&[("host", "evil.example")], 421),
        (&[("authorization", &token), ("origin", "https://evil.example")], 403),
        (&[("authorization", &token), ("sec-fetch-site", "cross-site")], 403),
    ] {
        let answer = http::post(&url, headers, order.to_string()).expect("the daemon answers");
        assert_eq!(answer.status, status, "{headers:?}: {}", answer.body);
    }

    let mut dry = order.clone();
    dry["dry_run"] = true.into();
    let plan = ask(&daemon, &dry).remove(0);
    assert_eq!((&plan["would_ask"], &plan["classes"]), (&json!(LINES), &json!({ "rejected": LINES })));
    assert!(plan["sent"][0]["seconds_now"].as_f64().is_some_and(|time| time > 0.0), "{plan:#}");
    let printed = bed.letters(&["replay", "--class", "rejected", "--dry-run", "--format", "json"]).ok();
    let printed: Value = serde_json::from_str(&printed).expect("JSON");
    // The config of the command names another admin port: how busy the daemon is, it does not know.
    let timeless = |mut plan: Value| {
        plan["sent"][0]["seconds_now"].take();
        plan["traffic_unknown"].take();
        plan
    };
    assert_eq!(timeless(plan), timeless(printed), "the same figures as on the command line");
    await_count(&daemon, "open", LINES);
    assert_eq!(provider.log().len(), before, "a dry run sends nothing");

    let done = summary(ask(&daemon, &order));
    assert_eq!(
        (&done["meant"], &done["asked"], &done["ended"]),
        (&json!(LINES), &json!(LINES), &json!("through"))
    );
    await_count(&daemon, "replayed", LINES);
    let log = provider.log();
    let accepted: Vec<_> = log.iter().filter(|entry| entry.accepted).collect();
    let ids: BTreeSet<_> = accepted.iter().map(|entry| entry.id.clone()).collect();
    assert_eq!((accepted.len(), ids.len()), (LINES, LINES), "each once");
    assert!(accepted.iter().all(|entry| entry.resend), "each as a repeat");
    let replayed = bed.letters(&["list", "--state", "replayed", "--format", "json"]).lines();
    let shown = bed.letters(&["show", &field(&replayed, "letter")[0]]).ok();
    assert!(shown.contains("replayed by api: ann at "), "{shown}");

    let again = summary(ask(&daemon, &order));
    assert_eq!((&again["asked"], &again["skipped"]["replayed"]), (&json!(0), &json!(LINES)), "{again:#}");
    assert_eq!(provider.log().len(), log.len());
}

/// What was asked for stays asked for; the rest stays open, and no letter is `requested` without a request.
fn an_asking_ends_with_its_caller(bed: &Bed) {
    const LINES: usize = 60;
    let (daemon, provider) = failed(bed, LINES, |n| format!("{{\"n\":{n}}}"));
    let rest = json!({ "which": { "class": ["mapping"] }, "patch": ".text |= tostring" });
    let mut order = rest.clone();
    order["rate"] = "10/s".into();
    let order = order.to_string();
    let host = daemon.url().trim_start_matches("http://").to_owned();
    let mut caller = std::net::TcpStream::connect(&host).expect("the daemon listens");
    std::io::Write::write_all(
        &mut caller,
        format!(
            "POST {PATH} HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {TOKEN}\r\ncontent-length: {}\r\n\r\n{order}",
            order.len()
        )
        .as_bytes(),
    )
    .expect("the order is sent");
    let accepted = || provider.log().into_iter().filter(|entry| entry.accepted).count();
    ask_until("the first replays", PATIENCE, || (accepted() >= 5).then_some(()));
    drop(caller);
    // Both places are free again once it has ended.
    let none = json!({ "which": { "class": ["expired"] } });
    let left = ask_until("the asking to end", PATIENCE, || {
        let before = counts(&daemon)?;
        std::thread::sleep(std::time::Duration::from_millis(500));
        (counts(&daemon)? == before && before["state"]["requested"].is_null()).then_some(before)
    });
    assert_eq!(summary(ask(&daemon, &none))["meant"], 0);
    let (open, replayed) = (left["state"]["open"].as_u64(), left["state"]["replayed"].as_u64());
    assert_eq!(open.zip(replayed).map(|(open, replayed)| open + replayed), Some(LINES as u64), "{left:#}");
    assert!(open.is_some_and(|open| open > 0), "it was stopped: {left:#}");
    assert_eq!(replayed, Some(accepted() as u64), "{left:#}");
    let rest = summary(ask(&daemon, &rest));
    assert_eq!(rest["asked"].as_u64(), open, "the same order goes on with the rest: {rest:#}");
    await_count(&daemon, "replayed", LINES);
    assert_eq!(accepted(), LINES);
}

fn counts(daemon: &Daemon) -> Option<Value> {
    serde_json::from_str(&daemon.get_with_token("/api/letters/stats")?.body).ok()
}
