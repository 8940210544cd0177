//! Directories: where the rooms of a key are kept, and who reads them.
//!
//! [`Directory::read`] reads a section of the config; [`keep`] starts a keeper for each, which tells the
//! loop what it has read and what changes. A file is looked at twice a second ([`file`]); a topic or
//! bucket is followed by its broker (`directory::table`). What cannot be read changes nothing: what was known
//! stays, and the log and the metrics say why. Started by `cli`.

mod file;
mod table;

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::mpsc;
use tracing::info;

pub use self::file::Opened;
use crate::broker::Followed;
use crate::core::model::{DirectoryId, SourceId};
use crate::core::route::directory::{DirectoryView, Unknown, Update};
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

    /// Reads its file, if it is one.
    ///
    /// # Errors
    /// Why the file cannot be read, or where it is broken.
    pub fn open(&self) -> Option<Result<Opened, String>> {
        match &self.kept {
            Kept::File(path) => Some(Opened::open(path)),
            Kept::Topic { .. } | Kept::Bucket { .. } => None,
        }
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
pub type Updates = mpsc::Receiver<(DirectoryId, Update)>;

/// The keepers of all directories.
#[derive(Clone, Debug)]
pub struct Keepers {
    files: Vec<(DirectoryId, Arc<str>, PathBuf)>,
    updates: mpsc::Sender<(DirectoryId, Update)>,
}

impl Keepers {
    /// Reads all files again, now, whether they look changed or not: all or nothing. What is read is
    /// told to the loop; gives back each directory's name and how many keys it has. Topics and buckets
    /// are followed anyway.
    ///
    /// # Errors
    /// A line for each file that cannot be read: then nothing has changed.
    pub async fn load_again(&self) -> Result<Vec<(Arc<str>, usize)>, Vec<String>> {
        let files = self.files.clone();
        let opened = tokio::task::spawn_blocking(move || {
            let open = |(id, name, path): (DirectoryId, Arc<str>, PathBuf)| match Opened::open(&path) {
                Ok(opened) => Ok((id, name, opened)),
                Err(why) => Err(format!("directory {name:?}: {}: {why}", path.display())),
            };
            files.into_iter().map(open).collect::<Vec<_>>()
        });
        let opened = opened.await.map_err(|_| vec!["roomcast failed while it read files".to_owned()])?;
        let (read, broken): (Vec<_>, Vec<_>) = opened.into_iter().partition(Result::is_ok);
        if !broken.is_empty() {
            return Err(broken.into_iter().filter_map(Result::err).collect());
        }
        let mut loaded = Vec::new();
        for (id, name, opened) in read.into_iter().flatten() {
            loaded.push((name, opened.map.len()));
            // A loop that has ended needs no directory.
            let _ = self.updates.send((id, Update::Loaded { map: opened.map, refused: 0 })).await;
        }
        Ok(loaded)
    }
}

/// Starts a keeper for each directory. `opened` are the files as they were read at the start, in the
/// same order; `follow` has a source's broker follow a table. Called within a tokio runtime; the keepers
/// end with the loop.
pub fn keep(
    directories: &[Directory],
    opened: Vec<Option<Opened>>,
    follow: impl Fn(SourceId, &str, mpsc::Sender<Followed>),
) -> (Keepers, Updates) {
    let (updates, told) = mpsc::channel(UPDATES);
    let mut files = Vec::new();
    for (directory, opened) in directories.iter().zip(opened) {
        let (id, name) = (directory.view.id, directory.view.name.clone());
        let teller = Teller { id, name: name.clone(), updates: updates.clone() };
        match (&directory.kept, directory.table()) {
            (Kept::File(path), _) => {
                files.push((id, name, path.clone()));
                tokio::spawn(file::keep(path.clone(), opened, teller));
            }
            (_, Some((source, table))) => {
                info!(directory = %name, kind = directory.kind(), table, "reading the directory");
                let (tell, followed) = mpsc::channel(BATCHES);
                follow(source, table, tell);
                tokio::spawn(table::keep(followed, teller));
            }
            (_, None) => unreachable!("what is no file is a table"),
        }
    }
    (Keepers { files, updates }, told)
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
    id: DirectoryId,
    name: Arc<str>,
    updates: mpsc::Sender<(DirectoryId, Update)>,
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

    fn in_file(id: u16, path: PathBuf) -> Directory {
        let name = Arc::from(format!("d{id}"));
        let view = DirectoryView { id: DirectoryId(id), name, unknown: Unknown::Drop };
        Directory { view, kept: Kept::File(path), place: Place::Nowhere }
    }

    #[tokio::test]
    async fn files_are_loaded_again_all_or_none() {
        let folder = tempfile::tempdir().unwrap();
        let paths = ["a.csv", "b.json"].map(|name| folder.path().join(name));
        std::fs::write(&paths[0], "a,1\n").unwrap();
        std::fs::write(&paths[1], "{\"b\": 1}").unwrap();
        let directories = [in_file(0, paths[0].clone()), in_file(1, paths[1].clone())];
        let opened = directories.iter().map(|directory| directory.open().transpose().unwrap()).collect();
        let (keepers, mut updates) = keep(&directories, opened, |_, _, _| unreachable!("both are files"));

        let loaded = keepers.load_again().await.unwrap();
        assert_eq!(loaded, [("d0".into(), 1), ("d1".into(), 1)]);
        for wanted in [DirectoryId(0), DirectoryId(1)] {
            let (id, update) = updates.recv().await.unwrap();
            assert!(id == wanted && matches!(update, Update::Loaded { map, refused: 0 } if map.len() == 1));
        }

        std::fs::write(&paths[1], "{\"b\": ").unwrap();
        let broken = keepers.load_again().await.unwrap_err();
        assert_eq!(broken.len(), 1);
        assert!(
            broken[0].starts_with("directory \"d1\": ") && broken[0].contains("b.json: EOF"),
            "{broken:?}"
        );
        // The keeper of the broken one may have seen it by itself, and tells that it stays as it was.
        while let Ok((id, update)) = updates.try_recv() {
            assert!(id == DirectoryId(1) && matches!(update, Update::Failed(_)), "{update:?}");
        }
    }
}
