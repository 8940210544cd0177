//! The daemon's API over its own letters, on real brokers.

use serde_json::{Value, json};

use crate::bed::{Bed, SECRETS, field, on_both};
use crate::support::http;
use crate::worked::{EVENTS, daemon};

on_both!(the_api_lists_shows_counts_and_discards_letters);

fn the_api_lists_shows_counts_and_discards_letters(bed: &Bed) {
    let (daemon, _provider) = daemon(bed);
    let get = |path: &str| {
        let answer = daemon.get_with_token(path).expect("the daemon answers");
        assert!(SECRETS.iter().all(|secret| !answer.body.contains(secret)), "{}", answer.body);
        (answer.status, answer.body)
    };
    assert_eq!(daemon.get("/api/letters").expect("an answer").status, 401, "letters need the token");
    let (status, body) = get("/api/letters");
    assert_eq!(status, 200, "{body}");
    let mut lines: Vec<Value> = body.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(lines.pop(), Some(json!({ "summary": { "listed": EVENTS.len(), "more": false } })));
    let printed = bed.letters(&["list", "--format", "json"]).lines();
    assert_eq!(field(&lines, "letter"), field(&printed, "letter"), "as the command line has them");
    assert_eq!(lines, printed);

    let id = lines[0]["letter"].as_str().expect("an id");
    let (status, shown) = get(&format!("/api/letters/{id}"));
    let shown: Value = serde_json::from_str(&shown).expect("JSON");
    assert_eq!((status, &shown["letter"], &shown["row"]), (200, &lines[0], &json!({ "state": "open" })));

    let order = json!({ "which": { "letter": [id] }, "by": "bob", "why": "seen" }).to_string();
    let done = daemon.post("/api/letters/discard", order).expect("the daemon answers");
    let done: Value = serde_json::from_str(&done.body).expect("JSON");
    assert_eq!(done, json!({ "discarded": 1, "final_already": 0, "not_found": 0 }));
    let seen = bed.letters(&["show", id]).ok();
    assert!(seen.contains("discarded by api: bob at ") && seen.contains(": seen\n"), "{seen}");
    let (_, counts) = get("/api/letters/stats?state=discarded");
    assert_eq!(serde_json::from_str::<Value>(&counts).expect("JSON")["letters"], 1);
    assert_eq!(get("/api/letters?class=nonsense").0, 400);
    let described: Value = serde_json::from_str(&get("/api/openapi.json").1).expect("JSON");
    assert_eq!(described["openapi"], "3.1.0");
    let stranger = http::get(&format!("{}/api/letters", daemon.url()));
    assert_eq!(stranger.expect("an answer").status, 401);
}
