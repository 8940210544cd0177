//! The stream, the dead-letter stream and the durable: made when the config says so, and looked at.
//!
//! Run before the first pull, and again when the durable is gone. What keeps a promise from holding
//! is an error and waited for; what may bite later is a warning in the log. It never deletes, and
//! of a durable that is there it changes only what the promises need.

use std::sync::Arc;
use std::time::Duration;

use async_nats::Client;
use async_nats::jetstream::consumer::{self, AckPolicy, DeliverPolicy, FromConsumer, PriorityPolicy, pull};
use async_nats::jetstream::context::{ConsumerInfoErrorKind, GetStreamErrorKind};
use async_nats::jetstream::stream::{Config as StreamConfig, Stream};
use async_nats::jetstream::{Context, ErrorCode};

use super::lane::Lane;
use super::letter_stream;
use super::link::{Connected, chain, jetstream};
use super::marks::Generation;
use super::parts::{self, Parts};
use super::pull::priority_timeout;
use super::settings::{MAX_HELD, Settings, StartFrom};
use super::spread::Spread;
use super::table::Bucket;

/// The priority group of consumers that are made here. A durable has one.
const GROUP: &str = "roomcast";

/// A consumer that can be pulled from.
#[derive(Debug)]
pub struct Prepared {
    /// The connection.
    pub client: Client,
    /// Which connection, as [`Connected::number`].
    pub connection: u64,
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
    /// Sequences up to here may have been tried by somebody before.
    pub tried: u64,
    /// What is known of the parts stream, where that is what is read.
    pub parts: Option<Parts>,
}

/// What is to be set up.
#[derive(Debug)]
pub struct Site {
    /// The source's settings.
    pub settings: Arc<Settings>,
    /// What is read.
    pub lane: Lane,
    /// How many of its messages may be held.
    pub held: usize,
    /// Where the progress of a spread source stands.
    pub table: Bucket,
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
    Connected { client, number }: Connected,
    site: &Site,
    resume: Option<Resume>,
    told_to_make: &mut Option<Generation>,
) -> Result<Prepared, String> {
    let Site { settings, lane, held, table } = site;
    let jetstream = jetstream(client.clone());
    if lane.is_first() {
        judge_server(&client.server_info().version);
    }
    let pins = client.is_server_compatible(2, 11, 0);
    refuse_old(&client, settings, pins)?;
    let origin = match &settings.replays_of {
        None => {
            let origin = source_stream(&jetstream, settings).await?;
            let replicas = origin.cached_info().config.num_replicas;
            letter_stream::prepare(&jetstream, settings, replicas, lane.is_first()).await?;
            origin
        }
        Some(live) => requests_stream(&jetstream, settings, live).await?,
    };
    let (stream, parts) = match settings.spread {
        Spread::OneActive => {
            parts::refuse_when_there(&jetstream, settings).await?;
            (origin, None)
        }
        Spread::Partitions { .. } => {
            let (stream, parts) =
                parts::prepare(&jetstream, settings, &origin, table, lane.is_first(), told_to_make).await?;
            (stream, Some(parts))
        }
    };
    let created = stream.cached_info().created.unix_timestamp_nanos();
    let start = resume.filter(|resume| resume.created == created).map(|resume| resume.sequence);
    let wanted = wanted(settings, lane, *held, pins, start);
    let (info, group, is_made) = durable(&stream, settings, lane, wanted).await?;
    let last = stream.cached_info().state.last_sequence;
    if info.delivered.stream_sequence > last && lane.is_first() {
        tracing::error!(
            stream = lane.stream,
            delivered = info.delivered.stream_sequence,
            last,
            "the durable stands ahead of its stream, which has lost its end: messages published under \
             sequences that were used before may never be delivered"
        );
    }
    // One that was made again does not know any more what it had delivered.
    let was_there = is_made && start.is_some();
    let tried = if was_there { last } else { info.delivered.stream_sequence };
    Ok(Prepared { client, connection: number, jetstream, stream, created, info, group, tried, parts })
}

/// What a server is too old for. One before 2.11 may read, unpinned, where there is one reader.
fn refuse_old(client: &Client, settings: &Settings, pins: bool) -> Result<(), String> {
    let version = client.server_info().version;
    let is_spread = settings.spread != Spread::OneActive;
    if is_spread && !pins {
        return Err(format!(
            "NATS server {version} is too old for `spread = {{ partitions = … }}`: it must be 2.11 or newer, \
             which pins one reader to each partition; with `spread = \"one_active\"` this server will do"
        ));
    }
    if !pins {
        tracing::warn!(
            "the NATS server is older than 2.11 and cannot pin one reader: order holds for one replica only"
        );
    }
    if settings.subjects.len() > 1 && !client.is_server_compatible(2, 10, 0) {
        return Err("a NATS server before 2.10 filters by one subject: name one in `subjects`".to_owned());
    }
    Ok(())
}

/// Looks only: lines for `check --live`.
pub async fn look(client: &Client, settings: &Settings) -> Result<Vec<String>, String> {
    let jetstream = jetstream(client.clone());
    let mut lines = vec![format!("connected to NATS {}", client.server_info().version)];
    refuse_old(client, settings, client.is_server_compatible(2, 11, 0))?;
    let mut names = vec![&settings.stream, &settings.dead_letter];
    names.dedup();
    for name in names {
        match jetstream.get_stream(name).await {
            Ok(stream) => {
                let info = stream.cached_info();
                lines.push(format!("stream {name}: {} messages", info.state.messages));
                if *name != settings.stream {
                    lines.extend(letter_stream::faults(&info.config, 1, &settings.dead_letter));
                } else if settings.spread == Spread::OneActive {
                    parts::refuse_when_there(&jetstream, settings).await?;
                    let lane = &Lane::all(settings)[0];
                    lines.push(look_at_durable(&stream, settings, lane).await?);
                } else {
                    lines.extend(parts::look(&jetstream, settings, &stream).await?);
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

/// A line about one durable.
pub async fn look_at_durable(stream: &Stream, settings: &Settings, lane: &Lane) -> Result<String, String> {
    let name = &lane.durable;
    match stream.consumer_info(name).await {
        Ok(info) => Ok(format!(
            "durable {name}: {} to be delivered, {} not acked",
            info.num_pending, info.num_ack_pending
        )),
        Err(error) if is_no_consumer(&error.kind()) && settings.create => {
            Ok(format!("durable {name} is missing and will be made"))
        }
        Err(error) if is_no_consumer(&error.kind()) => {
            let held = MAX_HELD / Lane::all(settings).len();
            Err(missing_durable(lane, &wanted(settings, lane, held, true, None)))
        }
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

/// Whether an error says that there is no such stream.
pub fn is_missing(kind: &GetStreamErrorKind) -> bool {
    matches!(kind, GetStreamErrorKind::JetStream(error) if error.error_code() == ErrorCode::STREAM_NOT_FOUND)
}

/// The stream of that name; `None` when there is none.
pub async fn find_stream(jetstream: &Context, name: &str) -> Result<Option<Stream>, String> {
    match jetstream.get_stream(name).await {
        Ok(stream) => Ok(Some(stream)),
        Err(error) if is_missing(&error.kind()) => Ok(None),
        Err(error) => Err(format!("cannot look at stream {name}: {}", chain(&error))),
    }
}

/// Whether an error says that the consumer (or its stream) is gone.
pub fn is_no_consumer(kind: &ConsumerInfoErrorKind) -> bool {
    matches!(kind, ConsumerInfoErrorKind::NotFound | ConsumerInfoErrorKind::StreamNotFound)
}

/// What is said of a stream that must be there.
pub fn missing_stream(name: &str) -> String {
    format!("stream {name} does not exist: make it, or set `create = true`")
}

fn missing_durable(lane: &Lane, wanted: &pull::Config) -> String {
    let (stream, name) = (&lane.stream, &lane.durable);
    let missing = format!("stream {stream} has no consumer {name}: set `create = true`, or make it");
    if !lane.is_part {
        return format!("{missing}: {}", command(lane, wanted));
    }
    let config = consumer::IntoConsumerConfig::into_consumer_config(wanted.clone());
    let body = serde_json::json!({ "stream_name": stream, "config": config });
    format!("{missing}: nats request '$JS.API.CONSUMER.DURABLE.CREATE.{stream}.{name}' '{body}'")
}

/// The command that makes the durable of a source that one replica reads.
fn command(lane: &Lane, wanted: &pull::Config) -> String {
    let filters: Vec<String> = lane.subjects.iter().map(|subject| format!("--filter '{subject}'")).collect();
    let deliver = if wanted.deliver_policy == DeliverPolicy::All { "all" } else { "new" };
    let pins = match wanted.priority_groups.first() {
        Some(group) => {
            format!(" --pinned-groups {group} --pinned-ttl {}s", wanted.priority_timeout.as_secs())
        }
        None => String::new(),
    };
    format!(
        "nats consumer add {} {} --pull {} --deliver {deliver} --ack explicit --wait {}s --max-deliver=-1 \
         --max-pending {}{pins} --replay instant --defaults",
        lane.stream,
        lane.durable,
        filters.join(" "),
        wanted.ack_wait.as_secs(),
        wanted.max_ack_pending,
    )
}

/// The stream that requests for replays stand in: the dead letters', made as their source makes it.
async fn requests_stream(jetstream: &Context, settings: &Settings, live: &str) -> Result<Stream, String> {
    let live = find_stream(jetstream, live).await?.ok_or_else(|| missing_stream(live))?;
    let replicas = live.cached_info().config.num_replicas;
    letter_stream::prepare(jetstream, settings, replicas, false).await?;
    let name = &settings.stream;
    let stream = find_stream(jetstream, name).await?.ok_or_else(|| missing_stream(name))?;
    letter_stream::no_replays(&stream.cached_info().config, name).map_or(Ok(stream), Err)
}

async fn source_stream(jetstream: &Context, settings: &Settings) -> Result<Stream, String> {
    let name = &settings.stream;
    match find_stream(jetstream, name).await? {
        Some(stream) => Ok(stream),
        None if !settings.create => Err(missing_stream(name)),
        None => {
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

/// The durable as the promises need it. `max_deliver` has no end: a message is never given up by
/// the server, which would hide it.
fn wanted(settings: &Settings, lane: &Lane, held: usize, pins: bool, start: Option<u64>) -> pull::Config {
    let deliver_policy = match (start, settings.start_from) {
        (Some(start_sequence), _) => DeliverPolicy::ByStartSequence { start_sequence },
        // Where the parts stream begins is where reading begins.
        (None, _) if lane.is_part => DeliverPolicy::All,
        (None, StartFrom::Latest) => DeliverPolicy::New,
        (None, StartFrom::Earliest) => DeliverPolicy::All,
    };
    let mut config = pull::Config {
        durable_name: Some(lane.durable.clone()),
        description: Some("roomcast".to_owned()),
        deliver_policy,
        ack_policy: AckPolicy::Explicit,
        ack_wait: settings.ack_wait,
        max_deliver: -1,
        max_ack_pending: i64::try_from(held).unwrap_or(i64::MAX),
        ..pull::Config::default()
    };
    match &lane.subjects[..] {
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

/// The durable, its group, and whether it was made just now.
async fn durable(
    stream: &Stream,
    settings: &Settings,
    lane: &Lane,
    wanted: pull::Config,
) -> Result<(consumer::Info, Option<String>, bool), String> {
    let name = &lane.durable;
    let found = match stream.consumer_info(name).await {
        Ok(info) => info,
        Err(error) if !is_no_consumer(&error.kind()) => {
            return Err(format!("cannot look at durable {name}: {}", chain(&error)));
        }
        Err(_) if !settings.create => return Err(missing_durable(lane, &wanted)),
        Err(_) => {
            let group = wanted.priority_groups.first().cloned();
            let made = stream.create_consumer(wanted).await;
            let made = made.map_err(|error| format!("cannot make durable {name}: {}", chain(&error)))?;
            tracing::info!(durable = name, "the durable was missing and is made");
            return Ok((made.cached_info().clone(), group, true));
        }
    };
    if found.config.deliver_subject.is_some() {
        return Err(format!("durable {name} is a push consumer: name another, or none that exists"));
    }
    if found.config.ack_policy != AckPolicy::Explicit {
        return Err(format!("durable {name} does not want explicit acks: name another, or none that exists"));
    }
    let (info, group) = mend(stream, name, found, &wanted).await?;
    if lane.is_part && group.is_none() {
        return Err(format!("durable {name} has no pinned reader: delete it, and it is made anew with one"));
    }
    Ok((info, group, false))
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
