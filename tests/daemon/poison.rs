//! Bad input of every kind: each becomes a letter of the right class with every header that has a
//! meaning for it, or a counted drop, and the record behind it flows at once.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::json;

use crate::bed::{Bed, Event, Letter, await_metric, line_route};
use crate::support::daemon::Daemon;
use crate::support::kafka::Kafka;
use crate::support::nats::Nats;
use crate::support::oracle::{Owed, judge};
use crate::support::provider::{Kind, Provider};

const PATIENCE: Duration = Duration::from_secs(60);
/// The longest that all poison together may hold up the lines between it: filters that run out of
/// their budget and two calls included, in a debug build on a busy machine.
const PROMPT: Duration = Duration::from_secs(15);
/// The room of the lines.
const ROOM: &str = "1001";
/// A room that the provider does not have.
const GONE: &str = "1404";
/// A room whose messages the provider refuses.
const REFUSING: &str = "1414";
/// A key as long as a whole record may be by a broker's default, so that its letter is too large.
const MIB: usize = 1 << 20;
/// The header by which a letter is known again.
const CASE: &str = "case";

/// One bad record and what has to become of it.
struct Case {
    name: &'static str,
    event: Event,
    /// The letter's class; `None`: dropped and counted under `tombstone`.
    class: Option<&'static str>,
    /// The route that its letter names.
    route: Option<&'static str>,
    /// The rooms that its letter names.
    room: Option<&'static str>,
    /// The provider's HTTP status and code, when it was called.
    answer: Option<(&'static str, &'static str)>,
    /// A part of the error.
    error: &'static str,
}

impl Case {
    fn new(name: &'static str, event: Event, class: &'static str, error: &'static str) -> Self {
        let event = event.with(CASE, name);
        Self { name, event, class: Some(class), route: None, room: None, answer: None, error }
    }

    fn of_route(self, route: &'static str) -> Self {
        Self { route: Some(route), ..self }
    }

    fn of_room(self, room: &'static str) -> Self {
        Self { room: Some(room), ..self }
    }
}

/// What every broker carries, with the longest key that it does.
fn cases(long_key: usize) -> Vec<Case> {
    garbled().into_iter().chain(mapping()).chain(owed_to_a_room(long_key)).collect()
}

/// An event on the room of the lines.
fn here(value: &str) -> Event {
    Event::new(ROOM, value)
}

/// An event of 10 MB, in place of the star.
fn large(text: &str) -> Event {
    Event::new(ROOM, text.replace('*', &"x".repeat(10_000_000)))
}

/// Records that are no events.
fn garbled() -> Vec<Case> {
    vec![
        Case::new("not-json", here("hello"), "garbled", "not JSON"),
        Case::new("empty", here(""), "garbled", "empty"),
        Case::new(
            "not-utf-8",
            Event::new(ROOM, b"{\"text\":\"\xff\xfe\"}".as_slice()),
            "garbled",
            "not UTF-8",
        ),
        Case::new("deep", here(&"[".repeat(200_000)), "garbled", "recursion limit"),
        Case::new(
            "batch",
            here("[]").with("content-type", "application/cloudevents-batch+json"),
            "garbled",
            "batch",
        ),
        Case::new("large-garbled", large("*"), "garbled", "10000000 bytes"),
    ]
}

/// Events that no message can be made of.
fn mapping() -> Vec<Case> {
    let thousand = serde_json::to_string(&vec![1; 1_000]).expect("numbers are JSON");
    vec![
        Case::new("wrong-type", here(r#"{"type":"line","text":{"a":1}}"#), "mapping", "text")
            .of_route("lines"),
        Case::new("not-an-object", here("[1,2]"), "mapping", "").of_route("lines"),
        Case::new("budget", here(&format!(r#"{{"type":"loop","a":{thousand}}}"#)), "mapping", "steps")
            .of_route("loop"),
        Case::new("room-type", here(r#"{"type":"typed","rooms":{"a":1},"text":"x"}"#), "mapping", "rooms")
            .of_route("typed"),
        Case::new(
            "no-key",
            Event { key: None, ..here(r#"{"type":"line","text":"x"}"#) },
            "mapping",
            "no key",
        )
        .of_route("lines"),
    ]
}

/// Messages that are not sent, or refused; and an event that no route takes.
fn owed_to_a_room(long_key: usize) -> Vec<Case> {
    let answered = |case: Case, status, code| Case { answer: Some((status, code)), ..case };
    vec![
        Case::new("room-id", Event::new("lobby", r#"{"type":"line","text":"x"}"#), "invalid", "roomid")
            .of_route("lines")
            .of_room("lobby"),
        Case::new(
            "too-long",
            here(&format!(r#"{{"type":"line","text":"{}"}}"#, "世".repeat(4_097))),
            "invalid",
            "4096",
        )
        .of_route("lines")
        .of_room(ROOM),
        Case::new("large-text", large(r#"{"type":"line","text":"*"}"#), "mapping", "64 KiB")
            .of_route("lines"),
        Case::new(
            "long-key",
            Event::new(&"7".repeat(long_key), r#"{"type":"line","text":"x"}"#),
            "invalid",
            "room",
        )
        .of_route("lines"),
        Case::new("no-route", here(r#"{"type":"nobody"}"#), "no_route", "no route").of_room(""),
        answered(
            Case::new("gone", Event::new(GONE, r#"{"type":"line","text":"x"}"#), "room_gone", "404")
                .of_route("lines")
                .of_room(GONE),
            "200",
            "404",
        ),
        answered(
            Case::new("refused", Event::new(REFUSING, r#"{"type":"line","text":"x"}"#), "rejected", "414")
                .of_route("lines")
                .of_room(REFUSING),
            "200",
            "414",
        ),
    ]
}

/// What only Kafka carries.
fn kafka_cases() -> Vec<Case> {
    let line = r#"{"type":"line","text":"x"}"#;
    let tombstone = Event { value: None, ..Event::new(ROOM, "") };
    vec![
        Case { class: None, ..Case::new("tombstone", tombstone, "", "") },
        Case::new(
            "key-not-utf-8",
            Event { key: Some(vec![0xff, 0xfe]), ..Event::new("", line) },
            "mapping",
            "UTF-8",
        )
        .of_route("lines"),
    ]
}

const ROUTES: &str = r#"
[[routes]]
name = "loop"
when = '.type == "loop"'
account = "match"
message = { kind = "text", text = '[.a[] as $x | .a[] as $y | .a[] as $z | $x] | length' }

[[routes]]
name = "typed"
when = '.type == "typed"'
account = "match"
rooms = '.rooms'
message = { kind = "text", text = '.text' }

"#;

fn run(bed: &Bed, cases: &[Case]) -> Vec<Letter> {
    let provider = Provider::start(Kind::Yunxin, &["--room", ROOM, "--room", REFUSING, "--no-limits"]);
    provider.set_faults(&json!({"effect": {"answer": {"status": 200, "code": 414, "description": "illegal"}}, "rooms": [REFUSING]}));
    let config = [
        provider.account("match", "quota = { calls_per_second = 500, room_messages_per_second = 500 }"),
        bed.source("unmatched = \"dead_letter\""),
        ROUTES.to_owned(),
        line_route("match", "when = '(.type? // \"line\") == \"line\"'"),
    ];
    let mut daemon = Daemon::start_ready(&config.concat());
    let mut owed = BTreeSet::new();
    let mut events = Vec::new();
    for (sequence, case) in (0..).zip(cases) {
        let line = Owed { room: ROOM.to_owned(), sequence };
        events.extend([case.event.clone(), Event::line(&line)]);
        owed.insert(line);
    }
    bed.publish(events);
    bed.await_finished(PATIENCE);
    let entries = provider.log();
    judge(&owed, &entries, &BTreeSet::new()).assert_kept();
    let accepted: Vec<u64> = entries.iter().filter(|entry| entry.accepted).map(|entry| entry.at_ns).collect();
    let span = accepted.iter().max().zip(accepted.iter().min()).map(|(last, first)| last - first);
    let span = Duration::from_nanos(span.expect("there are lines"));
    assert!(span < PROMPT, "poison held up the lines for {span:?}");
    let letters = bed.letters();
    let written = f64::from(u32::try_from(letters.len()).expect("few"));
    await_metric(&daemon, "roomcast_messages_total", "fate=\"letter\"", written, PATIENCE);
    let drops = cases.iter().filter(|case| case.class.is_none()).count();
    let counted = daemon.metric("roomcast_messages_total", "kind=\"tombstone\"").unwrap_or_default();
    assert_eq!(counted, f64::from(u32::try_from(drops).expect("few")), "tombstones are counted");
    assert_eq!(provider.stats()["warnings"], json!({}));
    assert_eq!(daemon.stop().code(), Some(0));
    letters
}

/// Compares each letter with its case. Those without the case's header are given back.
fn judge_letters<'l>(bed: &Bed, cases: &[Case], letters: &'l [Letter]) -> Vec<&'l Letter> {
    let by_case: BTreeMap<&str, &Letter> =
        letters.iter().filter_map(|letter| Some((letter.headers.get(CASE)?.as_str(), letter))).collect();
    for case in cases {
        let Some(class) = case.class else {
            assert!(!by_case.contains_key(case.name), "{} is dropped", case.name);
            continue;
        };
        let Some(letter) = by_case.get(case.name) else { continue };
        judge_letter(bed, case, class, letter);
    }
    let expected = cases.iter().filter(|case| case.class.is_some()).count();
    assert_eq!(letters.len(), expected, "one letter for each: {:?}", by_case.keys());
    letters.iter().filter(|letter| !letter.headers.contains_key(CASE)).collect()
}

fn judge_letter(bed: &Bed, case: &Case, class: &str, letter: &Letter) {
    let name = case.name;
    let header = |key: &str| letter.headers.get(&format!("roomcast-{key}")).map(String::as_str);
    let must = |key: &str| {
        header(key).unwrap_or_else(|| panic!("{name}: roomcast-{key} is missing: {:?}", letter.headers))
    };
    assert_eq!(must("class"), class, "{name}: {:?}", header("error"));
    assert!(
        must("error").contains(case.error) && must("error").len() <= 1_024,
        "{name}: {:?}",
        header("error")
    );
    for key in ["letter", "id"] {
        let id = uuid::Uuid::parse_str(must(key)).expect("a UUID");
        assert_eq!(id.get_version_num(), 5, "{name}: {key}");
    }
    if let Some(subject) = &letter.subject {
        assert_eq!(*subject, format!("{}.letter.{}", bed.dead_letter(), must("letter")), "{name}");
    }
    assert_eq!(header("route"), case.route, "{name}: route");
    assert_eq!(header("account"), case.route.map(|_| "match"), "{name}: account");
    let rooms = case.room.filter(|room| !room.is_empty()).map(|room| json!([room]).to_string());
    if name != "long-key" {
        assert_eq!(header("rooms").map(str::to_owned), rooms, "{name}: rooms");
    }
    assert_eq!(header("http-status"), case.answer.map(|(status, _)| status), "{name}: http-status");
    assert_eq!(header("provider-code"), case.answer.map(|(_, code)| code), "{name}: provider-code");
    assert_eq!(must("attempts"), if case.answer.is_some() { "1" } else { "0" }, "{name}: attempts");
    for key in ["first-attempt", "last-attempt"] {
        assert_eq!(header(key).is_some(), case.answer.is_some(), "{name}: {key}");
    }
    for key in ["first-attempt", "last-attempt", "written", "timestamp"] {
        if let Some(time) = header(key) {
            assert!(time.parse::<jiff::Timestamp>().is_ok(), "{name}: {key} is {time}");
        }
    }
    assert_eq!(must("source"), "main");
    assert_eq!(must("topic"), bed.topic());
    assert!(must("partition").parse::<u32>().is_ok() && must("offset").parse::<u64>().is_ok(), "{name}");
    assert_eq!((must("replays"), must("version")), ("0", env!("CARGO_PKG_VERSION")), "{name}");
    assert_eq!(header("original"), None, "{name}: nothing was replayed");
    if letter.headers.contains_key("roomcast-truncated") {
        let stands = format!("{}/{}/{}", must("topic"), must("partition"), must("offset"));
        assert_eq!(must("truncated"), stands, "{name}");
        assert!(letter.value.as_ref().is_none_or(Vec::is_empty), "{name}: truncated means no value");
    } else {
        assert!(letter.value == case.event.value, "{name}: the value is untouched");
    }
    if matches!(bed, Bed::Kafka { .. }) {
        assert!(letter.key == case.event.key, "{name}: the key is untouched");
    }
}

fn truncated(letters: &[Letter]) -> BTreeSet<&str> {
    let large = letters.iter().filter(|letter| letter.headers.contains_key("roomcast-truncated"));
    large.map(|letter| letter.headers.get(CASE).map_or("?", String::as_str)).collect()
}

/// The topic takes 12 MB, the dead-letter topic only what the broker's default allows: letters too
/// large for it stand without their value, and without a key of 1 MiB.
#[test]
fn kafka_with_a_dead_letter_topic_narrower_than_its_topic() {
    let bed = Bed::kafka_on(Kafka::shared(), &[("max.message.bytes", "12000000")]);
    let Bed::Kafka { kafka, .. } = &bed else { unreachable!("it was made as one") };
    kafka.create_topic(&bed.dead_letter(), 1, &[]);
    let cases: Vec<Case> = cases(MIB).into_iter().chain(kafka_cases()).collect();
    let letters = run(&bed, &cases);
    let bare = judge_letters(&bed, &cases, &letters);
    assert_eq!(bare.len(), 1, "the key of 1 MiB goes too: {bare:?}");
    assert_eq!((bare[0].headers["roomcast-class"].as_str(), &bare[0].key), ("invalid", &None));
    assert_eq!(truncated(&letters), ["?", "large-garbled", "large-text"].into());
}

/// A dead-letter topic that the daemon makes takes as much as the topic: letters are whole.
#[test]
fn kafka_with_a_dead_letter_topic_made_by_the_daemon() {
    let bed = Bed::kafka_on(Kafka::shared(), &[("max.message.bytes", "12000000")]);
    let cases = cases(MIB);
    let letters = run(&bed, &cases);
    assert!(judge_letters(&bed, &cases, &letters).is_empty());
    assert_eq!(truncated(&letters), BTreeSet::new());
}

/// A message's headers may have 64 KiB here: those of a record with a long key leave no place for
/// the letter's own.
#[test]
fn nats() {
    let bed = Bed::nats_on(Nats::start_with("max_payload: 12MB\n"));
    let cases = cases(65_000);
    let letters = run(&bed, &cases);
    let bare = judge_letters(&bed, &cases, &letters);
    assert_eq!(bare.len(), 1, "the headers of the record go: {bare:?}");
    assert_eq!(bare[0].headers["roomcast-class"], "invalid");
    assert_eq!(truncated(&letters), ["?"].into());
}
