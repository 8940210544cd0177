//! The config that runs, as far as letters are measured by it: what the routes make of them today.
//!
//! A dry run and a letter's page are told by it, on the command line and over HTTP alike.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value as Json, json};

use super::chain::Shown;
use super::place::Place;
use crate::core::explain::{self, Looked, Told, requests};
use crate::core::model::{AccountId, Plan, Record, SourceId};
use crate::core::provider::{Provider, Stamp};
use crate::core::replay;
use crate::core::route::Rules;

/// Opens directories as far as they are files that can be read. Blocks.
pub type LookUp = Arc<dyn Fn() -> Looked + Send + Sync>;

/// The routes and what they name.
#[derive(Clone)]
pub struct Today {
    /// The routes.
    pub rules: Arc<Rules>,
    /// Names and providers, by `AccountId`.
    pub accounts: Vec<(Arc<str>, Arc<dyn Provider>)>,
    /// Names of sources, by `SourceId`.
    pub sources: Vec<Arc<str>>,
    /// Opens its directories.
    pub look_up: LookUp,
}

impl fmt::Debug for Today {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Today").field("sources", &self.sources).finish_non_exhaustive()
    }
}

impl Today {
    /// An account's name and provider.
    pub fn account(&self, AccountId(id): AccountId) -> (&str, &dyn Provider) {
        let (name, provider) = &self.accounts[usize::from(id)];
        (name, &**provider)
    }

    /// The source of that name.
    pub fn source(&self, name: &str) -> Option<SourceId> {
        let at = self.sources.iter().position(|source| **source == *name)?;
        u16::try_from(at).ok().map(SourceId)
    }

    /// What the daemons would make of a request for a letter of that place.
    pub fn plan(&self, request: &Record, place: &Place, looked: &Looked) -> Plan {
        // A topic has a source, which the config has.
        let beside = place.sources.first().and_then(|source| self.source(source)).unwrap_or(SourceId(0));
        self.rules.plan_request(request, beside, &looked.directories)
    }

    /// The record that a letter was written for, as it would come from its source today. `value`: what
    /// [`rescued`] found.
    ///
    /// # Errors
    /// Why it is not known what would become of it.
    pub fn record(&self, shown: &Shown, value: Option<Result<Bytes, String>>) -> Result<Record, String> {
        let told = &shown.found.told;
        let mut record = replay::restored(&shown.found.record, told);
        if let Some(value) = value {
            let lost = |why| format!("the letter could not keep its value, and {why}");
            record.value = Some(value.map_err(lost)?);
        }
        let gone = || format!("the config has no source {:?} any more", told.source);
        record.id.source = self.source(&told.source).ok_or_else(gone)?;
        Ok(record)
    }

    /// What would become of a record, for those who tell it.
    pub fn explained<T>(
        &self,
        record: &Record,
        looked: &Looked,
        stamp: &Stamp,
        tell: impl FnOnce(&Told<'_>) -> T,
    ) -> T {
        let found = explain::found(&self.rules, record, looked);
        let account = |id| self.account(id);
        tell(&Told {
            source: &self.sources[usize::from(record.id.source.0)],
            topic: &record.origin.topic,
            requests: requests::of(account, &found.plan.messages, record.maybe_tried, stamp),
            found: &found,
            policies: &self.rules.policies_by_id(),
            now: stamp.at,
        })
    }

    /// What would become of a letter's event, for machines; under `error` why that is not known. Blocks.
    pub fn json(&self, shown: &Shown, value: Option<Result<Bytes, String>>, stamp: &Stamp) -> Json {
        match self.record(shown, value) {
            Ok(record) => self.explained(&record, &(self.look_up)(), stamp, |told: &Told<'_>| told.json()),
            Err(why) => json!({ "error": why }),
        }
    }
}

/// The value of a letter that could not keep it, from where it stood; `None` where it kept it.
pub async fn rescued(places: &[Place], shown: &Shown) -> Option<Result<Bytes, String>> {
    let told = &shown.found.told;
    told.truncated.as_ref()?;
    let archive = places.iter().find_map(|place| place.of_sources.get(&told.source))?;
    Some(match archive.value_at(told.origin.clone()).await {
        Ok(Some(value)) => Ok(value),
        Ok(None) => Err("the broker has its record no more".to_owned()),
        Err(why) => Err(why),
    })
}
