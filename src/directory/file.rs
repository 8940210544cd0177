//! A directory in a file: looked at twice a second and read anew when it has changed.
//!
//! Looking costs one question to the file system, follows symbolic links (Kubernetes swaps one when a
//! config map changes) and needs no watch that a network file system may not have. A file is read once
//! it has stood still between two looks, so that one that is being written is not read by halves.

use std::hash::{DefaultHasher, Hasher};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tracing::{debug, info, warn};

use super::Teller;
use crate::core::route::directory::{self, Map, Update};

/// How often a file is looked at.
const LOOK: Duration = Duration::from_millis(500);
/// So many looks at a file that changes all the time, and it is read all the same.
const RESTLESS: u32 = 10;

/// A file that was read, and how it looked.
#[derive(Debug)]
pub struct Opened {
    /// What it holds.
    pub map: Map,
    look: Look,
    hash: u64,
}

/// What tells that a file has changed, without reading it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Look {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Look {
    fn at(path: &Path) -> Result<Self, String> {
        let found = std::fs::metadata(path).map_err(|error| error.to_string())?;
        Ok(Self {
            device: found.dev(),
            inode: found.ino(),
            size: found.size(),
            modified: (found.mtime(), found.mtime_nsec()),
            changed: (found.ctime(), found.ctime_nsec()),
        })
    }
}

impl Opened {
    /// Reads a file.
    ///
    /// # Errors
    /// Why it cannot be read, or where it is broken.
    pub fn open(path: &Path) -> Result<Self, String> {
        let look = Look::at(path)?;
        let (hash, map) = read(path)?;
        Ok(Self { map: map?, look, hash })
    }
}

/// A hash of the contents, and what they say.
fn read(path: &Path) -> Result<(u64, Result<Map, String>), String> {
    let contents = std::fs::read(path).map_err(|error| error.to_string())?;
    let mut hasher = DefaultHasher::new();
    hasher.write(&contents);
    Ok((hasher.finish(), directory::file(&path.to_string_lossy(), &contents)))
}

/// A file as its keeper knows it.
struct Watch {
    path: PathBuf,
    /// How it looked when it was last read, or why it could not be looked at.
    seen: Option<Result<Look, String>>,
    hash: Option<u64>,
    /// How it looked last time, where that is news, and how many looks ago that began.
    pending: Option<(Result<Look, String>, u32)>,
}

impl Watch {
    /// Looks at the file: what it holds, or why it cannot be read, where that is news. It blocks.
    fn look(&mut self) -> Option<Result<Map, String>> {
        let look = Look::at(&self.path);
        if self.seen.as_ref() == Some(&look) {
            self.pending = None;
            return None;
        }
        let (before, looks) = self.pending.take().unzip();
        let looks = looks.unwrap_or(0) + 1;
        if before.as_ref() != Some(&look) && looks < RESTLESS {
            self.pending = Some((look, looks));
            return None;
        }
        let read = look.clone().and_then(|_| read(&self.path));
        let after = Look::at(&self.path);
        if after != look && looks < RESTLESS {
            self.pending = Some((after, looks));
            return None;
        }
        self.seen = Some(look);
        match read {
            Ok((hash, _)) if self.hash == Some(hash) => None,
            Ok((hash, map)) => {
                self.hash = Some(hash);
                Some(map)
            }
            Err(why) => {
                self.hash = None;
                Some(Err(why))
            }
        }
    }
}

/// Looks at a file for as long as the loop lives.
pub(super) async fn keep(path: PathBuf, opened: Option<Opened>, teller: Teller) {
    let (seen, hash) = opened.map(|opened| (Ok(opened.look), opened.hash)).unzip();
    let mut watch = Watch { path, seen, hash, pending: None };
    loop {
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            () = teller.ended() => return,
        }
        let looked = tokio::task::spawn_blocking(move || {
            let news = watch.look();
            (watch, news)
        });
        let Ok((again, news)) = looked.await else {
            warn!(directory = %teller.name, "roomcast failed while it read the file; it is watched no longer");
            return;
        };
        watch = again;
        let told = match news {
            None => continue,
            Some(Ok(map)) => {
                info!(directory = %teller.name, file = %watch.path.display(), keys = map.len(), "directory read anew");
                teller.tell(Update::Loaded { map, refused: 0 }).await
            }
            Some(Err(why)) => {
                warn!(directory = %teller.name, file = %watch.path.display(), why, "the directory cannot be read anew: what was known stays");
                teller.tell(Update::Failed(why)).await
            }
        };
        if told.is_err() {
            debug!(directory = %teller.name, "the loop has ended");
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watch(path: &Path) -> Watch {
        let opened = Opened::open(path).unwrap();
        Watch { path: path.to_owned(), seen: Some(Ok(opened.look)), hash: Some(opened.hash), pending: None }
    }

    fn keys(news: Option<Result<Map, String>>) -> Option<Result<usize, String>> {
        news.map(|read| read.map(|map| map.len()))
    }

    #[test]
    fn a_file_is_read_when_it_has_changed_and_stood_still() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rooms.csv");
        std::fs::write(&path, "a,1\n").unwrap();
        let mut watch = watch(&path);
        assert_eq!(keys(watch.look()), None, "it is as it was");
        std::fs::write(&path, "a,1\nb,2\n").unwrap();
        assert_eq!(keys(watch.look()), None, "it may be half written");
        assert_eq!(keys(watch.look()), Some(Ok(2)));
        assert_eq!(keys(watch.look()), None);
        // The same contents under a new name, as an editor writes them.
        let other = folder.path().join("new");
        std::fs::write(&other, "a,1\nb,2\n").unwrap();
        std::fs::rename(&other, &path).unwrap();
        assert_eq!((keys(watch.look()), keys(watch.look()), keys(watch.look())), (None, None, None));
    }

    #[test]
    fn what_is_broken_or_gone_is_told_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rooms.csv");
        std::fs::write(&path, "a,1\n").unwrap();
        let mut watch = watch(&path);
        std::fs::write(&path, "a\n").unwrap();
        assert_eq!(keys(watch.look()), None);
        assert!(keys(watch.look()).unwrap().unwrap_err().starts_with("line 1: "));
        assert_eq!(keys(watch.look()), None);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(keys(watch.look()), None);
        assert!(keys(watch.look()).unwrap().unwrap_err().contains("No such file"));
        assert_eq!(keys(watch.look()), None);
        std::fs::write(&path, "a,1\n").unwrap();
        assert_eq!(keys(watch.look()), None);
        assert_eq!(keys(watch.look()), Some(Ok(1)), "it is back");
    }

    #[test]
    fn a_file_that_never_stands_still_is_read_in_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rooms.csv");
        std::fs::write(&path, "a,1\n").unwrap();
        let mut watch = watch(&path);
        let mut text = String::new();
        let read = (1..=20).find_map(|look| {
            text.push_str("a,1\n");
            std::fs::write(&path, &text).unwrap();
            watch.look().map(|map| (look, map.unwrap().len()))
        });
        assert_eq!(read, Some((RESTLESS, 1)));
    }

    #[test]
    fn a_link_is_followed() {
        let folder = tempfile::tempdir().unwrap();
        let (old, new, link) =
            (folder.path().join("old"), folder.path().join("new"), folder.path().join("rooms.csv"));
        std::fs::write(&old, "a,1\n").unwrap();
        std::fs::write(&new, "a,1\nb,2\nc,3\n").unwrap();
        std::os::unix::fs::symlink(&old, &link).unwrap();
        let mut watch = watch(&link);
        let swap = folder.path().join("swap");
        std::os::unix::fs::symlink(&new, &swap).unwrap();
        std::fs::rename(&swap, &link).unwrap();
        assert_eq!((keys(watch.look()), keys(watch.look())), (None, Some(Ok(3))));
    }
}
