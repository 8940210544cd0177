//! One asking for replays, for all its dead-letter topics: joined, counted or planned, and asked for.
//!
//! The command line and the API both ask so; they differ in whom they tell of it.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use super::ask::{self, Ended, Tally, Target, Wish};
use super::place::Place;
use super::plan::{self, Plan, Scene};
use super::rate::{Pace, Rate};
use super::rows::{Rows, Verdicts};
use super::today::Today;
use super::{Found, scan_into};
use crate::broker::Archive;
use crate::core::explain::Looked;
use crate::core::model::{AccountId, Record};
use crate::core::time::Wall;

/// How long reading the state table may take to begin, and then to get on.
const PATIENCE: Duration = Duration::from_secs(120);

/// A dead-letter topic whose table is followed.
#[derive(Debug)]
pub struct Joined {
    /// The topic.
    pub place: Place,
    /// What became of its letters.
    pub rows: Rows,
    /// Daemons that read its sources.
    pub readers: usize,
}

impl Joined {
    /// Reads the table once more from its beginning: what stands in it now is known afterwards.
    ///
    /// # Errors
    /// Why it cannot be read.
    pub async fn follow_again(&mut self) -> Result<(), String> {
        self.place.archive.follow(self.rows.listen_again());
        self.rows.current(PATIENCE).await
    }
}

/// An asking that is ready to begin.
pub struct Asking {
    /// What is asked for.
    pub wish: Wish,
    /// Where.
    pub joined: Vec<Joined>,
    /// By source: who finds values that letters could not keep.
    values: BTreeMap<String, Arc<dyn Archive>>,
}

impl Asking {
    /// Joins: the state tables are read and followed. One that is missing is made.
    ///
    /// # Errors
    /// What a broker says.
    pub async fn join(places: &[Place], wish: Wish) -> Result<Self, String> {
        let (mut joined, mut values) = (Vec::new(), BTreeMap::new());
        for place in places {
            let mut readers = 0;
            for archive in place.of_sources.values() {
                readers += archive.readers().await?;
            }
            values.extend(place.of_sources.clone());
            // Makes the table when it is missing; it could not be followed.
            place.archive.table().load(|_| false).await?;
            let (mut rows, told) = Rows::listen();
            place.archive.follow(told);
            rows.current(PATIENCE).await?;
            joined.push(Joined { place: place.clone(), rows, readers });
        }
        Ok(Self { wish, joined, values })
    }

    /// How many letters will be asked for.
    ///
    /// # Errors
    /// What a broker says.
    pub async fn count(&self) -> Result<u64, String> {
        let mut letters = HashSet::new();
        for Joined { place, rows, .. } in &self.joined {
            let (into, mut found) = mpsc::channel::<Found>(1);
            let count = async {
                while let Some(found) = found.recv().await {
                    let letter = found.told.letter;
                    if ask::may(found.state, &self.wish.query) {
                        letters.insert(letter);
                    }
                }
            };
            let scan = scan_into(&*place.archive, |letter| rows.of(letter), &self.wish.query, into);
            tokio::join!(scan, count).0?;
        }
        Ok((letters.len() as u64).min(self.wish.limit.unwrap_or(u64::MAX)))
    }

    /// What asking would do, by the config and its directories.
    ///
    /// # Errors
    /// What a broker says.
    pub async fn plan(&self, today: &Today, looked: &Looked, now: Wall) -> Result<Plan, String> {
        let rooms_per_call = |account: AccountId| today.account(account).1.limits().rooms_per_call;
        let mut all = Plan::default();
        for joined in &self.joined {
            let render = |request: &Record| today.plan(request, &joined.place, looked);
            let scene = Scene { render: &render, rooms_per_call: &rooms_per_call, now };
            plan::plan(&self.target(joined), &self.wish, &scene, &mut all).await?;
        }
        Ok(all)
    }

    /// Asks; how far it came stands in `tally`. Once `stop` is true, what is under way is finished.
    pub async fn ask(
        &self,
        rate: Option<Rate>,
        tally: &watch::Sender<Tally>,
        stop: watch::Receiver<bool>,
    ) -> Ended {
        let mut pace = Pace::new(rate);
        for joined in &self.joined {
            match ask::ask(&self.target(joined), &self.wish, &mut pace, tally, stop.clone()).await {
                Ended::Through => {}
                ended => return ended,
            }
        }
        Ended::Through
    }

    fn target<'a>(&'a self, joined: &'a Joined) -> Target<'a> {
        let Joined { place, rows, .. } = joined;
        Target { archive: &*place.archive, rows, values: self.values.clone() }
    }

    /// What became of the letters that were asked for.
    pub fn verdicts(&self) -> Verdicts {
        let mut all = Verdicts::default();
        self.joined.iter().for_each(|joined| all.add(&joined.rows.verdicts()));
        all
    }
}
