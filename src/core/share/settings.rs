//! What the config says of shares: `share`, `share_source`, `share_bucket` and `max_replicas` in an
//! account's `quota`, and what follows from it.

use super::{OF_PATH, Quotas};
use crate::core::model::{Path, SourceId};
use crate::core::section::Section;

/// The keys of `quota` that are read here; every provider has them.
pub const KEYS: [&str; 4] = ["share", "share_source", "share_bucket", "max_replicas"];

/// The bucket where the config names none.
const BUCKET: &str = "roomcast_quota";
/// Replicas that may live at once, where the config does not say.
const MAX_REPLICAS: i64 = 4;
/// More replicas than this have no sense: each holds a part of every partition's rooms.
const MOST_REPLICAS: i64 = 1_000;

/// The words of `share`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// By the partitions of a Kafka source.
    Partitions,
    /// By leases in a bucket.
    NatsKv,
    /// A fixed part each.
    Static,
}

/// The keys as they were written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// `share`; `None`: what follows from the sources.
    pub kind: Option<Kind>,
    /// `share_source`.
    pub source: Option<String>,
    /// `share_bucket`.
    pub bucket: String,
    /// `max_replicas`.
    pub max_replicas: u32,
}

impl Written {
    /// Reads the keys of an account. The provider finishes the table that they stand in.
    pub fn read(account: &Section<'_>) -> Self {
        let section = account.section("quota");
        let section = section.as_ref();
        let text = |key: &str| section.and_then(|section| section.text(key));
        let words = [
            ("partitions", Some(Kind::Partitions)),
            ("nats_kv", Some(Kind::NatsKv)),
            ("static", Some(Kind::Static)),
        ];
        let kind = section.and_then(|section| section.word("share", None, &words));
        let max_replicas =
            section.map_or(MAX_REPLICAS, |s| s.integer("max_replicas", MAX_REPLICAS, 1..MOST_REPLICAS + 1));
        let bucket = text("share_bucket").unwrap_or_else(|| BUCKET.to_owned());
        let is_name = |name: &str| {
            !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'))
        };
        if let Some(section) = section {
            if !is_name(&bucket) {
                section.wrong("share_bucket", format!("{bucket:?}"), "letters, digits, - and _");
            }
            for key in ["share_source", "share_bucket"] {
                if section.node(key).is_some() && kind != Some(Kind::NatsKv) {
                    section.wrong(
                        key,
                        "a key that share = \"nats_kv\" alone has",
                        "share = \"nats_kv\" beside it, or no such key",
                    );
                }
            }
        }
        let max_replicas = u32::try_from(max_replicas).expect("the range is positive");
        Self { kind, source: text("share_source"), bucket, max_replicas }
    }
}

/// How an account's quotas are shared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// Nobody else has the account: no route sends through it.
    Whole,
    /// By the partitions of this source.
    Partitions(SourceId),
    /// An equal part for the one active reader of each of these sources.
    Readers(Vec<SourceId>),
    /// By leases in a bucket on that source's server.
    Leased {
        /// The source.
        source: SourceId,
        /// The bucket.
        bucket: String,
        /// Replicas that may take part.
        max_replicas: u32,
    },
    /// A fixed part each.
    Fixed {
        /// Of so many.
        max_replicas: u32,
    },
}

impl Sharing {
    /// The word for status and metrics.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Whole => "whole",
            Self::Partitions(_) => "partitions",
            Self::Readers(_) => "one_active",
            Self::Leased { .. } => "nats_kv",
            Self::Fixed { .. } => "static",
        }
    }

    /// Whether what a replica may send hangs on what it reads.
    pub fn is_by_reading(&self) -> bool {
        matches!(self, Self::Partitions(_) | Self::Readers(_))
    }
}

/// The quota of a path of which each of `replicas` would have nothing, as the config calls it, with
/// its slots.
pub fn too_small(quotas: &Quotas, replicas: u32, path: Path) -> Option<(&'static str, u32)> {
    let place = quotas.shut(&quotas.fixed(replicas), path)?;
    Some((key_of(place), quotas.slots[place].unwrap_or(0)))
}

/// What the config calls a quota of a path.
fn key_of(place: usize) -> &'static str {
    const KEYS: [[&str; OF_PATH]; 3] = [
        ["calls_per_second", "messages_per_second", "calls_per_minute", "calls_per_day"],
        ["users_calls_per_second", "users_messages_per_second", "users_per_minute", "users_per_day"],
        [
            "broadcasts_per_second",
            "broadcast_rooms_per_second",
            "broadcasts_per_minute",
            "broadcasts_per_day",
        ],
    ];
    KEYS[place / OF_PATH][place % OF_PATH]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::section::{Node, Place, Report, Table, Value};

    fn node(value: Value) -> Node {
        Node { value, place: Place::Nowhere, key_place: Place::Nowhere }
    }

    /// What is read of these keys of `quota`, and which of them are wrong.
    fn read(keys: &[(&str, Value)]) -> (Written, Vec<String>) {
        let quota = keys.iter().map(|(key, value)| ((*key).to_owned(), node(value.clone())));
        let table = Table::from([("quota".to_owned(), node(Value::Table(quota.collect())))]);
        let report = Report::new(&|_| Err("closed".to_owned()));
        let written = Written::read(&Section::new("accounts.live", &table, Place::Nowhere, &report));
        (written, report.into_problems().into_iter().map(|problem| problem.key).collect())
    }

    fn text(text: &str) -> Value {
        Value::Text(text.to_owned())
    }

    #[test]
    fn a_bucket_has_a_name_and_belongs_to_leases() {
        let leased = ("share", text("nats_kv"));
        let (written, wrong) = read(&[leased.clone(), ("share_bucket", text("live-quota_2"))]);
        assert_eq!((written.kind, &*written.bucket), (Some(Kind::NatsKv), "live-quota_2"));
        assert_eq!(wrong, [""; 0]);
        assert_eq!(read(std::slice::from_ref(&leased)).0.bucket, BUCKET);
        let bucket = ["accounts.live.quota.share_bucket"];
        for name in ["", "a b", "ä", "a.b"] {
            assert_eq!(read(&[leased.clone(), ("share_bucket", text(name))]).1, bucket, "{name:?}");
        }
        assert_eq!(read(&[("share", text("static")), ("share_bucket", text("b"))]).1, bucket);
        assert_eq!(read(&[("share_source", text("s"))]).1, ["accounts.live.quota.share_source"]);
    }

    #[test]
    fn a_thousand_replicas_may_live_at_once() {
        assert_eq!(read(&[]).0.max_replicas, 4);
        for (replicas, wrong) in [(0, 1), (1, 0), (1_000, 0), (1_001, 1)] {
            assert_eq!(read(&[("max_replicas", Value::Integer(replicas))]).1.len(), wrong, "{replicas}");
        }
    }

    #[test]
    fn status_and_config_have_the_same_words() {
        let fixed = Sharing::Fixed { max_replicas: 2 };
        let leased = Sharing::Leased { source: SourceId(0), bucket: BUCKET.to_owned(), max_replicas: 2 };
        let all = [Sharing::Whole, Sharing::Partitions(SourceId(0)), Sharing::Readers(vec![]), leased, fixed];
        assert_eq!(all.map(|it| it.word()), ["whole", "partitions", "one_active", "nats_kv", "static"]);
    }
}
