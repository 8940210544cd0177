//! What is wrong with a config is told, at its place, with what would be right.

use roomcast::core::section::{Place, Severity};

use crate::support::build;

/// A config with one thing wrong, and of what is told: the key, a part of what was found and a part
/// of what would be right.
type Wrong = (&'static str, &'static str, &'static str, &'static str);

#[track_caller]
fn assert_told(table: &[Wrong]) {
    for (config, key, found, wanted) in table {
        let (_, problems) = build(config);
        assert_eq!(problems.len(), 1, "{config}\n{problems:#?}");
        let problem = &problems[0];
        assert_eq!(problem.key, *key, "{config}\n{problem:#?}");
        assert!(problem.found.contains(found), "{config}\n{problem:#?}");
        assert!(problem.wanted.contains(wanted), "{config}\n{problem:#?}");
    }
}

#[test]
fn who_a_route_is_and_where_it_sends() {
    assert_told(&[
        ("", "routes", "nothing", "several accounts"),
        ("[[routes]]\naccount = 'live'", "routes[0].name", "nothing", "a name of its own"),
        ("[[routes]]\nname = 'a'", "routes[0].account", "nothing", "\"live\", \"match\""),
        (
            "[[routes]]\nname = 'a'\naccount = 'lvie'",
            "routes[0].account",
            "\"lvie\"",
            "did you mean \"live\"?",
        ),
        (
            "[[routes]]\nname = 'a'\naccount = 'live'\n[[routes]]\nname = 'a'\naccount = 'live'",
            "routes[1].name",
            "another route",
            "another name",
        ),
        (
            "[[routes]]\nname = 'a'\naccount = 'live'\nrooms = { directory = 'x' }",
            "routes[0].rooms.directory",
            "no directory",
            "a section [directories.x]",
        ),
        (
            "[[routes]]\nname = 'a'\naccount = 'live'\nrooms = { directory = 'romos' }\n[directories.rooms]\n[directories.halls]",
            "routes[0].rooms.directory",
            "\"romos\", which is no directory",
            "did you mean \"rooms\"?",
        ),
        (
            "[[routes]]\nname = 'a'\naccount = 'live'\nrooms = { directory = 'x', key = '.a' }\n[directories.x]",
            "routes[0].rooms.key",
            "unknown key",
            "directory",
        ),
        (
            "[[routes]]\nname = 'a'\naccount = 'live'\nrooms = {}\n[directories.x]",
            "routes[0].rooms.directory",
            "nothing",
            "a string",
        ),
        (
            "[[routes]]\nname = 'a'\naccount = 'live'\n[directories.x]\nunknown_wait = '3s'",
            "directories.x.unknown_wait",
            "nothing waits",
            "unknown = \"wait\"",
        ),
        (
            "[[routes]]\nname = 'a'\naccount = 'live'\n[directories.x]\nunknown = 'wait'\nunknown_wait = '0s'",
            "directories.x.unknown_wait",
            "no time",
            "more than zero",
        ),
        (
            "[[routes]]\nname = 'a'\naccount = 'live'\nall_rooms = true\nusers = '.x'",
            "routes[0].users",
            "all_rooms",
            "no such key",
        ),
        (
            "[[routes]]\nname = 'a'\ndrop = true\naccount = 'live'",
            "routes[0].account",
            "drop = true",
            "not sent",
        ),
    ]);
}

#[test]
fn which_events_a_route_takes() {
    assert_told(&[
        (
            "[[routes]]\nname = 'a'\naccount = 'live'\nsource = 'kafak'",
            "routes[0].source",
            "no source",
            "did you mean \"kafka\"?",
        ),
        (
            "[[routes]]\nname = 'a'\naccount = 'live'\nsubjects = ['a..b']",
            "routes[0].subjects",
            "a..b",
            "NATS subject",
        ),
        ("[[routes]]\nname = 'a'\naccount = 'live'\ntopics = ['^a']", "routes[0].topics", "^a", "test("),
        (
            "[[routes]]\nname = 'a'\naccount = 'live'\nwhen = '.a and env.HOME'",
            "routes[0].when",
            "`env`, which filters here do not have, at character 8",
            "environment",
        ),
        (
            "sources.kafka.payload = 'xml'\n[[routes]]\nname = 'a'\naccount = 'live'",
            "sources.kafka.payload",
            "xml",
            "\"base64\"",
        ),
    ]);
}

#[test]
fn how_a_route_treats_its_messages() {
    assert_told(&[
        (
            "[[routes]]\nname = 'a'\naccount = 'live'\nconflate = 'range(9)'",
            "routes[0].conflate",
            "`range`",
            "",
        ),
        (
            "[[routes]]\nname = 'a'\naccount = 'live'\nwhne = 'true'",
            "routes[0].whne",
            "unknown key",
            "did you mean \"when\"?",
        ),
        ("[[routes]]\nname = 'a'\naccount = 'live'\nttl = 5", "routes[0].ttl", "5", "a time such as"),
        (
            "[[routes]]\nname = 'a'\naccount = 'live'\npriority = 'hihg'",
            "routes[0].priority",
            "hihg",
            "did you mean \"high\"?",
        ),
        (
            "[[routes]]\nname = 'a'\naccount = 'live'\non_full = 'x'",
            "routes[0].on_full",
            "\"x\"",
            "drop_oldest",
        ),
        (
            "[[routes]]\nname = 'a'\naccount = 'live'\nretry = { max_attempts = 0 }",
            "routes[0].retry.max_attempts",
            "0",
            "from 1",
        ),
    ]);
}

#[test]
fn what_a_message_says() {
    assert_told(&[
        (
            "[[routes]]\nname = 'a'\naccount = 'live'\nmessage = 'text'",
            "routes[0].message",
            "\"text\"",
            "a table",
        ),
        (
            "[[routes]]\nname = 'a'\naccount = 'live'\nmessage = { kind = 'txt', text = '.' }",
            "routes[0].message.kind",
            "\"txt\"",
            "did you mean \"text\"?",
        ),
        (
            "[[routes]]\nname = 'a'\naccount = 'live'\nmessage = { kind = 'tip', text = '.' }",
            "routes[0].message.kind",
            "\"tip\"",
            "text, custom",
        ),
        (
            "[[routes]]\nname = 'a'\naccount = 'live'\nmessage = { kind = 'text' }",
            "routes[0].message.text",
            "nothing",
            "has a text",
        ),
        (
            "[[routes]]\nname = 'a'\naccount = 'live'\nmessage = { kind = 'text', text = '.', txet = '.' }",
            "routes[0].message.txet",
            "unknown key",
            "did you mean \"text\"?",
        ),
        (
            "[[routes]]\nname = 'a'\naccount = 'live'\nmessage = { kind = 'text', text = 'hello' }",
            "routes[0].message.text",
            "`hello`",
            "'\"hello\"'",
        ),
        (
            "[[routes]]\nname = 'a'\naccount = 'live'\nmessage = { kind = 'text', text = '.', options = { x = 1 } }",
            "routes[0].message.options.x",
            "1",
            "the option level",
        ),
        (
            "[[routes]]\nname = 'a'\naccount = 'live'\nmessage = { kind = 'text', text = '.', options = { level = '\"x\"' } }",
            "routes[0].message.options.level",
            "\"x\"",
            "a number",
        ),
        (
            "[[routes]]\nname = 'a'\naccount = 'live'\nmessage = { kind = 'custom', event = '.', fields = { a = { b = 'range(9)' } } }",
            "routes[0].message.fields.a.b",
            "`range`",
            "for ever",
        ),
    ]);
}

/// What follows a route's account, the key, what was found, and what would be right.
const WRONG_TYPES: &[(&str, &str, &str, &str)] = &[
    ("message = { kind = 'text', text = 'null' }", "routes[0].message.text", "null", "a value"),
    ("message = { kind = 'text', text = ['.a'] }", "routes[0].message.text", "a list", "a text"),
    ("message = { kind = 'text', text = { a = '.a' } }", "routes[0].message.text", "a table", "a text"),
    (
        "message = { kind = 'image', url = '.', width = '\"wide\"' }",
        "routes[0].message.width",
        "a text",
        "a whole number",
    ),
    (
        "message = { kind = 'image', url = '.', width = '-3' }",
        "routes[0].message.width",
        "a number",
        "not negative",
    ),
    (
        "message = { kind = 'image', url = '.', width = -3 }",
        "routes[0].message.width",
        "a number",
        "not negative",
    ),
    (
        "message = { kind = 'image', url = '.', width = '1.5' }",
        "routes[0].message.width",
        "a number",
        "a whole number",
    ),
    (
        "message = { kind = 'location', lat = '\"north\"', lng = 1, address = '.' }",
        "routes[0].message.lat",
        "north",
        "a number",
    ),
    (
        "message = { kind = 'text', text = '.', ext = '\"x\"' }",
        "routes[0].message.ext",
        "a text",
        "an object",
    ),
    (
        "message = { kind = 'text', text = '.', sender = ['.'] }",
        "routes[0].message.sender",
        "a list",
        "a text",
    ),
    ("priority = '\"urgent\"'", "routes[0].priority", "urgent", "\"high\", \"normal\""),
    ("priority = 'null'", "routes[0].priority", "null", "\"high\", \"normal\""),
    ("rooms = '\"\"'", "routes[0].rooms", "gives \"\"", "not empty"),
    ("rooms = 'true'", "routes[0].rooms", "gives true", "texts"),
    ("rooms = ['a', 'b']", "routes[0].rooms", "a list", "a filter that gives each of them"),
    ("users = '1.5'", "routes[0].users", "gives 1.5", "whole numbers"),
];

/// What a literal gives is known at the start.
#[test]
fn values_of_the_wrong_type_are_told_at_the_start() {
    let route = |rest: &str| format!("[[routes]]\nname = 'a'\naccount = 'live'\n{rest}");
    for (rest, key, found, wanted) in WRONG_TYPES {
        let (rules, problems) = build(&route(rest));
        assert!(rules.is_none(), "{rest}");
        assert_eq!(problems.len(), 1, "{rest}: {problems:#?}");
        let problem = &problems[0];
        assert_eq!(problem.key, *key, "{rest}: {problem:#?}");
        assert!(problem.found.contains(*found) && problem.wanted.contains(*wanted), "{rest}: {problem:#?}");
    }
    for rest in [
        "message = { kind = 'text', text = '7' }",
        "message = { kind = 'image', url = '\"u\"', width = '3', height = 'null' }",
        "message = { kind = 'location', lat = '\"-7.5\"', lng = '-1e2', address = 'true' }",
        "priority = '\"high\"'",
        "rooms = '42'",
        "rooms = 42",
        "when = 'true'",
    ] {
        let (rules, problems) = build(&route(rest));
        assert!(rules.is_some() && problems.is_empty(), "{rest}: {problems:#?}");
    }
}

#[test]
fn a_priority_and_the_options_that_exclude_it_are_told() {
    let route = |rest: &str| {
        format!(
            "[[routes]]\nname = 'a'\naccount = 'live'\n{rest}\nmessage = {{ kind = 'text', text = '.', options = {{ level = 1 }} }}"
        )
    };
    let (rules, problems) = build(&route("priority = 'high'"));
    assert!(rules.is_none());
    assert_eq!(problems.len(), 1, "{problems:#?}");
    let problem = &problems[0];
    assert_eq!(
        (problem.severity, &*problem.key, &*problem.found, &*problem.wanted),
        (
            Severity::Error,
            "routes[0].message.options.level",
            "1",
            "another value, or no such option: no level beside priority = \"high\""
        )
    );
    for rest in ["", "priority = 'low'", "priority = '.p'"] {
        let (rules, problems) = build(&route(rest));
        assert!(rules.is_some() && problems.is_empty(), "{rest}: {problems:#?}");
    }
}

#[test]
fn fields_that_the_provider_leaves_out_are_warned_of() {
    let config = "[[routes]]\nname = 'a'\naccount = 'live'\nmessage = { kind = 'image', url = '.', md5 = '.', secret = '.', width = 3 }";
    let (rules, problems) = build(config);
    assert!(rules.is_some(), "a warning stops nothing");
    let told: Vec<_> = problems.iter().map(|p| (p.severity, &*p.key, &*p.found)).collect();
    let found = "a field for which fake has no place in a message of kind \"image\"";
    let warning = |key| (Severity::Warning, key, found);
    assert_eq!(told, ["routes[0].message.md5", "routes[0].message.secret"].map(warning));
    let video = config.replace("image", "video");
    assert!(build(&video).1.is_empty(), "a kind that has a place for them");
}

#[test]
fn a_compile_error_stands_at_its_place_in_the_string_that_was_written() {
    for string in
        ["'.a | nope'", "\".a \\\"b\\\" | nope\"", "'''\n.a\n| nope'''", "\"\"\".a \\\n | nope\"\"\""]
    {
        let config = format!("[[routes]]\nname = 'a'\naccount = 'live'\nwhen = {string}");
        let (rules, problems) = build(&config);
        assert!(rules.is_none());
        let Place::Inside { span, at, .. } = &problems[0].place else { panic!("{problems:#?}") };
        assert_eq!(&config[span.clone()], string, "{problems:#?}");
        let table: toml_edit::DocumentMut = config.parse().unwrap();
        let text = table["routes"][0]["when"].as_str().unwrap();
        let wrong = if text.contains("b") { "\"b\"" } else { "nope" };
        assert!(text[*at as usize..].starts_with(wrong), "{config}: {problems:#?}");
    }
}
