//! One event with several messages for one room: they leave in their order, each has its own end,
//! and the record is settled with the last.

use std::time::Duration;

use super::test_bed::{ACCEPTED, Bed, failed, message, settings};
use crate::core::model::Class;
use crate::core::provider::{Outcome, Trouble};

#[test]
fn several_messages_of_an_event_leave_one_after_the_other_and_settle_it_together() {
    let mut bed = Bed::new(settings(), 1);
    let to = |room: &str, text: &str| message(room, text, None);
    bed.record(0, vec![to("r", "gift"), to("s", "gift to s"), to("r", "banner"), to("s", "banner to s")]);
    bed.one("r", "next event", None);
    assert_eq!(bed.contents_away(), ["gift", "gift to s"], "one call away in a room");
    bed.answer(&ACCEPTED);
    bed.answer(&failed());
    bed.pass(Duration::from_millis(60));
    assert_eq!(bed.contents_away(), ["banner"], "before the next event; the failure holds s back alone");
    bed.answer_room("r", &ACCEPTED);
    assert_eq!(bed.settled, [(0, 1)], "the first event still owes s two messages");
    assert_eq!(bed.accept_all(), ["gift to s", "banner to s"]);
    assert_eq!(bed.settled, [(0, 1), (0, 0)]);
    assert!(bed.letters.is_empty());
}

#[test]
fn one_of_them_may_be_a_letter_while_the_other_is_accepted() {
    let mut bed = Bed::new(settings(), 1);
    let (gift, banner) = (message("r", "gift", None), message("r", "banner", None));
    assert_ne!(gift.base, banner.base);
    bed.record(0, vec![gift, banner]);
    let trouble = Trouble { status: Some(400), code: None, text: "no".to_owned() };
    bed.answer(&Outcome::Refused { class: Class::Rejected, trouble });
    assert_eq!(bed.letters, [("rejected", "r".to_owned())]);
    assert!(bed.settled.is_empty(), "the second message is not finished");
    assert_eq!(bed.accept_all(), ["banner"]);
    assert_eq!(bed.settled, [(0, 0)]);
}
