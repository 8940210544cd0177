//! Yunxin, parameter by parameter and limit by limit.

use std::collections::BTreeSet;
use std::time::Duration;

use roomcast::simulator::{Effect, Options, Repeat, Rule, Unseen, Yunxin};
use serde_json::{Value, json};
use sha1::{Digest, Sha1};

use super::{START, World, answer};

const SEND: &str = "sendMsg";
const BATCH: &str = "batchSendMsg";
const SOMEONE: &str = "sendMsgToSomeone";
const ALL: &str = "broadcast";

fn world(knobs: Yunxin) -> World {
    World::new(Options::yunxin(knobs))
}

fn unlimited() -> World {
    world(Yunxin::default().without_limits())
}

/// A good request of an endpoint.
fn good(action: &str) -> Vec<(&'static str, String)> {
    let list = json!([{"msgId": "b1", "msgType": 0, "attach": "m"}]).to_string();
    let fields: &[(&str, &str)] = match action {
        BATCH => &[("roomid", "36"), ("fromAccid", "zhangsan"), ("msgList", &list)],
        SOMEONE => &[
            ("roomid", "36"),
            ("msgId", "m1"),
            ("fromAccid", "zhangsan"),
            ("toAccids", r#"["a","b"]"#),
            ("msgType", "0"),
            ("attach", "m"),
        ],
        ALL => &[("msgId", "m1"), ("fromAccid", "zhangsan"), ("msgType", "0"), ("attach", "m")],
        _ => {
            &[("roomid", "36"), ("msgId", "m1"), ("fromAccid", "zhangsan"), ("msgType", "0"), ("attach", "m")]
        }
    };
    let names = ["roomid", "msgId", "fromAccid", "msgList", "toAccids", "msgType", "attach"];
    fields
        .iter()
        .map(|(name, value)| {
            let name = names.into_iter().find(|own| own == name).expect("one of these");
            (name, (*value).to_owned())
        })
        .collect()
}

/// The same with some parameters replaced or added; `"-"` takes one away.
fn with(action: &str, changes: &[(&'static str, &str)]) -> Vec<(&'static str, String)> {
    let mut fields = good(action);
    for (name, value) in changes {
        fields.retain(|(own, _)| own != name);
        if *value != "-" {
            fields.push((name, (*value).to_owned()));
        }
    }
    fields
}

impl World {
    async fn yunxin(&self, action: &str, fields: &[(&'static str, String)]) -> Value {
        let (status, body) = answer(self.signed(action, fields)).await;
        assert_eq!(status, 200, "the code is in the body");
        body
    }

    fn signed(&self, action: &str, fields: &[(&'static str, String)]) -> reqwest::RequestBuilder {
        let time = self.seconds().to_string();
        let sum: String =
            Sha1::digest(format!("secretn0nce{time}")).iter().map(|byte| format!("{byte:02x}")).collect();
        let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        self.http
            .post(format!("{}/chatroom/{action}.action", self.sim.base_url()))
            .header("AppKey", "key")
            .header("Nonce", "n0nce")
            .header("CurTime", time)
            .header("CheckSum", sum)
            .header("Content-Type", "application/x-www-form-urlencoded;charset=utf-8")
            .body(body)
    }

    /// One message with these changes; the whole answer.
    async fn send(&self, changes: &[(&'static str, &str)]) -> Value {
        self.yunxin(SEND, &with(SEND, changes)).await
    }

    async fn code(&self, changes: &[(&'static str, &str)]) -> i64 {
        self.send(changes).await["code"].as_i64().expect("a code")
    }
}

#[tokio::test]
async fn the_answer_is_the_page_s() {
    let world = unlimited();
    let sample = [
        ("msgId", "c9e6c306-804f-4ec3-b8f0-573778829419"),
        ("attach", "This is test msg"),
        ("highPriority", "true"),
    ];
    let request = world.signed(SEND, &with(SEND, &sample));
    let response = request.send().await.expect("an answer");
    assert_eq!(response.headers()["content-type"], "application/json; charset=utf-8");
    assert_eq!(response.headers()["date"], "Tue, 14 Nov 2023 22:13:20 GMT");
    let text = response.text().await.expect("a body");
    let expected = r#"{"code":200,"desc":{"time":"1700000000000","fromAvator":"","msgid_client":"c9e6c306-804f-4ec3-b8f0-573778829419","fromClientType":"REST","attach":"This+is+test+msg","roomId":"36","fromAccount":"zhangsan","fromNick":"zhangsan","type":"0","ext":"","highPriorityFlag":1}}"#;
    assert_eq!(text, expected);

    let plain = Yunxin { numbers_as_text: false, echo_encoded: false, ..Yunxin::default() };
    let world = self::world(plain);
    let body = world.send(&[("attach", "a b"), ("abandonRatio", "9999")]).await;
    assert_eq!(body["desc"]["roomId"], 36);
    assert_eq!(body["desc"]["time"], START.0);
    assert_eq!(body["desc"]["attach"], "a b");
    assert_eq!(body["desc"]["msgAbandonFlag"], 1);
}

#[tokio::test]
async fn what_the_page_refuses_is_refused() {
    let world = unlimited();
    let long = "a".repeat(4_097);
    let ids = |count: usize| json!((0..count).map(|n| format!("u{n}")).collect::<Vec<_>>()).to_string();
    let items = |count: usize| {
        json!((0..count).map(|n| json!({"msgId": n.to_string(), "msgType": 0})).collect::<Vec<_>>())
            .to_string()
    };
    let cases: Vec<(&str, &'static str, String, &str)> = vec![
        (SEND, "roomid", "-".into(), "roomid is empty"),
        (SEND, "roomid", "lobby".into(), "roomid is illegal"),
        (SEND, "msgId", "-".into(), "msgId is empty"),
        (SEND, "fromAccid", "-".into(), "accid is empty"),
        (SEND, "fromAccid", "ZhangSan".into(), "fromAccid is illegal"),
        (SEND, "msgType", "-".into(), "msgType is empty"),
        (SEND, "msgType", "5".into(), "msgType is illegal"),
        (SEND, "attach", long.clone(), "msgContents size exceed"),
        (SEND, "ext", long, "ext size exceed"),
        (SEND, "ext", "{".into(), "ext is illegal"),
        (SEND, "resendFlag", "yes".into(), "resendFlag is illegal"),
        (SEND, "abandonRatio", "10000".into(), "abandonRatio is illegal"),
        (SEND, "highPriority", "high".into(), "highPriority is illegal"),
        (SEND, "chatMsgPriority", "4".into(), "chatMsgPriority is illegal"),
        (SEND, "env", "e".repeat(33), "env size exceed"),
        (SEND, "antispamCustom", "{}".into(), "antispamCustom is illegal"),
        (SEND, "locX", "east".into(), "locX is illegal"),
        (SOMEONE, "toAccids", "-".into(), "toAccids is empty"),
        (SOMEONE, "toAccids", "a,b".into(), "toAccids is illegal"),
        (SOMEONE, "toAccids", "[]".into(), "toAccids is illegal"),
        (SOMEONE, "toAccids", ids(101), "toAccids is illegal"),
        (SOMEONE, "toAccids", r#"["A"]"#.into(), "toAccids is illegal"),
        (ALL, "msgId", "-".into(), "msgId is empty"),
        (ALL, "msgType", "x".into(), "msgType is illegal"),
        (BATCH, "msgList", "-".into(), "msgList is empty"),
        (BATCH, "msgList", "{}".into(), "msgList is illegal"),
        (BATCH, "msgList", "[]".into(), "msgList is illegal"),
        (BATCH, "msgList", items(11), "msgList is illegal"),
        (BATCH, "msgList", r#"[{"msgType":0}]"#.into(), "msgId is empty"),
        (BATCH, "roomid", "x".into(), "roomid is illegal"),
    ];
    for (action, name, value, part) in &cases {
        let body = world.yunxin(action, &with(action, &[(name, value)])).await;
        assert_eq!(body["code"], 414, "{action} {name}: {body}");
        assert!(body["desc"].as_str().is_some_and(|desc| desc.contains(part)), "{action} {name}: {body}");
    }
    let image = world.send(&[("msgType", "1"), ("attach", "not json")]).await;
    assert_eq!(image["desc"], "attach is illegal, it must be JSON");
    assert_eq!(world.sim.stats().accepted, 0);
    assert_eq!(world.sim.stats().refused["invalid"], cases.len() as u64 + 1);
    for action in [SEND, BATCH, SOMEONE, ALL] {
        assert_eq!(world.yunxin(action, &good(action)).await["code"], 200, "{action}");
    }
    assert!(world.sim.stats().warnings.is_empty(), "{:?}", world.sim.stats().warnings);
}

#[tokio::test]
async fn every_type_and_parameter_is_taken() {
    let world = unlimited();
    let media = r#"{"name":"n","md5":"m","url":"http://u","ext":"jpg","w":1,"h":2,"size":3,"dur":4}"#;
    for (kind, attach) in [
        ("0", "hello"),
        ("1", media),
        ("2", media),
        ("3", media),
        ("4", r#"{"title":"t","lng":120.19,"lat":30.18}"#),
        ("6", media),
        ("10", "a tip"),
        ("100", r#"{"myKey":"myValue"}"#),
    ] {
        assert_eq!(
            world.code(&[("msgId", kind), ("msgType", kind), ("attach", attach)]).await,
            200,
            "{kind}"
        );
    }
    let all = [
        ("subType", "1"),
        ("resendFlag", "0"),
        ("ext", "{}"),
        ("ignoreMute", "true"),
        ("route", "1"),
        ("skipHistory", "1"),
        ("highPriority", "true"),
        ("needHighPriorityMsgResend", "false"),
        ("useYidun", "0"),
        ("yidunAntiCheating", "{}"),
        ("yidunAntiSpamExt", "{}"),
        ("bid", "b"),
        ("antispam", "false"),
        ("antispamCustom", r#"{"type":1,"data":"x"}"#),
        ("notifyTargetTags", "{\"tag\":\"x\"}"),
        ("env", "e"),
        ("chatMsgPriority", "3"),
        ("forbiddenIfHighPriorityMsgFreq", "1"),
        ("locX", "1.5"),
        ("locY", "-1"),
        ("locZ", "0"),
    ];
    assert_eq!(world.code(&all).await, 200);
    assert!(world.sim.stats().warnings.is_empty(), "{:?}", world.sim.stats().warnings);
    assert_eq!(world.code(&[("roomID", "x")]).await, 200);
    assert_eq!(world.sim.stats().warnings["unknown parameter roomID on room"], 1);
}

#[tokio::test]
async fn the_hundred_and_first_call_bans_the_path_for_ten_seconds() {
    let world = world(Yunxin { room_messages_per_second: 0, ..Yunxin::default() });
    for nth in 0..100 {
        assert_eq!(world.code(&[("msgId", &nth.to_string())]).await, 200, "{nth}");
    }
    world.advance_ms(999);
    let body = world.send(&[("msgId", "x")]).await;
    assert_eq!((&body["code"], &body["desc"]), (&json!(416), &json!("query too fast")));
    assert_eq!(world.yunxin(SOMEONE, &good(SOMEONE)).await["code"], 200, "another path is not banned");
    world.advance_ms(5_000);
    assert_eq!(world.code(&[]).await, 416, "in the ban");
    world.advance_ms(4_999);
    assert_eq!(world.code(&[]).await, 416, "9.999 s after the call that was too many");
    world.advance_ms(1);
    assert_eq!(world.code(&[("msgId", "y")]).await, 200, "calls in the ban did not extend it");
    let stats = world.sim.stats();
    assert_eq!((stats.bans, stats.refused["call_limit"]), (1, 3));
    assert_eq!(stats.max_calls_per_second["room"], 101);
}

#[tokio::test]
async fn a_ban_may_be_extended_by_calls_and_broadcasts_have_a_longer_one() {
    let world = world(Yunxin { calls_per_second: 1, calls_extend_ban: true, ..Yunxin::default() });
    assert_eq!(world.code(&[]).await, 200);
    assert_eq!(world.code(&[]).await, 416);
    world.advance_ms(9_000);
    assert_eq!(world.code(&[]).await, 416);
    world.advance_ms(9_999);
    assert_eq!(world.code(&[]).await, 416, "extended");
    world.advance_ms(10_000);
    assert_eq!(world.code(&[]).await, 200);

    for nth in 0..10 {
        let id = format!("b{nth}");
        assert_eq!(world.yunxin(ALL, &with(ALL, &[("msgId", &id)])).await["code"], 200);
        world.advance_ms(1_000);
    }
    assert_eq!(world.yunxin(ALL, &good(ALL)).await["code"], 416, "the eleventh in a minute");
    world.advance_ms(60_000);
    assert_eq!(world.yunxin(ALL, &good(ALL)).await["code"], 200);
}

#[tokio::test]
async fn repeats_are_told_apart_by_their_mark() {
    let world = unlimited();
    assert_eq!(world.code(&[("resendFlag", "1")]).await, 200, "never accepted before: a new message");
    assert_eq!(world.code(&[("resendFlag", "1")]).await, 200);
    assert_eq!(world.code(&[("resendFlag", "0")]).await, 200);
    assert_eq!(world.code(&[("resendFlag", "1"), ("roomid", "37")]).await, 200, "another room's");
    let log = world.sim.log();
    let repeats: Vec<_> = log.iter().map(|entry| entry.repeat).collect();
    assert_eq!(repeats, [None, Some(Repeat::Marked), Some(Repeat::Unmarked), None]);
    assert!(log[1..3].iter().all(|entry| entry.accepted && entry.unseen == Some(Unseen::Repeated)));
    assert!(log[1].resend && !log[2].resend);
    let stats = world.sim.stats();
    assert_eq!((stats.repeats_marked, stats.repeats_unmarked, stats.seen), (1, 1, 2));

    // What members never saw, their clients do not drop.
    let unlucky = [("msgId", "u"), ("abandonRatio", "9999")];
    world.send(&unlucky).await;
    assert_eq!(world.code(&[("msgId", "u")]).await, 200);
    let last = world.sim.log().pop().expect("an entry");
    assert_eq!((last.repeat, last.is_seen()), (Some(Repeat::Unmarked), true));

    for code in [417, 431] {
        let world = self::world(Yunxin { repeat_code: code, ..Yunxin::default() });
        assert_eq!(world.code(&[]).await, 200);
        assert_eq!(world.code(&[("resendFlag", "1")]).await, i64::from(code));
        let log = world.sim.log();
        assert_eq!((log.len(), log[1].accepted, log[1].code), (2, true, code));
    }
}

#[tokio::test]
async fn the_eleventh_high_message_of_a_second_is_downgraded_or_refused() {
    let world = world(Yunxin { calls_per_second: 0, ..Yunxin::default() });
    let high = ("highPriority", "true");
    for nth in 0..10 {
        let body = world.send(&[high, ("msgId", &nth.to_string())]).await;
        assert_eq!(body["desc"]["highPriorityFlag"], 1);
    }
    let body = world.send(&[high, ("msgId", "d")]).await;
    assert_eq!((&body["code"], &body["desc"]["highPriorityFlag"]), (&json!(200), &Value::Null));
    assert_eq!(world.code(&[high, ("msgId", "f"), ("forbiddenIfHighPriorityMsgFreq", "1")]).await, 403);
    assert_eq!(world.code(&[high, ("msgId", "o"), ("roomid", "37")]).await, 200, "another room");
    world.advance_ms(1_000);
    let body = world.send(&[high, ("msgId", "n")]).await;
    assert_eq!(body["desc"]["highPriorityFlag"], 1);
    let stats = world.sim.stats();
    assert_eq!((stats.downgraded, stats.refused["high_limit"]), (1, 1));
    // With abandonRatio, high priority is void, and the flags never come together.
    let body = world.send(&[high, ("msgId", "a"), ("abandonRatio", "1")]).await;
    assert_eq!(body["desc"]["highPriorityFlag"], Value::Null);
}

#[tokio::test]
async fn abandoned_messages_are_accepted_and_not_seen() {
    let world = unlimited();
    let mut flagged = 0;
    for nth in 0..200 {
        let body = world.send(&[("msgId", &nth.to_string()), ("abandonRatio", "5000")]).await;
        assert_eq!(body["code"], 200);
        flagged += u64::from(body["desc"]["msgAbandonFlag"] == "1");
    }
    let stats = world.sim.stats();
    assert_eq!((stats.accepted, stats.unseen[&Unseen::Abandoned]), (200, flagged));
    assert!((60..140).contains(&flagged), "about half: {flagged}");
    assert_eq!(world.sim.seen_in("36").len() as u64, 200 - flagged);
}

#[tokio::test]
async fn members_see_twenty_a_second() {
    let world = world(Yunxin { calls_per_second: 0, ..Yunxin::default() });
    for nth in 0..50 {
        assert_eq!(world.code(&[("msgId", &nth.to_string())]).await, 200);
    }
    assert_eq!(world.sim.seen_in("36").len(), 20);
    assert_eq!(world.sim.stats().unseen[&Unseen::Pace], 30);
}

#[tokio::test]
async fn a_batch_may_fail_in_part() {
    let world = unlimited();
    let list = json!([
        {"msgId": "b1", "msgType": 0, "attach": "one"},
        {"msgId": "b2", "msgType": 1, "attach": "not json"},
        {"msgId": "b3", "msgType": 100, "attach": "{\"a\":1}", "resendFlag": 1, "ext": "{}"},
        {"msgId": "b4", "msgType": 0, "color": "red"}
    ]);
    let body = world.yunxin(BATCH, &with(BATCH, &[("msgList", &list.to_string())])).await;
    assert_eq!(body["code"], 200);
    assert_eq!(body["success"].as_array().map(Vec::len), Some(2), "{body}");
    assert_eq!(body["success"][0]["b1"]["msgid_client"], "b1");
    assert_eq!(body["success"][1]["b3"]["type"], "100");
    assert_eq!(body["fail"][0]["b2"], "attach is illegal, it must be JSON");
    assert!(body["fail"][1]["b4"].as_str().is_some_and(|why| why.contains("color")));
    let log = world.sim.log();
    assert_eq!(log.iter().map(|entry| entry.accepted).collect::<Vec<_>>(), [true, false, true, false]);
    assert!(log.iter().all(|entry| entry.call == 0));
    assert!(log[2].resend);
    assert_eq!(world.sim.stats().max_messages_per_second, 4);
}

#[tokio::test]
async fn unknown_rooms_and_accounts_are_told() {
    let known = |name: &str| Some(BTreeSet::from([name.to_owned()]));
    let world = world(Yunxin { rooms: known("36"), accounts: known("zhangsan"), ..Yunxin::default() });
    assert_eq!(world.code(&[]).await, 200);
    assert_eq!(world.code(&[("roomid", "37")]).await, 404);
    assert_eq!(world.send(&[("fromAccid", "lisi")]).await["desc"], "lisi not register");
    world.sim.set_faults(vec![Rule::new(Effect::RoomsGone).in_rooms(&["36"])]).expect("a good rule");
    let body = world.send(&[]).await;
    assert_eq!((&body["code"], &body["desc"]), (&json!(404), &json!("chatroom not exist")));
    assert_eq!(world.sim.stats().refused["gone"], 2);
}

#[tokio::test]
async fn a_request_id_is_good_once() {
    let world = world(Yunxin { request_id_memory: Duration::from_secs(5), ..Yunxin::default() });
    let send = || answer(world.signed(SEND, &good(SEND)).header("RequestId", "r1"));
    assert_eq!(send().await.1["code"], 200);
    assert_eq!(send().await.1["code"], 431);
    world.advance_ms(5_000);
    assert_eq!(send().await.1["code"], 200, "forgotten");
}

#[tokio::test]
async fn a_clock_that_is_off_refuses_every_signature() {
    let world = unlimited();
    let offset = |seconds| vec![Rule::new(Effect::ClockOffset { seconds })];
    world.sim.set_faults(offset(301)).expect("a good rule");
    let body = world.send(&[]).await;
    assert_eq!((&body["code"], &body["desc"]), (&json!(414), &json!("CurTime is expired")));
    let response = world.signed(SEND, &good(SEND)).send().await.expect("an answer");
    assert_eq!(response.headers()["date"], "Tue, 14 Nov 2023 22:18:21 GMT", "the skew shows in Date");
    world.sim.set_faults(offset(-300)).expect("a good rule");
    assert_eq!(world.code(&[]).await, 200);
}

#[tokio::test]
async fn paths_and_methods_are_checked() {
    let world = unlimited();
    let url = format!("{}/chatroom/sendMsg.action", world.sim.base_url());
    assert_eq!(answer(world.http.get(&url)).await.0, 405);
    assert_eq!(answer(world.http.post(url.replace("sendMsg", "sendmsg"))).await.0, 404);
    let (status, body) = answer(world.http.post(&url)).await;
    assert_eq!((status, &body["code"], &body["desc"]), (200, &json!(414), &json!("bad http header")));
}
