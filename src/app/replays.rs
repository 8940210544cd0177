//! Where letters are replayed from, and who reads the requests for it.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Account, Limits, SourceConfig};
use crate::broker::SourceLimits;
use crate::core::model::{AccountId, SourceId};
use crate::core::route::Rules;

/// The requests for replays beside one dead-letter topic: a source of its own, whose id comes after those of
/// the config.
#[derive(Clone, Debug)]
pub struct ReplayConfig {
    /// Its id.
    pub id: SourceId,
    /// Its name: that of the source beside it and `.replay`, which no source of a config can have.
    pub name: Arc<str>,
    /// The first source, by name, whose letters these are.
    pub beside: SourceId,
    /// All of them: who reads one of these reads the requests. Empty: whoever is there reads them.
    pub of: Vec<SourceId>,
    /// Its part of `[limits]`.
    pub limits: SourceLimits,
}

/// The requests for replays, one source for each dead-letter topic.
pub(super) fn beside(
    sources: &[SourceConfig],
    readers: &BTreeSet<SourceId>,
    limits: &Limits,
) -> Vec<ReplayConfig> {
    let mut places: Vec<String> = Vec::new();
    let mut replays: Vec<ReplayConfig> = Vec::new();
    for (source, beside) in sources.iter().zip(0..) {
        let place = source.broker.letters_at();
        if let Some(known) = places.iter().position(|known| *known == place) {
            replays[known].of.push(SourceId(beside));
            continue;
        }
        let id = u16::try_from(sources.len() + places.len()).expect("fewer than 32,768 sources");
        places.push(place);
        replays.push(ReplayConfig {
            id: SourceId(id),
            name: format!("{}.replay", source.name).into(),
            beside: SourceId(beside),
            of: vec![SourceId(beside)],
            limits: limits.of_replays(),
        });
    }
    for replay in &mut replays {
        // Where no quota hangs on who reads them, everybody may send.
        if !replay.of.iter().any(|source| readers.contains(source)) {
            replay.of.clear();
        }
    }
    replays
}

/// The sources whose readers have the quotas of an account, each its part.
pub(super) fn readers(accounts: &[Account], rules: &Rules) -> BTreeSet<SourceId> {
    let accounts = accounts.iter().zip(0..).filter(|(account, _)| account.shares.sharing.is_by_reading());
    accounts.flat_map(|(_, id)| rules.sources_of(AccountId(id))).collect()
}

#[cfg(test)]
mod tests {
    use crate::app::built;

    /// Who reads the requests of two sources that share a dead-letter topic, and of a third one.
    fn readers_of(quota: &str) -> Vec<Vec<u16>> {
        let source = |name: &str, letters: &str| {
            format!(
                "[sources.{name}]\nkind = \"kafka\"\nbrokers = \"127.0.0.1:9092\"\ngroup = \"g\"\n\
                 topics = [\"{name}\"]\ndead_letter = \"{letters}\"\n\n"
            )
        };
        let text = [
            "[accounts.a]\nprovider = \"yunxin\"\napp_key = \"k\"\napp_secret = \"s\"\nsender = \"system\"\n",
            quota,
            &source("a", "both.dlq"),
            &source("b", "both.dlq"),
            &source("c", "c.dlq"),
            "[[routes]]\nname = \"r\"\naccount = \"a\"\nmessage = { kind = \"text\", text = '.text' }\n",
        ];
        let app = built(&text.concat());
        app.replays.iter().map(|replay| replay.of.iter().map(|id| id.0).collect()).collect()
    }

    #[test]
    fn requests_are_read_where_their_sources_are_unless_no_quota_hangs_on_it() {
        assert_eq!(readers_of("\n"), [vec![0, 1], vec![2]]);
        assert_eq!(
            readers_of("quota = { share = \"static\", max_replicas = 2 }\n\n"),
            [Vec::<u16>::new(), Vec::new()]
        );
    }
}
