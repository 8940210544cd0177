//! `docs/letters.md`, followed word by word: a config and letters as its introduction says, then every
//! block of commands in its order by a shell, each compared with what the page shows. Names of the shared
//! broker and addresses are put in for those of the page, ids that the page shows for those that came.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use async_nats::HeaderMap;
use serde_json::json;
use tempfile::TempDir;

use crate::bed::{Broker, PATIENCE};
use crate::page_text::{Matched, Piece, pieces};
use crate::support::daemon::{BINARY, metric, roomcast};
use crate::support::http;
use crate::support::kafka::{Kafka, Record};
use crate::support::nats::Nats;
use crate::support::process::Process;
use crate::support::provider::{Kind, Provider};
use crate::support::{ask_until, free_port, unique};

const TOKEN: &str = "your-admin-token";
/// The events that become the page's letters, in their order: a key and a value.
const EVENTS: [(&str, &str); 6] = [
    ("1001", "hello"),
    ("1001", r#"{"type":"line","text":{"en":"hello there"}}"#),
    ("1001", r#"{"type":"lnie","text":"who typed that?"}"#),
    ("1404", r#"{"type":"line","text":"is anybody there?"}"#),
    ("1003", r#"{"type":"line","text":"buy gold"}"#),
    (
        "1001",
        r#"{"specversion":"1.0","id":"g-1","source":"/gifts","type":"gift","time":"2026-01-31T20:00:00Z","data":{"gift":"rose"}}"#,
    ),
];

/// A daemon with the page's config and the page's letters.
struct Scene {
    broker: Broker,
    /// The topic in place of the page's; the page's own where the broker is the test's.
    topic: String,
    port: u16,
    provider: Provider,
    folder: TempDir,
    daemon: Process,
}

impl Scene {
    fn new(broker: Broker, topic: String) -> Self {
        let rooms = ["--room", "1001", "--room", "1003", "--room", "1404"];
        let provider = Provider::start(Kind::Yunxin, &rooms);
        let idle = Process::start("nothing yet", Command::new("true"));
        let folder = tempfile::tempdir().expect("a scratch folder");
        Self { broker, topic, port: 0, provider, folder, daemon: idle }
    }

    /// What the page says, with the names that are used here.
    fn here(&self, text: &str) -> String {
        let text = text.replace("https://api.netease.im/nimserver", self.provider.base_url());
        let text = text.replace("127.0.0.1:9600", &format!("127.0.0.1:{}", self.port));
        let secret = self.folder.path().join("yunxin");
        let text = text.replace("/run/secrets/yunxin", secret.to_str().expect("a plain name"));
        let (from, to) = match &self.broker {
            Broker::Kafka(kafka) => ("127.0.0.1:9092", kafka.address()),
            Broker::Nats(nats) => ("nats://127.0.0.1:4222", nats.url()),
        };
        text.replace(from, &to).replace("live.events", &self.topic)
    }

    /// Writes the config and starts the daemon, on a port that nobody has.
    fn start(&mut self, config: &str) {
        std::fs::write(self.folder.path().join("yunxin"), "secret").expect("it can be written");
        for _ in 0..10 {
            self.port = free_port();
            let path = self.folder.path().join("roomcast.toml");
            std::fs::write(path, self.here(config)).expect("it can be written");
            if self.launch() {
                return;
            }
        }
        panic!("the daemon does not start:\n{}", self.daemon.tail());
    }

    /// Starts the daemon; whether it became ready.
    fn launch(&mut self) -> bool {
        let mut command = roomcast(&["run", "--log-format", "json", "-c", "roomcast.toml"]);
        command.current_dir(self.folder.path());
        self.daemon = Process::start("roomcast run", command);
        ask_until("/readyz", PATIENCE, || {
            if self.daemon.find_line(0, Duration::ZERO, |_| false) == Err("ended".to_owned()) {
                return Some(false);
            }
            let answer = http::get(&format!("http://127.0.0.1:{}/readyz", self.port))?;
            (answer.status == 200).then_some(true)
        })
    }

    fn publish(&self, key: &str, values: impl Iterator<Item = String>) {
        match &self.broker {
            Broker::Kafka(kafka) => {
                let record = |value: String| Record {
                    key: Some(key.as_bytes().to_vec()),
                    value: Some(value.into_bytes()),
                    ..Record::default()
                };
                kafka.produce(&self.topic, values.map(record));
            }
            Broker::Nats(nats) => {
                let message = |value: String| {
                    let mut headers = HeaderMap::new();
                    headers.insert("Room", key);
                    (self.topic.clone(), headers, value.into_bytes())
                };
                nats.publish(values.map(message));
            }
        }
    }

    /// Publishes the events, each after the letter of the one before.
    fn write_letters(&self) {
        let refuse = |code: u16, description: &str, room: &str| {
            let answer = json!({ "status": 200, "code": code, "description": description });
            json!({ "effect": { "answer": answer }, "rooms": [room] })
        };
        let closed = refuse(404, "chatroom not exist", "1404");
        self.provider.set_faults(&json!([closed, refuse(414, "illegal content", "1003")]));
        self.publish("1001", [r#"{"type":"line","text":"welcome"}"#.to_owned()].into_iter());
        for (number, (key, value)) in (1..).zip(EVENTS) {
            self.publish(key, [value.to_owned()].into_iter());
            ask_until(&format!("the letter of {value}"), PATIENCE, || {
                let url = format!("http://127.0.0.1:{}/api/letters/stats", self.port);
                let counts = http::get_with_token(&url, TOKEN)?.body;
                let counts: serde_json::Value = serde_json::from_str(&counts).ok()?;
                (counts["letters"] == number).then_some(())
            });
        }
    }

    fn metric(&self, name: &str, labels: &str) -> Option<f64> {
        metric(&http::get(&format!("http://127.0.0.1:{}/metrics", self.port))?.body, name, labels)
    }

    /// Runs commands as somebody at a terminal of this width would; what they said.
    fn run(&self, commands: &str) -> String {
        let reloads = || self.metric("roomcast_config_reloads_total", "result=\"took\"").unwrap_or(0.0);
        let before = reloads();
        let binaries = Path::new(BINARY).parent().expect("it stands in a folder").display();
        let path = format!("{binaries}:{}", std::env::var("PATH").expect("there is a PATH"));
        let mut shell = Command::new("sh");
        for (name, _) in
            std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("ROOMCAST_"))
        {
            shell.env_remove(name);
        }
        shell.env("PATH", path).env("USER", "ann").env("COLUMNS", "110").env("TOKEN", TOKEN);
        shell.env("DAEMON", self.daemon.pid().to_string()).env_remove("RUST_LOG");
        shell.arg("-ec").arg(format!("exec 2>&1\n{}", self.here(commands)));
        shell.current_dir(self.folder.path());
        let mut shell = Process::start(commands, shell);
        let status = shell.await_end(PATIENCE);
        let said: String = shell.lines().into_iter().map(|line| line.text + "\n").collect();
        assert!(status.success(), "{commands}\nended with {status}:\n{said}");
        assert!(!said.contains(TOKEN), "{said}");
        if commands.contains("kill -HUP") {
            // A person is slower than a reload.
            ask_until("the reload", PATIENCE, || (reloads() > before).then_some(()));
        }
        // How far it is, which slow runs tell every ten seconds.
        let told = said.lines().filter(|line| !line.starts_with("asked "));
        told.filter(|line| !line.trim().starts_with("Room  ")).map(|line| self.there(line) + "\n").collect()
    }

    /// What was said, with the names of the page. (What NATS alone has it does not show: the header `Room` with
    /// the key, and the stream of a letter's record.)
    fn there(&self, line: &str) -> String {
        let line = line.replace(self.provider.base_url(), "https://api.netease.im/nimserver");
        let line = line.replace(r#""stream":"LIVE","#, "");
        let line = match line.split_once("LIVE_DLQ.letter.") {
            Some((before, place)) => {
                format!("{before}live.events.dlq{}", &place[place.find('/').unwrap_or(0)..])
            }
            None => line.replace("LIVE_DLQ", "live.events.dlq"),
        };
        line.replace(&self.topic, "live.events")
    }

    /// The provider takes everything, and the daemon is restarted.
    fn mend_and_restart(&mut self) {
        self.provider.set_faults(&json!([]));
        self.daemon.signal(libc::SIGTERM);
        assert!(self.daemon.await_end(PATIENCE).success());
        assert!(self.launch());
    }

    /// What happens outside of the commands, as the page tells under these headings.
    fn set(&mut self, heading: &str) {
        match heading {
            "A room made anew" => self.mend_and_restart(),
            "Without a daemon" => {
                self.daemon.signal(libc::SIGTERM);
                assert!(self.daemon.await_end(PATIENCE).success());
            }
            "When it fails again" => {
                assert!(self.launch());
                let answer = json!({ "status": 200, "code": 414, "description": "illegal content" });
                self.provider.set_faults(&json!({ "effect": { "answer": answer }, "rooms": ["1003"] }));
            }
            "The flood guard" => {
                self.publish("1001", (0..2_000).map(|_| r#"{"type":"line"}"#.to_owned()));
                ask_until("the flood guard", PATIENCE, || {
                    self.metric("roomcast_intake_open", "source=\"live\"").filter(|open| *open == 0.0)
                });
            }
            _ => {}
        }
    }

    /// Follows the page.
    fn follow(&mut self, page: &str) {
        let mut matched = Matched::default();
        let mut wrong = String::new();
        for piece in pieces(page) {
            match piece {
                Piece::Heading(heading) => self.set(heading),
                Piece::Config(config) => {
                    self.start(config);
                    self.write_letters();
                }
                Piece::Commands(commands, shown) => {
                    let said = self.run(&matched.put_in(commands));
                    if let Err(why) = matched.compare(shown, &said) {
                        wrong += &format!("{commands}\n{why}; it said:\n\n{said}\n");
                    }
                }
            }
        }
        assert!(wrong.is_empty(), "docs/letters.md shows something else than what is said:\n\n{wrong}");
    }
}

/// The page's source on JetStream: what else is there to be said differently is names of places alone.
const NATS: &str = r#"kind = "nats"
servers = ["nats://127.0.0.1:4222"]
stream = "LIVE"
subjects = ["live.events"]
durable = "roomcast"
key = { header = "Room" }
create = true
dead_letter = "LIVE_DLQ"
start_from = "earliest"
unmatched = "dead_letter"
"#;

fn page() -> String {
    std::fs::read_to_string("docs/letters.md").expect("tests run where Cargo.toml stands")
}

#[test]
fn the_page_is_followed_word_by_word_on_kafka() {
    let kafka = Kafka::shared();
    let topic = unique("page");
    kafka.create_topic(&topic, 1, &[]);
    let mut scene = Scene::new(Broker::Kafka(Box::new(kafka)), topic);
    scene.follow(&page());
}

#[test]
fn the_page_is_followed_word_by_word_on_nats() {
    let page = page();
    let (before, source) = page.split_once("[sources.live]\n").expect("the page's config has a source");
    let (_, after) = source.split_once("\n\n").expect("a blank line ends a section");
    // Else the share is known, and replays go, with the first event that comes after a start.
    let alone = "sender = \"system\"\nquota = { share = \"static\", max_replicas = 1 }\n";
    let before = before.replace("sender = \"system\"\n", alone);
    let page = format!("{before}[sources.live]\n{NATS}\n{after}");
    nats().follow(&page);
}

/// A server with the page's stream.
fn nats() -> Scene {
    let nats = Nats::start();
    nats.create_stream("LIVE", &["live.>"]);
    Scene::new(Broker::Nats(Box::new(nats)), "live.events".to_owned())
}

/// What the page says of NATS without `share`: the first event after a start lets replays go.
#[test]
fn on_nats_replays_wait_for_the_first_live_event_after_a_start() {
    let page = page();
    let config = pieces(&page).into_iter().find_map(|piece| match piece {
        Piece::Config(config) => Some(config),
        _ => None,
    });
    let (before, source) = config.and_then(|config| config.split_once("[sources.live]\n")).expect("a source");
    let (_, routes) = source.split_once("\n\n").expect("a blank line ends a section");
    let mut scene = nats();
    scene.start(&format!("{before}[sources.live]\n{NATS}\n{routes}"));
    scene.write_letters();
    scene.mend_and_restart();
    let command = "roomcast letters replay -c roomcast.toml --class rejected --yes";
    let said = scene.run(&format!("timeout -s INT 15 {command} || true"));
    assert!(said.contains("1      left: no daemon has said anything yet"), "{said}");
    // Whoever waits is told why.
    assert!(said.contains("The daemon's source live.replay is standing by: nobody reads"), "{said}");
    let stands_by = scene.metric("roomcast_source_state", "source=\"live.replay\",state=\"standing_by\"");
    assert_eq!(stands_by, Some(1.0));
    scene.publish("1001", [r#"{"type":"line","text":"welcome"}"#.to_owned()].into_iter());
    ask_until("the replay", PATIENCE, || {
        let said = scene.run("roomcast letters stats -c roomcast.toml --state replayed");
        said.starts_with("1 letter,").then_some(())
    });
}
