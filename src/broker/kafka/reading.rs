//! Which topics a source reads, and the settings of the source that reads its replay requests.

use std::sync::Arc;

use regex_lite::Regex;

use super::settings::{Settings, StartFrom};
use crate::core::model::SourceId;

/// Tells topics that are read from others.
pub(super) struct Reading<'a> {
    settings: &'a Settings,
    /// A regex that only librdkafka can read is `None`, and counts as fitting every topic.
    patterns: Vec<Option<Regex>>,
}

impl Reading<'_> {
    /// Whether a topic is one of those.
    pub(super) fn takes(&self, topic: &str) -> bool {
        let fits = || self.patterns.iter().any(|p| p.as_ref().is_none_or(|p| p.is_match(topic)));
        self.settings.named_topics().any(|name| name == topic)
            || (!self.settings.is_avoided(topic) && !topic.starts_with("__") && fits())
    }
}

impl Settings {
    /// What tells the topics of this source from others.
    pub(super) fn reading(&self) -> Reading<'_> {
        let regexes = self.topics.iter().filter(|topic| topic.starts_with('^'));
        Reading { settings: self, patterns: regexes.map(|regex| Regex::new(regex).ok()).collect() }
    }

    /// The settings of the source that reads the requests for replays of this one's letters.
    pub(super) fn of_replays(&self, source: SourceId) -> Self {
        let mut settings = self.clone();
        settings.source = source;
        settings.name = Arc::from(format!("{}.replay", self.name));
        settings.group = format!("{}.replay", self.group);
        settings.topics = vec![self.replay_topic()];
        settings.start_from = StartFrom::Earliest;
        settings
    }
}
