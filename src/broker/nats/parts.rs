//! The parts stream of a spread source: made when the config says so, judged, and made again where
//! reading stood.
//!
//! It keeps messages by limits, and has none: what waits in it waits as long as it takes. Readers
//! delete what is finished, but never its last message. A work-queue stream would delete by itself,
//! and empties: after a kill -9 of nats-server 2.15.1 an empty one copies its origin again from the
//! start. It is never changed in place either: the server then copies all of it again, under the new
//! partitions, behind the old ones. Called by [`super::setup`].

use std::collections::HashMap;
use std::time::Duration;

use async_nats::jetstream::Context;
use async_nats::jetstream::stream::{
    Config as StreamConfig, Info, RetentionPolicy, Source, Stream, SubjectTransform,
};
use serde_json::json;
use uuid::Uuid;

use super::lane::{self, Lane};
use super::link::chain;
use super::marks::{self, Generation};
use super::record::{STREAM_SOURCE, stream_source};
use super::settings::{Settings, StartFrom};
use super::setup::{find_stream, is_no_consumer, look_at_durable};
use super::spread::Spread;
use super::table::Bucket;
use crate::broker::Table;

/// What the stream's metadata says: its [`Generation`] as JSON.
const METADATA: &str = "roomcast";

/// What readers must know of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parts {
    /// Which it is: progress is noted under it.
    pub generation: String,
    /// Sequences of the origin up to here may have been tried before it was made.
    pub tried: u64,
}

/// Sees to it that it is there and right.
pub async fn prepare(
    jetstream: &Context,
    settings: &Settings,
    origin: &Stream,
    table: &Bucket,
    is_first: bool,
    told_to_make: &mut Option<Generation>,
) -> Result<(Stream, Parts), String> {
    let name = lane::parts_stream(settings);
    let stream = match find_stream(jetstream, &name).await? {
        Some(stream) => stream,
        None => {
            refuse_origin(settings, &origin.cached_info().config)?;
            if !settings.create {
                if told_to_make.is_none() {
                    *told_to_make = Some(plan(settings, origin, table).await?);
                }
                let generation = told_to_make.as_ref().expect("it is planned");
                return Err(missing(&config(settings, origin.cached_info(), generation)));
            }
            let generation = plan(settings, origin, table).await?;
            let config = config(settings, origin.cached_info(), &generation);
            make(jetstream, settings, table, config, &generation).await?
        }
    };
    *told_to_make = None;
    let info = stream.cached_info();
    refuse_different(settings, &info.config)?;
    for fault in faults(&info.config, &origin.cached_info().config).iter().filter(|_| is_first) {
        tracing::warn!("{fault}");
    }
    let generation = generation(&info.config).unwrap_or_default();
    if is_first && !generation.id.is_empty() {
        // One that was made by hand, or by a replica that ended in between, has no row yet.
        let noted = table.put(marks::key(settings), marks::row(&generation)).await;
        if let Err(why) = noted {
            tracing::warn!("what is known of {name} cannot be noted: {why}");
        }
    }
    if generation.origin_made != made(origin.cached_info()) && !generation.id.is_empty() && is_first {
        tracing::error!(
            stream = settings.stream,
            "the stream was deleted and made anew, and {name} goes on copying the old one: it gets nothing \
             any more. Let what it holds be finished, then delete it (nats stream rm {name}): it is made again"
        );
    }
    let parts = Parts { generation: generation.id, tried: generation.tried };
    Ok((stream, parts))
}

/// A source that one replica reads must not go past what is still in parts.
pub async fn refuse_when_there(jetstream: &Context, settings: &Settings) -> Result<(), String> {
    let name = lane::parts_stream(settings);
    match jetstream.get_stream(&name).await {
        Ok(_) => Err(format!(
            "stream {name} is there: durable {} was read with `spread = {{ partitions = … }}`, and where that \
             stands only it knows. Go on with that, or name another `durable` (which begins at `start_from`), \
             or delete the stream when all it holds may be given up",
            settings.durable
        )),
        Err(error) => {
            // A user who may not look at it has hardly read it before.
            tracing::debug!("whether there is a stream {name} is not known: {}", chain(&error));
            Ok(())
        }
    }
}

/// Lines for `check --live`.
pub async fn look(jetstream: &Context, settings: &Settings, origin: &Stream) -> Result<Vec<String>, String> {
    let name = lane::parts_stream(settings);
    let stream = match find_stream(jetstream, &name).await? {
        Some(stream) => stream,
        None => {
            refuse_origin(settings, &origin.cached_info().config)?;
            let line = format!("stream {name} is missing and will be made");
            return if settings.create {
                Ok(vec![line])
            } else {
                Err(format!(
                    "stream {name} does not exist: `run` says how to make it, or set `create = true`"
                ))
            };
        }
    };
    let info = stream.cached_info();
    refuse_different(settings, &info.config)?;
    let mut lines = vec![format!("stream {name}: {} messages", info.state.messages)];
    lines.extend(faults(&info.config, &origin.cached_info().config));
    for lane in Lane::all(settings) {
        lines.push(look_at_durable(&stream, settings, &lane).await?);
    }
    Ok(lines)
}

/// Where the last message of the parts stream stands in its origin.
pub async fn head(jetstream: &Context, settings: &Settings) -> Option<u64> {
    head_of(&jetstream.get_stream(lane::parts_stream(settings)).await.ok()?).await
}

/// The same, of a stream that was looked at just now.
pub async fn head_of(stream: &Stream) -> Option<u64> {
    let last = stream.cached_info().state.last_sequence;
    let message = stream.get_raw_message(last).await.ok()?;
    let (_, sequence, _) = stream_source(message.headers.get(STREAM_SOURCE)?.as_str())?;
    Some(sequence)
}

/// When a stream was made, as text: nanoseconds since 1970.
fn made(info: &Info) -> String {
    info.created.unix_timestamp_nanos().to_string()
}

fn generation(config: &StreamConfig) -> Option<Generation> {
    serde_json::from_str(config.metadata.get(METADATA)?).ok()
}

fn spread(settings: &Settings) -> (u32, usize) {
    match settings.spread {
        Spread::Partitions { count, token } => (count, token),
        Spread::OneActive => (1, 0),
    }
}

/// A stream that deletes what was read cannot be copied: the copy is read at once.
fn refuse_origin(settings: &Settings, config: &StreamConfig) -> Result<(), String> {
    if config.retention == RetentionPolicy::Limits {
        return Ok(());
    }
    Err(format!(
        "stream {} deletes what is read (its retention is not `limits`) and cannot be copied safely: \
         `spread = {{ partitions = … }}` needs a stream with retention `limits`",
        settings.stream
    ))
}

/// Where a parts stream that is made now begins.
async fn plan(settings: &Settings, origin: &Stream, table: &Bucket) -> Result<Generation, String> {
    let origin_info = origin.get_info().await;
    let info = origin_info.map_err(|error| format!("cannot look at stream {}: {error}", settings.stream))?;
    let rows = table.load(|_| true).await.map_err(|why| format!("cannot tell where reading stood: {why}"))?;
    let (partitions, _) = spread(settings);
    let id = Uuid::new_v4().to_string();
    let begin = |start, tried| Generation { id, partitions, origin_made: made(&info), start, tried };
    let last = info.state.last_sequence;
    if let Some((before, start)) = marks::read(&rows, settings) {
        if before.origin_made != made(&info) {
            tracing::warn!(stream = settings.stream, "the stream is another than before: all of it is read");
            return Ok(begin(1, 0));
        }
        tracing::warn!(
            stream = settings.stream,
            start,
            up_to = last,
            "reading goes on where it stood before the copy of the stream was deleted; what may have been sent \
             already says so"
        );
        if start < info.state.first_sequence {
            let lost = info.state.first_sequence - start;
            tracing::error!(stream = settings.stream, lost, "messages were deleted before they were read");
        }
        return Ok(begin(start, last));
    }
    let durable = &settings.durable;
    match origin.consumer_info(durable).await {
        Ok(old) => {
            let is_pinned = old.priority_groups.iter().any(|group| group.pinned_client_id.is_some());
            if is_pinned || old.num_waiting > 0 {
                return Err(format!(
                    "durable {durable} of stream {} is being read: stop all replicas that run with another \
                     `spread` first",
                    settings.stream
                ));
            }
            Ok(begin(old.ack_floor.stream_sequence + 1, old.delivered.stream_sequence))
        }
        Err(error) if is_no_consumer(&error.kind()) => {
            let start = if settings.start_from == StartFrom::Latest { last + 1 } else { 1 };
            Ok(begin(start, 0))
        }
        Err(error) => Err(format!("cannot look at durable {durable}: {}", chain(&error))),
    }
}

fn config(settings: &Settings, origin: &Info, generation: &Generation) -> StreamConfig {
    let (partitions, token) = spread(settings);
    let transforms = lane::transforms(&settings.subjects, token, partitions).into_iter();
    let source = Source {
        name: settings.stream.clone(),
        start_sequence: Some(generation.start),
        subject_transforms: transforms
            .map(|(source, destination)| SubjectTransform { source, destination })
            .collect(),
        ..Source::default()
    };
    let generation = serde_json::to_string(generation).expect("texts and numbers are JSON");
    StreamConfig {
        name: lane::parts_stream(settings),
        description: Some(format!("roomcast: {} in {partitions} partitions", settings.stream)),
        retention: RetentionPolicy::Limits,
        storage: origin.config.storage,
        num_replicas: origin.config.num_replicas,
        allow_direct: true,
        sources: Some(vec![source]),
        metadata: HashMap::from([(METADATA.to_owned(), generation)]),
        ..StreamConfig::default()
    }
}

async fn make(
    jetstream: &Context,
    settings: &Settings,
    table: &Bucket,
    config: StreamConfig,
    generation: &Generation,
) -> Result<Stream, String> {
    let name = config.name.clone();
    // The row first: a stream without one would be made from `start_from` when it is deleted.
    table.put(marks::key(settings), marks::row(generation)).await?;
    let why = match jetstream.create_stream(config).await {
        Ok(stream) => {
            tracing::info!(
                stream = name,
                start = generation.start,
                "the parts stream was missing and is made"
            );
            return Ok(stream);
        }
        Err(error) => chain(&error),
    };
    // Another replica was faster: its stream is the one, and so is its row.
    let failed = |_| format!("cannot make stream {name}: {why}");
    let stream = jetstream.get_stream(&name).await.map_err(failed)?;
    if let Some(theirs) = self::generation(&stream.cached_info().config) {
        table.put(marks::key(settings), marks::row(&theirs)).await?;
    }
    Ok(stream)
}

/// What is said where it must not be made: the one line that makes it.
fn missing(config: &StreamConfig) -> String {
    let name = &config.name;
    let body = json!({
        "name": name, "retention": "limits", "storage": config.storage, "num_replicas": config.num_replicas,
        "allow_direct": true, "sources": config.sources, "metadata": config.metadata,
    });
    format!(
        "stream {name}, the copy of the source's stream in partitions, does not exist: set `create = true`, or \
         make it: nats request '$JS.API.STREAM.CREATE.{name}' '{body}'"
    )
}

/// A stream of that name that spreads otherwise, or loses messages by itself.
fn refuse_different(settings: &Settings, config: &StreamConfig) -> Result<(), String> {
    let name = &config.name;
    let (partitions, token) = spread(settings);
    let sources = config.sources.as_deref().unwrap_or_default();
    let [source] = sources else {
        return Err(format!("stream {name} has {} sources, wanted one: {}", sources.len(), settings.stream));
    };
    let found = |source: &Source| -> Vec<(String, String)> {
        let transforms = source.subject_transforms.iter();
        transforms.map(|transform| (transform.source.clone(), transform.destination.clone())).collect()
    };
    let (mut found, mut wanted) = (found(source), lane::transforms(&settings.subjects, token, partitions));
    found.sort();
    wanted.sort();
    if source.name != settings.stream || found != wanted {
        let there = found.iter().find_map(|(_, destination)| partitions_of(destination));
        let what = match there {
            Some(there) if there != partitions => {
                format!("spreads over {there} partitions, the config says {partitions}")
            }
            _ => "has other subjects or another token of the key than the config".to_owned(),
        };
        return Err(format!(
            "stream {name} {what}. It cannot be changed while messages wait in it: stop all replicas, delete it \
             (nats stream rm {name}) and start again: reading goes on where it stood"
        ));
    }
    let fault = if config.retention != RetentionPolicy::Limits {
        "deletes what is read (its retention is not `limits`), and is copied again when it is empty"
    } else if !config.subjects.is_empty() {
        "has subjects of its own: nothing may be published to it"
    } else if config.duplicate_window > Duration::ZERO {
        "drops messages that its origin holds (its duplicate window is not 0)"
    } else {
        return Ok(());
    };
    Err(format!(
        "stream {name} {fault}: change that, or stop all replicas and delete it to have it made anew"
    ))
}

/// The `N` of `{{partition(N,…)}}`.
fn partitions_of(destination: &str) -> Option<u32> {
    let (_, rest) = destination.split_once("partition(")?;
    rest.split(',').next()?.trim().parse().ok()
}

/// What may lose messages that wait, in words.
fn faults(config: &StreamConfig, origin: &StreamConfig) -> Vec<String> {
    let mut faults = Vec::new();
    let mut fault = |what: String| faults.push(format!("stream {} {what}", config.name));
    if config.max_age > Duration::ZERO {
        fault(format!("deletes what waits longer than {:?} (its max_age)", config.max_age));
    }
    if config.max_bytes > 0 || config.max_messages > 0 || config.max_messages_per_subject > 0 {
        fault("deletes what waits when it is full (max_bytes, max_msgs or max_msgs_per_subject)".to_owned());
    }
    if config.num_replicas < origin.num_replicas {
        fault(format!("has {} replicas, its origin {}", config.num_replicas, origin.num_replicas));
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_partitions_is_read_from_a_transform() {
        assert_eq!(partitions_of("{{partition(16,1)}}.a.{{wildcard(1)}}"), Some(16));
        assert_eq!(partitions_of("3.a"), None);
    }

    #[test]
    fn a_copy_that_loses_what_waits_is_told_of() {
        let origin = StreamConfig { num_replicas: 3, ..StreamConfig::default() };
        let good = StreamConfig { num_replicas: 3, ..StreamConfig::default() };
        assert_eq!(faults(&good, &origin), Vec::<String>::new());
        let bad = StreamConfig { max_age: Duration::from_secs(60), max_messages: 9, num_replicas: 1, ..good };
        assert_eq!(faults(&bad, &origin).len(), 3);
    }
}
