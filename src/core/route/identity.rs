//! The base id of an event: a pure function of its identity, its route's name and the message's
//! index, the same in every process for ever (P3).
//!
//! UUIDv5 with [`NAMESPACE`] over the bytes of a compact JSON array, whose quoting keeps the parts
//! apart whatever they contain: `["event",source,id,route,index]` for a CloudEvent, else
//! `["record",source name,stream,partition,offset,route,index]` (the partition is 0 on JetStream).

use uuid::{Uuid, uuid};

use crate::core::decode::Cloud;
use crate::core::model::{BaseId, Origin};

/// UUIDv5 of `urn:roomcast:event:v1` in the namespace for URLs. It never changes: ids would.
pub const NAMESPACE: Uuid = uuid!("ccf6f508-11aa-5f2c-ad44-e1d4c80cfcb4");

/// What an event is known by.
#[derive(Clone, Copy, Debug)]
pub enum Identity<'e> {
    /// A CloudEvent: its producer promises that source and id name it.
    Event(&'e Cloud),
    /// Anything else: where it stands in its broker.
    Record(&'e str, &'e Origin),
}

impl Identity<'_> {
    /// The base id of message `index` of a route; the route's name is empty where there is none.
    pub fn base(self, route: &str, index: u32) -> BaseId {
        let mut name = Vec::with_capacity(160);
        let written = match self {
            Self::Event(cloud) => {
                serde_json::to_writer(&mut name, &("event", &*cloud.source, &*cloud.id, route, index))
            }
            Self::Record(source, origin) => serde_json::to_writer(
                &mut name,
                &("record", source, &*origin.stream, origin.lasting_partition(), origin.offset, route, index),
            ),
        };
        written.expect("texts and numbers are JSON, and a Vec takes them");
        BaseId(Uuid::new_v5(&NAMESPACE, &name))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn the_namespace_is_what_it_says() {
        assert_eq!(NAMESPACE, Uuid::new_v5(&Uuid::NAMESPACE_URL, b"urn:roomcast:event:v1"));
    }

    #[test]
    fn ids_are_the_same_for_ever_and_parts_stay_apart() {
        let cloud = |source: &str, id: &str| Cloud {
            source: Arc::from(source),
            id: Arc::from(id),
            kind: Arc::from("t"),
            time: None,
        };
        let origin =
            Origin { stream: "live.events".into(), topic: "live.events".into(), partition: 3, offset: 42 };
        // Made by Python: uuid5(NAMESPACE, json.dumps([...], separators=(',', ':'), ensure_ascii=False)).
        for (id, expected) in [
            (
                Identity::Event(&cloud("/shop", "a-1")).base("gifts", 0),
                "bb7f6bce-c4d1-508f-a1b7-5e4d8f9aa502",
            ),
            (Identity::Event(&cloud("/商店", "\"1")).base("礼物", 0), "71ab1f88-670e-554c-ab85-8d7eb66a73d6"),
            (Identity::Record("live", &origin).base("gifts", 0), "570cdb15-d2b6-51ec-a301-0768960cc7a7"),
            (Identity::Record("live", &origin).base("", 0), "d8acf072-cd0b-56b2-a658-b03b9a6d1984"),
        ] {
            assert_eq!(id.to_string(), expected);
        }
        let part = |partition| {
            let origin =
                Origin { stream: "MATCH".into(), topic: "match.1.events".into(), partition, offset: 42 };
            Identity::Record("live", &origin).base("gifts", 0)
        };
        assert_eq!(part(0), part(3), "how a stream is spread changes no id");
        let (a, b) = (cloud("a\",\"b", "c"), cloud("a", "b\",\"c"));
        assert_ne!(Identity::Event(&a).base("r", 0), Identity::Event(&b).base("r", 0));
        assert_ne!(Identity::Event(&a).base("r", 0), Identity::Event(&a).base("r", 1));
    }
}
