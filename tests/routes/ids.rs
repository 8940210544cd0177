//! Ids of messages and times to live.

use std::sync::Arc;
use std::time::Duration;

use roomcast::core::time::Wall;

use crate::support::{record, rules};

#[test]
fn ids_and_siblings_are_as_the_design_says() {
    let config = r#"
        [[routes]]
        name = "gifts"
        account = "live"
        rooms = '.data.rooms[]'
        [[routes]]
        name = "never"
        account = "match"
    "#;
    let cloud = br#"{"specversion":"1.0","id":"a-1","source":"/shop","type":"t","data":{"rooms":[1,2]}}"#;
    let ten = rules(config).plan(&record(None, cloud));
    let again = rules(config).plan(&record(Some(b"other key"), cloud));
    assert_eq!(ten.base, again.base, "the same event has the same id wherever it stands");
    assert_eq!(ten.messages.len(), 2);
    assert!(Arc::ptr_eq(&ten.messages[0].content, &ten.messages[1].content));
    assert!(ten.messages.iter().all(|message| message.id.0 == ten.base.0 && message.base == ten.base));
    let one = rules(&config.replace("\"live\"", "\"match\"")).plan(&record(None, cloud));
    assert_eq!(one.base, ten.base, "an id does not depend on the account");
    for message in &one.messages {
        assert_eq!(message.id, one.base.message(&message.room));
    }
    // Golden: uuid5 of the namespace in identity.rs over ["event","/shop","a-1","gifts",0], and of that over "1".
    assert_eq!(one.base.to_string(), "bb7f6bce-c4d1-508f-a1b7-5e4d8f9aa502");
    assert_eq!(one.messages[0].id.to_string(), "40a055ec-7366-5bfb-ab59-b9c35d0e3147");
    let garbled = rules(config).plan(&record(None, b"{"));
    // ["record","kafka","live.events",3,42,"",0]
    assert_eq!(garbled.base.to_string(), "2b392be3-ca35-5a6e-a621-cb060079c9ab");
}

#[test]
fn a_time_to_live_begins_at_the_earlier_time() {
    let config = "[[routes]]\nname = \"r\"\naccount = \"live\"\nttl = \"10s\"";
    let rules = rules(config);
    let at = |time: &str| {
        let event = format!(r#"{{"specversion":"1.0","id":"1","source":"s","type":"t","time":"{time}"}}"#);
        rules.plan(&record(Some(b"1"), event.as_bytes())).messages[0].expires
    };
    let own = Wall(1_769_903_999_123);
    assert_eq!(at("2026-01-31T23:59:50.000Z"), Some(Wall(1_769_903_990_000) + Duration::from_secs(10)));
    assert_eq!(at("2030-01-01T00:00:00Z"), Some(own + Duration::from_secs(10)), "an event from the future");
    let none = rules.plan(&record(Some(b"1"), br#"{"type":"t","time":"yesterday"}"#));
    assert_eq!(none.messages[0].expires, Some(own + Duration::from_secs(10)), "an event without a time");
    assert_eq!(rules.policies()[0].name.as_ref(), "r");
}
