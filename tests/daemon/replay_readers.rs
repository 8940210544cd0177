//! Two replicas of which only one reads the source: that one reads the requests for replays too, because the
//! other one has no part of the quota.

use std::time::Duration;

use roomcast::core::replay::State;
use serde_json::json;

use super::replay::{archive, asked, letters, rows};
use crate::bed::{Bed, Event, line_route, lines};
use crate::support::daemon::Daemon;
use crate::support::kafka::Kafka;
use crate::support::provider::{Kind, Provider};
use crate::support::{ask_until, unique};

const PATIENCE: Duration = Duration::from_secs(60);
const REFUSING: &str = "1001";

/// How a daemon's source of requests is.
fn requests(daemon: &Daemon) -> Option<String> {
    let status = daemon.status()?;
    let sources = status["sources"].as_array()?;
    let of = sources.iter().find(|source| source["name"] == "main.replay")?;
    Some(of["state"].as_str()?.to_owned())
}

fn who_reads_the_source_reads_its_requests(bed: &Bed) {
    let provider = Provider::start(Kind::Yunxin, &["--room", REFUSING, "--room", "1002", "--no-limits"]);
    let illegal = json!({"answer": {"status": 200, "code": 414, "description": "illegal"}});
    provider.set_faults(&json!({"effect": illegal, "rooms": [REFUSING]}));
    let quota = "quota = { calls_per_second = 500, room_messages_per_second = 500 }";
    let config = [provider.account("match", quota), bed.source(""), line_route("match", "")].concat();
    let mut one = Daemon::start_ready(&config);
    bed.publish_lines(&lines(2, 20));
    bed.await_finished(PATIENCE);
    let mut two = Daemon::start_ready(&config);
    let stand = |daemon: &Daemon, word: &str| {
        ask_until(&format!("requests {word}"), PATIENCE, || requests(daemon).filter(|state| state == word));
    };
    stand(&one, "ready");
    stand(&two, "standing_by");
    let archive = archive(&config);
    let found = letters(&*archive);
    assert_eq!(found.len(), 10, "the lines of the room that refuses");
    provider.set_faults(&json!([]));
    let ask = |letters: &[roomcast::core::model::Record]| {
        for letter in letters {
            let headers = asked("ann@a").headers();
            crate::support::block_on(archive.request(letter.clone(), headers)).expect("it is confirmed");
        }
    };
    let replayed = |count: usize| {
        ask_until(&format!("{count} letters to be replayed"), PATIENCE, || {
            let rows = rows(&*archive);
            (rows.values().filter(|row| row.state == State::Replayed).count() == count).then_some(())
        });
    };
    ask(&found[..5]);
    replayed(5);
    stand(&two, "standing_by");
    // The other one takes over; on NATS it learns that with the next event.
    assert!(one.stop().success());
    bed.publish([Event::new("1002", r#"{"text":"on"}"#)]);
    stand(&two, "ready");
    ask(&found[5..]);
    replayed(10);
    assert!(two.stop().success());
}

#[test]
fn kafka() {
    let kafka = Kafka::shared();
    let topic = unique("events");
    kafka.create_topic(&topic, 1, &[]);
    who_reads_the_source_reads_its_requests(&Bed::Kafka { kafka: Box::new(kafka), topic });
}

#[test]
fn nats() {
    who_reads_the_source_reads_its_requests(&Bed::nats());
}
