//! This process's share of each account's quotas: what sources and the keeper of leases tell goes into
//! `core::share`, and what comes of it to the scheduler.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tracing::info;

use super::{AccountParts, Driver};
use crate::core::model::{AccountId, PartitionId, Path, SourceId};
use crate::core::provider::{Outcome, Throttle};
use crate::core::share::lease::{News, Told};
use crate::core::share::settings::Sharing;
use crate::core::share::spread::{Spread, Unit};
use crate::core::share::{Grant, Growth, Quotas, Standing};
use crate::core::time::{Mono, Now};

/// A reader that has not heard of its NATS server for so long sends no more: another may read by then
/// plus the longest call, which is when its pin ends at the earliest (`ack_wait` + 10 s).
const CUT_OFF: Duration = Duration::from_secs(3);
/// The longest call that is surely over when a pin ends.
const LONGEST: Duration = Duration::from_secs(7);

/// What tells of leases, and is told of bans; one for the whole process.
#[derive(Default)]
pub struct Leases {
    /// Shares as they come; `None` where no account has leases.
    pub told: Option<UnboundedReceiver<(AccountId, Told)>>,
    /// By account: who keeps its leases.
    pub keepers: Vec<(AccountId, UnboundedSender<News>)>,
}

/// The shares of all accounts.
pub(super) struct Shares {
    accounts: Vec<Shared>,
    pub(super) leases: Leases,
    /// Sources without a connection, and since when.
    cut_off: Vec<(SourceId, Mono)>,
    /// All partitions of sources that told them.
    orders: BTreeMap<SourceId, Vec<PartitionId>>,
}

struct Shared {
    sharing: Sharing,
    quotas: Quotas,
    /// Where partitions or readers decide.
    spread: Option<Spread>,
    first: Option<Grant>,
    standing: Standing,
}

impl Shares {
    pub(super) fn new(accounts: &[AccountParts], leases: Leases) -> Self {
        let of = |account: &AccountParts| {
            Shared::new(account.sharing.clone(), account.quotas.clone(), account.provider.timeout())
        };
        let accounts = accounts.iter().map(of).collect();
        Self { accounts, leases, cut_off: Vec::new(), orders: BTreeMap::new() }
    }

    /// How each account's quotas are shared, by `AccountId`.
    pub(super) fn standings(&self) -> Vec<Standing> {
        self.accounts.iter().map(|account| account.standing.clone()).collect()
    }

    /// The next news of a lease; never, where there are none.
    pub(super) async fn told(leases: &mut Leases) -> Option<(AccountId, Told)> {
        match &mut leases.told {
            Some(told) => told.recv().await,
            None => std::future::pending().await,
        }
    }

    fn spreads(&mut self) -> impl Iterator<Item = (&Sharing, &mut Spread)> {
        self.accounts.iter_mut().filter_map(|account| Some((&account.sharing, account.spread.as_mut()?)))
    }
}

impl Shared {
    fn new(sharing: Sharing, quotas: Quotas, timeout: Duration) -> Self {
        let none = Grant::lasting(quotas.none(), Growth::Handed);
        let all = quotas.clone();
        let (spread, first) = match &sharing {
            Sharing::Whole => (None, None),
            Sharing::Fixed { max_replicas } => {
                (None, Some(Grant::lasting(quotas.fixed(*max_replicas), Growth::Fresh)))
            }
            Sharing::Leased { .. } => (None, Some(none)),
            Sharing::Partitions(_) => (Some(Spread::partitions(all)), Some(none)),
            Sharing::Readers(sources) => {
                let growth = if timeout <= LONGEST { Growth::Fresh } else { Growth::Handed };
                (Some(Spread::readers(all, sources.iter().map(reader), growth)), Some(none))
            }
        };
        let replicas = match &sharing {
            Sharing::Fixed { max_replicas } => Some(*max_replicas),
            _ => None,
        };
        let standing = Standing { kind: sharing.word(), replicas, why: String::new() };
        Self { sharing, quotas, spread, first, standing }
    }
}

fn reader(source: &SourceId) -> Unit {
    Unit(u32::from(source.0))
}

fn units(partitions: &[PartitionId]) -> impl Iterator<Item = Unit> {
    partitions.iter().map(|partition| Unit(partition.0))
}

impl Driver {
    /// Before anything is sent: what is shared is nobody's until it is told whose it is.
    pub(super) fn begin_shares(&mut self, now: Now) {
        for (account, id) in self.shares.accounts.iter().zip(0..) {
            if let Some(grant) = &account.first {
                self.scheduler.handle_share(AccountId(id), grant, now);
            }
        }
    }

    /// Partitions of a source are ours; `order` has all that there are.
    pub(super) fn share_assigned(
        &mut self,
        source: SourceId,
        partitions: &[PartitionId],
        order: Option<&[PartitionId]>,
        now: Now,
    ) {
        if let Some(order) = order {
            self.shares.orders.insert(source, order.to_vec());
        }
        for (sharing, spread) in self.shares.spreads() {
            match sharing {
                Sharing::Partitions(of) if *of == source => {
                    if let Some(order) = order {
                        spread.handle_order(units(order).collect(), now.mono);
                    }
                    spread.handle_held(units(partitions));
                }
                Sharing::Readers(of) if of.contains(&source) && !partitions.is_empty() => {
                    spread.handle_held([reader(&source)]);
                }
                _ => {}
            }
        }
        self.tell_shares(now);
    }

    /// Partitions of a source are going or gone.
    pub(super) fn share_gone(&mut self, source: SourceId, partitions: &[PartitionId], now: Now) {
        for (sharing, spread) in self.shares.spreads() {
            match sharing {
                Sharing::Partitions(of) if *of == source => spread.handle_gone(units(partitions)),
                Sharing::Readers(of) if of.contains(&source) => spread.handle_gone([reader(&source)]),
                _ => {}
            }
        }
        self.tell_shares(now);
    }

    /// A source has its connection, or has lost it.
    pub(super) fn share_connection(&mut self, source: SourceId, is_up: bool, now: Now) {
        let known = self.shares.cut_off.iter().position(|(of, _)| *of == source);
        match known {
            None if !is_up => self.shares.cut_off.push((source, now.mono)),
            Some(place) if is_up => {
                let (_, since) = self.shares.cut_off.remove(place);
                let is_reading = !self.sources[usize::from(source.0)].partitions.is_empty();
                if is_reading && now.mono.since(since) >= CUT_OFF {
                    for (_, spread) in self.shares.spreads().filter(|(sharing, _)| reads(sharing, source)) {
                        spread.handle_held([reader(&source)]);
                    }
                    self.tell_shares(now);
                }
            }
            _ => {}
        }
    }

    /// Quotas, or how they are shared, are others from now on. Smaller ones hold at once; what is gained
    /// is gained as if others had had it.
    pub(super) fn reload_shares(&mut self, accounts: Vec<(Sharing, Quotas, Duration)>, now: Now) {
        for ((sharing, quotas, timeout), id) in accounts.into_iter().zip(0..) {
            let of = &mut self.shares.accounts[usize::from(id)];
            let is_same = of.sharing == sharing;
            if is_same && of.quotas == quotas {
                continue;
            }
            let old = std::mem::replace(of, Shared::new(sharing, quotas.clone(), timeout));
            match &of.sharing {
                Sharing::Whole => {
                    let all = Grant::lasting(quotas.whole(), Growth::Handed);
                    self.scheduler.handle_share(AccountId(id), &all, now);
                }
                Sharing::Fixed { max_replicas } => {
                    let part = Grant::lasting(quotas.fixed(*max_replicas), Growth::Handed);
                    self.scheduler.handle_share(AccountId(id), &part, now);
                }
                Sharing::Leased { .. } => {
                    of.standing = old.standing;
                    let keepers = self.shares.leases.keepers.iter();
                    for (_, keeper) in keepers.filter(|(of, _)| *of == AccountId(id)) {
                        // A keeper that has ended keeps nothing.
                        let _ = keeper.send(News::Quotas(Box::new(quotas.clone()), timeout));
                    }
                }
                Sharing::Partitions(_) | Sharing::Readers(_) if is_same => {
                    (of.spread, of.standing) = (old.spread, old.standing);
                    if let Some(spread) = &mut of.spread {
                        spread.set_quotas(quotas);
                    }
                }
                Sharing::Partitions(_) | Sharing::Readers(_) => self.spread_anew(AccountId(id), now),
            }
        }
        self.tell_shares(now);
    }

    /// What this process holds of what an account's quotas are spread over from now on.
    fn spread_anew(&mut self, account: AccountId, now: Now) {
        let of = &mut self.shares.accounts[usize::from(account.0)];
        let Some(spread) = &mut of.spread else { return };
        match &of.sharing {
            Sharing::Partitions(source) => {
                if let Some(order) = self.shares.orders.get(source) {
                    spread.handle_order(units(order).collect(), now.mono);
                }
                let held = self.sources[usize::from(source.0)].partitions.keys();
                spread.handle_held(held.map(|partition| Unit(partition.0)));
            }
            Sharing::Readers(sources) => {
                let reads = |source: &&SourceId| !self.sources[usize::from(source.0)].partitions.is_empty();
                spread.handle_held(sources.iter().filter(reads).map(reader));
            }
            _ => {}
        }
        // Others had it by the rule before.
        spread.handle_frozen();
    }

    /// After the process stood still: what it holds it may have lost, and learns of it soon. Until then
    /// nothing is its own. (Leases have ended by themselves; a fixed part is nobody else's.)
    pub(super) fn doubt_shares(&mut self, now: Now) {
        for (account, id) in self.shares.accounts.iter_mut().zip(0..) {
            if let (Some(spread), Some(none)) = (&mut account.spread, &account.first) {
                spread.handle_frozen();
                self.scheduler.handle_share(AccountId(id), none, now);
            }
        }
        self.tell_shares(now);
    }

    /// What is due with time: orders that bind no longer, readers that are cut off, counts of the day
    /// to be read anew.
    pub(super) fn tick_shares(&mut self, now: Now) {
        let cut_off: Vec<SourceId> = self
            .shares
            .cut_off
            .iter()
            .filter(|(_, since)| now.mono.since(*since) >= CUT_OFF)
            .map(|(source, _)| *source)
            .collect();
        for source in cut_off {
            for (_, spread) in self.shares.spreads().filter(|(sharing, _)| reads(sharing, source)) {
                spread.handle_doubt(reader(&source));
            }
        }
        self.tell_shares(now);
        let counts = &self.counts;
        let recounts = self.scheduler.take_recounts(now, |account| counts.is_read(account));
        if !recounts.is_empty() {
            let used = self.counts.read_again(&recounts, now.wall);
            self.restore(&used);
        }
    }

    /// A lease was renewed, has grown, shrunk or ended, or another replica met a ban.
    pub(super) fn handle_told(&mut self, account: AccountId, told: Told, now: Now) {
        self.scheduler.handle_share(account, &told.grant, now);
        self.shares.accounts[usize::from(account.0)].standing = told.standing;
        for (path, wait) in told.bans {
            self.scheduler.handle_ban_elsewhere(account, path, wait, now);
        }
    }

    /// Tells the other replicas of a ban that an answer told of.
    pub(super) fn share_ban(&self, account: AccountId, path: Path, outcomes: &[Outcome], now: Now) {
        let keepers = &self.shares.leases.keepers;
        let Some((_, keeper)) = keepers.iter().find(|(of, _)| *of == account) else { return };
        let waits = outcomes.iter().filter_map(|outcome| match outcome {
            Outcome::Throttled { scope: Throttle::Path(wait), .. } => Some(*wait),
            Outcome::Throttled { scope: Throttle::PathUntilMidnight, .. } => {
                Some(now.wall.until_next_utc_day())
            }
            _ => None,
        });
        if let Some(wait) = waits.max() {
            // A keeper that has ended has nobody to tell.
            let _ = keeper.send(News::Ban(path, wait));
        }
    }

    fn tell_shares(&mut self, now: Now) {
        for (account, id) in self.shares.accounts.iter_mut().zip(0..) {
            let Some(spread) = &mut account.spread else { continue };
            let Some(grant) = spread.poll_grant(now.mono) else { continue };
            let (held, all) = spread.units();
            let what =
                if matches!(account.sharing, Sharing::Partitions(_)) { "partitions" } else { "sources" };
            account.standing.why = format!("{held} of {all} {what}");
            info!(account = %self.accounts[usize::from(id)].name, held, all, what, "share of the quotas");
            self.scheduler.handle_share(AccountId(id), &grant, now);
        }
    }
}

fn reads(sharing: &Sharing, source: SourceId) -> bool {
    matches!(sharing, Sharing::Readers(of) if of.contains(&source))
}
