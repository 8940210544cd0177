//! A source file as the checks see it: comments and the insides of literals blanked out, line
//! breaks kept, so that a word in prose or in a text is never taken for code. It does not parse
//! Rust; it knows just enough of it (literals, braces, paths) for the laws of this house.

/// One file, by its path in the repository.
pub struct Source {
    /// The path, with slashes.
    pub path: String,
    /// What stands in the file.
    pub text: String,
    /// The same without comments and literals, line by line.
    pub code: String,
}

/// A place where something was found.
pub struct Function {
    /// Its name.
    pub name: String,
    /// The line of its `fn`, from 1.
    pub line: usize,
    /// Lines from `fn` to the closing brace.
    pub lines: usize,
}

impl Source {
    pub fn new(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned(), code: blank(text) }
    }

    /// The path of the module this file is: `src/core/route/mod.rs` is `core`, `route`. Empty for
    /// `lib.rs`, `main.rs` and files outside `src`.
    pub fn module(&self) -> Vec<&str> {
        let Some(inner) = self.path.strip_prefix("src/").and_then(|path| path.strip_suffix(".rs")) else {
            return Vec::new();
        };
        let mut parts: Vec<&str> = inner.split('/').collect();
        if matches!(parts.last(), Some(&("mod" | "lib" | "main"))) {
            parts.pop();
        }
        parts
    }

    /// The line of a byte position in `code`, from 1.
    pub fn line(&self, at: usize) -> usize {
        1 + self.code.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count()
    }

    /// Positions of a word that stands alone, not as a part of a longer name.
    pub fn words<'a>(&'a self, word: &'a str) -> impl Iterator<Item = usize> + 'a {
        self.code.match_indices(word).map(|(at, _)| at).filter(move |at| {
            let before = self.code[..*at].chars().next_back();
            let after = self.code[at + word.len()..].chars().next();
            let first = word.chars().next().is_some_and(is_name);
            let last = word.chars().next_back().is_some_and(is_name);
            !(first && before.is_some_and(is_name) || last && after.is_some_and(is_name))
        })
    }

    /// Every function with a body.
    pub fn functions(&self) -> Vec<Function> {
        let mut found = Vec::new();
        for at in self.words("fn") {
            let head = &self.code[at + 2..];
            let name: String = head.trim_start().chars().take_while(|char| is_name(*char)).collect();
            let Some(body) = body(head).filter(|_| !name.is_empty()) else { continue };
            let open = at + 2 + body;
            let (line, end) = (self.line(at), self.line(closing(&self.code, open)));
            found.push(Function { name, line, lines: end - line + 1 });
        }
        found
    }

    /// Whether a byte position is compiled for tests only: in a file of tests, or under `#[cfg(test)]`.
    pub fn is_test(&self, at: usize) -> bool {
        let file = self
            .path
            .split('/')
            .any(|part| matches!(part, "tests" | "tests.rs") || part.ends_with("_tests.rs"));
        file || self.test_items().any(|(from, to)| (from..=to).contains(&at))
    }

    /// The byte ranges of items under `#[cfg(test)]`.
    fn test_items(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        self.code.match_indices("#[cfg(test)]").filter_map(|(at, _)| {
            let open = at + self.code[at..].find(['{', ';'])?;
            let end = if self.code.as_bytes()[open] == b';' { open } else { closing(&self.code, open) };
            Some((at, end))
        })
    }
}

/// Where the body of a function opens, when it has one: a `;` inside brackets (`[u8; 4]`) ends no head.
fn body(head: &str) -> Option<usize> {
    let mut depth = 0_i32;
    for (at, byte) in head.bytes().enumerate() {
        match byte {
            b'(' | b'[' => depth += 1,
            b')' | b']' => depth -= 1,
            b'{' if depth == 0 => return Some(at),
            b';' if depth == 0 => return None,
            _ => {}
        }
    }
    None
}

/// The position of the brace that closes the one at `open`; the end of the text when none does.
fn closing(code: &str, open: usize) -> usize {
    let mut depth = 0_usize;
    for (at, byte) in code.bytes().enumerate().skip(open) {
        match byte {
            b'{' => depth += 1,
            b'}' => depth -= 1,
            _ => continue,
        }
        if depth == 0 {
            return at;
        }
    }
    code.len()
}

pub fn is_name(char: char) -> bool {
    char.is_alphanumeric() || char == '_'
}

/// The text with comments and the insides of literals replaced by spaces.
fn blank(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(char) = rest.chars().next() {
        let inside_name = code.chars().next_back().is_some_and(is_name);
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            block_comment(rest)
        } else if char == '"' {
            string(rest)
        } else if char == '\'' {
            character(rest)
        } else if !inside_name && rest.starts_with(['r', 'b', 'c']) {
            prefixed(rest)
        } else {
            0
        };
        if length == 0 {
            code.push(char);
            rest = &rest[char.len_utf8()..];
        } else {
            code.extend(rest[..length].chars().map(|char| if char == '\n' { '\n' } else { ' ' }));
            rest = &rest[length..];
        }
    }
    code
}

fn block_comment(rest: &str) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while at < rest.len() {
        let here = &rest.as_bytes()[at..];
        if here.starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if here.starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    rest.len()
}

fn string(rest: &str) -> usize {
    let mut escaped = false;
    for (at, byte) in rest.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// A character literal, or nothing for a lifetime.
fn character(rest: &str) -> usize {
    let mut chars = rest.char_indices().skip(1);
    match (chars.next(), chars.next()) {
        (Some((_, '\\')), _) => rest[3..].find('\'').map_or(0, |at| at + 4),
        (Some(_), Some((at, '\''))) => at + 1,
        _ => 0,
    }
}

/// `r"…"`, `r#"…"#`, `b"…"`, `br#"…"#`, `b'…'`, `c"…"`; nothing for a name.
fn prefixed(rest: &str) -> usize {
    let letters = rest.find(|char| !matches!(char, 'r' | 'b' | 'c')).unwrap_or(rest.len());
    let tail = &rest[letters..];
    if letters > 2 {
        return 0;
    }
    if rest[..letters].contains('r') {
        let hashes = tail.find(|char| char != '#').unwrap_or(tail.len());
        if tail[hashes..].starts_with('"') {
            let end = format!("\"{}", &tail[..hashes]);
            let body = &tail[hashes + 1..];
            let length = body.find(&end).map_or(body.len(), |at| at + end.len());
            return letters + hashes + 1 + length;
        }
        return 0;
    }
    match tail.chars().next() {
        Some('"') => letters + string(tail),
        Some('\'') => letters + character(tail),
        _ => 0,
    }
}
