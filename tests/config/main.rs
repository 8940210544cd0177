//! The config as people meet it: layers, variables, and what is said of every mistake.
//!
//! Each `tests/fixtures/config/NAME.toml` is a broken config, `NAME.txt` what is said of it. Lines
//! `#: NAME=value` at a fixture's head are environment variables; `#+ NAME` is a file given before
//! it. `UPDATE_GOLDEN=1 cargo test --test config` writes the texts anew: read the difference.

mod binary;
mod commands;
mod fakes;
mod layers;
mod ready;
mod schema;
mod shells;

use std::path::{Path, PathBuf};

use roomcast::config::{self, Loaded, render};
use roomcast::{app, cli};

const FIXTURES: &str = "tests/fixtures/config";

/// The variables and files that a fixture's head asks for.
fn setting(path: &Path) -> (Vec<PathBuf>, Vec<(String, String)>) {
    let text = String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned();
    let mut files = Vec::new();
    let mut variables = Vec::new();
    for line in text.lines() {
        if let Some(file) = line.strip_prefix("#+ ") {
            files.push(Path::new(FIXTURES).join(file));
        } else if let Some((name, value)) = line.strip_prefix("#: ").and_then(|pair| pair.split_once('=')) {
            variables.push((name.to_owned(), value.to_owned()));
        }
    }
    files.push(path.to_owned());
    (files, variables)
}

/// Opens one secret file and no other.
fn open_secret(file: &str) -> Result<String, String> {
    match file {
        "/run/secrets/there" => Ok("s3cret-from-file\n".to_owned()),
        _ => Err("No such file or directory (os error 2)".to_owned()),
    }
}

/// What is said of a config; an empty text when nothing is wrong.
fn told(files: &[PathBuf], variables: &[(String, String)]) -> String {
    let (problems, texts) = match config::load(files, variables.iter().cloned()) {
        Err(broken) => (cli::all_problems(&broken), broken.texts),
        Ok(loaded) => match app::build(&loaded, &open_secret) {
            Err(problems) => (problems, loaded.texts),
            Ok(app) => (app.warnings, loaded.texts),
        },
    };
    render::problems(&problems, &texts, render::Look::Plain)
}

/// A config from a text, with nothing around it.
fn loaded(text: &str) -> Loaded {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    config::load(&[file.path().to_owned()], std::iter::empty()).unwrap()
}

#[test]
fn every_broken_config_is_told_as_its_golden_text() {
    let mut fixtures: Vec<PathBuf> = std::fs::read_dir(FIXTURES)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "toml"))
        .filter(|path| !path.file_name().unwrap().to_string_lossy().starts_with("base"))
        .collect();
    fixtures.sort();
    assert!(fixtures.len() >= 150, "only {} fixtures", fixtures.len());
    let mut different = Vec::new();
    for path in fixtures {
        let (files, variables) = setting(&path);
        let told = told(&files, &variables);
        assert!(told.contains("found"), "{} is told nothing: {told:?}", path.display());
        for secret in ["s3cret", "hunter2", "424242"] {
            assert!(!told.contains(secret), "{} shows a secret: {told}", path.display());
        }
        let golden = path.with_extension("txt");
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&golden, &told).unwrap();
        }
        let wanted = std::fs::read_to_string(&golden).unwrap_or_default();
        if told != wanted {
            different.push(format!("{}\n--- wanted\n{wanted}--- told\n{told}", path.display()));
        }
    }
    assert!(different.is_empty(), "{}", different.join("\n"));
}
