//! What the loop starts and does not wait for: calls, logins, and the watch for a source's end.
//!
//! Each answers exactly once, whatever happens in it: a panic in a provider's code is an answer too,
//! so that no lane waits for ever.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc::UnboundedSender;
use tracing::{debug, trace};
use uuid::Uuid;

use super::Account;
use crate::broker::Boxed;
use crate::clock::Clock;
use crate::core::model::{AccountId, AttemptId, BurialId, Path, RecordId, SourceId};
use crate::core::provider::{LoginFault, Outcome, Outcomes, Session, Stamp, Trouble};
use crate::core::schedule::Attempt;

/// What a task tells the loop.
pub(super) enum Reply {
    /// A call is over.
    Called {
        attempt: AttemptId,
        account: AccountId,
        path: Path,
        outcomes: Outcomes,
        /// From before the call to after its answer; `None` when none was made.
        took: Option<Duration>,
    },
    /// A login is over.
    LoggedIn { account: AccountId, result: Result<Session, LoginFault> },
    /// A letter is confirmed.
    Written { source: SourceId, burial: BurialId },
    /// A letter could not be written this time.
    NotWritten { source: SourceId, error: String },
    /// What became of a replay is in the table.
    Answered { record: RecordId },
    /// The table beside a source's letters was read.
    Loaded { source: SourceId, rows: Vec<(String, Bytes)> },
    /// A count is confirmed.
    Counted { account: AccountId, path: Path },
    /// A source has ended.
    SourceEnded { source: SourceId, result: Result<(), String> },
}

/// Answers for a call when it is dropped without having been answered.
struct CallGuard {
    answer_to: UnboundedSender<Reply>,
    attempt: AttemptId,
    account: AccountId,
    path: Path,
    items: usize,
    /// Whether the request may have left.
    sent: bool,
    answered: bool,
}

impl CallGuard {
    fn answer(&mut self, outcomes: Outcomes, took: Option<Duration>) {
        self.answered = true;
        let Self { attempt, account, path, .. } = *self;
        // Nobody listens when the process is about to end.
        let _ = self.answer_to.send(Reply::Called { attempt, account, path, outcomes, took });
    }
}

impl Drop for CallGuard {
    fn drop(&mut self) {
        if self.answered {
            return;
        }
        let text = "roomcast failed while it made the call; its log says how".to_owned();
        let trouble = Trouble { text, ..Trouble::default() };
        let outcome = if self.sent { Outcome::Uncertain(trouble) } else { Outcome::Failed(trouble) };
        self.answer(std::iter::repeat_n(outcome, self.items).collect(), None);
    }
}

/// Makes a call in a task of its own.
pub(super) fn call(account: Arc<Account>, attempt: Attempt, clock: Clock, answer_to: UnboundedSender<Reply>) {
    tokio::spawn(async move {
        let Attempt { id, account: account_id, path, items, session } = attempt;
        let mut guard = CallGuard {
            answer_to,
            attempt: id,
            account: account_id,
            path,
            items: items.len(),
            sent: false,
            answered: false,
        };
        let stamp = Stamp { at: clock.wall(), nonce: Uuid::new_v4().as_u128() };
        let call = account.provider.call(path, &items, session.as_deref(), &stamp);
        guard.sent = true;
        let began = clock.mono();
        let answer = account.client.call(call).await;
        let took = clock.mono().since(began);
        let outcomes = account.provider.outcomes(path, &items, &answer);
        assert_eq!(outcomes.len(), items.len(), "a provider gives one outcome for each item");
        guard.answer(outcomes, Some(took));
    });
}

/// Logs an account in, in a task of its own.
pub(super) fn login(account: Arc<Account>, id: AccountId, answer_to: UnboundedSender<Reply>) {
    let task = tokio::spawn(async move {
        let Some(call) = account.provider.login() else {
            return Err(failed("the account has no login"));
        };
        let answer = account.client.call(call).await;
        account.provider.session(&answer)
    });
    tokio::spawn(async move {
        let result = match task.await {
            Ok(result) => result,
            Err(_) => Err(failed("roomcast failed while it logged in; its log says how")),
        };
        let _ = answer_to.send(Reply::LoggedIn { account: id, result });
    });
}

fn failed(text: &str) -> LoginFault {
    LoginFault::Failed(Trouble { text: text.to_owned(), ..Trouble::default() })
}

/// Tells when a source has ended.
pub(super) fn watch_end(
    source: SourceId,
    ended: Boxed<'static, Result<(), String>>,
    answer_to: UnboundedSender<Reply>,
) {
    let task = tokio::spawn(ended);
    tokio::spawn(async move {
        let result = task.await.unwrap_or_else(|_| Err("roomcast failed in it; its log says how".to_owned()));
        let _ = answer_to.send(Reply::SourceEnded { source, result });
    });
}

/// One line for each message of a call: what was accepted at TRACE, the rest at DEBUG.
pub(super) fn log_outcome(account: &str, path: Path, outcome: &Outcome, took: Option<Duration>) {
    let path = path.word();
    let trouble = match outcome {
        Outcome::Accepted(how) => {
            trace!(account, path, how = how.word(), ?took, "message accepted");
            return;
        }
        Outcome::Throttled { trouble, .. }
        | Outcome::Refused { trouble, .. }
        | Outcome::Unauthorized(trouble)
        | Outcome::Closed(trouble)
        | Outcome::Failed(trouble)
        | Outcome::Uncertain(trouble) => trouble,
    };
    let Trouble { status, code, text } = trouble;
    debug!(account, path, outcome = outcome.word(), status, code, text, ?took, "message not accepted");
}
