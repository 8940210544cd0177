//! Runaway filters, random bytes, speed.

use std::time::{Duration, Instant};

use bytes::Bytes;
use roomcast::core::model::Class;
use roomcast::core::route::Rules;

use crate::support::{record, rules, told};

#[test]
fn a_filter_that_runs_away_costs_its_record_alone() {
    let config = r#"
        [[routes]]
        name = "pairs"
        when = 'try ([.a[] as $x | .a[] as $y | 1] | length > 0) catch true'
        account = "live"
        [[routes]]
        name = "rest"
        account = "live"
    "#;
    let rules = rules(config);
    let large = format!("{{\"a\":[{}0]}}", "0,".repeat(5_000));
    let start = Instant::now();
    let plan = rules.plan(&record(Some(b"1"), large.as_bytes()));
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    assert_eq!(plan.failures[0].class, Class::Mapping);
    assert!(plan.failures[0].error.contains("when of route \"pairs\": took more than"), "{plan:?}");
    assert!(plan.messages.is_empty() && plan.route.is_some());
    let next = rules.plan(&record(Some(b"1"), br#"{"a":[1]}"#));
    assert_eq!(next.messages.len(), 1, "the next record is not concerned");
}

/// A generator of numbers that needs nothing (xorshift), so that a failure can be repeated.
struct Random(u64);

impl Random {
    fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % below as u64).unwrap()
    }
}

#[test]
fn whatever_the_bytes_a_record_gets_one_fate() {
    let config = r#"
        [[routes]]
        name = "a"
        when = '.type | test("a+")'
        account = "live"
        rooms = '$key, .data[]?'
        message = { kind = "text", text = '.data | tostring', ext = '{k: $key, h: $headers.a}' }
        [[routes]]
        name = "b"
        account = "match"
    "#;
    let rules = rules(config);
    let seeds: [&[u8]; 6] = [
        br#"{"specversion":"1.0","id":"1","source":"s","type":"aa","data":[1,"2",null]}"#,
        br#"{"type":"baa","data":{"a":[[[[1e10]]]],"b":"\u00e9\ud83d\ude00"}}"#,
        b"[[[[[[[[]]]]]]]]",
        b"\xff\xfe\x00\x01",
        "\"你好\"".as_bytes(),
        b"-0.0e-10",
    ];
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for round in 0..20_000 {
        let mut bytes = seeds[round % seeds.len()].to_vec();
        for _ in 0..random.next(6) {
            let at = random.next(bytes.len().max(1));
            let byte = u8::try_from(random.next(256)).unwrap();
            match random.next(4) {
                0 if at < bytes.len() => bytes[at] = byte,
                1 => bytes.insert(at.min(bytes.len()), byte),
                2 if at < bytes.len() => drop(bytes.remove(at)),
                _ => bytes.truncate(at),
            }
        }
        let key = bytes.get(..random.next(12)).map(<[u8]>::to_vec);
        let mut record = record(key.as_deref(), &bytes);
        if round % 3 == 0 {
            let name = ["content-type", "ce_id", "ce-type", "ce_", "a"][random.next(5)];
            record.headers.push((name.into(), Bytes::from(bytes.clone())));
        }
        let plan = rules.plan(&record);
        let panicked = plan.failures.iter().any(|failure| failure.error.contains("panicked"));
        assert!(!panicked, "{plan:?} of {bytes:?}");
        assert!(!told(&plan).is_empty());
        let fates = [plan.messages.is_empty() && plan.failures.is_empty(), plan.dropped.is_none()];
        assert!(fates[0] != fates[1], "{plan:?}");
    }
}

/// How fast records become plans, printed; the floor is far below what a machine at rest does.
#[test]
#[expect(clippy::print_stderr, reason = "the figure is what the test is read for")]
fn a_typical_route_is_fast() {
    let config = r#"
        [[routes]]
        name = "noise"
        when = '.type | startswith("debug.")'
        drop = true
        [[routes]]
        name = "gifts"
        when = '.type == "gift.sent"'
        account = "live"
        rooms = '$key'
        message = { kind = "custom", event = '.type', fields = '{user: .data.user, gift: .data.gift}' }
        priority = "high"
        ttl = "10s"
    "#;
    let rules = rules(config);
    let record = record(
        Some(b"662169212321793"),
        br#"{"specversion":"1.0","id":"3b6d9f6e","source":"/live/gifts","type":"gift.sent","time":"2026-01-31T23:59:59.123Z","datacontenttype":"application/json","data":{"user":{"id":"u-1001","name":"Ann","level":12},"gift":{"id":77,"name":"rocket","count":3,"price":9.9},"room":"662169212321793","combo":true}}"#,
    );
    let start = work_of_this_thread();
    let mut sent = 0;
    while work_of_this_thread() - start < Duration::from_millis(500) {
        sent += rules.plan(&record).messages.len();
    }
    let per_second = sent as f64 / (work_of_this_thread() - start).as_secs_f64();
    eprintln!("{per_second:.0} records a second through a typical route");
    assert!(per_second > 5_000.0, "{per_second:.0} records a second");
}

#[test]
fn rules_can_be_shared_between_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<Rules>();
}

/// Processor time of this thread: what others do on the machine must not decide a test.
fn work_of_this_thread() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call writes into the place it is given, which is a timespec.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    assert_eq!(result, 0, "the clock of a thread is there on Linux");
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).expect("less than a second"))
}
