//! The arithmetic of plans; what the broker adds is tested on real ones.

use super::*;
use crate::core::provider::PathQuota;
use crate::core::schedule::spare::Spare;

fn limits(calls: u32, messages: Option<u32>, minute: Option<u32>) -> Limits {
    let quota = PathQuota {
        calls_per_second: calls,
        messages_per_second: messages,
        calls_per_minute: minute,
        calls_per_day: None,
    };
    Limits {
        rooms_per_call: 10,
        messages_per_call: 1,
        drops_repeats: false,
        paths: [quota; 3],
        room_messages_per_second: 20,
        room_high_per_second: None,
    }
}

#[test]
fn the_time_is_that_of_the_tightest_quota() {
    let load = Load { calls: 900, messages: 4_500, fullest_room: 10 };
    let seconds = |limits: &Limits, path, used| load.time(limits, path, Spare::part(used)).as_secs_f64();
    let near = |is: f64, wanted: f64| assert!((is - wanted).abs() < 1e-6, "{is}, not {wanted}");
    let plain = limits(20, None, None);
    // Of 20 a second a tenth is kept back, and a twentieth is left in any case; each call is a millisecond late.
    near(seconds(&plain, Path::Room, 0.0), 50.9);
    near(seconds(&plain, Path::Room, 0.5), 100.9);
    near(seconds(&plain, Path::Room, 1.0), 900.9);
    near(seconds(&plain, Path::Room, 0.99), 900.9);
    near(seconds(&limits(20, Some(50), None), Path::Room, 0.0), 100.9);
    near(seconds(&limits(20, None, Some(60)), Path::Broadcast, 0.0), 1_000.9);
    let one_room = Load { fullest_room: 900, ..load };
    near(one_room.time(&limits(2_000, None, None), Path::Room, 0.9).as_secs_f64(), 45.0);
    near(one_room.time(&limits(2_000, None, None), Path::Broadcast, 0.9).as_secs_f64(), 1.4);
    assert_eq!(Load::default().time(&plain, Path::Room, 0.9), Duration::ZERO);
}

#[test]
fn older_is_who_has_a_later_record_of_the_same_key_in_the_same_part() {
    let part = |partition| (Arc::<str>::from("events"), partition);
    let keys = |offsets: &[(&'static str, &[i64])]| -> BTreeMap<Bytes, Vec<i64>> {
        offsets.iter().map(|(key, offsets)| (Bytes::from(*key), offsets.to_vec())).collect()
    };
    let kept = Kept {
        asked: [(part(0), keys(&[("a", &[5, 9, 2]), ("b", &[7])])), (part(1), keys(&[("a", &[1])]))].into(),
        undelivered: [(part(0), [2, 5, 7, 9].into())].into(),
        ..Kept::default()
    };
    let stands = kept.stands();
    assert_eq!(stands[&part(0)].oldest, [(Bytes::from("a"), 2), (Bytes::from("b"), 7)].into());
    assert_eq!(stands[&part(0)].except, [2, 5, 7, 9].into());
    assert!(stands[&part(1)].except.is_empty());
    let later = Later { last: [(part(0), [(Bytes::from("a"), 6)].into())].into(), is_cut: true };
    let mut plan = Plan::default();
    plan.count_older(&kept, &later);
    assert_eq!((plan.older, plan.older_is_cut), (2, true), "5 and 2 of `a`");
}
