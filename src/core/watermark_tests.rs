//! Watermarks by tables, and thousands of random lives of a partition against a naive model.

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
fn what_is_received_next_is_told() {
    let mut mark = Watermark::new(7, "");
    assert_eq!(mark.next(), 7);
    assert_eq!(mark.receive(9), Received::New);
    assert_eq!(mark.next(), 10);
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
        "rc1r7:BA",
        "rc1r7:AB",
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

/// Where reading starts, and the offsets of a partition with gaps.
fn some_log(rng: &mut fastrand::Rng) -> (i64, Vec<i64>) {
    let mut at = rng.i64(0..1_000);
    let start = at;
    let length = rng.usize(1..400);
    let log = (0..length)
        .map(|_| {
            at += if rng.u8(0..10) == 0 { rng.i64(1..50) } else { 1 };
            at
        })
        .collect();
    (start, log)
}

/// A partition with gaps, read and finished in any order, committed and restarted at any moment.
fn one_life(seed: u64) -> (usize, usize) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let (start, log) = some_log(&mut rng);
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

#[test]
fn p9_what_was_received_below_the_bound_is_told_whole_whatever_finishes() {
    for seed in 0..20 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let start = rng.i64(0..1 << 62);
        let mut mark = Watermark::new(start, "");
        let mut open = Vec::new();
        // Some finish on the way, in streaks; offsets have gaps.
        let (streak, gap) = (rng.i64(1..200), rng.i64(1..4));
        let mut offset = start;
        let mut received = 0;
        while received % 500 != 0 || (mark.metadata_at_most() < METADATA_FULL && received < 100_000) {
            received += 1;
            mark.receive(offset);
            let may_finish = offset > start && (offset / streak) % 2 == 0;
            if may_finish && rng.u8(..10) > 0 {
                mark.finish(offset);
            } else {
                open.push(offset);
            }
            offset += rng.i64(1..=gap);
        }
        // The first one stays; of the rest, one after another finishes.
        let mut bound = mark.metadata_at_most();
        rng.shuffle(&mut open[1..]);
        for (n, finished) in open[1..].iter().enumerate() {
            mark.finish(*finished);
            if n % 2_000 == 0 {
                let metadata = mark.metadata();
                assert!(metadata.len() <= bound, "seed {seed}: {} of {bound}", metadata.len());
                assert_eq!(Watermark::new(start, &metadata).metadata(), metadata, "seed {seed}");
                assert!(mark.metadata_at_most() <= bound, "seed {seed}: it never grows");
                bound = mark.metadata_at_most();
            }
        }
    }
}

#[test]
fn one_record_that_waits_does_not_stop_a_million_others() {
    let mut mark = Watermark::new(0, "");
    mark.receive(0);
    for offset in 1..1_000_000 {
        mark.receive(offset);
        mark.finish(offset);
    }
    assert!(mark.metadata_at_most() < 40, "{}", mark.metadata_at_most());
    mark.finish(0);
    assert_eq!(mark.metadata_at_most(), 0);
}

#[test]
fn what_does_not_fit_is_cut_at_the_top_wherever_it_begins() {
    for start in [0, 1 << 40] {
        let all: Vec<i64> = (start..start + 60_000).collect();
        let every_other: Vec<i64> = all.iter().copied().filter(|offset| offset % 2 == 1).collect();
        let mut again = Watermark::new(start, &after(start, &all, &every_other).metadata());
        let skipped = all.iter().filter(|offset| again.receive(**offset) == Received::Finished).count();
        assert!(skipped > 12_000, "{skipped} kept from {start} on");
    }
}

#[test]
fn the_bound_is_a_digit_for_each_open_offset_and_the_digits_of_what_follows_it() {
    // 100 open offsets, each followed by a run of 31: one digit of five bits; of 32 it takes two.
    for (step, each) in [(32, 2), (33, 3)] {
        let all: Vec<i64> = (0..100 * step * 10).collect();
        let finished: Vec<i64> = all.iter().copied().filter(|offset| offset % step != 0).collect();
        let mark = after(0, &all, &finished);
        assert_eq!(mark.open(), 1_000);
        let bound = 1_000 * each + HEAD_MAX;
        assert_eq!(mark.metadata_at_most(), bound, "runs of {}", step - 1);
        assert!(mark.metadata().len() <= bound);
    }
}

#[test]
fn a_text_of_the_full_length_is_read_and_a_few_offsets_cost_a_few_bits_anywhere() {
    let text = format!("rc1b7:{}C", "A".repeat(METADATA_MAX - 7));
    assert_eq!(text.len(), METADATA_MAX);
    assert_eq!(Watermark::new(7, &text).finished_above(7).len(), 1);
    for start in [0, 1 << 40] {
        let all: Vec<i64> = (start..start + 10).collect();
        assert_eq!(after(start, &all, &[]).metadata_at_most(), HEAD_MAX + 2);
    }
}
