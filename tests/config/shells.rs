//! Completions and manual pages name every command, and the shells that are here read them.

use std::io::Write as _;
use std::process::{Command, Stdio};

use clap::CommandFactory as _;
use roomcast::cli::Cli;

fn roomcast(args: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_roomcast")).args(args).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn commands() -> Vec<String> {
    let names: Vec<String> =
        Cli::command().get_subcommands().map(|command| command.get_name().to_owned()).collect();
    assert!(names.len() >= 8, "{names:?}");
    names
}

#[test]
fn completions_of_every_shell_have_every_command() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = roomcast(&["completions", shell]);
        for command in commands() {
            assert!(script.contains(&command), "{shell} does not know {command}");
        }
        assert!(script.contains("--deny-warnings") || script.contains("deny-warnings"), "{shell}");
        // A shell that is not here cannot be asked; bash is wherever the tests run.
        if ["bash", "zsh", "fish"].contains(&shell) {
            let Ok(mut reader) = Command::new(shell).arg("-n").stdin(Stdio::piped()).spawn() else {
                assert_ne!(shell, "bash", "bash is needed for this test");
                continue;
            };
            reader.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
            assert!(reader.wait().unwrap().success(), "{shell} cannot read its completions");
        }
    }
}

#[test]
fn bash_completes_commands_and_options() {
    let asks = r#"
        complete_words() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=()
            _roomcast roomcast "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
            echo "${COMPREPLY[*]}"; }
        complete_words roomcast ch
        complete_words roomcast check --den
        complete_words roomcast completions z
    "#;
    let script = roomcast(&["completions", "bash"]) + asks;
    let output = Command::new("bash").args(["--norc", "-c", &script]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(said.lines().collect::<Vec<_>>(), ["check", "--deny-warnings", "zsh"], "{output:?}");
}

#[test]
fn manual_pages_name_every_command_and_are_written_for_each() {
    let page = roomcast(&["man"]);
    let folder = tempfile::tempdir().unwrap();
    roomcast(&["man", "--dir", folder.path().to_str().unwrap()]);
    assert_eq!(page, std::fs::read_to_string(folder.path().join("roomcast.1")).unwrap());
    for command in commands() {
        let named = page.contains(&format!("roomcast\\-{command}(1)"));
        assert!(named, "{command} is not in {page}");
        let own = std::fs::read_to_string(folder.path().join(format!("roomcast-{command}.1"))).unwrap();
        assert!(own.contains(".SH NAME"), "{own}");
    }
    assert!(page.contains("78 the config is wrong"), "{page}");
}

#[test]
fn pages_that_cannot_be_written_are_told() {
    let output = Command::new(env!("CARGO_BIN_EXE_roomcast"))
        .args(["man", "--dir", "/nowhere/at/all"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("/nowhere/at/all") && told.contains("No such file or directory"), "{told}");
}
