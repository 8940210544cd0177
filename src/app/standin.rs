//! A provider that agrees to everything and can do nothing.
//!
//! It takes the place of an account whose section has problems, so that the routes behind it are
//! checked in the same run. No [`super::App`] ever holds one: with a problem, none is made.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Map, Value};

use crate::core::model::{Content, Path};
use crate::core::provider::{
    Answer, Call, Draft, Invalid, Item, KindName, Limits, LoginFault, Outcome, Outcomes, PathQuota, Provider,
    Session, Stamp, Trouble,
};

/// See the file's head.
#[derive(Debug)]
pub struct Standin(Limits);

impl Default for Standin {
    fn default() -> Self {
        let quota = PathQuota {
            calls_per_second: 1,
            messages_per_second: None,
            calls_per_minute: None,
            calls_per_day: None,
        };
        Self(Limits {
            rooms_per_call: 1,
            messages_per_call: 1,
            drops_repeats: true,
            paths: [quota; 3],
            room_messages_per_second: 1,
            room_high_per_second: None,
        })
    }
}

/// What it answers where an answer is due.
fn trouble() -> Trouble {
    Trouble { text: "this account could not be made".to_owned(), ..Trouble::default() }
}

impl Provider for Standin {
    fn name(&self) -> &'static str {
        "none"
    }

    fn base_urls(&self) -> &[String] {
        &[]
    }

    fn timeout(&self) -> Duration {
        Duration::from_secs(1)
    }

    fn limits(&self) -> &Limits {
        &self.0
    }

    fn supports(&self, _: KindName, _: Path) -> Result<(), String> {
        Ok(())
    }

    fn check_options(
        &self,
        _: KindName,
        _: Path,
        _: &Map<String, Value>,
    ) -> Result<(), Vec<(String, String)>> {
        Ok(())
    }

    fn render(&self, _: &Draft<'_>) -> Result<Arc<Content>, Invalid> {
        Ok(Arc::new(Content { single: Bytes::new(), batched: Bytes::new() }))
    }

    fn check_room(&self, _: &str) -> Result<(), Invalid> {
        Ok(())
    }

    fn login(&self) -> Option<Call> {
        None
    }

    fn session(&self, _: &Answer) -> Result<Session, LoginFault> {
        Err(LoginFault::Refused(trouble()))
    }

    fn call(&self, _: Path, _: &[Item], _: Option<&Session>, _: &Stamp) -> Call {
        Call { path: "/".to_owned(), headers: http::HeaderMap::new(), body: Bytes::new() }
    }

    fn outcomes(&self, _: Path, items: &[Item], _: &Answer) -> Outcomes {
        items.iter().map(|_| Outcome::Closed(trouble())).collect()
    }
}
