//! NATS JetStream as a source: one durable pull consumer, read by one replica at a time.
//!
//! ```text
//! link      the connection, made once and kept           setup    streams and durable, made and looked at
//! source    the reading loop: pulls, commands, set-up     settings the section, checked
//! reading   its other half: what comes, looks, hand-on   stop     its end: last acks, giving back
//! intake    how much is asked for, and when it stops      pull     a pull's words (pure)
//! acks      confirms acks, tells progress                 record   message → record (pure)
//! letters   the dead-letter stream                        table    the KV bucket beside it
//! buckets   KV buckets of shares
//! rescue    messages whose headers the client cannot read
//! ```
//!
//! A message is held here until it is finished, with progress told every third of `ack_wait`; it is
//! never given back for a retry, because a redelivery comes out of order. One replica reads (it is
//! the consumer's pinned client), the others stand by. The `begin, gather, hand on` rule of
//! [`crate::core::ledger`] keeps order over restarts, takeovers and broken connections.

mod acks;
mod buckets;
mod intake;
mod letters;
mod link;
mod pull;
mod reading;
mod record;
mod rescue;
mod settings;
mod setup;
mod source;
mod stop;
mod table;

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use self::buckets::Shelves;
use self::letters::Writer;
use self::link::Link;
use self::settings::{MAX_HELD, Settings};
use self::source::Source;
use self::table::Bucket;
use super::{Boxed, Broker, Inbox, Section, SourceId, SourceLimits, Started};

/// Makes the broker from its source's section.
pub fn build(section: &Section<'_>, id: SourceId) -> Option<Box<dyn Broker>> {
    let settings = Settings::read(section)?;
    Some(Box::new(Nats { id, settings: Arc::new(settings) }))
}

/// A JetStream source before it is connected.
struct Nats {
    id: SourceId,
    settings: Arc<Settings>,
}

impl Broker for Nats {
    fn kind(&self) -> &'static str {
        "nats"
    }

    fn dead_letter(&self) -> &str {
        &self.settings.dead_letter
    }

    fn max_held_records(&self) -> usize {
        MAX_HELD
    }

    fn probe(&self) -> Boxed<'_, Result<Vec<String>, String>> {
        Box::pin(async {
            let connected = link::connect_once(&self.settings, |_| std::future::ready(())).await;
            let client =
                connected.map_err(|why| format!("cannot connect to {}: {why}", self.settings.addresses()))?;
            let looked = setup::look(&client, &self.settings).await;
            // The connection is closed by being dropped; what drain could say matters to nobody.
            let _ = client.drain().await;
            looked
        })
    }

    fn start(self: Box<Self>, limits: SourceLimits, inbox: Inbox) -> Started {
        let link = Arc::new(Link::default());
        let (commands, obeyed) = mpsc::unbounded_channel();
        let stream = self.settings.dead_letter.clone();
        let addresses = self.settings.addresses();
        let letters = Writer::new(link.clone(), stream.clone(), addresses.clone());
        let table = Bucket::new(link.clone(), stream.clone(), addresses.clone());
        let shelves = Shelves::new(link.clone(), addresses, self.settings.create, stream);
        let held = limits.held_records.clamp(1, MAX_HELD);
        let limits = SourceLimits { held_records: held, ..limits };
        let source = Source { id: self.id, settings: self.settings, limits, inbox, link };
        let (end, ended) = oneshot::channel();
        tokio::spawn(async move {
            // Nobody may be waiting for the end.
            let _ = end.send(source.run(obeyed).await);
        });
        Started {
            commands,
            letters: Arc::new(letters),
            table: Arc::new(table),
            buckets: Some(Arc::new(shelves)),
            ended: Box::pin(async move {
                ended.await.unwrap_or_else(|_| Err("the source's task has panicked".to_owned()))
            }),
        }
    }
}
