//! `/api/status`: one report as JSON. It shows names, numbers and reasons; no payload, no secret.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::core::letter::Names;
use crate::core::model::{AccountId, Path};
use crate::core::schedule::status::{Bound, GateState, PathSnapshot, SourceSnapshot};
use crate::core::time::Wall;
use crate::core::watermark::METADATA_FULL;
use crate::driver::{AccountStats, ConfigReport, DirectoryReport, OUTCOMES, Paused, Report, SourceReport};

/// The report, for people and scripts.
pub(super) fn json(report: &Report, names: &Names) -> Value {
    let snapshot = &report.snapshot;
    let messages: Vec<Value> = snapshot
        .fates
        .iter()
        .map(|((account, fate), count)| {
            let account = account.and_then(|id| names.accounts.get(usize::from(id.0)));
            let (fate, kind) = fate.words();
            json!({ "account": account.map(|name| &**name), "fate": fate, "kind": kind, "count": count })
        })
        .collect();
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "at": report.at.rfc3339(),
        "uptime_seconds": report.uptime.as_secs(),
        "draining": report.draining,
        "config": config(&report.config),
        "rooms": snapshot.rooms,
        "calls_away": snapshot.calls_away,
        "letters_waiting": snapshot.letters_waiting,
        "fullest_room": fullest_room(report, names),
        "sources": sources(report, names),
        "accounts": accounts(report, names),
        "directories": report.directories.iter().map(directory).collect::<Vec<_>>(),
        "routes": routes(report),
        "messages": messages,
    })
}

fn directory(directory: &DirectoryReport) -> Value {
    json!({
        "name": &*directory.name,
        "kind": directory.kind,
        "loaded": directory.is_loaded,
        "keys": directory.keys,
        "bytes": directory.bytes,
        "age_seconds": directory.age.map(|age| age.as_secs_f64()),
        "loads": { "worked": directory.loads[0], "failed": directory.loads[1] },
        "rows": { "changed": directory.rows[0], "refused": directory.rows[1] },
        "why": directory.trouble,
        "unknown": directory.unknown,
        "waiting": directory.waiting,
    })
}

/// Which config runs, and what became of reloads.
fn config(config: &ConfigReport) -> Value {
    let last = config.last.map(|(at, result)| json!({ "at": at.rfc3339(), "result": result.word() }));
    json!({
        "loaded_at": config.loaded_at.rfc3339(),
        "generation": config.generation,
        "last_reload": last,
        "needs_restart": config.needs_restart,
        "problems": config.problems,
    })
}

/// What the routes did with messages before any call.
fn routes(report: &Report) -> Vec<Value> {
    let counts = report.snapshot.conflated.iter();
    counts.map(|(name, conflated)| json!({ "name": &**name, "conflated": conflated })).collect()
}

/// The room that is nearest to `max_waiting_per_room`.
fn fullest_room(report: &Report, names: &Names) -> Value {
    let Some(detail) = &report.detail else { return Value::Null };
    let Some((account, path, room, messages)) = &detail.fullest_room else { return Value::Null };
    json!({
        "account": account_name(names, *account),
        "path": path.word(),
        "room": &*room.0,
        "messages": messages,
        "max_waiting_per_room": detail.max_waiting_per_room,
    })
}

fn account_name(names: &Names, account: AccountId) -> Option<&str> {
    names.accounts.get(usize::from(account.0)).map(|name| &**name)
}

fn sources(report: &Report, names: &Names) -> Vec<Value> {
    let both = report.snapshot.sources.iter().zip(&report.sources);
    let of = |(at, (name, (snapshot, source))): (usize, (&Arc<str>, (&SourceSnapshot, &SourceReport)))| {
        let paused = report.detail.iter().flat_map(|detail| detail.paused.get(at)).flatten();
        json!({
            "name": &**name,
            "state": source.state.word(),
            "why": source.state.why(),
            "joined": source.joined,
            "partitions": source.partitions.iter().map(|name| &**name).collect::<Vec<_>>(),
            "lag": source.lag,
            "received": snapshot.received,
            "settled": snapshot.settled,
            "held_records": snapshot.held_records,
            "max_held_records": snapshot.max_held_records,
            "held_bytes": snapshot.held_bytes,
            "max_held_bytes": snapshot.max_held_bytes,
            "commit_metadata_bytes": source.commit_metadata,
            "commit_metadata_pauses_at": METADATA_FULL,
            "intake_open": snapshot.intake_open,
            "replays": source.replays.as_ref().map(|(counts, under_way)| {
                let ended: serde_json::Map<String, Value> =
                    counts.words().into_iter().map(|(word, count)| (word.to_owned(), count.into())).collect();
                json!({ "under_way": under_way, "ended": ended })
            }),
            "flood": source.flood.as_ref().map(|flood| json!({
                "class": flood.class.word(),
                "route": flood.route.as_deref(),
                "goes_on_in_seconds": flood.goes_on_in.as_secs_f64(),
            })),
            "paused_by": source.paused_by.map(|reason| Bound::from(reason).word()),
            "paused_partitions": snapshot.paused_partitions + source.commits_full,
            "paused": paused.map(|paused| one_paused(paused, report, names)).collect::<Vec<_>>(),
            "letter_failures": source.letter_failures,
        })
    };
    names.sources.iter().zip(both).enumerate().map(of).collect()
}

/// A partition that takes nothing more: since when, at which bounds, and because of which rooms.
fn one_paused(paused: &Paused, report: &Report, names: &Names) -> Value {
    let holdup = &paused.holdup;
    let lasting = i64::try_from(paused.lasting.as_millis()).unwrap_or(i64::MAX);
    let rooms = holdup.rooms.iter().map(|room| {
        json!({
            "account": account_name(names, room.account),
            "path": room.path.word(),
            "room": &*room.room.0,
            "priority": room.priority.word(),
            "messages": room.messages,
            "of_this_partition": room.of_partition,
            "cause": room.cause.word(),
            "until_seconds": room.until.map(|until| until.as_secs_f64()),
            "oldest_seconds": room.oldest.as_secs_f64(),
            "attempts": room.tries.attempts,
            "http_status": room.tries.http_status,
            "provider_code": room.tries.provider_code,
        })
    });
    json!({
        "partition": &*paused.name,
        "since": Wall(report.at.0.saturating_sub(lasting)).rfc3339(),
        "lasting_seconds": paused.lasting.as_secs_f64(),
        "bounds": holdup.bounds.iter().map(|bound| bound.word()).collect::<Vec<_>>(),
        "held_records": holdup.held_records,
        "part_of_max_held_records": holdup.part_records,
        "held_bytes": holdup.held_bytes,
        "part_of_max_held_bytes": holdup.part_bytes,
        "commit_metadata_bytes": paused.commit_metadata,
        "oldest_seconds": holdup.oldest.as_secs_f64(),
        "waiting_for_letters": holdup.letters,
        "waiting_for_keys": holdup.waiting_for_keys,
        "rooms_waiting": holdup.rooms_waiting,
        "rooms": rooms.collect::<Vec<_>>(),
    })
}

fn accounts(report: &Report, names: &Names) -> Vec<Value> {
    let both = report.snapshot.accounts.iter().zip(&report.accounts).zip(&report.shares);
    names
        .accounts
        .iter()
        .zip(both)
        .map(|(name, ((paths, stats), share))| {
            let paths: serde_json::Map<String, Value> = Path::ALL
                .into_iter()
                .map(|path| (path.word().to_owned(), one_path(&paths[path as usize], stats, path)))
                .collect();
            json!({
                "name": &**name,
                "share": { "kind": share.kind, "replicas": share.replicas, "why": share.why },
                "logins": { "worked": stats.logins[0], "failed": stats.logins[1] },
                "paths": paths,
            })
        })
        .collect()
}

fn one_path(snapshot: &PathSnapshot, stats: &AccountStats, path: Path) -> Value {
    let outcomes: serde_json::Map<String, Value> = OUTCOMES
        .iter()
        .zip(stats.outcomes[path as usize])
        .map(|(outcome, count)| ((*outcome).to_owned(), count.into()))
        .collect();
    let waiting = &snapshot.waiting;
    json!({
        "gate": gate(&snapshot.gate),
        "calls": snapshot.calls,
        "slots": snapshot.slots,
        "share_slots": snapshot.share,
        "slots_waiting_for_answer": snapshot.slots_waiting_for_answer,
        "slots_cooling": snapshot.slots_cooling,
        "background_part": snapshot.background,
        "waiting": {
            "quota": waiting.quota,
            "share": waiting.share,
            "pace": waiting.pace,
            "backoff": waiting.backoff,
            "order": waiting.order,
            "gate": waiting.gate,
        },
        "outcomes": outcomes,
    })
}

fn gate(state: &GateState) -> Value {
    match state {
        GateState::Open => json!({ "state": "open" }),
        GateState::Closed { cause, reopens_in, text } => json!({
            "state": "closed",
            "cause": cause.word(),
            "reopens_in_seconds": reopens_in.as_secs_f64(),
            "text": text,
        }),
        GateState::Probing { cause } => json!({ "state": "probing", "cause": cause.word() }),
        GateState::LoggingIn => json!({ "state": "logging_in" }),
    }
}
