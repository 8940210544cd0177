//! A private nats-server with JetStream, as a process: made, killed, started again on the same
//! folder and port; streams, publishing with confirmation, reading back.

use std::process::Command;
use std::time::Duration;

use async_nats::jetstream::{self, stream};
use async_nats::{ConnectOptions, HeaderMap};
use futures_util::StreamExt;
use tempfile::TempDir;

use super::process::Process;
use super::{block_on, free_port, from_brokers_sh};

const START: Duration = Duration::from_secs(20);
/// Publishes that may wait for their ack. The client deadlocks in silence above 5,000.
const AWAY: usize = 500;

/// A server, running or killed.
pub struct Nats {
    options: Box<dyn Fn() -> ConnectOptions + Send + Sync>,
    process: Process,
    folder: TempDir,
    port: u16,
}

/// A message as the stream holds it.
#[derive(Clone, Debug)]
pub struct Held {
    /// Its subject.
    pub subject: String,
    /// Its sequence in the stream.
    pub sequence: u64,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub payload: Vec<u8>,
}

impl Nats {
    /// Starts a server on an empty folder and a free port.
    #[track_caller]
    pub fn start() -> Self {
        Self::start_with("")
    }

    /// Starts a server with more lines of config (`max_payload: 12MB`).
    #[track_caller]
    pub fn start_with(config: &str) -> Self {
        Self::start_guarded(config, ConnectOptions::new)
    }

    /// Starts a server that asks who comes; tests connect to it with these options.
    #[track_caller]
    pub fn start_guarded(config: &str, options: impl Fn() -> ConnectOptions + Send + Sync + 'static) -> Self {
        let folder = tempfile::tempdir().expect("a scratch folder");
        std::fs::write(folder.path().join(CONFIG), config).expect("the scratch folder can be written");
        let mut port = free_port();
        let mut process = launch(&folder, port);
        while let Err(why) = process.find_line(0, START, |line| line.text.contains("Server is ready")) {
            let taken = process.lines().iter().any(|line| line.text.contains("address already in use"));
            assert!(taken, "nats-server {why} before it was ready:\n{}", process.tail());
            port = free_port();
            process = launch(&folder, port);
        }
        Self { options: Box::new(options), process, folder, port }
    }

    /// `nats://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// kill -9.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again on the same folder and port. It must have ended.
    #[track_caller]
    pub fn restart(&mut self) {
        self.process = launch(&self.folder, self.port);
        self.process.await_line("Server is ready", START);
    }

    /// A new connection's JetStream.
    pub fn jetstream(&self) -> jetstream::Context {
        block_on(async {
            let client = (self.options)().connect(self.url()).await.expect("the server is ready");
            jetstream::new(client)
        })
    }

    /// Makes a stream kept in files.
    pub fn create_stream(&self, name: &str, subjects: &[&str]) {
        let config = stream::Config {
            name: name.to_owned(),
            subjects: subjects.iter().map(|subject| (*subject).to_owned()).collect(),
            ..stream::Config::default()
        };
        block_on(self.jetstream().create_stream(config)).expect("the server makes streams");
    }

    /// Publishes in this order, each confirmed by the stream when this returns.
    pub fn publish(&self, messages: impl IntoIterator<Item = (String, HeaderMap, Vec<u8>)>) {
        let jetstream = self.jetstream();
        block_on(async {
            let mut away = std::collections::VecDeque::new();
            for (subject, headers, payload) in messages {
                let ack = jetstream.publish_with_headers(subject, headers, payload.into()).await;
                away.push_back(ack.expect("the connection stands"));
                if away.len() == AWAY {
                    away.pop_front().expect("it is full").await.expect("the stream takes it");
                }
            }
            for ack in away {
                ack.await.expect("the stream takes it");
            }
        });
    }

    /// Everything that a stream holds, in its order.
    pub fn read(&self, name: &str) -> Vec<Held> {
        let jetstream = self.jetstream();
        block_on(async {
            let stream = jetstream.get_stream(name).await.expect("the stream is there");
            let count = stream.cached_info().state.messages;
            let config = jetstream::consumer::pull::OrderedConfig::default();
            let consumer = stream.create_consumer(config).await.expect("the server makes consumers");
            let messages = consumer.messages().await.expect("the consumer delivers");
            let held = messages.take(usize::try_from(count).expect("it fits")).map(|message| {
                let message = message.expect("the consumer delivers");
                let sequence = message.info().expect("it came from a stream").stream_sequence;
                let inner = message.message;
                Held {
                    subject: inner.subject.to_string(),
                    sequence,
                    headers: inner.headers.unwrap_or_default(),
                    payload: inner.payload.to_vec(),
                }
            });
            held.collect().await
        })
    }
}

/// The config's name in the server's folder.
const CONFIG: &str = "nats.conf";

fn launch(folder: &TempDir, port: u16) -> Process {
    let mut command = Command::new(from_brokers_sh("ROOMCAST_TEST_NATS_SERVER"));
    command
        .args(["--addr", "127.0.0.1", "--port", &port.to_string(), "--jetstream", "--store_dir"])
        .arg(folder.path())
        .arg("--config")
        .arg(folder.path().join(CONFIG));
    Process::start("nats-server", command)
}
