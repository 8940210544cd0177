//! A directory in a topic or bucket: rows as the broker tells them, to keys and rooms.

use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc::Receiver;
use tracing::{debug, info, warn};

use super::Teller;
use crate::broker::Followed;
use crate::core::route::directory::{self, Map, Update};

/// How long `check --live` waits for what comes next.
const PATIENCE: Duration = Duration::from_secs(20);

/// A row for a map.
type Row = (String, Option<Vec<String>>);

/// The rows that can be read, and how many cannot; the first of those is told in the log.
fn rows(of: Vec<(Bytes, Option<Bytes>)>, directory: &str) -> (Vec<Row>, u64) {
    let mut refused = 0;
    let mut good = Vec::with_capacity(of.len());
    for (key, value) in of {
        match row(&key, value.as_deref()) {
            Ok(row) => good.push(row),
            Err(why) => {
                if refused == 0 {
                    let key = String::from_utf8_lossy(&key);
                    warn!(directory, %key, why, "a row cannot be read: what was known of its key stays");
                }
                refused += 1;
            }
        }
    }
    (good, refused)
}

fn row(key: &[u8], value: Option<&[u8]>) -> Result<Row, String> {
    let key = match std::str::from_utf8(key) {
        Ok("") => return Err("no key".to_owned()),
        Ok(key) => key.to_owned(),
        Err(_) => return Err("a key that is not UTF-8".to_owned()),
    };
    Ok((key, value.map(directory::row).transpose()?))
}

/// A table that is being read to its end.
#[derive(Default)]
struct Fresh {
    map: Map,
    refused: u64,
}

impl Fresh {
    fn take(&mut self, of: Vec<(Bytes, Option<Bytes>)>, directory: &str) {
        let (rows, refused) = rows(of, directory);
        self.refused += refused;
        for (key, rooms) in rows {
            match rooms {
                Some(rooms) => self.map.insert(&key, &rooms),
                None => drop(self.map.remove(&key)),
            }
        }
    }
}

/// Hands on what is followed for as long as the loop lives.
pub(super) async fn keep(mut followed: Receiver<Followed>, teller: Teller) {
    let directory = &*teller.name;
    let mut fresh: Option<Fresh> = None;
    let mut said = None;
    loop {
        let what = tokio::select! {
            what = followed.recv() => what,
            () = teller.ended() => return,
        };
        let update = match what {
            None => {
                warn!(directory, "nobody follows the directory any more");
                return;
            }
            Some(Followed::Begun) => {
                fresh = Some(Fresh::default());
                continue;
            }
            Some(Followed::Rows(of)) => match &mut fresh {
                Some(fresh) => {
                    fresh.take(of, directory);
                    continue;
                }
                None => {
                    let (rows, refused) = rows(of, directory);
                    debug!(directory, rows = rows.len(), refused, "rows of the directory changed");
                    Update::Changed { rows, refused }
                }
            },
            Some(Followed::Current) => {
                let Some(Fresh { mut map, refused }) = fresh.take() else { continue };
                map.shrink();
                info!(directory, keys = map.len(), refused, "directory read to its end");
                said = None;
                Update::Loaded { map, refused }
            }
            Some(Followed::Waiting(why)) => {
                fresh = None;
                if said.as_ref() != Some(&why) {
                    warn!(directory, why, "the directory cannot be read now; it is tried again");
                    said = Some(why.clone());
                }
                Update::Failed(why)
            }
        };
        if teller.tell(update).await.is_err() {
            return;
        }
    }
}

/// Reads a table to its end: how many keys it has.
pub(super) async fn count(mut followed: Receiver<Followed>) -> Result<usize, String> {
    let mut fresh = Fresh::default();
    loop {
        match tokio::time::timeout(PATIENCE, followed.recv()).await {
            Ok(Some(Followed::Begun)) => fresh = Fresh::default(),
            Ok(Some(Followed::Rows(of))) => fresh.take(of, ""),
            Ok(Some(Followed::Current)) if fresh.refused > 0 => {
                return Err(format!(
                    "{} row(s) of {} cannot be read: a room id or a JSON list of room ids is wanted",
                    fresh.refused,
                    fresh.refused + fresh.map.len() as u64
                ));
            }
            Ok(Some(Followed::Current)) => return Ok(fresh.map.len()),
            Ok(Some(Followed::Waiting(why))) => return Err(why),
            Ok(None) => return Err("this broker has no tables that can be followed".to_owned()),
            Err(_) => return Err(format!("nothing came for {PATIENCE:?}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::mpsc;

    use super::*;
    use crate::core::route::directory::KeeperId;

    fn put(key: &'static str, value: &'static str) -> (Bytes, Option<Bytes>) {
        (
            Bytes::from_static(key.as_bytes()),
            (!value.is_empty()).then(|| Bytes::from_static(value.as_bytes())),
        )
    }

    #[tokio::test]
    async fn a_table_is_told_whole_at_its_end_and_row_by_row_after_it() {
        let (updates, mut told) = mpsc::channel(8);
        let (tell, followed) = mpsc::channel(8);
        let teller = Teller { id: KeeperId(1), name: Arc::from("rooms"), updates };
        let keeper = tokio::spawn(keep(followed, teller));
        let first = [
            Followed::Begun,
            Followed::Rows(vec![put("old", "1")]),
            Followed::Waiting("away".to_owned()),
            Followed::Begun,
            Followed::Rows(vec![put("a", "1"), put("b", "[1,2]"), put("c", "[1"), put("a", "")]),
            Followed::Current,
        ];
        for what in first {
            tell.send(what).await.unwrap();
        }
        assert!(matches!(told.recv().await, Some((_, Update::Failed(why))) if why == "away"));
        let Some((_, Update::Loaded { map, refused })) = told.recv().await else { panic!("it is loaded") };
        let rooms = map.get("b").map(Iterator::collect::<Vec<_>>);
        assert_eq!((map.len(), rooms, refused), (1, Some(vec!["1", "2"]), 1), "the last row of a key counts");
        tell.send(Followed::Rows(vec![put("b", ""), put("d", "4"), put("", "5")])).await.unwrap();
        let Some((_, Update::Changed { rows, refused })) = told.recv().await else { panic!("rows changed") };
        let wanted = [("b".to_owned(), None), ("d".to_owned(), Some(vec!["4".to_owned()]))];
        assert_eq!((rows, refused), (wanted.into(), 1));
        drop(told);
        keeper.await.unwrap();
    }
}
