//! `/api/letters/replay`: letters asked for as `roomcast letters replay` asks for them, or what that would do.
//!
//! The answer to an asking is a stream: how far it is, a line a second, and at the end the summary. Whoever goes
//! away stops it: what is under way is finished, so that no letter has a row and no request, and what was asked
//! for stays asked for. So does the end of the process. Replays have places of their own, so that a slow one
//! keeps nobody from looking.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::{interval, timeout};
use tracing::info;
use uuid::Uuid;

use super::{AHEAD, Wrong, caller, line, must_name, order, stream, words};
use crate::admin::View;
use crate::admin::api::Answer;
use crate::core::model::{AccountId, Path};
use crate::core::replay::{Asked, Content};
use crate::driver::Handle;
use crate::letters::ask::{Ended, Tally, Wish};
use crate::letters::asking::Asking;
use crate::letters::filters::Filters;
use crate::letters::forecast::{Forecast, Parts};
use crate::letters::rate::Rate;
use crate::letters::rows::Verdict;
use crate::letters::summary::Summary;
use crate::letters::today::Today;
use crate::letters::{now, patch};

/// Replays that may be under way at once, those that are only planned among them.
const REPLAYS: usize = 2;
/// How often it is told how far one is.
const TELLS: Duration = Duration::from_secs(1);
/// How long the end of the process waits for letters that are being asked for.
const LINGER: Duration = Duration::from_secs(5);

/// The replays that are under way.
#[derive(Clone, Debug)]
pub(super) struct Replays {
    places: Arc<Semaphore>,
    stop: watch::Sender<bool>,
}

impl Default for Replays {
    fn default() -> Self {
        Self { places: Arc::new(Semaphore::new(REPLAYS)), stop: watch::Sender::new(false) }
    }
}

impl Replays {
    pub(super) fn stop(&self) {
        self.stop.send_replace(true);
    }

    pub(super) async fn ended(&self) {
        self.stop();
        let all = u32::try_from(REPLAYS).expect("a few");
        // Longer than that nobody waits: a letter that has no request yet is `requested`, and can be asked for.
        let _ = timeout(LINGER, self.places.acquire_many(all)).await;
    }

    fn begin(&self) -> Result<OwnedSemaphorePermit, Wrong> {
        if *self.stop.borrow() {
            let why = "the process is about to end".to_owned();
            return Err(Wrong { status: StatusCode::SERVICE_UNAVAILABLE, why });
        }
        let busy = |_| Wrong::busy(format!("{REPLAYS} replays are being asked for or planned"));
        Arc::clone(&self.places).try_acquire_owned().map_err(busy)
    }
}

/// What is asked of `replay`.
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
    /// At most so many.
    limit: Option<u64>,
    /// At most so many in a time.
    rate: Option<String>,
    /// What is changed first.
    patch: Option<String>,
    /// Where the content comes from.
    #[serde(default)]
    route: Route,
    /// Whether the time-to-live counts.
    #[serde(default)]
    keep_ttl: bool,
    /// Only say what would be done.
    #[serde(default)]
    dry_run: bool,
}

#[cfg(test)]
pub(super) fn is_order(body: &str) -> bool {
    order::<Order>(body.as_bytes()).is_ok()
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Route {
    #[default]
    Current,
    Original,
}

pub(in crate::admin) async fn replay(State(view): State<View>, body: Bytes) -> Result<Response, Wrong> {
    let order: Order = order(&body)?;
    must_name(&order.which)?;
    let rate = order.rate.as_deref().map(Rate::parse).transpose().map_err(Wrong::asked)?;
    let patch = order.patch.as_deref().map(|text| patch::compile("patch", text)).transpose();
    let (patch, today) = (patch.map_err(Wrong::asked)?, view.letters.today());
    let (places, query) = view.letters.meant(&order.which, &[])?;
    let place = view.letters.replays.begin()?;
    let content = match order.route {
        Route::Current => Content::Current,
        Route::Original => Content::Original,
    };
    let (by, keep_ttl) = (caller(&order.by), order.keep_ttl);
    let asked = Asked { id: Uuid::new_v4(), by, at: now(), content, keep_ttl };
    let change = patch.map(|patch| patch::change(patch, &today));
    let wish = Wish { query, asked, why: words(&order.why), limit: order.limit, change };
    // A caller who goes away until here has changed nothing.
    let asking = Asking::join(&places, wish).await.map_err(Wrong::broker)?;
    if order.dry_run {
        return Ok(foretell(&asking, &today, rate, &view.handle).await?.into_response());
    }
    let (lines, told) = mpsc::channel(AHEAD);
    let stop = view.letters.replays.stop.subscribe();
    tokio::spawn(async move {
        let summary = ask(asking, rate, &lines, stop).await;
        // Whoever reads slowly holds nobody up.
        drop(place);
        // A reader that is gone needs no summary.
        let _ = lines.send(json!({ "summary": summary })).await;
    });
    Ok(stream(None, told, line))
}

/// What it would do.
async fn foretell(
    asking: &Asking,
    today: &Arc<Today>,
    rate: Option<Rate>,
    handle: &Handle,
) -> Result<Answer, Wrong> {
    let look_up = today.look_up.clone();
    // Directories are files, which may be large.
    let looked = tokio::task::spawn_blocking(move || look_up()).await;
    let looked = looked.map_err(|_| Wrong::broker("the work ended early"))?;
    let plan = asking.plan(today, &looked, now()).await.map_err(Wrong::broker)?;
    let (parts, keep_ttl) = (parts(handle).await, asking.wish.asked.keep_ttl);
    Ok(Answer(Forecast { today, plan: &plan, parts: &parts, rate, keep_ttl }.json()))
}

/// What live traffic leaves.
async fn parts(handle: &Handle) -> Result<Parts, String> {
    let report = handle.report().await.ok_or("the loop has ended")?;
    let of = |(paths, id): (&[_; Path::ALL.len()], u16)| {
        Path::ALL.map(|path| {
            let snapshot: &crate::core::schedule::status::PathSnapshot = &paths[path as usize];
            ((AccountId(id), path), snapshot.background)
        })
    };
    Ok(report.snapshot.accounts.iter().zip(0..).flat_map(of).collect())
}

/// Asks until it is through, nobody reads what is told, or the process is about to end.
async fn ask(
    asking: Asking,
    rate: Option<Rate>,
    lines: &mpsc::Sender<Value>,
    mut ends: watch::Receiver<bool>,
) -> Value {
    let (tally, told) = watch::channel(Tally::default());
    let (stop, stopped) = watch::channel(false);
    let mut ticks = interval(TELLS);
    let mut work = pin!(asking.ask(rate, &tally, stopped));
    let ended = loop {
        let goes_on = !*stop.borrow();
        tokio::select! {
            biased;
            ended = &mut work => break ended,
            () = lines.closed(), if goes_on => drop(stop.send_replace(true)),
            Ok(_) = ends.wait_for(|ends| *ends), if goes_on => drop(stop.send_replace(true)),
            // A reader who is slow misses some.
            _ = ticks.tick() => drop(lines.try_send(progress(&told.borrow()))),
        }
    };
    let (request, verdicts) = (asking.wish.asked.id, asking.verdicts());
    let summary =
        Summary { request, tally: told.borrow().clone(), verdicts, ended, waited: false, earlier: None };
    let is_stopped = summary.ended == Ended::Stopped;
    info!(
        %request,
        by = asking.wish.asked.by,
        asked = summary.tally.asked,
        replayed = summary.verdicts.of(Verdict::Replayed),
        is_stopped,
        "letters were asked for over the API"
    );
    summary.json()
}

fn progress(tally: &Tally) -> Value {
    json!({ "progress": { "meant": tally.meant, "asked": tally.asked } })
}
