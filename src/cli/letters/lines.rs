//! How far a replay is: one line that moves on a terminal, else a line now and then.

use std::collections::VecDeque;
use std::io::IsTerminal as _;
use std::time::Duration;

use tokio::time::Instant;

use crate::cli::output;
use crate::letters::ask::Tally;
use crate::letters::rows::{Verdict, Verdicts};

/// How often a moving line changes.
const MOVES: Duration = Duration::from_millis(250);
/// How often there is a line where none moves.
const EVERY: Duration = Duration::from_secs(10);
/// What is looked back on for the rate.
const WINDOW: Duration = Duration::from_secs(10);
/// Takes a moving line away.
const CLEAR: &str = "\r\x1b[K";

/// Where progress is told.
#[derive(Debug)]
pub struct Lines {
    is_moving: bool,
    is_drawn: bool,
    /// Letters that have a verdict, and when there were so many.
    finals: VecDeque<(Instant, u64)>,
}

impl Lines {
    /// Lines on stderr.
    pub fn new() -> Self {
        Self { is_moving: std::io::stderr().is_terminal(), is_drawn: false, finals: VecDeque::new() }
    }

    /// How often [`Lines::show`] is due.
    pub fn every(&self) -> Duration {
        if self.is_moving { MOVES } else { EVERY }
    }

    /// Shows how far it is. `goes_on`: more is still being asked for.
    pub fn show(&mut self, tally: &Tally, verdicts: &Verdicts, goes_on: bool) {
        let rate = self.rate(verdicts.all() - verdicts.of(Verdict::Left), Instant::now());
        let text = line(tally, verdicts, rate, goes_on);
        match self.is_moving {
            true => output::complain(&format!("{CLEAR}{text}")),
            false => output::complain(&format!("{text}\n")),
        }
        self.is_drawn = self.is_moving;
    }

    /// Says something else.
    pub fn say(&mut self, text: &str) {
        self.clear();
        output::complain(&format!("{text}\n"));
    }

    /// Takes the moving line away.
    pub fn clear(&mut self) {
        if std::mem::take(&mut self.is_drawn) {
            output::complain(CLEAR);
        }
    }

    /// Verdicts a second of late.
    fn rate(&mut self, finals: u64, now: Instant) -> f64 {
        self.finals.push_back((now, finals));
        while self.finals.len() > 2 && self.finals[1].0 + WINDOW <= now {
            self.finals.pop_front();
        }
        let (began, before) = self.finals[0];
        let seconds = now.saturating_duration_since(began).as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "letters of ten seconds")]
        if seconds > 0.0 { (finals - before.min(finals)) as f64 / seconds } else { 0.0 }
    }
}

fn line(tally: &Tally, verdicts: &Verdicts, rate: f64, goes_on: bool) -> String {
    let mut parts = vec![format!("asked {}", tally.asked)];
    for verdict in Verdict::ALL {
        let count = verdicts.of(verdict);
        if count > 0 || matches!(verdict, Verdict::Replayed | Verdict::Left) {
            parts.push(format!("{} {count}", verdict.word().replace('_', " ")));
        }
    }
    if rate > 0.0 {
        parts.push(format!("{rate:.0}/s"));
        let left = verdicts.of(Verdict::Left);
        if left > 0 && !goes_on {
            #[expect(clippy::cast_precision_loss, reason = "an estimate")]
            parts.push(format!("about {} to go", span(left as f64 / rate)));
        }
    }
    parts.join(", ")
}

/// A span of seconds, as exact as people need it.
pub fn span(seconds: f64) -> String {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "bounded right here")]
    let whole = seconds.ceil().clamp(0.0, 1e9) as u64;
    match whole {
        0..=99 => format!("{whole} s"),
        100..=5_999 => format!("{} min", whole.div_ceil(60)),
        6_000..=172_799 => format!("{} h {} min", whole / 3_600, whole % 3_600 / 60),
        _ => format!("{} days", whole.div_ceil(86_400)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_what_there_is() {
        let tally = Tally { asked: 1_200, ..Tally::default() };
        assert_eq!(line(&tally, &Verdicts::default(), 0.0, true), "asked 1200, replayed 0, left 0");
    }

    #[tokio::test(start_paused = true)]
    async fn the_rate_is_that_of_late() {
        let mut lines = Lines { is_moving: false, is_drawn: false, finals: VecDeque::new() };
        let began = Instant::now();
        assert!(lines.rate(0, began).abs() < f64::EPSILON);
        for second in 1..=60 {
            lines.rate(if second < 40 { 0 } else { (second - 39) * 50 }, began + Duration::from_secs(second));
        }
        let rate = lines.rate(21 * 50, began + Duration::from_secs(61));
        assert!((40.0..55.0).contains(&rate), "{rate}");
        assert!(lines.finals.len() < 20);
    }

    #[test]
    fn spans_as_people_say_them() {
        for (seconds, text) in
            [(0.2, "1 s"), (99.0, "99 s"), (100.0, "2 min"), (7_260.0, "2 h 1 min"), (200_000.0, "3 days")]
        {
            assert_eq!(span(seconds), text);
        }
    }
}
