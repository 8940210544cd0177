//! One message in its lane, with all that its tries have shown. Jobs of a lane are linked with each
//! other, so that one can leave from the middle (expired, given up) at no cost to the others.

use crate::core::model::{Message, Tries};
use crate::core::time::Mono;

/// A message that waits or is away.
#[derive(Debug)]
pub struct Job {
    /// The message.
    pub message: Message,
    /// The group of siblings it belongs to.
    pub group: u32,
    /// The room it waits in.
    pub room: u32,
    /// A call carries it.
    pub away: bool,
    /// It goes alone: a call with siblings was refused.
    pub alone: bool,
    /// An earlier try, in this process or another, may have been delivered.
    pub maybe_sent: bool,
    /// Failed tries that counted against it.
    pub counted: u32,
    /// Of those, maybe-delivered ones.
    pub uncertain: u32,
    /// Not before this.
    pub not_before: Mono,
    /// When its time is over.
    pub expires: Option<Mono>,
    /// Acceptances of its path when it was last judged (before that, when it was first sent).
    pub accepted_mark: u64,
    /// What was tried; empty until the first try.
    pub tries: Tries,
    pub(super) prev: u32,
    pub(super) next: u32,
}

impl Job {
    /// A job that has not been tried in this process.
    pub fn new(message: Message, group: u32, room: u32, maybe_sent: bool, expires: Option<Mono>) -> Self {
        Self {
            message,
            group,
            room,
            away: false,
            alone: false,
            maybe_sent,
            counted: 0,
            uncertain: 0,
            not_before: Mono::default(),
            expires,
            accepted_mark: 0,
            tries: Tries::default(),
            prev: NONE,
            next: NONE,
        }
    }
}

/// No job.
pub(super) const NONE: u32 = u32::MAX;
