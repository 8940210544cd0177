//! The way to the loop's end: calls and letters land, sources commit and give back.

use tracing::{error, info};

use super::{Driver, Ended, Phase, STOP_WITHIN, SourceState};
use crate::broker::Command;
use crate::core::time::Now;

impl Driver {
    /// Goes on towards the end, once that was asked for.
    pub(super) fn step(&mut self, now: Now) -> Option<Ended> {
        let all_ended = self.sources.iter().all(|source| source.report.state.is_ended());
        match self.phase {
            Phase::Running if all_ended && !self.sources.is_empty() => {
                error!("every source has ended by itself: nothing is left to do");
                Some(Ended::TimedOut)
            }
            Phase::Running => None,
            Phase::Draining(until) => {
                let drained = self.scheduler.is_idle();
                if drained || now.mono >= until {
                    let snapshot = self.scheduler.snapshot(now);
                    info!(
                        drained,
                        calls_away = snapshot.calls_away,
                        letters_waiting = snapshot.letters_waiting,
                        "stopping the sources"
                    );
                    self.tell_all(&Command::Stop);
                    self.phase = Phase::Stopping { until: now.mono + STOP_WITHIN, drained };
                    return self.step(now);
                }
                None
            }
            Phase::Stopping { drained, .. } if all_ended => {
                let clean = self.sources.iter().all(|source| source.report.state == SourceState::Ended(None));
                Some(if drained && clean { Ended::Drained } else { Ended::TimedOut })
            }
            Phase::Stopping { until, .. } if now.mono >= until => {
                for source in self.sources.iter().filter(|source| !source.report.state.is_ended()) {
                    error!(source = %source.name, within = ?STOP_WITHIN, "the source did not end in time");
                }
                Some(Ended::TimedOut)
            }
            Phase::Stopping { .. } => None,
        }
    }
}
