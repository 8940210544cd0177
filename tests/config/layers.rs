//! How layers go over one another, and that every value keeps the place it was written at.

use std::path::PathBuf;

use roomcast::config::{self, Loaded, render};
use roomcast::core::section::{Node, Place, Value};

fn load(files: &[&str], variables: &[(&str, &str)]) -> Loaded {
    let folder = tempfile::tempdir().unwrap();
    let paths: Vec<PathBuf> = files
        .iter()
        .enumerate()
        .map(|(index, text)| {
            let path = folder.path().join(format!("{index}.toml"));
            std::fs::write(&path, text).unwrap();
            path
        })
        .collect();
    let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    config::load(&paths, variables).unwrap()
}

/// The value, and the part of its file (or the variable) that it came from.
fn at(loaded: &Loaded, path: &[&str]) -> (String, String) {
    let node = loaded.node(path).unwrap_or_else(|| panic!("nothing at {path:?}"));
    (format!("{:?}", node.value), written(loaded, node))
}

fn written(loaded: &Loaded, node: &Node) -> String {
    match &node.place {
        Place::File { name, span } => {
            let (index, text) = loaded.texts.get(name).unwrap();
            format!("{index}:{}", &text[span.clone()])
        }
        Place::Inside { .. } => unreachable!("a value is a whole one"),
        Place::Variable(name) => name.to_string(),
        Place::Nowhere => "nowhere".to_owned(),
    }
}

#[test]
fn later_files_go_over_earlier_ones_and_lists_are_replaced_whole() {
    let loaded = load(
        &[
            "[sources.live]\ntopics = ['a', 'b']\ngroup = 'one'\n[limits]\nmax_held_records = 5\n",
            "[sources.live]\ntopics = ['c']\n[admin]\nwatch = false\n",
        ],
        &[],
    );
    let Value::List(topics) = &loaded.node(&["sources", "live", "topics"]).unwrap().value else { panic!() };
    let topics: Vec<String> = topics.iter().map(|node| written(&loaded, node)).collect();
    assert_eq!(topics, ["1:'c'"], "the later list alone, at its own place");
    assert_eq!(at(&loaded, &["sources", "live", "group"]).1, "0:'one'", "a table is merged key by key");
    assert_eq!(at(&loaded, &["limits", "max_held_records"]), ("Integer(5)".to_owned(), "0:5".to_owned()));
    assert_eq!(at(&loaded, &["admin", "watch"]), ("Boolean(false)".to_owned(), "1:false".to_owned()));
}

#[test]
fn variables_go_over_files_and_stay_text() {
    let loaded = load(
        &["[accounts.live]\nclient_secret = 'from the file'\ntimeout = '5s'\n"],
        &[
            ("ROOMCAST__ACCOUNTS__LIVE__CLIENT_SECRET", "0123"),
            ("ROOMCAST__ADMIN__LISTEN", "127.0.0.1:1"),
            ("ROOMCAST_SERVICE_HOST", "10.0.0.1"),
            ("PATH", "/bin"),
        ],
    );
    let secret = at(&loaded, &["accounts", "live", "client_secret"]);
    assert_eq!(secret.0, "Text(\"0123\")", "a numeric secret must keep its zero");
    assert_eq!(secret.1, "ROOMCAST__ACCOUNTS__LIVE__CLIENT_SECRET");
    assert_eq!(at(&loaded, &["accounts", "live", "timeout"]).1, "0:'5s'");
    assert_eq!(at(&loaded, &["admin", "listen"]).1, "ROOMCAST__ADMIN__LISTEN");
    let keys: Vec<&str> = loaded.table.keys().map(String::as_str).collect();
    assert_eq!(keys, ["accounts", "admin"], "what is not ours is not read");
}

#[test]
fn a_table_is_shown_where_a_file_writes_it_even_below_variables() {
    let loaded = load(&["[accounts.live]\norg = 'acme'\n"], &[("ROOMCAST__ACCOUNTS__LIVE__APP", "live")]);
    let node = loaded.node(&["accounts", "live"]).unwrap();
    assert!(matches!(&node.key_place, Place::File { .. }), "{:?}", node.key_place);
    assert_eq!(written(&loaded, node), "0:[accounts.live]");
}

#[test]
fn variables_alone_are_a_config() {
    let loaded = load(&[], &[("ROOMCAST__ACCOUNTS__LIVE__PROVIDER", "easemob")]);
    assert_eq!(
        at(&loaded, &["accounts", "live", "provider"]),
        ("Text(\"easemob\")".to_owned(), "ROOMCAST__ACCOUNTS__LIVE__PROVIDER".to_owned())
    );
}

#[test]
fn files_that_cannot_be_read_are_all_told() {
    let folder = tempfile::tempdir().unwrap();
    let latin = folder.path().join("latin.toml");
    std::fs::write(&latin, b"# caf\xe9\n").unwrap();
    let absent = folder.path().join("absent.toml");
    let broken = config::load(&[latin, absent], std::iter::empty()).unwrap_err();
    let told = render::problems(&broken.problems, &broken.texts, render::Look::Plain);
    let told = told.replace(&folder.path().display().to_string(), "DIR");
    assert_eq!(
        told,
        "DIR/absent.toml: found a file that cannot be read (No such file or directory (os error 2)), wanted a config file in TOML\n\
         DIR/latin.toml: found a byte that is not UTF-8 (byte 5 of the file), wanted a text file in UTF-8\n"
    );
}

#[test]
fn a_picture_shows_the_place_and_no_secret_beside_it() {
    let loaded =
        load(&["[accounts.live]\nclient_secret = 'hunter2'\ntimeout = 5\npassword = 'hunter2'\n"], &[]);
    let node = loaded.node(&["accounts", "live", "timeout"]).unwrap();
    let problem = roomcast::core::section::Problem {
        severity: roomcast::core::section::Severity::Error,
        place: node.place.clone(),
        key: "accounts.live.timeout".to_owned(),
        found: "5".to_owned(),
        wanted: "a time such as \"5s\"".to_owned(),
    };
    let look = render::Look::Picture { width: 100, colour: false };
    let picture = render::problems(&[problem], &loaded.texts, look);
    assert!(picture.contains("accounts.live.timeout: found 5"), "{picture}");
    assert!(picture.contains("help: wanted a time such as \"5s\""), "{picture}");
    assert!(picture.contains("timeout = 5"), "{picture}");
    assert!(picture.contains("client_secret = *********"), "{picture}");
    assert!(!picture.contains("hunter2"), "{picture}");
}
