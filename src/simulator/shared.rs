//! What all connections of a running simulator share: a judge behind a lock that is held for
//! microseconds. Requests are judged in the order in which they take it, and that instant is their
//! arrival. Reading a request needs no lock, writing the answer neither.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::clock::Clock;
use super::faults::Armed;
use super::floor::Stats;
use super::judge::{self, Judge, Knobs, Plan, Request};
use super::log::{Entry, Filter};
use super::rule::{BadRule, Endpoint, Rule};
use super::{Options, Provider, easemob, yunxin};
use crate::core::time::Mono;

/// The part of a simulator that all its connections share.
#[derive(Debug)]
pub(super) struct Shared {
    pub options: Options,
    /// Counts changes of the rules, so that an outage begins and ends at once.
    pub changed: watch::Sender<u64>,
    /// True once the simulator is to stop.
    pub stop: watch::Sender<bool>,
    judge: Mutex<Judge>,
}

impl Shared {
    pub(super) fn new(options: Options, host: String) -> Result<Self, BadRule> {
        let knobs = Knobs {
            provider: options.provider.clone(),
            window: options.window,
            seed: options.seed,
            log_entries: options.log_entries,
            remembered_ids: options.remembered_ids,
        };
        let mut judge = Judge::new(&knobs, host);
        judge.set_faults(options.faults.clone(), options.clock.now().mono)?;
        Ok(Self {
            changed: watch::Sender::new(0),
            stop: watch::Sender::new(false),
            judge: Mutex::new(judge),
            options,
        })
    }

    pub(super) fn clock(&self) -> &dyn Clock {
        &*self.options.clock
    }

    pub(super) fn endpoint(&self, path: &str) -> Endpoint {
        match &self.options.provider {
            Provider::Easemob(_) => easemob::endpoint(path),
            Provider::Yunxin(_) => yunxin::endpoint(path),
        }
    }

    /// Reads and judges a request.
    pub(super) fn take(&self, request: &Request) -> Plan {
        let mut asked = judge::read(&self.options.provider, request, self.options.log_content_bytes);
        let mut judge = self.judge();
        let mut plan = judge.take(&mut asked, &request.headers, self.clock().now());
        plan.due = plan.due + self.options.latency;
        plan
    }

    /// Whether this request's connection is to be reset before its body is read.
    pub(super) fn resets(&self, endpoint: Endpoint) -> bool {
        let now = self.clock().now().mono;
        self.judge().resets(endpoint, now)
    }

    /// Whether there is an outage now, and when it ends.
    pub(super) fn outage(&self) -> Option<Option<Mono>> {
        let now = self.clock().now().mono;
        self.judge().outage(now)
    }

    pub(super) fn set_faults(&self, rules: Vec<Rule>) -> Result<(), BadRule> {
        let now = self.clock().now().mono;
        self.judge().set_faults(rules, now)?;
        self.changed.send_modify(|changes| *changes += 1);
        Ok(())
    }

    pub(super) fn add_faults(&self, rules: Vec<Rule>) -> Result<(), BadRule> {
        let now = self.clock().now().mono;
        self.judge().add_faults(rules, now)?;
        self.changed.send_modify(|changes| *changes += 1);
        Ok(())
    }

    pub(super) fn faults(&self) -> Vec<Armed> {
        self.judge().faults()
    }

    pub(super) fn revoke_tokens(&self) {
        self.judge().revoke_tokens();
    }

    pub(super) fn stats(&self) -> Stats {
        let app = match &self.options.provider {
            Provider::Easemob(knobs) => format!("{}/{}", knobs.org, knobs.app),
            Provider::Yunxin(knobs) => knobs.app_key.clone(),
        };
        Stats { app, ..self.judge().stats() }
    }

    /// The entries that the filter takes, in their order. The lock is let go between pieces, so that
    /// a reader of a long log does not hold up requests.
    pub(super) fn log(&self, filter: &Filter) -> Vec<Entry> {
        const PIECE: usize = 4_096;
        let mut found = Vec::new();
        let mut from = filter.from;
        loop {
            let judge = self.judge();
            let mut looked = 0;
            for entry in judge.log_from(from).take(PIECE) {
                if filter.limit.is_some_and(|limit| found.len() >= limit) {
                    return found;
                }
                looked += 1;
                from = entry.seq + 1;
                if filter.takes(entry) {
                    found.push(entry.clone());
                }
            }
            if looked < PIECE {
                return found;
            }
        }
    }

    pub(super) fn warn(&self, warning: String) {
        self.judge().warn(warning);
    }

    /// A panic of one request (there is none that is known) must not end the others.
    fn judge(&self) -> MutexGuard<'_, Judge> {
        self.judge.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
