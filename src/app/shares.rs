//! How replicas share the quotas of each account: what the config says of it, or what follows from the
//! sources that feed the account.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::crosscheck;
use crate::core::model::{AccountId, Path, SourceId};
use crate::core::provider::Provider;
use crate::core::route::Rules;
use crate::core::section::{Section, Value};
use crate::core::share::Quotas;
use crate::core::share::settings::{Kind, Sharing, Written, too_small};

/// What is compared.
pub(super) struct Sections<'s, 'a> {
    /// The accounts, by `AccountId`.
    pub accounts: &'s [Section<'a>],
    /// The sources, by `SourceId`.
    pub sources: &'s [Section<'a>],
    /// The routes, if they can be used.
    pub rules: Option<&'s Rules>,
}

/// How one account's quotas are shared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shares {
    /// By what.
    pub sharing: Sharing,
    /// What is shared.
    pub quotas: Quotas,
}

/// Reads the keys of every account and compares them with sources and routes.
pub(super) fn read(
    sections: &Sections<'_, '_>,
    accounts: &[Option<Arc<dyn Provider>>],
) -> Vec<Option<Shares>> {
    let each = sections.accounts.iter().zip(accounts).zip(0..);
    each.map(|((section, provider), id)| one(sections, section, provider.as_deref(), AccountId(id))).collect()
}

fn one(
    sections: &Sections<'_, '_>,
    section: &Section<'_>,
    provider: Option<&dyn Provider>,
    account: AccountId,
) -> Option<Shares> {
    let written = Written::read(section);
    let (rules, provider) = (sections.rules?, provider?);
    let feeding = rules.sources_of(account);
    let kafka: Vec<SourceId> = feeding.iter().copied().filter(|id| sections.is(*id, "kafka")).collect();
    let spread: Vec<SourceId> = feeding.iter().copied().filter(|id| sections.is_spread(*id)).collect();
    let kind = written.kind.or(if kafka.is_empty() { None } else { Some(Kind::Partitions) });
    let sharing = match kind {
        _ if feeding.is_empty() => Sharing::Whole,
        Some(Kind::Partitions) => match kafka.first() {
            Some(first) => Sharing::Partitions(*first),
            None => {
                let wanted =
                    "share = \"nats_kv\" or \"static\"; or no `share`, where one replica reads at a time";
                wrong(section, "share", "\"partitions\", and no Kafka source feeds the account", wanted);
                return None;
            }
        },
        Some(Kind::NatsKv) => leased(sections, section, &written)?,
        Some(Kind::Static) => Sharing::Fixed { max_replicas: written.max_replicas },
        None => Sharing::Readers(feeding.iter().copied().collect()),
    };
    if matches!(sharing, Sharing::Readers(_))
        && let Some(id) = spread.first()
    {
        let name = sections.sources[usize::from(id.0)].name();
        let found = format!("no `share`, and source {name:?} is spread over partitions");
        let wanted =
            "share = \"nats_kv\" with share_source, or share = \"static\": several replicas send at once";
        wrong(section, "share", found, wanted);
        return None;
    }
    let quotas = Quotas::new(provider.limits(), sections.divides_rooms(&sharing, &feeding, account));
    judge(section, &sharing, &written, &quotas, &rules.paths_of(account));
    Some(Shares { sharing, quotas })
}

fn leased(sections: &Sections<'_, '_>, section: &Section<'_>, written: &Written) -> Option<Sharing> {
    let nats = || {
        let all = sections.sources.iter().zip(0..).filter(|(_, id)| sections.is(SourceId(*id), "nats"));
        all.map(|(source, _)| format!("{:?}", source.name())).collect::<Vec<_>>().join(", ")
    };
    let wanted = match nats() {
        none if none.is_empty() => {
            "a source of kind = \"nats\", whose server keeps the bucket; there is none: use share = \"static\"".to_owned()
        }
        names => format!("the source whose server keeps the bucket: {names}"),
    };
    let Some(name) = &written.source else {
        wrong(section, "share_source", "nothing beside share = \"nats_kv\"", wanted);
        return None;
    };
    let found = sections.sources.iter().position(|source| source.name() == name);
    let id = found.and_then(|id| u16::try_from(id).ok()).map(SourceId);
    match id.filter(|id| sections.is(*id, "nats")) {
        Some(source) => {
            let (bucket, max_replicas) = (written.bucket.clone(), written.max_replicas);
            Some(Sharing::Leased { source, bucket, max_replicas })
        }
        None => {
            let what = if found.is_some() { "not a NATS source" } else { "no source" };
            wrong(section, "share_source", format!("{name:?}, which is {what}"), wanted);
            None
        }
    }
}

/// What is too small to be shared in this way.
fn judge(
    section: &Section<'_>,
    sharing: &Sharing,
    written: &Written,
    quotas: &Quotas,
    paths: &BTreeSet<Path>,
) {
    match sharing {
        Sharing::Fixed { max_replicas } => {
            for path in paths {
                let Some((key, slots)) = too_small(quotas, *max_replicas, *path) else { continue };
                wrong(
                    section,
                    key,
                    format!("{slots}, of which each of {max_replicas} replicas would have nothing"),
                    format!(
                        "{max_replicas} or more, a smaller max_replicas, or share = \"nats_kv\" \
                         (the route of path {} needs it)",
                        path.word()
                    ),
                );
            }
        }
        Sharing::Partitions(_) if written.max_replicas > 1 && paths.contains(&Path::Broadcast) => {
            let small = too_small(quotas, 2, Path::Broadcast).map(|(key, _)| key);
            if let Some(key) = small {
                let quota = section.section("quota");
                let on = quota.as_ref().unwrap_or(section);
                on.warn(
                    if quota.is_some() { key } else { "quota" },
                    "1, shared by partitions: of several replicas only the one that holds partition 0 sends broadcasts",
                    "events of broadcasts in partition 0; or share = \"nats_kv\", where slots go round; \
                     or, for one replica, max_replicas = 1",
                );
            }
        }
        _ => {}
    }
}

/// Tells of a key of `quota`; of `quota` itself where that is not written.
fn wrong(account: &Section<'_>, key: &str, found: impl Into<String>, wanted: impl Into<String>) {
    match account.section("quota") {
        Some(quota) => quota.wrong(key, found, wanted),
        None => account.wrong("quota", found, wanted),
    }
}

impl Sections<'_, '_> {
    fn is(&self, source: SourceId, kind: &str) -> bool {
        let section = &self.sources[usize::from(source.0)];
        crosscheck::text(section.node("kind")) == Some(kind)
    }

    /// Whether several replicas read a NATS source at once.
    fn is_spread(&self, source: SourceId) -> bool {
        // Asked of NATS alone: a key that is asked for is known, and Kafka has none of that name.
        let spread = || self.sources[usize::from(source.0)].node("spread");
        self.is(source, "nats") && spread().is_some_and(|node| matches!(node.value, Value::Table(_)))
    }

    /// Whether several replicas may send to one room: the room is not the record's key, or records of
    /// one key may be read by several.
    fn divides_rooms(&self, sharing: &Sharing, feeding: &BTreeSet<SourceId>, account: AccountId) -> bool {
        let one_topic = |source: &SourceId| {
            let section = &self.sources[usize::from(source.0)];
            let topics = || crosscheck::texts(section.node("topics"));
            // Partitions of two topics go to members of a group without regard to their keys.
            self.is(*source, "nats") || matches!(*topics(), [topic] if !topic.starts_with('^'))
        };
        let by_key = self.rules.is_some_and(|rules| rules.rooms_are_keys(account));
        let is_one = feeding.len() == 1 && feeding.iter().all(one_topic);
        !(matches!(sharing, Sharing::Whole) || (is_one && by_key))
    }
}
