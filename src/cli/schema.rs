//! `roomcast schema`: the JSON Schema of the config, for editors.
//!
//! A test makes the file from what the readers of the config ask for, so that it cannot tell of another
//! config than theirs.

use std::process::ExitCode;

use super::{Error, output};

/// The schema, in draft 4: the one that Taplo reads.
pub const SCHEMA: &str = include_str!("../../config/roomcast.schema.json");

/// Runs the command.
///
/// # Errors
/// When stdout cannot be written.
pub fn run() -> Result<ExitCode, Error> {
    output::print(SCHEMA)?;
    Ok(ExitCode::SUCCESS)
}
