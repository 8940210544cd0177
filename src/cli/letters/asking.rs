//! One run of `letters replay`: joined to the brokers, asking, waiting for the verdicts of the daemons or of
//! its own pipeline.

use std::pin::pin;
use std::time::Duration;

use futures_util::future::select_all;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::time::{Instant, interval_at};

use super::Opened;
use super::alone::{Alone, Running};
use super::lines::Lines;
use super::stalled::{self, Stalled};
use crate::cli::output;
use crate::letters::ask::{Ended, Tally, Wish};
use crate::letters::asking::{Asking, Joined};
use crate::letters::rate::Rate;
use crate::letters::rows::Verdict;
use crate::letters::summary::{Earlier, Summary};

/// How often it is looked why nothing goes on, and after which time for the first time.
const LOOK: Duration = Duration::from_secs(5);
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

/// A run that is ready to begin.
pub struct Run {
    /// What is asked, and where.
    pub asking: Asking,
    lines: Lines,
    stalled: Stalled,
}

impl Run {
    /// Joins the brokers of what was opened.
    ///
    /// # Errors
    /// What a broker says.
    pub async fn join(opened: &Opened, wish: Wish) -> Result<Self, String> {
        let asking = Asking::join(&opened.places, wish).await?;
        Ok(Self { asking, lines: Lines::new(), stalled: Stalled::new(&opened.app) })
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
        for joined in &mut self.asking.joined {
            match &here {
                Some(_) => joined.readers = 1,
                None if joined.readers == 0 => self.lines.say(&stalled::nobody_reads(&joined.place)),
                None => {}
            }
        }
        let (tally, told) = watch::channel(Tally::default());
        let ended = self.ask(rate, &tally, stopped.clone()).await;
        let tally = told.borrow().clone();
        let is_read = self.asking.joined.iter().any(|joined| joined.readers > 0);
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
        let verdicts = self.asking.verdicts();
        Ok(Summary { request: self.asking.wish.asked.id, tally, verdicts, ended, waited, earlier })
    }

    /// Ends the pipeline, and sees to it that all that it wrote is known. `before`: letters that had been
    /// asked for when it began.
    async fn end(&mut self, here: Running, before: u64) -> Earlier {
        for said in here.end().await {
            self.lines.say(&said);
        }
        for joined in &mut self.asking.joined {
            if joined.rows.verdicts().of(Verdict::Left) + joined.rows.of_others() > 0
                && let Err(why) = joined.follow_again().await
            {
                self.lines.say(&format!("What became of the last letters is not known: {why}"));
            }
        }
        let taken_over: u64 = self.asking.joined.iter().map(|joined| joined.rows.taken_over()).sum();
        let left = self.of_others();
        Earlier { ended: before.saturating_sub(taken_over + left), left }
    }

    fn of_others(&self) -> u64 {
        self.asking.joined.iter().map(|joined| joined.rows.of_others()).sum()
    }

    async fn ask(
        &mut self,
        rate: Option<Rate>,
        tally: &watch::Sender<Tally>,
        stop: watch::Receiver<bool>,
    ) -> Ended {
        let Self { asking, lines, .. } = self;
        let (mut work, mut ticks) = (pin!(asking.ask(rate, tally, stop)), ticks(lines.every()));
        loop {
            tokio::select! {
                biased;
                ended = &mut work => return ended,
                _ = ticks.tick() => lines.show(&tally.borrow(), &asking.verdicts(), true),
            }
        }
    }

    /// Waits for verdicts of those letters that a daemon reads of, and says why, where none come; or of all,
    /// where the pipeline is here, with those that were asked for before.
    async fn wait(&mut self, tally: &Tally, mut stop: watch::Receiver<bool>, here: Option<&Running>) {
        let Self { asking, lines, stalled } = self;
        let (mut ticks, mut looks, mut glances) = (ticks(lines.every()), ticks(LOOK), ticks(GLANCE));
        let mut changed = Instant::now();
        loop {
            let waits = |joined: &Joined| joined.readers > 0 && joined.rows.verdicts().of(Verdict::Left) > 0;
            let is_quiet = |here: &Running| !here.is_busy() && changed.elapsed() >= QUIET;
            let has_earlier = || asking.joined.iter().any(|joined| joined.rows.of_others() > 0);
            let more = here.is_some_and(|here| !is_quiet(here) && has_earlier());
            if !asking.joined.iter().any(waits) && !more {
                return;
            }
            tokio::select! {
                biased;
                Ok(_) = stop.wait_for(|stop| *stop) => return,
                _ = ticks.tick() => lines.show(tally, &asking.verdicts(), false),
                _ = looks.tick(), if here.is_none() => stalled.look(&asking.joined),
                _ = glances.tick(), if here.is_some() => {}
                reasons = stalled.reasons() => reasons.iter().for_each(|reason| lines.say(reason)),
                () = news(&mut asking.joined) => changed = Instant::now(),
            }
        }
    }
}

/// Waits until a row has changed.
async fn news(joined: &mut [Joined]) {
    // `false`: it is not followed any more, which ends with the command alone.
    select_all(joined.iter_mut().map(|joined| Box::pin(joined.rows.changed()))).await;
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
        stopped.send_replace(true);
        output::complain("\nStopping after the letters in progress; once more ends at once.\n");
        next(&mut interrupt, &mut terminate).await;
        std::process::exit(1);
    });
    Ok(stop)
}

async fn next(interrupt: &mut Signal, terminate: &mut Signal) {
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}
