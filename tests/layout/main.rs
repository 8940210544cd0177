//! The laws of the house, as tests over the source text: who may use whom, what the core may not
//! name, how long files and functions grow, what no file may hold. They read what git tracks and
//! change nothing. The second half feeds each law a bad sample, as proof that it bites.

mod laws;
mod source;

use std::path::Path;
use std::process::Command;

use source::Source;

/// Every tracked text file, by its path.
fn tracked() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let git = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root)
        .output()
        .expect("git is installed: it says which files are the project's");
    assert!(git.status.success(), "git ls-files: {}", String::from_utf8_lossy(&git.stderr));
    let paths = String::from_utf8(git.stdout).expect("paths are UTF-8");
    let read = |path: &str| {
        let bytes = std::fs::read(root.join(path)).ok()?; // deleted, but not yet committed
        String::from_utf8(bytes).ok().map(|text| (path.to_owned(), text))
    };
    paths.split_terminator('\0').filter_map(read).collect()
}

fn sources() -> Vec<Source> {
    let files = tracked().into_iter().filter(|(path, _)| path.ends_with(".rs"));
    let sources: Vec<_> = files.map(|(path, text)| Source::new(&path, &text)).collect();
    assert!(sources.iter().any(|source| source.path == "src/lib.rs"), "the walk finds the crate");
    sources
}

fn assert_none(found: &[String]) {
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

#[test]
fn modules_use_only_what_the_import_law_lets_them() {
    assert_none(&sources().iter().flat_map(laws::imports).collect::<Vec<_>>());
}

#[test]
fn the_core_is_pure() {
    assert_none(&sources().iter().flat_map(laws::core_is_pure).collect::<Vec<_>>());
}

#[test]
fn files_and_functions_stay_within_their_budgets_and_files_say_what_they_are() {
    assert_none(&sources().iter().flat_map(laws::shape).collect::<Vec<_>>());
}

#[test]
fn nothing_is_left_unfinished() {
    assert_none(&sources().iter().flat_map(laws::finished).collect::<Vec<_>>());
}

#[test]
fn no_file_names_a_folder_of_one_machine_or_holds_leftovers() {
    // The licence stands as its author wrote it; lists of checksums are machine-made.
    let ours = |path: &str| path != "LICENSE" && path != "Cargo.lock";
    let files = tracked().into_iter().filter(|(path, _)| ours(path));
    assert_none(&files.flat_map(|(path, text)| laws::text(&path, &text)).collect::<Vec<_>>());
}

/// The text between the quotes of a key in a table of planted bugs: `'…'`, or three quotes and a line break.
fn quoted(table: &str, key: &str) -> Option<String> {
    let rest = table.split_once(&format!("\n{key} = "))?.1;
    match rest.strip_prefix("'''\n") {
        Some(long) => long.split_once("'''").map(|(text, _)| text.to_owned()),
        None => rest.get(1..)?.split_once(rest.chars().next()?).map(|(text, _)| text.to_owned()),
    }
}

/// A bug whose text is gone cannot be planted any more, and nobody would see that it is found no longer.
#[test]
fn the_text_of_every_planted_bug_stands_once() {
    let files = tracked();
    let text_of = |name: &str| files.iter().find(|(path, _)| path == name).map(|(_, text)| text.as_str());
    let bugs = text_of("tests/simulation/planted.toml").expect("there is a list of planted bugs");
    let bugs: Vec<&str> = bugs.split("[[bug]]").skip(1).collect();
    assert!(bugs.len() >= 30, "only {} bugs", bugs.len());
    let wrong = bugs.iter().filter_map(|bug| {
        let [name, file, find] = ["name", "file", "find"].map(|key| quoted(bug, key).unwrap_or_default());
        let times = text_of(&file).map_or(0, |text| text.matches(&find).count());
        (find.is_empty() || times != 1).then(|| format!("{name}: its text stands {times} times in {file:?}"))
    });
    assert_none(&wrong.collect::<Vec<_>>());
}

#[test]
fn the_changelog_keeps_its_shape() {
    let files = tracked();
    let (_, text) = files.iter().find(|(path, _)| path == "CHANGELOG.md").expect("there is a CHANGELOG.md");
    assert_none(&laws::changelog(text, env!("CARGO_PKG_VERSION")));
}

/// Proof that the laws bite: each sample is wrong in one way, and exactly that is found.
mod bad_samples {
    use super::*;

    fn found(law: fn(&Source) -> Vec<String>, path: &str, text: &str) -> Vec<String> {
        law(&Source::new(path, text))
    }

    #[track_caller]
    fn assert_finds(found: &[String], expected: &[&str]) {
        assert_eq!(found.len(), expected.len(), "{found:#?}");
        for (line, part) in found.iter().zip(expected) {
            assert!(line.contains(part), "`{line}` does not say `{part}`");
        }
    }

    #[test]
    fn imports_in_all_their_spellings() {
        let cases = [
            ("src/core/model.rs", "use crate::broker::Arrival;", "src/core/model.rs:1: `core` uses `broker`"),
            ("src/broker/nats.rs", "use crate::{core::model::Room, http::Client};", "`broker` uses `http`"),
            (
                "src/core/model.rs",
                "\nuse super::super::driver::X;",
                "src/core/model.rs:2: `core` uses `driver`",
            ),
            ("src/http.rs", "mod inner { use super::super::config::X; }", "`http` uses `config`"),
            ("src/core/route/tests.rs", "use crate::driver::X;", "`core` uses `driver`"),
            ("src/driver.rs", "fn f() { crate::cli::run() }", "`driver` uses `cli`"),
            ("src/main.rs", "use roomcast::driver::run;", "`main` uses `driver`"),
            ("src/gadget.rs", "", "`gadget` has no row"),
        ];
        for (path, text, expected) in cases {
            assert_finds(&found(laws::imports, path, text), &[expected]);
        }
        let fine =
            "use crate::core::{time::Now, model::Room};\n// crate::http\nconst A: &str = \"crate::app\";";
        assert_finds(&found(laws::imports, "src/broker/kafka.rs", fine), &[]);
        assert_finds(&found(laws::imports, "src/core/route/mod.rs", "use super::model::Room;"), &[]);
        let world = "#[cfg(test)]\nmod tests { use crate::config::X; }";
        assert_finds(&found(laws::imports, "src/http.rs", world), &[]);
        assert_finds(&found(laws::imports, "src/admin/tests.rs", "use crate::config::X;"), &[]);
    }

    #[test]
    fn impure_words_in_the_core() {
        let cases = [
            ("use tokio::sync::mpsc;", "`tokio`"),
            ("let t = std::time::Instant::now();", "`Instant`"),
            ("let t = jiff::Timestamp::now();", "`Timestamp::now`"),
            ("let n = fastrand::u64(..);", "global generator"),
            ("let rng = fastrand::Rng::new();", "`Rng::new`"),
            ("let v = std::env::var_os(name);", "`std::env`"),
            ("let id = Uuid::new_v4();", "`new_v4`"),
        ];
        for (text, expected) in cases {
            assert_finds(&found(laws::core_is_pure, "src/core/decode.rs", text), &[expected]);
        }
        let fine = "/// Like tokio's Instant.\nfn f(rng: &mut fastrand::Rng, tokios: u8) -> &'static str { \"tokio\" }";
        assert_finds(&found(laws::core_is_pure, "src/core/decode.rs", fine), &[]);
        assert_finds(&found(laws::core_is_pure, "src/driver.rs", "use tokio::time;"), &[]);
        let tests = "#[cfg(test)]\nmod tests { use tokio::time; use std::time::Instant; }";
        assert_finds(&found(laws::core_is_pure, "src/core/decode.rs", tests), &["`tokio`"]);
    }

    #[test]
    fn walks_over_hash_tables_in_the_core() {
        let declared = "struct S { lanes: HashMap<u32, Lane>, list: Vec<u8> }\n";
        let cases = [
            "self.lanes.values().sum()",
            "for lane in &self.lanes {}",
            "for (k, v) in &mut self.lanes { }",
            "lanes.retain(|_, _| true)",
        ];
        for walk in cases {
            let text = format!("{declared}fn f() {{ {walk} }}");
            assert_finds(
                &found(laws::core_is_pure, "src/core/model.rs", &text),
                &["src/core/model.rs:2: the core may not walk"],
            );
        }
        let fine =
            format!("{declared}fn f() {{ self.lanes.get(&1); self.list.iter(); for x in &self.list {{}} }}");
        assert_finds(&found(laws::core_is_pure, "src/core/model.rs", &fine), &[]);
    }

    #[test]
    fn files_and_functions_that_grew() {
        assert_finds(&found(laws::shape, "src/a.rs", "use std::fs;\n"), &["src/a.rs:1: a file opens with"]);
        let long = format!("//! A.\n{}", "\n".repeat(500));
        assert_finds(&found(laws::shape, "src/a.rs", &long), &["501 lines"]);
        let body = |lines| {
            format!("//! A.\nfn f(a: [u8; 2]) {{\n{}}}\nfn g();\n", "    '{'; \"}\";\n".repeat(lines))
        };
        assert_finds(&found(laws::shape, "src/a.rs", &body(68)), &[]);
        assert_finds(&found(laws::shape, "src/a.rs", &body(69)), &["src/a.rs:2: `f` has 71 lines"]);
    }

    #[test]
    fn unfinished_work() {
        for text in [
            "todo!()",
            "unimplemented!(\"later\")",
            "#[ignore]",
            "#[ignore = \"slow\"]",
            "#[allow(dead_code)]",
        ] {
            assert_eq!(found(laws::finished, "src/a.rs", text).len(), 1, "{text}");
        }
        let tested = "fn f() { x.unwrap() }\n#[cfg(test)]\nmod tests {\n fn g() { x.unwrap() }\n}\nfn h() { x.unwrap() }";
        assert_finds(
            &found(laws::finished, "src/a.rs", tested),
            &["src/a.rs:1: `.unwrap()`", "src/a.rs:6: `.unwrap()`"],
        );
        for path in ["tests/a.rs", "src/driver/tests/world.rs", "src/core/decode_tests.rs"] {
            assert_finds(&found(laws::finished, path, tested), &[]);
        }
    }

    #[test]
    fn texts_with_leftovers() {
        let home = format!("see {}{}/notes\n", "/ho", "me/me");
        assert_finds(&laws::text("a.md", &home), &["a.md:1: `/ho"]);
        assert_finds(&laws::text("a.md", &format!("{}{}: later\n", "TO", "DO")), &["finish it"]);
        assert_finds(&laws::text("a.md", "one \ntwo"), &["a.md:1: white space", "one line break"]);
        assert_finds(&laws::text("a.md", "fine\n"), &[]);
        assert_finds(&laws::text("tests/fixtures/a.txt", "kept \nto the byte"), &[]);
    }

    #[test]
    fn changelogs_out_of_shape() {
        let good = "# Changelog\n\n## [Unreleased]\n\n### Added\n- One.\n\n## [0.1.0] - 2026-01-31\n\n### Fixed\n- Two.\n";
        assert_finds(&laws::changelog(good, "0.1.0"), &[]);
        let cases = [
            (good.replace("# Changelog\n", "# News\n"), "begins with"),
            (good.replace("### Added", "### Improved"), "`### Improved`"),
            (good.replace("- One.\n", ""), "without an entry"),
            (good.replace("2026-01-31", "soon"), "`## [0.1.0] - soon`"),
            (
                good.replace("## [Unreleased]\n\n### Added\n- One.\n\n", "").replace("0.1.0", "0.0.9"),
                "neither",
            ),
        ];
        for (text, expected) in cases {
            assert_finds(&laws::changelog(&text, "0.1.0"), &[expected]);
        }
    }

    #[test]
    fn literals_and_comments_are_not_code() {
        let text = "let a = r#\"tokio \" axum\"#; /* tokio /* axum */ tokio */ let b = b'\\''; let c: &'a str = \"\\\"tokio\"; // tokio\nlet d = '\"'; let tokio = 1;";
        let source = Source::new("src/core/a.rs", text);
        assert_eq!(source.words("axum").count(), 0, "{}", source.code);
        let found: Vec<_> = source.words("tokio").map(|at| source.line(at)).collect();
        assert_eq!(found, [2], "{}", source.code);
    }
}
