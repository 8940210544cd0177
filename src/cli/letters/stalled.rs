//! Why nothing goes on, of a replay that waits for verdicts: nobody reads the requests, or the daemon says
//! what keeps them back.

use serde_json::Value as Json;
use tokio::sync::mpsc;

use super::traffic::Daemon;
use super::{Place, counted};
use crate::app::App;
use crate::letters::asking::Joined;
use crate::letters::rows::Verdict;

/// Looks for reasons while no verdict comes.
pub struct Stalled {
    daemon: Result<Daemon, String>,
    /// Verdicts at the last look.
    verdicts: Option<u64>,
    /// What was said last: it is not said again.
    said: Vec<String>,
    found: (mpsc::Sender<Vec<String>>, mpsc::Receiver<Vec<String>>),
}

impl Stalled {
    /// One that asks the daemon of this config, if the config says how.
    pub fn new(app: &App) -> Self {
        Self { daemon: Daemon::of(app), verdicts: None, said: Vec::new(), found: mpsc::channel(1) }
    }

    /// Begins to look, where nothing has come since it was called last.
    pub fn look(&mut self, joined: &[Joined]) {
        let verdicts =
            |joined: &Joined| joined.rows.verdicts().all() - joined.rows.verdicts().of(Verdict::Left);
        let all = joined.iter().map(verdicts).sum();
        if self.verdicts.replace(all) != Some(all) && all > 0 {
            return self.said.clear();
        }
        // One that is still looking says what it finds first.
        let Ok(into) = self.found.0.clone().try_reserve_owned() else { return };
        let waiting = joined.iter().filter(|joined| joined.rows.verdicts().of(Verdict::Left) > 0);
        let (places, mut reasons): (Vec<Place>, Vec<Option<String>>) = waiting
            .map(|joined| {
                let trouble = joined.rows.trouble();
                (joined.place.clone(), trouble.map(|why| format!("The state table is not read now: {why}")))
            })
            .unzip();
        let daemon = self.daemon.clone();
        tokio::spawn(async move {
            for place in &places {
                // Unknown is not nobody.
                let nobody = matches!(place.archive.readers().await, Ok(0));
                reasons.push(nobody.then(|| nobody_reads(place)));
            }
            let mut reasons: Vec<String> = reasons.into_iter().flatten().collect();
            if reasons.is_empty() {
                reasons = asked(daemon, &places).await;
            }
            into.send(reasons);
        });
    }

    /// What was found, where that is something else than before.
    pub async fn reasons(&mut self) -> Vec<String> {
        loop {
            // The sender stands beside it: it is never closed.
            let found = self.found.1.recv().await.unwrap_or_default();
            if found != self.said {
                self.said.clone_from(&found);
                return found;
            }
        }
    }
}

/// What the daemon says.
async fn asked(daemon: Result<Daemon, String>, places: &[Place]) -> Vec<String> {
    let status = match daemon {
        Ok(daemon) => daemon.status().await,
        Err(why) => Err(why),
    };
    match status {
        Ok(status) => {
            let sources = places.iter().flat_map(|place| &place.sources);
            // A source of requests bears the name of the source beside it.
            reasons(&status, &sources.map(|source| format!("{source}.replay")).collect::<Vec<_>>())
        }
        Err(why) => {
            vec![format!("Requests are read, and nothing comes of them; why is not known here: {why}.")]
        }
    }
}

/// That nobody reads the requests of a topic.
pub fn nobody_reads(place: &Place) -> String {
    format!(
        "No daemon reads source {} now: requests wait in {} until one runs (--standalone sends from here).",
        place.sources.join(", "),
        place.dead_letter
    )
}

/// Why a daemon that reads requests sends nothing, by its status.
fn reasons(status: &Json, requests: &[String]) -> Vec<String> {
    let list = |value: &Json| value.as_array().cloned().unwrap_or_default();
    let text = |value: &Json| value.as_str().unwrap_or_default().to_owned();
    let mut reasons = Vec::new();
    for source in list(&status["sources"]) {
        let name = text(&source["name"]);
        if requests.contains(&name) && source["state"] != "ready" {
            let why = source["why"].as_str().map(|why| format!(": {why}")).unwrap_or_default();
            reasons.push(format!(
                "The daemon's source {name} is {}{why}.",
                text(&source["state"]).replace('_', " ")
            ));
        }
    }
    for account in list(&status["accounts"]) {
        let name = text(&account["name"]);
        for (path, of) in account["paths"].as_object().into_iter().flatten() {
            reasons.extend(
                held_back(of, &account["share"]).map(|why| format!("Account {name} ({path}): {why}.")),
            );
        }
    }
    if reasons.is_empty() {
        reasons.push(
            "The daemon names nothing that keeps requests back; /api/status has all that it knows."
                .to_owned(),
        );
    }
    reasons
}

/// Why messages of one path wait.
fn held_back(path: &Json, share: &Json) -> Option<String> {
    let waiting = |cause: &str| path["waiting"][cause].as_u64().unwrap_or(0);
    let messages = |count| counted(count, "message waits", "messages wait");
    let gate = &path["gate"];
    if gate["state"].as_str().is_some_and(|state| state != "open") && waiting("gate") > 0 {
        let part = |key: &str| gate[key].as_str().map(|text| format!(", {text}")).unwrap_or_default();
        let state = gate["state"].as_str().unwrap_or_default().replace('_', " ");
        return Some(format!(
            "{} for its gate, which is {state}{}{}",
            messages(waiting("gate")),
            part("cause"),
            part("text")
        ));
    }
    if waiting("share") > 0 {
        let why = share["why"].as_str().filter(|why| !why.is_empty());
        let why = why.map(|why| format!(" ({why})")).unwrap_or_default();
        return Some(format!("{} for a share of the quota{why}", messages(waiting("share"))));
    }
    [
        ("quota", "for a slot of the quota; live traffic goes first"),
        ("pace", "for the pace of the room"),
        ("backoff", "to be tried again"),
    ]
    .into_iter()
    .find_map(|(cause, what)| (waiting(cause) > 0).then(|| format!("{} {what}", messages(waiting(cause)))))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn status(state: &str, path: &Json) -> Json {
        json!({
            "sources": [
                { "name": "live", "state": "waiting", "why": "not of requests" },
                { "name": "live.replay", "state": state, "why": "no leader" },
            ],
            "accounts": [{ "name": "acme", "share": { "why": "no live event yet" }, "paths": { "room": path } }],
        })
    }

    #[test]
    fn what_keeps_replays_back_is_told_by_the_daemons_status() {
        let closed = json!({ "gate": { "state": "closed", "cause": "ban", "text": "too often" }, "waiting": { "gate": 2 } });
        let quota = json!({ "gate": { "state": "open" }, "waiting": { "quota": 1, "gate": 0 } });
        for (status, wanted) in [
            (status("waiting", &Json::Null), "The daemon's source live.replay is waiting: no leader."),
            (
                status("ready", &closed),
                "Account acme (room): 2 messages wait for its gate, which is closed, ban, too often.",
            ),
            (
                status("ready", &json!({ "waiting": { "share": 1 } })),
                "Account acme (room): 1 message waits for a share of the quota (no live event yet).",
            ),
            (
                status("ready", &quota),
                "Account acme (room): 1 message waits for a slot of the quota; live traffic goes first.",
            ),
            (
                status("ready", &Json::Null),
                "The daemon names nothing that keeps requests back; /api/status has all that it knows.",
            ),
        ] {
            assert_eq!(reasons(&status, &["live.replay".to_owned()]), [wanted]);
        }
    }
}
