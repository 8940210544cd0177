//! Filters and events that were made to hang, to grow or to reach the end of the stack, by what they try.

use std::time::Duration;

use roomcast::core::route::filter::Filter;
use roomcast::core::value::{Fields, Val};

use crate::measured::run;

/// How an attack must end: a part of its outcome.
const STEPS: &str = "Fatal: took more than the 500000 steps";
const BYTES: &str = "Fatal: built more than the 32 MiB";
const ASIDE: &str = "Fatal: took more than the 4000 parts of null, or slices";
const STACK: &str = "Fatal: nested deeper than the stack";

/// Bytes that a run may hold: four times its budget. A list that grows has an old and a new place, and
/// jaq's own lists of what it sorts by are reckoned by their steps alone.
const MEMORY: usize = 128 << 20;

/// An event of that many equal elements, or of that many characters.
fn list(element: &Val, count: usize) -> impl FnOnce() -> Val + Send + use<> {
    // Values do not cross threads: the event is made where it is used.
    let element = element.to_string();
    move || Val::array(vec![serde_json::from_str(&element).expect("JSON"); count])
}

fn text(part: &'static str, count: usize) -> impl FnOnce() -> Val + Send {
    move || Val::text(&part.repeat(count))
}

#[track_caller]
fn ends(filter: &str, event: impl FnOnce() -> Val + Send + 'static, expected: &[&str]) {
    let run = run(filter, event);
    let shown: String = run.outcome.chars().take(200).collect();
    assert!(expected.iter().any(|part| run.outcome.starts_with(part)), "{filter}: {shown}");
    assert!(run.work < Duration::from_secs(3), "{filter} took {:?}", run.work);
    assert!(run.most < MEMORY, "{filter} held {} bytes", run.most);
}

#[test]
fn regexes_cannot_hang() {
    let groups = "(a*)".repeat(250);
    ends(&format!("test(\"{groups}\")"), text("a", 60_000), &[STEPS]);
    ends(&format!("test(\"{groups}b\")"), text("a", 60_000), &[STEPS]);
    ends(&format!("test(\"({})*b\")", ["a*"; 300].join("|")), text("a", 60_000), &[STEPS]);
    ends("[match(\"a.*b|a\";\"g\")]", text("a", 60_000), &[STEPS]);
    ends("[match(\"(a.*b|a|(a.*)(c))\";\"g\")]", text("a", 60_000), &[STEPS]);
    ends("[splits(\"\")]|length", text("a", 60_000), &[STEPS]);
    ends("gsub(\"\";\"x\")|length", text("a", 60_000), &[STEPS]);
    ends("test(\"^a.*b$\")", text("a", 60_000), &["false"]);
    ends("test(\"x\")", text("a", 70_000), &["Failed: \"a text of 70000 bytes for a regex"]);
    ends(
        ". as $f | \"a\" | test(\"a\"; $f)",
        text("g", 1_000_000),
        &["Failed: \"1000000 regex flags, at most 16"],
    );
    ends("gsub(\"[^a-z]\";\"\")|length", text("a1b2", 1_000), &["2000"]);
}

#[test]
fn long_names_and_texts_are_paid_for_whenever_they_are_looked_at() {
    let event = || {
        let name = "k".repeat(500_000);
        let own = || Val::object(Fields::from([(name.as_str().into(), Val::Int(1))]));
        Val::object(Fields::from([
            ("k".into(), Val::text(&name)),
            ("m".into(), own()),
            ("n".into(), own()),
            ("l".into(), Val::array(vec![Val::Int(0); 50_000])),
        ]))
    };
    for filter in [
        "(.k) as $k | .m as $m | [.l[] | $m[$k]]",
        "(.k) as $k | .m as $m | [.l[] | $m | has($k)]",
        ". as $d | [.l[] | $d.m == $d.n]",
        ". as $d | [.l[] | $d.m < $d.n]",
        "(.k) as $k | [.l[] | {($k): 1, a: 2}]",
        ". as $d | [.l[] | $d.m * $d.n]",
        ". as $d | [.l[] | $d.m + $d.n]",
        "(.k) as $k | . as $d | reduce .l[] as $x ($d.m; .[$k] = $x)",
        "(.k) as $k | . as $d | [.l[] | $d.m | del(.[$k])]",
        ". as $d | [.l[] | $d.k | ltrimstr(\"k\")]",
        ". as $d | [.l[] | $d.k == $d.k]",
        ". as $d | [.l[] | $d.k | length]",
    ] {
        ends(filter, event, &[STEPS, BYTES]);
    }
    ends(".[:300000] as $p | indices($p)", text("a", 600_000), &[STEPS]);
    ends("indices(\"ab\")|length", text("ab", 1_000), &["1000"]);
    ends("indices(\"\")", text("ab", 1_000), &["[]"]);
}

/// jaq calls itself for each part of a path that it updates, and for each that it drops.
#[test]
fn paths_cannot_reach_the_end_of_the_stack() {
    let long = || list(&Val::text("a"), 100_000);
    let short = || list(&Val::text("a"), 30_000);
    for filter in ["path(getpath($p))", "setpath($p; 1)", "delpaths([$p])", "getpath($p) |= empty"] {
        let filter = format!(". as $p | null | {filter}");
        ends(&filter, long(), &["Failed: \"a path of 100000 parts, at most 256"]);
    }
    ends(". as $p | null | path(reduce $p[] as $x (.; .a)) | length", short(), &[ASIDE]);
    ends(". as $p | null | path(reduce $p[] as $x (.; .[$x])) | length", short(), &[ASIDE]);
    ends(". as $p | null | path(reduce $p[] as $x (.; .[:1])) | length", short(), &[ASIDE]);
    ends(
        ". as $p | path(reduce $p[] as $x (.; .[0:])) | length",
        list(&Val::Int(1), 5_000),
        &[STEPS, ASIDE, BYTES],
    );
    ends(
        ". as $p | null | (reduce $p[] as $x (.; .a?)) |= 1",
        short(),
        &[STACK, ASIDE, "Fatal: nested values"],
    );
    ends(". as $p | (reduce $p[] as $x (.; .)) |= 1", short(), &[STACK]);
    ends(". as $p | (foreach $p[] as $x (.; .)) |= 1", short(), &[STACK]);
    ends("try ((reduce .[] as $x (.; .)) |= 1) catch 7", short(), &[STACK, "7"]);
    let doubled =
        (0..20).fold("def f0: .a;".to_owned(), |all, i| format!("{all} def f{}: f{i} | f{i};", i + 1));
    ends(&format!("{doubled} null | path(f20) | length"), short(), &[ASIDE, STACK]);
    ends("getpath([\"a\",\"b\"])", || serde_json::from_str(r#"{"a":{"b":7}}"#).unwrap(), &["7"]);
    ends(
        "setpath([\"a\",\"b\"]; 8)",
        || serde_json::from_str(r#"{"a":{"b":7}}"#).unwrap(),
        &[r#"{"a":{"b":8}}"#],
    );
}

#[test]
fn places_and_slices_far_away_build_nothing() {
    let one = || list(&Val::Int(7), 1);
    ends("setpath([2147483647]; 1)", one(), &["Failed: \"an array of 1 has no place 2147483647"]);
    ends(".[-1e9] = 1", one(), &["Failed: \"an array of 1 has no place"]);
    ends(".[1e300]", one(), &["null"]);
    ends(".[0:1e300] = [1,2]", one(), &["[1,2]"]);
    ends(".[-1e300:nan]", one(), &["[]"]);
    ends(".[:0.5], .[0.5:]", one(), &["[7] [7]"]);
    ends("[limit(1e300; .[])], [skip(1e300; .[])], [limit(nan; .[])]", one(), &["[7] [] []"]);
    ends("flatten(1e9)", one(), &["[7]"]);
    ends("[[1], 1e18] | transpose", one(), &["Failed: cannot index"]);
    ends(". * 1e9", text("x", 3), &["Failed: cannot calculate"]);
}

#[test]
fn what_is_built_stays_within_its_bytes() {
    ends("fromjson | length", text("[{\"\":0},{\"\":0},{\"\":0},{\"\":0}],", 1), &["Failed: \"fromjson"]);
    ends("\"[\" + . + \"0]\" | fromjson | length", text("{\"\":0},", 500_000), &[STEPS, BYTES]);
    ends("\"[\" + . + \"0]\" | fromjson | length", text("[],", 1_000_000), &[STEPS, BYTES]);
    ends("explode | length", text("a", 8_000_000), &[STEPS, BYTES]);
    for format in ["@html", "@uri", "@sh", "@base64", "@json", "@text"] {
        ends(
            &format!("[.,.,.,.] | add | {format} | length"),
            text("'", 2_000_000),
            &[STEPS, BYTES, "8000000"],
        );
    }
    ends("@base64d | length", text("a", 8_000_000), &[STEPS, BYTES]);
    ends(". as $f | 0 | strftime($f)", text("%255Y", 200_000), &["Failed: \"a format of 1000000 bytes"]);
    ends(". as $f | \"1\" | strptime($f)", text("%Y", 200_000), &["Failed: \"a format of 400000 bytes"]);
    ends(&["tojson"; 40].join("|"), text("\"\\", 1), &[STEPS, BYTES]);
    ends("reduce .[] as $x (1; [.] | tojson) | length", list(&Val::Int(0), 100_000), &[STEPS, BYTES]);
    ends("[paths] | length", list(&Val::Int(0), 400_000), &[STEPS, BYTES]);
    ends("sort | length", list(&Val::Int(0), 600_000), &[STEPS, BYTES]);
    ends("group_by(.) | length", list(&Val::Int(0), 400_000), &[STEPS, BYTES]);
    ends("tonumber", text("9", 1_000_000), &["Failed: "]);
    ends("error", list(&Val::Int(0), 100_000), &["Failed: [0,0"]);
}

/// Numbers that jaq reckons with unseen, and an order that was none.
#[test]
fn numbers_at_their_ends_are_errors_not_panics() {
    for (filter, expected) in [
        ("[-9223372036854775808] | implode", "Failed: \"-9223372036854775808 is no character"),
        ("[65, 0] | implode", "\"A\\u0000\""),
        ("[2000,127,1,0,0,0] | mktime", "Failed: \"127 is no month"),
        ("[2000,127,1,0,0,0] | strftime(\"%Y\")", "Failed: \"127 is no month"),
        ("[2000,1,1,0,0,-1e300] | mktime", "Failed: "),
        ("[2026,0,31,23,59,59] | mktime", "1769903999"),
        ("1e18 | todate", "Failed: \"1e+18 is no time"),
        ("-170141183460469231731687303715884105728 % -1", "-0.0"),
        ("-170141183460469231731687303715884105728 / -1", "1.7014"),
        ("170141183460469231731687303715884105727 + 1", "1.7014"),
        ("1e400 | floor, tojson, tostring", "1.797"),
    ] {
        ends(filter, || Val::Null, &[expected, "null"]);
    }
    // Rounded to a float, whole numbers that differ would equal the same one: sorting may panic on that.
    let mixed = || {
        let number = |i: i64| match i % 3 {
            0 => Val::Int((1_i128 << 53) + i128::from(i % 7)),
            1 => Val::Float(9_007_199_254_740_992.0 + f64::from(i32::try_from(i % 5).unwrap()) * 2.0),
            _ => Val::Int((1_i128 << 53) - i128::from(i % 11)),
        };
        Val::array((0..3_000).map(number).collect())
    };
    ends("sort | . == sort, (unique | length)", mixed, &["true 18"]);
}

/// Brackets in strings and comments close nothing: the parser sees through them, and so must its bounds.
#[test]
fn nesting_cannot_be_hidden_from_the_bound() {
    for (open, close) in [
        ("[\")\",", "]"),
        ("[#)\n", "]"),
        ("[#\\\n)\n", "]"),
        ("[#\\\r\n)\n", "]"),
        ("{a:\"}\"|", "}"),
        ("[\"\\\")\",", "]"),
    ] {
        let filter = format!("{}.{}", open.repeat(900), close.repeat(900));
        let refused = move || Filter::compile(&filter).expect_err("a filter that nests").found;
        let thread = std::thread::Builder::new().stack_size(2 << 20).spawn(refused).unwrap();
        assert_eq!(thread.join().unwrap(), "a filter that nests too deep", "{open}");
    }
    let brackets = format!("\"{}\"", "[(".repeat(500));
    assert!(Filter::compile(&brackets).is_ok(), "in a text they nest nothing");
}
