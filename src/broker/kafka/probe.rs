//! What `check --live` finds of a source: logs in and looks, joins nothing and makes nothing.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::admin::AdminClient;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::Metadata;

use super::context::PlainContext;
use super::settings::Settings;
use super::topics;

/// Things that a client may have to say after a failure; each connect that fails is one or two.
const MOST_TOLD: usize = 1_000;
/// How long the broker may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Lines of what was found, or what is wrong.
pub(super) async fn probe(settings: Arc<Settings>) -> Result<Vec<String>, String> {
    let asked = Arc::clone(&settings);
    let metadata =
        tokio::task::spawn_blocking(move || reach(&asked, |metadata| found(&asked, metadata))).await;
    let mut lines = metadata.map_err(|error| error.to_string())??;
    let admin = AdminClient::from_config_and_context(&settings.client(), PlainContext::new(&settings.name))
        .map_err(|error| unmade(&error))?;
    lines.extend(topics::doubts(&admin, &settings.dead_letter).await);
    Ok(lines)
}

fn unmade(error: &KafkaError) -> String {
    format!("the Kafka client cannot be made: {error}")
}

/// Asks the broker what it has, with a consumer: what goes wrong meanwhile is told to nobody else.
fn reach(
    settings: &Settings,
    found: impl Fn(&Metadata) -> Result<Vec<String>, String>,
) -> Result<Vec<String>, String> {
    let context = PlainContext::new(&settings.name);
    let consumer =
        BaseConsumer::from_config_and_context(&settings.reader(), context).map_err(|error| unmade(&error))?;
    let error = match consumer.fetch_metadata(None, PATIENCE) {
        Ok(metadata) => return found(&metadata),
        Err(error) => error,
    };
    // The client hands out what it has to say only when it is polled.
    let told = std::iter::repeat_with(|| consumer.poll(Duration::ZERO)).take(MOST_TOLD);
    let _ = told.take_while(Option::is_some).count();
    let why = unreachable(&settings.brokers, &error);
    Err(match consumer.context().trouble() {
        Some(trouble) => format!("{why} (the client says: {trouble})"),
        None => why,
    })
}

pub(super) fn unreachable(brokers: &str, error: &KafkaError) -> String {
    match error.rdkafka_error_code() {
        Some(RDKafkaErrorCode::BrokerTransportFailure | RDKafkaErrorCode::OperationTimedOut) => format!(
            "no broker of {brokers} answered within {PATIENCE:?}: check the address, and whether it wants TLS or a login"
        ),
        _ => format!("{brokers}: {error}"),
    }
}

fn found(settings: &Settings, metadata: &Metadata) -> Result<Vec<String>, String> {
    let brokers = metadata.brokers().len();
    let mut lines = vec![format!("{brokers} broker(s) by way of {}", settings.brokers)];
    let partitions = |name: &str| {
        let topic = metadata.topics().iter().find(|topic| topic.name() == name && topic.error().is_none());
        topic.map(|topic| topic.partitions().len())
    };
    let missing: Vec<&str> = settings.named_topics().filter(|name| partitions(name).is_none()).collect();
    if !missing.is_empty() {
        return Err(format!(
            "topics that do not exist, or may not be seen by this user: {}",
            missing.join(", ")
        ));
    }
    for name in settings.named_topics() {
        lines.push(format!("topic {name}: {} partition(s)", partitions(name).unwrap_or(0)));
    }
    for regex in settings.topics.iter().filter(|topic| topic.starts_with('^')) {
        lines.push(format!("topics {regex}: whatever matches when the group is joined"));
    }
    let made =
        if settings.create_dead_letter { "will be made" } else { "missing, and create_dead_letter is false" };
    for name in [settings.dead_letter.clone(), settings.replay_topic(), settings.state_topic()] {
        match partitions(&name) {
            Some(count) => lines.push(format!("topic {name}: {count} partition(s)")),
            None if settings.create_dead_letter => lines.push(format!("topic {name}: {made}")),
            None => return Err(format!("topic {name}: {made}")),
        }
    }
    lines.push(format!("group {}", settings.group));
    Ok(lines)
}
