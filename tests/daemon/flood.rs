//! A mistake that would make a letter of every event: the source pauses, and says so.

use std::time::Duration;

use serde_json::json;

use crate::bed::{Bed, Event, await_metric, line_route};
use crate::reload::{await_generation, hang_up};
use crate::support::ask_until;
use crate::support::daemon::Daemon;
use crate::support::provider::{Kind, Provider};

const PATIENCE: Duration = Duration::from_secs(60);
const EVENTS: usize = 20_000;

/// Every event fails to map. What has come already becomes letters; the rest stays in the broker.
fn a_flood_of_letters_pauses_the_source(bed: &Bed) {
    let provider = Provider::start(Kind::Yunxin, &["--no-limits"]);
    let guarded = "[letters]\nflood_guard = \"20/s\"\n[limits]\nmax_held_records = 500\n".to_owned();
    let route = line_route("match", "").replace("'.text'", "'.text | error(\"no\")'");
    let config = [provider.account("match", ""), bed.source(""), route, guarded].concat();
    let events: Vec<Event> = (0..EVENTS).map(|n| Event::new("1001", format!("{{\"n\":{n}}}"))).collect();
    bed.publish(events);
    let mut daemon = Daemon::start_ready(&config);
    await_metric(&daemon, "roomcast_flood_guard_total", "source=\"main\"", 1.0, PATIENCE);
    let source = ask_until("the source to say why it pauses", PATIENCE, || {
        let status = daemon.status()?;
        let source = status["sources"][0].clone();
        (source["paused_by"] == "flood_guard").then_some(source)
    });
    assert_eq!(source["intake_open"], false, "{source}");
    assert_eq!((&source["flood"]["class"], &source["flood"]["route"]), (&"mapping".into(), &"lines".into()));
    let left = source["flood"]["goes_on_in_seconds"].as_f64().expect("a number");
    assert!((0.0..=60.0).contains(&left), "{source}");
    let told = daemon.process().await_line("flood guard: letters of one class", PATIENCE);
    let look = "roomcast letters list --source main --class mapping --route lines --since 5m";
    assert!(told.contains(look) && told.contains("until GET /api/letters is asked for"), "{told}");
    ask_until("what was held to be settled", PATIENCE, || {
        (daemon.status()?["sources"][0]["held_records"] == 0).then_some(())
    });
    let letters = bed.letters().len();
    assert!(letters > 20 && letters < EVENTS / 4, "{letters} letters of {EVENTS} events");
    assert!(daemon.stop().success());
}

/// What paused goes on at once where the reload turns the guard off, and nothing pauses any more.
fn a_reload_turns_the_flood_guard_off_and_on(bed: &Bed) {
    const FEW: usize = 2_000;
    let provider = Provider::start(Kind::Yunxin, &["--no-limits"]);
    let config = |guard: &str| {
        let guarded = format!("[letters]\nflood_guard = {guard:?}\n[limits]\nmax_held_records = 200\n");
        let route = line_route("match", "").replace("'.text'", "'.text | error(\"no\")'");
        [provider.account("match", ""), bed.source(""), route, guarded].concat()
    };
    let publish = || bed.publish((0..FEW).map(|n| Event::new("1001", format!("{{\"n\":{n}}}"))));
    let times = |daemon: &Daemon| daemon.metric("roomcast_flood_guard_total", "source=\"main\"");
    publish();
    let mut daemon = Daemon::start_ready(&config("20/s"));
    await_metric(&daemon, "roomcast_flood_guard_total", "source=\"main\"", 1.0, PATIENCE);
    daemon.rewrite(&config("off"));
    hang_up(&mut daemon);
    let told = await_generation(&daemon, 2);
    assert_eq!(told["needs_restart"], json!([]));
    bed.await_finished(PATIENCE);
    assert_eq!((times(&daemon), bed.letters().len()), (Some(1.0), FEW));
    daemon.rewrite(&config("30/s"));
    hang_up(&mut daemon);
    await_generation(&daemon, 3);
    publish();
    await_metric(&daemon, "roomcast_flood_guard_total", "source=\"main\"", 2.0, PATIENCE);
    assert!(daemon.stop().success());
}

crate::bed::on_both!(a_flood_of_letters_pauses_the_source, a_reload_turns_the_flood_guard_off_and_on);
