//! Whatever a record's headers and bytes are, it is an event or garbled, and garbled is one short line.
//! An event's structured form is JSON again, and a CloudEvent's is the same CloudEvent when it is read
//! again.
//!
//! The input is lines `name: value`, an empty line, and the record's value. Called by the fuzzer and, on
//! the inputs that found something, by `tests/fuzz.rs`.

use bytes::Bytes;
use roomcast::core::decode::{self, KeyFormat, Payload};
use roomcast::core::model::{Epoch, Origin, PartitionId, Record, RecordId, SourceId};
use roomcast::core::time::Wall;
use roomcast::core::value::Val;

/// Asserts it.
pub fn holds(input: &[u8]) {
    let record = record(input);
    for payload in [Payload::Json, Payload::Text, Payload::Base64] {
        let event = match decode::event(&record, payload) {
            Ok(event) => event,
            Err(garbled) => {
                assert!(!garbled.0.is_empty() && !garbled.0.contains('\n'), "one line: {garbled}");
                assert!(garbled.0.len() < 2_000, "{} bytes of {garbled}", garbled.0.len());
                continue;
            }
        };
        let text = event.value.to_string();
        let again: Val = serde_json::from_str(&text).expect("an event's value is JSON");
        assert_eq!(again, event.value, "{text}");
        drop((event.data(), event.kind().map(str::len), event.value.shown()));
        if let Some(cloud) = &event.cloud {
            let mut structured = record.clone();
            structured.headers = vec![("content-type".into(), "application/cloudevents+json".into())];
            structured.value = Some(Bytes::from(text));
            let read = decode::event(&structured, payload).expect("what was a CloudEvent is one");
            assert_eq!(read.cloud.as_ref(), Some(cloud));
        }
    }
    for format in [KeyFormat::Text, KeyFormat::Int64, KeyFormat::Int32] {
        drop(decode::key(&record, format));
    }
}

fn record(input: &[u8]) -> Record {
    let mut headers = Vec::new();
    let mut rest = input;
    while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
        let line = &rest[..end];
        if line.is_empty() {
            rest = &rest[1..];
            break;
        }
        let Some(colon) = line.windows(2).position(|pair| pair == b": ") else { break };
        let Ok(name) = std::str::from_utf8(&line[..colon]) else { break };
        headers.push((name.into(), Bytes::copy_from_slice(&line[colon + 2..])));
        rest = &rest[end + 1..];
    }
    Record {
        id: RecordId { source: SourceId(0), partition: PartitionId(0), epoch: Epoch(0), offset: 1 },
        origin: Origin { stream: "t".into(), topic: "t".into(), partition: 0, offset: 1 },
        key: Some(Bytes::copy_from_slice(&input[..input.len().min(8)])),
        value: Some(Bytes::copy_from_slice(rest)),
        headers,
        timestamp: Wall(0),
        maybe_tried: false,
    }
}
