//! Makes the script happen and tells what comes of it: produces events, reads what the simulators
//! and the dead-letter topic hold, and turns it into lines.
//!
//! What became of an event is read from the simulators' logs alone; only why something waits is
//! the daemon's own word.

use std::time::Duration;

use serde_json::{Value as Json, json};
use tokio::time::{Instant, MissedTickBehavior};

use super::account::{self, Account, Evidence};
use super::ledger::{self, Due, Event, Ledger, News, Service, tag};
use super::screen::{INDENT, Screen, Tone, wrapped};
use super::simulate;
use super::stage::{Produced, Stage, partition};
use crate::core::schedule::status::{GateCause, GateState, PathSnapshot, Snapshot};
use crate::core::time::Mono;
use crate::simulator::{Entry, Filter, Rule, Simulator};

/// How often the logs are read and the moving line is drawn: often enough to look alive.
const LOOK: Duration = Duration::from_millis(40);
/// How often a line about what is under way is left in a log file.
const REMIND: Duration = Duration::from_millis(2_000);
/// From so many events under way on, such lines are left.
const MANY: u64 = 20;

/// An event to be produced.
#[derive(Clone, Debug)]
pub struct Draft {
    /// Its type, or what is wrong with it.
    pub what: &'static str,
    /// The topic: 0 for the live stream, 1 for the match.
    pub topic: &'static str,
    /// The key.
    pub key: String,
    /// Its content.
    pub body: Body,
    /// What it has to become.
    pub due: Due,
}

/// What stands in a record.
#[derive(Clone, Debug)]
pub enum Body {
    /// A CloudEvent of this type with this data.
    Event(&'static str, Json),
    /// These bytes.
    Raw(&'static str),
}

/// The play under way.
pub struct Play {
    stage: Stage,
    screen: Screen,
    ledger: Ledger,
    /// The next entry of each log.
    next: [u64; 2],
    /// Which gates were told to be closed.
    gates: [bool; 2],
    reminded: Instant,
    /// When the other service began its burst.
    foreign_at: Option<Mono>,
    scenes: u32,
}

impl Play {
    /// A play on this stage.
    pub fn new(stage: Stage, screen: Screen) -> Self {
        Self {
            stage,
            screen,
            ledger: Ledger::default(),
            next: [0; 2],
            gates: [false; 2],
            reminded: Instant::now(),
            foreign_at: None,
            scenes: 0,
        }
    }

    /// The stage.
    pub fn stage(&self) -> &Stage {
        &self.stage
    }

    /// Text that belongs to no event.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn remark(&mut self, tone: Tone, text: &str) -> anyhow::Result<()> {
        let text = self.screen.paint(tone, &wrapped(text, INDENT));
        self.screen.line(&text)
    }

    /// Text before the first scene.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn title(&mut self, title: &str, text: &str) -> anyhow::Result<()> {
        let title = self.screen.paint(Tone::Strong, title);
        self.screen.line(&title)?;
        self.screen.line(&wrapped(text, 0))
    }

    /// The next scene.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn scene(&mut self, title: &str) -> anyhow::Result<()> {
        self.scenes += 1;
        let text = format!("{}. {}", self.scenes, wrapped(title, INDENT).trim_start());
        let text = self.screen.paint(Tone::Strong, &text);
        self.screen.line(&format!("\n{text}"))
    }

    /// Sets what goes wrong at a provider.
    ///
    /// # Errors
    /// When the rule is wrong.
    pub fn fault(&self, service: Service, rule: Rule) -> anyhow::Result<()> {
        Ok(self.stage.simulators[service as usize].set_faults(vec![rule])?)
    }

    /// Produces events one after another, and tells meanwhile what comes of them.
    ///
    /// # Errors
    /// When the broker takes no record, or nothing can be written.
    pub async fn feed(&mut self, drafts: &[Draft], gap: Duration) -> anyhow::Result<()> {
        for draft in drafts {
            self.produce(std::slice::from_ref(draft), false).await?;
            self.watch(gap, |_| false).await?;
        }
        Ok(())
    }

    /// Produces events all at once.
    ///
    /// # Errors
    /// As [`Self::feed`].
    pub async fn produce(&mut self, drafts: &[Draft], burst: bool) -> anyhow::Result<()> {
        let mut records = Vec::with_capacity(drafts.len());
        for draft in drafts {
            let tag = self.ledger.next_tag();
            let value = match &draft.body {
                Body::Raw(text) => (*text).to_owned(),
                Body::Event(of, data) => json!({
                    "specversion": "1.0", "id": tag, "source": "/demo", "type": of, "data": data,
                })
                .to_string(),
            };
            let partition = partition(&draft.key);
            records.push(Produced { topic: draft.topic, partition, key: draft.key.clone(), value, tag });
            self.ledger.push(Event {
                what: draft.what,
                due: draft.due.clone(),
                from: (draft.topic, partition),
                at: self.stage.clock.now().mono,
                burst,
            });
            if draft.due == Due::Dropped {
                let rest = "a rule of the config drops and counts it";
                let number = self.ledger.events().len() - 1;
                self.screen.row(Tone::Quiet, "dropped", draft.what, &ledger::tag(number), rest)?;
            }
        }
        self.stage.produce(&records).await
    }

    /// Tells what happens until all that was produced is done; says so when it takes longer,
    /// and whether it was done.
    ///
    /// # Errors
    /// When nothing can be written.
    pub async fn settle(&mut self, limit: Duration) -> anyhow::Result<bool> {
        self.until(limit, |ledger| ledger.open() == 0).await
    }

    /// Tells what happens until something is true of the ledger; says so when it takes longer,
    /// and whether it was done.
    ///
    /// # Errors
    /// When nothing can be written.
    pub async fn until(&mut self, limit: Duration, done: impl Fn(&Ledger) -> bool) -> anyhow::Result<bool> {
        let done = self.watch(limit, done).await?;
        if !done {
            let open = self.ledger.open();
            let text = format!("not done after {} s: {open} events wait", limit.as_secs());
            self.remark(Tone::Bad, &text)?;
        }
        Ok(done)
    }

    /// Tells what happens for so long at most; true when it was done before.
    ///
    /// # Errors
    /// When nothing can be written.
    pub async fn watch(&mut self, span: Duration, done: impl Fn(&Ledger) -> bool) -> anyhow::Result<bool> {
        let end = Instant::now() + span;
        let mut look = tokio::time::interval(LOOK.min(span.max(Duration::from_millis(1))));
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            look.tick().await;
            // A gate opens before what then flows, and closes after what closed it.
            let report = self.stage.handle.report().await;
            report.iter().try_for_each(|report| self.openings(&report.snapshot))?;
            self.listen()?;
            report.iter().try_for_each(|report| self.closings(&report.snapshot))?;
            if done(&self.ledger) {
                self.screen.status("")?;
                return Ok(true);
            }
            if Instant::now() >= end {
                self.screen.status("")?;
                return Ok(false);
            }
        }
    }

    /// Reads what is new in both logs and in the dead-letter topic.
    fn listen(&mut self) -> anyhow::Result<()> {
        for service in Service::ALL {
            let from = self.next[service as usize];
            let filter = Filter { from, ..Filter::default() };
            for entry in self.stage.simulators[service as usize].log_of(&filter) {
                self.next[service as usize] = entry.seq + 1;
                if let Some(news) = self.ledger.heard(&entry) {
                    self.tell(service, &news, &entry)?;
                }
            }
        }
        while let Ok(letter) = self.stage.letters.try_recv() {
            let what = self.ledger.events().get(letter.event).map_or("?", |event| event.what);
            self.screen.row(Tone::Odd, "dead letter", what, &tag(letter.event), &letter.class)?;
            let why = self.screen.paint(Tone::Quiet, &wrapped(&letter.error, INDENT + 12));
            self.screen.line(&why)?;
            self.ledger.buried(letter);
        }
        Ok(())
    }

    fn tell(&mut self, service: Service, news: &News, entry: &Entry) -> anyhow::Result<()> {
        let (News::Delivered(number) | News::AnswerLost(number) | News::Again(number, _)) = *news;
        let event = &self.ledger.events()[number];
        if event.burst {
            return Ok(());
        }
        if let (Due::Repaired(_, _, room), News::Delivered(_)) = (&event.due, news) {
            let rest = format!("{} room {room}, after its repair", service.name());
            return self.screen.row(Tone::Good, "replayed", event.what, &tag(number), &rest);
        }
        let rooms = match &event.due {
            Due::Delivered(_, rooms) if rooms.iter().any(String::is_empty) => "all rooms".to_owned(),
            Due::Delivered(_, rooms) if rooms.len() > 1 => format!("rooms {}", rooms.join(" ")),
            _ => format!("room {}", entry.room.as_deref().unwrap_or("?")),
        };
        let name = service.name();
        let after = entry.at.since(event.at);
        let after = match after.as_millis() {
            ms @ 0..1_000 => format!("{ms} ms"),
            _ => format!("{:.1} s", after.as_secs_f64()),
        };
        let (tone, fate, rest) = match news {
            News::Delivered(_) => (Tone::Good, "delivered", format!("{name} {rooms}, {after}")),
            News::AnswerLost(_) => (Tone::Odd, "no answer", format!("{name} took it, its answer got lost")),
            News::Again(_, true) => (Tone::Good, "sent again", format!("resendFlag=1: {name} drops it")),
            News::Again(_, false) => {
                (Tone::Good, "sent again", "same roomcast_id: clients drop it".to_owned())
            }
        };
        let what = event.what;
        self.screen.row(tone, fate, what, &tag(number), &rest)
    }

    /// Accounts that accept calls again, as the daemon tells it.
    fn openings(&mut self, snapshot: &Snapshot) -> anyhow::Result<()> {
        for service in Service::ALL {
            let gate = &snapshot.accounts[service as usize][0].gate;
            if *gate == GateState::Open && std::mem::take(&mut self.gates[service as usize]) {
                self.remark(Tone::Good, &format!("{}: accepts calls again", service.name()))?;
            }
        }
        Ok(())
    }

    /// Accounts that take no calls any more, and what waits where and why, as the daemon tells it.
    fn closings(&mut self, snapshot: &Snapshot) -> anyhow::Result<()> {
        let mut parts = Vec::new();
        for service in Service::ALL {
            let path = &snapshot.accounts[service as usize][0];
            if let GateState::Closed { cause, text, reopens_in } = &path.gate
                && !std::mem::replace(&mut self.gates[service as usize], true)
            {
                let why = match cause {
                    GateCause::Ban => format!("banned ({text})"),
                    GateCause::Outage => "no answers".to_owned(),
                    GateCause::Refused | GateCause::DayQuota => text.clone(),
                };
                let (name, wait) = (service.name(), reopens_in.as_secs_f64());
                let line = format!("{name}: {why}. Its messages wait; one call probes in {wait:.1} s");
                self.remark(Tone::Odd, &line)?;
            }
            parts.extend(waiting(service, path));
        }
        let events = self.ledger.events().len() as u64;
        let open = self.ledger.open() as u64;
        let text = match parts.is_empty() {
            true => String::new(),
            false => format!(
                "   {} of {} events done; waiting: {}",
                account::number(events - open),
                account::number(events),
                parts.join(", ")
            ),
        };
        self.screen.status(&text)?;
        if open >= MANY && !parts.is_empty() && self.reminded.elapsed() >= REMIND {
            self.reminded = Instant::now();
            self.remark(Tone::Quiet, &text)?;
        }
        Ok(())
    }

    /// Replays the open letter of that class, after a patch where there is one; then that is due.
    ///
    /// # Errors
    /// When there is none, or the broker takes no request.
    pub async fn replay(&mut self, class: &str, patch: Option<&str>, due: Due) -> anyhow::Result<()> {
        let with = patch.map(|patch| format!(" --patch '{patch}'")).unwrap_or_default();
        self.remark(Tone::Quiet, &format!("roomcast letters replay --class {class}{with}"))?;
        let event = self.stage.replay(class, patch).await?;
        self.ledger.replay(event, due);
        Ok(())
    }

    /// Discards the open letter of that class.
    ///
    /// # Errors
    /// When there is none, or the broker does not take it.
    pub async fn discard(&mut self, class: &str, why: &str) -> anyhow::Result<()> {
        self.remark(Tone::Quiet, &format!("roomcast letters discard --class {class} --why '{why}'"))?;
        self.stage.discard(class, why).await
    }

    /// Another service with the same Yunxin key sends so many texts at once.
    ///
    /// # Errors
    /// When the calls cannot be made at all.
    pub async fn foreign_burst(&mut self, calls: usize) -> anyhow::Result<()> {
        let provider = self.stage.providers[Service::Yunxin as usize].clone();
        let client = super::super::live::open(&*provider)?;
        self.foreign_at = Some(self.stage.clock.now().mono);
        let room = account::FOREIGN_ROOM;
        let sends = (0..calls).map(|_| super::super::send::send(&*provider, &client, room, "not ours"));
        // Which of them are refused is in the simulator's log.
        futures_util::future::join_all(sends).await;
        Ok(())
    }

    /// Waits until everything is committed, and draws the account.
    ///
    /// # Errors
    /// When the broker does not tell what is committed.
    pub async fn account(&mut self) -> anyhow::Result<Account> {
        let produced = self.ledger.events().len() as u64;
        let patience = Instant::now() + Duration::from_secs(5);
        let mut committed = self.stage.committed().await?;
        while committed < produced && Instant::now() < patience {
            self.watch(Duration::from_millis(250), |_| false).await?;
            committed = self.stage.committed().await?;
        }
        self.listen()?;
        let states = self.stage.states().await?;
        let logs = self.stage.simulators.each_ref().map(Simulator::log);
        Ok(account::draw(&Evidence {
            events: self.ledger.events(),
            logs: [&logs[0], &logs[1]],
            letters: self.ledger.letters(),
            states,
            committed,
            foreign_at: self.foreign_at,
        }))
    }

    /// Prints the addresses and waits for a signal.
    ///
    /// # Errors
    /// When signals cannot be listened for.
    pub async fn keep(&mut self) -> anyhow::Result<()> {
        let stage = &self.stage;
        let [easemob, yunxin] = stage.simulators.each_ref().map(Simulator::base_url);
        let file = stage.file.path().display();
        let token = stage.token_file.as_ref().map_or("-".to_owned(), |path| path.display().to_string());
        let text = format!(
            "\n  Everything goes on running, until Ctrl-C:\n\n    \
             broker   {}   topics live.events, match.events, events.dlq\n    \
             admin    http://{}   /metrics /readyz /api/status; token in {token}\n    \
             easemob  {easemob}/_sim/log   and /_sim/stats, /_sim/faults\n    \
             yunxin   {yunxin}/_sim/log\n    \
             config   {file}\n\n    \
             roomcast send -c {file} --account match --room 2001 --text hello",
            stage.broker(),
            stage.admin,
        );
        self.screen.line(&text)?;
        simulate::stop_signal().await
    }

    /// Ends the moving line, when the story breaks off.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn break_off(&mut self) -> anyhow::Result<()> {
        self.screen.status("")?;
        self.screen.line("stopped before its end")
    }

    /// Stops the daemon in an orderly way, and everything with it.
    pub async fn end(self) {
        self.stage.stop().await;
    }
}

/// What waits at a service, in a few words.
fn waiting(service: Service, path: &PathSnapshot) -> Option<String> {
    let waiting = &path.waiting;
    let quota = waiting.quota + waiting.pace + waiting.order + waiting.backoff;
    let name = service.name();
    match &path.gate {
        GateState::Closed { cause, reopens_in, .. } => Some(format!(
            "{name} {} ({}, probe in {:.1} s)",
            waiting.gate,
            cause.word(),
            reopens_in.as_secs_f64()
        )),
        GateState::Probing { cause } => Some(format!("{name} {} ({}, probing)", waiting.gate, cause.word())),
        _ if quota > 0 => Some(format!("{name} {quota} (quota)")),
        _ => None,
    }
}
