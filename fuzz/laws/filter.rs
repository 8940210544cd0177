//! Whatever text a filter has, it is refused with a place in that text, or it compiles and gives
//! outputs, or an error, within its budget. It never panics.
//!
//! The input is the filter's text, a line with `---` alone, and the event. Called by the fuzzer and, on
//! the inputs that found something, by `tests/fuzz.rs`.

use roomcast::core::route::filter::{Filter, Input, OUTPUT_MAX, Trouble};
use roomcast::core::value::Val;
use roomcast::core::value::budget::Meter;

/// More outputs than rooms per event.
const OUTPUTS_MAX: usize = 2_000;

/// Asserts it.
pub fn holds(input: &[u8]) {
    let Ok(input) = std::str::from_utf8(input) else { return };
    let (text, event) = input.split_once("\n---\n").unwrap_or((input, "[0,1,2]"));
    let filter = match Filter::compile(text) {
        Ok(filter) => filter,
        Err(refusal) => {
            assert!(text.is_char_boundary(refusal.at), "a place within the text: {refusal:?}");
            assert!(!refusal.found.is_empty() && !refusal.wanted.is_empty(), "{refusal:?}");
            return;
        }
    };
    let Ok(event) = serde_json::from_str::<Val>(event) else { return };
    let variables = [Val::text("r1"), Val::text("live.events"), event.clone()];
    let input = Input { event, variables };
    let meter = Meter::start();
    match filter.outputs(&input, OUTPUTS_MAX) {
        Ok(outputs) => {
            assert!(outputs.len() <= OUTPUTS_MAX);
            // Nobody counts while the outputs are written: that must end too.
            drop(meter);
            for output in outputs {
                // What a number or an escaped character takes beyond what it is reckoned at.
                assert!(output.to_string().len() <= 8 * OUTPUT_MAX, "bounded outputs");
                drop(output.to_json());
            }
        }
        Err(Trouble::Failed(why) | Trouble::Fatal(why)) => {
            assert!(!why.contains("panicked"), "{why}");
            assert!(!why.is_empty() && why.len() < 8 << 10, "an error for people: {} bytes", why.len());
        }
    }
}
