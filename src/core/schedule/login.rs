//! The login of one account: when a session is fetched, and which one calls use.
//!
//! One fetch at a time. A session is renewed at half its life, while the old one serves on; a
//! provider that no longer takes it (401) makes for one fetch at once, and if the new one is not
//! taken either, that is the account's fault.

use std::sync::Arc;
use std::time::Duration;

use crate::core::provider::Session;
use crate::core::time::Mono;

/// The least time between two fetches: providers ban who asks for tokens too often.
const LEAST_PAUSE: Duration = Duration::from_secs(10);

/// The session of one account.
#[derive(Debug)]
pub struct Login {
    needed: bool,
    session: Option<Arc<Session>>,
    fetching: bool,
    /// When the next fetch may or shall begin; `None`: not of itself.
    fetch_at: Option<Mono>,
    /// The session was fetched because the one before was not taken, and nothing was accepted yet.
    on_trial: bool,
    /// What is being fetched is fetched with credentials that have changed since.
    outdated: bool,
}

/// Whether calls may use the account.
#[derive(Clone, Debug)]
pub enum Access {
    /// With this session, or without one where none is needed.
    Granted(Option<Arc<Session>>),
    /// Not before a login.
    Held,
}

impl Login {
    /// An account that needs logins or does not.
    pub fn new(needed: bool, now: Mono) -> Self {
        let fetch_at = needed.then_some(now);
        Self { needed, session: None, fetching: false, fetch_at, on_trial: false, outdated: false }
    }

    /// The credentials have changed, or whether they need a login at all: one begins at once, while the
    /// old session serves on.
    pub fn renew(&mut self, needed: bool, now: Mono) {
        (self.needed, self.on_trial, self.outdated) = (needed, false, self.fetching);
        self.fetch_at = needed.then_some(now);
        self.session = self.session.take().filter(|_| needed);
    }

    /// What calls may use.
    pub fn access(&self) -> Access {
        match (&self.session, self.needed) {
            (None, true) => Access::Held,
            (session, _) => Access::Granted(session.clone()),
        }
    }

    /// Whether calls may be made.
    pub fn is_held(&self) -> bool {
        self.needed && self.session.is_none()
    }

    /// Whether a fetch shall begin now; says so once.
    pub fn begin(&mut self, now: Mono) -> bool {
        let begins = !self.fetching && self.fetch_at.is_some_and(|at| at <= now);
        if begins {
            self.fetching = true;
            self.fetch_at = None;
        }
        begins
    }

    /// When [`Login::begin`] is to be asked again.
    pub fn wake(&self) -> Option<Mono> {
        self.fetch_at.filter(|_| !self.fetching)
    }

    /// A session came.
    pub fn fetched(&mut self, session: Session, now: Mono) {
        self.fetching = false;
        // One that old credentials brought serves until the new ones have brought theirs.
        if !std::mem::take(&mut self.outdated) {
            self.fetch_at = session.lifetime.map(|life| now + (life / 2).max(LEAST_PAUSE));
        }
        self.session = self.needed.then(|| Arc::new(session));
    }

    /// The fetch failed; `wait` is the backoff's.
    pub fn failed(&mut self, wait: Duration, now: Mono) {
        self.fetching = false;
        if !std::mem::take(&mut self.outdated) {
            self.fetch_at = Some(now + wait.max(LEAST_PAUSE));
        }
    }

    /// A call with this session was accepted.
    pub fn accepted(&mut self) {
        self.on_trial = false;
    }

    /// The provider did not take this session. True when that is the account's fault: the session
    /// was itself the answer to such a refusal.
    pub fn unauthorized(&mut self, with: Option<&Arc<Session>>, now: Mono) -> bool {
        let current = match (&self.session, with) {
            (Some(current), Some(with)) => Arc::ptr_eq(current, with),
            (None, None) => !self.needed,
            _ => false,
        };
        if !current {
            return false;
        }
        if !self.needed {
            return true;
        }
        self.session = None;
        if self.fetching {
            return self.on_trial;
        }
        let again = std::mem::replace(&mut self.on_trial, true);
        // The first refusal of a session is mended at once; a session refused anew waits its time.
        self.fetch_at = Some(if again { now + LEAST_PAUSE } else { now });
        again
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use secrecy::SecretString;

    fn at(seconds: u64) -> Mono {
        Mono(seconds * 1_000_000_000)
    }

    fn session(seconds: u64) -> Session {
        Session { token: SecretString::from("t"), lifetime: Some(Duration::from_secs(seconds)) }
    }

    fn current(login: &Login) -> Arc<Session> {
        match login.access() {
            Access::Granted(Some(session)) => session,
            other => panic!("no session: {other:?}"),
        }
    }

    #[test]
    fn a_session_is_renewed_at_half_its_life_while_the_old_one_serves() {
        let mut login = Login::new(true, at(0));
        assert!(login.is_held() && login.begin(at(0)));
        assert!(!login.begin(at(1)), "one fetch at a time");
        login.fetched(session(1_000), at(1));
        assert_eq!(login.wake(), Some(at(501)));
        assert!(login.begin(at(501)));
        assert!(!login.is_held(), "the old session serves on");
        login.failed(Duration::from_millis(250), at(502));
        assert_eq!(login.wake(), Some(at(512)));
        assert!(!login.is_held());
    }

    #[test]
    fn a_refused_session_is_fetched_once_and_then_the_account_is_at_fault() {
        let mut login = Login::new(true, at(0));
        login.begin(at(0));
        login.fetched(session(1_000), at(0));
        let first = current(&login);
        assert!(!login.unauthorized(Some(&first), at(100)));
        assert!(!login.unauthorized(Some(&first), at(100)), "a second call with the same old session");
        assert!(login.begin(at(100)));
        login.fetched(session(1_000), at(100));
        assert!(!login.unauthorized(Some(&first), at(101)), "late news of the old session");
        assert!(!login.is_held());
        let second = current(&login);
        assert!(login.unauthorized(Some(&second), at(101)));
        assert_eq!(login.wake(), Some(at(111)), "tokens are not asked for in a loop");
    }

    #[test]
    fn new_credentials_make_for_a_login_at_once_and_the_old_session_serves_on() {
        let mut login = Login::new(true, at(0));
        assert!(login.begin(at(0)));
        login.failed(Duration::from_secs(60), at(0));
        login.renew(true, at(3));
        assert!(login.begin(at(3)), "no wait that the old ones had earned");
        login.renew(true, at(4));
        assert!(!login.begin(at(4)), "one fetch at a time");
        login.fetched(session(1_000), at(5));
        let old = current(&login);
        assert!(login.begin(at(5)), "what came was fetched with the ones before");
        assert!(Arc::ptr_eq(&old, &current(&login)));
        login.fetched(session(1_000), at(6));
        assert_eq!(login.wake(), Some(at(506)));
        login.renew(false, at(7));
        assert!(!login.is_held() && matches!(login.access(), Access::Granted(None)));
        assert_eq!(login.wake(), None);
        login.renew(true, at(8));
        assert!(login.is_held() && login.begin(at(8)));
    }

    #[test]
    fn an_accepted_call_proves_a_session() {
        let mut login = Login::new(true, at(0));
        login.begin(at(0));
        login.fetched(session(1_000), at(0));
        for round in 1..4 {
            let now = at(round * 100);
            assert!(!login.unauthorized(Some(&current(&login)), now), "round {round}");
            assert!(login.begin(now));
            login.fetched(session(1_000), now);
            login.accepted();
        }
    }

    #[test]
    fn where_no_session_is_needed_a_refusal_is_the_accounts_fault() {
        let mut login = Login::new(false, at(0));
        assert!(!login.is_held() && login.wake().is_none());
        assert!(login.unauthorized(None, at(1)), "the key itself is not taken");
        assert!(!login.is_held() && login.wake().is_none(), "there is nothing to fetch");
        let mut held = Login::new(true, at(0));
        assert!(!held.unauthorized(None, at(1)), "no call was made with any session");
    }
}
