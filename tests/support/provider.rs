//! A provider simulator as a process (`roomcast simulate`), its log, its counters, its faults, and
//! the account section that points a config at it.

use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use super::daemon::roomcast;
use super::http;
use super::process::Process;

const START: Duration = Duration::from_secs(20);

/// The credentials that simulator and config share.
const EASEMOB: &[&str] =
    &["--org", "acme", "--app", "live", "--client-id", "id", "--client-secret", "secret"];
const YUNXIN: &[&str] = &["--app-key", "key", "--app-secret", "secret"];

/// Which provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Easemob.
    Easemob,
    /// NetEase Yunxin.
    Yunxin,
}

/// A running simulator.
pub struct Provider {
    kind: Kind,
    process: Process,
    base_url: String,
}

/// One message of the simulator's log, as far as tests judge it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Entry {
    /// Its number in the log, from 0, without gaps.
    pub seq: u64,
    /// The number of its request; siblings and a batch share one.
    pub call: u64,
    /// Arrival, nanoseconds since the simulator began.
    pub at_ns: u64,
    /// The endpoint: `token`, `room`, `batch`, `users`, `broadcast` or `other`.
    pub path: String,
    /// The room, where there is one.
    pub room: Option<String>,
    /// The message's id as roomcast gave it.
    pub id: Option<String>,
    /// `resendFlag=1`.
    pub resend: bool,
    /// `high`, `normal` or `low`.
    pub priority: String,
    /// The beginning of the content.
    pub content: String,
    /// `accepted`, or the kind of refusal.
    pub reason: String,
    /// The provider has it.
    pub accepted: bool,
}

impl Provider {
    /// Starts one on a port of its own choice, with more flags of `roomcast simulate`.
    #[track_caller]
    pub fn start(kind: Kind, flags: &[&str]) -> Self {
        let (name, credentials) = match kind {
            Kind::Easemob => ("easemob", EASEMOB),
            Kind::Yunxin => ("yunxin", YUNXIN),
        };
        let mut command = roomcast(&["simulate", name, "--listen", "127.0.0.1:0"]);
        // A flag given by the test stands in place of ours.
        for pair in credentials.chunks(2).filter(|pair| !flags.contains(&pair[0])) {
            command.args(pair);
        }
        command.args(flags);
        let process = Process::start("roomcast simulate", command);
        // The first line of standard output is the base URL: a promise of the command line.
        let base_url = process.await_line_from(0, "the base URL", START, |line| line.stdout);
        assert!(base_url.starts_with("http://"), "the first line is the base URL, not `{base_url}`");
        Self { kind, process, base_url }
    }

    /// The base URL, without a slash at its end.
    pub fn base_url(&self) -> &str {
        self.base_url.trim_end_matches('/')
    }

    /// `[accounts.NAME]` for a config, with more lines (`quota = { … }`, `timeout = …`).
    pub fn account(&self, name: &str, more: &str) -> String {
        let base = self.base_url();
        let own = match self.kind {
            Kind::Easemob => {
                "provider = \"easemob\"\norg = \"acme\"\napp = \"live\"\nclient_id = \"id\"\nclient_secret = \"secret\""
            }
            Kind::Yunxin => {
                "provider = \"yunxin\"\napp_key = \"key\"\napp_secret = \"secret\"\nsender = \"system\""
            }
        };
        format!("[accounts.{name}]\nbase_url = \"{base}\"\n{own}\n{more}\n\n")
    }

    /// Its log, from the first message on. The simulator answers it in pieces.
    #[track_caller]
    pub fn log(&self) -> Vec<Entry> {
        let mut entries: Vec<Entry> = Vec::new();
        loop {
            let piece = self.answer(&format!("/_sim/log?from={}", entries.len()));
            let before = entries.len();
            for line in piece.lines() {
                let entry: Entry =
                    serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"));
                assert_eq!(entry.seq, entries.len() as u64, "the simulator has forgotten the beginning");
                entries.push(entry);
            }
            if entries.len() == before {
                return entries;
            }
        }
    }

    /// Its counters.
    #[track_caller]
    pub fn stats(&self) -> Value {
        serde_json::from_str(&self.answer("/_sim/stats")).expect("the counters are JSON")
    }

    /// Messages accepted so far; `None` while it is away.
    pub fn accepted(&self) -> Option<u64> {
        let stats: Value = serde_json::from_str(&http::get(&self.control("/_sim/stats"))?.body).ok()?;
        stats["accepted"].as_u64()
    }

    /// Sets its faults, in place of all that stand: a rule or a list of rules.
    #[track_caller]
    pub fn set_faults(&self, rules: &Value) {
        let answer = http::put(&self.control("/_sim/faults"), rules.to_string());
        let answer = answer.expect("the simulator answers");
        assert!(answer.status < 300, "the simulator refuses {rules}: {}", answer.body);
    }

    /// Asserts that every request was as the page wants it: no refusal, no warning.
    #[track_caller]
    pub fn assert_content(&self) {
        let stats = self.stats();
        let none = serde_json::json!({});
        assert_eq!((&stats["refused"], &stats["warnings"]), (&none, &none), "refused, and warned of");
    }

    /// The process, for signals: stopped (SIGSTOP) it is a provider that hangs.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    #[track_caller]
    fn answer(&self, path: &str) -> String {
        let answer = http::get(&self.control(path)).expect("the simulator answers");
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        answer.body
    }

    /// The control endpoints stand at the root of the server, not below the provider's own path.
    fn control(&self, path: &str) -> String {
        let after_scheme = self.base_url.find("://").map_or(0, |at| at + 3);
        let root =
            self.base_url[after_scheme..].find('/').map_or(self.base_url.len(), |at| after_scheme + at);
        format!("{}{path}", &self.base_url[..root])
    }
}
