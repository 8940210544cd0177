//! The pages over HTTP, and what they show of a report made by hand.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use super::*;
use crate::clock::Clock;
use crate::core::model::{
    AccountId, Class, DirectoryId, DropReason, Epoch, PartitionId, Path, Priority, Room, Tries,
};
use crate::core::provider::Acceptance;
use crate::core::replay::Counts;
use crate::core::schedule::status::{
    Bound, Cause, Fate, GateCause, GateState, Holdup, PathSnapshot, Snapshot, SourceSnapshot, Waiting,
    WaitingRoom,
};
use crate::core::schedule::{IntakeReason, Scheduler, Settings as Schedule};
use crate::core::share::Standing;
use crate::core::time::Wall;
use crate::driver::{
    AccountStats, ConfigReport, Detail, DirectoryReport, Driver, FloodReport, Parts, Paused, ReloadResult,
    Replays, Report, SourceReport, SourceState,
};
use crate::letters::today::Today;

/// A config with a source and a route, as letters are measured by it. Nothing of it is started.
pub(super) fn today() -> watch::Receiver<Arc<Today>> {
    const CONFIG: &str = r#"
[accounts.acme]
provider = "easemob"
base_url = "http://127.0.0.1:9"
org = "acme"
app = "live"
client_id = "id"
client_secret = "hunter2-of-the-account"

[sources.live]
kind = "kafka"
brokers = "127.0.0.1:9"
group = "roomcast"
topics = ["events"]
dead_letter = "events.dlq"

[[routes]]
name = "gifts"
account = "acme"
message = { kind = "text", text = '.type' }
"#;
    watch::channel(Arc::new(crate::app::built(CONFIG).today())).1
}

/// A loop without sources and accounts.
pub(super) fn idle_loop() -> (Driver, View, mpsc::Sender<crate::broker::Arrival>) {
    let clock = Clock::start();
    let settings = Schedule {
        accounts: Vec::new(),
        routes: Vec::new(),
        sources: Vec::new(),
        max_waiting_per_room: 1,
        room_gone: Duration::ZERO,
        flood_guard: None,
        seed: 1,
    };
    let (sender, inbox) = mpsc::channel(1);
    let names = Arc::new(Names::default());
    let (driver, handle) = Driver::new(Parts {
        clock,
        scheduler: Scheduler::new(settings, clock.now()),
        planner: Box::new(|_, _| unreachable!("there is no source")),
        accounts: Vec::new(),
        sources: Vec::new(),
        inbox,
        names: names.clone(),
        drain_timeout: Duration::ZERO,
        leases: crate::driver::Leases::default(),
        lookups: crate::driver::Lookups::default(),
        replays: Replays::default(),
    });
    (driver, View { handle, names, letters: letters::Desk::new(Vec::new(), today()) }, sender)
}

pub(super) async fn get_page(address: SocketAddr, path: &str, host: &str) -> (u16, String) {
    crate::http::install_crypto();
    let client = reqwest::Client::new();
    let asked = client.get(format!("http://{address}{path}")).header("host", host).send().await.unwrap();
    (asked.status().as_u16(), asked.text().await.unwrap())
}

#[tokio::test]
async fn probes_metrics_and_status_are_served_and_strangers_are_not() {
    let (driver, view, _inbox) = idle_loop();
    let handle = view.handle.clone();
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let settings = Settings { listen: any, probes: Some(any), token: "s3cret".into() };
    let serving = listen(settings).await.unwrap().serve(view);
    let (main, probes) = (serving.listen, serving.probes.unwrap());

    assert_eq!(get_page(main, "/livez", "localhost").await.0, 503, "the loop has not turned yet");
    let running = tokio::spawn(driver.run());
    while !handle.is_live() {
        tokio::task::yield_now().await;
    }
    for address in [main, probes] {
        assert_eq!(get_page(address, "/livez", "127.0.0.1").await.0, 200);
        assert_eq!(get_page(address, "/readyz", "127.0.0.1").await.0, 503, "nothing has joined");
        let (status, text) = get_page(address, "/metrics", "127.0.0.1").await;
        assert_eq!(status, 200);
        assert!(text.ends_with("# EOF\n"), "{text}");
    }
    let (status, text) = get_page(main, "/api/status", "localhost:9600").await;
    assert_eq!(
        (status, serde_json::from_str::<serde_json::Value>(&text).unwrap()["draining"].clone()),
        (200, false.into())
    );
    assert_eq!(get_page(main, "/api/status", "evil.example").await.0, 421);
    assert_eq!(get_page(main, "/metrics", "evil.example").await.0, 421);
    assert_eq!(get_page(probes, "/metrics", "roomcast.svc").await.0, 200, "probes are asked by any name");
    assert_eq!(get_page(probes, "/api/status", "127.0.0.1").await.0, 404, "probes alone");

    handle.stop();
    running.await.unwrap();
    assert_eq!(get_page(main, "/api/status", "localhost").await.0, 503);
    assert_eq!(get_page(main, "/metrics", "localhost").await.0, 503);
}

#[tokio::test]
async fn an_address_in_use_is_told_with_its_key() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap();
    let settings = Settings { listen: address, probes: None, token: "s3cret".into() };
    let error = format!("{:#}", listen(settings).await.unwrap_err());
    assert!(error.contains("admin.listen") && error.contains(&address.to_string()), "{error}");
}

fn names() -> Names {
    Names {
        sources: vec!["live".into(), "match".into()],
        accounts: vec!["acme".into()],
        routes: vec!["scores".into()],
    }
}

/// A file that was broken when it was read last.
fn directory() -> DirectoryReport {
    DirectoryReport {
        name: "rooms".into(),
        kind: "file",
        is_loaded: true,
        keys: 12,
        bytes: 512,
        age: Some(Duration::from_millis(2_500)),
        loads: [4, 1],
        rows: [0, 0],
        trouble: Some("line 3: found no key".to_owned()),
        unknown: 7,
        waiting: 3,
    }
}

/// A config that was reloaded, and then refused.
fn config() -> ConfigReport {
    ConfigReport {
        loaded_at: Wall(1_769_903_950_123),
        generation: 3,
        last: Some((Wall(1_769_903_970_123), ReloadResult::Refused)),
        results: [2, 1, 4],
        needs_restart: vec!["sources.live.brokers".to_owned()],
        problems: vec!["roomcast.toml:3:1: routes: found nothing".to_owned()],
    }
}

/// Two sources, one account: its room path is banned, its broadcasts have used up the day.
fn report() -> Report {
    let closed = |cause| GateState::Closed {
        cause,
        reopens_in: Duration::from_millis(7_500),
        text: "too many \"calls\"\nhere".to_owned(),
    };
    let room = PathSnapshot {
        gate: closed(GateCause::Ban),
        calls: 30,
        slots: 100,
        share: 50,
        slots_waiting_for_answer: 3,
        slots_cooling: 20,
        background: 0.25,
        waiting: Waiting { quota: 1, share: 0, pace: 2, backoff: 3, order: 4, gate: 5 },
    };
    let broadcast =
        PathSnapshot { gate: GateState::Probing { cause: GateCause::DayQuota }, ..Default::default() };
    let account = Some(AccountId(0));
    let shares = vec![Standing { kind: "nats_kv", replicas: Some(3), why: "a reason".to_owned() }];
    Report {
        config: config(),
        at: Wall(1_769_903_999_123),
        uptime: Duration::from_secs(61),
        draining: false,
        snapshot: Snapshot {
            fates: [
                ((account, Fate::Accepted(Acceptance::Plain)), 20),
                ((account, Fate::Buried(Class::Rejected)), 1),
                ((None, Fate::Dropped(DropReason::Unmatched)), 4),
            ]
            .into(),
            conflated: vec![("scores".into(), 9)],
            waiting_for_keys: [(DirectoryId(0), 3)].into(),
            sources: vec![
                SourceSnapshot {
                    received: 40,
                    settled: 25,
                    held_records: 15,
                    held_bytes: 4_096,
                    intake_open: false,
                    paused_partitions: 1,
                    paused_at: [1, 0, 0, 0, 0],
                    ..SourceSnapshot::default()
                },
                SourceSnapshot { intake_open: true, ..SourceSnapshot::default() },
            ],
            accounts: vec![[room, PathSnapshot::default(), broadcast]],
            rooms: 7,
            calls_away: 3,
            letters_waiting: 2,
        },
        sources: vec![
            reading(),
            SourceReport { state: SourceState::Waiting("no broker".to_owned()), ..SourceReport::default() },
        ],
        accounts: vec![stats()],
        detail: Some(detail()),
        shares,
        directories: vec![directory()],
    }
}

/// A source that reads, as far as it may.
fn reading() -> SourceReport {
    let (class, goes_on_in) = (Class::Mapping, Duration::from_secs(30));
    SourceReport {
        state: SourceState::Ready,
        joined: true,
        lag: Some(900),
        partitions: vec!["events/0".into(), "events/1".into()],
        paused_by: Some(IntakeReason::HeldBytes),
        flood: Some(FloodReport { class, route: Some("gifts".into()), goes_on_in }),
        letter_failures: 6,
        replays: Some((Counts { replayed: 12, parked: 1, ..Counts::default() }, 3)),
        commit_metadata: 3_100,
        commits_full: 2,
    }
}

fn stats() -> AccountStats {
    let mut stats = AccountStats { logins: [1, 2], ..AccountStats::default() };
    stats.outcomes[Path::Room as usize] = [20, 5, 0, 1, 0, 2, 1];
    stats.durations[Path::Room as usize].buckets[2] = 29;
    stats.durations[Path::Room as usize].sum = Duration::from_millis(435);
    stats
}

fn detail() -> Detail {
    Detail {
        paused: vec![vec![paused()], Vec::new()],
        fullest_room: Some((AccountId(0), Path::Room, Room("36".into()), 1_001)),
        max_waiting_per_room: 1_000,
    }
}

/// A partition that a full room holds back.
fn paused() -> Paused {
    let room = WaitingRoom {
        account: AccountId(0),
        path: Path::Room,
        room: Room("36".into()),
        priority: Priority::High,
        of_partition: 900,
        messages: 1_001,
        cause: Cause::Gate(GateCause::Outage),
        until: Some(Duration::from_millis(2_500)),
        oldest: Duration::from_secs(40),
        tries: Tries { attempts: 7, http_status: Some(503), ..Tries::default() },
    };
    let holdup = Holdup {
        partition: PartitionId(1),
        epoch: Epoch(1),
        bounds: vec![Bound::WaitingPerRoom, Bound::CommitMetadata],
        since: None,
        held_records: 1_100,
        part_records: 25_000,
        held_bytes: 4_000_000,
        part_bytes: 128 << 20,
        oldest: Duration::from_secs(41),
        letters: 3,
        waiting_for_keys: 2,
        rooms_waiting: 5,
        rooms: vec![room],
    };
    Paused { name: "events/1".into(), lasting: Duration::from_millis(30_123), commit_metadata: 3_100, holdup }
}

#[test]
fn metrics_tell_the_report() {
    let text = metrics::encode(report(), Arc::new(names())).unwrap();
    for line in [
        "roomcast_records_received_total{source=\"live\"} 40",
        "roomcast_records_settled_total{source=\"live\"} 25",
        "roomcast_held_records{source=\"live\"} 15",
        "roomcast_held_bytes{source=\"live\"} 4096",
        "roomcast_intake_open{source=\"live\"} 0",
        "roomcast_intake_open{source=\"match\"} 1",
        "roomcast_paused_partitions{source=\"live\",bound=\"max_waiting_per_room\"} 1",
        "roomcast_paused_partitions{source=\"live\",bound=\"max_held_bytes\"} 0",
        "roomcast_paused_partitions{source=\"live\",bound=\"commit_metadata\"} 2",
        "roomcast_commit_metadata_bytes{source=\"live\"} 3100",
        "roomcast_conflated_total{route=\"scores\"} 9",
        "roomcast_config_reloads_total{result=\"took\"} 2",
        "roomcast_config_reloads_total{result=\"refused\"} 4",
        "roomcast_config_last_reload_successful 0",
        "roomcast_config_loaded_timestamp_seconds 1769903950",
        "roomcast_config_needs_restart 1",
        "roomcast_assigned_partitions{source=\"live\"} 2",
        "roomcast_lag_records{source=\"live\"} 900",
        "roomcast_source_state{source=\"match\",state=\"waiting\"} 1",
        "roomcast_source_state{source=\"match\",state=\"ready\"} 0",
        "roomcast_messages_total{account=\"acme\",fate=\"accepted\",kind=\"delivered\"} 20",
        "roomcast_messages_total{account=\"acme\",fate=\"letter\",kind=\"rejected\"} 1",
        "roomcast_messages_total{account=\"none\",fate=\"dropped\",kind=\"unmatched\"} 4",
        "roomcast_attempts_total{account=\"acme\",path=\"room\",outcome=\"throttled\"} 5",
        "roomcast_attempts_total{account=\"acme\",path=\"users\",outcome=\"accepted\"} 0",
        "roomcast_calls_total{account=\"acme\",path=\"room\"} 30",
        "roomcast_call_duration_seconds_count{account=\"acme\",path=\"room\"} 29",
        "roomcast_call_duration_seconds_sum{account=\"acme\",path=\"room\"} 0.435",
        "roomcast_call_duration_seconds_bucket{le=\"0.01\",account=\"acme\",path=\"room\"} 0",
        "roomcast_call_duration_seconds_bucket{le=\"0.02\",account=\"acme\",path=\"room\"} 29",
        "roomcast_call_duration_seconds_bucket{le=\"+Inf\",account=\"acme\",path=\"room\"} 29",
        "roomcast_logins_total{account=\"acme\",result=\"failed\"} 2",
        "roomcast_account_up{account=\"acme\"} 0",
        "roomcast_gate_closed{account=\"acme\",path=\"room\",cause=\"ban\"} 1",
        "roomcast_gate_closed{account=\"acme\",path=\"users\",cause=\"ban\"} 0",
        "roomcast_gate_closed{account=\"acme\",path=\"broadcast\",cause=\"day_quota\"} 1",
        "roomcast_quota_slots{account=\"acme\",path=\"room\"} 100",
        "roomcast_quota_share_slots{account=\"acme\",path=\"room\"} 50",
        "roomcast_quota_share_replicas{account=\"acme\"} 3",
        "roomcast_quota_slots_used{account=\"acme\",path=\"room\"} 23",
        "roomcast_slots_waiting_for_answer{account=\"acme\",path=\"room\"} 3",
        "roomcast_waiting_messages{account=\"acme\",path=\"room\",cause=\"backoff\"} 3",
        "roomcast_directory_loaded{directory=\"rooms\"} 1",
        "roomcast_directory_keys{directory=\"rooms\"} 12",
        "roomcast_directory_age_seconds{directory=\"rooms\"} 2",
        "roomcast_directory_loads_total{directory=\"rooms\",result=\"failed\"} 1",
        "roomcast_directory_rows_total{directory=\"rooms\",result=\"refused\"} 0",
        "roomcast_directory_unknown_total{directory=\"rooms\"} 7",
        "roomcast_directory_waiting_records{directory=\"rooms\"} 3",
        "roomcast_calls_away 3",
        "roomcast_rooms 7",
        "roomcast_letters_waiting 2",
        "roomcast_letter_write_failures_total{source=\"live\"} 6",
        "roomcast_draining 0",
        "roomcast_uptime_seconds 61",
    ] {
        assert!(text.lines().any(|found| found == line), "no line {line}\n{text}");
    }
    assert!(!text.contains("roomcast_lag_records{source=\"match\"}"), "a lag that was never told is absent");
}

#[test]
fn the_table_of_metrics_is_what_a_scrape_shows() {
    let text = metrics::encode(report(), Arc::new(names())).unwrap();
    let mut seen = BTreeSet::new();
    for metric in metrics::METRICS {
        let name = metric.name;
        assert!(name.starts_with("roomcast_") && seen.insert(name), "{name}");
        assert_eq!(name.ends_with("_total"), metric.kind == metrics::Kind::Counter, "{name}");
        assert!(metric.help.ends_with('.'), "{name}");
        assert!(!metric.kind.word().is_empty());
        let family = name.strip_suffix("_total").unwrap_or(name);
        assert!(text.contains(&format!("# TYPE {family} {}\n", metric.kind.word())), "{name}");
        let sample = text.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("no {name}"));
        for label in metric.labels {
            assert!(sample.contains(&format!("{label}=\"")), "{name} without {label}: {sample}");
        }
    }
    let families = text.lines().filter(|line| line.starts_with("# TYPE ")).count();
    assert_eq!(families, metrics::METRICS.len());
}

#[test]
fn status_tells_the_report_as_json() {
    let json = status::json(&report(), &names());
    assert_eq!(json["at"], "2026-01-31T23:59:59.123Z");
    assert_eq!(json["sources"][0]["paused_by"], "max_held_bytes");
    let flood = serde_json::json!({ "class": "mapping", "route": "gifts", "goes_on_in_seconds": 30.0 });
    assert_eq!(json["sources"][0]["flood"], flood);
    let replays = &json["sources"][0]["replays"];
    assert_eq!((&replays["under_way"], &replays["ended"]["replayed"]), (&3.into(), &12.into()));
    assert_eq!(json["sources"][1]["replays"], serde_json::Value::Null);
    assert_eq!(json["sources"][0]["partitions"][1], "events/1");
    let paused = &json["sources"][0]["paused"][0];
    assert_eq!(
        (&paused["partition"], &paused["since"]),
        (&"events/1".into(), &"2026-01-31T23:59:29.000Z".into())
    );
    assert_eq!(paused["bounds"], serde_json::json!(["max_waiting_per_room", "commit_metadata"]));
    let held = &paused["rooms"][0];
    assert_eq!(
        (&held["account"], &held["path"], &held["room"]),
        (&"acme".into(), &"room".into(), &"36".into())
    );
    assert_eq!(
        (&held["cause"], &held["oldest_seconds"], &held["http_status"]),
        (&"outage".into(), &40.0.into(), &503.into())
    );
    assert_eq!(
        (&json["fullest_room"]["room"], &json["fullest_room"]["messages"]),
        (&"36".into(), &1_001.into())
    );
    let directory = &json["directories"][0];
    assert_eq!(
        (&directory["name"], &directory["keys"], &directory["loads"]["failed"], &directory["waiting"]),
        (&"rooms".into(), &12.into(), &1.into(), &3.into())
    );
    assert_eq!((&directory["why"], &paused["waiting_for_keys"]), (&"line 3: found no key".into(), &2.into()));
    assert_eq!(json["routes"], serde_json::json!([{ "name": "scores", "conflated": 9 }]));
    let config = serde_json::json!({
        "loaded_at": "2026-01-31T23:59:10.123Z",
        "generation": 3,
        "last_reload": { "at": "2026-01-31T23:59:30.123Z", "result": "refused" },
        "needs_restart": ["sources.live.brokers"],
        "problems": ["roomcast.toml:3:1: routes: found nothing"],
    });
    assert_eq!(json["config"], config);
    assert_eq!(
        (&json["sources"][1]["state"], &json["sources"][1]["why"]),
        (&"waiting".into(), &"no broker".into())
    );
    let room = &json["accounts"][0]["paths"]["room"];
    assert_eq!((&room["gate"]["state"], &room["gate"]["cause"]), (&"closed".into(), &"ban".into()));
    assert_eq!(room["gate"]["reopens_in_seconds"], 7.5);
    assert_eq!((&room["waiting"]["order"], &room["outcomes"]["uncertain"]), (&4.into(), &1.into()));
    assert_eq!(json["accounts"][0]["paths"]["users"]["gate"]["state"], "open");
    let share = serde_json::json!({ "kind": "nats_kv", "replicas": 3, "why": "a reason" });
    assert_eq!((&json["accounts"][0]["share"], &room["share_slots"]), (&share, &50.into()));
    let unmatched =
        serde_json::json!({ "account": null, "fate": "dropped", "kind": "unmatched", "count": 4 });
    assert!(json["messages"].as_array().unwrap().contains(&unmatched));
}
