//! The whole way of a record, measured: real Kafka and real nats-server, the release build of
//! roomcast, and a sink that answers every call after a fixed time. Quotas are out of the way.
//!
//!     benches/end_to_end.sh                     every row
//!     benches/end_to_end.sh kafka-20 latency    rows whose names hold one of these words
//!
//! Prints records a second, the daemon's own CPU a record, its memory, what was lost or out of
//! order (both must be 0: otherwise it ends with a failure), and the added latency at a small load.
//! Everything shares this machine: compare rows of one run only.

#![expect(clippy::print_stdout, reason = "the figures are what this program is for")]

mod load;
mod sink;
#[path = "../../tests/support/mod.rs"]
mod support;

use std::fs;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use load::Load;
use sink::{Seen, Sink};
use support::daemon::Daemon;

/// Batches of a throughput row; the median counts.
const BATCHES: usize = 3;
/// Without an arrival for so long, what is missing is lost.
const PATIENCE: Duration = Duration::from_secs(15);
/// What a new process waits before its first call, and a little.
const START: Duration = Duration::from_millis(1_500);
/// The load at which latency is measured: 100 records a second.
const TRICKLE: Duration = Duration::from_millis(10);

/// What is measured in one row of the table.
struct Row {
    broker: &'static str,
    rooms: u32,
    answer_ms: u64,
    /// Events of a batch.
    events: usize,
    latency: bool,
}

const ROWS: [Row; 10] = [
    Row { broker: "kafka", rooms: 1_000, answer_ms: 0, events: 100_000, latency: false },
    Row { broker: "kafka", rooms: 1_000, answer_ms: 20, events: 100_000, latency: false },
    Row { broker: "kafka", rooms: 1_000, answer_ms: 100, events: 100_000, latency: false },
    Row { broker: "kafka", rooms: 50, answer_ms: 20, events: 20_000, latency: false },
    Row { broker: "nats", rooms: 1_000, answer_ms: 0, events: 100_000, latency: false },
    Row { broker: "nats", rooms: 1_000, answer_ms: 20, events: 100_000, latency: false },
    Row { broker: "nats", rooms: 1_000, answer_ms: 100, events: 100_000, latency: false },
    Row { broker: "nats", rooms: 50, answer_ms: 20, events: 20_000, latency: false },
    Row { broker: "kafka", rooms: 1_000, answer_ms: 20, events: 2_000, latency: true },
    Row { broker: "nats", rooms: 1_000, answer_ms: 20, events: 2_000, latency: true },
];

impl Row {
    fn name(&self) -> String {
        let Self { broker, rooms, answer_ms, .. } = self;
        match self.latency {
            true => format!("latency-{broker}"),
            false => format!("{broker}-{answer_ms}ms-{rooms}"),
        }
    }

    /// Measures, and prints the row. False when a promise was broken.
    fn measure(&self, sink: &Sink) -> bool {
        let load = if self.broker == "kafka" { Load::kafka() } else { Load::nats() };
        let mut daemon = Daemon::start_ready(&config(sink, &load));
        std::thread::sleep(START);
        let pid = daemon.process().pid();
        let mut kept = true;
        if self.latency {
            let (seen, _) = self.batch(sink, pid, || load.trickle(sink, self.rooms, self.events, TRICKLE));
            kept &= self.is_kept(&seen);
            let [p50, p99, most] = percentiles(seen.latencies);
            println!("{:<20} p50 {p50:.2?}  p99 {p99:.2?}  longest {most:.2?}  {}", self.name(), memory(pid));
        } else {
            let mut batches: Vec<Figures> = (0..BATCHES)
                .map(|_| {
                    let (seen, figures) =
                        self.batch(sink, pid, || load.produce(sink, self.rooms, self.events));
                    kept &= self.is_kept(&seen);
                    figures
                })
                .collect();
            batches.sort_by(|one, other| one.rate.total_cmp(&other.rate));
            let Figures { rate, cpu_ms, rest_ms, answer_ms } = batches[BATCHES / 2];
            println!(
                "{:<20} {rate:>7.0} records/s ({:.0}..{:.0})  CPU {cpu_ms:.4} ms a record (load and sink {rest_ms:.4})  answers after {answer_ms:.1} ms  {}",
                self.name(),
                batches[0].rate,
                batches[BATCHES - 1].rate,
                memory(pid),
            );
        }
        let status = daemon.stop();
        if !status.success() {
            println!("{:<20} the daemon did not drain: {status}", self.name());
        }
        kept && status.success()
    }

    /// Lets the load come, and waits until all of it has arrived.
    fn batch(&self, sink: &Sink, pid: u32, produce: impl FnOnce()) -> (Seen, Figures) {
        sink.begin(Duration::from_millis(self.answer_ms));
        let (daemon_before, own_before) = (cpu(pid), cpu(std::process::id()));
        let began = Instant::now();
        produce();
        let seen = sink.await_events(self.events, PATIENCE);
        // The last calls are answered, and the records settled.
        std::thread::sleep(Duration::from_millis(self.answer_ms + 50));
        #[expect(clippy::cast_precision_loss, reason = "counts of a bench are small")]
        let count = seen.events.max(1) as f64;
        let (first, last) = seen.span.unwrap_or((began, began));
        let each = |cpu: Duration| cpu.as_secs_f64() * 1_000.0 / count;
        let figures = Figures {
            rate: count / (last - first).as_secs_f64().max(f64::EPSILON),
            cpu_ms: each(cpu(pid) - daemon_before),
            rest_ms: each(cpu(std::process::id()) - own_before),
            answer_ms: seen.answer_time().as_secs_f64() * 1_000.0,
        };
        (seen, figures)
    }

    fn is_kept(&self, seen: &Seen) -> bool {
        let lost = self.events - seen.events;
        let Seen { repeats, disordered, strange, .. } = seen;
        let kept = lost + repeats + disordered + strange == 0;
        if !kept {
            println!(
                "{:<20} BROKEN: {lost} lost, {disordered} out of order, {repeats} repeated, {strange} strange",
                self.name()
            );
        }
        kept
    }
}

/// What one batch came to.
#[derive(Clone, Copy)]
struct Figures {
    /// Records a second, from the first arrival to the last.
    rate: f64,
    /// CPU of the daemon, a record.
    cpu_ms: f64,
    /// CPU of this process: producing, and the sink.
    rest_ms: f64,
    /// What the sink's fixed answer time came to.
    answer_ms: f64,
}

/// The smallest config, with quotas that nobody reaches.
fn config(sink: &Sink, load: &Load) -> String {
    format!(
        "[accounts.sink]\nprovider = \"yunxin\"\nbase_url = \"http://{}\"\napp_key = \"key\"\n\
         app_secret = \"secret\"\nsender = \"system\"\nquota = {{ calls_per_second = 1_000_000, \
         room_messages_per_second = 1_000_000, room_high_per_second = 1_000_000 }}\n\n{}",
        sink.addr,
        load.source()
    )
}

/// CPU that a process has used, of its own and for it in the kernel.
fn cpu(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("the process runs");
    // The name in parentheses may hold anything; user and system time are the 12th and 13th after it.
    let (_, fields) = stat.rsplit_once(") ").expect("a name in parentheses");
    let ticks: u64 = fields.split(' ').skip(11).take(2).map(|n| n.parse::<u64>().expect("a number")).sum();
    // SAFETY: sysconf(3) takes any number and touches no memory of ours.
    let hertz = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    Duration::from_secs(ticks) / u32::try_from(hertz).expect("100 on Linux")
}

/// What a process has in memory now, and had at most.
fn memory(pid: u32) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process runs");
    let of = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key)).expect("Linux tells it");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") / 1_024
    };
    format!("resident {} MB, at most {} MB", of("VmRSS:"), of("VmHWM:"))
}

fn percentiles(mut latencies: Vec<Duration>) -> [Duration; 3] {
    latencies.sort_unstable();
    let last = latencies.len().saturating_sub(1);
    let at = |percent: usize| latencies.get((latencies.len() * percent / 100).min(last));
    [50, 99, 100].map(|percent| at(percent).copied().unwrap_or_default())
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // `cargo test --benches` starts it too, without this word: nobody wants minutes of load then.
    if !arguments.iter().any(|argument| argument == "--bench") {
        return ExitCode::SUCCESS;
    }
    let words: Vec<&String> = arguments.iter().filter(|argument| !argument.starts_with('-')).collect();
    let sink = Sink::start();
    println!("events of 300 bytes, quotas out of the way; {BATCHES} batches a row, the median counts");
    let chosen =
        ROWS.iter().filter(|row| words.is_empty() || words.iter().any(|word| row.name().contains(*word)));
    let kept = chosen.map(|row| row.measure(&sink)).fold(true, |all, kept| all & kept);
    if kept { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
