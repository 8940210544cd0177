//! One message in its lane, with all that its tries have shown. Jobs of a lane are linked with each
//! other, so that one can leave from the middle (expired, given up) at no cost to the others.

use crate::core::model::{Message, Tries};
use crate::core::provider::Trouble;
use crate::core::time::{Mono, Wall};

/// A message that waits or is away. Three lines of a processor's cache: all of them are looked at
/// for every message, and with a million that wait none is near.
#[derive(Debug)]
#[repr(align(64))]
pub struct Job {
    /// The message.
    pub message: Message,
    /// The record it was made from.
    pub record: u32,
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
    /// Calls that carried it.
    pub attempts: u32,
    /// When the first of them and the last left; without meaning before there was one.
    first: Wall,
    last: Wall,
    /// What the last failed one was answered.
    answer: Option<Box<Answer>>,
    pub(super) prev: u32,
    pub(super) next: u32,
}

impl Job {
    /// A job that has not been tried in this process, with its record and group.
    pub fn new(
        message: Message,
        (record, group): (u32, u32),
        room: u32,
        maybe_sent: bool,
        expires: Option<Mono>,
    ) -> Self {
        Self {
            message,
            record,
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
            attempts: 0,
            first: Wall::default(),
            last: Wall::default(),
            answer: None,
            prev: NONE,
            next: NONE,
        }
    }
}

const _: () = assert!(size_of::<Job>() == 192);

/// What a letter tells of an answer.
#[derive(Debug)]
struct Answer {
    http_status: Option<u16>,
    provider_code: Option<String>,
}

impl Job {
    /// A call that carries it leaves.
    pub fn leaves(&mut self, now: Wall) {
        if self.attempts == 0 {
            self.first = now;
        }
        self.attempts += 1;
        self.last = now;
    }

    /// Its call has come back; with what, when it failed.
    pub fn returned(&mut self, trouble: Option<&Trouble>, now: Wall) {
        self.last = now;
        if let Some(trouble) = trouble {
            let answer = Answer { http_status: trouble.status, provider_code: trouble.code.clone() };
            self.answer = Some(Box::new(answer));
        }
    }

    /// What was tried.
    pub fn tries(&self) -> Tries {
        let tried = |at| (self.attempts > 0).then_some(at);
        Tries {
            attempts: self.attempts,
            first: tried(self.first),
            last: tried(self.last),
            http_status: self.answer.as_ref().and_then(|answer| answer.http_status),
            provider_code: self.answer.as_ref().and_then(|answer| answer.provider_code.clone()),
        }
    }
}

/// No job.
pub(super) const NONE: u32 = u32::MAX;
