//! What takes, what needs a restart, and what is refused.

use std::path::PathBuf;

use tempfile::TempDir;

use super::*;
use crate::config;

const CONFIG: &str = r#"
[accounts.live]
provider = "easemob"
base_url = "https://a1.easemob.com"
org = "acme"
app = "live"
client_id = "id"
client_secret_file = "secret-live"
quota = { calls_per_second = 10 }

[accounts.match]
provider = "yunxin"
app_key = "key"
app_secret_file = "secret-match"
sender = "system"

[sources.live]
kind = "kafka"
brokers = "127.0.0.1:9092"
group = "roomcast"
topics = ["live.events"]
dead_letter = "live.events.dlq"
username = "user"
password_file = "secret-broker"
mechanism = "PLAIN"

[[routes]]
name = "gifts"
when = '.type == "gift.sent"'
account = "live"
message = { kind = "text", text = '.text' }

[[routes]]
name = "rest"
account = "match"
message = { kind = "text", text = '.text' }
"#;

struct Bed {
    folder: TempDir,
    file: PathBuf,
    secrets: BTreeMap<String, String>,
    running: Running,
}

fn bed(text: &str) -> Bed {
    let folder = tempfile::tempdir().expect("a scratch folder");
    let file = folder.path().join("c.toml");
    let secrets = ["secret-live", "secret-match", "secret-broker"];
    let secrets: BTreeMap<String, String> =
        secrets.iter().map(|name| ((*name).to_owned(), format!("{name}-contents"))).collect();
    let open = |name: &str| secrets.get(name).cloned().ok_or_else(|| "not there".to_owned());
    let (_, running) = begin(&load(&file, text), &open).unwrap_or_else(|problems| panic!("{problems:#?}"));
    Bed { folder, file, secrets, running }
}

fn load(file: &PathBuf, text: &str) -> Loaded {
    std::fs::write(file, text).expect("the scratch folder can be written");
    config::load(std::slice::from_ref(file), std::iter::empty()).expect("it is TOML")
}

impl Bed {
    fn read(&self, text: &str) -> Result<Reread, (Vec<Problem>, BTreeSet<String>)> {
        assert!(self.folder.path().exists());
        let open = |name: &str| self.secrets.get(name).cloned().ok_or_else(|| "not there".to_owned());
        read(&self.running, load(&self.file, text), &open)
    }

    #[track_caller]
    fn takes(&self, text: &str) -> Reread {
        self.read(text).unwrap_or_else(|(problems, _)| panic!("{problems:#?}"))
    }

    #[track_caller]
    fn refused(&self, text: &str) -> Vec<Problem> {
        match self.read(text) {
            Ok(reread) => panic!("it takes {:?}", reread.takes),
            Err((problems, _)) => problems,
        }
    }
}

/// The config with each first text replaced by the second.
fn with(changes: &[(&str, &str)]) -> String {
    changes.iter().fold(CONFIG.to_owned(), |text, (old, new)| {
        assert_eq!(text.matches(old).count(), 1, "{old}");
        text.replace(old, new)
    })
}

#[test]
fn the_same_config_changes_nothing_wherever_its_lines_stand() {
    let moved = format!("# a line more\n\n{CONFIG}");
    let reread = bed(CONFIG).takes(&moved);
    assert_eq!((reread.takes, reread.needs_restart), (Vec::<String>::new(), Vec::new()));
    assert_eq!(reread.renewals, [Renewal::None, Renewal::None]);
}

#[test]
fn routes_quotas_retries_and_bounds_take() {
    let text =
        with(&[("calls_per_second = 10", "calls_per_second = 5"), ("name = \"rest\"", "name = \"others\"")]);
    let reread = bed(CONFIG).takes(
        &(text
            + "[retry]\nmax_attempts = 3\n[limits]\nmax_waiting_per_room = 5\ndrain_timeout = \"1s\"\n\
               [letters]\nmax_replays = 7\nflood_guard = \"20/s\"\n[admin]\nwatch = true\n"),
    );
    assert_eq!(
        reread.takes,
        [
            "accounts.live.quota.calls_per_second",
            "admin.watch",
            "letters.flood_guard",
            "letters.max_replays",
            "limits.drain_timeout",
            "limits.max_waiting_per_room",
            "retry.max_attempts",
            "routes others (new), rest (gone)"
        ]
    );
    assert_eq!(reread.needs_restart, Vec::<String>::new());
    assert_eq!(reread.renewals, [Renewal::None, Renewal::None], "a quota is no reason to log in");
    let settings = reread.app.settings(0);
    assert_eq!(settings.accounts[0].limits.paths[0].calls_per_second, 5);
    assert_eq!((settings.flood_guard, reread.app.letters.max_replays), (Some(20), 7));
    assert_eq!((&*settings.routes[1].name, settings.routes[1].retry.max_attempts), ("others", 3));
}

#[test]
fn what_needs_a_restart_keeps_its_value_and_is_told_until_then() {
    let mut bed = bed(CONFIG);
    let text = with(&[
        ("127.0.0.1:9092", "127.0.0.1:9093"),
        ("calls_per_second = 10", "calls_per_second = 5"),
        ("app = \"live\"", "app = \"other\""),
    ]) + "[limits]\nmax_held_records = 7\n";
    let reread = bed.takes(&text);
    let keys = ["accounts.live.app", "limits.max_held_records", "sources.live.brokers"];
    assert_eq!(reread.needs_restart, keys);
    assert_eq!(reread.takes, ["accounts.live.quota.calls_per_second"]);
    assert_eq!(reread.app.limits.max_held_records, 50_000);
    bed.running = reread.running;
    let again = bed.takes(&text);
    assert_eq!((again.takes, again.needs_restart), (Vec::new(), keys.map(str::to_owned).to_vec()));
    let taken_back = bed.takes(&with(&[("calls_per_second = 10", "calls_per_second = 5")]));
    assert_eq!((taken_back.takes, taken_back.needs_restart), (Vec::new(), Vec::new()));
}

#[test]
fn secret_files_count_by_what_is_in_them() {
    let mut bed = bed(CONFIG);
    bed.secrets.insert("secret-live".to_owned(), "rotated".to_owned());
    bed.secrets.insert("secret-broker".to_owned(), "rotated too".to_owned());
    let reread = bed.takes(CONFIG);
    assert_eq!(reread.takes, ["accounts.live.client_secret_file"]);
    assert_eq!(reread.needs_restart, ["sources.live.password_file"]);
    assert_eq!(reread.renewals, [Renewal::Credentials, Renewal::None]);
    assert!(!format!("{:?}", reread.running).contains("rotated"), "P8: no secret is kept");
    bed.running = reread.running;
    let again = bed.takes(CONFIG);
    assert_eq!(again.takes, Vec::<String>::new());
    assert_eq!(again.needs_restart, ["sources.live.password_file"]);
}

#[test]
fn a_wrong_config_is_refused_in_whole_and_tells_which_files_it_names() {
    let bed = bed(CONFIG);
    let text = with(&[
        ("calls_per_second = 10", "calls_per_second = 5"),
        ("when = '.type == \"gift.sent\"'", "when = '.type =='"),
    ]);
    let problems = bed.refused(&text);
    assert!(problems.iter().any(|problem| problem.key == "routes[0].when"), "{problems:#?}");
    let (_, files) = bed.read(&with(&[("secret-live", "secret-missing")])).err().expect("no such file");
    assert!(files.contains("secret-missing"), "it may appear: {files:?}");
}

#[test]
fn accounts_and_sources_neither_come_nor_go_and_what_needs_them_is_refused() {
    let bed = bed(CONFIG);
    let added =
        "[accounts.new]\nprovider = \"yunxin\"\napp_key = \"k\"\napp_secret = \"s\"\nsender = \"x\"\n";
    let reread = bed.takes(&(CONFIG.to_owned() + added));
    assert_eq!((reread.takes, reread.needs_restart), (Vec::new(), vec!["accounts.new".to_owned()]));
    assert_eq!(reread.app.accounts.len(), 2);
    let used = with(&[("account = \"match\"", "account = \"new\"")]) + added;
    let problems = bed.refused(&used);
    assert!(problems[0].key == "accounts.new" && problems[0].wanted.contains("restart"), "{problems:#?}");
    let gone = CONFIG.split("[accounts.match]").next().expect("a beginning").to_owned()
        + &CONFIG[CONFIG.find("[sources.live]").expect("it is there")..]
            .replace("account = \"match\"", "account = \"live\"");
    let reread = bed.takes(&gone);
    assert_eq!(reread.needs_restart, ["accounts.match"]);
    assert_eq!((reread.takes, reread.app.accounts.len()), (vec!["routes rest".to_owned()], 2));
}

#[test]
fn what_closed_a_gate_or_a_login_is_told_from_what_did_not() {
    let bed = bed(CONFIG);
    let renewals = |old: &str, new: &str| bed.takes(&with(&[(old, new)])).renewals;
    assert_eq!(renewals("a1.easemob.com", "a2.easemob.com"), [Renewal::Credentials, Renewal::None]);
    assert_eq!(renewals("client_id = \"id\"", "client_id = \"di\""), [Renewal::Credentials, Renewal::None]);
    assert_eq!(renewals("sender = \"system\"", "sender = \"bot\""), [Renewal::None, Renewal::Calls]);
}

#[test]
fn a_quota_by_the_day_neither_comes_nor_goes() {
    let bed = bed(CONFIG);
    let day = "sender = \"system\"\nquota = { broadcasts_per_day = 7, calls_per_second = 50 }";
    let reread = bed.takes(&with(&[("sender = \"system\"", day)]));
    assert_eq!(reread.takes, ["accounts.match.quota.calls_per_second"]);
    assert_eq!(reread.needs_restart.len(), 1);
    let key = &reread.needs_restart[0];
    assert!(key.starts_with("accounts.match.quota.broadcasts_per_day"), "{key}");
}

#[test]
fn routes_that_move_the_counts_of_the_day_to_another_broker_need_a_restart() {
    let other = CONFIG[CONFIG.find("[sources.live]").expect("it is there")..].split("[[routes]]").next();
    let other =
        other.expect("a section").replace("sources.live", "sources.a").replace("live.events", "a.events");
    let other = other.replace("group = \"roomcast\"", "group = \"other\"");
    let two = |route: &str, more: &str| {
        let text = with(&[
            ("name = \"gifts\"", &format!("name = \"gifts\"\n{route}")),
            ("text = '.text' }\n\n", more),
        ]);
        text.replace("[sources.live]", &format!("{other}[sources.live]"))
    };
    let plain = "text = '.text' }\n\n";
    let mut bed = bed(&two("source = \"live\"", plain));
    let everybody = "text = '.text' }\nall_rooms = true\n\n";
    assert_eq!(bed.takes(&two("source = \"live\"", everybody)).needs_restart, Vec::<String>::new());
    let moved = bed.takes(&two("source = \"a\"", plain));
    assert_eq!((moved.takes, moved.needs_restart), (vec!["routes gifts".to_owned()], Vec::new()));
    bed.running = moved.running;
    let held = bed.takes(&two("source = \"a\"", everybody));
    assert_eq!(held.needs_restart.len(), 1);
    assert!(held.needs_restart[0].starts_with("routes (another source"), "{:?}", held.needs_restart);
}

#[test]
fn directories_come_go_and_change() {
    let section = |name: &str, more: &str| format!("[directories.{name}]\nkind = \"file\"\n{more}\n");
    let routed = |directory: &str| {
        let rooms = format!("name = \"rest\"\nrooms = {{ directory = {directory:?} }}");
        with(&[("name = \"rest\"", &rooms)])
    };
    let mut bed = bed(CONFIG);
    let added = bed.takes(&(routed("rooms") + &section("rooms", "path = \"rooms.csv\"")));
    assert_eq!(added.takes, ["directories.rooms (new)", "routes rest"]);
    assert_eq!(added.needs_restart, Vec::<String>::new());
    assert_eq!((added.app.directories.len(), &*added.app.directories[0].view.name), (1, "rooms"));
    bed.running = added.running;
    let changed = section("rooms", "path = \"others.csv\"\nunknown = \"drop\"");
    let changed = bed.takes(&(routed("rooms") + &changed));
    assert_eq!(changed.takes, ["directories.rooms.path", "directories.rooms.unknown"]);
    let used = bed.refused(&(routed("rooms") + &section("others", "path = \"rooms.csv\"")));
    assert!(used.iter().any(|problem| problem.found.contains("which is no directory")), "{used:#?}");
    let gone = bed.takes(CONFIG);
    assert_eq!(gone.takes, ["directories.rooms (gone)", "routes rest"]);
    assert!(gone.app.directories.is_empty());
    // Its source would need a restart.
    let source = &CONFIG[CONFIG.find("[sources.live]").expect("it is there")..];
    let source = source.split("[[routes]]").next().expect("a section").replace("live", "new");
    let table = "[directories.rooms]\nkind = \"kafka\"\nsource = \"new\"\ntopic = \"rooms\"\n";
    let problems = bed.refused(&(routed("rooms") + &source + table));
    assert!(problems[0].key == "sources.new" && problems[0].wanted.contains("restart"), "{problems:#?}");
}

#[test]
fn a_broken_directory_is_told_of_once_and_not_by_the_route_that_names_it() {
    let named = "name = \"rest\"\nrooms = { directory = \"rooms\" }";
    let broken = with(&[("name = \"rest\"", named)]) + "[directories.rooms]\nkind = \"file\"\n";
    let problems = bed(CONFIG).refused(&broken);
    assert_eq!(problems.len(), 1, "{problems:#?}");
    assert!(problems[0].key.starts_with("directories.rooms"), "{problems:#?}");
}
