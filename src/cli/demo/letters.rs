//! The demo's dead letters, worked as `roomcast letters` works them: read from the topic, asked for by a row and
//! a request, and discarded by a row.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, ensure};
use bytes::Bytes;
use uuid::Uuid;

use super::ledger::event_of;
use super::stage::TAG_HEADER;
use crate::broker::Archive;
use crate::clock::Clock;
use crate::core::decode::KeyFormat;
use crate::core::letter::LetterId;
use crate::core::model::{Class, Record};
use crate::core::replay::{Asked, Content, Patch, Row, State};
use crate::letters::query::Query;
use crate::letters::states::States;
use crate::letters::{self, Found};

/// Who works them.
const BY: &str = "demo";
/// How often the states are looked at while some letter is under way.
const LOOK: Duration = Duration::from_millis(100);

/// Where letters are worked.
pub struct Office {
    /// The letters.
    pub archive: Arc<dyn Archive>,
}

impl Office {
    /// Letters in one of these states, of that class where it is named.
    async fn find(&self, class: Option<&str>, state: Option<State>) -> anyhow::Result<Vec<Found>> {
        let states = States::load(&*self.archive.table()).await.map_err(|why| anyhow!(why))?;
        let classes = Class::ALL.into_iter().filter(|known| Some(known.word()) == class).collect();
        let query = Query { classes, states: state.into_iter().collect(), ..Query::default() };
        let mut found = Vec::new();
        let take = |letter| {
            found.push(letter);
            true
        };
        letters::scan(&*self.archive, &states, &query, take).await.map_err(|why| anyhow!(why))?;
        Ok(found)
    }

    async fn open_one(&self, class: &str) -> anyhow::Result<Found> {
        let mut found = self.find(Some(class), Some(State::Open)).await?;
        ensure!(found.len() == 1, "{} open letters of class {class}, and one was expected", found.len());
        Ok(found.remove(0))
    }

    async fn set(&self, letter: LetterId, row: &Row) -> anyhow::Result<()> {
        let put = self.archive.table().put(Row::key(letter), Bytes::from(row.write())).await;
        put.map_err(|why| anyhow!(why))
    }

    /// Replays the open letter of that class; the event that it is of.
    pub async fn replay(&self, class: &str, patch: Option<&str>) -> anyhow::Result<usize> {
        let Found { told, record, .. } = self.open_one(class).await?;
        let event = event(&record).context("a letter of an event that nobody produced")?;
        let (id, now) = (Uuid::new_v4(), Clock::start().wall());
        let row = Row { request: Some(id), ..Row::new(State::Requested, BY, now) };
        let mut letter = record;
        if let Some(patch) = patch {
            let patch = Patch::compile(patch).map_err(|refusal| anyhow!("{refusal:?}"))?;
            letter.value = Some(patch.apply(&letter, KeyFormat::Text).map_err(|why| anyhow!(why))?);
        }
        self.set(told.letter, &row).await?;
        let asked = Asked { id, by: BY.to_owned(), at: now, content: Content::Current, keep_ttl: false };
        self.archive.request(letter, asked.headers()).await.map_err(|why| anyhow!(why))?;
        Ok(event)
    }

    /// Discards the open letter of that class.
    pub async fn discard(&self, class: &str, why: &str) -> anyhow::Result<()> {
        let letter = self.open_one(class).await?.told.letter;
        let row = Row { why: why.to_owned(), ..Row::new(State::Discarded, BY, Clock::start().wall()) };
        self.set(letter, &row).await
    }

    /// How many letters are in each state that is not open, once none is under way any more.
    pub async fn states(&self, patience: Duration) -> anyhow::Result<BTreeMap<&'static str, u64>> {
        let end = Instant::now() + patience;
        let mut look = tokio::time::interval(LOOK);
        loop {
            look.tick().await;
            let mut states = BTreeMap::new();
            for letter in self.find(None, None).await? {
                *states.entry(letter.state).or_default() += 1;
            }
            if !states.contains_key(&State::Requested) || Instant::now() >= end {
                states.remove(&State::Open);
                return Ok(states.into_iter().map(|(state, count)| (state.word(), count)).collect());
            }
        }
    }
}

/// The event that a letter is of.
fn event(record: &Record) -> Option<usize> {
    event_of(&String::from_utf8_lossy(record.header(TAG_HEADER)?))
}
