//! `spread = { partitions = N }` on a real nats-server (2.15.1): several sources share one stream, and
//! order per key and every message outlive whatever happens to them, to the server and to the streams.
//!
//! `ROOMCAST_TEST_NATS_SERVER` names the server's binary; without it every test here fails.

#[path = "../nats_bed/mod.rs"]
#[expect(dead_code, reason = "the bed has more than this binary uses")]
mod nats_bed;
mod replica;
mod setting_up;
mod together;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_nats::jetstream::{context, stream};
use nats_bed::Server;
use roomcast::core::section::{Node, Place, Table, Value};
use tokio::task::JoinHandle;

/// What one loop needs beside the bed's own settings.
const PARTITIONS: u32 = 8;
/// The parts stream of the bed's source.
const PARTS: &str = "MATCH_roomcast_parts";

fn node(value: Value) -> Node {
    Node { value, place: Place::Nowhere, key_place: Place::Nowhere }
}

/// `spread = { partitions = … }`, a short `ack_wait`, and from the earliest message on.
fn spread(partitions: u32) -> Vec<(&'static str, Node)> {
    let table = Table::from([("partitions".to_owned(), node(Value::Integer(i64::from(partitions))))]);
    vec![
        ("spread", node(Value::Table(table))),
        ("ack_wait", nats_bed::text("1s")),
        ("start_from", nats_bed::text("earliest")),
    ]
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Makes the stream that is read, so that it is there before a source makes it.
async fn create_stream(jetstream: &context::Context) {
    let config = stream::Config {
        name: "MATCH".to_owned(),
        subjects: vec!["match.*.events".to_owned()],
        ..stream::Config::default()
    };
    jetstream.create_stream(config).await.unwrap();
}

/// Publishes numbers over forty keys, in order, until it is told to stop.
struct Publisher {
    stop: Arc<AtomicBool>,
    count: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Publisher {
    /// Waits `pause` after each.
    async fn start(server: &Server, from: u64, pause: Duration) -> Self {
        let url = server.url();
        let jetstream = server.jetstream().await;
        let (stop, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(from)));
        let (stopped, published) = (stop.clone(), count.clone());
        let task = tokio::spawn(async move {
            while !stopped.load(Ordering::Relaxed) {
                let number = published.load(Ordering::Relaxed);
                publish_one(&jetstream, number, &url).await;
                published.store(number + 1, Ordering::Relaxed);
                tokio::time::sleep(pause).await;
            }
        });
        Self { stop, count, task }
    }

    fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// Waits until so many more are published.
    async fn more(&self, count: u64) {
        let enough = self.count() + count;
        while self.count() < enough {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Stops, and says how many numbers there are.
    async fn finish(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.unwrap();
        self.count.load(Ordering::Relaxed)
    }
}

/// Numbers, each under its own key.
async fn publish_all(jetstream: &context::Context, numbers: std::ops::Range<u64>) {
    for number in numbers {
        publish_one(jetstream, number, "").await;
    }
}

/// A number under its own key, one of forty.
async fn publish_one(jetstream: &context::Context, number: u64, url: &str) {
    publish_under(jetstream, number % 40, number, url).await;
}

/// Until it is stored, once: the server drops what it has already.
async fn publish_under(jetstream: &context::Context, key: u64, number: u64, url: &str) {
    let mut headers = async_nats::HeaderMap::new();
    headers.insert("Nats-Msg-Id", format!("{url} {number}"));
    loop {
        let subject = format!("match.{key}.events");
        let payload = number.to_string().into();
        let sent = async { jetstream.publish_with_headers(subject, headers.clone(), payload).await?.await };
        if let Ok(Ok(_)) = tokio::time::timeout(seconds(2), sent).await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
