//! One event, several messages: `messages = [ … ]`.

use std::sync::Arc;

use roomcast::core::model::{BaseId, Class};

use crate::support::{build, plan, record, rules, told};

const TWO: &str = r#"
    [[routes]]
    name = "gifts"
    account = "match"
    rooms = '.data.rooms[]'
    messages = [
      { kind = "text", text = '.data.text' },
      { kind = "custom", event = '"gift"', fields = '{n: .data.n}' },
      "command",
    ]
"#;

fn event(data: &str) -> Vec<u8> {
    format!(r#"{{"specversion":"1.0","id":"a-1","source":"/shop","type":"t","data":{data}}}"#).into_bytes()
}

#[test]
fn every_message_goes_to_every_room_in_the_order_of_the_list() {
    let rules = rules(TWO);
    let plan = rules.plan(&record(None, &event(r#"{"rooms":[1,2],"text":"hi","n":3}"#)));
    let said: Vec<String> = told(&plan)
        .lines()
        .map(|line| line.split_once(" []").map_or(line, |(head, _)| head).to_owned())
        .collect();
    assert_eq!(said.len(), 6, "{said:?}");
    for (line, head) in [
        (0, "0/room/1 normal: room Text { text: \"hi\" }"),
        (1, "0/room/2 normal: room Text { text: \"hi\" }"),
        (2, "0/room/1 normal: room Custom { event: \"gift\""),
        (3, "0/room/2 normal: room Custom { event: \"gift\""),
        (4, "0/room/1 normal: room Machine(MachineEvent { as_command: true"),
        (5, "0/room/2 normal: room Machine(MachineEvent { as_command: true"),
    ] {
        assert!(said[line].replacen("1/room", "0/room", 1).starts_with(head), "{}", said[line]);
    }
    // Siblings share a content, messages of the list do not.
    let contents: Vec<_> = plan.messages.iter().map(|message| Arc::as_ptr(&message.content)).collect();
    for pair in contents.chunks(2) {
        assert_eq!(pair[0], pair[1]);
    }
    assert!(contents[0] != contents[2] && contents[2] != contents[4]);
}

#[test]
fn each_has_an_id_of_its_own_and_the_first_the_one_it_has_alone() {
    let plan = rules(TWO).plan(&record(None, &event(r#"{"rooms":[1,2],"text":"hi","n":3}"#)));
    let bases: Vec<BaseId> = plan.messages.iter().map(|message| message.base).collect();
    assert_eq!(bases[0].to_string(), "bb7f6bce-c4d1-508f-a1b7-5e4d8f9aa502", "index 0: as with `message`");
    // Made by Python: uuid5(NAMESPACE, '["event","/shop","a-1","gifts",1]'), and with 2.
    assert_eq!(bases[2].to_string(), "c242c0b7-8d72-5c79-b919-2eaa0ce648c1");
    assert_eq!(bases[4].to_string(), "b3b60f56-cf1a-514d-98e3-994cd0450f44");
    assert_eq!((bases[0], bases[2], bases[4]), (bases[1], bases[3], bases[5]), "siblings share it");
    assert_eq!(plan.base, bases[0]);
    for message in &plan.messages {
        assert_eq!(message.id, message.base.message(&message.room));
    }
}

#[test]
fn one_that_cannot_be_mapped_keeps_all_of_them_back_and_one_that_is_refused_only_itself() {
    assert_eq!(
        plan(TWO, "1", r#"{"data":{"rooms":[1],"text":[],"n":3}}"#),
        "mapping: message.text gives an array; a text is wanted []"
    );
    let long = "x".repeat(101);
    let plan =
        rules(TWO).plan(&record(None, &event(&format!(r#"{{"rooms":[1,"x"],"text":"{long}","n":3}}"#))));
    assert_eq!(plan.messages.len(), 2, "the second and third, each to the one room that is good");
    let letters: Vec<(Class, usize, &str)> = plan
        .failures
        .iter()
        .map(|letter| (letter.class, letter.rooms.len(), letter.error.as_str()))
        .collect();
    let room = (Class::Invalid, 1, "a room id of fake is a decimal number");
    assert_eq!(letters, [room, (Class::Invalid, 1, "a text of 101 bytes; at most 100"), room, room]);
    let bases: Vec<BaseId> = plan.failures.iter().map(|letter| letter.base).collect();
    assert_eq!(
        bases[2..],
        [plan.messages[0].base, plan.messages[1].base],
        "each letter names its own message"
    );
    assert_eq!(bases[..2], [plan.base, plan.base]);
    // Where no room is good, each message still has its letter.
    let plan = rules(TWO).plan(&record(None, &event(r#"{"rooms":["x"],"text":"t","n":3}"#)));
    assert!(plan.messages.is_empty());
    let bases: Vec<BaseId> = plan.failures.iter().map(|letter| letter.base).collect();
    assert_eq!(bases.len(), 3);
    assert!(bases[0] == plan.base && bases[1] != bases[0] && bases[2] != bases[1]);
}

#[test]
fn a_newer_event_supersedes_message_by_message() {
    let route = format!("{TWO}\nconflate = '.data.n'");
    let keys = |data: &str| -> Vec<_> {
        rules(&route).plan(&record(None, &event(data))).messages.iter().map(|m| m.conflate).collect()
    };
    let (one, other) = (keys(r#"{"rooms":[1],"text":"a","n":1}"#), keys(r#"{"rooms":[1],"text":"b","n":1}"#));
    assert_eq!(one, other, "the first takes the place of the first, the second of the second");
    assert!(one[0] != one[1] && one[1] != one[2] && one[0] != one[2], "never of one beside it");
    let (head, _) = TWO.split_once("messages").unwrap();
    let single = format!("{head}message = 'custom'\nconflate = '.data.n'");
    let alone = rules(&single).plan(&record(None, &event(r#"{"rooms":[1],"text":"a","n":1}"#)));
    assert_eq!(alone.messages[0].conflate, one[0]);
}

#[test]
fn what_is_wrong_with_one_of_them_is_told_at_its_place() {
    let head = "[[routes]]\nname = 'a'\naccount = 'live'\n";
    for (rest, key, found, wanted) in [
        ("messages = []", "routes[0].messages", "a list of 0", "1 to 16"),
        ("messages = 'custom'", "routes[0].messages", "a string", "a list of 1 to 16"),
        (
            "messages = [{ kind = 'tip', text = '1' }]",
            "routes[0].messages[0].kind",
            "\"tip\"",
            "a kind that fake has",
        ),
        ("messages = ['custom', 'text']", "routes[0].messages[1]", "\"text\"", "a table such as"),
        (
            "messages = ['custom', { kind = 'text', txt = '.a' }]",
            "routes[0].messages[1].text",
            "nothing",
            "a filter",
        ),
        ("messages = ['custom']\nmessage = 'custom'", "routes[0].messages", "both", "only one"),
    ] {
        let config = format!("{head}{rest}");
        let (made, problems) = build(&config);
        assert!(made.is_none(), "{config}");
        let problem = problems.iter().find(|problem| problem.key == key);
        let problem = problem.unwrap_or_else(|| panic!("{config}\n{problems:#?}"));
        assert!(problem.found.contains(found) && problem.wanted.contains(wanted), "{config}\n{problem:#?}");
    }
    let (_, problems) = build(&format!("{head}messages = [1, {{ kind = 'text', text = '.a |' }}, true]"));
    let keys: Vec<&str> = problems.iter().map(|problem| problem.key.as_str()).collect();
    assert_eq!(
        keys,
        ["routes[0].messages[0]", "routes[0].messages[1].text", "routes[0].messages[2]"],
        "all at once"
    );
}

#[test]
fn a_header_that_only_a_later_message_looks_at_is_there() {
    let route = "[[routes]]\nname = \"r\"\naccount = \"match\"\nmessages = [\"custom\", { kind = \"text\", text = '$headers.a' }]";
    let mut headed = record(Some(b"7"), b"{}");
    headed.headers = vec![("a".into(), "from the header".into())];
    assert!(told(&rules(route).plan(&headed)).contains("from the header"));
}
