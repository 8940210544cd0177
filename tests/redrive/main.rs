//! Dead letters worked as people work them: thousands of mixed classes, made by a real daemon, are listed,
//! counted and replayed by the real binary beside live traffic, on real Kafka and real NATS. Judged by the
//! simulator's log and by what the brokers hold. Run with `.ci/test --test redrive -- --nocapture`, which
//! shows the figures; `REDRIVE_SEED=7` takes another seed for the kills.

#[path = "../daemon/bed.rs"]
#[expect(dead_code, reason = "the daemon's scenarios use the rest of it")]
mod bed;
#[path = "../support/mod.rs"]
mod support;

mod desk;
mod judge;
mod live;
mod making;

use std::io::Write as _;
use std::sync::{PoisonError, RwLock};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use bed::Bed;
use desk::Desk;
use judge::Verdict;
use live::Live;
use support::ask_until;
use support::daemon::Daemon;
use support::provider::{Kind, Provider};

/// Longer than anything takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);
/// Letters of the run that is measured.
const LETTERS: usize = 5_000;
/// Letters of the run that is killed.
const KILLED_LETTERS: usize = 2_000;
/// Calls a second of the account, as the simulator counts them and the config says.
const QUOTA: u32 = 500;
/// Live lines a second of the run that is measured: 60 % of the quota.
const BESIDE: u32 = 300;
/// Live lines a second of the run that is killed: what waits after each start has to be caught up with.
const BESIDE_KILLS: u32 = 150;
/// Live lines by which both paces are measured: ten seconds.
const MEASURED: usize = 3_000;
/// Times that the daemon is killed.
const KILLS: usize = 5;

/// Latencies mean something only while nothing else runs here; the runs with kills may run together.
static MACHINE: RwLock<()> = RwLock::new(());

/// A measured figure, for people.
fn tell(figure: &str) {
    writeln!(std::io::stderr(), "{figure}").expect("stderr is there");
}

fn name(bed: &Bed) -> &'static str {
    match bed {
        Bed::Kafka { .. } => "Kafka",
        Bed::Nats(_) => "NATS",
    }
}

/// A provider that counts its limits, and the config of a daemon that keeps them, its routes repaired.
fn account(bed: &Bed) -> (Provider, String) {
    let calls = QUOTA.to_string();
    let provider = Provider::start(Kind::Yunxin, &["--calls-per-second", &calls, "--latency", "20ms"]);
    let quota = format!("quota = {{ calls_per_second = {QUOTA} }}");
    let config = [
        provider.account("match", &quota),
        bed.source(making::source(bed)),
        making::routes(making::REPAIRED),
        making::GUARD_OFF.to_owned(),
    ];
    (provider, config.concat())
}

/// Thousands are listed, counted, foretold and replayed beside live traffic, and all tell the same of it.
fn letters_are_replayed_beside_live_traffic(bed: &Bed) {
    let _alone = MACHINE.write().unwrap_or_else(PoisonError::into_inner);
    let made = making::make(bed, LETTERS);
    let (provider, config) = account(bed);
    let mut daemon = Daemon::start_ready(&config);
    let desk = Desk::new(&config, &daemon.url());
    desk.assert_listed(&made);
    desk.assert_foretold(&made);
    let live = Live::new();
    let (paces, said) = thread::scope(|scope| {
        let end = live.ends_when_dropped();
        scope.spawn(|| live.publish(bed, BESIDE));
        // What is foretold looks back on ten seconds.
        live.await_more(MEASURED);
        let began = Instant::now();
        live.await_more(MEASURED);
        let alone = began..Instant::now();
        let foretold = desk.seconds_now("rejected,room_gone,mapping,invalid");
        let began = Instant::now();
        let arguments = ["--class", "rejected,room_gone,mapping,invalid", "--why", "the outage of Friday"];
        let first = desk.replay(&arguments);
        let beside = began..Instant::now();
        let took = beside.end - beside.start;
        tell(&format!(
            "{}: {} letters replayed in {took:.1?}, {foretold:.1} s foretold beside this live traffic",
            name(bed),
            first.count("/asked")
        ));
        // The machine may have got busier meanwhile.
        let began = Instant::now();
        live.await_more(MEASURED / 2);
        let after = began..Instant::now();
        let mut both = [(); 2].map(|()| desk.start(&["--class", "expired"]));
        let both = both.each_mut().map(desk::Said::of);
        drop(end);
        ([alone, after, beside], (first, both))
    });
    let sent = live.sent();
    bed.await_finished(PATIENCE);
    let (first, both) = said;
    let lost = made.irreparable();
    let late = made.classes()["expired"];
    assert_eq!(
        (first.count("/meant"), first.count("/asked")),
        (LETTERS as u64 - late, LETTERS as u64 - late)
    );
    assert_eq!(first.count("/verdicts/failed_again"), lost, "{first:#?}");
    assert_eq!(first.count("/verdicts/replayed"), LETTERS as u64 - late - lost, "{first:#?}");
    for said in &both {
        assert_eq!((said.code, said.count("/meant"), said.count("/verdicts/left")), (Some(0), late, 0));
    }
    let asked: u64 = both.iter().map(|said| said.count("/asked")).sum();
    assert!(asked >= late, "{asked} of {late} were asked for: {both:#?}");
    let requests = [&first, &both[0], &both[1]].map(|said| said.json["request"].clone());
    let verdict = Verdict::of(bed, &made, &config, &provider, &sent, &requests);
    assert_eq!(verdict.repeats, 0, "letters that were sent twice");
    desk.assert_worked(&made);
    let stats = provider.stats();
    let paces = paces.map(|during| live::latencies(&provider, &sent, &during));
    tell(&format!(
        "{}: two commands at once asked {asked} times for {late} letters; {} calls in the busiest second of {QUOTA}",
        name(bed),
        stats["max_calls_per_second"]["room"]
    ));
    assert!(daemon.stop().success());
    judge::assert_latency(name(bed), &paces);
}

/// The daemon that replays is killed again and again: nothing is lost, and nothing unmarked comes twice.
fn a_daemon_that_replays_is_killed_again_and_again(bed: &Bed) {
    let _together = MACHINE.read().unwrap_or_else(PoisonError::into_inner);
    let seed = std::env::var("REDRIVE_SEED").map_or(31, |seed| seed.parse().expect("a number"));
    tell(&format!("kills on {}: REDRIVE_SEED={seed}", name(bed)));
    let mut rng = fastrand::Rng::with_seed(seed);
    let made = making::make(bed, KILLED_LETTERS);
    let (provider, config) = account(bed);
    let mut daemon = Daemon::start_ready(&config);
    let desk = Desk::new(&config, &daemon.url());
    let live = Live::new();
    let said = thread::scope(|scope| {
        let end = live.ends_when_dropped();
        scope.spawn(|| live.publish(bed, BESIDE_KILLS));
        let mut asking = desk.start(&[]);
        let mut replays = live::Replays::of(&provider);
        for _ in 0..KILLS {
            let more = rng.u64(50..=KILLED_LETTERS as u64 / 8);
            let enough = replays.count() + more;
            ask_until("more replays", PATIENCE, || (replays.count() >= enough).then_some(()));
            daemon.kill();
            daemon.restart();
            daemon.await_ready();
        }
        let said = desk::Said::of(&mut asking);
        drop(end);
        said
    });
    let sent = live.sent();
    bed.await_finished(PATIENCE);
    assert_eq!((said.code, said.count("/asked")), (Some(0), KILLED_LETTERS as u64), "{said:#?}");
    assert_eq!(said.count("/verdicts/failed_again"), made.irreparable(), "{said:#?}");
    assert_eq!(said.count("/verdicts/replayed"), KILLED_LETTERS as u64 - made.irreparable(), "{said:#?}");
    let requests = [said.json["request"].clone()];
    let verdict = Verdict::of(bed, &made, &config, &provider, &sent, &requests);
    tell(&format!(
        "{}, {KILLS} kills: {KILLED_LETTERS} letters, {} of them sent again, marked; {} live lines, {} of them again, marked",
        name(bed),
        verdict.repeats,
        sent.len(),
        verdict.live_repeats
    ));
    desk.assert_worked(&made);
    assert!(provider.stats()["bans"] == json!(0));
    assert!(daemon.stop().success());
}

bed::on_both!(letters_are_replayed_beside_live_traffic, a_daemon_that_replays_is_killed_again_and_again);
