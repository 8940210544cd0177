//! Replays over HTTP, on letters made by hand.

use std::time::Duration;

use crate::core::replay::Told;

use super::*;

fn header(record: &Record, name: &str) -> String {
    let found = record.headers.iter().find(|(known, _)| **known == *name);
    String::from_utf8(found.expect(name).1.to_vec()).unwrap()
}

#[tokio::test]
async fn letters_are_asked_for_and_the_last_line_adds_up() {
    let (shelf, ids) = shelf();
    let (rows, requests) = (shelf.rows.clone(), shelf.requests.clone());
    let (serving, _driver) = serve(shelf).await;
    let order = json!({
        "which": { "state": ["open", "replayed"] },
        "by": "ann\n",
        "why": "the outage",
        "route": "original",
        "keep_ttl": true,
        "patch": ".type = \"line\"",
    });
    let (status, mut lines) = ask(&serving, "post", "/api/letters/replay", &order.to_string()).await;
    assert_eq!(status, 200, "{lines:?}");
    let summary = lines.pop().unwrap()["summary"].clone();
    assert!(lines.iter().all(|line| line["progress"]["asked"].is_u64()), "{lines:?}");
    assert_eq!(
        (&summary["meant"], &summary["asked"], &summary["ended"]),
        (&json!(3), &json!(2), &json!("through"))
    );
    assert_eq!((&summary["skipped"]["replayed"], &summary["verdicts"]["left"]), (&json!(1), &json!(2)));
    let requests = requests.lock().unwrap();
    let asked: Vec<LetterId> = requests.iter().map(|request| Told::read(request).unwrap().letter).collect();
    assert_eq!(asked.iter().collect::<BTreeSet<_>>(), BTreeSet::from([&ids[0], &ids[2]]));
    for request in &*requests {
        assert_eq!(json!(header(request, "roomcast-request")), summary["request"]);
        assert_eq!(header(request, "roomcast-request-by"), "api: ann");
        assert_eq!(header(request, "roomcast-request-route"), "original");
        assert_eq!(header(request, "roomcast-request-ttl"), "keep");
        assert_eq!(request.value.as_deref(), Some(&br#"{"type":"line"}"#[..]));
    }
    let row = Row::read(&rows.0.lock().unwrap()[&Row::key(ids[0])]).unwrap();
    assert_eq!((row.state, &*row.by, &*row.why), (Fate::Requested, "api: ann", "the outage"));
    assert_eq!(json!(row.request), summary["request"]);
}

#[tokio::test]
async fn a_dry_run_tells_what_would_be_done_and_changes_nothing() {
    let (shelf, _) = shelf();
    let (rows, requests) = (shelf.rows.clone(), shelf.requests.clone());
    let before = rows.0.lock().unwrap().clone();
    let (serving, driver) = serve(shelf).await;
    let running = tokio::spawn(driver.run());
    let order = json!({ "which": { "source": ["live"], "state": ["open", "replayed"] }, "dry_run": true, "rate": "2/s" });
    let (status, answer) = ask(&serving, "post", "/api/letters/replay", &order.to_string()).await;
    let plan = &answer[0];
    assert_eq!(status, 200, "{plan}");
    for (path, wanted) in [
        ("/meant", json!(3)),
        ("/would_ask", json!(2)),
        ("/states", json!({ "open": 2, "replayed": 1 })),
        ("/classes", json!({ "room_gone": 1, "uncertain": 1 })),
        ("/rooms", json!([{ "room": "房间", "letters": 2 }])),
        ("/rooms_gone", json!(1)),
        ("/expired", json!(0)),
        ("/older_than_a_finished_record", json!({ "letters": 0, "at_least": false })),
        ("/seconds_to_ask", json!(0.5)),
        ("/sent/0/account", json!("acme")),
        ("/sent/0/messages", json!(2)),
        ("/traffic_unknown", Value::Null),
    ] {
        assert_eq!(plan.pointer(path), Some(&wanted), "{path}: {plan:#}");
    }
    assert!(requests.lock().unwrap().is_empty());
    assert_eq!(*rows.0.lock().unwrap(), before);
    running.abort();
}

/// Whoever asks slowly and for many can be stopped: by going away.
#[tokio::test]
async fn whoever_goes_away_stops_the_asking_and_no_letter_is_left_by_halves() {
    let (shelf, _) = shelf();
    let letters = (0..1_000).map(|n| letter(n, Class::Garbled, 0, None)).collect();
    let shelf = Shelf { letters, ..shelf };
    let (rows, requests) = (shelf.rows.clone(), shelf.requests.clone());
    rows.0.lock().unwrap().clear();
    let (serving, driver) = serve(shelf).await;
    // A dry run asks the loop what live traffic leaves.
    let running = tokio::spawn(driver.run());
    let url = format!("http://{}/api/letters/replay", serving.listen);
    let order = json!({ "which": { "state": ["open"] }, "rate": "20/s" }).to_string();
    let client = reqwest::Client::new();
    let ask_for =
        async |order: &str| client.post(&url).bearer_auth(TOKEN).body(order.to_owned()).send().await.unwrap();
    let mut readers = Vec::new();
    for _ in 0..2 {
        let mut reader = ask_for(&order).await;
        assert_eq!(reader.status(), 200);
        assert!(reader.chunk().await.unwrap().is_some(), "it tells how far it is");
        readers.push(reader);
    }
    assert_eq!(ask_for(&order).await.status(), 429, "no more than two at once");
    assert_eq!(ask(&serving, "get", "/api/letters/stats", "").await.0, 200, "looks go on");
    drop(readers);
    let none = json!({ "which": { "class": ["expired"] } }).to_string();
    while ask_for(&none).await.status() != 200 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // Both have stopped when two places are free at once.
    while serving_places(&serving, &order, &client).await < 2 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let asked: BTreeSet<String> =
        requests.lock().unwrap().iter().map(|request| Row::key(id(request))).collect();
    assert!(!asked.is_empty() && asked.len() < 1_000, "{}", asked.len());
    assert_eq!(rows.0.lock().unwrap().keys().cloned().collect::<BTreeSet<_>>(), asked);
    running.abort();
}

/// How many dry runs are taken at the same time.
async fn serving_places(serving: &Serving, order: &str, client: &reqwest::Client) -> usize {
    let mut planned: Value = serde_json::from_str(order).unwrap();
    planned["dry_run"] = true.into();
    let url = format!("http://{}/api/letters/replay", serving.listen);
    let one = || client.post(&url).bearer_auth(TOKEN).body(planned.to_string()).send();
    let (one, other) = tokio::join!(one(), one());
    [one, other].into_iter().filter(|answer| answer.as_ref().unwrap().status() == 200).count()
}

#[tokio::test]
async fn the_end_of_the_process_stops_them_and_waits_for_letters_in_progress() {
    let (shelf, _) = shelf();
    let shelf = Shelf { letters: (0..1_000).map(|n| letter(n, Class::Garbled, 0, None)).collect(), ..shelf };
    let (rows, requests) = (shelf.rows.clone(), shelf.requests.clone());
    rows.0.lock().unwrap().clear();
    let places = vec![Place::new("events.dlq", vec!["live".into()], Arc::new(shelf))];
    let (_driver, mut view, _) = idle_loop();
    view.letters = Desk::new(places, today());
    let order = json!({ "which": { "state": ["open"] }, "rate": "20/s" }).to_string();
    let asked = replay::replay(State(view.clone()), Bytes::from(order.clone())).await.expect("it begins");
    let body = tokio::spawn(axum::body::to_bytes(asked.into_body(), usize::MAX));
    while requests.lock().unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    view.letters.ended().await;
    let body = body.await.unwrap().unwrap();
    let last = String::from_utf8_lossy(&body).lines().last().map(str::to_owned).expect("a line");
    let last: Value = serde_json::from_str(&last).unwrap();
    assert_eq!(last["summary"]["ended"], "stopped", "{last}");
    assert_eq!(last["summary"]["asked"], requests.lock().unwrap().len());
    assert_eq!(last["summary"]["asked"], rows.0.lock().unwrap().len());
    let refused = replay::replay(State(view), Bytes::from(order)).await.expect_err("it ends");
    assert_eq!(refused.status, 503);
}

/// The description of bodies, held against what is taken.
#[test]
fn the_description_of_the_body_has_what_is_taken_and_no_more() {
    let described = description();
    let wanted = &described["components"]["schemas"]["Replay"];
    assert_eq!(wanted["additionalProperties"], false);
    let sample = json!({
        "which": {}, "by": "", "why": "", "limit": 1, "rate": "1/s", "patch": ".", "route": "original",
        "keep_ttl": true, "dry_run": true,
    });
    let names = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
    assert_eq!(names(&wanted["properties"]), names(&sample));
    assert!(replay::is_order(&sample.to_string()), "all of it is taken");
    for name in wanted["properties"]["route"]["enum"].as_array().unwrap() {
        assert!(replay::is_order(&json!({ "which": {}, "route": name }).to_string()), "{name}");
    }
    assert!(!replay::is_order(r#"{"which":{},"routes":"original"}"#), "and nothing else");
}
