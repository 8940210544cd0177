//! The table of a Kafka source's partitions: assignments, what is settled, and what a commit can tell.

use super::*;
use crate::core::model::SourceId;
use crate::core::watermark::Received;

fn record(partition: PartitionId, epoch: Epoch, offset: i64) -> RecordId {
    RecordId { source: SourceId(0), partition, epoch, offset }
}

fn begin(start: i64, metadata: &str, end: i64) -> Begin {
    Begin {
        topic: "t".to_owned(),
        number: 0,
        start,
        metadata: metadata.to_owned(),
        end,
        is_first: false,
        alarm: None,
    }
}

#[test]
fn a_partition_keeps_its_number_through_assignments_and_epochs_never_repeat() {
    let mut partitions = Partitions::default();
    let first = partitions.intern("t", 3);
    let other = partitions.intern("t", 4);
    assert_ne!(first, other);
    assert_eq!(partitions.intern("t", 3), first);
    let old = partitions.assign(first, 10, "", 12);
    let new = partitions.assign(first, 11, "", 12);
    assert!(new > old);
}

#[test]
fn a_settle_of_an_old_epoch_settles_nothing() {
    let mut partitions = Partitions::default();
    let id = partitions.intern("t", 0);
    let old = partitions.assign(id, 0, "", 5);
    let new = partitions.assign(id, 0, "", 5);
    let held = partitions.slot_mut(id).unwrap().held.as_mut().unwrap();
    assert_eq!(held.mark.receive(0), Received::New);
    assert!(!partitions.settle(record(id, old, 0)));
    assert!(partitions.settle(record(id, new, 0)));
    assert!(!partitions.settle(record(id, new, 0)), "once");
}

#[test]
fn what_closed_an_assignment_does_not_close_the_next() {
    let mut partitions = Partitions::default();
    let id = partitions.intern("t", 0);
    let pauses = |partitions: &Partitions| partitions.held().next().unwrap().2.wants_pause(true);
    let old = partitions.assign(id, 0, "", 0);
    partitions.set_open(id, old, false);
    assert!(pauses(&partitions));
    let new = partitions.assign(id, 0, "", 0);
    partitions.set_open(id, old, false);
    assert!(!pauses(&partitions), "it came late");
    partitions.set_open(id, new, false);
    assert!(pauses(&partitions));
}

#[test]
fn what_was_finished_before_a_loss_is_not_done_again() {
    let mut partitions = Partitions::default();
    let id = partitions.intern("t", 0);
    let epoch = partitions.assign(id, 10, "", 20);
    for offset in 10..15 {
        partitions.slot_mut(id).unwrap().held.as_mut().unwrap().mark.receive(offset);
    }
    assert!([10, 11, 13].into_iter().all(|offset| partitions.settle(record(id, epoch, offset))));
    assert_eq!(partitions.release_all(), [(id, epoch)]);
    let begin = |start, end| begin(start, "", end);
    let resumed = partitions.resumed(&begin(10, 20));
    assert_eq!(resumed.start, 12);
    for (start, end, why) in
        [(13, 20, "another went further"), (9, 20, "reset"), (10, 11, "another partition of that name")]
    {
        assert_eq!(partitions.resumed(&begin(start, end)), begin(start, end), "{why}");
    }
    partitions.assign(id, resumed.start, &resumed.metadata, 20);
    let (_, _, held) = partitions.held_mut().next().unwrap();
    assert_eq!((held.mark.receive(12), held.mark.receive(13)), (Received::New, Received::Finished));
    let told = held.progress(true, true).expect("the broker does not know yet");
    assert!(told.offset == 12 && told.moved);
    partitions.release_all();
    assert_eq!(partitions.resumed(&begin(10, 20)).start, 12, "nothing could be committed again");
}

#[test]
fn p9_what_others_finished_meanwhile_is_not_forgotten_over_what_was_finished_here() {
    let mut partitions = Partitions::default();
    let id = partitions.intern("t", 0);
    let epoch = partitions.assign(id, 6, "", 20);
    for offset in 6..16 {
        partitions.slot_mut(id).unwrap().held.as_mut().unwrap().mark.receive(offset);
    }
    assert!([6, 9].into_iter().all(|offset| partitions.settle(record(id, epoch, offset))));
    partitions.release_all();

    // Another process had the partition from there, and left 7 and 13 open.
    let mut other = Watermark::new(7, &Watermark::new(7, "").metadata());
    (7..16).for_each(|offset| assert_eq!(other.receive(offset), Received::New));
    assert!([8, 10, 11, 12, 14].into_iter().all(|offset| other.finish(offset)));
    let committed = begin(other.offset(), &other.metadata(), 20);
    let resumed = partitions.resumed(&committed);
    assert_eq!(partitions.resumed(&committed), resumed, "asked again");
    assert_eq!(resumed.start, 7);
    partitions.assign(id, resumed.start, &resumed.metadata, 20);
    let (_, _, held) = partitions.held_mut().next().unwrap();
    let new: Vec<i64> = (7..16).filter(|offset| held.mark.receive(*offset) == Received::New).collect();
    assert_eq!(new, [7, 13, 15], "what neither of them finished");
    assert!(held.progress(true, true).is_some(), "the broker does not know of 9 yet");
}

#[test]
fn p9_together_two_processes_may_have_finished_more_than_the_commit_tells() {
    let mut partitions = Partitions::default();
    let id = partitions.intern("t", 0);
    let epoch = partitions.assign(id, 0, "", 9);
    for offset in 0..4 {
        partitions.slot_mut(id).unwrap().held.as_mut().unwrap().mark.receive(offset);
    }
    assert!([0, 2].into_iter().all(|offset| partitions.settle(record(id, epoch, offset))));
    partitions.release_all();
    let mut other = Watermark::new(0, "");
    (0..4).for_each(|offset| assert_eq!(other.receive(offset), Received::New));
    assert!(other.finish(1));
    let resumed = partitions.resumed(&begin(0, &other.metadata(), 9));
    assert_eq!((resumed.start, resumed.metadata.as_str()), (3, ""));
}

#[test]
fn p5_a_partition_whose_commit_could_overflow_waits_and_says_so() {
    let mut partitions = Partitions::default();
    let id = partitions.intern("t", 0);
    let epoch = partitions.assign(id, 0, "", 0);
    let mark = |partitions: &mut Partitions, offset| {
        partitions.slot_mut(id).unwrap().held.as_mut().unwrap().mark.receive(offset)
    };
    let mut told = Vec::new();
    let mut received = 0;
    while partitions.held().all(|(_, _, held)| !held.wants_pause(true)) {
        for offset in received..received + 600 {
            assert_eq!(mark(&mut partitions, offset), Received::New);
        }
        received += 600;
        told.extend(partitions.fills());
    }
    let last = told.pop().unwrap();
    assert!(last == (id, epoch, Fill { bytes: last.2.bytes, pauses: true }), "{last:?}");
    assert!((METADATA_FULL..METADATA_FULL + 200).contains(&last.2.bytes) && received == 18_600, "{last:?}");
    assert!((8..16).contains(&told.len()) && told.iter().all(|(_, _, fill)| !fill.pauses), "{told:?}");
    // Every other one is finished: what the commit tells is whole, and nothing more is taken.
    for offset in (1..received).step_by(2) {
        partitions.settle(record(id, epoch, offset));
    }
    let (_, _, held) = partitions.held_mut().next().unwrap();
    let metadata = held.progress(true, true).unwrap().metadata;
    assert!(metadata.len() <= last.2.bytes, "{}", metadata.len());
    assert_eq!(Watermark::new(0, &metadata).metadata(), metadata);
    assert_eq!(partitions.fills(), [], "full as it was");
    for offset in (0..received).step_by(2) {
        partitions.settle(record(id, epoch, offset));
    }
    assert_eq!(partitions.fills(), [(id, epoch, Fill::default())]);
    assert_eq!(partitions.fills(), [], "once");
    assert!(partitions.held().all(|(_, _, held)| !held.wants_pause(true)));
}

#[test]
fn p9_a_restart_with_full_metadata_reads_on() {
    let mut partitions = Partitions::default();
    let id = partitions.intern("t", 0);
    let mut before = Watermark::new(0, "");
    assert!((0..18_500).all(|offset| before.receive(offset) == Received::New));
    assert!((1..18_500).step_by(2).all(|offset| before.finish(offset)));
    let metadata = before.metadata();
    assert!(metadata.len() >= METADATA_FULL);
    let epoch = partitions.assign(id, 0, &metadata, 18_500);
    // One record at a time: each is received and finished before the next is asked for.
    for offset in 0..18_500 {
        assert!(partitions.held().all(|(_, _, held)| !held.wants_pause(true)), "at {offset}");
        let held = partitions.slot_mut(id).unwrap().held.as_mut().unwrap();
        let expected = if offset % 2 == 0 { Received::New } else { Received::Finished };
        assert_eq!(held.mark.receive(offset), expected);
        partitions.settle(record(id, epoch, offset));
        partitions.fills();
    }
}

#[test]
fn progress_is_told_once_and_says_whether_the_offset_moved() {
    let mut partitions = Partitions::default();
    let id = partitions.intern("t", 0);
    let epoch = partitions.assign(id, 0, "", 0);
    for offset in 0..3 {
        partitions.slot_mut(id).unwrap().held.as_mut().unwrap().mark.receive(offset);
    }
    let next = |partitions: &mut Partitions| {
        partitions.held_mut().next().and_then(|(_, _, held)| held.progress(true, true))
    };
    assert_eq!(next(&mut partitions), None, "nothing is finished");
    partitions.settle(record(id, epoch, 1));
    let above = next(&mut partitions).unwrap();
    assert!(!above.moved && above.offset == 0 && !above.metadata.is_empty());
    assert_eq!(next(&mut partitions), None, "told already");
    partitions.settle(record(id, epoch, 2));
    let more = next(&mut partitions).unwrap();
    assert!(!more.moved && more.metadata != above.metadata);
    partitions.settle(record(id, epoch, 0));
    let all = next(&mut partitions).unwrap();
    assert_eq!(all, Progress { offset: 3, metadata: String::new(), moved: true });
    let (_, _, held) = partitions.held_mut().next().unwrap();
    assert_eq!(held.last_progress(true).offset, 3, "told again for the last commit");
}

#[test]
fn a_commit_that_the_broker_cannot_honour_begins_at_its_first_record() {
    let kept = |offset| committed_begin(offset, "m", 100, 200);
    assert_eq!(kept(150), (150, "m".to_owned(), None));
    assert_eq!(kept(100), (100, "m".to_owned(), None));
    assert_eq!(kept(200), (200, "m".to_owned(), None));
    assert_eq!(kept(90), (100, String::new(), Some(Alarm::LostByBroker(10))));
    assert_eq!(kept(201), (100, String::new(), Some(Alarm::Rewound { committed: 201 })));
}

#[test]
fn what_moved_nothing_may_wait_and_is_not_told_where_metadata_is_refused() {
    let mut partitions = Partitions::default();
    let id = partitions.intern("t", 0);
    let epoch = partitions.assign(id, 0, "", 0);
    for offset in 0..4 {
        partitions.slot_mut(id).unwrap().held.as_mut().unwrap().mark.receive(offset);
    }
    let next = |partitions: &mut Partitions, with_metadata, also_unmoved| {
        partitions.slot_mut(id).unwrap().held.as_mut().unwrap().progress(with_metadata, also_unmoved)
    };
    partitions.settle(record(id, epoch, 0));
    let moved = next(&mut partitions, true, false).unwrap();
    assert_eq!(moved, Progress { offset: 1, metadata: String::new(), moved: true });
    partitions.settle(record(id, epoch, 2));
    assert_eq!(next(&mut partitions, true, false), None, "it may wait");
    let above = next(&mut partitions, true, true).unwrap();
    assert!(!above.moved && above.offset == 1 && !above.metadata.is_empty(), "{above:?}");
    partitions.settle(record(id, epoch, 1));
    assert_eq!(next(&mut partitions, false, true).map(|it| (it.offset, it.moved)), Some((3, true)));
    let (_, _, held) = partitions.held_mut().next().unwrap();
    held.mark.receive(4);
    partitions.settle(record(id, epoch, 4));
    assert_eq!(next(&mut partitions, false, true), None, "a broker without metadata hears of nothing new");
}

#[test]
fn each_partition_has_its_own_slot_and_begins_again_at_what_is_unfinished() {
    let mut partitions = Partitions::default();
    let ids = [7, 8].map(|number| partitions.intern("t", number));
    assert_eq!(ids.map(|id| partitions.slot(id).map(|slot| slot.number)), [Some(7), Some(8)]);
    let epochs = ids.map(|id| partitions.assign(id, 5, "", 9));
    let held = partitions.slot(ids[1]).unwrap().held.as_ref().unwrap();
    assert_eq!([3, 5, 9].map(|offset| held.begins_again(offset)), [3, 5, 5]);
    assert_eq!(partitions.release(&ids[1..]), [(ids[1], epochs[1])]);
    assert_eq!(partitions.release(&ids[1..]), [], "it is not ours any more");
    assert_eq!(partitions.release_all(), [(ids[0], epochs[0])]);
}

#[test]
fn an_assignment_elsewhere_than_where_the_last_one_ended_owes_nothing() {
    for (start, metadata, owes) in [(2, "", true), (2, "rc1!", false), (3, "", false)] {
        let mut partitions = Partitions::default();
        let id = partitions.intern("t", 0);
        let epoch = partitions.assign(id, 1, "", 9);
        partitions.slot_mut(id).unwrap().held.as_mut().unwrap().mark.receive(1);
        assert!(partitions.settle(record(id, epoch, 1)));
        partitions.release_all();
        partitions.assign(id, start, metadata, 9);
        let (_, _, held) = partitions.held_mut().next().unwrap();
        assert_eq!(held.progress(true, true).is_some(), owes, "{start} {metadata:?}");
    }
}

#[test]
fn p5_the_last_byte_of_metadata_that_goes_is_told() {
    let mut partitions = Partitions::default();
    let id = partitions.intern("t", 0);
    let epoch = partitions.assign(id, 0, "", 0);
    let mut received = 0;
    while partitions.held().all(|(_, _, held)| !held.wants_pause(true)) {
        partitions.slot_mut(id).unwrap().held.as_mut().unwrap().mark.receive(received);
        received += 1;
        partitions.fills();
    }
    let last = received - 1;
    assert!((0..last - 3).all(|offset| partitions.settle(record(id, epoch, offset))));
    let few = partitions.fills().pop().unwrap().2;
    assert!(!few.pauses && (1..METADATA_MAX / 16).contains(&few.bytes), "{few:?}");
    assert!((last - 3..=last).all(|offset| partitions.settle(record(id, epoch, offset))));
    assert_eq!(partitions.fills(), [(id, epoch, Fill::default())]);
}
