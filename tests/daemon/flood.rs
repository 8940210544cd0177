//! A mistake that would make a letter of every event: the source pauses, and says so.

use std::time::Duration;

use crate::bed::{Bed, Event, await_metric, line_route};
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
    daemon.process().await_line("flood guard: letters of one class", PATIENCE);
    ask_until("what was held to be settled", PATIENCE, || {
        (daemon.status()?["sources"][0]["held_records"] == 0).then_some(())
    });
    let letters = bed.letters().len();
    assert!(letters > 20 && letters < EVENTS / 4, "{letters} letters of {EVENTS} events");
    assert!(daemon.stop().success());
}

crate::bed::on_both!(a_flood_of_letters_pauses_the_source);
