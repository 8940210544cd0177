//! Three daemons share the quotas of one account, by each of the three kinds: they join one after
//! another, one is told to stop, one is killed, one comes back, all under load, against providers with
//! the account's own limits. Not one call is refused (P4), and the quota is used.

use std::time::Duration;

use super::bed::{self, CALLS_PER_SECOND, Counters, Feed, Providers, Topic};
use super::judge::{self, Moment};
use super::load::{Producer, Script};
use super::seed;
use super::support::ask_until;
use super::support::daemon::Daemon;
use super::support::kafka::Kafka;
use super::support::nats::Nats;
use super::support::provider::Entry;

const PARTITIONS: i32 = 6;
/// A rebalance that waits for a dead member's session, a lease that runs out, on a busy machine.
const CHANGE: Duration = Duration::from_secs(60);
/// How long the use of the quota is measured.
const MEASURED: Duration = Duration::from_secs(5);
/// Messages between two changes.
const MEANWHILE: u64 = 200;

/// Keys of `quota` for leases in a bucket.
const LEASES: &str = "share = \"nats_kv\", share_source = \"store\", max_replicas = 4";

/// The source on whose server the bucket is.
fn store(nats: &Nats) -> String {
    format!(
        "[sources.store]\nkind = \"nats\"\nservers = [\"{}\"]\nstream = \"STORE\"\nsubjects = [\"store.*\"]\n\
         durable = \"roomcast\"\nkey = {{ token = 1 }}\ndead_letter = \"STORE_DLQ\"\ncreate = true\n\n",
        nats.url()
    )
}

/// Slots that a daemon may use of the room path of one account.
fn slots(daemon: &Daemon, account: &str) -> u32 {
    let labels = format!("account=\"{account}\",path=\"room\"");
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a few hundred slots")]
    daemon.metric("roomcast_quota_share_slots", &labels).map_or(0, |slots| slots as u32)
}

/// Waits until each of these daemons has at least so many slots of both accounts.
#[track_caller]
fn await_slots(daemons: &[&Daemon], each: u32) {
    let has = |daemon: &Daemon| ["yunxin", "easemob"].iter().all(|account| slots(daemon, account) >= each);
    ask_until(&format!("{} daemons with {each} slots each", daemons.len()), CHANGE, || {
        daemons.iter().all(|daemon| has(daemon)).then_some(())
    });
}

/// Of both accounts' quotas, the part that is used now, in percent. The machine may be busy: a window
/// is measured again when it was not full.
#[expect(clippy::print_stderr, reason = "how much of a quota is used is a figure worth seeing")]
fn used(name: &str, counters: &Counters, enough: u64) -> u64 {
    let mut best = 0;
    for _ in 0..3 {
        let before = counters.accepted();
        std::thread::sleep(MEASURED);
        let accepted = counters.accepted() - before;
        best = best.max(accepted * 100 / (u64::from(CALLS_PER_SECOND) * 2 * MEASURED.as_secs()));
        if best >= enough {
            break;
        }
    }
    eprintln!("{name}: {best} % of the quota used");
    best
}

/// The whole play; `each` says how many slots each of so many daemons shall have.
fn play(
    name: &str,
    seed: u64,
    kafka: &Kafka,
    providers: &Providers,
    config: &str,
    topic: &Topic,
    each: impl Fn(u32) -> u32,
) -> u64 {
    let counters = providers.counters();
    let mut one = Daemon::start_ready(config);
    let script = Script::new(usize::try_from(PARTITIONS).expect("six"), 20, seed);
    let producer = Producer::start(topic.feed(kafka), script, providers);
    await_slots(&[&one], each(1));
    counters.await_more(MEANWHILE, CHANGE);

    let mut two = Daemon::start_ready(config);
    await_slots(&[&one, &two], each(2));
    counters.await_more(MEANWHILE, CHANGE);
    let mut three = Daemon::start_ready(config);
    await_slots(&[&one, &two, &three], each(3));
    counters.await_more(MEANWHILE, CHANGE);
    let used = used(name, &counters, 85);

    assert_eq!(two.stop().code(), Some(0));
    await_slots(&[&one, &three], each(2));
    counters.await_more(MEANWHILE, CHANGE);

    three.kill();
    let end = Moment::now(providers);
    await_slots(&[&one], each(1));
    counters.await_more(MEANWHILE, CHANGE);

    three.restart();
    await_slots(&[&one, &three], each(2));
    counters.await_more(MEANWHILE, CHANGE);

    let events = producer.finish();
    topic.await_finished(kafka, CHANGE);
    let logs = judge::assert_promises(&events, providers);
    judge::assert_few(name, &judge::repeats(&logs, &[end]));
    assert_eq!((one.stop().code(), three.stop().code()), (Some(0), Some(0)));
    used
}

#[test]
fn p4_three_replicas_share_by_partitions() {
    let name = "shares by partitions";
    let seed = seed(name, 21);
    let kafka = Kafka::shared();
    let providers = Providers::start_shared("share = \"partitions\"");
    let topic = Topic::create(&kafka, PARTITIONS);
    let config = topic.config(&kafka, &providers);
    // 200 slots over 6 partitions: 33 or 34 each.
    let used = play(name, seed, &kafka, &providers, &config, &topic, |daemons| match daemons {
        1 => CALLS_PER_SECOND,
        2 => 99,
        _ => 66,
    });
    assert!(used >= 80, "{used} % of the quota used in steady state");
}

#[test]
fn p4_three_replicas_share_by_leases() {
    let name = "shares by leases";
    let seed = seed(name, 22);
    let (kafka, nats) = (Kafka::shared(), Nats::start());
    let providers = Providers::start_shared(LEASES);
    let topic = Topic::create(&kafka, PARTITIONS);
    let config = store(&nats) + &topic.config(&kafka, &providers);
    // Each has a floor of 5; of the 180 that are leased an equal part.
    let used = play(name, seed, &kafka, &providers, &config, &topic, |daemons| 5 + 180 / daemons);
    assert!(used >= 75, "{used} % of the quota used in steady state");
}

#[test]
fn p4_three_replicas_have_a_fixed_part_each() {
    let name = "fixed shares";
    let seed = seed(name, 23);
    let kafka = Kafka::shared();
    let providers = Providers::start_shared("share = \"static\", max_replicas = 3");
    let topic = Topic::create(&kafka, PARTITIONS);
    let config = topic.config(&kafka, &providers);
    let each = CALLS_PER_SECOND / 3;
    let used = play(name, seed, &kafka, &providers, &config, &topic, |_| each);
    assert!(used >= 75, "{used} % of the quota used in steady state");
}

/// The one active reader of a stream has the whole quota; who takes over waits until the one before is
/// counted no longer, whether that one stopped or died.
#[test]
fn p4_a_standby_takes_over_within_the_quota() {
    let seed = seed("a standby within the quota", 24);
    let nats = Nats::start();
    bed::create_stream(&nats);
    let providers = Providers::start(1);
    let counters = providers.counters();
    let config = bed::nats_config(&nats, &providers);
    let mut one = Daemon::start_ready(&config);
    let feed = Feed::Nats { jetstream: nats.jetstream() };
    let producer = Producer::start(feed, Script::new(1, 120, seed), &providers);
    await_slots(&[&one], CALLS_PER_SECOND);
    counters.await_more(MEANWHILE, CHANGE);
    let mut two = Daemon::start_ready(&config);
    counters.await_more(MEANWHILE, CHANGE);
    assert_eq!((slots(&two, "yunxin"), slots(&two, "easemob")), (0, 0), "a standby has nothing");

    assert_eq!(one.stop().code(), Some(0));
    await_slots(&[&two], CALLS_PER_SECOND);
    counters.await_more(MEANWHILE, CHANGE);
    one.restart();
    one.await_ready();
    two.kill();
    let end = Moment::now(&providers);
    await_slots(&[&one], CALLS_PER_SECOND);
    counters.await_more(MEANWHILE, CHANGE);

    let events = producer.finish();
    bed::await_acked(&nats, CHANGE);
    let logs = judge::assert_promises(&events, &providers);
    judge::assert_few("a standby within the quota", &judge::repeats(&logs, &[end]));
    assert_eq!(one.stop().code(), Some(0));
}

/// A ban that one replica meets closes the gates of all that share the bucket, and each opens its own
/// with one probe.
#[test]
fn p4_a_ban_that_one_replica_meets_holds_the_others_back() {
    let name = "a ban among replicas";
    let seed = seed(name, 25);
    let (kafka, nats) = (Kafka::shared(), Nats::start());
    let providers = Providers::start_shared(LEASES);
    let counters = providers.counters();
    let topic = Topic::create(&kafka, PARTITIONS);
    let config = store(&nats) + &topic.config(&kafka, &providers);
    let (mut one, mut two) = (Daemon::start_ready(&config), Daemon::start_ready(&config));
    let script = Script::new(usize::try_from(PARTITIONS).expect("six"), 20, seed);
    let producer = Producer::start(topic.feed(&kafka), script, &providers);
    await_slots(&[&one, &two], 5 + 180 / 2);
    counters.await_more(MEANWHILE, CHANGE);

    // One call, of one of them, is told that the account is banned.
    providers.yunxin.set_faults(&serde_json::json!({
        "effect": { "answer": { "code": 416 } }, "paths": ["room"], "count": 1
    }));
    let banned = |daemon: &Daemon| {
        let labels = "account=\"yunxin\",path=\"room\",cause=\"ban\"";
        daemon.metric("roomcast_gate_closed", labels) == Some(1.0)
    };
    ask_until("both gates to close", Duration::from_secs(5), || (banned(&one) && banned(&two)).then_some(()));
    ask_until("both gates to open", CHANGE, || (!banned(&one) && !banned(&two)).then_some(()));
    counters.await_more(MEANWHILE, CHANGE);

    let events = producer.finish();
    topic.await_finished(&kafka, CHANGE);
    let entries = providers.yunxin.log();
    let refused: Vec<u64> = entries.iter().filter(|entry| !entry.accepted).map(|entry| entry.at_ns).collect();
    assert_eq!(refused.len(), 1, "calls that were refused");
    // What was away already landed; the other replica heard of it within a second.
    let seconds = |from: f64, to: f64| {
        let since =
            |entry: &Entry| Duration::from_nanos(entry.at_ns.saturating_sub(refused[0])).as_secs_f64();
        entries.iter().filter(|entry| entry.accepted && (from..to).contains(&since(entry))).count()
    };
    assert_eq!(seconds(2.5, 9.9), 0, "calls during the ban of ten seconds");
    judge::assert_delivered(&events, &providers);
    assert_eq!((one.stop().code(), two.stop().code()), (Some(0), Some(0)));
}
