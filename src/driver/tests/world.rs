//! A source, a provider and a server that the tests of the driver play with.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use bytes::Bytes;
use serde_json::{Map, Value};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use uuid::Uuid;

use super::super::*;
use crate::broker::{Boxed, EachRow, Letters, Table};
use crate::core::letter::Sealed;
use crate::core::model::*;
use crate::core::provider::*;
use crate::core::route::directory::Lookup;
use crate::core::schedule::backoff::Retry;
use crate::core::schedule::{AccountSettings, OnExpiry, OnFull, RoutePolicy, Settings, SourceSettings};
use crate::core::time::Wall;

/// How the server treats a request, by its body.
pub(super) type Behaviour = fn(&str) -> Treat;

/// What the server does with one request.
pub(super) enum Treat {
    /// Answers with this status.
    Answer(u16),
    /// Waits so many milliseconds, then answers 200.
    Slow(u64),
    /// Never answers.
    Hold,
}

/// Bodies in the order they were read in full.
pub(super) type Log = Arc<Mutex<Vec<String>>>;

/// A server of raw HTTP/1.1 with connections kept.
pub(super) async fn serve(behaviour: Behaviour) -> (String, Log) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let log = Log::default();
    let kept = log.clone();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(serve_one(stream, behaviour, log.clone()));
        }
    });
    (url, kept)
}

async fn serve_one(mut stream: TcpStream, behaviour: Behaviour, log: Log) {
    let mut seen = Vec::new();
    loop {
        let (head, length) = loop {
            if let Some(head) = seen.windows(4).position(|four| four == b"\r\n\r\n") {
                let text = String::from_utf8_lossy(&seen[..head]).to_ascii_lowercase();
                let length = text.split("content-length: ").nth(1).unwrap();
                let length: usize = length.lines().next().unwrap().parse().unwrap();
                if seen.len() >= head + 4 + length {
                    break (head, length);
                }
            }
            if stream.read_buf(&mut seen).await.unwrap_or(0) == 0 {
                return;
            }
        };
        let body = String::from_utf8(seen[head + 4..head + 4 + length].to_vec()).unwrap();
        seen.drain(..head + 4 + length);
        log.lock().unwrap().push(body.clone());
        let status = match behaviour(&body) {
            Treat::Answer(status) => status,
            Treat::Slow(millis) => {
                tokio::time::sleep(Duration::from_millis(millis)).await;
                200
            }
            Treat::Hold => std::future::pending().await,
        };
        let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n");
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// A provider that posts `room:content` and reads the answer off the status.
#[derive(Debug)]
pub(super) struct Plain {
    pub(super) urls: Vec<String>,
    pub(super) limits: Limits,
    pub(super) timeout: Duration,
    pub(super) login: bool,
}

impl Plain {
    pub(super) fn new(url: &str) -> Self {
        let quota = |day| PathQuota {
            calls_per_second: 100_000,
            messages_per_second: None,
            calls_per_minute: None,
            calls_per_day: day,
        };
        Self {
            urls: vec![url.to_owned()],
            limits: Limits {
                rooms_per_call: 1,
                messages_per_call: 1,
                drops_repeats: false,
                paths: [quota(None), quota(None), quota(Some(100))],
                room_messages_per_second: 100_000,
                room_high_per_second: None,
            },
            timeout: Duration::from_secs(3),
            login: false,
        }
    }
}

fn post(path: &str, body: String) -> Call {
    Call { path: path.to_owned(), headers: http::HeaderMap::new(), body: body.into() }
}

use ::http;

impl Provider for Plain {
    fn name(&self) -> &'static str {
        "plain"
    }
    fn base_urls(&self) -> &[String] {
        &self.urls
    }
    fn timeout(&self) -> Duration {
        self.timeout
    }
    fn limits(&self) -> &Limits {
        &self.limits
    }
    fn supports(&self, _: KindName, _: Path) -> Result<(), String> {
        Ok(())
    }
    fn check_options(
        &self,
        _: KindName,
        _: Path,
        _: &Map<String, Value>,
    ) -> Result<(), Vec<(String, String)>> {
        Ok(())
    }
    fn render(&self, _: &Draft<'_>) -> Result<Arc<Content>, Invalid> {
        Err(Invalid("the tests render by themselves".to_owned()))
    }
    fn check_room(&self, _: &str) -> Result<(), Invalid> {
        Ok(())
    }
    fn login(&self) -> Option<Call> {
        self.login.then(|| post("/token", "login".to_owned()))
    }
    fn session(&self, answer: &Answer) -> Result<Session, LoginFault> {
        match answer {
            Ok(reply) if reply.status == 200 => Ok(Session { token: "t0ken".into(), lifetime: None }),
            _ => Err(LoginFault::Failed(Trouble::default())),
        }
    }
    fn call(&self, _: Path, items: &[Item], session: Option<&Session>, _: &Stamp) -> Call {
        assert_eq!(session.is_some(), self.login, "a session where there is a login");
        let item = &items[0];
        let content = std::str::from_utf8(&item.content.single).unwrap();
        assert_ne!(content, "panic before the call");
        post("/send", format!("{}:{content}", item.room))
    }
    fn outcomes(&self, _: Path, items: &[Item], answer: &Answer) -> Outcomes {
        assert_ne!(&*items[0].content.single, b"panic after the call");
        let trouble = Trouble::default();
        let outcome = match answer {
            Ok(reply) if reply.status == 200 => Outcome::Accepted(Acceptance::Plain),
            Ok(reply) if reply.status == 429 => {
                Outcome::Throttled { scope: Throttle::Path(Duration::from_secs(7)), trouble }
            }
            Ok(reply) if reply.status == 400 => Outcome::Refused { class: Class::Rejected, trouble },
            Ok(_) | Err(Fault::NotSent(_)) => Outcome::Failed(trouble),
            Err(Fault::Unknown(_)) => Outcome::Uncertain(trouble),
        };
        Outcomes::from_elem(outcome, items.len())
    }
}

/// A dead-letter topic that refuses the first few letters, and a table of rows.
#[derive(Default)]
pub(super) struct Shelf {
    pub(super) refuse: AtomicU32,
    pub(super) letters: Mutex<Vec<Sealed>>,
    pub(super) rows: Mutex<Vec<(String, Bytes)>>,
    /// What the server had seen when a row was set.
    pub(super) calls_at_put: Mutex<Vec<usize>>,
    pub(super) log: Log,
    pub(super) at_once: AtomicUsize,
    pub(super) most_at_once: AtomicUsize,
}

impl Letters for Shelf {
    fn write(&self, letter: Sealed) -> Boxed<'_, Result<(), String>> {
        Box::pin(async move {
            let now = self.at_once.fetch_add(1, Ordering::SeqCst) + 1;
            self.most_at_once.fetch_max(now, Ordering::SeqCst);
            tokio::task::yield_now().await;
            self.at_once.fetch_sub(1, Ordering::SeqCst);
            let refused =
                self.refuse.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
            if refused.is_ok() {
                return Err("no such topic".to_owned());
            }
            self.letters.lock().unwrap().push(letter);
            Ok(())
        })
    }
}

impl Table for Shelf {
    fn each(&self, mut row: EachRow) -> Boxed<'_, Result<(), String>> {
        Box::pin(async move {
            self.rows.lock().unwrap().iter().for_each(|(key, value)| row(key, Some(value)));
            Ok(())
        })
    }
    fn put(&self, key: String, value: Bytes) -> Boxed<'_, Result<(), String>> {
        Box::pin(async move {
            self.calls_at_put.lock().unwrap().push(self.log.lock().unwrap().len());
            self.rows.lock().unwrap().push((key, value));
            Ok(())
        })
    }
}

pub(super) const SOURCE: SourceId = SourceId(0);
pub(super) const PARTITION: PartitionId = PartitionId(0);
pub(super) const EPOCH: Epoch = Epoch(1);

/// The test's end of everything.
pub(super) struct World {
    pub(super) handle: Handle,
    pub(super) running: tokio::task::JoinHandle<Ended>,
    pub(super) inbox: mpsc::Sender<Arrival>,
    pub(super) commands: mpsc::UnboundedReceiver<Command>,
    pub(super) ended: Option<tokio::sync::oneshot::Sender<Result<(), String>>>,
    pub(super) shelf: Arc<Shelf>,
    pub(super) log: Log,
}

/// How a world differs from the plainest one.
pub(super) struct Options {
    pub(super) inbox: usize,
    pub(super) held: usize,
    pub(super) drain: Duration,
    pub(super) login: bool,
    pub(super) timeout: Duration,
    pub(super) rows: Vec<(String, Bytes)>,
    pub(super) refuse_letters: u32,
    pub(super) sharing: Sharing,
    pub(super) leases: Leases,
    pub(super) lookups: Lookups,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            inbox: 64,
            held: 10_000,
            drain: Duration::from_secs(5),
            login: false,
            timeout: Duration::from_secs(3),
            rows: Vec::new(),
            refuse_letters: 0,
            sharing: Sharing::Whole,
            leases: Leases::default(),
            lookups: Lookups::default(),
        }
    }
}

/// The one route's: it repeats soon, and not often.
fn policy() -> RoutePolicy {
    let initial = Duration::from_millis(5);
    RoutePolicy {
        name: "all".into(),
        retry: Retry { initial, max_attempts: 2, max_uncertain: 1, ..Retry::default() },
        on_expiry: OnExpiry::Drop,
        on_full: OnFull::Wait,
    }
}

/// Starts a driver with one source, whose only partition is assigned, and one account.
pub(super) async fn start(behaviour: Behaviour, options: Options) -> World {
    let (url, log) = serve(behaviour).await;
    let clock = Clock::start();
    let provider = Arc::new(Plain { login: options.login, timeout: options.timeout, ..Plain::new(&url) });
    let settings = Settings {
        accounts: vec![AccountSettings {
            limits: provider.limits.clone(),
            timeout: provider.timeout,
            needs_login: options.login,
            base_urls: 1,
        }],
        routes: vec![policy()],
        sources: vec![SourceSettings {
            held_records: options.held,
            held_bytes: 64 << 20,
            is_answered: false,
        }],
        max_waiting_per_room: 1_000,
        room_gone: Duration::ZERO,
        flood_guard: None,
        seed: 7,
    };
    let shelf = Arc::new(Shelf { log: log.clone(), rows: Mutex::new(options.rows), ..Shelf::default() });
    shelf.refuse.store(options.refuse_letters, Ordering::SeqCst);
    let (inbox, arrivals) = mpsc::channel(options.inbox);
    let (commands_in, commands) = mpsc::unbounded_channel();
    let (ended, ended_out) = tokio::sync::oneshot::channel();
    let started = Started {
        commands: commands_in,
        letters: shelf.clone(),
        table: shelf.clone(),
        buckets: None,
        ended: Box::pin(async { ended_out.await.unwrap_or(Ok(())) }),
    };
    let client = crate::http::Client::new(provider.base_urls(), provider.timeout).unwrap();
    let (driver, handle) = Driver::new(Parts {
        clock,
        scheduler: Scheduler::new(settings, clock.now()),
        planner: Box::new(look_up),
        accounts: vec![AccountParts {
            quotas: Quotas::new(&provider.limits, true),
            sharing: options.sharing,
            provider,
            client: Arc::new(client),
            counted_by: Some(SOURCE),
        }],
        sources: vec![started],
        inbox: arrivals,
        names: Arc::new(Names {
            sources: vec!["live".into()],
            accounts: vec!["acme".into()],
            routes: vec!["all".into()],
        }),
        drain_timeout: options.drain,
        leases: options.leases,
        lookups: options.lookups,
        replays: Replays::default(),
    });
    let running = tokio::spawn(driver.run());
    let partitions = vec![(PARTITION, EPOCH, Arc::from("events/0"))];
    inbox.send(Arrival::Assigned { source: SOURCE, partitions, order: None }).await.unwrap();
    World { handle, running, inbox, commands, ended: Some(ended), shelf, log }
}

impl World {
    /// The next command that is not about intake.
    pub(super) async fn command(&mut self) -> Command {
        let next = async {
            loop {
                match self.commands.recv().await.expect("the driver lives") {
                    Command::Intake(_) | Command::PartitionIntake(..) => {}
                    command => return command,
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(20), next).await.expect("a command within 20 s")
    }

    /// The offset of the next record that is settled.
    pub(super) async fn settled(&mut self) -> i64 {
        match self.command().await {
            Command::Settle(id) => id.offset,
            other => panic!("expected Settle, got {other:?}"),
        }
    }

    /// Waits until the server has read so many requests.
    pub(super) async fn seen(&self, calls: usize) {
        let all = async {
            while self.log.lock().unwrap().len() < calls {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), all).await.expect("calls within 20 s");
    }

    pub(super) async fn send(&self, offset: i64, room: &str, value: &str) {
        self.inbox.send(Arrival::Record(record(offset, room, value))).await.unwrap();
    }

    /// Obeys Stop as a source would, and returns how the driver ended.
    pub(super) async fn stop(mut self) -> Ended {
        self.handle.stop();
        while self.command().await != Command::Stop {}
        self.ended.take().unwrap().send(Ok(())).unwrap();
        self.running.await.unwrap()
    }
}

pub(super) fn record(offset: i64, room: &str, value: &str) -> Record {
    Record {
        id: RecordId { source: SOURCE, partition: PARTITION, epoch: EPOCH, offset },
        origin: Origin { stream: "events".into(), topic: "events".into(), partition: 0, offset },
        key: Some(Bytes::copy_from_slice(room.as_bytes())),
        value: Some(Bytes::copy_from_slice(value.as_bytes())),
        headers: Vec::new(),
        timestamp: Wall(0),
        maybe_tried: false,
    }
}

/// The same, to the room that the first directory has for the key, where the value begins with `?`.
fn look_up(record: &Record, directories: &Directories) -> Plan {
    let plan = plan(record);
    if !record.value.as_ref().is_some_and(|value| value.starts_with(b"?")) {
        return plan;
    }
    let key = plan.messages[0].room.to_string();
    let directory = DirectoryId(0);
    match directories.get(directory, &key) {
        Lookup::Known(mut rooms) => {
            let room = Room(rooms.next().expect("each key here has a room").into());
            let message = Message { room, ..plan.messages[0].clone() };
            Plan { messages: vec![message], ..plan }
        }
        Lookup::Unknown => {
            let at_most = Some(Duration::from_secs(60));
            let wait = Wait { directory, key: key.into(), at_most, error: "not known".to_owned() };
            Plan { messages: Vec::new(), unknown: Some(directory), waits: Some(Box::new(wait)), ..plan }
        }
        Lookup::NotLoaded => {
            let wait = Wait { directory, key: key.into(), at_most: None, error: String::new() };
            Plan { messages: Vec::new(), waits: Some(Box::new(wait)), ..plan }
        }
    }
}

/// One message to the room that the key names (`*`: a broadcast); the value `garbled` is a letter.
pub(super) fn plan(record: &Record) -> Plan {
    let base = BaseId(Uuid::new_v5(&Uuid::NAMESPACE_OID, &record.id.offset.to_be_bytes()));
    let room = String::from_utf8(record.key.clone().unwrap().to_vec()).unwrap();
    let value = record.value.clone().unwrap();
    let garbled = &*value == b"garbled";
    let (path, room) = match &*room {
        "*" => (Path::Broadcast, Room("".into())),
        room => (Path::Room, Room(room.into())),
    };
    let message = Message {
        account: AccountId(0),
        path,
        id: base.message(&room),
        room,
        priority: Priority::Normal,
        base,
        route: RouteId(0),
        content: Arc::new(Content { single: value, batched: Bytes::new() }),
        expires: None,
        conflate: None,
    };
    let (class, error) = (Class::Garbled, "not JSON".to_owned());
    let failure = Failure { base, class, error, rooms: Vec::new() };
    Plan {
        route: Some(RouteId(0)),
        account: Some(AccountId(0)),
        base,
        messages: if garbled { Vec::new() } else { vec![message] },
        failures: if garbled { vec![failure] } else { Vec::new() },
        dropped: None,
        when_errors: 0,
        unknown: None,
        waits: None,
    }
}
