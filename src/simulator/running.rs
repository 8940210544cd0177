//! A simulator that serves: what it is made of, its start, and its end.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::task::JoinHandle;

use super::clock::{Clock, SystemClock};
use super::shared::Shared;
use super::{Armed, BadRule, Easemob, Entry, Filter, Provider, Rule, Shape, Stats, Yunxin, server};

/// What a simulator is made of. [`Options::easemob`] and [`Options::yunxin`] give the defaults.
#[derive(Clone, Debug)]
pub struct Options {
    /// Which service, and its app.
    pub provider: Provider,
    /// Where it listens; port 0 is any free one.
    pub listen: SocketAddr,
    /// From a request's arrival to its answer. Timers are good to a millisecond.
    pub latency: Duration,
    /// How windows of a second and of a minute are counted.
    pub window: Shape,
    /// Every chance is drawn from it.
    pub seed: u64,
    /// Log entries that are kept at least; about 250 bytes each.
    pub log_entries: usize,
    /// Bytes of each content that the log keeps.
    pub log_content_bytes: usize,
    /// Accepted message ids that are remembered, to tell repeats.
    pub remembered_ids: usize,
    /// What goes wrong from the start.
    pub faults: Vec<Rule>,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

impl Options {
    /// Easemob on a free port of the loopback address, with the page's limits.
    pub fn easemob(knobs: Easemob) -> Self {
        Self::new(Provider::Easemob(knobs))
    }

    /// Yunxin on a free port of the loopback address, with the page's limits.
    pub fn yunxin(knobs: Yunxin) -> Self {
        Self::new(Provider::Yunxin(knobs))
    }

    fn new(provider: Provider) -> Self {
        Self {
            provider,
            listen: (Ipv4Addr::LOCALHOST, 0).into(),
            latency: Duration::ZERO,
            window: Shape::Sliding,
            seed: 1,
            log_entries: 1_000_000,
            log_content_bytes: 96,
            remembered_ids: 1_000_000,
            faults: Vec::new(),
            clock: Arc::new(SystemClock::default()),
        }
    }
}

/// A running simulator. Dropped, it ends at once, with every connection.
#[derive(Debug)]
pub struct Simulator {
    shared: Arc<Shared>,
    addr: SocketAddr,
    task: JoinHandle<()>,
}

/// Starts a simulator; it serves when this returns. Must be called within a tokio runtime.
///
/// # Errors
/// The address is taken or cannot be had; a fault rule is wrong.
pub fn start(options: Options) -> anyhow::Result<Simulator> {
    let wanted = options.listen;
    let (place, listener) =
        server::Place::take(wanted).with_context(|| format!("the simulator cannot listen on {wanted}"))?;
    let addr = place.addr;
    let shared = Arc::new(Shared::new(options, addr.to_string())?);
    let task = tokio::spawn(server::run(Arc::clone(&shared), place, listener));
    Ok(Simulator { shared, addr, task })
}

impl Simulator {
    /// What an account's `base_url` has to be: `http://127.0.0.1:port`, with `/nimserver` for Yunxin.
    /// `/_sim/…` is to be had behind it.
    pub fn base_url(&self) -> String {
        let prefix = match self.shared.options.provider {
            Provider::Easemob(_) => "",
            Provider::Yunxin(_) => "/nimserver",
        };
        format!("http://{}{prefix}", self.addr)
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The whole log, as far as it is kept.
    pub fn log(&self) -> Vec<Entry> {
        self.shared.log(&Filter::default())
    }

    /// The part of the log that a filter takes.
    pub fn log_of(&self, filter: &Filter) -> Vec<Entry> {
        self.shared.log(filter)
    }

    /// What all members of a room saw, in their order.
    pub fn seen_in(&self, room: &str) -> Vec<Entry> {
        let filter = Filter { room: Some(room.to_owned()), seen: Some(true), ..Filter::default() };
        let mut seen = self.shared.log(&filter);
        seen.retain(|entry| entry.order != Some(0));
        seen
    }

    /// The numbers so far.
    pub fn stats(&self) -> Stats {
        self.shared.stats()
    }

    /// Puts these rules in the place of all others.
    ///
    /// # Errors
    /// A rule is wrong; then none has changed.
    pub fn set_faults(&self, rules: Vec<Rule>) -> Result<(), BadRule> {
        self.shared.set_faults(rules)
    }

    /// The rules that stand, with how often each has happened.
    pub fn faults(&self) -> Vec<Armed> {
        self.shared.faults()
    }

    /// Ends every Easemob token given out so far.
    pub fn revoke_tokens(&self) {
        self.shared.revoke_tokens();
    }

    /// Takes no more requests, gives the answers it owes, and ends. Black holes are closed.
    pub async fn stop(mut self) {
        self.shared.stop.send_replace(true);
        // The task ends with an error only when it panicked, and then it has ended as well.
        drop((&mut self.task).await);
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        self.task.abort();
    }
}
