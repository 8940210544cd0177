//! `/api/status`: one report as JSON. It shows names, numbers and reasons; no payload, no secret.

use serde_json::{Value, json};

use crate::core::letter::Names;
use crate::core::model::Path;
use crate::core::schedule::IntakeReason;
use crate::core::schedule::status::{GateState, PathSnapshot};
use crate::driver::{AccountStats, OUTCOMES, Report};

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
        "rooms": snapshot.rooms,
        "calls_away": snapshot.calls_away,
        "letters_waiting": snapshot.letters_waiting,
        "sources": sources(report, names),
        "accounts": accounts(report, names),
        "messages": messages,
    })
}

fn sources(report: &Report, names: &Names) -> Vec<Value> {
    let both = report.snapshot.sources.iter().zip(&report.sources);
    let of = |(name, (snapshot, source)): (&std::sync::Arc<str>, (&_, &crate::driver::SourceReport))| {
        let snapshot: &crate::core::schedule::status::SourceSnapshot = snapshot;
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
            "held_bytes": snapshot.held_bytes,
            "intake_open": snapshot.intake_open,
            "paused_by": source.paused_by.map(paused_by),
            "paused_partitions": snapshot.paused_partitions,
            "letter_failures": source.letter_failures,
        })
    };
    names.sources.iter().zip(both).map(of).collect()
}

/// The key of `[limits]` that stands at its bound.
fn paused_by(reason: IntakeReason) -> &'static str {
    match reason {
        IntakeReason::HeldRecords => "max_held_records",
        IntakeReason::HeldBytes => "max_held_bytes",
    }
}

fn accounts(report: &Report, names: &Names) -> Vec<Value> {
    let both = report.snapshot.accounts.iter().zip(&report.accounts);
    names
        .accounts
        .iter()
        .zip(both)
        .map(|(name, (paths, stats))| {
            let paths: serde_json::Map<String, Value> = Path::ALL
                .into_iter()
                .map(|path| (path.word().to_owned(), one_path(&paths[path as usize], stats, path)))
                .collect();
            json!({
                "name": &**name,
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
        "slots_waiting_for_answer": snapshot.slots_waiting_for_answer,
        "slots_cooling": snapshot.slots_cooling,
        "waiting": {
            "quota": waiting.quota,
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
