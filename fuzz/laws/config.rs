//! Whatever a config file and the variables hold, the config is built or told what is wrong with it, in
//! lines and in pictures.
//!
//! The input is the file, a byte 0, and lines `NAME=value`. Called by the fuzzer and, on the inputs that
//! found something, by `tests/fuzz.rs`.

use std::io::Write as _;
use std::os::fd::{AsRawFd as _, FromRawFd as _};

use roomcast::app;
use roomcast::config::render::{self, Look};
use roomcast::config::{self, Texts};
use roomcast::core::section::Problem;

/// Asserts it.
pub fn holds(input: &[u8]) {
    let end = input.iter().position(|byte| *byte == 0).unwrap_or(input.len());
    let variables = String::from_utf8_lossy(input.get(end + 1..).unwrap_or_default()).into_owned();
    let variables: Vec<(String, String)> = variables
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    // SAFETY: the name ends with a byte 0; what comes back is checked before it is owned.
    let fd = unsafe { libc::memfd_create(c"config".as_ptr(), 0) };
    assert!(fd >= 0, "a file in memory");
    // SAFETY: nobody else has this descriptor.
    let mut file = unsafe { std::fs::File::from_raw_fd(fd) };
    file.write_all(&input[..end]).expect("a file in memory takes a config");
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let loaded = match config::load(&[path.into()], variables.into_iter()) {
        Ok(loaded) => loaded,
        Err(broken) => return told(&broken.problems, &broken.texts),
    };
    match app::build(&loaded, &app::leave_secret_closed) {
        Ok(built) => {
            if !built.warnings.is_empty() {
                told(&built.warnings, &loaded.texts);
            }
            drop(built.settings(1));
        }
        Err(problems) => told(&problems, &loaded.texts),
    }
}

fn told(problems: &[Problem], texts: &Texts) {
    assert!(!problems.is_empty(), "what fails says why");
    for look in [Look::Plain, Look::Picture { width: 80, colour: true }] {
        let text = render::problems(problems, texts, look);
        // A picture's line may end after the word.
        assert!(text.contains("found"), "{text}");
    }
}
