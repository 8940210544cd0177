//! `--update`: what was made is written, what passes is not touched, comments and layout stay, and
//! the cases pass then.

use super::Folder;

/// Runs `--update`, then the cases again; gives the file as it stands.
#[track_caller]
fn updated(before: &str, last: &str) -> String {
    let folder = Folder::new(&[("a.test.toml", before)]);
    folder.test(&["--update"]).is(0, last);
    let after = folder.read("a.test.toml");
    let cases = match before.matches("[[case]]").count() {
        1 => "1 case: 1 passed".to_owned(),
        n => format!("{n} cases: {n} passed"),
    };
    folder.test(&[]).is(0, &cases);
    folder.test(&["--update"]).is(0, &cases);
    assert_eq!(folder.read("a.test.toml"), after, "what passes is not touched");
    after
}

#[test]
fn values_change_in_their_places_and_comments_stay() {
    let before = r#"# About gifts.

[[case]]
name   = "a gift"                    # aligned by hand
source = "live"
topic  = "live.gifts"
key    = "42"
event  = '{"type":"gift","gift":"rose"}'
expect = [
  # the gift itself
  { account = "match", rooms = [ "43" ],   body = { type = "text", body = { customExts = { gift = 'tulip', to = "ann" } } } }, # why
]
# The end.
"#;
    let after = before
        .replace("account = \"match\"", "account = \"live\"")
        .replace("[ \"43\" ]", "[\"42\"]")
        .replace("type = \"text\"", "type = \"custom\"")
        .replace("gift = 'tulip', to = \"ann\"", "gift = \"rose\"");
    assert_eq!(updated(before, "1 case: 1 updated"), after);
}

#[test]
fn tables_with_headers_change_as_well() {
    let before = r#"[[case]]
name = "a score"
source = "match"
subject = "match.7.events"
event = '{"type":"score","home":2,"away":1}'

[[case.expect]]
rooms = ["7"]
exact = true

# The body, all of it.
[case.expect.body]
roomid = 8                           # a number stands for its text
msgType = 100                        # custom
resendFlag = "0"
fromAccid = "system"
attach = { event = "goal", data = { home = 2 } }
"#;
    let after = updated(before, "1 case: 1 updated");
    for kept in [
        "# The body, all of it.\n[case.expect.body]\n",
        "\nroomid = \"7\"                           # a number stands for its text\n",
        "\nmsgType = 100                        # custom\n",
        "\nattach = { event = \"score\", data = { home = 2, away = 1 } }\n",
        "\nmsgId = \"",
    ] {
        assert!(after.contains(kept), "no {kept:?} in {after}");
    }
}

#[test]
fn dotted_keys_change_as_well() {
    let before = r#"[[case]]
name = "a score"
source = "match"
subject = "match.7.events"
event = '{"type":"score","home":2}'

[[case.expect]]
rooms = ["7"]
body.msgType = 0                     # text?
body.attach.event = "goal"           # a word
body.attach.data.gone = 1
"#;
    let after = before
        .replace("body.msgType = 0 ", "body.msgType = \"100\" ")
        .replace("\"goal\"", "\"score\"")
        .replace("body.attach.data.gone = 1\n", "");
    assert_eq!(updated(before, "1 case: 1 updated"), after);
}

#[test]
fn every_case_of_the_ready_configs_can_be_written_from_nothing() {
    let mut written = 0;
    for entry in std::fs::read_dir("config").unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        let Some(config) = name.strip_suffix(".test.toml") else { continue };
        let config = std::fs::read_to_string(format!("config/{config}.toml")).unwrap();
        let mut cases: toml_edit::DocumentMut = std::fs::read_to_string(&path).unwrap().parse().unwrap();
        let tables = cases["case"].as_array_of_tables_mut().unwrap();
        for case in tables.iter_mut() {
            for kind in ["expect", "expect_letter", "expect_drop"] {
                case.remove(kind);
            }
        }
        let count = match tables.len() {
            1 => "1 case: 1".to_owned(),
            count => format!("{count} cases: {count}"),
        };
        written += tables.len();
        let folder = Folder::new(&[("roomcast.toml", &config), ("a.test.toml", &cases.to_string())]);
        assert_eq!(folder.test(&[]).code, 78, "{name}: nothing is expected");
        folder.test(&["--update"]).is(0, &format!("{count} updated"));
        folder.test(&[]).is(0, &format!("{count} passed"));
    }
    assert!(written >= 30, "{written} cases");
}

#[test]
fn another_kind_of_fate_takes_the_place_of_the_old_one() {
    let before = r#"[[case]]
name = "a letter"
source = "live"
topic = "live.gifts"
event = '{"type":"gift"}'
# It has no key.
expect_drop = "no_room"              # or has it

[[case]]
name = "a drop"
source = "live"
event = '{"type":"noise"}'
expect = [{ rooms = ["1"] }, { rooms = ["2"] }]

[[case]]
name = "messages"
source = "match"
key = "7"
event = '{"type":"score","home":2,"rooms":["7","lobby"]}'
expect_letter = "mapping"            # the lobby

[[case]]
name = "it passes"
source = "live"
event = '{"type":"noise"}'
expect_drop   =   "rule"
"#;
    let after = r#"[[case]]
name = "a letter"
source = "live"
topic = "live.gifts"
event = '{"type":"gift"}'
# It has no key.
expect_letter = "mapping"              # or has it

[[case]]
name = "a drop"
source = "live"
event = '{"type":"noise"}'
expect_drop = "rule"

[[case]]
name = "messages"
source = "match"
key = "7"
event = '{"type":"score","home":2,"rooms":["7","lobby"]}'
expect_letter = "invalid"            # the lobby
expect = [
  { account = "match", rooms = ["7"], body = { attach = { data = { home = 2 }, event = "score" }, fromAccid = "system", msgType = "100", resendFlag = "0", roomid = "7" } },
]

[[case]]
name = "it passes"
source = "live"
event = '{"type":"noise"}'
expect_drop   =   "rule"
"#;
    assert_eq!(updated(before, "4 cases: 1 passed, 3 updated"), after);
}

#[test]
fn a_case_without_an_expectation_gets_one() {
    let before = "[[case]]\nname = \"news\"\nsource = \"live\"\nevent = '{\"type\":\"news\",\"rooms\":[1],\"text\":\"hi\"}'\n";
    let after = before.to_owned()
        + "expect = [\n  { account = \"live\", rooms = [\"1\"], body = { body = { msg = \"hi\" }, chatroom_msg_level = \"normal\", from = \"system\", to = [\"1\"], type = \"txt\" } },\n]\n";
    assert_eq!(updated(before, "1 case: 1 updated"), after);
}

#[test]
fn more_and_fewer_messages_get_and_lose_their_entries() {
    let event = "source = \"live\"\nevent = '{\"type\":\"news\",\"rooms\":[1],\"text\":\"hi\"}'\n";
    let fewer =
        format!("[[case]]\nname = \"a\"\n{event}expect = [{{ rooms = [\"1\"] }}, {{ rooms = [\"2\"] }}]\n");
    let after = updated(&fewer, "1 case: 1 updated");
    assert!(after.ends_with("expect = [{ rooms = [\"1\"] }]\n"), "{after}");
    let tables = format!(
        "[[case]]\nname = \"a\"\n{event}[[case.expect]]\nrooms = [\"1\"]\n[[case.expect]]\nrooms = [\"2\"]\n"
    );
    let after = updated(&tables, "1 case: 1 updated");
    assert!(after.ends_with("[[case.expect]]\nrooms = [\"1\"]\n"), "{after}");
    let inline = format!(
        "case = [{{ name = \"a\", {}, expect_drop = \"rule\" }}]\n",
        event.trim().replace('\n', ", ")
    );
    let folder = Folder::new(&[("a.test.toml", &inline)]);
    folder.test(&["--update"]).is(0, "1 case: 1 updated");
    folder.test(&[]).is(0, "1 case: 1 passed");
}

#[test]
fn what_toml_cannot_say_is_written_as_json() {
    let before = r#"[[case]]
name = "a null in a list"
source = "match"
subject = "match.7.events"
event = '{"type":"score","home":[null, 18446744073709551615]}'
expect = [{ body = { attach = { data = { home = [1] } } } }]

[[case]]
name = "JSON stays JSON"
source = "match"
subject = "match.7.events"
event = '{"type":"score","home":2}'
expect = [{ body = '{"attach": {"data": {"home": 1}}}' }]
"#;
    let after = updated(before, "2 cases: 2 updated");
    assert!(
        after.contains(r#"body = '{"attach":{"data":{"home":[null,18446744073709551615]}}}'"#),
        "{after}"
    );
    assert!(after.contains(r#"body = '{"attach":{"data":{"home":2}}}'"#), "{after}");
}

#[test]
fn only_chosen_cases_change_and_what_changed_is_shown() {
    let case = |name: &str| {
        format!(
            "[[case]]\nname = '{name}'\nsource = 'live'\nevent = '{{\"type\":\"noise\"}}'\nexpect_drop = 'no_room'\n"
        )
    };
    let before = case("one") + &case("two");
    let folder = Folder::new(&[("a.test.toml", &before)]);
    let ended = folder.test(&["--update", "--only", "two"]);
    ended.is(0, "1 case: 1 updated");
    assert!(ended.stdout.starts_with("updated a.test.toml:6: two\n"), "{ended:#?}");
    assert!(
        ended.stdout.contains("-  \"expect_drop\": \"no_room\"\n    +  \"expect_drop\": \"rule\"\n"),
        "{ended:#?}"
    );
    assert_eq!(folder.read("a.test.toml"), case("one") + &case("two").replace("'no_room'", "\"rule\""));
}

#[test]
fn a_file_that_cannot_be_written_is_a_failure() {
    use std::os::unix::fs::PermissionsExt as _;
    let case =
        "[[case]]\nname = 'a'\nsource = 'live'\nevent = '{\"type\":\"noise\"}'\nexpect_drop = 'no_room'\n";
    let folder = Folder::new(&[("a.test.toml", case)]);
    let file = folder.path().join("a.test.toml");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o444)).unwrap();
    // Root may write whatever the permissions say.
    if std::fs::OpenOptions::new().append(true).open(&file).is_ok() {
        folder.test(&["--update"]).is(0, "1 case: 1 updated");
        return;
    }
    let ended = folder.test(&["--update"]);
    assert_eq!(ended.code, 1, "{ended:#?}");
    assert!(ended.stderr.starts_with("error: a.test.toml cannot be written: "), "{ended:#?}");
}
