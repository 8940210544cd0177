//! Every fault, as a client meets it, and what the log says of it; and `/_sim`.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use roomcast::simulator::{Canned, Easemob, Effect, Endpoint, Options, Rule, Simulator, start};
use serde_json::{Value, json};

use super::{World, answer, client};

const TEXT: &str = r#"{"to":["7"],"type":"txt","body":{"msg":"m"}}"#;

fn options() -> Options {
    Options::easemob(Easemob { app_token: Some("YWMt".into()), ..Easemob::default().without_limits() })
}

fn world(rules: Vec<Rule>) -> World {
    World::new(Options { faults: rules, ..options() })
}

fn request(http: &reqwest::Client, sim: &Simulator) -> reqwest::RequestBuilder {
    http.post(format!("{}/acme/live/messages/chatrooms", sim.base_url()))
        .header("Authorization", "Bearer YWMt")
        .header("Accept", "application/json")
        .header("Content-Type", "application/json")
        .body(TEXT)
}

impl World {
    fn post(&self) -> reqwest::RequestBuilder {
        request(&self.http, &self.sim)
    }

    /// Accepted so far, and the last entry's status.
    fn told(&self) -> (u64, u16) {
        (self.sim.stats().accepted, self.sim.log().last().expect("an entry").status)
    }
}

fn canned(status: u16) -> Canned {
    Canned { status, ..Canned::default() }
}

#[tokio::test]
async fn canned_answers_stand_in_for_the_provider_s() {
    for (canned, status, part) in [
        (canned(429), 429, "This request has reached api limit"),
        (canned(403), 403, "message send reach limit"),
        (canned(401), 401, "Unable to authenticate (OAuth)"),
        (canned(404), 404, "organization_application_not_found"),
        (canned(500), 500, "internal_server_error"),
        (canned(503), 503, "internal_server_error"),
        (canned(502), 502, "<html>"),
        (Canned { html: Some(false), ..canned(502) }, 502, "internal_server_error"),
        (
            Canned { error: Some("forbidden_op".into()), description: Some("no".into()), ..canned(403) },
            403,
            "forbidden_op",
        ),
        (Canned { code: Some(14_007), ..canned(400) }, 400, "14007"),
    ] {
        let world = world(vec![Rule::new(Effect::Answer(canned.clone())).count(1)]);
        let (got, body) = answer(world.post()).await;
        assert_eq!(got, status);
        assert!(body.to_string().contains(part), "{canned:?}: {body}");
        assert_eq!(world.told(), (0, status));
        assert_eq!(answer(world.post()).await.0, 200, "once only");
        assert_eq!(world.sim.faults()[0].hits, 1);
    }
    let slow_down = Canned { retry_after: Some(7), ..canned(429) };
    let world = world(vec![Rule::new(Effect::Answer(slow_down))]);
    let response = world.post().send().await.expect("an answer");
    assert_eq!(response.headers()["retry-after"], "7");
}

#[tokio::test]
async fn yunxin_codes_come_in_the_body() {
    let rule = Rule::new(Effect::Answer(Canned { code: Some(416), ..Canned::default() }));
    let world =
        World::new(Options { faults: vec![rule], ..Options::yunxin(roomcast::simulator::Yunxin::default()) });
    let url = format!("{}/chatroom/sendMsg.action", world.sim.base_url());
    let (status, body) = answer(world.http.post(url)).await;
    assert_eq!((status, body), (200, json!({"code": 416, "desc": "query too fast"})));
}

#[tokio::test]
async fn an_answer_after_acceptance_makes_a_duplicate() {
    let world = world(vec![Rule::new(Effect::Answer(Canned { accepted: true, ..canned(500) }))]);
    assert_eq!(answer(world.post()).await.0, 500);
    assert_eq!(world.told(), (1, 500));
    world.sim.revoke_tokens();
    assert_eq!(answer(world.post()).await.0, 401, "what is refused is refused in the provider's words");
}

#[tokio::test]
async fn connections_drop_before_and_after_acceptance() {
    for (effect, accepted) in [(Effect::DropBefore, 0), (Effect::DropAfter, 1)] {
        let world = world(vec![Rule::new(effect).count(1)]);
        let error = world.post().send().await.expect_err("no answer");
        assert!(!error.is_timeout() && !error.is_connect(), "{error:?}");
        assert_eq!(world.told(), (accepted, 0));
        assert_eq!(answer(world.post()).await.0, 200);
    }
}

#[tokio::test]
async fn a_reset_comes_before_the_body_is_read() {
    let world = world(vec![Rule::new(Effect::Reset).count(1)]);
    let addr = world.sim.addr();
    let told = tokio::task::spawn_blocking(move || {
        let mut stream = TcpStream::connect(addr).expect("it listens");
        // The body never comes: the reset does not wait for it.
        let head = "POST /acme/live/messages/chatrooms HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\n";
        stream.write_all(head.as_bytes()).expect("it is read");
        stream.read(&mut [0; 16]).expect_err("no orderly end").kind()
    });
    assert_eq!(told.await.expect("no panic"), std::io::ErrorKind::ConnectionReset);
    assert!(world.sim.log().is_empty());
    assert_eq!(world.sim.stats().faults["reset"], 1);
    assert_eq!(answer(world.post()).await.0, 200);
}

#[tokio::test]
async fn black_holes_never_answer() {
    for (effect, accepted) in [(Effect::BlackHoleBefore, 0), (Effect::BlackHoleAfter, 1)] {
        let world = world(vec![Rule::new(effect)]);
        let error = world.post().timeout(Duration::from_millis(50)).send().await.expect_err("no answer");
        assert!(error.is_timeout());
        assert_eq!(world.told(), (accepted, 0));
        world.sim.stop().await;
    }
}

#[tokio::test]
async fn latency_and_delays_hold_back_the_answer_and_not_the_judgement() {
    let options = Options {
        latency: Duration::from_millis(20),
        faults: vec![Rule::new(Effect::Delay { ms: 300, tail: None, max_ms: 0 }).count(1)],
        ..options()
    };
    let world = World::new(options);
    let pending = tokio::spawn(world.post().send());
    while world.sim.stats().accepted == 0 {
        tokio::task::yield_now().await;
    }
    world.advance_ms(319);
    // Whatever is due has a chance to come: a second request goes all the way meanwhile.
    let url = format!("{}/_sim/stats", world.sim.base_url());
    assert_eq!(answer(world.http.get(url)).await.0, 200);
    assert!(!pending.is_finished());
    world.advance_ms(1);
    assert_eq!(pending.await.expect("no panic").expect("an answer").status(), 200);
}

#[tokio::test]
async fn real_latency_is_kept() {
    let sim = start(Options { latency: Duration::from_millis(20), ..options() }).expect("a free port");
    let http = client();
    assert_eq!(answer(request(&http, &sim)).await.0, 200);
    let began = Instant::now();
    assert_eq!(answer(request(&http, &sim)).await.0, 200);
    assert!(began.elapsed() >= Duration::from_millis(20), "{:?}", began.elapsed());
}

#[tokio::test]
async fn bodies_break_in_four_ways() {
    let world = world(vec![
        Rule::new(Effect::Truncate).count(1),
        Rule::new(Effect::Empty).count(1),
        Rule::new(Effect::Cut).count(1),
        Rule::new(Effect::Gzip).count(1),
    ]);
    let (status, body) = answer(world.post()).await;
    assert_eq!(status, 200);
    assert!(
        body.as_str().is_some_and(|half| half.starts_with("{\"path\"") && !half.ends_with('}')),
        "{body}"
    );
    assert_eq!(answer(world.post()).await, (200, Value::String(String::new())));
    let response = world.post().send().await.expect("a head");
    assert_eq!(response.status(), 200);
    assert!(response.bytes().await.is_err(), "less than Content-Length says");
    let response = world.post().send().await.expect("an answer");
    assert_eq!(response.headers()["content-encoding"], "gzip");
    assert_eq!(&response.bytes().await.expect("a body")[..3], [0x1f, 0x8b, 8]);
    assert_eq!(world.told(), (4, 200), "all were accepted");
}

#[tokio::test]
async fn a_slow_body_comes_over_its_time() {
    let sim = start(Options { faults: vec![Rule::new(Effect::Slow { ms: 200 })], ..options() })
        .expect("a free port");
    let began = Instant::now();
    let response = request(&client(), &sim).send().await.expect("a head");
    let head = began.elapsed();
    let body: Value = serde_json::from_slice(&response.bytes().await.expect("a body")).expect("whole");
    assert!(body["data"]["7"].is_string());
    assert!(began.elapsed() >= Duration::from_millis(190) && head < Duration::from_millis(190), "{head:?}");
}

#[tokio::test]
async fn tokens_are_revoked_in_the_middle() {
    let world = world(vec![Rule { after: 1, ..Rule::new(Effect::RevokeTokens) }]);
    let mut statuses = Vec::new();
    for _ in 0..3 {
        statuses.push(answer(world.post()).await.0);
    }
    assert_eq!(statuses, [200, 401, 401]);
}

#[tokio::test]
async fn a_gone_room_takes_messages_that_nobody_sees() {
    let world = world(vec![Rule::new(Effect::RoomsGone).in_rooms(&["7"])]);
    assert_eq!(answer(world.post()).await.0, 200, "ids of rooms are not checked");
    assert!(world.sim.seen_in("7").is_empty());
    assert_eq!(world.sim.log()[0].unseen, Some(roomcast::simulator::Unseen::Gone));
}

#[tokio::test]
async fn an_outage_refuses_connections_and_ends() {
    let world = world(Vec::new());
    assert_eq!(answer(world.post()).await.0, 200);
    world
        .sim
        .set_faults(vec![Rule::new(Effect::Outage).lasting(Duration::from_secs(5))])
        .expect("a good rule");
    // The kept connection dies at once; a new one is refused as soon as the listener is gone.
    assert!(world.post().send().await.is_err());
    let mut refused = false;
    while !refused {
        refused = world.post().send().await.expect_err("an outage").is_connect();
    }
    assert_eq!(world.sim.stats().accepted, 1);
    world.advance_ms(5_000);
    let mut status = None;
    while status.is_none() {
        status = world.post().send().await.ok().map(|response| response.status().as_u16());
    }
    assert_eq!(status, Some(200), "at the same address");
    assert_eq!(world.sim.stats().accepted, 2);
}

#[tokio::test]
async fn an_address_is_not_shared_with_another_simulator() {
    let world = world(Vec::new());
    let error = start(Options { listen: world.sim.addr(), ..options() }).expect_err("it is taken");
    assert!(error.to_string().contains(&world.sim.addr().to_string()), "{error}");
}

#[tokio::test]
async fn stopping_gives_the_answers_that_are_owed() {
    let world = World::new(Options { latency: Duration::from_secs(1), ..options() });
    let pending = tokio::spawn(world.post().send());
    while world.sim.stats().accepted == 0 {
        tokio::task::yield_now().await;
    }
    let addr = world.sim.addr();
    let clock = world.clock.clone();
    let stopped = tokio::spawn(world.sim.stop());
    clock.advance(Duration::from_secs(1));
    assert_eq!(pending.await.expect("no panic").expect("an answer").status(), 200);
    stopped.await.expect("it ends");
    assert!(TcpStream::connect(addr).is_err());
}

#[tokio::test]
async fn faults_log_and_stats_are_to_be_had_over_http() {
    let world = world(Vec::new());
    let url = |path: &str| format!("{}/_sim/{path}", world.sim.base_url());
    let put = |body: Value| world.http.put(url("faults")).body(body.to_string());
    let (status, body) = answer(put(json!({"effect": "drop_after", "rooms": ["7"], "count": 1}))).await;
    assert_eq!((status, &body[0]["hits"]), (200, &json!(0)));
    let add = world.http.post(url("faults")).body(r#"[{"effect":{"delay":{"ms":0}}}]"#);
    assert_eq!(answer(add).await.1.as_array().map(Vec::len), Some(2));
    assert!(world.post().send().await.is_err());
    let (_, faults) = answer(world.http.get(url("faults"))).await;
    assert_eq!((&faults[0]["hits"], &faults[0]["rule"]["effect"]), (&json!(1), &json!("drop_after")));
    for (body, status, part) in [
        (json!({"effect": "outage"}), 422, "for_ms"),
        (json!({"effect": "empty", "count": 0}), 422, "never happen"),
        (json!({"effect": "emtpy"}), 400, "emtpy"),
        (json!("drop"), 400, "no rule"),
    ] {
        let (got, told) = answer(put(body)).await;
        assert!(got == status && told.as_str().is_some_and(|told| told.contains(part)), "{got} {told}");
    }
    assert_eq!(world.sim.faults().len(), 2, "wrong rules change nothing");
    assert_eq!(answer(world.http.delete(url("faults"))).await, (200, json!([])));
    assert_eq!(answer(world.post()).await.0, 200);

    let lines = world.http.get(url("log?accepted=true&room=7")).send().await.expect("an answer");
    let lines = lines.text().await.expect("a body");
    let entries: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(entries.len(), 2);
    assert_eq!((&entries[0]["fault"], &entries[0]["status"]), (&json!("drop_after"), &json!(0)));
    assert_eq!((&entries[1]["fault"], &entries[1]["order"]), (&json!(null), &json!(2)));
    let (status, from) = answer(world.http.get(url("log?from=1"))).await;
    assert_eq!((status, &from["seq"]), (200, &json!(1)));
    assert_eq!(answer(world.http.get(url("log?form=1"))).await.0, 400);
    assert_eq!(answer(world.http.get(url("nothing"))).await.0, 404);
    let (_, stats) = answer(world.http.get(url("stats"))).await;
    assert_eq!((&stats["accepted"], &stats["faults"]["drop_after"]), (&json!(2), &json!(1)));
    assert_eq!(stats["app"], "acme/live");
    assert_eq!(stats["calls"]["room"], 2, "`/_sim` itself is not counted");
}

#[tokio::test]
async fn rules_meet_the_paths_they_name() {
    let world = world(vec![Rule::new(Effect::Empty).on(&[Endpoint::Broadcast])]);
    assert_ne!(answer(world.post()).await.1, "");
    let all = world
        .http
        .post(format!("{}/acme/live/messages/chatrooms/broadcast", world.sim.base_url()))
        .header("Authorization", "Bearer YWMt")
        .body(r#"{"msg":{"type":"txt","msg":"m"}}"#);
    assert_eq!(answer(all).await.1, "");
}
