//! What records become: who takes them, where they go, what they say.

use roomcast::core::model::{AccountId, Class, ConflateKey, DropReason, SourceId};

use crate::support::{plan, record, rules, told};

#[test]
fn without_routes_every_event_is_a_machine_event() {
    let told = plan("# one account", "1", r#"{"type":"goal","n":1}"#);
    let id = "id: \"";
    assert!(
        told.starts_with(
            "0/room/1 normal: room Machine(MachineEvent { as_command: false, event_type: \"goal\""
        ),
        "{told}"
    );
    assert!(told.contains(id) && told.contains(r#"time: "2026-01-31T23:59:59.123Z""#), "{told}");
    assert!(told.contains(r#"data: Object {"n": Number(1), "type": String("goal")}"#), "{told}");
    let told = plan("# one account", "1", "[1]");
    assert!(told.contains("event_type: \"live.events\""), "the topic is the type: {told}");
    let cloud = r#"{"specversion":"1.0","id":"e1","source":"/s","type":"goal.scored","time":"2026-01-31T10:00:00+08:00","data":{"n":1}}"#;
    let told = plan("# one account", "1", cloud);
    for part in [
        "event_type: \"goal.scored\"",
        "id: \"e1\"",
        "2026-01-31T10:00:00+08:00",
        r#"data: Object {"n": Number(1)}"#,
    ] {
        assert!(told.contains(part), "{part} in {told}");
    }
}

#[test]
fn the_first_route_that_takes_an_event_has_it() {
    let config = r#"
        [[routes]]
        name = "noise"
        when = '.type | startswith("debug.")'
        drop = true
        [[routes]]
        name = "fails"
        when = '.type.x'
        account = "live"
        [[routes]]
        name = "other-source"
        source = "nats"
        account = "live"
        [[routes]]
        name = "other-topic"
        topics = ["a", "b"]
        account = "live"
        [[routes]]
        name = "other-subject"
        subjects = "live.*.x"
        account = "live"
        [[routes]]
        name = "text"
        when = '.type == "chat"'
        subjects = ["live.>"]
        account = "match"
        message = { kind = "text", text = '.data.text' }
    "#;
    let rules = rules(config);
    let chat = rules.plan(&record(Some(b"1"), br#"{"type":"chat","data":{"text":"hi"}}"#));
    assert_eq!(
        told(&chat),
        r#"1/room/1 normal: room Text { text: "hi" } [] sender=None ext=None options={}"#
    );
    assert_eq!((chat.when_errors, chat.route.map(|id| id.0), chat.account), (1, Some(5), Some(AccountId(1))));
    let noise = rules.plan(&record(Some(b"1"), br#"{"type":"debug.x"}"#));
    assert_eq!((noise.dropped, noise.account), (Some(DropReason::Rule), None));
    let other = rules.plan(&record(Some(b"1"), br#"{"type":"x"}"#));
    assert_eq!(other.dropped, Some(DropReason::Unmatched));
    let explanation = rules.explain(&record(Some(b"1"), br#"{"type":"chat","data":{"text":"hi"}}"#));
    let why: Vec<String> =
        explanation.tried.iter().map(|t| format!("{} {} {}", t.route, t.took, t.why)).collect();
    for (line, part) in [
        (0, "noise false its `when` is false: .type | startswith"),
        (1, "fails false its `when` failed, which counts as false: cannot index"),
        (2, "other-source false takes events of another source than \"kafka\""),
        (3, "other-topic false its topics do not have \"live.events\""),
        (4, "other-subject false none of its subjects fits"),
        (5, "text true its `when` is true"),
    ] {
        assert!(why[line].contains(part), "{why:#?}");
    }
    assert_eq!(explanation.rooms.len(), 1);
    assert_eq!(told(&explanation.plan), told(&chat));
}

#[test]
fn unmatched_events_and_tombstones_have_their_fates() {
    let config = "sources.kafka.unmatched = \"dead_letter\"\n[[routes]]\nname = \"r\"\nwhen = 'error'\naccount = \"live\"";
    let rules = rules(config);
    let plan = rules.plan(&record(None, b"1"));
    assert_eq!((plan.failures[0].class, plan.when_errors), (Class::NoRoute, 1));
    assert!(plan.failures[0].error.contains("the `when` of 1 failed"), "{:?}", plan.failures);
    let mut tombstone = record(Some(b"1"), b"");
    tombstone.value = None;
    assert_eq!(told(&rules.plan(&tombstone)), "dropped: tombstone");
}

#[test]
fn rooms_are_what_the_filter_gives() {
    let route = |rest: &str| {
        format!(
            "[[routes]]\nname = \"r\"\naccount = \"match\"\nmessage = {{ kind = \"text\", text = '\"x\"' }}\n{rest}"
        )
    };
    let x = r#"Text { text: "x" } [] sender=None ext=None options={}"#;
    for (rest, key, event, expected) in [
        ("", "7", "{}", format!("1/room/7 normal: room {x}")),
        ("rooms = '.r[]'", "7", r#"{"r":["1",2,"1",2,9007199254740993]}"#, format!("1/room/1 normal: room {x}\n1/room/2 normal: room {x}\n1/room/9007199254740993 normal: room {x}")),
        ("rooms = '.r[]'", "7", r#"{"r":[]}"#, "dropped: no_room".to_owned()),
        ("rooms = '.r[]?'", "7", r#"{"r":null}"#, "dropped: no_room".to_owned()),
        ("rooms = '.r[]'", "7", r#"{"r":["1","a","b"]}"#, format!("1/room/1 normal: room {x}\ninvalid: a room id of fake is a decimal number [\"a\", \"b\"]")),
        ("rooms = '.r[]'", "7", r#"{"r":[1,2,3,4,5,6]}"#, "mapping: rooms gives 6 rooms; max_rooms_per_event is 5 []".to_owned()),
        ("rooms = '.r[]'", "7", r#"{"r":[1,2,3,4,5,6,7,8,9,10,11]}"#, "mapping: rooms: gives more than 10 outputs, at most that many is wanted []".to_owned()),
        ("rooms = '.r'", "7", "{}", "mapping: rooms gives null; room ids are wanted: texts that are not empty, or whole numbers []".to_owned()),
        ("rooms = '.r'", "7", r#"{"r":1.5}"#, "mapping: rooms gives 1.5; room ids are wanted: texts that are not empty, or whole numbers []".to_owned()),
        ("rooms = '.r'", "7", r#"{"r":{}}"#, "mapping: rooms gives {}; room ids are wanted: texts that are not empty, or whole numbers []".to_owned()),
        ("rooms = '.r.x'", "7", r#"{"r":1}"#, "mapping: rooms: cannot index 1 with \"x\" []".to_owned()),
        ("", "", "{}", "mapping: rooms: the record's key is empty, and the room is taken from it []".to_owned()),
        ("users = '.to'", "7", r#"{"to":["a","b","a",3]}"#, "1/users/7 normal: users Text { text: \"x\" } [\"a\", \"b\", \"3\"] sender=None ext=None options={}".to_owned()),
        ("users = '.to[]'", "7", r#"{"to":["a"]}"#, "1/users/7 normal: users Text { text: \"x\" } [\"a\"] sender=None ext=None options={}".to_owned()),
        ("users = '.to[]'", "7", r#"{"to":[]}"#, "dropped: no_room".to_owned()),
        ("users = '.to'", "7", "{}", "mapping: users gives null; ids of members are wanted []".to_owned()),
        ("users = '.to'\nrooms = '1, 2'", "7", r#"{"to":"a"}"#, "mapping: users: 2 rooms; members are addressed in one room []".to_owned()),
        ("all_rooms = true", "", "{}", "1/broadcast/ normal: broadcast Text { text: \"x\" } [] sender=None ext=None options={}".to_owned()),
        ("priority = \"high\"", "7", "{}", format!("1/room/7 high: room {x}")),
        ("priority = '.p // \"low\"'", "7", "{}", format!("1/room/7 low: room {x}")),
        ("priority = '.p'", "7", r#"{"p":"urgent"}"#, "mapping: priority gives \"urgent\"; \"high\", \"normal\" or \"low\" is wanted []".to_owned()),
    ] {
        assert_eq!(plan(&route(rest), key, event), expected, "{rest} {event}");
    }
    let keys = rules(&route(""));
    let told_of = |key: Option<&[u8]>| told(&keys.plan(&record(key, b"{}")));
    assert!(told_of(None).contains("the record has no key"), "{}", told_of(None));
    assert!(
        told_of(Some(b"\xff\xfe")).starts_with("mapping: rooms: a key of 2 bytes that is not UTF-8 (byte 1)")
    );
    let long = vec![b'1'; 1 << 20];
    assert_eq!(told_of(Some(&long)), "invalid: a room id of 1048576 bytes; at most 1024 []");
}

/// Messages of a route to `live`, and a part of what the event of this test becomes by each.
#[track_caller]
fn assert_filled(table: &[(&str, &str)]) {
    let event = r#"{"t":"hi","n":3,"u":"ann","null":null,"o":{"a":[1]},"f":30.5,"s":"-7.25"}"#;
    for (message, expected) in table {
        let route = format!("[[routes]]\nname = \"r\"\naccount = \"live\"\nmessage = {message}");
        let told = plan(&route, "5", event);
        assert!(told.contains(expected), "{message}: {told}");
    }
}

#[test]
fn texts_come_from_their_filters() {
    assert_filled(&[
        (r#"{ kind = "text", text = '"\(.u): \(.n)"' }"#, r#"Text { text: "ann: 3" }"#),
        (r#"{ kind = "text", text = '.n' }"#, r#"Text { text: "3" }"#),
        (r#"{ kind = "text", text = 7 }"#, r#"Text { text: "7" }"#),
        (r#"{ kind = "text", text = '$key + $topic' }"#, r#"Text { text: "5live.events" }"#),
        (r#"{ kind = "text", text = '.null' }"#, "mapping: message.text gives null; a value is wanted"),
        (r#"{ kind = "text", text = '.o' }"#, "mapping: message.text gives an object; a text is wanted"),
        (
            r#"{ kind = "text", text = 'empty' }"#,
            "mapping: message.text: gives nothing, one output is wanted",
        ),
        (
            r#"{ kind = "text", text = '.t, .u' }"#,
            "mapping: message.text: gives more than one output, one is wanted",
        ),
        (r#"{ kind = "text", text = '.t | error' }"#, "mapping: message.text: \"hi\""),
        (
            r#"{ kind = "text", text = '[.t * .n] | tostring' }"#,
            "mapping: message.text: cannot calculate \"hi\" * 3",
        ),
        (
            r#"{ kind = "text", text = '.t + "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789"' }"#,
            "invalid: a text of 102 bytes; at most 100 [\"5\"]",
        ),
    ]);
}

#[test]
fn every_kind_has_its_own_fields() {
    assert_filled(&[
        (
            r#"{ kind = "image", url = '.u', width = '.n', bytes = 10 }"#,
            r#"Image(Media { url: "ann", name: None, width: Some(3), height: None, duration_ms: None, bytes: Some(10)"#,
        ),
        (
            r#"{ kind = "image", url = '.u', width = '.f' }"#,
            "mapping: message.width gives a number; a whole number that is not negative is wanted",
        ),
        (r#"{ kind = "audio", url = '.u', duration_ms = '.null' }"#, "duration_ms: None"),
        (r#"{ kind = "video", url = '.u', thumb = '.t' }"#, r#"thumb: Some("hi")"#),
        (r#"{ kind = "file", url = '.u', name = '.t' }"#, r#"File(Media { url: "ann", name: Some("hi")"#),
        (
            r#"{ kind = "location", lat = '.f', lng = '.s', address = '.t' }"#,
            r#"Location { lat: 30.5, lng: -7.25, address: "hi" }"#,
        ),
        (
            r#"{ kind = "location", lat = '.t', lng = 1, address = '.t' }"#,
            "mapping: message.lat gives the text \"hi\"; a number is wanted",
        ),
        (
            r#"{ kind = "command", action = '.t', data = '{n}' }"#,
            r#"Command { action: "hi", data: Some(Object {"n": Number(3)}) }"#,
        ),
        (
            r#"{ kind = "custom", event = '.t', fields = { u = '.u', n = 4, deep = ['.t', true] } }"#,
            r#"Custom { event: "hi", fields: Some(Object {"deep": Array [String("hi"), Bool(true)], "n": Number(4), "u": String("ann")}), attach: None }"#,
        ),
        (r#"{ kind = "custom", attach = '.o' }"#, r#"attach: Some(Object {"a": Array [Number(1)]})"#),
    ]);
}

#[test]
fn what_stands_beside_the_content_and_machine_events() {
    assert_filled(&[
        (
            r#"{ kind = "text", text = '.t', sender = '.u', ext = { room = '$key' }, options = { level = '.n' } }"#,
            r#"sender=Some("ann") ext=Some(Object {"room": String("5")}) options={"level":3}"#,
        ),
        (
            r#"{ kind = "text", text = '.t', ext = '.t' }"#,
            "mapping: message.ext gives a text; an object is wanted",
        ),
        (
            r#"{ kind = "text", text = '.t', ext = '.null', options = { level = '.null' } }"#,
            "sender=None ext=None options={}",
        ),
        (r#""command""#, "Machine(MachineEvent { as_command: true"),
        (r#""custom""#, "Machine(MachineEvent { as_command: false"),
    ]);
}

#[test]
fn an_account_is_counted_by_the_first_source_that_feeds_it() {
    let rules = rules(
        r#"
        [[routes]]
        name = "scores"
        source = "nats"
        account = "match"
        [[routes]]
        name = "rest"
        account = "live"
        "#,
    );
    assert_eq!(rules.first_source_of(AccountId(1)), Some(SourceId(1)), "only the second source's events");
    assert_eq!(rules.first_source_of(AccountId(0)), Some(SourceId(0)), "any source's events");
    assert_eq!(rules.first_source_of(AccountId(2)), None, "nobody sends through it");
}

/// The keys of an event's messages.
fn keys(rest: &str, event: &str) -> Vec<Option<ConflateKey>> {
    let route = format!(
        "[[routes]]\nname = \"r\"\naccount = \"match\"\nmessage = {{ kind = \"text\", text = '\"x\"' }}\n{rest}"
    );
    let plan = rules(&route).plan(&record(Some(b"7"), event.as_bytes()));
    assert!(plan.failures.is_empty(), "{rest} {event}: {plan:?}");
    plan.messages.into_iter().map(|message| message.conflate).collect()
}

#[test]
fn conflate_gives_the_messages_of_an_event_their_key() {
    let board = "conflate = '.board'";
    let key = |event: &str| keys(board, event)[0];
    assert_eq!(keys("", r#"{"board":"a"}"#), [None]);
    assert_eq!((key("{}"), key(r#"{"board":null}"#)), (None, None), "null stands for itself");
    for (one, other, alike) in [
        (r#"{"board":"a","n":1}"#, r#"{"board":"a","n":2}"#, true),
        (r#"{"board":"a"}"#, r#"{"board":"b"}"#, false),
        (r#"{"board":1}"#, r#"{"board":1.0}"#, true),
        (r#"{"board":1}"#, r#"{"board":"1"}"#, false),
        (r#"{"board":false}"#, r#"{"board":false}"#, true),
        (r#"{"board":{"a":1,"b":[2]}}"#, r#"{"board":{"b":[2],"a":1}}"#, true),
        (r#"{"board":{"a":1}}"#, r#"{"board":{"a":2}}"#, false),
    ] {
        assert!(key(one).is_some() && key(other).is_some(), "{one} {other}");
        assert_eq!(key(one) == key(other), alike, "{one} {other}");
    }
    let siblings = keys("rooms = '\"1\", \"2\"'\nconflate = '.board'", r#"{"board":"a"}"#);
    assert!(siblings.len() == 2 && siblings[0] == siblings[1] && siblings[0] == key(r#"{"board":"a"}"#));
    let to = |event: &str| keys("users = '.to'\nconflate = '.board'", event)[0];
    let (ann, bob) = (to(r#"{"board":1,"to":"ann"}"#), to(r#"{"board":1,"to":"bob"}"#));
    assert!(
        ann != bob && ann == to(r#"{"board":1,"to":["ann"]}"#),
        "what bob gets supersedes nothing of ann's"
    );
}

#[test]
fn a_conflate_that_fails_is_a_letter() {
    let route =
        |conflate: &str| format!("[[routes]]\nname = \"r\"\naccount = \"match\"\nconflate = '{conflate}'");
    for (conflate, expected) in [
        (".n.x", "mapping: conflate: cannot index 1 with \"x\" []"),
        ("empty", "mapping: conflate: gives nothing, one output is wanted []"),
        ("1, 2", "mapping: conflate: gives more than one output, one is wanted []"),
    ] {
        assert_eq!(plan(&route(conflate), "7", r#"{"n":1}"#), expected);
    }
    let found = rules(&route(".n")).explain(&record(Some(b"7"), br#"{"n":1}"#));
    assert_eq!(found.conflate, Some(1.into()));
    // Headers are made where a filter looks at them.
    let mut headed = record(Some(b"7"), b"{}");
    headed.headers = vec![("board".into(), "a".into())];
    let found = rules(&route("$headers.board")).explain(&headed);
    assert_eq!(found.conflate, Some("a".into()));
}
