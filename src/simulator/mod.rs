//! The two providers as servers on this machine: for tests, for the demo, for `roomcast simulate`.
//!
//! They check logins and signatures, every field of every request, and the quotas, with the answers
//! that the services give; they drop silently where the services do, go wrong on demand ([`Rule`]),
//! and keep a log of what was accepted and of what members would have seen ([`Entry`]). Being the
//! judge of the daemon, they are written from the providers' pages and know nothing of
//! `core::provider`.
//!
//! The way of a request: `server` reads it whole → `easemob` or `yunxin` says what it asks (`form`)
//! → `shared` takes the lock of the `judge`: `faults` chooses, the provider's `Desk` judges, `floor` writes
//! log, members' view (`members`) and stats → `server` waits until the answer is due and sends it
//! (`payload`), or breaks what is to break. `control` answers `/_sim`. Time comes from `clock` only.

mod easemob;
mod faults;
mod floor;
mod judge;
mod log;
mod members;
mod rule;
mod window;
mod yunxin;

#[cfg(feature = "daemon")]
pub mod clock;
#[cfg(feature = "daemon")]
mod control;
#[cfg(feature = "daemon")]
pub mod kafka;
#[cfg(feature = "daemon")]
mod payload;
#[cfg(feature = "daemon")]
mod running;
#[cfg(feature = "daemon")]
mod server;
#[cfg(feature = "daemon")]
mod shared;

pub use self::easemob::Easemob;
pub use self::faults::Armed;
pub use self::floor::{Answer, Stats};
pub use self::judge::{Asked, Judge, Knobs, Manner, Plan, Request, read};
pub use self::log::{Entry, Filter, Id, Repeat, Unseen};
pub use self::rule::{BadRule, Canned, Effect, Endpoint, Rule};
#[cfg(feature = "daemon")]
pub use self::running::{Options, Simulator, start};
pub use self::window::Shape;
pub use self::yunxin::Yunxin;

/// Which service, and its app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Provider {
    /// Easemob.
    Easemob(Easemob),
    /// NetEase Yunxin.
    Yunxin(Yunxin),
}
