//! An account of the world: the real provider module on our side, and the provider's own judge on
//! the other, with the quotas that both believe in.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use roomcast::core::model::{BaseId, Content, Path, Priority};
use roomcast::core::provider::{Draft, Kind as Content_, Limits, PROVIDERS, Provider};
use roomcast::core::section::{Node, Place, Report, Section, Table, Value};
use roomcast::core::time::Mono;
use roomcast::simulator::{self, Canned, Easemob, Effect, Judge, Knobs, Rule, Shape, Yunxin};

use crate::faults::{Fault, Faults};
use crate::reloads::Former;
use crate::spec::token;

/// A token that is good from the start: with it, others use the app.
pub const FOREIGN_TOKEN: &str = "others";

/// Which provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Easemob.
    Easemob,
    /// Yunxin.
    Yunxin,
}

/// One account.
#[derive(Debug)]
pub struct Account {
    pub kind: Kind,
    pub provider: Box<dyn Provider>,
    pub service: simulator::Provider,
    pub judge: Judge,
    /// What the account may send, over all processes, by the config that runs.
    pub limits: Limits,
    /// What it might send before.
    pub former: Vec<Former>,
    /// What the provider counts by.
    pub full: Limits,
    /// When nobody can reach it.
    pub outage: (Mono, Mono),
    /// While others may have used up its quota.
    pub foreign_until: Mono,
    /// When its answers are 5xx.
    pub storm: (Mono, Mono),
}

/// The limits of an account, as a config would have them.
#[derive(Clone, Copy, Debug)]
struct Quota {
    calls: u32,
    messages: u32,
    users: u32,
    room: u32,
    high: u32,
    per_minute: u32,
    batch: bool,
}

impl Account {
    /// Draws one. Where a room has one sender at a time its pace is small beside the quota, so that it is met.
    pub fn draw(
        rng: &mut fastrand::Rng,
        faults: Faults,
        processes: u32,
        is_keyed: bool,
        rooms: &[Arc<str>],
    ) -> Self {
        let kind = if rng.bool() { Kind::Easemob } else { Kind::Yunxin };
        let mut quota = Quota {
            calls: rng.u32(5..60).max(processes * 5),
            messages: rng.u32(10..150).max(processes * 10),
            users: rng.u32(5..50).max(processes * 5),
            room: rng.u32(1..25).max(processes),
            high: rng.u32(1..12).max(processes),
            per_minute: 10,
            batch: rng.u8(..3) == 0,
        };
        if is_keyed {
            (quota.calls, quota.messages, quota.room) =
                (quota.calls + 30, quota.messages + 60, 2 + quota.room % 5);
        }
        let (service, table) = match kind {
            Kind::Easemob => easemob(quota, rng),
            Kind::Yunxin => yunxin(quota, rng),
        };
        let provider = build(kind, &table);
        let limits = provider.limits().clone();
        let knobs = Knobs {
            provider: service.clone(),
            window: Shape::Sliding,
            seed: rng.u64(..),
            log_entries: 4,
            remembered_ids: 10_000,
        };
        let mut judge = Judge::new(&knobs, "sim".to_owned());
        judge.set_faults(rules(kind, faults, rooms), Mono(0)).expect("the rules are right");
        let never = (Mono(0), Mono(0));
        let full = limits.clone();
        Self {
            kind,
            provider,
            service,
            judge,
            limits,
            former: Vec::new(),
            full,
            outage: never,
            foreign_until: Mono(0),
            storm: never,
        }
    }

    /// What one of so many processes may send.
    pub fn share(&self, processes: u32) -> Limits {
        let mut limits = self.limits.clone();
        let part = |number: u32| (number / processes).max(1);
        for path in &mut limits.paths {
            path.calls_per_second = part(path.calls_per_second);
            path.messages_per_second = path.messages_per_second.map(part);
            path.calls_per_minute = path.calls_per_minute.map(part);
            path.calls_per_day = path.calls_per_day.map(part);
        }
        limits.room_messages_per_second = part(limits.room_messages_per_second);
        limits.room_high_per_second = limits.room_high_per_second.map(part);
        limits
    }

    /// The content of an event, as a route's text message would have it.
    pub fn content(&self, event: usize, path: Path, priority: Priority, base: BaseId) -> Arc<Content> {
        let users = if path == Path::Users { vec!["u1".to_owned()] } else { Vec::new() };
        let draft = Draft {
            path,
            users: &users,
            kind: Content_::Text { text: token(event) },
            sender: None,
            ext: None,
            options: serde_json::Map::new(),
            priority,
            base,
        };
        self.provider.render(&draft).expect("a short text is right")
    }
}

/// Rooms that the provider knows no more, and rooms whose messages it refuses.
fn rules(kind: Kind, faults: Faults, rooms: &[Arc<str>]) -> Vec<Rule> {
    let mut rules = Vec::new();
    let mut rule = |room: &Arc<str>, canned: Canned| {
        rules.push(Rule { rooms: vec![room.to_string()], ..Rule::new(Effect::Answer(canned)) });
    };
    if faults.has(Fault::GoneRooms)
        && let Some(room) = rooms.first()
    {
        rule(
            room,
            match kind {
                Kind::Easemob => Canned {
                    status: 404,
                    error: Some("service_resource_not_found".to_owned()),
                    ..Canned::default()
                },
                Kind::Yunxin => Canned { code: Some(404), ..Canned::default() },
            },
        );
    }
    if faults.has(Fault::Poison)
        && let Some(room) = rooms.get(1)
    {
        rule(
            room,
            match kind {
                Kind::Easemob => Canned { status: 400, ..Canned::default() },
                Kind::Yunxin => Canned { code: Some(414), ..Canned::default() },
            },
        );
    }
    rules
}

fn node(value: Value) -> Node {
    Node { value, place: Place::Nowhere, key_place: Place::Nowhere }
}

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

fn table<const N: usize>(settings: [(&str, Value); N]) -> Table {
    BTreeMap::from(settings.map(|(key, value)| (key.to_owned(), node(value))))
}

fn easemob(quota: Quota, rng: &mut fastrand::Rng) -> (simulator::Provider, Table) {
    let service = Easemob {
        app_token: Some(FOREIGN_TOKEN.to_owned()),
        token_life: Duration::from_secs(rng.u64(30..4_000)),
        calls_per_second: quota.calls,
        messages_per_second: quota.messages,
        users_calls_per_second: quota.users,
        room_messages_per_second: quota.room,
        broadcasts_per_minute: quota.per_minute,
        ..Easemob::default()
    };
    let number = |number: u32| Value::Integer(i64::from(number));
    let limits = table([
        ("calls_per_second", number(quota.calls)),
        ("messages_per_second", number(quota.messages)),
        ("users_calls_per_second", number(quota.users)),
        ("room_messages_per_second", number(quota.room)),
    ]);
    let account = table([
        ("org", text("acme")),
        ("app", text("live")),
        ("client_id", text("client")),
        ("client_secret", text("secret")),
        ("base_url", text("https://easemob.sim")),
        ("quota", Value::Table(limits)),
    ]);
    (simulator::Provider::Easemob(service), account)
}

fn yunxin(quota: Quota, rng: &mut fastrand::Rng) -> (simulator::Provider, Table) {
    let service = Yunxin {
        calls_per_second: quota.calls,
        batch_calls_per_second: quota.calls,
        users_calls_per_second: quota.users,
        room_messages_per_second: quota.room,
        room_high_per_second: quota.high,
        // Where shares move, each replica may send one more.
        room_high_sends_per_second: quota.high + 2,
        repeat_code: [200, 417][rng.usize(..2)],
        request_id_memory: Duration::ZERO,
        ..Yunxin::default()
    };
    let number = |number: u32| Value::Integer(i64::from(number));
    let limits = table([
        ("calls_per_second", number(quota.calls)),
        ("users_calls_per_second", number(quota.users)),
        ("room_messages_per_second", number(quota.room)),
        ("room_high_per_second", number(quota.high)),
    ]);
    let urls = if rng.bool() { vec!["https://a.sim"] } else { vec!["https://a.sim", "https://b.sim"] };
    let account = table([
        ("app_key", text("key")),
        ("app_secret", text("secret")),
        ("sender", text("system")),
        ("batch", Value::Boolean(quota.batch)),
        ("base_url", Value::List(urls.into_iter().map(|url| node(text(url))).collect())),
        ("quota", Value::Table(limits)),
    ]);
    (simulator::Provider::Yunxin(service), account)
}

fn build(kind: Kind, table: &Table) -> Box<dyn Provider> {
    let name = match kind {
        Kind::Easemob => "easemob",
        Kind::Yunxin => "yunxin",
    };
    let (_, build) = PROVIDERS.iter().find(|(word, _)| *word == name).expect("it is built in");
    let report = Report::new(&|name| Err(format!("no file {name}")));
    let section = Section::new("accounts.sim", table, Place::Nowhere, &report);
    let provider = build(&section);
    drop(section);
    let problems = report.into_problems();
    provider.unwrap_or_else(|| panic!("{problems:#?}"))
}
