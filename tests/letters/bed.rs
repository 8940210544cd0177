//! A broker with a source and a config beside it, and the commands that work its letters.

use std::io::Read;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use async_nats::HeaderMap;
use roomcast::app;
use roomcast::broker::{Inbox, Started};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::daemon::{TOKEN, roomcast};
use crate::support::kafka::{Kafka, Record};
use crate::support::nats::Nats;
use crate::support::unique;

pub const PATIENCE: Duration = Duration::from_secs(60);
/// What must never be shown.
pub const SECRETS: [&str; 2] = [TOKEN, "hunter2-of-the-account"];
/// A secret word in the place of the account's.
const SECRET: &str = SECRETS[1];
/// Where a JetStream record's key stands.
const KEY: &str = "Room";

/// A broker.
pub enum Broker {
    Kafka(Box<Kafka>),
    Nats(Box<Nats>),
}

/// A broker, a source's names on it, and a config.
pub struct Bed {
    pub broker: Broker,
    pub topic: String,
    folder: TempDir,
}

/// What a command did.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    /// Its result, after it went well.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!((self.code, &*self.stderr), (Some(0), ""), "{}", self.stdout);
        self.stdout
    }

    /// The lines of its result as JSON.
    #[track_caller]
    pub fn lines(self) -> Vec<Value> {
        self.ok().lines().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect()
    }

    /// What it complained of, after it ended with that code.
    #[track_caller]
    pub fn told(self, code: i32) -> String {
        assert_eq!((self.code, &*self.stdout), (Some(code), ""), "{}", self.stderr);
        self.stderr
    }
}

impl Bed {
    /// A new topic on the shared Kafka.
    pub fn kafka() -> Self {
        let kafka = Kafka::shared();
        let topic = unique("worked");
        kafka.create_topic(&topic, 1, &[]);
        Self::on(Broker::Kafka(Box::new(kafka)), topic)
    }

    /// A new stream on a server of its own.
    pub fn nats() -> Self {
        let nats = Nats::start();
        nats.create_stream("MATCH", &["match.>"]);
        Self::on(Broker::Nats(Box::new(nats)), "match.events".to_owned())
    }

    fn on(broker: Broker, topic: String) -> Self {
        let bed = Self { broker, topic, folder: tempfile::tempdir().expect("a scratch folder") };
        bed.write_config(&bed.config(&account("http://127.0.0.1:1", SECRET), ""));
        bed
    }

    /// The dead-letter topic or stream.
    pub fn dead_letter(&self) -> String {
        match &self.broker {
            Broker::Kafka(_) => format!("{}.dlq", self.topic),
            Broker::Nats(_) => "MATCH_DLQ".to_owned(),
        }
    }

    /// The config, with that account and more sections.
    pub fn config(&self, account: &str, more: &str) -> String {
        let dead_letter = self.dead_letter();
        let topic = &self.topic;
        let source = match &self.broker {
            Broker::Kafka(kafka) => format!(
                "kind = \"kafka\"\nbrokers = \"{}\"\ngroup = \"{topic}\"\ntopics = [\"{topic}\"]",
                kafka.address()
            ),
            Broker::Nats(nats) => format!(
                "kind = \"nats\"\nservers = [\"{}\"]\nstream = \"MATCH\"\nsubjects = [\"{topic}\"]\n\
                 durable = \"roomcast\"\nkey = {{ header = \"{KEY}\" }}\ncreate = true",
                nats.url()
            ),
        };
        format!(
            "{account}\n[sources.live]\n{source}\ndead_letter = \"{dead_letter}\"\nstart_from = \"earliest\"\n\n\
             [[routes]]\nname = \"lines\"\naccount = \"acme\"\nmessage = {{ kind = \"text\", text = '.text' }}\n{more}"
        )
    }

    /// Where the config of the commands stands.
    pub fn config_file(&self) -> PathBuf {
        self.folder.path().join("roomcast.toml")
    }

    /// Another config for the commands.
    pub fn write_config(&self, config: &str) {
        let admin = format!("[admin]\ntoken = \"{TOKEN}\"\n\n");
        std::fs::write(self.config_file(), admin + config).expect("the scratch folder can be written");
    }

    /// Publishes events: key and value.
    pub fn publish(&self, events: &[(&str, &str)]) {
        match &self.broker {
            Broker::Kafka(kafka) => {
                let record = |(key, value): &(&str, &str)| Record {
                    key: Some(key.as_bytes().to_vec()),
                    value: Some(value.as_bytes().to_vec()),
                    headers: vec![("trace".to_owned(), b"t-1".to_vec())],
                    ..Record::default()
                };
                kafka.produce(&self.topic, events.iter().map(record));
            }
            Broker::Nats(nats) => {
                let message = |(key, value): &(&str, &str)| {
                    let mut headers = HeaderMap::new();
                    headers.insert(KEY, *key);
                    headers.insert("trace", "t-1");
                    (self.topic.clone(), headers, value.as_bytes().to_vec())
                };
                nats.publish(events.iter().map(message));
            }
        }
    }

    /// Whether the dead-letter topic or stream is there.
    pub fn has_letters(&self) -> bool {
        let name = self.dead_letter();
        match &self.broker {
            Broker::Kafka(kafka) => kafka.has_topic(&name),
            Broker::Nats(nats) => {
                let jetstream = nats.jetstream();
                crate::support::block_on(async { jetstream.get_stream(&name).await.is_ok() })
            }
        }
    }

    /// The source at work in this process, for its writers of letters and rows.
    pub fn source(&self, inbox: Inbox) -> Started {
        let loaded = roomcast::config::load(&[self.config_file()], std::iter::empty());
        let loaded = loaded.unwrap_or_else(|broken| panic!("{:#?}", broken.problems));
        let mut app = app::build(&loaded, &app::open_secret).unwrap_or_else(|wrong| panic!("{wrong:#?}"));
        let source = app.sources.remove(0);
        crate::support::block_on(async { source.broker.start(source.limits, inbox) })
    }

    /// Runs `roomcast letters` with these arguments and the config. No secret may be shown.
    pub fn letters(&self, arguments: &[&str]) -> Ran {
        self.letters_at(arguments, None)
    }

    /// The same on a line of so many columns.
    pub fn letters_at(&self, arguments: &[&str], columns: Option<usize>) -> Ran {
        let mut command = roomcast(&["letters"]);
        command.args(arguments).arg("-c").arg(self.config_file());
        command.env_remove("COLUMNS").env("USER", "ann").stdin(Stdio::null());
        if let Some(columns) = columns {
            command.env("COLUMNS", columns.to_string());
        }
        let ended = command.output().expect("the binary is built");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("output is UTF-8");
        let ran = Ran { code: ended.status.code(), stdout: text(ended.stdout), stderr: text(ended.stderr) };
        for secret in SECRETS {
            assert!(!ran.stdout.contains(secret) && !ran.stderr.contains(secret), "{ran:?}");
        }
        ran
    }

    /// Reads three lines of the list and goes away: what it complained of, and its code.
    pub fn three_lines(&self, arguments: &[&str]) -> Ran {
        use std::io::BufRead as _;
        let mut command = roomcast(&["letters"]);
        command.args(arguments).arg("-c").arg(self.config_file()).stdin(Stdio::null());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it is built");
        let pipe = child.stdout.take().expect("it is piped");
        let lines: Vec<String> =
            std::io::BufReader::new(pipe).lines().take(3).map(|line| line.expect("UTF-8")).collect();
        let mut stderr = String::new();
        child.stderr.take().expect("it is piped").read_to_string(&mut stderr).expect("UTF-8");
        let code = child.wait().expect("it is our child").code();
        Ran { code, stdout: lines.join("\n"), stderr }
    }
}

/// A Yunxin account at that address.
pub fn account(url: &str, secret: &str) -> String {
    format!(
        "[accounts.acme]\nprovider = \"yunxin\"\napp_key = \"key\"\napp_secret = \"{secret}\"\nsender = \"system\"\n\
         base_url = \"{url}\"\n"
    )
}

/// A field of each, as text.
pub fn field(lines: &[Value], name: &str) -> Vec<String> {
    lines.iter().map(|line| line[name].as_str().unwrap_or_default().to_owned()).collect()
}

/// Makes tests of scenarios (`fn(&Bed)`): one of the same name in `kafka` and one in `nats`.
macro_rules! on_both {
    ($($name:ident),*) => {
        mod kafka {
            $(#[test] fn $name() { super::$name(&crate::bed::Bed::kafka()); })*
        }
        mod nats {
            $(#[test] fn $name() { super::$name(&crate::bed::Bed::nats()); })*
        }
    };
}
pub(crate) use on_both;
