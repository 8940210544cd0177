//! The topics beside a source: dead letters, replay requests, states. Makes what is missing, and
//! warns of a dead-letter topic that does not keep its letters.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::admin::{
    AdminClient, AdminOptions, ConfigResource, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::context::PlainContext;
use super::settings::Settings;

/// How long one question to the broker may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long letters and replay requests are kept in topics made by roomcast: 30 days.
const RETENTION_MS: &str = "2592000000";

/// A dead-letter topic that keeps letters for less is warned of: 7 days.
const SHORT_RETENTION_MS: i64 = 7 * 86_400_000;

/// How the embedded broker's cluster id begins.
const EMBEDDED: &str = "mockCluster";

/// Partitions or replicas as the broker's own default has them (KIP-464; brokers since 2.4).
const BROKER_DEFAULT: i32 = -1;

/// What a record may take more as a letter, and a letter as a request: room for roomcast's own headers.
const HEADERS_BYTES: i64 = 65_536;

/// Makes the three topics when they are missing (unless that is switched off), and tells, if it is to
/// tell doubts, what is missing and how the dead-letter topic keeps letters. `Err`: the broker could not be asked; to be
/// tried again.
pub(super) async fn prepare(settings: &Arc<Settings>, tells_doubts: bool) -> Result<(), String> {
    let admin = AdminClient::from_config_and_context(&settings.client(), PlainContext::new(&settings.name))
        .map_err(|error| format!("the Kafka client cannot be made: {error}"))?;
    let admin = Arc::new(admin);
    let Some(names) = existing(Arc::clone(&admin)).await? else { return Ok(()) };
    let (replay, state) = (settings.replay_topic(), settings.state_topic());
    let wanted = [settings.dead_letter.as_str(), &replay, &state];
    let missing: Vec<&str> = wanted.into_iter().filter(|name| !names.iter().any(|n| n == name)).collect();
    if !missing.is_empty() && settings.create_dead_letter {
        let largest = largest(settings, &admin, &names).await;
        create(settings, &admin, &missing, largest).await?;
    } else if !missing.is_empty() && tells_doubts {
        tracing::error!(
            source = &*settings.name,
            "topics {missing:?} do not exist and create_dead_letter is false: make them, or letters cannot be written"
        );
    }
    if tells_doubts && names.contains(&settings.dead_letter) {
        for warning in doubts(&admin, &settings.dead_letter).await {
            tracing::warn!(source = &*settings.name, "{warning}");
        }
    }
    Ok(())
}

/// The names of all topics; `None` where topics need not be made: the embedded broker has no such
/// request, leaves it unanswered, and makes topics when they are written to. A question for all
/// topics makes none, unlike one for a name.
async fn existing(admin: Arc<AdminClient<PlainContext>>) -> Result<Option<Vec<String>>, String> {
    let asked = tokio::task::spawn_blocking(move || {
        let metadata = admin.inner().fetch_metadata(None, PATIENCE)?;
        let cluster = admin.inner().fetch_cluster_id(PATIENCE).unwrap_or_default();
        let names = metadata.topics().iter().map(|topic| topic.name().to_owned()).collect();
        Ok((!cluster.starts_with(EMBEDDED)).then_some(names))
    });
    let asked: Result<Option<Vec<String>>, KafkaError> =
        asked.await.expect("asking for metadata does not panic");
    asked.map_err(|error| format!("the broker does not tell its topics: {error}"))
}

/// The most bytes that a record of the source's topics may have, as far as the broker tells.
async fn largest(settings: &Settings, admin: &AdminClient<PlainContext>, names: &[String]) -> Option<i64> {
    let read = settings.reading();
    let asked: Vec<ResourceSpecifier<'_>> =
        names.iter().filter(|name| read.takes(name)).map(|name| ResourceSpecifier::Topic(name)).collect();
    if asked.is_empty() {
        return None;
    }
    let options = AdminOptions::new().request_timeout(Some(PATIENCE));
    let told = admin.describe_configs(&asked, &options).await.ok()?;
    let bytes = |config: ConfigResource| config.get("max.message.bytes")?.value.as_deref()?.parse().ok();
    told.into_iter().filter_map(|config| bytes(config.ok()?)).max()
}

/// A topic as it is made. What a record may weigh is more than in the source's topics: a record at their
/// limit becomes a letter with headers of ours, and that a request with yet more.
fn new<'a>(settings: &Settings, name: &'a str, widths: &'a [Option<String>; 2]) -> NewTopic<'a> {
    if name == settings.state_topic() {
        return NewTopic::new(name, 1, TopicReplication::Fixed(BROKER_DEFAULT))
            .set("cleanup.policy", "compact");
    }
    let topic = NewTopic::new(name, BROKER_DEFAULT, TopicReplication::Fixed(BROKER_DEFAULT))
        .set("cleanup.policy", "delete")
        .set("retention.ms", RETENTION_MS);
    match &widths[usize::from(name != settings.dead_letter)] {
        Some(width) => topic.set("max.message.bytes", width),
        None => topic,
    }
}

async fn create(
    settings: &Settings,
    admin: &AdminClient<PlainContext>,
    names: &[&str],
    largest: Option<i64>,
) -> Result<(), String> {
    let source = &*settings.name;
    let options = AdminOptions::new().request_timeout(Some(PATIENCE)).operation_timeout(Some(PATIENCE));
    let wider = |most: i64| (most.saturating_add(HEADERS_BYTES)).min(i64::from(i32::MAX));
    let letters = largest.map(wider);
    let widths = [letters, letters.map(wider)].map(|width| width.map(|width| width.to_string()));
    let topics: Vec<NewTopic<'_>> = names.iter().map(|name| new(settings, name, &widths)).collect();
    let results = match admin.create_topics(&topics, &options).await {
        Ok(results) => results,
        // A broker that is none of Apache's, or one that is very old: writing will tell.
        Err(KafkaError::AdminOp(RDKafkaErrorCode::UnsupportedFeature)) => return Ok(()),
        Err(error) => return Err(format!("topics cannot be made: {error}")),
    };
    for result in results {
        match result {
            Ok(topic) => tracing::info!(source, topic, "made"),
            Err((_, RDKafkaErrorCode::TopicAlreadyExists | RDKafkaErrorCode::UnsupportedFeature)) => {}
            Err((topic, code)) if topic == settings.dead_letter => {
                return Err(format!("topic {topic} cannot be made: {code}"));
            }
            // Letters can be written without it; whoever needs it will say that it is missing.
            Err((topic, code)) => tracing::error!(source, topic, %code, "cannot be made: make it by hand"),
        }
    }
    Ok(())
}

/// What is doubtful about how a dead-letter topic keeps letters. A broker that does not tell is
/// not doubted.
pub(super) async fn doubts(admin: &AdminClient<PlainContext>, topic: &str) -> Vec<String> {
    let options = AdminOptions::new().request_timeout(Some(PATIENCE));
    let told = admin.describe_configs(&[ResourceSpecifier::Topic(topic)], &options).await;
    let Ok(Some(Ok(config))) = told.map(|all| all.into_iter().next()) else { return Vec::new() };
    let value = |name| config.get(name).and_then(|entry| entry.value.as_deref());
    doubtful(topic, value("cleanup.policy"), value("retention.ms"))
}

fn doubtful(topic: &str, policy: Option<&str>, retention_ms: Option<&str>) -> Vec<String> {
    let mut doubts = Vec::new();
    if policy.is_some_and(|policy| policy.contains("compact")) {
        doubts.push(format!(
            "the dead-letter topic {topic} is compacted: of letters with one key only the last is kept; \
             set cleanup.policy=delete"
        ));
    }
    let retention = retention_ms.and_then(|text| text.parse::<i64>().ok()).filter(|ms| *ms >= 0);
    if let Some(ms) = retention.filter(|ms| *ms < SHORT_RETENTION_MS) {
        doubts.push(format!(
            "the dead-letter topic {topic} keeps letters for {} hours only; set retention.ms to 7 days or more",
            ms / 3_600_000
        ));
    }
    doubts
}

#[cfg(test)]
mod tests {
    use super::doubtful;

    #[test]
    fn a_topic_that_forgets_letters_is_doubted() {
        let table: &[(Option<&str>, Option<&str>, usize)] = &[
            (None, None, 0),
            (Some("delete"), Some("-1"), 0),
            (Some("delete"), Some("604800000"), 0),
            (Some("delete"), Some("86400000"), 1),
            (Some("compact"), Some("-1"), 1),
            (Some("compact,delete"), Some("1000"), 2),
        ];
        for (policy, retention, wanted) in table {
            assert_eq!(doubtful("dlq", *policy, *retention).len(), *wanted, "{policy:?} {retention:?}");
        }
    }
}
