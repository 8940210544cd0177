//! One run of `letters replay`: joined to the brokers, asking, waiting for the verdicts of the daemons or of
//! its own pipeline.

use std::collections::{BTreeMap, HashSet};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::select_all;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, interval_at};

use super::alone::{Alone, Running};
use super::lines::Lines;
use super::summary::{Earlier, Summary};
use super::{Opened, Place};
use crate::app::App;
use crate::broker::{Archive, Broker};
use crate::cli::{explain, output};
use crate::core::model::{AccountId, Record, SourceId};
use crate::core::time::Wall;
use crate::letters::ask::{self, Ended, Tally, Target, Wish};
use crate::letters::plan::{self, Plan, Scene};
use crate::letters::rate::{Pace, Rate};
use crate::letters::rows::{Rows, Verdict, Verdicts};
use crate::letters::{Found, scan_into};

/// How long reading the state table may take to begin, and then to get on.
const PATIENCE: Duration = Duration::from_secs(120);
/// How often it is looked whether a daemon reads.
const LOOK: Duration = Duration::from_secs(10);
/// How often it is looked whether the pipeline has work.
const GLANCE: Duration = Duration::from_secs(1);
/// How long nothing may happen until letters of earlier requests are taken for such that have none.
const QUIET: Duration = Duration::from_secs(15);

/// Who sends what is asked for.
pub enum Sends {
    /// The daemons.
    Daemons {
        /// Whether their verdicts are waited for.
        waits: bool,
    },
    /// The command itself.
    Here(Box<Alone>),
}

/// A dead-letter topic that is worked on.
struct Joined<'o> {
    place: Place,
    /// Who follows the table.
    broker: &'o dyn Broker,
    rows: Rows,
    /// Daemons that read its sources.
    readers: usize,
}

/// A run that is ready to begin.
pub struct Asking<'o> {
    wish: Wish,
    joined: Vec<Joined<'o>>,
    /// By source: who finds values that letters could not keep.
    values: BTreeMap<String, Arc<dyn Archive>>,
    lines: Lines,
}

impl<'o> Asking<'o> {
    /// Joins: the state tables are read and followed.
    ///
    /// # Errors
    /// What a broker says.
    pub async fn join(opened: &'o Opened, wish: Wish) -> Result<Self, String> {
        let (mut joined, mut values) = (Vec::new(), BTreeMap::new());
        for place in &opened.places {
            let of = |name: &Arc<str>| opened.app.sources.iter().find(|source| source.name == *name);
            let mut readers = 0;
            for source in place.sources.iter().filter_map(of) {
                let archive = source.broker.archive();
                readers += archive.readers().await?;
                values.insert(source.name.to_string(), archive);
            }
            let broker = &*place.sources.first().and_then(of).ok_or("a topic has a source")?.broker;
            // Makes the table when it is missing; it could not be followed.
            place.archive.table().load(|_| false).await?;
            let (mut rows, told) = Rows::listen();
            broker.follow(&broker.state_table(), told);
            rows.current(PATIENCE).await?;
            joined.push(Joined { place: place.clone(), broker, rows, readers });
        }
        Ok(Self { wish, joined, values, lines: Lines::new() })
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

    /// What asking would do.
    ///
    /// # Errors
    /// What a broker says.
    pub async fn plan(&self, app: &App, now: Wall) -> Result<Plan, String> {
        let (directories, _) = explain::directories(app);
        let rooms_per_call =
            |account: AccountId| app.accounts[usize::from(account.0)].provider.limits().rooms_per_call;
        let mut all = Plan::default();
        for Joined { place, rows, .. } in &self.joined {
            let is_beside = |name: &Arc<str>| place.sources.first() == Some(name);
            let beside = app.names.sources.iter().position(is_beside).and_then(|at| u16::try_from(at).ok());
            let beside = SourceId(beside.ok_or("a topic has a source")?);
            let render = |request: &Record| app.rules.plan_request(request, beside, &directories);
            let scene = Scene { render: &render, rooms_per_call: &rooms_per_call, now };
            let target = Target { archive: &*place.archive, rows, values: self.values.clone() };
            plan::plan(&target, &self.wish, &scene, &mut all).await?;
        }
        Ok(all)
    }

    /// Asks, and waits for the verdicts if it is wanted. A pipeline of the command's own works meanwhile, and
    /// is at its end afterwards.
    ///
    /// # Errors
    /// When signals cannot be listened to, or the pipeline cannot be started.
    pub async fn run(mut self, rate: Option<Rate>, sends: Sends) -> Result<Summary, String> {
        let (stop, before) = (stop()?, self.of_others());
        let stopped = stop.subscribe();
        let (waits, here) = match sends {
            Sends::Daemons { waits } => (waits, None),
            Sends::Here(alone) => (true, Some(alone.start(stop)?)),
        };
        for Joined { place, readers, .. } in &mut self.joined {
            match &here {
                Some(_) => *readers = 1,
                None if *readers == 0 => self.lines.say(&nobody(place)),
                None => {}
            }
        }
        let (tally, told) = watch::channel(Tally::default());
        let ended = self.ask(rate, &tally, stopped.clone()).await;
        let tally = told.borrow().clone();
        let is_read = self.joined.iter().any(|joined| joined.readers > 0);
        let waited = waits && is_read && matches!(ended, Ended::Through | Ended::Limit);
        if waited {
            self.wait(&tally, stopped, here.as_ref()).await;
        }
        let earlier = match here {
            Some(here) => Some(self.end(here, before).await),
            None => None,
        };
        self.lines.clear();
        // What came while the last requests were written.
        let verdicts = verdicts(&self.joined);
        Ok(Summary { request: self.wish.asked.id, tally, verdicts, ended, waited, earlier })
    }

    /// Ends the pipeline, and sees to it that all that it wrote is known. `before`: letters that had been
    /// asked for when it began.
    async fn end(&mut self, here: Running, before: u64) -> Earlier {
        for said in here.end().await {
            self.lines.say(&said);
        }
        for Joined { rows, broker, .. } in &mut self.joined {
            if rows.verdicts().of(Verdict::Left) + rows.of_others() > 0 {
                broker.follow(&broker.state_table(), rows.listen_again());
                if let Err(why) = rows.current(PATIENCE).await {
                    self.lines.say(&format!("What became of the last letters is not known: {why}"));
                }
            }
        }
        let taken_over: u64 = self.joined.iter().map(|joined| joined.rows.taken_over()).sum();
        let left = self.of_others();
        Earlier { ended: before.saturating_sub(taken_over + left), left }
    }

    fn of_others(&self) -> u64 {
        self.joined.iter().map(|joined| joined.rows.of_others()).sum()
    }

    async fn ask(
        &mut self,
        rate: Option<Rate>,
        tally: &watch::Sender<Tally>,
        stop: watch::Receiver<bool>,
    ) -> Ended {
        let Self { wish, joined, values, lines } = self;
        let mut pace = Pace::new(rate);
        let asking = async {
            for Joined { place, rows, .. } in &*joined {
                let target = Target { archive: &*place.archive, rows, values: values.clone() };
                match ask::ask(&target, wish, &mut pace, tally, stop.clone()).await {
                    Ended::Through => {}
                    ended => return ended,
                }
            }
            Ended::Through
        };
        let (mut asking, mut ticks) = (pin!(asking), ticks(lines.every()));
        loop {
            tokio::select! {
                biased;
                ended = &mut asking => return ended,
                _ = ticks.tick() => lines.show(&tally.borrow(), &verdicts(joined), true),
            }
        }
    }

    /// Waits for verdicts of those letters that a daemon reads of; or of all, where the pipeline is here, with
    /// those that were asked for before.
    async fn wait(&mut self, tally: &Tally, mut stop: watch::Receiver<bool>, here: Option<&Running>) {
        let Self { joined, lines, .. } = self;
        let (mut ticks, mut looks, mut glances) = (ticks(lines.every()), ticks(LOOK), ticks(GLANCE));
        let mut changed = Instant::now();
        loop {
            let waits =
                |joined: &Joined<'_>| joined.readers > 0 && joined.rows.verdicts().of(Verdict::Left) > 0;
            let is_quiet = |here: &Running| !here.is_busy() && changed.elapsed() >= QUIET;
            let has_earlier = || joined.iter().any(|joined| joined.rows.of_others() > 0);
            let more = here.is_some_and(|here| !is_quiet(here) && has_earlier());
            if !joined.iter().any(waits) && !more {
                return;
            }
            tokio::select! {
                biased;
                Ok(_) = stop.wait_for(|stop| *stop) => return,
                _ = ticks.tick() => lines.show(tally, &verdicts(joined), false),
                _ = looks.tick() => look(joined, lines, here.is_some()).await,
                _ = glances.tick(), if here.is_some() => {}
                () = news(joined) => changed = Instant::now(),
            }
        }
    }
}

/// Waits until a row has changed.
async fn news(joined: &mut [Joined<'_>]) {
    // `false`: it is not followed any more, which ends with the command alone.
    select_all(joined.iter_mut().map(|joined| Box::pin(joined.rows.changed()))).await;
}

/// Looks whether daemons still read, and says so where none does. Waiting goes on: one may come back.
async fn look(joined: &[Joined<'_>], lines: &mut Lines, is_here: bool) {
    for Joined { place, rows, .. } in joined.iter().filter(|joined| joined.readers > 0) {
        if let Some(why) = rows.trouble() {
            lines.say(&format!("The state table is not read now: {why}"));
        }
        // Unknown is not nobody.
        if !is_here && matches!(place.archive.readers().await, Ok(0)) {
            lines.say(&nobody(place));
        }
    }
}

fn nobody(place: &Place) -> String {
    format!(
        "No daemon reads source {} now: requests wait in {} until one runs (--standalone sends from here).",
        place.sources.join(", "),
        place.dead_letter
    )
}

fn verdicts(joined: &[Joined<'_>]) -> Verdicts {
    let mut all = Verdicts::default();
    joined.iter().for_each(|joined| all.add(&joined.rows.verdicts()));
    all
}

fn ticks(every: Duration) -> tokio::time::Interval {
    interval_at(Instant::now() + every, every)
}

/// Becomes true with the first SIGINT or SIGTERM; the second one ends the process at once.
fn stop() -> Result<watch::Sender<bool>, String> {
    let listen = |kind| signal(kind).map_err(|error| format!("signals cannot be listened to: {error}"));
    let (mut interrupt, mut terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
    let (stop, _) = watch::channel(false);
    let stopped = stop.clone();
    tokio::spawn(async move {
        next(&mut interrupt, &mut terminate).await;
        stop.send_replace(true);
        output::complain("\nStopping after the letters in progress; once more ends at once.\n");
        next(&mut interrupt, &mut terminate).await;
        std::process::exit(1);
    });
    Ok(stopped)
}

async fn next(interrupt: &mut Signal, terminate: &mut Signal) {
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}
