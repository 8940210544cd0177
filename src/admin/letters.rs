//! `/api/letters`: dead letters for the console and for scripts. All of it needs the admin token.
//!
//! A list is a stream of lines, one JSON object each, as `roomcast letters list --format json` prints
//! them; the last line is a summary, or what went wrong on the way. Whoever goes away ends the look.
//! A look reads a whole topic, so that no more than a few may be under way.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::SystemTime;

use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::View;
use crate::core::replay::State as Fate;
use crate::core::time::Wall;
use crate::letters::discard::Decision;
use crate::letters::filters::Filters;
use crate::letters::place::{Place, of_sources};
use crate::letters::query::Query;
use crate::letters::stats::Stats;
use crate::letters::{Found, Look, chain, discard as discarding, tell};

/// Looks that may be under way at once.
const LOOKS: usize = 4;
/// Letters of a list that names no limit.
const LIMIT: u64 = 1_000;
/// Rooms of counts that name no other number.
const ROOMS: usize = 10;
/// Letters on their way to a reader.
const AHEAD: usize = 4;
/// Characters of what callers say of themselves and their reasons.
const WORDS: usize = 500;

/// Where the letters are.
#[derive(Clone, Debug)]
pub struct Desk {
    places: Arc<[Place]>,
    looks: Arc<Semaphore>,
}

impl Desk {
    /// One for these dead-letter topics.
    pub fn new(places: Vec<Place>) -> Self {
        Self { places: places.into(), looks: Arc::new(Semaphore::new(LOOKS)) }
    }

    /// A look at the topics that the filters name, at the letters that they mean.
    fn begin(&self, filters: &Filters, unless_named: &[Fate]) -> Result<Begun, Wrong> {
        let query = filters.query(now(), unless_named).map_err(Wrong::asked)?;
        let places = of_sources(&self.places, &filters.source).map_err(Wrong::asked)?;
        let permit = Arc::clone(&self.looks).try_acquire_owned().map_err(|_| {
            let why = format!("{LOOKS} looks through the letters are under way; try again later");
            Wrong { status: StatusCode::TOO_MANY_REQUESTS, why }
        })?;
        Ok(Begun { places, query, passed: AtomicU64::new(0), _permit: permit })
    }
}

/// A look that may be taken.
#[derive(Debug)]
struct Begun {
    places: Vec<Place>,
    query: Query,
    passed: AtomicU64,
    _permit: OwnedSemaphorePermit,
}

impl Begun {
    fn look(&self) -> Look<'_> {
        Look { places: &self.places, query: &self.query, passed: &self.passed }
    }
}

/// What is wrong with what was asked, or with the broker.
#[derive(Debug)]
pub(super) struct Wrong {
    status: StatusCode,
    why: String,
}

impl Wrong {
    fn asked(why: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, why: why.into() }
    }

    /// What the broker said against it.
    fn broker(why: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_GATEWAY, why: why.into() }
    }
}

impl IntoResponse for Wrong {
    fn into_response(self) -> Response {
        (self.status, Json(json!({ "error": self.why }))).into_response()
    }
}

fn now() -> Wall {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Wall(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// Filters from the parameters of a query, and one number of another name.
fn parameters(query: Option<&str>, name: &str) -> Result<(Filters, Option<u64>), Wrong> {
    let (mut filters, mut number) = (Filters::default(), None);
    for (key, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
        if key == name {
            let wrong = |_| Wrong::asked(format!("{name} is {value:?}, a number is wanted"));
            number = Some(value.parse().map_err(wrong)?);
        } else {
            filters.set(&key, &value).map_err(Wrong::asked)?;
        }
    }
    Ok((filters, number))
}

/// A line of a list.
enum Line {
    Letter(Box<Found>),
    /// The last one.
    End(Result<Value, String>),
}

impl Line {
    fn bytes(&self) -> Bytes {
        let json = match self {
            Self::Letter(found) => Value::Object(tell::fields(found)),
            Self::End(Ok(summary)) => json!({ "summary": summary }),
            Self::End(Err(why)) => json!({ "error": why }),
        };
        Bytes::from(format!("{json}\n"))
    }
}

pub(super) async fn list(State(view): State<View>, RawQuery(query): RawQuery) -> Result<Response, Wrong> {
    let (filters, limit) = parameters(query.as_deref(), "limit")?;
    let begun = view.letters.begin(&filters, &[Fate::Open])?;
    // Whoever looks at letters lets sources go on that the flood guard keeps back.
    view.handle.letters_seen();
    let (lines, mut listed) = mpsc::channel(AHEAD);
    tokio::spawn(async move { feed(&begun, limit.unwrap_or(LIMIT), &lines).await });
    // A broker that is away is told by the status while there is one to tell.
    let first = match listed.recv().await {
        Some(Line::End(Err(why))) => return Err(Wrong::broker(why)),
        Some(first) => first,
        None => return Err(Wrong::broker("the look ended early")),
    };
    let rest = futures_util::stream::unfold((Some(first), listed), |(first, mut listed)| async move {
        let line = match first {
            Some(first) => first,
            None => listed.recv().await?,
        };
        Some((Ok::<_, Infallible>(line.bytes()), (None, listed)))
    });
    let kind = [(header::CONTENT_TYPE, "application/x-ndjson")];
    Ok((kind, Body::from_stream(rest)).into_response())
}

/// Sends the letters and the last line, as long as somebody takes them.
async fn feed(begun: &Begun, limit: u64, lines: &mpsc::Sender<Line>) {
    let (into, mut letters) = mpsc::channel(1);
    let pass = async {
        let mut listed = 0;
        let mut more = false;
        while let Some((_, found)) = letters.recv().await {
            more = listed == limit;
            if more || lines.send(Line::Letter(Box::new(found))).await.is_err() {
                break;
            }
            listed += 1;
        }
        drop(letters);
        json!({ "listed": listed, "more": more })
    };
    let (looked, summary) = tokio::join!(begun.look().send(into), pass);
    // A reader that is gone needs no summary.
    let _ = lines.send(Line::End(looked.map(|_| summary))).await;
}

pub(super) async fn show(State(view): State<View>, Path(letter): Path<String>) -> Result<Json<Value>, Wrong> {
    let filters = Filters { letter: vec![letter.clone()], ..Filters::default() };
    let begun = view.letters.begin(&filters, &[])?;
    let shown = chain::show(&begun.places, &begun.query, &begun.passed).await.map_err(Wrong::broker)?;
    let none = || Wrong { status: StatusCode::NOT_FOUND, why: format!("there is no letter {letter}") };
    Ok(Json(shown.ok_or_else(none)?.json()))
}

pub(super) async fn stats(State(view): State<View>, RawQuery(query): RawQuery) -> Result<Json<Value>, Wrong> {
    let (filters, rooms) = parameters(query.as_deref(), "rooms")?;
    let begun = view.letters.begin(&filters, &[])?;
    let rooms = rooms.map_or(ROOMS, |rooms| usize::try_from(rooms).unwrap_or(usize::MAX));
    let mut stats = Stats::default();
    let counted = begun.look().each(|_, found| {
        stats.take(&found);
        true
    });
    counted.await.map_err(Wrong::broker)?;
    Ok(Json(stats.json(rooms)))
}

/// What is asked of `discard`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Order {
    /// Which letters.
    which: Filters,
    /// Who asks.
    #[serde(default)]
    by: String,
    /// Why.
    #[serde(default)]
    why: String,
}

pub(super) async fn discard(State(view): State<View>, body: Bytes) -> Result<Json<Value>, Wrong> {
    let order: Order = serde_json::from_slice(&body)
        .map_err(|why| Wrong::asked(format!("the body is not what is wanted: {why}")))?;
    if order.which.mean_everything() && order.which.state.is_empty() {
        let wanted = "which letters? Name them, or give a filter; all open ones are \"state\": [\"open\"]";
        return Err(Wrong::asked(wanted));
    }
    let begun = view.letters.begin(&order.which, &[Fate::Open])?;
    let decision = Decision { by: caller(&order.by), at: now(), why: words(&order.why) };
    // What has begun is finished even when the caller goes away: rows are not written by halves.
    let work = tokio::spawn(async move {
        let chosen = discarding::choose(&begun.places, &begun.query, &begun.passed).await?;
        chosen.discard(&begun.places, &decision, &AtomicU64::new(0)).await
    });
    let done = work.await.map_err(|_| Wrong::broker("the work ended early"))?;
    Ok(Json(done.map_err(Wrong::broker)?.json()))
}

/// Who a row names: the API, and who the caller says to be.
fn caller(by: &str) -> String {
    match words(by) {
        by if by.is_empty() => "api".to_owned(),
        by => format!("api: {by}"),
    }
}

/// A caller's words, on one line and not for ever.
fn words(text: &str) -> String {
    text.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).take(WORDS).collect()
}

#[cfg(test)]
#[path = "letters_tests.rs"]
mod tests;
