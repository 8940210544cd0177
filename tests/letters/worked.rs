//! The letters of a daemon that met bad events: listed, shown, counted, discarded.

use serde_json::Value;

use crate::bed::{Bed, PATIENCE, field, on_both};
use crate::support::ask_until;
use crate::support::daemon::Daemon;
use crate::support::provider::{Kind, Provider};

on_both!(letters_of_a_daemon_are_listed_shown_counted_and_discarded);

/// Bad events: a key and a value each.
pub const EVENTS: [(&str, &str); 4] = [
    ("直播间一百零八号", r#"{"type":"line","text":"你好"}"#),
    ("1404", r#"{"type":"line","text":"nobody is there"}"#),
    ("1001", "hello"),
    ("1001", r#"{"type":"line","text":{"a":1}}"#),
];

/// A daemon that has written a letter for each bad event.
pub fn daemon(bed: &Bed) -> (Daemon, Provider) {
    let provider = Provider::start(Kind::Yunxin, &["--room", "1001", "--no-limits"]);
    let config = bed.config(&provider.account("acme", ""), "");
    bed.write_config(&config);
    bed.publish(&EVENTS);
    let daemon = Daemon::start_ready(&config);
    ask_until("four letters", PATIENCE, || {
        let listed = bed.letters(&["list", "--format", "json"]);
        (listed.code == Some(0) && listed.stdout.lines().count() == EVENTS.len()).then_some(())
    });
    (daemon, provider)
}

fn letters_of_a_daemon_are_listed_shown_counted_and_discarded(bed: &Bed) {
    let (_daemon, _provider) = daemon(bed);
    let all = bed.letters(&["list", "--format", "json"]).lines();
    let mut classes = field(&all, "class");
    classes.sort();
    assert_eq!(classes, ["garbled", "invalid", "mapping", "room_gone"]);
    listed(bed, &all);
    shown(bed, &all);
    discarded(bed, &all);
}

fn id_of(all: &[Value], class: &str) -> String {
    let letter = all.iter().find(|letter| letter["class"] == class).expect("one of each class");
    letter["letter"].as_str().expect("an id").to_owned()
}

fn listed(bed: &Bed, all: &[Value]) {
    let gone = id_of(all, "room_gone");
    for filter in [
        &["--class", "room_gone"][..],
        &["--room", "1404"],
        &["--text", "NOBODY is"],
        &["--min-attempts", "1"],
        &["--route", "lines", "--account", "acme", "--class", "room_gone,garbled"],
        &[&gone],
        &[&gone[..13], "--since", "1h"],
        &["--source", "live", "--room", "1404", "--room", "1405", "--state", "open"],
    ] {
        let found = bed.letters(&[&["list", "--format", "json"], filter].concat()).lines();
        assert_eq!(field(&found, "letter"), [&*gone], "{filter:?}");
        let letter = &found[0];
        assert_eq!((&letter["state"], &letter["source"]), (&Value::from("open"), &Value::from("live")));
        assert_eq!(
            (&letter["http_status"], &letter["attempts"]),
            (&Value::from(200), &Value::from(1)),
            "{letter}"
        );
    }
    for none in [&["--until", "1h"][..], &["--state", "parked"], &["--room", "140"]] {
        let found = bed.letters(&[&["list"], none].concat());
        assert_eq!((found.code, &*found.stdout, &*found.stderr), (Some(0), "", "No letters.\n"), "{none:?}");
    }
    assert_eq!(bed.letters(&["list", "--limit", "2", "--format", "json"]).lines().len(), 2);
    for columns in [80, 120] {
        let table = bed.letters_at(&["list"], Some(columns)).ok();
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines.len(), 5, "{table}");
        assert!(lines[0].starts_with("LETTER         CLASS      AGE  ROUTE  ROOM"), "{table}");
        assert!(lines.iter().all(|line| unicode_width::UnicodeWidthStr::width(*line) <= columns), "{table}");
        assert!(table.contains("直播间一百零八"), "{table}");
    }
    let csv = bed.letters(&["list", "--format", "csv", "--class", "invalid"]).ok();
    assert_eq!(csv.lines().count(), 2);
    assert!(csv.contains("\"[\"\"直播间一百零八号\"\"]\""), "{csv}");
}

fn shown(bed: &Bed, all: &[Value]) {
    let invalid = id_of(all, "invalid");
    let text = bed.letters(&["show", &invalid[..13]]).ok();
    for part in [
        format!("Letter {invalid}\n").as_str(),
        "  state       open\n",
        "  class       invalid\n",
        "  rooms owed  直播间一百零八号\n",
        "never sent",
        "  {\n    \"type\": \"line\",\n    \"text\": \"你好\"\n  }\n",
        "  trace  t-1\n",
        "lines  took it",
        "A letter of class invalid (rooms 直播间一百零八号)",
    ] {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
    assert!(!text.contains("Its chain"), "{text}");
    let gone = bed.letters(&["show", &id_of(all, "room_gone"), "--format", "json"]).ok();
    let gone: Value = serde_json::from_str(&gone).expect("JSON");
    assert_eq!(gone["record"]["value"]["text"], "nobody is there");
    assert_eq!(gone["today"]["route"], "lines");
    assert_eq!(gone["today"]["requests"][0]["rooms"][0], "1404");
    assert!(gone["today"]["requests"][0]["body"].as_str().unwrap().contains("resendFlag=1"), "{gone:#}");
    let garbled = bed.letters(&["show", &id_of(all, "garbled")]).ok();
    assert!(garbled.contains("\nRecord\n") && garbled.contains("\n  hello\n"), "{garbled}");
}

fn discarded(bed: &Bed, all: &[Value]) {
    let (invalid, gone) = (id_of(all, "invalid"), id_of(all, "room_gone"));
    let text = bed.letters(&["discard", &invalid, "--why", "the match was cancelled", "--yes"]).ok();
    assert_eq!(text, "1 letter discarded.\n");
    let again = bed.letters(&["discard", &invalid, &gone, "--yes", "--format", "json"]).ok();
    let again: Value = serde_json::from_str(&again).expect("JSON");
    assert_eq!((&again["discarded"], &again["final_already"]), (&Value::from(1), &Value::from(1)));
    let shown = bed.letters(&["show", &invalid]).ok();
    let state = shown.lines().nth(1).expect("a line");
    assert!(
        state.starts_with("  state       discarded by ann@") && state.ends_with(": the match was cancelled"),
        "{state}"
    );
    let open = bed.letters(&["list", "--format", "json"]).lines();
    assert_eq!(open.len(), 2, "discarded letters are listed no more");
    let states = bed.letters_at(&["list", "--state", "open,discarded"], Some(120)).ok();
    assert_eq!(states.matches(" discarded ").count(), 2, "{states}");

    let counts = bed.letters(&["stats", "--format", "json"]).ok();
    let counts: Value = serde_json::from_str(&counts).expect("JSON");
    assert_eq!(counts["letters"], 4);
    assert_eq!(counts["state"], serde_json::json!({ "discarded": 2, "open": 2 }));
    assert_eq!(counts["dead_letter"][bed.dead_letter()], 4);
    assert_eq!(counts["class"]["mapping"], 1);
    let text = bed.letters(&["stats", "--state", "discarded"]).ok();
    assert!(text.starts_with("2 letters, written from "), "{text}");
    assert!(text.contains("\nBy room\n  1  1404\n  1  直播间一百零八号\n"), "{text}");
    // A filter means open letters; the two that are left are done with.
    let rest = bed.letters(&["discard", "--until", "0s", "--yes"]).ok();
    assert_eq!(rest, "2 letters discarded.\n");
    let missing = bed.letters(&["discard", "00000000-0000-4000-8000-000000000000", "--yes"]);
    assert_eq!(
        (missing.code, &*missing.stdout),
        (Some(1), "0 letters discarded.\n1 letter named and not there.\n")
    );
}
