//! How far a partition is finished, over the offsets that were really received.
//!
//! A [`Watermark`] is told what was received and what was finished, and says how far the broker may
//! forget: the first received offset that is not finished, else one past the last received one.
//! Offsets have gaps (compaction, transaction markers), so nothing is ever counted on that was not
//! received. What is finished above the watermark travels in the commit's metadata, so that one
//! record that waits does not make a restart post again what came after it. Pure bookkeeping: it
//! commits nothing itself; the Kafka source does.

use std::collections::{BTreeSet, VecDeque};
use std::ops::Range;

/// The most bytes of [`Watermark::metadata`]: `offset.metadata.max.bytes`, the broker's default.
pub const METADATA_MAX: usize = 4_096;

/// Bytes of metadata at which intake of the partition should stop: 75 %, so that what is already
/// on its way still has room.
pub const METADATA_FULL: usize = METADATA_MAX / 4 * 3;

/// Bytes of metadata below which intake may go on.
pub const METADATA_EASY: usize = METADATA_MAX / 2;

/// Begins every metadata text of this codec; another version begins otherwise and is ignored.
const MAGIC: &str = "rc1";

/// Digits of six bits each, all of them ASCII: those of base64url.
const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// In a run's length, the bit that says that more digits follow.
const MORE: u64 = 32;

/// What a received offset is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// To be worked on.
    New,
    /// Finished already, as the commit's metadata tells: to be skipped.
    Finished,
    /// Not above the last received one: the broker has gone back, and this watermark means nothing
    /// any more. Nothing was taken in.
    Backwards,
}

/// The state of one partition under one assignment.
#[derive(Clone, Debug)]
pub struct Watermark {
    /// Received and not finished.
    open: BTreeSet<i64>,
    /// One past the last received offset; at the start, the offset that is asked for first.
    next: i64,
    /// Finished by the metadata and not received again: ascending, apart from each other, all of
    /// them ending above `next`.
    restored: VecDeque<Range<i64>>,
}

impl Watermark {
    /// An assignment that begins at `start`, with the metadata of the commit of that offset.
    /// Metadata that is empty, of another version, for another offset or garbled is a plain start.
    pub fn new(start: i64, metadata: &str) -> Self {
        Self {
            open: BTreeSet::new(),
            next: start,
            restored: decode(start, metadata).unwrap_or_default().into(),
        }
    }

    /// Takes in a received offset.
    pub fn receive(&mut self, offset: i64) -> Received {
        if offset < self.next {
            return Received::Backwards;
        }
        self.next = offset + 1;
        let finished =
            self.restored.iter().find(|range| range.end > offset).is_some_and(|r| r.start <= offset);
        while self.restored.front().is_some_and(|range| range.end <= self.next) {
            self.restored.pop_front();
        }
        if finished {
            return Received::Finished;
        }
        self.open.insert(offset);
        Received::New
    }

    /// Marks a received offset as finished; false when it was not open.
    pub fn finish(&mut self, offset: i64) -> bool {
        self.open.remove(&offset)
    }

    /// How far the broker may forget: the offset to commit. Never falls.
    pub fn offset(&self) -> i64 {
        match (self.open.first(), self.restored.front()) {
            (Some(first), _) => *first,
            (None, Some(range)) if range.start <= self.next => range.end,
            (None, _) => self.next,
        }
    }

    /// How many received offsets are not finished.
    pub fn open(&self) -> usize {
        self.open.len()
    }

    /// One past the last received offset.
    pub fn next(&self) -> i64 {
        self.next
    }

    /// What is finished above [`Watermark::offset`], for the metadata of its commit: ASCII, at most
    /// [`METADATA_MAX`] bytes, empty when there is nothing. If not all of it fits, the lowest
    /// offsets are kept: the rest would be done again after a crash, which loses nothing.
    pub fn metadata(&self) -> String {
        let base = self.offset();
        let finished = self.finished_above(base);
        let Some(end) = finished.last().map(|range| range.end) else { return String::new() };
        let head = format!("{MAGIC}{{}}{base}:");
        let space = METADATA_MAX - head.len();
        let bits = u64::try_from(end - base).unwrap_or(u64::MAX);
        let runs = encode_runs(base, &finished, space);
        let whole_bitmap = usize::try_from(bits.div_ceil(6)).unwrap_or(usize::MAX);
        if whole_bitmap < runs.text.len() || (runs.cut && whole_bitmap <= space) {
            return head.replace("{}", "b") + &encode_bitmap(base, &finished, whole_bitmap);
        }
        if runs.cut && runs.end - base < bits_in(space) {
            return head.replace("{}", "b") + &encode_bitmap(base, &finished, space);
        }
        head.replace("{}", "r") + &runs.text
    }

    /// Finished ranges above `base`, ascending, never empty, never touching each other.
    fn finished_above(&self, base: i64) -> Vec<Range<i64>> {
        let mut ranges: Vec<Range<i64>> = Vec::new();
        let mut add = |range: Range<i64>| match ranges.last_mut() {
            _ if range.is_empty() => {}
            Some(last) if last.end >= range.start => last.end = last.end.max(range.end),
            _ => ranges.push(range),
        };
        let mut from = base;
        for offset in &self.open {
            add(from..*offset);
            from = offset + 1;
        }
        add(from..self.next);
        for range in &self.restored {
            add(range.start.max(from)..range.end);
        }
        ranges
    }
}

/// How many offsets a bitmap of so many digits tells of.
fn bits_in(digits: usize) -> i64 {
    i64::try_from(digits * 6).unwrap_or(i64::MAX)
}

/// Lengths of runs, open and finished by turns, from the base on.
struct Runs {
    text: String,
    /// One past the last offset told of.
    end: i64,
    /// Whether `space` was too small for all.
    cut: bool,
}

fn encode_runs(base: i64, finished: &[Range<i64>], space: usize) -> Runs {
    let mut runs = Runs { text: String::new(), end: base, cut: false };
    for range in finished {
        let kept = runs.text.len();
        push_number(&mut runs.text, range.start - runs.end);
        push_number(&mut runs.text, range.end - range.start);
        if runs.text.len() > space {
            runs.text.truncate(kept);
            runs.cut = true;
            break;
        }
        runs.end = range.end;
    }
    runs
}

/// A number in digits of five bits, the lowest first; all but the last carry [`MORE`].
fn push_number(text: &mut String, number: i64) {
    let mut rest = u64::try_from(number).expect("runs have no negative length");
    while rest >= MORE {
        text.push(digit(rest % MORE + MORE));
        rest /= MORE;
    }
    text.push(digit(rest));
}

/// One bit for each offset from the base on, six to a digit, the lowest first: set when finished.
fn encode_bitmap(base: i64, finished: &[Range<i64>], digits: usize) -> String {
    let mut bits = vec![0u8; digits];
    let end = base.saturating_add(bits_in(digits));
    for offset in finished.iter().flat_map(|range| range.start.min(end)..range.end.min(end)) {
        let bit = usize::try_from(offset - base).expect("ranges lie above the base");
        bits[bit / 6] |= 1 << (bit % 6);
    }
    bits.into_iter().map(|six| digit(u64::from(six))).collect()
}

fn digit(six_bits: u64) -> char {
    char::from(DIGITS[usize::try_from(six_bits).expect("six bits") & 63])
}

fn value(digit: u8) -> Option<u64> {
    DIGITS.iter().position(|d| *d == digit).and_then(|place| u64::try_from(place).ok())
}

/// The finished ranges that a metadata text tells of; `None` when it is not ours or not whole.
fn decode(base: i64, metadata: &str) -> Option<Vec<Range<i64>>> {
    if metadata.len() > METADATA_MAX || !metadata.is_ascii() {
        return None;
    }
    let (kind, rest) = metadata.strip_prefix(MAGIC)?.split_at_checked(1)?;
    let (offset, data) = rest.split_once(':')?;
    if offset.parse::<i64>().ok()? != base || base < 0 {
        return None;
    }
    match kind {
        "b" => decode_bitmap(base, data.as_bytes()),
        "r" => decode_runs(base, data.as_bytes()),
        _ => None,
    }
}

fn decode_bitmap(base: i64, data: &[u8]) -> Option<Vec<Range<i64>>> {
    let mut ranges: Vec<Range<i64>> = Vec::new();
    for (place, digit) in data.iter().enumerate() {
        let six = value(*digit)?;
        for bit in (0..6).filter(|bit| six >> bit & 1 == 1) {
            let offset = base.checked_add(i64::try_from(place * 6 + bit).ok()?)?;
            let end = offset.checked_add(1)?;
            match ranges.last_mut() {
                Some(last) if last.end == offset => last.end = end,
                _ => ranges.push(offset..end),
            }
        }
    }
    Some(ranges)
}

fn decode_runs(base: i64, data: &[u8]) -> Option<Vec<Range<i64>>> {
    let mut ranges = Vec::new();
    let (mut at, mut rest) = (base, data);
    while !rest.is_empty() {
        let open = take_number(&mut rest)?;
        let finished = take_number(&mut rest)?;
        // The base itself is open, and two finished runs never touch: anything else is not ours.
        if open == 0 || finished == 0 {
            return None;
        }
        let start = at.checked_add(open)?;
        at = start.checked_add(finished)?;
        ranges.push(start..at);
    }
    Some(ranges)
}

fn take_number(rest: &mut &[u8]) -> Option<i64> {
    let mut number: u64 = 0;
    for shift in (0..60).step_by(5) {
        let (digit, tail) = rest.split_first()?;
        *rest = tail;
        let bits = value(*digit)?;
        number |= (bits % MORE) << shift;
        if bits < MORE {
            return i64::try_from(number).ok();
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(start: i64, received: &[i64], finished: &[i64]) -> Watermark {
        let mut mark = Watermark::new(start, "");
        for offset in received {
            assert_eq!(mark.receive(*offset), Received::New);
        }
        for offset in finished {
            assert!(mark.finish(*offset));
        }
        mark
    }

    #[test]
    fn the_first_open_offset_is_the_watermark() {
        let table: &[(&[i64], &[i64], i64)] = &[
            (&[], &[], 5),
            (&[5], &[], 5),
            (&[5], &[5], 6),
            (&[5, 6, 7], &[6, 7], 5),
            (&[5, 6, 7], &[5, 7], 6),
            (&[5, 6, 7], &[7, 6, 5], 8),
            (&[9, 20], &[9], 20), // a gap before the open one
            (&[9, 20], &[20], 9), // the gap is not finished work to stop at
            (&[9], &[9], 10),     // a start that compaction took away
        ];
        for (received, finished, wanted) in table {
            assert_eq!(after(5, received, finished).offset(), *wanted, "{received:?} {finished:?}");
        }
    }

    #[test]
    fn what_was_not_received_cannot_be_finished() {
        let mut mark = after(0, &[0, 1], &[1]);
        assert!(!mark.finish(1), "twice");
        assert!(!mark.finish(2), "never received");
        assert_eq!(mark.offset(), 0);
        assert_eq!(mark.open(), 1);
        assert_eq!(mark.receive(1), Received::Backwards);
        assert_eq!(mark.offset(), 0, "a record that goes back changes nothing");
    }

    #[test]
    fn finished_offsets_survive_a_restart() {
        let mark = after(100, &[100, 101, 102, 105, 106, 107], &[101, 105, 107]);
        assert_eq!(mark.offset(), 100);
        let mut again = Watermark::new(mark.offset(), &mark.metadata());
        let seen: Vec<Received> = [100, 101, 102, 105, 106, 107, 108].map(|o| again.receive(o)).to_vec();
        use Received::{Finished, New};
        assert_eq!(seen, [New, Finished, New, Finished, New, Finished, New]);
    }

    #[test]
    fn metadata_is_kept_when_the_partition_leaves_before_it_was_read_again() {
        let mark = after(0, &[0, 1, 2, 3, 4, 5], &[1, 2, 4]);
        let mut second = Watermark::new(0, &mark.metadata());
        assert_eq!(second.metadata(), mark.metadata());
        assert_eq!(second.receive(0), Received::New);
        assert!(second.finish(0));
        assert_eq!(second.offset(), 3, "1 and 2 are finished by the metadata");
        let mut third = Watermark::new(3, &second.metadata());
        assert_eq!(third.receive(3), Received::New);
        assert_eq!(third.receive(4), Received::Finished);
        assert_eq!(third.receive(5), Received::New);
    }

    #[test]
    fn metadata_that_is_not_ours_is_a_plain_start() {
        let good = after(7, &[7, 8], &[8]).metadata();
        assert_eq!(Watermark::new(7, &good).finished_above(7), vec![8..9]);
        let long = format!("rc1b7:{}", "_".repeat(METADATA_MAX));
        for text in [
            "",
            "x",
            "rc1",
            "rc1b",
            "rc1b7",
            "rc1b8:_",
            "rc1x7:_",
            "rc2b7:_",
            "rc1r7:AA",
            "rc1r7:B",
            "rc1r7:B!",
            "rc1b7: ",
            "rc1r7:BAB",
            "rc1r7:____________________",
            "rc1b7:é",
            "rc1b-7:_",
            "{\"v\":1}",
            &long,
        ] {
            let mark = Watermark::new(7, text);
            assert_eq!(mark.offset(), 7, "{text:?}");
            assert!(mark.finished_above(7).is_empty(), "{text:?}");
        }
        let far = format!("rc1r{}:BB", i64::MAX);
        assert!(Watermark::new(i64::MAX, &far).restored.is_empty(), "beyond the last offset");
    }

    #[test]
    fn one_open_record_before_many_finished_ones_costs_a_few_bytes() {
        let all: Vec<i64> = (0..200_000).collect();
        let mark = after(0, &all, &all[1..]);
        assert!(mark.metadata().len() < 16, "{}", mark.metadata());
    }

    #[test]
    fn what_does_not_fit_is_cut_at_the_top() {
        // Pairs by turns: runs need a digit each, the bitmap a sixth of one, and neither has the room.
        let all: Vec<i64> = (0..60_000).collect();
        let every_other: Vec<i64> = all.iter().copied().filter(|o| o % 2 == 1).collect();
        let mark = after(0, &all, &every_other);
        let text = mark.metadata();
        assert!(text.len() <= METADATA_MAX && text.len() > METADATA_FULL, "{}", text.len());
        let mut again = Watermark::new(0, &text);
        let skipped = all.iter().filter(|o| again.receive(**o) == Received::Finished).count();
        assert!(skipped > 12_000, "{skipped} kept");
    }

    /// The naive truth: every offset with what became of it.
    struct Model {
        log: Vec<i64>,
        finished: BTreeSet<i64>,
        committed: i64,
        metadata: String,
    }

    /// A partition with gaps, read and finished in any order, committed and restarted at any moment.
    fn one_life(seed: u64) -> (usize, usize) {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut at = rng.i64(0..1_000);
        let start = at;
        let length = rng.usize(1..400);
        let log: Vec<i64> = (0..length)
            .map(|_| {
                at += if rng.u8(0..10) == 0 { rng.i64(1..50) } else { 1 };
                at
            })
            .collect();
        let mut model = Model { log, finished: BTreeSet::new(), committed: start, metadata: String::new() };
        let mut mark = Watermark::new(start, "");
        let mut open: Vec<i64> = Vec::new();
        let (mut cursor, mut told, mut checked, mut restarts, mut skipped) = (0, start, start, 0, 0);
        for _ in 0..rng.usize(10..2_000) {
            match rng.u8(0..100) {
                0..=44 if cursor < model.log.len() => {
                    let offset = model.log[cursor];
                    cursor += 1;
                    match mark.receive(offset) {
                        Received::New => open.push(offset),
                        Received::Finished => {
                            assert!(model.finished.contains(&offset), "seed {seed}: {offset} was skipped");
                            skipped += 1;
                        }
                        Received::Backwards => panic!("seed {seed}: {offset} is not backwards"),
                    }
                }
                45..=92 if !open.is_empty() => {
                    let offset = open.swap_remove(rng.usize(0..open.len()));
                    assert!(mark.finish(offset), "seed {seed}");
                    model.finished.insert(offset);
                }
                93..=97 => {
                    model.committed = mark.offset();
                    model.metadata = mark.metadata();
                    assert!(model.metadata.len() <= METADATA_MAX && model.metadata.is_ascii());
                }
                98..=99 => {
                    restarts += 1;
                    let text = if rng.u8(0..8) == 0 {
                        garbled(&model.metadata, &mut rng)
                    } else {
                        model.metadata.clone()
                    };
                    mark = Watermark::new(model.committed, &text);
                    if text != model.metadata && decode(model.committed, &text).is_some() {
                        // A garbled text may by chance still be one: then it is not the truth.
                        mark = Watermark::new(model.committed, "");
                    }
                    open.clear();
                    cursor = model.log.partition_point(|o| *o < model.committed);
                    told = model.committed;
                }
                _ => {}
            }
            let now = mark.offset();
            assert!(now >= told, "seed {seed}: fell from {told} to {now}");
            told = now;
            let since = model.log.partition_point(|o| *o < checked.min(now));
            checked = now;
            let passed =
                model.log[since..].iter().take_while(|o| **o < now).find(|o| !model.finished.contains(o));
            assert_eq!(passed, None, "seed {seed}: {now} passes an open offset");
            if open.is_empty() && cursor > 0 {
                assert!(now > model.log[cursor - 1], "seed {seed}: nothing is open and {now} lags");
            }
        }
        (restarts, skipped)
    }

    fn garbled(text: &str, rng: &mut fastrand::Rng) -> String {
        let mut bytes = text.as_bytes().to_vec();
        for _ in 0..rng.usize(1..4) {
            match bytes.len() {
                0 => bytes.push(rng.u8(32..127)),
                length => bytes[rng.usize(0..length)] = rng.u8(32..127),
            }
        }
        String::from_utf8(bytes).expect("only ASCII was put in")
    }

    #[test]
    fn thousands_of_lives_agree_with_the_naive_model() {
        let (mut restarts, mut skipped) = (0, 0);
        for seed in 0..4_000 {
            let (r, s) = one_life(seed);
            restarts += r;
            skipped += s;
        }
        assert!(restarts > 10_000 && skipped > 50_000, "{restarts} restarts, {skipped} skipped: too tame");
    }
}
