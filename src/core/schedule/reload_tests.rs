//! Reloads: what is held keeps its route, quotas hold through every change, and nothing grows with
//! the number of reloads.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use secrecy::SecretString;

use super::status::{Fate, GateCause, GateState};
use super::test_bed::{ACCEPTED, ACCOUNT, Bed, failed, limits, message, plan, settings};
use super::{Effect, OnFull, Renewal, RoutePolicy, Settings};
use crate::core::model::{Class, DirectoryId, Failure, Message, Path, Plan, RouteId, Wait};
use crate::core::provider::{Limits, Outcome, Session, Throttle, Trouble};
use crate::core::share::{Grant, Growth, Quotas};
use crate::core::time::Mono;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn reload(bed: &mut Bed, settings: Settings, renewal: Renewal) -> Vec<RouteId> {
    bed.scheduler.handle_reload(settings, &[renewal], bed.now).expect("few routes")
}

/// Another quota, told as the driver tells it.
fn set_quota(bed: &mut Bed, limits: &Limits) {
    let mut settings = settings();
    settings.accounts[0].limits = limits.clone();
    reload(bed, settings, Renewal::None);
    let share = Quotas::new(limits, false).whole();
    bed.scheduler.handle_share(ACCOUNT, &Grant::lasting(share, Growth::Handed), bed.now);
    bed.pass(Duration::ZERO);
}

fn calls(per_second: u32) -> Limits {
    let mut limits = limits();
    limits.paths[Path::Room as usize].calls_per_second = per_second;
    limits
}

/// `settings` with the routes named so, the first of which drops the oldest where `drops`.
fn with_routes(names: &[&str], drops: bool) -> Settings {
    let base = settings();
    let route = |name: &&str| RoutePolicy { name: (*name).into(), ..base.routes[0].clone() };
    let mut routes: Vec<RoutePolicy> = names.iter().map(route).collect();
    routes[0].on_full = if drops { OnFull::DropOldest } else { OnFull::Wait };
    Settings { routes, ..base }
}

fn of_route(route: RouteId, room: &str, text: &str) -> Message {
    Message { route, ..message(room, text, None) }
}

#[test]
fn what_is_held_keeps_the_route_it_had() {
    let mut settings = settings();
    settings.routes[0].retry.max_attempts = 1;
    let mut bed = Bed::new(settings, 1);
    bed.one("r", "first", None);
    bed.one("r", "second", None);
    let routes = reload(&mut bed, with_routes(&["one", "other"], false), Renewal::None);
    assert_eq!(routes, [RouteId(2), RouteId(1)], "what says something else has another id");
    bed.one("elsewhere", "proof", None);
    bed.answer_room("elsewhere", &ACCEPTED);
    bed.answer(&failed());
    assert_eq!(bed.letters, [("exhausted", "r".to_owned())], "one attempt, as its route said");
    bed.answer(&ACCEPTED);
    assert_eq!(reload(&mut bed, with_routes(&["one", "other"], false), Renewal::None), routes);
    assert!(bed.scheduler.former.is_empty(), "nothing refers to it any more");
}

#[test]
fn a_route_that_comes_back_while_its_messages_wait_is_the_same_route() {
    let mut bed = Bed::new(with_routes(&["one"], true), 1);
    bed.one("r", "held", None);
    assert_eq!(reload(&mut bed, with_routes(&["one"], false), Renewal::None), [RouteId(1)]);
    assert_eq!(reload(&mut bed, with_routes(&["one"], true), Renewal::None), [RouteId(0)]);
    assert_eq!(bed.scheduler.route_names().len(), 2);
}

#[test]
fn the_names_of_letters_stay_right_while_they_are_written() {
    let mut bed = Bed::new(with_routes(&["gone"], false), 1);
    bed.hold_letters = true;
    let base = message("r", "t", None).base;
    let failure = Failure { base, class: Class::Mapping, error: "no".to_owned(), rooms: Vec::new() };
    bed.planned(0, Plan { failures: vec![failure], ..plan(Vec::new()) });
    assert_eq!(reload(&mut bed, with_routes(&["new"], false), Renewal::None), [RouteId(1)]);
    assert_eq!(&*bed.scheduler.route_names()[0], "gone");
}

#[test]
fn a_record_that_waits_for_its_key_keeps_the_name_of_its_route() {
    let mut bed = Bed::new(with_routes(&["gone"], false), 1);
    let wait = Wait { directory: DirectoryId(0), key: "k".into(), at_most: None, error: String::new() };
    let waits = Plan { route: Some(RouteId(0)), waits: Some(Box::new(wait)), ..plan(Vec::new()) };
    bed.planned(0, waits);
    assert_eq!(reload(&mut bed, with_routes(&["new"], false), Renewal::None), [RouteId(1)]);
    assert_eq!(&*bed.scheduler.route_names()[0], "gone");
    let woken = bed.scheduler.wake_all().remove(0);
    bed.scheduler.handle_woken(woken, plan(Vec::new()), bed.now);
    assert_eq!(reload(&mut bed, with_routes(&["newer"], false), Renewal::None), [RouteId(0)]);
}

#[test]
fn p7_ten_thousand_reloads_keep_nothing() {
    let mut bed = Bed::new(with_routes(&["one", "two"], false), 1);
    let mut routes = vec![RouteId(0), RouteId(1)];
    for round in 0..10_000_u32 {
        bed.record(0, vec![of_route(routes[0], "r", &round.to_string())]);
        let name = format!("route {round}");
        routes = reload(&mut bed, with_routes(&[&name, "two"], round % 2 == 0), Renewal::Credentials);
        if round % 3 == 0 {
            bed.answer(&ACCEPTED);
        }
        if bed.away.len() > 2 || round % 10 == 0 {
            bed.accept_all();
        }
    }
    let kept = bed.scheduler.route_names().len();
    assert!(kept <= 14, "{kept} routes are kept for at most ten that are held and two that take events");
    assert_eq!(bed.scheduler.conflated.len(), kept);
}

#[test]
fn counts_of_conflation_follow_the_name_of_their_route() {
    let mut bed = Bed::new(with_routes(&["one", "two"], false), 1);
    let conflated = |bed: &Bed| bed.scheduler.snapshot(bed.now).conflated;
    bed.one("r", "away", None);
    for text in ["a1", "a2", "a3"] {
        bed.one("r", text, Some("a"));
    }
    let route = reload(&mut bed, with_routes(&["one"], true), Renewal::None)[0];
    assert_eq!(conflated(&bed), [("one".into(), 2)], "the old one's and the new one's are one count");
    bed.record(0, vec![Message { route, ..message("r", "b1", Some("b")) }]);
    bed.record(0, vec![Message { route, ..message("r", "b2", Some("b")) }]);
    assert_eq!(conflated(&bed), [("one".into(), 3)]);
    bed.accept_all();
    reload(&mut bed, with_routes(&["one"], true), Renewal::None);
    assert_eq!(conflated(&bed), [("one".into(), 3)], "the old one is forgotten, its count is not");
    assert_eq!(bed.scheduler.snapshot(bed.now).fates[&(Some(ACCOUNT), Fate::Conflated)], 3);
}

/// Sends as fast as it may for so long, answers after 40 ms, and changes the quota at these times.
/// How many calls left at which millisecond.
fn run(bed: &mut Bed, until: u64, changes: &[(u64, Limits)]) -> BTreeMap<u64, u32> {
    let (mut left, mut away_since, mut answered, mut known) =
        (BTreeMap::new(), VecDeque::new(), 0, bed.away.len());
    away_since.extend(std::iter::repeat_n(0, known));
    for at in 0..until {
        for (_, limits) in changes.iter().filter(|(when, _)| *when == at) {
            set_quota(bed, limits);
        }
        bed.pass(ms(1));
        while away_since.front().is_some_and(|since| at >= since + 40) {
            away_since.pop_front();
            bed.answer(&ACCEPTED);
            answered += 1;
        }
        let new = answered + bed.away.len() - std::mem::replace(&mut known, answered + bed.away.len());
        away_since.extend(std::iter::repeat_n(at, new));
        left.insert(at, u32::try_from(new).expect("few"));
    }
    left
}

fn busiest(left: &BTreeMap<u64, u32>, from: u64, to: u64) -> u32 {
    let window = |start: u64| left.range(start..start + 1_000).map(|(_, calls)| calls).sum();
    (from..to.saturating_sub(1_000)).map(window).max().unwrap_or(0)
}

#[test]
fn p4_a_smaller_quota_holds_at_once_and_a_larger_one_breaks_no_window() {
    let mut start = settings();
    start.accounts[0].limits = calls(20);
    let mut bed = Bed::new(start, 1);
    for room in 0..400 {
        bed.one(&format!("r{room}"), "text", None);
    }
    let left = run(&mut bed, 30_000, &[(5_000, calls(5)), (12_000, calls(8)), (16_000, calls(30))]);
    assert!(busiest(&left, 0, 5_000) <= 20);
    // Twenty left at 4.2 s; they count, and five may follow when they do so no more.
    assert!(left.range(5_000..5_200).all(|(_, calls)| *calls == 0), "no slot was free");
    assert!(left.range(5_000..6_200).map(|(_, calls)| calls).sum::<u32>() <= 5);
    assert!(busiest(&left, 5_001, 12_000) <= 5);
    assert!(busiest(&left, 5_001, 16_000) <= 8);
    assert!(busiest(&left, 5_001, 30_000) <= 30);
    let grown: u32 = left.range(24_000..29_000).map(|(_, calls)| calls).sum();
    assert!(grown >= 130, "{grown} calls in five seconds at thirty a second");
}

#[test]
fn p4_paces_of_rooms_change_like_quotas() {
    let pace = |per_second| Limits { room_messages_per_second: per_second, ..limits() };
    let mut start = settings();
    start.accounts[0].limits = pace(10);
    let mut bed = Bed::new(start, 1);
    for n in 0..200 {
        bed.one("r", &n.to_string(), None);
    }
    let left = run(&mut bed, 20_000, &[(4_000, pace(2)), (9_000, pace(6))]);
    let first: u32 = left.range(4_000..5_000).map(|(_, calls)| calls).sum();
    assert!(first <= 2, "{first}: the places that were taken count");
    assert!(busiest(&left, 4_001, 9_000) <= 2);
    assert!(busiest(&left, 4_001, 20_000) <= 6);
    let grown: u32 = left.range(17_000..20_000).map(|(_, calls)| calls).sum();
    assert!(grown >= 15, "{grown} in three seconds at six a second");
}

#[test]
fn a_gate_closed_by_credentials_or_an_outage_is_probed_when_they_change_and_a_ban_is_not() {
    let trouble = || Trouble { status: Some(403), code: None, text: "no".to_owned() };
    let closed = |outcome: &Outcome| {
        let mut bed = Bed::new(settings(), 1);
        bed.one("r", "text", None);
        for _ in 0..6 {
            bed.answer(outcome);
            while bed.away.is_empty() {
                let wake = bed.scheduler.poll_wake(bed.now).expect("it probes again");
                bed.pass(wake.since(bed.now.mono));
            }
        }
        bed.answer(outcome);
        bed
    };
    let cause = |bed: &Bed| match &bed.scheduler.snapshot(bed.now).accounts[0][Path::Room as usize].gate {
        GateState::Closed { cause, reopens_in, .. } => Some((*cause, *reopens_in)),
        _ => None,
    };
    for (outcome, expected) in
        [(Outcome::Closed(trouble()), GateCause::Refused), (failed(), GateCause::Outage)]
    {
        let mut bed = closed(&outcome);
        let (found, wait) = cause(&bed).expect("closed");
        assert!(found == expected && wait > Duration::from_secs(3), "{found:?} {wait:?}");
        reload(&mut bed, settings(), Renewal::None);
        bed.pass(Duration::ZERO);
        assert_eq!(bed.away.len(), 0, "what has nothing to do with it changes nothing");
        reload(&mut bed, settings(), Renewal::Calls);
        bed.pass(Duration::ZERO);
        assert_eq!(bed.away.len(), 1, "{expected:?}");
    }
    let ban = Throttle::Path(Duration::from_secs(10));
    let mut bed = Bed::new(settings(), 1);
    bed.one("r", "text", None);
    bed.answer(&Outcome::Throttled { scope: ban, trouble: trouble() });
    reload(&mut bed, settings(), Renewal::Credentials);
    bed.pass(ms(9_000));
    assert_eq!(bed.away.len(), 0, "a ban stands");
}

#[test]
fn a_room_that_may_hold_more_lets_its_partition_go_on() {
    let mut start = settings();
    start.max_waiting_per_room = 2;
    let mut bed = Bed::new(start, 1);
    for text in ["a", "b", "c"] {
        bed.one("r", text, None);
    }
    assert_eq!(bed.paused, [0]);
    reload(&mut bed, settings(), Renewal::None);
    bed.pass(Duration::ZERO);
    assert!(bed.paused.is_empty());
}

#[test]
fn a_shorter_time_limit_is_no_reason_to_trust_others_sooner() {
    let mut bed = Bed::new(settings(), 1);
    let mut shorter = settings();
    shorter.accounts[0].timeout = ms(500);
    reload(&mut bed, shorter, Renewal::Calls);
    assert_eq!(bed.scheduler.settings.accounts[0].timeout, Duration::from_secs(5));
    assert_eq!(bed.now.mono, Mono(2_000_000_000));
}

#[test]
fn an_account_logs_in_anew_for_new_credentials_and_when_logins_begin() {
    let with = |needs_login| {
        let mut settings = settings();
        settings.accounts[0].needs_login = needs_login;
        settings
    };
    let mut bed = Bed::new(with(false), 1);
    let logs_in = |bed: &mut Bed, needs_login, renewal| {
        reload(bed, with(needs_login), renewal);
        matches!(bed.scheduler.poll_effect(bed.now), Some(Effect::Login(ACCOUNT)))
    };
    let logged_in = |bed: &mut Bed| {
        let session = Session { token: SecretString::from("t"), lifetime: None };
        bed.scheduler.handle_login(ACCOUNT, Ok(session), bed.now);
    };
    assert!(!logs_in(&mut bed, false, Renewal::Credentials), "it needs none");
    assert!(logs_in(&mut bed, true, Renewal::None));
    logged_in(&mut bed);
    assert!(!logs_in(&mut bed, true, Renewal::None), "nothing has changed");
    assert!(!logs_in(&mut bed, true, Renewal::Calls), "the credentials are the same");
    assert!(logs_in(&mut bed, true, Renewal::Credentials));
    logged_in(&mut bed);
    assert!(!logs_in(&mut bed, false, Renewal::None));
    bed.one("r", "x", None);
    assert!(bed.away[0].session.is_none(), "calls go without one");
}

#[test]
fn a_route_that_takes_the_place_of_one_that_is_gone_begins_with_no_count() {
    let mut bed = Bed::new(with_routes(&["one"], false), 1);
    bed.one("r", "away", None);
    for text in ["a1", "a2", "a3"] {
        bed.one("r", text, Some("a"));
    }
    bed.accept_all();
    assert_eq!(reload(&mut bed, with_routes(&["other"], false), Renewal::None), [RouteId(0)]);
    assert_eq!(bed.scheduler.snapshot(bed.now).conflated, [("other".into(), 0)]);
}
