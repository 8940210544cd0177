//! HTTP: makes one call and says what came back.
//!
//! [`Client::call`] sends a provider's [`Call`] once and returns an [`Answer`]: the reply, or one of
//! two faults that P1 to P4 rest on. [`Fault::NotSent`] is said only when the request cannot have
//! arrived; everything else without a status is [`Fault::Unknown`]. A status wins even when its body
//! fails. Nothing is repeated here, followed (redirects) or sent through a proxy of the environment:
//! each try is a quota slot of the scheduler. Who calls it: the driver, and the commands that send
//! or log in by themselves.

#[cfg(test)]
mod tests;

use std::error::Error as _;
use std::pin::Pin;
use std::sync::RwLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::{Bytes, BytesMut};
use http::header::{DATE, HeaderMap, RETRY_AFTER};
use http::{Method, StatusCode};
use reqwest::{Response, Url};
use tokio::time::Sleep;

use crate::core::provider::{Answer, Call, Fault, Reply};
use crate::core::time::Wall;

/// Bytes of an answer's body that are read; answers of both providers are a few hundred.
pub const BODY_MAX: usize = 64 * 1024;
/// The longest `Retry-After` that is believed.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(15 * 60);
/// How long a connection may be idle before it is thrown away. Below the 10 s that Easemob's own
/// client uses: a connection that the server closes while a request is written on it is an
/// [`Fault::Unknown`] that need not be.
const IDLE_MAX: Duration = Duration::from_secs(9);
/// Addresses kept ready-made. An account calls at most six paths at each base URL.
const URLS_KEPT: usize = 64;

/// Makes calls for one account. Connections are kept and shared by all its calls.
#[derive(Debug)]
pub struct Client {
    inner: reqwest::Client,
    /// Base URLs without a trailing slash; never empty.
    bases: Vec<String>,
    /// Which of them the next call uses.
    current: AtomicUsize,
    /// One call, all of it.
    timeout: Duration,
    /// Addresses made so far, by base URL and path: parsing one costs as much as scheduling a call.
    urls: RwLock<Vec<(usize, String, Url)>>,
}

/// Chooses ring for all TLS of this process. Two providers may be compiled in, and rustls panics
/// rather than choose between them. Calling it again changes nothing.
pub fn install_crypto() {
    // An error means that one is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

impl Client {
    /// A client for these base URLs (`http` or `https`, tried in turn when one cannot be reached)
    /// and this time limit for a whole call. Connecting may take three fifths of it, so that a
    /// server that cannot be reached is told from one that does not answer. Fails when a base URL
    /// is not usable.
    pub fn new(base_urls: &[String], timeout: Duration) -> anyhow::Result<Self> {
        install_crypto();
        if base_urls.is_empty() {
            bail!("no base URL: an account needs at least one");
        }
        for base in base_urls {
            check_base(base)?;
        }
        let inner = reqwest::Client::builder()
            .retry(reqwest::retry::never())
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .referer(false)
            .http1_only()
            .connect_timeout(timeout * 3 / 5)
            .pool_idle_timeout(IDLE_MAX)
            .tcp_nodelay(true)
            .user_agent(concat!("roomcast/", env!("CARGO_PKG_VERSION")))
            .build()
            .context("the HTTP client cannot be made")?;
        let bases = base_urls.iter().map(|base| base.trim_end_matches('/').to_owned()).collect();
        Ok(Self { inner, bases, current: AtomicUsize::new(0), timeout, urls: RwLock::default() })
    }

    /// Makes the call once, at the current base URL. Cancelling the future counts as
    /// [`Fault::Unknown`]: the request may be on its way.
    pub async fn call(&self, call: Call) -> Answer {
        let base = self.current.load(Ordering::Relaxed);
        let url = match self.url(base, &call.path) {
            Ok(url) => url,
            Err(error) => return Err(Fault::NotSent(error)),
        };
        let mut request = reqwest::Request::new(Method::POST, url);
        *request.headers_mut() = call.headers;
        *request.body_mut() = Some(call.body.into());
        let answer = self.exchange(request).await;
        let unreachable = match &answer {
            Err(Fault::NotSent(_)) => true,
            Ok(reply) => reply.status == StatusCode::BAD_GATEWAY,
            Err(Fault::Unknown(_)) => false,
        };
        if unreachable && self.bases.len() > 1 {
            // Of many calls that fail together only one moves on, so none is skipped.
            let next = (base + 1) % self.bases.len();
            let _ = self.current.compare_exchange(base, next, Ordering::Relaxed, Ordering::Relaxed);
        }
        answer
    }

    /// The address of a path at a base URL, ready-made when it was asked for before.
    fn url(&self, base: usize, path: &str) -> Result<Url, String> {
        if let Ok(urls) = self.urls.read()
            && let Some((_, _, url)) = urls.iter().find(|(of, known, _)| *of == base && known == path)
        {
            return Ok(url.clone());
        }
        let text = format!("{}{path}", self.bases[base]);
        let url =
            Url::parse(&text).map_err(|error| format!("the address of the call is not one: {error}"))?;
        if let Ok(mut urls) = self.urls.write()
            && urls.len() < URLS_KEPT
        {
            urls.push((base, path.to_owned(), url.clone()));
        }
        Ok(url)
    }

    /// Sends and reads under one deadline.
    async fn exchange(&self, request: reqwest::Request) -> Answer {
        let mut limit = std::pin::pin!(tokio::time::sleep(self.timeout));
        let response = tokio::select! {
            biased;
            sent = self.inner.execute(request) => sent.map_err(|error| fault(&error))?,
            () = &mut limit => {
                return Err(Fault::Unknown(format!("no answer within {:?}", self.timeout)));
            }
        };
        let status = response.status();
        let date = date(response.headers());
        let retry_after = match status.is_success() {
            true => None,
            false => retry_after(response.headers(), date),
        };
        let (body, whole) = read_body(response, limit).await;
        Ok(Reply { status: status.as_u16(), retry_after, date, body, whole })
    }
}

/// Refuses what the rest of this file could not use as a base URL, or what would put a secret where
/// logs show it.
fn check_base(base: &str) -> anyhow::Result<()> {
    let url = Url::parse(base).with_context(|| format!("the base URL \"{base}\" is not a URL"))?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        bail!("the base URL \"{base}\" begins with neither https:// nor http:// and a host");
    }
    if !url.username().is_empty() || url.password().is_some() {
        bail!("the base URL for {:?} has a user or password in it, which no provider takes", url.host_str());
    }
    if url.query().is_some() || url.fragment().is_some() {
        bail!("the base URL \"{base}\" has a `?` or `#` in it: paths are put after its end");
    }
    Ok(())
}

/// Reads the body up to [`BODY_MAX`] and says whether that was all of it. What is left unread closes
/// the connection.
async fn read_body(mut response: Response, mut limit: Pin<&mut Sleep>) -> (Bytes, bool) {
    let mut first = Bytes::new();
    let mut joined = BytesMut::new();
    let whole = loop {
        let chunk = tokio::select! {
            biased;
            chunk = response.chunk() => chunk,
            () = &mut limit => break false,
        };
        match chunk {
            Ok(None) => break true,
            Ok(Some(bytes)) if first.is_empty() => first = bytes,
            Ok(Some(bytes)) => {
                if joined.is_empty() {
                    joined.extend_from_slice(&first);
                }
                joined.extend_from_slice(&bytes);
            }
            Err(_) => break false,
        }
        if first.len().max(joined.len()) > BODY_MAX {
            break false;
        }
    };
    let mut body = if joined.is_empty() { first } else { joined.freeze() };
    body.truncate(BODY_MAX);
    (body, whole)
}

/// What an error without a status means. Only what is known to have never left is `NotSent`: no
/// connection was made, or hyper gave the request back unwritten. "Connection closed before message
/// completed" looks alike and is not: the server may have read everything.
fn fault(error: &reqwest::Error) -> Fault {
    let mut unsent = error.is_connect() || error.is_builder();
    // The outermost text names the address, the innermost ones what happened.
    let mut text = String::new();
    let mut cause = error.source();
    while let Some(inner) = cause {
        unsent |= inner.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_canceled);
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    if text.is_empty() {
        text.push_str("the request could not be made");
    }
    if unsent { Fault::NotSent(text) } else { Fault::Unknown(text) }
}

/// The `Date` header, when it can be read.
fn date(headers: &HeaderMap) -> Option<Wall> {
    let at = httpdate::parse_http_date(headers.get(DATE)?.to_str().ok()?).ok()?;
    let since = at.duration_since(std::time::UNIX_EPOCH).ok()?;
    i64::try_from(since.as_millis()).ok().map(Wall)
}

/// The `Retry-After` header in either form (RFC 9110, section 10.2.3), at most [`RETRY_AFTER_MAX`].
/// An instant is measured from the answer's own `Date`, so that a clock that is off does no harm;
/// without one it is ignored.
fn retry_after(headers: &HeaderMap, date: Option<Wall>) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let span = if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        // More digits than a u64 holds is still "very long".
        Duration::from_secs(text.parse().unwrap_or(u64::MAX))
    } else {
        let until = httpdate::parse_http_date(text).ok()?.duration_since(std::time::UNIX_EPOCH).ok()?;
        let now = Duration::from_millis(u64::try_from(date?.0).ok()?);
        until.saturating_sub(now)
    };
    Some(span.min(RETRY_AFTER_MAX))
}
