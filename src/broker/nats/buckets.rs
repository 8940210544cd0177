//! KV buckets whose rows several processes change by compare and set: what shares of a quota are
//! kept in.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::kv::{Operation, Store, UpdateErrorKind};
use bytes::Bytes;
use tokio::sync::Mutex;

use super::link::{Link, chain};
use super::table::{encode, make};
use crate::broker::{Boxed, Buckets, Row};
use crate::core::share::lease::Written;

/// How long the store may take to answer.
const ANSWER: Duration = Duration::from_secs(2);

/// The buckets of one server.
pub struct Shelves {
    link: Arc<Link>,
    addresses: String,
    /// Whether a bucket that is missing may be made.
    create: bool,
    /// Replicas are taken over from this stream.
    beside: String,
    open: Mutex<BTreeMap<String, Store>>,
}

impl Shelves {
    /// Reached over `link`; `addresses` name the servers in errors.
    pub fn new(link: Arc<Link>, addresses: String, create: bool, beside: String) -> Self {
        Self { link, addresses, create, beside, open: Mutex::default() }
    }

    async fn store(&self, bucket: &str) -> Result<Store, String> {
        let mut open = self.open.lock().await;
        if let Some(store) = open.get(bucket) {
            return Ok(store.clone());
        }
        let store = self.look_up(bucket).await?;
        open.insert(bucket.to_owned(), store.clone());
        Ok(store)
    }

    async fn look_up(&self, bucket: &str) -> Result<Store, String> {
        let jetstream = self.link.jetstream(&self.addresses)?;
        if let Ok(store) = jetstream.get_key_value(bucket).await {
            return Ok(store);
        }
        if !self.create {
            return Err(format!(
                "there is no bucket {bucket}: make it (nats kv add {bucket}), or set `create = true` at the source"
            ));
        }
        make(&jetstream, bucket, "roomcast: shares of quotas", &self.beside).await
    }

    async fn read_now(&self, bucket: &str, key: &str) -> Result<Option<Row>, String> {
        let found = self.store(bucket).await?.entry(encode(key)).await;
        let entry = found.map_err(|error| format!("cannot read bucket {bucket}: {}", chain(&error)))?;
        Ok(entry.filter(|entry| entry.operation == Operation::Put).map(|entry| (entry.revision, entry.value)))
    }
}

impl Buckets for Shelves {
    fn read<'a>(&'a self, bucket: &'a str, key: &'a str) -> Boxed<'a, Result<Option<Row>, String>> {
        Box::pin(async move {
            let answer = tokio::time::timeout(ANSWER, self.read_now(bucket, key)).await;
            answer.unwrap_or_else(|_| Err(format!("cannot read bucket {bucket}: no answer in {ANSWER:?}")))
        })
    }

    fn write<'a>(
        &'a self,
        bucket: &'a str,
        key: &'a str,
        value: Bytes,
        expected: u64,
    ) -> Boxed<'a, Result<Written, String>> {
        Box::pin(async move {
            let written = async { Ok(self.store(bucket).await?.update(encode(key), value, expected).await) };
            match tokio::time::timeout(ANSWER, written).await {
                Ok(Ok(Ok(revision))) => Ok(Written::Done(revision)),
                Ok(Ok(Err(error))) if error.kind() == UpdateErrorKind::WrongLastRevision => {
                    Ok(Written::Outrun)
                }
                Ok(Ok(Err(error))) => Err(format!("cannot write to bucket {bucket}: {}", chain(&error))),
                Ok(Err(why)) => Err(why),
                Err(_) => Err(format!("cannot write to bucket {bucket}: no answer in {ANSWER:?}")),
            }
        })
    }
}
