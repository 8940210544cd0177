//! The account at the end: what was produced against what the simulators and the dead-letter topic
//! hold. Pure; it asks the daemon nothing, so that it can be believed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Value as Json, json};

use super::ledger::{Due, Event, Letter, Service, event_of, tag};
use super::screen::wrapped;
use crate::core::time::Mono;
use crate::simulator::{Endpoint, Entry};

/// The room that the other service with our key writes to.
pub const FOREIGN_ROOM: &str = "9999";
/// The room that no provider has.
pub const UNKNOWN_ROOM: &str = "4040404";
/// Calls a second that the pages allow, by service.
pub const QUOTA: [u32; 2] = [20, 100];
/// After the ban's end: until then a call of ours may still have been on its way into it.
const BAN: Duration = Duration::from_secs(12);
/// Mistakes that are told one by one.
const TOLD: usize = 10;

/// Everything that is known at the end.
#[derive(Debug)]
pub struct Evidence<'a> {
    /// What was produced.
    pub events: &'a [Event],
    /// The simulators' logs, whole, by service.
    pub logs: [&'a [Entry]; 2],
    /// The dead-letter topic.
    pub letters: &'a [Letter],
    /// What became of the letters: how many are in each state.
    pub states: BTreeMap<&'static str, u64>,
    /// Records whose offset the group has committed.
    pub committed: u64,
    /// When the other service began its burst.
    pub foreign_at: Option<Mono>,
}

/// Numbers of one service.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Part {
    /// Messages that were due.
    pub due: u64,
    /// Of those, accepted.
    pub delivered: u64,
    /// Of those, seen by members exactly once.
    pub seen_once: u64,
    /// Of those, seen by members more than once.
    pub seen_twice: u64,
    /// Accepted messages that came again.
    pub repeated: u64,
    /// The shortest time that the quota allows for the burst, over the time it took; percent.
    pub quota_used: Option<f64>,
    /// Calls refused for a quota that nobody but roomcast used.
    pub refused: u64,
    /// First acceptances out of the order of their partition and room.
    pub disorder: u64,
}

/// The account.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Account {
    /// Events produced.
    pub events: u64,
    /// By service.
    pub parts: [Part; 2],
    /// Dead letters by class.
    pub letters: BTreeMap<String, u64>,
    /// What became of them, by state.
    pub states: BTreeMap<&'static str, u64>,
    /// Events that a rule drops, and that left no trace.
    pub dropped: u64,
    /// Records whose offset is committed.
    pub committed: u64,
    /// Calls of the other service, and how many of them were refused.
    pub foreign: [u64; 2],
    /// Calls of ours that ran into the ban which the other service had brought about.
    pub into_ban: u64,
    /// Calls to the room that is not there.
    pub unknown_room: u64,
    /// What does not add up; empty when all does.
    pub wrong: Vec<String>,
}

/// Draws the account.
pub fn draw(evidence: &Evidence<'_>) -> Account {
    let mut account = Account {
        events: evidence.events.len() as u64,
        committed: evidence.committed,
        states: evidence.states.clone(),
        ..Account::default()
    };
    let mut seen: BTreeMap<(usize, String), u32> = BTreeMap::new();
    let mut accepted = BTreeSet::new();
    for service in Service::ALL {
        account.read_log(service, evidence, &mut accepted, &mut seen);
    }
    account.read_letters(evidence);
    for (number, event) in evidence.events.iter().enumerate() {
        match &event.due {
            Due::Delivered(service, rooms) => {
                for room in rooms {
                    account.settle(*service, event, number, room, &accepted, &seen);
                }
            }
            Due::Letter(class) => account.compare_letters(evidence, number, &[*class]),
            Due::GivenUp(class) => account.compare_letters(evidence, number, &[*class, *class]),
            Due::Repaired(class, service, room) => {
                account.compare_letters(evidence, number, &[*class]);
                account.settle(*service, event, number, room, &accepted, &seen);
            }
            Due::Dropped => account.dropped += 1,
        }
    }
    let worked: u64 = evidence.states.values().sum();
    if !evidence.states.is_empty() && worked != evidence.letters.len() as u64 {
        let letters = evidence.letters.len();
        account.wrong.push(format!("{worked} letters have been worked, of {letters}"));
    }
    if account.committed != account.events {
        account
            .wrong
            .push(format!("{} offsets are committed, of {} events", account.committed, account.events));
    }
    account
}

impl Account {
    fn read_log(
        &mut self,
        service: Service,
        evidence: &Evidence<'_>,
        accepted: &mut BTreeSet<(usize, String)>,
        seen: &mut BTreeMap<(usize, String), u32>,
    ) {
        let mut last: BTreeMap<_, usize> = BTreeMap::new();
        let mut burst: Vec<Mono> = Vec::new();
        for entry in evidence.logs[service as usize].iter().filter(|entry| entry.path != Endpoint::Token) {
            let room = entry.room.as_deref().unwrap_or_default();
            if room == FOREIGN_ROOM {
                self.foreign[0] += 1;
                self.foreign[1] += u64::from(!entry.accepted);
                continue;
            }
            if !entry.accepted {
                self.refusal(service, room, entry, evidence.foreign_at);
                continue;
            }
            let number = event_of(&entry.content);
            let Some((number, event)) = number.and_then(|n| Some((n, evidence.events.get(n)?))) else {
                self.wrong.push(format!("{} holds a message that nobody produced", service.name()));
                continue;
            };
            if !event.due.is_for(service, room) {
                self.wrong.push(format!("{} reached room {room:?} unasked", tag(number)));
            }
            *seen.entry((number, room.to_owned())).or_default() += u32::from(entry.is_seen());
            let part = &mut self.parts[service as usize];
            if entry.repeat.is_some() {
                part.repeated += 1;
                continue;
            }
            accepted.insert((number, room.to_owned()));
            if matches!(event.due, Due::Repaired(..)) {
                continue; // a replay stands outside the order
            }
            // The numbers of events rise with the offsets of their partition.
            let lane = (event.from, entry.path, room.to_owned(), entry.priority);
            let before = last.entry(lane).or_insert(number);
            part.disorder += u64::from(*before > number);
            *before = number.max(*before);
            burst.extend(event.burst.then_some(entry.at));
        }
        self.parts[service as usize].quota_used = used(&burst, QUOTA[service as usize]);
        let disorder = self.parts[service as usize].disorder;
        if disorder > 0 {
            self.wrong.push(format!("{}: {disorder} messages out of order", service.name()));
        }
    }

    /// A call that was answered with a refusal, or met a fault before it was judged.
    fn refusal(&mut self, service: Service, room: &str, entry: &Entry, foreign_at: Option<Mono>) {
        if entry.fault.is_some() {
            return;
        }
        let banned = |at: Mono| entry.at >= at && entry.at < at + BAN;
        if room == UNKNOWN_ROOM {
            self.unknown_room += 1;
        } else if service == Service::Yunxin && entry.code == 416 && foreign_at.is_some_and(banned) {
            self.into_ban += 1;
        } else {
            self.parts[service as usize].refused += 1;
            self.wrong.push(format!("{} refused a call: {} ({})", service.name(), entry.code, entry.reason));
        }
    }

    fn read_letters(&mut self, evidence: &Evidence<'_>) {
        for letter in evidence.letters {
            *self.letters.entry(letter.class.clone()).or_default() += 1;
            let due = evidence.events.get(letter.event).map(|event| &event.due);
            if !matches!(due, Some(Due::Letter(_) | Due::Repaired(..) | Due::GivenUp(_))) {
                self.wrong.push(format!("{} became a dead letter: {}", tag(letter.event), letter.error));
            }
        }
    }

    /// The letters of one event, against those that were due.
    fn compare_letters(&mut self, evidence: &Evidence<'_>, number: usize, due: &[&str]) {
        let own = evidence.letters.iter().filter(|letter| letter.event == number);
        let classes: Vec<&str> = own.map(|letter| &*letter.class).collect();
        if classes != due {
            let what = evidence.events[number].what;
            let tag = tag(number);
            self.wrong.push(format!("{tag} ({what}): dead letters {due:?} were due, there are {classes:?}"));
        }
    }

    /// One message that was due.
    fn settle(
        &mut self,
        service: Service,
        event: &Event,
        number: usize,
        room: &str,
        accepted: &BTreeSet<(usize, String)>,
        seen: &BTreeMap<(usize, String), u32>,
    ) {
        let key = (number, room.to_owned());
        let part = &mut self.parts[service as usize];
        part.due += 1;
        let reached = accepted.contains(&key);
        part.delivered += u64::from(reached);
        let times = seen.get(&key).copied().unwrap_or(0);
        part.seen_once += u64::from(times == 1);
        part.seen_twice += u64::from(times > 1);
        if !reached {
            self.wrong.push(format!("{} ({}) never reached room {room:?}", tag(number), event.what));
        } else if times != 1 {
            self.wrong.push(format!("{} was seen {times} times in room {room:?}", tag(number)));
        }
    }

    /// For people: 80 columns.
    pub fn text(&self) -> String {
        let [easemob, yunxin] = &self.parts;
        let count = |of: fn(&Part) -> u64| [of(easemob) + of(yunxin), of(easemob), of(yunxin)].map(number);
        let percent = |part: &Part| part.quota_used.map_or("-".to_owned(), |used| format!("{used:.0} %"));
        let twice = easemob.seen_twice + yunxin.seen_twice;
        let rows = [
            ("messages due", count(|part| part.due), ""),
            ("delivered", count(|part| part.delivered), ""),
            ("seen once by members", count(|part| part.seen_once), ""),
            ("sent again", count(|part| part.repeated), &*format!("seen twice: {twice}")),
            ("quota used in the burst", [String::new(), percent(easemob), percent(yunxin)], ""),
            ("refused for quota", count(|part| part.refused), ""),
            ("order violations", count(|part| part.disorder), ""),
        ];
        let mut text = format!("  {:<24}{:>8}{:>10}{:>10}\n", "", "all", "Easemob", "Yunxin");
        text += &format!("  {:<24}{:>8}\n", "events produced", number(self.events));
        for (name, [all, easemob, yunxin], note) in rows {
            let line = format!("  {name:<24}{all:>8}{easemob:>10}{yunxin:>10}  {note}");
            text += line.trim_end();
            text.push('\n');
        }
        let classes: Vec<String> =
            self.letters.iter().map(|(class, count)| format!("{class} {count}")).collect();
        let letters: u64 = self.letters.values().sum();
        text += &format!("  {:<24}{:>8}  {}\n", "dead letters", number(letters), classes.join(", "));
        if !self.states.is_empty() {
            let states: Vec<String> =
                self.states.iter().map(|(state, count)| format!("{state} {count}")).collect();
            let worked: u64 = self.states.values().sum();
            text += &format!("  {:<24}{:>8}  {}\n", "  of these worked", number(worked), states.join(", "));
        }
        text += &format!("  {:<24}{:>8}\n", "dropped by a rule", number(self.dropped));
        text += &format!("  {:<24}{:>8}\n\n", "offsets committed", number(self.committed));
        text += &wrapped(
            &format!(
                "Brought about by the demo and not counted above: the other service's burst of {} calls, {} of them refused; {} of roomcast's own that met the ban before it could know; {} to a room that is not there.",
                self.foreign[0], self.foreign[1], self.into_ban, self.unknown_room,
            ),
            2,
        );
        text.push_str("\n\n");
        match self.wrong.as_slice() {
            [] => {
                let sum = "It adds up: every event was delivered in its order, became a dead letter, or was dropped by a rule.";
                text += &wrapped(sum, 2);
            }
            wrong => {
                text += &wrapped("IT DOES NOT ADD UP:", 2);
                for line in wrong.iter().take(TOLD) {
                    text.push('\n');
                    text += &wrapped(line, 4);
                }
                if wrong.len() > TOLD {
                    text += &format!("\n    and {} more", wrong.len() - TOLD);
                }
            }
        }
        text.push('\n');
        text
    }

    /// For machines: one object.
    pub fn json(&self) -> Json {
        let part = |service: Service| {
            let part = &self.parts[service as usize];
            json!({
                "messages_due": part.due,
                "delivered": part.delivered,
                "seen_once": part.seen_once,
                "seen_twice": part.seen_twice,
                "sent_again": part.repeated,
                "quota_used_percent": part.quota_used,
                "refused_for_quota": part.refused,
                "order_violations": part.disorder,
            })
        };
        json!({
            "events": self.events,
            "easemob": part(Service::Easemob),
            "yunxin": part(Service::Yunxin),
            "dead_letters": self.letters,
            "letters_worked": self.states,
            "dropped_by_rule": self.dropped,
            "offsets_committed": self.committed,
            "provoked": {
                "other_service_calls": self.foreign[0],
                "other_service_refused": self.foreign[1],
                "own_calls_into_the_ban": self.into_ban,
                "calls_to_unknown_room": self.unknown_room,
            },
            "adds_up": self.wrong.is_empty(),
            "wrong": self.wrong,
        })
    }
}

/// The shortest time in which a sliding second of `quota` calls lets so many through, over the time
/// from the first to the last; percent.
fn used(accepted: &[Mono], quota: u32) -> Option<f64> {
    let (first, last) = (accepted.iter().min()?, accepted.iter().max()?);
    let least = (accepted.len() as u64 - 1) / u64::from(quota);
    let took = last.since(*first).as_secs_f64();
    (least > 0 && took > 0.0).then(|| least as f64 / took * 100.0)
}

/// A number with its thousands apart.
pub fn number(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::model::Priority;
    use crate::core::time::Wall;

    const ROOM: &str = "1001";

    fn event(due: Due) -> Event {
        Event { what: "gift.sent", due, from: ("live.events", 0), at: Mono(0), burst: true }
    }

    fn due() -> Event {
        event(Due::Delivered(Service::Easemob, vec![ROOM.to_owned()]))
    }

    fn entry(number: usize, at_ms: u64) -> Entry {
        Entry {
            seq: 0,
            call: 0,
            at: Mono(at_ms * 1_000_000),
            wall: Wall(0),
            path: Endpoint::Room,
            room: Some(ROOM.into()),
            id: None,
            resend: false,
            priority: Priority::Normal,
            hash: 0,
            content: tag(number).into(),
            status: 200,
            code: 200,
            reason: "accepted",
            accepted: true,
            downgraded: false,
            repeat: None,
            order: Some(1),
            unseen: None,
            fault: None,
        }
    }

    fn drawn(events: &[Event], log: &[Entry], letters: &[Letter]) -> Account {
        let committed = events.len() as u64;
        let states = BTreeMap::new();
        draw(&Evidence { events, logs: [log, &[]], letters, states, committed, foreign_at: None })
    }

    #[test]
    fn a_clean_run_adds_up() {
        let events = [due(), due(), event(Due::Letter("garbled")), event(Due::Dropped)];
        let letter = Letter { event: 2, class: "garbled".into(), error: String::new() };
        let account = drawn(&events, &[entry(0, 0), entry(1, 5)], &[letter]);
        assert_eq!(account.wrong, Vec::<String>::new());
        assert_eq!((account.parts[0].delivered, account.parts[0].seen_once, account.dropped), (2, 2, 1));
        assert!(account.text().contains("It adds up"), "{}", account.text());
    }

    #[test]
    fn letters_that_were_worked_count_for_what_became_of_them() {
        let repaired = |class| event(Due::Repaired(class, Service::Easemob, ROOM.to_owned()));
        let events = [repaired("mapping"), due(), event(Due::GivenUp("room_gone"))];
        let letter = |event, class: &str| Letter { event, class: class.into(), error: String::new() };
        let letters = [letter(0, "mapping"), letter(2, "room_gone"), letter(2, "room_gone")];
        // Replayed late: behind an event that came after it.
        let log = [entry(1, 0), entry(0, 5)];
        let draw = |letters: &[Letter], replayed: u64| {
            let states = BTreeMap::from([("replayed", replayed), ("discarded", 1)]);
            let logs: [&[Entry]; 2] = [&log, &[]];
            draw(&Evidence { events: &events, logs, letters, states, committed: 3, foreign_at: None })
        };
        let account = draw(&letters, 2);
        assert_eq!(account.wrong, Vec::<String>::new());
        assert_eq!((account.parts[0].delivered, account.parts[0].disorder), (2, 0));
        assert!(account.text().contains("discarded 1, replayed 2"), "{}", account.text());
        assert!(draw(&letters, 1).wrong[0].contains("2 letters have been worked, of 3"));
        assert!(draw(&letters[..2], 1).wrong[0].contains("were due"));
    }

    #[test]
    fn whatever_is_amiss_is_told() {
        let events = [due(), due(), event(Due::Letter("garbled")), event(Due::Dropped)];
        let letter = |event, class: &str| Letter { event, class: class.into(), error: String::new() };
        let good = [letter(2, "garbled")];
        let unseen = Entry { order: None, ..entry(1, 5) };
        let refused = Entry { accepted: false, status: 429, code: 429, reason: "limit", ..entry(1, 3) };
        let foreign = Entry { content: "whose?".into(), ..entry(0, 9) };
        let elsewhere = Entry { room: Some("7".into()), ..entry(0, 9) };
        let (first, second) = (entry(0, 0), entry(1, 5));
        for (log, letters, part) in [
            (vec![first.clone()], good.to_vec(), "never reached"),
            (vec![second.clone(), first.clone()], good.to_vec(), "out of order"),
            (vec![first.clone(), second.clone(), second.clone()], good.to_vec(), "seen 2 times"),
            (vec![first.clone(), unseen], good.to_vec(), "seen 0 times"),
            (vec![first.clone(), refused, second.clone()], good.to_vec(), "refused a call"),
            (vec![first.clone(), second.clone(), foreign], good.to_vec(), "nobody produced"),
            (vec![first.clone(), second.clone(), elsewhere], good.to_vec(), "unasked"),
            (vec![first.clone(), second.clone(), entry(3, 9)], good.to_vec(), "unasked"),
            (vec![first.clone(), second.clone()], vec![], "[\"garbled\"] were due"),
            (vec![first.clone(), second.clone()], vec![letter(2, "mapping")], "[\"garbled\"] were due"),
            (vec![first, second], vec![letter(2, "garbled"), letter(0, "rejected")], "became a dead letter"),
        ] {
            let account = drawn(&events, &log, &letters);
            assert!(account.wrong.iter().any(|wrong| wrong.contains(part)), "{part}: {:?}", account.wrong);
            assert!(account.text().contains("DOES NOT ADD UP"), "{part}");
        }
        let half = Evidence {
            events: &[due()],
            logs: [&[entry(0, 0)], &[]],
            letters: &[],
            states: BTreeMap::new(),
            committed: 0,
            foreign_at: None,
        };
        assert!(draw(&half).wrong[0].contains("0 offsets are committed, of 1"));
    }

    #[test]
    fn a_quota_is_used_whole_by_whoever_takes_no_longer_than_it_makes_him() {
        let at = |ms: &[u64]| ms.iter().map(|ms| Mono(ms * 1_000_000)).collect::<Vec<_>>();
        assert_eq!(used(&at(&[0, 0, 1_000, 1_000]), 2), Some(100.0));
        assert_eq!(used(&at(&[0, 0, 1_500, 2_000]), 2), Some(50.0));
        assert_eq!(used(&at(&[0, 5]), 2), None, "no quota holds two back");
        assert_eq!(used(&[], 2), None);
    }

    #[test]
    fn thousands_stand_apart() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(number), ["0", "999", "1,000", "1,234,567"]);
    }
}
