//! The words of a JetStream pull: what we ask of the server, and what an answer means.
//!
//! Pulls are our own rather than async-nats' stream of messages, because that one forgets its pin
//! whenever it is made anew and then stands by for `priority_timeout` behind itself. Here the pin
//! outlives subscriptions and connections. Pure; used by [`super::source`].

use std::time::Duration;

use async_nats::{HeaderMap, HeaderValue, Message, StatusCode, Subject, header};
use bytes::Bytes;
use serde_json::json;

/// How long the server keeps a pull. The pin of a consumer outlives it by `ack_wait` and more.
pub const EXPIRES: Duration = Duration::from_secs(5);
/// How often the server shows that it lives while it has nothing: at most half of [`EXPIRES`].
pub const HEARTBEAT: Duration = Duration::from_secs(2);
/// Without any item for this long, what was asked for is lost: one and a half times [`EXPIRES`].
pub const SILENCE: Duration = Duration::from_millis(7_500);

/// How long a pin lasts without a pull: what a dead holder held comes back before anything new
/// (design, section 7).
pub fn priority_timeout(ack_wait: Duration) -> Duration {
    EXPIRES + ack_wait + Duration::from_secs(5)
}

/// A pull request's body.
pub fn request(batch: usize, group: Option<&str>, pin: Option<&str>) -> Bytes {
    let mut body = json!({
        "batch": batch,
        "expires": EXPIRES.as_nanos() as u64,
        "idle_heartbeat": HEARTBEAT.as_nanos() as u64,
    });
    if let Some(group) = group {
        body["group"] = json!(group);
    }
    if let Some(pin) = pin {
        body["id"] = json!(pin);
    }
    Bytes::from(body.to_string())
}

/// What came into a pull's inbox.
#[derive(Debug)]
pub enum Item {
    /// A message of the stream.
    Record(Message),
    /// Nothing new; the server lives.
    Heartbeat,
    /// A pull ended with that many messages not delivered; `None` when it does not say.
    Ended(Option<usize>),
    /// Our pin is not the consumer's.
    PinLost,
    /// The consumer is gone.
    Deleted,
    /// Nobody serves the consumer: it is gone, or the server is still starting.
    Nobody,
    /// The server refuses the pull, in its words.
    Refused(String),
}

impl Item {
    /// What a message in the inbox means.
    pub fn from(message: Message) -> Self {
        let Some(status) = message.status.filter(|status| *status != StatusCode::OK) else {
            return Self::Record(message);
        };
        let words = message.description.as_deref().unwrap_or_default();
        match status {
            StatusCode::IDLE_HEARTBEAT => Self::Heartbeat,
            StatusCode::PIN_ID_MISMATCH => Self::PinLost,
            StatusCode::NO_RESPONDERS => Self::Nobody,
            StatusCode::NOT_FOUND | StatusCode::TIMEOUT => Self::Ended(left(&message)),
            StatusCode::REQUEST_TERMINATED if words == "Consumer Deleted" => Self::Deleted,
            StatusCode::REQUEST_TERMINATED
                if words.starts_with("Exceeded") || words.starts_with("Consumer is push") =>
            {
                Self::Refused(words.to_owned())
            }
            // Leadership Change, Server Shutdown, Batch Completed: this pull is over, no more.
            StatusCode::REQUEST_TERMINATED => Self::Ended(left(&message)),
            status => Self::Refused(format!("{status} {words}")),
        }
    }
}

fn left(message: &Message) -> Option<usize> {
    message.headers.as_ref()?.get("Nats-Pending-Messages")?.as_str().parse().ok()
}

/// Where a message can be acked whose delivery's own subject is not known: with explicit acks the
/// server goes by the stream's sequence alone.
pub fn ack_subject(stream: &str, durable: &str, sequence: u64, published: i64) -> Subject {
    Subject::from(format!("$JS.ACK.{stream}.{durable}.1.{sequence}.0.{published}.0"))
}

/// The pin that the server wrote on a message: its own is the last one, whatever was published.
pub fn pin(headers: Option<&HeaderMap>) -> Option<&str> {
    headers?.get_last(header::NATS_PIN_ID).map(HeaderValue::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(code: u16, words: &str) -> Message {
        Message {
            subject: "_INBOX.x".into(),
            reply: None,
            payload: Bytes::new(),
            headers: None,
            status: StatusCode::from_u16(code).ok(),
            description: Some(words.to_owned()),
            length: 0,
        }
    }

    #[test]
    fn each_status_has_its_meaning() {
        assert!(matches!(Item::from(status(100, "Idle Heartbeat")), Item::Heartbeat));
        assert!(matches!(Item::from(status(408, "Request Timeout")), Item::Ended(None)));
        assert!(matches!(Item::from(status(409, "Consumer Deleted")), Item::Deleted));
        assert!(matches!(Item::from(status(409, "Leadership Change")), Item::Ended(None)));
        assert!(matches!(Item::from(status(409, "Exceeded MaxWaiting")), Item::Refused(_)));
        assert!(matches!(Item::from(status(423, "Nats-Wrong-Pin-Id")), Item::PinLost));
        assert!(matches!(Item::from(status(503, "")), Item::Nobody));
        assert!(matches!(Item::from(status(400, "Bad Request")), Item::Refused(_)));
        let mut left = status(408, "Request Timeout");
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Pending-Messages", "12");
        left.headers = Some(headers);
        assert!(matches!(Item::from(left), Item::Ended(Some(12))));
    }

    #[test]
    fn a_request_names_group_and_pin_when_there_are_any() {
        let body: serde_json::Value = serde_json::from_slice(&request(10, Some("g"), Some("p"))).unwrap();
        assert_eq!(
            body,
            json!({ "batch": 10, "expires": 5_000_000_000_u64, "idle_heartbeat": 2_000_000_000_u64,
                    "group": "g", "id": "p" })
        );
        let body: serde_json::Value = serde_json::from_slice(&request(1, None, None)).unwrap();
        assert_eq!(body.get("id"), None);
    }
}
