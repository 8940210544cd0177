//! The rows of a NATS server that replicas change by compare and set: what leases of quotas rest on.

use std::sync::Arc;

use bytes::Bytes;
use roomcast::broker::Buckets;
use roomcast::core::section::{Node, Place, Value};
use roomcast::core::share::lease::Written;

use crate::nats_bed::{Running, Server};

fn create(yes: bool) -> (&'static str, Node) {
    ("create", Node { value: Value::Boolean(yes), place: Place::Nowhere, key_place: Place::Nowhere })
}

async fn buckets(server: &Server, creates: bool) -> (Running, Arc<dyn Buckets>) {
    let bed = Running::ready(server, 10, &[create(creates)]).await;
    let buckets = bed.started.buckets.clone().expect("NATS has buckets");
    (bed, buckets)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_is_written_by_whoever_knows_its_revision() {
    let server = Server::start("");
    let (one_bed, one) = buckets(&server, true).await;
    let (other_bed, other) = buckets(&server, true).await;
    assert_eq!(one.read("quota", "live.app").await, Ok(None), "the bucket is made");
    let write = |of: &Arc<dyn Buckets>, value: &'static str, expected| {
        let of = of.clone();
        async move { of.write("quota", "live.app", Bytes::from(value), expected).await }
    };
    let Ok(Written::Done(first)) = write(&one, "a", 0).await else { panic!("nobody was faster") };
    assert_eq!(write(&other, "b", 0).await, Ok(Written::Outrun), "there is a row already");
    assert_eq!(other.read("quota", "live.app").await, Ok(Some((first, Bytes::from("a")))));
    let Ok(Written::Done(second)) = write(&other, "b", first).await else { panic!("the revision is right") };
    assert_eq!(write(&one, "c", first).await, Ok(Written::Outrun));
    assert_eq!(one.read("quota", "live.app").await, Ok(Some((second, Bytes::from("b")))));
    one_bed.stop().await;
    other_bed.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_that_may_not_be_made_is_told_of_with_what_helps() {
    let server = Server::start("");
    let (making, _) = buckets(&server, true).await;
    making.stop().await;
    let (bed, buckets) = buckets(&server, false).await;
    let why = buckets.read("quota", "live").await.unwrap_err();
    assert!(why.contains("nats kv add quota") && why.contains("create = true"), "{why}");
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_away_is_told_of_and_not_waited_for() {
    let mut server = Server::start("");
    let (_bed, buckets) = buckets(&server, true).await;
    assert_eq!(buckets.read("quota", "live").await, Ok(None));
    server.kill();
    let written = buckets.write("quota", "live", Bytes::from("a"), 0).await;
    assert!(written.is_err(), "{written:?}");
    assert!(buckets.read("quota", "live").await.is_err());
}
