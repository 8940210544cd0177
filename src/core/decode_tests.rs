//! What records are read as, by tables.

use std::sync::Arc;

use bytes::Bytes;

use super::*;
use crate::core::model::{Epoch, Origin, PartitionId, RecordId, SourceId};

fn record(headers: &[(&str, &str)], value: &[u8]) -> Record {
    Record {
        id: RecordId { source: SourceId(0), partition: PartitionId(0), epoch: Epoch(0), offset: 1 },
        origin: Origin { stream: "t".into(), topic: "t".into(), partition: 0, offset: 1 },
        key: None,
        value: Some(Bytes::copy_from_slice(value)),
        headers: headers
            .iter()
            .map(|(name, value)| (Arc::from(*name), Bytes::copy_from_slice(value.as_bytes())))
            .collect(),
        timestamp: Wall(0),
        maybe_tried: false,
    }
}

/// The structured form and whether it is a CloudEvent, or the error.
fn read(headers: &[(&str, &str)], value: &str) -> String {
    match event(&record(headers, value.as_bytes()), Payload::Json) {
        Ok(event) => format!("{} {}", if event.cloud.is_some() { "cloud" } else { "plain" }, event.value),
        Err(Garbled(why)) => format!("garbled: {why}"),
    }
}

const KAFKA: [(&str, &str); 4] =
    [("ce_specversion", "1.0"), ("ce_id", "7"), ("ce_source", "/s"), ("ce_type", "a.b")];

/// Headers and a value, and what [`read`] says of them.
type Seen = (Vec<(&'static str, &'static str)>, String, &'static str);

#[track_caller]
fn assert_seen(table: &[Seen]) {
    for (headers, value, expected) in table {
        assert_eq!(read(headers, value), *expected, "{headers:?} {value}");
    }
}

/// The attributes that every CloudEvent has, as members of its structured form.
const ATTRIBUTES: &str = r#""specversion":"1.0","id":"7","source":"/s","type":"a.b""#;

#[test]
fn json_values_are_events_as_they_are() {
    assert_seen(&[
        (vec![], r#"{"b":1,"a":2}"#.to_owned(), r#"plain {"a":2,"b":1}"#),
        (vec![], "3".to_owned(), "plain 3"),
        (vec![], r#""text""#.to_owned(), r#"plain "text""#),
        (vec![], "null".to_owned(), "plain null"),
    ]);
}

#[test]
fn cloud_events_in_one_json_object() {
    assert_seen(&[
        (
            vec![],
            format!("{{{ATTRIBUTES},\"data\":{{\"n\":1}}}}"),
            r#"cloud {"data":{"n":1},"id":"7","source":"/s","specversion":"1.0","type":"a.b"}"#,
        ),
        (
            vec![("Content-Type", "application/cloudevents+json; charset=utf-8")],
            format!("{{{ATTRIBUTES}}}"),
            r#"cloud {"id":"7","source":"/s","specversion":"1.0","type":"a.b"}"#,
        ),
        (
            vec![],
            r#"{"specversion":"0.3","id":"7","source":"/s","type":"a"}"#.to_owned(),
            r#"plain {"id":"7","source":"/s","specversion":"0.3","type":"a"}"#,
        ),
        (
            vec![],
            r#"{"specversion":"1.0","id":7,"source":"/s","type":"a"}"#.to_owned(),
            r#"plain {"id":7,"source":"/s","specversion":"1.0","type":"a"}"#,
        ),
        (
            vec![],
            format!("{{{ATTRIBUTES},\"data_base64\":\"eyJuIjoxfQ==\"}}"),
            r#"cloud {"data_base64":"eyJuIjoxfQ==","id":"7","source":"/s","specversion":"1.0","type":"a.b"}"#,
        ),
        (
            vec![],
            format!(
                "{{{ATTRIBUTES},\"datacontenttype\":\"a/b+JSON; c=d\",\"data_base64\":\"eyJuIjoxfQ==\"}}"
            ),
            r#"cloud {"data":{"n":1},"datacontenttype":"a/b+JSON; c=d","id":"7","source":"/s","specversion":"1.0","type":"a.b"}"#,
        ),
        (
            vec![],
            format!("{{{ATTRIBUTES},\"data\":null,\"subject\":null,\"time\":null,\"data_base64\":null}}"),
            r#"cloud {"data":null,"id":"7","source":"/s","specversion":"1.0","type":"a.b"}"#,
        ),
        (
            vec![],
            format!("{{{ATTRIBUTES},\"datacontenttype\":\"text/plain\",\"data_base64\":\"aGk=\"}}"),
            r#"cloud {"data":"hi","datacontenttype":"text/plain","id":"7","source":"/s","specversion":"1.0","type":"a.b"}"#,
        ),
        (
            vec![],
            format!("{{{ATTRIBUTES},\"datacontenttype\":\"image/png\",\"data_base64\":\"aGk=\"}}"),
            r#"cloud {"data_base64":"aGk=","datacontenttype":"image/png","id":"7","source":"/s","specversion":"1.0","type":"a.b"}"#,
        ),
    ]);
}

#[test]
fn cloud_events_in_headers_are_seen_in_their_structured_form() {
    let with = |more: &[(&'static str, &'static str)]| [&KAFKA[..], more].concat();
    assert_seen(&[
        (
            KAFKA.to_vec(),
            r#"{"n":1}"#.to_owned(),
            r#"cloud {"data":{"n":1},"id":"7","source":"/s","specversion":"1.0","type":"a.b"}"#,
        ),
        (
            with(&[("content-type", "application/json"), ("ce_Room", "r%41")]),
            "[1]".to_owned(),
            r#"cloud {"data":[1],"datacontenttype":"application/json","id":"7","room":"r%41","source":"/s","specversion":"1.0","type":"a.b"}"#,
        ),
        (
            with(&[("content-type", "text/plain")]),
            "hi".to_owned(),
            r#"cloud {"data":"hi","datacontenttype":"text/plain","id":"7","source":"/s","specversion":"1.0","type":"a.b"}"#,
        ),
        (
            with(&[("content-type", "image/png")]),
            "hi".to_owned(),
            r#"cloud {"data_base64":"aGk=","datacontenttype":"image/png","id":"7","source":"/s","specversion":"1.0","type":"a.b"}"#,
        ),
        (KAFKA.to_vec(), String::new(), r#"cloud {"id":"7","source":"/s","specversion":"1.0","type":"a.b"}"#),
        (
            vec![
                ("ce-specversion", "1.0"),
                ("ce-id", "a%20b%zz"),
                ("Ce-Source", "/s"),
                ("ce-type", "%e4%bd%a0"),
            ],
            "1".to_owned(),
            r#"cloud {"data":1,"id":"a b%zz","source":"/s","specversion":"1.0","type":"你"}"#,
        ),
        (
            vec![
                ("ce-specversion", "1.0"),
                ("ce-id", "\"Euro \\\"%E2%82%AC\\\" 100%25\""),
                ("ce-source", "/s"),
                ("ce-type", "a.b"),
                ("ce-datacontenttype", "text/plain"),
                ("ce-Room", "7%2541"),
            ],
            "hi".to_owned(),
            r#"cloud {"data":"hi","datacontenttype":"text/plain","id":"Euro \"€\" 100%","room":"7%41","source":"/s","specversion":"1.0","type":"a.b"}"#,
        ),
        (
            with(&[("Content-Type", "Text/Plain; CharSet=utf-8"), ("ce_datacontenttype", "a/b")]),
            "hi".to_owned(),
            r#"cloud {"data":"hi","datacontenttype":"Text/Plain; CharSet=utf-8","id":"7","source":"/s","specversion":"1.0","type":"a.b"}"#,
        ),
        (vec![("ce_specversion", "1.0"), ("ce_id", "7")], "1".to_owned(), "plain 1"),
    ]);
}

#[test]
fn attributes_that_break_a_rule_are_garbled() {
    let structured = [("content-type", "application/cloudevents+json")];
    for (member, part) in [
        (r#""Room":"1""#, "the attribute \"Room\"; names of a to z and 0 to 9"),
        (r#""my_ext":"1""#, "names of a to z"),
        (r#""":"1""#, "names of a to z"),
        (r#""ext":1.5"#, "\"ext\" is 1.5; a text, a boolean or a whole number; anything"),
        (r#""ext":[1]"#, "\"ext\" is [1]"),
        (r#""ext":{}"#, "belongs into data"),
        (r#""ext":"a\nb""#, "without control characters"),
        (r#""ext":"\u0085""#, "without control characters"),
        (r#""ext":"\ufffe""#, "without control characters"),
        (r#""time":"yesterday""#, "\"time\" is \"yesterday\"; a time of RFC 3339"),
        (r#""time":1522900584"#, "RFC 3339"),
        (r#""subject":"""#, "\"subject\" is \"\""),
        (r#""dataschema":"/relative""#, "an absolute URI"),
        (r#""dataschema":"""#, "an absolute URI"),
        (r#""time":"2026-01-31T23:59:59.Z""#, "RFC 3339"),
        (r#""datacontenttype":"json""#, "a media type, such as application/json"),
        (r#""datacontenttype":"text/""#, "a media type"),
        (r#""datacontenttype":"/plain""#, "a media type"),
        (r#""datacontenttype":"te xt/plain""#, "a media type"),
        (r#""datacontenttype":"text/(plain)""#, "a media type"),
        (r#""source":"a b""#, "\"source\" is \"a b\"; a URI reference without spaces"),
        ("\"source\":\"直\u{3000}播\"", "a URI reference without spaces"),
        (r#""source":"a\tb""#, "without control characters"),
        (r#""id":null"#, "without \"id\""),
    ] {
        // Of a name that stands twice the last counts.
        let value = format!("{{{ATTRIBUTES},{member}}}");
        for headers in [&structured[..], &[]] {
            let outcome = read(headers, &value);
            // Without a content type only what has all four is taken for a CloudEvent.
            let is_told = outcome.starts_with("garbled: ") && outcome.contains(part);
            let looks_plain = headers.is_empty() && member.contains("null") && outcome.starts_with("plain ");
            assert!(is_told || looks_plain, "{member}: {outcome}");
        }
    }
    for (member, seen) in [
        (r#""ext":true"#, "\"ext\":true"),
        (r#""comexampleothervalue":-2147483648"#, "-2147483648"),
        // Wider than the specification: a time in milliseconds, an IRI.
        (r#""sentat":1769903999123"#, r#""sentat":1769903999123"#),
        (r#""source":"/直播""#, r#""source":"/直播""#),
        (r#""dataschema":"https://example.com/schema#v1""#, "schema#v1"),
        (r#""data":{"Any_Name":[1.5,null]}"#, r#"{"Any_Name":[1.5,null]}"#),
        (r#""subject":"gifts""#, r#""subject":"gifts""#),
    ] {
        let outcome = read(&structured, &format!("{{{ATTRIBUTES},{member}}}"));
        assert!(outcome.starts_with("cloud ") && outcome.contains(seen), "{member}: {outcome}");
    }
    for (header, value, part) in [
        ("ce_my_ext", "1", "names of a to z and 0 to 9"),
        ("ce_time", "now", "RFC 3339"),
        ("content-type", "json", "a media type"),
        ("ce-other", "%C0%A0", "the header \"ce-other\" of a CloudEvent is not UTF-8 once"),
        ("ce-other", "%ff", "not UTF-8 once its percent escapes are decoded"),
    ] {
        let outcome = read(&[&KAFKA[..], &[(header, value)]].concat(), "{}");
        assert!(outcome.starts_with("garbled: ") && outcome.contains(part), "{header}: {outcome}");
    }
    let mut invalid = record(&KAFKA, b"{}");
    invalid.headers.push((Arc::from("ce_other"), Bytes::from_static(b"\xff")));
    let why = event(&invalid, Payload::Json).unwrap_err();
    assert_eq!(why.0, "the header \"ce_other\" of a CloudEvent is not UTF-8");
}

#[test]
fn what_is_no_event_is_told_in_one_line() {
    let structured = [("content-type", "application/cloudevents+json")];
    for (headers, value, part) in [
        (&[][..], "", "an empty value"),
        (&[], "  \n", "an empty value"),
        (&[], "hello", "not JSON: expected value at line 1 column 1; 5 bytes that begin \"hello\""),
        (&[], "{\"a\":1", "EOF while parsing"),
        (&[], "{\"a\":1}{}", "trailing characters"),
        (&[], "{'a':1}", "key must be a string"),
        (&[], "[1,]", "trailing comma"),
        (&[], "1e999", "number out of range"),
        (&[], "NaN", "expected value"),
        (&[], "\"\\ud800\"", "not JSON"),
        (&[], "\u{feff}{}", "expected value"),
        (&[("content-type", "application/cloudevents-batch+json")], "[]", "a batch of CloudEvents"),
        (&[("content-type", "application/cloudevents+avro")], "[]", "application/cloudevents+avro"),
        (&structured, "[]", "an array where the JSON object"),
        (&structured, "{}", "without \"specversion\""),
        (&structured, r#"{"specversion":"1.0","source":"/s","type":"a"}"#, "without \"id\""),
        (&structured, r#"{"specversion":"1.0","id":"","source":"/s","type":"a"}"#, "\"id\" is \"\""),
        (&structured, r#"{"specversion":"1.0","id":7,"source":"/s","type":"a"}"#, "\"id\" is 7"),
        (&structured, r#"{"specversion":"1.0","id":"7","source":"","type":"a"}"#, "\"source\" is \"\""),
        (&structured, r#"{"specversion":"2.0","id":"7","source":"/s","type":"a"}"#, "specversion \"2.0\""),
        (
            &structured,
            r#"{"specversion":"1.0","id":"7","source":"/s","type":"a","data":1,"data_base64":""}"#,
            "both",
        ),
        (
            &structured,
            r#"{"specversion":"1.0","id":"7","source":"/s","type":"a","data_base64":"%%"}"#,
            "base64",
        ),
        (&structured, r#"{"specversion":"1.0","id":"7","source":"/s","type":"a","data_base64":1}"#, "base64"),
        (
            &structured,
            r#"{"specversion":"1.0","id":"7","source":"/s","type":"a","datacontenttype":"text/json","data_base64":"eA=="}"#,
            "not JSON",
        ),
        (&KAFKA, "{", "not JSON"),
    ] {
        let outcome = read(headers, value);
        assert!(outcome.starts_with("garbled: ") && outcome.contains(part), "{value}: {outcome}");
        assert!(!outcome.contains('\n') && outcome.len() < 400, "{outcome}");
    }
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(read(&[], &deep).contains("recursion limit exceeded"));
    let invalid = event(&record(&[], b"{\"a\":\"\xff\"}"), Payload::Json).unwrap_err();
    assert!(invalid.0.contains("not UTF-8 from byte 7 on"), "{invalid}");
    let binary = event(&record(&[], &[0x0a, 0x00, 0xff]), Payload::Text).unwrap_err();
    assert!(binary.0.contains("not UTF-8 from byte 3 on"), "{binary}");
    let megabytes = vec![b'x'; 10 << 20];
    assert!(event(&record(&[], &megabytes), Payload::Json).unwrap_err().0.len() < 300);
}

#[test]
fn a_source_may_carry_text_or_bytes() {
    let text = event(&record(&[], "你好 {".as_bytes()), Payload::Text).unwrap();
    assert_eq!(text.value, Val::text("你好 {"));
    let bytes = event(&record(&[], &[0xff, 0]), Payload::Base64).unwrap();
    assert_eq!(bytes.value, Val::text("/wA="));
    let empty = event(&record(&[], b""), Payload::Text).unwrap();
    assert_eq!(empty.value, Val::text(""));
}

#[test]
fn keys_are_read_as_the_source_says() {
    let keyed = |bytes: &[u8], format| {
        let mut record = record(&[], b"1");
        record.key = Some(Bytes::copy_from_slice(bytes));
        key(&record, format)
    };
    assert_eq!(key(&record(&[], b"1"), KeyFormat::Text), Ok(None));
    assert_eq!(keyed("房间".as_bytes(), KeyFormat::Text), Ok(Some("房间".to_owned())));
    assert_eq!(keyed(&42_i64.to_be_bytes(), KeyFormat::Int64), Ok(Some("42".to_owned())));
    assert_eq!(keyed(&(-1_i32).to_be_bytes(), KeyFormat::Int32), Ok(Some("-1".to_owned())));
    assert!(keyed(b"abc", KeyFormat::Int64).unwrap_err().contains("a key of 3 bytes"));
    assert!(keyed(b"a\xff", KeyFormat::Text).unwrap_err().contains("not UTF-8 (byte 2)"));
}

#[test]
fn machine_events_find_their_type_and_data() {
    let plain = event(&record(&[], br#"{"type":"x","n":1}"#), Payload::Json).unwrap();
    assert_eq!((plain.kind(), plain.data()), (Some("x"), serde_json::json!({"type": "x", "n": 1})));
    let cloud = event(&record(&KAFKA, b"[1]"), Payload::Json).unwrap();
    assert_eq!((cloud.kind(), cloud.data()), (Some("a.b"), serde_json::json!([1])));
    let bare = event(&record(&KAFKA, b""), Payload::Json).unwrap();
    assert_eq!(bare.data(), Value::Null);
    assert_eq!(event(&record(&[], b"[]"), Payload::Json).unwrap().kind(), None);
}

#[test]
fn a_header_that_only_looks_like_an_attribute_is_none() {
    let with = |more: &[(&'static str, &'static str)]| [&KAFKA[..], more].concat();
    let bare = r#"cloud {"data":1,"id":"7","source":"/s","specversion":"1.0","type":"a.b"}"#;
    for name in ["", "ce", "ce_", "ce-", "certificate", "my_key", "my-key", "ce_é"] {
        assert_eq!(read(&with(&[(name, "x")]), "1"), bare, "{name:?}");
    }
}

#[test]
fn where_attributes_are_headers_of_nats_the_content_type_is_among_them() {
    let nats = [("ce-specversion", "1.0"), ("ce-id", "7"), ("ce-source", "/s"), ("ce-type", "a.b")];
    let both = [("content-type", "a/b"), ("ce-datacontenttype", "text/plain")];
    assert_seen(&[(
        [&nats[..], &both].concat(),
        "hi".to_owned(),
        r#"cloud {"data":"hi","datacontenttype":"text/plain","id":"7","source":"/s","specversion":"1.0","type":"a.b"}"#,
    )]);
}

#[test]
fn the_time_of_a_cloud_event_is_read_as_it_stands() {
    let structured = [("content-type", "application/cloudevents+json")];
    let time = |text: &str| {
        let value = format!("{{{ATTRIBUTES},\"time\":\"{text}\"}}");
        let event = event(&record(&structured, value.as_bytes()), Payload::Json).expect("an event");
        event.cloud.expect("a CloudEvent").time.map(|(at, told)| (at, told.to_string()))
    };
    for (text, at) in [
        ("2026-01-31T23:59:59Z", 1_769_903_999_000),
        ("2026-01-31t23:59:59.25z", 1_769_903_999_250),
        ("2026-01-31T23:59:59.123456789012+00:00", 1_769_903_999_123),
    ] {
        assert_eq!(time(text), Some((Wall(at), text.to_owned())));
    }
}
