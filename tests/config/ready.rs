//! The files in `config/`, as they stand, with everything that is built in.

use std::path::{Path, PathBuf};

use roomcast::app::{self, App};
use roomcast::cli::{check, explain, stamp_now};
use roomcast::config::{self, Loaded, render};

/// Loads and builds a file as `check` does.
fn accepted(path: &Path) -> (Loaded, App) {
    let loaded = config::load(&[path.to_owned()], std::iter::empty()).unwrap_or_else(|broken| {
        panic!("{}", render::problems(&broken.problems, &broken.texts, render::Look::Plain))
    });
    let app = app::build(&loaded, &app::leave_secret_closed).unwrap_or_else(|problems| {
        panic!("{}", render::problems(&problems, &loaded.texts, render::Look::Plain))
    });
    (loaded, app)
}

/// Beside each config stand its cases.
#[expect(clippy::ptr_arg, reason = "it filters paths")]
fn is_config(path: &PathBuf) -> bool {
    !path.to_string_lossy().ends_with(".test.toml")
}

fn ready() -> Vec<PathBuf> {
    let files = std::fs::read_dir("config").unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> =
        files.filter(|path| path.extension().is_some_and(|e| e == "toml")).filter(is_config).collect();
    files.sort();
    files
}

#[test]
fn every_ready_file_is_accepted_as_it_stands() {
    let files = ready();
    assert!(files.len() >= 7, "{files:?}");
    for path in files {
        let (loaded, app) = accepted(&path);
        let warnings = render::problems(&app.warnings, &loaded.texts, render::Look::Plain);
        // Only the simulators of docker-compose are called without encryption.
        let expected = if path.ends_with("docker.toml") { 2 } else { 0 };
        assert_eq!(warnings.lines().count(), expected, "{warnings}");
        let settings = app.settings(1);
        assert_eq!(settings.accounts.len(), app.names.accounts.len());
        assert_eq!(settings.sources.len(), app.names.sources.len() + app.replays.len());
        assert_eq!(settings.routes.len(), app.names.routes.len());
        assert!(!check::text(&check::Summary::of(&app, &loaded)).is_empty());
    }
}

#[test]
fn the_annotated_example_is_what_it_says() {
    let (loaded, app) = accepted(Path::new("config/roomcast.toml"));
    let told = check::text(&check::Summary::of(&app, &loaded));
    let golden = "tests/fixtures/config/roomcast.check.txt";
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(golden, &told).unwrap();
    }
    assert_eq!(told, std::fs::read_to_string(golden).unwrap());
    assert_eq!(app.room_gone, std::time::Duration::from_secs(600));
    let held: Vec<usize> = app.sources.iter().map(|source| source.limits.held_records).collect();
    assert_eq!(held, [50_000, 5_000], "live is Kafka, match is JetStream");
    let (live, replays) = (app.sources[0].limits.held_bytes, app.replays[0].limits.held_bytes);
    assert_eq!(
        (live, replays),
        ((256 << 20) / 9 * 4, (256 << 20) / 18),
        "equal parts, and an eighth of each for replays"
    );
}

#[test]
fn explain_shows_the_request_of_an_event_and_no_secret() {
    let text = std::fs::read_to_string("config/roomcast.toml").unwrap();
    let text = text
        .replace("client_secret_file = \"/run/secrets/easemob\"", "client_secret = \"hunter2\"")
        .replace("app_secret_file = \"/run/secrets/yunxin\"", "app_secret = \"hunter2\"");
    let rooms = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(rooms.path(), "42,1001,1002\n").unwrap();
    let text = text.replace("rooms.csv", &rooms.path().display().to_string());
    assert_eq!(text.matches("hunter2").count(), 2);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    let (loaded, app) = accepted(file.path());
    let events = [
        (
            "live",
            r#"{"type":"gift.sent","data":{"user":"ann","gift":"rose"}}"#,
            "gifts",
            "/messages/chatrooms",
        ),
        (
            "match",
            r#"{"type":"score.changed","data":{"home":1,"away":0}}"#,
            "scores",
            "/chatroom/sendMsg.action",
        ),
        ("match", r#"{"type":"kick.off"}"#, "match", "/chatroom/sendMsg.action"),
        ("match", r#"{"type":"news","data":{"text":"hi"}}"#, "news", "/chatroom/sendMsg.action"),
    ];
    for (source, event, route, path) in events {
        let room = if route == "news" { "1001" } else { "42" };
        for format in [explain::Format::Text, explain::Format::Curl, explain::Format::Json] {
            let args = explain::Args {
                source: Some(source.to_owned()),
                key: Some("42".to_owned()),
                format,
                ..explain::Args::default()
            };
            let shown = explain::explain(&app, &loaded, &args, event.into(), &stamp_now()).unwrap();
            assert!(!shown.contains("hunter2"), "{shown}");
            assert!(shown.contains(path), "{shown}");
            if format == explain::Format::Json {
                let json: serde_json::Value = serde_json::from_str(&shown).unwrap();
                assert_eq!(json["route"], route, "{shown}");
                assert_eq!(json["requests"][0]["rooms"], serde_json::json!([room]), "{shown}");
            }
        }
    }
}

#[test]
fn explain_says_of_a_directory_what_it_holds_or_why_it_was_not_asked() {
    let shown = |kept: &str, key: &str| {
        let text = std::fs::read_to_string("config/roomcast.toml").unwrap();
        let text =
            text.replace("kind = \"file\" ", &format!("{kept}\n# ")).replace("path = \"rooms.csv\"", "");
        let text = if kept.contains("unknown_wait") {
            text.replace("unknown = \"dead_letter\" ", "unknown = \"wait\" ")
        } else {
            text
        };
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let (loaded, app) = accepted(file.path());
        let args = explain::Args {
            source: Some("match".to_owned()),
            key: Some(key.to_owned()),
            ..explain::Args::default()
        };
        let event = br#"{"type":"news","data":{"text":"hi"}}"#.to_vec();
        explain::explain(&app, &loaded, &args, event, &stamp_now()).unwrap()
    };
    let rooms = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(rooms.path(), "42,1001,1002\n").unwrap();
    let there = format!("kind = \"file\"\npath = {:?}", rooms.path().display().to_string());
    let known = shown(&there, "42");
    assert!(known.contains("Directory \"rooms\": \"42\" has \"1001\", \"1002\"\n2 messages:"), "{known}");
    let unknown = shown(&there, "43");
    assert!(
        unknown.contains("Directory \"rooms\" does not hold \"43\"\nA letter of class no_route"),
        "{unknown}"
    );
    let waits = shown(&format!("{there}\nunknown_wait = \"3s\""), "43").replace('\n', " ");
    assert!(waits.contains("It waits until the key is known, 3s at most"), "{waits}");
    for (kept, why) in [
        (
            "kind = \"file\"\npath = \"not-there.csv\"",
            "was not asked: its file cannot be used: \"not-there.csv\" in ",
        ),
        (
            "kind = \"kafka\"\nsource = \"live\"\ntopic = \"live.rooms\"",
            "was not asked: it is a topic or bucket",
        ),
        (
            "kind = \"nats_kv\"\nsource = \"match\"\nbucket = \"rooms\"",
            "was not asked: it is a topic or bucket",
        ),
    ] {
        let shown = shown(kept, "42");
        assert!(shown.contains(why) && shown.contains("known to `roomcast run` alone"), "{shown}");
    }
}
