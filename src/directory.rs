//! Directories: where the rooms of a key are kept, and who reads them.
//!
//! [`Directory::read`] reads a section of the config; [`Keepers`] has a keeper for each, which tells the
//! loop what it has read and what changes, until another config has no such directory. A file is looked at twice a second ([`file`]); a topic or
//! bucket is followed by its broker (`directory::table`). What cannot be read changes nothing: what was known
//! stays, and the log and the metrics say why. Started by `cli`.

mod file;
mod table;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tracing::info;

pub use self::file::Opened;
use crate::broker::Followed;
use crate::core::model::{DirectoryId, SourceId};
use crate::core::route::directory::{DirectoryView, KeeperId, Unknown, Update};
use crate::core::section::{Place, Section};

/// Updates that wait for the loop. More would only be rows that are older.
const UPDATES: usize = 8;
/// Batches of rows that wait for a keeper.
const BATCHES: usize = 4;

/// A directory as the config describes it.
#[derive(Clone, Debug)]
pub struct Directory {
    /// What routes know of it.
    pub view: DirectoryView,
    /// Where it is kept.
    pub kept: Kept,
    /// Where the config says so.
    pub place: Place,
}

/// Where a directory is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kept {
    /// In a file, CSV or JSON.
    File(PathBuf),
    /// In a compacted topic.
    Topic {
        /// The source whose brokers have it.
        source: SourceId,
        /// Its name.
        topic: String,
    },
    /// In a KV bucket.
    Bucket {
        /// The source whose servers have it.
        source: SourceId,
        /// Its name.
        bucket: String,
    },
}

/// A source that a directory may name.
#[derive(Clone, Copy, Debug)]
pub struct Written<'s> {
    /// Its id.
    pub id: SourceId,
    /// Its name.
    pub name: &'s str,
    /// Its `kind`, if that is a word.
    pub kind: Option<&'s str>,
}

/// The words of `kind`.
const KINDS: [(&str, &str); 3] = [("file", "file"), ("kafka", "kafka"), ("nats_kv", "nats_kv")];

impl Directory {
    /// Reads a section, which is not finished here; `None` when it cannot be used (its problems are
    /// told).
    pub fn read(section: &Section<'_>, id: DirectoryId, sources: &[Written<'_>]) -> Option<Self> {
        if section.node("kind").is_none() {
            section.wrong("kind", "nothing", "one of \"file\", \"kafka\", \"nats_kv\"");
        }
        let kind = section.word("kind", "", &KINDS);
        let unknown = Unknown::read(section);
        let kept = match kind {
            "file" => section.required_text("path").map(|path| Kept::File(path.into())),
            "kafka" => {
                let topic = section.required_text("topic");
                source(section, sources, kind, "kafka")
                    .zip(topic)
                    .map(|(source, topic)| Kept::Topic { source, topic })
            }
            "nats_kv" => {
                let bucket = section.required_text("bucket");
                source(section, sources, kind, "nats")
                    .zip(bucket)
                    .map(|(source, bucket)| Kept::Bucket { source, bucket })
            }
            // A word that is none has been told of; nobody knows which keys are right beside it.
            _ => {
                for key in section.keys() {
                    section.node(key);
                }
                None
            }
        };
        let path = (kind == "file").then(|| section.node("path")).flatten();
        let place = path.map_or(section.place(), |node| &node.place).clone();
        let view = DirectoryView { id, name: section.name().into(), unknown };
        Some(Self { view, kept: kept?, place })
    }

    /// The word of `kind`.
    pub fn kind(&self) -> &'static str {
        match self.kept {
            Kept::File(_) => "file",
            Kept::Topic { .. } => "kafka",
            Kept::Bucket { .. } => "nats_kv",
        }
    }

    /// The source that has it, and its name there; `None` for a file.
    pub fn table(&self) -> Option<(SourceId, &str)> {
        match &self.kept {
            Kept::File(_) => None,
            Kept::Topic { source, topic: table } | Kept::Bucket { source, bucket: table } => {
                Some((*source, table))
            }
        }
    }

    /// Its file, if it is one.
    pub fn file(&self) -> Option<&Path> {
        match &self.kept {
            Kept::File(path) => Some(path),
            Kept::Topic { .. } | Kept::Bucket { .. } => None,
        }
    }

    /// Reads its file, if it is one.
    ///
    /// # Errors
    /// The file, and why it cannot be read or where it is broken.
    pub fn open(&self) -> Option<Result<Opened, String>> {
        self.file().map(|path| Opened::open(path).map_err(|why| format!("{}: {why}", written(path))))
    }
}

/// A path for people. A relative one counts from the folder that the process runs in, which may be none that
/// anybody thought of.
fn written(path: &Path) -> String {
    match std::env::current_dir() {
        Ok(folder) if path.is_relative() => format!("{path:?} in {}", folder.display()),
        _ => format!("{path:?}"),
    }
}

/// The source that a section names, of the broker that its kind needs.
fn source(section: &Section<'_>, sources: &[Written<'_>], kind: &str, broker: &str) -> Option<SourceId> {
    let name = section.required_text("source")?;
    let fitting = || sources.iter().filter(|source| source.kind == Some(broker)).map(|source| source.name);
    let wanted = || match crate::core::section::nearest(&name, fitting()) {
        Some(near) => format!("did you mean {near:?}?"),
        None => match fitting().map(|name| format!("{name:?}")).collect::<Vec<_>>() {
            names if names.is_empty() => format!("a source of kind {broker:?}, and there is none"),
            names => format!("a source of kind {broker:?}: {}", names.join(", ")),
        },
    };
    match sources.iter().find(|source| source.name == name) {
        None => section.wrong("source", format!("{name:?}, which is no source"), wanted()),
        // A source whose kind is no word has told so itself.
        Some(Written { kind: None, .. }) => {}
        Some(found) if found.kind == Some(broker) => return Some(found.id),
        Some(found) => {
            let found = format!("{name:?}, a source of kind {:?}", found.kind.unwrap_or_default());
            section.wrong("source", format!("{found} beside kind = {kind:?}"), wanted());
        }
    }
    None
}

/// What keepers tell, to the loop.
pub type Updates = mpsc::Receiver<(KeeperId, Update)>;

/// The keepers of all directories. They end with the loop, or when their directory does.
#[derive(Debug)]
pub struct Keepers {
    /// By `DirectoryId`.
    at_work: Vec<Keeper>,
    updates: mpsc::Sender<(KeeperId, Update)>,
    /// How many ids were given out.
    ids: u64,
}

#[derive(Debug)]
struct Keeper {
    id: KeeperId,
    name: Arc<str>,
    kept: Kept,
    task: AbortHandle,
}

impl Keepers {
    /// None at work, and the other end of what they will tell.
    pub fn new() -> (Self, Updates) {
        let (updates, told) = mpsc::channel(UPDATES);
        (Self { at_work: Vec::new(), updates, ids: 0 }, told)
    }

    /// Who would keep these directories: for each the keeper that it has, as long as its name and its place
    /// are the same, else a new one. Nothing is started or ended.
    pub fn ids(&mut self, directories: &[Directory]) -> Vec<KeeperId> {
        let mut ids = Vec::with_capacity(directories.len());
        for Directory { view, kept, .. } in directories {
            let same = |keeper: &&Keeper| keeper.name == view.name && keeper.kept == *kept;
            ids.push(match self.at_work.iter().find(same) {
                Some(keeper) => keeper.id,
                None => {
                    self.ids += 1;
                    KeeperId(self.ids)
                }
            });
        }
        ids
    }

    /// Keeps these directories from now on, and no others: `ids` are those that [`Keepers::ids`] gave for
    /// them, `opened` their files as they were read, in the same order; `follow` has a source's broker
    /// follow a table. Called within a tokio runtime.
    pub fn keep(
        &mut self,
        directories: &[Directory],
        ids: &[KeeperId],
        opened: Vec<Option<Opened>>,
        follow: impl Fn(SourceId, &str, mpsc::Sender<Followed>),
    ) {
        let mut before = std::mem::take(&mut self.at_work);
        for ((directory, id), opened) in directories.iter().zip(ids).zip(opened) {
            let keeper = match before.iter().position(|keeper| keeper.id == *id) {
                Some(at) => before.swap_remove(at),
                None => self.start(directory, *id, opened, &follow),
            };
            self.at_work.push(keeper);
        }
        for gone in before {
            // A broker that follows for it ends when nobody listens any more.
            gone.task.abort();
        }
    }

    fn start(
        &self,
        directory: &Directory,
        id: KeeperId,
        opened: Option<Opened>,
        follow: impl Fn(SourceId, &str, mpsc::Sender<Followed>),
    ) -> Keeper {
        let name = directory.view.name.clone();
        let teller = Teller { id, name: name.clone(), updates: self.updates.clone() };
        let task = match (&directory.kept, directory.table()) {
            (Kept::File(path), _) => tokio::spawn(file::keep(path.clone(), opened, teller)),
            (_, Some((source, table))) => {
                info!(directory = %name, kind = directory.kind(), table, "reading the directory");
                let (tell, followed) = mpsc::channel(BATCHES);
                follow(source, table, tell);
                tokio::spawn(table::keep(followed, teller))
            }
            (_, None) => unreachable!("what is no file is a table"),
        };
        Keeper { id, name, kept: directory.kept.clone(), task: task.abort_handle() }
    }
}

/// Reads a table to its end: how many keys it has, or why it cannot be read. For `check --live`.
///
/// # Errors
/// Why it cannot be read.
pub async fn count(followed: mpsc::Receiver<Followed>) -> Result<usize, String> {
    table::count(followed).await
}

/// How one keeper tells the loop.
struct Teller {
    id: KeeperId,
    name: Arc<str>,
    updates: mpsc::Sender<(KeeperId, Update)>,
}

impl Teller {
    /// Tells an update; waits for a place. `Err` when the loop has ended.
    async fn tell(&self, update: Update) -> Result<(), ()> {
        self.updates.send((self.id, update)).await.map_err(drop)
    }

    /// Ends with the loop.
    async fn ended(&self) {
        self.updates.closed().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_file(id: u16, name: &str, path: &Path) -> Directory {
        let view = DirectoryView { id: DirectoryId(id), name: name.into(), unknown: Unknown::Drop };
        Directory { view, kept: Kept::File(path.to_owned()), place: Place::Nowhere }
    }

    fn opened(directories: &[Directory]) -> Vec<Option<Opened>> {
        directories.iter().map(|directory| directory.open().transpose().unwrap()).collect()
    }

    #[tokio::test]
    async fn a_keeper_stays_as_long_as_name_and_place_do() {
        let folder = tempfile::tempdir().unwrap();
        let paths = ["a.csv", "b.json", "c.csv"].map(|name| folder.path().join(name));
        std::fs::write(&paths[0], "a,1\n").unwrap();
        std::fs::write(&paths[1], "{\"b\": 1}").unwrap();
        std::fs::write(&paths[2], "c,1\nd,1\n").unwrap();
        let (mut keepers, mut updates) = Keepers::new();
        let follow = |_: SourceId, _: &str, _: mpsc::Sender<Followed>| unreachable!("all are files");

        let two = [in_file(0, "a", &paths[0]), in_file(1, "b", &paths[1])];
        let ids = keepers.ids(&two);
        keepers.keep(&two, &ids, opened(&two), follow);
        assert_eq!(keepers.ids(&two), ids, "nothing has changed");

        // One goes, one comes before the other, and another moves.
        let moved = [in_file(0, "a", &paths[2]), in_file(1, "aa", &paths[0]), in_file(2, "b", &paths[1])];
        let next = keepers.ids(&moved);
        assert_eq!(next[2], ids[1], "its id in the config is another one");
        assert!(!ids.contains(&next[0]) && !ids.contains(&next[1]), "{ids:?} {next:?}");
        assert_eq!(keepers.ids(&two), ids, "it was only asked");
        let before: Vec<AbortHandle> = keepers.at_work.iter().map(|keeper| keeper.task.clone()).collect();
        keepers.keep(&moved, &next, opened(&moved), follow);
        while !before[0].is_finished() {
            tokio::task::yield_now().await;
        }
        assert!(!before[1].is_finished());

        std::fs::write(&paths[1], "{\"b\": 1, \"c\": 2}").unwrap();
        let (id, update) = updates.recv().await.unwrap();
        assert!(id == next[2] && matches!(update, Update::Loaded { map, refused: 0 } if map.len() == 2));
    }
}
