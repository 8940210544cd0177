//! What filters give, and what they cannot do.

use std::time::Duration;

use super::*;
use crate::core::value::budget::Meter;

fn input(event: &str) -> Input {
    Input {
        event: serde_json::from_str(event).expect("the event is JSON"),
        variables: [Val::text("r1"), Val::text("live.events"), serde_json::from_str(r#"{"a":"b"}"#).unwrap()],
    }
}

/// All outputs as JSON, separated by spaces, or the error.
fn outcome(filter: &str, event: &str) -> String {
    let filter = Filter::compile(filter).unwrap_or_else(|refusal| panic!("{filter}: {refusal:?}"));
    let _meter = Meter::start();
    match filter.outputs(&input(event), 100) {
        Ok(outputs) => outputs.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
        Err(Trouble::Failed(why)) => format!("Failed: {why}"),
        Err(Trouble::Fatal(why)) => format!("Fatal: {why}"),
    }
}

const EVENT: &str =
    r#"{"type":"gift.sent","data":{"user":"ann","n":3,"to":["x","y"],"id":9007199254740993},"e":""}"#;

#[test]
fn filters_give_what_jq_gives() {
    for (filter, expected) in [
        (
            ".",
            r#"{"data":{"id":9007199254740993,"n":3,"to":["x","y"],"user":"ann"},"e":"","type":"gift.sent"}"#,
        ),
        (".type", r#""gift.sent""#),
        (".data.user", r#""ann""#),
        (".data.nothing.there", "null"),
        ("$key, $topic, $headers.a", r#""r1" "live.events" "b""#),
        (".data.id", "9007199254740993"),
        (".data.id | tostring", r#""9007199254740993""#),
        (r#".type == "gift.sent""#, "true"),
        (r#".type | startswith("gift.")"#, "true"),
        (r#".type | split(".")"#, r#"["gift","sent"]"#),
        (r#".type | test("^g.*t$")"#, "true"),
        (r#".type | sub("(?<a>g)ift"; "\(.a)old")"#, r#""gold.sent""#),
        (r#".type | [match("t"; "g").offset]"#, "[3,8]"),
        (r#".type | capture("(?<k>[a-z]+)[.]").k"#, r#""gift""#),
        (r#"[.type | scan("[a-z]+")]"#, r#"["gift","sent"]"#),
        (".data.to[]", r#""x" "y""#),
        (".data.to | length, first, last", r#"2 "x" "y""#),
        (".data.to[1:]", r#"["y"]"#),
        (r#".type[0:4]"#, r#""gift""#),
        (r#""room-\(.data.n)""#, r#""room-3""#),
        (".data.n + 1, .data.n / 2, .data.n / 3, .data.n % 2, -.data.n", "4 1.5 1 1 -3"),
        ("{user: .data.user, gift: .data.n}", r#"{"gift":3,"user":"ann"}"#),
        ("{(.type): 1} * {a: {b: 2}}", r#"{"a":{"b":2},"gift.sent":1}"#),
        (r#"if .data.n > 2 then "high" else "low" end"#, r#""high""#),
        (r#".data | to_entries | map(.key) | join(",")"#, r#""id,n,to,user""#),
        (".data | with_entries(select(.key == \"n\"))", r#"{"n":3}"#),
        (".data | keys", r#"["id","n","to","user"]"#),
        (".data | del(.id, .to)", r#"{"n":3,"user":"ann"}"#),
        (".data.to |= map(ascii_upcase) | .data.to", r#"["X","Y"]"#),
        (".data.n += 1 | .data.n", "4"),
        (".missing // \"none\"", r#""none""#),
        (".e // \"none\"", r#""""#),
        ("[..] | length", "10"),
        ("[.. | strings] | length", "5"),
        ("reduce .data.to[] as $x (\"\"; . + $x)", r#""xy""#),
        ("[limit(1; .data.to[])]", r#"["x"]"#),
        ("first(.data.to[])", r#""x""#),
        (".data.to | index(\"y\")", "1"),
        (".type | indices(\"t\")", "[3,8]"),
        (".data | has(\"user\")", "true"),
        (".data.to | contains([\"x\"])", "true"),
        (".data | tojson | fromjson | .n", "3"),
        ("[3,1,2] | sort, max, min, add, unique", "[1,2,3] 3 1 6 [1,2,3]"),
        ("[[1,2],[3]] | flatten, transpose", "[1,2,3] [[1,3],[2,null]]"),
        ("[{a:1,b:2},{a:1,b:3}] | group_by(.a) | length", "1"),
        ("\"2026-01-31T23:59:59Z\" | fromdate", "1769903999"),
        ("[0 | gmtime[0]], (0 | strftime(\"%Y\"))", r#"[1970] "1970""#),
        ("0 | todate", r#""1970-01-01T00:00:00Z""#),
        ("\"a b\" | @uri, @base64", r#""a%20b" "YSBi""#),
        ("[1,[2]] | walk(if type == \"number\" then . + 1 end)", "[2,[3]]"),
        ("try error(\"x\") catch .", r#""x""#),
        ("[paths] | length", "9"),
        ("label $f | 1, break $f, 2", "1"),
        ("def f(x): x + 1; f(.data.n)", "4"),
        ("nan | isnan", "true"),
        ("2.5 | floor, ceil, round", "2 3 3"),
        ("empty", ""),
    ] {
        assert_eq!(outcome(filter, EVENT), expected, "{filter}");
    }
}

#[test]
fn what_fails_says_why() {
    for (filter, part) in [
        (".data.user.name", "cannot index \"ann\" with"),
        (".data[0]", "cannot index"),
        ("error(\"no\")", "no"),
        (".data.user * .data.n", "cannot calculate"),
        (".data.n | test(\"x\")", "cannot use 3 as a text"),
        (".type | test(\"(\")", "regex"),
        ("99999999999999999 | todate", "is no time in seconds"),
        ("nan | gmtime", "is no time in seconds"),
        ("{(.data.n): 1}", "cannot use 3 as the name of a field"),
    ] {
        let outcome = outcome(filter, EVENT);
        assert!(outcome.contains(part), "{filter}: {outcome}");
        assert!(outcome.len() < 500, "{filter}: {outcome}");
    }
}

#[test]
fn what_could_stop_hang_or_read_the_process_is_refused_with_its_position() {
    for (filter, at, part) in [
        ("def f: f; f", 7, "calls itself"),
        ("def f(x): x | f(x); f(1)", 14, "calls itself"),
        ("def f: def g: f; g; f", 14, "calls itself"),
        (". | range(10)", 4, "`range`"),
        ("[range(0; 1000000000)]", 1, "`range`"),
        ("while(true; .)", 0, "`while`"),
        ("until(false; .)", 0, "`until`"),
        ("[repeat(1)]", 1, "`repeat`"),
        ("recurse(.)", 0, "`recurse` with an argument"),
        ("[.[] | recurse(.x; true)]", 7, "`recurse` with an argument"),
        ("combinations", 0, "`combinations`"),
        ("$ENV.PATH", 0, "`$ENV`"),
        ("env.PATH", 0, "`env`"),
        ("now", 0, "`now`"),
        ("input", 0, "`input`"),
        ("[inputs]", 1, "`inputs`"),
        ("halt", 0, "`halt`"),
        ("halt_error(1)", 0, "`halt_error`"),
        ("debug", 0, "`debug`"),
        ("stderr", 0, "`stderr`"),
        ("localtime", 0, "`localtime`"),
        ("\"x\" * 1000000000", 1, "multiplied"),
        ("1000000000 * \"x\"", 14, "multiplied"),
    ] {
        let refusal = Filter::compile(filter).expect_err(filter);
        assert_eq!(refusal.at, at, "{filter}: {refusal:?}");
        assert!(refusal.found.contains(part), "{filter}: {refusal:?}");
    }
}

#[test]
fn a_text_that_is_not_jq_is_explained() {
    for (filter, at, found, wanted) in [
        ("hello", 0, "`hello`", "'\"hello\"'"),
        ("hello world", 6, "\"world\"", "'\"hello world\"'"),
        ("你好", 0, "你好", "'\"你好\"'"),
        (".a | lenght", 5, "`lenght`", "did you mean `length`?"),
        (".a | select(.b", 11, "(", "not closed"),
        (".a |", 4, "the end", "term"),
        ("$room", 0, "`$room`", "$key, $topic, $headers"),
        (".a | length(1)", 5, "`length`", "another number of arguments"),
        ("", 0, "the end", "term"),
    ] {
        let refusal = Filter::compile(filter).expect_err(filter);
        assert_eq!(refusal.at, at, "{filter}: {refusal:?}");
        assert!(refusal.found.contains(found), "{filter}: {refusal:?}");
        assert!(refusal.wanted.contains(wanted), "{filter}: {refusal:?}");
    }
}

/// Filters that pass the check and would go on for very long: each ends within its budget, and no
/// `try`, `?` or `//` keeps it from becoming fatal.
#[test]
fn what_takes_too_much_is_ended_and_cannot_catch_it() {
    let doubled =
        (0..40).fold("def f0: .;".to_owned(), |text, i| format!("{text} def f{}: f{i} | f{i};", i + 1));
    let pairs = (0..40).fold(".".to_owned(), |text, _| format!("{text} | [.,.]"));
    let texts = (0..40).fold("\"xxxxxxxx\"".to_owned(), |text, _| format!("{text} | . + ."));
    let event = format!("[{}0]", "0,".repeat(20_000));
    for filter in [
        format!("{doubled} f40"),
        format!("{doubled} try f40 catch 1"),
        format!("{pairs} | tojson | length"),
        format!("({pairs}) == ({pairs})"),
        format!("{pairs} | [..] | length"),
        format!("{pairs} | tostring? // 1"),
        texts.clone(),
        format!("({texts})? // \"caught\""),
        format!("try ({texts}) catch \"caught\""),
        "[.[] as $a | .[] as $b | 1] | length".to_owned(),
        "reduce .[] as $x (0; [.]) | 1".to_owned(),
        "reduce .[] as $x (null; {a: .}) | 1".to_owned(),
        "reduce .[] as $x (.; .[0:1] = [.[0:1]]) | 1".to_owned(),
        "[.[] | tostring] | add | . as $t | [$t | test(\"(0*)*x\")]".to_owned(),
        "map(\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\" | test(\"(a{1,30}){1,30}b\"))".to_owned(),
        "reduce .[] as $x (\"\"; . + \"0123456789012345678901234567890123456789\") | length".to_owned(),
        "first(.[] | select(. == 1) | ., error) // (.[] as $a | .[] | select(false))".to_owned(),
        "[limit(1000000; .[] as $a | .[])] | length".to_owned(),
    ] {
        let start = work_of_this_thread();
        let outcome = outcome(&filter, &event);
        assert!(outcome.starts_with("Fatal: "), "{filter}: {outcome}");
        let took = work_of_this_thread() - start;
        assert!(took < Duration::from_secs(2), "{filter} took {took:?}");
    }
}

#[test]
fn a_regex_has_bounds_of_its_own() {
    for (filter, part) in [
        (r#""a" | test("(((a{1000}){1000}){1000})")"#, "regex"),
        (r#""a" | test("a"; "q")"#, "no regex flag 'q'"),
    ] {
        let outcome = outcome(filter, "null");
        assert!(outcome.contains(part) || outcome.contains("steps"), "{outcome}");
    }
}

/// The stack is safe at compile time and at run time, on a thread with the stack of a tokio worker.
#[test]
fn nothing_that_compiles_exhausts_the_stack() {
    let nested = |open: &str, middle: &str, close: &str, n: usize| {
        format!("{}{middle}{}", open.repeat(n), close.repeat(n))
    };
    let mut texts = Vec::new();
    for n in [10, 60, 190, 1_000, 4_000] {
        texts.extend([
            nested("(", ".", ")", n),
            nested("[", ".", "]", n),
            nested("{a:", ".", "}", n),
            nested("-", "1", "", n),
            nested("try ", ".", "", n),
            nested("if . then ", ".", " end", n),
            nested("def f: ", ".; .", "", n),
            nested("map(", ".", ")", n),
            nested("\"\\(", ".", ")\"", n),
            nested(". as [", "$x", "] | .", n),
            nested("reduce . as $x (", ".", "; .)", n),
            nested("label $x | ", ".", "", n),
            nested(". as $x | ", ".", "", n),
            vec!["."; n].join("|"),
            vec!["."; n].join(","),
            vec!["1"; n].join("+"),
            vec!["."; n].join("//"),
            vec!["."; n].join(" and "),
            vec![".a"; n].join("="),
            ".a".repeat(n),
            ".[]?".repeat(n),
            format!("{{{}}}", vec!["a:1"; n].join(",")),
        ]);
    }
    let check = move || {
        let mut compiled = 0;
        for text in &texts {
            if let Ok(filter) = Filter::compile(text) {
                compiled += 1;
                let _meter = Meter::start();
                let _ = filter.outputs(&input("[[[1]],2]"), 10);
            }
        }
        compiled
    };
    let thread = std::thread::Builder::new().stack_size(2 << 20).spawn(check).unwrap();
    assert!(thread.join().unwrap() >= 22, "the shallow ones compile");
}

/// Nor does a value: as deep as decoding lets it be, and as deep as a filter may build it.
#[test]
fn walking_deep_values_does_not_exhaust_the_stack() {
    let check = || {
        let deep = format!("{}{}", "[".repeat(127), "]".repeat(127));
        for walk in [
            "[..] | length",
            "walk(.) | 1",
            "[paths] | length",
            "tostring | length",
            ". == .",
            "flatten",
            "[getpath(path(..))] | length",
            "(.. | select(. == [])) |= 1 | 1",
            "contains(.)",
            ". as [[[[$x]]]] | 1",
        ] {
            let plain = outcome(walk, &deep);
            assert!(!plain.contains("panicked"), "{walk}: {plain}");
            let built =
                outcome(&format!("reduce .[] as $x (0; [.]) | {walk}"), &format!("[{}0]", "0,".repeat(250)));
            assert!(!built.contains("panicked"), "{walk}: {built}");
        }
    };
    let thread = std::thread::Builder::new().stack_size(2 << 20).spawn(check).unwrap();
    thread.join().unwrap();
}

#[test]
fn outputs_are_bounded_in_size_and_number() {
    let long = format!("\"{}\"", "x".repeat(70_000));
    assert!(outcome(".", &long).contains("more than 64 KiB"));
    assert!(outcome("., .", &long).contains("more than 64 KiB"));
    let many = format!("[{}0]", "0,".repeat(100));
    assert!(outcome(".[]", &many).contains("more than 100 outputs"));
    let filter = Filter::compile(".[]").unwrap();
    assert_eq!(
        filter.output(&input("[]")),
        Err(Trouble::Failed("gives nothing, one output is wanted".to_owned()))
    );
    assert_eq!(filter.output(&input("[1]")), Ok(Val::Int(1)));
    let error = filter.output(&input("[1,2]")).unwrap_err();
    assert!(error.to_string().contains("more than one output"), "{error}");
}

/// Processor time of this thread: what others do on the machine must not decide a test.
fn work_of_this_thread() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call writes into the place it is given, which is a timespec.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    assert_eq!(result, 0, "the clock of a thread is there on Linux");
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).expect("less than a second"))
}
