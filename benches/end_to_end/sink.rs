//! The sink: takes calls over HTTP, answers each "accepted" after a fixed time, and writes down what
//! arrived when. It checks nothing of what the simulator checks, so that it costs as little as it
//! can: on a small machine every microsecond here is taken from roomcast.
//!
//! One thread, one task a connection. An event is told by its [`Mark`].

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// What Yunxin answers when it has taken a message, as far as anybody reads it.
const ACCEPTED: &str = concat!(
    "HTTP/1.1 200 OK\r\nContent-Type: application/json;charset=utf-8\r\nContent-Length: 71\r\n\r\n",
    r#"{"code":200,"desc":{"roomId":"36","fromAccount":"system","type":"100"}}"#,
);
const HEAD_END: &[u8] = b"\r\n\r\n";
const LENGTH: &[u8] = b"content-length: ";

/// What an event carries in its text: which one it is and when it was produced. Made of characters
/// that neither JSON nor a form changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Its room.
    pub room: u32,
    /// Its place among the events of its room.
    pub nth: u32,
    /// When it was produced, in nanoseconds since the sink began.
    pub at_ns: u64,
}

impl Mark {
    const BEGIN: &[u8] = b"MARK.";

    /// The text.
    pub fn text(self) -> String {
        format!("MARK.{}.{}.{}.", self.room, self.nth, self.at_ns)
    }

    fn find(body: &[u8]) -> Option<Self> {
        let start = find(body, Self::BEGIN)? + Self::BEGIN.len();
        let mut numbers = body[start..].split(|byte| *byte == b'.').map(number);
        let (room, nth, at_ns) = (numbers.next()??, numbers.next()??, numbers.next()??);
        Some(Self { room: u32::try_from(room).ok()?, nth: u32::try_from(nth).ok()?, at_ns })
    }
}

fn number(digits: &[u8]) -> Option<u64> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

fn find(text: &[u8], wanted: &[u8]) -> Option<usize> {
    text.windows(wanted.len()).position(|window| window == wanted)
}

/// What has arrived since [`Sink::begin`].
#[derive(Debug, Default)]
pub struct Seen {
    /// Different events.
    pub events: usize,
    /// Events that came before and came again.
    pub repeats: usize,
    /// First arrivals that came after a later event of their room.
    pub disordered: usize,
    /// Calls without a mark.
    pub strange: usize,
    /// From produced to arrived, of first arrivals.
    pub latencies: Vec<Duration>,
    /// The first and the last first arrival.
    pub span: Option<(Instant, Instant)>,
    /// Answers, and how long they took together: what the fixed time came to.
    answers: (u32, Duration),
    rooms: BTreeMap<u32, Room>,
}

/// Events of a room: those that came, by their place.
#[derive(Debug, Default)]
struct Room {
    came: Vec<bool>,
}

impl Seen {
    /// The mean time from a call's arrival to its answer.
    pub fn answer_time(&self) -> Duration {
        self.answers.1 / self.answers.0.max(1)
    }

    fn arrived(&mut self, mark: Option<Mark>, now: Instant, epoch: Instant) {
        let Some(mark) = mark else {
            self.strange += 1;
            return;
        };
        let nth = mark.nth as usize;
        let came = &mut self.rooms.entry(mark.room).or_default().came;
        if came.get(nth) == Some(&true) {
            self.repeats += 1;
            return;
        }
        self.disordered += usize::from(came.len() > nth);
        came.resize(came.len().max(nth + 1), false);
        came[nth] = true;
        self.events += 1;
        self.latencies.push((now - epoch).saturating_sub(Duration::from_nanos(mark.at_ns)));
        self.span = Some((self.span.map_or(now, |(first, _)| first), now));
    }
}

#[derive(Debug)]
struct Shared {
    epoch: Instant,
    answer_after: Mutex<Duration>,
    seen: Mutex<Seen>,
    wanted: Mutex<usize>,
    arrived: Condvar,
}

/// The running sink. Its thread ends with the process.
#[derive(Debug)]
pub struct Sink {
    /// Where it listens.
    pub addr: SocketAddr,
    shared: Arc<Shared>,
}

impl Sink {
    /// Starts it on a free port.
    pub fn start() -> Self {
        let shared = Arc::new(Shared {
            epoch: Instant::now(),
            answer_after: Mutex::default(),
            seen: Mutex::default(),
            wanted: Mutex::default(),
            arrived: Condvar::new(),
        });
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.set_nonblocking(true).expect("a socket");
        let addr = listener.local_addr().expect("it is bound");
        let serving = Arc::clone(&shared);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(serve(listener, serving));
        });
        Self { addr, shared }
    }

    /// Nanoseconds since it began: the clock of [`Mark::at_ns`].
    pub fn now_ns(&self) -> u64 {
        u64::try_from(self.shared.epoch.elapsed().as_nanos()).expect("584 years")
    }

    /// Forgets what arrived; from here on answers take so long.
    pub fn begin(&self, answer_after: Duration) {
        *lock(&self.shared.answer_after) = answer_after;
        *lock(&self.shared.seen) = Seen::default();
    }

    /// Waits until so many events have arrived, at most `patience` without a new one, and hands out
    /// what is known.
    pub fn await_events(&self, count: usize, patience: Duration) -> Seen {
        *lock(&self.shared.wanted) = count;
        let mut seen = lock(&self.shared.seen);
        let mut before = seen.events;
        while seen.events < count {
            let (again, waited) = self.shared.arrived.wait_timeout(seen, patience).expect("no panic");
            seen = again;
            if waited.timed_out() && seen.events == before {
                break;
            }
            before = seen.events;
        }
        std::mem::take(&mut seen)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("nobody panics under it")
}

async fn serve(listener: std::net::TcpListener, shared: Arc<Shared>) {
    let listener = TcpListener::from_std(listener).expect("a socket");
    loop {
        let (stream, _) = listener.accept().await.expect("there are file descriptors left");
        stream.set_nodelay(true).expect("a TCP socket");
        tokio::spawn(connection(stream, Arc::clone(&shared)));
    }
}

/// Reads calls and answers them, until the other side goes.
async fn connection(mut stream: TcpStream, shared: Arc<Shared>) {
    let mut buffer = Vec::with_capacity(4_096);
    loop {
        let whole = loop {
            if let Some(whole) = request_length(&buffer)
                && buffer.len() >= whole
            {
                break whole;
            }
            match stream.read_buf(&mut buffer).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
        };
        let began = Instant::now();
        let mark = Mark::find(&buffer[..whole]);
        buffer.drain(..whole);
        let wanted = *lock(&shared.wanted);
        let after = *lock(&shared.answer_after);
        {
            let mut seen = lock(&shared.seen);
            seen.arrived(mark, began, shared.epoch);
            if seen.events == wanted {
                shared.arrived.notify_all();
            }
        }
        if !after.is_zero() {
            tokio::time::sleep_until((began + after).into()).await;
        }
        if stream.write_all(ACCEPTED.as_bytes()).await.is_err() {
            return;
        }
        let answers = &mut lock(&shared.seen).answers;
        *answers = (answers.0 + 1, answers.1 + began.elapsed());
    }
}

/// The length of the request at the head of the buffer, once its own head is whole.
fn request_length(buffer: &[u8]) -> Option<usize> {
    let head = find(buffer, HEAD_END)?;
    let at = find(&buffer[..head], LENGTH).expect("roomcast tells the length of its body");
    let digits = buffer[at + LENGTH.len()..].split(|byte| *byte == b'\r').next();
    let body = digits.and_then(number).expect("a length is a number");
    Some(head + HEAD_END.len() + usize::try_from(body).expect("a length fits"))
}
