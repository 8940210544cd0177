//! `roomcast letters` beside a daemon, as a person has it.

use std::collections::BTreeMap;

use serde_json::{Value as Json, json};
use tempfile::TempDir;

use crate::PATIENCE;
use crate::making::{Flaw, Made, REFUSED_ROOMS, mark};
use crate::support::daemon::{TOKEN, roomcast};
use crate::support::process::Process;

/// A config for the commands.
pub struct Desk {
    folder: TempDir,
}

/// What a `replay` came to.
#[derive(Debug)]
pub struct Said {
    /// Its exit code.
    pub code: Option<i32>,
    /// What it printed.
    pub json: Json,
}

impl Said {
    /// Waits for its end.
    #[track_caller]
    pub fn of(process: &mut Process) -> Self {
        let code = process.await_end(PATIENCE).code();
        let lines = process.lines().into_iter().filter(|line| line.stdout).map(|line| line.text + "\n");
        let text: String = lines.collect();
        let json = serde_json::from_str(&text);
        let json = json.unwrap_or_else(|error| panic!("{error}: {text}\n{}", process.tail()));
        Self { code, json }
    }

    /// A number, by a path such as `/verdicts/replayed`.
    #[track_caller]
    pub fn count(&self, path: &str) -> u64 {
        let found = self.json.pointer(path).and_then(Json::as_u64);
        found.unwrap_or_else(|| panic!("there is no {path}: {self:#?}"))
    }
}

impl Desk {
    /// The config of a daemon whose API is there.
    pub fn new(config: &str, api: &str) -> Self {
        let folder = tempfile::tempdir().expect("a scratch folder");
        let listen = api.trim_start_matches("http://");
        let config = format!("[admin]\nlisten = {listen:?}\ntoken = {TOKEN:?}\n\n{config}");
        std::fs::write(folder.path().join("roomcast.toml"), config).expect("the folder can be written");
        Self { folder }
    }

    fn command(&self, arguments: &[&str]) -> std::process::Command {
        let mut command = roomcast(&["letters"]);
        command.args(arguments).arg("-c").arg(self.folder.path().join("roomcast.toml"));
        command
    }

    /// What a command prints, after it went well.
    #[track_caller]
    fn ok(&self, arguments: &[&str]) -> String {
        let ended = self.command(arguments).output().expect("the binary is built");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(ended.status.success(), "{arguments:?}: {}{}", text(&ended.stdout), text(&ended.stderr));
        text(&ended.stdout)
    }

    #[track_caller]
    fn json(&self, arguments: &[&str]) -> Json {
        let text = self.ok(arguments);
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {text}"))
    }

    #[track_caller]
    fn list(&self, arguments: &[&str]) -> Vec<Json> {
        let text = self.ok(&[&["list", "--format", "json"], arguments].concat());
        text.lines().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect()
    }

    /// Starts `replay`.
    pub fn start(&self, arguments: &[&str]) -> Process {
        let all = [&["replay", "--yes", "--format", "json"], arguments].concat();
        Process::start("letters replay", self.command(&all))
    }

    /// Replays to the end.
    #[track_caller]
    pub fn replay(&self, arguments: &[&str]) -> Said {
        let said = Said::of(&mut self.start(arguments));
        assert_eq!(said.code, Some(0), "{said:#?}");
        said
    }

    /// How long a replay is foretold to take beside what is sent now, seconds.
    #[track_caller]
    pub fn seconds_now(&self, class: &str) -> f64 {
        let dry = self.json(&["replay", "--dry-run", "--format", "json", "--class", class]);
        dry["sent"][0]["seconds_now"].as_f64().unwrap_or_else(|| panic!("{dry:#}"))
    }

    /// All letters are listed, each filter finds what it should, and counts are what was made.
    #[track_caller]
    pub fn assert_listed(&self, made: &Made) {
        let all = self.list(&[]);
        assert_eq!(counts(&all, "class"), counts_of(&made.classes()));
        let ids: std::collections::BTreeSet<&str> =
            all.iter().map(|letter| letter["letter"].as_str().expect("an id")).collect();
        assert_eq!(ids.len(), made.letters.len(), "each letter once");
        for (class, count) in made.classes() {
            assert_eq!(self.list(&["--class", class]).len() as u64, count, "{class}");
        }
        let room = made.room(Flaw::Gone);
        assert_eq!(self.list(&["--room", room]).len() as u64, made.of(Flaw::Gone, room), "{room}");
        let late = self.list(&["--route", "late"]);
        assert_eq!(counts(&late, "class"), [("expired".to_owned(), made.classes()["expired"])].into());
        let found = self.list(&["--text", &mark(14)]);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0]["class"], made.letters[14].0.class());
        assert!(self.list(&["--state", "replayed"]).is_empty());
        let stats = self.json(&["stats", "--format", "json"]);
        assert_eq!(stats["letters"], made.letters.len());
        assert_eq!(
            (&stats["class"], &stats["state"]),
            (&json!(made.classes()), &json!({ "open": made.letters.len() }),)
        );
    }

    /// The figures of a dry run are those of what was made.
    #[track_caller]
    pub fn assert_foretold(&self, made: &Made) {
        let all = made.letters.len() as u64;
        let dry = self.json(&["replay", "--dry-run", "--format", "json"]);
        let sent = all - made.irreparable();
        for (path, wanted) in [
            ("/meant", json!(all)),
            ("/would_ask", json!(all)),
            ("/states", json!({ "open": all })),
            ("/classes", json!(made.classes())),
            ("/expired", json!(made.classes()["expired"])),
            ("/fail_again", json!(made.irreparable())),
            ("/rooms_gone", json!(REFUSED_ROOMS)),
            ("/dropped_by_routes", json!(0)),
            ("/older_than_a_finished_record/letters", json!(made.overtaken())),
            ("/sent/0/messages", json!(sent)),
            ("/sent/0/calls", json!(sent)),
        ] {
            assert_eq!(dry.pointer(path), Some(&wanted), "{path}: {dry:#}");
        }
        assert_eq!(counts(&self.list(&["--limit", "1"]), "state"), [("open".to_owned(), 1)].into());
    }

    /// Afterwards every letter is replayed, and those that failed again are open.
    #[track_caller]
    pub fn assert_worked(&self, made: &Made) {
        let stats = self.json(&["stats", "--format", "json"]);
        let states = json!({ "open": made.irreparable(), "replayed": made.letters.len() });
        assert_eq!(stats["state"], states, "{stats:#}");
        let open = self.list(&[]);
        assert_eq!(counts(&open, "class"), [("mapping".to_owned(), made.irreparable())].into());
    }
}

fn counts(letters: &[Json], key: &str) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for letter in letters {
        *counts.entry(letter[key].as_str().unwrap_or_default().to_owned()).or_default() += 1;
    }
    counts
}

fn counts_of(classes: &BTreeMap<&'static str, u64>) -> BTreeMap<String, u64> {
    classes.iter().map(|(class, count)| ((*class).to_owned(), *count)).collect()
}
