//! Logs: where they go, how they look, which are kept.
//!
//! Everything goes to stderr: as lines for people on a terminal, as one JSON object a line
//! otherwise. Levels mean: ERROR somebody has to act; WARN somebody may have to; INFO what changed
//! for the user; DEBUG what went otherwise than usual with one record; TRACE each record. Values
//! stand in fields, not in the text, and no field is ever a secret. Called once, by `main`.

use std::io::IsTerminal;

use anyhow::{Context, bail};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::writer::BoxMakeWriter;
use tracing_subscriber::util::SubscriberInitExt;

/// The filter when neither an option nor `RUST_LOG` gives one. librdkafka's and the HTTP client's
/// own lines about connections add nothing to ours.
const DEFAULT_FILTER: &str = "info,librdkafka=warn,rdkafka=warn,async_nats=warn,hyper=warn,reqwest=warn";

/// How a log line looks: `--log-format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Lines for people.
    Human,
    /// One JSON object a line.
    Json,
}

/// Begins to log. `level` is `--log-level`, a tracing filter (`debug`, `info,roomcast=trace`); it
/// wins over `RUST_LOG`. Without a `format`, lines are for people on a terminal and JSON elsewhere. Fails when the filter cannot be read, or when logging was begun before.
pub fn init(level: Option<&str>, format: Option<Format>) -> anyhow::Result<()> {
    let environment = std::env::var(EnvFilter::DEFAULT_ENV).ok();
    let filter = filter(level, environment.as_deref())?;
    let terminal = std::io::stderr().is_terminal();
    let json = match format {
        None => !terminal,
        Some(format) => format == Format::Json,
    };
    let writer = BoxMakeWriter::new(std::io::stderr);
    subscriber(filter, json, terminal, writer).try_init().context("logging was begun twice")
}

/// Has every panic logged: where it happened, and its text as far as nothing of the run can be in it.
///
/// A text that was put together may hold whatever the program was working on, a secret too (P8). What
/// stands before the first colon is the program's own words (`index out of bounds`, the words of an
/// `expect`), what stands behind it are values.
pub fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let text = panic_text(panic.payload());
        // Frames of the stack hold no values; they are asked for with RUST_BACKTRACE.
        let trace = std::backtrace::Backtrace::capture();
        match trace.status() {
            std::backtrace::BacktraceStatus::Captured => tracing::error!(place, %trace, "panic: {text}"),
            _ => tracing::error!(place, "panic: {text}"),
        }
    }));
}

fn panic_text(payload: &(dyn std::any::Any + Send)) -> String {
    if let Some(words) = payload.downcast_ref::<&'static str>() {
        return (*words).to_owned();
    }
    let text = payload.downcast_ref::<String>().map_or("", String::as_str);
    let line = text.lines().next().unwrap_or_default();
    match line.split_once(':') {
        Some((words, _)) => format!("{words} (values are not shown)"),
        None => "a text that may hold values, which are not shown".to_owned(),
    }
}

/// The filter of the option, else of the environment, else the default.
fn filter(level: Option<&str>, environment: Option<&str>) -> anyhow::Result<EnvFilter> {
    let (what, text) = match (level, environment.filter(|text| !text.trim().is_empty())) {
        (Some(text), _) => ("--log-level", text),
        (None, Some(text)) => (EnvFilter::DEFAULT_ENV, text),
        (None, None) => ("the default", DEFAULT_FILTER),
    };
    match EnvFilter::builder().parse(text) {
        Ok(filter) => Ok(filter),
        Err(error) => bail!(
            "{what} is \"{text}\", which is not a filter ({error}); right would be error, warn, info, debug, trace, or a list like \"info,roomcast=debug\""
        ),
    }
}

fn subscriber(
    filter: EnvFilter,
    json: bool,
    colours: bool,
    writer: BoxMakeWriter,
) -> Box<dyn tracing::Subscriber + Send + Sync> {
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    match json {
        true => Box::new(builder.json().flatten_event(true).with_ansi(false).finish()),
        false => Box::new(builder.with_target(false).with_ansi(colours).finish()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    /// Keeps what is written.
    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn logged(json: bool) -> String {
        let kept = Kept::default();
        let writer = kept.clone();
        let writer = BoxMakeWriter::new(move || writer.clone());
        let subscriber = subscriber(filter(Some("info"), None).unwrap(), json, false, writer);
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(account = "live", calls = 3, "gate open again");
            tracing::debug!("not this one");
        });
        String::from_utf8(kept.0.lock().unwrap().clone()).unwrap()
    }

    fn tell(secret: &str) {
        assert!(secret.is_empty(), "the token {secret}");
    }

    #[test]
    fn a_panic_is_logged_without_its_values() {
        let kept = Kept::default();
        let writer = kept.clone();
        let writer = BoxMakeWriter::new(move || writer.clone());
        let subscriber = subscriber(filter(Some("trace"), None).unwrap(), true, false, writer);
        let before = std::panic::take_hook();
        tracing::subscriber::with_default(subscriber, || {
            log_panics();
            let secret = String::from("hunter2");
            let empty: Vec<u8> = secret.bytes().take(0).collect();
            let refused: Result<(), String> = Err(secret.clone());
            for fails in [
                Box::new(|| tell(&secret)) as Box<dyn Fn() + std::panic::UnwindSafe>,
                Box::new(|| refused.clone().expect("a session")),
                Box::new(|| assert_eq!(secret, "other", "tokens differ: {secret}")),
                Box::new(|| {
                    let _ = empty[secret.len()];
                }),
                Box::new(|| assert!(secret.is_empty(), "only words")),
            ] {
                assert!(std::panic::catch_unwind(fails).is_err());
            }
        });
        std::panic::set_hook(before);
        let text = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
        assert!(!text.contains("hunter2"), "{text}");
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let said: Vec<&str> = lines.iter().map(|line| line["message"].as_str().unwrap()).collect();
        assert_eq!(
            said,
            [
                "panic: a text that may hold values, which are not shown",
                "panic: a session (values are not shown)",
                "panic: assertion `left == right` failed (values are not shown)",
                "panic: index out of bounds (values are not shown)",
                "panic: only words",
            ]
        );
        for line in &lines {
            assert!(line["place"].as_str().unwrap().contains("telemetry.rs:"), "{line}");
        }
    }

    #[test]
    fn json_is_one_object_a_line_with_the_fields_at_the_top() {
        let text = logged(true);
        assert_eq!(text.lines().count(), 1, "{text}");
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            (&line["level"], &line["account"], &line["calls"]),
            (&"INFO".into(), &"live".into(), &3.into())
        );
        assert_eq!(line["message"], "gate open again");
    }

    #[test]
    fn a_line_for_people_has_no_colour_off_a_terminal() {
        let text = logged(false);
        assert!(text.contains("INFO gate open again account=\"live\" calls=3"), "{text}");
        assert!(!text.contains('\u{1b}'), "{text}");
    }

    #[test]
    fn the_option_wins_over_the_environment_and_a_wrong_one_is_named() {
        assert_eq!(filter(Some("debug"), Some("trace")).unwrap().to_string(), "debug");
        assert_eq!(filter(None, Some("trace")).unwrap().to_string(), "trace");
        assert!(filter(None, Some(" ")).unwrap().to_string().contains("info"));
        let wrong = filter(Some("loud=very"), None).unwrap_err().to_string();
        assert!(wrong.contains("--log-level") && wrong.contains("loud=very"), "{wrong}");
    }
}
