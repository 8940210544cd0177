//! The real binary as a process: `roomcast run` with a config given as text, its probes and
//! metrics, and the ways in which it ends.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, ExitStatus};
use std::time::Duration;

use tempfile::TempDir;

use super::ask_until;
use super::http::{self, Answer};
use super::process::Process;

/// The program under test.
pub const BINARY: &str = env!("CARGO_BIN_EXE_roomcast");

/// The admin token of every daemon here.
pub const TOKEN: &str = "token-of-the-tests";

/// How long a daemon may take to join its brokers.
const JOIN: Duration = Duration::from_secs(60);
/// How long a drain may take: `drain_timeout` and a little.
const DRAIN: Duration = Duration::from_secs(30);

/// A daemon, running or ended.
pub struct Daemon {
    process: Process,
    folder: TempDir,
    arguments: Vec<String>,
    /// More lines of `[admin]`.
    admin: String,
}

/// The binary with arguments, untouched by the variables of whoever runs the tests.
pub fn roomcast(arguments: &[&str]) -> Command {
    let mut command = Command::new(BINARY);
    command.args(arguments).env_remove("RUST_LOG");
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("ROOMCAST_") {
            command.env_remove(name);
        }
    }
    command
}

impl Daemon {
    /// Starts it with a config (without `[admin]`, which is added) and returns at once.
    pub fn start(config: &str) -> Self {
        Self::start_with(config, &[])
    }

    /// The same with more arguments.
    pub fn start_with(config: &str, arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a scratch folder");
        fs::write(config_path(&folder), with_admin("", config)).expect("the scratch folder can be written");
        let arguments: Vec<String> = arguments.iter().map(|&argument| argument.to_owned()).collect();
        Self { process: launch(&folder, &arguments), folder, arguments, admin: String::new() }
    }

    /// All but the start, which is [`Daemon::restart`]: with more lines for `[admin]`. Files beside the
    /// config can be written before.
    pub fn prepare(admin: &str, config: &str) -> Self {
        let folder = tempfile::tempdir().expect("a scratch folder");
        fs::write(config_path(&folder), with_admin(admin, config))
            .expect("the scratch folder can be written");
        let process = Process::start("nothing yet", Command::new("true"));
        Self { process, folder, arguments: Vec::new(), admin: admin.to_owned() }
    }

    /// Replaces its config as editors do, in one step; it is told by a signal, or watches.
    pub fn rewrite(&self, config: &str) {
        let (path, new) = (config_path(&self.folder), self.folder.path().join("new"));
        fs::write(&new, with_admin(&self.admin, config)).expect("the scratch folder can be written");
        fs::rename(new, path).expect("a file takes the place of another");
    }

    /// Writes a file beside its config.
    pub fn write(&self, name: &str, text: &str) {
        let path = self.folder.path().join(name);
        fs::create_dir_all(path.parent().expect("it is below a folder")).expect("a folder can be made");
        fs::write(path, text).expect("the scratch folder can be written");
    }

    /// Lets a symbolic link beside its config point there, in one step.
    pub fn link(&self, name: &str, target: &str) {
        let new = self.folder.path().join("new-link");
        std::os::unix::fs::symlink(target, &new).expect("a link can be made");
        fs::rename(new, self.folder.path().join(name)).expect("a link takes the place of another");
    }

    /// Starts it and waits until it is ready.
    #[track_caller]
    pub fn start_ready(config: &str) -> Self {
        let daemon = Self::start(config);
        daemon.await_ready();
        daemon
    }

    /// Waits until `/readyz` says yes.
    #[track_caller]
    pub fn await_ready(&self) {
        let mark = self.process.mark();
        ask_until("/readyz", JOIN, || {
            let ended = self.process.find_line(mark, Duration::ZERO, |_| false) == Err("ended".to_owned());
            assert!(!ended, "the daemon ended before it was ready:\n{}", self.process.tail());
            self.get("/readyz").filter(|answer| answer.status == 200)
        });
    }

    /// GET on its admin address; `None` when nobody answers.
    pub fn get(&self, path: &str) -> Option<Answer> {
        http::get(&format!("http://{}{path}", self.address()?))
    }

    /// GET with the admin token; `None` when nobody answers.
    pub fn get_with_token(&self, path: &str) -> Option<Answer> {
        http::get_with_token(&format!("{}{path}", self.url()), TOKEN)
    }

    /// POST of a JSON text with the admin token; `None` when nobody answers.
    pub fn post(&self, path: &str, json: String) -> Option<Answer> {
        http::post_with_token(&format!("{}{path}", self.url()), TOKEN, json)
    }

    /// `http://` and its admin address.
    #[track_caller]
    pub fn url(&self) -> String {
        format!("http://{}", self.address().expect("it has said where its admin port is"))
    }

    /// Where it says that its admin port is; `None` before it has said so.
    fn address(&self) -> Option<String> {
        let line =
            self.process.find_line(0, Duration::ZERO, |line| line.text.contains("admin port open")).ok()?;
        let said: serde_json::Value = serde_json::from_str(&line).expect("its log is JSON");
        Some(said["listen"].as_str().expect("the line tells the address").to_owned())
    }

    /// What `/api/status` says; `None` when nobody answers.
    pub fn status(&self) -> Option<serde_json::Value> {
        let url = format!("http://{}/api/status", self.address()?);
        let answer = http::get_with_token(&url, TOKEN)?;
        assert_eq!(answer.status, 200, "{}", answer.body);
        Some(serde_json::from_str(&answer.body).expect("the status is JSON"))
    }

    /// The sum of a metric over all label sets whose text holds `labels`; `None` when the daemon
    /// does not answer or has no such line.
    pub fn metric(&self, name: &str, labels: &str) -> Option<f64> {
        metric(&self.get("/metrics")?.body, name, labels)
    }

    /// The process, for its log and for signals.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// SIGTERM, and waits for the drain: code 0 when everything came to its end.
    #[track_caller]
    pub fn stop(&mut self) -> ExitStatus {
        self.process.signal(libc::SIGTERM);
        self.process.await_end(DRAIN)
    }

    /// kill -9.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again with the same config. It must have ended.
    pub fn restart(&mut self) {
        self.process = launch(&self.folder, &self.arguments);
    }
}

fn with_admin(more: &str, config: &str) -> String {
    // A port of the kernel's choice: one that we chose may be somebody else's before it is bound.
    format!("[admin]\nlisten = \"127.0.0.1:0\"\ntoken = \"{TOKEN}\"\n{more}\n\n{config}")
}

fn config_path(folder: &TempDir) -> PathBuf {
    folder.path().join("roomcast.toml")
}

fn launch(folder: &TempDir, arguments: &[String]) -> Process {
    let path = config_path(folder);
    let mut command = roomcast(&["run", "--log-format", "json", "-c"]);
    command.arg(path).args(arguments).current_dir(folder.path());
    Process::start("roomcast run", command)
}

/// Sums a metric in the text form of Prometheus.
pub fn metric(text: &str, name: &str, labels: &str) -> Option<f64> {
    let values = text.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        let (set, value) = match rest.strip_prefix('{') {
            Some(rest) => rest.rsplit_once("} ")?,
            None => ("", rest.strip_prefix(' ')?),
        };
        set.contains(labels).then(|| value.split(' ').next()?.parse::<f64>().ok()).flatten()
    });
    values.reduce(|sum, value| sum + value)
}
