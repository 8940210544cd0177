//! The laws of the house as functions from sources to findings. Each finding is a line for people:
//! where, what was found, what would be right. Called by `main.rs`, on this repository and on bad
//! samples.

use crate::source::{Source, is_name};

const FILE_LINES: usize = 500;
const FUNCTION_LINES: usize = 70;

/// Which module of the crate may use which others, beside itself. A module that is not listed is a
/// finding: whoever adds one says here what it may know.
const IMPORTS: &[(&str, &[&str])] = &[
    ("core", &[]),
    ("broker", &["core"]),
    ("http", &["core"]),
    ("config", &["core"]),
    ("clock", &["core"]),
    ("telemetry", &["core"]),
    ("driver", &["core", "broker", "http", "clock"]),
    ("directory", &["core", "broker"]),
    ("replica", &["core", "broker"]),
    ("letters", &["core", "broker"]),
    ("admin", &["core", "letters", "driver"]),
    ("simulator", &["core"]),
    ("app", ALL),
    ("cli", ALL),
    ("main", &["cli", "app"]),
];

/// The modules below those that wire everything.
const ALL: &[&str] = &[
    "core",
    "broker",
    "http",
    "config",
    "clock",
    "telemetry",
    "driver",
    "directory",
    "replica",
    "letters",
    "admin",
    "simulator",
    "app",
    "cli",
];

/// Packages that the core may not name, not even in tests, and where they belong.
const CORE_PACKAGES: &[(&str, &str)] = &[
    ("tokio", "the core never waits; the driver does"),
    ("reqwest", "the core returns a Call; http.rs sends it"),
    ("rdkafka", "brokers live in src/broker"),
    ("async_nats", "brokers live in src/broker"),
    ("axum", "servers live in src/admin and src/simulator"),
];

/// What else the core may not name outside of tests, and what it does instead.
const CORE_WORDS: &[(&str, &str)] = &[
    ("Instant", "take `now` as an argument"),
    ("SystemTime", "take `now` as an argument"),
    ("Timestamp::now", "take `now` as an argument"),
    ("Zoned::now", "take `now` as an argument"),
    ("thread_rng", "take the seed as an argument"),
    ("new_v4", "take the seed as an argument"),
    ("Rng::new", "take the seed as an argument: Rng::with_seed"),
    ("std::env", "take the value as an argument"),
    ("env::var", "take the value as an argument"),
    ("std::fs", "take the contents as an argument"),
    ("fs::read", "take the contents as an argument"),
    ("File::open", "take the contents as an argument"),
    ("std::thread", "the core has no threads"),
    ("TcpStream", "the core has no sockets"),
];

/// Words of unfinished work, built so that this file does not hold them itself.
const UNFINISHED_CODE: &[&str] = &["todo!", "unimplemented!", "dbg!", "#[ignore", "#![allow", "#[allow"];
const UNFINISHED_TEXT: &[&str] = &[concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X:")];

/// Folders of one machine, which no file of the project may name.
const MACHINE_PATHS: &[&str] =
    &[concat!("/ho", "me/"), concat!("/ro", "ot/"), concat!("/wo", "rk/"), concat!("/Us", "ers/")];

/// Section 9 of the design: who may use whom.
pub fn imports(source: &Source) -> Vec<String> {
    let module = source.module();
    let own = match module.first() {
        Some(own) => *own,
        None if source.path == "src/main.rs" => "main",
        None => return Vec::new(),
    };
    let Some((_, allowed)) = IMPORTS.iter().find(|(name, _)| *name == own) else {
        return vec![format!(
            "{}: the module `{own}` has no row in the import law (tests/layout/laws.rs)",
            source.path
        )];
    };
    let finding = |(at, used): (usize, &str)| {
        let known = IMPORTS.iter().any(|(name, _)| *name == used);
        // Tests of a shell module may build the world that they need; the core's may not.
        let free = own != "core" && source.is_test(at);
        let fine = used == own || allowed.contains(&used) || !known || free;
        let right = if allowed.is_empty() { "nothing of the crate".to_owned() } else { allowed.join(", ") };
        (!fine).then(|| {
            format!("{}:{}: `{own}` uses `{used}`; it may use {right}", source.path, source.line(at))
        })
    };
    uses(source, module.len()).into_iter().filter_map(finding).collect()
}

/// The modules of the crate that a file names, with the position of each.
fn uses(source: &Source, depth: usize) -> Vec<(usize, &str)> {
    let code = source.code.as_str();
    let mut starts: Vec<usize> = Vec::new();
    for root in ["crate::", "roomcast::"] {
        starts.extend(
            source
                .words(root.trim_end_matches(':'))
                .filter_map(|at| code[at..].starts_with(root).then_some(at + root.len())),
        );
    }
    for at in source.words("super") {
        let mut end = at;
        let mut supers = 0;
        while code[end..].starts_with("super::") {
            supers += 1;
            end += "super::".len();
        }
        // Enough steps up to leave the top module: what follows is named from the crate's root.
        if !code[..at].ends_with("super::") && supers > 0 && supers >= depth.max(1) + usize::from(depth == 1)
        {
            starts.push(end);
        }
    }
    starts.into_iter().flat_map(|start| heads(code, start)).collect()
}

/// The first names of a path or of each path in a group: `a::b` gives `a`; `{a::{b, c}, d}` gives
/// `a` and `d`.
fn heads(code: &str, start: usize) -> Vec<(usize, &str)> {
    let name_at = |at: usize| {
        let at = at + code[at..].len() - code[at..].trim_start().len();
        let end = code[at..].find(|char| !is_name(char)).map_or(code.len(), |length| at + length);
        (at, &code[at..end])
    };
    if !code[start..].starts_with('{') {
        return vec![name_at(start)];
    }
    let mut found = vec![name_at(start + 1)];
    let mut depth = 0;
    for (at, byte) in code.bytes().enumerate().skip(start) {
        match byte {
            b'{' => depth += 1,
            b'}' if depth == 1 => break,
            b'}' => depth -= 1,
            b',' if depth == 1 => found.push(name_at(at + 1)),
            _ => {}
        }
    }
    found
}

/// What the core may not name.
pub fn core_is_pure(source: &Source) -> Vec<String> {
    if source.module().first() != Some(&"core") {
        return Vec::new();
    }
    let packages = CORE_PACKAGES
        .iter()
        .flat_map(|(word, instead)| source.words(word).map(move |at| (at, word, instead)));
    let words = CORE_WORDS.iter().flat_map(|(word, instead)| {
        source.words(word).filter(|at| !source.is_test(*at)).map(move |at| (at, word, instead))
    });
    let named = packages.chain(words).map(|(at, word, instead)| {
        format!("{}:{}: the core may not name `{word}`: {instead}", source.path, source.line(at))
    });
    named.chain(global_randomness(source)).chain(hash_iteration(source)).collect()
}

/// `fastrand::u64(…)` draws from a generator of the thread; `fastrand::Rng` is a value.
fn global_randomness(source: &Source) -> impl Iterator<Item = String> + '_ {
    source.words("fastrand").filter_map(|at| {
        let after = source.code[at + "fastrand".len()..].strip_prefix("::")?;
        let fine = after.starts_with("Rng") || after.starts_with('{');
        (!fine).then(|| {
            format!(
                "{}:{}: the core may not draw from a global generator: take a fastrand::Rng",
                source.path,
                source.line(at)
            )
        })
    })
}

/// The order of a `HashMap` differs from run to run: looking up is fine, walking it is not.
fn hash_iteration(source: &Source) -> Vec<String> {
    const WALKS: &[&str] = &[
        "iter",
        "iter_mut",
        "into_iter",
        "keys",
        "into_keys",
        "values",
        "values_mut",
        "into_values",
        "drain",
        "retain",
        "extract_if",
    ];
    let code = source.code.as_str();
    let mut found = Vec::new();
    for name in hash_names(source) {
        for at in source.words(&name) {
            let after = code[at + name.len()..].trim_start();
            let walk = after.strip_prefix('.').and_then(|call| {
                WALKS.iter().find(|walk| call.strip_prefix(**walk).is_some_and(|tail| tail.starts_with('(')))
            });
            let before = code[..at].trim_end_matches(|char: char| is_name(char) || matches!(char, '&' | '.'));
            let looped = before.trim_end().trim_end_matches("&mut").trim_end().ends_with(" in")
                && after.starts_with('{');
            if walk.is_some() || looped {
                found.push(format!(
                    "{}:{}: the core may not walk the hash table `{name}`, whose order is random: use a BTreeMap",
                    source.path,
                    source.line(at)
                ));
            }
        }
    }
    found
}

/// Fields, parameters and bindings that are hash tables.
fn hash_names(source: &Source) -> Vec<String> {
    let mut names = Vec::new();
    for table in ["HashMap", "HashSet"] {
        for at in source.words(table) {
            let before = source.code[..at].trim_end_matches("std::collections::").trim_end();
            let before = before.trim_end_matches("mut").trim_end().trim_end_matches('&').trim_end();
            let Some(before) = before.strip_suffix([':', '=']) else { continue };
            let before = before.trim_end();
            let name: String = before.chars().rev().take_while(|char| is_name(*char)).collect();
            let name: String = name.chars().rev().collect();
            if !name.is_empty() && !names.contains(&name) {
                names.push(name);
            }
        }
    }
    names
}

/// Files open by saying what they are, and neither they nor their functions outgrow a reader.
pub fn shape(source: &Source) -> Vec<String> {
    let mut found = Vec::new();
    if !source.text.starts_with("//! ") {
        found.push(format!(
            "{}:1: a file opens with `//!`: what it is, what it never does, who calls it",
            source.path
        ));
    }
    let lines = source.text.lines().count();
    if lines > FILE_LINES {
        found.push(format!(
            "{}: {lines} lines; a file has at most {FILE_LINES}: split it by ideas",
            source.path
        ));
    }
    for function in source.functions() {
        if function.lines > FUNCTION_LINES {
            found.push(format!(
                "{}:{}: `{}` has {} lines; a function has at most {FUNCTION_LINES}",
                source.path, function.line, function.name, function.lines
            ));
        }
    }
    found
}

/// No unfinished work, and no panic that states no invariant.
pub fn finished(source: &Source) -> Vec<String> {
    let mut found = Vec::new();
    for word in UNFINISHED_CODE {
        // Compiled into several test binaries, each of which uses a part: no one expectation fits all.
        if source.path == "tests/support/mod.rs" && *word == "#![allow" {
            continue;
        }
        found.extend(source.words(word).map(|at| {
            format!(
                "{}:{}: `{word}` has no place here (for a lint: #[expect(…, reason = …)])",
                source.path,
                source.line(at)
            )
        }));
    }
    if source.path.starts_with("src/") {
        let shipped = source.words(".unwrap()").filter(|at| !source.is_test(*at));
        found.extend(shipped.map(|at| {
            format!(
                "{}:{}: `.unwrap()` outside tests: use `expect` with the invariant",
                source.path,
                source.line(at)
            )
        }));
    }
    found
}

/// For every tracked text file: nothing of one machine, no leftovers, clean ends of lines.
pub fn text(path: &str, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    // Recorded answers and broken samples are kept to the byte.
    let data = path.contains("/fixtures/");
    for (number, line) in (1..).zip(text.lines()) {
        for word in UNFINISHED_TEXT.iter().filter(|word| line.contains(**word)) {
            found.push(format!("{path}:{number}: `{word}`: finish it, or open an issue"));
        }
        for folder in MACHINE_PATHS.iter().filter(|folder| line.contains(**folder)) {
            found.push(format!("{path}:{number}: `{folder}…` is a folder of one machine"));
        }
        if !data && line.ends_with([' ', '\t', '\r']) {
            found.push(format!("{path}:{number}: white space at the end of the line"));
        }
    }
    if !data && !text.is_empty() && (!text.ends_with('\n') || text.ends_with("\n\n")) {
        found.push(format!("{path}: a text file ends with one line break"));
    }
    found
}

/// The kinds of change that <https://keepachangelog.com/en/1.1.0/> knows.
const CHANGES: &[&str] = &["Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"];

/// The shape of CHANGELOG.md, and that it knows the crate's version or has one coming.
pub fn changelog(text: &str, version: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut say = |number: usize, what: String| found.push(format!("CHANGELOG.md:{number}: {what}"));
    if !text.starts_with("# Changelog\n") {
        say(1, "begins with `# Changelog`".to_owned());
    }
    let mut releases: Vec<&str> = Vec::new();
    let mut open_section: Option<usize> = None;
    for (number, line) in (1..).zip(text.lines()) {
        if line.starts_with('#')
            && let Some(empty) = open_section.take()
        {
            say(empty, "a section without an entry".to_owned());
        }
        if let Some(release) = line.strip_prefix("## ") {
            let name = release.split(']').next().unwrap_or_default().trim_start_matches('[');
            let dated = release.strip_prefix(&format!("[{name}] - ")).is_some_and(is_date);
            let unreleased = release == "[Unreleased]" && releases.is_empty();
            if !dated && !unreleased {
                say(
                    number,
                    format!("`## {release}`: `## [Unreleased]` first, then `## [1.2.3] - 2026-01-31`"),
                );
            }
            releases.push(name);
        } else if let Some(kind) = line.strip_prefix("### ") {
            if !CHANGES.contains(&kind) {
                say(number, format!("`### {kind}`: one of {}", CHANGES.join(", ")));
            }
            open_section = Some(number);
        } else if line.starts_with("- ") {
            open_section = None;
        }
    }
    if let Some(empty) = open_section {
        say(empty, "a section without an entry".to_owned());
    }
    if !releases.contains(&"Unreleased") && releases.first() != Some(&version) {
        say(1, format!("neither [Unreleased] nor [{version}], which Cargo.toml names, comes first"));
    }
    found
}

fn is_date(text: &str) -> bool {
    let digits = |part: &str, count| part.len() == count && part.bytes().all(|byte| byte.is_ascii_digit());
    let parts: Vec<&str> = text.split('-').collect();
    matches!(parts[..], [year, month, day] if digits(year, 4) && digits(month, 2) && digits(day, 2))
}
