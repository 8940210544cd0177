//! What roomcast knows of IM providers: message → call, reply → outcome.
//!
//! A provider is a set of pure functions. It never waits, never retries, never counts; it says how
//! a call looks and what an answer means. [`PROVIDERS`] lists them: a third one is one file and one
//! line there. The scheduler decides when calls are made; `http` makes them.

mod by_hand;
pub mod easemob;
mod options;
mod settings;
mod trouble;
pub mod yunxin;

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use secrecy::SecretString;
use serde_json::{Map, Value};
use smallvec::SmallVec;
use std::sync::Arc;

pub use by_hand::{ByHand, MASK, shell_word};

use super::model::{BaseId, Content, MessageId, Path, Priority, Room};
use super::section::Section;
use super::time::Wall;

/// Makes a provider from its account's section; `None` when the section had problems (they are told there).
pub type Build = fn(&Section<'_>) -> Option<Box<dyn Provider>>;

/// Every provider, by the word that `provider = "…"` takes.
pub const PROVIDERS: &[(&str, Build)] = &[("easemob", easemob::build), ("yunxin", yunxin::build)];

/// One account at one provider, as pure functions.
pub trait Provider: fmt::Debug + Send + Sync {
    /// The word of [`PROVIDERS`].
    fn name(&self) -> &'static str;

    /// Base URLs, in the order they are tried when one cannot be reached. Never empty, no trailing slash.
    fn base_urls(&self) -> &[String];

    /// How long one call may take, all of it.
    fn timeout(&self) -> Duration;

    /// What one call may carry and what the account may send.
    fn limits(&self) -> &Limits;

    /// Whether the provider has a place for this kind on this path; checked at start, so that a
    /// route with a kind that is lacking is a config error. The error names what the provider has.
    fn supports(&self, kind: KindName, path: Path) -> Result<(), String>;

    /// Checks the option names (and the values that are constants) of a route: `Err` says what is
    /// wrong and what would be right, one entry for each wrong option, keyed by its name.
    fn check_options(
        &self,
        kind: KindName,
        path: Path,
        options: &Map<String, Value>,
    ) -> Result<(), Vec<(String, String)>>;

    /// Checks that the route's priority and its constant options go together: `Err` is the option's
    /// name and what is wrong. What a filter yields is checked by [`Provider::render`].
    fn check_priority(
        &self,
        _path: Path,
        _priority: Priority,
        _options: &Map<String, Value>,
    ) -> Result<(), (String, String)> {
        Ok(())
    }

    /// Neutral fields of this kind that the provider has no place for: they are left out, and
    /// `check` warns of them.
    fn ignored_fields(&self, _kind: KindName) -> &'static [&'static str] {
        &[]
    }

    /// Checks a draft as the provider would and serialises what every room's call shares.
    fn render(&self, draft: &Draft<'_>) -> Result<Arc<Content>, Invalid>;

    /// Checks a room id as the provider would (Yunxin: a decimal 64-bit integer).
    fn check_room(&self, room: &str) -> Result<(), Invalid>;

    /// A text of the provider's without the account's secrets and without tokens.
    fn clean(&self, text: &str) -> String {
        text.to_owned()
    }

    /// The call that logs in, for accounts that work with tokens; `None` where each call is signed
    /// or the token was made elsewhere.
    fn login(&self) -> Option<Call>;

    /// What the answer to [`Provider::login`] means.
    fn session(&self, answer: &Answer) -> Result<Session, LoginFault>;

    /// The call that carries these items. All are of one path; either siblings (one content, several
    /// rooms) or messages of one lane (one room, several contents), within [`Limits`].
    fn call(&self, path: Path, items: &[Item], session: Option<&Session>, stamp: &Stamp) -> Call;

    /// How a person makes such a call in a shell, with a place for what is secret.
    fn by_hand(&self, _call: &Call) -> ByHand {
        ByHand::default()
    }

    /// What the answer means, one outcome for each item, in their order.
    fn outcomes(&self, path: Path, items: &[Item], answer: &Answer) -> Outcomes;
}

/// The outcomes of one call, one per item.
pub type Outcomes = SmallVec<[Outcome; 1]>;

/// What one call may carry and what the account may send in a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Rooms that one call to [`Path::Room`] may name (Easemob 10, Yunxin 1).
    pub rooms_per_call: usize,
    /// Messages of one lane that one call to [`Path::Room`] may carry (Yunxin with `batch` 10, else 1).
    pub messages_per_call: usize,
    /// Whether the provider drops repeats by our message id when told of a resend.
    pub drops_repeats: bool,
    /// Quotas of each path, indexed by `Path as usize`.
    pub paths: [PathQuota; 3],
    /// Messages one room may get in a second, over all priorities.
    pub room_messages_per_second: u32,
    /// High-priority messages one room may get in a second, where there is such a limit.
    pub room_high_per_second: Option<u32>,
}

/// What one path of an account may carry. Zero is not allowed anywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathQuota {
    /// Calls in any second.
    pub calls_per_second: u32,
    /// Messages (rooms × calls) in any second, where counted apart from calls.
    pub messages_per_second: Option<u32>,
    /// Calls in any minute.
    pub calls_per_minute: Option<u32>,
    /// Calls in a UTC day.
    pub calls_per_day: Option<u32>,
}

/// One message of a call.
#[derive(Clone, Debug)]
pub struct Item {
    /// The room; empty for a broadcast.
    pub room: Room,
    /// The message's id.
    pub id: MessageId,
    /// What [`Provider::render`] made.
    pub content: Arc<Content>,
    /// An earlier try may have been delivered: say so (`resendFlag=1`).
    pub resend: bool,
}

/// What a call needs from outside: the time to sign and something never used before.
#[derive(Clone, Copy, Debug)]
pub struct Stamp {
    /// Wall clock at the moment of sending.
    pub at: Wall,
    /// 128 random bits, new for every try.
    pub nonce: u128,
}

/// One HTTP request (always POST), relative to a base URL. `Debug` shows no header whose value is
/// secret, and of the body only its length: that of a login holds the secret itself.
#[derive(Clone)]
pub struct Call {
    /// The path after the base URL, beginning with a slash.
    pub path: String,
    /// Headers; secret ones are marked sensitive.
    pub headers: http::HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Call {
    /// The headers as text, values that are secret as `***`: for people and for `explain`.
    pub fn masked_headers(&self) -> impl Iterator<Item = (&str, &str)> {
        self.headers.iter().map(|(name, value)| {
            let shown = if value.is_sensitive() { "***" } else { value.to_str().unwrap_or("***") };
            (name.as_str(), shown)
        })
    }
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call")
            .field("path", &self.path)
            .field("headers", &self.headers)
            .field("body_bytes", &self.body.len())
            .finish()
    }
}

/// What came back: an answer of some server, or none.
pub type Answer = Result<Reply, Fault>;

/// An HTTP answer. A body that was cut off is kept as far as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// The `Retry-After` header, if there was one that could be read, at most 15 minutes.
    pub retry_after: Option<Duration>,
    /// The `Date` header, if there was one that could be read: to see a clock that is off.
    pub date: Option<Wall>,
    /// The body, at most 64 KiB of it.
    pub body: Bytes,
    /// False when the body was cut off, stalled or too long.
    pub whole: bool,
}

/// No answer at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The request never left in full, for sure: refused connection, no such host, cancelled unsent.
    NotSent(String),
    /// It may have arrived: reset, time limit, connection closed without an answer.
    Unknown(String),
}

/// A token and its life.
#[derive(Clone, Debug)]
pub struct Session {
    /// The token itself.
    pub token: SecretString,
    /// How long it lives from now; `None`: for ever.
    pub lifetime: Option<Duration>,
}

/// Why a login failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoginFault {
    /// The credentials or the app are wrong: nobody but the operator can mend it.
    Refused(Trouble),
    /// It may work later.
    Failed(Trouble),
}

/// What an answer means for one message. Closed: a provider has to choose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The provider has it.
    Accepted(Acceptance),
    /// Not delivered: too much was sent. Nobody's fault but the pace's.
    Throttled {
        /// Whom the provider holds back.
        scope: Throttle,
        /// What it said.
        trouble: Trouble,
    },
    /// Not delivered: the session is no longer good.
    Unauthorized(Trouble),
    /// Not delivered, and the same message would be refused again.
    Refused {
        /// The letter's class: `rejected`, `room_gone` or `invalid`.
        class: super::model::Class,
        /// What it said.
        trouble: Trouble,
    },
    /// Not delivered, and no message of the account would be: banned, unpaid, wrong secret, clock
    /// off, no such app. The account's fault, always.
    Closed(Trouble),
    /// Not delivered, but may be later.
    Failed(Trouble),
    /// May or may not have been delivered.
    Uncertain(Trouble),
}

impl Outcome {
    /// The word for metrics and logs.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Accepted(_) => "accepted",
            Self::Throttled { .. } => "throttled",
            Self::Unauthorized(_) => "unauthorized",
            Self::Refused { .. } => "refused",
            Self::Closed(_) => "closed",
            Self::Failed(_) => "failed",
            Self::Uncertain(_) => "uncertain",
        }
    }
}

/// How a message was accepted. Each is a fate of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Acceptance {
    /// As asked.
    Plain,
    /// Accepted and thrown away by the provider (Yunxin `msgAbandonFlag`).
    Discarded,
    /// Sent as a message of normal priority though high was asked.
    Downgraded,
    /// The provider had it already.
    Duplicate,
}

impl Acceptance {
    /// The word for metrics and logs.
    pub fn word(self) -> &'static str {
        match self {
            Self::Plain => "delivered",
            Self::Discarded => "discarded",
            Self::Downgraded => "downgraded",
            Self::Duplicate => "duplicate",
        }
    }
}

/// Whom a throttling answer concerns and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Throttle {
    /// The path of the account, at least so long.
    Path(Duration),
    /// The path until the next UTC day.
    PathUntilMidnight,
    /// This room only (Yunxin's high-priority quota), at least so long.
    Room(Duration),
}

/// What an answer said, for logs and letters. Clean of secrets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trouble {
    /// HTTP status, if there was an answer.
    pub status: Option<u16>,
    /// The provider's own code or error word.
    pub code: Option<String>,
    /// What it said, or what went wrong; one line, at most 1 KiB.
    pub text: String,
}

/// What is wrong with a message and what is allowed, in one line: a letter of class `invalid`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Invalid(pub String);

/// A message as a route wrote it, before a provider has seen it.
#[derive(Clone, Debug)]
pub struct Draft<'a> {
    /// Where it goes.
    pub path: Path,
    /// The members it is for, on [`Path::Users`]; else empty.
    pub users: &'a [String],
    /// The content.
    pub kind: Kind,
    /// Overrides the account's `sender`.
    pub sender: Option<String>,
    /// Extension, an object; `None` and the empty object are left out.
    pub ext: Option<Value>,
    /// Provider-only options, by their names on the provider's page.
    pub options: Map<String, Value>,
    /// Its priority.
    pub priority: Priority,
    /// The base id, for providers that have no message id of their own.
    pub base: BaseId,
}

/// The kinds of message by name: `kind = "…"`, and the machine event that needs no mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KindName {
    /// `text`
    Text,
    /// `image`
    Image,
    /// `audio`
    Audio,
    /// `video`
    Video,
    /// `file`
    File,
    /// `location`
    Location,
    /// `command`
    Command,
    /// `custom`
    Custom,
    /// `tip`
    Tip,
    /// A route without a message table, or `message = "custom" | "command"`.
    Machine,
}

/// The content of a message in neutral fields (section 10 of the design).
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// Plain text for people.
    Text {
        /// What it says.
        text: String,
    },
    /// A picture.
    Image(Media),
    /// A sound.
    Audio(Media),
    /// A film.
    Video(Media),
    /// Any file.
    File(Media),
    /// A place.
    Location {
        /// Latitude in degrees, -90 to 90.
        lat: f64,
        /// Longitude in degrees, -180 to 180.
        lng: f64,
        /// The place in words.
        address: String,
    },
    /// A command for clients; not shown to people.
    Command {
        /// Which command.
        action: String,
        /// Its data, if any.
        data: Option<Value>,
    },
    /// An event for clients.
    Custom {
        /// Which event.
        event: String,
        /// Its fields: an object, or nothing.
        fields: Option<Value>,
        /// Yunxin: any JSON in place of the usual form.
        attach: Option<Value>,
    },
    /// A notice shown between messages (Yunxin only).
    Tip {
        /// What it says.
        text: String,
    },
    /// An event in the one shape that needs no mapping.
    Machine(MachineEvent),
}

impl Kind {
    /// Its name.
    pub fn name(&self) -> KindName {
        match self {
            Self::Text { .. } => KindName::Text,
            Self::Image(_) => KindName::Image,
            Self::Audio(_) => KindName::Audio,
            Self::Video(_) => KindName::Video,
            Self::File(_) => KindName::File,
            Self::Location { .. } => KindName::Location,
            Self::Command { .. } => KindName::Command,
            Self::Custom { .. } => KindName::Custom,
            Self::Tip { .. } => KindName::Tip,
            Self::Machine(_) => KindName::Machine,
        }
    }
}

/// A file that stands somewhere else, by its address. Fields that a kind lacks stay `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Media {
    /// Its address.
    pub url: String,
    /// Its name.
    pub name: Option<String>,
    /// Pixels.
    pub width: Option<u64>,
    /// Pixels.
    pub height: Option<u64>,
    /// How long it plays, in milliseconds.
    pub duration_ms: Option<u64>,
    /// Its size in bytes.
    pub bytes: Option<u64>,
    /// MD5 of its bytes, hexadecimal.
    pub md5: Option<String>,
    /// Its name's ending, without the dot.
    pub extension: Option<String>,
    /// What opens it, where the upload was restricted.
    pub secret: Option<String>,
    /// Address of a still picture (video).
    pub thumb: Option<String>,
    /// What opens the still picture.
    pub thumb_secret: Option<String>,
}

/// An event as it is, in the provider's own shape for events.
#[derive(Clone, Debug, PartialEq)]
pub struct MachineEvent {
    /// `message = "command"`: as a command where the provider has one.
    pub as_command: bool,
    /// The CloudEvents type; for plain JSON its string `type`, else the topic or subject.
    pub event_type: String,
    /// The CloudEvents id, else the base id.
    pub id: String,
    /// RFC 3339: the event's own time, else the record's timestamp.
    pub time: String,
    /// The event's data; for plain JSON the whole value.
    pub data: Value,
}
