//! `explain --format curl`: the commands that it prints, run by a shell against the simulators once
//! the secret stands in the place kept for it.

use std::process::Command;

use super::support::provider::{Kind, Provider};
use super::{Ended, Folder, fed};

const SOURCE: &str = r#"
[sources.live]
kind = "kafka"
brokers = "127.0.0.1:9092"
group = "roomcast"
topics = ["live.events"]
dead_letter = "live.events.dlq"

[[routes]]
name = "direct"
when = '.users'
account = "live"
rooms = '.rooms[]'
users = '.users[]'
message = { kind = "text", text = '.text' }

[[routes]]
name = "all"
when = '.all'
account = "live"
all_rooms = true
message = { kind = "text", text = '.text' }

[[routes]]
name = "rooms"
account = "live"
rooms = '.rooms[]'
message = { kind = "text", text = '.text' }
"#;

/// A text that a shell would like to misread.
const TEXT: &str = r#"it's \"$HOME\" & 100% `ls` 环信"#;

/// Prints the commands of an event, puts the secret in, and lets a shell run them.
fn by_hand(folder: &Folder, event: &str, secret: &str) -> (String, Ended) {
    let script = folder.explain(&["--format", "curl"], event);
    assert_eq!(script.code, 0, "{script:#?}");
    assert_eq!(script.stdout.matches("'***'").count(), 1, "one place for the secret: {script:#?}");
    let filled = script.stdout.replace("'***'", &format!("'{secret}'"));
    let ran = fed(Command::new("sh").arg("-eu"), &filled);
    (script.stdout, ran)
}

/// What the simulator took: paths, rooms and contents.
fn accepted(provider: &Provider) -> Vec<(String, String, String)> {
    let entries = provider.log().into_iter().filter(|entry| entry.path != "token");
    entries
        .map(|entry| {
            assert!(entry.accepted, "{entry:?}");
            (entry.path, entry.room.unwrap_or_default(), entry.content)
        })
        .collect()
}

fn events() -> [(String, usize); 3] {
    [
        (format!(r#"{{"text":"{TEXT}","rooms":[1,2]}}"#), 2),
        (format!(r#"{{"text":"{TEXT}","rooms":[3],"users":["ann","bob"]}}"#), 1),
        (format!(r#"{{"text":"{TEXT}","all":true}}"#), 1),
    ]
}

fn assert_that_curl_works(kind: Kind, account: impl Fn(&Provider) -> String, secret: &str, flags: &[&str]) {
    let provider = Provider::start(kind, flags);
    let folder = Folder::new(&[("roomcast.toml", &(account(&provider) + SOURCE))]);
    let mut messages = 0;
    for (event, count) in events() {
        let (script, ran) = by_hand(&folder, &event, secret);
        assert!(!script.contains("secret-of"), "a secret of the config is shown: {script}");
        assert_eq!((ran.code, &*ran.stderr), (0, ""), "{script}\n{ran:#?}");
        messages += count;
        assert_eq!(accepted(&provider).len(), messages, "{script}\n{ran:#?}");
    }
    let wanted = serde_json::from_str::<String>(&format!("\"{TEXT}\"")).unwrap();
    let seen = accepted(&provider);
    assert!(
        seen.iter().all(|(_, _, content)| content.contains("环信") && content.contains("$HOME")),
        "{wanted}: {seen:#?}"
    );
    let paths: Vec<(&str, &str)> = seen.iter().map(|(path, room, _)| (&**path, &**room)).collect();
    assert_eq!(paths, [("room", "1"), ("room", "2"), ("users", "3"), ("broadcast", "")]);
    provider.assert_content();
}

#[test]
fn yunxins_signature_is_made_by_the_shell() {
    let account =
        |provider: &Provider| provider.account("live", "").replace("\"secret\"", "\"secret-of-config\"");
    assert_that_curl_works(Kind::Yunxin, account, "secret", &[]);
}

#[test]
fn easemobs_login_is_made_by_the_shell() {
    let account = |provider: &Provider| {
        provider
            .account("live", "")
            .replace("client_secret = \"secret\"", "client_secret = \"secret-of-config\"")
    };
    assert_that_curl_works(Kind::Easemob, account, "secret", &[]);
}

#[test]
fn easemobs_own_token_is_put_in_as_it_is() {
    let account = |provider: &Provider| {
        let account = provider.account("live", "");
        account.replace("client_id = \"id\"\nclient_secret = \"secret\"", "app_token = \"secret-of-config\"")
    };
    assert_that_curl_works(Kind::Easemob, account, "YWMt-own", &["--app-token", "YWMt-own"]);
}

#[test]
fn a_wrong_secret_is_refused() {
    let provider = Provider::start(Kind::Yunxin, &[]);
    let folder = Folder::new(&[("roomcast.toml", &(provider.account("live", "") + SOURCE))]);
    let (_, ran) = by_hand(&folder, r#"{"text":"hi","rooms":[1]}"#, "not the secret");
    assert!(ran.stdout.contains("414"), "{ran:#?}");
    assert!(provider.log().iter().all(|entry| !entry.accepted));
}
