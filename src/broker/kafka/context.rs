//! What librdkafka tells through callbacks: rebalances, statistics, errors, commits and its log.
//!
//! A consumer's callbacks run inside `poll`, on the source's own thread; they only write down the
//! [`News`], which the source takes up right after the poll. Nothing here decides or waits.
//! librdkafka's own log goes to tracing, so many lines of a kind a minute and never raw to stderr.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, RebalanceProtocol};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientContext, TopicPartitionList};
use serde::Deserialize;

/// What happened during a poll.
#[derive(Debug)]
pub(super) enum News {
    /// The group gives us partitions; it waits for our answer.
    Assign(TopicPartitionList),
    /// The group takes partitions; it waits for our answer.
    Revoke(TopicPartitionList),
    /// A commit was answered.
    Committed(Result<(), RDKafkaErrorCode>),
    /// The client says that something is wrong.
    Trouble(RDKafkaErrorCode, String),
    /// Every few seconds.
    Statistics(Statistics),
}

/// The part of librdkafka's statistics that is looked at.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Statistics {
    #[serde(default)]
    brokers: BTreeMap<String, BrokerStatistics>,
    #[serde(default)]
    topics: BTreeMap<String, TopicStatistics>,
}

#[derive(Debug, Deserialize)]
struct BrokerStatistics {
    nodeid: i32,
    state: String,
}

#[derive(Debug, Deserialize)]
struct TopicStatistics {
    #[serde(default)]
    partitions: BTreeMap<String, PartitionStatistics>,
}

/// One partition in the statistics. Offsets are negative while they are not known.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(super) struct PartitionStatistics {
    /// Records fetched and not yet polled.
    pub(super) fetchq_cnt: i64,
    /// The next offset that will be fetched.
    pub(super) next_offset: i64,
    /// The end of what may be read.
    pub(super) ls_offset: i64,
}

impl Statistics {
    /// Whether some broker is connected (bootstrap addresses do not count).
    pub(super) fn is_connected(&self) -> bool {
        self.brokers.values().any(|broker| broker.nodeid >= 0 && broker.state == "UP")
    }

    /// How many partitions the client knows of a topic.
    pub(super) fn partitions_of(&self, topic: &str) -> Option<i32> {
        // The client keeps one more, -1, for records without a partition.
        let known = self.topics.get(topic)?.partitions.keys().filter(|number| !number.starts_with('-'));
        i32::try_from(known.count()).ok()
    }

    /// What is told of one partition.
    pub(super) fn partition(&self, topic: &str, number: i32) -> Option<PartitionStatistics> {
        self.topics.get(topic)?.partitions.get(&number.to_string()).copied()
    }
}

/// The context of the consumer that joins the group.
pub(super) struct GroupContext {
    news: Mutex<Vec<News>>,
    closing: AtomicBool,
    log: ClientLog,
}

impl GroupContext {
    pub(super) fn new(source: &str) -> Self {
        Self { news: Mutex::default(), closing: AtomicBool::new(false), log: ClientLog::new(source) }
    }

    /// What was written down since the last call.
    pub(super) fn take_news(&self) -> Vec<News> {
        std::mem::take(&mut *self.news.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// From now on rebalances are answered at once: nobody takes news any more.
    pub(super) fn close(&self) {
        self.closing.store(true, Ordering::Relaxed);
    }

    fn tell(&self, news: News) {
        if !self.closing.load(Ordering::Relaxed) {
            self.news.lock().unwrap_or_else(PoisonError::into_inner).push(news);
        }
    }
}

impl ClientContext for GroupContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.log.write(level, facility, message);
    }

    fn stats_raw(&self, statistics: &[u8]) {
        match serde_json::from_slice(statistics) {
            Ok(statistics) => self.tell(News::Statistics(statistics)),
            Err(error) => tracing::debug!(%error, "librdkafka's statistics are not as expected"),
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if let Some(code) = error.rdkafka_error_code() {
            self.tell(News::Trouble(code, reason.to_owned()));
        }
    }
}

impl ConsumerContext for GroupContext {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, error: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let assigns = error == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
        if !self.closing.load(Ordering::Relaxed) {
            return self.tell(if assigns { News::Assign(list.clone()) } else { News::Revoke(list.clone()) });
        }
        let answered = if assigns { Ok(()) } else { give_up(consumer, list) };
        if let Err(error) = answered {
            tracing::debug!(%error, "a rebalance while closing");
        }
    }

    fn commit_callback(&self, result: KafkaResult<()>, offsets: &TopicPartitionList) {
        let of_partition = || {
            let elements = offsets.elements();
            elements.iter().find_map(|element| element.error().err()).map_or(Ok(()), Err)
        };
        match result.and_then(|()| of_partition()).map_err(|error| error.rdkafka_error_code()) {
            Ok(()) => self.tell(News::Committed(Ok(()))),
            // There was nothing to commit.
            Err(Some(RDKafkaErrorCode::NoOffset)) => {}
            Err(code) => self.tell(News::Committed(Err(code.unwrap_or(RDKafkaErrorCode::Fail)))),
        }
    }
}

/// Answers a revocation.
pub(super) fn give_up(consumer: &BaseConsumer<GroupContext>, list: &TopicPartitionList) -> KafkaResult<()> {
    match consumer.rebalance_protocol() {
        RebalanceProtocol::Cooperative => consumer.incremental_unassign(list),
        _ => consumer.unassign(),
    }
}

/// The context of every other client: it logs, and keeps the last trouble for who asks.
pub(super) struct PlainContext {
    log: ClientLog,
    trouble: Mutex<Option<String>>,
}

impl PlainContext {
    pub(super) fn new(source: &str) -> Self {
        Self { log: ClientLog::new(source), trouble: Mutex::new(None) }
    }

    /// What the client said last of a broker that it cannot talk to.
    pub(super) fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ClientContext for PlainContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.log.write(level, facility, message);
        if facility == "FAIL" {
            // It begins with the name of a thread.
            let plain = message.split_once("]: ").map_or(message, |(_, plain)| plain);
            *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = Some(plain.to_owned());
        }
    }

    fn stats_raw(&self, _: &[u8]) {}

    fn error(&self, _: KafkaError, reason: &str) {
        self.log.write(RDKafkaLogLevel::Warning, "ERROR", reason);
    }
}

impl ConsumerContext for PlainContext {}

/// One client's own log, thinned out.
struct ClientLog {
    source: String,
    quiet: Quiet,
}

impl ClientLog {
    fn new(source: &str) -> Self {
        Self { source: source.to_owned(), quiet: Quiet::default() }
    }

    fn write(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        let source = &self.source;
        // Connects that fail are told once by the source itself; a property that only the other
        // kind of client knows is meant for that one.
        let is_expected = matches!(facility, "FAIL" | "ERROR" | "CONFWARN");
        match level {
            RDKafkaLogLevel::Debug | RDKafkaLogLevel::Info => {
                tracing::debug!(target: "librdkafka", source, facility, "{message}");
            }
            _ if is_expected => tracing::debug!(target: "librdkafka", source, facility, "{message}"),
            _ => {
                if let Some(left_out) = self.quiet.pass(facility) {
                    tracing::warn!(target: "librdkafka", source, facility, left_out, "{message}");
                }
            }
        }
    }
}

/// How long a line of one kind keeps the next of its kind away.
const QUIET_FOR: Duration = Duration::from_secs(30);

/// Lets one line of each kind pass every [`QUIET_FOR`].
#[derive(Default)]
pub(super) struct Quiet(Mutex<HashMap<String, (Instant, u64)>>);

impl Quiet {
    /// Whether a line may be written now, and how many of its kind were left out since the last.
    pub(super) fn pass(&self, kind: &str) -> Option<u64> {
        let mut kinds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        match kinds.get_mut(kind) {
            Some((last, left_out)) if now.duration_since(*last) < QUIET_FOR => {
                *left_out += 1;
                None
            }
            Some(entry) => Some(std::mem::replace(entry, (now, 0)).1),
            None => {
                kinds.insert(kind.to_owned(), (now, 0));
                Some(0)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_one_kind_passes_once_and_kinds_do_not_mix() {
        let quiet = Quiet::default();
        assert_eq!(quiet.pass("FAIL"), Some(0));
        assert_eq!(quiet.pass("FAIL"), None);
        assert_eq!(quiet.pass("FAIL"), None);
        assert_eq!(quiet.pass("OTHER"), Some(0));
        let long_ago = Instant::now().checked_sub(QUIET_FOR * 2).expect("the machine is up for a minute");
        quiet.0.lock().unwrap().insert("FAIL".to_owned(), (long_ago, 2));
        assert_eq!(quiet.pass("FAIL"), Some(2), "tells how many were left out");
    }

    #[test]
    fn statistics_tell_connection_and_ends() {
        let text = r#"{"name":"x","brokers":{"b:1/bootstrap":{"nodeid":-1,"state":"UP"},
            "b:1/1":{"nodeid":1,"state":"DOWN","rtt":{}}},
            "topics":{"t":{"partitions":{"-1":{"fetchq_cnt":0,"next_offset":-1001,"ls_offset":-1001},"3":{"fetchq_cnt":1,"next_offset":7,"ls_offset":9,"x":1}}}}}"#;
        let mut statistics: Statistics = serde_json::from_str(text).unwrap();
        assert!(!statistics.is_connected(), "a bootstrap address is no broker");
        statistics.brokers.get_mut("b:1/1").unwrap().state = "UP".to_owned();
        assert!(statistics.is_connected());
        assert_eq!(statistics.partition("t", 3).unwrap().ls_offset, 9);
        assert!(statistics.partition("t", 4).is_none());
        assert_eq!((statistics.partitions_of("t"), statistics.partitions_of("u")), (Some(1), None));
    }
}
