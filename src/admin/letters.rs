//! `/api/letters`: dead letters for the console and for scripts. All of it needs the admin token.
//!
//! A list is a stream of lines, one JSON object each, as `roomcast letters list --format json` prints
//! them; the last line is a summary, or what went wrong on the way. Whoever goes away ends the look.
//! A look reads a whole topic, so that no more than a few may be under way.

pub(super) mod replay;

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use uuid::Uuid;

use self::replay::Replays;
use super::View;
use super::api::Answer;
use crate::core::provider::Stamp;
use crate::core::replay::State as Fate;
use crate::letters::discard::Decision;
use crate::letters::filters::Filters;
use crate::letters::place::{Place, of_sources};
use crate::letters::query::Query;
use crate::letters::stats::Stats;
use crate::letters::today::{Today, rescued};
use crate::letters::{Found, Look, chain, discard as discarding, now, tell};

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

/// Where the letters are, and what they are measured by.
#[derive(Clone, Debug)]
pub struct Desk {
    places: Arc<[Place]>,
    today: watch::Receiver<Arc<Today>>,
    looks: Arc<Semaphore>,
    replays: Replays,
}

impl Desk {
    /// One for these dead-letter topics, and the config that runs.
    pub fn new(places: Vec<Place>, today: watch::Receiver<Arc<Today>>) -> Self {
        let looks = Arc::new(Semaphore::new(LOOKS));
        Self { places: places.into(), today, looks, replays: Replays::default() }
    }

    /// No more letters are asked for; those under way are finished.
    pub fn stop(&self) {
        self.replays.stop();
    }

    /// Waits a few seconds for those that are under way when it is stopped.
    pub async fn ended(&self) {
        self.replays.ended().await;
    }

    /// The config that runs.
    fn today(&self) -> Arc<Today> {
        self.today.borrow().clone()
    }

    /// The topics that filters name, and which of their letters are meant.
    fn meant(&self, filters: &Filters, unless_named: &[Fate]) -> Result<(Vec<Place>, Query), Wrong> {
        let query = filters.query(now(), unless_named).map_err(Wrong::asked)?;
        Ok((of_sources(&self.places, &filters.source).map_err(Wrong::asked)?, query))
    }

    /// A look at the topics that the filters name, at the letters that they mean.
    fn begin(&self, filters: &Filters, unless_named: &[Fate]) -> Result<Begun, Wrong> {
        let (places, query) = self.meant(filters, unless_named)?;
        let permit = Arc::clone(&self.looks).try_acquire_owned();
        let busy = |_| Wrong::busy(format!("{LOOKS} looks through the letters are under way"));
        Ok(Begun { places, query, passed: AtomicU64::new(0), _permit: permit.map_err(busy)? })
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

    fn busy(what: String) -> Self {
        Self { status: StatusCode::TOO_MANY_REQUESTS, why: what + "; try again later" }
    }

    /// What the broker said against it.
    fn broker(why: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_GATEWAY, why: why.into() }
    }
}

impl IntoResponse for Wrong {
    fn into_response(self) -> Response {
        (self.status, Answer(json!({ "error": self.why }))).into_response()
    }
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
        line(&json)
    }
}

fn line(json: &Value) -> Bytes {
    Bytes::from(format!("{json}\n"))
}

/// Lines as they come, until there are no more; whoever sends them sees when nobody reads them any more.
fn stream<L: Send + 'static>(first: Option<L>, rest: mpsc::Receiver<L>, line: fn(&L) -> Bytes) -> Response {
    let rest = futures_util::stream::unfold((first, rest), move |(first, mut rest)| async move {
        let next = match first {
            Some(first) => first,
            None => rest.recv().await?,
        };
        Some((Ok::<_, Infallible>(line(&next)), (None, rest)))
    });
    let kind = [(header::CONTENT_TYPE, "application/x-ndjson")];
    (kind, Body::from_stream(rest)).into_response()
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
    Ok(stream(Some(first), listed, Line::bytes))
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

pub(super) async fn show(State(view): State<View>, Path(letter): Path<String>) -> Result<Answer, Wrong> {
    let filters = Filters { letter: vec![letter.clone()], ..Filters::default() };
    let begun = view.letters.begin(&filters, &[])?;
    let shown = chain::show(&begun.places, &begun.query, &begun.passed).await.map_err(Wrong::broker)?;
    let none = || Wrong { status: StatusCode::NOT_FOUND, why: format!("there is no letter {letter}") };
    let shown = shown.ok_or_else(none)?;
    let value = rescued(&begun.places, &shown).await;
    let (today, stamp) = (view.letters.today(), Stamp { at: now(), nonce: Uuid::new_v4().as_u128() });
    // Directories are files, which may be large.
    let told = tokio::task::spawn_blocking(move || shown.json(&today.json(&shown, value, &stamp)));
    Ok(Answer(told.await.map_err(|_| Wrong::broker("the work ended early"))?))
}

pub(super) async fn stats(State(view): State<View>, RawQuery(query): RawQuery) -> Result<Answer, Wrong> {
    let (filters, rooms) = parameters(query.as_deref(), "rooms")?;
    let begun = view.letters.begin(&filters, &[])?;
    let rooms = rooms.map_or(ROOMS, |rooms| usize::try_from(rooms).unwrap_or(usize::MAX));
    let mut stats = Stats::default();
    let counted = begun.look().each(|_, found| {
        stats.take(&found);
        true
    });
    counted.await.map_err(Wrong::broker)?;
    Ok(Answer(stats.json(rooms)))
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

/// What a body says.
fn order<O: DeserializeOwned>(body: &[u8]) -> Result<O, Wrong> {
    serde_json::from_slice(body).map_err(|why| Wrong::asked(format!("the body is not what is wanted: {why}")))
}

/// Nobody means all letters by leaving something out.
fn must_name(which: &Filters) -> Result<(), Wrong> {
    if which.mean_everything() && which.state.is_empty() {
        let wanted = "which letters? Name them, or give a filter; all open ones are \"state\": [\"open\"]";
        return Err(Wrong::asked(wanted));
    }
    Ok(())
}

pub(super) async fn discard(State(view): State<View>, body: Bytes) -> Result<Answer, Wrong> {
    let order: Order = order(&body)?;
    must_name(&order.which)?;
    let begun = view.letters.begin(&order.which, &[Fate::Open])?;
    let decision = Decision { by: caller(&order.by), at: now(), why: words(&order.why) };
    // What has begun is finished even when the caller goes away: rows are not written by halves.
    let work = tokio::spawn(async move {
        let chosen = discarding::choose(&begun.places, &begun.query, &begun.passed).await?;
        chosen.discard(&begun.places, &decision, &AtomicU64::new(0)).await
    });
    let done = work.await.map_err(|_| Wrong::broker("the work ended early"))?;
    Ok(Answer(done.map_err(Wrong::broker)?.json()))
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
