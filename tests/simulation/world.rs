//! The world: clocks, what is going to happen, and the one loop that lets it happen.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use roomcast::core::model::Path;
use roomcast::core::schedule::{OnFull, Settings};
use roomcast::core::time::{Mono, Now, Wall};

use crate::account::Account;
use crate::calls::Away;
use crate::faults::{Fault, Faults};
use crate::jetstream::{self, Server};
use crate::kafka::{self, Cluster};
use crate::keys::{self, Keys};
use crate::laws::Laws;
use crate::letters::{self, Topics};
use crate::process::Process;
use crate::replays::{self, Replays};
use crate::replicas::{self, Bucket, Sharing};
use crate::seen::Seen;
use crate::spec::Spec;

/// A process by its place among the world's.
pub type ProcessNo = usize;

/// Steps after which a run is stuck.
const STEPS: u64 = 3_000_000;

/// Something that will happen.
#[derive(Clone, Debug)]
pub enum Happening {
    /// A call arrives at its provider.
    Arrive(u64),
    /// A call ends for whoever made it.
    Answer(u64),
    /// Of the Kafka cluster and its clients.
    Kafka(kafka::Event),
    /// Of the JetStream server and its clients.
    Jet(jetstream::Event),
    /// Of the dead-letter topics.
    Letter(letters::Event),
    /// Of the bucket that leases are kept in.
    Lease(replicas::Event),
    /// A key of the directory comes or goes.
    Key(keys::Event),
    /// Of requests for letters.
    Replay(replays::Event),
    /// The count of a day is written.
    Counted { process: ProcessNo, life: u32, account: usize, path: Path },
    /// Others use an account.
    Foreign(usize),
    /// An account's tokens end.
    Tokens(usize),
    /// A process dies after so many effects more.
    Crash(ProcessNo, u32),
    /// A process ends in good order.
    Stop(ProcessNo),
    /// A process begins.
    Start(ProcessNo),
    /// Rooms are there again, and nothing is refused any more: where nothing but refusals comes back,
    /// the design holds the account for at fault and waits.
    Heal,
    /// The wall clock of a process jumps by so many hours.
    Jump(ProcessNo, i64),
    /// The config changes.
    Reload,
}

pub struct World {
    pub rng: fastrand::Rng,
    /// Of reloads alone.
    pub reload_rng: fastrand::Rng,
    pub trace: bool,
    pub hash: RefCell<DefaultHasher>,
    pub now: Mono,
    /// The true wall time at the monotonic zero, milliseconds.
    pub epoch_ms: i64,
    pub faults: Faults,
    /// After this nothing goes wrong any more.
    pub faults_end: Mono,
    pub spec: Spec,
    pub accounts: Vec<Account>,
    pub settings: Settings,
    pub on_full: OnFull,
    pub held_limit: [usize; 3],
    pub processes: Vec<Process>,
    pub agenda: BTreeMap<(Mono, u64), Happening>,
    pub planned: u64,
    pub calls: BTreeMap<u64, Away>,
    pub next_call: u64,
    pub kafka: Cluster,
    pub jet: Server,
    pub letters: Topics,
    /// How processes share quotas.
    pub sharing: Sharing,
    /// Whether a room is its record's key: all live messages to it come from one partition, and from one
    /// process at a time. In a tenth of the worlds.
    pub is_keyed: bool,
    pub bucket: Bucket,
    /// Calls of a day by process, account and path, as the table has them.
    pub counts: BTreeMap<(ProcessNo, usize, Path), (i64, u32, Wall)>,
    /// What the directory does not hold.
    pub keys: Keys,
    /// Requests for letters.
    pub replays: Replays,
    pub laws: Laws,
    pub seen: Seen,
    /// Nothing is wrong but some rooms and accounts.
    pub isolated: bool,
    /// Some messages are the newest of something.
    pub conflates: bool,
    pub sick_rooms: BTreeSet<Arc<str>>,
    pub sick_accounts: BTreeSet<usize>,
    /// When the last record was published.
    pub published_by: Mono,
    /// When which life of a process ended by a crash.
    pub deaths: BTreeMap<(ProcessNo, u32), Mono>,
}

pub fn millis(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

impl World {
    pub fn plan(&mut self, at: Mono, what: Happening) {
        self.planned += 1;
        self.agenda.insert((at, self.planned), what);
    }

    pub fn after(&mut self, wait: Duration, what: Happening) {
        self.plan(self.now + wait, what);
    }

    /// Within some milliseconds.
    pub fn soon(&mut self, most: u64, what: Happening) {
        let wait = millis(self.rng.u64(1..=most));
        self.after(wait, what);
    }

    pub fn note(&self, what: &dyn Fn() -> String) {
        if self.trace {
            let at = self.now.0 as f64 / 1e9;
            writeln!(std::io::stderr(), "{at:>10.3} {}", what()).expect("stderr is there");
        }
    }

    /// Whether things still go wrong.
    pub fn faulty(&self) -> bool {
        self.now < self.faults_end
    }

    /// Whether this fault may strike now.
    pub fn faults_now(&self, fault: Fault) -> bool {
        self.faulty() && self.faults.has(fault)
    }

    pub fn true_wall(&self) -> Wall {
        Wall(self.epoch_ms + i64::try_from(self.now.0 / 1_000_000).expect("short"))
    }

    pub fn true_now(&self) -> Now {
        Now { mono: self.now, wall: self.true_wall() }
    }

    pub fn wall_of(&self, process: ProcessNo) -> Wall {
        Wall(self.true_wall().0 + self.processes[process].skew_ms)
    }

    pub fn now_of(&self, process: ProcessNo) -> Now {
        Now { mono: self.now, wall: self.wall_of(process) }
    }

    /// How long a gate may stay shut after an outage: on a path with a quota by the day probes come so seldom
    /// that they cannot use it up, and a reload may leave little of it. A quarter is for the jitter.
    fn longest_probe(&self) -> Duration {
        let paths = self.accounts.iter().flat_map(|account| &account.limits.paths);
        let fewest = paths.filter_map(|path| path.calls_per_day).min();
        fewest.map_or(Duration::ZERO, |calls| Duration::from_secs(86_400 * 5 / 4) / calls.max(1))
    }

    /// Runs until everything has come to its end; every law is checked on the way.
    pub fn run(mut self) -> Seen {
        let deadline = self.faults_end + Duration::from_secs(3_600);
        loop {
            self.let_processes_act();
            if self.is_over() {
                break;
            }
            let next = self.agenda.first_key_value().map(|((at, _), _)| *at);
            let wake = self.next_wake();
            let Some(at) = [next, wake].into_iter().flatten().min() else { break };
            assert!(wake.is_none_or(|wake| wake > self.now), "P7: it wakes for nothing at {wake:?}");
            let deadline = deadline + self.longest_probe();
            assert!(at < deadline, "liveness: not everything has ended by {at:?}: {}", self.what_is_left());
            self.now = at.max(self.now);
            if next.is_some_and(|next| next <= at) {
                let (_, what) = self.agenda.pop_first().expect("there is one");
                (self.now, format_args!("{what:?}").to_string()).hash(&mut *self.hash.borrow_mut());
                self.note(&|| format!("{what:?}"));
                self.happen(what);
            }
            self.seen.steps += 1;
            assert!(self.seen.steps < STEPS, "liveness: no end after {STEPS} steps: {}", self.what_is_left());
        }
        assert!(self.is_over(), "liveness: nothing more would happen: {}", self.what_is_left());
        for process in 0..self.processes.len() {
            if self.processes[process].alive {
                self.law_tally(process);
            }
        }
        self.law_end();
        self.seen.trace_hash = self.hash.borrow().finish();
        self.seen
    }

    fn next_wake(&mut self) -> Option<Mono> {
        let walls: Vec<Now> = (0..self.processes.len()).map(|process| self.now_of(process)).collect();
        let alive = self.processes.iter_mut().zip(walls).filter(|(process, _)| process.alive);
        alive.filter_map(|(process, now)| process.scheduler.poll_wake(now)).min()
    }

    /// Whether everything is finished, told to the brokers, and forgotten.
    fn is_over(&self) -> bool {
        self.kafka_is_over()
            && self.jet_is_over()
            && self.replays_are_over()
            && (0..self.processes.len()).all(|number| {
                let process = &self.processes[number];
                let snapshot = || process.scheduler.snapshot(self.now_of(number));
                process.alive && process.is_quiet() && {
                    let left = snapshot();
                    (left.rooms, left.calls_away, left.letters_waiting) == (0, 0, 0)
                }
            })
    }

    fn what_is_left(&self) -> String {
        let of = |number: ProcessNo| {
            let process = &self.processes[number];
            let snapshot = process.scheduler.snapshot(self.now_of(number));
            format!("p{number} alive {}: {snapshot:?}", process.alive)
        };
        let processes: Vec<String> = (0..self.processes.len()).map(of).collect();
        let requests = self.replays_left();
        format!("{}; {}; {requests}; {}", self.kafka_left(), self.jet_left(), processes.join("; "))
    }

    fn happen(&mut self, what: Happening) {
        match what {
            Happening::Arrive(call) => self.arrive(call),
            Happening::Answer(call) => self.answer(call),
            Happening::Kafka(event) => self.kafka_happens(event),
            Happening::Jet(event) => self.jet_happens(&event),
            Happening::Letter(event) => self.letter_happens(event),
            Happening::Lease(event) => self.lease_happens(event),
            Happening::Key(event) => self.key_happens(event),
            Happening::Replay(event) => self.replay_happens(event),
            Happening::Counted { process, life, account, path } => {
                if self.is_living(process, life) {
                    let now = self.now_of(process);
                    let id = crate::process::account_id(account);
                    self.processes[process].scheduler.handle_counted(id, path, now);
                }
            }
            Happening::Foreign(account) => self.foreigners(account),
            Happening::Tokens(account) => self.accounts[account].judge.revoke_tokens(),
            Happening::Crash(process, effects) => {
                if self.processes[process].alive {
                    self.processes[process].dies_in = Some(effects);
                    if effects == 0 {
                        self.crash(process);
                    }
                }
            }
            Happening::Heal => {
                for account in &mut self.accounts {
                    account.judge.set_faults(Vec::new(), self.now).expect("no rule is no wrong rule");
                }
            }
            Happening::Stop(process) => self.stop(process),
            Happening::Start(process) => self.start(process),
            Happening::Reload => self.reload(),
            Happening::Jump(process, hours) => {
                self.seen.clock_jumps += 1;
                self.processes[process].skew_ms += hours * 3_600_000;
            }
        }
    }

    /// Whether this life of a process still lasts.
    pub fn is_living(&self, process: ProcessNo, life: u32) -> bool {
        let of = &self.processes[process];
        of.alive && of.life == life
    }
}
