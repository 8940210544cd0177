//! `roomcast test` as people use it: the real binary, case files in a folder, and what it says; and
//! the documents whose snippets are such files. `explain` and `curl` are about `roomcast explain`, which
//! shows one such record.

mod broken;
mod curl;
mod documents;
mod explain;
mod results;
mod update;

#[path = "../support/mod.rs"]
mod support;

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

/// Easemob and Yunxin, Kafka and NATS, and a route for each thing that cases speak of.
const CONFIG: &str = include_str!("../fixtures/cases/base.toml");

/// A folder with `roomcast.toml` and more files.
struct Folder(TempDir);

impl Folder {
    fn new(files: &[(&str, &str)]) -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        folder.write("roomcast.toml", CONFIG);
        for (name, text) in files {
            folder.write(name, text);
        }
        folder
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path().join(name), text).unwrap();
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path().join(name)).unwrap()
    }

    /// Runs `roomcast explain -c roomcast.toml` in the folder, with an event on stdin.
    fn explain(&self, arguments: &[&str], event: &str) -> Ended {
        let mut command =
            support::daemon::roomcast(&[&["explain", "-c", "roomcast.toml"], arguments].concat());
        fed(command.current_dir(self.path()), event)
    }

    /// Runs `roomcast` in the folder.
    fn roomcast(&self, arguments: &[&str]) -> Ended {
        let mut command = support::daemon::roomcast(arguments);
        Ended::of(&command.current_dir(self.path()).output().unwrap())
    }

    /// Runs `roomcast test -c roomcast.toml` in the folder.
    fn test(&self, arguments: &[&str]) -> Ended {
        self.roomcast(&[&["test", "-c", "roomcast.toml"], arguments].concat())
    }
}

/// Runs a command with a text on stdin.
fn fed(command: &mut Command, stdin: &str) -> Ended {
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn().unwrap();
    // A command that stops at its config does not read its stdin.
    let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
    Ended::of(&child.wait_with_output().unwrap())
}

/// How a command ended.
#[derive(Debug)]
struct Ended {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Ended {
    fn of(output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let code = output.status.code().expect("it ended by itself");
        Self { code, stdout: text(&output.stdout), stderr: text(&output.stderr) }
    }

    #[track_caller]
    fn is(&self, code: i32, last: &str) {
        assert_eq!(self.code, code, "{self:#?}");
        assert_eq!(self.stdout.lines().last().unwrap_or_default(), last, "{self:#?}");
    }
}
