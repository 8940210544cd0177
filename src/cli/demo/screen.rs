//! What a person sees: lines that scroll, and on a terminal one more below them that is redrawn.
//!
//! 80 columns. A log file gets the same lines without colours and without the moving one. Nothing
//! here knows what a line means.

use super::output;

/// The widest line.
const WIDTH: usize = 80;
/// Where lines of a scene begin.
pub const INDENT: usize = 3;

/// How a word looks on a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// As it should be.
    Good,
    /// Worth a look.
    Odd,
    /// Wrong.
    Bad,
    /// In the background.
    Quiet,
    /// A heading.
    Strong,
}

impl Tone {
    fn code(self) -> &'static str {
        match self {
            Self::Good => "32",
            Self::Odd => "33",
            Self::Bad => "31",
            Self::Quiet => "2",
            Self::Strong => "1",
        }
    }
}

/// Where the story is told.
#[derive(Debug)]
pub struct Screen {
    /// On stderr, because stdout is for a result in JSON.
    aside: bool,
    /// A terminal: the last line may move.
    moving: bool,
    colour: bool,
    status: String,
}

impl Screen {
    /// A screen on stdout, or aside of it on stderr.
    pub fn new(aside: bool, terminal: bool, colour: bool) -> Self {
        Self { aside, moving: terminal, colour: terminal && colour, status: String::new() }
    }

    /// A text in a tone.
    pub fn paint(&self, tone: Tone, text: &str) -> String {
        match self.colour {
            true => format!("\u{1b}[{}m{text}\u{1b}[0m", tone.code()),
            false => text.to_owned(),
        }
    }

    /// A line that stays.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn line(&mut self, text: &str) -> anyhow::Result<()> {
        let status = std::mem::take(&mut self.status);
        let wipe = if status.is_empty() { "" } else { "\r\u{1b}[2K" };
        self.write(&format!("{wipe}{text}\n"))?;
        self.status(&status)
    }

    /// A row about one event: its fate, what it is, its tag, and the rest, cut to the width.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn row(&mut self, tone: Tone, fate: &str, what: &str, tag: &str, rest: &str) -> anyhow::Result<()> {
        let head = self.paint(tone, &format!("{fate:<12}"));
        let room = WIDTH - (INDENT + 12 + 15 + 10);
        let (tag, rest) = (self.paint(Tone::Quiet, tag), cut(rest, room));
        self.line(&format!("{:INDENT$}{head}{what:<15}{tag}  {rest}", ""))
    }

    /// The line below all others, on a terminal; empty: none.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn status(&mut self, text: &str) -> anyhow::Result<()> {
        if !self.moving || text == self.status {
            return Ok(());
        }
        let shown = self.paint(Tone::Quiet, &cut(text, WIDTH - 1));
        self.status = text.to_owned();
        self.write(&format!("\r\u{1b}[2K{shown}"))
    }

    fn write(&self, text: &str) -> anyhow::Result<()> {
        match self.aside {
            true => {
                output::complain(text);
                Ok(())
            }
            false => output::print(text),
        }
    }
}

/// The text, at most so many characters of it.
pub fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most.saturating_sub(1)).chain(['…']).collect()
}

/// Breaks a text at spaces, each line indented.
pub fn wrapped(text: &str, indent: usize) -> String {
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in text.split_whitespace() {
        if !line.is_empty() && indent + line.chars().count() + 1 + word.chars().count() > WIDTH {
            lines.push(std::mem::take(&mut line));
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    lines.push(line);
    lines.iter().map(|line| format!("{:indent$}{line}", "")).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_wider_than_the_screen() {
        assert_eq!(cut("abc", 3), "abc");
        assert_eq!(cut("abcd", 3), "ab…");
        let text = wrapped(&"word ".repeat(60), 4);
        assert!(text.lines().count() > 3);
        assert!(text.lines().all(|line| line.starts_with("    word") && line.chars().count() <= WIDTH));
    }

    #[test]
    fn only_a_terminal_gets_colours() {
        assert_eq!(Screen::new(false, false, true).paint(Tone::Good, "x"), "x");
        assert_eq!(Screen::new(false, true, false).paint(Tone::Good, "x"), "x");
        assert_eq!(Screen::new(false, true, true).paint(Tone::Good, "x"), "\u{1b}[32mx\u{1b}[0m");
    }
}
