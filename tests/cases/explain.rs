//! What `explain` says beside the requests: why each route took or left the event, where the key came
//! from, how long a message may wait. And what it refuses, because no record would be like that.

use serde_json::{Value, json};

use super::{CONFIG, Folder};

#[track_caller]
fn explained(folder: &Folder, arguments: &[&str], event: &str) -> Value {
    let ended = folder.explain(&[arguments, &["--format", "json"]].concat(), event);
    assert_eq!((ended.code, &*ended.stderr), (0, ""), "{ended:#?}");
    serde_json::from_str(&ended.stdout).unwrap()
}

/// Why each route took or left the event.
fn whys(explained: &Value) -> Vec<(&str, bool, &str)> {
    let routes = explained["routes"].as_array().unwrap().iter();
    routes
        .map(|route| {
            (
                route["route"].as_str().unwrap(),
                route["took"].as_bool().unwrap(),
                route["why"].as_str().unwrap(),
            )
        })
        .collect()
}

#[test]
fn every_route_says_why_it_took_or_left_an_event() {
    let more = r#"
[[routes]]
name = "fails"
when = 'error("nobody knows " + .type)'
drop = true

[[routes]]
name = "other subjects"
subjects = ["chat.>"]
drop = true

[[routes]]
name = "other source"
source = "live"
drop = true

[[routes]]
name = "everything"
account = "match"

[[routes]]
name = "nothing left"
drop = true
"#;
    let folder = Folder::new(&[("roomcast.toml", &(CONFIG.to_owned() + more))]);
    let found = explained(&folder, &["--source", "match", "--key", "7"], r#"{"type":"other"}"#);
    let whys = whys(&found);
    let expected = [
        ("noise", false, "its `when` is false: .type == \"noise\""),
        ("gifts", false, "its topics do not have \"match.7.events\""),
        ("news", false, "its `when` is false: .type == \"news\""),
        ("notice", false, "its `when` is false: .type == \"notice\""),
        ("scores", false, "its `when` is false: .type == \"score\""),
        ("fails", false, "its `when` failed, which counts as false: \"nobody knows other\""),
        ("other subjects", false, "none of its subjects fits \"match.7.events\""),
        ("other source", false, "takes events of another source than \"match\""),
        ("everything", true, "it has no `when`"),
        ("nothing left", false, "not asked: an earlier route took the event"),
    ];
    assert_eq!(whys, expected);
}

#[test]
fn a_record_that_is_no_event_asks_no_route_and_says_so() {
    let folder = Folder::new(&[]);
    let found = explained(&folder, &["--source", "live"], "gift!");
    assert_eq!(found["routes"].as_array().unwrap().len(), 5);
    assert!(
        whys(&found)
            .iter()
            .all(|(_, took, why)| { !took && *why == "not asked: the record is no event that can be read" })
    );
    assert_eq!(found["letters"][0]["class"], "garbled");
}

#[test]
fn on_jetstream_key_and_subject_follow_from_each_other() {
    let folder = Folder::new(&[]);
    let score = r#"{"type":"score"}"#;
    let by_key = explained(&folder, &["--source", "match", "--key", "7"], score);
    assert_eq!((&by_key["topic"], &by_key["key"]), (&json!("match.7.events"), &json!("7")));
    let by_subject = explained(&folder, &["--source", "match", "--topic", "match.8.events"], score);
    assert_eq!((&by_subject["topic"], &by_subject["key"]), (&json!("match.8.events"), &json!("8")));
    assert_eq!(by_subject["requests"][0]["rooms"], json!(["8"]));

    let by_header = CONFIG
        .replace("key = { token = 1 }", "key = { header = \"Room\" }")
        .replace("match.*.events", "match.events")
        .replace("rooms = '.rooms // [$key] | .[]'\nmessage = { kind = \"custom\", event = '.type', fields = '{home, away}' }", "rooms = '$headers.Room'");
    let folder = Folder::new(&[("roomcast.toml", &by_header)]);
    for arguments in [["--key", "9"], ["--header", "Room: 9"]] {
        let found = explained(&folder, &[&["--source", "match"][..], &arguments].concat(), score);
        assert_eq!(
            (&found["key"], &found["requests"][0]["rooms"]),
            (&json!("9"), &json!(["9"])),
            "{found:#}"
        );
    }
}

#[test]
fn what_no_record_would_be_like_is_wrong_usage() {
    let by_regex = CONFIG.replace("\"live.events\", \"live.gifts\"", "\"^live[.].*\"");
    let without_key = CONFIG.replace("key = { token = 1 }\n", "");
    for (config, arguments, told) in [
        (
            CONFIG,
            &["--source", "live", "--topic", "live.evnts"][..],
            "--topic: found \"live.evnts\", wanted one that source live reads: live.events, live.gifts",
        ),
        (CONFIG, &["--source", "match"], "--topic: found nothing, wanted one that fits match.*.events"),
        (
            CONFIG,
            &["--source", "match", "--topic", "match.7"],
            "--topic: found \"match.7\", wanted one that source match reads: match.*.events",
        ),
        (
            CONFIG,
            &["--source", "match", "--topic", "match.7.events", "--key", "8"],
            "--key: found \"8\", wanted \"7\", which is in the subject \"match.7.events\"",
        ),
        (&*by_regex, &["--source", "live"], "--topic: found nothing, wanted one that fits ^live[.].*"),
        (
            &*without_key,
            &["--source", "match", "--topic", "match.7.events", "--key", "7"],
            "--key: found \"7\", wanted no key: source match does not say where one stands",
        ),
    ] {
        let folder = Folder::new(&[("roomcast.toml", config)]);
        let ended = folder.explain(arguments, "{}");
        assert_eq!((ended.code, &*ended.stdout, &*ended.stderr), (2, "", &*format!("error: {told}\n")));
    }
    let folder = Folder::new(&[("roomcast.toml", &by_regex)]);
    let found = explained(&folder, &["--source", "live", "--topic", "live.any"], r#"{"type":"noise"}"#);
    assert_eq!(found["dropped"], "rule");
}

#[test]
fn a_time_to_live_is_told_with_its_end() {
    let folder = Folder::new(&[]);
    let event = |time: &str| {
        json!({ "specversion": "1.0", "id": "1", "source": "/s", "type": "gift", "time": time, "gift": "rose" }).to_string()
    };
    let arguments = ["--source", "live", "--topic", "live.gifts", "--key", "42"];
    let late = folder.explain(&arguments, &event("2020-01-31T20:00:00Z"));
    let told =
        "\nToo late: its time-to-live ended at 2020-01-31T20:00:10.000Z, so that it is dropped (expired)\n";
    assert!(late.stdout.contains(told), "{late:#?}");
    let found = explained(&folder, &arguments, &event("2020-01-31T20:00:00Z"));
    assert_eq!(found["expires"], "2020-01-31T20:00:10.000Z");
    let timely = folder.explain(&arguments, r#"{"type":"gift"}"#);
    assert!(timely.stdout.contains("\nIt may wait until 2"), "{timely:#?}");
}
