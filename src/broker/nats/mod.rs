//! NATS JetStream as a source: one durable pull consumer, read by one replica at a time; or, spread over
//! replicas, one for each partition of a copy of the stream.
//!
//! ```text
//! link      the connection, made once and kept           setup    streams and durable, made and looked at
//! source    the reading loop: pulls, commands, set-up     settings the section, checked
//! reading   its other half: what comes, looks, hand-on   stop     its end: last acks, giving back
//! intake    how much is asked for, and when it stops      pull     a pull's words (pure)
//! acks      confirms acks, tells progress                 record   message → record (pure)
//! letters   writes letters                                letter_stream  the stream they go to, judged
//! rescue    messages the client cannot read               table    the KV bucket beside the letters
//! buckets   KV buckets of shares                          follow   a KV bucket that others write: a directory
//! archive   letters seen from outside                     sweep    reads letters as they stand
//! words     what the loop and those around it say         lane     what one loop reads (pure)
//! spread    how replicas share it: the setting            renew    the way to the consumer, and back to it
//!
//! With partitions:
//! front     runs the loops, balances, merges what they say
//! presence  replicas tell each other what they read       hand_over  a partition changes its reader
//! parts     the copy of the stream, made and judged       marks    how far it is finished (pure)
//! ```
//!
//! A message is held here until it is finished, with progress told every third of `ack_wait`; it is
//! never given back for a retry, because a redelivery comes out of order. One replica reads a durable (it
//! is the consumer's pinned client), the others stand by or read other partitions. The `begin, gather, hand on` rule of
//! [`crate::core::ledger`] keeps order over restarts, takeovers and broken connections.

mod acks;
mod archive;
mod buckets;
mod follow;
mod front;
mod hand_over;
mod intake;
mod lane;
mod letter_stream;
mod letters;
mod link;
mod marks;
mod parts;
mod presence;
mod pull;
mod reading;
mod record;
mod renew;
mod rescue;
mod settings;
mod setup;
mod source;
mod spread;
mod stop;
mod sweep;
mod table;
mod words;

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use self::archive::Holdings;
use self::buckets::Shelves;
use self::front::Front;
use self::lane::Lane;
use self::letters::Writer;
use self::link::Link;
use self::settings::{MAX_HELD, Settings};
use self::source::Source;
use self::spread::Spread;
use self::table::Bucket;
use super::{
    Archive, Boxed, Broker, Command, Followed, Inbox, Reading, Section, SourceId, SourceLimits, Started,
    rested,
};

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

    fn letters_at(&self) -> String {
        format!("nats {} {}", self.settings.addresses(), self.settings.dead_letter)
    }

    fn max_held_records(&self) -> usize {
        MAX_HELD
    }

    fn archive(&self) -> Arc<dyn Archive> {
        Arc::new(Holdings::new(self.id, self.settings.clone()))
    }

    fn replays(&self, id: SourceId, reading: Reading) -> Box<dyn Broker> {
        Box::new(Self { id, settings: Arc::new(self.settings.of_replays(reading)) })
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

    fn follow(&self, table: &str, told: mpsc::Sender<Followed>) {
        tokio::spawn(follow::run(self.settings.clone(), table.to_owned(), told));
    }

    fn start(self: Box<Self>, limits: SourceLimits, inbox: Inbox) -> Started {
        let link = Arc::new(Link::default());
        let (commands, obeyed) = mpsc::unbounded_channel();
        let (end, ended) = oneshot::channel();
        let ended =
            async move { ended.await.unwrap_or_else(|_| Err("the source's task has panicked".to_owned())) };
        let started = self.beside(&link, commands, Box::pin(ended));
        let held = limits.held_records.clamp(1, MAX_HELD);
        let limits = SourceLimits { held_records: held, ..limits };
        let Self { id, settings } = *self;
        tokio::spawn(async move {
            let ended = match settings.spread {
                Spread::OneActive => {
                    let lane = Lane::all(&settings).remove(0);
                    let source = Source { id, settings, lane, limits, inbox, link, front: None };
                    source.run(obeyed, None).await
                }
                Spread::Partitions { .. } => Front::new(id, settings, limits, inbox, link).run(obeyed).await,
            };
            // Nobody may be waiting for the end.
            let _ = end.send(ended);
        });
        started
    }

    fn rest(&self) -> Started {
        let link = Arc::new(Link::default());
        let (commands, orders) = mpsc::unbounded_channel();
        let (settings, connecting) = (self.settings.clone(), link.clone());
        let connecting = tokio::spawn(async move { drop(connecting.connect(&settings, drop).await) });
        let ended = async move {
            let ended = rested(orders).await;
            connecting.abort();
            ended
        };
        self.beside(&link, commands, Box::pin(ended))
    }
}

impl Nats {
    /// What there is beside the source, over this connection.
    fn beside(
        &self,
        link: &Arc<Link>,
        commands: mpsc::UnboundedSender<Command>,
        ended: Boxed<'static, Result<(), String>>,
    ) -> Started {
        let (stream, addresses) = (self.settings.dead_letter.clone(), self.settings.addresses());
        let letters = Writer::new(link.clone(), stream.clone(), addresses.clone());
        let table = Bucket::new(link.clone(), stream.clone(), addresses.clone());
        let shelves = Shelves::new(link.clone(), addresses, self.settings.create, stream);
        Started {
            commands,
            letters: Arc::new(letters),
            table: Arc::new(table),
            buckets: Some(Arc::new(shelves)),
            ended,
        }
    }
}
