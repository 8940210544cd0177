//! `docs/filters.md` is true: every example gives what it says, and what it says is refused is.

use roomcast::core::route::filter::{Filter, Input};
use roomcast::core::value::Val;
use roomcast::core::value::budget::Meter;

const PAGE: &str = include_str!("../../docs/filters.md");

/// The blocks of that kind, as they stand between their fences.
fn blocks(kind: &str) -> Vec<&'static str> {
    let parts = PAGE.split("```");
    parts.filter_map(|part| part.strip_prefix(kind)?.strip_prefix('\n')).collect()
}

/// Left and right of a sign, over all lines that have it.
fn pairs(sign: &str) -> Vec<(&'static str, &'static str)> {
    let lines = blocks("text").into_iter().flat_map(str::lines);
    lines.filter_map(|line| line.split_once(sign)).map(|(left, right)| (left.trim(), right.trim())).collect()
}

fn input() -> Input {
    let event = blocks("json").into_iter().next().expect("the page shows its event");
    Input {
        event: serde_json::from_str(event).expect("the page's event is JSON"),
        variables: [
            Val::text("r1"),
            Val::text("live.events"),
            serde_json::from_str(r#"{"lang":"zh"}"#).expect("JSON"),
        ],
    }
}

#[test]
fn every_example_gives_what_the_page_says() {
    let examples = pairs("→");
    assert!(examples.len() > 20, "{examples:?}");
    for (text, expected) in examples {
        let filter = Filter::compile(text).unwrap_or_else(|refusal| panic!("{text}: {refusal:?}"));
        let meter = Meter::start();
        let outputs = filter.outputs(&input(), 10).unwrap_or_else(|trouble| panic!("{text}: {trouble}"));
        let given: Vec<String> = outputs.iter().map(ToString::to_string).collect();
        assert_eq!(given.join(" "), expected, "{text}");
        assert!(meter.steps_taken() < 2_000, "{text} took {} steps", meter.steps_taken());
    }
}

#[test]
fn what_the_page_says_is_refused_is_refused_and_says_why() {
    let refused = pairs("✗");
    assert!(refused.len() > 15, "{refused:?}");
    for (text, part) in refused {
        let refusal = Filter::compile(text).expect_err(text);
        assert!(refusal.wanted.contains(part), "{text}: {refusal:?}");
    }
}

/// The list of further functions: each is one, with some number of arguments.
#[test]
fn every_function_that_the_page_names_is_there() {
    let list = PAGE.split("Also: `").nth(1).and_then(|rest| rest.split('`').next()).expect("the list");
    assert!(list.split_whitespace().count() > 50);
    for name in list.split_whitespace() {
        let known = ["", "(.)", "(.; .)", "(.; .; .)"]
            .iter()
            .any(|arguments| Filter::compile(&format!("{name}{arguments}")).is_ok());
        assert!(known, "{name}");
    }
}

#[test]
fn the_budget_is_the_one_that_the_page_tells() {
    use roomcast::core::route::filter::OUTPUT_MAX;
    use roomcast::core::value::DEPTH_MAX;
    use roomcast::core::value::budget::{ASIDE, BYTES, STACK, STEPS};
    for part in [
        format!("{},000 steps", STEPS / 1_000),
        format!("{} MiB", BYTES >> 20),
        format!("{DEPTH_MAX} deep"),
        format!("{},000 parts", ASIDE / 1_000),
        format!("{} KiB of stack", STACK >> 10),
        format!("at most {} KiB", OUTPUT_MAX >> 10),
    ] {
        let page = PAGE.replace('\n', " ");
        assert!(page.contains(&part), "{part}");
    }
}
