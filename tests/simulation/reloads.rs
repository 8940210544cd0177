//! Another config while everything goes on: every process takes it up at the same moment, as a rollout
//! of the file to all of them would have it. Quotas shrink and grow below what the provider allows,
//! the route says other things of failing and waiting, credentials are renewed.

use std::time::Duration;

use roomcast::core::provider::Limits;
use roomcast::core::schedule::{OnExpiry, Renewal, Settings};
use roomcast::core::share::{Grant, Growth, Quotas};
use roomcast::core::time::Mono;

use crate::account::Account;
use crate::faults::Fault;
use crate::process::account_id;
use crate::replicas::Sharing;
use crate::world::{Happening, ProcessNo, World, millis};

/// What an account might send until a reload.
#[derive(Clone, Debug)]
pub struct Former {
    until: Mono,
    limits: Limits,
}

impl Account {
    /// The most that any limit in force within this window said, calls on their way included.
    pub fn limit(&self, window: Duration, now: Mono, of: impl Fn(&Limits) -> Option<u32>) -> Option<u32> {
        let reach = window + self.provider.timeout();
        let former = self.former.iter().filter(|former| now.since(former.until) <= reach);
        former.map(|former| of(&former.limits)).chain([of(&self.limits)]).flatten().max()
    }
}

impl World {
    /// Some reloads while things go wrong.
    pub fn plan_reloads(&mut self) {
        if !self.faults.has(Fault::Reload) {
            return;
        }
        let end = u64::try_from(self.faults_end.since(self.now).as_millis()).expect("short");
        for _ in 0..self.reload_rng.u8(1..6) {
            let at = self.now + millis(self.reload_rng.u64(200..end.max(201)));
            self.plan(at, Happening::Reload);
        }
    }

    /// The config changes.
    pub fn reload(&mut self) {
        self.seen.reloads += 1;
        let processes = u32::try_from(self.processes.len()).expect("few");
        for account in &mut self.accounts {
            let part = self.reload_rng.u32(1..4);
            let limits = less(&account.full, part, processes);
            let limits = std::mem::replace(&mut account.limits, limits);
            account.former.push(Former { until: self.now, limits });
        }
        for (settings, account) in self.settings.accounts.iter_mut().zip(&self.accounts) {
            settings.limits = account.limits.clone();
        }
        let route = &mut self.settings.routes[0];
        route.retry.max_attempts = self.reload_rng.u32(3..10);
        route.on_expiry = if self.reload_rng.bool() { OnExpiry::Drop } else { OnExpiry::DeadLetter };
        self.settings.max_waiting_per_room = self.reload_rng.usize(3..50);
        let renewals = [Renewal::None, Renewal::Calls, Renewal::Credentials];
        let renewals: Vec<Renewal> =
            self.accounts.iter().map(|_| renewals[self.reload_rng.usize(..3)]).collect();
        let settings = self.settings.clone();
        for process in 0..self.processes.len() {
            if self.processes[process].alive && !self.processes[process].stopping {
                self.take_up(process, settings.clone(), &renewals);
                // There may be other directories: all that wait are planned anew.
                let waiting = self.processes[process].scheduler.wake_all();
                self.plan_woken(process, waiting);
            }
        }
    }

    fn take_up(&mut self, process: ProcessNo, settings: Settings, renewals: &[Renewal]) {
        let now = self.now_of(process);
        let of = &mut self.processes[process];
        let routes = of.scheduler.handle_reload(settings, renewals, now).expect("one route");
        of.route = routes[0];
        let replicas = u32::try_from(self.processes.len()).expect("few");
        for account in 0..self.accounts.len() {
            let quotas = Quotas::new(&self.accounts[account].limits, !self.is_keyed);
            let of = &mut self.processes[process];
            let grant = match self.sharing {
                Sharing::Whole => Some(Grant::lasting(quotas.whole(), Growth::Handed)),
                Sharing::Fixed => Some(Grant::lasting(quotas.fixed(replicas), Growth::Handed)),
                Sharing::Partitions => {
                    let spread = &mut of.shares.spreads[account];
                    spread.set_quotas(quotas);
                    spread.poll_grant(now.mono)
                }
                Sharing::Leases => {
                    let book = &mut of.shares.books[account];
                    book.set_quotas(quotas, self.accounts[account].provider.timeout(), now.mono);
                    book.poll_told(now.mono).map(|told| told.grant)
                }
            };
            if let Some(grant) = grant {
                self.processes[process].scheduler.handle_share(account_id(account), &grant, now);
            }
        }
    }
}

/// One of so many parts, never too little for a process to have some.
fn less(full: &Limits, part: u32, processes: u32) -> Limits {
    let mut limits = full.clone();
    let of = |number: u32| (number / part).max(processes * 2).min(number);
    for path in &mut limits.paths {
        path.calls_per_second = of(path.calls_per_second);
        path.messages_per_second = path.messages_per_second.map(of);
        path.calls_per_minute = path.calls_per_minute.map(of);
        path.calls_per_day = path.calls_per_day.map(of);
    }
    limits.room_messages_per_second = of(limits.room_messages_per_second);
    limits.room_high_per_second = limits.room_high_per_second.map(of);
    limits
}
