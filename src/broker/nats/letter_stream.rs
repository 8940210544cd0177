//! The dead-letter stream: made when the config says so, and judged. What keeps letters from being
//! written is an error; what may lose them later is told. Called by [`super::setup`].

use std::time::Duration;

use async_nats::jetstream::Context;
use async_nats::jetstream::stream::{Config as StreamConfig, DiscardPolicy, RetentionPolicy};

use super::link::chain;
use super::settings::Settings;
use super::setup::{is_missing, missing_stream};

/// Sees to it that it is there, with as many replicas as the source's stream; faults are logged where
/// somebody `tells` them.
pub async fn prepare(
    jetstream: &Context,
    settings: &Settings,
    replicas: usize,
    tells: bool,
) -> Result<(), String> {
    let name = &settings.dead_letter;
    match jetstream.get_stream(name).await {
        Ok(stream) => {
            let found = faults(&stream.cached_info().config, replicas, name);
            for fault in found.iter().filter(|_| tells) {
                tracing::warn!("{fault}");
            }
            Ok(())
        }
        Err(error) if !is_missing(&error.kind()) => {
            Err(format!("cannot look at dead-letter stream {name}: {}", chain(&error)))
        }
        Err(_) if !settings.create => Err(format!("dead-letter {}", missing_stream(name))),
        Err(_) => {
            let config = StreamConfig {
                name: name.clone(),
                subjects: vec![format!("{name}.>")],
                description: Some("roomcast: records that could not be delivered".to_owned()),
                num_replicas: replicas,
                allow_direct: true,
                ..StreamConfig::default()
            };
            let made = jetstream.create_stream(config).await;
            made.map_err(|error| format!("cannot make dead-letter stream {name}: {}", chain(&error)))?;
            tracing::info!(stream = name, "the dead-letter stream was missing and is made");
            Ok(())
        }
    }
}

/// What may lose letters, in words.
pub fn faults(config: &StreamConfig, replicas: usize, name: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let mut fault = |what: String| faults.push(format!("dead-letter stream {name} {what}"));
    if config.retention != RetentionPolicy::Limits {
        fault("forgets letters once they are read (its retention is not `limits`)".to_owned());
    }
    if config.max_age > Duration::ZERO {
        fault(format!("forgets letters after {:?} (its max_age)", config.max_age));
    }
    let limited = config.max_bytes > 0 || config.max_messages > 0;
    if limited && config.discard == DiscardPolicy::New {
        fault(
            "refuses letters when it is full (discard: new); the source then stops until there is room"
                .to_owned(),
        );
    } else if limited {
        fault("forgets its oldest letters when it is full (discard: old)".to_owned());
    }
    if config.num_replicas < replicas {
        fault(format!("has {} replicas, the source's stream {replicas}", config.num_replicas));
    }
    let letter = format!("{name}.letter.x");
    if !takes(&config.subjects, &letter) {
        fault(format!("does not take {name}.letter.>: letters cannot be written"));
    }
    faults.extend(no_replays(config, name));
    faults
}

/// What is said of a stream that does not take requests for replays.
pub fn no_replays(config: &StreamConfig, name: &str) -> Option<String> {
    let takes_them = takes(&config.subjects, &format!("{name}.replay.x"));
    (!takes_them).then(|| {
        format!(
            "dead-letter stream {name} does not take {name}.replay.>: replays cannot be asked for until that is \
             one of its subjects (nats stream edit {name} --subjects …)"
        )
    })
}

/// Whether one of the subjects, which may have wildcards, takes a subject without.
pub fn takes(subjects: &[String], subject: &str) -> bool {
    subjects.iter().any(|pattern| covers(pattern, subject))
}

/// Whether a subject with wildcards takes a subject without.
fn covers(pattern: &str, subject: &str) -> bool {
    let mut tokens = subject.split('.');
    for part in pattern.split('.') {
        match (part, tokens.next()) {
            (">", Some(_)) => return true,
            ("*", Some(_)) => {}
            (part, Some(token)) if part == token => {}
            _ => return false,
        }
    }
    tokens.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_cover_what_a_server_says_they_do() {
        assert!(covers("D.>", "D.letter.x"));
        assert!(covers("D.*.x", "D.letter.x"));
        assert!(covers(">", "D.letter.x"));
        assert!(!covers("D.letter", "D.letter.x"));
        assert!(!covers("D.letter.x.>", "D.letter.x"));
        assert!(!covers("E.>", "D.letter.x"));
    }

    #[test]
    fn a_dead_letter_stream_that_forgets_is_told_of() {
        let good = StreamConfig {
            name: "D".to_owned(),
            subjects: vec!["D.>".to_owned()],
            num_replicas: 1,
            max_bytes: -1,
            max_messages: -1,
            ..StreamConfig::default()
        };
        assert_eq!(faults(&good, 1, "D"), Vec::<String>::new());
        let bad = StreamConfig {
            retention: RetentionPolicy::WorkQueue,
            max_age: Duration::from_secs(60),
            max_messages: 10,
            discard: DiscardPolicy::New,
            subjects: vec!["other".to_owned()],
            ..good
        };
        assert_eq!(faults(&bad, 3, "D").len(), 6);
    }
}
