//! The binary itself: exit codes, and what goes to which stream.

use std::io::Write as _;
use std::process::{Command, Output, Stdio};

fn roomcast(args: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_roomcast"))
        .args(args)
        .env_clear()
        .envs(variables.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that stops at its config does not read its stdin.
    let _ = child.stdin.take().unwrap().write_all(b"{}");
    child.wait_with_output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn a_bad_config_ends_every_command_with_78_and_nothing_on_stdout() {
    let config = "tests/fixtures/config/unknown-section-far.toml";
    for command in [
        &["check"][..],
        &["explain", "--key", "1"],
        &["send", "--account", "live", "--room", "1", "--text", "x"],
    ] {
        let output = roomcast(&[command, &["-c", config]].concat(), &[]);
        assert_eq!(output.status.code(), Some(78), "{command:?}");
        assert_eq!(text(&output.stdout), "", "{command:?}");
        let told = text(&output.stderr);
        assert!(told.contains("unknown-section-far.toml:14:2: kubernetes: found an unknown key"), "{told}");
    }
}

#[test]
fn variables_of_the_process_are_read() {
    let output = roomcast(&["check"], &[("ROOMCAST__ACOUNTS__LIVE__ORG", "acme")]);
    assert_eq!(output.status.code(), Some(78));
    let told = text(&output.stderr);
    assert!(
        told.contains(
            "ROOMCAST__ACOUNTS__LIVE__ORG: acounts: found an unknown key, did you mean \"accounts\"?\n"
        ),
        "{told}"
    );
}

#[test]
fn wrong_usage_is_2_and_help_is_for_people() {
    assert_eq!(roomcast(&["chekc"], &[]).status.code(), Some(2));
    assert_eq!(roomcast(&["send", "--room", "1"], &[]).status.code(), Some(2));
    let help = roomcast(&["--help"], &[]);
    assert_eq!(help.status.code(), Some(0));
    assert!(text(&help.stdout).contains("Exit codes: 0 done, 1 failed, 2 wrong usage, 78"));
    let version = roomcast(&["--version"], &[]);
    assert_eq!(text(&version.stdout), format!("roomcast {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn problems_come_as_json_too() {
    let config = "tests/fixtures/config/unknown-section-far.toml";
    let output = roomcast(&["check", "-c", config, "--format", "json"], &[]);
    assert_eq!(output.status.code(), Some(78));
    let found: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(found["ok"], false);
    let problems = found["problems"].as_array().unwrap();
    let problem = problems.iter().find(|p| p["key"] == "kubernetes").unwrap_or_else(|| panic!("{found:#}"));
    assert_eq!(problem["file"], config);
    assert_eq!((&problem["line"], &problem["column"]), (&14.into(), &2.into()));
    assert_eq!(problem["severity"], "error");
}
