//! What a request for a replay becomes: what its letter owes, under the ids of the first try, and no more.

use serde_json::{Value as Json, json};

use super::directory::{Directories, DirectoryView, Map, Unknown};
use super::*;
use crate::core::model::{BaseId, Class, DirectoryId, DropReason, Message, Plan, Priority, Record, Room};
use crate::core::provider::easemob;
use crate::core::replay::tests::{asked, letter, names, record, request};
use crate::core::replay::{Content, Request, open};
use crate::core::section::{Node, Place, Report, Table};
use crate::core::time::Wall;

/// The sources of the config: `live`, of which the letters are, and `other`.
const LIVE: SourceId = SourceId(0);
const OTHER: SourceId = SourceId(1);

fn node(json: Json) -> Node {
    let value = match json {
        Json::Bool(word) => Value::Boolean(word),
        Json::Number(number) => Value::Integer(number.as_i64().expect("whole numbers are used")),
        Json::String(text) => Value::Text(text),
        Json::Array(items) => Value::List(items.into_iter().map(node).collect()),
        Json::Object(fields) => {
            Value::Table(fields.into_iter().map(|(key, json)| (key, node(json))).collect())
        }
        Json::Null => unreachable!("a config has no null"),
    };
    Node { value, place: Place::Nowhere, key_place: Place::Nowhere }
}

fn table(json: Json) -> Table {
    match node(json).value {
        Value::Table(table) => table,
        _ => unreachable!("an object is wanted"),
    }
}

/// Rules of these routes, whose account sends one room a call, with a directory `rooms`; `live` says this
/// of itself.
fn rules_of(live: Json, routes: Json) -> Rules {
    let report = Report::new(&|_| Err("closed".to_owned()));
    let account = table(json!({
        "base_url": "https://a.example", "org": "o", "app": "a", "app_token": "t-0123456789", "rooms_per_call": 1,
    }));
    let provider = easemob::build(&Section::new("accounts.match", &account, Place::Nowhere, &report));
    let provider = Arc::from(provider.expect("the account can be used"));
    let accounts = [AccountView { id: AccountId(0), name: "match".into(), provider }];
    let directory = DirectoryView { id: DirectoryId(0), name: "rooms".into(), unknown: Unknown::DeadLetter };
    let (live, other, root) = (
        table(live),
        Table::new(),
        table(Json::Object([("routes".to_owned(), routes)].into_iter().collect())),
    );
    let live = Section::new("sources.live", &live, Place::Nowhere, &report);
    let other = Section::new("sources.other", &other, Place::Nowhere, &report);
    let root = Section::new("", &root, Place::Nowhere, &report);
    let rules = Rules::build(&root, &accounts, &[(LIVE, &live), (OTHER, &other)], &[directory], 5);
    assert!(report.is_clean(), "{:#?}", report.into_problems());
    rules.expect("a config without problems has rules")
}

fn rules(routes: Json) -> Rules {
    rules_of(json!({}), routes)
}

/// A route `gifts` of two rooms and one text, and what a test says of it instead.
fn gifts(more: &Json) -> Json {
    let mut route = json!({
        "name": "gifts", "account": "match", "rooms": ".rooms[]",
        "message": { "kind": "text", "text": ".text" },
    });
    for (key, value) in more.as_object().expect("keys of a route") {
        match value {
            Json::Null => drop(route.as_object_mut().expect("a route").remove(key)),
            value => route[key] = value.clone(),
        }
    }
    route
}

/// A record as it came first, with this value.
fn live(value: &Json) -> Record {
    Record { value: Some(value.to_string().into()), ..record() }
}

fn event() -> Record {
    live(&json!({ "rooms": ["r1", "r2", "r3"], "text": "hello" }))
}

/// A request to replay the letter of a record as the routes say now, and the record that it opens to. The
/// letter is `rejected` and owes `r2` and `r1`, under the base id 5.
fn asked_for(record: Record) -> (Request, Record) {
    let (mut request, record) = open(&request(&letter(record).seal(&names(), Wall(0)))).expect("a request");
    (request.asked.content, request.asked.keep_ttl) = (Content::Current, false);
    (request, record)
}

fn plan(rules: &Rules, (request, record): &(Request, Record)) -> Plan {
    rules.plan_replay(request, record, LIVE, &Directories::default())
}

fn rooms(plan: &Plan) -> Vec<&str> {
    plan.messages.iter().map(|message| &*message.room.0).collect()
}

/// Class, error and rooms of a plan's letters.
fn letters(plan: &Plan) -> Vec<(Class, &str, Vec<&str>)> {
    plan.failures
        .iter()
        .map(|letter| {
            (letter.class, letter.error.as_str(), letter.rooms.iter().map(|room| &*room.0).collect())
        })
        .collect()
}

fn says(message: &Message, text: &str) -> bool {
    String::from_utf8_lossy(&message.content.single).contains(text)
}

#[test]
fn the_rooms_that_are_owed_get_what_the_routes_say_now_and_no_others_do() {
    let rules = rules(json!([gifts(&json!({ "message": { "kind": "text", "text": "\"now: \" + .text" } }))]));
    let plan = plan(&rules, &asked_for(event()));
    assert_eq!((rooms(&plan), plan.route), (vec!["r2", "r1"], Some(RouteId(0))));
    assert!(plan.messages.iter().all(|message| says(message, "now: hello")));
    assert_eq!((letters(&plan), plan.dropped), (vec![], None));
}

/// Where the route gives other rooms now, or none, they are still those of the letter.
#[test]
fn a_route_that_gives_other_rooms_now_does_not_change_whom_the_letter_owes() {
    for rooms_now in ["\"r7\"", "empty", "$key"] {
        let rules = rules(json!([gifts(&json!({ "rooms": rooms_now }))]));
        assert_eq!(rooms(&plan(&rules, &asked_for(event()))), ["r2", "r1"], "{rooms_now}");
    }
}

/// So a repeat is one: the provider, and whoever reads in the room, know it by its id.
#[test]
fn messages_have_the_ids_of_the_first_try_whatever_changed_since() {
    let route = |name: &str| rules(json!([gifts(&json!({ "name": name }))]));
    let first = route("gifts").plan(&event());
    let id = |plan: &Plan, room: &str| {
        let message = plan.messages.iter().find(|message| &*message.room.0 == room).expect("it is sent");
        (message.id, message.base)
    };
    let mut owed = asked_for(event());
    owed.0.told.base = first.base;
    let mut patched = asked_for(live(&json!({
        "specversion": "1.0", "id": "another", "source": "/s", "type": "t", "text": "patched",
    })));
    patched.0.told.base = first.base;
    for (rules, owed) in [(route("gifts"), &owed), (route("renamed"), &owed), (route("gifts"), &patched)] {
        let again = plan(&rules, owed);
        assert_eq!((again.base, again.messages.len()), (first.base, 2));
        for room in ["r1", "r2"] {
            assert_eq!(id(&again, room), id(&first, room));
        }
    }
    assert!(owed.1.maybe_tried, "and it is marked as a repeat");
}

#[test]
fn of_a_route_with_several_messages_the_one_that_is_owed_is_sent() {
    let texts = |count: usize| {
        let one = |index| json!({ "kind": "text", "text": format!("\"number {index} of \" + .text") });
        rules(json!([gifts(
            &json!({ "message": null, "messages": (0..count).map(one).collect::<Vec<_>>() })
        )]))
    };
    let first = texts(3).plan(&event());
    let mut owed = asked_for(event());
    for (index, of_message) in first.messages.chunks(3).enumerate() {
        owed.0.told.base = of_message[0].base;
        let again = plan(&texts(3), &owed);
        assert_eq!(rooms(&again), ["r2", "r1"]);
        assert!(again.messages.iter().all(|message| says(message, &format!("number {index} of hello"))));
        assert!(again.messages.iter().all(|message| message.base == of_message[0].base));
    }
    // It was the third that is owed.
    let fewer = plan(&texts(2), &owed);
    let error = "the letter owes message 2 of the route, which makes 2 now";
    assert_eq!((rooms(&fewer), letters(&fewer)), (vec![], vec![(Class::Mapping, error, vec!["r2", "r1"])]));
    assert_eq!(fewer.failures[0].base, owed.0.told.base);
    // No message of the event as it is now has that id: a patch made it another one.
    owed.0.told.base = BaseId(uuid::Uuid::from_u128(5));
    let changed = plan(&texts(3), &owed);
    assert_eq!(rooms(&changed), ["r2", "r1"]);
    assert!(changed.messages.iter().all(|message| says(message, "number 0 of hello")));
}

#[test]
fn a_room_that_is_refused_now_is_told_of_once_for_the_message_that_is_owed() {
    let text = json!({ "kind": "text", "text": ".text" });
    let rules = rules(json!([gifts(&json!({ "message": null, "messages": [text, text, text] }))]));
    let mut owed = asked_for(event());
    owed.0.told.base = rules.plan(&event()).messages[3].base;
    owed.0.told.rooms = vec![Room("r\u{1}".into())];
    let none = plan(&rules, &owed);
    assert_eq!((none.messages.len(), none.failures.len()), (0, 1), "{none:#?}");
    owed.0.told.rooms.push(Room("r2".into()));
    let one = plan(&rules, &owed);
    assert_eq!((rooms(&one), one.failures.len()), (vec!["r2"], 1));
    for failure in [&none.failures[0], &one.failures[0]] {
        assert_eq!((failure.class, failure.base), (Class::Invalid, owed.0.told.base));
        assert_eq!(failure.rooms, [Room("r\u{1}".into())], "the other room is not owed by this letter");
    }
}

#[test]
fn a_record_that_never_became_messages_is_routed_anew() {
    let text = |text: &str| json!({ "kind": "text", "text": text });
    let rules =
        rules(json!([gifts(&json!({ "message": null, "messages": [text(".text"), text("\"two\"")] }))]));
    let first = rules.plan(&event());
    let ids = |plan: &Plan| plan.messages.iter().map(|message| message.id).collect::<Vec<_>>();
    for class in [Class::Garbled, Class::Mapping, Class::NoRoute] {
        let mut owed = asked_for(event());
        (owed.0.told.class, owed.0.told.rooms) = (Some(class), Vec::new());
        let again = plan(&rules, &owed);
        assert_eq!(rooms(&again), ["r1", "r2", "r3", "r1", "r2", "r3"], "{class:?}");
        assert_eq!((ids(&again), again.base), (ids(&first), first.base), "the event's own ids");
        // Once it owed rooms: the letter of a replay that failed in the routes.
        owed.0.told.rooms = vec![Room("r3".into())];
        let owing = plan(&rules, &owed);
        assert_eq!((rooms(&owing), owing.base), (vec!["r3"], owed.0.told.base), "{class:?}");
    }
}

/// A broadcast owes no rooms by name; neither does a letter whose rooms are not known.
#[test]
fn a_letter_without_rooms_owes_its_message_to_those_that_the_route_gives() {
    let broadcast = rules(json!([gifts(&json!({ "rooms": null, "all_rooms": true }))]));
    let mut owed = asked_for(event());
    owed.0.told.rooms.clear();
    for (rules, wanted) in
        [(broadcast, vec![""]), (rules(json!([gifts(&json!({}))])), vec!["r1", "r2", "r3"])]
    {
        let plan = plan(&rules, &owed);
        assert_eq!(rooms(&plan), wanted);
        assert!(plan.messages.iter().all(|message| message.base == owed.0.told.base));
    }
}

#[test]
fn a_route_that_sends_to_all_rooms_now_sends_nothing_for_a_letter_that_owes_some() {
    let rules = rules(json!([gifts(&json!({ "rooms": null, "all_rooms": true }))]));
    let plan = plan(&rules, &asked_for(event()));
    let error = "the route sends to all rooms now, and the letter owes some";
    assert_eq!((rooms(&plan), letters(&plan)), (vec![], vec![(Class::Mapping, error, vec!["r2", "r1"])]));
}

#[test]
fn a_directory_is_asked_only_where_the_letter_owes_no_rooms() {
    let rules = rules(json!([gifts(&json!({ "rooms": { "directory": "rooms" } }))]));
    let mut owed = asked_for(event());
    let known = plan(&rules, &owed);
    assert_eq!((rooms(&known), &known.waits), (vec!["r2", "r1"], &None), "it is not loaded, and not needed");
    (owed.0.told.class, owed.0.told.rooms) = (Some(Class::NoRoute), Vec::new());
    assert!(plan(&rules, &owed).waits.is_some());
    let mut map = Map::default();
    map.insert("r1", &["1001"]);
    let mut directories = Directories::new(1);
    directories.load(DirectoryId(0), map);
    assert_eq!(rooms(&rules.plan_replay(&owed.0, &owed.1, LIVE, &directories)), ["1001"]);
}

#[test]
fn messages_go_behind_live_ones_each_for_itself_and_expire_only_if_that_is_asked() {
    let rules = rules(json!([gifts(&json!({ "priority": "high", "ttl": "10s", "conflate": ".text" }))]));
    let fate = |plan: &Plan| {
        let message = &plan.messages[0];
        (message.priority, message.expires, message.conflate.is_some())
    };
    let ends = Some(record().timestamp + std::time::Duration::from_secs(10));
    assert_eq!(fate(&rules.plan(&event())), (Priority::High, ends, true));
    let mut owed = asked_for(event());
    assert_eq!(fate(&plan(&rules, &owed)), (Priority::Background, None, false));
    owed.0.asked.keep_ttl = true;
    assert_eq!(fate(&plan(&rules, &owed)), (Priority::Background, ends, false));
}

#[test]
fn the_route_of_the_letter_is_taken_where_that_is_asked_whatever_the_others_say() {
    let other = json!({ "name": "other", "message": { "kind": "text", "text": "\"another route\"" } });
    let last = json!({ "name": "last" });
    let own = json!({ "when": "false" });
    let rules = rules(json!([gifts(&other), gifts(&own), gifts(&last)]));
    let mut owed = asked_for(event());
    assert_eq!(plan(&rules, &owed).route, Some(RouteId(0)));
    owed.0.asked.content = Content::Original;
    let plan_of_own = plan(&rules, &owed);
    assert_eq!((plan_of_own.route, rooms(&plan_of_own)), (Some(RouteId(1)), vec!["r2", "r1"]));
    assert!(plan_of_own.messages.iter().all(|message| says(message, "hello")));
    owed.0.told.route = None;
    assert_eq!(plan(&rules, &owed).route, Some(RouteId(0)), "the letter names none");
}

#[test]
fn a_route_of_a_letter_that_is_gone_leaves_all_of_it_owed_and_says_so() {
    let error = "the replay asks for the letter's own route \"gifts\", which the config does not have";
    for unmatched in ["drop", "dead_letter"] {
        let rules = rules_of(json!({ "unmatched": unmatched }), json!([gifts(&json!({ "name": "other" }))]));
        let mut owed = asked_for(event());
        owed.0.asked.content = Content::Original;
        let plan = plan(&rules, &owed);
        assert_eq!(letters(&plan), [(Class::NoRoute, error, vec!["r2", "r1"])], "{unmatched}");
        assert_eq!((plan.failures[0].base, plan.dropped), (owed.0.told.base, None));
        assert_eq!((rooms(&plan), plan.route), (vec![], None));
    }
}

#[test]
fn what_fails_in_the_routes_again_owes_what_the_letter_owed() {
    let rules = rules(json!([gifts(&json!({}))]));
    let mut owed = asked_for(live(&json!({ "rooms": ["r1"], "text": [] })));
    owed.0.asked.content = Content::Original;
    let mut garbled = asked_for(Record { value: Some("{".into()), ..record() });
    garbled.0.asked.content = Content::Original;
    for (owed, class) in [(owed, Class::Mapping), (garbled, Class::Garbled)] {
        let plan = plan(&rules, &owed);
        assert_eq!((plan.failures.len(), plan.messages.len(), plan.dropped), (1, 0, None));
        let failure = &plan.failures[0];
        assert_eq!((failure.class, failure.base, plan.base), (class, owed.0.told.base, owed.0.told.base));
        assert_eq!(failure.rooms, owed.0.told.rooms, "{class:?}: {}", failure.error);
    }
}

/// What the config drops by now is settled with its reason, and owes nothing any more.
#[test]
fn a_letter_of_an_event_that_the_routes_drop_now_is_settled_with_the_reason() {
    let owed = asked_for(event());
    let tombstone = asked_for(Record { value: None, ..record() });
    let dropping = json!([{ "name": "gifts", "drop": true }]);
    for (routes, owed, reason) in [
        (dropping, &owed, DropReason::Rule),
        (json!([gifts(&json!({ "when": "false" }))]), &owed, DropReason::Unmatched),
        (json!([gifts(&json!({}))]), &tombstone, DropReason::Tombstone),
    ] {
        let plan = plan(&rules(routes), owed);
        assert_eq!((plan.dropped, plan.messages.len(), letters(&plan)), (Some(reason), 0, vec![]));
    }
}

#[test]
fn the_record_is_of_the_source_that_the_letter_names_or_of_the_one_beside_where_it_is_gone() {
    let of_live = json!({ "name": "of live", "source": "live" });
    let of_other = json!({ "name": "of other", "source": "other" });
    let rules = rules(json!([gifts(&of_live), gifts(&of_other)]));
    for (source, beside, wanted) in
        [("live", OTHER, 0), ("other", LIVE, 1), ("gone", OTHER, 1), ("gone", LIVE, 0)]
    {
        let (mut request, record) = asked_for(event());
        request.told.source = source.to_owned();
        let plan = rules.plan_replay(&request, &record, beside, &Directories::default());
        assert_eq!((plan.route, rooms(&plan)), (Some(RouteId(wanted)), vec!["r2", "r1"]), "{source}");
    }
}

#[test]
fn a_request_is_opened_and_one_that_is_none_becomes_a_letter_that_says_why() {
    let waiting = rules(json!([gifts(&json!({ "rooms": { "directory": "rooms" } }))]));
    let rules = rules(json!([gifts(&json!({ "ttl": "10s" }))]));
    let mut record = request(&letter(event()).seal(&names(), Wall(0)));
    let plan = rules.plan_request(&record, LIVE, &Directories::default());
    assert_eq!((rooms(&plan), letters(&plan)), (vec!["r2", "r1"], vec![]));
    assert!(asked().keep_ttl && plan.messages[0].expires.is_some(), "as it was asked for");
    record.headers.retain(|(name, _)| &**name != "roomcast-letter");
    let plan = rules.plan_request(&record, LIVE, &Directories::default());
    let error = "it has no roomcast-letter header";
    assert_eq!((rooms(&plan), letters(&plan)), (vec![], vec![(Class::Garbled, error, vec![])]));
    let without_value = Record { value: None, ..record.clone() };
    let plan = rules.plan_request(&without_value, LIVE, &Directories::default());
    assert_eq!((plan.dropped, letters(&plan)), (None, vec![(Class::Garbled, error, vec![])]));
    // Whatever the routes would make of it, they are not asked.
    assert!(waiting.plan(&record).waits.is_some());
    assert_eq!(waiting.plan_request(&record, LIVE, &Directories::default()).waits, None);
}

#[test]
fn policies_are_found_by_the_ids_that_routes_have_after_a_reload() {
    let mut rules = rules(json!([gifts(&json!({})), gifts(&json!({ "name": "other" }))]));
    let names = |rules: &Rules| {
        let policies = rules.policies_by_id().into_iter();
        policies.map(|(id, policy)| (id.0, policy.name.to_string())).collect::<Vec<_>>()
    };
    assert_eq!(names(&rules), [(0, "gifts".to_owned()), (1, "other".to_owned())]);
    rules.set_ids(vec![RouteId(7), RouteId(0)]);
    assert_eq!(names(&rules), [(0, "other".to_owned()), (7, "gifts".to_owned())]);
}

/// A route that was taken out or has moved leaves the others their ids, and gaps between them.
#[test]
fn p3_messages_have_the_same_ids_after_a_reload_whatever_ids_the_routes_have_then() {
    let routes = || rules(json!([gifts(&json!({})), gifts(&json!({ "name": "other" }))]));
    let ids =
        |plan: &Plan| plan.messages.iter().map(|message| (message.id, message.base)).collect::<Vec<_>>();
    let first = routes().plan(&event());
    for after in [[RouteId(7), RouteId(1)], [RouteId(1), RouteId(0)]] {
        let mut rules = routes();
        rules.set_ids(after.to_vec());
        let plan = rules.plan(&event());
        assert_eq!((plan.route, letters(&plan)), (Some(after[0]), vec![]));
        assert_eq!((plan.base, ids(&plan)), (first.base, ids(&first)));
    }
}

/// A patch that looks at `$key` needs it.
#[test]
fn keys_are_read_as_the_source_of_the_letter_says() {
    let rules = rules_of(json!({ "key_format": "int64" }), json!([gifts(&json!({}))]));
    let formats = [LIVE, OTHER, SourceId(2)].map(|source| rules.key_format(source));
    assert_eq!(formats, [KeyFormat::Int64, KeyFormat::Text, KeyFormat::Text]);
}
