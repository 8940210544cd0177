//! The row that replicas share an account's quotas by: who takes part, and what each was given. JSON,
//! so that people can read it with the tools of the store.

use serde::{Deserialize, Serialize};

use super::QUOTAS;

/// The form of the row. Another one is nobody's to change.
const VERSION: u32 = 1;

/// What stands in the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Row {
    version: u32,
    /// Counts up while slots that do not suffice for everybody go round.
    pub(super) turn: u64,
    /// In the order in which they joined.
    pub(super) members: Vec<Member>,
}

/// One replica.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Member {
    /// Which process.
    pub(super) id: String,
    /// Counts up with every write of its own: a member whose beat stands still is gone.
    pub(super) beat: u64,
    /// The quotas as its config has them; 0 where it has none.
    pub(super) quotas: [u32; QUOTAS],
    /// What it may use of their leased parts.
    pub(super) slots: [u32; QUOTAS],
    /// By path: for how many milliseconds more its gate was closed by a ban when it wrote this.
    pub(super) bans: [u64; 3],
}

impl Default for Row {
    fn default() -> Self {
        Self { version: VERSION, turn: 0, members: Vec::new() }
    }
}

impl Row {
    /// Reads it; `Err` says what it is instead.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, String> {
        let row: Self = serde_json::from_slice(bytes)
            .map_err(|error| format!("the row is not one of roomcast's: {error}"))?;
        match row.version {
            VERSION => Ok(row),
            other => Err(format!("the row was written by a version of roomcast that has form {other} of it")),
        }
    }

    pub(super) fn write(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("numbers and texts are JSON")
    }
}
