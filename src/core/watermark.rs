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

/// The longest head: magic, kind, an offset of 63 bits, a colon.
const HEAD_MAX: usize = MAGIC.len() + 1 + 19 + 1;

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

    /// Adds what the metadata of another commit, of `offset`, tells to be finished.
    pub fn also_finished(&mut self, offset: i64, metadata: &str) {
        let mut all: Vec<Range<i64>> = self.restored.drain(..).collect();
        all.extend(decode(offset, metadata).unwrap_or_default());
        all.retain(|range| range.end > self.next);
        all.sort_unstable_by_key(|range| range.start);
        let mut joined = Vec::new();
        all.into_iter().for_each(|range| join(&mut joined, range));
        self.restored = joined.into();
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

    /// The most that [`Watermark::metadata`] can come to for what was received, in bytes, whatever of
    /// it is finished next: never grows unless more is received. 0 when all of it is finished. What
    /// an earlier process finished above the last received offset is not counted: that it is told of
    /// takes no more space once it is received.
    pub fn metadata_at_most(&self) -> usize {
        let Some(base) = self.open.first() else { return 0 };
        let bits = usize::try_from(self.next - base).unwrap_or(usize::MAX);
        let bitmap = HEAD_MAX + bits.div_ceil(6);
        if bitmap < METADATA_EASY {
            return bitmap;
        }
        // Each open offset costs at most a digit for itself, and the digits of the finished run that
        // follows it: when it is finished too, the runs beside it join and take no more.
        let following = self.open.iter().skip(1).chain([&self.next]);
        let cost = |(open, after): (&i64, &i64)| 1 + digits(after - open - 1);
        let runs: usize = self.open.iter().zip(following).map(cost).sum();
        bitmap.min(HEAD_MAX + runs)
    }

    /// Finished ranges above `base`, ascending, never empty, never touching each other.
    fn finished_above(&self, base: i64) -> Vec<Range<i64>> {
        let mut ranges = Vec::new();
        let mut from = base;
        for offset in &self.open {
            join(&mut ranges, from..*offset);
            from = offset + 1;
        }
        join(&mut ranges, from..self.next);
        for range in &self.restored {
            join(&mut ranges, range.start.max(from)..range.end);
        }
        ranges
    }
}

/// Adds a range that begins no earlier than the last one, to which it is joined where they touch.
fn join(ranges: &mut Vec<Range<i64>>, range: Range<i64>) {
    match ranges.last_mut() {
        _ if range.is_empty() => {}
        Some(last) if last.end >= range.start => last.end = last.end.max(range.end),
        _ => ranges.push(range),
    }
}

/// How many digits of five bits a run takes; none, where there is none.
fn digits(run: i64) -> usize {
    let bits = i64::BITS - run.leading_zeros();
    usize::try_from(bits.div_ceil(5)).expect("a few digits")
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
    let mut ranges = Vec::new();
    for (place, digit) in data.iter().enumerate() {
        let six = value(*digit)?;
        for bit in (0..6).filter(|bit| six >> bit & 1 == 1) {
            let offset = base.checked_add(i64::try_from(place * 6 + bit).ok()?)?;
            join(&mut ranges, offset..offset.checked_add(1)?);
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
#[path = "watermark_tests.rs"]
mod tests;
