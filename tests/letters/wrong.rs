//! What is asked wrongly, and what is not there: told for people, with the exit code that it deserves.

use std::time::{Duration, Instant};

use crate::bed::{Bed, on_both};

on_both!(what_is_asked_wrongly_is_told_with_what_would_be_right, without_a_dead_letter_topic_there_are_none);

fn what_is_asked_wrongly_is_told_with_what_would_be_right(bed: &Bed) {
    for (arguments, told) in [
        (&["list", "--class", "rejcted"][..], "a similar value exists: 'rejected'"),
        (&["list", "--state", "opn"], "a similar value exists: 'open'"),
        (&["list", "--source", "lve"], "source \"lve\": did you mean \"live\"?"),
        (&["list", "--since", "yesterday"], "a time such as 2026-01-31T08:00:00Z or an age such as 2h or 3d"),
        (&["list", "6f2a"], "\"6f2a\" is no letter: its id is wanted"),
        (&["show", "nonsense"], "\"nonsense\" is no letter"),
        (&["show"], "<LETTER>"),
        (&["discard", "--yes"], "which letters? Name them, or give a filter"),
        (&["discard", "--class", "expired"], "stdin is no terminal: give --yes"),
        (&["list", "--min-attempts", "few"], "invalid value 'few' for '--min-attempts <N>'"),
    ] {
        let error = bed.letters(arguments).told(2);
        assert!(error.contains(told), "{arguments:?}: {error}");
    }
}

fn without_a_dead_letter_topic_there_are_none(bed: &Bed) {
    let none = bed.letters(&["list"]);
    assert_eq!((none.code, &*none.stdout, &*none.stderr), (Some(0), "", "No letters.\n"));
    assert_eq!(bed.letters(&["list", "--format", "json"]).ok(), "");
    assert_eq!(bed.letters(&["stats"]).ok(), "0 letters\n");
    assert_eq!(bed.letters(&["discard", "--state", "open", "--yes"]).ok(), "0 letters discarded.\n");
    let error = bed.letters(&["show", "00000000-0000-4000-8000-000000000000"]).told(1);
    assert!(error.contains("there is no letter") && error.contains(&bed.dead_letter()), "{error}");
    assert!(!bed.has_letters(), "looking makes nothing");
}

/// Whoever works letters may not be allowed to read the secrets of accounts.
#[test]
fn secret_files_that_a_command_does_not_need_are_not_opened() {
    let bed = Bed::kafka();
    let account = crate::bed::account("http://127.0.0.1:1", "x").replace("app_secret =", "app_secret_file =");
    bed.write_config(&bed.config(&account, ""));
    for arguments in [&["list", "--format", "json"][..], &["discard", "--state", "open", "--yes"]] {
        bed.letters(arguments).ok();
    }
    let planned = bed.letters(&["replay", "--dry-run", "--format", "json"]).ok();
    assert!(planned.contains("\"meant\": 0"), "{planned}");
    let login = bed.config(&account, "").replace("dead_letter", "password_file = \"y\"\ndead_letter");
    bed.write_config(&login.replace("dead_letter", "username = \"u\"\nmechanism = \"PLAIN\"\ndead_letter"));
    let error = bed.letters(&["list"]).told(78);
    assert!(error.contains("password_file") && !error.contains("app_secret"), "{error}");
}

#[test]
fn a_broker_that_is_away_is_told_within_a_minute() {
    for source in [
        "kind = \"kafka\"\nbrokers = \"127.0.0.1:1\"\ngroup = \"g\"\ntopics = [\"t\"]\ndead_letter = \"t.dlq\"",
        "kind = \"nats\"\nservers = [\"nats://ann:hunter2-of-the-account@127.0.0.1:1\"]\nstream = \"S\"\n\
         subjects = [\"s\"]\ndurable = \"d\"\ndead_letter = \"S_DLQ\"",
    ] {
        let bed = Bed::kafka();
        let account = crate::bed::account("http://127.0.0.1:1", "x");
        bed.write_config(&format!("{account}\n[sources.gone]\n{source}\n"));
        let began = Instant::now();
        let error = bed.letters(&["list"]).told(1);
        assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
        let named = error.starts_with("error: the letters of source gone (") && error.contains("127.0.0.1:1");
        assert!(named && error.lines().count() == 1, "{error}");
    }
}
