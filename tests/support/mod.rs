//! What tests of the whole need: the real binary, real brokers, the provider simulators as
//! processes, producers, and the oracle that joins what was produced with what was accepted.
//!
//! Everything here blocks, so a test reads from top to bottom; what is asynchronous underneath runs
//! on one runtime of its own. Waiting is for events (a line of a log, an answer), each with a time
//! after which the test fails and says what it saw. Processes are ended by their own pid when their
//! value is dropped. A missing broker is a failure, never a skipped test.
#![allow(dead_code, reason = "every test binary compiles this module and uses its own part of it")]

pub mod daemon;
pub mod http;
pub mod kafka;
pub mod nats;
pub mod oracle;
pub mod process;
pub mod provider;

use std::future::Future;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime needs a thread and an epoll handle")
});

/// Runs a future to its end. Not to be called from asynchronous code.
pub fn block_on<F: Future>(future: F) -> F::Output {
    RUNTIME.block_on(future)
}

/// A variable that `.ci/brokers.sh` sets.
#[track_caller]
pub fn from_brokers_sh(variable: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| {
        panic!("{variable} is not set: run the tests with `.ci/test`, or one command with `.ci/brokers.sh COMMAND`")
    })
}

/// A name that no other test of this run has, for topics and groups on the shared broker.
pub fn unique(name: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{name}-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A port of the loopback interface that nobody listens on, outside of the range from which the
/// kernel serves outgoing connections. Somebody else may take it first: whoever binds it tries again.
pub fn free_port() -> u16 {
    loop {
        let port = fastrand::u16(20_000..32_000);
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}

/// Asks again and again until there is an answer, for what can only be found out by asking (an HTTP
/// endpoint, a broker's metadata). Fails the test after `within`, with what it waited for.
#[track_caller]
pub fn ask_until<T>(what: &str, within: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
    const PAUSE: Duration = Duration::from_millis(20);
    let began = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(began.elapsed() < within, "after {within:?}: still waiting for {what}");
        std::thread::sleep(PAUSE);
    }
}
