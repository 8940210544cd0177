//! Calls of a UTC day, kept in the table beside a source's letters, so that a restart does not
//! forget what was sent.
//!
//! Each process writes rows of its own (`count/<account>/<path>/<utc day>/<holder>`), before the
//! call that they count; the sum over the holders is what the account has used. Rows are read once,
//! at the start; until then a count waits, and with it its call.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use bytes::Bytes;
use tokio::sync::mpsc::UnboundedSender;
use tracing::warn;
use uuid::Uuid;

use super::AccountParts;
use super::tasks::Reply;
use crate::broker::Table;
use crate::core::letter::Names;
use crate::core::model::{AccountId, Path, SourceId};
use crate::core::time::Wall;

/// The first word of every row of this file.
const PREFIX: &str = "count";

/// One count that waits to be written.
#[derive(Clone, Copy)]
struct Count {
    account: AccountId,
    path: Path,
    utc_day: i64,
    calls: u32,
}

/// The counts of all accounts.
pub(super) struct Counts {
    /// This process, in the names of its rows.
    holder: String,
    accounts: Vec<Counted>,
    /// Counts whose table was not read yet.
    waiting: Vec<Count>,
    /// What earlier processes have used, by account, path and day: the scheduler's numbers have it
    /// in them, this process's rows have not.
    earlier: BTreeMap<(AccountId, Path, i64), u32>,
    answer_to: UnboundedSender<Reply>,
}

struct Counted {
    name: Arc<str>,
    source: Option<SourceId>,
    table: Option<Arc<dyn Table>>,
    loaded: bool,
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
        let accounts = accounts
            .iter()
            .enumerate()
            .map(|(n, account)| {
                let by_day = account.provider.limits().paths.iter().any(|path| path.calls_per_day.is_some());
                let source = account.counted_by.filter(|_| by_day);
                let table = source.and_then(|source| tables.get(usize::from(source.0)).cloned());
                if let (Some(source), Some(table)) = (source, &table) {
                    needed.insert(source, table.clone());
                }
                let name = names.accounts.get(n).cloned().unwrap_or_else(|| Arc::from("?"));
                Counted { name, source, table, loaded: false }
            })
            .collect();
        for (source, table) in needed {
            load(source, table, answer_to.clone());
        }
        let holder = Uuid::new_v4().simple().to_string();
        Self { holder, accounts, waiting: Vec::new(), earlier: BTreeMap::new(), answer_to }
    }

    /// Takes the rows of a table in and returns what was used today: account, path, day, calls.
    /// Counts that waited for it are written.
    pub(super) fn loaded(
        &mut self,
        source: SourceId,
        rows: &[(String, Bytes)],
        now: Wall,
    ) -> Vec<(AccountId, Path, i64, u32)> {
        let mut used = BTreeMap::new();
        for (key, value) in rows {
            let Some((account, path, utc_day)) = self.read_key(key, source) else { continue };
            let calls = std::str::from_utf8(value).ok().and_then(|text| text.parse::<u32>().ok());
            if utc_day == now.utc_day()
                && let Some(calls) = calls
            {
                let sum: &mut u32 = used.entry((account, path, utc_day)).or_default();
                *sum = sum.saturating_add(calls);
            }
        }
        for account in self.accounts.iter_mut().filter(|account| account.source == Some(source)) {
            account.loaded = true;
        }
        // Those that waited were counted without what came before; so are the rows.
        for count in std::mem::take(&mut self.waiting) {
            self.write(count.account, count.path, count.utc_day, count.calls);
        }
        self.earlier.extend(used.iter().map(|(key, calls)| (*key, *calls)));
        used.into_iter().map(|((account, path, utc_day), calls)| (account, path, utc_day, calls)).collect()
    }

    /// Writes how many calls the day has seen, with the one that is about to be made, and answers
    /// when that is confirmed.
    pub(super) fn write(&mut self, account: AccountId, path: Path, utc_day: i64, calls: u32) {
        let counted = &self.accounts[usize::from(account.0)];
        let Some(table) = counted.table.clone() else {
            let _ = self.answer_to.send(Reply::Counted { account, path });
            return;
        };
        if !counted.loaded {
            self.waiting.push(Count { account, path, utc_day, calls });
            return;
        }
        let own = calls - self.earlier.get(&(account, path, utc_day)).copied().unwrap_or(0).min(calls);
        let key = format!("{PREFIX}/{}/{}/{utc_day}/{}", counted.name, path.word(), self.holder);
        let (name, answer_to) = (counted.name.clone(), self.answer_to.clone());
        tokio::spawn(async move {
            let value = Bytes::from(own.to_string());
            patiently(&format!("the count of account {name}"), || table.put(key.clone(), value.clone())).await;
            let _ = answer_to.send(Reply::Counted { account, path });
        });
    }

    /// The account, path and day of a row of one of the accounts that this source counts.
    fn read_key(&self, key: &str, source: SourceId) -> Option<(AccountId, Path, i64)> {
        let mut words = key.split('/');
        if words.next() != Some(PREFIX) {
            return None;
        }
        let name = words.next()?;
        let nth = self.accounts.iter().position(|a| a.source == Some(source) && &*a.name == name)?;
        let word = words.next()?;
        let path = Path::ALL.into_iter().find(|path| path.word() == word)?;
        let day = words.next()?.parse().ok()?;
        Some((AccountId(u16::try_from(nth).ok()?), path, day))
    }
}

/// Reads a table for as long as it takes.
fn load(source: SourceId, table: Arc<dyn Table>, answer_to: UnboundedSender<Reply>) {
    tokio::spawn(async move {
        let rows = patiently("the state table", || table.load()).await;
        let _ = answer_to.send(Reply::Loaded { source, rows });
    });
}

/// Repeats until it works, with growing waits of up to 30 s.
async fn patiently<T, F: Future<Output = Result<T, String>>>(what: &str, attempt: impl FnMut() -> F) -> T {
    let waits = ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(250))
        .with_max_delay(Duration::from_secs(30))
        .without_max_times()
        .with_jitter();
    let result = attempt
        .retry(waits)
        .sleep(tokio::time::sleep)
        .notify(|error: &String, wait| warn!(what, error, ?wait, "not done, trying again"))
        .await;
    result.unwrap_or_else(|error| unreachable!("a backoff without an end ended: {error}"))
}
