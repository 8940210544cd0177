//! The embedded Kafka broker: librdkafka's mock cluster, for the demo and for `simulate kafka`.
//!
//! In memory and gone with the process; at most 5 MiB or 100,000 batches a partition, beyond which
//! the oldest are dropped silently; no admin requests (topics are made by [`EmbeddedKafka::start`],
//! or when something is written to them), no login, no TLS, a port of its own choosing. Not for data.

use std::fmt;

use rdkafka::bindings::{rd_kafka_handle_mock_cluster, rd_kafka_mock_group_initial_rebalance_delay_ms};
use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::error::KafkaError;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{FutureProducer, Producer};
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use rdkafka::{ClientConfig, ClientContext};

/// The only broker's number in the cluster.
const BROKER: i32 = 1;

/// A broker at work; it ends when this is dropped.
pub struct EmbeddedKafka {
    /// The client that carries the cluster inside.
    carrier: FutureProducer<Quiet>,
    address: String,
}

/// What went wrong with the embedded broker.
#[derive(Debug, thiserror::Error)]
#[error("the embedded Kafka broker: {0}")]
pub struct EmbeddedKafkaError(#[from] KafkaError);

impl EmbeddedKafka {
    /// Starts a broker with these topics and their numbers of partitions.
    ///
    /// # Errors
    /// When librdkafka cannot open a port or refuses a topic's name.
    pub fn start(topics: &[(&str, i32)]) -> Result<Self, EmbeddedKafkaError> {
        let mut config = ClientConfig::new();
        config.set("test.mock.num.brokers", "1");
        let carrier = FutureProducer::from_config_and_context(&config, Quiet)?;
        let address = cluster(&carrier).bootstrap_servers();
        // SAFETY: the client lives, and was made with a mock cluster, which lives as long as it.
        unsafe {
            // The three seconds that a real broker waits for more members help nobody here.
            rd_kafka_mock_group_initial_rebalance_delay_ms(
                rd_kafka_handle_mock_cluster(carrier.client().native_ptr()),
                0,
            );
        }
        let kafka = Self { carrier, address };
        for (name, partitions) in topics {
            kafka.create_topic(name, *partitions)?;
        }
        Ok(kafka)
    }

    /// `host:port`, for clients.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Makes a topic.
    ///
    /// # Errors
    /// When it is there already.
    pub fn create_topic(&self, name: &str, partitions: i32) -> Result<(), EmbeddedKafkaError> {
        Ok(cluster(&self.carrier).create_topic(name, partitions, 1)?)
    }

    /// Takes the broker away, with its connections, or brings it back on the same port; what it
    /// holds stays.
    ///
    /// # Errors
    /// When the port cannot be opened again.
    pub fn set_reachable(&self, reachable: bool) -> Result<(), EmbeddedKafkaError> {
        let cluster = cluster(&self.carrier);
        Ok(if reachable { cluster.broker_up(BROKER) } else { cluster.broker_down(BROKER) }?)
    }

    /// Answers the next heartbeat as a broker does that has expelled the member: its partitions are
    /// lost to it at once.
    pub fn expel_next_member(&self) {
        cluster(&self.carrier)
            .request_errors(RDKafkaApiKey::Heartbeat, &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID]);
    }
}

impl fmt::Debug for EmbeddedKafka {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmbeddedKafka").field("address", &self.address).finish_non_exhaustive()
    }
}

fn cluster(carrier: &FutureProducer<Quiet>) -> MockCluster<'_, impl ClientContext + use<>> {
    carrier.client().mock_cluster().expect("the client was made with a mock cluster")
}

/// Keeps the carrier's log, which tells of every outage we make ourselves, out of sight.
struct Quiet;

impl ClientContext for Quiet {
    fn log(&self, _: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::trace!(target: "librdkafka", facility, "{message}");
    }

    fn error(&self, _: KafkaError, reason: &str) {
        tracing::trace!(target: "librdkafka", "{reason}");
    }
}
