//! Requests for replays as the loop reads them: a source like any other, whose records have their values.
//!
//! A letter that was too large to keep its value says where that stands. Such a request is handed on when
//! the value has been read from there, or is known to be gone; what comes behind it waits, so that
//! nothing overtakes.

use std::sync::Arc;
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable as _};
use tokio::sync::mpsc;
use tracing::warn;

use crate::broker::{Archive, Arrival, Broker, Followed, Inbox, Reading, SourceLimits, Started};
use crate::core::model::{Record, SourceId};
use crate::core::replay::Told;

/// Arrivals between the source and the loop's inbox: no more than are on their way anyway.
const BETWEEN: usize = 16;
/// Batches of rows on their way to the loop.
const ROWS: usize = 4;

/// Starts the source of requests beside a source's letters, under that id.
pub fn start(
    beside: &dyn Broker,
    id: SourceId,
    reading: Reading,
    limits: SourceLimits,
    inbox: Inbox,
) -> Started {
    let (sender, arrivals) = mpsc::channel(BETWEEN);
    tokio::spawn(hand_on(arrivals, inbox, beside.archive()));
    beside.replays(id, reading).start(limits, sender)
}

/// Hands arrivals on, requests with their values, until nobody takes them or no more come.
async fn hand_on(mut arrivals: mpsc::Receiver<Arrival>, inbox: Inbox, archive: Arc<dyn Archive>) {
    while let Some(mut arrival) = arrivals.recv().await {
        if let Arrival::Record(record) = &mut arrival {
            fill(record, &*archive).await;
        }
        if inbox.send(arrival).await.is_err() {
            return;
        }
    }
}

/// Puts the value into a request whose letter could not keep it, if it still stands where it stood.
async fn fill(record: &mut Record, archive: &dyn Archive) {
    // What cannot be read is no request, and the loop says so.
    let Ok(Told { origin, truncated: Some(_), .. }) = Told::read(record) else { return };
    if record.value.is_some() {
        return;
    }
    let waits = ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(250))
        .with_max_delay(Duration::from_secs(30))
        .without_max_times()
        .with_jitter();
    let read = (|| archive.value_at(origin.clone())).retry(waits).sleep(tokio::time::sleep).notify(
        |error: &String, wait| {
            warn!(error, ?wait, "the value of a truncated letter cannot be read now, trying again");
        },
    );
    record.value = read.await.unwrap_or_else(|error| unreachable!("a backoff without an end ended: {error}"));
}

/// Follows the tables beside the letters: what is told of each comes with the id of its source of requests.
pub fn follow<'b>(
    tables: impl Iterator<Item = (SourceId, &'b dyn Broker)>,
) -> mpsc::Receiver<(SourceId, Followed)> {
    let (into, rows) = mpsc::channel(ROWS);
    for (id, broker) in tables {
        let (told, mut hears) = mpsc::channel(1);
        let into = into.clone();
        broker.archive().follow(told);
        tokio::spawn(async move {
            while let Some(told) = hears.recv().await {
                if into.send((id, told)).await.is_err() {
                    return;
                }
            }
        });
    }
    rows
}
