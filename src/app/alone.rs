//! A config of which the requests for replays alone are read: what `letters replay --standalone` runs while
//! no daemon does.
//!
//! Nobody reads the live sources then, so what their readers have of an account's quotas would be nobody's.
//! It goes to whoever reads the requests, by the same rule: of two processes that read them at once each has
//! what is its own of them. Fixed parts and leases stay as they are.

use std::sync::Arc;

use super::{App, ReplayConfig};
use crate::core::model::SourceId;
use crate::core::share::settings::Sharing;

/// What is read of a config.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reads {
    /// The sources, and the requests beside their letters.
    Everything,
    /// The requests alone. Of the sources is used what stands beside them: letters, tables, buckets.
    Requests,
}

impl App {
    /// The same with the requests beside these sources' letters alone to be read.
    #[must_use]
    pub fn requests_alone(mut self, of: &[Arc<str>]) -> Self {
        let name = |replay: &ReplayConfig| &self.sources[usize::from(replay.beside.0)].name;
        let meant = self.replays.iter().filter(|replay| of.contains(name(replay)));
        let first = self.sources.len();
        self.replays = (first..)
            .zip(meant)
            .map(|(id, replay)| {
                let id = SourceId(u16::try_from(id).expect("fewer than before"));
                // Nobody reads the sources themselves.
                ReplayConfig { id, of: Vec::new(), ..replay.clone() }
            })
            .collect();
        let sharing = self.sharing_of_requests();
        for account in &mut self.accounts {
            if account.shares.sharing.is_by_reading() {
                account.shares.sharing = sharing.clone();
            }
        }
        self.reads = Reads::Requests;
        self
    }

    /// By the partitions of requests on Kafka, where there are such: they are assigned however few requests
    /// there are. On NATS by who is the active reader.
    fn sharing_of_requests(&self) -> Sharing {
        let is_kafka =
            |replay: &&ReplayConfig| self.sources[usize::from(replay.beside.0)].broker.kind() == "kafka";
        match self.replays.iter().find(is_kafka) {
            Some(replay) => Sharing::Partitions(replay.id),
            None => Sharing::Readers(self.replays.iter().map(|replay| replay.id).collect()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::built;

    const ACCOUNTS: &str = r#"
[accounts.own]
provider = "yunxin"
app_key = "key"
app_secret = "secret"
sender = "system"

[accounts.part]
provider = "yunxin"
app_key = "key"
app_secret = "secret"
sender = "system"
quota = { share = "static", max_replicas = 2 }
"#;
    const KAFKA: &str = r#"
[sources.NAME]
kind = "kafka"
brokers = "127.0.0.1:9092"
group = "roomcast"
topics = ["NAME.events"]
dead_letter = "LETTERS"
"#;
    const NATS: &str = r#"
[sources.NAME]
kind = "nats"
servers = ["nats://127.0.0.1:4222"]
stream = "NAME"
subjects = ["NAME.events"]
durable = "roomcast"
key = { header = "Room" }
dead_letter = "LETTERS"
"#;
    const ROUTES: &str = r#"
[[routes]]
name = "part"
when = '.part'
account = "part"
message = { kind = "text", text = '.text' }

[[routes]]
name = "rest"
account = "own"
message = { kind = "text", text = '.text' }
"#;

    /// Of sources by kind, name and dead-letter topic, with the requests beside `of` alone.
    fn alone(sources: &[(&str, &str, &str)], of: &[&str]) -> App {
        let source = |(kind, name, letters): &(&str, &str, &str)| {
            kind.replace("NAME", name).replace("LETTERS", letters)
        };
        let text = [ACCOUNTS, &sources.iter().map(source).collect::<String>(), ROUTES].concat();
        let app = built(&text);
        assert_eq!((app.reads, app.replays.len()), (Reads::Everything, 2));
        let of: Vec<Arc<str>> = of.iter().map(|name| Arc::from(*name)).collect();
        app.requests_alone(&of)
    }

    fn replays(app: &App) -> Vec<(u16, &str)> {
        app.replays.iter().map(|replay| (replay.id.0, &*replay.name)).collect()
    }

    /// How the two accounts are shared.
    fn sharing(app: &App) -> [Sharing; 2] {
        [0, 1].map(|account| app.accounts[account].shares.sharing.clone())
    }

    #[test]
    fn what_readers_of_sources_had_goes_to_readers_of_their_requests_and_fixed_parts_stay() {
        let fixed = Sharing::Fixed { max_replicas: 2 };
        let kafka = [(KAFKA, "a", "a.dlq"), (KAFKA, "b", "b.dlq"), (KAFKA, "c", "b.dlq")];
        let app = alone(&kafka, &["a", "b", "c"]);
        assert_eq!(app.reads, Reads::Requests);
        assert_eq!(replays(&app), [(3, "a.replay"), (4, "b.replay")]);
        assert_eq!(sharing(&app), [Sharing::Partitions(SourceId(3)), fixed.clone()]);
        // Sources that write to one topic have one topic of requests; its id follows those of the sources.
        let app = alone(&kafka, &["b", "c"]);
        assert_eq!(replays(&app), [(3, "b.replay")]);
        assert_eq!(sharing(&app), [Sharing::Partitions(SourceId(3)), fixed.clone()]);

        let mixed = [(NATS, "a", "A_DLQ"), (KAFKA, "b", "b.dlq")];
        assert_eq!(sharing(&alone(&mixed, &["a", "b"])), [Sharing::Partitions(SourceId(3)), fixed.clone()]);
        assert_eq!(sharing(&alone(&mixed, &["a"])), [Sharing::Readers(vec![SourceId(2)]), fixed.clone()]);
        let nats = [(NATS, "a", "A_DLQ"), (NATS, "b", "B_DLQ")];
        let both = Sharing::Readers(vec![SourceId(2), SourceId(3)]);
        assert_eq!(sharing(&alone(&nats, &["a", "b"])), [both, fixed]);
    }
}
