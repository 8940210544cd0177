//! `roomcast demo`, run to its end as people run it: it ends in time, its account adds up, the table
//! says what the JSON says, and a log file gets no control codes.

use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// What the demo promises.
const LIMIT: Duration = Duration::from_secs(60);

fn start(args: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_roomcast"))
        .arg("demo")
        .args(args)
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary is built")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

/// The first number of the table's row of that name.
fn row(table: &str, name: &str) -> Option<u64> {
    let rest = table.lines().find_map(|line| line.trim_start().strip_prefix(name))?;
    rest.split_whitespace().next()?.replace(',', "").parse().ok()
}

fn both(account: &Value, key: &str) -> u64 {
    ["easemob", "yunxin"].iter().map(|service| account[service][key].as_u64().expect(key)).sum()
}

#[test]
fn the_demo_ends_in_time_and_its_account_adds_up() {
    let begun = Instant::now();
    let (table, json) = (start(&[]), start(&["--format", "json"]));
    // Each is read to its end in a thread: a full pipe would stop it.
    let [table, json] = [table, json]
        .map(|child| std::thread::spawn(move || child.wait_with_output().expect("it ends")))
        .map(|thread| thread.join().expect("no panic"));
    let took = begun.elapsed();
    let story = text(&table.stdout);
    for Output { status, stdout, stderr } in [&table, &json] {
        assert!(status.success(), "{status}\n{}\n{}", text(stdout), text(stderr));
    }
    assert!(took < LIMIT, "{took:?}");
    assert_eq!(text(&table.stderr), "", "the daemon inside is quiet");
    assert!(
        story.chars().all(|c| c == '\n' || !c.is_control()),
        "no control codes where there is no terminal:\n{story}"
    );
    assert!(story.lines().all(|line| line.chars().count() <= 80), "80 columns:\n{story}");

    let account: Value = serde_json::from_str(&text(&json.stdout)).expect("one object");
    assert_eq!(account["adds_up"], true, "{account:#}");
    let letters = serde_json::json!({ "garbled": 1, "invalid": 1, "mapping": 1, "room_gone": 2 });
    assert_eq!(account["dead_letters"], letters);
    let worked = serde_json::json!({ "discarded": 1, "replayed": 4 });
    assert_eq!(account["letters_worked"], worked);
    assert_eq!((both(&account, "refused_for_quota"), both(&account, "order_violations")), (0, 0));
    assert_eq!(both(&account, "delivered"), both(&account, "messages_due"));
    assert_eq!(both(&account, "seen_twice"), 0);
    assert_eq!(both(&account, "seen_once"), both(&account, "messages_due"));
    assert!(account["yunxin"]["sent_again"].as_u64() >= Some(2), "{account:#}");
    assert!(account["provoked"]["other_service_refused"].as_u64() > Some(0), "{account:#}");
    for service in ["easemob", "yunxin"] {
        let used = account[service]["quota_used_percent"].as_f64().expect("there was a burst");
        assert!((50.0..=100.0).contains(&used), "{service}: {used}");
    }
    // Two runs: what the script decides is the same in both.
    for (name, number) in [
        ("events produced", account["events"].as_u64()),
        ("messages due", Some(both(&account, "messages_due"))),
        ("delivered", Some(both(&account, "delivered"))),
        ("seen once by members", Some(both(&account, "seen_once"))),
        ("refused for quota", Some(0)),
        ("order violations", Some(0)),
        ("dead letters", Some(5)),
        ("of these worked", Some(5)),
        ("dropped by a rule", account["dropped_by_rule"].as_u64()),
        ("offsets committed", account["offsets_committed"].as_u64()),
    ] {
        // The last row of that name: words of the story may begin alike.
        let rows: Vec<&str> = story.lines().filter(|line| line.trim_start().starts_with(name)).collect();
        assert_eq!(rows.last().and_then(|last| row(last, name)), number, "{name}\n{story}");
    }
}

#[test]
fn the_config_it_shows_is_one_that_check_accepts() {
    let shown = start(&["--show-config"]).wait_with_output().expect("it ends");
    assert!(shown.status.success());
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), &shown.stdout).expect("room for a config");
    let check = Command::new(env!("CARGO_BIN_EXE_roomcast"))
        .args(["check", "-c"])
        .arg(file.path())
        .env_clear()
        .output()
        .expect("the binary is built");
    assert!(check.status.success(), "{}", text(&check.stderr));
    assert!(text(&check.stdout).contains("no warnings"), "{}", text(&check.stdout));
}
