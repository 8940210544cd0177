//! The examples of the CloudEvents specification and of its conformance suite, each with the document
//! that it stands in (`fixtures/cloudevents/examples.json`): what filters see of them. Where a document
//! leaves bytes or members out (`... base64 encoded string ...`), the fixture has some.

use std::collections::BTreeMap;

use bytes::Bytes;
use roomcast::core::decode::{self, Payload};
use roomcast::core::model::{Epoch, Origin, PartitionId, Record, RecordId, SourceId};
use roomcast::core::time::Wall;
use serde_json::Value;

/// An example. One of `event` and `garbled` is there.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Example {
    name: String,
    /// Repository and commit, document, section.
    source: String,
    headers: BTreeMap<String, String>,
    value: String,
    /// The structured form that filters see.
    event: Option<Value>,
    /// A part of what is wrong with it.
    garbled: Option<String>,
}

fn examples() -> Vec<Example> {
    let text = include_str!("fixtures/cloudevents/examples.json");
    serde_json::from_str(text).expect("the fixtures are examples")
}

fn record(example: &Example) -> Record {
    let header = |(name, value): (&String, &String)| (name.as_str().into(), Bytes::from(value.clone()));
    Record {
        id: RecordId { source: SourceId(0), partition: PartitionId(0), epoch: Epoch(0), offset: 1 },
        origin: Origin { stream: "t".into(), topic: "t".into(), partition: 0, offset: 1 },
        key: None,
        value: Some(Bytes::from(example.value.clone())),
        headers: example.headers.iter().map(header).collect(),
        timestamp: Wall(0),
        maybe_tried: false,
    }
}

#[test]
fn every_official_example_is_seen_as_its_document_says() {
    let examples = examples();
    for document in ["json-format.md", "kafka-protocol-binding.md", "nats-protocol-binding.md", ".feature"] {
        assert!(examples.iter().any(|example| example.source.contains(document)), "{document}");
    }
    for example in &examples {
        let seen = decode::event(&record(example), Payload::Json);
        match (seen, &example.event, &example.garbled) {
            (Ok(event), Some(expected), None) => {
                assert_eq!(event.value.to_json(), *expected, "{} ({})", example.name, example.source);
                let cloud = event.cloud.expect("every example is a CloudEvent");
                assert_eq!(Some(&*cloud.id), expected["id"].as_str(), "{}", example.name);
                assert_eq!(cloud.time.is_some(), expected.get("time").is_some(), "{}", example.name);
            }
            (Err(garbled), None, Some(part)) => {
                assert!(garbled.0.contains(part), "{} ({}): {garbled}", example.name, example.source);
            }
            (seen, _, _) => panic!("{}: {seen:?}", example.name),
        }
    }
}
