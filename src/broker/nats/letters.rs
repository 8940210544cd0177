//! Writes letters, and requests for replays of them, into the dead-letter stream: one subject for each,
//! so that each exists once.
//!
//! The publish expects that the subject has no message yet. A server that answers "wrong last
//! sequence" therefore says that this very letter or request is there already. Over a request that is
//! finished another one is written, expecting it to be the last: so one of several who try writes.

use std::sync::Arc;

use async_nats::HeaderMap;
use async_nats::header::{HeaderName, HeaderValue};
use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::context::{PublishError, PublishErrorKind};
use async_nats::jetstream::message::PublishMessage;
use bytes::Bytes;
use tokio::sync::Semaphore;

use super::link::{Link, chain};
use crate::broker::{Boxed, Letters, Placed};
use crate::core::letter::{LetterId, PREFIX, Sealed};

/// Letters away at once: below the client's own limit, behind which it would wait in silence.
const AWAY: usize = 64;

/// The dead-letter stream of one source.
pub struct Writer {
    link: Arc<Link>,
    stream: String,
    addresses: String,
    away: Semaphore,
}

impl Writer {
    /// Writes into `stream`; `addresses` name the servers in errors.
    pub fn new(link: Arc<Link>, stream: String, addresses: String) -> Self {
        Self { link, stream, addresses, away: Semaphore::new(AWAY) }
    }

    /// The subject of a letter, or of its requests.
    pub fn subject(&self, place: &str, letter: LetterId) -> String {
        format!("{}.{place}.{letter}", self.stream)
    }

    /// Writes it under `<stream>.<place>.<its id>`, with as much of it as the server takes, if the last
    /// message of that subject has this sequence; 0: if there is none.
    pub async fn place(&self, place: &str, letter: &Sealed, over: u64) -> Result<Placed, String> {
        let _permit = self.away.acquire().await.expect("the semaphore is never closed");
        let mut result = self.write_once(place, letter, over).await;
        if result.as_ref().is_err_and(is_too_large) {
            let truncated = letter.clone().truncated();
            result = self.write_once(place, &truncated, over).await;
            // The record's own headers are too much even without its value.
            if result.as_ref().is_err_and(is_too_large) {
                result = self.write_once(place, &own_headers_only(truncated), over).await;
            }
        }
        result
            .map_err(|error| format!("cannot write to dead-letter stream {}: {}", self.stream, chain(&error)))
    }

    async fn write_once(&self, place: &str, letter: &Sealed, over: u64) -> Result<Placed, PublishError> {
        let jetstream = self
            .link
            .jetstream(&self.addresses)
            .map_err(|why| PublishError::with_source(PublishErrorKind::Other, why))?;
        let publish = PublishMessage::build()
            .payload(letter.value.clone().unwrap_or_default())
            .headers(headers(letter))
            .expected_last_subject_sequence(over);
        let subject = self.subject(place, letter.id);
        let outcome = async { jetstream.send_publish(subject, publish).await?.await }.await;
        match outcome {
            Ok(_) => Ok(Placed::Now),
            Err(error) if error.kind() == PublishErrorKind::WrongLastSequence => Ok(Placed::Before),
            Err(error) => Err(error),
        }
    }
}

impl Letters for Writer {
    fn write(&self, letter: Sealed) -> Boxed<'_, Result<(), String>> {
        Box::pin(async move { self.place("letter", &letter, 0).await.map(drop) })
    }
}

/// Larger than the server or the stream takes.
fn is_too_large(error: &PublishError) -> bool {
    use std::error::Error;
    error.kind() == PublishErrorKind::MaxPayloadExceeded
        || error
            .source()
            .and_then(|source| source.downcast_ref::<async_nats::jetstream::Error>())
            .is_some_and(|source| TOO_LARGE.contains(&source.error_code()))
}

/// The second: a message's headers may have 64 KiB, the record's own may leave no place for ours.
const TOO_LARGE: [ErrorCode; 2] =
    [ErrorCode::STREAM_MESSAGE_EXCEEDS_MAXIMUM, ErrorCode::STREAM_HEADER_EXCEEDS_MAXIMUM];

fn own_headers_only(mut letter: Sealed) -> Sealed {
    letter.headers.retain(|(name, _)| name.starts_with(PREFIX) && !name.starts_with("roomcast-nats-"));
    letter
}

/// The letter's headers as NATS takes them: names without spaces and colons, values on one line.
fn headers(letter: &Sealed) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in &letter.headers {
        map.append(header_name(name), header_value(value));
    }
    map
}

fn header_name(name: &str) -> HeaderName {
    name.parse().unwrap_or_else(|_| {
        let plain: String =
            name.chars().map(|c| if c.is_ascii_graphic() && c != ':' { c } else { '_' }).collect();
        plain.parse().unwrap_or_else(|_| HeaderName::from_static("unnamed"))
    })
}

fn header_value(value: &Bytes) -> HeaderValue {
    let text = String::from_utf8_lossy(value).replace(['\r', '\n'], " ");
    text.parse().expect("a text without line ends is a header value")
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::core::letter::LetterId;

    fn sealed(headers: &[(&str, &str)]) -> Sealed {
        let headers = headers.iter().map(|(n, v)| (Arc::from(*n), Bytes::copy_from_slice(v.as_bytes())));
        Sealed { id: LetterId(Uuid::nil()), key: None, value: None, headers: headers.collect() }
    }

    #[test]
    fn headers_become_what_nats_takes() {
        let map = headers(&sealed(&[("a b:c", "x\r\ny"), ("Room", "1"), ("Room", "2")]));
        assert_eq!(map.get("a_b_c").map(|v| v.as_str().to_owned()), Some("x  y".to_owned()));
        let rooms: Vec<&str> = map.get_all("Room").map(HeaderValue::as_str).collect();
        assert_eq!(rooms, ["1", "2"]);
    }

    #[test]
    fn a_truncated_letter_says_where_its_value_stands() {
        let letter =
            sealed(&[("roomcast-topic", "m.1"), ("roomcast-partition", "0"), ("roomcast-offset", "7")]);
        assert_eq!(letter.stands(), "m.1/0/7");
    }
}
