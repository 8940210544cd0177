//! What a replay would do, for people: `replay --dry-run`.

use super::lines::span;
use super::{are, counted, letters};
use crate::cli::output;
use crate::core::model::{AccountId, Path};
use crate::letters::forecast::{Forecast, top};
use crate::letters::plan::Load;

/// For people.
pub fn text(told: &Forecast<'_>) -> String {
    let plan = told.plan;
    let states = plan.states.iter().map(|(state, count)| format!("{count} {}", state.word()));
    let mut text = format!("{} {} meant: {}.\n", letters(plan.meant), are(plan.meant), list(states));
    text += &format!("{} would be asked for.\n", plan.asked);
    let row = |(what, count): (&str, u64)| vec![format!("{count:>10}"), what.to_owned()];
    if !plan.classes.is_empty() {
        text += "By class\n";
        text += &output::columns(&plan.classes.iter().map(|(class, n)| row((class, *n))).collect::<Vec<_>>());
    }
    let (rooms, (rest, others)) = top(plan);
    if !rooms.is_empty() {
        let mut rows: Vec<Vec<String>> = rooms.into_iter().map(row).collect();
        if others > 0 {
            rows.push(row((&counted(others, "other room", "other rooms"), rest)));
        }
        text = text + "By room\n" + &output::columns(&rows);
    }
    for line in findings(told) {
        text += &format!("{line}\n");
    }
    if let Some(seconds) = told.to_ask() {
        text += &format!("Asking takes about {}, as --rate says.\n", span(seconds));
    }
    for (&(account, path), load) in &plan.sent {
        text += &time(told, account, path, load);
    }
    if let (false, Err(why)) = (plan.sent.is_empty(), told.parts) {
        text += &format!("What live traffic uses is not known: {why}.\n");
    }
    text + "Nothing was asked for.\n"
}

/// What is to be known before, a line each.
fn findings(told: &Forecast<'_>) -> Vec<String> {
    let plan = told.plan;
    let at_least = if plan.older_is_cut { "At least " } else { "" };
    let (gone, valueless) = (plan.rooms_gone.len() as u64, plan.truncated + plan.gone);
    let [ttl, later] = [plan.expired, plan.older].map(they);
    let expired = if told.keep_ttl { "would not be sent" } else { "would be sent all the same" };
    let findings = [
        (
            plan.expired,
            format!("{} older than the time-to-live of the routes: {ttl} {expired}.", is(plan.expired)),
        ),
        (
            plan.older,
            format!(
                "{at_least}{} older than a record with the same key that was finished since: \
                 {later} would be sent after it.",
                is(plan.older)
            ),
        ),
        (gone, format!("{} of the rooms {} known to be gone.", gone, are(gone))),
        (
            valueless,
            format!(
                "{valueless} could not keep the value: of {} it still stands where it stood, {} would stay open.",
                plan.truncated, plan.gone
            ),
        ),
        (plan.unpatched, format!("{} would stay open because the patch fails.", plan.unpatched)),
        (
            plan.failing,
            format!("{} would fail again before any call, by the routes as they are.", plan.failing),
        ),
        (plan.dropped, format!("{} dropped by the routes as they are.", is(plan.dropped))),
        (
            plan.unknown,
            format!(
                "Of {} the rooms are in a directory that only a daemon reads: not counted below.",
                plan.unknown
            ),
        ),
        (u64::from(plan.is_limited), "There are more than --limit says.".to_owned()),
    ];
    let found = findings.into_iter().filter(|(count, _)| *count > 0);
    let mut lines: Vec<String> = found.map(|(_, line)| line).collect();
    if plan.older == 0 && plan.older_is_cut {
        lines.push("Whether later records were finished since is not known of all letters.".to_owned());
    }
    lines
}

/// `1 is`, `12 are`.
fn is(count: u64) -> String {
    format!("{count} {}", are(count))
}

fn they(count: u64) -> &'static str {
    if count == 1 { "it" } else { "they" }
}

/// How long sending takes.
fn time(told: &Forecast<'_>, account: AccountId, path: Path, load: &Load) -> String {
    let (name, _) = told.today.account(account);
    let (least, most, now) = told.times(account, path, load);
    let messages = counted(load.messages, "message", "messages");
    let calls = counted(load.calls, "call", "calls");
    let what = format!("Account {name} ({}): {messages} in {calls}", path.word());
    match now {
        Some(now) => format!("{what}, about {} with what live traffic leaves now.\n", span(now)),
        None => format!(
            "{what}: about {} if nothing else is sent, {} if live traffic wants all of the quota.\n",
            span(least),
            span(most)
        ),
    }
}

fn list(parts: impl Iterator<Item = String>) -> String {
    let parts: Vec<String> = parts.collect();
    if parts.is_empty() { "none".to_owned() } else { parts.join(", ") }
}
