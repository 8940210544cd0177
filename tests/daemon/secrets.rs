//! P8: no secret is shown, in whatever form. A daemon at the highest log level goes through logins, refused
//! tokens, wrong credentials, poison and answers that repeat its own secrets, on both brokers with their
//! passwords; then everything that it said, serves and wrote is searched.

use std::time::Duration;

use async_nats::ConnectOptions;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use serde_json::json;

use crate::bed::{Bed, Event, await_metric, lines};
use crate::reload::{await_generation, hang_up};
use crate::secure::Guarded;
use crate::support::ask_until;
use crate::support::daemon::{Daemon, TOKEN, roomcast};
use crate::support::nats::Nats;
use crate::support::process::Process;
use crate::support::provider::{Kind, Provider};

const PATIENCE: Duration = Duration::from_secs(60);
/// Characters that base64, URLs, forms and JSON each write in their own way.
const CLIENT_SECRET: &str = "YXA6 e+s/7=\"q\\é%u0";
const APP_SECRET: &str = "yx&9+s/3=\"k\\é%a1";
const KAFKA_PASSWORD: &str = crate::secure::PASSWORD;
const NATS_PASSWORD: &str = "hedgehog-99-umbrella";
/// How every token that Easemob (and its simulator) gives begins.
const TOKEN_HEAD: &str = "YWMt";
/// A room whose messages are refused with an answer that repeats the secret.
const ECHO: &str = "1666";

/// Everything that somebody may read.
struct Seen(Vec<(String, String)>);

impl Seen {
    fn add(&mut self, what: &str, text: impl Into<String>) {
        self.0.push((what.to_owned(), text.into()));
    }

    /// Asserts that none of these stands anywhere, in no form.
    fn assert_without(&self, secrets: &[&str]) {
        let mut wrong = Vec::new();
        for secret in secrets {
            for form in forms(secret) {
                for (what, text) in &self.0 {
                    if let Some(at) = text.find(&form) {
                        let from = text.floor_char_boundary(at.saturating_sub(200));
                        let to = text.ceil_char_boundary((at + 100).min(text.len()));
                        wrong.push(format!("{what} shows {secret:?} as {form:?}: {}", &text[from..to]));
                    }
                }
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }
}

/// A secret as it may stand somewhere: as it is, in JSON (once and twice), in Rust's quotes, in URLs and
/// forms, in hexadecimal and in base64 wherever it begins.
fn forms(secret: &str) -> Vec<String> {
    let json = |text: &str| {
        let quoted = json!(text).to_string();
        quoted[1..quoted.len() - 1].to_owned()
    };
    let debug = format!("{secret:?}");
    let percent: String = secret.bytes().fold(String::new(), |out, byte| match byte {
        b if b.is_ascii_alphanumeric() || b"-_.~".contains(&b) => out + &char::from(b).to_string(),
        b => out + &format!("%{b:02X}"),
    });
    let hex: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
    let form: String = form_urlencoded::byte_serialize(secret.as_bytes()).collect();
    let mut all =
        vec![secret.to_owned(), json(secret), json(&json(secret)), debug[1..debug.len() - 1].to_owned()];
    all.extend([form, percent, hex]);
    // Which letters of base64 belong to the secret alone depends on how many bytes stand before it.
    for before in 0..3 {
        let bytes: Vec<u8> = [b'x'].repeat(before).into_iter().chain(secret.bytes()).collect();
        let from = (before * 8).div_ceil(6);
        let whole = bytes.len() * 8 / 6;
        all.extend([&STANDARD, &URL_SAFE].map(|base64| base64.encode(&bytes)[from..whole].to_owned()));
    }
    all.sort();
    all.dedup();
    all
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// Accounts with those secrets; the simulators know the right ones.
fn accounts(easemob: &Provider, yunxin: &Provider, client_secret: &str, app_secret: &str) -> String {
    let with = |account: String, secret: &str| account.replace("\"secret\"", &quoted(secret));
    let quota = "quota = { room_messages_per_second = 1000 }";
    with(easemob.account("live", quota), client_secret) + &with(yunxin.account("match", quota), app_secret)
}

const ROUTES: &str = r#"
[[routes]]
name = "kafka"
source = "main"
account = "live"
message = { kind = "text", text = '.text' }

[[routes]]
name = "nats"
source = "other"
account = "match"
message = { kind = "text", text = '.text' }
"#;

/// A Kafka and a NATS that want a password, each with a source of its own.
struct Brokers {
    kafka: Bed,
    nats: Bed,
    sources: String,
}

impl Brokers {
    fn new(guarded: &Guarded) -> Self {
        let login = format!(
            "{}properties = {{ debug = \"security,broker,conf\" }}\n",
            crate::secure::login("SCRAM-SHA-256", KAFKA_PASSWORD)
        );
        let (kafka, source) = guarded.source(guarded.sasl_plain, &login);
        let server = format!("authorization {{ user: roomcast, password: \"{NATS_PASSWORD}\" }}\n");
        let options =
            || ConnectOptions::with_user_and_password("roomcast".to_owned(), NATS_PASSWORD.to_owned());
        let nats = Bed::nats_on(Nats::start_guarded(&server, options));
        let login = format!("username = \"roomcast\"\npassword = \"{NATS_PASSWORD}\"\n");
        let other = nats.source(&login).replace("[sources.main]", "[sources.other]");
        Self { kafka, nats, sources: source + &other }
    }

    /// Good events, poison, and one that the provider refuses with the secret in its answer.
    fn publish(&self) {
        for bed in [&self.kafka, &self.nats] {
            bed.publish_lines(&lines(5, 10));
            bed.publish([
                Event::new("1001", "not JSON"),
                Event::new("1001", r#"{"text":{"a":1}}"#),
                Event::new(ECHO, r#"{"text":"refused"}"#),
            ]);
        }
    }
}

fn said(process: &Process) -> String {
    process.lines().into_iter().map(|line| line.text + "\n").collect()
}

/// What it serves, with the token and without.
fn look(daemon: &Daemon, seen: &mut Seen) {
    for path in ["/livez", "/readyz", "/metrics", "/api/status", "/api", "/"] {
        seen.add(path, daemon.get(path).map(|answer| answer.body).unwrap_or_default());
    }
    seen.add("/api/status with the token", daemon.status().expect("the daemon runs").to_string());
}

#[test]
fn p8_no_secret_is_shown_anywhere() {
    let guarded = Guarded::start();
    let brokers = Brokers::new(&guarded);
    let easemob = Provider::start(Kind::Easemob, &["--no-limits", "--client-secret", CLIENT_SECRET]);
    let yunxin = Provider::start(Kind::Yunxin, &["--no-limits", "--app-secret", APP_SECRET]);
    let echo = |status: u16, code: i32, secret: &str| {
        let description =
            format!("client_secret={secret} with token YWMtdGhpcyBpcyBhIHRva2VuIG9mIG91cnM is not allowed");
        json!({"effect": {"answer": {"status": status, "code": code, "description": description}}, "rooms": [ECHO]})
    };
    easemob.set_faults(&json!([echo(400, 4_000, CLIENT_SECRET), {"effect": "revoke_tokens", "after": 5}]));
    yunxin.set_faults(&json!([echo(200, 414, APP_SECRET)]));
    let secrets = [CLIENT_SECRET, APP_SECRET, KAFKA_PASSWORD, NATS_PASSWORD, TOKEN, TOKEN_HEAD];
    let mut seen = Seen(Vec::new());

    let config = accounts(&easemob, &yunxin, CLIENT_SECRET, APP_SECRET) + &brokers.sources + ROUTES;
    let mut daemon = Daemon::start_with(&config, &["--log-level", "trace"]);
    daemon.await_ready();
    brokers.publish();
    for bed in [&brokers.kafka, &brokers.nats] {
        bed.await_finished(PATIENCE);
        ask_until("three letters", PATIENCE, || (bed.letters().len() == 3).then_some(()));
    }
    await_metric(&daemon, "roomcast_logins_total", "result=\"worked\"", 2.0, PATIENCE);
    look(&daemon, &mut seen);
    assert!(daemon.stop().success());
    let log = said(daemon.process());
    assert!(log.contains("\"level\":\"TRACE\""), "the daemon does not log at trace");
    seen.add("the log", log);
    for (name, bed) in [("Kafka", &brokers.kafka), ("NATS", &brokers.nats)] {
        let letters = bed.letters();
        // The answer is there, without what it repeated.
        let refused =
            letters.iter().any(|letter| letter.headers["roomcast-error"].contains("client_secret=***"));
        assert!(refused, "{letters:#?}");
        seen.add(&format!("letters in {name}"), format!("{letters:?}"));
        for letter in &letters {
            let value = String::from_utf8_lossy(letter.value.as_deref().unwrap_or_default()).into_owned();
            seen.add(&format!("a letter's value in {name}"), value);
            seen.add(&format!("a letter's headers in {name}"), json!(letter.headers).to_string());
        }
    }

    wrong_credentials(&brokers, (&easemob, &yunxin), &mut seen);
    commands(&config, &mut seen);
    let total: usize = seen.0.iter().map(|(_, text)| text.len()).sum();
    assert!(total > 100_000, "only {total} bytes to search");
    seen.assert_without(&secrets);
    seen.assert_without(&["wrong-secret-1 +/", "wrong-secret-2 +/", "wrong-password-3"]);
}

/// A daemon that nobody lets in: refused logins, signatures and passwords.
fn wrong_credentials(brokers: &Brokers, (easemob, yunxin): (&Provider, &Provider), seen: &mut Seen) {
    let sources = brokers.sources.replace(NATS_PASSWORD, "wrong-password-3").replace("roomcast.creds", "");
    let config = accounts(easemob, yunxin, "wrong-secret-1 +/", "wrong-secret-2 +/") + &sources + ROUTES;
    let mut daemon = Daemon::start_with(&config, &["--log-level", "trace"]);
    daemon.process().await_line("uthorization violation", PATIENCE);
    await_metric(&daemon, "roomcast_logins_total", "result=\"failed\"", 1.0, PATIENCE);
    look(&daemon, seen);
    assert!(daemon.stop().code().is_some());
    seen.add("the log with wrong credentials", said(daemon.process()));
}

/// What the other commands say of the same config, of one with a mistake beside every secret, and of one
/// that is no TOML there.
fn commands(config: &str, seen: &mut Seen) {
    let folder = tempfile::tempdir().expect("a scratch folder");
    let path = folder.path().join("roomcast.toml");
    let broken = config.replace("secret = ", "secert = 5\nclient_secret = ").replace("app = ", "app = = ");
    let mistaken = config.replace("quota = {", "quota = { nothing = 1, ");
    for text in [config, &broken, &mistaken] {
        std::fs::write(&path, text).expect("the scratch folder can be written");
        for arguments in [
            &["check"][..],
            &["check", "--live"],
            &["check", "--live", "--format", "json"],
            &["send", "--account", "live", "--room", ECHO, "--text", "hello"],
            &["send", "--account", "match", "--room", ECHO, "--text", "hello"],
            &["explain", "--source", "main", "--key", "1001", "--format", "curl"],
            &["explain", "--source", "other", "--key", "1001", "--format", "json"],
        ] {
            let mut command = roomcast(&["--log-level", "trace", "-c"]);
            let command = command.arg(&path).args(arguments).stdin(std::process::Stdio::null());
            let output = command.output().expect("the program runs");
            let what = arguments.join(" ");
            seen.add(&format!("{what}: stdout"), String::from_utf8_lossy(&output.stdout));
            seen.add(&format!("{what}: stderr"), String::from_utf8_lossy(&output.stderr));
        }
    }
}

/// Answers to every message of these rooms (of all, when none is named) that repeat a secret.
fn echoes(status: u16, code: i32, secret: &str, rooms: &[&str]) -> serde_json::Value {
    let answer =
        json!({"status": status, "code": code, "description": format!("secret={secret} is not allowed")});
    match rooms {
        [] => json!([{ "effect": { "answer": answer } }]),
        rooms => json!([{ "effect": { "answer": answer }, "rooms": rooms }]),
    }
}

/// Secrets that are changed in their files and read again, and a reload that is refused.
#[test]
fn p8_a_reload_shows_neither_the_old_nor_the_new_secret() {
    const OLD: [&str; 2] = ["YXA6 o+l/d=\"x\\è%v1", "ya&1+o/4=\"l\\è%d2"];
    const THIRD: &str = "third-secret &+/\u{e9}";
    let bed = Bed::kafka();
    let easemob = Provider::start(Kind::Easemob, &["--no-limits", "--client-secret", CLIENT_SECRET]);
    let yunxin = Provider::start(Kind::Yunxin, &["--no-limits", "--app-secret", APP_SECRET]);
    yunxin.set_faults(&echoes(200, 414, OLD[1], &[]));
    let folder = tempfile::tempdir().expect("a scratch folder");
    let write = |secrets: [&str; 2]| {
        for (name, secret) in ["client", "app"].iter().zip(secrets) {
            std::fs::write(folder.path().join(name), format!("{secret}\n")).expect("it can be written");
        }
    };
    let in_file = |account: String, key: &str, name: &str| {
        let file = quoted(&folder.path().join(name).display().to_string());
        account.replace(&format!("{key} = \"secret\""), &format!("{key}_file = {file}"))
    };
    let quota = "quota = { room_messages_per_second = 1000 }";
    let accounts = in_file(easemob.account("live", quota), "client_secret", "client")
        + &in_file(yunxin.account("match", quota), "app_secret", "app");
    let routes =
        ROUTES.replace("source = \"main\"", "when = '$key == \"1001\"'").replace("source = \"other\"\n", "");
    let config = accounts + &bed.source("") + &routes;

    write(OLD);
    let mut seen = Seen(Vec::new());
    let mut daemon = Daemon::start_with(&config, &["--log-level", "trace"]);
    daemon.await_ready();
    bed.publish_lines(&lines(5, 50));
    await_metric(&daemon, "roomcast_logins_total", "result=\"failed\"", 1.0, PATIENCE);
    ask_until("both accounts to be refused", PATIENCE, || {
        daemon.metric("roomcast_account_up", "").filter(|up| *up == 0.0)
    });
    look(&daemon, &mut seen);
    let status = daemon.status().expect("it answers").to_string();
    assert!(status.contains("secret=***"), "the answer is there, without what it repeated: {status}");

    easemob.set_faults(&echoes(400, 4_000, CLIENT_SECRET, &[ECHO]));
    yunxin.set_faults(&echoes(200, 414, APP_SECRET, &[ECHO]));
    write([CLIENT_SECRET, APP_SECRET]);
    hang_up(&mut daemon);
    await_generation(&daemon, 2);
    bed.publish([Event::new(ECHO, r#"{"text":"refused"}"#)]);
    bed.await_finished(PATIENCE);
    look(&daemon, &mut seen);

    let inline = config.replace("client_secret_file", "client_secret = \"third-secret &+/\u{e9}\"\n# ");
    for wrong in [inline.replace("org = ", "org = 5 #"), inline.replace("&+/\u{e9}\"", "&+/\u{e9}")] {
        let refused = daemon.metric("roomcast_config_reloads_total", "result=\"refused\"").unwrap_or(0.0);
        daemon.rewrite(&wrong);
        hang_up(&mut daemon);
        await_metric(&daemon, "roomcast_config_reloads_total", "result=\"refused\"", refused + 1.0, PATIENCE);
        look(&daemon, &mut seen);
    }
    assert!(daemon.stop().success());
    let log = said(daemon.process());
    assert!(log.contains("accounts.live.client_secret_file, accounts.match.app_secret_file"), "it was taken");
    seen.add("the log", log);
    for letter in bed.letters() {
        seen.add("a letter's headers", json!(letter.headers).to_string());
    }
    seen.assert_without(&[OLD[0], OLD[1], CLIENT_SECRET, APP_SECRET, THIRD, TOKEN, TOKEN_HEAD]);
}

#[test]
fn a_secret_is_found_in_every_form() {
    for text in [
        format!("a {CLIENT_SECRET} b"),
        json!({ "a": json!({ "b": APP_SECRET }).to_string() }).to_string(),
        format!("{CLIENT_SECRET:?}"),
        STANDARD.encode(format!("user:{CLIENT_SECRET}")),
        URL_SAFE.encode(format!("use:{APP_SECRET}!")),
        STANDARD.encode(format!("us:{APP_SECRET}!")),
        form_urlencoded::Serializer::new(String::new()).append_pair("s", APP_SECRET).finish(),
    ] {
        let seen = Seen(vec![("here".to_owned(), text.clone())]);
        let found = std::panic::catch_unwind(|| seen.assert_without(&[CLIENT_SECRET, APP_SECRET]));
        assert!(found.is_err(), "not found in {text}");
    }
    Seen(vec![("here".to_owned(), "nothing to be seen".to_owned())])
        .assert_without(&[CLIENT_SECRET, APP_SECRET]);
}
