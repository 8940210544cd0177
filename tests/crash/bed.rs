//! The surroundings of a crash: a broker to read from, both provider simulators, the config that
//! joins them.

use std::time::Duration;

use async_nats::HeaderMap;

use super::load::Event;
use super::support::kafka::{Kafka, Record};
use super::support::nats::Nats;
use super::support::provider::{Kind, Provider};
use super::support::{ask_until, block_on, http, unique};

/// What the accounts of one daemon may send.
pub const CALLS_PER_SECOND: u32 = 200;
/// What one room of them may get.
pub const ROOM_PER_SECOND: u32 = 10;
/// And of that with high priority (Yunxin).
const ROOM_HIGH_PER_SECOND: u32 = 5;
/// The shortest session that Kafka allows unless its config is changed.
const SESSION_MS: u32 = 6_000;
/// The shortest that roomcast allows, so that a dead holder's pin ends soon.
pub const ACK_WAIT: &str = "1s";

/// Names on the NATS server, which belongs to one test.
pub const STREAM: &str = "LIVE";
pub const DURABLE: &str = "roomcast";
pub const LETTERS: &str = "LIVE_DLQ";

/// Both simulators.
pub struct Providers {
    pub yunxin: Provider,
    pub easemob: Provider,
    /// How many daemons there are, each with the whole of its own quotas.
    pub shares: u32,
    /// More keys of each account's `quota`, for daemons that share one.
    pub sharing: String,
}

/// The simulators' counters, for any thread.
#[derive(Clone, Debug)]
pub struct Counters {
    urls: [String; 2],
}

impl Providers {
    /// Starts them with limits for so many daemons at once.
    pub fn start(shares: u32) -> Self {
        let calls = (CALLS_PER_SECOND * shares).to_string();
        let room = (ROOM_PER_SECOND * shares).to_string();
        let high = (ROOM_HIGH_PER_SECOND * shares).to_string();
        let common = ["--calls-per-second", &calls, "--room-messages-per-second", &room];
        let yunxin = [&common[..], &["--room-high-per-second", &high, "--latency", "10ms"]].concat();
        let easemob = [&common[..], &["--messages-per-second", &calls, "--latency", "20ms"]].concat();
        Self {
            yunxin: Provider::start(Kind::Yunxin, &yunxin),
            easemob: Provider::start(Kind::Easemob, &easemob),
            shares,
            sharing: String::new(),
        }
    }

    /// Starts them with the limits of one account, which daemons share by these keys of `quota`.
    pub fn start_shared(sharing: &str) -> Self {
        Self { sharing: format!(", {sharing}"), ..Self::start(1) }
    }

    /// The one of that kind.
    pub fn of(&self, kind: Kind) -> &Provider {
        if kind == Kind::Yunxin { &self.yunxin } else { &self.easemob }
    }

    /// What tells how far they are.
    pub fn counters(&self) -> Counters {
        let url = |provider: &Provider| {
            let base = provider.base_url();
            let scheme = base.find("://").map_or(0, |at| at + 3);
            let root = base[scheme..].find('/').map_or(base.len(), |at| scheme + at);
            format!("{}/_sim/stats", &base[..root])
        };
        Counters { urls: [url(&self.yunxin), url(&self.easemob)] }
    }

    /// Accounts and routes of a config.
    fn config(&self) -> String {
        let calls = CALLS_PER_SECOND;
        let room = ROOM_PER_SECOND;
        let sharing = &self.sharing;
        let timeout = if sharing.is_empty() { "" } else { "timeout = \"2s\"\n" };
        let yunxin = format!(
            "{timeout}quota = {{ calls_per_second = {calls}, room_messages_per_second = {room}, \
             room_high_per_second = {ROOM_HIGH_PER_SECOND}{sharing} }}"
        );
        let easemob = format!(
            "{timeout}quota = {{ calls_per_second = {calls}, messages_per_second = {calls}, \
             room_messages_per_second = {room}{sharing} }}"
        );
        let route = |name: &str, account: &str, high: bool| {
            let priority = if high { "high" } else { "normal" };
            format!(
                "[[routes]]\nname = \"{name}\"\nsource = \"live\"\nwhen = '.to == \"{account}\" and .high == {high}'\n\
                 account = \"{account}\"\npriority = \"{priority}\"\n\
                 message = {{ kind = \"text\", text = '.text' }}\n\n"
            )
        };
        [
            self.yunxin.account("yunxin", &yunxin),
            self.easemob.account("easemob", &easemob),
            route("yunxin-high", "yunxin", true),
            route("yunxin", "yunxin", false),
            route("easemob-high", "easemob", true),
            route("easemob", "easemob", false),
        ]
        .concat()
    }
}

impl Counters {
    /// Messages accepted by both up to now, repeats included.
    pub fn accepted(&self) -> u64 {
        self.urls.iter().map(|url| counter(url, "accepted")).sum()
    }

    /// Waits until they have accepted so many more.
    #[track_caller]
    pub fn await_more(&self, count: u64, within: Duration) {
        let enough = self.accepted() + count;
        let what = format!("{count} more accepted messages");
        ask_until(&what, within, || (self.accepted() >= enough).then_some(()));
    }
}

fn counter(url: &str, name: &str) -> u64 {
    let answer = http::get(url).expect("the simulator answers");
    let stats: serde_json::Value = serde_json::from_str(&answer.body).expect("the counters are JSON");
    stats[name].as_u64().expect("a counter")
}

/// A topic on Kafka with its group.
pub struct Topic {
    pub name: String,
    pub group: String,
}

impl Topic {
    /// Makes the topic.
    pub fn create(kafka: &Kafka, partitions: i32) -> Self {
        let name = unique("crash");
        kafka.create_topic(&name, partitions, &[]);
        Self { group: format!("{name}-group"), name }
    }

    /// The whole config of a daemon that reads it.
    pub fn config(&self, kafka: &Kafka, providers: &Providers) -> String {
        let Self { name, group } = self;
        let address = kafka.address();
        let source = format!(
            "[sources.live]\nkind = \"kafka\"\nbrokers = \"{address}\"\ngroup = \"{group}\"\n\
             topics = [\"{name}\"]\ndead_letter = \"{name}.dlq\"\nstart_from = \"earliest\"\n\
             properties = {{ \"session.timeout.ms\" = {SESSION_MS}, \"heartbeat.interval.ms\" = 500 }}\n\n"
        );
        source + &providers.config()
    }

    /// What a producer needs.
    pub fn feed(&self, kafka: &Kafka) -> Feed {
        Feed::Kafka { kafka: kafka.without_process(), topic: self.name.clone() }
    }

    /// Waits until all of it is committed (P1: then all of it is finished), and sees that nothing
    /// became a letter.
    #[track_caller]
    pub fn await_finished(&self, kafka: &Kafka, within: Duration) {
        kafka.await_committed_to_end(&self.group, &self.name, within);
        let letters = kafka.ends(&format!("{}.dlq", self.name));
        assert_eq!(letters.values().sum::<i64>(), 0, "letters were written: {letters:?}");
    }
}

/// Makes the stream.
pub fn create_stream(nats: &Nats) {
    nats.create_stream(STREAM, &["live.*.events"]);
}

/// The whole config of a daemon that reads the stream.
pub fn nats_config(nats: &Nats, providers: &Providers) -> String {
    nats_config_with(nats, providers, "")
}

/// The same in so many partitions.
pub fn spread_config(nats: &Nats, providers: &Providers, partitions: u32) -> String {
    nats_config_with(nats, providers, &format!("spread = {{ partitions = {partitions} }}\n"))
}

fn nats_config_with(nats: &Nats, providers: &Providers, more: &str) -> String {
    let url = nats.url();
    let source = format!(
        "[sources.live]\nkind = \"nats\"\nservers = [\"{url}\"]\nstream = \"{STREAM}\"\n\
         subjects = [\"live.*.events\"]\ndurable = \"{DURABLE}\"\nkey = {{ token = 1 }}\n\
         dead_letter = \"{LETTERS}\"\nack_wait = \"{ACK_WAIT}\"\ncreate = true\nstart_from = \"earliest\"\n{more}\n"
    );
    source + &providers.config()
}

/// Waits until everything in the stream is acked (P1: then all of it is finished), and sees that
/// nothing became a letter.
#[track_caller]
pub fn await_acked(nats: &Nats, within: Duration) {
    let jetstream = nats.jetstream();
    await_drained(&jetstream, STREAM, DURABLE, within);
    assert_no_letters(&jetstream);
}

/// The same where the stream is read in so many partitions of a copy.
#[track_caller]
pub fn await_all_acked(nats: &Nats, partitions: u32, within: Duration) {
    let jetstream = nats.jetstream();
    let copy = format!("{STREAM}_{DURABLE}_parts");
    let origin = block_on(jetstream.get_stream(STREAM)).expect("the stream is there");
    let last = origin.cached_info().state.last_sequence.to_string();
    ask_until("the whole stream to be copied", within, || {
        let stream = block_on(jetstream.get_stream(&copy)).ok()?;
        let newest = stream.cached_info().state.last_sequence;
        let message = block_on(stream.get_raw_message(newest)).ok()?;
        let origin = message.headers.get("Nats-Stream-Source")?.as_str().split(' ').nth(1)?.to_owned();
        (origin == last).then_some(())
    });
    for partition in 0..partitions {
        await_drained(&jetstream, &copy, &format!("{DURABLE}_{partition}"), within);
    }
    assert_no_letters(&jetstream);
}

#[track_caller]
fn await_drained(jetstream: &async_nats::jetstream::Context, stream: &str, durable: &str, within: Duration) {
    let stream = block_on(jetstream.get_stream(stream)).expect("the stream is there");
    ask_until("every message to be acked", within, || {
        let info = block_on(stream.consumer_info(durable)).ok()?;
        (info.num_pending == 0 && info.num_ack_pending == 0).then_some(())
    });
}

#[track_caller]
fn assert_no_letters(jetstream: &async_nats::jetstream::Context) {
    let letters = block_on(jetstream.get_stream(LETTERS)).expect("the dead-letter stream is there");
    assert_eq!(letters.cached_info().state.messages, 0, "letters were written");
}

/// Where a producer sends to: an address, so that it outlives the broker's restarts.
pub enum Feed {
    /// Kafka: produced idempotently, confirmed.
    Kafka {
        /// A client's view of the broker.
        kafka: Kafka,
        /// The topic.
        topic: String,
    },
    /// NATS: each published until it is confirmed, the server drops what it has already.
    Nats {
        /// Its JetStream.
        jetstream: async_nats::jetstream::Context,
    },
}

impl Feed {
    /// Produces in this order; confirmed when it returns.
    pub fn produce(&self, events: &[Event]) {
        match self {
            Self::Kafka { kafka, topic } => kafka.produce(
                topic,
                events.iter().map(|event| Record {
                    partition: Some(event.partition),
                    key: Some(event.room().into()),
                    value: Some(event.value()),
                    headers: Vec::new(),
                }),
            ),
            Self::Nats { jetstream } => block_on(async {
                for event in events {
                    publish(jetstream, event).await;
                }
            }),
        }
    }
}

/// Publishes one event until the stream confirms it: one after the other, so that a repeat cannot
/// overtake.
async fn publish(jetstream: &async_nats::jetstream::Context, event: &Event) {
    let subject = format!("live.{}.events", event.room());
    let mut headers = HeaderMap::new();
    headers.insert("Nats-Msg-Id", event.owed.token());
    loop {
        let sent =
            jetstream.publish_with_headers(subject.clone(), headers.clone(), event.value().into()).await;
        if let Ok(ack) = sent
            && ack.await.is_ok()
        {
            return;
        }
        // The server is away: the client connects again by itself.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
