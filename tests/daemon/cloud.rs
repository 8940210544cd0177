//! CloudEvents as producers of each broker write them, over the real one: what filters see, and that an
//! event which breaks the rules becomes a letter while the next one flows. The rules themselves are
//! tested in `tests/cloudevents.rs`.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::bed::{Bed, Event};
use crate::support::daemon::Daemon;
use crate::support::provider::{Kind, Provider};

const PATIENCE: Duration = Duration::from_secs(60);

/// Everything of an event that a filter can see, in one text.
const ROUTE: &str = r#"
[[routes]]
name = "seen"
account = "live"
rooms = '.room'
message = { kind = "text", text = '[.id, .source, .subject, .comexampleextension1, .datacontenttype, .data, .data_base64] | tojson' }
"#;

/// An event in binary mode with one subject, written as the broker's binding says.
fn binary(bed: &Bed, id: &str, content_type: Option<&str>, value: &[u8]) -> Event {
    let (names, subject, own_type) = match bed {
        Bed::Kafka { .. } => (
            [
                "ce_specversion",
                "ce_id",
                "ce_source",
                "ce_type",
                "ce_subject",
                "ce_room",
                "ce_comexampleextension1",
            ],
            "Euro € 😀",
            "content-type",
        ),
        Bed::Nats(_) => (
            [
                "ce-specversion",
                "ce-id",
                "ce-source",
                "ce-type",
                "ce-subject",
                "ce-room",
                "ce-comexampleextension1",
            ],
            "Euro%20%E2%82%AC%20%f0%9f%98%80",
            "ce-datacontenttype",
        ),
    };
    let values = ["1.0", id, "/c", "com.example.someevent", subject, "7", "value"];
    let event = names
        .into_iter()
        .zip(values)
        .fold(Event::new("7", value), |event, (name, value)| event.with(name, value));
    match content_type {
        Some(content_type) => event.with(own_type, content_type),
        None => event,
    }
}

fn structured(id: &str, rest: &str) -> Event {
    let value = format!(
        r#"{{"specversion":"1.0","id":"{id}","source":"/c","type":"com.example.someevent","room":"7","comexampleextension1":"value",{rest}}}"#
    );
    Event::new("7", value).with("content-type", "application/cloudevents+json; charset=UTF-8")
}

fn scenario(bed: &Bed) {
    let provider = Provider::start(Kind::Yunxin, &["--no-limits"]);
    let config = [bed.source(""), provider.account("live", ""), ROUTE.to_owned()].concat();
    let _daemon = Daemon::start_ready(&config);
    let bad_escape = match bed {
        Bed::Kafka { .. } => binary(bed, "bad-4", None, b"{}").with("ce_my_name", "1"),
        Bed::Nats(_) => binary(bed, "bad-4", None, b"{}").with("ce-other", "%C0%A0"),
    };
    bed.publish([
        binary(bed, "json", Some("application/json; charset=utf-8"), br#"{"n":1}"#),
        structured("bad-1", r#""time":"yesterday""#),
        binary(bed, "text", Some("text/plain"), "你好".as_bytes()),
        structured("bad-2", r#""Name":"1""#),
        binary(bed, "bytes", Some("application/avro"), &[2, 0, 255]),
        Event::new("7", "[]").with("content-type", "application/cloudevents-batch+json"),
        structured(
            "base64",
            r#""datacontenttype":"application/json","data_base64":"eyJuIjoxfQ==","subject":null"#,
        ),
        bad_escape,
        structured("last", r#""subject":"s","data":"I'm just a string""#),
    ]);
    bed.await_finished(PATIENCE);
    let seen: Vec<String> = provider.log().into_iter().map(|entry| entry.content).collect();
    let expected = [
        r#"["json","/c","Euro € 😀","value","application/json; charset=utf-8",{"n":1},null]"#,
        r#"["text","/c","Euro € 😀","value","text/plain","你好",null]"#,
        r#"["bytes","/c","Euro € 😀","value","application/avro",null,"AgD/"]"#,
        r#"["base64","/c",null,"value","application/json",{"n":1},null]"#,
        r#"["last","/c","s","value",null,"I'm just a string",null]"#,
    ];
    assert_eq!(seen, expected);
    let errors: BTreeMap<String, String> = bed
        .letters()
        .into_iter()
        .map(|letter| {
            (
                letter.headers["roomcast-class"].clone() + &letter.headers["roomcast-error"],
                letter.headers["roomcast-offset"].clone(),
            )
        })
        .collect();
    assert_eq!(errors.len(), 4, "{errors:#?}");
    for part in ["\"time\" is \"yesterday\"", "the attribute \"Name\"", "a batch of CloudEvents"] {
        assert!(
            errors.keys().any(|error| error.starts_with("garbled") && error.contains(part)),
            "{part}: {errors:#?}"
        );
    }
}

#[test]
fn cloud_events_over_kafka() {
    scenario(&Bed::kafka());
}

#[test]
fn cloud_events_over_nats() {
    scenario(&Bed::nats());
}
