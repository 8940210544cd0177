//! `check --live` against what cannot be reached or does not let anybody in: each line says what was asked,
//! what came back and where to look.

use crate::bed::Bed;
use crate::support::daemon::roomcast;
use crate::support::nats::Nats;
use crate::support::provider::{Kind, Provider};

const NATS_PASSWORD: &str = "right-password";

/// What `check --live` says of each account, source and directory: those lines that are wrong.
fn wrong(config: &str) -> Vec<String> {
    let folder = tempfile::tempdir().expect("a scratch folder");
    std::fs::write(folder.path().join("roomcast.toml"), config).expect("it can be written");
    let mut command = roomcast(&["check", "--live", "-c", "roomcast.toml"]);
    let done = command.current_dir(folder.path()).output().expect("it runs");
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    assert_eq!(done.status.code(), Some(1), "{said}{}", String::from_utf8_lossy(&done.stderr));
    let lines = said.lines().filter(|line| line.contains("WRONG"));
    lines.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

#[track_caller]
fn assert_told(lines: &[String], what: &str, parts: &[&str]) {
    let line = lines.iter().find(|line| line.starts_with(&format!("{what} WRONG ")));
    let line = line.unwrap_or_else(|| panic!("nothing is wrong with {what}: {lines:#?}"));
    for part in parts {
        assert!(line.contains(part), "{part}: {line}");
    }
}

fn kafka_at(name: &str, address: &str, more: &str) -> String {
    format!(
        "[sources.{name}]\nkind = \"kafka\"\nbrokers = \"{address}\"\ngroup = \"{name}\"\ntopics = [\"{name}\"]\n\
         dead_letter = \"{name}.dlq\"\n{more}\n\n"
    )
}

fn nats_at(name: &str, url: &str) -> String {
    format!(
        "[sources.{name}]\nkind = \"nats\"\nservers = [\"{url}\"]\nstream = \"MATCH\"\nsubjects = [\"match.>\"]\n\
         durable = \"{name}\"\nkey = {{ token = 1 }}\ndead_letter = \"MATCH_DLQ\"\n\n"
    )
}

const ROUTE: &str =
    "[[routes]]\nname = \"all\"\naccount = \"refused\"\nmessage = { kind = \"text\", text = '.text' }\n\n";

#[test]
fn what_cannot_be_reached_is_told_with_where_to_look() {
    let easemob = Provider::start(Kind::Easemob, &[]);
    let plain = easemob.base_url();
    let at = |name: &str, url: &str| easemob.account(name, "").replace(plain, url);
    let config = [
        at("refused", "http://127.0.0.1:1"),
        at("nowhere", "http://no-such-host.invalid"),
        at("no-tls", &plain.replace("http:", "https:")),
        kafka_at("refused", "127.0.0.1:1", ""),
        kafka_at("nowhere", "no-such-host.invalid:9092", ""),
        nats_at("nats-refused", "nats://127.0.0.1:1"),
        nats_at("nats-nowhere", "nats://no-such-host.invalid:4222"),
        "[directories.rooms]\nkind = \"file\"\npath = \"/nowhere/rooms.csv\"\n\n".to_owned(),
        ROUTE.to_owned(),
    ];
    let lines = wrong(&config.concat());
    let way = "look at base_url, and at the way there";
    assert_told(&lines, "account refused", &["http://127.0.0.1:1: ", "Connection refused", way]);
    assert_told(&lines, "account nowhere", &["http://no-such-host.invalid: ", "lookup", way]);
    assert_told(&lines, "account no-tls", &["https://127", "speaks no TLS: is it http://"]);
    assert_told(&lines, "source refused", &["no broker of 127.0.0.1:1 answered", "Connection refused"]);
    assert_told(&lines, "source nowhere", &["no-such-host.invalid:9092", "resolve"]);
    assert_told(&lines, "source nats-refused", &["nats://127.0.0.1:1", "Connection refused"]);
    assert_told(&lines, "source nats-nowhere", &["nats://no-such-host.invalid:4222", "lookup"]);
    assert_told(&lines, "directory rooms", &["\"/nowhere/rooms.csv\": No such file"]);
}

#[test]
fn who_is_not_let_in_is_told_by_whom_and_which_keys_to_look_at() {
    let (easemob, yunxin) = (Provider::start(Kind::Easemob, &[]), Provider::start(Kind::Yunxin, &[]));
    let guarded = crate::secure::Guarded::start();
    let login = crate::secure::login("SCRAM-SHA-256", "wrong-password");
    let (_kafka, source) = guarded.source(guarded.sasl_plain, &login);
    let server = format!("authorization {{ user: roomcast, password: \"{NATS_PASSWORD}\" }}\n");
    let options = || {
        async_nats::ConnectOptions::with_user_and_password("roomcast".to_owned(), NATS_PASSWORD.to_owned())
    };
    let nats = Bed::nats_on(Nats::start_guarded(&server, options));
    let other = nats.source("username = \"roomcast\"\npassword = \"wrong-password\"\n");
    let wrong_secret = |account: String| account.replace("\"secret\"", "\"wrong-secret\"");
    let config = [
        wrong_secret(easemob.account("refused", "")),
        easemob.account("app", "").replace("app = \"live\"", "app = \"other\""),
        wrong_secret(yunxin.account("signed", "")),
        source,
        other.replace("sources.main", "sources.other"),
        ROUTE.to_owned(),
    ];
    let lines = wrong(&config.concat());
    let fit = "look at the account's id or key, its secret or token";
    assert_told(&lines, "account refused", &[easemob.base_url(), "the login is refused", fit]);
    assert_told(&lines, "account app", &["Could not find application for acme/other", "the account's app"]);
    assert_told(&lines, "account signed", &[yunxin.base_url(), "checksum", fit]);
    assert_told(&lines, "source main", &["uthentication failed"]);
    assert_told(&lines, "source other", &["uthorization violation"]);
    assert!(!lines.concat().contains("wrong-"), "P8: {lines:#?}");
}
