//! What modules ask of the config: by it the JSON Schema is held against the readers themselves.

use serde_json::Value as Json;

/// What a reader takes under a key.
#[derive(Clone, Debug, PartialEq)]
pub enum Want {
    /// The reader looks at what was written by itself.
    Own,
    /// A string.
    Text,
    /// A string or a list of strings.
    Texts,
    /// A whole number, from the first to the last.
    Integer(i64, i64),
    /// A number, from the first to the last.
    Number(f64, f64),
    /// `true` or `false`.
    Boolean,
    /// A span of time.
    Time,
    /// A number of bytes.
    Size,
    /// One of these words.
    Word(Vec<String>),
    /// A table.
    Table,
    /// A list of tables.
    Tables,
}

/// A key that a reader asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    /// The section's path: `accounts.live.quota`, empty for the top.
    pub section: String,
    /// The key.
    pub key: String,
    /// What it takes.
    pub want: Want,
    /// What stands for it when it is absent, where the reader says so.
    pub default: Option<Json>,
}

/// All that was asked, in the order of the asking.
#[derive(Debug, Default)]
pub(super) struct Log(Vec<Asked>);

impl Log {
    /// Notes a key. Who looks at a node first and reads it afterwards has asked once.
    pub(super) fn note(&mut self, section: &str, key: &str, want: Want, default: Option<Json>) {
        let known = self.0.iter_mut().find(|asked| asked.section == section && asked.key == key);
        match known {
            None => self.0.push(Asked { section: section.to_owned(), key: key.to_owned(), want, default }),
            Some(known) => {
                if known.want == Want::Own {
                    known.want = want;
                }
                known.default = known.default.take().or(default);
            }
        }
    }

    pub(super) fn into_asked(self) -> Vec<Asked> {
        self.0
    }
}
