//! What passes, what fails, what is said of it, and how the command ends.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::{FromRawFd as _, OwnedFd};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::Folder;
use super::support::daemon::roomcast;

/// Every kind of expectation, all met.
const ALL_KINDS: &str = include_str!("../fixtures/cases/all-kinds.test.toml");

/// Every kind of expectation, none met.
const ALL_WRONG: &str = include_str!("../fixtures/cases/all-wrong.test.toml");

#[test]
fn every_kind_of_expectation_passes_where_it_is_met() {
    let folder = Folder::new(&[
        ("all.test.toml", ALL_KINDS),
        ("news.json", r#"{"type":"news","rooms":[1],"text":"hi"}"#),
    ]);
    let ended = folder.test(&[]);
    let cases = ALL_KINDS.matches("[[case]]").count();
    ended.is(0, &format!("{cases} cases: {cases} passed"));
    assert_eq!(ended.stderr, "");
    let first = ended.stdout.lines().next().unwrap();
    assert_eq!(first, "ok      all.test.toml:3: a message in part, with rooms in any order");
}

#[test]
fn what_differs_is_told_as_its_golden_text() {
    let folder = Folder::new(&[("wrong.test.toml", ALL_WRONG)]);
    let ended = folder.test(&[]);
    let cases = ALL_WRONG.matches("[[case]]").count();
    ended.is(1, &format!("{cases} cases: {cases} failed"));
    let golden = "tests/fixtures/cases/all-wrong.txt";
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(golden, &ended.stdout).unwrap();
    }
    assert_eq!(ended.stdout, std::fs::read_to_string(golden).unwrap());
    assert!(!ended.stdout.contains('\x1b'), "colours are for terminals");
    assert_eq!(folder.test(&[]).stdout, ended.stdout, "the same again");
}

#[test]
fn results_come_as_json_too() {
    let one = "[[case]]\nname = 'a'\ntopic = 'live.events'\nevent = '{\"type\":\"noise\"}'\nsource = 'live'\nexpect_drop = 'rule'\n";
    let folder = Folder::new(&[("one.test.toml", one), ("wrong.test.toml", ALL_WRONG)]);
    let ended = folder.test(&["--format", "json"]);
    assert_eq!(ended.code, 1);
    let report: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(report["ok"], false);
    let cases = report["cases"].as_array().unwrap();
    assert_eq!((&report["passed"], &report["failed"]), (&json!(1), &json!(cases.len() - 1)));
    let first = json!({
        "file": "one.test.toml", "line": 1, "name": "a", "result": "passed", "route": "noise",
        "expected": { "expect_drop": "rule" }, "made": { "expect_drop": "rule" }, "diff": null,
        "notes": ["route noise took it: its `when` is true", "Dropped: rule"],
    });
    assert_eq!(cases[0], first);
    assert!(cases[1]["diff"].as_str().unwrap().contains("\n-"), "{}", cases[1]);
}

#[test]
fn files_and_names_choose_cases() {
    let case = |name: &str| {
        format!(
            "[[case]]\nname = '{name}'\nsource = 'live'\nevent = '{{\"type\":\"noise\"}}'\nexpect_drop = 'rule'\n"
        )
    };
    let (first, second) = (case("in the hall") + &case("in the garden"), case("in the street"));
    let folder = Folder::new(&[
        ("a.test.toml", &first),
        ("b.test.toml", &second),
        ("other.toml", ""),
        ("other.test.toml", "[[case]]\n"),
        ("other.more.test.toml", "[[case]]\n"),
    ]);
    folder.test(&[]).is(0, "3 cases: 3 passed");
    folder.test(&["b.test.toml"]).is(0, "1 case: 1 passed");
    folder.test(&["--only", "hall", "--only", "street"]).is(0, "2 cases: 2 passed");
    let ended = folder.test(&["--only", "hal", "--only", "cellar"]);
    assert_eq!(ended.code, 2);
    let told = "error: --only \"cellar\": none of the 3 cases is named so:\n  in the hall\n  in the garden\n  in the street\n";
    assert_eq!((&*ended.stdout, &*ended.stderr), ("", told));
    let ended = folder.test(&["c.test.toml"]);
    assert_eq!(ended.code, 78);
    let told = "c.test.toml: found a file that cannot be read (No such file or directory (os error 2)), wanted a case file in TOML\n";
    assert_eq!((&*ended.stdout, &*ended.stderr), ("", told));
}

#[test]
fn a_config_from_another_folder_has_its_cases_there() {
    let case = "[[case]]\nname = 'a'\nsource = 'live'\nevent_file = 'noise.json'\nexpect_drop = 'rule'\n";
    let folder = Folder::new(&[("a.test.toml", case), ("noise.json", r#"{"type":"noise"}"#)]);
    let config = folder.path().join("roomcast.toml").display().to_string();
    let elsewhere = Folder::new(&[]);
    elsewhere.roomcast(&["test", "-c", &config]).is(0, "1 case: 1 passed");
    // A folder of its own for each file of a config that is merged.
    elsewhere.write("more.toml", "[limits]\nmax_held_records = 5\n");
    elsewhere.roomcast(&["test", "-c", &config, "-c", "more.toml"]).is(0, "1 case: 1 passed");
}

#[test]
fn no_case_at_all_is_a_failure() {
    let folder = Folder::new(&[]);
    let ended = folder.test(&[]);
    let told = "error: no case: there is no *.test.toml beside the config; a case begins [[case]]; roomcast test --help shows one\n";
    assert_eq!((ended.code, &*ended.stdout, &*ended.stderr), (1, "", told));
    folder.write("empty.test.toml", "# Nothing yet.\n");
    let ended = folder.test(&[]);
    let told = "error: no case in empty.test.toml; a case begins [[case]]; roomcast test --help shows one\n";
    assert_eq!((ended.code, &*ended.stdout, &*ended.stderr), (1, "", told));
}

#[test]
fn wrong_usage_and_a_wrong_config_are_told_apart() {
    let folder = Folder::new(&[("a.test.toml", "[[case]]\n")]);
    assert_eq!(folder.test(&["--updaet"]).code, 2);
    folder.write("roomcast.toml", "[kubernetes]\n");
    let ended = folder.test(&[]);
    assert_eq!(ended.code, 78);
    assert!(ended.stderr.contains("roomcast.toml:1:2: kubernetes: found an unknown key"), "{ended:#?}");
    let report: Value = serde_json::from_str(&folder.test(&["--format", "json"]).stdout).unwrap();
    let problems = report["problems"].as_array().unwrap();
    assert!(problems.iter().any(|problem| problem["key"] == "kubernetes"), "{report:#}");
}

/// What a command writes to a terminal.
fn on_a_terminal(command: &mut Command) -> String {
    let (mut ours, mut theirs) = (0, 0);
    let (name, settings, size) = (std::ptr::null_mut(), std::ptr::null_mut(), std::ptr::null_mut());
    // SAFETY: openpty(3) writes two descriptors to where the first two point; the rest may be null.
    let opened = unsafe { libc::openpty(&raw mut ours, &raw mut theirs, name, settings, size) };
    assert_eq!(opened, 0, "{}", std::io::Error::last_os_error());
    // SAFETY: both are open, and nobody else's.
    let (mut ours, theirs) = unsafe { (File::from_raw_fd(ours), OwnedFd::from_raw_fd(theirs)) };
    let mut child = command.stdout(theirs).spawn().unwrap();
    // The command's copy of its end stays with the command; a terminal without one gives an error.
    command.stdout(Stdio::null());
    let mut seen = Vec::new();
    let mut part = [0; 4_096];
    while let Ok(count @ 1..) = ours.read(&mut part) {
        seen.extend_from_slice(&part[..count]);
    }
    assert_eq!(child.wait().unwrap().code(), Some(1));
    String::from_utf8(seen).unwrap()
}

#[test]
fn a_terminal_shows_colours_unless_they_are_not_wanted() {
    let case =
        "[[case]]\nname = 'a'\nsource = 'live'\nevent = '{\"type\":\"noise\"}'\nexpect_drop = 'no_room'\n";
    let folder = Folder::new(&[("a.test.toml", case)]);
    let mut command = roomcast(&["test", "-c", "roomcast.toml"]);
    command.current_dir(folder.path()).env_remove("NO_COLOR");
    let seen = on_a_terminal(&mut command);
    for coloured in
        ["\x1b[31mFAILED \x1b[0m a.test", "\x1b[31m-  \"expect_drop\"", "\x1b[32m+  \"expect_drop\""]
    {
        assert!(seen.contains(coloured), "{coloured:?} in {seen:?}");
    }
    let seen = on_a_terminal(command.env("NO_COLOR", "1"));
    assert!(seen.contains("FAILED  a.test") && !seen.contains('\x1b'), "{seen:?}");
}
