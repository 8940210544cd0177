//! The letters of a dead-letter stream for those who look at them from outside: the command line, the API.
//!
//! It has a connection of its own, made when it is first asked and tried once each time: what is wrong is
//! told, not waited for. It makes nothing but the table.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;
use uuid::Uuid;

use super::lane::Lane;
use super::letters::Writer;
use super::link::{Link, chain, jetstream};
use super::record::Maker;
use super::settings::Settings;
use super::table::Bucket;
use super::{follow, rescue, setup, sweep, table};
use crate::broker::{Archive, Boxed, EachRow, Followed, LATER_MOST, Later, Part, Placed, Stands, Table};
use crate::core::letter::Sealed;
use crate::core::model::{Origin, PartitionId, Record, SourceId};
use crate::core::replay::Told;
use crate::core::route::fits;

/// Keys on their way from the broker.
const LATER_AHEAD: usize = 256;

/// Where requests stand, below the name of the stream.
const REPLAY: &str = "replay";

/// The archive of one source.
pub struct Holdings {
    id: SourceId,
    settings: Arc<Settings>,
    link: Arc<Link>,
    writer: Writer,
}

impl Holdings {
    /// That of the source of these settings.
    pub fn new(id: SourceId, settings: Arc<Settings>) -> Self {
        let link = Arc::new(Link::default());
        let writer = Writer::new(link.clone(), settings.dead_letter.clone(), settings.addresses());
        Self { id, settings, link, writer }
    }

    /// Makes records of a stream: of letters, or of what the source reads.
    fn maker(&self, stream: &str, of_letters: bool) -> Maker {
        Maker {
            source: self.id,
            partition: PartitionId(0),
            stream: Arc::from(stream),
            key: self.settings.key.clone(),
            is_part: false,
            tried: 0,
            of_letters,
        }
    }

    async fn read_all(&self, into: mpsc::Sender<Record>) -> Result<(), String> {
        let client = self.link.reach(&self.settings).await?;
        let stream = &self.settings.dead_letter;
        sweep::letters(&client, stream, &self.maker(stream, true), &into).await
    }

    /// Over a request that stands there only where `over` says so of the asking that it is of.
    async fn place(
        &self,
        letter: Record,
        more: Vec<(Arc<str>, Bytes)>,
        over: impl Fn(Option<Uuid>) -> bool + Send,
    ) -> Result<Placed, String> {
        let Origin { stream, offset, .. } = &letter.origin;
        let told = Told::read(&letter)
            .map_err(|why| format!("message {offset} of stream {stream} is no letter: {why}"))?;
        let client = self.link.reach(&self.settings).await?;
        let mut headers = letter.headers;
        headers.extend(more);
        let request = Sealed { id: told.letter, key: letter.key, value: letter.value, headers };
        if self.writer.place(REPLAY, &request, 0).await? == Placed::Now {
            return Ok(Placed::Now);
        }
        let (stream, subject) = (&self.settings.dead_letter, self.writer.subject(REPLAY, told.letter));
        let there = rescue::last_of(&jetstream(client), stream, &subject).await?;
        match there {
            Some(there) if !over(asking(&there.headers)) => Ok(Placed::Before),
            // Who is quicker writes: what stands there then is not what was looked at.
            there => self.writer.place(REPLAY, &request, there.map_or(0, |there| there.sequence)).await,
        }
    }

    /// A sequence is one of the source's stream only: the message must be the one that the letter tells of.
    async fn find(&self, origin: Origin) -> Result<Option<Bytes>, String> {
        let stream = &self.settings.stream;
        // A letter that does not name the stream has the subject for it.
        let is_elsewhere = *origin.stream != **stream && origin.stream != origin.topic;
        let Some(sequence) = u64::try_from(origin.offset).ok().filter(|_| !is_elsewhere) else {
            return Ok(None);
        };
        let client = self.link.reach(&self.settings).await?;
        let Some(stored) = rescue::stored(&jetstream(client), stream, sequence).await? else {
            return Ok(None);
        };
        let found = self.maker(stream, false).origin(&stored.headers, &stored.subject, origin.offset);
        let is_it = *found.stream == **stream && found.topic == origin.topic;
        Ok(is_it.then_some(stored.payload))
    }

    /// The source's own stream alone is read: how far it is finished is known of no other.
    async fn look_later(&self, of: BTreeMap<Part, Stands>) -> Result<Later, String> {
        // A letter that does not name the stream has the subject for it.
        let is_own = |(name, _): &Part| {
            **name == *self.settings.stream
                || self.settings.subjects.iter().any(|subject| fits(subject, name))
        };
        let (own, others): (BTreeMap<Part, Stands>, _) = of.into_iter().partition(|(part, _)| is_own(part));
        let mut later = Later { is_cut: !others.is_empty(), ..Later::default() };
        let mut stands = Stands::default();
        for part in own.values() {
            stands.except.extend(&part.except);
            for (key, offset) in &part.oldest {
                let oldest = stands.oldest.entry(key.clone()).or_insert(*offset);
                *oldest = (*oldest).min(*offset);
            }
        }
        let Some(oldest) = stands.oldest.values().min() else { return Ok(later) };
        let [lane] = &Lane::all(&self.settings)[..] else {
            later.is_cut = true;
            return Ok(later);
        };
        let client = self.link.reach(&self.settings).await?;
        let jetstream = jetstream(client.clone());
        let Some(stream) = setup::find_stream(&jetstream, &lane.stream).await? else { return Ok(later) };
        let floor = match stream.consumer_info(&lane.durable).await {
            Ok(info) => info.ack_floor.stream_sequence,
            Err(error) if setup::is_no_consumer(&error.kind()) => return Ok(later),
            Err(error) => return Err(format!("cannot look at durable {}: {}", lane.durable, chain(&error))),
        };
        let first = (oldest + 1).max(1).cast_unsigned();
        let last = floor.min(first + LATER_MOST.cast_unsigned() - 1);
        if last < first {
            return Ok(later);
        }
        later.is_cut |= last < floor;
        let subjects = lane.subjects.clone();
        let stretch = sweep::Stretch { subjects, first, last, headers_only: true };
        let (into, mut records) = mpsc::channel::<Record>(LATER_AHEAD);
        let maker = self.maker(&lane.stream, false);
        let look = async {
            let mut last: BTreeMap<Bytes, i64> = BTreeMap::new();
            while let Some(record) = records.recv().await {
                let Some(key) = record.key else { continue };
                let is_later = stands.oldest.get(&key).is_some_and(|oldest| record.id.offset > *oldest);
                if is_later && !stands.except.contains(&record.id.offset) {
                    last.insert(key, record.id.offset);
                }
            }
            last
        };
        let read = async move { sweep::read(&client, stream, stretch, &maker, &into).await };
        let (read, last) = tokio::join!(read, look);
        for (part, asked) in own {
            let of_part = |(key, at): (&Bytes, &i64)| {
                asked.oldest.get(key).is_some_and(|oldest| at > oldest).then(|| (key.clone(), *at))
            };
            later.last.insert(part, last.iter().filter_map(of_part).collect());
        }
        read.map(|()| later)
    }

    /// The server does not tell clients apart: of all durables of the source, the one that most wait on.
    async fn count_readers(&self) -> Result<usize, String> {
        let client = self.link.reach(&self.settings).await?;
        let jetstream = jetstream(client);
        let lanes = Lane::all(&self.settings);
        let Some(stream) = setup::find_stream(&jetstream, &lanes[0].stream).await? else { return Ok(0) };
        let mut most = 0;
        for lane in lanes {
            let info = match stream.consumer_info(&lane.durable).await {
                Ok(info) => info,
                Err(error) if setup::is_no_consumer(&error.kind()) => continue,
                Err(error) => {
                    return Err(format!("cannot look at durable {}: {}", lane.durable, chain(&error)));
                }
            };
            let is_pinned = info.priority_groups.iter().any(|group| group.pinned_client_id.is_some());
            most = most.max(info.num_waiting).max(usize::from(is_pinned));
        }
        Ok(most)
    }
}

impl Archive for Holdings {
    fn read(&self, into: mpsc::Sender<Record>) -> Boxed<'_, Result<(), String>> {
        Box::pin(self.read_all(into))
    }

    fn request(&self, letter: Record, headers: Vec<(Arc<str>, Bytes)>) -> Boxed<'_, Result<Placed, String>> {
        Box::pin(self.place(letter, headers, |_| false))
    }

    fn request_unless(
        &self,
        under_way: Option<Uuid>,
        letter: Record,
        headers: Vec<(Arc<str>, Bytes)>,
    ) -> Boxed<'_, Result<Placed, String>> {
        let own = asking(&headers);
        let stays = move |there: Uuid| own == Some(there) || under_way == Some(there);
        Box::pin(self.place(letter, headers, move |there| there.is_none_or(|there| !stays(there))))
    }

    fn value_at(&self, origin: Origin) -> Boxed<'_, Result<Option<Bytes>, String>> {
        Box::pin(self.find(origin))
    }

    fn readers(&self) -> Boxed<'_, Result<usize, String>> {
        Box::pin(self.count_readers())
    }

    fn later(&self, of: BTreeMap<Part, Stands>) -> Boxed<'_, Result<Later, String>> {
        Box::pin(self.look_later(of))
    }

    fn table(&self) -> Arc<dyn Table> {
        let (stream, addresses) = (self.settings.dead_letter.clone(), self.settings.addresses());
        let bucket = Bucket::new(self.link.clone(), stream, addresses);
        Arc::new(OnDemand { link: self.link.clone(), settings: self.settings.clone(), bucket })
    }

    fn follow(&self, told: mpsc::Sender<Followed>) {
        let bucket = table::name(&self.settings.dead_letter);
        tokio::spawn(follow::run(self.settings.clone(), bucket, told));
    }
}

/// The asking that these headers are of.
fn asking(headers: &[(Arc<str>, Bytes)]) -> Option<Uuid> {
    let (_, id) = headers.iter().rev().find(|(name, _)| name.eq_ignore_ascii_case("roomcast-request"))?;
    std::str::from_utf8(id).ok()?.parse().ok()
}

/// The bucket, over a connection that is made when it is first needed.
struct OnDemand {
    link: Arc<Link>,
    settings: Arc<Settings>,
    bucket: Bucket,
}

impl Table for OnDemand {
    fn each(&self, row: EachRow) -> Boxed<'_, Result<(), String>> {
        Box::pin(async move {
            self.link.reach(&self.settings).await?;
            self.bucket.each(row).await
        })
    }

    fn put(&self, key: String, value: Bytes) -> Boxed<'_, Result<(), String>> {
        Box::pin(async move {
            self.link.reach(&self.settings).await?;
            self.bucket.put(key, value).await
        })
    }

    fn put_unless<'a>(
        &'a self,
        key: String,
        value: Bytes,
        stays: &'a (dyn Fn(&[u8]) -> bool + Sync),
    ) -> Boxed<'a, Result<Option<Bytes>, String>> {
        Box::pin(async move {
            self.link.reach(&self.settings).await?;
            self.bucket.put_unless(key, value, stays).await
        })
    }
}
