//! Keeps this process's row of leases (`share = "nats_kv"`): reads and writes what [`Book`] wants, and
//! tells the driver what comes of it. It decides nothing.
//!
//! One task for each account, started by `cli`. It ends when the driver has ended, after it took this
//! process out of the row, so that the others need not wait for a lease to run out.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tracing::{info, warn};

use crate::broker::Buckets;
use crate::core::model::AccountId;
use crate::core::share::lease::{Book, News, Step, Told};
use crate::core::time::Mono;

/// How long leaving may take. Others then wait for the lease to run out.
const LEAVE: Duration = Duration::from_secs(3);

/// One account whose quotas are leased.
pub struct Leases {
    /// Which.
    pub account: AccountId,
    /// Its name: the row's key.
    pub name: Arc<str>,
    /// The bucket.
    pub bucket: String,
    /// What is written and told.
    pub book: Book,
    /// Where the bucket is.
    pub buckets: Arc<dyn Buckets>,
    /// Who is told.
    pub told: UnboundedSender<(AccountId, Told)>,
    /// What the driver tells; closed when it has ended.
    pub news: UnboundedReceiver<News>,
}

impl Leases {
    /// Keeps the row until the driver has ended. `mono` reads the clock that the scheduler has.
    pub async fn keep(mut self, mono: impl Fn() -> Mono + Send) {
        let mut said = String::new();
        loop {
            let step = self.book.poll(mono());
            // What is given up counts before it is written.
            self.tell(&mut said, mono());
            match step {
                Step::Wait(at) => {
                    let wait = tokio::time::sleep(at.since(mono()));
                    tokio::select! {
                        () = wait => {}
                        news = self.news.recv() => match news {
                            Some(news) => self.book.handle_news(news, mono()),
                            None => break,
                        },
                    }
                }
                Step::Left => return,
                step => self.carry_out(step, &mono).await,
            }
        }
        self.book.leave(mono());
        if tokio::time::timeout(LEAVE, self.leave(&mono)).await.is_err() {
            warn!(account = %self.name, "the shares could not be given back: others get them when the lease has run out");
        }
    }

    async fn leave(&mut self, mono: &(impl Fn() -> Mono + Send)) {
        loop {
            match self.book.poll(mono()) {
                Step::Left => return info!(account = %self.name, "the shares are given back"),
                Step::Wait(at) => tokio::time::sleep(at.since(mono())).await,
                step => self.carry_out(step, mono).await,
            }
        }
    }

    async fn carry_out(&mut self, step: Step, mono: &(impl Fn() -> Mono + Send)) {
        match step {
            Step::Read => {
                let row = self.buckets.read(&self.bucket, &self.name).await;
                let row = match &row {
                    Ok(found) => Ok(found.as_ref().map(|(revision, bytes)| (*revision, bytes.as_ref()))),
                    Err(why) => Err(why.clone()),
                };
                self.book.handle_read(row, mono());
            }
            Step::Write { expected, bytes } => {
                let write = self.buckets.write(&self.bucket, &self.name, Bytes::from(bytes), expected);
                let written = write.await;
                self.book.handle_written(written, mono());
            }
            Step::Wait(_) | Step::Left => {}
        }
    }

    fn tell(&mut self, said: &mut String, now: Mono) {
        let Some(told) = self.book.poll_told(now) else { return };
        if told.standing.why != *said {
            said.clone_from(&told.standing.why);
            match said.as_str() {
                "" => info!(account = %self.name, "shares the quota again"),
                why => warn!(account = %self.name, "{why}"),
            }
        }
        // A driver that has ended is not told; the next wait notices.
        let _ = self.told.send((self.account, told));
    }
}
