//! The small table beside the dead letters: a KV bucket `<dead_letter>_state`.

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::Context;
use async_nats::jetstream::context::CreateKeyValueErrorKind;
use async_nats::jetstream::kv::{Config, Operation, Store, UpdateErrorKind};
use bytes::Bytes;
use futures_util::StreamExt;
use tokio::sync::OnceCell;
use tokio::time::timeout;

use super::link::{Link, chain};
use crate::broker::{Boxed, EachRow, Table};

/// How long the server may be silent while rows are read.
const READ: Duration = Duration::from_secs(30);

/// How often somebody else may be faster in writing one row.
const OUTRUN_MOST: usize = 20;

/// Makes a bucket with as many replicas as the stream `beside` has. One that another replica of ours has
/// made meanwhile is as good.
pub async fn make(jetstream: &Context, name: &str, description: &str, beside: &str) -> Result<Store, String> {
    let beside = jetstream.get_stream(beside).await;
    let config = Config {
        bucket: name.to_owned(),
        description: description.to_owned(),
        history: 1,
        num_replicas: beside.map_or(1, |stream| stream.cached_info().config.num_replicas.max(1)),
        ..Config::default()
    };
    match jetstream.create_key_value(config).await {
        Ok(store) => Ok(store),
        Err(error) if error.kind() == CreateKeyValueErrorKind::BucketCreate => {
            let again = jetstream.get_key_value(name).await;
            again.map_err(|_| format!("cannot make bucket {name}: {}", chain(&error)))
        }
        Err(error) => Err(format!("cannot make bucket {name}: {}", chain(&error))),
    }
}

/// The bucket beside a dead-letter stream.
pub fn name(beside: &str) -> String {
    format!("{beside}_state")
}

/// The bucket of one source.
#[derive(Debug)]
pub struct Bucket {
    link: Arc<Link>,
    name: String,
    /// Replicas of the dead-letter stream are taken over from it.
    beside: String,
    addresses: String,
    store: OnceCell<Store>,
}

impl Bucket {
    /// The bucket beside the dead-letter stream `beside`; `addresses` name the servers in errors.
    pub fn new(link: Arc<Link>, beside: String, addresses: String) -> Self {
        Self { link, name: name(&beside), beside, addresses, store: OnceCell::new() }
    }

    async fn store(&self) -> Result<&Store, String> {
        self.store.get_or_try_init(|| self.open()).await
    }

    async fn open(&self) -> Result<Store, String> {
        let jetstream = self.link.jetstream(&self.addresses)?;
        if let Ok(store) = jetstream.get_key_value(&self.name).await {
            return Ok(store);
        }
        make(&jetstream, &self.name, "roomcast: what became of letters", &self.beside).await
    }

    async fn hand_over(&self, mut row: EachRow) -> Result<(), String> {
        let store = self.store().await?;
        let failed =
            |error: &dyn std::error::Error| format!("cannot read bucket {}: {}", self.name, chain(error));
        // A watch of an empty bucket would wait for its first row. (`Store::status` answers from the
        // time the bucket was opened.)
        let info = store.stream.get_info().await.map_err(|error| failed(&error))?;
        if info.state.messages == 0 {
            return Ok(());
        }
        let mut watch = store.watch_with_history(">").await.map_err(|error| failed(&error))?;
        let silent = |_| format!("cannot read bucket {}: no answer in {READ:?}", self.name);
        while let Some(entry) = timeout(READ, watch.next()).await.map_err(silent)? {
            let entry = entry.map_err(|error| failed(&error))?;
            row(&decode(&entry.key), (entry.operation == Operation::Put).then_some(&*entry.value));
            if entry.seen_current {
                break;
            }
        }
        Ok(())
    }
}

impl Table for Bucket {
    fn each(&self, row: EachRow) -> Boxed<'_, Result<(), String>> {
        Box::pin(self.hand_over(row))
    }

    fn put(&self, key: String, value: Bytes) -> Boxed<'_, Result<(), String>> {
        Box::pin(async move {
            let store = self.store().await?;
            let put = store.put(encode(&key), value).await;
            put.map(drop).map_err(|error| format!("cannot write to bucket {}: {}", self.name, chain(&error)))
        })
    }

    fn put_unless<'a>(
        &'a self,
        key: String,
        value: Bytes,
        stays: &'a (dyn Fn(&[u8]) -> bool + Sync),
    ) -> Boxed<'a, Result<Option<Bytes>, String>> {
        Box::pin(async move { self.compare_and_set(&key, value, stays).await })
    }
}

impl Bucket {
    /// Looks, and writes if nobody wrote meanwhile; else looks again.
    async fn compare_and_set(
        &self,
        key: &str,
        value: Bytes,
        stays: &(dyn Fn(&[u8]) -> bool + Sync),
    ) -> Result<Option<Bytes>, String> {
        let (store, key) = (self.store().await?, encode(key));
        for _ in 0..OUTRUN_MOST {
            let entry = store.entry(&key).await;
            let entry =
                entry.map_err(|error| format!("cannot read bucket {}: {}", self.name, chain(&error)))?;
            let revision = entry.as_ref().map_or(0, |entry| entry.revision);
            let there = entry.filter(|entry| entry.operation == Operation::Put).map(|entry| entry.value);
            if let Some(there) = there.filter(|there| stays(there)) {
                return Ok(Some(there));
            }
            match store.update(&key, value.clone(), revision).await {
                Ok(_) => return Ok(None),
                Err(error) if error.kind() == UpdateErrorKind::WrongLastRevision => {}
                Err(error) => return Err(format!("cannot write to bucket {}: {}", self.name, chain(&error))),
            }
        }
        Err(format!("cannot write to bucket {}: others write the row {key} all the time", self.name))
    }
}

/// A row's key as a bucket takes it: letters, digits, `-`, `_` and `/` as they are, every other byte
/// as `=` and two hex digits. A key without bytes is `=`. A period is escaped too, because a key
/// may not begin or end with one.
pub fn encode(key: &str) -> String {
    if key.is_empty() {
        return "=".to_owned();
    }
    let mut encoded = String::with_capacity(key.len());
    for byte in key.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'/' => encoded.push(char::from(byte)),
            _ => encoded.push_str(&format!("={byte:02X}")),
        }
    }
    encoded
}

/// The row's key; a key that somebody else wrote in another form stays as it is.
fn decode(encoded: &str) -> String {
    if encoded == "=" {
        return String::new();
    }
    let mut bytes = Vec::with_capacity(encoded.len());
    let mut rest = encoded.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'=' {
            bytes.push(byte);
            continue;
        }
        let digits = rest.split_at_checked(2);
        let escaped = digits.and_then(|(hex, after)| {
            Some((u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok()?, after))
        });
        let Some((byte, after)) = escaped else { return encoded.to_owned() };
        bytes.push(byte);
        rest = after;
    }
    String::from_utf8(bytes).unwrap_or_else(|_| encoded.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_comes_back() {
        for key in ["", "a-b_c/D9", ".", "a.b", "=", "=41", "broadcast live 2026-01-31", "房间", "*>"] {
            let encoded = encode(key);
            assert!(
                !encoded.is_empty()
                    && encoded.chars().all(|c| c.is_ascii_alphanumeric() || "-_/=".contains(c)),
                "{encoded}"
            );
            assert_eq!(decode(&encoded), key);
        }
        assert_eq!(encode("0b8e-1"), "0b8e-1", "a letter's id stays readable");
        assert_eq!(decode("a=ZZ"), "a=ZZ");
    }
}
