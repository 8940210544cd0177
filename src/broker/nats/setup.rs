//! The stream, the dead-letter stream and the durable: made when the config says so, and looked at.
//!
//! Run before the first pull, and again when the durable is gone. What keeps a promise from holding
//! is an error and waited for; what may bite later is a warning in the log. It never deletes, and
//! of a durable that is there it changes only what the promises need.

use std::time::Duration;

use async_nats::Client;
use async_nats::jetstream::consumer::{self, AckPolicy, DeliverPolicy, FromConsumer, PriorityPolicy, pull};
use async_nats::jetstream::context::{ConsumerInfoErrorKind, GetStreamErrorKind};
use async_nats::jetstream::stream::{Config as StreamConfig, DiscardPolicy, RetentionPolicy, Stream};
use async_nats::jetstream::{Context, ErrorCode};

use super::link::{chain, jetstream};
use super::pull::priority_timeout;
use super::settings::{Settings, StartFrom};

/// The priority group of consumers that are made here. A durable has one.
const GROUP: &str = "roomcast";

/// A consumer that can be pulled from.
#[derive(Debug)]
pub struct Prepared {
    /// The connection.
    pub client: Client,
    /// Its JetStream API.
    pub jetstream: Context,
    /// The stream that is read.
    pub stream: Stream,
    /// When that stream was made, in nanoseconds since 1970: another stream of the same name differs.
    pub created: i128,
    /// The durable as it was before the first pull.
    pub info: consumer::Info,
    /// The group whose pinned client is the one that reads; `None` on a server that has none.
    pub group: Option<String>,
}

/// Where a durable that vanished under us goes on.
#[derive(Clone, Copy, Debug)]
pub struct Resume {
    /// The stream it belonged to, as [`Prepared::created`].
    pub created: i128,
    /// The first sequence that may not be finished.
    pub sequence: u64,
}

/// Sees to all three, and gives the consumer; or says what is missing or wrong.
pub async fn prepare(
    client: Client,
    settings: &Settings,
    held: usize,
    resume: Option<Resume>,
) -> Result<Prepared, String> {
    let jetstream = jetstream(client.clone());
    judge_server(&client.server_info().version);
    let stream = source_stream(&jetstream, settings).await?;
    letter_stream(&jetstream, settings, &stream).await?;
    let created = stream.cached_info().created.unix_timestamp_nanos();
    let pins = client.is_server_compatible(2, 11, 0);
    if !pins {
        tracing::warn!(
            "the NATS server is older than 2.11 and cannot pin one reader: order holds for one replica only"
        );
    }
    let several = settings.subjects.len() > 1;
    if several && !client.is_server_compatible(2, 10, 0) {
        return Err("a NATS server before 2.10 filters by one subject: name one in `subjects`".to_owned());
    }
    let start = resume.filter(|resume| resume.created == created).map(|resume| resume.sequence);
    let wanted = wanted(settings, held, pins, start);
    let (info, group) = durable(&stream, settings, wanted).await?;
    let last = stream.cached_info().state.last_sequence;
    if info.delivered.stream_sequence > last {
        tracing::error!(
            stream = settings.stream,
            delivered = info.delivered.stream_sequence,
            last,
            "the durable stands ahead of its stream, which has lost its end: messages published under \
             sequences that were used before may never be delivered"
        );
    }
    Ok(Prepared { client, jetstream, stream, created, info, group })
}

/// Looks only: lines for `check --live`.
pub async fn look(client: &Client, settings: &Settings) -> Result<Vec<String>, String> {
    let jetstream = jetstream(client.clone());
    let mut lines = vec![format!("connected to NATS {}", client.server_info().version)];
    for name in [&settings.stream, &settings.dead_letter] {
        match jetstream.get_stream(name).await {
            Ok(stream) => {
                let info = stream.cached_info();
                lines.push(format!("stream {name}: {} messages", info.state.messages));
                if *name == settings.stream {
                    lines.push(look_at_durable(&stream, settings).await?);
                } else {
                    lines.extend(letter_faults(&info.config, 1, &settings.dead_letter));
                }
            }
            Err(error) if is_missing(&error.kind()) && settings.create => {
                lines.push(format!("stream {name} is missing and will be made"));
            }
            Err(error) if is_missing(&error.kind()) => return Err(missing_stream(name)),
            Err(error) => return Err(format!("cannot look at stream {name}: {}", chain(&error))),
        }
    }
    Ok(lines)
}

async fn look_at_durable(stream: &Stream, settings: &Settings) -> Result<String, String> {
    let name = &settings.durable;
    match stream.consumer_info(name).await {
        Ok(info) => Ok(format!(
            "durable {name}: {} to be delivered, {} not acked",
            info.num_pending, info.num_ack_pending
        )),
        Err(error) if is_no_consumer(&error.kind()) && settings.create => {
            Ok(format!("durable {name} is missing and will be made"))
        }
        Err(error) if is_no_consumer(&error.kind()) => Err(missing_durable(settings)),
        Err(error) => Err(format!("cannot look at durable {name}: {}", chain(&error))),
    }
}

fn judge_server(version: &str) {
    let numbers: Vec<u32> =
        version.split(['.', '-']).take(3).map_while(|number| number.parse().ok()).collect();
    match numbers[..] {
        [2, 10, 20..=22] => tracing::error!(
            version,
            "this NATS server can lose a whole stream when it crashes (nats-server #6888): upgrade to 2.10.23 or later"
        ),
        [2, minor, _] if minor < 9 => {
            tracing::warn!(version, "this NATS server is older than any that roomcast was tried on (2.9)");
        }
        _ => {}
    }
}

fn is_missing(kind: &GetStreamErrorKind) -> bool {
    matches!(kind, GetStreamErrorKind::JetStream(error) if error.error_code() == ErrorCode::STREAM_NOT_FOUND)
}

/// Whether an error says that the consumer (or its stream) is gone.
pub fn is_no_consumer(kind: &ConsumerInfoErrorKind) -> bool {
    matches!(kind, ConsumerInfoErrorKind::NotFound | ConsumerInfoErrorKind::StreamNotFound)
}

fn missing_stream(name: &str) -> String {
    format!("stream {name} does not exist: make it, or set `create = true`")
}

fn missing_durable(settings: &Settings) -> String {
    format!(
        "stream {} has no consumer {}: make it, or set `create = true`",
        settings.stream, settings.durable
    )
}

async fn source_stream(jetstream: &Context, settings: &Settings) -> Result<Stream, String> {
    let name = &settings.stream;
    match jetstream.get_stream(name).await {
        Ok(stream) => Ok(stream),
        Err(error) if !is_missing(&error.kind()) => {
            Err(format!("cannot look at stream {name}: {}", chain(&error)))
        }
        Err(_) if !settings.create => Err(missing_stream(name)),
        Err(_) => {
            let config = StreamConfig {
                name: name.clone(),
                subjects: settings.subjects.clone(),
                ..StreamConfig::default()
            };
            let stream = jetstream.create_stream(config).await;
            let stream = stream.map_err(|error| format!("cannot make stream {name}: {}", chain(&error)))?;
            tracing::info!(stream = name, "the stream was missing and is made");
            Ok(stream)
        }
    }
}

async fn letter_stream(jetstream: &Context, settings: &Settings, source: &Stream) -> Result<(), String> {
    let name = &settings.dead_letter;
    let replicas = source.cached_info().config.num_replicas;
    match jetstream.get_stream(name).await {
        Ok(stream) => {
            for fault in letter_faults(&stream.cached_info().config, replicas, name) {
                tracing::warn!("{fault}");
            }
            Ok(())
        }
        Err(error) if !is_missing(&error.kind()) => {
            Err(format!("cannot look at dead-letter stream {name}: {}", chain(&error)))
        }
        Err(_) if !settings.create => Err(format!("dead-letter {}", missing_stream(name))),
        Err(_) => {
            let config = StreamConfig {
                name: name.clone(),
                subjects: vec![format!("{name}.>")],
                description: Some("roomcast: records that could not be delivered".to_owned()),
                num_replicas: replicas,
                allow_direct: true,
                ..StreamConfig::default()
            };
            let made = jetstream.create_stream(config).await;
            made.map_err(|error| format!("cannot make dead-letter stream {name}: {}", chain(&error)))?;
            tracing::info!(stream = name, "the dead-letter stream was missing and is made");
            Ok(())
        }
    }
}

/// What may lose letters, in words.
fn letter_faults(config: &StreamConfig, replicas: usize, name: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let mut fault = |what: String| faults.push(format!("dead-letter stream {name} {what}"));
    if config.retention != RetentionPolicy::Limits {
        fault("forgets letters once they are read (its retention is not `limits`)".to_owned());
    }
    if config.max_age > Duration::ZERO {
        fault(format!("forgets letters after {:?} (its max_age)", config.max_age));
    }
    let limited = config.max_bytes > 0 || config.max_messages > 0;
    if limited && config.discard == DiscardPolicy::New {
        fault(
            "refuses letters when it is full (discard: new); the source then stops until there is room"
                .to_owned(),
        );
    } else if limited {
        fault("forgets its oldest letters when it is full (discard: old)".to_owned());
    }
    if config.num_replicas < replicas {
        fault(format!("has {} replicas, the source's stream {replicas}", config.num_replicas));
    }
    let letter = format!("{name}.letter.x");
    if !takes(&config.subjects, &letter) {
        fault(format!("does not take {name}.letter.>: letters cannot be written"));
    }
    faults
}

/// Whether one of the subjects, which may have wildcards, takes a subject without.
pub fn takes(subjects: &[String], subject: &str) -> bool {
    subjects.iter().any(|pattern| covers(pattern, subject))
}

/// Whether a subject with wildcards takes a subject without.
fn covers(pattern: &str, subject: &str) -> bool {
    let mut tokens = subject.split('.');
    for part in pattern.split('.') {
        match (part, tokens.next()) {
            (">", Some(_)) => return true,
            ("*", Some(_)) => {}
            (part, Some(token)) if part == token => {}
            _ => return false,
        }
    }
    tokens.next().is_none()
}

/// The durable as the promises need it. `max_deliver` has no end: a message is never given up by
/// the server, which would hide it.
fn wanted(settings: &Settings, held: usize, pins: bool, start: Option<u64>) -> pull::Config {
    let deliver_policy = match (start, settings.start_from) {
        (Some(start_sequence), _) => DeliverPolicy::ByStartSequence { start_sequence },
        (None, StartFrom::Latest) => DeliverPolicy::New,
        (None, StartFrom::Earliest) => DeliverPolicy::All,
    };
    let mut config = pull::Config {
        durable_name: Some(settings.durable.clone()),
        description: Some("roomcast".to_owned()),
        deliver_policy,
        ack_policy: AckPolicy::Explicit,
        ack_wait: settings.ack_wait,
        max_deliver: -1,
        max_ack_pending: i64::try_from(held).unwrap_or(i64::MAX),
        ..pull::Config::default()
    };
    match &settings.subjects[..] {
        [one] => config.filter_subject.clone_from(one),
        several => config.filter_subjects = several.to_vec(),
    }
    if pins {
        config.priority_policy = PriorityPolicy::PinnedClient;
        config.priority_groups = vec![GROUP.to_owned()];
        config.priority_timeout = priority_timeout(settings.ack_wait);
    }
    config
}

async fn durable(
    stream: &Stream,
    settings: &Settings,
    wanted: pull::Config,
) -> Result<(consumer::Info, Option<String>), String> {
    let name = &settings.durable;
    let found = match stream.consumer_info(name).await {
        Ok(info) => info,
        Err(error) if !is_no_consumer(&error.kind()) => {
            return Err(format!("cannot look at durable {name}: {}", chain(&error)));
        }
        Err(_) if !settings.create => return Err(missing_durable(settings)),
        Err(_) => {
            let group = wanted.priority_groups.first().cloned();
            let made = stream.create_consumer(wanted).await;
            let made = made.map_err(|error| format!("cannot make durable {name}: {}", chain(&error)))?;
            tracing::info!(durable = name, "the durable was missing and is made");
            return Ok((made.cached_info().clone(), group));
        }
    };
    if found.config.deliver_subject.is_some() {
        return Err(format!("durable {name} is a push consumer: name another, or none that exists"));
    }
    if found.config.ack_policy != AckPolicy::Explicit {
        return Err(format!("durable {name} does not want explicit acks: name another, or none that exists"));
    }
    mend(stream, name, found, &wanted).await
}

/// Brings a durable that is there to what the promises need.
async fn mend(
    stream: &Stream,
    name: &str,
    found: consumer::Info,
    wanted: &pull::Config,
) -> Result<(consumer::Info, Option<String>), String> {
    let unreadable = |error| format!("durable {name} cannot be read: {error}");
    let config = pull::Config::try_from_consumer_config(found.config.clone()).map_err(unreadable)?;
    let pinned = |config: &pull::Config| match config.priority_policy {
        PriorityPolicy::PinnedClient => config.priority_groups.first().cloned(),
        _ => None,
    };
    // While somebody reads, the limit is theirs to lower and raise.
    let is_read = found.priority_groups.iter().any(|group| group.pinned_client_id.is_some());
    let mended = mended(&config, wanted, is_read);
    if mended == config {
        return Ok((found, pinned(&config)));
    }
    let refusal = match stream.update_consumer(mended.clone()).await {
        Ok(updated) => {
            tracing::info!(durable = name, "the durable is brought to what the config says");
            return Ok((updated.cached_info().clone(), pinned(&mended)));
        }
        Err(error) => chain(&error),
    };
    if pinned(&config).is_some() || pinned(&mended).is_none() {
        return Err(format!("durable {name} cannot be brought to what the config says: {refusal}"));
    }
    tracing::warn!(
        durable = name,
        "the durable cannot be given a pinned reader ({refusal}): order holds for one replica only; \
         a durable made anew has one"
    );
    let unpinned = pull::Config {
        priority_policy: config.priority_policy.clone(),
        priority_groups: config.priority_groups.clone(),
        priority_timeout: config.priority_timeout,
        ..mended
    };
    match stream.update_consumer(unpinned).await {
        Ok(updated) => Ok((updated.cached_info().clone(), None)),
        Err(error) => {
            Err(format!("durable {name} cannot be brought to what the config says: {}", chain(&error)))
        }
    }
}

/// Sets how many messages of a consumer may be held, everything else as it is.
pub async fn limit(stream: &Stream, name: &str, held: usize) -> Result<(), String> {
    let found = stream.consumer_info(name).await.map_err(|error| chain(&error))?;
    let config = pull::Config::try_from_consumer_config(found.config).map_err(|error| error.to_string())?;
    let max_ack_pending = i64::try_from(held).unwrap_or(i64::MAX);
    let updated = stream.update_consumer(pull::Config { max_ack_pending, ..config }).await;
    updated.map(drop).map_err(|error| chain(&error))
}

/// `config` with all that must be as in `wanted`; the rest is its owner's.
fn mended(config: &pull::Config, wanted: &pull::Config, is_read: bool) -> pull::Config {
    let mut mended = pull::Config {
        ack_wait: wanted.ack_wait,
        max_deliver: wanted.max_deliver,
        filter_subject: wanted.filter_subject.clone(),
        filter_subjects: wanted.filter_subjects.clone(),
        backoff: Vec::new(),
        headers_only: false,
        max_batch: 0,
        max_bytes: 0,
        max_expires: Duration::ZERO,
        priority_policy: wanted.priority_policy.clone(),
        priority_timeout: wanted.priority_timeout,
        ..config.clone()
    };
    if !is_read {
        mended.max_ack_pending = wanted.max_ack_pending;
    }
    if config.priority_policy != wanted.priority_policy || config.priority_groups.is_empty() {
        mended.priority_groups.clone_from(&wanted.priority_groups);
    }
    mended
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_cover_what_a_server_says_they_do() {
        assert!(covers("D.>", "D.letter.x"));
        assert!(covers("D.*.x", "D.letter.x"));
        assert!(covers(">", "D.letter.x"));
        assert!(!covers("D.letter", "D.letter.x"));
        assert!(!covers("D.letter.x.>", "D.letter.x"));
        assert!(!covers("E.>", "D.letter.x"));
    }

    #[test]
    fn a_dead_letter_stream_that_forgets_is_told_of() {
        let good = StreamConfig {
            name: "D".to_owned(),
            subjects: vec!["D.>".to_owned()],
            num_replicas: 1,
            max_bytes: -1,
            max_messages: -1,
            ..StreamConfig::default()
        };
        assert_eq!(letter_faults(&good, 1, "D"), Vec::<String>::new());
        let bad = StreamConfig {
            retention: RetentionPolicy::WorkQueue,
            max_age: Duration::from_secs(60),
            max_messages: 10,
            discard: DiscardPolicy::New,
            subjects: vec!["other".to_owned()],
            ..good
        };
        assert_eq!(letter_faults(&bad, 3, "D").len(), 5);
    }
}
