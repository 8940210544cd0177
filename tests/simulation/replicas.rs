//! Several processes and one quota: each kind of share, decided by the real core and told to the
//! schedulers as the daemon tells them; and the bucket that leases are kept in.

use roomcast::core::model::Path;
use roomcast::core::provider::{Outcome, Throttle};
use roomcast::core::share::lease::{Book, Step, Written};
use roomcast::core::share::spread::{Spread, Unit};
use roomcast::core::share::{Grant, Growth, Quotas};

use crate::faults::Fault;
use crate::process::account_id;
use crate::world::{Happening, ProcessNo, World, millis};

/// How the processes of a world share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// One process has everything.
    Whole,
    /// Equal parts for good.
    Fixed,
    /// Who has a partition has its slots.
    Partitions,
    /// Leases in a bucket.
    Leases,
}

/// What one life of a process knows of its shares, by account.
#[derive(Default)]
pub struct Shares {
    pub spreads: Vec<Spread>,
    pub books: Vec<Book>,
    /// Whether something that the book waits for is under way.
    busy: Vec<bool>,
}

/// The bucket: a revision and a row for each account.
pub type Bucket = Vec<(u64, Vec<u8>)>;

/// What happens around the bucket.
#[derive(Clone, Debug)]
pub struct Event {
    process: ProcessNo,
    life: u32,
    account: usize,
    what: What,
}

#[derive(Clone, Debug)]
enum What {
    /// It is time to look.
    Poll,
    /// A read, or the lack of its answer, comes back.
    Read { lost: bool },
    /// A write reaches the bucket.
    Write { expected: u64, bytes: Vec<u8> },
    /// Its answer, or the lack of it, comes back.
    Done(Result<Written, String>),
}

impl World {
    /// A process begins: nothing is its own until it is told what is.
    pub fn shares_begin(&mut self, process: ProcessNo) {
        let now = self.now_of(process);
        let me = format!("p{process}-{}", self.processes[process].life);
        let replicas = u32::try_from(self.processes.len()).expect("few");
        let mut shares = Shares::default();
        for account in 0..self.accounts.len() {
            let of = &self.accounts[account];
            let quotas = Quotas::new(&of.limits, !self.is_keyed);
            let none = Grant::lasting(quotas.none(), Growth::Handed);
            let first = match self.sharing {
                Sharing::Whole => continue,
                Sharing::Fixed => Grant::lasting(quotas.fixed(replicas), Growth::Fresh),
                Sharing::Partitions => {
                    shares.spreads.push(Spread::partitions(quotas));
                    none
                }
                Sharing::Leases => {
                    let timeout = of.provider.timeout();
                    shares.books.push(Book::new(me.clone(), quotas, replicas, timeout, now.mono));
                    shares.busy.push(false);
                    none
                }
            };
            self.processes[process].scheduler.handle_share(account_id(account), &first, now);
        }
        self.processes[process].shares = shares;
        if self.sharing == Sharing::Leases {
            (0..self.accounts.len()).for_each(|account| self.lease_steps(process, account));
        }
    }

    /// A partition is a process's, or is going or gone.
    pub fn share_of_partition(&mut self, process: ProcessNo, partition: usize, held: bool) {
        let now = self.now_of(process);
        let unit = |partition: usize| Unit(u32::try_from(partition).expect("few"));
        let all: Vec<Unit> = (0..self.kafka.logs.len()).map(unit).collect();
        let of = &mut self.processes[process];
        for (account, spread) in of.shares.spreads.iter_mut().enumerate() {
            match held {
                true => {
                    spread.handle_order(all.clone(), now.mono);
                    spread.handle_held([unit(partition)]);
                }
                false => spread.handle_gone([unit(partition)]),
            }
            if let Some(grant) = spread.poll_grant(now.mono) {
                of.scheduler.handle_share(account_id(account), &grant, now);
            }
        }
    }

    /// A process met a ban, which others are told of.
    pub fn share_ban(&mut self, process: ProcessNo, account: usize, path: Path, outcomes: &[Outcome]) {
        let wait = outcomes.iter().find_map(|outcome| match outcome {
            Outcome::Throttled { scope: Throttle::Path(wait), .. } => Some(*wait),
            _ => None,
        });
        if let (Some(wait), Some(book)) = (wait, self.processes[process].shares.books.get_mut(account)) {
            book.handle_ban(path, wait, self.now);
        }
    }

    pub fn lease_happens(&mut self, event: Event) {
        let Event { process, life, account, what } = event;
        // A write is on its way whatever became of its writer.
        if let What::Write { expected, bytes } = what {
            let row = &mut self.bucket[account];
            let written = match row.0 == expected {
                true => {
                    *row = (expected + 1, bytes);
                    Written::Done(expected + 1)
                }
                false => Written::Outrun,
            };
            let lost = self.faults_now(Fault::LostAck) && self.rng.u8(..8) == 0;
            let answer = if lost { Err("no answer".to_owned()) } else { Ok(written) };
            let wait = if lost { 2_000 } else { self.rng.u64(1..20) };
            let what = What::Done(answer);
            return self.after(millis(wait), Happening::Lease(Event { process, life, account, what }));
        }
        if !self.is_living(process, life) {
            return;
        }
        let (now, row) = (self.now, self.bucket[account].clone());
        let of = &mut self.processes[process];
        of.shares.busy[account] = false;
        match what {
            What::Read { lost: true } => {
                of.shares.books[account].handle_read(Err("no answer".to_owned()), now);
            }
            What::Read { lost: false } => {
                let found = (row.0 > 0).then_some((row.0, row.1.as_slice()));
                of.shares.books[account].handle_read(Ok(found), now);
            }
            What::Done(written) => of.shares.books[account].handle_written(written, now),
            What::Poll | What::Write { .. } => {}
        }
        self.lease_steps(process, account);
    }

    fn lease_steps(&mut self, process: ProcessNo, account: usize) {
        let now = self.now_of(process);
        let of = &mut self.processes[process];
        if std::mem::replace(&mut of.shares.busy[account], true) {
            return;
        }
        let (life, step) = (of.life, of.shares.books[account].poll(now.mono));
        // What is given up counts before it is written.
        if let Some(told) = of.shares.books[account].poll_told(now.mono) {
            of.scheduler.handle_share(account_id(account), &told.grant, now);
            for (path, wait) in told.bans {
                of.scheduler.handle_ban_elsewhere(account_id(account), path, wait, now);
            }
        }
        let lost = self.faults_now(Fault::ServerRestart) && self.rng.u8(..20) == 0;
        let event = |what| Happening::Lease(Event { process, life, account, what });
        match step {
            Step::Wait(at) => self.plan(at.max(now.mono), event(What::Poll)),
            Step::Read if lost => self.after(millis(2_000), event(What::Read { lost: true })),
            Step::Read => self.soon(20, event(What::Read { lost: false })),
            Step::Write { expected, bytes } => self.soon(20, event(What::Write { expected, bytes })),
            Step::Left => {}
        }
    }
}
