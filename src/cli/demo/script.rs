//! What happens in the demo, scene by scene. `play` makes it happen.

use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};

use super::account::UNKNOWN_ROOM;
use super::ledger::{Due, Ledger, Service};
use super::play::{Body, Draft, Play};
use super::screen::Tone;
use super::stage::TOPICS;
use crate::simulator::{Effect, Endpoint, Rule};

/// Between two events that are to be followed with the eye.
const PACE: Duration = Duration::from_millis(220);
/// How long a new daemon takes all quota slots for used, and a little more.
const START: Duration = Duration::from_millis(1_400);
/// So many events of the burst go to Easemob: eight seconds' worth of its quota.
const BURST_EASEMOB: usize = 160;
/// And to Yunxin.
const BURST_YUNXIN: usize = 800;
/// Calls that the other service makes: the page allows 100 a second.
const FOREIGN: usize = 130;
/// How long Easemob cannot be reached.
const OUTAGE: Duration = Duration::from_millis(2_500);

/// Plays all of it.
///
/// # Errors
/// When the broker takes no record, or nothing can be written.
pub async fn perform(play: &mut Play) -> anyhow::Result<()> {
    let broker = play.stage().broker().to_owned();
    play.title(
        "roomcast demo",
        &format!(
            "Kafka (embedded, {broker}) → roomcast → Easemob (20 calls/s) and Yunxin (100 calls/s), both simulated with the limits of their pages. Nothing leaves this machine. What became of an event is read from the simulators' logs; times count from when it was written to Kafka until its provider took it."
        ),
    )?;
    // At its start the daemon sends nothing: one before it may just have used the quota.
    play.watch(START, |_| false).await?;
    opening(play).await?;
    poison(play).await?;
    burst(play).await?;
    lost_answers(play).await?;
    ban(play).await?;
    outage(play).await?;
    letters(play).await?;
    play.scene("The account: what was produced, against what the simulators hold")
}

async fn opening(play: &mut Play) -> anyhow::Result<()> {
    play.scene("A stream and a match go live: every event becomes a message in its room")?;
    let winners = json!({ "reward": "badge", "winners": ["ada", "bo"] });
    let drafts = [
        broadcast("The evening stream starts"),
        live("user.joined", "1001", json!({ "user": "Ada" })),
        live("user.joined", "1002", json!({ "user": "Bo" })),
        state("2001", "kick-off"),
        gift("1001"),
        live("chat.said", "1001", json!({ "user": "Bo", "text": "what a start!" })),
        score(1, 0),
        live("reward.granted", "1001", winners),
        Draft { due: Due::Dropped, ..live("debug.ping", "1001", json!({})) },
        gift("1002"),
        state("2002", "half time"),
        live("room.closed", "1003", json!({ "reason": "the host left" })),
    ];
    play.feed(&drafts, PACE).await?;
    play.settle(Duration::from_secs(8)).await?;
    Ok(())
}

async fn poison(play: &mut Play) -> anyhow::Result<()> {
    play.scene("Four events are broken. Each becomes a dead letter; the next one in its room flows")?;
    let long = json!({ "user": "Bo", "text": "la ".repeat(2_000) });
    let letter = |class| Due::Letter(class);
    let drafts = [
        Draft {
            body: Body::Raw("{\"gift\": rocket"),
            what: "not JSON",
            due: letter("garbled"),
            ..gift("1001")
        },
        gift("1001"),
        Draft {
            body: Body::Event("gift.sent", json!("rocket")),
            what: "wrong type",
            due: letter("mapping"),
            ..gift("1001")
        },
        gift("1001"),
        Draft { what: "text too long", due: letter("invalid"), ..live("chat.said", "1001", long) },
        gift("1001"),
        Draft { what: "unknown room", due: letter("room_gone"), ..state(UNKNOWN_ROOM, "kick-off") },
        state("2001", "second half"),
    ];
    play.feed(&drafts, PACE).await?;
    play.settle(Duration::from_secs(8)).await?;
    Ok(())
}

async fn burst(play: &mut Play) -> anyhow::Result<()> {
    play.scene(&format!(
        "A burst: {BURST_EASEMOB} chat lines for Easemob and {BURST_YUNXIN} likes for Yunxin at once. They are sent as fast as the quotas allow, and none may be refused"
    ))?;
    // A second of silence, so that no earlier call stands in the burst's first window.
    play.watch(Duration::from_millis(1_100), |_| false).await?;
    let chat = (0..BURST_EASEMOB).map(|n| {
        let room = (1001 + n % 20).to_string();
        live("chat.said", &room, json!({ "user": "fan", "text": "goal!" }))
    });
    let likes = (0..BURST_YUNXIN).map(|n| {
        let room = (2001 + n % 40).to_string();
        on_match("like.sent", &room, json!({ "user": "fan" }))
    });
    let drafts: Vec<Draft> = chat.chain(likes).collect();
    play.produce(&drafts, true).await?;
    let begun = Instant::now();
    if play.settle(Duration::from_secs(16)).await? {
        let text = format!("all {} delivered in {:.1} s", drafts.len(), begun.elapsed().as_secs_f64());
        play.remark(Tone::Good, &text)?;
    }
    Ok(())
}

async fn lost_answers(play: &mut Play) -> anyhow::Result<()> {
    play.scene("Yunxin accepts two messages, but the answers get lost: were they posted? They go again, marked, and Yunxin knows them")?;
    play.fault(Service::Yunxin, Rule::new(Effect::DropAfter).on(&[Endpoint::Room]).count(2))?;
    let again = 2;
    play.produce(&[state("2003", "corner"), state("2004", "corner")], false).await?;
    let repeats = |ledger: &Ledger| ledger.repeats() >= again && ledger.open() == 0;
    play.until(Duration::from_secs(8), repeats).await?;
    Ok(())
}

async fn ban(play: &mut Play) -> anyhow::Result<()> {
    play.scene(&format!(
        "Another service with the same Yunxin key sends {FOREIGN} messages at once: Yunxin bans the key for ten seconds. Its events wait; Easemob's do not"
    ))?;
    play.foreign_burst(FOREIGN).await?;
    for minute in [61, 62, 63, 64, 65] {
        let room = (2000 + minute - 60).to_string();
        let drafts = [state(&room, &format!("minute {minute}")), gift("1001")];
        play.feed(&drafts, PACE * 2).await?;
    }
    play.settle(Duration::from_secs(18)).await?;
    Ok(())
}

async fn outage(play: &mut Play) -> anyhow::Result<()> {
    play.scene("Easemob cannot be reached for a while: its events wait in Kafka, in their order")?;
    play.fault(Service::Easemob, Rule::new(Effect::Outage).lasting(OUTAGE))?;
    for _ in 0..3 {
        play.feed(&[gift("1001"), gift("1002"), state("2001", "minute 90")], PACE).await?;
    }
    play.settle(Duration::from_secs(12)).await?;
    Ok(())
}

async fn letters(play: &mut Play) -> anyhow::Result<()> {
    play.scene("The dead letters are worked. Three are repaired by a patch and replayed, marked as repeats; one fails again, as its room is still unknown, and is discarded")?;
    let gift = r#"{specversion: "1.0", id: $headers["demo-event"], source: "/demo", type: "gift.sent", data: {user: "Ada", gift: "rocket"}}"#;
    let repaired = |class| Due::Repaired(class, Service::Easemob, "1001".to_owned());
    play.replay("garbled", Some(gift), repaired("garbled")).await?;
    play.replay("mapping", Some(r#".data = {user: "Ada", gift: .data}"#), repaired("mapping")).await?;
    play.replay("invalid", Some(".data.text |= .[:60]"), repaired("invalid")).await?;
    play.replay("room_gone", None, Due::GivenUp("room_gone")).await?;
    if play.settle(Duration::from_secs(10)).await? {
        play.discard("room_gone", "the match was called off").await?;
    }
    Ok(())
}

fn draft(topic: &'static str, of: &'static str, key: &str, data: Json, due: Due) -> Draft {
    Draft { what: of, topic, key: key.to_owned(), body: Body::Event(of, data), due }
}

/// An event of the live stream: one message to the room of its key, at Easemob.
fn live(of: &'static str, room: &str, data: Json) -> Draft {
    draft(TOPICS[0], of, room, data, Due::Delivered(Service::Easemob, vec![room.to_owned()]))
}

fn gift(room: &str) -> Draft {
    live("gift.sent", room, json!({ "user": "Ada", "gift": "rocket" }))
}

fn broadcast(text: &str) -> Draft {
    let due = Due::Delivered(Service::Easemob, vec![String::new()]);
    Draft { due, ..live("system.notice", "all", json!({ "text": text })) }
}

/// An event of the match: one message to the room of its key, at Yunxin.
fn on_match(of: &'static str, room: &str, data: Json) -> Draft {
    draft(TOPICS[1], of, room, data, Due::Delivered(Service::Yunxin, vec![room.to_owned()]))
}

fn state(room: &str, state: &str) -> Draft {
    on_match("match.state", room, json!({ "state": state }))
}

/// One event for three rooms.
fn score(home: u32, away: u32) -> Draft {
    let rooms: Vec<String> = ["2001", "2002", "2003"].map(str::to_owned).into();
    let data = json!({ "home": home, "away": away, "rooms": rooms });
    let due = Due::Delivered(Service::Yunxin, rooms);
    Draft { due, ..on_match("score.changed", "match-7", data) }
}
