//! The settings that every account has whatever its provider: addresses, time limit, secrets, quotas.
//!
//! Called by each provider's `build`. It never finishes the account's own section (the caller reads
//! `provider` from it), only the sections below it.

use std::net::IpAddr;
use std::time::Duration;

use http::Uri;
use secrecy::{ExposeSecret, SecretString};

use crate::core::section::{Section, show_duration};

/// The time limit of a call where the config says nothing.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The shortest and the longest time limit that make sense.
const TIMEOUTS: std::ops::RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(120);
/// No provider sells more than this in a second.
const QUOTAS: std::ops::Range<i64> = 1..1_000_001;

/// Reads `timeout`.
pub(super) fn timeout(section: &Section<'_>) -> Duration {
    let timeout = section.duration("timeout", TIMEOUT);
    if !TIMEOUTS.contains(&timeout) {
        section.wrong("timeout", show_duration(timeout), "a time from \"100ms\" to \"120s\"");
        return TIMEOUT;
    }
    timeout
}

/// Reads `base_url`, one or (where `many`) a list; without trailing slashes. What is wrong is told.
pub(super) fn base_urls(section: &Section<'_>, default: Option<&str>, many: bool) -> Option<Vec<String>> {
    let written =
        if many { section.texts("base_url") } else { section.text("base_url").map(|url| vec![url]) };
    let written = match (written, default) {
        (Some(urls), _) => urls,
        // A value of the wrong type has been told already.
        (None, _) if section.node("base_url").is_some() => return None,
        (None, Some(default)) => vec![default.to_owned()],
        (None, None) => {
            section.wrong("base_url", "nothing", "the address of the REST API from the provider's console");
            return None;
        }
    };
    if written.is_empty() {
        section.wrong("base_url", "an empty list", "at least one address");
        return None;
    }
    let checked: Vec<Option<String>> = written.iter().map(|url| base_url(section, url)).collect();
    checked.into_iter().collect()
}

fn base_url(section: &Section<'_>, url: &str) -> Option<String> {
    let url = url.trim_end_matches('/');
    let parsed = url.parse::<Uri>().ok().filter(|uri| {
        let plain = uri.query().is_none() && !url.contains('#') && !url.contains('@');
        plain && uri.host().is_some_and(|host| !host.is_empty())
    });
    match parsed.as_ref().and_then(|uri| Some((uri.scheme_str()?, uri.host()?))) {
        Some(("https", _)) => {}
        Some(("http", host)) => {
            if !is_loopback(host) {
                section.warn(
                    "base_url",
                    format!("{url:?}: calls and secrets travel unencrypted"),
                    "an https:// address",
                );
            }
        }
        _ => {
            section.wrong(
                "base_url",
                // What stands before an @ may be a password.
                if url.contains('@') { "an address with a user in it".to_owned() } else { format!("{url:?}") },
                "an address such as \"https://host\" or \"https://host:8443/prefix\", without user, query or fragment",
            );
            return None;
        }
    }
    Some(url.to_owned())
}

fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// A secret that has been read, unless it is empty or cannot stand in a header (`in_header`).
pub(super) fn usable(
    section: &Section<'_>,
    key: &str,
    secret: Option<SecretString>,
    in_header: bool,
) -> Option<SecretString> {
    let secret = secret?;
    let text = secret.expose_secret();
    if text.is_empty() {
        section.wrong(key, "an empty secret", "the secret from the provider's console");
        return None;
    }
    if in_header && !text.bytes().all(|b| b.is_ascii_graphic()) {
        section.wrong(
            key,
            "a secret with spaces or other characters that no header takes",
            "ASCII, one line",
        );
        return None;
    }
    Some(secret)
}

/// The `quota` of an account, key by key; absent keys have their defaults.
pub(super) struct QuotaTable<'a> {
    section: Option<Section<'a>>,
}

impl<'a> QuotaTable<'a> {
    /// Opens `quota` in an account's section.
    pub(super) fn of(account: &Section<'a>) -> Self {
        Self { section: account.section("quota") }
    }

    /// A number that has a default; `page` is what the provider allows without a raise.
    pub(super) fn number(&self, key: &str, default: u32, page: u32) -> u32 {
        let Some(section) = &self.section else { return default };
        let number = section.integer(key, i64::from(default), QUOTAS);
        Self::judged(section, key, number, Some(page))
    }

    /// A number that need not be there.
    pub(super) fn optional(&self, key: &str, page: Option<u32>) -> Option<u32> {
        let section = self.section.as_ref()?;
        Some(Self::judged(section, key, section.optional_integer(key, QUOTAS)?, page))
    }

    /// Warns of a number above what the page allows.
    fn judged(section: &Section<'_>, key: &str, number: i64, page: Option<u32>) -> u32 {
        let number = u32::try_from(number).expect("the range ends at a million");
        if let Some(page) = page.filter(|page| number > *page) {
            section.warn(
                key,
                number.to_string(),
                format!("at most {page}, unless the provider has raised the app's limit"),
            );
        }
        number
    }

    /// Ends the reading: other keys are unknown.
    pub(super) fn finish(self) {
        if let Some(section) = self.section {
            // How replicas share the quota is read elsewhere, the same for every provider.
            for key in crate::core::share::settings::KEYS {
                section.node(key);
            }
            section.finish();
        }
    }
}
