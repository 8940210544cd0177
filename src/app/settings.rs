//! `[limits]` and `[admin]`: the sections that no module of its own reads.

use std::net::SocketAddr;
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};

use crate::broker::SourceLimits;
use crate::core::section::{Section, Table};

/// What is read of a section that is absent as a whole: every key has its default.
static ABSENT: Table = Table::new();

fn section_or_defaults<'a>(root: &Section<'a>, key: &str) -> Section<'a> {
    root.section(key).unwrap_or_else(|| Section::new(key, &ABSENT, root.place().clone(), root.report()))
}

/// `[limits]`: what bounds the memory of the process, and the end of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Records one source may hold, before its broker's own bound.
    pub max_held_records: usize,
    /// Bytes one source may hold: an equal part of `max_held_bytes`, less what is left for replays.
    pub held_bytes_per_source: usize,
    /// Bytes that the requests beside one dead-letter topic may hold: an eighth of that.
    pub held_bytes_of_replays: usize,
    /// Messages that may wait in one room.
    pub max_waiting_per_room: usize,
    /// Rooms that one event may have.
    pub max_rooms_per_event: usize,
    /// How long `run` waits on SIGTERM for what is under way.
    pub drain_timeout: Duration,
}

/// The least part of `max_held_bytes` that a source can work with: one record of the size that
/// brokers accept by default.
const LEAST_BYTES: u64 = 1 << 20;

impl Limits {
    /// Reads the section; `sources` share its bytes.
    pub(super) fn read(root: &Section<'_>, sources: usize) -> Self {
        let section = section_or_defaults(root, "limits");
        let count = |key: &str, default: i64, most: i64| {
            usize::try_from(section.integer(key, default, 1..most + 1)).unwrap_or(usize::MAX)
        };
        let parts = u64::try_from(sources.max(1)).unwrap_or(u64::MAX);
        let bytes = section.bytes("max_held_bytes", 256 << 20);
        if bytes / parts < LEAST_BYTES {
            section.wrong(
                "max_held_bytes",
                format!("{bytes} bytes for {parts} source(s)"),
                format!("at least 1MiB for each source, {parts}MiB in all"),
            );
        }
        let limits = Self {
            max_held_records: count("max_held_records", 50_000, 10_000_000),
            // Each source, and the replays of its letters with an eighth of what it has: nine eighths.
            held_bytes_per_source: usize::try_from(bytes / 9 * 8 / parts).unwrap_or(usize::MAX),
            held_bytes_of_replays: usize::try_from(bytes / 9 / parts).unwrap_or(usize::MAX),
            max_waiting_per_room: count("max_waiting_per_room", 1_000, 1_000_000),
            max_rooms_per_event: count("max_rooms_per_event", 1_000, 100_000),
            drain_timeout: section.duration("drain_timeout", Duration::from_secs(20)),
        };
        section.finish();
        limits
    }

    /// The part of the requests for replays beside one dead-letter topic. They wait for what live traffic
    /// leaves: more than this would only be held longer.
    pub(super) fn of_replays(&self) -> SourceLimits {
        const MOST: usize = 1_000;
        SourceLimits { held_records: self.max_held_records.min(MOST), held_bytes: self.held_bytes_of_replays }
    }

    /// The part of one source, whose broker can hold at most `most` records.
    pub(super) fn of_source(&self, most: usize) -> SourceLimits {
        SourceLimits { held_records: self.max_held_records.min(most), held_bytes: self.held_bytes_per_source }
    }
}

/// `[letters]`: what is done about letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Letters {
    /// A letter that was replayed more often is parked.
    pub max_replays: u32,
    /// Letters of one class and route in a second beyond which the source pauses; `None`: it never does.
    pub flood_guard: Option<u32>,
}

/// Letters a second, when the config does not say otherwise.
const FLOOD_GUARD: u32 = 100;

impl Letters {
    /// Reads the section.
    pub(super) fn read(root: &Section<'_>) -> Self {
        let section = section_or_defaults(root, "letters");
        let max_replays = section.integer("max_replays", 3, 0..1_001);
        let flood_guard = match section.text("flood_guard").as_deref().map(str::trim) {
            None => Some(FLOOD_GUARD),
            Some("off") => None,
            Some(text) => {
                let letters = text.strip_suffix("/s").and_then(|number| number.trim().parse::<u32>().ok());
                if letters.is_none_or(|letters| letters == 0) {
                    let wanted = "letters a second such as \"100/s\", or \"off\"";
                    section.wrong("flood_guard", format!("{text:?}"), wanted);
                }
                letters
            }
        };
        section.finish();
        Self { max_replays: u32::try_from(max_replays).unwrap_or(u32::MAX), flood_guard }
    }
}

/// `[admin]`: where probes, metrics and the API listen.
#[derive(Clone, Debug)]
pub struct Admin {
    /// Everything.
    pub listen: SocketAddr,
    /// Probes and metrics alone, without a token.
    pub probes: Option<SocketAddr>,
    /// The token; where there is none, one is made for this run.
    pub token: Option<SecretString>,
    /// Whether the config is read again when one of its files changes.
    pub watch: bool,
}

impl Admin {
    /// Reads the section.
    pub(super) fn read(root: &Section<'_>) -> Self {
        let section = section_or_defaults(root, "admin");
        let listen = address(&section, "listen").unwrap_or(SocketAddr::from(([127, 0, 0, 1], 9_600)));
        let probes = address(&section, "probes");
        if probes == Some(listen) {
            section.wrong(
                "probes",
                format!("{listen}, which is `listen` too"),
                "another port, or no `probes`",
            );
        }
        let token = section.secret("token");
        if let Some(token) = &token
            && token.expose_secret().trim().is_empty()
        {
            section.wrong("token", "an empty token", "a token that nobody can guess");
        }
        if !listen.ip().is_loopback()
            && section.node("token").is_none()
            && section.node("token_file").is_none()
        {
            section.wrong(
                "listen",
                format!("{listen}, which other machines can reach, and no token"),
                "token_file with the name of a file that holds the admin token, or a loopback address \
                 such as \"127.0.0.1:9600\"; probes and metrics alone go to `probes`, without a token",
            );
        }
        let watch = section.boolean("watch", false);
        section.finish();
        Self { listen, probes, token, watch }
    }
}

/// An address and port to listen on, if the key is there.
fn address(section: &Section<'_>, key: &str) -> Option<SocketAddr> {
    let text = section.text(key)?;
    let loopback = text.strip_prefix("localhost:").map(|port| format!("127.0.0.1:{port}"));
    let parsed = loopback.as_deref().unwrap_or(&text).parse().ok();
    if parsed.is_none() {
        let wanted = match text.strip_prefix(':') {
            Some(port) => format!("an address and a port; for all addresses \"0.0.0.0:{port}\""),
            None => "an address and a port such as \"127.0.0.1:9600\" or \"[::1]:9600\"".to_owned(),
        };
        section.wrong(key, format!("{text:?}"), wanted);
    }
    parsed
}
