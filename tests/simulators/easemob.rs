//! Easemob, field by field and limit by limit.

use roomcast::simulator::{Easemob, Entry, Options, Repeat, Unseen};
use serde_json::{Map, Value, json};

use super::{START, World, answer};

const TOKEN: &str = "YWMt-fixed";

/// A world with a token that is good from the start.
fn world(knobs: Easemob) -> World {
    World::new(Options::easemob(Easemob { app_token: Some(TOKEN.into()), ..knobs }))
}

fn unlimited() -> World {
    world(Easemob::default().without_limits())
}

impl World {
    async fn easemob(&self, path: &str, body: &Value) -> (u16, Value) {
        self.easemob_with(path, body, Some(TOKEN)).await
    }

    async fn easemob_with(&self, path: &str, body: &Value, token: Option<&str>) -> (u16, Value) {
        let url = format!("{}/acme/live/{path}", self.sim.base_url());
        let mut request = self.http.post(url).header("Accept", "application/json");
        if let Some(token) = token {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        answer(request.header("Content-Type", "application/json").body(body.to_string())).await
    }

    /// A text to these rooms; the status.
    async fn text(&self, rooms: &[&str]) -> u16 {
        let body = json!({"to": rooms, "type": "txt", "body": {"msg": "m"}});
        self.easemob("messages/chatrooms", &body).await.0
    }
}

fn login(secret: &str, ttl: Option<Value>) -> Value {
    let mut body =
        json!({"grant_type": "client_credentials", "client_id": "client", "client_secret": secret});
    if let Some(ttl) = ttl {
        body["ttl"] = ttl;
    }
    body
}

#[tokio::test]
async fn a_login_gives_a_token_that_lives_as_long_as_it_says() {
    let world = world(Easemob::default());
    for (ttl, expires_in) in
        [(None, 5_184_000), (Some(json!(60)), 60), (Some(json!("60")), 60), (Some(json!(0)), 0)]
    {
        let (status, body) = world.easemob_with("token", &login("secret", ttl.clone()), None).await;
        assert_eq!((status, &body["expires_in"]), (200, &json!(expires_in)), "{ttl:?}");
        assert!(uuid::Uuid::try_parse(body["application"].as_str().expect("text")).is_ok());
    }
    let (_, body) = world.easemob_with("token", &login("secret", Some(json!("60"))), None).await;
    let token = body["access_token"].as_str().expect("a token").to_owned();
    let text = json!({"to": ["7"], "type": "txt", "body": {"msg": "m"}});
    world.advance_ms(59_999);
    assert_eq!(world.easemob_with("messages/chatrooms", &text, Some(&token)).await.0, 200);
    world.advance_ms(1);
    let (status, body) = world.easemob_with("messages/chatrooms", &text, Some(&token)).await;
    assert_eq!((status, &body["error"]), (401, &json!("auth_bad_access_token")));
    assert!(body["error_description"].as_str().expect("text").contains("expired"));
    assert_eq!(world.sim.stats().tokens, 5);
}

#[tokio::test]
async fn wrong_logins_and_tokens_have_their_own_answers() {
    let world = world(Easemob::default());
    let text = json!({"to": ["7"], "type": "txt", "body": {"msg": "m"}});
    let room = "messages/chatrooms";
    for (path, body, token, status, error, part) in [
        ("token", login("wrong", None), None, 400, "invalid_grant", "does not match"),
        (
            "token",
            json!({"grant_type": "password"}),
            None,
            400,
            "unsupported_grant_type",
            "client_credentials",
        ),
        (room, text.clone(), None, 401, "auth_bad_access_token", "expired"),
        (room, text.clone(), Some("rubbish"), 401, "auth_bad_access_token", "corrupt"),
        (
            room,
            text.clone(),
            Some("YWMt-of-another-app"),
            401,
            "auth_bad_access_token",
            "Unable to authenticate",
        ),
        ("messages/nowhere", text.clone(), Some(TOKEN), 404, "service_resource_not_found", "not found"),
    ] {
        let (got, body) = world.easemob_with(path, &body, token).await;
        assert_eq!((got, &body["error"]), (status, &json!(error)), "{path} {token:?}");
        assert!(body["error_description"].as_str().expect("text").contains(part), "{body}");
        assert!(
            body["exception"].is_string() && body["timestamp"] == START.0 && body["duration"] == 0,
            "{body}"
        );
    }
    let url = format!("{}/acme/other/token", world.sim.base_url());
    let (status, body) = answer(world.http.post(url).body("{}")).await;
    assert_eq!((status, &body["error"]), (404, &json!("organization_application_not_found")));
    world.sim.revoke_tokens();
    let (status, body) = world.easemob_with(room, &text, Some(TOKEN)).await;
    assert_eq!((status, &body["error_description"]), (401, &json!("Unable to authenticate (OAuth)")));
    assert_eq!(world.sim.stats().refused["unauthorized"], 4);
}

/// One good content of each type, as in the page's samples.
fn contents() -> Vec<(&'static str, Value)> {
    vec![
        ("txt", json!({"msg": "testmessages"})),
        (
            "img",
            json!({"filename": "a.jpg", "secret": "s", "url": "https://h/u", "size": {"width": 480, "height": 720}}),
        ),
        ("audio", json!({"url": "https://h/u", "filename": "a.amr", "length": 10, "secret": "s"})),
        (
            "video",
            json!({"thumb": "https://h/t", "length": 0, "secret": "s", "file_length": 58103, "thumb_secret": "t", "url": "https://h/u"}),
        ),
        ("file", json!({"filename": "test.txt", "secret": "s", "url": "https://h/u"})),
        ("loc", json!({"lat": "39.966", "lng": "116.322", "addr": "中国北京市海淀区中关村"})),
        ("cmd", json!({"action": "action1"})),
        ("custom", json!({"customEvent": "custom_event", "customExts": {"ext_key1": "ext_value1"}})),
    ]
}

#[tokio::test]
async fn every_type_is_taken_on_every_path() {
    let world = unlimited();
    for (kind, content) in contents() {
        let mut body = json!({"from": "user1", "to": ["7"], "type": kind, "body": content, "ext": {"k": [1]}, "chatroom_msg_level": "high"});
        assert_eq!(world.easemob("messages/chatrooms", &body).await.0, 200, "{kind}");
        body["users"] = json!(["user2", "user3"]);
        assert_eq!(world.easemob("messages/chatrooms/users", &body).await.0, 200, "{kind}");
        let mut flat = content.as_object().expect("an object").clone();
        flat.insert("type".into(), kind.into());
        let body = json!({"msg": flat, "from": "admin", "chatroom_msg_level": "low"});
        assert_eq!(world.easemob("messages/chatrooms/broadcast", &body).await.0, 200, "{kind}");
    }
    let stats = world.sim.stats();
    assert_eq!((stats.accepted, stats.seen), (24, 24));
    assert!(stats.warnings.is_empty(), "{:?}", stats.warnings);
}

/// A good request of the path with some fields replaced (null: as null; absent: `"-"`).
fn changed(path: &str, changes: &Value) -> Value {
    let mut body: Map<String, Value> = match path {
        "messages/chatrooms/broadcast" => json!({"msg": {"type": "txt", "msg": "m"}}),
        "messages/chatrooms/users" => {
            json!({"to": ["7"], "users": ["u"], "type": "txt", "body": {"msg": "m"}})
        }
        _ => json!({"to": ["7"], "type": "txt", "body": {"msg": "m"}}),
    }
    .as_object()
    .expect("an object")
    .clone();
    for (name, value) in changes.as_object().expect("an object") {
        if value == "-" {
            body.remove(name);
        } else {
            body.insert(name.clone(), value.clone());
        }
    }
    Value::Object(body)
}

/// Path, what is changed in a good request, and what the refusal says.
type Case = (&'static str, Value, &'static str);

fn refused() -> Vec<Case> {
    let names = |count: usize| Value::from((0..count).map(|n| n.to_string()).collect::<Vec<_>>());
    let exts = |count: usize| Value::Object((0..count).map(|n| (n.to_string(), "v".into())).collect());
    let (room, users, all) =
        ("messages/chatrooms", "messages/chatrooms/users", "messages/chatrooms/broadcast");
    vec![
        (room, json!({"to": "-"}), "to can't be empty"),
        (room, json!({"to": []}), "to can't be empty"),
        (room, json!({"to": names(11)}), "to size can't exceed limit 10"),
        (room, json!({"to": "7"}), "to must be JSONArray"),
        (room, json!({"to": [7]}), "non-empty Strings"),
        (room, json!({"to": [""]}), "non-empty Strings"),
        (room, json!({"from": ""}), "from can't be empty"),
        (room, json!({"from": null}), "from must be String"),
        (room, json!({"ext": null}), "ext must be JSONObject"),
        (room, json!({"ext": "text"}), "ext must be JSONObject"),
        (room, json!({"chatroom_msg_level": "urgent"}), "chatroom_msg_level"),
        (room, json!({"type": "-"}), "type can't be empty"),
        (room, json!({"type": "tip"}), "type is not"),
        (room, json!({"body": "-"}), "body can't be empty"),
        (room, json!({"body": "m"}), "body must be JSONObject"),
        (room, json!({"roam_ignore_users": names(21)}), "can't exceed limit 20"),
        (room, json!({"env": "ninechars"}), "env"),
        (room, json!({"sync_device": "true"}), "sync_device"),
        (room, json!({"routetype": "ALL"}), "ROUTE_ONLINE"),
        (room, json!({"body": {}}), "msg can't be empty"),
        (room, json!({"body": {"msg": 1}}), "msg must be String"),
        (room, json!({"type": "img", "body": {"filename": "a"}}), "url can't be empty"),
        (room, json!({"type": "img", "body": {"url": "u", "size": {"width": "480"}}}), "size.width"),
        (room, json!({"type": "img", "body": {"url": "u", "size": 480}}), "size must be JSONObject"),
        (room, json!({"type": "audio", "body": {"url": "u", "length": 1.5}}), "length must be"),
        (room, json!({"type": "video", "body": {"url": "u", "file_length": "9"}}), "file_length must be"),
        (room, json!({"type": "video", "body": {"url": "u", "thumb": 1}}), "thumb must be String"),
        (room, json!({"type": "file", "body": {"url": null}}), "url can't be empty"),
        (room, json!({"type": "loc", "body": {"lng": "1", "addr": "a"}}), "lat can't be empty"),
        (room, json!({"type": "loc", "body": {"lat": true, "lng": "1", "addr": "a"}}), "lat must be String"),
        (room, json!({"type": "loc", "body": {"lat": "1", "lng": "1"}}), "addr can't be empty"),
        (room, json!({"type": "cmd", "body": {}}), "action can't be empty"),
        (room, json!({"type": "custom", "body": {"customEvent": "has blank"}}), "customEvent must match"),
        (room, json!({"type": "custom", "body": {"customEvent": ""}}), "customEvent must match"),
        (room, json!({"type": "custom", "body": {"customEvent": "e".repeat(33)}}), "customEvent must match"),
        (room, json!({"type": "custom", "body": {"customExts": exts(17)}}), "can't exceed limit 16"),
        (room, json!({"type": "custom", "body": {"customExts": {"n": 1}}}), "Map<String,String>"),
        (room, json!({"type": "custom", "body": {"customExts": []}}), "Map<String,String>"),
        (room, json!({"body": {"msg": "m".repeat(5_000)}}), "message is too large"),
        (room, json!({"ext": {"e": "m".repeat(5_000)}}), "message is too large"),
        (users, json!({"users": "-"}), "users can't be empty"),
        (users, json!({"users": []}), "users can't be empty"),
        (users, json!({"users": names(21)}), "users size can't exceed limit 20"),
        (users, json!({"to": ["7", "8"]}), "to size can't exceed limit 1"),
        (users, json!({"from": ""}), "from can't be empty"),
        (all, json!({"msg": "-"}), "msg can't be empty"),
        (all, json!({"msg": {"msg": "m"}}), "type can't be empty"),
        (all, json!({"msg": {"type": "txt"}}), "msg can't be empty"),
        (all, json!({"from": ""}), "from can't be empty"),
        (all, json!({"ext": null}), "ext must be JSONObject"),
    ]
}

#[tokio::test]
async fn what_the_page_refuses_is_refused() {
    let world = unlimited();
    let cases = refused();
    for (path, changes, part) in &cases {
        let (status, body) = world.easemob(path, &changed(path, changes)).await;
        let told = body["error_description"].as_str().unwrap_or_default();
        assert!(status == 400 && told.contains(part), "{path} {changes}: {status} {body}");
        assert_eq!(body["error_code"], if told.contains("large") { json!(14_007) } else { Value::Null });
    }
    let url = format!("{}/acme/live/messages/chatrooms", world.sim.base_url());
    for (media, body, status) in [
        ("application/json", "{\"to\":[\"7\"],}", 400),
        ("text/plain", "{}", 415),
        ("application/json", "[]", 400),
    ] {
        let request = world.http.post(&url).header("Authorization", format!("Bearer {TOKEN}"));
        assert_eq!(
            answer(request.header("Content-Type", media).body(body)).await.0,
            status,
            "{media} {body}"
        );
    }
    assert_eq!(answer(world.http.get(&url).header("Authorization", format!("Bearer {TOKEN}"))).await.0, 405);
    assert_eq!(world.sim.stats().accepted, 0);
    assert_eq!(world.sim.stats().refused["invalid"], cases.len() as u64 + 2);
}

#[tokio::test]
async fn answers_have_the_page_s_shape_and_rooms_in_no_order() {
    let world = unlimited();
    let rooms: Vec<String> = (0..10).map(|n| (1_000 + n).to_string()).collect();
    let url = format!("{}/acme/live/messages/chatrooms?useMsgId=true", world.sim.base_url());
    let mut orders = std::collections::BTreeSet::new();
    for _ in 0..5 {
        let body = json!({"to": rooms, "type": "txt", "body": {"msg": "m"}}).to_string();
        let request = world.http.post(&url).header("Authorization", format!("Bearer {TOKEN}")).body(body);
        let text = request.send().await.expect("an answer").text().await.expect("a body");
        let keys = ["path", "uri", "timestamp", "organization", "application", "action", "data", "duration"];
        let at: Vec<_> = keys.iter().map(|key| text.find(&format!("\"{key}\":")).expect(key)).collect();
        assert!(at.is_sorted(), "the page's order: {text}");
        let json: Value = serde_json::from_str(&text).expect("JSON");
        let data = json["data"].as_object().expect("an object");
        let mut named: Vec<_> = data.keys().cloned().collect();
        named.sort();
        assert_eq!(named, rooms);
        assert!(data.values().all(|id| id.as_str().is_some_and(|id| id.len() == 19)), "{text}");
        assert_eq!((&json["path"], &json["action"]), (&json!("/messages/chatrooms"), &json!("post")));
        assert_eq!((&json["applicationName"], &json["timestamp"]), (&json!("live"), &json!(START.0)));
        let first = rooms.iter().min_by_key(|room| text.find(&format!("\"{room}\":"))).cloned();
        orders.insert(first);
    }
    assert!(orders.len() > 1, "the order of rooms is not kept: {orders:?}");
    let (_, body) =
        world.easemob("messages/chatrooms/broadcast", &json!({"msg": {"type": "txt", "msg": "m"}})).await;
    assert!(body["data"]["id"].as_u64().is_some_and(|id| id > 1 << 53), "{body}");
    assert!(body["uri"].as_str().is_some_and(|uri| uri.ends_with("/acme/live/messages/chatrooms/broadcast")));
}

#[tokio::test]
async fn the_twenty_first_call_of_a_second_is_refused() {
    let world = world(Easemob::default());
    for nth in 0..20 {
        assert_eq!(world.text(&["7"]).await, 200, "call {nth}");
        world.advance_ms(10);
    }
    let body = json!({"to": ["7"], "type": "txt", "body": {"msg": "m"}});
    let (status, body) = world.easemob("messages/chatrooms", &body).await;
    assert_eq!((status, &body["error_description"]), (429, &json!("This request has reached api limit")));
    world.advance_ms(799);
    assert_eq!(world.text(&["7"]).await, 429, "0.999 s after the first");
    world.advance_ms(1);
    assert_eq!(world.text(&["7"]).await, 200, "a second after the first");
    assert_eq!(world.text(&["7"]).await, 429);
    let stats = world.sim.stats();
    assert_eq!(stats.refused["call_limit"], 3);
    assert_eq!(stats.max_calls_per_second["room"], 23, "after 0 s up to 1 s, refused ones included");
}

#[tokio::test]
async fn the_eleventh_call_to_ten_rooms_is_refused_by_messages() {
    let world = world(Easemob::default());
    let rooms: Vec<String> = (0..10).map(|n| n.to_string()).collect();
    let rooms: Vec<&str> = rooms.iter().map(String::as_str).collect();
    for _ in 0..10 {
        assert_eq!(world.text(&rooms).await, 200);
    }
    let body = json!({"to": ["7"], "type": "txt", "body": {"msg": "m"}});
    let (status, body) = world.easemob("messages/chatrooms", &body).await;
    assert_eq!((status, &body["error"]), (403, &json!("message_send_error")));
    assert_eq!(body["error_description"], "message send reach limit");
    world.advance_ms(1_000);
    assert_eq!(world.text(&rooms).await, 200);
    assert_eq!(world.sim.stats().max_messages_per_second, 101);
    assert_eq!(world.sim.stats().max_room_messages_per_second, 11);
}

#[tokio::test]
async fn directed_messages_have_a_quota_and_a_view_of_their_own() {
    let world = world(Easemob::default());
    let body = json!({"to": ["7"], "users": ["u"], "type": "txt", "body": {"msg": "m"}});
    for _ in 0..100 {
        assert_eq!(world.easemob("messages/chatrooms/users", &body).await.0, 200);
    }
    assert_eq!(world.easemob("messages/chatrooms/users", &body).await.0, 429);
    assert_eq!(world.text(&["7"]).await, 200, "the other path goes on");
    let seen: Vec<Entry> = world.sim.seen_in("7");
    assert_eq!(seen.len(), 1, "the room saw only what was for all of it");
    // Without `/users` the same body goes to everybody, and only a warning tells.
    assert_eq!(world.easemob("messages/chatrooms", &body).await.0, 200);
    assert_eq!(world.sim.seen_in("7").len(), 2);
    assert_eq!(world.sim.stats().warnings["unknown field users on room"], 1);
}

#[tokio::test]
async fn broadcasts_are_limited_by_second_minute_and_utc_day() {
    let world = world(Easemob::default());
    let body = json!({"msg": {"type": "txt", "msg": "m"}});
    let path = "messages/chatrooms/broadcast";
    assert_eq!(world.easemob(path, &body).await.0, 200);
    world.advance_ms(999);
    assert_eq!(world.easemob(path, &body).await.0, 429, "two in a second");
    for _ in 0..9 {
        world.advance_ms(1_000);
        assert_eq!(world.easemob(path, &body).await.0, 200);
    }
    world.advance_ms(1_000);
    assert_eq!(world.easemob(path, &body).await.0, 429, "eleven in a minute");
    for _ in 0..90 {
        world.advance_ms(6_000);
        while world.easemob(path, &body).await.0 == 429 {
            world.advance_ms(1_000);
        }
    }
    world.advance_ms(60_000);
    let (status, answer) = world.easemob(path, &body).await;
    assert_eq!((status, &answer["error"]), (403, &json!("forbidden_op")), "the 101st of the day");
    assert_eq!(answer["error_description"], "chatroom broadcast limit exceeded");
    let left = world.clock_until_next_day();
    world.advance_ms(left - 1);
    assert_eq!(world.easemob(path, &body).await.0, 403);
    world.advance_ms(1);
    assert_eq!(world.easemob(path, &body).await.0, 200, "a new UTC day");
    assert_eq!(world.sim.stats().accepted, 101);
}

impl World {
    fn clock_until_next_day(&self) -> u64 {
        use roomcast::simulator::clock::Clock as _;
        u64::try_from(self.clock.now().wall.until_next_utc_day().as_millis()).expect("at most a day")
    }
}

#[tokio::test]
async fn above_a_room_s_pace_the_least_important_vanish() {
    let world = world(Easemob { room_messages_per_second: 20, ..Easemob::default().without_limits() });
    for (level, count) in [("low", 15), ("normal", 10), ("high", 10)] {
        for nth in 0..count {
            let body = json!({
                "to": ["7"], "type": "txt", "body": {"msg": format!("{level} {nth}")}, "chatroom_msg_level": level
            });
            assert_eq!(world.easemob("messages/chatrooms", &body).await.0, 200, "the answer does not tell");
        }
    }
    let seen = world.sim.seen_in("7");
    let of = |level: &str| seen.iter().filter(|entry| entry.priority.word() == level).count();
    assert_eq!((of("high"), of("normal"), of("low")), (10, 10, 0));
    assert!(seen.is_sorted_by_key(|entry| entry.order));
    let stats = world.sim.stats();
    assert_eq!((stats.accepted, stats.seen, stats.unseen[&Unseen::Pace]), (35, 20, 15));
    world.advance_ms(1_000);
    assert_eq!(world.text(&["7"]).await, 200);
    assert_eq!(world.sim.seen_in("7").len(), 21);
}

#[tokio::test]
async fn a_repeat_is_an_unmarked_duplicate_that_members_see() {
    let world = unlimited();
    let body = json!({"to": ["7", "8"], "type": "txt", "body": {"msg": "m"}, "ext": {"roomcast_id": "id-1"}});
    for _ in 0..2 {
        assert_eq!(world.easemob("messages/chatrooms", &body).await.0, 200);
    }
    let log = world.sim.log();
    assert_eq!(log.iter().map(|entry| entry.call).collect::<Vec<_>>(), [0, 0, 1, 1]);
    assert_eq!(log[0].repeat, None);
    assert!(log[2..].iter().all(|entry| entry.repeat == Some(Repeat::Unmarked) && entry.is_seen()));
    assert_eq!(world.sim.stats().repeats_unmarked, 2);
    assert_eq!(log[0].hash, log[2].hash);
    assert_eq!(&*log[0].content, r#"{"msg":"m"}"#);
}
