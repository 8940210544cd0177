//! The bodies that answers are made of: whole ones, and the broken ones that faults ask for.
//!
//! Carries out what `judge` decided; decides nothing.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, DATE, HeaderValue, RETRY_AFTER};
use http::{Response, StatusCode};
use hyper::body::{Body, Frame, SizeHint};

use super::clock::{Clock, Wait};
use super::judge::{Manner, Plan};

/// Pieces of a body that dribbles in.
const PIECES: u32 = 20;

/// A body on its way.
pub(super) enum Payload {
    /// At once; nothing once it is gone.
    Whole(Option<Bytes>),
    /// The bytes, a turn in which they go out, then the connection breaks.
    Broken { bytes: Option<Bytes>, sent: bool },
    /// Piece by piece.
    Slow { rest: Bytes, piece: usize, pause: Duration, wait: Option<Wait>, clock: Arc<dyn Clock> },
}

impl Body for Payload {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        match self.get_mut() {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Broken { bytes, sent } => {
                if let Some(bytes) = bytes.take() {
                    return Poll::Ready(Some(Ok(Frame::data(bytes))));
                }
                if !*sent {
                    *sent = true;
                    context.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Poll::Ready(Some(Err(io::Error::other("cut by a fault"))))
            }
            Self::Slow { rest, piece, pause, wait, clock } => {
                if let Some(pending) = wait {
                    ready!(pending.as_mut().poll(context));
                    *wait = None;
                }
                if rest.is_empty() {
                    return Poll::Ready(None);
                }
                let bytes = rest.split_to((*piece).min(rest.len()));
                if !rest.is_empty() {
                    *wait = Some(clock.sleep_until(clock.now().mono + *pause));
                }
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_none(),
            Self::Broken { .. } => false,
            Self::Slow { rest, .. } => rest.is_empty(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Self::Broken { .. } => SizeHint::default(),
            Self::Slow { rest, .. } => SizeHint::with_exact(rest.len() as u64),
        }
    }
}

/// The answer that the plan wants; it is one with a body, so neither `Close` nor `Silence`.
pub(super) fn response(plan: Plan, clock: &Arc<dyn Clock>) -> Response<Payload> {
    let Plan { answer, manner, date, .. } = plan;
    let full = answer.body;
    let half = full.slice(..full.len() / 2);
    let payload = match &manner {
        Manner::Truncate => Payload::Whole(Some(half)),
        Manner::Cut => Payload::Broken { bytes: Some(half), sent: false },
        Manner::Empty => Payload::Whole(None),
        Manner::Gzip => Payload::Whole(Some(gzip(&full))),
        Manner::Slow(span) => Payload::Slow {
            piece: full.len().div_ceil(PIECES as usize).max(1),
            rest: full.clone(),
            pause: *span / (PIECES - 1),
            wait: None,
            clock: Arc::clone(clock),
        },
        Manner::Whole | Manner::Close | Manner::Silence => Payload::Whole(Some(full.clone())),
    };
    let mut response = Response::new(payload);
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(answer.media));
    headers.insert(DATE, date);
    if let Some(seconds) = answer.retry_after {
        headers.insert(RETRY_AFTER, seconds.into());
    }
    match manner {
        Manner::Cut => drop(headers.insert(CONTENT_LENGTH, full.len().into())),
        Manner::Gzip => drop(headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"))),
        _ => {}
    }
    response
}

/// A gzip file of stored blocks (RFC 1952, RFC 1951 section 3.2.4): valid, if no smaller.
fn gzip(bytes: &[u8]) -> Bytes {
    let mut file = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    let mut blocks = bytes.chunks(usize::from(u16::MAX)).peekable();
    if blocks.peek().is_none() {
        file.extend([1, 0, 0, 0xff, 0xff]);
    }
    while let Some(block) = blocks.next() {
        let length = u16::try_from(block.len()).expect("chunks are at most u16::MAX long");
        file.push(u8::from(blocks.peek().is_none()));
        file.extend(length.to_le_bytes());
        file.extend((!length).to_le_bytes());
        file.extend(block);
    }
    file.extend(crc32(bytes).to_le_bytes());
    file.extend((bytes.len() as u32).to_le_bytes());
    file.into()
}

/// CRC-32 as gzip wants it (RFC 1952, section 8).
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |sum, &byte| {
        (0..8).fold(sum ^ u32::from(byte), |sum, _| (sum >> 1) ^ (0xedb8_8320 & (sum & 1).wrapping_neg()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_that_of_the_standard_s_check_value() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn gzip_is_read_by_gzip() {
        use std::io::Write as _;
        let text = "聊天室 ".repeat(20_000);
        let mut child = std::process::Command::new("gzip")
            .args(["-dc"])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("gzip is part of every system that builds this");
        let mut input = child.stdin.take().expect("it is piped");
        let file = gzip(text.as_bytes());
        let writer = std::thread::spawn(move || input.write_all(&file));
        let output = child.wait_with_output().expect("it ends");
        writer.join().expect("no panic").expect("it takes all");
        assert!(output.status.success());
        assert_eq!(output.stdout, text.as_bytes());
    }
}
