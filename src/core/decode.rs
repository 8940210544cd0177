//! Bytes to events: CloudEvents 1.0 in structured and binary mode, or any other JSON value.
//!
//! A pure function of the record and its source's settings. It never fails otherwise than by saying
//! in one line what is wrong ([`Garbled`]), never panics, and knows nothing of routes. Bindings:
//! CloudEvents "Kafka Protocol Binding" 1.0.2 (headers `ce_…`, UTF-8) and "NATS Protocol Binding"
//! 1.0.2 (headers `ce-…`, percent-encoded), "JSON Event Format" 1.0.2. `attributes` checks what they say.

mod attributes;

use std::borrow::Cow;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::model::Record;
use super::time::Wall;
use super::value::{Fields, Val};
use attributes::{REQUIRED, is_data, known_version, short};

/// How a source's plain records are read: `payload`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Payload {
    /// JSON of any kind, and CloudEvents.
    #[default]
    Json,
    /// UTF-8 text; the event is a JSON string.
    Text,
    /// Any bytes; the event is a JSON string of their base64.
    Base64,
}

/// How a source's keys are read: `key_format`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeyFormat {
    /// UTF-8 text.
    #[default]
    Text,
    /// Eight bytes, big endian, signed, as Java's `LongSerializer` writes them.
    Int64,
    /// Four bytes, big endian, signed, as Java's `IntegerSerializer` writes them.
    Int32,
}

/// Why a record is not an event, in one line: a letter of class `garbled`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Garbled(pub String);

/// An event, decoded.
#[derive(Clone, Debug)]
pub struct Event {
    /// What filters see: a CloudEvent in its structured form, with `data_base64` decoded into `data`
    /// where it is JSON or text; else the JSON value as it is.
    pub value: Val,
    /// The attributes of a CloudEvent; `None` for plain JSON.
    pub cloud: Option<Cloud>,
}

/// The attributes of a CloudEvent that roomcast itself uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cloud {
    /// `source`: with `id` the event's identity.
    pub source: Arc<str>,
    /// `id`
    pub id: Arc<str>,
    /// `type`
    pub kind: Arc<str>,
    /// `time`, when it is there.
    pub time: Option<(Wall, Arc<str>)>,
}

impl Event {
    /// The type that machine events carry: the CloudEvents type, else a string `type`.
    pub fn kind(&self) -> Option<&str> {
        match &self.cloud {
            Some(cloud) => Some(&cloud.kind),
            None => self.value.field("type").and_then(Val::as_text),
        }
    }

    /// The data that machine events carry: a CloudEvent's data (its base64 when it is neither JSON
    /// nor text, null when it has none), else the whole value.
    pub fn data(&self) -> Value {
        match &self.cloud {
            None => self.value.to_json(),
            Some(_) => self
                .value
                .field("data")
                .or_else(|| self.value.field("data_base64"))
                .map_or(Value::Null, Val::to_json),
        }
    }
}

/// Reads the value of a record. A tombstone is no event and is dropped before this is asked.
pub fn event(record: &Record, payload: Payload) -> Result<Event, Garbled> {
    let bytes = record.value.as_deref().unwrap_or_default();
    let content_type = content_type(record);
    let kind = content_type.as_deref().map(media_type);
    match kind.as_deref() {
        Some(kind) if kind.starts_with("application/cloudevents-batch") => garbled(
            "a batch of CloudEvents (content type application/cloudevents-batch); one event a record is wanted",
        ),
        Some(kind) if kind.starts_with("application/cloudevents") => {
            if !matches!(kind, "application/cloudevents" | "application/cloudevents+json") {
                return garbled(format!(
                    "content type {:?}; of the CloudEvents formats application/cloudevents+json is known",
                    short(kind)
                ));
            }
            structured(json(bytes)?)
        }
        _ => match attributes(record)? {
            Some(found) => binary(found, content_type, bytes, payload),
            None => plain(bytes, payload),
        },
    }
}

/// Reads the key. `Ok(None)` when there is none; `Err` says why it is not what `key_format` says.
pub fn key(record: &Record, format: KeyFormat) -> Result<Option<String>, String> {
    let Some(bytes) = record.key.as_deref() else { return Ok(None) };
    let wrong_size = |wanted: usize| {
        format!(
            "a key of {} bytes; key_format of the source wants {wanted} (a big-endian integer)",
            bytes.len()
        )
    };
    match format {
        KeyFormat::Text => match std::str::from_utf8(bytes) {
            Ok(text) => Ok(Some(text.to_owned())),
            Err(error) => Err(format!(
                "a key of {} bytes that is not UTF-8 (byte {}); for integers as Java writes them set key_format = \"int64\" or \"int32\" at the source",
                bytes.len(),
                error.valid_up_to() + 1
            )),
        },
        KeyFormat::Int64 => match <[u8; 8]>::try_from(bytes) {
            Ok(bytes) => Ok(Some(i64::from_be_bytes(bytes).to_string())),
            Err(_) => Err(wrong_size(8)),
        },
        KeyFormat::Int32 => match <[u8; 4]>::try_from(bytes) {
            Ok(bytes) => Ok(Some(i32::from_be_bytes(bytes).to_string())),
            Err(_) => Err(wrong_size(4)),
        },
    }
}

fn garbled<T>(why: impl Into<String>) -> Result<T, Garbled> {
    Err(Garbled(why.into()))
}

/// The content type as it stands, if there is one that is text.
fn content_type(record: &Record) -> Option<String> {
    let header = std::str::from_utf8(record.header("content-type")?).ok()?.trim();
    (!header.is_empty()).then(|| header.to_owned())
}

/// A content type without its parameters, in lower case.
fn media_type(content_type: &str) -> String {
    content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

fn json(bytes: &[u8]) -> Result<Val, Garbled> {
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return garbled("an empty value; JSON is wanted");
    }
    serde_json::from_slice(bytes).map_err(|error| {
        let start: Vec<char> =
            String::from_utf8_lossy(&bytes[..bytes.len().min(240)]).chars().take(60).collect();
        let start: String = start.into_iter().collect();
        let hint = match std::str::from_utf8(bytes) {
            Err(error) => format!("not UTF-8 from byte {} on", error.valid_up_to() + 1),
            Ok(_) => error.to_string(),
        };
        Garbled(format!("not JSON: {hint}; {} bytes that begin {start:?}", bytes.len()))
    })
}

fn plain(bytes: &[u8], payload: Payload) -> Result<Event, Garbled> {
    let value = match payload {
        Payload::Json => json(bytes)?,
        Payload::Base64 => Val::text(&STANDARD.encode(bytes)),
        Payload::Text => match std::str::from_utf8(bytes) {
            Ok(text) => Val::text(text),
            Err(error) => {
                let at = error.valid_up_to() + 1;
                return garbled(format!("not UTF-8 from byte {at} on, and payload = \"text\" wants that"));
            }
        },
    };
    // An object that calls itself a CloudEvent is one; one that only looks like it stays as it is.
    let is_cloud = REQUIRED
        .iter()
        .all(|name| value.field(name).and_then(Val::as_text).is_some_and(|text| !text.is_empty()));
    if is_cloud && value.field("specversion").and_then(Val::as_text).is_some_and(known_version) {
        return structured(value);
    }
    Ok(Event { value, cloud: None })
}

/// A CloudEvent in structured form: its attributes are checked, its base64 decoded. An attribute that is
/// null is not there.
fn structured(value: Val) -> Result<Event, Garbled> {
    let Some(fields) = value.fields() else {
        return garbled(format!("{} where the JSON object of a CloudEvent is wanted", value.kind()));
    };
    let unset = |name: &str, value: &Val| matches!(value, Val::Null) && name != "data";
    let value = match fields.iter().any(|(name, value)| unset(name, value)) {
        false => value,
        true => {
            let set = fields.iter().filter(|(name, value)| !unset(name, value));
            Val::object(set.map(|(name, value)| (name.clone(), value.clone())).collect())
        }
    };
    let fields = value.fields().expect("it is an object still");
    let cloud = attributes::check(fields)?;
    let value = match fields.get("data_base64") {
        None => value,
        Some(encoded) => decoded(fields, encoded)?,
    };
    Ok(Event { value, cloud: Some(cloud) })
}

/// The event with `data` in place of `data_base64`, where the bytes are JSON or text.
fn decoded(fields: &Fields, encoded: &Val) -> Result<Val, Garbled> {
    if fields.contains_key("data") {
        return garbled("a CloudEvent with both \"data\" and \"data_base64\"; one of them is allowed");
    }
    let bytes = encoded.as_text().and_then(|text| STANDARD.decode(text).ok());
    let Some(bytes) = bytes else {
        return garbled(format!("\"data_base64\" is {}; base64 in a text is wanted", encoded.shown()));
    };
    let kind = fields.get("datacontenttype").and_then(Val::as_text);
    let mut fields = fields.clone();
    // Without a content type nothing may be assumed of bytes.
    if let Some(data) = kind.map_or(Ok(None), |kind| data(&bytes, kind))? {
        fields.remove("data_base64");
        fields.insert(Arc::from("data"), data);
    }
    Ok(Val::object(fields))
}

/// Data of that content type as a value; `None` when it is neither JSON nor text.
fn data(bytes: &[u8], content_type: &str) -> Result<Option<Val>, Garbled> {
    let kind = media_type(content_type);
    let subtype = kind.split_once('/').map_or("", |(_, subtype)| subtype);
    if subtype == "json" || subtype.ends_with("+json") {
        return json(bytes).map(Some);
    }
    match kind.starts_with("text/") || subtype == "xml" || subtype.ends_with("+xml") {
        true => Ok(std::str::from_utf8(bytes).ok().map(Val::text)),
        false => Ok(None),
    }
}

/// Attributes that came in headers.
struct InHeaders {
    fields: Fields,
    /// Whether by the binding for NATS, which writes `ce-` and has the content type among them.
    nats: bool,
}

/// The `ce_…` or `ce-…` headers as fields, when the four that every CloudEvent has are there.
fn attributes(record: &Record) -> Result<Option<InHeaders>, Garbled> {
    // Most records have none: no work for them.
    if !record.headers.iter().any(|(name, _)| is_attribute(name)) {
        return Ok(None);
    }
    let mut found = InHeaders { fields: Fields::new(), nats: false };
    let mut wrong = None;
    for (name, value) in record.headers.iter().filter(|(name, _)| is_attribute(name)) {
        let encoded = name.as_bytes()[2] == b'-';
        found.nats |= encoded;
        let text = match encoded {
            true => header_decoded(value),
            false => std::str::from_utf8(value).map(ToOwned::to_owned).map_err(|_| "not UTF-8"),
        };
        let attribute: Arc<str> = Arc::from(name[3..].to_ascii_lowercase());
        if is_data(&attribute) {
            continue;
        }
        let text = text.unwrap_or_else(|why| {
            wrong.get_or_insert_with(|| format!("the header {name:?} of a CloudEvent is {why}"));
            String::new()
        });
        found.fields.entry(attribute).or_insert_with(|| Val::text(&text));
    }
    if !REQUIRED.iter().all(|name| found.fields.contains_key(*name)) {
        return Ok(None);
    }
    wrong.map_or(Ok(Some(found)), garbled)
}

fn is_attribute(name: &str) -> bool {
    let bytes = name.as_bytes();
    bytes.len() > 3
        && bytes[..2].eq_ignore_ascii_case(b"ce")
        && matches!(bytes[2], b'_' | b'-')
        && bytes.is_ascii()
}

/// The value of a header as the binding for NATS writes it: a text in double quotes is taken out of them,
/// then `%41` → `A`. What is not an escape stays.
fn header_decoded(value: &[u8]) -> Result<String, &'static str> {
    let value = unquoted(value.trim_ascii());
    let mut out = Vec::with_capacity(value.len());
    let mut rest = &*value;
    while let [first, tail @ ..] = rest {
        let escape = match (first, tail) {
            (b'%', [high, low, ..]) => char::from(*high).to_digit(16).zip(char::from(*low).to_digit(16)),
            _ => None,
        };
        match escape {
            Some((high, low)) => {
                out.push(u8::try_from(high * 16 + low).expect("two hexadecimal digits are a byte"));
                rest = &tail[2..];
            }
            None => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8(out).map_err(|_| "not UTF-8 once its percent escapes are decoded")
}

/// `"a \"b\""` → `a "b"`, as RFC 7230 (3.2.6) says; anything else as it is.
fn unquoted(value: &[u8]) -> Cow<'_, [u8]> {
    let [b'"', inner @ .., b'"'] = value else { return Cow::Borrowed(value) };
    let mut out = Vec::with_capacity(inner.len());
    let mut bytes = inner.iter();
    while let Some(byte) = bytes.next() {
        out.push(if *byte == b'\\' { *bytes.next().unwrap_or(byte) } else { *byte });
    }
    Cow::Owned(out)
}

/// A CloudEvent in binary mode, made structured.
fn binary(
    found: InHeaders,
    content_type: Option<String>,
    bytes: &[u8],
    payload: Payload,
) -> Result<Event, Garbled> {
    let InHeaders { mut fields, nats } = found;
    // Kafka's binding maps content-type to the attribute; that for NATS has a header of its own for it.
    let own = fields.get("datacontenttype").and_then(Val::as_text).map(str::to_owned);
    let told = if nats { own.or(content_type) } else { content_type.or(own) };
    // Without either, the source's setting says what the data is.
    let kind = told.or_else(|| match payload {
        Payload::Json => None,
        Payload::Text => Some("text/plain".to_owned()),
        Payload::Base64 => Some("application/octet-stream".to_owned()),
    });
    if let Some(kind) = &kind {
        fields.insert(Arc::from("datacontenttype"), Val::text(kind));
    }
    // What is wrong with the attributes is told before what is wrong with the data.
    attributes::check(&fields)?;
    if !bytes.is_empty() {
        match data(bytes, kind.as_deref().unwrap_or("application/json"))? {
            Some(data) => fields.insert(Arc::from("data"), data),
            None => fields.insert(Arc::from("data_base64"), Val::text(&STANDARD.encode(bytes))),
        };
    }
    structured(Val::object(fields))
}

#[cfg(test)]
#[path = "decode_tests.rs"]
mod tests;
