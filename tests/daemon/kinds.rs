//! Every kind of message, target and CloudEvent to both providers: what leaves the process has the
//! fields of section 10 of the design, and the simulators, who check the pages, find nothing wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Value, json};

use crate::bed::{Bed, Event, on_both};
use crate::support::daemon::Daemon;
use crate::support::provider::{Kind, Provider};
use crate::tap::{Request, Tap};

/// Yunxin's broadcasts wait for a minute after a start: nothing tells what an earlier process has
/// used of their quota by the minute.
const PATIENCE: Duration = Duration::from_secs(120);

/// The route's lines for each kind of event, the same for both accounts.
const ROUTES: &[(&str, &str)] = &[
    ("text", r#"message = { kind = "text", text = '.text', ext = '{lang: "zh"}', sender = '"host"' }"#),
    (
        "image",
        r#"message = { kind = "image", url = '.url', name = '.name', width = '.w', height = '.h', bytes = '.n', md5 = '.md5', extension = '.ext', secret = '.secret' }"#,
    ),
    (
        "audio",
        r#"message = { kind = "audio", url = '.url', name = '.name', duration_ms = '.ms', bytes = '.n', md5 = '.md5', extension = '.ext', secret = '.secret' }"#,
    ),
    (
        "video",
        r#"message = { kind = "video", url = '.url', name = '.name', duration_ms = '.ms', width = '.w', height = '.h', bytes = '.n', md5 = '.md5', extension = '.ext', secret = '.secret', thumb = '.thumb', thumb_secret = '.ts' }"#,
    ),
    (
        "file",
        r#"message = { kind = "file", url = '.url', name = '.name', bytes = '.n', md5 = '.md5', extension = '.ext', secret = '.secret' }"#,
    ),
    ("location", r#"message = { kind = "location", lat = '.lat', lng = '.lng', address = '.addr' }"#),
    ("command", r#"message = { kind = "command", action = '.text', data = '.gift' }"#),
    ("custom", r#"message = { kind = "custom", event = '"gift.sent"', fields = '.gift' }"#),
    ("machine", ""),
    ("machine-command", r#"message = "command""#),
    ("directed", "message = { kind = \"text\", text = '.text' }\nusers = '.users[]'"),
    ("broadcast", "message = { kind = \"text\", text = '.text' }\nall_rooms = true"),
    ("high", "message = { kind = \"text\", text = '.text' }\npriority = \"high\""),
    ("structured", r#"message = { kind = "text", text = '.data.text' }"#),
    ("binary", r#"message = { kind = "text", text = '.data.text' }"#),
];

/// Routes that one of them has alone.
const EASEMOB_ONLY: (&str, &str) =
    ("options", r#"message = { kind = "text", text = '.text', options = { roam_ignore_users = '["u9"]' } }"#);
const YUNXIN_ONLY: &[(&str, &str)] = &[
    ("tip", r#"message = { kind = "tip", text = '.text' }"#),
    ("options", r#"message = { kind = "text", text = '.text', options = { skipHistory = 1, subType = 3 } }"#),
    ("attach", r#"message = { kind = "custom", event = '"e"', attach = '{mine: .gift}' }"#),
];

fn payload(kind: &str) -> Value {
    json!({
        "type": kind, "text": "hello 世界 & 50%+1", "url": "https://files.example/a?b=c&d", "name": "n.png",
        "w": 640, "h": 480, "n": 12_345, "ms": 1_500, "md5": "d41d8cd98f00b204e9800998ecf8427e",
        "ext": "png", "secret": "s1", "thumb": "https://files.example/t", "ts": "s2",
        "lat": 30.25, "lng": 120.5, "addr": "West Lake", "users": ["u1", "u2"], "gift": {"name": "rose", "n": 3},
    })
}

/// The event of a kind, as its producer would write it on this broker.
fn event(bed: &Bed, account: &str, kind: &str, room: &str) -> Event {
    let event_type = format!("{account}.{kind}");
    let prefix = |name: &'static str, other: &'static str| match bed {
        Bed::Kafka { .. } => name,
        Bed::Nats(_) => other,
    };
    match kind {
        "structured" | "machine" | "machine-command" => {
            let cloud = json!({
                "specversion": "1.0", "id": format!("id-{account}-{kind}"), "source": "/games/7", "type": event_type,
                "time": "2026-01-02T03:04:05Z", "data": payload(&event_type),
            });
            Event::new(room, cloud.to_string())
                .with("content-type", "application/cloudevents+json; charset=utf-8")
        }
        "binary" => Event::new(room, payload(&event_type).to_string())
            .with("content-type", "application/json")
            .with(prefix("ce_specversion", "ce-specversion"), "1.0")
            .with(prefix("ce_id", "ce-id"), format!("id-{account}-binary"))
            .with(prefix("ce_source", "ce-source"), "/games/7")
            .with(prefix("ce_type", "ce-type"), event_type),
        _ => Event::new(room, payload(&event_type).to_string()),
    }
}

fn routes(account: &str, kinds: &[(&str, &str)]) -> String {
    let route = |(kind, lines): &(&str, &str)| {
        format!(
            "[[routes]]\nname = \"{account}-{kind}\"\nwhen = '.type == \"{account}.{kind}\"'\naccount = \"{account}\"\n{lines}\n\n"
        )
    };
    kinds.iter().map(route).collect()
}

/// Type and body of each kind at Easemob.
fn easemob(kind: &str) -> (&'static str, Value) {
    let url = "https://files.example/a?b=c&d";
    let text = json!({"msg": "hello 世界 & 50%+1"});
    let machine = payload(&format!("live.{kind}")).to_string();
    match kind {
        "image" => (
            "img",
            json!({"filename": "n.png", "secret": "s1", "url": url, "size": {"width": 640, "height": 480}}),
        ),
        "audio" => ("audio", json!({"filename": "n.png", "secret": "s1", "url": url, "length": 2})),
        "video" => (
            "video",
            json!({
                "filename": "n.png", "secret": "s1", "url": url, "length": 2, "file_length": 12_345,
                "thumb": "https://files.example/t", "thumb_secret": "s2",
            }),
        ),
        "file" => ("file", json!({"filename": "n.png", "secret": "s1", "url": url})),
        "location" => ("loc", json!({"lat": "30.25", "lng": "120.5", "addr": "West Lake"})),
        "command" => ("cmd", json!({"action": "hello 世界 & 50%+1"})),
        "custom" => ("custom", json!({"customEvent": "gift.sent", "customExts": {"name": "rose", "n": "3"}})),
        "machine" => {
            let exts = json!({"id": "id-live-machine", "type": "live.machine", "time": "2026-01-02T03:04:05Z", "data": machine});
            ("custom", json!({"customEvent": "live.machine", "customExts": exts}))
        }
        "machine-command" => ("cmd", json!({"action": "live.machine-command"})),
        _ => ("txt", text),
    }
}

/// `ext` of each kind at Easemob, without the id.
fn easemob_ext(kind: &str) -> Value {
    match kind {
        "text" => json!({"lang": "zh"}),
        "command" => json!({"data": {"name": "rose", "n": 3}}),
        "machine-command" => json!({
            "id": "id-live-machine-command", "type": "live.machine-command", "time": "2026-01-02T03:04:05Z",
            "data": payload("live.machine-command"),
        }),
        _ => json!({}),
    }
}

/// The number and the content of each kind at Yunxin; a text stands as it is.
fn yunxin(kind: &str) -> (&'static str, Value) {
    let url = "https://files.example/a?b=c&d";
    let md5 = "d41d8cd98f00b204e9800998ecf8427e";
    let machine = |kind: &str| {
        let own = format!("match.{kind}");
        json!({"event": own, "id": format!("id-match-{kind}"), "time": "2026-01-02T03:04:05Z", "data": payload(&own)})
    };
    match kind {
        "image" => (
            "1",
            json!({"name": "n.png", "md5": md5, "url": url, "ext": "png", "w": 640, "h": 480, "size": 12_345}),
        ),
        "audio" => ("2", json!({"dur": 1_500, "md5": md5, "url": url, "ext": "png", "size": 12_345})),
        "video" => (
            "3",
            json!({"dur": 1_500, "md5": md5, "url": url, "w": 640, "h": 480, "ext": "png", "size": 12_345}),
        ),
        "file" => ("6", json!({"name": "n.png", "md5": md5, "url": url, "ext": "png", "size": 12_345})),
        "location" => ("4", json!({"title": "West Lake", "lng": 120.5, "lat": 30.25})),
        "command" => ("100", json!({"event": "hello 世界 & 50%+1", "data": {"name": "rose", "n": 3}})),
        "custom" => ("100", json!({"event": "gift.sent", "data": {"name": "rose", "n": 3}})),
        "attach" => ("100", json!({"mine": {"name": "rose", "n": 3}})),
        "machine" | "machine-command" => ("100", machine(kind)),
        "tip" => ("10", json!("hello 世界 & 50%+1")),
        _ => ("0", json!("hello 世界 & 50%+1")),
    }
}

/// The one request among those to an endpoint that belongs to a room.
#[track_caller]
fn only<'a>(requests: &'a [Request], endpoint: &str, mine: impl Fn(&Request) -> bool) -> &'a Request {
    let found: Vec<&Request> = requests.iter().filter(|r| r.path.ends_with(endpoint) && mine(r)).collect();
    assert_eq!(found.len(), 1, "requests to {endpoint}: {found:?}");
    found[0]
}

fn judge_easemob(requests: &[Request], rooms: &BTreeMap<&str, String>) {
    for (&kind, room) in rooms {
        let endpoint = match kind {
            "directed" => "/acme/live/messages/chatrooms/users",
            "broadcast" => "/acme/live/messages/chatrooms/broadcast",
            _ => "/acme/live/messages/chatrooms",
        };
        let request = only(requests, endpoint, |r| kind == "broadcast" || r.json()["to"] == json!([room]));
        let mut found = request.json();
        let id = found["ext"].as_object_mut().and_then(|ext| ext.remove("roomcast_id"));
        let id = id.and_then(|id| id.as_str().map(str::to_owned)).expect("an id");
        assert_eq!(uuid::Uuid::parse_str(&id).map(|id| id.get_version_num()), Ok(5), "{kind}: {id}");
        let (word, body) = easemob(kind);
        let level = if kind == "high" { "high" } else { "normal" };
        let mut wanted = json!({"chatroom_msg_level": level, "ext": easemob_ext(kind)});
        if kind == "broadcast" {
            wanted["msg"] = json!({"type": word, "msg": body["msg"]});
        } else {
            wanted["to"] = json!([room]);
            wanted["type"] = json!(word);
            wanted["body"] = body;
        }
        match kind {
            "text" => wanted["from"] = json!("host"),
            "directed" => wanted["users"] = json!(["u1", "u2"]),
            "options" => wanted["roam_ignore_users"] = json!(["u9"]),
            _ => {}
        }
        // Machine data is a JSON text: its keys may stand in any order.
        let data = |value: &mut Value| {
            let data = value["body"]["customExts"]["data"].take();
            data.as_str().map(|text| serde_json::from_str::<Value>(text).expect("JSON in a text"))
        };
        if kind == "machine" {
            assert_eq!(data(&mut found), data(&mut wanted), "{kind}: data");
        }
        assert_eq!(found, wanted, "{kind}");
    }
}

fn judge_yunxin(requests: &[Request], rooms: &BTreeMap<&str, String>) {
    let mut ids = BTreeSet::new();
    for (&kind, room) in rooms {
        let endpoint = match kind {
            "directed" => "/chatroom/sendMsgToSomeone.action",
            "broadcast" => "/chatroom/broadcast.action",
            _ => "/chatroom/sendMsg.action",
        };
        let request =
            only(requests, endpoint, |r| kind == "broadcast" || r.form().get("roomid") == Some(room));
        let mut found = request.form();
        let id = found.remove("msgId").expect("an id");
        assert_eq!(uuid::Uuid::parse_str(&id).map(|id| id.get_version_num()), Ok(5), "{kind}: {id}");
        ids.insert(id);
        let resend = found.remove("resendFlag");
        assert!(resend.is_none_or(|flag| flag == "0" || flag == "1"));
        let (number, content) = yunxin(kind);
        let attach = found.remove("attach").expect("a content");
        let attach = match content.is_string() {
            true => Value::from(attach),
            false => serde_json::from_str(&attach).expect("JSON"),
        };
        assert_eq!(attach, content, "{kind}");
        let sender = if kind == "text" { "host" } else { "system" };
        let mut wanted = vec![("fromAccid", sender), ("msgType", number)];
        if kind != "broadcast" {
            wanted.push(("roomid", room));
        }
        match kind {
            "text" => wanted.push(("ext", r#"{"lang":"zh"}"#)),
            "directed" => wanted.push(("toAccids", r#"["u1","u2"]"#)),
            "high" => wanted.push(("highPriority", "true")),
            "options" => wanted.extend([("skipHistory", "1"), ("subType", "3")]),
            _ => {}
        }
        let wanted = wanted.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(found, wanted.collect::<BTreeMap<_, _>>(), "{kind}");
    }
    assert_eq!(ids.len(), rooms.len(), "each message has an id of its own");
}

on_both!(every_kind_arrives_with_the_right_fields);

fn every_kind_arrives_with_the_right_fields(bed: &Bed) {
    let easemob = Provider::start(Kind::Easemob, &[]);
    let yunxin = Provider::start(Kind::Yunxin, &[]);
    let live = Tap::before(&easemob, "live", "");
    let game = Tap::before(&yunxin, "match", "");
    let live_kinds: Vec<_> = ROUTES.iter().copied().chain([EASEMOB_ONLY]).collect();
    let game_kinds: Vec<_> = ROUTES.iter().chain(YUNXIN_ONLY).copied().collect();
    let config = [
        live.account().to_owned(),
        game.account().to_owned(),
        bed.source(""),
        routes("live", &live_kinds),
        routes("match", &game_kinds),
    ]
    .concat();
    let mut daemon = Daemon::start_ready(&config);
    let rooms = |kinds: &[(&'static str, &str)], first: u64| -> BTreeMap<&'static str, String> {
        (first..).zip(kinds).map(|(room, (kind, _))| (*kind, room.to_string())).collect()
    };
    let (live_rooms, game_rooms) = (rooms(&live_kinds, 2_001), rooms(&game_kinds, 3_001));
    let of = |account: &'static str, rooms: &BTreeMap<&str, String>| -> Vec<Event> {
        rooms.iter().map(|(kind, room)| event(bed, account, kind, room)).collect()
    };
    let mut events = of("live", &live_rooms);
    events.extend(of("match", &game_rooms));
    bed.publish(events);
    bed.await_finished(PATIENCE);
    assert_eq!(daemon.stop().code(), Some(0));
    judge_easemob(&live.requests(), &live_rooms);
    judge_yunxin(&game.requests(), &game_rooms);
    easemob.assert_content();
    yunxin.assert_content();
    assert_eq!(bed.letters(), [], "no letter");
}
