//! `roomcast simulate easemob|yunxin|kafka`: a provider simulator or the embedded broker as a process.
//!
//! Turns arguments into [`simulator::Options`] or topics, prints the address as the first line on
//! stdout, and serves until SIGINT or SIGTERM; a second one ends it at once. Judges nothing itself.

use std::io::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, Subcommand};

use crate::core::section::parse_duration;
use crate::simulator::kafka::EmbeddedKafka;
use crate::simulator::{self, Easemob, Options, Rule, Shape, Yunxin};

/// What is simulated.
#[derive(Clone, Debug, Subcommand)]
pub enum Target {
    /// Easemob (环信): tokens, rooms, directed messages, broadcasts.
    Easemob(EasemobArgs),
    /// NetEase Yunxin (网易云信): signed calls, batches, directed messages, broadcasts.
    Yunxin(YunxinArgs),
    /// A Kafka broker in memory, on a free port: for trying things out, never for data.
    Kafka(KafkaArgs),
}

/// `roomcast simulate kafka`. The broker chooses its port itself.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Everything is gone when it ends. It has no logins, no TLS and no admin requests, and keeps at most
5 MiB a partition. A topic that is written to is made, with one partition.

Example:
  roomcast simulate kafka --topic live.events:3 --topic live.events.dlq")]
pub struct KafkaArgs {
    /// A topic to make, with its number of partitions [default: 1]; repeatable.
    #[arg(long, value_name = "NAME[:N]", value_parser = topic)]
    pub topic: Vec<(String, i32)>,
}

/// What both simulators take.
#[derive(Args, Clone, Debug)]
pub struct Common {
    /// Where to listen; port 0 is any free one.
    #[arg(long, default_value = "127.0.0.1:0", value_name = "ADDR")]
    pub listen: SocketAddr,
    /// From a request's arrival to its answer.
    #[arg(long, default_value = "0ms", value_name = "TIME", value_parser = duration)]
    pub latency: Duration,
    /// Messages a second that members of a room get to see [default: 20].
    #[arg(long, value_name = "N")]
    pub room_messages_per_second: Option<u32>,
    /// Lifts every limit and the room pace, but those that are named beside it.
    #[arg(long)]
    pub no_limits: bool,
    /// Counts windows from whole seconds, as a lenient service would, in place of sliding ones.
    #[arg(long)]
    pub fixed_window: bool,
    /// Every chance is drawn from it.
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub seed: u64,
    /// Log entries that are kept.
    #[arg(long, default_value_t = 1_000_000, value_name = "N")]
    pub log_entries: usize,
    /// A fault from the start, as JSON; repeatable. `{"effect":"drop_after","probability":0.01}`
    #[arg(long, value_name = "JSON", value_parser = rule)]
    pub fault: Vec<Rule>,
}

/// `roomcast simulate easemob`. Limits: 0 is none.
#[derive(Args, Clone, Debug)]
pub struct EasemobArgs {
    /// What both simulators take.
    #[command(flatten)]
    pub common: Common,
    /// Organisation: the first part of every path.
    #[arg(long, default_value = "acme")]
    pub org: String,
    /// App: the second part of every path.
    #[arg(long, default_value = "live")]
    pub app: String,
    /// Whom a token is given to.
    #[arg(long, default_value = "client")]
    pub client_id: String,
    /// What it is given for.
    #[arg(long, default_value = "secret")]
    pub client_secret: String,
    /// A token that is good from the start and never ends.
    #[arg(long)]
    pub app_token: Option<String>,
    /// Life of a token when the login asks for none.
    #[arg(long, default_value = "1440h", value_name = "TIME", value_parser = duration)]
    pub token_life: Duration,
    /// Calls a second to rooms [default: 20].
    #[arg(long, value_name = "N")]
    pub calls_per_second: Option<u32>,
    /// Messages (rooms × calls) a second [default: 100].
    #[arg(long, value_name = "N")]
    pub messages_per_second: Option<u32>,
    /// Calls a second to members of a room [default: 100].
    #[arg(long, value_name = "N")]
    pub users_calls_per_second: Option<u32>,
    /// Broadcasts a second [default: 1].
    #[arg(long, value_name = "N")]
    pub broadcasts_per_second: Option<u32>,
    /// Broadcasts in any minute [default: 10].
    #[arg(long, value_name = "N")]
    pub broadcasts_per_minute: Option<u32>,
    /// Broadcasts in a UTC day [default: 100].
    #[arg(long, value_name = "N")]
    pub broadcasts_per_day: Option<u32>,
}

/// `roomcast simulate yunxin`. Limits: 0 is none.
#[derive(Args, Clone, Debug)]
pub struct YunxinArgs {
    /// What both simulators take.
    #[command(flatten)]
    pub common: Common,
    /// The `AppKey` header.
    #[arg(long, default_value = "key")]
    pub app_key: String,
    /// What signs.
    #[arg(long, default_value = "secret")]
    pub app_secret: String,
    /// Calls a second to each of sendMsg, batchSendMsg and sendMsgToSomeone [default: 100].
    #[arg(long, value_name = "N")]
    pub calls_per_second: Option<u32>,
    /// Broadcasts in any minute [default: 10].
    #[arg(long, value_name = "N")]
    pub broadcasts_per_minute: Option<u32>,
    /// How long a path answers 416 once its limit was passed.
    #[arg(long, default_value = "10s", value_name = "TIME", value_parser = duration)]
    pub ban: Duration,
    /// A call during a ban begins it anew.
    #[arg(long)]
    pub calls_extend_ban: bool,
    /// High-priority messages a second that a room takes, and that its members see [default: 10].
    #[arg(long, value_name = "N")]
    pub room_high_per_second: Option<u32>,
    /// The code for a repeat that `resendFlag=1` made known: 200, 417 or 431.
    #[arg(long, default_value_t = 200, value_name = "CODE")]
    pub repeat_code: i32,
    /// Numbers in answers are JSON numbers, not text.
    #[arg(long)]
    pub plain_numbers: bool,
    /// A room there is; repeatable. Without any, every room is there; with some, others answer 404.
    #[arg(long, value_name = "ID")]
    pub room: Vec<String>,
}

fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).ok_or_else(|| format!("`{text}` is no time; write 20ms, 1.5s, 2m or 1h"))
}

fn rule(json: &str) -> Result<Rule, String> {
    let rule: Rule = serde_json::from_str(json).map_err(|error| error.to_string())?;
    rule.check().map_err(|error| error.to_string())?;
    Ok(rule)
}

/// Serves until told to stop.
///
/// # Errors
/// The address cannot be had, a fault rule is wrong, or stdout is closed.
pub async fn run(target: Target) -> anyhow::Result<()> {
    let options = match target {
        Target::Easemob(args) => shared(Options::easemob(easemob(&args)), args.common),
        Target::Yunxin(args) => shared(Options::yunxin(yunxin(&args)), args.common),
        Target::Kafka(args) => return kafka(&args).await,
    };
    let simulator = simulator::start(options)?;
    announce(&simulator.base_url())?;
    stop_signal().await?;
    tokio::select! {
        () = simulator.stop() => Ok(()),
        second = stop_signal() => second,
    }
}

/// The embedded broker; it ends with the process.
async fn kafka(args: &KafkaArgs) -> anyhow::Result<()> {
    let topics: Vec<(&str, i32)> = args.topic.iter().map(|(name, count)| (&**name, *count)).collect();
    let broker = EmbeddedKafka::start(&topics)?;
    announce(broker.address())?;
    stop_signal().await
}

/// The first line on stdout: where clients find us.
fn announce(address: &str) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout();
    writeln!(stdout, "{address}").and_then(|()| stdout.flush()).context("stdout is closed")
}

/// `NAME` or `NAME:PARTITIONS`.
fn topic(text: &str) -> Result<(String, i32), String> {
    let (name, count) = text.split_once(':').unwrap_or((text, "1"));
    match count.parse() {
        Ok(count @ 1..=1_000) if !name.is_empty() => Ok((name.to_owned(), count)),
        _ => Err(format!("`{text}` is no topic; write live.events or live.events:3 (1 to 1000 partitions)")),
    }
}

fn easemob(args: &EasemobArgs) -> Easemob {
    let base = Easemob::default();
    let base = if args.common.no_limits { base.without_limits() } else { base };
    Easemob {
        org: args.org.clone(),
        app: args.app.clone(),
        client_id: args.client_id.clone(),
        client_secret: args.client_secret.clone(),
        app_token: args.app_token.clone(),
        token_life: args.token_life,
        calls_per_second: args.calls_per_second.unwrap_or(base.calls_per_second),
        messages_per_second: args.messages_per_second.unwrap_or(base.messages_per_second),
        room_messages_per_second: args
            .common
            .room_messages_per_second
            .unwrap_or(base.room_messages_per_second),
        users_calls_per_second: args.users_calls_per_second.unwrap_or(base.users_calls_per_second),
        broadcasts_per_second: args.broadcasts_per_second.unwrap_or(base.broadcasts_per_second),
        broadcasts_per_minute: args.broadcasts_per_minute.unwrap_or(base.broadcasts_per_minute),
        broadcasts_per_day: args.broadcasts_per_day.unwrap_or(base.broadcasts_per_day),
        ..base
    }
}

fn yunxin(args: &YunxinArgs) -> Yunxin {
    let base = Yunxin::default();
    let base = if args.common.no_limits { base.without_limits() } else { base };
    Yunxin {
        app_key: args.app_key.clone(),
        app_secret: args.app_secret.clone(),
        calls_per_second: args.calls_per_second.unwrap_or(base.calls_per_second),
        batch_calls_per_second: args.calls_per_second.unwrap_or(base.batch_calls_per_second),
        users_calls_per_second: args.calls_per_second.unwrap_or(base.users_calls_per_second),
        broadcasts_per_minute: args.broadcasts_per_minute.unwrap_or(base.broadcasts_per_minute),
        ban: args.ban,
        calls_extend_ban: args.calls_extend_ban,
        room_messages_per_second: args
            .common
            .room_messages_per_second
            .unwrap_or(base.room_messages_per_second),
        room_high_per_second: args.room_high_per_second.unwrap_or(base.room_high_per_second),
        room_high_sends_per_second: args.room_high_per_second.unwrap_or(base.room_high_sends_per_second),
        repeat_code: args.repeat_code,
        numbers_as_text: !args.plain_numbers,
        rooms: (!args.room.is_empty()).then(|| args.room.iter().cloned().collect()),
        ..base
    }
}

fn shared(options: Options, common: Common) -> Options {
    Options {
        listen: common.listen,
        latency: common.latency,
        window: if common.fixed_window { Shape::Fixed } else { Shape::Sliding },
        seed: common.seed,
        log_entries: common.log_entries,
        faults: common.fault,
        ..options
    }
}

/// SIGINT or SIGTERM.
pub(super) async fn stop_signal() -> anyhow::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM cannot be listened for")?;
    tokio::select! {
        interrupt = tokio::signal::ctrl_c() => interrupt.context("SIGINT cannot be listened for"),
        _ = terminate.recv() => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::simulator::Provider;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(subcommand)]
        target: Target,
    }

    fn read(line: &str) -> Result<Options, clap::Error> {
        Line::try_parse_from(line.split(' ')).map(|line| match line.target {
            Target::Easemob(args) => shared(Options::easemob(easemob(&args)), args.common),
            Target::Yunxin(args) => shared(Options::yunxin(yunxin(&args)), args.common),
            Target::Kafka(_) => panic!("a provider"),
        })
    }

    #[test]
    fn topics_have_names_and_partitions() {
        assert_eq!(topic("live.events"), Ok(("live.events".to_owned(), 1)));
        assert_eq!(topic("live.events:3"), Ok(("live.events".to_owned(), 3)));
        for wrong in ["", ":3", "a:0", "a:x", "a:"] {
            assert!(topic(wrong).is_err_and(|told| told.contains("live.events:3")), "{wrong}");
        }
    }

    #[test]
    fn without_flags_the_pages_numbers_hold() {
        let Provider::Easemob(knobs) = read("simulate easemob").expect("good").provider else {
            panic!("easemob")
        };
        assert_eq!(knobs, Easemob::default());
        let Provider::Yunxin(knobs) = read("simulate yunxin").expect("good").provider else {
            panic!("yunxin")
        };
        assert_eq!(knobs, Yunxin::default());
    }

    #[test]
    fn flags_arrive() {
        let line = r#"simulate yunxin --latency 20ms --no-limits --ban 1s --room 7 --room-high-per-second 3 --fault {"effect":"empty"}"#;
        let options = read(line).expect("good");
        assert_eq!(options.latency, Duration::from_millis(20));
        assert_eq!(options.faults, [Rule::new(simulator::Effect::Empty)]);
        let Provider::Yunxin(knobs) = options.provider else { panic!("yunxin") };
        assert_eq!((knobs.calls_per_second, knobs.room_messages_per_second), (0, 0));
        assert_eq!(knobs.room_high_per_second, 3, "named beside --no-limits");
        assert_eq!(knobs.ban, Duration::from_secs(1));
        assert!(knobs.rooms.is_some_and(|rooms| rooms.contains("7")));
    }

    #[test]
    fn wrong_flags_are_told() {
        for (line, part) in [
            ("simulate easemob --latency soon", "20ms"),
            (r#"simulate easemob --fault {"effect":"emtpy"}"#, "unknown variant"),
            (r#"simulate easemob --fault {"effect":"empty","count":0}"#, "never happen"),
        ] {
            let told = read(line).expect_err(line).to_string();
            assert!(told.contains(part), "{told}");
        }
    }
}
