//! Messages whose headers the client cannot read: they are fetched another way.
//!
//! A publisher may write any bytes as headers, and the server passes them on. async-nats breaks the
//! connection on such a message (not UTF-8, a name it does not allow), or panics (a lone carriage
//! return), and the server sends it again after the reconnect: one poison message would stop the
//! source for good. So after a break what is delivered but not here is read through the stream's
//! API, which wraps headers in base64. What is poison is then held like any other; the progress told
//! for it keeps the server from sending it. Used by [`super::reading`].

use std::collections::{BTreeSet, VecDeque};
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::sync::Arc;

use async_nats::Subject;
use async_nats::header::HeaderName;
use async_nats::jetstream::response::Response;
use async_nats::jetstream::{Context, ErrorCode};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};

use super::link::chain;
use super::pull::ack_subject;
use crate::core::ledger::Delivery;

/// Breaks of the connection without a message in between after which one that stands by looks as
/// well: the very first message it is given may be poison.
pub const BREAKS: u32 = 2;
/// The most messages to look at in one go, newest first: more than one pull delivers.
pub const MOST: usize = 1_000;

/// A message read through the API.
#[derive(Clone, Debug)]
pub struct Rescued {
    /// As the ack subject would tell it.
    pub delivery: Delivery,
    /// Where it is acked.
    pub reply: Subject,
    /// Its subject.
    pub subject: String,
    /// Its headers, byte for byte.
    pub headers: Vec<(Arc<str>, Bytes)>,
    /// Its payload.
    pub payload: Bytes,
}

#[derive(Deserialize)]
struct Answer {
    message: Raw,
}

#[derive(Deserialize)]
struct Raw {
    seq: u64,
    subject: String,
    time: String,
    #[serde(default)]
    hdrs: String,
    #[serde(default)]
    data: String,
}

/// Reads those of `sequences` that are poison. What cannot be read now is left to the next time.
pub async fn rescue(context: &Context, stream: &str, durable: &str, sequences: Vec<u64>) -> Vec<Rescued> {
    let mut rescued = Vec::new();
    for sequence in sequences {
        let request = json!({ "seq": sequence });
        let answer = context.request(format!("STREAM.MSG.GET.{stream}"), &request).await;
        let raw = match answer {
            Ok(Response::Ok::<Answer>(answer)) => answer.message,
            // Deleted, or no message of that sequence.
            Ok(Response::Err { .. }) => continue,
            Err(error) => {
                tracing::debug!("cannot read message {sequence} of {stream}: {error}");
                break;
            }
        };
        rescued.extend(read(raw, sequence, stream, durable));
    }
    rescued
}

/// Which messages of one subject, of a stream of many, are not among those known: the newest
/// [`MOST`], newest first. What cannot be read now is left to the next time.
pub async fn missing(
    context: &Context,
    stream: &str,
    subject: &str,
    range: RangeInclusive<u64>,
    known: BTreeSet<u64>,
) -> Vec<u64> {
    let mut missing = VecDeque::new();
    let mut next = *range.start();
    while next <= *range.end() {
        let request = json!({ "seq": next, "next_by_subj": subject });
        let answer = context.request(format!("STREAM.MSG.GET.{stream}"), &request).await;
        let Ok(Response::Ok::<Answer>(answer)) = answer else { break };
        let sequence = answer.message.seq;
        if sequence <= *range.end() && !known.contains(&sequence) {
            missing.push_front(sequence);
            missing.truncate(MOST);
        }
        next = sequence + 1;
    }
    missing.into()
}

/// A message as the stream holds it, whatever its headers.
pub struct Stored {
    /// Its sequence.
    pub sequence: u64,
    /// Its subject.
    pub subject: String,
    /// Its headers, byte for byte.
    pub headers: Vec<(Arc<str>, Bytes)>,
    /// Its payload.
    pub payload: Bytes,
}

/// The message of that sequence; `None` when the stream has none, or is not there.
pub async fn stored(context: &Context, stream: &str, sequence: u64) -> Result<Option<Stored>, String> {
    get(context, stream, &json!({ "seq": sequence }), &format!("message {sequence}")).await
}

/// The last message of that subject; `None` when the stream has none, or is not there.
pub async fn last_of(context: &Context, stream: &str, subject: &str) -> Result<Option<Stored>, String> {
    let what = format!("the last message of {subject}");
    get(context, stream, &json!({ "last_by_subj": subject }), &what).await
}

async fn get(context: &Context, stream: &str, request: &Value, what: &str) -> Result<Option<Stored>, String> {
    let failed = |why: String| format!("cannot read {what} of stream {stream}: {why}");
    let answer = context.request(format!("STREAM.MSG.GET.{stream}"), request).await;
    let raw = match answer.map_err(|error| failed(chain(&error)))? {
        Response::Ok::<Answer>(answer) => answer.message,
        Response::Err { error } if GONE.contains(&error.error_code()) => return Ok(None),
        Response::Err { error } => return Err(failed(chain(&error))),
    };
    let decoded = |text: &str| STANDARD.decode(text).map_err(|error| failed(chain(&error)));
    let headers = lines(&decoded(&raw.hdrs)?);
    Ok(Some(Stored { sequence: raw.seq, subject: raw.subject, headers, payload: decoded(&raw.data)?.into() }))
}

/// How a server says that there is no such message.
const GONE: [ErrorCode; 3] =
    [ErrorCode::NO_MESSAGE_FOUND, ErrorCode::STREAM_NOT_FOUND, ErrorCode::SEQUENCE_NOT_FOUND];

/// The message, if it is poison.
fn read(raw: Raw, sequence: u64, stream: &str, durable: &str) -> Option<Rescued> {
    let block = STANDARD.decode(&raw.hdrs).ok()?;
    if !is_poison(&block) {
        return None;
    }
    let published = raw.time.parse::<jiff::Timestamp>().ok()?.as_nanosecond();
    let published = i64::try_from(published).ok()?;
    let delivery = Delivery { sequence, consumer_sequence: 0, count: 2, published };
    let reply = ack_subject(stream, durable, sequence, published);
    let payload = STANDARD.decode(&raw.data).ok()?.into();
    Some(Rescued { delivery, reply, subject: raw.subject, headers: lines(&block), payload })
}

/// Whether the client could not read a block of headers.
fn is_poison(block: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(block) else { return true };
    text.lines().skip(1).filter(|line| !line.is_empty()).any(|line| match line.split_once(':') {
        Some((name, value)) => HeaderName::from_str(name).is_err() || value.contains('\r'),
        None => true,
    })
}

/// The headers of a block, as well as they can be told apart.
fn lines(block: &[u8]) -> Vec<(Arc<str>, Bytes)> {
    let mut list = Vec::new();
    for line in block.split(|byte| *byte == b'\n').skip(1) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            continue;
        }
        let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
        let name = String::from_utf8_lossy(&line[..colon]).into_owned();
        let value = line.get(colon + 1..).unwrap_or_default().trim_ascii();
        list.push((Arc::from(name), Bytes::copy_from_slice(value)));
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_client_cannot_read_is_poison() {
        for (block, poison) in [
            (&b"NATS/1.0\r\nRoom: a\r\n\r\n"[..], false),
            (b"", false),
            (b"NATS/1.0\r\nRoom: \xff\r\n\r\n", true),
            (b"NATS/1.0\r\nRoom: a\rb\r\n\r\n", true),
            (b"NATS/1.0\r\nRo om: a\r\n\r\n", true),
            (b"NATS/1.0\r\nnothing\r\n\r\n", true),
        ] {
            assert_eq!(is_poison(block), poison, "{}", block.escape_ascii());
        }
    }

    #[test]
    fn headers_keep_their_bytes() {
        let list = lines(b"NATS/1.0\r\nRoom: \xff\r\nRo om:b\rc\r\nnothing\r\n\r\n");
        let list: Vec<(&str, &[u8])> = list.iter().map(|(name, value)| (&**name, value.as_ref())).collect();
        assert_eq!(list, [("Room", &b"\xff"[..]), ("Ro om", b"b\rc"), ("nothing", b"")]);
    }
}
