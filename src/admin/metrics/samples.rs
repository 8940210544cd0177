//! The table of all metrics, and how each is read off a report.

use super::Kind::{Counter, Gauge};
use super::readings::{
    account_up, attempts, durations, gate_closed, lag, logins, messages, paused_partitions, replays,
    share_replicas, source_state, waiting,
};
use super::{Kind, Metric};
use crate::driver::ReloadResult;

/// All metrics, in the order of a scrape.
pub const METRICS: &[Metric] = &[
    Metric {
        name: "roomcast_records_received_total",
        kind: Counter,
        labels: &["source"],
        help: "Records that arrived from the broker, repeats included.",
        samples: |scrape, sink| scrape.by_source(sink, |source, _| source.received),
    },
    Metric {
        name: "roomcast_records_settled_total",
        kind: Counter,
        labels: &["source"],
        help: "Records whose last message is finished, so that they may be committed or acked.",
        samples: |scrape, sink| scrape.by_source(sink, |source, _| source.settled),
    },
    Metric {
        name: "roomcast_held_records",
        kind: Gauge,
        labels: &["source"],
        help: "Records that arrived and are not settled yet.",
        samples: |scrape, sink| scrape.by_source(sink, |source, _| source.held_records as u64),
    },
    Metric {
        name: "roomcast_held_bytes",
        kind: Gauge,
        labels: &["source"],
        help: "Bytes that those records and their rendered messages keep in memory.",
        samples: |scrape, sink| scrape.by_source(sink, |source, _| source.held_bytes as u64),
    },
    Metric {
        name: "roomcast_intake_open",
        kind: Gauge,
        labels: &["source"],
        help: "1 while the source may take records, 0 while it pauses because it holds all it may, or because of the flood guard.",
        samples: |scrape, sink| scrape.by_source(sink, |source, _| u64::from(source.intake_open)),
    },
    Metric {
        name: "roomcast_flood_guard_total",
        kind: Counter,
        labels: &["source"],
        help: "Times that the source was paused because letters of one class and route came faster than flood_guard.",
        samples: |scrape, sink| scrape.by_source(sink, |source, _| source.floods),
    },
    Metric {
        name: "roomcast_replay_requests_total",
        kind: Counter,
        labels: &["source", "result"],
        help: "Requests for replays by how they ended: replayed, failed (again, in another letter), repeated (asked for before), value_gone, no_request; and letters that were parked.",
        samples: replays,
    },
    Metric {
        name: "roomcast_paused_partitions",
        kind: Gauge,
        labels: &["source", "bound"],
        help: "Partitions that pause by themselves, by the bound at which they stand: max_waiting_per_room, their part of max_held_records or max_held_bytes, commit_metadata; flood_guard pauses all of them.",
        samples: paused_partitions,
    },
    Metric {
        name: "roomcast_commit_metadata_bytes",
        kind: Gauge,
        labels: &["source"],
        help: "The fullest metadata of a partition's commit; at 3,072 bytes that partition pauses (Kafka).",
        samples: |scrape, sink| scrape.by_source(sink, |_, source| source.commit_metadata as u64),
    },
    Metric {
        name: "roomcast_assigned_partitions",
        kind: Gauge,
        labels: &["source"],
        help: "Partitions (JetStream: consumers) that this process holds.",
        samples: |scrape, sink| scrape.by_source(sink, |_, source| source.partitions.len() as u64),
    },
    Metric {
        name: "roomcast_lag_records",
        kind: Gauge,
        labels: &["source"],
        help: "Records between the committed position and the end, as the broker last told.",
        samples: lag,
    },
    Metric {
        name: "roomcast_source_state",
        kind: Gauge,
        labels: &["source", "state"],
        help: "1 for the state that the source is in: starting, ready, standing by (requests whose source is read elsewhere), waiting for its broker, or ended.",
        samples: source_state,
    },
    Metric {
        name: "roomcast_messages_total",
        kind: Counter,
        labels: &["account", "fate", "kind"],
        help: "Messages that are finished, by what became of them; account is \"none\" where no route took the event.",
        samples: messages,
    },
    Metric {
        name: "roomcast_conflated_total",
        kind: Counter,
        labels: &["route"],
        help: "Messages whose place a newer one took while they waited, by the route whose `conflate` says so.",
        samples: |scrape, sink| {
            let mut counts = scrape.report.snapshot.conflated.iter();
            counts.try_for_each(|(route, count)| sink.put(&[route], *count))
        },
    },
    Metric {
        name: "roomcast_attempts_total",
        kind: Counter,
        labels: &["account", "path", "outcome"],
        help: "Messages in answered calls, by what the answer meant; one that was tried again counts each time.",
        samples: attempts,
    },
    Metric {
        name: "roomcast_calls_total",
        kind: Counter,
        labels: &["account", "path"],
        help: "Calls begun.",
        samples: |scrape, sink| scrape.by_path(sink, |path| path.calls),
    },
    Metric {
        name: "roomcast_call_duration_seconds",
        kind: Kind::Histogram,
        labels: &["account", "path"],
        help: "How long calls took, from before the request to after the answer or the time limit.",
        samples: durations,
    },
    Metric {
        name: "roomcast_logins_total",
        kind: Counter,
        labels: &["account", "result"],
        help: "Logins that were answered: worked or failed.",
        samples: logins,
    },
    Metric {
        name: "roomcast_account_up",
        kind: Gauge,
        labels: &["account"],
        help: "1 while room messages of the account can be sent, 0 while its gate is closed or it has no session.",
        samples: account_up,
    },
    Metric {
        name: "roomcast_gate_closed",
        kind: Gauge,
        labels: &["account", "path", "cause"],
        help: "1 while a path gets no calls but probes for that cause: ban, outage, refused, day_quota, login.",
        samples: gate_closed,
    },
    Metric {
        name: "roomcast_quota_slots",
        kind: Gauge,
        labels: &["account", "path"],
        help: "Calls that the path may carry in any second.",
        samples: |scrape, sink| scrape.by_path(sink, |path| u64::from(path.slots)),
    },
    Metric {
        name: "roomcast_quota_share_slots",
        kind: Gauge,
        labels: &["account", "path"],
        help: "Of those, this process's share; the others are other replicas'.",
        samples: |scrape, sink| scrape.by_path(sink, |path| u64::from(path.share)),
    },
    Metric {
        name: "roomcast_quota_share_replicas",
        kind: Gauge,
        labels: &["account"],
        help: "Replicas that share the account's quotas, where that is known: max_replicas for static, those in the bucket for nats_kv.",
        samples: share_replicas,
    },
    Metric {
        name: "roomcast_quota_slots_used",
        kind: Gauge,
        labels: &["account", "path"],
        help: "Of those, taken by calls that are away or were answered less than a second ago.",
        samples: |scrape, sink| {
            scrape.by_path(sink, |path| {
                u64::from(path.slots_waiting_for_answer) + u64::from(path.slots_cooling)
            })
        },
    },
    Metric {
        name: "roomcast_slots_waiting_for_answer",
        kind: Gauge,
        labels: &["account", "path"],
        help: "Of those, taken by calls that are away: what the round trip costs of the quota.",
        samples: |scrape, sink| scrape.by_path(sink, |path| u64::from(path.slots_waiting_for_answer)),
    },
    Metric {
        name: "roomcast_waiting_messages",
        kind: Gauge,
        labels: &["account", "path", "cause"],
        help: "Messages that wait, by what for: quota, share of it, pace of the room, backoff, order in the lane, gate.",
        samples: waiting,
    },
    Metric {
        name: "roomcast_directory_loaded",
        kind: Gauge,
        labels: &["directory"],
        help: "1 once the directory was loaded; the sources begin when all are.",
        samples: |scrape, sink| scrape.by_directory(sink, |directory| Some(u64::from(directory.is_loaded))),
    },
    Metric {
        name: "roomcast_directory_keys",
        kind: Gauge,
        labels: &["directory"],
        help: "Keys that the directory holds.",
        samples: |scrape, sink| scrape.by_directory(sink, |directory| Some(directory.keys as u64)),
    },
    Metric {
        name: "roomcast_directory_bytes",
        kind: Gauge,
        labels: &["directory"],
        help: "Bytes of memory that the directory takes.",
        samples: |scrape, sink| scrape.by_directory(sink, |directory| Some(directory.bytes as u64)),
    },
    Metric {
        name: "roomcast_directory_age_seconds",
        kind: Gauge,
        labels: &["directory"],
        help: "Seconds since the directory was loaded or changed last.",
        samples: |scrape, sink| scrape.by_directory(sink, |directory| directory.age.map(|age| age.as_secs())),
    },
    Metric {
        name: "roomcast_directory_loads_total",
        kind: Counter,
        labels: &["directory", "result"],
        help: "Times that all of the directory was read: worked, or failed, and then what was known stays.",
        samples: |scrape, sink| {
            scrape.directory_results(sink, ["worked", "failed"], |directory| directory.loads)
        },
    },
    Metric {
        name: "roomcast_directory_rows_total",
        kind: Counter,
        labels: &["directory", "result"],
        help: "Rows of a topic or bucket: changed since it was read, or refused because they hold no rooms.",
        samples: |scrape, sink| {
            scrape.directory_results(sink, ["changed", "refused"], |directory| directory.rows)
        },
    },
    Metric {
        name: "roomcast_directory_unknown_total",
        kind: Counter,
        labels: &["directory"],
        help: "Look-ups of keys that the directory did not hold.",
        samples: |scrape, sink| scrape.by_directory(sink, |directory| Some(directory.unknown)),
    },
    Metric {
        name: "roomcast_directory_waiting_records",
        kind: Gauge,
        labels: &["directory"],
        help: "Records that wait until the directory holds their key.",
        samples: |scrape, sink| scrape.by_directory(sink, |directory| Some(directory.waiting as u64)),
    },
    Metric {
        name: "roomcast_calls_away",
        kind: Gauge,
        labels: &[],
        help: "Calls that are not answered yet.",
        samples: |scrape, sink| sink.put(&[], scrape.report.snapshot.calls_away as u64),
    },
    Metric {
        name: "roomcast_rooms",
        kind: Gauge,
        labels: &[],
        help: "Rooms in memory.",
        samples: |scrape, sink| sink.put(&[], scrape.report.snapshot.rooms as u64),
    },
    Metric {
        name: "roomcast_letters_waiting",
        kind: Gauge,
        labels: &[],
        help: "Letters that the dead-letter topic has not confirmed yet.",
        samples: |scrape, sink| sink.put(&[], scrape.report.snapshot.letters_waiting as u64),
    },
    Metric {
        name: "roomcast_letter_write_failures_total",
        kind: Counter,
        labels: &["source"],
        help: "Times that a letter could not be written; it is written again until it is confirmed.",
        samples: |scrape, sink| scrape.by_source(sink, |_, source| source.letter_failures),
    },
    Metric {
        name: "roomcast_config_reloads_total",
        kind: Counter,
        labels: &["result"],
        help: "Times that the config was read again, by how that ended: took, unchanged, refused.",
        samples: |scrape, sink| {
            let results = ReloadResult::ALL.iter().zip(scrape.report.config.results);
            results.into_iter().try_for_each(|(result, count)| sink.put(&[result.word()], count))
        },
    },
    Metric {
        name: "roomcast_config_last_reload_successful",
        kind: Gauge,
        labels: &[],
        help: "0 while the config's files were refused when they were last read, else 1.",
        samples: |scrape, sink| {
            let refused = scrape.report.config.last.is_some_and(|(_, how)| how == ReloadResult::Refused);
            sink.put(&[], u64::from(!refused))
        },
    },
    Metric {
        name: "roomcast_config_loaded_timestamp_seconds",
        kind: Gauge,
        labels: &[],
        help: "When the config that runs was taken up, in seconds since 1970.",
        samples: |scrape, sink| sink.put(&[], scrape.report.config.loaded_at.seconds()),
    },
    Metric {
        name: "roomcast_config_needs_restart",
        kind: Gauge,
        labels: &[],
        help: "Keys that the config's files say otherwise than what runs, and that need a restart.",
        samples: |scrape, sink| sink.put(&[], scrape.report.config.needs_restart.len() as u64),
    },
    Metric {
        name: "roomcast_draining",
        kind: Gauge,
        labels: &[],
        help: "1 once the process was asked to stop.",
        samples: |scrape, sink| sink.put(&[], u64::from(scrape.report.draining)),
    },
    Metric {
        name: "roomcast_uptime_seconds",
        kind: Gauge,
        labels: &[],
        help: "Seconds since the process began.",
        samples: |scrape, sink| sink.put(&[], scrape.report.uptime.as_secs()),
    },
    Metric {
        name: "roomcast_build_info",
        kind: Gauge,
        labels: &["version"],
        help: "Always 1; the version is its label.",
        samples: |_, sink| sink.put(&[env!("CARGO_PKG_VERSION")], 1),
    },
];
