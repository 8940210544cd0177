//! A real broker that dies and comes back: one of the test's own, started by the script that
//! `ROOMCAST_TEST_KAFKA_HOME` names.

use std::collections::BTreeSet;
use std::fs::File;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command as Process, Stdio};
use std::time::{Duration, Instant};

use roomcast::broker::Status;
use roomcast::core::model::Record;

use crate::bed::{Bed, PATIENCE, Running, produce};

/// A broker process that ends with the test.
struct OwnKafka(Child);

impl OwnKafka {
    fn start(folder: &Path, port: u16) -> Self {
        let home = std::env::var("ROOMCAST_TEST_KAFKA_HOME").unwrap_or_else(|_| {
            panic!(
                "ROOMCAST_TEST_KAFKA_HOME is not set: this test starts an Apache Kafka of its own with the script \
                 kafka-start in it. `.ci/brokers.sh cargo test` names it."
            )
        });
        let log = folder.join("log");
        let started = Process::new(Path::new(&home).join("kafka-start"))
            .arg(folder)
            .arg(port.to_string())
            .stdout(File::create(&log).unwrap())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("{home}/kafka-start: {error}"));
        let broker = Self(started);
        let since = Instant::now();
        while !std::fs::read_to_string(&log).unwrap().contains("Kafka Server started") {
            assert!(since.elapsed() < PATIENCE, "Apache Kafka did not start: see {}", log.display());
            std::thread::sleep(Duration::from_millis(50));
        }
        broker
    }
}

impl Drop for OwnKafka {
    fn drop(&mut self) {
        self.0.kill().expect("it was still there");
        self.0.wait().expect("it is ours");
    }
}

/// A port below those that the kernel gives to outgoing connections: it stays free for the restart.
fn free_port() -> u16 {
    let start = 20_000 + u16::try_from(std::process::id() % 10_000).unwrap();
    (start..32_000).find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).expect("a free port")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_killed_and_started_again_costs_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let broker = OwnKafka::start(folder.path(), port);
    let bed = Bed::on(format!("127.0.0.1:{port}"), "killed", 4).await;
    bed.produce((0..400).map(|n| (n % 4, n.to_string()))).await;
    let mut source = Running::start(bed.source());
    let records = source.records(400).await;
    let is_settled = |record: &Record| record.origin.offset % 10 != 0;
    let (before, during): (Vec<&Record>, Vec<&Record>) =
        records.iter().filter(|record| is_settled(record)).partition(|record| record.origin.offset < 50);
    before.iter().for_each(|record| source.settle(record));
    drop(broker);
    source.until("the outage", |source| matches!(source.statuses.last(), Some(Status::Waiting(_)))).await;
    during.iter().for_each(|record| source.settle(record));
    let broker = OwnKafka::start(folder.path(), port);
    source.until("the return", |source| source.statuses.last() == Some(&Status::Ready)).await;
    produce(&bed.brokers, &bed.topic, (0..4).map(|n| (n, "after".to_owned()))).await;
    let mut after = BTreeSet::new();
    while after.len() < 4 {
        let record = source.record().await;
        // A broker that lost the group makes it begin anew: then the unfinished come again, no others.
        assert!(record.origin.offset >= 100 || !is_settled(&record), "{:?} was settled", record.origin);
        if record.origin.offset >= 100 {
            source.settle(&record);
            after.insert(record.origin.partition);
        }
    }
    source.stop().await;
    let mut again = Running::start(bed.source());
    let rest = again.records(40).await;
    assert!(rest.iter().all(|record| !is_settled(record)), "only what was never settled");
    again.silence(Duration::from_secs(1)).await;
    again.stop().await;
    drop(broker);
}
