//! The API over HTTP, on letters made by hand; and its description, held against routes and answers.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Mutex;

use boon::{Compiler, Schemas};
use uuid::Uuid;

use super::*;
use crate::admin::api::{OPENAPI, ROUTES};
use crate::admin::tests::{idle_loop, today};
use crate::admin::{Serving, Settings, listen};
use crate::broker::{Archive, Boxed, EachRow, Followed, Later, Part, Placed, Stands, Table};
use crate::core::letter::{Letter, LetterId, Names};
use crate::core::model::{
    BaseId, Class, Epoch, Origin, PartitionId, Record, RecordId, Room, SourceId, Tries,
};
use crate::core::replay::Row;
use crate::core::time::Wall;

const TOKEN: &str = "s3cret";

#[path = "letters/replay_tests.rs"]
mod replays;

/// Letters and rows in memory; or a broker that is away.
#[derive(Default)]
struct Shelf {
    letters: Vec<Record>,
    rows: Arc<Rows>,
    requests: Arc<Mutex<Vec<Record>>>,
    away: bool,
}

/// Rows, and those who follow them.
#[derive(Default)]
struct Rows(Mutex<BTreeMap<String, Bytes>>, Mutex<Vec<mpsc::Sender<Followed>>>);

impl Archive for Shelf {
    fn read(&self, into: mpsc::Sender<Record>) -> Boxed<'_, Result<(), String>> {
        Box::pin(async move {
            if self.away {
                return Err("127.0.0.1:9092 cannot be reached".to_owned());
            }
            for letter in &self.letters {
                if into.send(letter.clone()).await.is_err() {
                    break;
                }
            }
            Ok(())
        })
    }

    fn request(&self, mut letter: Record, more: Vec<(Arc<str>, Bytes)>) -> Boxed<'_, Result<Placed, String>> {
        letter.headers.extend(more);
        self.requests.lock().unwrap().push(letter);
        Box::pin(async { Ok(Placed::Now) })
    }

    fn value_at(&self, _: Origin) -> Boxed<'_, Result<Option<Bytes>, String>> {
        Box::pin(async { Ok(None) })
    }

    fn readers(&self) -> Boxed<'_, Result<usize, String>> {
        Box::pin(async { if self.away { Err("127.0.0.1:9092 cannot be reached".to_owned()) } else { Ok(1) } })
    }

    fn later(&self, _: BTreeMap<Part, Stands>) -> Boxed<'_, Result<Later, String>> {
        Box::pin(async { Ok(Later::default()) })
    }

    fn table(&self) -> Arc<dyn Table> {
        self.rows.clone()
    }

    fn follow(&self, told: mpsc::Sender<Followed>) {
        let rows = self.rows.0.lock().unwrap();
        let row = |(key, value): (&String, &Bytes)| (Bytes::from(key.clone()), Some(value.clone()));
        let rows = Followed::Rows(rows.iter().map(row).collect());
        for news in [Followed::Begun, rows, Followed::Current] {
            told.try_send(news).unwrap();
        }
        self.rows.1.lock().unwrap().push(told);
    }
}

impl Table for Rows {
    fn each(&self, mut row: EachRow) -> Boxed<'_, Result<(), String>> {
        for (key, value) in self.0.lock().unwrap().iter() {
            row(key, Some(value));
        }
        Box::pin(async { Ok(()) })
    }

    fn put(&self, key: String, value: Bytes) -> Boxed<'_, Result<(), String>> {
        self.0.lock().unwrap().insert(key.clone(), value.clone());
        let mut followers = self.1.lock().unwrap();
        let row = Followed::Rows(vec![(Bytes::from(key), Some(value))]);
        followers.retain(|told| told.try_send(row.clone()).is_ok());
        Box::pin(async { Ok(()) })
    }
}

/// A letter; of replays, if `before` is the one that came first.
fn letter(number: u128, class: Class, replays: u32, before: Option<LetterId>) -> Record {
    let id = RecordId { source: SourceId(0), partition: PartitionId(0), epoch: Epoch(0), offset: 0 };
    let offset = i64::try_from(number).unwrap();
    let origin = Origin { stream: "events".into(), topic: "events".into(), partition: 0, offset };
    let mut headers = vec![(Arc::from("trace"), Bytes::from("t-1"))];
    if let Some(before) = before {
        headers.push((Arc::from("roomcast-letter"), Bytes::from(before.to_string())));
        headers.push((Arc::from("roomcast-replays"), Bytes::from((replays - 1).to_string())));
    }
    let value = Some(Bytes::from(r#"{"type":"gift"}"#));
    let record = Record {
        id,
        origin,
        key: Some("k".into()),
        value,
        headers,
        timestamp: Wall(1_000),
        maybe_tried: false,
    };
    let letter = Letter {
        record: Arc::new(record.clone()),
        base: BaseId(Uuid::from_u128(number)),
        class,
        error: "no".to_owned(),
        route: None,
        account: None,
        rooms: vec![Room("房间".into())],
        tries: Tries { attempts: 2, first: None, last: None, http_status: Some(403), provider_code: None },
    };
    let names = Names { sources: vec!["live".into()], ..Names::default() };
    Record { headers: letter.seal(&names, Wall(2_000)).headers, ..record }
}

fn id(record: &Record) -> LetterId {
    crate::core::replay::Told::read(record).unwrap().letter
}

/// The admin port over that shelf.
async fn serve(shelf: Shelf) -> (Serving, crate::driver::Driver) {
    crate::http::install_crypto();
    let (driver, mut view, _) = idle_loop();
    let places = vec![Place::new("events.dlq", vec!["live".into()], Arc::new(shelf))];
    view.letters = Desk::new(places, today());
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let settings = Settings { listen: any, probes: None, token: TOKEN.into() };
    (listen(settings).await.unwrap().serve(view), driver)
}

/// Asks with the token; the status and the lines of the body as JSON.
async fn ask(serving: &Serving, method: &str, path: &str, body: &str) -> (u16, Vec<Value>) {
    let method = method.to_ascii_uppercase().parse().unwrap();
    let client = reqwest::Client::new();
    let request = client.request(method, format!("http://{}{path}", serving.listen));
    let answer = request.bearer_auth(TOKEN).body(body.to_owned()).send().await.unwrap();
    let status = answer.status().as_u16();
    let text = answer.text().await.unwrap();
    let lines = match serde_json::from_str(&text) {
        Ok(one) => vec![one],
        Err(_) => text.lines().map(|line| serde_json::from_str(line).expect(line)).collect(),
    };
    (status, lines)
}

/// Three letters: one open, two that are a chain.
fn shelf() -> (Shelf, [LetterId; 3]) {
    let open = letter(1, Class::RoomGone, 0, None);
    let first = letter(2, Class::Rejected, 0, None);
    let second = letter(2, Class::Uncertain, 1, Some(id(&first)));
    let ids = [id(&open), id(&first), id(&second)];
    let mut row = Row::new(Fate::Replayed, "ann@host", Wall(5_000));
    row.next.push(ids[2]);
    let rows = BTreeMap::from([(Row::key(ids[1]), Bytes::from(row.write()))]);
    let rows = Arc::new(Rows(Mutex::new(rows), Mutex::default()));
    // The first one stands twice, as Kafka may have it after a crash.
    let letters = vec![open, first.clone(), second, first];
    (Shelf { letters, rows, ..Shelf::default() }, ids)
}

#[tokio::test]
async fn letters_are_listed_by_filters_and_end_with_a_summary() {
    let (shelf, ids) = shelf();
    let (serving, _driver) = serve(shelf).await;
    let listed = async |query: &str| {
        let (status, mut lines) = ask(&serving, "get", &format!("/api/letters{query}"), "").await;
        assert_eq!(status, 200, "{lines:?}");
        let summary = lines.pop().unwrap()["summary"].clone();
        assert_eq!(summary["listed"], lines.len());
        let ids: Vec<String> = lines.iter().map(|line| line["letter"].as_str().unwrap().to_owned()).collect();
        (ids, summary["more"].as_bool().unwrap())
    };
    let texts = tell::ids(&ids);
    assert_eq!(listed("").await, (vec![texts[0].clone(), texts[2].clone()], false), "the open ones");
    assert_eq!(listed("?limit=1").await, (vec![texts[0].clone()], true));
    let all = "?state=open&state=replayed&room=%E6%88%BF%E9%97%B4&source=live";
    assert_eq!(listed(all).await, (texts.clone(), false), "each once");
    assert_eq!(listed("?class=uncertain&min_attempts=2").await.0, [texts[2].clone()]);
    assert_eq!(listed(&format!("?letter={}", &texts[1][..13])).await.0, [texts[1].clone()]);
    assert_eq!(listed("?text=GIFT&until=3h").await.0.len(), 2);
    assert_eq!(listed("?since=2h").await.0.len(), 0);
}

#[tokio::test]
async fn a_letter_is_shown_with_its_chain() {
    let (shelf, ids) = shelf();
    let (serving, _driver) = serve(shelf).await;
    let (status, shown) = ask(&serving, "get", &format!("/api/letters/{}", ids[2]), "").await;
    assert_eq!(status, 200);
    let shown = &shown[0];
    assert_eq!(shown["row"], json!({ "state": "open" }));
    assert_eq!(shown["record"]["value"], json!({ "type": "gift" }));
    assert_eq!(shown["record"]["headers"], json!([{ "name": "trace", "value": "t-1" }]));
    let chain = shown["chain"].as_array().unwrap();
    let links: Vec<(&str, &str)> = chain
        .iter()
        .map(|part| (part["letter"].as_str().unwrap(), part["row"]["state"].as_str().unwrap()))
        .collect();
    assert_eq!(links, [(&*ids[1].to_string(), "replayed"), (&*ids[2].to_string(), "open")]);
    assert_eq!((&shown["today"]["route"], &shown["today"]["source"]), (&json!("gifts"), &json!("live")));
    let request = &shown["today"]["requests"][0];
    assert_eq!((&request["rooms"], &request["account"]), (&json!(["k"]), &json!("acme")), "{request}");
    assert_eq!(request["headers"]["authorization"], "***", "{request}");
    assert!(!shown.to_string().contains("hunter2"), "{shown}");
    let (_, alone) = ask(&serving, "get", &format!("/api/letters/{}", ids[0]), "").await;
    assert_eq!(alone[0]["chain"], json!([]));
}

#[tokio::test]
async fn letters_are_discarded_once_and_by_whom_is_kept() {
    let (shelf, ids) = shelf();
    let rows = shelf.rows.clone();
    let (serving, _driver) = serve(shelf).await;
    let order =
        json!({ "which": { "letter": [ids[0], ids[1], Uuid::nil()] }, "by": "ann\n", "why": "cancelled" });
    let (status, done) = ask(&serving, "post", "/api/letters/discard", &order.to_string()).await;
    assert_eq!((status, &done[0]), (200, &json!({ "discarded": 1, "final_already": 1, "not_found": 1 })));
    let row = Row::read(&rows.0.lock().unwrap()[&Row::key(ids[0])]).unwrap();
    assert_eq!((row.state, &*row.by, &*row.why), (Fate::Discarded, "api: ann", "cancelled"));
    let (_, done) =
        ask(&serving, "post", "/api/letters/discard", r#"{"which":{"class":["room_gone"]}}"#).await;
    assert_eq!(done[0]["discarded"], 0, "a filter means open ones");
    let (_, counts) = ask(&serving, "get", "/api/letters/stats", "").await;
    assert_eq!(counts[0]["state"], json!({ "discarded": 1, "open": 1, "replayed": 1 }));
}

#[tokio::test]
async fn what_is_wrong_is_told_with_the_status_that_it_deserves() {
    let (shelf, _) = shelf();
    let (serving, _driver) = serve(shelf).await;
    for (method, path, body, status, told) in [
        ("get", "/api/letters?class=rejcted", "", 400, "did you mean \"rejected\"?"),
        ("get", "/api/letters?limit=x", "", 400, "a number"),
        ("get", "/api/letters?source=lve", "", 400, "did you mean \"live\"?"),
        ("get", "/api/letters/nonsense", "", 400, "is no letter"),
        ("get", "/api/letters/00000000-0000-0000-0000-000000000000", "", 404, "there is no letter"),
        ("post", "/api/letters/discard", "{}", 400, "missing field `which`"),
        ("post", "/api/letters/discard", r#"{"which":{}}"#, 400, "which letters?"),
        ("post", "/api/letters/discard", r#"{"which":{"clas":[]}}"#, 400, "unknown field `clas`"),
        ("post", "/api/letters/replay", "{}", 400, "missing field `which`"),
        ("post", "/api/letters/replay", r#"{"which":{}}"#, 400, "which letters?"),
        (
            "post",
            "/api/letters/replay",
            r#"{"which":{"source":["live"]},"dry_run":true}"#,
            400,
            "which letters?",
        ),
        (
            "post",
            "/api/letters/replay",
            r#"{"which":{"text":"a"},"dryrun":true}"#,
            400,
            "unknown field `dryrun`",
        ),
        ("post", "/api/letters/replay", r#"{"which":{"text":"a"},"rate":"50"}"#, 400, "such as 50/s"),
        (
            "post",
            "/api/letters/replay",
            r#"{"which":{"text":"a"},"route":"old"}"#,
            400,
            "expected `current` or",
        ),
        (
            "post",
            "/api/letters/replay",
            r#"{"which":{"text":"a"},"patch":".a | fooo"}"#,
            400,
            "patch:1:6: found",
        ),
    ] {
        let (found, answer) = ask(&serving, method, path, body).await;
        let error = answer[0]["error"].as_str().unwrap();
        assert!(found == status && error.contains(told), "{path}: {found} {error}");
    }
    let away = Shelf { away: true, ..Shelf::default() };
    let (serving, _driver) = serve(away).await;
    for (method, path) in [
        ("get", "/api/letters"),
        ("get", "/api/letters/stats"),
        ("get", "/api/letters/00000000-0000-0000-0000-000000000000"),
        ("post", "/api/letters/replay"),
    ] {
        let (status, answer) = ask(&serving, method, path, r#"{"which":{"state":["open"]}}"#).await;
        let error = answer[0]["error"].as_str().unwrap();
        assert!(status == 502 && error.contains("9092"), "{error}");
    }
}

#[tokio::test]
async fn looks_are_bounded_and_end_with_their_reader() {
    let (shelf, _) = shelf();
    let shelf = Shelf { letters: (0..1_000).map(|n| letter(n, Class::Garbled, 0, None)).collect(), ..shelf };
    let (serving, _driver) = serve(shelf).await;
    let url = format!("http://{}/api/letters", serving.listen);
    let client = reqwest::Client::new();
    let mut readers = Vec::new();
    for _ in 0..LOOKS {
        let answer = client.get(&url).bearer_auth(TOKEN).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        readers.push(answer);
    }
    // What is small enough for the sockets may be over by now: only a look that is not, holds its place.
    drop(readers);
    let again = async || ask(&serving, "get", "/api/letters/stats", "").await.0;
    while again().await != 200 {
        tokio::task::yield_now().await;
    }
    let desk = Desk::new(Vec::new(), today());
    let held: Vec<_> = (0..LOOKS).map(|_| desk.begin(&Filters::default(), &[]).expect("a place")).collect();
    let refused = desk.begin(&Filters::default(), &[]).expect_err("no place is left");
    assert_eq!(refused.status, 429);
    drop(held);
    assert!(desk.begin(&Filters::default(), &[]).is_ok());
}

fn description() -> Value {
    serde_json::from_str(OPENAPI).expect("the description is JSON")
}

#[test]
fn the_description_has_every_route_and_no_other() {
    let described = description();
    assert_eq!(described["info"]["version"], env!("CARGO_PKG_VERSION"));
    let paths = described["paths"].as_object().unwrap();
    let described: BTreeSet<(String, &str)> = paths
        .iter()
        .flat_map(|(path, methods)| {
            methods.as_object().unwrap().keys().map(move |m| (m.to_uppercase(), path.as_str()))
        })
        .collect();
    let served: BTreeSet<(String, &str)> =
        ROUTES.iter().map(|route| (route.method.to_string(), route.path)).collect();
    assert_eq!(described, served);
}

#[test]
fn the_description_has_the_words_of_the_filters() {
    let described = description();
    let schemas = &described["components"]["schemas"];
    let filters = &schemas["Filters"]["properties"];
    let names: BTreeSet<&str> = filters.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(names, crate::letters::filters::NAMES.into_iter().collect());
    assert_eq!(filters["class"]["items"]["enum"], json!(Class::ALL.map(Class::word)));
    assert_eq!(filters["state"]["items"]["enum"], json!(Fate::ALL.map(Fate::word)));
    for path in ["/api/letters", "/api/letters/stats"] {
        let parameters = described["paths"][path]["get"]["parameters"].as_array().unwrap();
        let told: BTreeSet<&str> = parameters.iter().map(|one| one["name"].as_str().unwrap()).collect();
        assert!(names.is_subset(&told), "{path}: {told:?}");
    }
}

/// Judges an answer by what the description says of it.
fn judge(method: &str, path: &str, status: u16, kind: &str, answer: &Value) {
    let mut compiler = Compiler::new();
    compiler.add_resource("http://described/openapi.json", description()).unwrap();
    let escape = |text: &str| text.replace('/', "~1");
    let place = format!(
        "http://described/openapi.json#/paths/{}/{method}/responses/{status}/content/{}/schema",
        escape(path),
        escape(kind)
    );
    let mut schemas = Schemas::new();
    let schema = compiler.compile(&place.replace('{', "%7B").replace('}', "%7D"), &mut schemas);
    let schema = schema.unwrap_or_else(|error| panic!("{place}: {error:#}"));
    schemas.validate(answer, schema).unwrap_or_else(|error| panic!("{path} {status}: {answer}\n{error:#}"));
}

#[tokio::test]
async fn answers_are_what_the_description_says() {
    let (shelf, ids) = shelf();
    let (serving, driver) = serve(shelf).await;
    let running = tokio::spawn(driver.run());
    let json = "application/json";
    let shown = format!("/api/letters/{}", ids[2]);
    let discard = json!({ "which": { "letter": [ids[0]] }, "by": "ann" }).to_string();
    let which = json!({ "state": ["open", "replayed"] });
    let planned = json!({ "which": which, "dry_run": true, "rate": "10/s" }).to_string();
    let replay = json!({ "which": which, "limit": 5, "route": "original", "patch": "." }).to_string();
    let asked = [
        ("get", "/api/openapi.json", "/api/openapi.json", "", 200, json),
        ("get", "/api/status", "/api/status", "", 200, json),
        ("get", "/api/letters", "/api/letters?state=open&state=replayed", "", 200, "application/x-ndjson"),
        ("get", "/api/letters", "/api/letters?state=nonsense", "", 400, json),
        ("get", "/api/letters/stats", "/api/letters/stats", "", 200, json),
        ("get", "/api/letters/{letter}", &shown, "", 200, json),
        ("get", "/api/letters/{letter}", &format!("/api/letters/{}", Uuid::nil()), "", 404, json),
        ("post", "/api/letters/discard", "/api/letters/discard", &discard, 200, json),
        ("post", "/api/letters/discard", "/api/letters/discard", "{}", 400, json),
        ("post", "/api/letters/replay", "/api/letters/replay", &planned, 200, json),
        ("post", "/api/letters/replay", "/api/letters/replay", &replay, 200, "application/x-ndjson"),
        ("post", "/api/letters/replay", "/api/letters/replay", "{}", 400, json),
    ];
    for (method, path, url, body, status, kind) in asked {
        let (found, lines) = ask(&serving, method, url, body).await;
        assert_eq!(found, status, "{url}: {lines:?}");
        for line in &lines {
            judge(method, path, status, kind, line);
        }
    }
    // What other tests have shown with a body, every route has here.
    let answered: BTreeSet<&str> = asked.iter().filter(|one| one.4 == 200).map(|one| one.1).collect();
    assert_eq!(answered, ROUTES.iter().map(|route| route.path).collect());
    running.abort();
}
