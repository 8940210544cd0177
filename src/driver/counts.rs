//! Calls of a UTC day, kept in the table beside a source's letters, so that a restart does not
//! forget what was sent.
//!
//! Each process writes rows of its own, before the calls that they count:
//! `count/<account>/<path>/<utc day>/<holder>` = `{"calls":3,"last":1769903999123}` (milliseconds
//! since 1970). The sum over the holders is what the account has used. Rows are read at the start, for
//! as long as it takes; the scheduler sends nothing on such a path before. They are read again when
//! this process's share of the day has grown.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::mpsc::UnboundedSender;
use tracing::{debug, warn};
use uuid::Uuid;

use super::AccountParts;
use super::tasks::Reply;
use crate::broker::Table;
use crate::core::letter::Names;
use crate::core::model::{AccountId, Path, SourceId};
use crate::core::share::day::{DayRow, LATE, used};
use crate::core::time::Wall;

/// The first word of every row of this file.
const PREFIX: &str = "count";

/// What was used of a quota by the day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Used {
    pub(super) account: AccountId,
    pub(super) path: Path,
    pub(super) utc_day: i64,
    pub(super) calls: u32,
    /// When the last call was counted.
    pub(super) last: Option<Wall>,
}

/// The counts of all accounts.
pub(super) struct Counts {
    /// This process, in the names of its rows.
    holder: String,
    accounts: Vec<Counted>,
    /// What other processes have used: the scheduler's numbers have it in them, this process's
    /// rows have not.
    earlier: BTreeMap<(AccountId, Path, i64), u32>,
    /// What this process has used.
    own: BTreeMap<(AccountId, Path, i64), u32>,
    /// Sources whose tables are being read.
    reading: BTreeSet<SourceId>,
    answer_to: UnboundedSender<Reply>,
}

struct Counted {
    name: Arc<str>,
    /// Paths that have a quota by the day.
    paths: Vec<Path>,
    table: Option<(SourceId, Arc<dyn Table>)>,
}

impl Counts {
    /// Begins to read the tables of those accounts that have a quota by the day.
    pub(super) fn new(
        accounts: &[AccountParts],
        names: &Names,
        tables: &[Arc<dyn Table>],
        answer_to: UnboundedSender<Reply>,
    ) -> Self {
        let mut needed = BTreeMap::new();
        let mut counted = Vec::new();
        for (n, account) in accounts.iter().enumerate() {
            let limits = account.provider.limits();
            let by_day = |path: &Path| limits.paths[*path as usize].calls_per_day.is_some();
            let paths: Vec<Path> = Path::ALL.into_iter().filter(by_day).collect();
            let table = account.counted_by.filter(|_| !paths.is_empty()).and_then(|source| {
                let table = tables.get(usize::from(source.0))?.clone();
                needed.insert(source, table.clone());
                Some((source, table))
            });
            let name = names.accounts.get(n).cloned().unwrap_or_else(|| Arc::from("?"));
            counted.push(Counted { name, paths, table });
        }
        let reading = needed.keys().copied().collect();
        for (source, table) in needed {
            load(source, table, answer_to.clone());
        }
        let holder = Uuid::new_v4().simple().to_string();
        Self { holder, accounts: counted, earlier: BTreeMap::new(), own: BTreeMap::new(), reading, answer_to }
    }

    /// What is known at once: nothing was used on paths that no table counts.
    pub(super) fn without_table(&self, now: Wall) -> Vec<Used> {
        self.unused(None, now)
    }

    /// Nothing used today, for every counted path of the accounts of one source (or of none).
    fn unused(&self, source: Option<SourceId>, now: Wall) -> Vec<Used> {
        let mut unused = Vec::new();
        for (account, id) in self.accounts.iter().zip(0..) {
            if account.table.as_ref().map(|(source, _)| *source) == source {
                let none = |path: &Path| Used {
                    account: AccountId(id),
                    path: *path,
                    utc_day: now.utc_day(),
                    calls: 0,
                    last: None,
                };
                unused.extend(account.paths.iter().map(none));
            }
        }
        unused
    }

    /// Takes the rows of a table in: what was used of every path that it counts, on the last day
    /// that it was used. The scheduler knows what yesterday's last calls mean for today.
    pub(super) fn loaded(&mut self, source: SourceId, rows: &[(String, Bytes)], now: Wall) -> Vec<Used> {
        self.reading.remove(&source);
        let mut all = self.unused(Some(source), now);
        for place in &mut all {
            let found: Vec<_> = rows.iter().filter_map(|(key, row)| self.read_row(key, row, place)).collect();
            let Some((day, _, last)) = used(found.iter().copied()) else { continue };
            // Own calls are known better than the table has them: some are being written.
            let others = found.into_iter().filter(|row| row.holder != self.holder);
            let others = used(others)
                .filter(|(of, _, last)| *of == day || (*of == day - 1 && last.until_next_utc_day() <= LATE));
            let earlier = others.map_or(0, |(_, calls, _)| calls);
            let own = self.own.get(&(place.account, place.path, day)).copied().unwrap_or(0);
            (place.utc_day, place.calls, place.last) = (day, earlier.saturating_add(own), Some(last));
            self.earlier.insert((place.account, place.path, day), earlier);
        }
        debug!(source = source.0, ?all, "counts of the day read");
        all
    }

    /// Whether the table of an account's counts is not being read just now.
    pub(super) fn is_read(&self, account: AccountId) -> bool {
        let table = self.accounts[usize::from(account.0)].table.as_ref();
        table.is_none_or(|(source, _)| !self.reading.contains(source))
    }

    /// Reads the tables of these paths again; what is known at once, where no table counts them.
    pub(super) fn read_again(&mut self, paths: &[(AccountId, Path)], now: Wall) -> Vec<Used> {
        let mut known = Vec::new();
        for (account, path) in paths.iter().copied() {
            match self.accounts[usize::from(account.0)].table.clone() {
                Some((source, table)) if self.reading.insert(source) => {
                    load(source, table, self.answer_to.clone());
                }
                Some(_) => {}
                None => {
                    let utc_day = now.utc_day();
                    let calls = self.own.get(&(account, path, utc_day)).copied().unwrap_or(0);
                    known.push(Used { account, path, utc_day, calls, last: None });
                }
            }
        }
        known
    }

    /// A row, when it counts this account and path.
    fn read_row<'r>(&self, key: &'r str, value: &[u8], of: &Used) -> Option<DayRow<'r>> {
        let name = &self.accounts[usize::from(of.account.0)].name;
        let mut words = key.split('/');
        if [words.next()?, words.next()?, words.next()?] != [PREFIX, name, of.path.word()] {
            return None;
        }
        let utc_day = words.next()?.parse().ok()?;
        let holder = words.next()?;
        let row: Value = serde_json::from_slice(value).ok()?;
        let calls = u32::try_from(row.get("calls")?.as_u64()?).unwrap_or(u32::MAX);
        Some(DayRow { holder, utc_day, calls, last: Wall(row.get("last")?.as_i64()?) })
    }

    /// Writes how many calls the day has seen, with the one that is about to be made, and answers
    /// when that is confirmed.
    pub(super) fn write(&mut self, account: AccountId, path: Path, utc_day: i64, calls: u32, now: Wall) {
        let own = calls.saturating_sub(self.earlier.get(&(account, path, utc_day)).copied().unwrap_or(0));
        self.own.insert((account, path, utc_day), own);
        let counted = &self.accounts[usize::from(account.0)];
        let answer_to = self.answer_to.clone();
        let Some((_, table)) = counted.table.clone() else {
            let _ = answer_to.send(Reply::Counted { account, path });
            return;
        };
        let key = format!("{PREFIX}/{}/{}/{utc_day}/{}", counted.name, path.word(), self.holder);
        let value = Bytes::from(json!({ "calls": own, "last": now.0 }).to_string());
        tokio::spawn(async move {
            patiently("write the count of the day", || table.put(key.clone(), value.clone())).await;
            let _ = answer_to.send(Reply::Counted { account, path });
        });
    }
}

/// Reads a table for as long as it takes.
fn load(source: SourceId, table: Arc<dyn Table>, answer_to: UnboundedSender<Reply>) {
    tokio::spawn(async move {
        let rows =
            patiently("read the counts of the day", || table.load(|key| key.starts_with(PREFIX))).await;
        let _ = answer_to.send(Reply::Loaded { source, rows });
    });
}

/// Repeats until it works, with growing waits of up to 30 s.
pub(super) async fn patiently<T, F: Future<Output = Result<T, String>>>(
    what: &str,
    attempt: impl FnMut() -> F,
) -> T {
    let waits = ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(250))
        .with_max_delay(Duration::from_secs(30))
        .without_max_times()
        .with_jitter();
    let result = attempt
        .retry(waits)
        .sleep(tokio::time::sleep)
        .notify(|error: &String, wait| warn!(what, error, ?wait, "not possible now, trying again"))
        .await;
    result.unwrap_or_else(|error| unreachable!("a backoff without an end ended: {error}"))
}

impl super::Driver {
    /// Tells the scheduler what was used of quotas by the day. Nothing is sent on such a path before.
    pub(super) fn restore(&mut self, used: &[Used]) {
        for Used { account, path, utc_day, calls, last } in used.iter().copied() {
            self.scheduler.restore_count(account, path, utc_day, calls, last);
        }
    }
}
