//! Reads all letters of a dead-letter stream as it stands, at the reader's pace.
//!
//! A consumer of our own without acks delivers them, in pulls that are bounded in bytes; nothing is pulled
//! while the receiver is busy. A consumer that breaks off (a lost connection, a server that was
//! restarted, a reader that paused for long) is made again after the last letter handed over. Used by
//! [`super::archive`].

use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use async_nats::jetstream::stream::Stream;
use async_nats::{Client, jetstream as js};
use futures_util::StreamExt;
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::link::{Patience, chain, jetstream};
use super::pull::Item;
use super::record::Maker;
use super::setup::find_stream;
use crate::core::ledger::Delivery;
use crate::core::model::{Epoch, Record};

/// The most letters of one pull.
const BATCH: usize = 256;
/// The most bytes of one pull, unless the server's largest message is larger.
const BATCH_BYTES: usize = 4 << 20;
/// How long the server may say nothing about a pull.
const SILENCE: Duration = Duration::from_secs(10);
/// How long the server keeps a consumer that is not pulled from.
const KEPT: Duration = Duration::from_secs(120);
/// Breaks in a row, without a letter in between, after which it is given up.
const BREAKS: u32 = 5;

/// How a consumer's reading ended.
enum Ended {
    /// All letters were handed over, or nobody takes them.
    Done,
    /// It broke off.
    Broke(String),
}

/// What is read of a stream.
#[derive(Clone, Debug)]
pub struct Stretch {
    /// Messages of these subjects.
    pub subjects: Vec<String>,
    /// The first sequence.
    pub first: u64,
    /// The last sequence.
    pub last: u64,
    /// Whether only headers are wanted: records have no values then.
    pub headers_only: bool,
}

/// One reading.
struct Sweep<'a> {
    client: &'a Client,
    stream: Stream,
    subjects: Vec<String>,
    headers_only: bool,
    maker: &'a Maker,
    into: &'a mpsc::Sender<Record>,
    /// The first sequence that was not handed over.
    next: u64,
    /// The last sequence when it began.
    last: u64,
}

/// Hands over the letters that `name` holds now. A stream that is not there has none.
pub async fn letters(
    client: &Client,
    name: &str,
    maker: &Maker,
    into: &mpsc::Sender<Record>,
) -> Result<(), String> {
    let Some(stream) = find_stream(&jetstream(client.clone()), name).await? else { return Ok(()) };
    let state = &stream.cached_info().state;
    let stretch = Stretch {
        subjects: vec![format!("{name}.letter.>")],
        first: state.first_sequence.max(1),
        last: state.last_sequence,
        headers_only: false,
    };
    read(client, stream, stretch, maker, into).await
}

/// Hands over the messages of a stretch of a stream.
pub async fn read(
    client: &Client,
    stream: Stream,
    stretch: Stretch,
    maker: &Maker,
    into: &mpsc::Sender<Record>,
) -> Result<(), String> {
    let name = stream.cached_info().config.name.clone();
    let name = &*name;
    let Stretch { subjects, first: next, last, headers_only } = stretch;
    let mut sweep = Sweep { client, stream, subjects, headers_only, maker, into, next, last };
    let (mut breaks, mut patience) = (0, Patience::default());
    while sweep.next <= sweep.last {
        let before = sweep.next;
        let why = match sweep.run().await {
            Ok(Ended::Done) => break,
            Ok(Ended::Broke(why)) | Err(why) => why,
        };
        tracing::debug!(stream = name, next = sweep.next, "reading broke off: {why}");
        if sweep.next > before {
            (breaks, patience) = (0, Patience::default());
            continue;
        }
        breaks += 1;
        if breaks == BREAKS || into.is_closed() {
            return Err(format!("cannot read stream {name} from message {before} on: {why}"));
        }
        patience.wait().await;
    }
    Ok(())
}

impl Sweep<'_> {
    async fn run(&mut self) -> Result<Ended, String> {
        let mut config = pull::Config {
            description: Some("roomcast: reads letters".to_owned()),
            deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: self.next },
            ack_policy: AckPolicy::None,
            headers_only: self.headers_only,
            inactive_threshold: KEPT,
            memory_storage: true,
            num_replicas: 1,
            ..pull::Config::default()
        };
        match &self.subjects[..] {
            [one] => config.filter_subject.clone_from(one),
            several => config.filter_subjects = several.to_vec(),
        }
        let consumer = self.stream.create_consumer(config).await.map_err(|error| chain(&error))?;
        let info = consumer.cached_info();
        if info.num_pending == 0 {
            return Ok(Ended::Done);
        }
        let ended = self.pull(&info.name, &info.stream_name).await;
        // One that is left behind is deleted by the server after a while.
        if let Err(error) = self.stream.delete_consumer(&info.name).await {
            tracing::debug!("the consumer is left to its time: {error}");
        }
        ended
    }

    async fn pull(&mut self, consumer: &str, stream: &str) -> Result<Ended, String> {
        let inbox = self.client.new_inbox();
        let answers = self.client.subscribe(format!("{inbox}.*")).await;
        let mut answers = answers.map_err(|error| chain(&error))?;
        let subject = format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}");
        // A message that is larger than a pull would never come: twice the largest holds its headers too.
        let bytes = BATCH_BYTES.max(self.client.server_info().max_payload * 2);
        let body = json!({ "batch": BATCH, "max_bytes": bytes, "no_wait": true }).to_string();
        let (mut expected, mut number) = (1, 0_u64);
        loop {
            number += 1;
            let reply = format!("{inbox}.{number}");
            let asked = self.client.publish_with_reply(subject.clone(), reply.clone(), body.clone().into());
            asked.await.map_err(|error| chain(&error))?;
            let mut came = 0;
            while came < BATCH {
                let answer = timeout(SILENCE, answers.next()).await;
                let answer = answer.map_err(|_| format!("no answer in {SILENCE:?}"))?;
                let Some(answer) = answer else { return Ok(Ended::Broke("the connection ended".to_owned())) };
                // A pull that is full is told to have ended as well, after the next one was asked for.
                if answer.subject.starts_with(&*inbox) && *answer.subject != *reply {
                    continue;
                }
                match Item::from(answer) {
                    Item::Record(message) => {
                        if let Some(ended) = self.hand_over(message, &mut expected).await? {
                            return Ok(ended);
                        }
                        came += 1;
                    }
                    Item::Ended(_) if came == 0 => return self.nothing_came(consumer, expected).await,
                    Item::Ended(_) => break,
                    Item::Heartbeat | Item::PinLost => {}
                    Item::Deleted | Item::Nobody => {
                        return Ok(Ended::Broke("the consumer is gone".to_owned()));
                    }
                    Item::Refused(why) => return Ok(Ended::Broke(why)),
                }
            }
        }
    }

    /// What is meant when a pull ends empty: the rest was deleted meanwhile, or the server had other reasons.
    async fn nothing_came(&self, consumer: &str, expected: u64) -> Result<Ended, String> {
        let info = self.stream.consumer_info(consumer).await.map_err(|error| chain(&error))?;
        let missing = info.num_pending + (info.delivered.consumer_sequence + 1).saturating_sub(expected);
        Ok(match missing {
            0 => Ended::Done,
            _ => Ended::Broke(format!("{missing} messages wait and none comes")),
        })
    }

    /// Hands a letter over; says so when it was the last.
    async fn hand_over(
        &mut self,
        message: async_nats::Message,
        expected: &mut u64,
    ) -> Result<Option<Ended>, String> {
        let message = js::Message { message, context: jetstream(self.client.clone()) };
        let info =
            message.info().map_err(|error| format!("a message without a place in the stream: {error}"))?;
        let delivery = Delivery {
            sequence: info.stream_sequence,
            consumer_sequence: info.consumer_sequence,
            count: info.delivered,
            published: i64::try_from(info.published.unix_timestamp_nanos()).unwrap_or(i64::MAX),
        };
        let pending = info.pending;
        if delivery.consumer_sequence != *expected {
            return Ok(Some(Ended::Broke("messages were lost on their way".to_owned())));
        }
        *expected += 1;
        if delivery.sequence > self.last {
            return Ok(Some(Ended::Done));
        }
        let record = self.maker.record(message.message, delivery, Epoch(0), false);
        if self.into.send(record).await.is_err() {
            return Ok(Some(Ended::Done));
        }
        self.next = delivery.sequence + 1;
        Ok((pending == 0 || self.next > self.last).then_some(Ended::Done))
    }
}
