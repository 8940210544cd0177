//! A KV bucket that others write, read whole and then followed: over a connection of its own, so that
//! it neither waits for the source nor holds it up. It ends when nobody listens.

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::kv::{Entry, Operation, Store};
use async_nats::{Client, Event};
use bytes::Bytes;
use futures_util::StreamExt;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::link::{self, Patience, chain, jetstream};
use super::settings::Settings;
use crate::broker::Followed;

/// How long the server may be silent before reading to the end is given up and begun again.
const PATIENCE: Duration = Duration::from_secs(15);
/// Rows told at once, at most.
const BATCH: usize = 512;

/// Nobody listens.
struct Unheard;

/// Reads and follows, until nobody listens.
pub async fn run(settings: Arc<Settings>, bucket: String, told: mpsc::Sender<Followed>) {
    let follow = async {
        let mut patience = Patience::quiet(true);
        loop {
            let why = match follow(&settings, &bucket, &told, &mut patience).await {
                Ok(why) => why,
                Err(Unheard) => return,
            };
            if told.send(Followed::Waiting(format!("bucket {bucket}: {why}"))).await.is_err() {
                return;
            }
            patience.wait().await;
        }
    };
    tokio::select! {
        () = follow => {}
        () = told.closed() => {}
    }
}

/// Connects, reads and follows for as long as that goes well; why it has ended.
async fn follow(
    settings: &Settings,
    bucket: &str,
    told: &mpsc::Sender<Followed>,
    patience: &mut Patience,
) -> Result<String, Unheard> {
    let connected = link::connect_once(settings, |_: Event| std::future::ready(())).await;
    let client = match connected {
        Ok(client) => client,
        Err(why) => return Ok(format!("cannot connect to {}: {why}", settings.addresses())),
    };
    let why = read(&client, bucket, told, patience).await;
    // The connection is closed by being dropped; what drain could say matters to nobody.
    let _ = client.drain().await;
    why
}

async fn read(
    client: &Client,
    bucket: &str,
    told: &mpsc::Sender<Followed>,
    patience: &mut Patience,
) -> Result<String, Unheard> {
    let store = match jetstream(client.clone()).get_key_value(bucket).await {
        Ok(store) => store,
        Err(error) => return Ok(format!("it cannot be opened: {}", chain(&error))),
    };
    // A watch of an empty bucket tells nothing until its first row.
    let is_empty = match store.stream.get_info().await {
        Ok(info) => info.state.messages == 0,
        Err(error) => return Ok(chain(&error)),
    };
    watch(&store, is_empty, told, patience).await
}

async fn watch(
    store: &Store,
    is_empty: bool,
    told: &mpsc::Sender<Followed>,
    patience: &mut Patience,
) -> Result<String, Unheard> {
    let entries = match store.watch_with_history(">").await {
        Ok(entries) => entries,
        Err(error) => return Ok(chain(&error)),
    };
    let mut batches = entries.ready_chunks(BATCH);
    tell(told, Followed::Begun).await?;
    let mut is_current = is_empty;
    if is_current {
        tell(told, Followed::Current).await?;
    }
    loop {
        let batch = match is_current {
            true => batches.next().await,
            false => match timeout(PATIENCE, batches.next()).await {
                Ok(batch) => batch,
                Err(_) => return Ok(format!("the server has sent nothing for {PATIENCE:?}")),
            },
        };
        let Some(batch) = batch else { return Ok("the server ended the watch".to_owned()) };
        let mut rows = Vec::with_capacity(batch.len());
        let mut reaches_end = false;
        for entry in batch {
            match entry {
                Ok(entry) => {
                    reaches_end |= entry.seen_current;
                    rows.push(row(entry));
                }
                Err(error) => return Ok(chain(&error)),
            }
        }
        tell(told, Followed::Rows(rows)).await?;
        if reaches_end && !is_current {
            is_current = true;
            *patience = Patience::quiet(true);
            tell(told, Followed::Current).await?;
        }
    }
}

fn row(entry: Entry) -> (Bytes, Option<Bytes>) {
    (Bytes::from(entry.key), (entry.operation == Operation::Put).then_some(entry.value))
}

async fn tell(told: &mpsc::Sender<Followed>, what: Followed) -> Result<(), Unheard> {
    told.send(what).await.map_err(|_| Unheard)
}
