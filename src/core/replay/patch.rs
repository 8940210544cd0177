//! A patch: what a replay changes of a letter's value first. A filter as in routes, over the value.

use bytes::Bytes;

use crate::core::decode::{self, KeyFormat};
use crate::core::model::Record;
use crate::core::route::filter::{Filter, Input, Refusal};
use crate::core::value::Val;
use crate::core::value::budget::Meter;

/// A filter whose one output takes the place of a record's value.
#[derive(Debug)]
pub struct Patch(Filter);

impl Patch {
    /// Compiles its text.
    ///
    /// # Errors
    /// What is wrong with it, and where in the text.
    pub fn compile(text: &str) -> Result<Self, Refusal> {
        Filter::compile(text).map(Self)
    }

    /// The new value of a record. The filter's input is the value as JSON; one that is no JSON is a text, and
    /// a text that comes out of it is written as it is. `$key`, `$topic` and `$headers` are those of routes.
    ///
    /// # Errors
    /// Why there is none: the filter fails on this value, gives none or several outputs, or more than
    /// [`crate::core::route::filter::OUTPUT_MAX`] bytes; or the value is neither JSON nor UTF-8.
    pub fn apply(&self, record: &Record, key_format: KeyFormat) -> Result<Bytes, String> {
        let value = record.value.as_deref().ok_or("the record has no value")?;
        let (event, is_json) = match serde_json::from_slice::<Val>(value) {
            Ok(event) => (event, true),
            Err(_) => {
                let text = std::str::from_utf8(value).map_err(|_| "the value is neither JSON nor UTF-8")?;
                (Val::text(text), false)
            }
        };
        let key = match self.0.uses_key() {
            true => decode::key(record, key_format)?,
            false => None,
        };
        let input = Input::of(event, key.as_deref(), record, self.0.uses_headers());
        let output = {
            let _counted = Meter::start();
            self.0.output(&input).map_err(|trouble| trouble.to_string())?
        };
        match output {
            Val::Str(text) if !is_json => Ok(Bytes::copy_from_slice(text.as_bytes())),
            output => Ok(Bytes::from(output.to_string())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::model::{Epoch, Origin, PartitionId, RecordId, SourceId};
    use crate::core::time::Wall;

    fn record(value: &[u8]) -> Record {
        Record {
            id: RecordId { source: SourceId(0), partition: PartitionId(0), epoch: Epoch(0), offset: 7 },
            origin: Origin { stream: "t".into(), topic: "t".into(), partition: 0, offset: 7 },
            key: Some(Bytes::from_static(&[0, 0, 0, 42])),
            value: Some(Bytes::copy_from_slice(value)),
            headers: vec![("a".into(), "1".into()), ("a".into(), "2".into())],
            timestamp: Wall(0),
            maybe_tried: false,
        }
    }

    fn apply(patch: &str, value: &[u8]) -> Result<String, String> {
        let patched = Patch::compile(patch).expect("it is a filter").apply(&record(value), KeyFormat::Int32);
        patched.map(|bytes| String::from_utf8(bytes.to_vec()).expect("JSON is UTF-8"))
    }

    #[test]
    fn the_output_takes_the_place_of_the_value() {
        for (patch, value, wanted) in [
            (
                ".room = \"r2\"",
                r#"{"room":"r1","n":12345678901234567890}"#,
                r#"{"n":12345678901234567890,"room":"r2"}"#,
            ),
            (".", "[1, 2.50]", "[1,2.5]"),
            ("{k: $key, t: $topic, h: $headers.a}", "null", r#"{"h":"1","k":"42","t":"t"}"#),
            // A text that is no JSON stays a text; one that is JSON stays JSON.
            (". + \"!\"", "hello", "hello!"),
            (". + \"!\"", "\"hello\"", "\"hello!\""),
            ("{text: .}", "hello", r#"{"text":"hello"}"#),
        ] {
            assert_eq!(apply(patch, value.as_bytes()).as_deref(), Ok(wanted), "{patch}");
        }
    }

    #[test]
    fn what_cannot_be_patched_says_why() {
        for (patch, value, wanted) in [
            (".a.b", &br#"{"a":1}"#[..], "cannot index"),
            ("empty", b"1", "gives nothing"),
            ("1, 2", b"1", "more than one output"),
            ("[limit(100000; .[] | .[])]", b"1", "cannot"),
            (".", b"\xff\x00", "neither JSON nor UTF-8"),
        ] {
            let why = apply(patch, value).expect_err(patch);
            assert!(why.contains(wanted), "{patch}: {why}");
        }
        let long = format!("\"{}\"", "x".repeat(70_000));
        assert!(apply(".", long.as_bytes()).expect_err("it is long").contains("more than 64 KiB"));
        let mut tombstone = record(b"1");
        tombstone.value = None;
        let patch = Patch::compile(".").expect("a filter");
        assert_eq!(patch.apply(&tombstone, KeyFormat::Int32), Err("the record has no value".to_owned()));
        let key = Patch::compile("$key").expect("a filter");
        assert!(key.apply(&record(b"1"), KeyFormat::Int64).expect_err("four bytes").contains("key_format"));
        assert_eq!(Patch::compile(".a |").map(drop).expect_err("it ends early").at, 4);
    }
}
