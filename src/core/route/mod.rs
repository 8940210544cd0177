//! Routes: what an event becomes.
//!
//! [`Rules`] is the config's routes, compiled once. [`Rules::plan`] decodes a record, finds the
//! first route that takes it and renders its messages; it cannot fail, because whatever goes wrong
//! is a letter or a counted drop.

pub mod filter;

use std::sync::Arc;

use super::model::{AccountId, Plan, Record, SourceId};
use super::provider::Provider;
use super::schedule::RoutePolicy;
use super::section::Section;

/// An account as routes see it.
#[derive(Clone, Debug)]
pub struct AccountView {
    /// Its id.
    pub id: AccountId,
    /// Its name.
    pub name: Arc<str>,
    /// Its provider.
    pub provider: Arc<dyn Provider>,
}

/// All routes, compiled.
#[derive(Debug)]
pub struct Rules {}

impl Rules {
    /// Compiles `[[routes]]`, `[retry]` and each source's `unmatched`, `payload` and `key_format`.
    /// `root` is the whole config, not finished here; `sources` are the sections of the sources.
    pub fn build(
        root: &Section<'_>,
        accounts: &[AccountView],
        sources: &[(SourceId, &Section<'_>)],
        max_rooms_per_event: usize,
    ) -> Option<Self> {
        let _ = (root, accounts, sources, max_rooms_per_event);
        None
    }

    /// What becomes of a record.
    pub fn plan(&self, record: &Record) -> Plan {
        Plan {
            route: None,
            account: None,
            base: super::model::BaseId(uuid::Uuid::nil()),
            messages: Vec::new(),
            failures: Vec::new(),
            dropped: record.value.is_none().then_some(super::model::DropReason::Tombstone),
        }
    }

    /// What the scheduler must know of each route, by `RouteId`.
    pub fn policies(&self) -> Vec<RoutePolicy> {
        Vec::new()
    }
}
