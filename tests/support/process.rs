//! A child process with all that it says, line by line. Knows nothing of what the program is; used
//! by `daemon`, `provider`, `kafka` and `nats`.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

/// Lines of output that a failing test shows.
const SHOWN: usize = 200;

/// A running (or ended) program. Killed when dropped.
pub struct Process {
    name: String,
    child: Child,
    output: Arc<Output>,
}

#[derive(Default)]
struct Output {
    said: Mutex<Said>,
    changed: Condvar,
}

#[derive(Default)]
struct Said {
    lines: Vec<Line>,
    open: usize,
}

/// One line of a program.
#[derive(Clone, Debug)]
pub struct Line {
    /// On standard output; otherwise on standard error.
    pub stdout: bool,
    /// The line without its end.
    pub text: String,
}

impl Process {
    /// Starts a program; `name` stands for it in messages.
    pub fn start(name: &str, mut command: Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        end_with_this_thread(&mut command);
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{name} cannot be started: {error}"));
        let output = Arc::new(Output::default());
        output.said().open = 2;
        let stdout = child.stdout.take().expect("it is piped");
        let stderr = child.stderr.take().expect("it is piped");
        listen(Arc::clone(&output), stdout, true);
        listen(Arc::clone(&output), stderr, false);
        Self { name: name.to_owned(), child, output }
    }

    /// All that it has said up to now.
    pub fn lines(&self) -> Vec<Line> {
        self.output.said().lines.clone()
    }

    /// How many lines it has said: a place to wait from.
    pub fn mark(&self) -> usize {
        self.output.said().lines.len()
    }

    /// Waits for a line that holds `text`, from its first line on.
    #[track_caller]
    pub fn await_line(&self, text: &str, within: Duration) -> String {
        self.await_line_from(0, &format!("a line with `{text}`"), within, |line| line.text.contains(text))
    }

    /// Waits for a line from `mark` on that `wanted` takes. The test fails when the program ends or
    /// `within` passes before.
    #[track_caller]
    pub fn await_line_from(
        &self,
        mark: usize,
        what: &str,
        within: Duration,
        wanted: impl Fn(&Line) -> bool,
    ) -> String {
        match self.find_line(mark, within, wanted) {
            Ok(line) => line,
            Err(why) => panic!("{} {why}, waiting for {what}; it said:\n{}", self.name, self.tail()),
        }
    }

    /// Like [`Self::await_line_from`], for callers that can go on without: `Err` says what happened.
    pub fn find_line(
        &self,
        mark: usize,
        within: Duration,
        wanted: impl Fn(&Line) -> bool,
    ) -> Result<String, String> {
        let deadline = Instant::now() + within;
        let mut said = self.output.said();
        let mut next = mark;
        loop {
            if let Some(line) =
                said.lines.get(next..).and_then(|lines| lines.iter().find(|line| wanted(line)))
            {
                return Ok(line.text.clone());
            }
            next = said.lines.len().max(mark);
            if said.open == 0 {
                return Err("ended".to_owned());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(format!("took longer than {within:?}"));
            }
            said = self.output.wait(said, left);
        }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal (`libc::SIGTERM`, `SIGSTOP`, `SIGCONT`, …). Nothing happens when it has ended.
    pub fn signal(&mut self, signal: i32) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let pid = i32::try_from(self.child.id()).expect("process ids are small");
            // SAFETY: kill(2) takes two integers. The child is not reaped yet, so the id is still its own.
            unsafe { libc::kill(pid, signal) };
        }
    }

    /// kill -9, and waits until it is gone.
    pub fn kill(&mut self) {
        self.signal(libc::SIGKILL);
        self.child.wait().expect("it is our child");
    }

    /// Waits for its own end. The test fails when `within` passes before.
    #[track_caller]
    pub fn await_end(&mut self, within: Duration) -> ExitStatus {
        let deadline = Instant::now() + within;
        let mut said = self.output.said();
        while said.open > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                drop(said);
                panic!("{} has not ended after {within:?}; it said:\n{}", self.name, self.tail());
            }
            said = self.output.wait(said, left);
        }
        drop(said);
        self.child.wait().expect("it is our child")
    }

    /// The end of what it said, for messages.
    pub fn tail(&self) -> String {
        let lines = self.lines();
        let shown = &lines[lines.len().saturating_sub(SHOWN)..];
        shown.iter().map(|line| format!("  | {}\n", line.text)).collect()
    }
}

impl Drop for Process {
    #[expect(clippy::print_stderr, reason = "what a process said is what explains a failed test")]
    fn drop(&mut self) {
        self.kill();
        if thread::panicking() {
            eprintln!("{} said:\n{}", self.name, self.tail());
        }
    }
}

impl Output {
    fn said(&self) -> MutexGuard<'_, Said> {
        self.said.lock().expect("no holder panics")
    }

    fn wait<'a>(&self, said: MutexGuard<'a, Said>, left: Duration) -> MutexGuard<'a, Said> {
        self.changed.wait_timeout(said, left).expect("no holder panics").0
    }
}

/// Collects the lines of one stream until it closes.
fn listen(output: Arc<Output>, stream: impl Read + Send + 'static, stdout: bool) {
    thread::spawn(move || {
        let mut stream = BufReader::new(stream);
        let mut bytes = Vec::new();
        while stream.read_until(b'\n', &mut bytes).is_ok_and(|length| length > 0) {
            let text = String::from_utf8_lossy(&bytes).trim_end().to_owned();
            output.said().lines.push(Line { stdout, text });
            output.changed.notify_all();
            bytes.clear();
        }
        output.said().open -= 1;
        output.changed.notify_all();
    });
}

/// The child goes when the thread that started it goes, even when that is killed: a test's thread
/// owns what it starts.
#[cfg(target_os = "linux")]
fn end_with_this_thread(command: &mut Command) {
    // SAFETY: between fork and exec only prctl(2) is called, which is safe there and takes integers.
    unsafe {
        command.pre_exec(|| {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            Ok(())
        });
    }
}

/// Elsewhere a killed test leaves its children.
#[cfg(not(target_os = "linux"))]
fn end_with_this_thread(_command: &mut Command) {}
