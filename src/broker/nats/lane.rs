//! What one reading loop reads: the durable of a source, or one of its partitions. Pure.
//!
//! With `spread = { partitions = N }` the server copies the source's stream into a second one, the
//! **parts stream**, and puts a partition number before each subject; each partition has a durable of
//! its own there. This file knows the names and subjects of all that.

use std::sync::Arc;

use super::settings::Settings;
use super::spread::Spread;
use crate::core::model::PartitionId;

/// What one loop reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lane {
    /// Its number in the source; 0 where there is one.
    pub partition: PartitionId,
    /// What people know it by.
    pub label: Arc<str>,
    /// The stream that is read.
    pub stream: String,
    /// The durable's name.
    pub durable: String,
    /// Which subjects of that stream; at least one.
    pub subjects: Vec<String>,
    /// Whether it is one of several.
    pub is_part: bool,
}

impl Lane {
    /// All lanes of a source.
    pub fn all(settings: &Settings) -> Vec<Self> {
        match settings.spread {
            Spread::OneActive => vec![Self::only(settings)],
            Spread::Partitions { count, .. } => {
                (0..count).map(|number| Self::part(settings, number)).collect()
            }
        }
    }

    fn only(settings: &Settings) -> Self {
        let label = match settings.replays_of {
            Some(_) => format!("{}.replay", settings.stream),
            None => settings.stream.clone(),
        };
        Self {
            partition: PartitionId(0),
            label: Arc::from(label),
            stream: settings.stream.clone(),
            durable: settings.durable.clone(),
            subjects: settings.subjects.clone(),
            is_part: false,
        }
    }

    fn part(settings: &Settings, number: u32) -> Self {
        Self {
            partition: PartitionId(number),
            label: Arc::from(format!("{}/{number}", settings.stream)),
            stream: parts_stream(settings),
            durable: format!("{}_{number}", settings.durable),
            subjects: vec![format!("{number}.>")],
            is_part: true,
        }
    }

    /// Whether it speaks for the source where all would say the same.
    pub fn is_first(&self) -> bool {
        self.partition == PartitionId(0)
    }
}

/// The parts stream's name.
pub fn parts_stream(settings: &Settings) -> String {
    format!("{}_{}_parts", settings.stream, settings.durable)
}

/// The subject that a message of the parts stream was published under.
pub fn published_subject(subject: &str) -> &str {
    subject.split_once('.').map_or(subject, |(_, rest)| rest)
}

/// The transforms that spread subjects over partitions by a token: pairs of source and destination, in
/// the server's words. Subjects too short to have the token go to partition 0.
pub fn transforms(subjects: &[String], token: usize, partitions: u32) -> Vec<(String, String)> {
    let shapes = subjects.iter().flat_map(|subject| shapes(subject, token));
    shapes.map(|shape| (shape.join("."), destination(&shape, token, partitions))).collect()
}

/// A subject as patterns in which the token stands before any `>`: `a.>` with token 1 is `a.*` and
/// `a.*.>`.
fn shapes(subject: &str, token: usize) -> Vec<Vec<&str>> {
    let tokens: Vec<&str> = subject.split('.').collect();
    let fixed = tokens.len() - 1;
    if tokens[fixed] != ">" || token < fixed {
        return vec![tokens];
    }
    let with = |stars: usize| {
        let mut shape = tokens[..fixed].to_vec();
        shape.extend(std::iter::repeat_n("*", stars));
        shape
    };
    let whole = token + 1 - fixed;
    let mut shapes: Vec<Vec<&str>> = (1..=whole).map(with).collect();
    let mut longer = with(whole);
    longer.push(">");
    shapes.push(longer);
    shapes
}

fn destination(shape: &[&str], token: usize, partitions: u32) -> String {
    let mut stars = 0;
    let mut rest = Vec::with_capacity(shape.len() + 1);
    let mut partition = "0".to_owned();
    for (at, part) in shape.iter().enumerate() {
        let is_star = *part == "*";
        stars += u32::from(is_star);
        if at == token {
            partition = match is_star {
                true => format!("{{{{partition({partitions},{stars})}}}}"),
                false => partition_of(part, partitions).to_string(),
            };
        }
        rest.push(if is_star { format!("{{{{wildcard({stars})}}}}") } else { (*part).to_owned() });
    }
    rest.insert(0, partition);
    rest.join(".")
}

/// The partition that the server's `partition()` gives a token: FNV-1a of 32 bits, modulo.
pub fn partition_of(token: &str, partitions: u32) -> u32 {
    let hash =
        token.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    hash % partitions.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(subject: &str, token: usize) -> Vec<(String, String)> {
        transforms(&[subject.to_owned()], token, 4)
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(from, to)| ((*from).to_owned(), (*to).to_owned())).collect()
    }

    #[test]
    fn the_partition_stands_before_the_subject() {
        assert_eq!(
            of("match.*.events", 1),
            pairs(&[("match.*.events", "{{partition(4,1)}}.match.{{wildcard(1)}}.events")])
        );
        assert_eq!(
            of("*.match.*.>", 2),
            pairs(&[("*.match.*.>", "{{partition(4,2)}}.{{wildcard(1)}}.match.{{wildcard(2)}}.>")])
        );
        assert_eq!(published_subject("3.match.42.events"), "match.42.events");
    }

    #[test]
    fn a_tail_is_taken_apart_where_the_key_stands_in_it() {
        assert_eq!(
            of("match.>", 2),
            pairs(&[
                ("match.*", "0.match.{{wildcard(1)}}"),
                ("match.*.*", "{{partition(4,2)}}.match.{{wildcard(1)}}.{{wildcard(2)}}"),
                ("match.*.*.>", "{{partition(4,2)}}.match.{{wildcard(1)}}.{{wildcard(2)}}.>"),
            ])
        );
        assert_eq!(of(">", 0)[1].1, "{{partition(4,1)}}.{{wildcard(1)}}.>");
    }

    #[test]
    fn a_key_that_is_always_the_same_has_the_partition_the_server_would_choose() {
        // As nats-server 2.15.1 gave them.
        for (key, partition) in [("a", 0), ("42", 3), ("room-9", 0), ("房", 0), ("1001", 3)] {
            assert_eq!(partition_of(key, 4), partition, "{key}");
        }
        assert_eq!(of("match.42.events", 1), pairs(&[("match.42.events", "3.match.42.events")]));
    }
}
