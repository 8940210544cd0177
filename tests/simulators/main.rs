//! The provider simulators over real HTTP: logins, fields, quotas, faults, log. They judge the
//! daemon, so this is where they are judged themselves, against the providers' pages.
//!
//! Time is turned by hand wherever the provider counts it: a ban of ten seconds costs no wait.

mod easemob;
mod faults;
mod load;
mod yunxin;

use std::sync::Arc;
use std::time::Duration;

use roomcast::core::time::Wall;
use roomcast::simulator::clock::{Clock, ManualClock};
use roomcast::simulator::{Options, Simulator, start};
use serde_json::Value;

/// 2023-11-14T22:13:20Z
const START: Wall = Wall(1_700_000_000_000);

/// A simulator whose clock stands still, and a client.
struct World {
    sim: Simulator,
    clock: Arc<ManualClock>,
    http: reqwest::Client,
}

impl World {
    fn new(options: Options) -> Self {
        let clock = Arc::new(ManualClock::at(START));
        let sim = start(Options { clock: clock.clone(), ..options }).expect("a free port");
        Self { sim, clock, http: client() }
    }

    fn advance_ms(&self, ms: u64) {
        self.clock.advance(Duration::from_millis(ms));
    }

    fn seconds(&self) -> u64 {
        self.clock.now().wall.seconds()
    }
}

/// A client that repeats nothing by itself.
fn client() -> reqwest::Client {
    // The crate is built without a default; whoever comes first installs it.
    drop(rustls::crypto::ring::default_provider().install_default());
    reqwest::Client::builder()
        .retry(reqwest::retry::never())
        .no_proxy()
        .timeout(Duration::from_secs(10))
        .build()
        .expect("a client")
}

/// Status and JSON body of an answer.
async fn answer(request: reqwest::RequestBuilder) -> (u16, Value) {
    let response = request.send().await.expect("an answer");
    let status = response.status().as_u16();
    let body = response.bytes().await.expect("a body");
    let json = serde_json::from_slice(&body);
    (status, json.unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&body).into_owned())))
}
