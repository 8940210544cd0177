//! How metrics are read off a report, where that takes more than a line.

use std::fmt;

use super::{Scrape, Sink};
use crate::core::model::Path;
use crate::core::schedule::status::{Bound, GateCause, GateState, PathSnapshot, SourceSnapshot};
use crate::driver::{DirectoryReport, OUTCOMES, SourceReport};

impl Scrape {
    /// One sample a source.
    /// One sample for each directory that has such a value.
    pub(super) fn by_directory(
        &self,
        sink: &mut Sink<'_, '_>,
        value: impl Fn(&DirectoryReport) -> Option<u64>,
    ) -> fmt::Result {
        for directory in &self.report.directories {
            if let Some(value) = value(directory) {
                sink.put(&[&directory.name], value)?;
            }
        }
        Ok(())
    }

    /// Two samples for each directory.
    pub(super) fn directory_results(
        &self,
        sink: &mut Sink<'_, '_>,
        words: [&str; 2],
        values: impl Fn(&DirectoryReport) -> [u64; 2],
    ) -> fmt::Result {
        for directory in &self.report.directories {
            for (word, value) in words.into_iter().zip(values(directory)) {
                sink.put(&[&directory.name, word], value)?;
            }
        }
        Ok(())
    }

    pub(super) fn by_source(
        &self,
        sink: &mut Sink<'_, '_>,
        value: impl Fn(&SourceSnapshot, &SourceReport) -> u64,
    ) -> fmt::Result {
        let both = self.report.snapshot.sources.iter().zip(&self.report.sources);
        for (name, (snapshot, report)) in self.names.sources.iter().zip(both) {
            sink.put(&[name], value(snapshot, report))?;
        }
        Ok(())
    }

    /// Every path of every account.
    pub(super) fn paths(&self) -> impl Iterator<Item = (&str, Path, &PathSnapshot)> {
        let accounts = self.names.accounts.iter().zip(&self.report.snapshot.accounts);
        accounts.flat_map(|(name, paths)| Path::ALL.map(|path| (&**name, path, &paths[path as usize])))
    }

    /// One sample an account and path.
    pub(super) fn by_path(
        &self,
        sink: &mut Sink<'_, '_>,
        value: impl Fn(&PathSnapshot) -> u64,
    ) -> fmt::Result {
        for (account, path, snapshot) in self.paths() {
            sink.put(&[account, path.word()], value(snapshot))?;
        }
        Ok(())
    }
}

pub(super) fn paused_partitions(scrape: &Scrape, sink: &mut Sink<'_, '_>) -> fmt::Result {
    let both = scrape.report.snapshot.sources.iter().zip(&scrape.report.sources);
    for (name, (snapshot, report)) in scrape.names.sources.iter().zip(both) {
        for bound in Bound::ALL {
            let by_source = match bound {
                Bound::CommitMetadata => report.commits_full,
                Bound::FloodGuard if report.flood.is_some() => report.partitions.len(),
                _ => 0,
            };
            sink.put(&[name, bound.word()], (snapshot.paused_at[bound as usize] + by_source) as u64)?;
        }
    }
    Ok(())
}

pub(super) fn replays(scrape: &Scrape, sink: &mut Sink<'_, '_>) -> fmt::Result {
    for (name, source) in scrape.names.sources.iter().zip(&scrape.report.sources) {
        for (word, count) in source.replays.iter().flat_map(|(counts, _)| counts.words()) {
            sink.put(&[name, word], count)?;
        }
    }
    Ok(())
}

pub(super) fn lag(scrape: &Scrape, sink: &mut Sink<'_, '_>) -> fmt::Result {
    for (name, source) in scrape.names.sources.iter().zip(&scrape.report.sources) {
        // A number that was never told is absent, not zero.
        if let Some(lag) = source.lag {
            sink.put(&[name], lag)?;
        }
    }
    Ok(())
}

pub(super) fn source_state(scrape: &Scrape, sink: &mut Sink<'_, '_>) -> fmt::Result {
    for (name, source) in scrape.names.sources.iter().zip(&scrape.report.sources) {
        for word in ["starting", "ready", "standing_by", "waiting", "ended"] {
            sink.put(&[name, word], u64::from(source.state.word() == word))?;
        }
    }
    Ok(())
}

pub(super) fn messages(scrape: &Scrape, sink: &mut Sink<'_, '_>) -> fmt::Result {
    for ((account, fate), count) in &scrape.report.snapshot.fates {
        let account = account.and_then(|id| scrape.names.accounts.get(usize::from(id.0)));
        let (fate, kind) = fate.words();
        sink.put(&[account.map_or("none", |name| name), fate, kind], *count)?;
    }
    Ok(())
}

pub(super) fn attempts(scrape: &Scrape, sink: &mut Sink<'_, '_>) -> fmt::Result {
    for (name, account) in scrape.names.accounts.iter().zip(&scrape.report.accounts) {
        for path in Path::ALL {
            for (outcome, count) in OUTCOMES.iter().zip(account.outcomes[path as usize]) {
                sink.put(&[name, path.word(), outcome], count)?;
            }
        }
    }
    Ok(())
}

pub(super) fn durations(scrape: &Scrape, sink: &mut Sink<'_, '_>) -> fmt::Result {
    for (name, account) in scrape.names.accounts.iter().zip(&scrape.report.accounts) {
        for path in Path::ALL {
            sink.put_histogram(&[name, path.word()], &account.durations[path as usize])?;
        }
    }
    Ok(())
}

pub(super) fn logins(scrape: &Scrape, sink: &mut Sink<'_, '_>) -> fmt::Result {
    for (name, account) in scrape.names.accounts.iter().zip(&scrape.report.accounts) {
        for (result, count) in ["worked", "failed"].iter().zip(account.logins) {
            sink.put(&[name, result], count)?;
        }
    }
    Ok(())
}

pub(super) fn share_replicas(scrape: &Scrape, sink: &mut Sink<'_, '_>) -> fmt::Result {
    for (name, standing) in scrape.names.accounts.iter().zip(&scrape.report.shares) {
        if let Some(replicas) = standing.replicas {
            sink.put(&[name], u64::from(replicas))?;
        }
    }
    Ok(())
}

pub(super) fn account_up(scrape: &Scrape, sink: &mut Sink<'_, '_>) -> fmt::Result {
    for (account, path, snapshot) in scrape.paths() {
        if path == Path::Room {
            sink.put(&[account], u64::from(snapshot.gate == GateState::Open))?;
        }
    }
    Ok(())
}

pub(super) fn gate_closed(scrape: &Scrape, sink: &mut Sink<'_, '_>) -> fmt::Result {
    let causes =
        [GateCause::Ban, GateCause::Outage, GateCause::Refused, GateCause::DayQuota].map(GateCause::word);
    for (account, path, snapshot) in scrape.paths() {
        let now = match &snapshot.gate {
            GateState::Open => None,
            GateState::Closed { cause, .. } | GateState::Probing { cause } => Some(cause.word()),
            GateState::LoggingIn => Some("login"),
        };
        for cause in causes.into_iter().chain(["login"]) {
            sink.put(&[account, path.word(), cause], u64::from(now == Some(cause)))?;
        }
    }
    Ok(())
}

pub(super) fn waiting(scrape: &Scrape, sink: &mut Sink<'_, '_>) -> fmt::Result {
    for (account, path, snapshot) in scrape.paths() {
        let waiting = &snapshot.waiting;
        let causes = [
            ("quota", waiting.quota),
            ("share", waiting.share),
            ("pace", waiting.pace),
            ("backoff", waiting.backoff),
            ("order", waiting.order),
            ("gate", waiting.gate),
        ];
        for (cause, count) in causes {
            sink.put(&[account, path.word(), cause], count as u64)?;
        }
    }
    Ok(())
}
