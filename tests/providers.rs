//! One conformance suite for every entry of `PROVIDERS`: golden requests, recorded answers, and
//! answers made of noise. A provider without fixtures fails. Opens no socket.
//!
//! Fixtures stand in `tests/fixtures/providers/<name>/`: `account.toml`, and lists of cases in
//! `requests/`, `replies/`, `accounts/`, `options/` and (where there is a login) `logins/`.
//! `FIXTURES=write` writes what the code does into them, for a person to read and commit.

#[path = "providers/fixture.rs"]
mod fixture;

use std::collections::BTreeSet;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fixture::{account, build, folder, items, kind_of, path_of, render, text, unfold, walk};
use roomcast::core::model::{Content, Path, Priority};
use roomcast::core::provider::{
    Answer, Fault, Invalid, Item, KindName, LoginFault, Outcome, PROVIDERS, Provider, Reply, Session, Stamp,
    Throttle, Trouble,
};
use roomcast::core::section::Severity;
use roomcast::core::time::Wall;
use serde_json::{Map, Value, json};

const STAMP: Stamp = Stamp { at: Wall(1_451_207_708_123), nonce: 0x1234 };
const TOKEN: &str = "YWMtFixtureToken0123456789";

fn session(provider: &dyn Provider) -> Option<Session> {
    provider.login().map(|_| Session { token: TOKEN.into(), lifetime: None })
}

// --- golden requests --------------------------------------------------------------------------

fn request(name: &str, case: &Value) -> Value {
    let provider = account(name, &case["account"]);
    let path = path_of(case);
    let items = match items(&*provider, case) {
        Ok(items) => items,
        Err(Invalid(text)) => return json!({ "invalid": text }),
    };
    let call = provider.call(path, &items, session(&*provider).as_ref(), &STAMP);
    let headers: Map<String, Value> = call
        .headers
        .iter()
        .map(|(name, value)| (name.to_string(), Value::from(value.to_str().unwrap())))
        .collect();
    let body = String::from_utf8(call.body.to_vec()).unwrap();
    if case["expect"]["headers"].is_object() || case["headers"] == true {
        return json!({ "path": call.path, "headers": headers, "body": body });
    }
    json!({ "path": call.path, "body": body })
}

#[test]
fn golden_requests() {
    for (name, _) in PROVIDERS {
        let cases = walk(name, "requests", "expect", |case| request(name, case));
        let provider = account(name, &json!({}));
        let mut kinds = BTreeSet::new();
        let mut paths = BTreeSet::new();
        for case in cases.iter().filter(|case| case["expect"]["body"].is_string()) {
            paths.insert(path_of(case));
            kinds.extend(case["draft"].is_object().then(|| kind_of(&unfold(&case["draft"])).name()));
        }
        assert_eq!(paths.len(), 3, "{name}: a golden request for each path");
        for kind in KINDS {
            let supported = provider.supports(kind, Path::Room).is_ok();
            assert_eq!(kinds.contains(&kind), supported, "{name}: a golden request for each kind: {kind:?}");
        }
        assert!(
            cases.iter().any(|case| case["expect"]["headers"].is_object()),
            "{name}: headers are shown once"
        );
    }
}

const KINDS: [KindName; 10] = [
    KindName::Text,
    KindName::Image,
    KindName::Audio,
    KindName::Video,
    KindName::File,
    KindName::Location,
    KindName::Command,
    KindName::Custom,
    KindName::Tip,
    KindName::Machine,
];

// --- recorded answers -------------------------------------------------------------------------

fn answer(case: &Value, items: &[Item]) -> Answer {
    let answer = &case["answer"];
    if let Some(fault) = text(&answer["not_sent"]) {
        return Err(Fault::NotSent(fault));
    }
    if let Some(fault) = text(&answer["unknown"]) {
        return Err(Fault::Unknown(fault));
    }
    let mut body = match &answer["body"] {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        json => json.to_string(),
    };
    for (index, item) in items.iter().enumerate() {
        body = body.replace(&format!("$id{index}"), &item.id.to_string());
    }
    Ok(Reply {
        status: u16::try_from(answer["status"].as_u64().unwrap()).unwrap(),
        retry_after: answer["retry_after"].as_u64().map(Duration::from_secs),
        date: answer["date"].as_i64().map(Wall),
        body: Bytes::from(body),
        whole: answer["cut"] != true,
    })
}

fn told(trouble: &Trouble) -> String {
    let status = trouble.status.map_or_else(|| "-".to_owned(), |status| status.to_string());
    format!("{status} {} {}", trouble.code.as_deref().unwrap_or("-"), trouble.text)
}

fn shown(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Accepted(how) => format!("accepted: {}", how.word()),
        Outcome::Throttled { scope, trouble } => {
            let scope = match scope {
                Throttle::Path(pause) => format!("path {pause:?}"),
                Throttle::PathUntilMidnight => "path until midnight".to_owned(),
                Throttle::Room(pause) => format!("room {pause:?}"),
            };
            format!("throttled: {scope}: {}", told(trouble))
        }
        Outcome::Refused { class, trouble } => format!("refused: {}: {}", class.word(), told(trouble)),
        Outcome::Unauthorized(trouble)
        | Outcome::Closed(trouble)
        | Outcome::Failed(trouble)
        | Outcome::Uncertain(trouble) => format!("{}: {}", outcome.word(), told(trouble)),
    }
}

#[test]
fn recorded_answers() {
    for (name, _) in PROVIDERS {
        let cases = walk(name, "replies", "outcomes", |case| {
            let provider = account(name, &case["account"]);
            let items = items(&*provider, case).unwrap();
            let outcomes = provider.outcomes(path_of(case), &items, &answer(case, &items));
            assert_eq!(outcomes.len(), items.len(), "{name}: one outcome for each item");
            outcomes.iter().map(shown).collect()
        });
        let seen: BTreeSet<String> = cases
            .iter()
            .flat_map(|case| case["outcomes"].as_array().unwrap())
            .map(|outcome| outcome.as_str().unwrap().split(':').next().unwrap().to_owned())
            .collect();
        for word in ["accepted", "throttled", "refused", "closed", "failed", "uncertain"] {
            assert!(seen.contains(word), "{name}: no recorded answer is {word}");
        }
        let logs_in = account(name, &json!({})).login().is_some();
        assert_eq!(seen.contains("unauthorized"), logs_in, "{name}: unauthorized is for who can log in");
    }
}

#[test]
fn recorded_logins() {
    for (name, _) in PROVIDERS {
        if account(name, &json!({})).login().is_none() {
            continue;
        }
        walk(name, "logins", "session", |case| {
            let provider = account(name, &case["account"]);
            let call = provider.login().unwrap();
            assert!(call.path.starts_with('/') && !call.body.is_empty(), "{name}: {call:?}");
            Value::from(match provider.session(&answer(case, &[])) {
                Ok(session) => {
                    session.lifetime.map_or_else(|| "for ever".to_owned(), |life| format!("{life:?}"))
                }
                Err(LoginFault::Refused(trouble)) => format!("refused: {}", told(&trouble)),
                Err(LoginFault::Failed(trouble)) => format!("failed: {}", told(&trouble)),
            })
        });
    }
}

// --- noise ------------------------------------------------------------------------------------

/// Pieces of what answers are made of, so that noise gets beyond the first byte.
const PIECES: [&str; 24] = [
    "{",
    "}",
    "[",
    "]",
    ":",
    ",",
    "\"",
    "null",
    "true",
    "200",
    "414",
    "1e999",
    "-",
    "\\u",
    "\"data\"",
    "\"code\"",
    "\"desc\"",
    "\"36\"",
    "\"success\"",
    "\"fail\"",
    "\"error\"",
    "\"error_description\"",
    "é",
    "\u{0}",
];

fn noise(rng: &mut fastrand::Rng, secrets: &[&str]) -> Vec<u8> {
    let mut body = Vec::new();
    for _ in 0..rng.usize(0..40) {
        match rng.u8(0..8) {
            0 => body.extend((0..rng.usize(0..8)).map(|_| rng.u8(..))),
            1 => body.extend_from_slice(rng.choice(secrets).unwrap().as_bytes()),
            _ => body.extend_from_slice(rng.choice(PIECES).unwrap().as_bytes()),
        }
    }
    body
}

/// Hands noise to a provider as the answer to calls with these items.
fn endure(provider: &dyn Provider, calls: &[Vec<Item>]) {
    let name = provider.name();
    // The account's own secrets: another account's are not known to it.
    let account = fs::read_to_string(folder(name).join("account.toml")).unwrap();
    let own =
        account.lines().find_map(|line| line.split_once("_secret = ")).expect("an account has a secret").1;
    let secrets = [own.trim_matches('"'), TOKEN];
    let mut rng = fastrand::Rng::with_seed(0x5eed);
    for round in 0..20_000 {
        let reply = Reply {
            status: *rng
                .choice(&[200, 200, 200, 201, 302, 400, 401, 403, 404, 429, 500, 503, 0, 65_535])
                .unwrap(),
            retry_after: rng.bool().then(|| Duration::from_secs(rng.u64(0..1_000))),
            date: None,
            body: Bytes::from(noise(&mut rng, &secrets)),
            whole: rng.bool(),
        };
        let items = rng.choice(calls.iter()).unwrap();
        let path = *rng.choice(Path::ALL.iter()).unwrap();
        let outcomes = provider.outcomes(path, items, &Ok(reply.clone()));
        assert_eq!(outcomes.len(), items.len(), "{name}, round {round}");
        // A token is a session's own to keep; `Debug` hides it.
        let said = format!("{outcomes:?} {:?}", provider.session(&Ok(reply)));
        for secret in secrets {
            assert!(!said.contains(secret), "{name}, round {round}: {said}");
        }
        for line in outcomes.iter().map(shown) {
            assert!(line.len() < 1_200 && !line.contains('\n'), "{name}, round {round}: {line}");
        }
    }
}

#[test]
fn no_answer_breaks_a_provider_or_makes_it_tell_a_secret() {
    for (name, _) in PROVIDERS {
        let provider = account(name, &json!({}));
        let one = items(&*provider, &json!({})).unwrap();
        let several = items(&*provider, &json!({"rooms": ["36", "37", "38"]})).unwrap();
        endure(&*provider, &[one, several]);
    }
}

#[test]
fn no_answer_to_a_batch_breaks_a_provider() {
    let provider = account("yunxin", &json!({"batch": true}));
    let draft = json!({"kind": "text", "text": "x", "priority": "high"});
    endure(&*provider, &[items(&*provider, &json!({"drafts": [draft, draft, draft]})).unwrap()]);
}

#[test]
fn nothing_that_is_printed_shows_a_secret() {
    for (name, _) in PROVIDERS {
        let provider = account(name, &json!({}));
        let items = items(&*provider, &json!({})).unwrap();
        let call = provider.call(Path::Room, &items, session(&*provider).as_ref(), &STAMP);
        let masked: Vec<(&str, &str)> = call.masked_headers().collect();
        assert!(masked.iter().any(|(_, value)| *value == "***"), "{name}: {masked:?}");
        let said = format!("{provider:?} {call:?} {masked:?} {:?}", provider.login());
        for secret in ["secret-of", TOKEN, "YXA6-secret"] {
            assert!(!said.contains(secret), "{name}: {said}");
        }
        let sum = call.headers.get("checksum").map(|value| value.to_str().unwrap().to_owned());
        assert!(sum.is_none_or(|sum| !said.contains(&sum)), "{name}: {said}");
    }
}

// --- accounts, options ------------------------------------------------------------------------

#[test]
fn what_is_wrong_with_an_account_is_told() {
    for (name, _) in PROVIDERS {
        walk(name, "accounts", "problems", |case| {
            let (provider, problems) = build(name, &case["account"]);
            let errors = problems.iter().any(|problem| problem.severity == Severity::Error);
            assert!(provider.is_some() || errors, "{name}: {}: a refusal says why", case["name"]);
            problems
                .iter()
                .map(|p| format!("{:?}: {}: {}: {}", p.severity, p.key, p.found, p.wanted))
                .collect()
        });
    }
}

#[test]
fn what_is_wrong_with_options_is_told() {
    for (name, _) in PROVIDERS {
        walk(name, "options", "wrong", |case| {
            let provider = account(name, &json!({}));
            let options = case["options"].as_object().unwrap();
            let kind = KINDS.into_iter().find(|kind| {
                format!("{kind:?}").eq_ignore_ascii_case(case["kind"].as_str().unwrap_or("text"))
            });
            let mut wrong =
                provider.check_options(kind.unwrap(), path_of(case), options).err().unwrap_or_default();
            let priority = case["priority"].as_str().unwrap_or("normal");
            let priority = *Priority::ALL.iter().find(|known| known.word() == priority).unwrap();
            wrong.extend(provider.check_priority(path_of(case), priority, options).err());
            wrong.iter().map(|(key, what)| format!("{key}: {what}")).collect()
        });
    }
}

#[test]
fn messages_of_other_senders_do_not_join_a_batch() {
    let provider = account("yunxin", &json!({"batch": true}));
    let draft = |sender: &str, text: &str, options: Value| {
        let draft = json!({"kind": "text", "text": text, "sender": sender, "options": options});
        render(&*provider, Path::Room, &draft, 0).unwrap().content
    };
    let first = draft("a", "one", json!({"subType": 1}));
    assert!(first.joins(&draft("a", "two", json!({"subType": 2, "locX": 1.5}))));
    assert!(!first.joins(&draft("b", "two", json!({}))));
    assert!(!first.joins(&draft("a", "two", json!({"skipHistory": 1}))));
    let single = Arc::new(Content { single: Bytes::from_static(b"x"), batched: Bytes::new() });
    assert!(!single.joins(&single), "no batch, no company");
}

#[test]
fn the_longest_easemob_message_fills_the_largest_call_to_the_byte() {
    for rooms in [1, 3, 10] {
        let provider = account("easemob", &json!({"rooms_per_call": rooms}));
        let ids: Vec<String> = (0..rooms).map(|n| format!("{n:0>64}")).collect();
        let draft = |times: usize| json!({"kind": "text", "text": "x".repeat(times)});
        let call = |times: usize| items(&*provider, &json!({"draft": draft(times), "rooms": ids}));
        let longest = (0..5_000).rev().find(|times| call(*times).is_ok()).expect("a short text fits");
        let body = provider.call(Path::Room, &call(longest).unwrap(), None, &STAMP).body;
        assert_eq!(body.len(), 5_000, "{rooms} rooms");
        assert!(call(longest + 1).is_err(), "{rooms} rooms");
    }
}
