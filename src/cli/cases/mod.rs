//! `roomcast test`: events in, messages expected.
//!
//! `read` makes cases of case files, `judge` sends each one's record through the routes and compares,
//! `update` writes into the files what was made. Nothing is sent and no secret is opened.

mod judge;
mod read;
mod update;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::{Value as Json, json};

use self::judge::Made;
use self::read::{Case, CaseFile};
use super::check::{self, Format};
use super::{Cli, Error, output};
use crate::app::{self, App};
use crate::config::{Loaded, render};

/// What `test` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  roomcast test -c roomcast.toml                         all *.test.toml beside roomcast.toml
  roomcast test -c roomcast.toml gifts.test.toml --only 'to the hall'
  roomcast test -c roomcast.toml --update                writes what is made into failing cases

A case is an event and what must become of it:

  [[case]]
  name = \"a gift is shown in its room\"
  source = \"live\"              # may be left out when there is one; so may topic (or subject)
  key = \"42\"
  event = '{\"type\":\"gift.sent\",\"data\":{\"user\":\"ann\",\"gift\":\"rose\"}}'
  expect = [ { account = \"live\", rooms = [\"42\"], body = { type = \"custom\" } } ]

or expect_letter = \"mapping\", or expect_drop = \"unmatched\". docs/tests.md has all keys.

Exit codes: 0 all passed, 1 some failed or there was no case at all, 2 wrong usage (also --only that fits
no case), 78 the config or a case file is wrong.")]
pub struct Args {
    /// Case files; without any, those beside the config: *.test.toml, but for those that bear the name of
    /// another config there (other.test.toml beside other.toml).
    #[arg(value_name = "CASES")]
    pub cases: Vec<PathBuf>,
    /// Only cases with this text in their name. May be given several times.
    #[arg(long, value_name = "TEXT")]
    pub only: Vec<String>,
    /// Write what is made into the cases that fail, in place of what they expect. Comments stay.
    #[arg(long)]
    pub update: bool,
    /// How the result is printed.
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub format: Format,
}

/// One case, judged.
struct Judged<'a> {
    file: &'a str,
    case: &'a Case,
    made: Made,
    fate: Fate,
}

/// What came of a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Passed,
    Failed,
    Updated,
}

/// Runs the command.
///
/// # Errors
/// A config or case file that is wrong, no case to run, or a case file that cannot be written.
pub fn run(cli: &Cli, args: &Args) -> Result<ExitCode, Error> {
    let loaded = super::load(cli)?;
    let app = app::build(&loaded, &app::leave_secret_closed).map_err(|problems| {
        let told = render::problems(&problems, &loaded.texts, super::look());
        refused(args, told, &check::problems_json(&problems, &loaded.texts))
    })?;
    let paths = if args.cases.is_empty() { beside(&cli.config)? } else { args.cases.clone() };
    let files = read_all(&paths, &app, &loaded, args)?;
    let all = || files.iter().flat_map(|file| file.cases.iter().map(move |case| (file, case)));
    let count = all().count();
    if count == 0 {
        return Err(no_case(&paths));
    }
    let wanted = |case: &Case| args.only.is_empty() || args.only.iter().any(|text| case.name.contains(text));
    for text in &args.only {
        if !all().any(|(_, case)| case.name.contains(text)) {
            let names: Vec<&str> = all().map(|(_, case)| &*case.name).collect();
            let names = names.join("\n  ");
            return Err(Error::Usage(format!(
                "--only {text:?}: none of the {count} cases is named so:\n  {names}"
            )));
        }
    }
    let mut judged: Vec<Judged<'_>> = all()
        .filter(|(_, case)| wanted(case))
        .map(|(file, case)| {
            let made = judge::make(&app, case);
            let fate = if case.expected.fits(&made) { Fate::Passed } else { Fate::Failed };
            Judged { file: &file.name, case, made, fate }
        })
        .collect();
    if args.update {
        update_all(&mut judged, &app, &loaded)?;
    }
    let colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    output::print(&match args.format {
        Format::Text => text(&judged, colour),
        Format::Json => format!("{:#}\n", report(&judged)),
    })?;
    match judged.iter().any(|one| one.fate == Fate::Failed) {
        true => Ok(ExitCode::FAILURE),
        false => Ok(ExitCode::SUCCESS),
    }
}

/// The case files beside the config's files. One that bears the name of another config belongs to that.
///
/// # Errors
/// A folder that cannot be listed.
fn beside(configs: &[PathBuf]) -> Result<Vec<PathBuf>, Error> {
    let mut found = BTreeSet::new();
    for config in configs {
        let folder = match config.parent() {
            Some(folder) if folder != Path::new("") => folder,
            _ => Path::new("."),
        };
        let listed =
            |error| anyhow::Error::new(error).context(format!("{} cannot be listed", folder.display()));
        let mut names = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(listed)? {
            names.extend(entry.map_err(listed)?.file_name().into_string());
        }
        let is_given = |name: &str| {
            let here = configs.iter().filter(|other| other.parent() == config.parent());
            here.filter_map(|other| other.file_name()).any(|given| given == name)
        };
        let others: Vec<&str> = names
            .iter()
            .filter(|name| !name.ends_with(".test.toml") && !is_given(name))
            .filter_map(|name| name.strip_suffix(".toml"))
            .collect();
        let own = names.iter().filter(|name| {
            let of = |other: &&&str| name.strip_prefix(**other).is_some_and(|rest| rest.starts_with('.'));
            name.ends_with(".test.toml") && !others.iter().any(|other| of(&other))
        });
        let place = |name: &String| if folder == Path::new(".") { name.into() } else { folder.join(name) };
        found.extend(own.map(place));
    }
    Ok(found.into_iter().collect())
}

fn no_case(paths: &[PathBuf]) -> Error {
    let wanted = "a case begins [[case]]; roomcast test --help shows one";
    Error::Failed(match paths {
        [] => anyhow::anyhow!("no case: there is no *.test.toml beside the config; {wanted}"),
        paths => {
            let names: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
            anyhow::anyhow!("no case in {}; {wanted}", names.join(", "))
        }
    })
}

/// Reads all case files; what is wrong with any of them is told together.
fn read_all(paths: &[PathBuf], app: &App, loaded: &Loaded, args: &Args) -> Result<Vec<CaseFile>, Error> {
    let mut files = Vec::new();
    let mut told = String::new();
    let mut problems = Vec::new();
    for path in paths {
        match read::file(path, app, loaded, args.update) {
            Ok(file) => files.push(file),
            Err(broken) => {
                told += &render::problems(&broken.problems, &broken.texts, super::look());
                match check::problems_json(&broken.problems, &broken.texts) {
                    Json::Array(found) => problems.extend(found),
                    other => problems.push(other),
                }
            }
        }
    }
    if told.is_empty() {
        return Ok(files);
    }
    Err(refused(args, told, &Json::from(problems)))
}

/// What is wrong with the config or with case files, for people and, where asked for, for machines.
fn refused(args: &Args, told: String, problems: &Json) -> Error {
    if args.format == Format::Json {
        let report = format!("{:#}\n", json!({ "ok": false, "problems": problems }));
        if let Err(error) = output::print(&report) {
            return Error::Failed(error);
        }
    }
    Error::Config(told)
}

/// Writes what was made into the files of the cases that failed. Each file is read and judged anew: what
/// does not pass then has failed.
fn update_all(judged: &mut [Judged<'_>], app: &App, loaded: &Loaded) -> Result<(), Error> {
    for group in judged.chunk_by_mut(|a, b| a.file == b.file) {
        let failed: Vec<(&Case, &Made)> =
            group.iter().filter(|one| one.fate == Fate::Failed).map(|one| (one.case, &one.made)).collect();
        if failed.is_empty() {
            continue;
        }
        let path = Path::new(group[0].file);
        let context = |what: &str| format!("{} cannot be {what}", path.display());
        let text =
            std::fs::read_to_string(path).map_err(|e| anyhow::Error::new(e).context(context("read")))?;
        let text =
            update::rewrite(&text, &failed).map_err(|e| anyhow::Error::new(e).context(context("updated")))?;
        std::fs::write(path, text).map_err(|e| anyhow::Error::new(e).context(context("written")))?;
        let again = read::file(path, app, loaded, true).map_err(|broken| {
            Error::Config(render::problems(&broken.problems, &broken.texts, super::look()))
        })?;
        for one in group.iter_mut().filter(|one| one.fate == Fate::Failed) {
            let now = again.cases.get(one.case.index);
            if now.is_some_and(|case| case.expected.fits(&one.made)) {
                one.fate = Fate::Updated;
            }
        }
    }
    Ok(())
}

impl Judged<'_> {
    fn diff(&self) -> Option<String> {
        let (expected, made) = self.case.expected.beside(&self.made);
        (self.fate != Fate::Passed).then(|| judge::diff(&expected, &made))
    }

    fn json(&self) -> Json {
        let (expected, made) = self.case.expected.beside(&self.made);
        json!({
            "file": self.file,
            "line": self.case.line,
            "name": self.case.name,
            "result": match self.fate {
                Fate::Passed => "passed",
                Fate::Failed => "failed",
                Fate::Updated => "updated",
            },
            "route": self.made.route,
            "expected": expected,
            "made": made,
            "diff": self.diff(),
            "notes": self.made.notes,
        })
    }
}

fn counted(judged: &[Judged<'_>], fate: Fate) -> usize {
    judged.iter().filter(|one| one.fate == fate).count()
}

fn report(judged: &[Judged<'_>]) -> Json {
    json!({
        "ok": counted(judged, Fate::Failed) == 0,
        "passed": counted(judged, Fate::Passed),
        "failed": counted(judged, Fate::Failed),
        "updated": counted(judged, Fate::Updated),
        "cases": judged.iter().map(Judged::json).collect::<Vec<_>>(),
    })
}

const GREEN: &str = "\x1b[32m";
const RED: &str = "\x1b[31m";
const PLAIN: &str = "\x1b[0m";

fn text(judged: &[Judged<'_>], colour: bool) -> String {
    let paint = |text: &str, with: &str| match colour {
        true => format!("{with}{text}{PLAIN}"),
        false => text.to_owned(),
    };
    let mut out = String::new();
    for one in judged {
        let (word, with) = match one.fate {
            Fate::Passed => ("ok     ", GREEN),
            Fate::Failed => ("FAILED ", RED),
            Fate::Updated => ("updated", GREEN),
        };
        writeln!(out, "{} {}:{}: {}", paint(word, with), one.file, one.case.line, one.case.name)
            .expect("writing to a string cannot fail");
        let Some(diff) = one.diff() else { continue };
        for line in diff.lines() {
            let shown = match line.as_bytes().first() {
                Some(b'+') => paint(line, GREEN),
                Some(b'-') => paint(line, RED),
                _ => line.to_owned(),
            };
            out += &format!("    {shown}\n");
        }
        out.extend(one.made.notes.iter().map(|note| format!("    {note}\n")));
    }
    let count = |fate, word: &str| match counted(judged, fate) {
        0 => None,
        n => Some(format!("{n} {word}")),
    };
    let parts =
        [count(Fate::Passed, "passed"), count(Fate::Failed, "failed"), count(Fate::Updated, "updated")];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    let cases = if judged.len() == 1 { "case" } else { "cases" };
    out + &format!("{} {cases}: {}\n", judged.len(), parts.join(", "))
}
