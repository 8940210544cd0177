//! What a Kafka source's section says, and the librdkafka properties that follow from it.
//!
//! Everything is checked here, before anything connects: nothing below this file meets a value that
//! librdkafka does not know. Properties that would break a promise are refused with the reason.

use std::sync::Arc;

use rdkafka::ClientConfig;
use rdkafka::error::KafkaError;
use secrecy::{ExposeSecret, SecretString};

use super::SourceLimits;
use crate::core::model::SourceId;
use crate::core::section::{Section, Value};

/// Where a group that has never committed begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StartFrom {
    /// With what is produced from now on.
    Latest,
    /// With the oldest record that the broker still has.
    Earliest,
}

/// The section of one Kafka source, checked.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    /// The source.
    pub(super) source: SourceId,
    /// Its name.
    pub(super) name: Arc<str>,
    /// `host:port`, comma-separated.
    pub(super) brokers: String,
    /// The consumer group.
    pub(super) group: String,
    /// Names, and regexes that begin with `^`.
    pub(super) topics: Vec<String>,
    /// The dead-letter topic.
    pub(super) dead_letter: String,
    /// Whether missing dead-letter topics are made.
    pub(super) create_dead_letter: bool,
    /// Where a group that never committed begins.
    pub(super) start_from: StartFrom,
    /// Dead-letter topics of every source, this one's included: a regex never takes one of them.
    avoided: Vec<String>,
    login: Option<Login>,
    tls: Option<Tls>,
    /// The `properties` table.
    properties: Vec<(String, String)>,
}

#[derive(Clone, Debug)]
struct Login {
    username: String,
    password: SecretString,
    mechanism: &'static str,
}

#[derive(Clone, Debug)]
struct Tls {
    ca_file: Option<String>,
    cert_file: Option<String>,
    key_file: Option<String>,
    key_password: Option<SecretString>,
    verify_name: bool,
}

/// Properties that a source may not set, and why.
const REFUSED: &[(&[&str], &str)] = &[
    (&["bootstrap.servers", "metadata.broker.list"], "use the key `brokers`"),
    (&["group.id"], "use the key `group`"),
    (&["auto.offset.reset"], "use `start_from`; a group that has committed never skips anything"),
    (
        &["enable.auto.commit", "auto.commit.enable", "auto.commit.interval.ms"],
        "an offset is committed within a second of being finished, and never before",
    ),
    (
        &[
            "enable.auto.offset.store",
            "offset.store.method",
            "offset.store.path",
            "offset.store.sync.interval.ms",
        ],
        "an offset is stored only when every message made from its record is finished",
    ),
    (&["partition.assignment.strategy"], "a rebalance must be cooperative: roomcast uses cooperative-sticky"),
    (
        &[
            "acks",
            "request.required.acks",
            "enable.idempotence",
            "enable.gapless.guarantee",
            "transactional.id",
        ],
        "a letter counts only when every in-sync replica has it: roomcast writes them idempotently with acks=all",
    ),
    (
        &[
            "max.in.flight",
            "max.in.flight.requests.per.connection",
            "retries",
            "message.send.max.retries",
            "queuing.strategy",
        ],
        "the idempotent producer of the letters decides it",
    ),
    (&["partitioner"], "letters keep the partition that Java clients would give their key (murmur2_random)"),
    (&["delivery.report.only.error"], "a letter is finished by its delivery report"),
    (&["enable.partition.eof", "statistics.interval.ms", "log.queue"], "roomcast needs its own value of it"),
    (&["topic.blacklist"], "name the topics, or write a regex that leaves them out"),
];

/// Longest name that Kafka gives a topic.
const TOPIC_NAME_MAX: usize = 249;

/// Bytes of records that librdkafka fetches ahead, at most; part of the stated bound of memory.
const FETCHED_AHEAD_KB: usize = 16_384;

impl Settings {
    /// Reads the section, without finishing it: `unmatched`, `payload` and the like are others'.
    pub(super) fn read(section: &Section<'_>, source: SourceId) -> Option<Self> {
        let brokers = brokers(section);
        let group = section.required_text("group");
        let topics = topics(section);
        let dead_letter = section.required_text("dead_letter");
        let start_from = section.word(
            "start_from",
            StartFrom::Latest,
            &[("latest", StartFrom::Latest), ("earliest", StartFrom::Earliest)],
        );
        let create_dead_letter = section.boolean("create_dead_letter", true);
        let login = login(section);
        let tls = tls(section);
        let properties = properties(section);
        let (group, topics, dead_letter) = (group?, topics?, dead_letter?);
        let is_name = check_topic_name(section, "dead_letter", &dead_letter);
        let mut settings = Self {
            source,
            name: Arc::from(section.name()),
            brokers: brokers?,
            group,
            topics,
            dead_letter: dead_letter.clone(),
            create_dead_letter,
            start_from,
            avoided: Vec::new(),
            login: login?,
            tls: tls?,
            properties: properties?,
        };
        settings.avoid(&[dead_letter]);
        (is_name && settings.is_consistent(section)).then_some(settings)
    }

    /// Keeps a regex from taking these dead-letter topics, and their `.replay` and `.state`.
    pub(super) fn avoid(&mut self, dead_letters: &[String]) {
        for name in dead_letters {
            if !self.avoided.contains(name) {
                self.avoided.push(name.clone());
            }
        }
    }

    /// The topic of replay requests.
    pub(super) fn replay_topic(&self) -> String {
        format!("{}.replay", self.dead_letter)
    }

    /// The compacted topic of the letters' states.
    pub(super) fn state_topic(&self) -> String {
        format!("{}.state", self.dead_letter)
    }

    /// Topics by name, without the regexes.
    pub(super) fn named_topics(&self) -> impl Iterator<Item = &str> {
        self.topics.iter().map(String::as_str).filter(|topic| !topic.starts_with('^'))
    }

    /// Whether any topic is a regex.
    pub(super) fn has_regex(&self) -> bool {
        self.topics.iter().any(|topic| topic.starts_with('^'))
    }

    /// Whether a topic is a dead-letter topic of some source, or stands beside one.
    pub(super) fn is_avoided(&self, topic: &str) -> bool {
        let stem = [".replay", ".state"].iter().find_map(|end| topic.strip_suffix(end)).unwrap_or(topic);
        self.avoided.iter().any(|name| name == topic || name == stem)
    }

    /// The properties of the consumer that joins the group.
    pub(super) fn consumer(&self, limits: SourceLimits) -> ClientConfig {
        let ahead = (limits.held_bytes / 4_000).clamp(1_024, FETCHED_AHEAD_KB);
        let mut config = self.client();
        config
            .set("queued.max.messages.kbytes", ahead.to_string())
            .set("queued.min.messages", "2000")
            .set("fetch.max.bytes", "8388608")
            .set("fetch.message.max.bytes", "1048576")
            .set("fetch.min.bytes", "1")
            .set("fetch.wait.max.ms", "100")
            .set("fetch.queue.backoff.ms", "50")
            .set("socket.nagle.disable", "true")
            .set("check.crcs", "true")
            .set("topic.metadata.refresh.interval.ms", "10000");
        self.set_properties(&mut config);
        config
            .set("group.id", &self.group)
            .set("enable.auto.commit", "true")
            // With the time until progress is handed over, a second (P9).
            .set("auto.commit.interval.ms", "750")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "earliest")
            .set("statistics.interval.ms", "2000");
        if !self.is_next_generation() {
            config.set("partition.assignment.strategy", "cooperative-sticky");
        }
        if self.has_regex() {
            config.set("topic.blacklist", self.avoided_pattern());
        }
        config
    }

    /// The properties of a reader that never joins the group: librdkafka wants its name even so.
    pub(super) fn reader(&self) -> ClientConfig {
        let mut config = self.client();
        // A whole topic is read through little memory: fetched as soon as there is room.
        config.set("queued.max.messages.kbytes", "4096").set("fetch.max.bytes", "4194304");
        config.set("fetch.queue.backoff.ms", "20").set("fetch.wait.max.ms", "100");
        self.set_properties(&mut config);
        config
            .set("group.id", &self.group)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("enable.partition.eof", "true")
            .set("auto.offset.reset", "earliest");
        config
    }

    /// The properties of the producer of letters and of the table.
    pub(super) fn producer(&self) -> ClientConfig {
        let mut config = self.client();
        config
            .set("delivery.timeout.ms", "30000")
            .set("linger.ms", "5")
            .set("queue.buffering.max.kbytes", "16384")
            // Below the queue's size, so that what is too large is told at once.
            .set("message.max.bytes", "15000000")
            // One that is too large goes alone and spoils no other letter of its batch.
            .set("batch.size", "65536");
        self.set_properties(&mut config);
        config.set("enable.idempotence", "true").set("acks", "all").set("partitioner", "murmur2_random");
        config
    }

    /// What every client has in common.
    pub(super) fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.brokers)
            .set("client.id", "roomcast")
            .set("socket.keepalive.enable", "true")
            .set("reconnect.backoff.max.ms", "5000");
        let protocol = match (&self.login, &self.tls) {
            (None, None) => "plaintext",
            (None, Some(_)) => "ssl",
            (Some(_), None) => "sasl_plaintext",
            (Some(_), Some(_)) => "sasl_ssl",
        };
        config.set("security.protocol", protocol);
        if let Some(login) = &self.login {
            config
                .set("sasl.mechanism", login.mechanism)
                .set("sasl.username", &login.username)
                .set("sasl.password", login.password.expose_secret());
        }
        if let Some(tls) = &self.tls {
            tls.set(&mut config);
        }
        config
    }

    fn set_properties(&self, config: &mut ClientConfig) {
        for (key, value) in &self.properties {
            config.set(key, value);
        }
    }

    /// Whether the group speaks KIP-848, where the broker spreads partitions.
    fn is_next_generation(&self) -> bool {
        self.properties.iter().any(|(key, value)| key == "group.protocol" && value == "consumer")
    }

    /// Patterns of librdkafka that match exactly the avoided topics.
    fn avoided_pattern(&self) -> String {
        let patterns: Vec<String> = self
            .avoided
            .iter()
            .map(|name| format!("^{}(\\.replay|\\.state)?$", name.replace('.', "\\.")))
            .collect();
        patterns.join(",")
    }

    /// Checks what only the whole shows.
    fn is_consistent(&self, section: &Section<'_>) -> bool {
        let mut right = true;
        for topic in self.named_topics().filter(|topic| self.is_avoided(topic)) {
            let wanted = "topics without the dead-letter topic: its letters would be posted, fail and be written again";
            section.wrong("topics", format!("{topic:?}"), wanted);
            right = false;
        }
        if self.is_next_generation() && self.has_regex() {
            let wanted = "topics by name, or another group.protocol: with this one the broker reads the regex, \
                          and would hand out the dead-letter topic";
            section.wrong("topics", "a regex together with group.protocol = \"consumer\"", wanted);
            right = false;
        }
        let limits = SourceLimits { held_records: 1, held_bytes: 1 };
        for config in [self.consumer(limits), self.reader(), self.producer()] {
            if let Err(KafkaError::ClientConfig(_, what, key, _)) = config.create_native_config() {
                section.wrong("properties", what, format!("values that librdkafka takes together ({key})"));
                return false;
            }
        }
        right
    }
}

impl Tls {
    fn set(&self, config: &mut ClientConfig) {
        let files = [
            ("ssl.ca.location", &self.ca_file),
            ("ssl.certificate.location", &self.cert_file),
            ("ssl.key.location", &self.key_file),
        ];
        for (key, file) in files {
            if let Some(file) = file {
                config.set(key, file);
            }
        }
        if let Some(password) = &self.key_password {
            config.set("ssl.key.password", password.expose_secret());
        }
        let check = if self.verify_name { "https" } else { "none" };
        config.set("ssl.endpoint.identification.algorithm", check);
    }
}

fn brokers(section: &Section<'_>) -> Option<String> {
    const WANTED: &str = "host:port, several of them in a list or with commas between them";
    let Some(list) = section.texts("brokers") else {
        if section.node("brokers").is_none() {
            section.wrong("brokers", "nothing", WANTED);
        }
        return None;
    };
    let all: Vec<&str> = list.iter().flat_map(|text| text.split(',')).map(str::trim).collect();
    let is_address = |text: &str| {
        text.rsplit_once(':')
            .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|p| p > 0))
    };
    if let Some(wrong) = all.iter().find(|text| !is_address(text)) {
        section.wrong("brokers", format!("{wrong:?}"), WANTED);
        return None;
    }
    Some(all.join(","))
}

fn topics(section: &Section<'_>) -> Option<Vec<String>> {
    const WANTED: &str = "a list of topics, or of regexes that begin with ^";
    let topics = section.texts("topics");
    match &topics {
        None if section.node("topics").is_none() => section.wrong("topics", "nothing", WANTED),
        Some(topics) if topics.is_empty() => section.wrong("topics", "an empty list", WANTED),
        _ => {}
    }
    let topics = topics.filter(|topics| !topics.is_empty())?;
    let mut right = true;
    for topic in &topics {
        right &= match topic.starts_with('^') {
            true => check_regex(section, topic),
            false => check_topic_name(section, "topics", topic),
        };
    }
    right.then_some(topics)
}

fn check_topic_name(section: &Section<'_>, key: &str, name: &str) -> bool {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let right = !name.is_empty() && name.len() <= TOPIC_NAME_MAX && name.chars().all(legal);
    if !right {
        let wanted = "a topic's name: up to 249 letters, digits, dots, dashes and underscores";
        section.wrong(key, format!("{name:?}"), wanted);
    }
    right
}

/// Compiles a regex as librdkafka will: its list of ignored topics is made of the same regexes.
fn check_regex(section: &Section<'_>, regex: &str) -> bool {
    if regex.contains(',') {
        section.wrong("topics", format!("{regex:?}"), "a regex without a comma: no topic's name has one");
        return false;
    }
    let mut probe = ClientConfig::new();
    probe.set("topic.blacklist", regex);
    match probe.create_native_config() {
        Err(KafkaError::ClientConfig(_, what, _, _)) => {
            section.wrong("topics", format!("{regex:?}: {what}"), "a POSIX extended regular expression");
            false
        }
        _ => true,
    }
}

/// The login; `Some(None)` when there is none, `None` when it is wrong.
fn login(section: &Section<'_>) -> Option<Option<Login>> {
    let mechanism = section.word(
        "mechanism",
        "PLAIN",
        &[("PLAIN", "PLAIN"), ("SCRAM-SHA-256", "SCRAM-SHA-256"), ("SCRAM-SHA-512", "SCRAM-SHA-512")],
    );
    let username = section.text("username");
    let has_password = section.node("password").is_some() || section.node("password_file").is_some();
    let Some(username) = username else {
        if has_password || section.node("mechanism").is_some() {
            section.wrong("username", "nothing", "the user's name, beside the password and the mechanism");
            return None;
        }
        return Some(None);
    };
    let password = section.required_secret("password")?;
    Some(Some(Login { username, password, mechanism }))
}

/// The `tls` table; `Some(None)` when there is none, `None` when it is wrong.
fn tls(section: &Section<'_>) -> Option<Option<Tls>> {
    if section.node("tls").is_none() {
        return Some(None);
    }
    let table = section.section("tls")?;
    let tls = Tls {
        ca_file: table.text("ca_file"),
        cert_file: table.text("cert_file"),
        key_file: table.text("key_file"),
        key_password: table.secret("key_password"),
        verify_name: table.boolean("verify_name", true),
    };
    let alone = match (&tls.cert_file, &tls.key_file) {
        (Some(_), None) => Some(("key_file", "the key that belongs to cert_file")),
        (None, Some(_)) => Some(("cert_file", "the certificate that belongs to key_file")),
        _ => None,
    };
    if let Some((key, wanted)) = alone {
        table.wrong(key, "nothing", wanted);
    }
    table.finish();
    alone.is_none().then_some(Some(tls))
}

fn properties(section: &Section<'_>) -> Option<Vec<(String, String)>> {
    if section.node("properties").is_none() {
        return Some(Vec::new());
    }
    let table = section.section("properties")?;
    let mut pairs = Vec::new();
    let mut right = true;
    for key in table.keys() {
        let node = table.node(key).expect("the key is one of the table's own");
        let value = match &node.value {
            Value::Text(text) => text.clone(),
            Value::Integer(number) => number.to_string(),
            Value::Float(number) => number.to_string(),
            Value::Boolean(word) => word.to_string(),
            Value::List(_) | Value::Table(_) => {
                table.wrong(
                    key,
                    node.value.kind(),
                    "a string, a number or a boolean; quote a name with dots",
                );
                right = false;
                continue;
            }
        };
        if let Some((_, why)) = REFUSED.iter().find(|(keys, _)| keys.contains(&key)) {
            table.wrong(key, "a property that roomcast sets itself", *why);
            right = false;
            continue;
        }
        let mut probe = ClientConfig::new();
        probe.set(key, &value);
        if let Err(KafkaError::ClientConfig(_, what, _, _)) = probe.create_native_config() {
            table.wrong(key, what, "a property of librdkafka, with a value that it takes");
            right = false;
        }
        pairs.push((key.to_owned(), value));
    }
    right.then_some(pairs)
}
